"""Nobody gets the same thing twice at once."""

import pytest
import trio
import trio.testing

from kheopsfs.errors import BadAnswerError, KheopsfsError
from kheopsfs.fetch.joined import Joined

pytestmark = pytest.mark.trio


class Work:
    """Something slow that counts how often it was begun and how it ended."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.finish = trio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.finish.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return "result"


async def test_everyone_who_joins_gets_the_one_result(nursery: trio.Nursery) -> None:
    joined: Joined[str, str] = Joined(nursery)
    work, results = Work(), []

    async def want() -> None:
        results.append(await joined.get("key", work))

    async with trio.open_nursery() as wanting:
        for _ in range(5):
            wanting.start_soon(want)
        await trio.testing.wait_all_tasks_blocked()
        work.finish.set()
    assert (work.begun, results) == (1, ["result"] * 5)
    await joined.get("key", work)
    assert work.begun == 2, "what has landed is not kept here"


async def test_an_error_reaches_everyone_and_ends_nothing(nursery: trio.Nursery) -> None:
    joined: Joined[str, str] = Joined(nursery)
    work, errors = Work(), []
    work.error = BadAnswerError("cut")

    async def want() -> None:
        with pytest.raises(BadAnswerError) as caught:
            await joined.get("key", work)
        errors.append(caught.value)

    async with trio.open_nursery() as wanting:
        for _ in range(3):
            wanting.start_soon(want)
        await trio.testing.wait_all_tasks_blocked()
        work.finish.set()
    assert len(errors) == 3


async def test_a_bug_becomes_an_error_for_those_who_wait_and_is_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    joined: Joined[str, str] = Joined(nursery)
    work = Work()
    work.error = ZeroDivisionError("a bug")
    work.finish.set()
    with pytest.raises(KheopsfsError):
        await joined.get("key", work)
    assert "a bug" in caplog.text


async def test_work_is_cancelled_when_the_last_waiter_leaves(nursery: trio.Nursery) -> None:
    joined: Joined[str, str] = Joined(nursery)
    work = Work()
    scopes = [trio.CancelScope(), trio.CancelScope()]

    async def want(scope: trio.CancelScope) -> None:
        with scope:
            await joined.get("key", work)

    async with trio.open_nursery() as wanting:
        for scope in scopes:
            wanting.start_soon(want, scope)
        await trio.testing.wait_all_tasks_blocked()
        scopes[0].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert work.cancelled == 0
        scopes[1].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert work.cancelled == 1


async def test_who_comes_while_work_is_being_cancelled_does_not_join_it(nursery: trio.Nursery) -> None:
    joined: Joined[str, str] = Joined(nursery)
    work = Work()
    scope = trio.CancelScope()

    async def leave() -> None:
        with scope:
            await joined.get("key", work)

    async with trio.open_nursery() as wanting:
        wanting.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        work.finish.set()
        assert await joined.get("key", work) == "result"


async def test_background_work_goes_on_without_waiters(nursery: trio.Nursery) -> None:
    disposed: list[str] = []
    joined: Joined[str, str] = Joined(nursery, dispose=disposed.append)
    work = Work()
    joined.start("key", work)
    joined.start("key", work)
    with trio.move_on_after(0):
        await joined.get("key", work)
    await trio.testing.wait_all_tasks_blocked()
    assert (work.begun, work.cancelled) == (1, 0)
    work.finish.set()
    await trio.testing.wait_all_tasks_blocked()
    assert disposed == ["result"]


async def test_a_flight_goes_on_until_the_last_ticket_is_left(nursery: trio.Nursery) -> None:
    joined: Joined[str, str] = Joined(nursery)
    work = Work()
    first = joined.join("key", work)
    second = first.another()
    await trio.testing.wait_all_tasks_blocked()
    first.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert (work.begun, work.cancelled) == (1, 0)
    second.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert (work.begun, work.cancelled) == (1, 1)


async def test_each_waiter_takes_its_own_and_the_flights_is_disposed_of_once(nursery: trio.Nursery) -> None:
    taken: list[str] = []
    disposed: list[str] = []

    def take(result: str) -> str:
        taken.append(result)
        return result

    joined: Joined[str, str] = Joined(nursery, take=take, dispose=disposed.append)
    work = Work()

    async def want() -> None:
        await joined.get("key", work)
        assert not disposed or len(taken) == 4

    async with trio.open_nursery() as wanting:
        for _ in range(4):
            wanting.start_soon(want)
        await trio.testing.wait_all_tasks_blocked()
        work.finish.set()
    assert (len(taken), len(disposed)) == (4, 1)
