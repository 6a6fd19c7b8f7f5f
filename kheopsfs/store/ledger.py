"""The sizes of bodies that were once seen whole, in bytes: what `stat` may promise for ever.

A body never changes, so its size is a fact that outlives the body's time in the cache, the mount and the process. The
ledger is never evicted; an entry is a few dozen bytes. A size that is too small makes programs cut files silently, so
every entry carries a checksum over itself, and one that does not agree is not there.

Entries form groups (a series, say) that are read together. One connection reads and another writes, each with a lock
that is held for its own statement only: in write-ahead mode a reader never waits for the writer, not even for its
checkpoint.
"""

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import xxhash

from kheopsfs.store.database import BUSY_TIMEOUT, Database

FILE_NAME = "ledger.db"

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS Sizes (
        collection TEXT NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (collection, name)
    ) WITHOUT ROWID
"""
_POSITIVE = 2**63 - 1
"""SQLite's integers are signed."""


class _Sizes:
    """The open ledger."""

    def __init__(self, path: Path) -> None:
        self._writer = _connect(path)
        try:
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute(_SCHEMA)
            self._writer.execute("SELECT collection, name, size, checksum FROM Sizes LIMIT 1").fetchone()
            self._reader = _connect(path)
        except BaseException:
            self._writer.close()
            raise
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    def read(self, where: str, arguments: tuple[str, ...]) -> dict[str, int]:
        with self._reading:
            rows = self._reader.execute(
                f"SELECT collection, name, size, checksum FROM Sizes WHERE {where}",  # noqa: S608  # no foreign text
                arguments,
            ).fetchall()
        return {name: size for group, name, size, checksum in rows if checksum == _checksum(group, name, size)}

    def write(self, statement: str, rows: Iterable[tuple[str | int, ...]]) -> None:
        with self._writing, self._writer:
            self._writer.executemany(statement, rows)

    def recover(self) -> None:
        """Nothing to do: each transaction ends in the block that began it."""

    def close(self) -> None:
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()


class Ledger:
    """Sizes by group and name, in `folder`, shared by threads and processes.

    What the database cannot tell is not known, and what it cannot keep is forgotten; nothing is raised for it.

    Raises:
        CacheUnusableError: the database can be neither opened nor made.
    """

    def __init__(self, folder: Path) -> None:
        self._database = Database(folder / FILE_NAME, _Sizes)

    def sizes(self, group: str) -> dict[str, int]:
        """All sizes of `group`, in bytes by name."""
        nothing: dict[str, int] = {}
        return self._database.run(lambda sizes: sizes.read("collection = ?", (group,)), nothing)

    def size(self, group: str, name: str) -> int | None:
        """One size in bytes, or None when it was never seen."""
        nothing: dict[str, int] = {}
        return self._database.run(lambda sizes: sizes.read("collection = ? AND name = ?", (group, name)), nothing).get(
            name
        )

    def record(self, group: str, name: str, size: int) -> None:
        """Note that `name` of `group` has `size` bytes."""
        self.record_many(group, {name: size})

    def record_many(self, group: str, sizes: Mapping[str, int]) -> None:
        """Note several sizes of `group`, in bytes by name, in one transaction."""
        rows = [(group, name, size, _checksum(group, name, size)) for name, size in sizes.items()]
        self._database.write(
            lambda ledger: ledger.write("INSERT OR REPLACE INTO Sizes VALUES (?, ?, ?, ?)", rows), None
        )

    def forget(self, group: str, name: str) -> None:
        """Note that the size of `name` is not known after all."""
        self._database.write(
            lambda ledger: ledger.write("DELETE FROM Sizes WHERE collection = ? AND name = ?", [(group, name)]), None
        )

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.text_factory = lambda text: text.decode("utf-8", "replace")  # damaged text fails at its checksum only
    return connection


def _checksum(group: str, name: str, size: int) -> int:
    return xxhash.xxh3_64_intdigest(f"{group}\0{name}\0{size}".encode()) & _POSITIVE
