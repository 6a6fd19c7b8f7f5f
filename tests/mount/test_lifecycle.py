"""How a mount begins and how it ends: soon, whatever is going on, and with nothing left behind (S7, S18, S20).

What the commands say and refuse is tested with the commands; here is what becomes of readers, processes and files.
"""

import contextlib
import errno
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.looking import is_running, only, retrievals, until
from harness.mounting import Mount, NewMount
from harness.patience import Attempt, errno_of, result_of
from harness.server import DemoServer

PROMISED_END = 5.0
"""Seconds within which a mount is gone."""

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

MARGIN = 5.0
"""Seconds more that a busy machine may take."""

SLOW = "600"
"""Seconds without a byte that these mounts would wait: nothing here may end because a deadline struck."""

SILENT_READERS = 5
"""Readers that wait for the server; one less than requests under way, so that lists still come."""


@pytest.fixture(scope="module")
def silent() -> Iterator[DemoServer]:
    """A server that never answers when bytes are asked for."""
    with DemoServer("--synthetic", "slices=3,studies=8") as server:
        server.fault(kind="stall", path="/series/.*/instances/[0-9.]+$", byte=200)
        yield server


@pytest.fixture(scope="module")
def willing() -> Iterator[DemoServer]:
    """A server without faults."""
    with DemoServer("--synthetic", "slices=12,studies=4") as server:
        yield server


def notes(mount: Mount) -> list[Path]:
    """What running mounts have written down about themselves."""
    return list((mount.home / "kheopsfs").glob("*"))


def temporary_files(mount: Mount) -> list[Path]:
    """What the cache holds of bodies that never became whole."""
    return [path for path in (mount.cache / "tmp").rglob("*") if path.is_file()]


def assert_nothing_is_left(mount: Mount, pid: int) -> None:
    until(lambda: not is_running(pid))
    assert not mount.is_mounted
    assert list(mount.path.iterdir()) == []
    assert notes(mount) == []
    assert temporary_files(mount) == []
    assert "Traceback" not in mount.log()


def waiting_readers(server: DemoServer, mount: Mount) -> list[Attempt[bytes]]:
    """Readers whose requests are under way and will not end."""
    server.clear_requests()
    folders = sorted((mount.path / "studies").glob("*study*/*"))[:SILENT_READERS]
    files = [only(list(folder.iterdir())) for folder in folders]
    readers = [Attempt(file.read_bytes) for file in files]
    until(lambda: len(retrievals(server)) == len(files))
    return readers


def fusermount(mount: Mount) -> list[str]:
    return ["fusermount3", "-u", str(mount.path)]


LAZY: dict[str, Callable[[Mount], list[str]]] = {
    "umount -l": lambda mount: ["umount", "-l", str(mount.path)],
    "fusermount3 -uz": lambda mount: ["fusermount3", "-u", "-z", str(mount.path)],
}
ENDS: dict[str, Callable[[Mount], list[str]]] = {
    "kheopsfs umount": lambda mount: [sys.executable, "-m", "kheopsfs", "umount", str(mount.path)],
    "SIGTERM": lambda mount: ["kill", "-TERM", str(mount.pid)],
    "SIGINT": lambda mount: ["kill", "-INT", str(mount.pid)],
    **LAZY,
}
IDLE_ENDS: dict[str, Callable[[Mount], list[str]]] = {
    **ENDS,
    "fusermount3 -u": fusermount,
    "umount": lambda mount: ["umount", str(mount.path)],
}


def needs_root(way: str) -> None:
    if way.startswith("umount") and os.geteuid():
        pytest.skip("umount takes root")


