"""The gate that every request to the server passes: is the token alive, is the server there, is it our turn.

Model. The token is *alive* or *dead*. Only introspection decides (the Kheops contract: 401 is overloaded). While it is
dead, `admit` refuses everything, cached content included, until another token appears in the token file or the
server takes the old one again. The server is *up* or *down*. A request that found nobody, or only silence, raises no
more than the suspicion; a probe decides, so that one broken URL never shuts out the others. While the server is down,
requests fail at once instead of each waiting for its own deadline, and the probe goes on in the background until the
server is back.

Who waits in line must not wait for one silent request after the other. When a request has met nothing but silence, and
no other one has heard a single byte in all that time, everybody in line is told what it was told; the same goes when
the server turns out to be down, or the token dead. A slow server that still sends to anybody costs nobody in line
anything.

Each change of state is one line in the log, not one line per file.

Invariants: at most `CONCURRENT_REQUESTS` requests are under way; among those waiting, a demanded one goes before every
speculative one, and equals go in order of arrival. A waiter that is cancelled gives its turn to the next.
"""

import heapq
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum

import trio

from kheopsfs.errors import (
    KheopsfsError,
    ServerUnreachableError,
    StalledError,
    TokenRefusedError,
)
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.tokens import TokenInfo

log = logging.getLogger(__name__)

CONCURRENT_REQUESTS = 6  # Kheops has 10 database connections for everybody; more from one client only queue there
FIRST_PROBE_PAUSE = 1.0  # seconds between probes of a server that is down, growing by half …
LONGEST_PROBE_PAUSE = 10.0  # … up to this: people notice a server that came back within ten seconds
TOKEN_FILE_PAUSE = 1.0  # seconds between looks at the token file while the token is dead


class Priority(IntEnum):
    """Who goes first when the line is full."""

    DEMANDED = 0  # a program is blocked in the mount until this answers
    SPECULATIVE = 1  # nobody waits yet


class _Place:
    """A place in line: it ends with a turn, or with a refusal for all who wait."""

    def __init__(self) -> None:
        self.called = trio.Event()
        self.refusal: KheopsfsError | None = None


class Gate:
    """The one way to the server. Run `watch` as long as the gate is used."""

    def __init__(self, client: Client, info: TokenInfo, *, recheck: float) -> None:
        """`recheck`: seconds after which a token that is in use is introspected again, so that a revocation is noticed
        although everything comes from the cache."""
        self.client = client
        self.info = info
        self._recheck = recheck
        self._dead: str | None = None
        self._down: str | None = None
        self._free = CONCURRENT_REQUESTS
        self._queue: list[tuple[int, int, _Place]] = []
        self._arrivals = itertools.count()
        self._suspicion = trio.Event()
        self._used = False
        self.on_dead: Callable[[], None] = lambda: None

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
    async def request(self, priority: Priority) -> AsyncIterator[Client]:
        """Wait for a turn and hold it for the body of the `async with`.

        Raises:
            TokenRefusedError: the token is dead.
            ServerUnreachableError: the server is known to be down.
            StalledError: the server fell silent for everybody while this request was in line.
        """
        self._check()
        await self._take_turn(priority)
        began = trio.current_time()
        try:
            self._check()
            yield self.client
        except ServerUnreachableError:
            self._suspicion.set()
            raise
        except StalledError as error:
            self._suspicion.set()
            if self.client.last_heard < began:
                self._refuse_line(error)
            raise
        except TokenRefusedError as error:
            self._declare_dead(str(error))
            raise
        finally:
            self._pass_turn()

    def _check(self) -> None:
        self.admit()
        if self._down is not None:
            raise ServerUnreachableError(self._down)

    async def _take_turn(self, priority: Priority) -> None:
        if self._free:
            self._free -= 1
            return
        place = _Place()
        entry = (int(priority), next(self._arrivals), place)
        heapq.heappush(self._queue, entry)
        try:
            await place.called.wait()
        except trio.Cancelled:
            if not place.called.is_set():
                self._queue.remove(entry)
                heapq.heapify(self._queue)
            elif place.refusal is None:
                self._pass_turn()
            raise
        if place.refusal is not None:
            raise place.refusal

    def _pass_turn(self) -> None:
        if self._queue:
            heapq.heappop(self._queue)[2].called.set()
        else:
            self._free += 1

    def _refuse_line(self, error: KheopsfsError) -> None:
        for _, _, place in self._queue:
            place.refusal = type(error)(*error.args)  # one for each, because a traceback grows with every raise
            place.called.set()
        self._queue.clear()

    # -- the state of token and server -------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Keep the state of token and server true, for ever. `on_dead` is called each time the token dies."""
        while True:
            with trio.move_on_after(self._recheck):
                await self._suspicion.wait()
            if self._suspicion.is_set() or self._used:
                self._suspicion = trio.Event()
                self._used = False
                await self._probe_until_settled()
            if self._dead is not None:
                self.on_dead()
                await self._wait_for_a_living_token()

    async def _probe_until_settled(self) -> None:
        pause = FIRST_PROBE_PAUSE
        while True:
            self.client.credentials.reload()
            try:
                info = await self.client.introspect()
            except TokenRefusedError as error:
                self._declare_up()
                self._declare_dead(str(error))
                return
            except (ServerUnreachableError, StalledError) as error:
                self._declare_down(str(error))
                await trio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PROBE_PAUSE)
            except KheopsfsError:  # it answers, if badly: that is for the single request to judge
                self._declare_up()
                return
            else:
                self._declare_up()
                self._accept(info)
                return

    async def _wait_for_a_living_token(self) -> None:
        next_recheck = trio.current_time() + self._recheck
        while self._dead is not None:
            await trio.sleep(TOKEN_FILE_PAUSE)
            if self.client.credentials.reload() or trio.current_time() >= next_recheck:
                next_recheck = trio.current_time() + self._recheck
                await self._probe_until_settled()

    def _accept(self, info: TokenInfo) -> None:
        if (info.kind, info.subject, info.album_id) != (self.info.kind, self.info.subject, self.info.album_id):
            self._declare_dead(
                "the token file now holds a token of another account or album; unmount and mount again to use it"
            )
            return
        self.info = info
        if self._dead is not None:
            self._dead = None
            log.warning("the token is accepted again; the mount works as before")

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
