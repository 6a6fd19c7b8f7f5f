"""The bodies that are kept: whole, proven, and no more of them than the limit allows.

* A body is there or it is not; nobody ever sees a part of one under its key (see `files` for how it gets there).
* What is opened is what was committed: the file is a regular one of this user, has the size that its row says, and, the
  first time this process opens it, the checksum. Anything else is dropped with a line in the log and is not there.
  From then on the process trusts the file, as it trusts what it wrote itself.
* The limit holds for the bytes of all finished bodies together, over all processes; arriving ones come on top. It is
  enforced by whoever commits, least recently opened first.

Log lines hold keys, which are made of UIDs.
"""

import errno
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from kheopsfs.errors import CacheUnusableError
from kheopsfs.store.body import Arrived, Body, Incoming, OpenFile, checksum_of
from kheopsfs.store.disk import StoredBody
from kheopsfs.store.files import Files
from kheopsfs.store.folders import failure, is_own_file
from kheopsfs.store.rows import Rows

log = logging.getLogger(__name__)

_PROVEN_NAMES = 100_000
"""How many file names to remember as proven: about 10 MB. Beyond that they are proven again, which costs only time."""

_CONTENT_BYTES = 4 * 2**20
"""Of the largest body that is held in memory after it was read to prove it."""

_UNFIT = frozenset({errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.EIO})
"""What opening says of a link, somebody else's file, a socket, a bad sector."""


class _UnfitFileError(Exception):
    """The file is not the body that its row describes."""


class Bodies:
    """Bodies by key, in `folder`, shared by threads and processes.

    Args:
        folder: of the cache; `bodies` and `tmp` below it are used.
        size_limit: bytes of bodies to keep.

    Raises:
        CacheUnusableError, OSError: the folders or the database can be neither made nor used.
    """

    def __init__(self, folder: Path, size_limit: int) -> None:
        self._folder = folder
        self._files = Files(folder / "bodies", folder / "tmp")
        try:
            self._rows = Rows(folder / "bodies", size_limit, self._files.expect_orphans)
        except BaseException:
            self._files.close()
            raise
        self._proven: set[str] = set()
        self._sweeping = threading.Lock()

    def incoming(self) -> Incoming:
        """An empty body that is about to arrive.

        Raises:
            DiskFullError: no room for another file.
            CacheUnusableError: the folder of the cache cannot be written any more.
        """
        try:
            name, descriptor = self._files.create()
        except OSError as error:
            raise failure(error, self._folder) from error
        return Incoming(name, OpenFile(descriptor, self._folder), self.commit, self._files.forget)

    def commit(self, incoming: Sequence[tuple[str, Incoming]]) -> list[Body]:
        """Keep all that arrived of each body under its key, each whole or not at all, in place of what was there.

        Several take one transaction, which is most of what committing costs. A body is readable even when it could not
        be kept: a database that is full or read-only, or a body above the limit, costs a line in the log and another
        retrieval next time.

        Raises:
            ValueError: one is committed or discarded already, or a `write` failed. Nothing was committed.
        """
        whole = [one.arrived(key) for key, one in incoming]
        bodies = [one.body(arrived) for (_, one), arrived in zip(incoming, whole, strict=True)]
        try:
            self._keep(whole)
        except BaseException:
            for body in bodies:
                body.close()
            raise
        finally:
            for _, one in incoming:
                one.discard()
        return bodies

    def open(self, key: str, *, keep_content: bool = False) -> Body | None:
        """The body under `key`, or None when it is not there, or was damaged.

        Args:
            key: which.
            keep_content: a body that has to be proven now is held in memory, for `Body.content`, if it is small.

        Raises:
            CacheUnusableError: this process cannot open another file.
        """
        stored = self._rows.get(key)
        if not isinstance(stored, StoredBody):
            return None
        try:
            body = self._open(stored, keep_content=keep_content)
        except FileNotFoundError:
            return None  # its row goes when its turn comes, or with the next commit
        except _UnfitFileError as unfit:
            log.warning("%s: the body in the cache is damaged (%s); it is fetched again", key, unfit)
            self._rows.drop(key, only=stored)
            return None
        except OSError as error:
            raise failure(error, self._folder) from error
        self._rows.opened(key)
        return body

    def contains(self, key: str) -> bool:
        """Whether there is a body under `key`; not whether it is undamaged."""
        stored = self._rows.get(key)
        return isinstance(stored, StoredBody) and self._files.exists(stored.file_name)

    def discard(self, key: str) -> None:
        """Keep nothing under `key`. Whoever has the body open can go on reading."""
        self._rows.drop(key)

    def close(self) -> None:
        """Let go of everything; bodies that are open stay readable, arriving ones are lost."""
        self._rows.close()
        self._files.close()

    def _keep(self, bodies: Sequence[Arrived]) -> None:
        finished = [body for body in bodies if self._finish(body)]
        if not finished:
            return
        if not self._rows.put_all([(one.key, StoredBody(one.name, one.size, one.checksum)) for one in finished]):
            for one in finished:
                self._files.remove(one.name)
            return
        for one in finished:
            self._files.forget(one.name)
            self._trust(one.name)
        self._rows.evict()
        if self._files.orphans_possible:
            self._sweep()

    def _finish(self, body: Arrived) -> bool:
        if body.size > self._rows.size_limit:
            log.info("%s: not kept, for its %d bytes alone are above the limit of the cache", body.key, body.size)
            return False
        try:
            self._files.finish(body.name)
        except (CacheUnusableError, OSError) as error:
            log.warning("%s: not kept in the cache (%s)", body.key, error)
            return False
        return True

    def _open(self, stored: StoredBody, *, keep_content: bool) -> Body:
        try:
            descriptor = self._files.open(stored.file_name)
        except OSError as error:
            if error.errno in _UNFIT:
                raise _UnfitFileError(error.strerror) from error
            raise
        status = os.fstat(descriptor)
        if not is_own_file(status):
            os.close(descriptor)
            raise _UnfitFileError("not a file of this user")
        file = OpenFile(descriptor, self._folder)
        try:
            content = file.read(stored.size, 0) if keep_content and stored.size <= _CONTENT_BYTES else None
            self._prove(file, status.st_size, stored, content)
        except BaseException:
            file.release()
            raise
        return Body(file, stored.size, stored.checksum, content)

    def _prove(self, file: OpenFile, size: int, stored: StoredBody, content: bytes | None) -> None:
        if size != stored.size:
            raise _UnfitFileError(f"{size} bytes instead of {stored.size}")
        if stored.file_name in self._proven:
            return
        try:
            checksum = file.checksum() if content is None else checksum_of(content)
        except CacheUnusableError as error:  # a bad sector
            raise _UnfitFileError("the disk cannot read it") from error
        if checksum != stored.checksum:
            raise _UnfitFileError("its checksum is another one")
        self._trust(stored.file_name)

    def _trust(self, file_name: str) -> None:
        if len(self._proven) >= _PROVEN_NAMES:
            self._proven = set()  # a new one: other threads may be looking into the old
        self._proven.add(file_name)

    def _sweep(self) -> None:
        """Remove files whose rows were lost; one thread does it, the others go on."""
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            orphans = self._rows.exclusively(self._files.orphans)
            if orphans is not None:
                self._files.remove_orphans(orphans)
        except OSError as error:
            log.warning("files without a row were not looked for (%s)", error)
        finally:
            self._sweeping.release()
