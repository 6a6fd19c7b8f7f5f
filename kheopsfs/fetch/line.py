"""The line before the server: whose turn is next, and how long it is worth waiting for one.

Model. A request holds a *turn* while it is under way. There are few, so whoever finds none free stands in *line*: for a
demanded request a program is blocked, a speculative one is wanted by nobody yet. A place in line ends with a turn or
with a refusal.

Who waits in line does not wait for one silent request after the other: whoever stood there for an idle deadline in
which nobody heard a single byte is told that the server stalls. One that still sends to anybody costs nobody anything,
however slow it is. And since one series may stall while the rest of the PACS is well, no series holds all turns.

What is known of the token and of the server is not known here. When it makes waiting vain, `refuse` tells everybody in
line at once.

Invariants: at most `CONCURRENT_REQUESTS` turns are held, `REQUESTS_PER_SERIES` of them for one series; among those who
may have the next turn, a demanded one goes before every speculative one, and equals go in order of arrival. A waiter
that is cancelled or refused takes no turn with it.
"""

import bisect
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

import trio

from kheopsfs.errors import KheopsfsError, StalledError

CONCURRENT_REQUESTS = 6  # Kheops has 10 database connections for everybody; more from one client only queue there
REQUESTS_PER_SERIES = 4  # the first instance, the stream, two that overtake it; two turns are left for everything else


class Priority(IntEnum):
    """Who goes first when the line is full."""

    DEMANDED = 0  # a program is blocked in the mount until this answers
    SPECULATIVE = 1  # nobody waits yet


class _Place:
    """A place in line: it ends with a turn, or with a refusal."""

    def __init__(self, series: str | None) -> None:
        self.series = series
        self.called = trio.Event()
        self.refusal: KheopsfsError | None = None


class Line:
    """The turns at one server, and who waits for one.

    Args:
        idle_timeout: seconds without a byte to anybody after which nobody waits any longer.
        last_heard: says when a byte last came, on trio's clock.
    """

    def __init__(self, idle_timeout: float, last_heard: Callable[[], float]) -> None:
        self._idle_timeout = idle_timeout
        self._last_heard = last_heard
        self._free = CONCURRENT_REQUESTS
        self._of_series: Counter[str | None] = Counter()
        self._waiting: list[tuple[int, int, _Place]] = []
        self._arrivals = itertools.count()

    @asynccontextmanager
    async def turn(self, priority: Priority, series: str | None = None) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the body of the `async with`.

        Args:
            priority: who goes first.
            series: the SeriesInstanceUID if it is for bodies of one series.

        Raises:
            StalledError: nobody heard anything of the server for as long as one request may wait for it.
            KheopsfsError: what `refuse` was told meanwhile.
        """
        await self._take_turn(priority, series)
        try:
            yield
        finally:
            self._return_turn(series)

    def refuse(self, error: KheopsfsError) -> None:
        """Send everybody in line away; who has a turn keeps it."""
        for _, _, place in self._waiting:
            place.refusal = type(error)(*error.args)  # one for each, because a traceback grows with every raise
            place.called.set()
        self._waiting.clear()

    async def _take_turn(self, priority: Priority, series: str | None) -> None:
        place = _Place(series)
        entry = (int(priority), next(self._arrivals), place)
        bisect.insort(self._waiting, entry)
        self._call_next()
        try:
            await self._stand_in_line(place)
        except BaseException:
            if not place.called.is_set():
                self._waiting.remove(entry)
            elif place.refusal is None:
                self._return_turn(series)
            raise

    async def _stand_in_line(self, place: _Place) -> None:
        silent_since = trio.current_time()
        while not place.called.is_set():
            silent_since = max(silent_since, self._last_heard())
            with trio.CancelScope(deadline=silent_since + self._idle_timeout) as patience:
                await place.called.wait()
            if patience.cancelled_caught and self._last_heard() <= silent_since:
                raise StalledError("the server is silent: no answer brought a byte for the idle timeout")
        if place.refusal is not None:
            raise place.refusal

    def _call_next(self) -> None:
        """Give free turns to those in line, the first first; pass over who waits for a series that has its share."""
        for entry in self._waiting[:] if self._free else ():
            place = entry[2]
            if self._of_series[place.series] < REQUESTS_PER_SERIES or place.series is None:
                self._waiting.remove(entry)
                self._free -= 1
                self._of_series[place.series] += 1
                place.called.set()
            if not self._free:
                return

    def _return_turn(self, series: str | None) -> None:
        self._free += 1
        self._of_series[series] -= 1
        if not self._of_series[series]:
            del self._of_series[series]
        self._call_next()
