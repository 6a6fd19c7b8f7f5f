"""From the line to the disk: flat in memory, and neither waits for the other.

Pieces are gathered into batches, and one worker thread at a time writes a batch while the next one is gathered. A batch
is written as soon as there is a proven body in it and the one before is on disk: while the disk keeps up nothing waits,
and when it does not, one transaction takes many bodies. A body enters the cache only when it was proven whole; its size
enters the ledger with it. What is not proven leaves no trace, and what is proven is kept however the retrieval ends.

Invariants: at most two batches are in memory (one gathering, one being written); bodies are written and committed in
the order in which they came; a failure of the disk is raised to whoever writes next, at the latest when the spool is
left.
"""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

import trio

from kheopsfs.errors import EndlessAnswerError, KheopsfsError
from kheopsfs.fetch.recent import RecentBodies
from kheopsfs.fetch.sizes import Sizes
from kheopsfs.store import Body, Incoming, Store

log = logging.getLogger(__name__)

BATCH_BYTES = 4 * 1024 * 1024  # at most, per hop to a worker thread and transaction of the cache; two are in memory

SMALL_PIECE = 4 * 1024  # bytes; smaller ones are joined, because each one kept by itself costs 200 bytes more

Piece = bytes | bytearray | memoryview
Check = Callable[[BinaryIO], object]


class _Commit:
    """In a batch: the bytes since the last one are the whole body of `key`."""

    def __init__(self, key: str, check: Check | None) -> None:
        self.key = key
        self.check = check


@dataclass(slots=True)
class Intake:
    """Where bodies go: the store, who is told how big they are, who holds them open for a while, and the nursery in
    which they are written."""

    store: Store
    sizes: Sizes
    recent: RecentBodies
    nursery: trio.Nursery
    on_arrival: Callable[[str, int], None] = lambda _key, _size: None

    @asynccontextmanager
    async def spooling(self, committed: Callable[[str, Body], None]) -> AsyncIterator["Spool"]:
        """A spool for the body of the `async with`. However that ends, everything proven is on disk then.

        Args:
            committed: gets each body as soon as it is kept, and must close it.

        Raises:
            DiskFullError, CacheUnusableError: the disk did not take it.
        """
        spool = Spool(self, committed)
        try:
            yield spool
        finally:
            with trio.CancelScope(shield=True):  # short, and what was proven need not come again
                await spool.finish()
        spool.demand_success()


class Spool:
    """Bodies on their way to the disk, one after the other. Made by `Intake.spooling`."""

    def __init__(self, intake: Intake, committed: Callable[[str, Body], None]) -> None:
        self._intake = intake
        self._committed = committed
        self._batch: list[Piece | _Commit] = []
        self._gathered = 0
        self._room = 0
        self._proven = 0  # entries of the batch up to its last commit
        self._idle = trio.Event()
        self._idle.set()
        self._error: KheopsfsError | None = None
        self._incoming: Incoming | None = None
        self.on_progress: Callable[[Incoming], None] | None = None
        """Set to hear of what is on disk of the body that is arriving; it is then written as it comes."""

    def begin(self, limit: int) -> None:
        """A body begins to arrive, of at most `limit` bytes."""
        self._room = limit

    async def write(self, data: Piece) -> None:
        """Add to the body that is arriving.

        Raises:
            DiskFullError: no room.
            EndlessAnswerError: more than the body's limit.
        """
        self._room -= len(data)
        if self._room < 0:
            raise EndlessAnswerError("a body was given up that is far larger than its list entry, and than the cache")
        if len(data) >= SMALL_PIECE:
            self._batch.append(data)
        elif self._batch and isinstance(last := self._batch[-1], bytearray):
            last += data
        else:
            self._batch.append(bytearray(data))
        self._gathered += len(data)
        if self._gathered >= BATCH_BYTES:
            await self._idle.wait()
        self.demand_success()
        self._write_next()

    def commit(self, key: str, check: Check | None = None) -> None:
        """The body that arrived was proven: make it the content of `key`, and its size known for good.

        `check` may look at the finished file once more, in the worker thread, and raise to refuse it.
        """
        self._batch.append(_Commit(key, check))
        self._proven = len(self._batch)
        self._write_next()

    def demand_success(self) -> None:
        """Raises KheopsfsError: what a batch failed with."""
        if self._error is not None:
            raise self._error

    async def finish(self) -> None:
        """Write what is proven; leave no trace of the rest."""
        del self._batch[self._proven :]
        while self._proven or not self._idle.is_set():
            self._write_next()
            await self._idle.wait()
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    def _write_next(self) -> None:
        """Write what was gathered, if the batch before is on disk and it is worth a hop to a thread."""
        if self._error is not None:
            self._batch, self._gathered, self._proven = [], 0, 0
        is_due = self._proven or self._gathered >= BATCH_BYTES or (self._batch and self.on_progress)
        if is_due and self._idle.is_set():
            batch, self._batch, self._gathered, self._proven = self._batch, [], 0, 0
            self._idle = trio.Event()
            self._intake.nursery.start_soon(self._write_out, batch)

    async def _write_out(self, batch: list[Piece | _Commit]) -> None:
        try:
            with trio.CancelScope(shield=True):  # a batch is short, and what it commits is proven
                bodies = await trio.to_thread.run_sync(self._perform, batch)
            if self.on_progress is not None and self._incoming is not None:
                self.on_progress(self._incoming)
            for key, body in bodies:
                self._intake.sizes.learn(key, body.size)
                self._intake.recent.hold(key, body)
                self._intake.on_arrival(key, body.size)
                self._committed(key, body)
        except Exception:
            log.exception("a bug in kheopsfs; please report it")
            self._error = KheopsfsError("a bug in kheopsfs; the traceback is in the log")
        finally:
            self._idle.set()
            self._write_next()

    # -- in worker threads, one at a time ----------------------------------------------------------------------------

    def _perform(self, batch: list[Piece | _Commit]) -> list[tuple[str, Body]]:
        whole: list[tuple[str, Incoming]] = []
        try:
            for entry in batch:
                if self._incoming is None:
                    self._incoming = self._intake.store.bodies.incoming()
                if isinstance(entry, _Commit):
                    self._check(self._incoming, entry)
                    whole.append((entry.key, self._incoming))
                    self._incoming = None
                else:
                    self._incoming.write(entry)
        except KheopsfsError as error:
            self._error = error
        except BaseException:
            for _, incoming in whole:
                incoming.discard()
            raise
        if not whole:
            return []
        bodies = self._intake.store.bodies.commit(whole)
        committed = [(key, body) for (key, _), body in zip(whole, bodies, strict=True)]
        self._intake.sizes.record({key: body.size for key, body in committed})
        return committed

    def _check(self, incoming: Incoming, entry: _Commit) -> None:
        if entry.check is not None:
            with os.fdopen(os.dup(incoming.fileno()), "rb") as file:
                entry.check(file)
