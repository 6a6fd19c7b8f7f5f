"""Mounts that start in a tenth of a second, and die where they are told to: for trials that need hundreds of them.

The same file is the program that starts them: it imports everything once and forks a process for each mount, which then
does what `kheopsfs.mount.background` does. Such a process can be killed by anybody at any moment, like every other; and
when `<home>/step` holds a number, it kills itself before that call of the operating system or of SQLite, counted over
all that the store does from then on with bodies, sizes and listings.
"""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.calls import Calls
from harness.instrumented import END_SECONDS, InstrumentedMount
from harness.looking import is_running, until
from kheopsfs.mount.background import serve
from kheopsfs.mount.launch import Order
from kheopsfs.store import Bodies, Incoming, Ledger, Listings


class Starter:
    """A process that starts mounts. Use it in a `with`, around the mounts."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def start(self, **job: Any) -> int:
        """The id of a new process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class ForkedMount(InstrumentedMount):
    """Like `InstrumentedMount`, without its questions and bugs, started by a `Starter`."""

    def __init__(self, starter: Starter, url: str, token: str, home: Path, **settings: Any) -> None:
        super().__init__(url, token, home, **settings)
        self._starter = starter
        self._pid = 0

    def begin(self) -> None:
        """Start it, and do not wait until it is ready."""
        (self.home / "ready").unlink(missing_ok=True)
        self._pid = self._starter.start(
            home=str(self.home), order=self._order.encode().decode(), environment=self.environment
        )

    def __enter__(self) -> Self:
        ready = self.home / "ready"
        self.begin()
        until(lambda: ready.exists() or not self.is_running)
        assert self.is_running, self.log()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_running:
            os.kill(self.pid, signal.SIGTERM)
            until(lambda: not self.is_running, seconds=END_SECONDS)
        until(lambda: not self.is_mounted)

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def is_running(self) -> bool:
        return is_running(self._pid)

    def kill(self) -> None:
        """SIGKILL; back when the mountpoint is clear, which nobody but the mount's own helpers see to."""
        with contextlib.suppress(ProcessLookupError):  # it died where it was told to
            os.kill(self.pid, signal.SIGKILL)
        until(lambda: not self.is_running and not self.is_mounted)

    def die_at(self, step: int) -> None:
        """Have it kill itself before that call, counted from now on."""
        (self.home / "part").write_text(str(step))
        (self.home / "part").rename(self.home / "step")


# -- in the process that starts them ----------------------------------------------------------------------------------


def _main() -> None:
    for line in sys.stdin:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not (pid := os.fork()):
            status = 1
            try:
                _serve(**json.loads(line))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _serve(home: str, order: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for name, flags, number in (
        (os.devnull, os.O_RDONLY, 0),
        (os.devnull, os.O_WRONLY, 1),
        (f"{home}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 2),
    ):
        descriptor = os.open(name, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    death = _Death(Path(home, "step"))
    for owner in (Bodies, Incoming, Ledger, Listings):
        for name in [name for name, member in vars(owner).items() if callable(member) and not name.startswith("_")]:
            death.lurk_in(owner, name)
    serve(Order.decode(order.encode()), None, Path(home, "ready").touch)


class _Death:
    """Counts the calls inside some methods, once the file is there that says which will be the last."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.unlink(missing_ok=True)
        self._calls = Calls()

    def lurk_in(self, owner: type, name: str) -> None:
        real = getattr(owner, name)

        @functools.wraps(real)
        def method(*arguments: Any, **options: Any) -> Any:
            if not self._calls.die_at and self._file.exists():
                self._calls.die_at = int(self._file.read_text())
            with self._calls.counted() if self._calls.die_at else contextlib.nullcontext():
                return real(*arguments, **options)

        setattr(owner, name, method)


if __name__ == "__main__":
    _main()
