"""What nobody else gets to see or to do (S19, S21): no core file, no loose mode, no secret in a crash, no escapes."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.server import DemoServer

from kheopsfs.cli.access import Access
from kheopsfs.config import settle
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.mount.environment import mounted
from kheopsfs.mount.launch import Order
from tests.cli.conftest import PATIENCE, Demo, Home, wait_until

SECRET = "s3cr3tS3CR3Ts3cr3tS3CR"


# -- core files -------------------------------------------------------------------------------------------------------


@contextmanager
def core_files_allowed() -> Iterator[None]:
    """What is started inside may leave a core file of any size, if it wants to."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def crashed(process: subprocess.Popen[str]) -> bool:
    """Crash a process; whether the kernel wrote its memory down."""
    process.send_signal(signal.SIGABRT)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGABRT
    return ended.si_code == os.CLD_DUMPED


def test_a_crash_leaves_no_core_file(home: Home, mountpoint: Path, demo: Demo, user_token: str, tmp_path: Path) -> None:
    """S21: it would hold the token and patients' images."""
    file = home.token_file(user_token)
    with core_files_allowed():
        with subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); import time; time.sleep(99)"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            if not crashed(other):
                pytest.skip("nothing leaves a core file here")
        with home.started("mount", "-f", demo.url, mountpoint, "--token-file", file) as process:
            wait_until(lambda: mounted(mountpoint), "a mount")
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert limits.split("Max core file size")[1].split()[:2] == ["0", "0"]
            assert not crashed(process)
            wait_until(lambda: mounted(mountpoint) is None, "the end of the mount")


_DUMPABLE = """
import ctypes
from kheopsfs.mount.background import take_order

def is_dumpable():
    return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE

before = is_dumpable()
take_order()
print(before, is_dumpable())
"""


def test_a_mount_is_not_dumpable_before_it_has_the_token(tmp_path: Path) -> None:
    """S21: neither may the user's other programs read its memory, nor is a core file piped to anyone."""
    order = Order(settle(tmp_path, {}, {}), Token(SECRET)).encode()
    done = subprocess.run([sys.executable, "-c", _DUMPABLE], input=order, capture_output=True, check=True)
    assert done.stdout.split() == [b"1", b"0"]


# -- modes ------------------------------------------------------------------------------------------------------------


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077], ids=oct)
def test_nothing_is_open_to_others_under_any_umask(
    home: Home, mountpoint: Path, demo: Demo, user_token: str, mask: int
) -> None:
    """S19, S21: the folders above are ours as well where we had to make them; with 022 they were there, and open."""
    file = home.token_file(user_token)
    ours = [home.path / ".cache/kheopsfs", home.logs, home.runtime / "kheopsfs"]
    if mask == 0o022:
        for folder in ours:
            folder.mkdir(parents=True)
            folder.chmod(0o755)
    with umask(mask):
        assert home.run("mount", demo.url, mountpoint, "--token-file", file).status == 0
        assert next(mountpoint.glob("albums/*/*/*/*.dcm")).read_bytes()
    above = [] if mask == 0o022 else [home.path / ".cache", home.path / ".local", home.path / ".local/state"]
    found = [path for folder in ours for path in (folder, *folder.rglob("*"))]
    assert len(found) > 10
    for path in (*above, *found):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert not mode & 0o077 or path.name == "CACHEDIR.TAG", f"{path}: {mode:o}"
    assert home.run("umount", mountpoint).status == 0


# -- crashes and representations --------------------------------------------------------------------------------------

_CRASH = """
import os, sys
from kheopsfs.cli import check, main
from kheopsfs.kheops.credentials import Token

def gain_access(*arguments):
    text = os.environ["SECRET"]
    token, pair = Token(text), {"token": text}
    return 1 // 0

check.gain_access = gain_access
sys.argv = ["kheopsfs", "check", "https://kheops.invalid"]
main()
"""


def test_the_traceback_of_a_bug_shows_no_values(home: Home) -> None:
    """S21: a token may be in any local variable."""
    done = subprocess.run(
        [sys.executable, "-c", _CRASH],
        env={**home.environment, "SECRET": SECRET},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_nothing_that_holds_a_token_shows_it(tmp_path: Path) -> None:
    """S21: neither alone nor inside something else that is printed, logged or in a traceback."""
    token = Token(SECRET)
    credentials = Credentials(token, "link", tmp_path)
    settings = settle(tmp_path, {}, {})
    address = Address("https://kheops.example.org/api")
    for holder in (
        token,
        credentials,
        Order(settings, token),
        Access(address, settings, token),
        Client(address, credentials),
    ):
        for shown in (repr(holder), str(holder), f"{holder}", repr([holder]), repr({"x": holder})):
            assert SECRET not in shown
    for refused in (json.dumps, __import__("pickle").dumps, __import__("copy").copy):
        with pytest.raises(TypeError):
            refused(token)


# -- terminals --------------------------------------------------------------------------------------------------------

ESCAPE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp.exe\r"


def test_a_server_does_not_steer_the_terminal(home: Home) -> None:
    """Nobody's name, and no error's text, moves the cursor or turns the reading direction."""
    with DemoServer() as server:
        token = server.token("user", "Ada")
        alive = {"active": True, "scope": "user", "sub": f"ada{ESCAPE}", "cap_token": ""}
        server.fault(kind="body", path="introspect", text=json.dumps(alive))
        outcome = home.run("check", server.url, "--token-file", home.token_file(token))
    assert "ada\\x1b]0;title\\x07" in outcome.out
    assert not [character for character in outcome.text if not character.isprintable() and character != "\n"]
