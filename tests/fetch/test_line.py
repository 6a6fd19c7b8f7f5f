"""The line: how many turns there are, whose is next, and that none is lost. The clock is trio's own test clock."""

import math

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kheopsfs.errors import TokenRefusedError
from kheopsfs.fetch.line import CONCURRENT_REQUESTS, REQUESTS_PER_SERIES, Line, Priority


def never() -> float:
    return -math.inf


@pytest.mark.trio
async def test_no_more_requests_than_allowed_and_demanded_ones_first(nursery: trio.Nursery) -> None:
    line = Line(30, never)
    order: list[str] = []
    finish = trio.Semaphore(0)

    async def ask(name: str, priority: Priority) -> None:
        async with line.turn(priority):
            order.append(name)
            await finish.acquire()

    async with trio.open_nursery() as asking:
        for number in range(CONCURRENT_REQUESTS):
            asking.start_soon(ask, f"first {number}", Priority.DEMANDED)
        await trio.testing.wait_all_tasks_blocked()
        for name, priority in (
            ("guess 1", Priority.SPECULATIVE),
            ("guess 2", Priority.SPECULATIVE),
            ("demand 1", Priority.DEMANDED),
            ("demand 2", Priority.DEMANDED),
        ):
            asking.start_soon(ask, name, priority)
            await trio.testing.wait_all_tasks_blocked()
        assert len(order) == CONCURRENT_REQUESTS
        for _ in range(CONCURRENT_REQUESTS + 4):
            finish.release()
            await trio.testing.wait_all_tasks_blocked()
    assert order[CONCURRENT_REQUESTS:] == ["demand 1", "demand 2", "guess 1", "guess 2"]


@pytest.mark.trio
async def test_who_gives_up_waiting_loses_no_turn_for_the_others(nursery: trio.Nursery) -> None:
    line = Line(30, never)
    release = trio.Event()

    async def hold() -> None:
        async with line.turn(Priority.DEMANDED):
            await release.wait()

    for _ in range(CONCURRENT_REQUESTS):
        nursery.start_soon(hold)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(3):
        with trio.move_on_after(0):
            async with line.turn(Priority.DEMANDED):
                raise AssertionError("there is no turn to have")
    release.set()
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as asking:
        for _ in range(CONCURRENT_REQUESTS):
            asking.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        assert len(asking.child_tasks) == 0


@given(
    st.lists(st.tuples(st.sampled_from(Priority), st.sampled_from("ab") | st.none(), st.floats(0.1, 9)), max_size=40)
)
def test_turns_are_limited_and_none_is_lost(requests: list[tuple[Priority, str | None, float]]) -> None:
    """Any requests, some of them given up at any moment: the limits hold, and in the end all turns are free."""

    async def ask_all() -> None:
        line = Line(1000, never)
        held: list[str | None] = []

        async def ask(priority: Priority, series: str | None, patience: float) -> None:
            with trio.move_on_after(patience):
                async with line.turn(priority, series):
                    held.append(series)
                    try:
                        assert len(held) <= CONCURRENT_REQUESTS
                        assert all(held.count(one) <= REQUESTS_PER_SERIES for one in "ab")
                        await trio.sleep(2)
                    finally:
                        held.remove(series)

        async with trio.open_nursery() as asking:
            for request in requests:
                asking.start_soon(ask, *request)
        async with trio.open_nursery() as asking:
            for number in range(CONCURRENT_REQUESTS):
                asking.start_soon(ask, Priority.DEMANDED, "ab"[number % 2], 1)
            await trio.testing.wait_all_tasks_blocked()
            assert len(held) == CONCURRENT_REQUESTS

    trio.run(ask_all, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.trio
async def test_who_is_cancelled_in_the_moment_of_a_refusal_gives_no_turn_away(nursery: trio.Nursery) -> None:
    line = Line(30, never)
    release = trio.Event()

    async def hold() -> None:
        async with line.turn(Priority.DEMANDED):
            await release.wait()

    for _ in range(CONCURRENT_REQUESTS):
        nursery.start_soon(hold)
    await trio.testing.wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            line.refuse(TokenRefusedError("dead"))
    with trio.move_on_after(0.05) as waited:
        async with line.turn(Priority.DEMANDED):
            raise AssertionError("all turns are taken")
    assert waited.cancelled_caught
    release.set()
