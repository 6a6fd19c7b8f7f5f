"""The one tree of errors: what can go wrong, said so that a user can act on it.

Every failure that is not a bug is a `KheopsfsError`. It carries three things that the layers above need and must
not invent: the *errno* a program gets through the mount, the *exit status* a command ends with, and a sentence for a
person (the exception's text). The text never holds a token or a patient's name, because it is logged.

Anything else that is raised is a bug: the mount answers EIO, logs the traceback and stays up.
"""

import errno
import logging
from typing import ClassVar


def printable(text: str, keep: str = "") -> str:
    """The text with every control, bidi mark or surrogate as an escape, except for those to keep.

    For whatever a stranger's words get into: a log or a terminal shows what is there and obeys none of it.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )


class KheopsfsError(Exception):
    """Something failed in a way that is understood.

    Attributes:
        errno: what a program that called into the mount gets.
        exit_code: what a `kheopsfs` command ends with.
        log_level: how loudly the mount's log says it; faults of a single file are warnings.
        status: the HTTP status that led to it, if one did.
    """

    errno: ClassVar[int] = errno.EIO
    exit_code: ClassVar[int] = 1
    log_level: ClassVar[int] = logging.WARNING
    status: int | None = None


class BadURLError(KheopsfsError):
    """The text is not the address of a Kheops server."""

    exit_code = 3


class ServerUnreachableError(KheopsfsError):
    """No connection: name not found, refused, reset before an answer, or known to be down."""

    exit_code = 4


class TLSError(ServerUnreachableError):
    """The server could not prove who it is."""

    exit_code = 5


class TokenRefusedError(KheopsfsError):
    """The token is dead (introspection says inactive), missing, or not of a kind that can be mounted."""

    errno = errno.EACCES
    exit_code = 6


class MountpointError(KheopsfsError):
    """The mountpoint is missing, no directory, not empty, not ours, or in use."""

    exit_code = 7


class FUSEUnavailableError(KheopsfsError):
    """No `/dev/fuse`, no `fusermount3`, or no permission to use them."""

    exit_code = 8


class CacheUnusableError(KheopsfsError):
    """The cache directory cannot be written, or is somebody else's."""

    exit_code = 9


class PermissionMissingError(KheopsfsError):
    """The token is alive but may not do this (403)."""

    errno = errno.EACCES
    exit_code = 6


class NotFoundError(KheopsfsError):
    """The server does not know it, or does not show it to this token."""

    errno = errno.ENOENT


class ServerFaultError(KheopsfsError):
    """5xx that outlasted the retries."""

    exit_code = 4


class StalledError(KheopsfsError):
    """No byte came for the idle deadline."""

    errno = errno.ETIMEDOUT
    exit_code = 4


class BadAnswerError(KheopsfsError):
    """The answer is not what was asked for: cut, HTML, unparsable, another instance. Never shown, never kept."""

    exit_code = 4


class EndlessAnswerError(KheopsfsError):
    """A body went on far beyond anything that it could honestly be. Asking again would fill the disk again."""

    exit_code = 4


class DiskFullError(KheopsfsError):
    """The cache's disk has no room for this body; ENOSPC is in the log, the reader gets EIO."""

    log_level = logging.ERROR
