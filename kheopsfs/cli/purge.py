"""`kheopsfs purge`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from kheopsfs.cli.console import out
from kheopsfs.config import SettingsError, settle
from kheopsfs.mount.logs import log_directory
from kheopsfs.mount.purge import demand_unused, idle_logs, purge_cache
from kheopsfs.store import Contents, contents


def purge(
    *,
    cache_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", show_default="~/.cache/kheopsfs", help="The cache directory to remove."),
    ] = None,
    logs: Annotated[bool, typer.Option("--logs", help="Remove the logs of mounts that have ended, too.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> None:
    """Remove the cache: every fetched file, list and size, and what is known of tokens.

    All of it can be fetched again. Nothing is removed while a mount uses the cache. Asks before it does anything,
    and removes nothing in a cache directory that kheopsfs did not put there.
    """
    directory = settle(Path.cwd(), {"cache_dir": cache_dir}, os.environ).cache_dir
    found, old_logs = contents(directory), idle_logs()
    unwanted = old_logs if logs else []
    if found == Contents() and not directory.exists() and not unwanted:
        _say(f"There is nothing to remove: no cache in {directory}.")
    else:
        if not yes:
            demand_unused(directory)
            _ask(f"{directory} holds {_described(found)}.", unwanted)
        _say(f"Removed from {directory}: {_described(purge_cache(directory))}.")
        for file in unwanted:
            file.unlink(missing_ok=True)
        if unwanted:
            _say(f"Removed from {log_directory()}: {_counted(len(unwanted), 'log file')}.")
    if old_logs and not logs:
        _say(f"{_counted(len(old_logs), 'log file')} of mounts that have ended stay in {log_directory()}; see --logs.")


def _ask(question: str, logs: list[Path]) -> None:
    if not sys.stdin.isatty():
        raise SettingsError("There is no terminal to ask on whether to remove the cache. If you mean it, add --yes.")
    _say(question)
    also = f" and {_counted(len(logs), 'log file')}" if logs else ""
    if not typer.confirm(f"Remove all of it{also}?"):
        _say("Nothing was removed.")
        raise typer.Exit(1)


def _described(found: Contents) -> str:
    files = f"{_counted(found.bodies, 'fetched file')} ({decimal(found.bytes_of_bodies)})"
    return f"{files}, and {decimal(found.other_bytes)} of lists, sizes and notes on tokens"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    out.print(text, markup=False)
