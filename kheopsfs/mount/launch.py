"""Start a mount: hand everything to a fresh process and wait until the mount answers, or until it is known not to.

The process that serves a mount is always a fresh start of Python (`kheopsfs.mount.background`), also in the foreground,
where it takes this process's place. So whatever the user typed, the process that lives on has the token neither among
its arguments nor in its environment, and inherits no open file. It is told what to do through a pipe on its standard
input: one JSON object. In the background it answers once, through a pipe on its standard output: one line of JSON,
either that the mount answers or why there is none.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from kheopsfs.config import Settings
from kheopsfs.errors import KheopsfsError, MountpointError
from kheopsfs.kheops.credentials import Token
from kheopsfs.mount.environment import clear_dead, mounted

TOKEN_VARIABLE = "KHEOPS_TOKEN"  # noqa: S105 - the name of an environment variable

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a program that Ctrl-C ended, as shells have it."""

PROBE_DEADLINE = 10.0
"""Seconds for the first `statvfs` of the mount, which its process answers from memory."""

STOP_DEADLINE = 5.0
"""Seconds for a process that was asked to end; it unmounts meanwhile."""

PIPE_CAPACITY = 64 * 1024
"""Bytes that a pipe takes before anyone reads (pipe(7)); the order, written before the reader lives, must fit."""


@dataclass(frozen=True)
class Order:
    """What the fresh process is to do."""

    settings: Settings
    token: Token

    def encode(self) -> bytes:
        """One JSON object; the only place where a token leaves this process, and it leaves through a pipe."""
        return json.dumps({"settings": self.settings.as_json(), "token": self.token.reveal()}).encode()

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """The inverse of `encode`."""
        order = json.loads(text)
        return cls(Settings.from_json(order["settings"]), Token(order["token"]))


class LaunchError(KheopsfsError):
    """What the fresh process said about why there is no mount, with the exit status it chose."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # here it is the other process's, not the class's


def command(module: str, settings: Settings) -> list[str]:
    """The fresh process's arguments. It reads none but the first; the others are for people who look at `ps`."""
    return [sys.executable, "-m", module, settings.url, str(settings.mountpoint)]


def environment() -> dict[str, str]:
    """This process's environment without the token."""
    return {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}


def in_background(settings: Settings, token: Token) -> None:
    """Mount, and return once the mount answers. The process that serves it stays.

    Raises:
        KheopsfsError: there is no mount, and nothing of it is left.
    """
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
        command("kheopsfs.mount.background", settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        env=environment(),
        start_new_session=True,
    )
    try:
        _give_order(process, Order(settings, token))
        _await_answer(process)
        _probe(settings.mountpoint)
    except BaseException:
        _stop(process, settings.mountpoint)
        raise
    # The daemon is init's from here on; without this, the interpreter would warn of a child nobody waited for.
    process.returncode = 0


def in_foreground(settings: Settings, token: Token, module: str) -> NoReturn:
    """Become the process that serves the mount; does not return.

    Args:
        settings: what to mount where.
        token: the token for it.
        module: what to run; it takes its order like the one for the background, and reports in its own way.
    """
    reading, writing = os.pipe()
    order = Order(settings, token).encode()
    if len(order) > PIPE_CAPACITY:
        raise MountpointError("The settings of this mount are too long.")
    os.write(writing, order)
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir("/")
    os.execve(sys.executable, command(module, settings), environment())  # noqa: S606 - our own interpreter, no shell


def _give_order(process: subprocess.Popen[bytes], order: Order) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:  # it ended already: its silence will tell
        process.stdin.write(order.encode())


def _await_answer(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
    if not line:
        raise LaunchError(f"The mount's process ended before it mounted anything (status {process.wait()}).", 1)
    answer: dict[str, Any] = json.loads(line)
    if not answer["ok"]:
        raise LaunchError(answer["error"], answer["exit_code"])


def _probe(mountpoint: Path) -> None:
    """Look at the mount as any program would, and give up on it if it does not answer."""
    answered = threading.Event()

    def look() -> None:
        if mounted(mountpoint) is not None:
            os.statvfs(mountpoint)
            answered.set()

    # A thread, because a call that waits for a mount cannot be interrupted; it ends with the mount, if not before.
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(PROBE_DEADLINE)
    if not answered.is_set():
        raise MountpointError(f"{mountpoint} was mounted but does not answer. The log may say why.")


def _stop(process: subprocess.Popen[bytes], mountpoint: Path) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Only what nobody serves: another mount may have been quicker, and is none of ours to end.
    with contextlib.suppress(MountpointError):
        clear_dead(mountpoint, lazy=True)
