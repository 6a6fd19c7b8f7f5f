"""`kheopsfs mount` and `kheopsfs umount` for real: what stays, what does not, and where the token is not."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.looking import is_running

from kheopsfs.mount.environment import FILE_SYSTEM_TYPE, is_dead, mount_table, mounted
from tests.cli.conftest import PATIENCE, Demo, Home, children, wait_until

COMMANDS_AT_ONCE = 4

PROMISED_END = 5.0
"""Seconds within which an unmount is complete."""


def daemon_of(home: Home) -> int:
    """The process that serves the only mount of a home."""
    (note,) = home.notes
    assert isinstance(note["pid"], int)
    return note["pid"]


def assert_nothing_is_left(home: Home, mountpoint: Path, pid: int) -> None:
    assert mounted(mountpoint) is None
    assert list(mountpoint.iterdir()) == []
    assert not is_running(pid)
    assert home.notes == []


def test_mount_look_umount(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    outcome = home.run("mount", demo.url, mountpoint, "--token-file", home.token_file(user_token))
    assert outcome.status == 0, outcome
    assert outcome.err == ""
    assert str(mountpoint) in outcome.out
    assert {"README.txt", "albums", "inbox", "studies"} <= {path.name for path in mountpoint.iterdir()}
    assert next(mountpoint.glob("albums/*/*/*/*.dcm")).read_bytes()[128:132] == b"DICM"
    entry = mounted(mountpoint)
    assert entry is not None
    assert entry.type == FILE_SYSTEM_TYPE
    pid = daemon_of(home)
    assert is_running(pid)

    before = time.monotonic()
    outcome = home.run("umount", mountpoint)
    assert outcome.status == 0, outcome
    assert outcome.text == ""
    assert time.monotonic() - before < PROMISED_END + 1, "the promise, and a second for Python to start"
    assert_nothing_is_left(home, mountpoint, pid)


def test_the_daemon_holds_on_to_nothing(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    process = Path(f"/proc/{daemon_of(home)}")
    assert (process / "cwd").readlink() == Path("/")
    assert [(process / f"fd/{number}").readlink() for number in (0, 1)] == [Path("/dev/null")] * 2
    assert (process / "fd/2").readlink().parent == home.logs
    assert os.getsid(daemon_of(home)) == daemon_of(home)
    assert home.run("umount", mountpoint).status == 0


def test_the_log_is_private_and_says_what_happened(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    assert home.run("umount", mountpoint).status == 0
    (log,) = home.logs.iterdir()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    text = log.read_text()
    assert f"is mounted on {mountpoint}" in text
    assert f"{mountpoint} is unmounted" in text
    assert "Traceback" not in text


@contextlib.contextmanager
def in_front(home: Home, *arguments: str | Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A mount that stays in the foreground; given once it is there."""
    with home.started("mount", "-f", *arguments, **variables) as process:
        wait_until(lambda: home.notes or process.poll() is not None, "the mount in the foreground")
        yield process


@pytest.mark.parametrize(
    ("way", "foreground"),
    [(way, False) for way in ("file", "variable", "input", "URL", "link", "share link")]
    # In front, the command itself becomes the process that serves: these two had the token where others can see it.
    + [("variable", True), ("URL", True)],
)
def test_the_token_is_nowhere(
    home: Home, mountpoint: Path, demo: Demo, user_token: str, way: str, foreground: bool
) -> None:
    url = {
        "URL": f"http://token:{user_token}@{demo.host}/api/studies",
        "link": f"http://{demo.host}/api/link/{user_token}/studies",
        "share link": f"http://{demo.host}/view/{user_token}",
    }.get(way, demo.url)
    options = {"file": ["--token-file", str(home.token_file(user_token))], "input": ["--token-file", "-"]}.get(way, [])
    variables = {"KHEOPS_TOKEN": user_token} if way == "variable" else {}
    arguments = [url, str(mountpoint), "--log-level", "debug", *options]
    with contextlib.ExitStack() as stack:
        if foreground:
            process = stack.enter_context(in_front(home, *arguments, **variables))
            pid = process.pid
        else:
            outcome = home.run("mount", *arguments, said=user_token + "\n", **variables)
            assert outcome.status == 0, outcome
            assert user_token not in outcome.text
            assert ("shell's history" in outcome.err) == (url != demo.url)
            pid = daemon_of(home)
        assert next(mountpoint.glob("albums/*/*/*/*.dcm")).read_bytes()
        assert pid == daemon_of(home)
        for place in ("cmdline", "environ", "mountinfo"):
            assert user_token.encode() not in Path(f"/proc/{pid}/{place}").read_bytes()
        assert home.run("umount", mountpoint).status == 0
        if foreground:
            out, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
            assert user_token not in out + err
            assert "is mounted on" in err
    for folder in (home.logs, home.runtime):
        for file in folder.rglob("*"):
            assert user_token.encode() not in (file.read_bytes() if file.is_file() else b""), file


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_in_front(
    home: Home, mountpoint: Path, demo: Demo, user_token: str, number: signal.Signals
) -> None:
    with in_front(home, demo.url, mountpoint, KHEOPS_TOKEN=user_token) as process:
        assert (mountpoint / "README.txt").read_text()
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "Traceback" not in err
    assert_nothing_is_left(home, mountpoint, process.pid)


