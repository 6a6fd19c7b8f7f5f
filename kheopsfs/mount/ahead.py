"""Files that a reader will come to, made ready for it while it waits for another one.

Parts of a series arrive in any order, so a reader that goes by name waits for most of the stream at one of its first
files; a reader of kept files waits for each to be verified. Meanwhile the next ones can be made ready: proven, open,
and their pages in the kernel. What is then left of a file is one `open` and its copy.

The kernel drops all pages of a file when it learns another size, and it believes a bound until it asks again. So a
file whose size has just been settled is looked at first, by its path in the mount, from outside: the answer to that
`stat` is the exact size. A worker thread waits for both, never the event loop, which has to answer.

Invariants: a file is made ready at most once, and only if it is in the cache. Its reader, should it come meanwhile,
waits if that is under way, and else takes the file out of the queue. What cannot be made ready is left alone.
"""

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

import pyfuse3
import trio

from kheopsfs.errors import KheopsfsError
from kheopsfs.fetch import Library
from kheopsfs.mount.inodes import Inode, Inodes
from kheopsfs.mount.outside import Outside
from kheopsfs.mount.pages import LARGEST_BODY, store_pages
from kheopsfs.store import Body
from kheopsfs.tree.nodes import File

log = logging.getLogger(__name__)

MOST_WAITING = 2000  # files in the queue; what is beyond waits for its reader


class Ahead:
    """Makes files ready, one after the other. Run `work` as long as the mount lives."""

    def __init__(self, library: Library, inodes: Inodes, mountpoint: Path) -> None:
        self._library = library
        self._inodes = inodes
        self._mountpoint = mountpoint
        self._outside = Outside()
        self._queue: dict[int, Inode] = {}
        self._under_way: dict[int, trio.Event] = {}
        self._news = trio.Event()
        library.on_arrival(self._arrived)

    def expect(self, inodes: Iterable[Inode]) -> None:
        """A reader will come to these: make them ready if they are kept and it was not done yet."""
        for inode in inodes:
            ino = inode.node.ino
            known = ino in self._queue or ino in self._under_way
            if inode.checksum is None and not known and len(self._queue) < MOST_WAITING:
                self._queue[ino] = inode
                self._news.set()

    async def arrive_at(self, inode: Inode) -> None:
        """Its reader is here: wait until it is ready if that is under way, else leave it to the reader."""
        self._queue.pop(inode.node.ino, None)
        if (ready := self._under_way.get(inode.node.ino)) is not None:
            await ready.wait()

    async def work(self) -> None:
        """Make ready what is expected, for ever."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._queue:
                ino = next(iter(self._queue))
                inode = self._queue.pop(ino)
                ready = self._under_way[ino] = trio.Event()
                try:
                    await self._make_ready(inode)
                except Exception:  # a file that is not ready costs its reader a moment; the mount must not end for it
                    log.exception("a bug in kheopsfs; please report it")
                finally:
                    del self._under_way[ino]
                    ready.set()

    def close(self) -> None:
        """After the end of the mount."""
        self._outside.close()

    def _arrived(self, SOPInstanceUID: str, size: int) -> None:
        files = self._inodes.of_instance(SOPInstanceUID)
        for inode in files:
            if inode.checksum is not None and inode.told_size not in (None, size):
                # It was opened while it arrived, by a size that is no longer true.
                inode.settled = None
                pyfuse3.invalidate_inode(pyfuse3.InodeT(inode.node.ino), attr_only=True)
        self.expect(files)

    async def _make_ready(self, inode: Inode) -> None:
        path = self._inodes.path(inode.node.ino)
        if path is None or not isinstance(inode.node, File) or isinstance(inode.node.content, bytes):
            return
        with contextlib.suppress(KheopsfsError):  # its reader will hear of it
            await self._library.use_at_hand(inode.node.content, lambda body: self._fill(path, inode, body))

    def _fill(self, path: str, inode: Inode, body: Body) -> None:
        """In a worker thread."""
        if body.size > LARGEST_BODY or inode.checksum is not None:
            return
        inode.checksum = body.checksum
        with contextlib.suppress(OSError, ValueError):  # unmounted, forgotten, closed
            if inode.told_size != body.size:
                self._outside.stat(self._mountpoint / path)
            if inode.told_size == body.size:
                store_pages(pyfuse3.InodeT(inode.node.ino), body.content())
