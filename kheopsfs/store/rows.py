"""The rows of a cache: what is kept under which key, how much it is altogether, and who goes first.

A diskcache table in write-ahead mode, so readers never wait for a writer. Every thread has its own connection, which is
closed when the thread ends. Two things are done differently from diskcache:

* *Recency is collected in memory* and written at most once a minute, and before anything is evicted. diskcache writes
  on every read instead, which is six times slower and makes readers wait for writers. So other processes may be a
  minute behind on what this one opened, and a killed process forgets its last minute; neither loses a body.
* *Eviction takes as many rows as needed and no more*, oldest first. diskcache takes ten at a time, whatever their size,
  which would empty a cache of ten big zips for one more, and only ten per write, which lets small ones pile up.

Files are deleted inside the transaction that deletes their rows, before it ends. A process killed in between leaves a
row without its file, which is a miss and goes when its turn comes; never a file without a row, which nobody would
find again.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import diskcache

from kheopsfs.store.database import BUSY_TIMEOUT, DamagedDatabaseError, Database
from kheopsfs.store.disk import DamagedRowError, Disk, Value, undecodable

log = logging.getLogger(__name__)

R = TypeVar("R")

FILE_NAME = diskcache.core.DBNAME

_SETTINGS = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "none",  # a read writes nothing; `_Table.evict` decides
    "size_limit": 0,  # each process brings its own
    "cull_limit": 0,
    "sqlite_auto_vacuum": 0,  # freed pages are soon used again
    "sqlite_cache_size": 512,  # pages of 4 KiB, per thread: diskcache's 32 MiB times 40 worker threads is too much
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,  # reading a mapped file that was cut short kills the process (SIGBUS)
    "sqlite_synchronous": 1,  # NORMAL: a power cut may forget the last rows but breaks nothing
    "disk_min_file_size": 0,
    "disk_pickle_protocol": 0,
}
_COUNTERS = ("count", "size", "hits", "misses")

RECENCY_INTERVAL = 60.0
"""Seconds between two writings of what was opened."""
RECENCY_PENDING = 10_000
"""Openings to remember before they are written early: about 2 MB of memory, 0.2 s to write."""
_EVICTION_BATCH = 100
"""Rows to evict in one transaction: other processes wait for it, a few milliseconds."""


class _EndsWithThread:
    """Closes a connection when the thread that used it ends.

    Left to itself a connection is part of a reference cycle, and its descriptors wait for a full garbage collection;
    a program whose worker threads come and go runs out of them before that.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        with suppress(sqlite3.Error):  # not the thread's end but the table's: the garbage collector has to do it
            self.connection.close()


