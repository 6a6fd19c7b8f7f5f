"""What `stat` says of a node, and for how long the kernel may believe it.

A size is an upper bound until the file was seen whole; a bound is never kept by the kernel (timeout 0), so that the
first `fstat` after `open` is exact. What is exact never changes, so it is believed for a day.
"""

import stat
from dataclasses import dataclass

import pyfuse3

from kheopsfs.fetch.library import Size
from kheopsfs.kheops.contents import InstanceFile
from kheopsfs.tree.nodes import File, Folder, Link, Node

SETTLED_TIMEOUT = 86_400.0  # seconds: a day, for what cannot change; a change is pushed to the kernel anyway
BLOCK_BYTES = 512  # the unit of st_blocks (stat(2)); never 0 blocks, which `tar` and `cp` take for a hole
READ_BYTES = 128 * 1024  # st_blksize: what the kernel asks for at once

FOLDER_MODE = stat.S_IFDIR | 0o555
FILE_MODE = stat.S_IFREG | 0o444
LINK_MODE = stat.S_IFLNK | 0o777


@dataclass(frozen=True, slots=True)
class Attributes:
    """How nodes of this mount look. `list_ttl`: seconds for which what a list said is believed."""

    uid: int
    gid: int
    list_ttl: float

    def of(self, node: Node, size: Size) -> pyfuse3.EntryAttributes:
        """The attributes of a node; `size` counts for files."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = node.ino
        entry.st_uid, entry.st_gid = self.uid, self.gid
        entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = node.mtime * 10**9
        entry.st_blksize = READ_BYTES
        entry.st_nlink = 1
        entry.entry_timeout = entry.attr_timeout = self.list_ttl
        match node:
            case Folder(query=query):
                entry.st_mode = FOLDER_MODE
                if query is None:
                    entry.entry_timeout = entry.attr_timeout = SETTLED_TIMEOUT
            case Link(target=target):
                entry.st_mode = LINK_MODE
                entry.st_size = len(target.encode())
            case File(content=content):
                entry.st_mode = FILE_MODE
                entry.st_size = size.size
                entry.st_blocks = max(1, -(-size.size // BLOCK_BYTES))
                if not size.exact:
                    entry.attr_timeout = 0
                elif isinstance(content, (bytes, InstanceFile)):
                    entry.entry_timeout = entry.attr_timeout = SETTLED_TIMEOUT
        return entry

    def absent(self, *, seconds: float) -> pyfuse3.EntryAttributes:
        """The answer that there is no such name, believed for so long."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = 0
        entry.entry_timeout = seconds
        return entry
