"""The least that a pyfuse3 file system can be: one folder of equal files from memory. What it takes, FUSE takes."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyfuse3
import trio

TIMEOUT = 86_400.0  # seconds, as for settled files of kheopsfs
FIRST_FILE = pyfuse3.ROOT_INODE + 1


class _NullOperations(pyfuse3.Operations):
    def __init__(self, count: int, body: bytes) -> None:
        super().__init__()
        self._body = body
        self._names = [b"%05d.dcm" % number for number in range(1, count + 1)]
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(inode)
        folder = inode == pyfuse3.ROOT_INODE
        entry.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o555 if folder else stat.S_IFREG | 0o444)
        entry.st_size = 0 if folder else len(self._body)
        entry.entry_timeout = entry.attr_timeout = TIMEOUT
        return entry

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if name not in self._numbers:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(FIRST_FILE + self._numbers[name])

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for number in range(start_id, len(self._names)):
            name = pyfuse3.FileNameT(self._names[number])
            if not pyfuse3.readdir_reply(token, name, self._attributes(FIRST_FILE + number), number + 1):
                return

    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        return self._body[off : off + size]

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Inodes are numbers here."""


def _serve(mountpoint: str, count: int, body: bytes) -> None:
    pyfuse3.init(_NullOperations(count, body), mountpoint, {*pyfuse3.default_options, "fsname=nullfs", "ro"})
    print("mounted", flush=True)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


class NullMount:
    """The null file system in a process of its own, until the end of the `with`."""

    def __init__(self, mountpoint: Path, count: int, body: Path) -> None:
        self.path = mountpoint
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(mountpoint), str(count), str(body)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the null file system could not be mounted")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["fusermount3", "-u", str(self.path)], check=True)
        self._process.wait(10)


if __name__ == "__main__":
    os.umask(0o077)
    _serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes())
