"""What the server lists, kept: in memory, on disk, and as fresh as it need be.

Model. A listing is *fresh* for `ttl` seconds. A fresh one is shown at once. A stale one is asked for again; it is
shown if the server takes longer than `STALE_GRACE`, and the answer then serves the next reader. After a reader waited
that long in vain, nobody else does until the server has been heard again. When the server cannot
be reached or answers badly, what is kept is shown however old; when it says that the object is gone or that we may not
see it, nothing kept is shown.

A listing's *revision* changes only when its rows do; whoever derived something from it (directories, the kernel's
entries) compares revisions and is told through `on_change`.

Invariants: one request at a time per list; listings on disk are kept per server, subject and album, so that no
token ever sees what was listed for another.
"""

import errno
import functools
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import trio

from kheopsfs.errors import KheopsfsError, NotFoundError, PermissionMissingError, TokenRefusedError
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.joined import Joined
from kheopsfs.fetch.line import Priority
from kheopsfs.kheops.records import (
    Album,
    AlbumsQuery,
    Instance,
    InstancesQuery,
    Query,
    Record,
    Series,
    SeriesQuery,
    StudiesQuery,
    Study,
)
from kheopsfs.kheops.search import listing as search
from kheopsfs.store import Store

log = logging.getLogger(__name__)

STALE_GRACE = 0.5  # seconds a reader waits for news before the stale listing is shown: a pause, not yet an annoyance
ROWS_IN_MEMORY = 300_000  # about 150 MB of records at the very worst; a source of 100 000 studies fits twice

