"""Real runs of the command, each in a home of its own, against a demo server that runs as a process."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kheopsfs.mount.environment import mounted

COMMAND = [sys.executable, "-m", "kheopsfs"]

PATIENCE = 60.0
"""Seconds after which a test stops waiting for something that should take one; never what is tested."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Come back as soon as the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that a process started and that are still its own."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@dataclass(frozen=True)
class Outcome:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Home:
    """A user's home: where the command looks for its config and leaves its cache, log and notes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = path / "runtime"
        self.runtime.mkdir(mode=0o700)
        self.temporary = path / "tmp"
        self.temporary.mkdir()
        kept = ("PATH", "LANG", "PYTHONPATH", "VIRTUAL_ENV")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(path),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "TMPDIR": str(self.temporary),
            "COLUMNS": "200",
        }

    @property
    def config(self) -> Path:
        return self.path / ".config/kheopsfs/config.toml"

    @property
    def logs(self) -> Path:
        return self.path / ".local/state/kheopsfs/log"

    @property
    def notes(self) -> list[dict[str, object]]:
        """What the daemons said about themselves."""
        return [json.loads(file.read_text()) for file in (self.runtime / "kheopsfs").glob("*.json")]

    @contextlib.contextmanager
    def started(self, *arguments: str | Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs, without a terminal. It is asked to end if the test has not ended it."""
        with subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise

    def run(self, *arguments: str | Path, said: str | None = None, **variables: str) -> Outcome:
        """Run the command to its end, without a terminal; `said` goes to its standard input."""
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env={**self.environment, **variables},
            input=said or "",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            start_new_session=True,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def token_file(self, token: str, mode: int = 0o600) -> Path:
        """A file that holds a token."""
        file = self.path / "token"
        file.write_text(token + "\n")
        file.chmod(mode)
        return file

    def write_config(self, text: str) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_not_ignored() -> None:
    """A shell that runs the tests in its background has Ctrl-C ignored, and every command would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    path = tmp_path / "home"
    path.mkdir()
    return Home(path)


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    while mounted(path) is not None:
        subprocess.run([shutil.which("fusermount3") or "fusermount3", "-u", "-z", str(path)], check=True)


@dataclass(frozen=True)
class Demo:
    """A demo server: its URL, and its tokens by what they are."""

    url: str
    tokens: dict[str, str]

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").removesuffix("/")


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    process = subprocess.Popen(
        [*COMMAND, "serve-demo", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        announcement = json.loads(process.stdout.readline())
        yield Demo(announcement["url"], {token["what"]: token["token"] for token in announcement["tokens"]})
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def user_token(demo: Demo) -> str:
    """The token of a user who sees an inbox and several albums."""
    return next(token for what, token in demo.tokens.items() if what.startswith("user token"))
