"""Where the bytes of an instance are: on disk, in memory, or made up on the fly.

A body never changes and its size is known from the start. It is handed out in pieces that the socket can take as they
are: memory is sliced, not copied, and a file is read once, in order. Random access exists only for the readers that
render or describe an instance.
"""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

Bytes = bytes | memoryview

PIECE = 256 * 1024
"""Bytes per piece: large enough that the work per piece (one chunk header, one send) does not count."""


class Body(ABC):
    """The bytes of one DICOM file (PS3.10)."""

    size: int

    @abstractmethod
    def read_at(self, offset: int, length: int) -> Bytes:
        """At most `length` bytes from `offset`; fewer only at the end."""

    def pieces(self) -> Iterator[Bytes]:
        """All bytes, in order, `PIECE` at a time."""
        return (self.read_at(offset, PIECE) for offset in range(0, self.size, PIECE))

    def open(self) -> BinaryIO:
        """A file object for libraries that want one."""
        return cast(BinaryIO, _BodyReader(self))

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of all bytes."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


class MemoryBody(Body):
    """Bytes that are held in memory."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> Bytes:
        """A view into the memory."""
        return self._view[offset : offset + length]


class FileBody(Body):
    """A file on disk, delivered exactly as it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size

    def read_at(self, offset: int, length: int) -> Bytes:
        """One read of the file."""
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(length)

    def pieces(self) -> Iterator[Bytes]:
        """All bytes, with the file opened once."""
        with self.path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece

    def open(self) -> BinaryIO:
        """The file itself."""
        return self.path.open("rb")


class PatternBody(Body):
    """A header of its own, then a pattern that many bodies share, repeated to a given length.

    Costs no memory beyond its header however long it is. `shift` makes neighbours differ.
    """

    def __init__(self, header: bytes, pattern: memoryview, length: int, shift: int = 0) -> None:
        self._header = memoryview(header)
        self._pattern = pattern
        self._shift = shift
        self.size = len(header) + length

    def read_at(self, offset: int, length: int) -> Bytes:
        """A view where it lies in one stretch, else the stretches joined."""
        end = min(offset + length, self.size)
        stretches: list[Bytes] = []
        while offset < end:
            stretch = self._stretch(offset, end)
            stretches.append(stretch)
            offset += len(stretch)
        return stretches[0] if len(stretches) == 1 else b"".join(stretches)

    def _stretch(self, offset: int, end: int) -> memoryview:
        if offset < len(self._header):
            return self._header[offset:end]
        start = (offset - len(self._header) + self._shift) % len(self._pattern)
        return self._pattern[start : start + end - offset]


class _BodyReader(io.RawIOBase):
    """A body as a raw, seekable file."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._body.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._body.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
