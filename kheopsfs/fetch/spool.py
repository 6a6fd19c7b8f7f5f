"""From the line to the disk: flat in memory, and neither waits for the other.

Pieces are gathered into batches, and one worker thread at a time writes a batch while the next one is gathered. A body
enters the cache only when it was proven whole; its size enters the ledger with it. What is not proven leaves no trace.

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
from kheopsfs.fetch.sizes import Sizes
from kheopsfs.store import Body, Incoming, Store

log = logging.getLogger(__name__)

BATCH_BYTES = 1024 * 1024  # per hop to a worker thread (about 0.1 ms each): rare enough to be cheap, flat in memory

SMALL_PIECE = 4 * 1024  # bytes; smaller ones are joined, because each one kept by itself costs 200 bytes more

Piece = bytes | bytearray | memoryview
Check = Callable[[BinaryIO], object]


class _Commit:
    """In a batch: the bytes since the last one are the whole body of `key`."""

    def __init__(self, key: str, check: Check | None) -> None:
        self.key = key
        self.check = check


@dataclass(frozen=True, slots=True)
class Intake:
    """Where bodies go: the store, who is told how big they are, and the nursery in which they are written."""

    store: Store
    sizes: Sizes
    nursery: trio.Nursery

    @asynccontextmanager
    async def spooling(self, committed: Callable[[str, Body], None]) -> AsyncIterator["Spool"]:
        """A spool for the body of the `async with`. When that ends well, everything committed is on disk.

        Args:
            committed: gets each body as soon as it is kept, and must close it.

        Raises:
            DiskFullError, CacheUnusableError: the disk did not take it.
        """
        spool = Spool(self, committed)
        try:
            yield spool
            await spool.flush()
            await spool.settle()
        finally:
            with trio.CancelScope(shield=True):
                await spool.discard()


class Spool:
    """Bodies on their way to the disk, one after the other. Made by `Intake.spooling`."""

    def __init__(self, intake: Intake, committed: Callable[[str, Body], None]) -> None:
        self._intake = intake
        self._committed = committed
        self._batch: list[Piece | _Commit] = []
        self._gathered = 0
        self._room = 0
        self._idle = trio.Event()
        self._idle.set()
        self._error: KheopsfsError | None = None
        self._incoming: Incoming | None = None

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
            await self.flush()

    def commit(self, key: str, check: Check | None = None) -> None:
        """The body that arrived was proven: make it the content of `key`, and its size known for good.

        `check` may look at the finished file once more, in the worker thread, and raise to refuse it.
        """
        self._batch.append(_Commit(key, check))

    async def flush(self) -> None:
        """Have what was gathered written, without waiting until it is; waits for the batch before.

        Raises:
            KheopsfsError: what the batch before failed with.
        """
        await self.settle()
        if self._batch:
            batch, self._batch, self._gathered = self._batch, [], 0
            self._intake.nursery.start_soon(self._write_out, batch)
            self._idle = trio.Event()

    async def settle(self) -> None:
        """Wait until no batch is being written. Raises as `flush`."""
        await self._idle.wait()
        if self._error is not None:
            raise self._error

    async def discard(self) -> None:
        """Leave no trace of what was not committed."""
        await self._idle.wait()
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    async def _write_out(self, batch: list[Piece | _Commit]) -> None:
        try:
            with trio.CancelScope(shield=True):  # a batch is short, and what it commits is proven
                bodies = await trio.to_thread.run_sync(self._perform, batch)
            for key, body in bodies:
                self._intake.sizes.learn(key, body.size)
                self._committed(key, body)
        except Exception:
            log.exception("a bug in kheopsfs; please report it")
            self._error = KheopsfsError("a bug in kheopsfs; the traceback is in the log")
        finally:
            self._idle.set()

    # -- in worker threads, one at a time ----------------------------------------------------------------------------

    def _perform(self, batch: list[Piece | _Commit]) -> list[tuple[str, Body]]:
        bodies: list[tuple[str, Body]] = []
        try:
            for entry in batch:
                if self._incoming is None:
                    self._incoming = self._intake.store.bodies.incoming()
                if isinstance(entry, _Commit):
                    bodies.append((entry.key, self._commit(self._incoming, entry)))
                    self._incoming = None
                else:
                    self._incoming.write(entry)
        except KheopsfsError as error:
            self._error = error
        self._intake.sizes.record({key: body.size for key, body in bodies})
        return bodies

    def _commit(self, incoming: Incoming, entry: _Commit) -> Body:
        if entry.check is not None:
            with os.fdopen(os.dup(incoming.fileno()), "rb") as file:
                entry.check(file)
        return incoming.commit(entry.key)
