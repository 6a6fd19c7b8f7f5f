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
from kheopsfs.fetch.catalogue import Catalogue, Listing
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.instances import Instances
from kheopsfs.fetch.recent import RecentBodies
from kheopsfs.fetch.renditions import Renditions
from kheopsfs.fetch.sizes import Sizes, bound
from kheopsfs.fetch.spool import Intake
from kheopsfs.kheops.contents import Content, InstanceFile
from kheopsfs.kheops.records import InstancesQuery, Query
from kheopsfs.store import Body, Store


@dataclass(frozen=True, slots=True)
class Size:
    """A size in bytes: exact for ever, or an upper bound until the file is opened."""

    size: int
    exact: bool


class Library:
    """Everything one token sees on one server. Enter with `opened`."""

    def __init__(self, gate: Gate, store: Store, nursery: trio.Nursery, *, list_ttl: float, exact_sizes: bool) -> None:
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
        self._recent = RecentBodies()
        intake = Intake(store, self._sizes, nursery)
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
        async with trio.open_nursery() as nursery:
            library = cls(gate, store, nursery, list_ttl=list_ttl, exact_sizes=exact_sizes)
            nursery.start_soon(library._gate.watch)
            try:
                yield library
            finally:
                library._recent.close()
            nursery.cancel_scope.cancel()

    def admit(self) -> None:
        """Raises TokenRefusedError while the token is dead."""
        self._gate.admit()

    def on_change(self, changed: Callable[[Query], None]) -> None:
        """Have `changed` called when the rows of a list are no longer what they were."""
        self._catalogue.on_change = changed

    def on_dead(self, died: Callable[[], None]) -> None:
        """Have `died` called each time the token dies."""
        self._gate.on_dead = died

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
        await self._sizes.load([self._key(content)])
        if not self.size(content).exact:
            if self._exact_sizes:
                (await self.open(content)).close()
            elif isinstance(content, InstanceFile):
                await self._instances.settle(content.instance)
        return self.size(content)

    async def open(self, content: Content, following: Callable[[], InstancesQuery | None] = lambda: None) -> Body:
        """The whole body. The caller closes it.

        Args:
            content: what to open.
            following: which series a reader that walks on will reach next; asked when this one is nearly read.

        Raises:
            NotFoundError: after the listing it came from was asked for again.
            KheopsfsError: see `Instances.open` and `Renditions.open`.
        """
        key = self._key(content)
        body = self._recent.take(key)
        if body is None:
            body = await self._fetch(content)
            self._recent.hold(key, body)
            self._sizes.learn(key, body.size)
        if isinstance(content, InstanceFile):
            self._instances.opened(content.instance, following)
        return body

    async def is_cached(self, content: Content) -> bool:
        """Whether reading it needs no server."""
        return await trio.to_thread.run_sync(self._store.bodies.contains, self._key(content))

    def url(self, path: str) -> str:
        """The public URL of a DICOMweb path, without any token."""
        return self._gate.client.url(path)

    def _key(self, content: Content) -> str:
        return f"{self._namespace}/{content.key}"

    async def _fetch(self, content: Content) -> Body:
        try:
            if isinstance(content, InstanceFile):
                return await self._instances.open(content.instance, with_siblings=self._exact_sizes)
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
