"""The directories that were listed lately, and what the kernel must forget when they change.

A directory is derived from a listing of the library and lives as long as that listing's revision. When a list changes,
every folder that shows it (the same studies are in `studies/`, `thumbnails/studies/`, …) is derived again, and the
kernel is told about each name that went, came, or leads elsewhere. That happens in a task of its own, never inside the
request that noticed: invalidating an entry while its folder is being looked up in would wait for itself.
"""

import contextlib
import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from operator import attrgetter

import pyfuse3
import trio

from kheopsfs.errors import KheopsfsError
from kheopsfs.fetch import Library
from kheopsfs.kheops.contents import InstanceFile
from kheopsfs.kheops.records import InstancesQuery, Query
from kheopsfs.mount.inodes import Inode, Inodes
from kheopsfs.tree.directory import Directory, changes
from kheopsfs.tree.nodes import File, Folder, Node

log = logging.getLogger(__name__)

ENTRIES_AT_HAND = 400_000  # over all directories; a few hundred bytes each
NEXT_FILES = 4  # to make ready for a reader that goes by name; each is at most a few megabytes
INLINE_ROWS = 500  # more are named and sorted in a worker thread, so that other requests do not wait for it


class Directories:
    """What each folder holds now."""

    def __init__(self, library: Library, inodes: Inodes) -> None:
        self._library = library
        self._inodes = inodes
        self._at_hand: OrderedDict[int, tuple[int, Folder, Directory]] = OrderedDict()
        self._entries = 0
        self._changed: dict[Query, None] = {}
        self._replaced: list[tuple[Folder, Directory, Directory]] = []
        self._news = trio.Event()
        self._all_is_stale = False
        library.on_change(self._note)
        library.on_dead(self._note_death)

    async def of(self, folder: Folder) -> Directory:
        """The entries of a folder; waits for its list at most once.

        Raises:
            KheopsfsError: the list is not to be had.
        """
        if folder.query is None:
            return self._at_hand_for(folder, 0) or self._hold(folder, 0, Directory(folder.children(())))
        listing = await self._library.listing(folder.query)
        if (directory := self._at_hand_for(folder, listing.revision)) is not None:
            return directory
        if len(listing.rows) <= INLINE_ROWS:
            directory = Directory(folder.children(listing.rows))
        else:
            directory = await trio.to_thread.run_sync(lambda: Directory(folder.children(listing.rows)))
        await self._library.load_sizes(
            node.content for node in directory if isinstance(node, File) and not isinstance(node.content, bytes)
        )
        return self._hold(folder, listing.revision, directory)

    def following(self, node: Node) -> InstancesQuery | None:
        """The list of the series after the one that holds `node`, in the order of the study's folder; None if none."""
        series = self._inodes[node.parent_ino].node
        held = self._at_hand.get(series.parent_ino)
        if held is None:
            return None
        later = (entry for entry in held[2] if entry.name > series.name and isinstance(entry, Folder))
        query = next((entry.query for entry in later), None)
        return query if isinstance(query, InstancesQuery) else None

    def next_settled(self, file: File) -> Iterator[Inode]:
        """The files after this one in its folder that the kernel knows, as far as they were seen whole once."""
        held = self._at_hand.get(file.parent_ino)
        if held is None:
            return
        entries = held[2].entries
        place = bisect_right(entries, file.name, key=attrgetter("name"))
        for node in entries[place : place + NEXT_FILES]:
            match self._inodes.get(node.ino), node:
                case Inode() as inode, File(content=InstanceFile() as content) if self._library.size(content).exact:
                    yield inode

    async def follow_changes(self) -> None:
        """Tell the kernel what changed, for ever."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            changed, self._changed = self._changed, {}
            for _, folder, _ in list(self._at_hand.values()):
                if folder.query in changed:
                    await self._derive_again(folder)
            while self._replaced:
                await self._tell_kernel(*self._replaced.pop())
            if self._all_is_stale:
                self._all_is_stale = False
                root = self._inodes.folder(pyfuse3.ROOT_INODE)
                await self._invalidate(root, [node.name for node in await self.of(root)])

    def _note(self, query: Query) -> None:
        self._changed[query] = None
        self._news.set()

    def _note_death(self) -> None:
        # What the kernel remembers would still answer `stat`; forgetting the root's entries drops all below them.
        self._all_is_stale = True
        self._news.set()

    async def _derive_again(self, folder: Folder) -> None:
        try:
            await self.of(folder)
        except KheopsfsError:
            self._replace(folder, Directory(()))
            self._drop(folder)

    def _replace(self, folder: Folder, after: Directory) -> None:
        if (held := self._at_hand.get(folder.ino)) is not None and held[2] is not after:
            self._replaced.append((folder, held[2], after))
            self._news.set()

    async def _tell_kernel(self, folder: Folder, before: Directory, after: Directory) -> None:
        differing = changes(before, after)
        for name in differing.changed:
            if (node := after.find(name)) is not None:
                self._inodes.update(node)
        if folder.ino in self._inodes:
            await self._invalidate(folder, [*differing.removed, *differing.changed, *differing.added])

    async def _invalidate(self, folder: Folder, names: Iterable[str]) -> None:
        def tell() -> None:
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # the kernel did not know the name
                    pyfuse3.invalidate_entry(folder.ino, name.encode())

        try:
            await trio.to_thread.run_sync(tell, abandon_on_cancel=True)
        except OSError as error:
            log.debug("the kernel could not be told of a change: %s", error.strerror)

    def _at_hand_for(self, folder: Folder, revision: int) -> Directory | None:
        held = self._at_hand.get(folder.ino)
        if held is None or held[0] != revision:
            return None
        self._at_hand.move_to_end(folder.ino)
        return held[2]

    def _hold(self, folder: Folder, revision: int, directory: Directory) -> Directory:
        self._replace(folder, directory)
        self._drop(folder)
        self._at_hand[folder.ino] = (revision, folder, directory)
        self._entries += len(directory)
        while self._entries > ENTRIES_AT_HAND and len(self._at_hand) > 1:
            self._drop(next(iter(self._at_hand.values()))[1])
        return directory

    def _drop(self, folder: Folder) -> None:
        if (held := self._at_hand.pop(folder.ino, None)) is not None:
            self._entries -= len(held[2])
