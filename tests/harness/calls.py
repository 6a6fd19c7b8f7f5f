"""Calls of the operating system and of SQLite, counted as Python makes them; and death before one of them."""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Calls:
    """Counts what this thread calls in the body of `with calls.counted():`.

    Args:
        die_at: the number of the call before which the process kills itself; 0 for none.

    Attributes:
        count: calls so far.
    """

    def __init__(self, die_at: int = 0) -> None:
        self.die_at = die_at
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _profile(self, _frame: object, event: str, function: Callable[..., object]) -> None:
        if event == "c_call" and _touches_the_disk(function):
            self.count += 1
            if self.count == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _touches_the_disk(function: Callable[..., object]) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, sqlite3.Connection | sqlite3.Cursor):
        return True
    return getattr(owner, "__name__", "") in {"posix", "fcntl", "_io"} and function.__name__ not in {"getpid", "fspath"}
