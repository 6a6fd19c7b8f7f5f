"""How an instance comes to be on the disk: from the cache, by a request of its own, or as a part of its series.

Model. The first instance that is missed in a series is retrieved alone, because somebody waits for just that one. A
second miss shows the pattern: somebody walks through the series, and from then on one request brings all of it. A
reader whose part is late overtakes the stream with a request of its own, but seldom: each request costs the server as
much as the whole series. When most of a series was read, the one that the reader will reach next is started, so that
the line is not idle while the last files are copied.

Invariants: nobody downloads an instance twice at once; a body that is handed out is whole and proven (but for large
ones, see `arriving`), and is the caller's to close.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

import trio

from kheopsfs.fetch.arriving import ArrivingBody
from kheopsfs.fetch.catalogue import Catalogue
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.joined import Joined
from kheopsfs.fetch.line import Priority
from kheopsfs.fetch.series import INTEREST_SECONDS, SeriesStream
from kheopsfs.fetch.single import SingleRetrievals
from kheopsfs.fetch.sizes import bound, ceiling
from kheopsfs.fetch.spool import Intake
from kheopsfs.kheops.contents import Content, InstanceFile
from kheopsfs.kheops.records import Instance, InstancesQuery
from kheopsfs.store import Body

PATTERN = 2  # different instances missed in one series that show somebody walking through it
PATIENCE = 1.0  # seconds to wait for a part before asking for it alone: longer is felt at a viewer's first image
OVERTAKES = 1  # per stream: a 500-slice series then costs one request for the first, one stream, one overtaking
STUCK = 10.0  # seconds without any part after which the stream is no reason to wait
VAIN_PAUSE = 30.0  # seconds without a stream after one that brought nothing: each reader would wait for the next one
DRAINED_SHARE = 0.75  # of a series that was opened when the next one is started: the line is then about to fall idle
LEAST_DRAINED = 3  # instances; somebody who opens one or two has shown no direction
STREAMED_SHARE = 0.5  # of the cache that a series may take: a larger one would evict its own parts before they are read
SERIES_WATCHED = 1000  # series whose pattern of access is remembered


class _Access:
    """What has lately been opened and missed in one series."""

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.missed: set[str] = set()
        self.followed = False  # the next series was started
        self.last_miss = trio.current_time()
        self.stream: SeriesStream | None = None
        self.no_stream_before = -math.inf

    def miss(self, SOPInstanceUID: str) -> None:
        now = trio.current_time()
        if now - self.last_miss > INTEREST_SECONDS:
            self.missed.clear()
        self.missed.add(SOPInstanceUID)
        self.last_miss = now


class Instances:
    """The instances of everything the token sees."""

    def __init__(
        self,
        gate: Gate,
        intake: Intake,
        catalogue: Catalogue,
        *,
        key: Callable[[Content], str],
    ) -> None:
        self._gate = gate
        self._intake = intake
        self._catalogue = catalogue
        self._key = key
        self._accesses: OrderedDict[str, _Access] = OrderedDict()
        self._alone = SingleRetrievals(gate, intake, key=key)
        self._streams: Joined[str, None] = Joined(intake.nursery)
        self._ahead: Joined[InstancesQuery, None] = Joined(intake.nursery)

    async def open(self, instance: Instance, *, whole: bool = False) -> Body | ArrivingBody:
        """The instance, from wherever it comes first. The caller closes it.

        Args:
            instance: which.
            whole: a large one is not to be read while it arrives; and the rest of the series is wanted too, so there
                is no need to wait for the pattern to show.

        Raises:
            NotFoundError, TokenRefusedError, PermissionMissingError, ServerUnreachableError, ServerFaultError,
            StalledError, BadAnswerError, DiskFullError.
        """
        key = self._key(InstanceFile(instance))
        access = self._access(instance.SeriesInstanceUID)
        if access.stream is not None:
            access.stream.touch()
        if (body := await trio.to_thread.run_sync(self._intake.store.bodies.open, key)) is not None:
            return body
        access.miss(instance.SOPInstanceUID)
        if access.stream is None and len(access.missed) >= (1 if whole else PATTERN):
            self._start_stream(instance, access, Priority.DEMANDED)
        if key not in self._alone and (body := await self._from_stream(instance, access.stream)) is not None:
            return body
        opened = await (self._alone.whole(instance) if whole else self._alone.readable(instance))
        if access.stream is not None and isinstance(opened, Body):
            access.stream.serve(instance.SOPInstanceUID, opened)
        return opened

    async def settle(self, instance: Instance) -> None:
        """Wait for a retrieval under way that will settle this instance's size; return at once if there is none."""
        access = self._accesses.get(instance.SeriesInstanceUID)
        if access is not None and access.stream is not None:
            if (body := await access.stream.part(instance.SOPInstanceUID)) is not None:
                body.close()
        else:
            await self._alone.sized(instance)

    async def _from_stream(self, instance: Instance, stream: SeriesStream | None) -> Body | None:
        """The part of the stream, unless there will be none or it is late."""
        while stream is not None and stream.will_deliver(instance.SOPInstanceUID):
            with trio.move_on_after(PATIENCE):
                if (body := await stream.part(instance.SOPInstanceUID)) is not None:
                    return body
            if stream.overtaken < OVERTAKES or trio.current_time() - stream.last_progress > STUCK:
                stream.overtaken += 1
                return None
        return None

    def opened(self, instance: Instance, following: Callable[[], InstancesQuery | None]) -> None:
        """An instance was opened; `following` tells which series its reader will reach next, if any."""
        access = self._access(instance.SeriesInstanceUID)
        access.opened.add(instance.SOPInstanceUID)
        if access.followed or len(access.opened) < LEAST_DRAINED:
            return
        listing = self._catalogue.peek(InstancesQuery(instance.StudyInstanceUID, instance.SeriesInstanceUID))
        if listing is None or len(access.opened) < DRAINED_SHARE * len(listing.rows):
            return
        access.followed = True
        if (query := following()) is not None:
            self._ahead.start(query, lambda: self._run_ahead(query))

    async def _run_ahead(self, query: InstancesQuery) -> None:
        await self._catalogue.listing(query)
        access = self._access(query.SeriesInstanceUID)
        if access.stream is None:
            self._start_stream(query, access, Priority.SPECULATIVE)

    def _start_stream(self, of: Instance | InstancesQuery, access: _Access, priority: Priority) -> None:
        listing = self._catalogue.peek(InstancesQuery(of.StudyInstanceUID, of.SeriesInstanceUID))
        if listing is None or of.SeriesInstanceUID in self._streams or trio.current_time() < access.no_stream_before:
            return
        files = [InstanceFile(row) for row in listing.rows if isinstance(row, Instance)]
        if sum(map(bound, files)) > self._intake.store.size_limit * STREAMED_SHARE:
            return
        stream = access.stream = SeriesStream(
            self._intake,
            {file.instance.SOPInstanceUID: self._key(file) for file in files},
            max((ceiling(file, self._intake.store.size_limit) for file in files), default=0),
        )

        async def run() -> None:
            try:
                await stream.run(self._gate, of.StudyInstanceUID, of.SeriesInstanceUID, priority)
            finally:
                access.stream = None
                if stream.in_vain:
                    access.no_stream_before = trio.current_time() + VAIN_PAUSE

        self._streams.start(of.SeriesInstanceUID, run)

    def _access(self, SeriesInstanceUID: str) -> _Access:
        access = self._accesses.setdefault(SeriesInstanceUID, _Access())
        self._accesses.move_to_end(SeriesInstanceUID)
        while len(self._accesses) > SERIES_WATCHED:
            self._accesses.popitem(last=False)
        return access
