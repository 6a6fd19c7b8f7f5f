"""`kheopsfs pull`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from kheopsfs.cli.console import err
from kheopsfs.mount.pull import files_below
from kheopsfs.mount.pull import pull as fetch


class _Received(TextColumn):
    """Bytes that are here, and how many come per second."""

    def render(self, task: Task) -> Text:
        size: int = task.fields["size"]
        rate = size / task.elapsed if task.elapsed else 0
        return Text(f"{decimal(size)}  {decimal(int(rate))}/s")


def _progress(quiet: bool) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files"),
        _Received(""),
        TimeRemainingColumn(),
        console=err,
        disable=quiet,
    )


def pull(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", show_default=False, help="Files or folders of a mount, such as a study."),
    ],
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress; only what failed.")] = False,
) -> None:
    """Fetch everything at or below PATH into the cache, ahead of time.

    From then on sizes are exact and reading needs no server. Interrupt it whenever you like: what has come stays, and
    the next pull goes on from there. Ends with status 1 if a file could not be fetched, or a folder not be listed.

      kheopsfs pull ~/kheops/inbox/2024-03-05_Doe-Jane_PET-CT_Thorax_5d7by9
    """
    files, unlisted = files_below(paths)
    failed = len(unlisted)
    for folder, reason in unlisted.items():
        _complain(folder, reason)
    with _progress(quiet) as progress:
        task = progress.add_task("", total=len(files), size=0)
        size = 0
        for pulled in fetch(files):
            size += pulled.size
            if pulled.error is not None:
                failed += 1
                _complain(pulled.path, pulled.error)
            progress.update(task, advance=1, size=size)
    if failed:
        raise typer.Exit(1)


def _complain(path: Path, error: OSError) -> None:
    err.print(f"{path}: {error.strerror}", markup=False)
