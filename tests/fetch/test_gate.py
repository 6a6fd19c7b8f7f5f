"""The gate: a dead token, a server that is down or silent, and who waits for it. The clock is trio's own test clock."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from kheopsfs.errors import KheopsfsError, ServerUnreachableError, StalledError, TokenRefusedError
from kheopsfs.fetch.gate import Gate, OfflineGate
from kheopsfs.fetch.line import CONCURRENT_REQUESTS, REQUESTS_PER_SERIES, Priority
from kheopsfs.fetch.standings import CLOCK_TOLERANCE, DAY, TRUSTED_DAYS, Standing
from kheopsfs.kheops.tokens import TokenInfo


def info(subject: str = "someone") -> TokenInfo:
    return TokenInfo(kind="user", subject=subject, scopes=frozenset({"user", "read"}), token_id="", album_id="")


@dataclass
class Server:
    """What the gate needs of a client: introspection and the token file."""

    answer: Any = field(default_factory=info)
    asked: int = 0
    new_token: bool = False
    last_heard: float = -math.inf
    idle_timeout: float = 30.0
    token: str = "a token"
    offered: str = "a token"

    @property
    def credentials(self) -> "Server":
        return self

    def reload(self) -> bool:
        changed, self.new_token = self.new_token, False
        return changed

    def accept(self, token: str) -> None:
        self.token = token

    async def introspect(self, token: str) -> TokenInfo:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def gate_to(server: Server, recheck: float = 60.0) -> Gate:
    return Gate(server, info(), recheck=recheck)  # type: ignore[arg-type]


@dataclass
class Crowd:
    """Readers that all ask at once. Those whose turn comes hear nothing for the idle deadline, or for ever longer."""

    gate: Gate
    ended: list[tuple[float, KheopsfsError | None]] = field(default_factory=list)

    async def ask(self, work: Callable[[], Awaitable[None]], series: str | None = None) -> None:
        try:
            async with self.gate.request(Priority.DEMANDED, series):
                await work()
        except KheopsfsError as error:
            self.ended.append((trio.current_time(), error))
        else:
            self.ended.append((trio.current_time(), None))


async def stall() -> None:
    await trio.sleep(Server.idle_timeout)
    raise StalledError("no byte came")


@pytest.mark.trio
async def test_a_crowd_before_a_silent_server_waits_for_one_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S16: however many wait in line, nobody waits for the silence of one after the other. Then everybody may ask."""
    server = Server()
    gate = gate_to(server)
    nursery.start_soon(gate.watch)
    crowd = Crowd(gate)
    start = trio.current_time()
    async with trio.open_nursery() as asking:
        for number in range(20 * CONCURRENT_REQUESTS):
            asking.start_soon(crowd.ask, stall, str(number))
    assert [type(error) for _, error in crowd.ended] == 20 * CONCURRENT_REQUESTS * [StalledError]
    # Whoever came a moment after the first ones may still get one of their turns.
    assert max(moment for moment, _ in crowd.ended) <= start + 2 * Server.idle_timeout
    assert not gate.server_down, "the probe was answered"
    async with gate.request(Priority.DEMANDED):
        pass


