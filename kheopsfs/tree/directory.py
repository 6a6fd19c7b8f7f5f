"""A listing of one folder, and what differs between two of them.

A directory is what a folder's children were at one moment. It never changes: a refreshed list makes another one, and
the mount moves from one to the other by telling the kernel what `changes` found. An offset into `entries` therefore
means the same for as long as a reader holds its directory, whatever arrives meanwhile.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

from kheopsfs.tree.nodes import Node

_name = attrgetter("name")


class Directory:
    """The entries of a folder in byte order of their names.

    Attributes:
        entries: the nodes; their indices serve as offsets for readdir.
    """

    __slots__ = ("entries",)

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.entries: tuple[Node, ...] = tuple(sorted(nodes, key=_name))

    def find(self, name: str | bytes) -> Node | None:
        """The entry of that name, None when there is none. Bytes are UTF-8, as the kernel hands them over."""
        if isinstance(name, bytes):
            try:
                name = name.decode()
            except UnicodeDecodeError:
                return None
        place = bisect_left(self.entries, name, key=_name)
        return self.entries[place] if place < len(self.entries) and self.entries[place].name == name else None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.entries)


class Changes(NamedTuple):
    """What a new listing means for names that the kernel may remember, each in byte order.

    Attributes:
        removed: gone, or something else now (another inode): the entry has to be forgotten.
        changed: the same thing, but its attributes differ (time, list row): they have to be read again.
        added: new; matters to whoever was told that there is no such name.
    """

    removed: list[str]
    changed: list[str]
    added: list[str]


def changes(old: Directory, new: Directory) -> Changes:
    """How `new` differs from `old`."""
    result = Changes([], [], [])
    for before in old:
        after = new.find(before.name)
        if after is None or after.ino != before.ino:
            result.removed.append(before.name)
        elif after != before:
            result.changed.append(before.name)
    result.added.extend(node.name for node in new if old.find(node.name) is None)
    return result
