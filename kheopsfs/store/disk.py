"""What a row of the cache may hold, and nothing else: text keys; bytes, text and numbers; finished body files.

diskcache pickles what it does not know and unpickles what a row says is pickled (CVE-2025-69872): whoever can write one
row runs code in every process that reads it. `Disk` knows no pickle in either direction. On the way in anything else is
a TypeError; on the way out it is a damaged row, which the store drops.

A row that stands for a body names its file: 32 hexadecimal digits in the folder `files` beside the database, nothing
else. A name that does not look like that is never opened and never deleted, wherever it points.
"""

import re
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import diskcache

FILES = "files"
"""The folder of finished bodies, beside the database whose rows name them."""

FILE_NAME = re.compile(r"[0-9a-f]{32}")
_DESCRIPTION = re.compile(r"(?P<size>[0-9]{1,19}) (?P<checksum>[0-9a-f]{32})")

_MODE_VALUE = diskcache.core.MODE_RAW
_MODE_BODY = 64
"""Marks a row that stands for a body file; far from diskcache's own modes, 0 to 4."""
_VALUES = (bytes, str, int, float)

Row = tuple[int, int, str | None, "Value"]
"""diskcache's columns: size in bytes, mode, filename, value."""


class DamagedRowError(ValueError):
    """A row holds something that the store never writes."""


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A finished body: where it is, and what it must be.

    Attributes:
        file_name: its name in the folder of finished bodies, unique for ever.
        size: in bytes.
        checksum: XXH3 (128 bits) of its bytes, hexadecimal.
    """

    file_name: str
    size: int
    checksum: str

    @property
    def description(self) -> str:
        """What the row says of it, besides its name."""
        return f"{self.size} {self.checksum}"

    @classmethod
    def from_row(cls, file_name: object, description: object) -> Self:
        """Raises DamagedRowError."""
        if isinstance(file_name, str) and isinstance(description, str) and FILE_NAME.fullmatch(file_name):
            found = _DESCRIPTION.fullmatch(description)
            if found:
                return cls(file_name, int(found["size"]), found["checksum"])
        raise DamagedRowError("it does not name a body file")


Value = bytes | str | int | float | StoredBody


class Disk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """How the cache turns keys and values into columns and back."""

    def put(self, key: object) -> tuple[str, bool]:
        """The columns of a key. Raises TypeError for anything but text."""
        if type(key) is not str:
            raise TypeError(f"a key of the cache is text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """A key from its columns. Raises DamagedRowError."""
        if not raw or type(key) is not str:
            raise DamagedRowError("its key is not text")
        return key

    def store(self, value: object, read: bool, key: object = diskcache.UNKNOWN) -> Row:
        """The columns of a value. Raises TypeError for what the store does not keep."""
        if type(value) is StoredBody:
            return value.size, _MODE_BODY, value.file_name, value.description
        if type(value) in _VALUES and not read:
            size = len(value) if isinstance(value, bytes | str) else 0
            return size, _MODE_VALUE, None, value  # type: ignore[return-value]  # one of _VALUES
        raise TypeError(f"the cache does not keep values of type {type(value).__name__}")

    def fetch(self, mode: object, filename: object, value: Any, read: bool) -> Value:
        """A value from its columns. Raises DamagedRowError."""
        if mode == _MODE_BODY:
            return StoredBody.from_row(filename, value)
        if mode == _MODE_VALUE and filename is None and type(value) in _VALUES:
            return value  # type: ignore[no-any-return]  # one of _VALUES
        raise DamagedRowError("its value is of a kind that the store does not write")

    def remove(self, file_path: object) -> None:
        """Delete the file that a row which is going named, if it could be one of ours.

        Never fails: what is left without a row, `Bodies` sweeps up.
        """
        if isinstance(file_path, str) and FILE_NAME.fullmatch(file_path):
            with suppress(OSError):
                Path(self._directory, FILES, file_path).unlink()


def undecodable(error: sqlite3.OperationalError) -> bool:
    """Whether SQLite says that a text column is not UTF-8: one damaged row, in a file that is otherwise well."""
    return str(error).startswith("Could not decode to UTF-8")