@pytest.mark.trio
async def test_a_server_that_sends_to_somebody_refuses_nobody_in_line(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S16: one answer stalls, the others take many times the idle deadline: slowness is no silence."""
    server = Server()
    crowd = Crowd(gate_to(server))

    async def trickle() -> None:
        for _ in range(10):
            await trio.sleep(Server.idle_timeout / 2)
            server.last_heard = trio.current_time()

    async with trio.open_nursery() as asking:
        asking.start_soon(crowd.ask, stall)
        for _ in range(3 * CONCURRENT_REQUESTS):
            asking.start_soon(crowd.ask, trickle)
    assert [type(error) for _, error in crowd.ended if error is not None] == [StalledError]


@pytest.mark.trio
async def test_one_series_that_stalls_leaves_turns_for_the_others(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S16: a hundred readers of a series that never comes; another series is read as if they were not there."""
    gate = gate_to(Server())
    stalled, read = Crowd(gate), Crowd(gate)
    start = trio.current_time()
    async with trio.open_nursery() as asking:
        for _ in range(100):
            asking.start_soon(stalled.ask, stall, "stalled")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(10):
            asking.start_soon(read.ask, partial(trio.sleep, 1), "read")
    assert [error for _, error in read.ended] == 10 * [None]
    assert max(moment for moment, _ in read.ended) <= start + 10 / (CONCURRENT_REQUESTS - REQUESTS_PER_SERIES)
    assert {type(error) for _, error in stalled.ended} == {StalledError}


@pytest.mark.parametrize("answer", [ServerUnreachableError("refused"), TokenRefusedError("dead")])
@pytest.mark.trio
async def test_nobody_stays_in_line_for_what_is_known_to_be_in_vain(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, answer: KheopsfsError
) -> None:
    """S15, S17: the probe finds the server down or the token dead while requests are held up by something else."""
    server = Server(answer)
    gate = gate_to(server, recheck=10)
    nursery.start_soon(gate.watch)
    crowd = Crowd(gate)
    async with trio.open_nursery() as asking:
        for _ in range(5 * CONCURRENT_REQUESTS):
            asking.start_soon(crowd.ask, partial(trio.sleep, 1000))
        await trio.sleep(60)
        refused = crowd.ended[:]
        assert len(refused) == 4 * CONCURRENT_REQUESTS
        assert {type(error) for _, error in refused} == {type(answer)}
        asking.cancel_scope.cancel()


@pytest.mark.trio
async def test_one_failed_request_does_not_shut_the_gate_when_the_probe_finds_the_server(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server()
    gate = gate_to(server)
    nursery.start_soon(gate.watch)
    with pytest.raises(ServerUnreachableError):
        async with gate.request(Priority.DEMANDED):
            raise ServerUnreachableError("reset")
    await trio.testing.wait_all_tasks_blocked()
    assert server.asked == 1
    assert not gate.server_down
    async with gate.request(Priority.DEMANDED):
        pass


@pytest.mark.trio
async def test_a_server_that_is_down_fails_at_once_and_comes_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(ServerUnreachableError("refused"))
    gate = gate_to(server)
    nursery.start_soon(gate.watch)
    with pytest.raises(ServerUnreachableError):
        async with gate.request(Priority.DEMANDED):
            raise ServerUnreachableError("refused")
    await trio.sleep(5)
    assert gate.server_down
    before = trio.current_time()
    for _ in range(20):
        with pytest.raises(ServerUnreachableError):
            async with gate.request(Priority.DEMANDED):
                raise AssertionError("no request while the server is down")
    assert trio.current_time() == before
    server.answer = info()
    await trio.sleep(20)
    assert not gate.server_down
    async with gate.request(Priority.DEMANDED):
        pass
    assert caplog.text.count("cannot be reached") == 1
    assert caplog.text.count("is back") == 1


@pytest.mark.trio
async def test_a_dead_token_shuts_everything_until_the_token_file_has_another(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(TokenRefusedError("the token is no longer valid"))
    gate = gate_to(server, recheck=10)
    deaths: list[float] = []
    gate.on_dead = lambda: deaths.append(trio.current_time())
    nursery.start_soon(gate.watch)
    gate.admit()
    await trio.sleep(11)
    for _ in range(10):
        with pytest.raises(TokenRefusedError):
            gate.admit()
    assert len(deaths) == 1
    assert caplog.text.count("the token is refused") == 1
    server.answer, server.new_token = info(), True
    await trio.sleep(3)
    gate.admit()


@pytest.mark.trio
async def test_a_new_token_is_taken_before_the_old_one_dies(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S14: also by a mount that nobody uses just now."""
    server = Server()
    nursery.start_soon(gate_to(server).watch)
    await trio.sleep(5)
    server.new_token, server.offered = True, "another"
    await trio.sleep(3)
    assert server.token == "another"
    assert server.asked == 1


@pytest.mark.trio
async def test_a_token_of_somebody_else_is_not_taken_over(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(TokenRefusedError("dead"))
    gate = gate_to(server, recheck=10)
    nursery.start_soon(gate.watch)
    gate.admit()
    await trio.sleep(11)
    server.answer, server.new_token = info("somebody else"), True
    await trio.sleep(5)
    with pytest.raises(TokenRefusedError, match="another account"):
        gate.admit()


@pytest.mark.trio
async def test_a_mount_that_nobody_uses_asks_nothing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server()
    nursery.start_soon(gate_to(server, recheck=10).watch)
    await trio.sleep(1000)
    assert server.asked == 0


def offline_gate(server: Server) -> OfflineGate:
    return OfflineGate(server, Standing(info(), time.time()))  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [gate_to, offline_gate])
@pytest.mark.parametrize("jump", [TRUSTED_DAYS * DAY, -CLOCK_TOLERANCE])
@pytest.mark.trio
async def test_what_nobody_can_be_asked_about_counts_for_a_week(
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    jump: float,
) -> None:
    """S14, S23: then everything is refused, until the server says again that the token lives. A clock that was put back
    does not lengthen the week."""
    now = 1e9
    monkeypatch.setattr(time, "time", lambda: now)
    server = Server(ServerUnreachableError("refused"))
    gate = make(server)
    deaths: list[float] = []
    gate.on_dead = lambda: deaths.append(trio.current_time())
    nursery.start_soon(gate.watch)
    gate.admit()
    now += jump - math.copysign(60, jump)
    await trio.sleep(200)
    gate.admit()
    assert gate.server_down
    now += math.copysign(120, jump)
    await trio.sleep(200)
    with pytest.raises(TokenRefusedError, match="accepted the token"):
        gate.admit()
    assert len(deaths) == 1
    server.answer = info()
    await trio.sleep(200)
    if make is gate_to:
        gate.admit()
    else:
        assert server.asked == 0


@pytest.mark.trio
async def test_each_verdict_of_the_server_is_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """S23: what an offline mount will go by: what a living token is, and that a dead one is nothing."""
    server = Server()
    gate = gate_to(server, recheck=10)
    told: list[tuple[object, TokenInfo | None]] = []

    async def note(token: object, verdict: TokenInfo | None) -> None:
        told.append((token, verdict))

    gate.on_verdict = note
    nursery.start_soon(gate.watch)
    gate.admit()
    await trio.sleep(11)
    assert told == [("a token", info())]
    server.answer = TokenRefusedError("dead")
    gate.admit()
    await trio.sleep(11)
    assert told[1:] == [("a token", None)]
    server.answer, server.new_token, server.offered = info("somebody else"), True, "another"
    await trio.sleep(5)
    assert told[2:] == [("another", info("somebody else"))]
    assert server.token == "a token", "requests that are under way never turn into somebody else's"
