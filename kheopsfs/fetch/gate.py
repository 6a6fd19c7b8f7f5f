"""The gate that every request to the server passes: is the token alive, is the server there, and then a turn in line.

Model. The token is *alive* or *dead*. Only introspection decides (the Kheops contract: 401 is overloaded). While it is
dead, `admit` refuses everything, cached content included, until another token appears in the token file or the
server takes the old one again. The server is *up* or *down*. A request that found nobody, or only silence, raises no
more than the suspicion; a probe decides, so that one broken URL never shuts out the others. While the server is down,
requests fail at once instead of each waiting for its own deadline, and the probe goes on in the background until the
server is back. A token that nobody could ask about for a week counts as dead until the server is back.

Who passes waits for a turn (`line`). When the server turns out to be down, or the token dead, everybody in line is told
at once.

An offline mount has an `OfflineGate`, through which nothing ever passes.

Invariants: no request is begun that is known to be in vain, not even by one who was admitted before and waited for a
turn meanwhile. Each change of state is one line in the log, not one line per file.
"""

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from kheopsfs.errors import (
    KheopsfsError,
    ServerUnreachableError,
    StalledError,
    TokenRefusedError,
)
from kheopsfs.fetch.line import Line, Priority
from kheopsfs.fetch.standings import Standing, demand_trusted
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Token
from kheopsfs.kheops.tokens import TokenInfo

log = logging.getLogger(__name__)

FIRST_PROBE_PAUSE = 1.0  # seconds between probes of a server that is down, growing by half …
LONGEST_PROBE_PAUSE = 10.0  # … up to this: people notice a server that came back within ten seconds
TOKEN_FILE_PAUSE = 1.0  # seconds between looks at the token file: who puts a token there may revoke the old one next
LEAST_RECHECK = 1.0  # seconds between introspections of a token in use, however short they are asked to be …
MOST_RECHECK = 60.0  # … and however long: a revoked token must not read the cache for an hour
CLOCK_PAUSE = 60.0  # seconds between looks at the clock of an offline mount: the week of its token may be over


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
        self._line = Line(client.idle_timeout, lambda: client.last_heard)
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
        async with self._line.turn(priority, series):
            try:
                self._check()
                yield self.client
            except (ServerUnreachableError, StalledError):
                self._suspicion.set()
                raise
            except TokenRefusedError as error:
                self._declare_dead(str(error))
                raise

    def _check(self) -> None:
        self.admit()
        if self._down is not None:
            raise ServerUnreachableError(self._down)

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
        self._line.refuse(TokenRefusedError(reason))

    def _declare_down(self, reason: str) -> None:
        if self._down is None:
            log.error("the server cannot be reached, only what is cached can be read: %s", reason)
        self._down = reason
        self._line.refuse(ServerUnreachableError(reason))

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
