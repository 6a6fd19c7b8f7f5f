"""The pyfuse3 operations: the kernel's questions, put to the tree and the library. Thin: decides nothing itself.

Look-ups and listings inside one directory are serialised by the kernel, so `lookup` answers from the directory's
listing in memory and never asks the server for a single name. `open` returns when the whole body is on our disk, or
when a large instance of known size begins to arrive; everything after that is a local file. `access`, `flush` and all
writes stay unimplemented: the kernel remembers the ENOSYS of the first two for good, and answers the rest with EROFS
itself because the mount is read-only.

Invariant: between awaits a handler changes nothing that another handler is in the middle of.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pyfuse3
import trio

from kheopsfs.errors import StalledError
from kheopsfs.fetch import ArrivingBody, Library
from kheopsfs.fetch.library import Size
from kheopsfs.kheops.contents import InstanceFile
from kheopsfs.mount import xattrs
from kheopsfs.mount.ahead import Ahead
from kheopsfs.mount.attributes import SETTLED_TIMEOUT, Attributes
from kheopsfs.mount.directories import Directories
from kheopsfs.mount.handles import Handles, OpenFolder, read_body
from kheopsfs.mount.inodes import Inode, Inodes
from kheopsfs.mount.pages import Pages
from kheopsfs.mount.requests import Requests, closing_handler, handler
from kheopsfs.store import Body
from kheopsfs.tree.directory import Directory
from kheopsfs.tree.junk import is_junk_name
from kheopsfs.tree.nodes import File, Folder, Link

ABSENT_TIMEOUT = 1.0  # seconds the kernel believes that a name is not there; it may arrive with the next listing
LISTING_DEADLINE = 600.0  # seconds, all pages of the longest list together; each single wait ends long before
NAME_BYTES = 255  # NAME_MAX as statfs says it; ours are shorter

Opened = Body | ArrivingBody | bytes
UNPROVEN = "unproven"  # in place of a checksum: pages that must not outlive the handle that read them


class KheopsOperations(pyfuse3.Operations):
    """Albums, studies and series as directories, instances and renditions as files."""

    supports_dot_lookup = False

    def __init__(self, library: Library, root: Folder, attributes: Attributes, mountpoint: Path) -> None:
        super().__init__()
        self.requests = Requests()
        self.answering = trio.Event()
        self.inodes = Inodes(root)
        self.directories = Directories(library, self.inodes)
        self.ahead = Ahead(library, self.inodes, mountpoint)
        self._library = library
        self._attributes = attributes
        self._pages = Pages()
        self._files: Handles[Opened] = Handles()
        self._listings: Handles[OpenFolder] = Handles()

    def admit(self) -> None:
        """Refuse everything while the token is dead."""
        self._library.admit()

    def init(self) -> None:
        """The kernel's first request is being answered."""
        self.answering.set()

    def close(self) -> None:
        """After the end of the mount: let go of what is still open."""
        self.ahead.close()
        self._files.close_all(_close)

    # -- names -------------------------------------------------------------------------------------------------------

    @handler
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """One name in a folder, answered from the folder's listing."""
        if len(name) > NAME_BYTES:  # the kernel lets FUSE have names as long as paths
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        if parent_inode != pyfuse3.ROOT_INODE and is_junk_name(name):
            return self._attributes.absent(seconds=SETTLED_TIMEOUT)
        directory = await self._directory(self.inodes.folder(parent_inode))
        node = directory.find(name)
        if node is None:
            return self._attributes.absent(seconds=ABSENT_TIMEOUT)
        return self._tell(self.inodes.looked_up(node))

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """The kernel dropped references; must not raise."""
        self.inodes.forget(inode_list)

    @handler
    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Attributes; waits for a retrieval that is about to settle the size."""
        known = self.inodes[inode]
        if known.settled is None and isinstance(known.node, File) and not isinstance(known.node.content, bytes):
            await self._library.settle(known.node.content)
        return self._tell(known)

    @handler
    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileNameT:
        """The target of a symbolic link."""
        node = self.inodes[inode].node
        if not isinstance(node, Link):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return node.target.encode()

    # -- directories -------------------------------------------------------------------------------------------------

    @handler
    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        """Fix the listing that this handle will show."""
        folder = self.inodes.folder(inode)
        return self._listings.add(OpenFolder(folder, await self._directory(folder)))

    @handler
    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Entries from `start_id` on, with their attributes, as many as the kernel takes."""
        opened = self._listings[fh]
        if start_id == 0 and opened.was_read:
            opened.directory = await self._directory(opened.folder)
        opened.was_read = True
        entries = opened.directory.entries
        for position in range(start_id, len(entries)):
            inode = self.inodes.looked_up(entries[position])
            if not pyfuse3.readdir_reply(token, entries[position].name.encode(), self._tell(inode), position + 1):
                self.inodes.forget([(inode.node.ino, 1)])  # the reply is full: the kernel did not take this one
                return

    @closing_handler
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """Close a directory."""
        self._listings.pop(fh)

    async def _directory(self, folder: Folder) -> Directory:
        with trio.move_on_after(LISTING_DEADLINE):
            return await self.directories.of(folder)
        raise StalledError("the server took too long to list a folder")

    # -- files -------------------------------------------------------------------------------------------------------

    @handler
    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Have the whole body on our disk, and the kernel's idea of it in step."""
        known = self.inodes[inode]
        if not isinstance(known.node, File):
            raise pyfuse3.FUSEError(errno.EISDIR)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        content = known.node.content
        if isinstance(content, bytes):
            return pyfuse3.FileInfo(fh=self._files.add(content), keep_cache=True)
        await self.ahead.arrive_at(known)
        body = await self._library.open(content, lambda: self.directories.following(known.node))
        # Pages of an earlier body are good only if this is the same body.
        before, known.checksum = known.checksum, UNPROVEN if isinstance(body, ArrivingBody) else body.checksum
        keep_cache = before is None or before == known.checksum != UNPROVEN
        if before is None and isinstance(body, Body):
            await self._pages.fill(inode, body)
        if known.told_size not in (None, body.size):
            known.settled = None
            pyfuse3.invalidate_inode(inode, attr_only=True)
        if before is None:
            self.ahead.expect(self.directories.next_settled(known.node))
        return pyfuse3.FileInfo(fh=self._files.add(body), keep_cache=keep_cache)

    @handler
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """All that was asked for, up to the end of the file."""
        opened = self._files[fh]
        if isinstance(opened, bytes):
            return opened[off : off + size]
        return await read_body(opened, off, size)

    @closing_handler
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Close a file."""
        _close(self._files.pop(fh))

    # -- the rest ----------------------------------------------------------------------------------------------------

    @handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Nothing is known of the server's disks; what `df` should show is nothing."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_namemax = NAME_BYTES
        return data

    @handler
    async def listxattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        """The names of the extended attributes."""
        return [name.encode() for name in xattrs.names(self.inodes[inode].node)]

    @handler
    async def getxattr(self, inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """One extended attribute."""
        value = await xattrs.value(self.inodes[inode].node, name.decode(errors="replace"), self._library)
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value.encode()

    def _tell(self, inode: Inode) -> pyfuse3.EntryAttributes:
        """A node's attributes for the kernel, and a note of the size it is told."""
        if inode.settled is not None:
            return inode.settled
        content = inode.node.content if isinstance(inode.node, File) else b""
        size = Size(len(content), exact=True) if isinstance(content, bytes) else self._library.size(content)
        inode.told_size = size.size
        attributes = self._attributes.of(inode.node, size)
        if size.exact and isinstance(content, InstanceFile):
            inode.settled = attributes
        return attributes


def _close(opened: Opened) -> None:
    if not isinstance(opened, bytes):
        opened.close()
