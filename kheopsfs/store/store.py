"""The store: one folder on disk, with everything that was fetched and may be asked for again.

::

    CACHEDIR.TAG    says to backup programs that this is a cache, and to the store that the folder is its own
    bodies/         files of bodies, and the database that names them
    tmp/            bodies that are arriving
    listings/       a database of listings
    ledger/         a database of sizes

The folder belongs to one user and is used by any number of processes of that user at once. All of it is a copy of
what the server has: nothing here is worth more than the time to fetch it again. `bodies`, `listings` and `ledger`
know nothing of each other.

A `Store` is made after a process has forked, not before: SQLite's connections do not survive a fork.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kheopsfs.errors import CacheUnusableError, DiskFullError
from kheopsfs.store.bodies import Bodies
from kheopsfs.store.disk import FILE_NAME
from kheopsfs.store.folders import FILE_MODE, failure, is_own_file, lock_if_free, locked, private_folder
from kheopsfs.store.ledger import Ledger
from kheopsfs.store.listings import Listings

TAG = "CACHEDIR.TAG"
_TAG_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"  # as the Cache Directory Tagging Specification demands
    b"# This folder is a cache of kheopsfs. Everything in it can be fetched again.\n"
)

_FOLDERS = ("bodies", "tmp", "listings", "ledger")
_OWN_FILE = re.compile(rf"{FILE_NAME.pattern}|(cache|ledger)\.db(-wal|-shm|\.damaged)?|orphans-possible")


class Store:
    """Everything that is kept in `directory`. Thread-safe; every call may block on the disk.

    Args:
        directory: made with mode 0700 when it is missing. A symbolic link to a folder is followed: caches are moved to
            other disks that way. What counts is the folder that it leads to.
        size_limit: bytes of bodies to keep, over all processes.

    Attributes:
        size_limit: as above.
        bodies: files, instances most of all.
        listings: answers of the server to searches.
        ledger: sizes once seen.

    Raises:
        CacheUnusableError: the folder is somebody else's, others can write to it, it holds something that is no cache,
            or it cannot be written.
    """

    def __init__(self, directory: Path, size_limit: int) -> None:
        folder = Path(os.path.realpath(directory))
        self.size_limit = size_limit
        with ExitStack() as undo, _understood(folder):
            private_folder(folder)
            with locked(folder):
                _claim(folder)
                self.bodies = Bodies(folder, size_limit)
                undo.callback(self.bodies.close)
                self.listings = Listings(folder / "listings")
                undo.callback(self.listings.close)
                self.ledger = Ledger(folder / "ledger")
            undo.pop_all()

    def close(self) -> None:
        """Let go of the folder. Bodies that are open stay readable; those that are arriving are lost."""
        self.ledger.close()
        self.listings.close()
        self.bodies.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Contents:
    """What of a store's is in a folder: how many bodies (arriving ones too), their bytes, and the bytes of all else."""

    bodies: int = 0
    bytes_of_bodies: int = 0
    other_bytes: int = 0


class CacheInUseError(CacheUnusableError):
    """Somebody has a store open in the folder."""


def contents(directory: Path) -> Contents:
    """What `purge` would remove, as far as can be told without a lock; nothing where there is no folder.

    Raises:
        CacheUnusableError: the folder is not a cache of kheopsfs.
    """
    folder = Path(os.path.realpath(directory))
    if not folder.exists():
        return Contents()
    with _understood(folder):
        _demand_cache(folder)
        return _count(_own_files(folder))


def purge(directory: Path) -> Contents:
    """Remove from disk what a store put into `directory`, and the folder itself if nothing else is in it.

    Files that no store made are left alone. A folder that does not exist is purged already. Returns what was removed.

    Raises:
        CacheInUseError: the folder is in use; nothing was removed.
        CacheUnusableError: the folder is not a cache of kheopsfs, and nothing was removed; or it cannot be emptied.
    """
    folder = Path(os.path.realpath(directory))
    if not folder.exists():
        return Contents()
    with _understood(folder):
        private_folder(folder)
        with locked(folder):
            _demand_cache(folder)
            _refuse_in_use(folder / "tmp")
            files = list(_own_files(folder))
            removed = _count(files)
            for file in files:
                file.unlink(missing_ok=True)
            for name in _FOLDERS:
                _remove_empty(folder / name)
            if [entry.name for entry in folder.iterdir()] == [TAG]:
                (folder / TAG).unlink()
                folder.rmdir()
    return removed


