"""The commands under one name, and what `kheopsfs --help` teaches."""

from importlib.metadata import version
from typing import Annotated

import typer

from kheopsfs.cli import check, demo, mount, pull, purge, serve_demo
from kheopsfs.cli.console import EXIT_CODES, out

HELP = """
Mount a Kheops server: albums, studies and series as folders, DICOM instances as files. Read-only.

A first look, without a server of your own:

  kheopsfs demo

A real server, with a token made in Kheops and put into a file (chmod 600):

  mkdir ~/kheops
  kheopsfs mount https://kheops.example.org ~/kheops --token-file ~/token
  ls ~/kheops/albums
  kheopsfs umount ~/kheops
"""

EXIT_STATUS = "Exit status\n\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())

app = typer.Typer(
    help=HELP,
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    # A shell's completion would be one more thing that reads a half-typed URL with a token in it.
    add_completion=False,
    # The traceback of a bug is shown as Python shows it: without the values of variables, which may be secrets.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"kheopsfs {version('kheopsfs')}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None: ...


app.command(epilog=EXIT_STATUS)(mount.mount)
app.command()(mount.umount)
app.command()(check.check)
app.command()(pull.pull)
app.command()(purge.purge)
app.command()(demo.demo)
app.command()(serve_demo.serve_demo)
