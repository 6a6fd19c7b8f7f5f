"""From the line to the disk without holding a body in memory, and without the disk holding up the event loop.

Pieces are gathered until `BATCH_BYTES` are there, then one worker thread writes them. A body enters the cache only when
it was proven whole; its size enters the ledger in the same step. What is not proven leaves no trace.
"""

import os
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Self

import trio

from kheopsfs.fetch.sizes import Sizes
from kheopsfs.store import Body, Incoming, Store

BATCH_BYTES = 1024 * 1024  # per hop to a worker thread (about 0.1 ms each): rare enough to be cheap, flat in memory


class Spool:
    """One body on its way to the disk. Use as a context manager: what is not committed is discarded."""

    def __init__(self, store: Store, sizes: Sizes) -> None:
        self._store = store
        self._sizes = sizes
        self._incoming: Incoming | None = None
        self._pieces: list[bytes | memoryview] = []
        self._gathered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Leave no trace of what was not committed."""
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    async def write(self, data: bytes | memoryview) -> None:
        """Add to the body.

        Raises:
            DiskFullError: no room.
        """
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered >= BATCH_BYTES:
            await trio.to_thread.run_sync(self._flush)

    async def commit(self, key: str, check: Callable[[BinaryIO], object] = lambda _file: None) -> Body:
        """The body was proven: make it the content of `key`, and its size known for good.

        `check` may look at the finished file once more, in the worker thread, and raise to refuse it.
        """
        body = await trio.to_thread.run_sync(self._commit, key, check)
        self._incoming = None
        self._sizes.learn(key, body.size)
        return body

    # -- in worker threads -------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._incoming is None:
            self._incoming = self._store.bodies.incoming()
        for piece in self._pieces:
            self._incoming.write(piece)
        self._pieces.clear()
        self._gathered = 0

    def _commit(self, key: str, check: Callable[[BinaryIO], object]) -> Body:
        self._flush()
        assert self._incoming is not None
        with os.fdopen(os.dup(self._incoming.fileno()), "rb") as file:
            check(file)
        body = self._incoming.commit(key)
        self._sizes.record(key, body.size)
        return body
