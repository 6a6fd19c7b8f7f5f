"""Options that several commands have, said once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kheopsfs.config import AuthName

Target = Annotated[
    str,
    typer.Argument(
        metavar="URL",
        show_default=False,
        help="The server, as you have it: its front page, a DICOMweb URL, a share link; or the name of a profile.",
    ),
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="File that holds the token, readable by you alone; - reads standard input. "
        "Without it: the token in the URL, else KHEOPS_TOKEN, else the profile's token file, else you are asked.",
    ),
]
Auth = Annotated[AuthName | None, typer.Option(show_default="bearer", help="How the token is sent.")]
InsecureHttp = Annotated[
    bool, typer.Option("--insecure-http", help="Accept http to another machine: anyone on the way can read the token.")
]


def mountpoint_argument(meaning: str) -> Any:
    """A directory that is, or is to be, a mountpoint.

    Parsed here and not by typer, which looks at a path it parses: whoever serves a mount may never answer.
    """
    return typer.Argument(metavar="MOUNTPOINT", parser=Path, show_default=False, help=meaning)
