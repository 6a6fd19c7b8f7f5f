"""Nobody gets the same thing twice at once: whoever wants it joins the task that is getting it.

Invariants: at most one task per key; everyone who joined gets that task's result or its error; when the last waiter
gives up, the task is cancelled, unless it was started in the background on purpose. Tasks belong to the nursery given,
so nothing outlives it. A bug in a task is logged and reaches its waiters as an error: it never ends the nursery.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from kheopsfs.errors import KheopsfsError

log = logging.getLogger(__name__)

Key = TypeVar("Key")
Result = TypeVar("Result")


class _Flight(Generic[Result]):
    def __init__(self, *, background: bool) -> None:
        self.background = background
        self.waiters = 0
        self.landed = trio.Event()
        self.scope = trio.CancelScope()
        self.result: Result
        self.error: KheopsfsError | None = KheopsfsError("given up: the mount is being ended")

    async def fly(self, work: Callable[[], Awaitable[Result]]) -> None:
        try:
            with self.scope:
                self.result = await work()
                self.error = None
        except KheopsfsError as error:
            self.error = error
        except Exception:
            log.exception("a bug in kheopsfs; please report it")
            self.error = KheopsfsError("a bug in kheopsfs; the traceback is in the log")
        finally:
            self.landed.set()


class Ticket(Generic[Result]):
    """A waiter's place in a flight, made by `Joined.join`; to be left once."""

    def __init__(self, flight: _Flight[Result], left: Callable[[], None]) -> None:
        self._flight = flight
        self._left = left
        flight.waiters += 1

    async def result(self) -> Result:
        """The flight's own result, good until the ticket is left.

        Raises:
            KheopsfsError: whatever the work raised, to everyone who joined.
        """
        await self._flight.landed.wait()
        if self._flight.error is not None:
            raise self._flight.error.with_traceback(None)
        return self._flight.result

    async def landed(self) -> None:
        """Wait for the end of the flight, whatever became of it."""
        await self._flight.landed.wait()

    def another(self) -> "Ticket[Result]":
        """One more place in the same flight."""
        return Ticket(self._flight, self._left)

    def leave(self) -> None:
        """No longer interested."""
        self._flight.waiters -= 1
        if not self._flight.waiters:
            self._left()


class Joined(Generic[Key, Result]):
    """The flights under way, by key."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        take: Callable[[Result], Result] = lambda result: result,
        dispose: Callable[[Result], None] = lambda _result: None,
    ) -> None:
        """`take` makes each waiter's own copy of a result that must be released, `dispose` releases the flight's."""
        self._nursery = nursery
        self._take = take
        self._dispose = dispose
        self._flights: dict[Key, _Flight[Result]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._flights

    async def get(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        """Join the flight of `key`, starting it with `work` if there is none.

        Raises:
            KheopsfsError: whatever `work` raised, to everyone who joined.
        """
        ticket = self.join(key, work)
        try:
            return self._take(await ticket.result())
        finally:
            ticket.leave()

    def join(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Ticket[Result]:
        """Like `get`, in two steps: the flight goes on until the ticket is left."""
        flight = self._flights.get(key) or self._take_off(key, work, background=False)
        return Ticket(flight, lambda: self._leave(key, flight))

    def start(self, key: Key, work: Callable[[], Awaitable[Result]]) -> None:
        """Start a flight that goes on without waiters; nothing happens when there is one already."""
        if key not in self._flights:
            self._take_off(key, work, background=True)

    def _take_off(self, key: Key, work: Callable[[], Awaitable[Result]], *, background: bool) -> _Flight[Result]:
        flight = self._flights[key] = _Flight[Result](background=background)

        async def fly() -> None:
            await flight.fly(work)
            self._forget(key, flight)
            if not flight.waiters:
                self._leave(key, flight)

        self._nursery.start_soon(fly)
        return flight

    def _leave(self, key: Key, flight: _Flight[Result]) -> None:
        """The last waiter has left."""
        if flight.landed.is_set():
            if flight.error is None:
                self._dispose(flight.result)
        elif not flight.background:
            flight.scope.cancel()
            self._forget(key, flight)  # who comes now must not join a flight that is going down

    def _forget(self, key: Key, flight: _Flight[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