@contextmanager
def _understood(folder: Path) -> Iterator[None]:
    """What the operating system says, as a CacheUnusableError."""
    try:
        yield
    except OSError as error:
        raise CacheUnusableError(str(failure(error, folder))) from error
    except DiskFullError as error:
        raise CacheUnusableError(str(error)) from error


def _claim(folder: Path) -> None:
    """See that `folder` is a cache of ours, or make it one while it is empty."""
    if os.path.expandvars(folder) != str(folder):
        # diskcache would put its database where the variable leads.
        raise CacheUnusableError(f"the name of the cache folder {folder} holds a variable: choose another name")
    tag = _tag(folder)
    if tag == _TAG_TEXT:
        return
    # A process that was killed while it wrote the tag has left the beginning of it; one that went on while somebody
    # emptied the folder has made anew what it needed, which is all but the tag.
    if not _TAG_TEXT.startswith(tag) or not _is_of_a_store(folder):
        raise CacheUnusableError(
            f"{folder} is not empty and not a cache of kheopsfs: choose another folder for the cache, or empty it"
        )
    descriptor = os.open(folder / TAG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, FILE_MODE)  # open is subject to the umask
        file.write(_TAG_TEXT)


def _is_of_a_store(folder: Path) -> bool:
    """Whether there is nothing in `folder` that a store would not have made."""
    names = {entry.name for entry in folder.iterdir()} - {TAG}
    return names <= set(_FOLDERS) and all(
        _OWN_FILE.fullmatch(name) for made in names for _, _, files in os.walk(folder / made) for name in files
    )


def _tag(folder: Path) -> bytes:
    """What the folder's tag says; nothing where there is none."""
    tag = folder / TAG
    with suppress(FileNotFoundError):
        if not is_own_file(tag.lstat()):
            raise CacheUnusableError(f"{tag} is not a file of this user: choose another folder for the cache")
        return tag.read_bytes()
    return b""


def _refuse_in_use(tmp: Path) -> None:
    for session in tmp.glob("*"):
        with suppress(NotADirectoryError):  # not a session
            lock = lock_if_free(session)
            if lock is None:
                raise CacheInUseError(f"the cache {tmp.parent} is in use: unmount what uses it first")
            os.close(lock)


def _demand_cache(folder: Path) -> None:
    if _tag(folder) != _TAG_TEXT:
        raise CacheUnusableError(f"{folder} is not a cache of kheopsfs: nothing was removed")


def _own_files(folder: Path) -> Iterator[Path]:
    """The files of a store in `folder`, following no link."""
    for name in _FOLDERS:
        if (folder / name).is_symlink():
            continue
        for parent, _folders, files in os.walk(folder / name):
            yield from (Path(parent, file) for file in files if _OWN_FILE.fullmatch(file))


def _count(files: Iterable[Path]) -> Contents:
    bodies = bytes_of_bodies = other_bytes = 0
    for file in files:
        try:
            size = file.lstat().st_size
        except FileNotFoundError:  # evicted meanwhile
            continue
        if FILE_NAME.fullmatch(file.name):
            bodies += 1
            bytes_of_bodies += size
        else:
            other_bytes += size
    return Contents(bodies, bytes_of_bodies, other_bytes)


def _remove_empty(folder: Path) -> None:
    """Remove the folders in and below `folder` that are empty."""
    if folder.is_symlink():
        return
    for parent, _folders, _files in os.walk(folder, topdown=False):
        with suppress(OSError):  # something else is in it
            Path(parent).rmdir()
