"""The gate that every request to the server passes: is the token alive, is the server there, is it our turn.

Model. The token is *alive* or *dead*. Only introspection decides (the Kheops contract: 401 is overloaded). While it is
dead, `admit` refuses everything, cached content included, until another token appears in the token file or the
server takes the old one again. The server is *up* or *down*. A request that found nobody, or only silence, raises no
more than the suspicion; a probe decides, so that one broken URL never shuts out the others. While the server is down,
requests fail at once instead of each waiting for its own deadline, and the probe goes on in the background until the
server is back. A token that nobody could ask about for a week counts as dead until the server is back.

Who waits in line does not wait for one silent request after the other: whoever stood there for an idle deadline in
which nobody heard a single byte is told that the server stalls. One that still sends to anybody costs nobody anything,
however slow it is. When the server turns out to be down, or the token dead, everybody in line is told at once. And
since one series may stall while the rest of the PACS is well, no series holds all turns.

An offline mount has an `OfflineGate`, through which nothing ever passes.

Each change of state is one line in the log, not one line per file.

Invariants: at most `CONCURRENT_REQUESTS` requests are under way, `REQUESTS_PER_SERIES` of them for one series; among
those who may have the next turn, a demanded one goes before every speculative one, and equals go in order of arrival.
A waiter that is cancelled takes no turn with it.
"""

import bisect
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

import trio

from kheopsfs.errors import (
    KheopsfsError,
    ServerUnreachableError,
    StalledError,
    TokenRefusedError,
)
from kheopsfs.fetch.standings import Standing, demand_trusted
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Token
from kheopsfs.kheops.tokens import TokenInfo

log = logging.getLogger(__name__)

CONCURRENT_REQUESTS = 6  # Kheops has 10 database connections for everybody; more from one client only queue there
REQUESTS_PER_SERIES = 4  # the first instance, the stream, two that overtake it; two turns are left for everything else
FIRST_PROBE_PAUSE = 1.0  # seconds between probes of a server that is down, growing by half …
LONGEST_PROBE_PAUSE = 10.0  # … up to this: people notice a server that came back within ten seconds
TOKEN_FILE_PAUSE = 1.0  # seconds between looks at the token file: who puts a token there may revoke the old one next
LEAST_RECHECK = 1.0  # seconds between introspections of a token in use, however short they are asked to be …
MOST_RECHECK = 60.0  # … and however long: a revoked token must not read the cache for an hour
CLOCK_PAUSE = 60.0  # seconds between looks at the clock of an offline mount: the week of its token may be over


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


