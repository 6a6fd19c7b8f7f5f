"""Bodies of a moment ago, still open: those that just arrived will be opened, those just opened will be opened again.

The parts of a series arrive before their reader comes to them, SimpleITK opens each slice seven times, dcm2niix four
times, `cp` once after `file` did. A body that is still open needs neither the database nor a worker thread. After
`TRUSTED_SECONDS` the store is asked again, because it counts who was opened lately when it decides who goes.

Invariant: no more than `MOST_BODIES` are held and no more than a quarter of the cache's limit in bytes, so what was
evicted meanwhile keeps little of the disk.
"""

import os
from collections import OrderedDict

import trio

from kheopsfs.store import Body

TRUSTED_SECONDS = 30.0
MOST_BODIES = 2000  # four series; each is one descriptor, of which a process may have far more
LARGEST_BODY = 4 * 1024 * 1024  # bytes; for larger ones opening is not what takes the time
SHARE_OF_LIMIT = 4  # one in so many bytes of what the cache may keep


class RecentBodies:
    """Open bodies by cache key; the least recently used goes first. `size_limit`: bytes that the cache may keep."""

    def __init__(self, size_limit: int) -> None:
        self._held: OrderedDict[str, tuple[float, Body]] = OrderedDict()
        self._bytes = 0
        self._most_bytes = size_limit // SHARE_OF_LIMIT

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
        """Hold a body that the store has just taken or given out; the caller keeps its own."""
        if body.size > LARGEST_BODY:
            return
        self._drop(key)
        self._held[key] = (trio.current_time(), body.dup())
        self._bytes += body.size
        while len(self._held) > MOST_BODIES or self._bytes > self._most_bytes:
            self._drop(next(iter(self._held)))

    def close(self) -> None:
        """Let go of all."""
        while self._held:
            self._drop(next(iter(self._held)))

    def _drop(self, key: str) -> None:
        if (held := self._held.pop(key, None)) is not None:
            self._bytes -= held[1].size
            held[1].close()
