"""The kernel's pages of a file, filled before it asks for them: a copy of slices then needs no read request at all.

When a file is opened for the first time, its whole body goes to the kernel (FUSE's notify_store), if it is not larger
than `LARGEST_BODY`. What lies in memory goes at once, from the event loop itself: a hop to a worker thread takes as
long as the copy. That cannot wait for a page that a read of the same file holds, and with it for ourselves, because
nobody has read this inode since the kernel knows it; so `fill` must be called before any open of the inode was
answered, and only once. What the disk would have to be waited for goes through a worker thread.
"""

import contextlib
import os

import pyfuse3
import trio

from kheopsfs.store import Body

LARGEST_BODY = 4 * 1024 * 1024  # bytes: 1.4 to 2 × faster for slices; for what takes longer, readers need not wait


class Pages:
    """Fills pages from one buffer, because memory that is new each time has to be cleared each time."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(LARGEST_BODY))

    async def fill(self, inode: pyfuse3.InodeT, body: Body) -> None:
        """Have the kernel hold all of the body, if it can; if not, it will ask."""
        if body.size > LARGEST_BODY:
            return
        if (data := self._in_memory(body)) is not None:
            store_pages(inode, data)
        else:
            await trio.to_thread.run_sync(lambda: store_pages(inode, body.pread(body.size, 0)))

    def _in_memory(self, body: Body) -> memoryview | None:
        data = self._buffer[: body.size]
        try:
            count = os.preadv(body.fileno(), [data], 0, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: this file system cannot tell
            return None
        return data if count == body.size else None


def store_pages(inode: pyfuse3.InodeT, data: memoryview | bytes) -> None:
    """Give the kernel the whole content of a file whose size it knows."""
    with contextlib.suppress(OSError):  # memory is short, or the inode was forgotten
        pyfuse3.notify_store(inode, 0, data)  # type: ignore[arg-type]  # any buffer will do
