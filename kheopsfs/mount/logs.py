"""The log of a mount: one line per event, to a file of the mount's own or to the terminal, and never a token in it.

The token is taken out of the finished line, where message, arguments and traceback have become one text: whatever a
library puts into any of them, it passes here last. The token in use can change while the mount lives (its file is read
again), so each line is searched for every token that has been in use.

A message is one line of printable text whatever a server put into it: nothing in a log moves a terminal's cursor or
looks like a line that we wrote.
"""

import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

import platformdirs

from kheopsfs.config import LogLevel
from kheopsfs.errors import printable
from kheopsfs.kheops.credentials import Credentials
from kheopsfs.mount.registry import private_directory, slug

LOG_FILE_SIZE = 5 * 1024**2
"""Bytes after which a log file is put aside."""
LOG_FILES_PUT_ASIDE = 3

REDACTED = "[token]"

CHATTY_LOGGERS = ("httpx", "httpcore", "h11", "h2", "hpack", "trio")
"""At their lower levels these log whole requests: link URLs hold the token, and searches may hold names of patients."""


class RedactingFormatter(logging.Formatter):
    """Finished lines without any token that was ever current.

    Args:
        credentials: hold the token that is in use now, and the one that is about to be.
    """

    def __init__(self, credentials: Credentials) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._credentials = credentials
        self._tokens: set[str] = set()

    def redact(self, text: str) -> str:
        """The text with each token replaced."""
        self._tokens |= {self._credentials.token.reveal(), self._credentials.offered.reveal()}
        for token in filter(None, self._tokens):
            text = text.replace(token, REDACTED)
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without a traceback."""
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The line for a record."""
        return printable(self.redact(super().format(record)), keep="\n")


class PrivateFileHandler(RotatingFileHandler):
    """Log files that only we can read, also those that rotation makes."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # a file that was there before may have had another mode
    return descriptor


def log_directory() -> Path:
    """Where mounts in the background log to."""
    return platformdirs.user_state_path("kheopsfs") / "log"


def log_file(mountpoint: Path) -> Path:
    """The log of the mount in the background on a mountpoint; its folder is made."""
    return private_directory(log_directory()) / f"{slug(mountpoint)}.log"


def set_up(level: LogLevel, file: Path | None, formatter: RedactingFormatter) -> None:
    """Send this process's log to a file, or to the terminal if None."""
    handler = (
        logging.StreamHandler(sys.stderr)
        if file is None
        else PrivateFileHandler(file, maxBytes=LOG_FILE_SIZE, backupCount=LOG_FILES_PUT_ASIDE)
    )
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