class Gate:
    """The one way to the server. Run `watch` as long as the gate is used."""

    def __init__(self, client: Client, info: TokenInfo, *, recheck: float) -> None:
        """`info`: what the server said of the token just now. `recheck`: seconds after which a token that is in use is
        introspected again, so that a revocation is noticed although everything comes from the cache."""
        self.client = client
        self.info = info
        self._recheck = min(max(recheck, LEAST_RECHECK), MOST_RECHECK)
        self._confirmed_at = time.time()
        self._dead: str | None = None
        self._down: str | None = None
        self._free = CONCURRENT_REQUESTS
        self._of_series: Counter[str | None] = Counter()
        self._line: list[tuple[int, int, _Place]] = []
        self._arrivals = itertools.count()
        self._suspicion = trio.Event()
        self._used = False
        self.on_dead: Callable[[], None] = lambda: None
        self.on_verdict: Callable[[Token, TokenInfo | None], Awaitable[None]] = _ignore

    def admit(self) -> None:
        """Refuse while the token is dead.

        Raises:
            TokenRefusedError: for cached content as well as for new.
        """
        self._used = True
        if self._dead is not None:
            raise TokenRefusedError(self._dead)

    @property
    def server_down(self) -> bool:
        """Whether the last probe found nobody."""
        return self._down is not None

    @asynccontextmanager
    async def request(self, priority: Priority, series: str | None = None) -> AsyncIterator[Client]:
        """Wait for a turn and hold it for the body of the `async with`.

        Args:
            priority: who goes first.
            series: the SeriesInstanceUID if it is for bodies of one series.

        Raises:
            TokenRefusedError: the token is dead.
            ServerUnreachableError: the server is known to be down.
            StalledError: nobody heard anything of the server for as long as one request may wait for it.
        """
        self._check()
        await self._take_turn(priority, series)
        try:
            self._check()
            yield self.client
        except (ServerUnreachableError, StalledError):
            self._suspicion.set()
            raise
        except TokenRefusedError as error:
            self._declare_dead(str(error))
            raise
        finally:
            self._return_turn(series)

    def _check(self) -> None:
        self.admit()
        if self._down is not None:
            raise ServerUnreachableError(self._down)

    async def _take_turn(self, priority: Priority, series: str | None) -> None:
        place = _Place(series)
        entry = (int(priority), next(self._arrivals), place)
        bisect.insort(self._line, entry)
        self._call_next()
        try:
            await self._stand_in_line(place)
        except BaseException:
            if not place.called.is_set():
                self._line.remove(entry)
            elif place.refusal is None:
                self._return_turn(series)
            raise

    async def _stand_in_line(self, place: _Place) -> None:
        silent_since = trio.current_time()
        while not place.called.is_set():
            silent_since = max(silent_since, self.client.last_heard)
            with trio.CancelScope(deadline=silent_since + self.client.idle_timeout) as patience:
                await place.called.wait()
            if patience.cancelled_caught and self.client.last_heard <= silent_since:
                raise StalledError("the server is silent: no answer brought a byte for the idle timeout")
        if place.refusal is not None:
            raise place.refusal

    def _call_next(self) -> None:
        """Give free turns to those in line, the first first; pass over who waits for a series that has its share."""
        for entry in self._line[:] if self._free else ():
            place = entry[2]
            if self._of_series[place.series] < REQUESTS_PER_SERIES or place.series is None:
                self._line.remove(entry)
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

    def _refuse_line(self, error: KheopsfsError) -> None:
        for _, _, place in self._line:
            place.refusal = type(error)(*error.args)  # one for each, because a traceback grows with every raise
            place.called.set()
        self._line.clear()

    # -- the state of token and server -------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Keep the state of token and server true, for ever. `on_dead` is called each time the token dies, `on_verdict`
        with everything that the server says of a token: what it is, or None when it is dead."""
        asked_at = trio.current_time()
        while True:
            with trio.move_on_after(TOKEN_FILE_PAUSE):
                await self._suspicion.wait()
            is_due = self._used and trio.current_time() >= asked_at + self._recheck
            if self.client.credentials.reload() or self._suspicion.is_set() or is_due:
                self._suspicion = trio.Event()
                self._used = False
                await self._probe_until_settled()
                asked_at = trio.current_time()
            if self._dead is not None:
                self.on_dead()
                await self._wait_for_a_living_token()

    async def _probe_until_settled(self) -> None:
        pause = FIRST_PROBE_PAUSE
        while True:
            self.client.credentials.reload()
            token = self.client.credentials.offered
            try:
                info = await self.client.introspect(token)
            except TokenRefusedError as error:
                self._declare_up()
                self._declare_dead(str(error))
                await self.on_verdict(token, None)
                return
            except (ServerUnreachableError, StalledError) as error:
                self._declare_down(str(error))
                self._distrust_what_is_old()
                await trio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PROBE_PAUSE)
            except KheopsfsError:  # it answers, if badly: that is for the single request to judge
                self._declare_up()
                return
            else:
                self._declare_up()
                self._accept(token, info)
                await self.on_verdict(token, info)
                return

    async def _wait_for_a_living_token(self) -> None:
        next_recheck = trio.current_time() + self._recheck
        while self._dead is not None:
            await trio.sleep(TOKEN_FILE_PAUSE)
            if self.client.credentials.reload() or trio.current_time() >= next_recheck:
                next_recheck = trio.current_time() + self._recheck
                await self._probe_until_settled()

    def _accept(self, token: Token, info: TokenInfo) -> None:
        if (info.kind, info.subject, info.album_id) != (self.info.kind, self.info.subject, self.info.album_id):
            self._declare_dead(
                "the token file now holds a token of another account or album; unmount and mount again to use it"
            )
            return
        self.client.credentials.accept(token)
        self.info = info
        self._confirmed_at = time.time()
        if self._dead is not None:
            self._dead = None
            log.warning("the token is accepted again; the mount works as before")

    def _distrust_what_is_old(self) -> None:
        """Nobody can be asked; what was said last does not count for ever."""
        try:
            demand_trusted(self._confirmed_at)
        except TokenRefusedError as error:
            if self._dead is None:
                self._declare_dead(str(error))
                self.on_dead()

    def _declare_dead(self, reason: str) -> None:
        if self._dead != reason:
            log.error("the token is refused: %s", reason)
        self._dead = reason
        self._suspicion.set()
        self._refuse_line(TokenRefusedError(reason))

    def _declare_down(self, reason: str) -> None:
        if self._down is None:
            log.error("the server cannot be reached, only what is cached can be read: %s", reason)
        self._down = reason
        self._refuse_line(ServerUnreachableError(reason))

    def _declare_up(self) -> None:
        if self._down is not None:
            log.warning("the server is back")
        self._down = None


class OfflineGate(Gate):
    """The gate of a mount that never contacts its server. What the server last said of the token counts for a week."""

    def __init__(self, client: Client, standing: Standing) -> None:
        super().__init__(client, standing.info, recheck=math.inf)
        self._confirmed_at = standing.confirmed_at
        self._down = "the mount is offline, and this is not in the cache"

    async def watch(self) -> None:
        """Look at the clock, for ever; not at a timer, which stands still while the machine sleeps."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self._confirmed_at))
        log.warning(
            "the mount is offline: the server is never asked, only what is cached can be read; "
            "it accepted the token last on %s",
            when,
        )
        while True:
            self._distrust_what_is_old()
            await trio.sleep(CLOCK_PAUSE)


async def _ignore(_token: Token, _info: TokenInfo | None) -> None:
    pass