ROW_FORMAT = 2  # of the rows in kept listings; those of another format are not looked at

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type, msgspec.msgpack.Decoder[Sequence[Record]]] = {
    AlbumsQuery: msgspec.msgpack.Decoder(list[Album]),
    StudiesQuery: msgspec.msgpack.Decoder(list[Study]),
    SeriesQuery: msgspec.msgpack.Decoder(list[Series]),
    InstancesQuery: msgspec.msgpack.Decoder(list[Instance]),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows of one list, when they were fetched (seconds since the epoch), and their revision.

    `query` is the one that was asked, with its hints (an equal one may lack them).
    """

    query: Query
    rows: Sequence[Record]
    fetched_at: float
    revision: int


class Catalogue:
    """The listings of one token on one server."""

    def __init__(self, gate: Gate, store: Store, nursery: trio.Nursery, *, namespace: str, ttl: float) -> None:
        self._gate = gate
        self._kept = store.listings
        self._namespace = namespace
        self._ttl = ttl
        self._memory: OrderedDict[Query, Listing] = OrderedDict()
        self._rows_in_memory = 0
        self._flights: Joined[Query, Listing] = Joined(nursery)
        self._revisions = 0
        self._waited_in_vain = -math.inf  # when, on trio's clock
        self.on_change: Callable[[Query], None] = lambda _query: None

    async def listing(self, query: Query) -> Listing:
        """The rows of `query`, from wherever is good enough.

        Raises:
            NotFoundError, PermissionMissingError, TokenRefusedError: the server says so.
            ServerUnreachableError, ServerFaultError, StalledError, BadAnswerError: and nothing is kept.
        """
        known = await self._known(query)
        if known is None:
            return await self.refresh(query)
        if self._is_fresh(known):
            return known
        if self._gate.server_down:
            return known
        silent = self._waited_in_vain > self._gate.client.last_heard
        grace = 0 if silent else STALE_GRACE
        try:
            with trio.move_on_after(grace if self._ttl else math.inf):
                return await self._renew(query)
            self._waited_in_vain = trio.current_time()
        except KheopsfsError as error:
            if not _may_show_stale(error):
                raise
        return known

    async def refresh(self, query: Query) -> Listing:
        """Ask the server now, whatever is kept, and wait for the answer."""
        if (known := self._memory.get(query)) is not None:
            query = known.query
        return await self._flights.get(query, lambda: self._fetch(query, Priority.DEMANDED))

    def peek(self, query: Query) -> Listing | None:
        """What is in memory, however old."""
        return self._memory.get(query)

    def doubt(self, query: Query) -> None:
        """The object that this list belongs to may be gone: in the background, ask again for the lists that show it."""
        for known in list(self._memory):
            match query, known:
                case InstancesQuery(StudyInstanceUID=uid), SeriesQuery(StudyInstanceUID=shown) if uid == shown:
                    pass
                case SeriesQuery(source=source), StudiesQuery(source=shown) if source == shown:
                    pass
                case StudiesQuery(), AlbumsQuery():
                    pass
                case _:
                    continue
            self._flights.start(known, functools.partial(self._fetch, known, Priority.SPECULATIVE))

    async def _renew(self, query: Query) -> Listing:
        """Like `refresh`, but the request goes on when the caller stops waiting."""
        self._flights.start(query, lambda: self._fetch(query, Priority.DEMANDED))
        return await self.refresh(query)

    async def _known(self, query: Query) -> Listing | None:
        if (listing := self._memory.get(query)) is not None:
            self._memory.move_to_end(query)
            return listing
        kept = await trio.to_thread.run_sync(self._load, query)
        if kept is None or (listing := self._memory.get(query)) is not None:
            return listing
        return self._remember(query, *kept)

    def _is_fresh(self, listing: Listing) -> bool:
        return 0 <= time.time() - listing.fetched_at < self._ttl

    async def _fetch(self, query: Query, priority: Priority) -> Listing:
        try:
            async with self._gate.request(priority) as client:
                rows = await search(client, self._gate.info, query)
        except KheopsfsError as error:
            if not _may_show_stale(error):
                await self._drop(query)
            if isinstance(error, NotFoundError):
                self.doubt(query)
            raise
        listing = self._remember(query, rows, time.time())
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._keep, query, rows)
        return listing

    def _remember(self, query: Query, rows: Sequence[Record], fetched_at: float) -> Listing:
        before = self._memory.pop(query, None)
        if before is not None and before.rows == rows:
            listing = replace(before, fetched_at=fetched_at)
        else:
            self._revisions += 1
            listing = Listing(query, rows, fetched_at, self._revisions)
            self._rows_in_memory += len(rows) - (len(before.rows) if before is not None else 0)
        self._memory[query] = listing
        while self._rows_in_memory > ROWS_IN_MEMORY and len(self._memory) > 1:
            _, oldest = self._memory.popitem(last=False)
            self._rows_in_memory -= len(oldest.rows)
        if before is not None and before.revision != listing.revision:
            self.on_change(query)
        return listing

    async def _drop(self, query: Query) -> None:
        if (before := self._memory.pop(query, None)) is not None:
            self._rows_in_memory -= len(before.rows)
            self.on_change(query)
        await trio.to_thread.run_sync(self._kept.discard, self._key(query))

    # -- on disk; these run in worker threads ------------------------------------------------------------------------

    def _key(self, query: Query) -> str:
        named = _without_hints(query)
        return f"{self._namespace}/{ROW_FORMAT}/{msgspec.json.encode(named).decode()}"

    def _load(self, query: Query) -> tuple[Sequence[Record], float] | None:
        stored = self._kept.get(self._key(query))
        if stored is None:
            return None
        rows = decoded(query, stored.payload)
        if rows is None:
            log.info("a kept listing of another version was dropped")
            return None
        return rows, stored.fetched_at

    def _keep(self, query: Query, rows: Sequence[Record]) -> None:
        self._kept.put(self._key(query), _encoder.encode(rows))


def decoded(query: Query, payload: bytes) -> Sequence[Record] | None:
    """The rows of a listing that was kept; None if they are not what this version keeps, down to the last attribute."""
    try:
        rows = _decoders[type(query)].decode(payload)
        for row in rows:
            row.attributes()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return rows


def _without_hints(query: Query) -> Query:
    """The query without what is no part of its identity."""
    if isinstance(query, InstancesQuery):
        return InstancesQuery(query.StudyInstanceUID, query.SeriesInstanceUID)
    return query


def _may_show_stale(error: KheopsfsError) -> bool:
    """Whether a failure says nothing about the object or our rights to it."""
    return not (isinstance(error, (TokenRefusedError, PermissionMissingError)) or error.errno == errno.ENOENT)
