"""A target, and how its function takes bytes apart."""

from collections.abc import Callable
from dataclasses import dataclass


class Draw:
    """Bytes that are consumed from the front, by whatever has to be chosen. Once they are used up, all is nought."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def number(self, below: int) -> int:
        """At most 65 535."""
        return int.from_bytes(self.take(1 if below <= 256 else 2)) % below

    def text(self) -> str:
        """Up to 255 bytes, any of which may be no UTF-8."""
        return self.take(self.number(256)).decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        return self.take(len(self._data))

    @property
    def is_over(self) -> bool:
        return not self._data


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        run: raises if a promise is broken, and for no other reason.
        seeds: inputs that reach deep; what mutations start from.
        regressions: inputs that once broke a promise.
        slow: an input takes milliseconds, so fewer are tried.
    """

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    regressions: tuple[bytes, ...] = ()
    slow: bool = False

    @property
    def name(self) -> str:
        return self.run.__name__
