"""The one object that the mount asks: what is listed, how big it is, and its bytes.

It owns the nursery in which everything is fetched; leaving it cancels all that is under way, so that unmounting never
waits for the network.
"""

import errno
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from kheopsfs.errors import KheopsfsError, NotFoundError, ServerFaultError
from kheopsfs.fetch.arriving import ArrivingBody
from kheopsfs.fetch.catalogue import Catalogue, Listing
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.instances import Instances
from kheopsfs.fetch.recent import RecentBodies
from kheopsfs.fetch.renditions import Renditions
from kheopsfs.fetch.sizes import Sizes, bound
from kheopsfs.fetch.spool import Intake
from kheopsfs.kheops.contents import Content, InstanceFile, StudyZip
from kheopsfs.kheops.records import InstancesQuery, Query
from kheopsfs.store import Body, Store


@dataclass(frozen=True, slots=True)
class Size:
    """A size in bytes: exact for ever, or an upper bound until the file is opened."""

    size: int
    exact: bool


class Library:
    """Everything one token sees on one server. Enter with `opened`."""

    def __init__(
        self,
        gate: Gate,
        store: Store,
        recent: RecentBodies,
        nursery: trio.Nursery,
        *,
        list_ttl: float,
        exact_sizes: bool,
    ) -> None:
        info = gate.info
        account = f"{gate.client.address.origin}\0{info.subject}"
        self._namespace = _digest(account)
        self._store = store
        self._exact_sizes = exact_sizes
        self._gate = gate
        # An instance is the same for everyone who may see it, but what may be seen is listed for each token.
        listings = _digest(f"{account}\0{info.kind}\0{info.album_id}")
        self._catalogue = Catalogue(self._gate, store, nursery, namespace=listings, ttl=list_ttl)
        self._sizes = Sizes(store)
        self._recent = recent
        intake = self._intake = Intake(store, self._sizes, recent, nursery)
        self._instances = Instances(self._gate, intake, self._catalogue, key=self._key)
        self._renditions = Renditions(self._gate, intake, self._catalogue, key=self._key)

    @classmethod
    @asynccontextmanager
    async def opened(cls, gate: Gate, store: Store, *, list_ttl: float, exact_sizes: bool) -> AsyncIterator["Library"]:
        """Run a library for the body of the `async with`.

        Args:
            gate: the way to the server; its client is closed by the caller afterwards.
            store: closed by the caller afterwards.
            list_ttl: seconds for which a listing is fresh.
            exact_sizes: whether asking for a size may fetch bodies to settle it.
        """
        recent = RecentBodies(store.size_limit)
        try:
            async with trio.open_nursery() as nursery:
                library = cls(gate, store, recent, nursery, list_ttl=list_ttl, exact_sizes=exact_sizes)
                nursery.start_soon(library._gate.watch)
                yield library
                nursery.cancel_scope.cancel()
        finally:
            recent.close()

    def admit(self) -> None:
        """Raises TokenRefusedError while the token is dead."""
        self._gate.admit()

    def on_change(self, changed: Callable[[Query], None]) -> None:
        """Have `changed` called when the rows of a list are no longer what they were."""
        self._catalogue.on_change = changed

    def on_dead(self, died: Callable[[], None]) -> None:
        """Have `died` called each time the token dies."""
        self._gate.on_dead = died

    def on_arrival(self, arrived: Callable[[str, int], None]) -> None:
        """Have `arrived` called with SOPInstanceUID and size of each instance that came whole from the server."""

        def note(key: str, size: int) -> None:
            if "/instance/" in key:
                arrived(key.rpartition("/")[2], size)

        self._intake.on_arrival = note

    async def listing(self, query: Query) -> Listing:
        """The rows of a list; see `Catalogue.listing`."""
        return await self._catalogue.listing(query)

    async def load_sizes(self, contents: Iterable[Content]) -> None:
        """Have `size` know what is settled about these."""
        await self._sizes.load(map(self._key, contents))

    def size(self, content: Content) -> Size:
        """The size of a content, as well as it is known at hand."""
        if (settled := self._sizes.settled(self._key(content))) is not None:
            return Size(settled, exact=True)
        return Size(bound(content), exact=False)

    async def settle(self, content: Content) -> Size:
        """Like `size`, but waits for a retrieval that will settle it: one under way, or with `exact_sizes` one that is
        started for it.

        Raises:
            KheopsfsError: with `exact_sizes`, as `open`.
        """
        key = self._key(content)
        await self._sizes.load([key])
        if not self.size(content).exact:
            if self._exact_sizes:
                body = await self._fetch(content, whole=True)
                body.close()
                await self._note_size(key, body.size)  # the cache may have it a moment before the ledger
            elif isinstance(content, InstanceFile):
                await self._instances.settle(content.instance)
        return self.size(content)

    async def open(
        self, content: Content, following: Callable[[], InstancesQuery | None] = lambda: None
    ) -> Body | ArrivingBody:
        """The body, whole but for a large instance of known size, which can be read while it arrives. The caller closes
        it.

        Args:
            content: what to open.
            following: which series a reader that walks on will reach next; asked when this one is nearly read.

        Raises:
            NotFoundError: after the listing it came from was asked for again.
            KheopsfsError: see `Instances.open` and `Renditions.open`.
        """
        key = self._key(content)
        # A zip is of its study only while the series list says so, which is not asked here.
        body: Body | ArrivingBody | None = None if isinstance(content, StudyZip) else self._recent.take(key)
        if body is None:
            body = await self._fetch(content, whole=self._exact_sizes)
            if isinstance(body, Body):
                self._recent.hold(key, body)
                await self._note_size(key, body.size)
            else:
                self._sizes.learn(key, body.size)  # for the ledger it is no fact before it was proven
        if isinstance(content, InstanceFile):
            self._instances.opened(content.instance, following)
        return body

    async def use_at_hand(self, content: Content, use: Callable[[Body], None]) -> None:
        """Have `use` called in a worker thread with the whole body, if that takes no request.

        Raises:
            CacheUnusableError: the disk cannot read it, or this process cannot open another file.
        """
        key = self._key(content)

        def work(body: Body | None) -> Body | None:
            body = body or self._store.bodies.open(key, keep_content=True)
            if body is not None:
                use(body)
            return body

        body = await trio.to_thread.run_sync(work, self._recent.take(key), abandon_on_cancel=True)
        if body is not None:
            with body:
                self._recent.hold(key, body)

    async def is_cached(self, content: Content) -> bool:
        """Whether reading it needs no server."""
        return await trio.to_thread.run_sync(self._store.bodies.contains, self._key(content))

    def url(self, path: str) -> str:
        """The public URL of a DICOMweb path, without any token."""
        return self._gate.client.url(path)

    def _key(self, content: Content) -> str:
        return f"{self._namespace}/{content.key}"

    async def _note_size(self, key: str, size: int) -> None:
        """Have the ledger know what opening a file has shown, before anybody may rely on it.

        It knows already, unless the process that kept the body was killed just before it noted the size, or the ledger
        was damaged since.
        """
        await self._sizes.load([key])
        if self._sizes.settled(key) != size:
            await trio.to_thread.run_sync(self._sizes.record, {key: size})
            self._sizes.learn(key, size)

    async def _fetch(self, content: Content, *, whole: bool) -> Body | ArrivingBody:
        try:
            if isinstance(content, InstanceFile):
                return await self._instances.open(content.instance, whole=whole)
            return await self._renditions.open(content)
        except (NotFoundError, ServerFaultError) as error:
            if isinstance(content, InstanceFile) and await self._is_gone(content):
                raise NotFoundError("the server does not list this instance any more") from error
            raise

    async def _is_gone(self, content: InstanceFile) -> bool:
        """Ask for the listing again: a failed retrieval may mean that the object was removed or taken from us."""
        instance = content.instance
        query = InstancesQuery(instance.StudyInstanceUID, instance.SeriesInstanceUID)
        self._catalogue.doubt(query)
        try:
            listing = await self._catalogue.refresh(query)
        except KheopsfsError as error:
            return error.errno == errno.ENOENT
        return instance.SOPInstanceUID not in {getattr(row, "SOPInstanceUID", "") for row in listing.rows}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
