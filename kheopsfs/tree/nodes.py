"""The three things a path can lead to, as frozen values.

A node knows its name, its place (inode number, parent's number), its time, and what it stands for. It knows no size,
no body and no listing. A folder says by its `query` which list fills it and makes its children from the rows, as
often as asked and always the same; a file says by its `content` which body it holds. Equal nodes look the same to
whoever walks the mount, so comparing them tells what changed.

Nodes are slotted and untracked by the garbage collector, which is sound because they refer to no cycle: a parent is
known by number, children are made, not kept.
"""

from collections.abc import Sequence

import msgspec

from kheopsfs.kheops.contents import Content, InstanceFile, InstanceThumbnail, SeriesThumbnail, StudyZip
from kheopsfs.kheops.records import Instance, Query, Record, Series, Study


class Node(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What all nodes have.

    Attributes:
        name: the path component; NFC, at most 120 bytes of UTF-8. The root's is empty.
        ino: st_ino, 1 for the root; the same in every mount (`kheopsfs.tree.identity`).
        parent_ino: the st_ino of the folder that holds it; the root holds itself.
        mtime: whole seconds since the epoch, from the data; may be negative, for patients' data predate 1970.
    """

    name: str
    ino: int
    parent_ino: int
    mtime: int

    @property
    def record(self) -> Record | None:
        """The row of the list that the node stands for; None for what is in no list."""
        return None

    def __repr__(self) -> str:
        """Says no name and no row: both can hold a patient's name, and reprs end up in logs."""
        return f"<{type(self).__name__} {self.ino}>"


class Folder(Node, frozen=True, gc=False, kw_only=True):
    """A directory. `kheopsfs.tree.views` has its kinds."""

    @property
    def query(self) -> Query | None:
        """The list that fills the folder; None when its children are always the same."""
        return None

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """The entries in byte order of their names, from the rows of `query` in any order.

        Of rows with the same UID the first counts. A folder without a query ignores the rows.
        """
        raise NotImplementedError


class File(Node, frozen=True, gc=False, kw_only=True):
    """A regular file: a body of the server, or bytes of our own."""

    content: Content | bytes

    @property
    def record(self) -> Record | None:
        """The row of the instance, series or study that the file shows."""
        match self.content:
            case InstanceFile(instance=record) | InstanceThumbnail(instance=record):
                return record
            case SeriesThumbnail(series=record) | StudyZip(study=record):
                return record
            case _:
                return None


class Link(Node, frozen=True, gc=False, kw_only=True):
    """A symbolic link; `target` is relative to the folder that holds it."""

    target: str


def attributes_of(node: Node) -> dict[str, str]:
    """DICOM attributes of a node by keyword (or 8 hex digits): its own list row, and its UIDs down from the study.

    Empty for albums and for what is in no list. Addresses that a server puts into its rows (RetrieveURL) are left out:
    they can hold the token (contract: link authentication).
    """
    record = node.record
    if not isinstance(record, Study | Series | Instance):
        return {}
    attributes = {
        keyword: value for keyword, value in record.attributes().items() if not keyword.endswith(("URL", "URI"))
    }
    return attributes | _uids(record)


def url_path(node: Node) -> str | None:
    """The DICOMweb path of what the node stands for, below ``/api`` (PS3.18 10.1); None for other nodes."""
    record = node.record
    if not isinstance(record, Study | Series | Instance):
        return None
    resources = zip(("studies", "series", "instances"), _uids(record).values(), strict=False)
    return "".join(f"/{resource}/{UID}" for resource, UID in resources)


def _uids(record: Study | Series | Instance) -> dict[str, str]:
    """The UIDs that identify a record, from the study down."""
    levels = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return {keyword: getattr(record, keyword) for keyword in levels if hasattr(record, keyword)}
