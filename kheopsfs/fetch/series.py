"""One request for all of a series: parts come in any order, and whoever waits for one gets it as soon as it is proven.

Kheops pays an authorisation and a PACS query for every request, so a series is far cheaper in one piece than in five
hundred. Parts have no names; the file meta information of each says which instance it is.

Invariants: an instance is committed only when the delimiter after it was seen, so what a cut stream delivered is
good and stays. Instances that are kept already, that were not listed, or that come twice are skipped. When nobody has
been interested for `INTEREST_SECONDS`, the stream ends by itself. When it ends, however it ends, every waiter is
released.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable

import trio

from kheopsfs.errors import KheopsfsError, ServerFaultError, StalledError
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.line import Priority
from kheopsfs.fetch.spool import Intake
from kheopsfs.kheops.retrieve import InstanceBegun, InstanceBytes, InstanceProven, instances
from kheopsfs.store import Body

log = logging.getLogger(__name__)

INTEREST_SECONDS = 30.0  # someone scrolling through a series pauses; someone who closed the viewer does not come back
WORTHWHILE_SHARE = 4  # stream when at least one in so many is missing: below that the line carries mostly what we have
WORTHWHILE_COUNT = 3  # for one or two missing instances a request each is no more than the stream would be


class _Waiter:
    def __init__(self) -> None:
        self.served = trio.Event()
        self.body: Body | None = None


class SeriesStream:
    """The retrieval of what is missing of one series. Create, then `run` once in a task."""

    def __init__(self, intake: Intake, key_of: dict[str, str], limit: int) -> None:
        """`key_of`: the cache key of every listed instance, by SOPInstanceUID; `limit`: bytes that one may have."""
        self._intake = intake
        self._limit = limit
        self._key_of = key_of
        self._uid_of = {key: SOPInstanceUID for SOPInstanceUID, key in key_of.items()}
        self._missing = set(key_of)  # not on the disk yet
        self._arrived: set[str] = set()  # proven, and on their way to the disk
        self._waiters: defaultdict[str, list[_Waiter]] = defaultdict(list)
        self._ended = False
        self._last_interest = trio.current_time()
        self.last_progress = trio.current_time()
        self.overtaken = 0
        self.in_vain = False  # the server failed or stalled before it delivered a single instance

    def will_deliver(self, SOPInstanceUID: str) -> bool:
        """Whether it is worth waiting for this instance here."""
        return not self._ended and SOPInstanceUID in self._missing

    def touch(self) -> None:
        """Somebody reads in this series."""
        self._last_interest = trio.current_time()

    def serve(self, SOPInstanceUID: str, body: Body) -> None:
        """The instance is on the disk, by this stream or by a request of its own: give it to whoever waits for it."""
        self._missing.discard(SOPInstanceUID)
        for waiter in self._waiters.pop(SOPInstanceUID, ()):
            waiter.body = body.dup()
            waiter.served.set()

    async def part(self, SOPInstanceUID: str) -> Body | None:
        """Wait for one instance; None when the stream ended without it. The caller closes the body."""
        if not self.will_deliver(SOPInstanceUID):
            return None
        waiter = _Waiter()
        self._waiters[SOPInstanceUID].append(waiter)
        try:
            await waiter.served.wait()
        except trio.Cancelled:
            if waiter.body is not None:
                waiter.body.close()
            raise
        finally:
            if waiter in self._waiters[SOPInstanceUID]:
                self._waiters[SOPInstanceUID].remove(waiter)
            self.touch()
        return waiter.body

    async def run(self, gate: Gate, StudyInstanceUID: str, SeriesInstanceUID: str, priority: Priority) -> None:
        """Retrieve until the end, the first failure, or the loss of interest. Raises nothing but cancellation."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_interest, nursery.cancel_scope)
                if await trio.to_thread.run_sync(self._is_worthwhile):
                    await self._retrieve(gate, StudyInstanceUID, SeriesInstanceUID, priority)
                nursery.cancel_scope.cancel()
        except* KheopsfsError as failures:
            log.warning(
                "series %s: the retrieval ended with %d instances missing, they are asked for again when needed: %s",
                SeriesInstanceUID,
                len(self._missing),
                failures.exceptions[0],
            )
            refused = isinstance(failures.exceptions[0], ServerFaultError | StalledError)
            self.in_vain = refused and not self._arrived
        finally:
            self._ended = True
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.served.set()

    async def _retrieve(self, gate: Gate, StudyInstanceUID: str, SeriesInstanceUID: str, priority: Priority) -> None:
        async with (
            self._intake.spooling(self._hand_out) as spool,
            gate.request(priority, SeriesInstanceUID) as client,
            instances(client, StudyInstanceUID, SeriesInstanceUID, None) as events,
        ):
            key: str | None = None  # of the instance that is arriving, if it is one that we want
            async for event in events:
                match event:
                    case InstanceBegun(SOPInstanceUID=current):
                        wanted = current in self._missing and current not in self._arrived
                        key = self._key_of[current] if wanted else None
                        spool.begin(self._limit)
                    case InstanceBytes(data=data) if key is not None:
                        await spool.write(data)
                    case InstanceProven() if key is not None:
                        spool.commit(key)
                        self._arrived.add(current)
                        self.last_progress = trio.current_time()

    def _hand_out(self, key: str, body: Body) -> None:
        self.serve(self._uid_of[key], body)
        body.close()

    def _is_worthwhile(self) -> bool:
        kept: Iterable[str] = [uid for uid, key in self._key_of.items() if self._intake.store.bodies.contains(key)]
        self._missing.difference_update(kept)
        return len(self._missing) >= max(WORTHWHILE_COUNT, len(self._key_of) // WORTHWHILE_SHARE)

    async def _watch_interest(self, scope: trio.CancelScope) -> None:
        while True:
            idle = trio.current_time() - self._last_interest
            if idle >= INTEREST_SECONDS and not any(self._waiters.values()):
                log.debug("a series retrieval was given up: nobody reads in it any more")
                scope.cancel()
                return
            await trio.sleep(max(1.0, INTEREST_SECONDS - idle))
