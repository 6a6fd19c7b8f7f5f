"""A SQLite database that may break without breaking those who use it.

What the databases of the store hold can be asked for again, so no fault of theirs may reach a reader:

* *Damaged* (not a database, malformed, tables missing): it is moved aside to `<name>.damaged`, one log line says so, an
  empty one takes its place and the operation is tried once more. Found at start-up or at any later moment.
* *Replaced or gone* (another process moved a damaged one aside, somebody emptied the cache folder): noticed by the
  inode before each operation, and the file that is there now is opened, or made.
* *In the way of itself* (full disk, read-only, locked for too long): the operation is given up and its caller gets the
  answer that means "not there" or "not kept". Nothing is replaced. After a writer that was waited for in vain (a
  process that was stopped in the middle of a transaction) nobody waits again for a while: a series would else wait for
  each of its bodies.

Opening and replacing happen under the lock of the folder, so that two processes which see the same damage do not move
each other's new database aside. The write-ahead log and its index go before a new database is used: a process
that still has the old one open must not share them with it.

The file is created here, with mode 0600, before SQLite opens it; SQLite gives `-wal` and `-shm` the mode of the
database. It is never opened in any other way once it exists: closing such a descriptor would drop SQLite's POSIX locks.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import diskcache

from kheopsfs.errors import CacheUnusableError
from kheopsfs.store.folders import FILE_MODE, NOT_OURS_ALONE, failure, is_own_file, locked, private_folder

log = logging.getLogger(__name__)

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another writer. A checkpoint of the write-ahead log stalls up to 1 s on a slow disk; a writer
that takes longer is stopped or stuck, and a reader of the mount should not hang with it."""

HELD_INTERVAL = 60.0
"""Seconds in which nothing is written after BUSY_TIMEOUT passed in vain."""

COMPLAINT_INTERVAL = 60.0
"""Seconds before the log repeats itself about one database."""

_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,  # no statement of the store violates it: index and table disagree
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    }
)
_SCHEMA_DAMAGE = ("no such table", "no such column", "no such index")
"""SQLite has only the generic SQLITE_ERROR for a table that is not there."""
_PRIMARY_CODE = 0xFF
"""SQLite's extended codes hold the general one in their low byte."""


class DamagedDatabaseError(sqlite3.DatabaseError):
    """SQLite reads the file well, but it does not hold what the store put there."""


class Tables(Protocol):
    """An open database."""

    def recover(self) -> None:
        """Leave no transaction open on the connection that just failed."""

    def close(self) -> None:
        """Let go of the file."""


T = TypeVar("T", bound=Tables)
R = TypeVar("R")


class Database(Generic[T]):
    """One database file and whatever currently stands in for it.

    Args:
        path: the file; its folder is made when it is missing.
        open_tables: opens the file and sees to its tables.

    Raises:
        CacheUnusableError: the file can be neither opened nor replaced.
    """

    def __init__(self, path: Path, open_tables: Callable[[Path], T]) -> None:
        self._path = path
        self._open_tables = open_tables
        self._replacing = threading.Lock()
        self._complaint = ""
        self._complained = 0.0
        self._held_until = 0.0
        try:
            self._tables, self._identity = self._open(None)
        except OSError as error:
            raise CacheUnusableError(str(failure(error, path.parent))) from error

    def run(self, operation: Callable[[T], R], otherwise: R) -> R:
        """The result of `operation`, or `otherwise` when the database cannot do it.

        What `operation` raises is passed on, unless it is SQLite's or diskcache's.
        """
        damage: Exception | None = None
        for _attempt in range(2):
            tables = self._tables
            if damage or _identity(self._path) != self._identity:
                if not self._replace(tables, damage):
                    return otherwise
                tables = self._tables
            try:
                result = operation(tables)
            except (sqlite3.Error, sqlite3.Warning, diskcache.Timeout) as error:
                cause = _first_cause(error)
                with suppress(sqlite3.Error):
                    tables.recover()
                if not _is_damage(cause):
                    if _is_held(cause):
                        self._held_until = time.monotonic() + HELD_INTERVAL
                    self._complain(cause)
                    return otherwise
                damage = cause
            else:
                return result
        self._complain(damage)
        return otherwise

    def write(self, operation: Callable[[T], R], otherwise: R) -> R:
        """Like `run`, for what may have to wait for another writer."""
        if time.monotonic() < self._held_until:
            return otherwise
        return self.run(operation, otherwise)

    def close(self) -> None:
        """Let go of the file."""
        with suppress(sqlite3.Error):
            self._tables.close()

    def _replace(self, broken: T, cause: Exception | None) -> bool:
        """Put another database in the place of `broken`; false when that is not possible now."""
        with self._replacing:
            if self._tables is not broken:
                return True  # another thread was faster
            try:
                self._tables, self._identity = self._open(cause)
            except (CacheUnusableError, OSError) as error:
                self._complain(error)
                return False
            with suppress(sqlite3.Error):
                broken.close()
            return True

    def _open(self, damage: Exception | None) -> tuple[T, tuple[int, int] | None]:
        private_folder(self._path.parent)
        with locked(self._path.parent):
            if damage and _identity(self._path) == self._identity:
                self._move_aside(damage)
            try:
                return self._open_file()
            except Exception as error:
                # Not only SQLite's errors: diskcache stumbles over planted settings with a TypeError or a ValueError.
                if isinstance(error, OSError):
                    raise
                cause = _first_cause(error)
                if isinstance(cause, sqlite3.Error) and not _is_damage(cause):
                    raise self._unusable(cause) from error
                self._move_aside(cause)
            try:
                return self._open_file()
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _open_file(self) -> tuple[T, tuple[int, int] | None]:
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, FILE_MODE)
        except FileExistsError:
            status = self._path.lstat()
            if not is_own_file(status):
                raise DamagedDatabaseError("not a file of this user") from None
            if status.st_mode & NOT_OURS_ALONE:
                self._path.chmod(FILE_MODE)
        else:
            os.fchmod(descriptor, FILE_MODE)  # open is subject to the umask
            os.close(descriptor)
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        return self._open_tables(self._path), _identity(self._path)

    def _move_aside(self, damage: Exception) -> None:
        with suppress(FileNotFoundError):
            self._path.rename(f"{self._path}.damaged")
        log.warning("%s was damaged (%s): it was moved aside and starts empty", self._path, damage)

    def _unusable(self, error: Exception) -> CacheUnusableError:
        return CacheUnusableError(
            f"the cache's database {self._path} cannot be used ({error}): "
            "check the disk's free space and permissions or choose another folder for the cache"
        )

    def _complain(self, error: Exception | None) -> None:
        """One line for a fault that lasts, not one for every body it keeps from being cached."""
        complaint, now = str(error), time.monotonic()
        if complaint != self._complaint or now - self._complained >= COMPLAINT_INTERVAL:
            self._complaint, self._complained = complaint, now
            log.warning(
                "%s cannot be used for now (%s): what it would have kept is fetched again", self._path, complaint
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _first_cause(error: Exception) -> Exception:
    """What SQLite said first: diskcache hides it behind a Timeout, or behind the rollback that then failed too."""
    while isinstance(error.__context__, sqlite3.Error):
        error = error.__context__
    return error


def _is_damage(cause: Exception) -> bool:
    if isinstance(cause, DamagedDatabaseError):
        return True
    if not isinstance(cause, sqlite3.Error):
        return False
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code in _DAMAGE or code & _PRIMARY_CODE in _DAMAGE or str(cause).startswith(_SCHEMA_DAMAGE)


def _is_held(cause: Exception) -> bool:
    return getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
