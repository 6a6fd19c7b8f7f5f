"""Calls into a mount that must not take the tests with them when they never come back."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

PATIENCE = 30.0
"""Seconds after which a test gives up; far more than anything should take, and never what is tested."""

T = TypeVar("T")


class Attempt(Generic[T]):
    """A call in a thread of its own. A call that waits for a mount cannot be interrupted, only left behind."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._result: T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def result(self, seconds: float = PATIENCE) -> T:
        """What the call returned; raises what it raised."""
        self._thread.join(seconds)
        assert self.is_over, f"no answer after {seconds} seconds"
        if self._error is not None:
            raise self._error
        return self._result

    def errno(self, seconds: float = PATIENCE) -> int | None:
        """The errno with which the call failed; None if it succeeded."""
        try:
            self.result(seconds)
        except OSError as error:
            return error.errno
        return None


def result_of(call: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What a call into a mount returns, if it comes back."""
    return Attempt(call).result(seconds)


def errno_of(call: Callable[[], object], seconds: float = PATIENCE) -> int | None:
    """The errno with which a call into a mount fails; None if it succeeds."""
    return Attempt(call).errno(seconds)
