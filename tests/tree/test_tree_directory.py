from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_samples import one_study
from tree_world import USER_LISTS, directory, walk

from kheopsfs.tree.directory import Directory, changes
from kheopsfs.tree.junk import is_junk_name
from kheopsfs.tree.names import NameStyle
from kheopsfs.tree.nodes import Folder, Link
from kheopsfs.tree.views import root


def link(name: str, ino: int = 5, mtime: int = 0, target: str = "x") -> Link:
    return Link(name=name, ino=ino, parent_ino=2, mtime=mtime, target=target)


def test_entries_are_in_byte_order_and_found_by_name() -> None:
    nodes = [link("b"), link("a_"), link("a.jpg"), link("é"), link("a")]
    listing = Directory(nodes)
    assert [node.name for node in listing] == ["a", "a.jpg", "a_", "b", "é"]
    assert len(listing) == len(listing.entries) == 5
    assert listing.find("b") is listing.find(b"b") is nodes[0]
    assert listing.find("é".encode()) is nodes[3]
    assert listing.find("B") is None
    assert listing.find(b"\xff\xfe") is None
    assert listing.find("") is None


def test_changes_tell_what_the_kernel_must_hear() -> None:
    old = Directory([link("gone"), link("same"), link("older", mtime=1), link("replaced", ino=7)])
    new = Directory([link("same"), link("older", mtime=2), link("replaced", ino=8), link("new")])
    assert changes(old, new) == (["gone", "replaced"], ["older"], ["new"])
    assert changes(old, old) == ([], [], [])


_nodes = st.builds(link, st.text("abc", min_size=1, max_size=2), st.integers(2, 4), st.integers(0, 1))
_listings = st.lists(_nodes, unique_by=lambda node: node.name).map(Directory)


@given(_listings, _listings)
def test_changes_lead_from_the_old_listing_to_the_new(old: Directory, new: Directory) -> None:
    """Whoever follows them, starting with the old listing, ends up with the new one."""

    @dataclass
    class Kernel:
        entries: dict[str, int] = field(default_factory=dict)
        attributes: dict[str, int] = field(default_factory=dict)

    seen = Kernel({node.name: node.ino for node in old}, {node.name: node.mtime for node in old})
    found = changes(old, new)
    for name in found.removed:
        del seen.entries[name], seen.attributes[name]
    for name in found.changed:
        del seen.attributes[name]
    for name in found.added:
        assert name not in seen.entries
    for node in new:
        seen.entries.setdefault(node.name, node.ino)
        seen.attributes.setdefault(node.name, node.mtime)
    assert seen.entries == {node.name: node.ino for node in new}
    assert seen.attributes == {node.name: node.mtime for node in new}
    assert all(list(names) == sorted(names) for names in found)


def test_a_new_description_moves_the_name_and_keeps_the_inode() -> None:
    studies = walk(root("user"), USER_LISTS)["studies"]
    assert isinstance(studies, Folder)
    old = Directory(studies.children([one_study("1.2", StudyDescription="Head"), one_study("1.3")]))
    new = Directory(studies.children([one_study("1.2", StudyDescription="Neck"), one_study("1.3"), one_study("1.4")]))
    found = changes(old, new)
    assert [name.split("_")[1] for name in found.removed] == ["Head"]
    assert found.changed == []
    assert len(found.added) == 2
    assert {node.ino for node in old} < {node.ino for node in new}


def test_an_arrival_changes_no_entry() -> None:
    top = root("user")
    for folder in walk(top, USER_LISTS).values():
        if isinstance(folder, Folder) and folder.query is not None:
            listing = directory(folder, USER_LISTS)
            without_last = Directory(folder.children(USER_LISTS[folder.query][:-1]))
            found = changes(without_last, listing)
            assert (found.removed, found.changed) == ([], [])
            assert found.added or len(listing) == len(without_last)


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".Trash",
            ".Trash-1000",
            ".hidden",
            ".DS_Store",
            "._file.dcm",
            ".git",
            ".hg",
            ".svn",
            ".nomedia",
            ".directory",
        ),
        *(".xdg-volume-info", ".Spotlight-V100", ".fseventsd", ".metadata_never_index", "autorun.inf", "AutoRun.inf"),
        *("Desktop.ini", "Thumbs.db", "~$x.docx", "$RECYCLE.BIN", "System Volume Information", "Icon\r", b".Trash"),
        *(b"THUMBS.DB", b".\xff"),
    ],
)
def test_junk(name: str | bytes) -> None:
    assert is_junk_name(name)


@pytest.mark.parametrize("style", NameStyle)
def test_no_node_has_a_junk_name(style: NameStyle) -> None:
    paths = walk(root("user", style), USER_LISTS)
    junk = {path for path, node in paths.items() if is_junk_name(node.name) or is_junk_name(node.name.encode())}
    assert junk == {".nomedia"}, "which is at the root, where names are not guessed"
    assert not is_junk_name(b"\xff")
