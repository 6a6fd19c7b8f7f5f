"""What is open: bodies being read, directories being listed.

A read is answered in full or not at all: a short answer in the middle of a file is taken for its end, and `cp` then
writes a truncated copy and succeeds. A directory handle holds the listing it was opened with, so that a refresh in
between neither skips nor repeats a name; who goes back to its start (rewinddir) gets the folder as it is then.
"""

import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import pyfuse3
import trio

from kheopsfs.fetch import ArrivingBody
from kheopsfs.store import Body
from kheopsfs.tree.directory import Directory
from kheopsfs.tree.nodes import Folder

T = TypeVar("T")

Reader = Callable[[int, int], Awaitable[bytes]]


class Handles(Generic[T]):
    """Open things by file handle number; numbers are never reused while the mount lives."""

    def __init__(self) -> None:
        self._open: dict[int, T] = {}
        self._last = 0

    def __getitem__(self, fh: int) -> T:
        try:
            return self._open[fh]
        except KeyError:
            raise pyfuse3.FUSEError(errno.EBADF) from None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, opened: T) -> int:
        """The handle number of something newly opened."""
        self._last += 1
        self._open[self._last] = opened
        return self._last

    def pop(self, fh: int) -> T:
        """Close."""
        opened = self[fh]
        del self._open[fh]
        return opened

    def close_all(self, close: Callable[[T], None]) -> None:
        """After the end of the mount: the kernel does not release what is still open then."""
        while self._open:
            close(self._open.popitem()[1])


@dataclass(slots=True)
class OpenFolder:
    """A directory being listed. `was_read`: entries were given out, so that offset 0 means going back."""

    folder: Folder
    directory: Directory
    was_read: bool = False


async def read_body(body: Body | ArrivingBody, offset: int, length: int) -> bytes:
    """`length` bytes of a body from `offset` on, fewer only at its end.

    What the page cache holds is read at once; only a read that would wait for the disk goes to a worker thread. Of an
    instance that is still arriving, the bytes are waited for.

    Raises:
        FUSEError: EIO, the file in the cache is shorter than it was when it was proven.
        KheopsfsError: what is missing of an instance did not come.
    """
    length = max(0, min(length, body.size - offset))
    if isinstance(body, ArrivingBody):
        data = await body.pread(length, offset)
    elif (in_memory := _read_if_in_memory(body, offset, length)) is not None:
        data = in_memory
    else:
        data = await trio.to_thread.run_sync(body.pread, length, offset)
    if len(data) != length:
        raise pyfuse3.FUSEError(errno.EIO)
    return data


def _read_if_in_memory(body: Body, offset: int, length: int) -> bytes | None:
    buffer = bytearray(length)
    try:
        count = os.preadv(body.fileno(), [buffer], offset, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: this file system cannot tell
        return None
    return bytes(buffer) if count == length else None
