"""A real mount whose process can be looked into: it tells what only it knows, and has a bug when told to.

The same file is the program that serves such a mount. While `<folder>/ask` is there it is answered in
`<folder>/answer`; while `<folder>/bug` is there, whatever the handlers ask of the library raises ZeroDivisionError. The
process's wall clock is wrong by as many seconds as `<folder>/clock` says.
"""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from harness.looking import until
from harness.mounting import Mount
from kheopsfs.config import settle
from kheopsfs.fetch import Library
from kheopsfs.kheops.credentials import Token
from kheopsfs.mount import service
from kheopsfs.mount.background import serve, take_order
from kheopsfs.mount.launch import Order
from kheopsfs.mount.operations import KheopsOperations

LOOK_PAUSE = 0.02  # seconds
END_SECONDS = 30


class InstrumentedMount(Mount):
    """Like `Mount`, but served by this file, and with `settings` that may say what no command line can.

    Args:
        url, token, home: as for `Mount`.
        settings: members of `kheopsfs.config.Settings`.
    """

    def __init__(self, url: str, token: str, home: Path, **settings: Any) -> None:
        super().__init__(url, token, home)
        common = settle(self.path, {"cache_dir": str(self.cache), "log_level": "debug"}, {})
        self._order = Order(dataclasses.replace(common, url=f"{url.rstrip('/')}/api", **settings), Token(token))
        self._log = home / "log"

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self.home],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**self.environment, "PYTHONPATH": str(Path(__file__).parent.parent)},
            )
        assert self._process.stdin is not None
        with self._process.stdin as order:
            order.write(self._order.encode())
        until(lambda: (self.home / "ready").exists() or self._process.poll() is not None)
        assert self._process.poll() is None, self.log()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        assert self._process.wait(END_SECONDS) == 0, self.log()

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text()

    def count(self, what: str) -> int:
        """How many `inodes` the process remembers, how many `files` and `folders` it thinks are open."""
        answer = self.home / "answer"
        answer.unlink(missing_ok=True)
        (self.home / "ask").touch()
        until(answer.exists)
        return int(json.loads(answer.read_text())[what])

    def have_a_bug(self, *, have: bool) -> None:
        """Let every request that needs the library fail as only a bug can fail, or no longer."""
        if have:
            (self.home / "bug").touch()
        else:
            (self.home / "bug").unlink()

    def set_clock(self, seconds: float) -> None:
        """Let its wall clock go wrong by so much; timers go on as they were."""
        (self.home / "clock.part").write_text(str(seconds))
        (self.home / "clock.part").rename(self.home / "clock")


# -- in the process that serves the mount -----------------------------------------------------------------------------


def _main(folder: Path) -> None:
    for name in ("open", "listing", "settle", "is_cached"):
        _make_buggy(name, folder / "bug")
    _make_wrong(folder / "clock")
    operations: list[KheopsOperations] = []
    make, say_when_ready = KheopsOperations.__init__, service._say_when_ready

    def made(self: KheopsOperations, *arguments: Any) -> None:
        make(self, *arguments)
        operations.append(self)

    async def say_and_answer(*arguments: Any) -> None:
        await say_when_ready(*arguments)
        while True:
            await trio.sleep(LOOK_PAUSE)
            if (folder / "ask").exists():
                (folder / "ask").unlink()
                _answer(operations[0], folder)

    KheopsOperations.__init__ = made  # type: ignore[method-assign]
    service._say_when_ready = say_and_answer
    serve(take_order(), None, (folder / "ready").touch)


def _make_buggy(name: str, switch: Path) -> None:
    real = getattr(Library, name)

    def buggy(self: Library, *arguments: Any) -> Any:
        if switch.exists():
            raise ZeroDivisionError(name)
        return real(self, *arguments)

    setattr(Library, name, buggy)


def _make_wrong(clock: Path) -> None:
    real = time.time

    def wrong() -> float:
        return real() + (float(clock.read_text()) if clock.exists() else 0.0)

    time.time = wrong


def _answer(operations: KheopsOperations, folder: Path) -> None:
    counts = {
        "inodes": len(operations.inodes),
        "files": len(operations._files),
        "folders": len(operations._listings),
    }
    (folder / "part").write_text(json.dumps(counts))
    (folder / "part").rename(folder / "answer")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