def test_fusermount_ends_it(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    pid = daemon_of(home)
    subprocess.run(["fusermount3", "-u", str(mountpoint)], check=True)
    wait_until(lambda: not is_running(pid), "the end of the daemon")
    assert_nothing_is_left(home, mountpoint, pid)


def test_umount_although_somebody_is_inside(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    pid = daemon_of(home)
    with next(mountpoint.glob("albums/*/*/*/*.dcm")).open("rb") as file:
        assert file.read(132).endswith(b"DICM")
        assert home.run("umount", mountpoint).status == 0
        assert_nothing_is_left(home, mountpoint, pid)


def kill_without_a_trace(home: Home, mountpoint: Path) -> None:
    """End a daemon, its keeper and the helper that would clear up after it, so that a dead mount remains."""
    helpers = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit()
        and is_running(int(process.name))
        and (process / "cmdline").read_bytes().startswith(b"fusermount3")
        and str(mountpoint).encode() in (process / "cmdline").read_bytes()
    ]
    for pid in [*helpers, *children(daemon_of(home)), daemon_of(home)]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_dead(mountpoint), "a dead mount")
    assert mounted(mountpoint) is not None


def test_umount_when_the_daemon_is_dead(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    pid = daemon_of(home)
    kill_without_a_trace(home, mountpoint)
    outcome = home.run("umount", mountpoint)
    assert outcome.status == 0, outcome
    assert_nothing_is_left(home, mountpoint, pid)


def test_a_daemon_that_is_stopped_is_no_dead_one(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    pid = daemon_of(home)
    os.kill(pid, signal.SIGSTOP)
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 7
    assert home.run("umount", mountpoint).status == 0
    assert_nothing_is_left(home, mountpoint, pid)


def test_mounting_again_over_a_dead_mount(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    kill_without_a_trace(home, mountpoint)
    outcome = home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token)
    assert outcome.status == 0, outcome
    assert (mountpoint / "README.txt").read_text()
    assert home.run("umount", mountpoint).status == 0


def test_a_mountpoint_that_is_mounted_already(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    outcome = home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token)
    assert outcome.status == 7
    assert f"kheopsfs umount {mountpoint}" in outcome.err
    assert (mountpoint / "README.txt").read_text(), "the first one is as it was"
    assert home.run("umount", mountpoint).status == 0


def test_two_mounts_do_not_disturb_each_other(
    home: Home, mountpoint: Path, tmp_path: Path, demo: Demo, user_token: str
) -> None:
    second = tmp_path / "a second one"
    second.mkdir()
    assert home.run("mount", demo.url, mountpoint, KHEOPS_TOKEN=user_token).status == 0
    assert home.run("mount", demo.url, second, KHEOPS_TOKEN=user_token).status == 0
    assert home.run("umount", second).status == 0
    assert (mountpoint / "README.txt").read_text()
    assert home.run("umount", mountpoint).status == 0


def test_a_profile(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> None:
    (home.config.parent).mkdir(parents=True)
    (home.config.parent / "demo.token").write_text(user_token)
    (home.config.parent / "demo.token").chmod(0o600)
    home.write_config(f'[profiles.demo]\nurl = "{demo.url}"\ntoken_file = "demo.token"\nnames = "uid"\n')
    outcome = home.run("mount", "demo", mountpoint)
    assert outcome.status == 0, outcome
    assert (mountpoint / "README.txt").read_text()
    assert home.run("umount", mountpoint).status == 0
    assert home.run("check", "demo").status == 0


def test_a_mountpoint_given_by_a_relative_path(
    home: Home, mountpoint: Path, demo: Demo, user_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mountpoint.parent)
    assert home.run("mount", demo.url, "mnt", KHEOPS_TOKEN=user_token).status == 0
    assert (mountpoint / "README.txt").read_text()
    assert home.run("umount", "./mnt/").status == 0
    assert mounted(mountpoint) is None


class HeldBack:
    """A way to the demo server that lets nothing through until it is opened."""

    def __init__(self, demo: Demo) -> None:
        self._target = ("127.0.0.1", int(demo.host.rpartition(":")[2]))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.somebody_waits = threading.Event()
        self.open = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._server.accept()
            self.somebody_waits.set()
            self.open.wait()
            target = socket.create_connection(self._target)
            for source, sink in ((client, target), (target, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def test_a_mount_that_nobody_waits_for_any_more_is_undone(
    home: Home, mountpoint: Path, demo: Demo, user_token: str
) -> None:
    way = HeldBack(demo)
    with home.started("mount", way.url, mountpoint, KHEOPS_TOKEN=user_token) as command:
        assert way.somebody_waits.wait(PATIENCE)
        (child,) = children(command.pid)
        command.kill()
    assert is_running(child)
    way.open.set()
    wait_until(lambda: not is_running(child), "the end of the daemon")
    assert_nothing_is_left(home, mountpoint, child)


def test_of_commands_that_start_at_the_same_moment_one_mounts(
    home: Home, mountpoint: Path, demo: Demo, user_token: str
) -> None:
    """S18: all have seen a free mountpoint when the first of them mounts; the kernel would stack their mounts."""
    way = HeldBack(demo)
    with contextlib.ExitStack() as stack:
        commands = [
            stack.enter_context(home.started("mount", way.url, mountpoint, KHEOPS_TOKEN=user_token))
            for _ in range(COMMANDS_AT_ONCE)
        ]
        wait_until(lambda: all(children(command.pid) for command in commands), "the daemons")
        way.open.set()
        said = [command.communicate(timeout=PATIENCE) for command in commands]
        assert sorted(command.returncode for command in commands) == [0, *[7] * (COMMANDS_AT_ONCE - 1)], said
        assert [entry.mountpoint for entry in mount_table()].count(mountpoint) == 1
        assert (mountpoint / "README.txt").read_text()
        pid = daemon_of(home)
        assert home.run("umount", mountpoint).status == 0
        assert_nothing_is_left(home, mountpoint, pid)
        assert list((home.runtime / "kheopsfs").iterdir()) == []
