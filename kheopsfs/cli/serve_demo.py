"""`kheopsfs serve-demo`: the demo server alone."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from kheopsfs.cli.console import out
from kheopsfs.config import SettingsError

HIGHEST_PORT = 65535


def serve_demo(
    *,
    port: Annotated[int, typer.Option(min=0, max=HIGHEST_PORT, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Any folder of DICOM files, served as they are. Without it, sample studies are made.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON: the url, and each token with what it is.")
    ] = False,
) -> None:
    """Run the demo server alone, on this machine only, until Ctrl-C.

    It speaks Kheops and takes no writes. Its tokens are made up at each start and printed.
    """
    try:
        from kheopsfs.demo.server import Announcement, run  # noqa: PLC0415 - the packages it needs are an optional extra
    except ImportError as error:
        raise SettingsError(
            f"The demo server needs packages that are not installed ({error.name}): kheopsfs[demo]"
        ) from None

    def announce(announcement: Announcement) -> None:
        if as_json:
            print(announcement.as_json(), flush=True)  # noqa: T201 - one line for a program, not for a person
            return
        table = Table("token", "what it is", box=None, padding=(0, 2, 0, 0))
        for token in announcement.tokens:
            table.add_row(Text(token.token), Text(token.what))
        out.print(f"The demo server is {announcement.url}\n")
        out.print(table)
        out.print("\nCtrl-C ends it.")

    try:
        run(port, data, announce)
    except OSError as error:
        raise SettingsError(f"The demo server cannot start: {error}.") from None
