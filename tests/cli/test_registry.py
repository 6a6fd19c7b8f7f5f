"""Which process serves which mountpoint, and above all which one does not."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheopsfs.errors import MountpointError
from kheopsfs.mount import registry

URL = "https://kheops.example.org/api"

REGISTERING = """
import sys
from pathlib import Path
from typing import Any
from kheopsfs.mount import registry
registry.register(Path(sys.argv[1]), sys.argv[2], Path("/var/log/it"))
print("registered", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has registered itself for <tmp>/mnt, and lives until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", REGISTERING, str(tmp_path / "mnt"), URL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "registered\n"
        yield process
        process.kill()


def the_file(runtime: Path) -> Path:
    (file,) = (runtime / "kheopsfs").iterdir()
    return file


def test_a_living_daemon_is_found(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    daemon = registry.find(tmp_path / "mnt")
    assert daemon is not None
    assert (daemon.pid, daemon.url, daemon.log) == (other.pid, URL, Path("/var/log/it"))
    assert daemon.mountpoint == tmp_path / "mnt"


def test_another_mountpoint_has_no_daemon(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    assert registry.find(tmp_path / "mnt2") is None
    assert registry.find(tmp_path) is None


def test_notes_are_private(runtime: Path, other: subprocess.Popen[str]) -> None:
    file = the_file(runtime)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_daemon_that_ended_is_forgotten(tmp_path: Path, runtime: Path, other: subprocess.Popen[str]) -> None:
    daemon = registry.find(tmp_path / "mnt")
    assert daemon is not None
    other.kill()
    # Not collected by its parent yet: the process id is still taken, but nobody is behind it.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert registry.hold(daemon) is None
    assert registry.find(tmp_path / "mnt") is None
    assert list((runtime / "kheopsfs").iterdir()) == []


@pytest.mark.parametrize(("member", "value"), [("started", 12345), ("boot", "another-boot")])
def test_a_process_that_took_over_the_id_is_not_the_daemon(
    tmp_path: Path, runtime: Path, other: subprocess.Popen[str], member: str, value: object
) -> None:
    file = the_file(runtime)
    file.write_text(json.dumps({**json.loads(file.read_text()), member: value}))
    assert registry.find(tmp_path / "mnt") is None
    assert other.poll() is None


def test_a_daemon_can_be_asked_to_end(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    daemon = registry.find(tmp_path / "mnt")
    assert daemon is not None
    process = registry.hold(daemon)
    assert process is not None
    assert not process.wait(0)
    process.signal(signal.SIGTERM)
    assert process.wait(10)
    process.signal(signal.SIGTERM)  # it is gone: no error
    process.close()
    assert other.wait() == -signal.SIGTERM


def test_only_the_process_itself_takes_its_note_back(
    tmp_path: Path, runtime: Path, other: subprocess.Popen[str]
) -> None:
    registry.unregister(tmp_path / "mnt")
    assert registry.find(tmp_path / "mnt") is not None
    registry.register(tmp_path / "mnt", URL, None)
    daemon = registry.find(tmp_path / "mnt")
    assert daemon is not None
    assert daemon.pid == os.getpid()
    assert daemon.log is None
    registry.unregister(tmp_path / "mnt")
    assert list((runtime / "kheopsfs").iterdir()) == []
    registry.unregister(tmp_path / "mnt")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x", "log": null}'])
def test_a_damaged_note_means_nothing(
    tmp_path: Path, runtime: Path, other: subprocess.Popen[str], content: str
) -> None:
    the_file(runtime).write_text(content)
    assert registry.find(tmp_path / "mnt") is None


def test_without_a_runtime_directory_notes_are_kept_with_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert registry.find(tmp_path / "mnt") is None
    assert not (tmp_path / "state").exists(), "looking makes nothing"
    registry.register(tmp_path / "mnt", URL, None)
    assert registry.find(tmp_path / "mnt") is not None
    assert stat.S_IMODE((tmp_path / "state/kheopsfs/run").stat().st_mode) == 0o700


def test_a_directory_for_notes_must_be_ours(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    planted = tmp_path / "planted"
    planted.symlink_to(elsewhere)
    with pytest.raises(MountpointError):
        registry.private_directory(planted)


@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_a_slug_is_a_file_name(parts: list[str]) -> None:
    name = registry.slug(Path("/", *parts))
    assert "/" not in name
    assert name.isascii()
    assert len(name) < 100
    assert not name.startswith(("-", "."))


def test_slugs_tell_similar_paths_apart() -> None:
    paths = [Path("/mnt/a b"), Path("/mnt/a-b"), Path("/mnt/a/b"), Path("/mnt/" + "x" * 200), Path("/mnt/" + "x" * 201)]
    assert len({registry.slug(path) for path in paths}) == len(paths)


def test_a_mountpoint_is_reserved_by_one(tmp_path: Path, runtime: Path) -> None:
    """S18: while it is, others are refused at once; afterwards, and when the holder was killed, anybody may."""
    holding = "\n".join(
        [
            "import sys; from pathlib import Path; from kheopsfs.mount import registry",
            "with registry.reserved(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
        ]
    )
    command = [sys.executable, "-c", holding, str(tmp_path / "mnt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(MountpointError, match="at this moment"), registry.reserved(tmp_path / "mnt"):
            pass
        with registry.reserved(tmp_path / "another"):
            pass
        holder.kill()
    with registry.reserved(tmp_path / "mnt"):
        assert the_file(runtime).suffix == ".lock"
    assert list((runtime / "kheopsfs").iterdir()) == []


def test_a_reservation_whose_file_was_removed_meanwhile_is_none(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S18: between opening the file and locking it, whoever held it may have removed it, and a third made it anew."""
    lock = fcntl.flock

    def too_late(*arguments: Any) -> None:
        the_file(runtime).unlink()
        lock(*arguments)

    monkeypatch.setattr(registry.fcntl, "flock", too_late)
    with pytest.raises(MountpointError, match="at this moment"), registry.reserved(tmp_path / "mnt"):
        pass
