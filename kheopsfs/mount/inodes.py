"""The inodes that the kernel knows, and what it has been told about each.

An inode number is what the tree says it is: a hash of what the node is, the same for every mount. So the table only
keeps the nodes that the kernel may ask about, for as long as it may (its *lookup count*), and remembers what the kernel
was told, because a size that turns out different must be taken back before an open returns.

Invariants: the root is always there. `forget` never raises: it comes in batches, and not at all after an unmount.
"""

import errno
from collections import defaultdict
from collections.abc import Sequence

import pyfuse3

from kheopsfs.kheops.contents import InstanceFile
from kheopsfs.tree.nodes import File, Folder, Node


class Inode:
    """One node that the kernel knows."""

    __slots__ = ("_node", "checksum", "lookups", "settled", "told_size")

    def __init__(self, node: Node) -> None:
        self._node = node
        self.lookups = 0
        self.settled: pyfuse3.EntryAttributes | None = None  # what is told as long as nothing about it changes
        self.told_size: int | None = None  # bytes; what the kernel may be holding
        self.checksum: str | None = None  # of the body whose pages the kernel may be holding

    @property
    def node(self) -> Node:
        """What it is now."""
        return self._node

    @node.setter
    def node(self, node: Node) -> None:
        if node is not self._node:
            self._node = node
            self.settled = None


class Inodes:
    """The table of inodes."""

    def __init__(self, root: Folder) -> None:
        self._table: dict[int, Inode] = {pyfuse3.ROOT_INODE: Inode(root)}
        self._of_instance: defaultdict[str, set[int]] = defaultdict(set)  # by SOPInstanceUID

    def __getitem__(self, ino: int) -> Inode:
        try:
            return self._table[ino]
        except KeyError:
            raise pyfuse3.FUSEError(errno.ESTALE) from None

    def __contains__(self, ino: int) -> bool:
        return ino in self._table

    def __len__(self) -> int:
        return len(self._table)

    def folder(self, ino: int) -> Folder:
        """The folder with this number."""
        node = self[ino].node
        if not isinstance(node, Folder):
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return node

    def get(self, ino: int) -> Inode | None:
        """The inode with this number, if the kernel knows it."""
        return self._table.get(ino)

    def of_instance(self, SOPInstanceUID: str) -> list[Inode]:
        """The files that the kernel knows of one instance; it may be in several folders."""
        return [self._table[ino] for ino in self._of_instance.get(SOPInstanceUID, ())]

    def path(self, ino: int) -> str | None:
        """Where the kernel found it, from the root; None if it has forgotten the way."""
        names: list[str] = []
        while ino != pyfuse3.ROOT_INODE:
            inode = self._table.get(ino)
            if inode is None:
                return None
            names.append(inode.node.name)
            ino = inode.node.parent_ino
        return "/".join(reversed(names))

    def looked_up(self, node: Node) -> Inode:
        """The kernel was told of `node` once more."""
        inode = self._table.get(node.ino)
        if inode is None:
            inode = self._table[node.ino] = Inode(node)
            if (SOPInstanceUID := _instance(node)) is not None:
                self._of_instance[SOPInstanceUID].add(node.ino)
        inode.node = node
        inode.lookups += 1
        return inode

    def update(self, node: Node) -> None:
        """The lists say something new about a node that the kernel may know."""
        if (inode := self._table.get(node.ino)) is not None:
            inode.node = node

    def forget(self, forgotten: Sequence[tuple[int, int]]) -> None:
        """The kernel dropped so many references to each."""
        for ino, count in forgotten:
            inode = self._table.get(ino)
            if inode is None or ino == pyfuse3.ROOT_INODE:
                continue
            inode.lookups -= count
            if inode.lookups <= 0:
                del self._table[ino]
                self._forget_instance(inode.node)

    def _forget_instance(self, node: Node) -> None:
        if (SOPInstanceUID := _instance(node)) is not None:
            files = self._of_instance[SOPInstanceUID]
            files.discard(node.ino)
            if not files:
                del self._of_instance[SOPInstanceUID]


def _instance(node: Node) -> str | None:
    """The SOPInstanceUID of an instance's file; None for everything else."""
    match node:
        case File(content=InstanceFile(instance)):
            return instance.SOPInstanceUID
    return None
