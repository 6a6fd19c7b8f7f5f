"""The body files: where they are while they arrive, and where they stay.

::

    tmp/<session>/<name>     arriving: in the hands of one process, which holds the lock of its session's folder
    bodies/files/<name>      finished: a row of the database names it, or it is about to

A name is 32 random hexadecimal digits, used once and never again, and the same in both places. A body is finished with
no copy and in three steps, each of which leaves something that can be judged:

1. a second link to the file is made under `bodies/files` (`link`),
2. its row is committed, which is the moment from which it exists,
3. the link in the session's folder goes (`forget`).

A process killed before 1 leaves an arriving file; before 2 a file that has no row, and before 3 one that has; and in
all three cases its name still stands in the session's folder, so *the session's folder is the list of everything that
was in the hands of a dead process*. Whoever starts next removes what is on that list, at both places, without asking
the database and without looking at the rest of the cache: at worst a body that was whole is fetched again. (A plain
rename has no such list: killed after it and before the row, it leaves a file that nothing names. With the row first,
a row that is evicted by another process between the two leaves one, too.) The folder of a process that lives is told
by its lock.

Two processes that commit the same key at once have two names, and the later row wins; its transaction deletes the
file that it replaces. An eviction in another process may take the finished file away between 2 and 3; what it takes
is one of two links, so step 3 still finds its own.

Only when the machine itself goes down may rows be lost that were already committed (nothing is synced: a body that did
not reach the disk shows in its checksum), and their files stay without a row. A dead session from another boot is the
sign for that; so is a database that starts empty. Then `orphans_possible` is set, durably, until `remove_orphans`
compared all files with all rows.
"""

import errno
import os
import re
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from kheopsfs.errors import CacheUnusableError
from kheopsfs.store.disk import FILE_NAME, FILES
from kheopsfs.store.folders import FILE_MODE, lock_if_free, private_folder

_SESSION = re.compile(r"(?P<boot>[0-9a-f]{32})-[0-9a-f]{16}")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NO_BOOT_ID = "0" * 32
_ORPHANS_POSSIBLE = "orphans-possible"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
_ATTEMPTS = 10
"""How often a session's folder may be taken for a dead one's, in the moment before it is locked."""


