"""Bodies that were opened a moment ago, still open: programs open the same file again and again.

SimpleITK opens each slice seven times, dcm2niix four times, `cp` once after `file` did. A body that is still open needs
neither the database nor a worker thread. After `TRUSTED_SECONDS` the store is asked again, because it counts who was
opened lately when it decides who goes.

Invariant: no more than `MOST_BODIES` of at most `LARGEST_BODY` bytes are held, so what was evicted meanwhile keeps
little of the disk.
"""

import os
from collections import OrderedDict

import trio

from kheopsfs.store import Body

TRUSTED_SECONDS = 30.0
MOST_BODIES = 512  # a series; each is one descriptor
LARGEST_BODY = 1024 * 1024  # bytes; for larger ones opening is not what takes the time


class RecentBodies:
    """Open bodies by cache key; the least recently used goes first."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[float, Body]] = OrderedDict()

    def take(self, key: str) -> Body | None:
        """The body once more, to be closed by the caller; None if it is not held."""
        held = self._held.get(key)
        if held is None:
            return None
        since, body = held
        cut_short = os.fstat(body.fileno()).st_size != body.size
        if cut_short or trio.current_time() - since > TRUSTED_SECONDS:
            self._drop(key)
            return None
        self._held.move_to_end(key)
        return body.dup()

    def hold(self, key: str, body: Body) -> None:
        """Hold a body that the store has just given out; the caller keeps its own."""
        if body.size > LARGEST_BODY:
            return
        self._drop(key)
        self._held[key] = (trio.current_time(), body.dup())
        while len(self._held) > MOST_BODIES:
            self._drop(next(iter(self._held)))

    def close(self) -> None:
        """Let go of all."""
        while self._held:
            self._drop(next(iter(self._held)))

    def _drop(self, key: str) -> None:
        if (held := self._held.pop(key, None)) is not None:
            held[1].close()