class _Table(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """diskcache's table, opened with settings that nobody else chooses.

    Attributes:
        starts_empty: whether it was made just now.

    Raises:
        DamagedDatabaseError: its settings are not the ones the store writes. diskcache would make attributes of them.
    """

    def __init__(self, path: Path) -> None:
        self.starts_empty = not _holds_rows(path)
        super().__init__(str(path.parent), timeout=BUSY_TIMEOUT, disk=Disk, **_SETTINGS)
        self._sql("CREATE INDEX IF NOT EXISTS Cache_access_time ON Cache (access_time)")

    @property
    def _con(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._con
        end = getattr(self._local, "end", None)
        if end is None or end.connection is not connection:
            self._local.end = _EndsWithThread(connection)
        return connection

    def recover(self) -> None:
        # A transaction that was left open would keep every other writer out; the next connection has none.
        self.close()

    def keep(self, values: Iterable[tuple[str, Value]]) -> bool:
        with self.transact():  # so that the file of a row that is replaced goes before the transaction ends
            for key, value in values:
                self.set(key, value)
        return True

    def drop(self, key: str, only: Value | None) -> None:
        with self.transact():
            if only is None or self.get(key) == only:
                self.delete(key)

    def total(self) -> int:
        """Bytes of all values and bodies; triggers of diskcache's keep the count."""
        row = self._sql("SELECT value FROM Settings WHERE key = 'size'").fetchone()
        if row is None or type(row[0]) is not int or row[0] < 0:
            raise DamagedDatabaseError("the count of bytes is missing")
        return row[0]

    def evict(self, size_limit: int) -> int:
        """Delete the least recently opened rows until `size_limit` bytes are not exceeded; how many were deleted."""
        evicted = 0
        while self.total() > size_limit:
            with self.transact():
                oldest = self._sql(
                    "SELECT rowid, filename FROM Cache ORDER BY access_time LIMIT ?", (_EVICTION_BATCH,)
                ).fetchall()
                if not oldest and self.total() > size_limit:
                    raise DamagedDatabaseError("the count of bytes is wrong")
                for rowid, filename in oldest:
                    if self.total() <= size_limit:
                        break
                    self._sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                    self.disk.remove(filename)
                    evicted += 1
        return evicted

    def mark_opened(self, opened: Mapping[str, float]) -> None:
        with self.transact():
            self._con.executemany(
                "UPDATE Cache SET access_time = max(access_time, ?) WHERE key = ? AND raw = 1",
                [(when, key) for key, when in opened.items()],
            )

    def file_names(self) -> set[str]:
        return {name for (name,) in self._sql("SELECT filename FROM Cache WHERE filename IS NOT NULL")}


class Rows:
    """One table of the cache in `folder`, shared by threads and processes.

    Args:
        folder: made when it is missing.
        size_limit: bytes of values and bodies to keep.
        on_empty: called whenever an empty table is made.

    Raises:
        CacheUnusableError: the database can be neither opened nor made.
    """

    def __init__(self, folder: Path, size_limit: int, on_empty: Callable[[], None] = lambda: None) -> None:
        self.size_limit = size_limit
        self._on_empty = on_empty
        self._database = Database(folder / FILE_NAME, self._open_table)
        self._lock = threading.Lock()  # held for a moment, never while SQLite works
        self._opened: dict[str, float] = {}
        self._recency_written = time.monotonic()

    def get(self, key: str) -> Value | None:
        """What is kept under `key`. A damaged row is dropped, with one line in the log, and is not there."""

        def value(table: _Table) -> Value | None:
            try:
                return table.get(key)  # type: ignore[no-any-return]
            except sqlite3.OperationalError as error:
                if undecodable(error):
                    raise DamagedRowError("its text is no text") from error
                raise

        try:
            return self._database.run(value, None)
        except DamagedRowError as error:
            log.warning("%s: the row in the cache is damaged (%s); it was dropped", key, error)
            self.drop(key)
            return None

    def put(self, key: str, value: Value) -> bool:
        """Keep `value`, in place of what was there. False when the database cannot; the log says why, once.

        Raises:
            TypeError: the value is of a kind that the cache does not keep.
        """
        return self.put_all([(key, value)])

    def put_all(self, values: Sequence[tuple[str, Value]]) -> bool:
        """Like `put`, for several in one transaction: all are kept or none."""
        return self._database.write(lambda table: table.keep(values), False)

    def drop(self, key: str, only: Value | None = None) -> None:
        """Forget `key`, and delete its file. With `only`: unless another value took its place meanwhile."""
        with suppress(DamagedRowError):  # found while looking for `only`: the next get drops it
            self._database.write(lambda table: table.drop(key, only), None)

    def opened(self, key: str) -> None:
        """Remember that `key` was used just now."""
        with self._lock:
            self._opened[key] = time.time()
            waited = time.monotonic() - self._recency_written
            if waited < RECENCY_INTERVAL and len(self._opened) < RECENCY_PENDING:
                return
        self._write_recency()

    def evict(self) -> int:
        """Bring the total down to the limit, least recently opened first; how many rows went."""
        if self._database.run(_Table.total, 0) <= self.size_limit:
            return 0
        self._write_recency()
        return self._database.write(lambda table: table.evict(self.size_limit), 0)

    def exclusively(self, work: Callable[[set[str]], R]) -> R | None:
        """What `work` makes of the file names in all rows, while nobody can add one. None when the database cannot."""

        def hold(table: _Table) -> R:
            with table.transact():
                return work(table.file_names())

        return self._database.write(hold, None)

    def close(self) -> None:
        """Write what was opened and let go of the database, as far as this thread is concerned."""
        self._write_recency()
        self._database.close()

    def _open_table(self, path: Path) -> _Table:
        table = _Table(path)
        if table.starts_empty:
            self._on_empty()
        return table

    def _write_recency(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, {}
            self._recency_written = time.monotonic()
        if opened:
            self._database.write(lambda table: table.mark_opened(opened), None)


def _holds_rows(path: Path) -> bool:
    """Whether there is a table of rows already. Raises DamagedDatabaseError for settings that are not the store's."""
    known = (*_SETTINGS, *_COUNTERS)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "Settings" in tables:
            foreign = f"SELECT key FROM Settings WHERE key NOT IN ({', '.join('?' * len(known))})"  # noqa: S608
            if connection.execute(foreign, known).fetchone():
                raise DamagedDatabaseError("it holds settings that the store does not write")
        return "Cache" in tables
    finally:
        connection.close()