class Files:
    """The folders `tmp` and `bodies/files`, which are made when they are missing, and a session of one's own.

    Raises:
        CacheUnusableError: the folders can be neither made nor used, or their file system cannot link.
        OSError: likewise.
    """

    def __init__(self, bodies: Path, tmp: Path) -> None:
        self._finished = bodies / FILES
        self._tmp = tmp
        self._orphans_possible = bodies / _ORPHANS_POSSIBLE
        self._renewing = threading.Lock()
        private_folder(tmp)
        private_folder(self._finished)
        self._lock: int | None
        self._session, self._lock = self._begin_session()
        try:
            self._clear_dead_sessions()
            self._prove_links()
        except BaseException:
            self.close()
            raise

    def create(self) -> tuple[str, int]:
        """The name and the descriptor (read and write) of a new arriving file.

        Raises:
            CacheUnusableError, OSError: no file can be made.
        """
        try:
            return self._create()
        except FileNotFoundError:  # somebody emptied the cache folder while it is in use
            self._renew_session()
            return self._create()

    def finish(self, name: str) -> None:
        """Let an arriving file appear among the finished ones, too.

        Raises:
            CacheUnusableError, OSError: it cannot, or the arriving file is gone.
        """
        try:
            os.link(self._session / name, self._finished / name)
        except FileNotFoundError:
            private_folder(self._finished)
            os.link(self._session / name, self._finished / name)

    def forget(self, name: str) -> None:
        """Remove an arriving file, or the second link to a finished one."""
        _remove(self._session / name)

    def open(self, name: str) -> int:
        """A descriptor for reading a finished file; no link is followed, and no pipe waited for.

        Raises:
            OSError: it is not there or cannot be opened.
        """
        return os.open(self._finished / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)

    def exists(self, name: str) -> bool:
        """Whether there is such a finished file."""
        return os.path.lexists(self._finished / name)

    def remove(self, name: str) -> None:
        """Remove a finished file."""
        _remove(self._finished / name)

    @property
    def orphans_possible(self) -> bool:
        """Whether there may be finished files that no row names."""
        return self._orphans_possible.exists()

    def expect_orphans(self) -> None:
        """Note on disk that rows were lost."""
        with suppress(OSError):
            self._orphans_possible.touch(FILE_MODE)

    def orphans(self, named: set[str]) -> list[str]:
        """The finished files that are not among `named`, the names in all rows, while nobody can add a row.

        A second link means that its row is about to be written; it goes only after that.
        """
        names = os.listdir(self._finished)  # noqa: PTH208  # there may be very many
        unnamed = (name for name in names if FILE_NAME.fullmatch(name) and name not in named)
        return [name for name in unnamed if _links(self._finished / name) == 1]

    def remove_orphans(self, orphans: list[str]) -> None:
        """Remove the files that `orphans` found; names are never used again, so this needs no lock."""
        for name in orphans:
            self.remove(name)
        _remove(self._orphans_possible)

    def close(self) -> None:
        """End the session: what is still arriving is lost."""
        with self._renewing:
            if self._lock is not None:
                self._clear(self._session)
                os.close(self._lock)
                self._lock = None

    def _create(self) -> tuple[str, int]:
        name = secrets.token_hex(16)
        descriptor = os.open(self._session / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        os.fchmod(descriptor, FILE_MODE)  # open is subject to the umask
        return name, descriptor

    def _begin_session(self) -> tuple[Path, int]:
        """A folder of one's own and a descriptor that holds its lock."""
        for _attempt in range(_ATTEMPTS):
            session = self._tmp / f"{_boot()}-{secrets.token_hex(8)}"
            with suppress(FileNotFoundError):  # cleared before it was locked
                private_folder(session)
                lock = lock_if_free(session)
                if lock is not None and session.exists():
                    return session, lock
                if lock is not None:
                    os.close(lock)
        raise CacheUnusableError(f"the cache folder {self._tmp} is emptied by another program all the time")

    def _renew_session(self) -> None:
        with self._renewing:
            if self._session.exists():
                return  # another thread was faster
            if self._lock is None:
                raise CacheUnusableError("the cache is closed")
            private_folder(self._tmp)
            lost = self._lock
            self._session, self._lock = self._begin_session()
            os.close(lost)

    def _clear_dead_sessions(self) -> None:
        for session in self._tmp.iterdir():
            found = _SESSION.fullmatch(session.name)
            if not found:
                continue
            try:
                lock = lock_if_free(session)
            except OSError:
                continue  # another process is clearing it
            if lock is None:
                continue  # alive
            try:
                if found["boot"] != _boot():
                    self.expect_orphans()
                self._clear(session)
            finally:
                os.close(lock)

    def _clear(self, session: Path) -> None:
        """Remove all that `session` lists, here and among the finished files, then itself."""
        with suppress(OSError):
            for listed in session.iterdir():
                if FILE_NAME.fullmatch(listed.name):
                    self.remove(listed.name)
                    _remove(listed)
            session.rmdir()

    def _prove_links(self) -> None:
        name, descriptor = self.create()
        os.close(descriptor)
        try:
            self.finish(name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise CacheUnusableError(
                f"the file system of {self._finished} cannot keep a cache, for it has no hard links: "
                "choose a folder on a local disk"
            ) from error
        finally:
            self.remove(name)
            self.forget(name)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _links(path: Path) -> int:
    """How many links a file has; none when it is gone meanwhile."""
    try:
        return path.lstat().st_nlink
    except OSError:
        return 0


def _boot() -> str:
    """What names the time since this machine was started."""
    try:
        return _BOOT_ID.read_text("ascii").strip().replace("-", "")
    except OSError:
        return _NO_BOOT_ID
