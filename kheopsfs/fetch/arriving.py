"""Reading a large instance while it arrives.

A multi-frame object of two gigabytes takes minutes, and a viewer that wants its header should not wait for its end. So
once the size of such an object is known (it was seen whole before, or the server states it), `open` returns, and each
read waits only for the bytes that it wants.

What is shown early is not proven yet, so three rules keep the promise that nobody ends up with a wrong or a short file:

* **The read that reaches the end waits for the proof** that the whole body is there and as long as was said. Whoever
  reads a file to its end gets all of it, proven, or an error.
* What a retrieval that broke off has shown is compared with the body that came in the end. If they differ in a byte,
  every further read of those who saw it fails.
* After a first failure nothing more is shown early; readers wait for the whole body.

Below `READ_ALONG_BYTES` none of this happens: a body is whole and proven before anybody sees it.
"""

from collections.abc import Callable

import trio

from kheopsfs.errors import BadAnswerError
from kheopsfs.fetch.joined import Ticket
from kheopsfs.store import Body, Incoming

READ_ALONG_BYTES = 32 * 1024 * 1024  # what a slow hospital line brings within seconds is worth waiting for whole
_COMPARED_BYTES = 1024 * 1024  # at a time, of two files in the page cache


class Arrival:
    """What has come of one instance so far: told by its retrieval, asked by everyone who reads along.

    Attributes:
        size: in bytes, of the whole; None while nobody said it.
    """

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.over = False
        self.changed = trio.Event()
        self.contradicted = False
        self._so_far: Body | None = None
        self._begun = False
        self._broken = False

    @property
    def may_be_read(self) -> bool:
        """Whether it is arriving, large, of known size, and nothing went wrong with it."""
        is_large = self.size is not None and self.size >= READ_ALONG_BYTES
        return is_large and self._begun and not self._broken and not self.over

    def begin(self, stated_size: int | None) -> None:
        """The instance begins; its size, if the server states it, counts more than what was seen earlier."""
        if stated_size is not None and not self._broken:
            self.size = stated_size
        self._begun = True
        self._tell()

    def advance(self, incoming: Incoming) -> None:
        """More of it is on the disk."""
        if not self._broken:
            before, self._so_far = self._so_far, incoming.so_far()
            if before is not None:
                before.close()
            self._tell()

    def break_off(self) -> None:
        """The retrieval failed. Another one may follow, but it is shown only when it is whole."""
        self._broken = True
        self._tell()

    async def conclude(self, body: Body) -> None:
        """The whole body is here and proven: is it what was shown?"""
        shown = self._so_far
        if self.size is not None and body.size != self.size:
            self.contradicted = True
        elif shown is not None and self._broken:
            self.contradicted = not await trio.to_thread.run_sync(_begins_with, body, shown)

    def end(self) -> None:
        """Nothing more will come; the result of the retrieval says what became of it."""
        self.over = True
        self._tell()
        if self._so_far is not None:
            self._so_far.close()
            self._so_far = None

    def holds(self, end: int) -> Body | None:
        """What has arrived, if that is at least the first `end` bytes and may be shown."""
        return self._so_far if not self._broken and self._so_far is not None and self._so_far.size >= end else None

    def waits_for(self, end: int) -> bool:
        """Whether the first `end` bytes may still be shown before the whole is here."""
        return not self.over and not self._broken and self.holds(end) is None

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class ArrivingBody:
    """An open instance of which not all is here yet.

    Attributes:
        size: in bytes, of the whole.
    """

    def __init__(
        self, size: int, arrival: Arrival, ticket: Ticket[Body], leave: Callable[[Ticket[Body]], None]
    ) -> None:
        """`ticket`: a place in the retrieval, given up with `leave` when this is closed."""
        self.size = size
        self._arrival = arrival
        self._ticket = ticket
        self._leave = leave

    async def pread(self, length: int, offset: int) -> bytes:
        """The `length` bytes from `offset` on, fewer only at the end; waits for them.

        Raises:
            StalledError, ServerUnreachableError, …: what the retrieval failed with.
            BadAnswerError: the body turned out not to be what was shown of it.
        """
        end = offset + max(0, min(length, self.size - offset))
        while end < self.size and self._arrival.waits_for(end):
            await self._arrival.changed.wait()
        if end < self.size and (so_far := self._arrival.holds(end)) is not None:
            with so_far.dup() as body:
                return await trio.to_thread.run_sync(body.pread, end - offset, offset)
        whole = await self._ticket.result()
        if self._arrival.contradicted or whole.size != self.size:
            raise BadAnswerError("the server delivered another file than the one that was begun: open it again")
        return await trio.to_thread.run_sync(whole.pread, end - offset, offset)

    def close(self) -> None:
        """No longer interested."""
        self._leave(self._ticket)


def _begins_with(body: Body, shown: Body) -> bool:
    """Whether the bytes of `shown` are the first ones of `body`. Reads both; for worker threads."""
    return body.size >= shown.size and all(
        body.pread(_COMPARED_BYTES, offset)[: shown.size - offset] == shown.pread(_COMPARED_BYTES, offset)
        for offset in range(0, shown.size, _COMPARED_BYTES)
    )
