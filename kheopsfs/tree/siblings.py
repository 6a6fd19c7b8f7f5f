"""What the entries of one folder have to do with each other: a common parent, an order, and that each is there once."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TypedDict, TypeVar

from kheopsfs.kheops.records import Record
from kheopsfs.tree.identity import inode
from kheopsfs.tree.nodes import Folder, Node
from kheopsfs.tree.times import UNDATED

RecordT = TypeVar("RecordT", bound=Record)


class Place(TypedDict):
    """The fields that every node has."""

    name: str
    ino: int
    parent_ino: int
    mtime: int


def place(parent: Folder, name: str, step: str, mtime: int) -> Place:
    """Where a node is: `step` says what it is among its siblings, whatever it is called."""
    return {"name": name, "ino": inode(parent.ino, step), "parent_ino": parent.ino, "mtime": mtime}


def static(parent: Folder, name: str) -> Place:
    """The place of a node that is always there and stands for no data: its name is what it is."""
    return place(parent, name, name, UNDATED)


def distinct(rows: Iterable[Record], kind: type[RecordT], UID: Callable[[RecordT], str]) -> list[RecordT]:
    """The rows of a list, each thing once; lists may repeat a row when they change between two pages."""
    things: dict[str, RecordT] = {}
    for row in rows:
        if not isinstance(row, kind):
            raise TypeError(f"a list of {kind.__name__} cannot hold a {type(row).__name__}")
        things.setdefault(UID(row), row)
    return list(things.values())


def ordered(nodes: Iterable[Node]) -> list[Node]:
    """In byte order of the names, which for UTF-8 is the order of code points."""
    return sorted(nodes, key=attrgetter("name"))
