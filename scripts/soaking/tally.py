"""What happened so far, counted by many threads."""

import errno
import threading
from collections import Counter

NAMED = 5
"""How many of the things that must not be are told in words."""


class Weather:
    """Whether anything is wrong just now. What ran while nothing was wrong from beginning to end must not fail."""

    def __init__(self) -> None:
        self._turns = 0  # even: calm

    def turn(self, *, calm: bool) -> None:
        """From now on it is calm, or not."""
        if calm != self.is_calm():
            self._turns += 1

    def is_calm(self) -> bool:
        return self._turns % 2 == 0

    def turns(self) -> int:
        """How often it changed: the same number twice means that it stayed as it was."""
        return self._turns


class Tally:
    """Operations, bytes, errors, and everything that must not be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.operations = 0
        self.bytes = 0
        self.errors: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.broken: list[str] = []
        self.wrong = 0
        self.slowest_end = 0.0

    def right(self, compared: int) -> None:
        """An operation succeeded, and so many bytes were compared."""
        with self._lock:
            self.operations += 1
            self.bytes += compared

    def failed(self, number: int) -> None:
        """An operation failed as it may."""
        with self._lock:
            self.operations += 1
            self.errors[errno.errorcode.get(number, str(number))] += 1

    def event(self, name: str) -> None:
        """Something was done to the mounts or the server."""
        with self._lock:
            self.events[name] += 1

    def longest_end(self, seconds: float) -> None:
        """A mount took so long to be gone."""
        with self._lock:
            self.slowest_end = max(self.slowest_end, seconds)

    def mistaken(self, what: str) -> None:
        """An answer was wrong, and did not say so: the worst there is."""
        with self._lock:
            self.wrong += 1
        self.breach(what)

    def breach(self, what: str) -> None:
        """Something that must not be."""
        with self._lock:
            self.broken.append(what)
            if len(self.broken) <= NAMED:
                print(f"BROKEN: {what}", flush=True)
