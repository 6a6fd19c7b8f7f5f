"""What commands say, and where: answers on standard output, everything about the command itself on standard error.

A command ends with 0 if it did what was asked. A failure that is understood (`KheopsfsError`) is one red line that says
what to do, and the exit status of its kind; anything else is a bug, shows its traceback and ends with 1.

Error messages and paths are printed as they are: nothing in them is read as markup, no line is broken where it can be
copied from. But what would move the cursor, change colours or turn the reading direction is shown as an escape, for a
server may have put it there.
"""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from kheopsfs.errors import (
    BadURLError,
    CacheUnusableError,
    FUSEUnavailableError,
    KheopsfsError,
    MountpointError,
    ServerUnreachableError,
    TLSError,
    TokenRefusedError,
    printable,
)
from kheopsfs.mount.launch import INTERRUPTED

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

EXIT_CODES = {
    0: "it worked",
    1: "unexpected: a bug, or something the server does not know",
    2: "the command or the config file was not understood",
    BadURLError.exit_code: "not the URL of a Kheops server",
    ServerUnreachableError.exit_code: "server unreachable, or its answer is of no use",
    TLSError.exit_code: "TLS: the server could not prove who it is",
    TokenRefusedError.exit_code: "no token, token refused, or not allowed to",
    MountpointError.exit_code: "mountpoint unusable, or nothing is mounted there",
    FUSEUnavailableError.exit_code: "FUSE is not available here",
    CacheUnusableError.exit_code: "cache directory unusable",
    INTERRUPTED: "interrupted with Ctrl-C",
}

NEXT_STEP = {
    ServerUnreachableError.exit_code: "Is the address right, and does it open in a browser on this machine?",
    CacheUnusableError.exit_code: "Another directory can be named: --cache-dir",
}
"""What a user can try, by exit status. The messages of the others say it themselves."""


def plain(text: str, style: str = "") -> Text:
    """Text for the terminal in which nothing is an instruction to it."""
    return Text(printable(text, keep="\n"), style=style)


def report(error: KheopsfsError) -> None:
    """Say what failed, in red, and what can be done about it."""
    err.print(plain(f"kheopsfs: {error}", "bold red"))
    if error.exit_code in NEXT_STEP:
        err.print(Text(NEXT_STEP[error.exit_code]))


@contextlib.contextmanager
def concluded() -> Iterator[None]:
    """End the process with the status that belongs to whatever was raised inside."""
    try:
        yield
    except KheopsfsError as error:
        report(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def warn(text: str) -> None:
    """Say something that a user should know, though all goes on."""
    err.print(plain(f"kheopsfs: {text}", "yellow"))
