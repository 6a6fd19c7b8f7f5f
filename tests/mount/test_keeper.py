"""Who clears the mountpoint of a mount whose process is killed, and what else it does: nothing (S18, S21)."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.forked import ForkedMount, Starter
from harness.looking import is_running, until
from harness.ordinary import OrdinaryMount, OrdinaryUser
from harness.server import DemoServer

NAME = "a b\\040\tc\nü"
"""Of a mountpoint: all that the mount table writes in another way."""


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", "slices=3") as demo:
        yield demo


@pytest.fixture
def user() -> Iterator[OrdinaryUser]:
    if not OrdinaryUser.is_possible():
        pytest.skip("root may not make a mount namespace")
    with OrdinaryUser() as user:
        yield user


def until_it_watches(keeper: int) -> None:
    """Until a keeper has started and waits for what may happen."""
    until(lambda: "poll" in Path(f"/proc/{keeper}/wchan").read_text())


def listing(mount: OrdinaryMount) -> list[str]:
    """What the user finds at the mountpoint."""
    listed = mount.started("ls", "-A", str(mount.path), stdout=subprocess.PIPE)
    names, _ = listed.communicate(timeout=60)
    assert listed.returncode == 0
    return str(names).split()


def test_an_ordinary_user_s_mount_is_killed(server: DemoServer, user: OrdinaryUser) -> None:
    """S18: the mountpoint clears itself, even while somebody has a file open, and can be mounted on again. If what
    would clear it is killed as well, `kheopsfs umount` clears it."""
    mount = OrdinaryMount(user, server.url, server.token(), NAME)
    with mount:
        assert "README.txt" in listing(mount)
        pid, keeper = mount.pid, mount.keeper
        script = 'exec 3< "$0/README.txt" && cd "$0" && echo open && read over; cat <&3'
        reader = mount.started(
            "sh", "-c", script, str(mount.path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        os.kill(pid, signal.SIGKILL)
        until(lambda: not mount.is_mounted)
        until(lambda: not is_running(pid) and not is_running(keeper))
        assert listing(mount) == []
        _, said = reader.communicate("over\n", timeout=60)
        assert os.strerror(errno.ENOTCONN) in said
    with mount:
        for process in (mount.keeper, mount.pid):
            os.kill(process, signal.SIGKILL)
            until(lambda process=process: not is_running(process))  # type: ignore[misc]
        assert mount.is_mounted
    assert not mount.is_mounted
    assert listing(mount) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGCONT], ids=["killed", "continued"])
def test_another_mount_in_its_place_stays(
    server: DemoServer, starter: Starter, tmp_path: Path, number: signal.Signals
) -> None:
    """S18: a process whose mount was taken away before it could notice, and whose mountpoint is in use again, ends
    without doing anything to the new mount, which may have the old one's device number."""
    old = ForkedMount(starter, server.url, server.token(), tmp_path)
    old.__enter__()
    keeper = old.keeper
    until_it_watches(keeper)
    os.kill(old.pid, signal.SIGSTOP)
    try:
        subprocess.run(["fusermount3", "-u", str(old.path)], check=True)
        until(lambda: not is_running(keeper))
        with ForkedMount(starter, server.url, server.token(), tmp_path) as new:
            os.kill(old.pid, number)
            until(lambda: not old.is_running)
            assert new.is_mounted
            assert (new.path / "README.txt").read_bytes()
            assert is_running(new.keeper)
    finally:
        if old.is_running:
            os.kill(old.pid, signal.SIGKILL)


def test_what_a_keeper_has(server: DemoServer, starter: Starter, tmp_path: Path) -> None:
    """S18, S21: nothing that the mount or its terminal could be held up by, and no secret; not even a name by which it
    would be killed together with the mount."""
    token = server.token()
    with ForkedMount(starter, server.url, token, tmp_path) as mount:
        keeper = Path(f"/proc/{mount.keeper}")
        until_it_watches(mount.keeper)
        held = {number: str((keeper / "fd" / number).readlink()) for number in os.listdir(keeper / "fd")}
        assert held.pop("0").startswith("pipe:")
        assert sorted(held.values()) == ["/dev/null", "/dev/null", f"{keeper}/mountinfo"]
        assert (keeper / "cwd").readlink() == Path("/")
        assert os.getsid(mount.keeper) == mount.keeper
        arguments, environment = ((keeper / name).read_bytes() for name in ("cmdline", "environ"))
        assert token.encode() not in arguments + environment
        assert b"kheops" not in arguments
        assert os.fsencode(mount.path) not in arguments
        assert {line.partition(b"=")[0] for line in environment.split(b"\0") if line} == {
            b"PATH",
            b"LINE",
            b"MOUNTPOINT",
        }