def run(mount: Mount, command: list[str]) -> None:
    done = subprocess.run(command, env=mount.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("way", IDLE_ENDS)
def test_ending_a_mount_that_nobody_uses(willing: DemoServer, new_mount: NewMount, way: str) -> None:
    """S18: each of the ways to unmount ends process, keeper, mount and notes."""
    needs_root(way)
    mount = new_mount(willing)
    pid, keeper = mount.pid, mount.keeper
    assert next((mount.path / "studies").glob("*study*/*/*.dcm")).read_bytes()
    began = time.monotonic()
    run(mount, IDLE_ENDS[way](mount))
    assert_nothing_is_left(mount, pid)
    assert not is_running(keeper)
    assert time.monotonic() - began < PROMISED_END + MARGIN
    assert "is unmounted" in mount.log()


@pytest.mark.parametrize("way", ENDS)
def test_ending_with_requests_in_flight_and_files_open(silent: DemoServer, new_mount: NewMount, way: str) -> None:
    """S18: within five seconds although the server is silent; whoever waits gets an error, nobody hangs."""
    needs_root(way)
    mount = new_mount(silent, idle_timeout=SLOW)
    pid = mount.pid
    with (mount.path / "README.txt").open("rb") as opened:
        assert opened.read(10)
        readers = waiting_readers(silent, mount)
        folder = os.open(mount.path, os.O_RDONLY)
        began = time.monotonic()
        run(mount, ENDS[way](mount))
        assert {reader.errno() for reader in readers} <= {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED, errno.EINTR}
        assert_nothing_is_left(mount, pid)
        assert time.monotonic() - began < PROMISED_END + MARGIN
        assert errno_of(lambda: os.listdir(folder)) in {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED}
        os.close(folder)


def test_a_mount_in_use_is_not_torn_away_by_an_ordinary_unmount(silent: DemoServer, new_mount: NewMount) -> None:
    """S18: `fusermount3 -u` says that the mount is busy while files are open, and changes nothing."""
    mount = new_mount(silent, idle_timeout=SLOW)
    with (mount.path / "README.txt").open("rb") as opened:
        done = subprocess.run(fusermount(mount), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "busy" in done.stderr
        assert opened.read(10)
        assert mount.is_mounted
    pid = mount.pid
    run(mount, fusermount(mount))
    assert_nothing_is_left(mount, pid)


def test_a_new_mount_right_after_a_lazy_unmount(willing: DemoServer, tmp_path: Path) -> None:
    """S18: the old process ends, although a file of it is open and its mountpoint in use again; the new mount stays."""
    token = willing.token()
    with Mount(willing.url, token, tmp_path) as old:
        pid = old.pid
        file = next((old.path / "studies").glob("*study*/*/*.dcm"))
        # Opened by somebody else: what this process starts would inherit the file, and closing it asks the mount.
        reader = subprocess.Popen(["sh", "-c", 'exec 3< "$0" && echo open && read go_on', file], **PIPES)
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        os.kill(pid, signal.SIGSTOP)  # so that it cannot look between the two
        try:
            run(old, ["fusermount3", "-u", "-z", str(old.path)])
            with Mount(willing.url, token, tmp_path) as new:
                os.kill(pid, signal.SIGCONT)
                until(lambda: not is_running(pid))
                assert new.is_mounted
                assert result_of(file.read_bytes)
                assert len(notes(new)) == 1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            reader.communicate("\n")
        assert notes(new) == []


@contextmanager
def in_front(mount: Mount, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The mount in the foreground."""
    command = [sys.executable, "-m", "kheopsfs", "mount", "-f", mount.url, str(mount.path)]
    process = subprocess.Popen(
        [*command, "--token-file", str(mount.token_file), *options],
        env=mount.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: [note for note in notes(mount) if note.suffix == ".json"] or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_in_front_with_requests_in_flight(silent: DemoServer, tmp_path: Path, number: signal.Signals) -> None:
    """S18: Ctrl-C ends it with status 0 although the server is silent; the log goes to the terminal."""
    mount = Mount(silent.url, silent.token(), tmp_path, idle_timeout=SLOW)
    with in_front(mount) as process:
        readers = waiting_readers(silent, mount)
        began = time.monotonic()
        process.send_signal(number)
        _, log = process.communicate(timeout=60)
        assert time.monotonic() - began < PROMISED_END + MARGIN
        assert process.returncode == 0
        assert "is mounted on" in log
        assert "is unmounted" in log
        assert "Traceback" not in log
        assert {reader.errno() for reader in readers} <= {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED, errno.EINTR}
    assert_nothing_is_left(mount, process.pid)
    assert mount.log() == "", "nothing is logged to a file when the log goes to the terminal"


def test_impatient_ctrl_c(silent: DemoServer, tmp_path: Path) -> None:
    """S18: more signals while it is ending change nothing."""
    mount = Mount(silent.url, silent.token(), tmp_path, idle_timeout=SLOW)
    with in_front(mount) as process:
        readers = waiting_readers(silent, mount)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert process.returncode in {0, 128 + signal.SIGINT, -signal.SIGINT}
        assert all(reader.errno() for reader in readers)
    until(lambda: not mount.is_mounted)
    assert notes(mount) == []


def test_kill_in_the_middle_of_everything(willing: DemoServer, tmp_path: Path) -> None:
    """S18, S20: after kill -9 the mountpoint is clear by itself, no half body is in the cache, and the next mount finds
    what was whole."""
    with Mount(willing.url, willing.token(), tmp_path) as mount:
        files = sorted((mount.path / "studies").glob("*slices*/*/*.dcm"))
        whole = {file: file.read_bytes() for file in files[:1]}
        willing.fault(kind="stall", path="/series/[0-9.]+$", byte=2_000_000)
        readers = [Attempt(file.read_bytes) for file in files[1:]]
        until(lambda: [path for path in (mount.cache / "bodies").rglob("*") if path.is_file()])
        until(lambda: any(reader.is_over for reader in readers))
        pid = mount.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not mount.is_mounted)
        for file, reader in zip(files[1:], readers, strict=True):
            if reader.errno() is None:
                whole[file] = reader.result()
    willing.clear_faults()
    assert 1 <= len(whole) < len(files)
    assert list(mount.path.iterdir()) == []
    with Mount(willing.url, willing.token(), tmp_path) as mount:
        willing.clear_requests()
        assert {file: result_of(file.read_bytes) for file in whole} == whole
        assert retrievals(willing) == []
        assert [len(result_of(file.read_bytes)) for file in files] == [len(whole[files[0]])] * len(files)
        pid = mount.pid
    assert_nothing_is_left(mount, pid)


def test_the_mount_answers_when_the_command_returns(willing: DemoServer, tmp_path: Path) -> None:
    """S18: `kheopsfs mount` returns 0 only once the mount can be used, also by the very next command."""
    mount = Mount(willing.url, willing.token(), tmp_path)
    script = (
        f"{sys.executable} -m kheopsfs mount {mount.url} {mount.path} --token-file {mount.token_file} >&2"
        f" && ls {mount.path} && {sys.executable} -m kheopsfs umount {mount.path} && ls -A {mount.path}"
    )
    done = subprocess.run(
        ["sh", "-c", script], env=mount.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["README.txt", "albums", "by-uid", "inbox", "studies", "thumbnails", "zip"]


def test_a_mountpoint_is_mounted_once(willing: DemoServer, new_mount: NewMount) -> None:
    """S18: a second mount on the same mountpoint is refused, and the first one goes on."""
    mount = new_mount(willing)
    done = mount.command("mount", mount.url, str(mount.path), "--token-file", str(mount.token_file))
    assert done.returncode == 7
    assert os.listdir(mount.path / "studies")
    assert len(notes(mount)) == 1


def test_two_mounts_side_by_side(willing: DemoServer, new_mount: NewMount, tmp_path: Path) -> None:
    """S18, S19: two mounts share home and cache; what one fetched the other has; ending one leaves the other alone."""
    one = new_mount(willing, home=tmp_path)
    other = new_mount(willing, home=tmp_path, mountpoint="other")
    file = next((one.path / "studies").glob("*study*/*/*.dcm"))
    data = file.read_bytes()
    twin = other.path / file.relative_to(one.path)
    assert twin.stat().st_ino == file.stat().st_ino
    willing.clear_requests()
    assert twin.read_bytes() == data
    assert retrievals(willing) == []
    pid = one.pid
    assert other.pid != pid
    assert one.command("umount", str(one.path)).returncode == 0
    until(lambda: not is_running(pid))
    assert twin.read_bytes() == data
    assert other.is_mounted


def test_a_terminal_that_is_closed(willing: DemoServer, tmp_path: Path) -> None:
    """S18: the mount outlives the terminal and the shell in which it was made."""
    mount = Mount(willing.url, willing.token(), tmp_path)
    arguments = ["mount", mount.url, str(mount.path), "--token-file", str(mount.token_file)]
    child, terminal = pty.fork()
    if not child:
        os.execve(sys.executable, [sys.executable, "-m", "kheopsfs", *arguments], mount.environment)
    try:
        until(lambda: notes(mount))
        assert os.waitpid(child, 0)[1] == 0
    finally:
        os.close(terminal)  # hangs up whoever still belongs to it
    try:
        assert len(result_of((mount.path / "README.txt").read_bytes)) > 0
        assert next((mount.path / "studies").glob("*study*/*/*.dcm")).read_bytes()
    finally:
        assert mount.command("umount", str(mount.path)).returncode == 0


def test_ending_while_copying(willing: DemoServer, new_mount: NewMount, tmp_path: Path) -> None:
    """S7, S18: a copy that the end of the mount interrupts says so, and has no wrong file among the finished ones."""
    mount = new_mount(willing)
    willing.fault(kind="trickle", path="/series/[0-9.]+$", bytes=400_000, seconds=0.2)
    try:
        copying = subprocess.Popen(
            ["cp", "-r", mount.path / "studies", tmp_path / "copy"], stderr=subprocess.PIPE, text=True
        )
        until(lambda: len(list((tmp_path / "copy").rglob("*.dcm"))) >= 3)
        assert mount.command("umount", str(mount.path)).returncode == 0
        _, said = copying.communicate(timeout=60)
    finally:
        willing.clear_faults()
    assert copying.returncode != 0
    assert said
    with Mount(willing.url, willing.token(), tmp_path / "later") as later:
        for file in (tmp_path / "copy").rglob("*.dcm"):
            whole = later.path / "studies" / file.relative_to(tmp_path / "copy")
            assert file.read_bytes() == whole.read_bytes() or file.name in said


def test_ending_while_pulling(willing: DemoServer, new_mount: NewMount) -> None:
    """S18: a pull whose mount ends under it ends as well, names what it did not fetch, and leaves what had come."""
    mount = new_mount(willing)
    pid = mount.pid
    folder = only(list((mount.path / "studies").glob("*slices*")))
    files = sorted(folder.glob("*/*.dcm"))
    willing.fault(kind="trickle", path="/series/[0-9.]+", bytes=200_000, seconds=0.2)
    try:
        pulling = subprocess.Popen(
            [sys.executable, "-m", "kheopsfs", "pull", "-q", folder],
            env=mount.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: list((mount.cache / "bodies" / "files").glob("*")))
        run(mount, ["kill", "-TERM", str(pid)])
        _, said = pulling.communicate(timeout=60)
    finally:
        willing.clear_faults()
    assert pulling.returncode == 1
    assert_nothing_is_left(mount, pid)
    failed = {line.rpartition(": ")[0] for line in said.splitlines()}
    assert failed <= {str(file) for file in files}
    with Mount(willing.url, willing.token(), mount.home) as later:
        cached = {str(file) for file in files if os.getxattr(file, "user.kheops.cached") == b"yes"}
        assert cached
        assert {str(file) for file in files} - cached <= failed
        assert later.command("pull", "-q", str(folder)).returncode == 0
        assert {os.getxattr(file, "user.kheops.cached") for file in files} == {b"yes"}
