"""A body in the hands of this process: arriving (`Incoming`), or whole (`Body`).

Both read from a descriptor, not from a name: an open body stays readable when it is evicted, replaced, or was never
kept. Several threads may read while one writes. A descriptor is closed when its last user has let go *and* no read is
under way, so that a read can never hit a number that meanwhile belongs to another file.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import xxhash

from kheopsfs.errors import CacheUnusableError
from kheopsfs.store.folders import failure

_CHECK_PIECE = 2**20
"""Bytes to read at a time when a checksum is taken. The file is then in the page cache, for the reader to come."""


class OpenFile:
    """A descriptor that stays open until everyone who holds it has let go.

    Args:
        descriptor: made ours; the maker is the first holder.
        folder: of the cache, for messages.
    """

    def __init__(self, descriptor: int, folder: Path) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=0)  # closes itself should it be forgotten
        self._folder = folder
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> Self:
        """One more holder. Raises ValueError when the file is closed."""
        with self._lock:
            if not self._holders:
                raise ValueError("the body is closed")
            self._holders += 1
        return self

    def release(self) -> None:
        """One holder fewer."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._file.close()

    @contextmanager
    def in_use(self) -> Iterator[int]:
        """The descriptor, open at least until the block ends, and an understood error for what the disk says."""
        self.hold()
        try:
            yield self._file.fileno()
        except OSError as error:
            raise failure(error, self._folder) from error
        finally:
            self.release()

    def fileno(self) -> int:
        """The descriptor."""
        return self._file.fileno()

    def read(self, length: int, offset: int) -> bytes:
        """`length` bytes, or fewer where the file ends."""
        with self.in_use() as descriptor:
            data = os.pread(descriptor, length, offset)
            while (
                data and len(data) < length and (more := os.pread(descriptor, length - len(data), offset + len(data)))
            ):
                data += more
            return data

    def checksum(self) -> str:
        """XXH3 (128 bits) of the whole file, hexadecimal."""
        digest = xxhash.xxh3_128()
        offset = 0
        while piece := self.read(_CHECK_PIECE, offset):
            digest.update(piece)
            offset += len(piece)
        return digest.hexdigest()


def checksum_of(content: bytes) -> str:
    """XXH3 (128 bits), hexadecimal."""
    return xxhash.xxh3_128_hexdigest(content)


class Body:
    """A whole body, open for reading; it never changes.

    Attributes:
        size: in bytes.
        checksum: XXH3 (128 bits), hexadecimal.
    """

    def __init__(self, file: OpenFile, size: int, checksum: str, content: bytes | None = None) -> None:
        """`content`: all of it, where it has just been read anyway."""
        self.size = size
        self.checksum = checksum
        self._file: OpenFile | None = file
        self._content = content

    def fileno(self) -> int:
        """The descriptor, good until `close`. Raises ValueError after that."""
        return self._open().fileno()

    def pread(self, length: int, offset: int) -> bytes:
        """The `length` bytes from `offset` on; fewer only where the body ends.

        Raises:
            CacheUnusableError: the disk cannot read them, or the file was cut short behind our back.
            ValueError: the body is closed.
        """
        expected = max(0, min(length, self.size - offset))
        data = self._open().read(expected, offset)
        if len(data) < expected:
            raise CacheUnusableError("a file of the cache was cut short while it was open: open it again")
        return data

    def content(self) -> bytes:
        """All of it. Raises as `pread`."""
        return self._content or self.pread(self.size, 0)

    def dup(self) -> "Body":
        """The same body once more, to be closed on its own. Raises ValueError when this one is closed."""
        return Body(self._open().hold(), self.size, self.checksum)

    def close(self) -> None:
        """Let go of the file. Harmless when done already."""
        file, self._file = self._file, None
        if file:
            file.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> OpenFile:
        if self._file is None:
            raise ValueError("the body is closed")
        return self._file


Commit = Callable[[Sequence[tuple[str, "Incoming"]]], list[Body]]
"""Makes arriving bodies those of their keys."""

Forget = Callable[[str], None]
"""Removes the arriving file of that name."""


class Arrived(NamedTuple):
    """A body that has arrived whole, on its way into the cache: where it is, what it is to be, and what it must be.

    Attributes:
        name: of the arriving file.
        key: under which it is to be kept.
        size: in bytes.
        checksum: XXH3 (128 bits), hexadecimal.
    """

    name: str
    key: str
    size: int
    checksum: str


class Incoming:
    """A body that is arriving. One thread at a time writes; any thread may read what has arrived.

    As a context manager it discards itself at the end, unless it was committed.

    Attributes:
        size: bytes that have arrived.
    """

    def __init__(self, name: str, file: OpenFile, commit: Commit, forget: Forget) -> None:
        self.size = 0
        self._name = name
        self._file: OpenFile | None = file
        self._commit = commit
        self._forget = forget
        self._digest = xxhash.xxh3_128()
        self._broken = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`.

        Raises:
            DiskFullError: no room left on the disk, or in the user's quota. The body can only be discarded.
            CacheUnusableError: the disk cannot write. Likewise.
            ValueError: committed or discarded already.
        """
        left = memoryview(data).cast("B")
        self._digest.update(left)
        self._broken = True  # until all is written
        with self._open().in_use() as descriptor:
            while left:
                written = os.write(descriptor, left)
                self.size += written
                left = left[written:]
        self._broken = False

    def fileno(self) -> int:
        """The descriptor, good until `commit` or `discard`. Raises ValueError after that."""
        return self._open().fileno()

    def commit(self, key: str) -> Body:
        """Like `Bodies.commit`, for this one alone."""
        return self._commit([(key, self)])[0]

    def arrived(self, key: str) -> Arrived:
        """What there is to commit. Raises ValueError: committed or discarded already, or a `write` failed."""
        self._open()
        if self._broken:
            raise ValueError("a body that could not be written whole cannot be committed")
        return Arrived(self._name, key, self.size, self._digest.hexdigest())

    def so_far(self) -> Body:
        """What has arrived, for reading on its own: it stays readable whatever becomes of the rest."""
        return Body(self._open().hold(), self.size, "")

    def body(self, arrived: Arrived) -> Body:
        """The file for reading, on its own."""
        return Body(self._open().hold(), arrived.size, arrived.checksum)

    def discard(self) -> None:
        """Remove what arrived, unless it was committed. Harmless when done already."""
        file, self._file = self._file, None
        if file:
            self._forget(self._name)
            file.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _open(self) -> OpenFile:
        if self._file is None:
            raise ValueError("the body is committed or discarded")
        return self._file
