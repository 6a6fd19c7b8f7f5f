"""The capability token: where it comes from, and how it is kept out of sight.

A `Token` shows itself nowhere: not in `repr`, `str`, a format, or a pickle. Only `reveal()` gives the text, and only
the code that writes a request calls it. Kheops makes capability tokens of 22 letters and digits; a viewer token is a
JWE of several hundred characters, so anything that fits into a link URL is accepted (the Kheops contract,
"Authentication").

A token file must be private, like an SSH key: whoever reads it is the user. `Credentials` is the one place that knows
the *current* token, which every request uses. When the token file changes, `reload` finds the new one *offered*; it
becomes the current one by `accept`, after somebody has asked the server whose it is. So no request ever runs with a
token that might be another account's.
"""

import logging
import os
import re
import stat
from pathlib import Path
from typing import Literal, NoReturn

from kheopsfs.errors import TokenRefusedError

logger = logging.getLogger("kheopsfs.kheops")

AuthKind = Literal["bearer", "basic", "link"]

# nginx's pattern for the token of a link URL, which also covers viewer tokens; the length is a bound of ours, below the
# 8 KiB that servers allow for a header line.
_TOKEN = re.compile(r"[A-Za-z0-9.+=_-]{1,4096}", re.ASCII)

# Bytes. A token file holds one line; somebody else's big file, given by mistake, is not read into memory.
_TOKEN_FILE_LIMIT = 64 * 1024

# What tells that a file may have changed: modification time in ns, inode, size in bytes.
_Signature = tuple[int, int, int]


class Token:
    """A secret text. Equal tokens are equal objects; nothing but `reveal` shows the text.

    Raises:
        TokenRefusedError: the text has characters that no token has.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not _TOKEN.fullmatch(text):
            raise TokenRefusedError(
                "This is not a token: a Kheops token is 22 letters and digits, without blanks or line breaks."
            )
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the request that needs it."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Token(hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A token is not written to disk")


class Credentials:
    """The current token and how it is presented.

    Args:
        token: what to start with.
        kind: the way it travels.
        token_file: where it was read from, if it was; this is what `reload` looks at.

    Attributes:
        token: the current one.
        offered: what the token file held when it could be read last.
    """

    def __init__(self, token: Token, kind: AuthKind = "bearer", token_file: Path | None = None) -> None:
        self.token = self.offered = token
        self.kind = kind
        self.token_file = token_file
        self._seen: _Signature | None = None
        self._complaint = ""

    def reload(self) -> bool:
        """Read the token file again if it changed. Touches the disk.

        A file that cannot be used changes nothing and is looked at again next time: it may be half written, or its
        permissions may be put right. The log says so once.

        Returns:
            True if the file now offers another token than before.
        """
        if self.token_file is None:
            return False
        try:
            seen = _signature(self.token_file.stat())
            if seen == self._seen:
                return False
            token = read_token_file(self.token_file)
        except (OSError, TokenRefusedError) as error:
            complaint = _sentence(self.token_file, error) if isinstance(error, OSError) else str(error)
            if complaint != self._complaint:
                logger.warning("The token stays as it was. %s", complaint)
            self._complaint = complaint
            return False
        self._seen = seen
        self._complaint = ""
        changed = token != self.offered
        self.offered = token
        return changed

    def accept(self, token: Token) -> None:
        """Use a token from now on: the server says that it is of the same account."""
        self.token = token


def read_token_file(path: Path) -> Token:
    """Read a token from a private file; blanks and line breaks around it do not count.

    Raises:
        TokenRefusedError: no such file, not a regular file, readable by others, owned by someone else, too large,
            empty, or holding something that is no token.
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer. All that is asked is asked of the open file.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _demand_private(path, os.fstat(file))
            content = os.read(file, _TOKEN_FILE_LIMIT + 1)
        finally:
            os.close(file)
    except OSError as error:
        raise TokenRefusedError(_sentence(path, error)) from None
    if len(content) > _TOKEN_FILE_LIMIT:
        raise TokenRefusedError(f"The token file {path} is too large to hold a token.")
    text = content.decode("ascii", "replace").strip()
    if not text:
        raise TokenRefusedError(f"The token file {path} is empty.")
    try:
        return Token(text)
    except TokenRefusedError:
        raise TokenRefusedError(
            f"The token file {path} does not hold a token: one line of letters and digits, nothing else."
        ) from None


def _demand_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise TokenRefusedError(f"The token file {path} is not a regular file.")
    if status.st_uid not in (os.geteuid(), 0):
        raise TokenRefusedError(
            f"The token file {path} belongs to another user. Make a copy of your own, and run: chmod 600 {path}"
        )
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TokenRefusedError(f"The token file {path} is open to other users. Run: chmod 600 {path}")


def _signature(status: os.stat_result) -> _Signature:
    return (status.st_mtime_ns, status.st_ino, status.st_size)


def _sentence(path: Path, error: OSError) -> str:
    return f"The token file {path} cannot be read: {error.strerror}."
