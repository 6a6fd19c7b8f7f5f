"""A real mount whose process can be looked into: it tells what only it knows, and has a bug when told to.

The same file is the program that serves such a mount. While `<folder>/ask` is there it is answered in
`<folder>/answer`; while `<folder>/bug` is there, whatever the handlers ask of the library raises ZeroDivisionError. The
process's wall clock is wrong by as many seconds as `<folder>/clock` says.
"""

import contextlib
import dataclasses
import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from harness.looking import until
from harness.mounting import Mount
from kheopsfs.config import settle
from kheopsfs.fetch import Library, arriving
from kheopsfs.fetch.arriving import READ_ALONG_BYTES
from kheopsfs.kheops.credentials import Token
from kheopsfs.mount import service
from kheopsfs.mount.background import serve, take_order
from kheopsfs.mount.launch import Order
from kheopsfs.mount.operations import KheopsOperations

LOOK_PAUSE = 0.02  # seconds
END_SECONDS = 30
LAST_LINE = "\nthat is all\n"


class InstrumentedMount(Mount):
    """Like `Mount`, but served by this file, and with `settings` that may say what no command line can.

    Args:
        url, token, home: as for `Mount`.
        read_along: bytes from which on instances are read while they arrive, in place of the many of the product.
        settings: members of `kheopsfs.config.Settings`.
    """

    def __init__(
        self, url: str, token: str, home: Path, *, read_along: int = READ_ALONG_BYTES, **settings: Any
    ) -> None:
        super().__init__(url, token, home)
        self._read_along = read_along
        common = settle(self.path, {"cache_dir": str(self.cache), "log_level": "debug"}, {})
        self._order = Order(dataclasses.replace(common, url=f"{url.rstrip('/')}/api", **settings), Token(token))
        self._log = home / "log"

    def __enter__(self) -> Self:
        (self.home / "ready").unlink(missing_ok=True)  # of a process that ended before
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self.home, str(self._read_along)],
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

    def kill(self) -> None:
        """End the process at once, and wait until its mount is gone; `with` may be entered again."""
        self._process.kill()
        self._process.wait(END_SECONDS)
        until(lambda: not self.is_mounted)

    def count(self, what: str) -> int:
        """One of `counts`."""
        return self.counts()[what]

    def counts(self) -> dict[str, int]:
        """How many `inodes` the process remembers, how many `files` and `folders` it thinks are open, how many `tasks`,
        `threads` and `descriptors` it has, and how many of those it holds for bodies that may be opened again
        (`recent`).
        """
        answer = self.home / "answer"
        answer.unlink(missing_ok=True)
        (self.home / "ask").touch()
        until(answer.exists)
        counts: dict[str, int] = json.loads(answer.read_text())
        return counts

    def stacks(self) -> str:
        """What every thread and every task is waiting for: why nothing is answered any more."""
        self._process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(AssertionError):  # it runs no Python any more: the threads must do
            until(lambda: LAST_LINE in (self.home / "stacks").read_text())
        return (self.home / "stacks").read_text()

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


def _main(folder: Path, read_along: int) -> None:
    arriving.READ_ALONG_BYTES = read_along
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

    _write_stacks(folder)
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
        "tasks": len(list(_tasks())),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,  # without the one that lists them
        "recent": len(operations._library._recent._held),
    }
    (folder / "part").write_text(json.dumps(counts))
    (folder / "part").rename(folder / "answer")


def _tasks() -> Iterator[trio.lowlevel.Task]:
    found = [trio.lowlevel.current_root_task()]
    while found:
        if (task := found.pop()) is not None:
            yield task
            found += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _write_stacks(folder: Path) -> None:
    """On SIGUSR1: all threads, even of a process that runs no Python any more; then all tasks, if it does."""
    file = (folder / "stacks").open("w")

    def write_tasks(_number: int, _frame: object) -> None:
        for task in _tasks():
            file.write(f"\ntask {task.name}\n")
            for frame, line in task.iter_await_frames():
                file.write(f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}\n")
        file.write(LAST_LINE)
        file.flush()

    signal.signal(signal.SIGUSR1, write_tasks)
    faulthandler.register(signal.SIGUSR1, file, chain=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
