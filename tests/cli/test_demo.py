"""`kheopsfs demo` and `kheopsfs serve-demo`: what they show, and that nothing stays."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import pydicom.data
import pytest
from harness.looking import is_running

from kheopsfs.mount.environment import mount_table
from tests.cli.conftest import PATIENCE, Demo, Home, children


def traces(home: Home) -> set[str]:
    """What a demo could leave on this machine: folders, mounts, notes, logs."""
    folders = {str(entry) for folder in (home.temporary, home.logs) for entry in folder.glob("*")}
    ours = {str(entry.mountpoint) for entry in mount_table() if entry.mountpoint.is_relative_to(home.path.parent)}
    return folders | ours | {str(note) for note in home.notes}


def test_once_shows_everything_and_leaves_nothing(home: Home) -> None:
    outcome = home.run("demo", "--once")
    assert outcome.status == 0, outcome
    assert outcome.err == ""
    for shown in ("README.txt", "inbox", "albums/", "studies", "thumbnails", "zip", "by-uid", ".dcm", "PatientName"):
        assert shown.rstrip("/") in outcome.out
    assert "Ctrl-C" not in outcome.out
    assert traces(home) == set()


def test_it_stays_until_ctrl_c(home: Home, mountpoint: Path) -> None:
    with home.started("demo", mountpoint) as command:
        assert command.stdout is not None
        printed = []
        while "Ctrl-C" not in (line := command.stdout.readline()):
            assert line or command.poll() is None, command.communicate()
            printed.append(line.strip())
        paths = [Path(line) for line in printed if line.startswith(str(mountpoint))]
        assert len(paths) > 4
        assert all(path.exists() for path in paths), "every path that is named can be opened"
        processes = children(command.pid)
        assert len(processes) == 2, "the server, and the process that serves the mount"
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0
    assert "Traceback" not in err
    assert not any(is_running(process) for process in processes)
    assert traces(home) == set()
    assert list(mountpoint.iterdir()) == []


def test_it_ends_when_somebody_unmounts(home: Home, mountpoint: Path) -> None:
    with home.started("demo", mountpoint) as command:
        assert command.stdout is not None
        while "Ctrl-C" not in command.stdout.readline():
            assert command.poll() is None, command.communicate()
        assert home.run("umount", mountpoint).status == 0
        command.communicate(timeout=PATIENCE)
    assert command.returncode == 0


def test_serve_demo_prints_one_line_of_json(home: Home) -> None:
    with home.started("serve-demo", "--json") as server:
        assert server.stdout is not None
        announcement = json.loads(server.stdout.readline())
        port = int(announcement["url"].rstrip("/").rpartition(":")[2])
        for token in announcement["tokens"]:
            assert len(token["token"]) == 22
            assert token["what"]
        socket.create_connection(("127.0.0.1", port)).close()
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=PATIENCE)
    assert out == ""
    assert "Traceback" not in err


def test_serve_demo_for_people(home: Home) -> None:
    with home.started("serve-demo") as server:
        assert server.stdout is not None
        text = ""
        while "Ctrl-C" not in text:
            line = server.stdout.readline()
            assert line, server.communicate()
            text += line
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE)
    assert "http://127.0.0.1:" in text
    assert "user token" in text


def test_a_port_that_is_taken(home: Home, demo: Demo) -> None:
    outcome = home.run("serve-demo", "--port", demo.host.rpartition(":")[2])
    assert outcome.status != 0
    assert "Traceback" not in outcome.err
    assert outcome.err


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    """A folder such as people have: nested, names of all sorts, something else among them."""
    folder = tmp_path / "my images"
    (folder / "deep/er").mkdir(parents=True)
    for number, name in enumerate(("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm")):
        source = Path(str(pydicom.data.get_testdata_file(name, download=False)))
        (folder / ("deep/er" if number else "") / f"IM{number}").write_bytes(source.read_bytes())
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_files_of_ones_own_come_back_byte_for_byte(
    home: Home, mountpoint: Path, own_files: Path, tmp_path: Path
) -> None:
    with home.started("serve-demo", "--json", "--data", own_files) as server:
        assert server.stdout is not None
        announcement = json.loads(server.stdout.readline())
        token = announcement["tokens"][0]["token"]
        assert home.run("mount", announcement["url"], mountpoint, KHEOPS_TOKEN=token).status == 0
        subprocess.run(["cp", "-r", mountpoint / "studies", tmp_path / "copy"], check=True)
        assert home.run("umount", mountpoint).status == 0
    copies = sorted(path.read_bytes() for path in (tmp_path / "copy").rglob("*.dcm"))
    originals = sorted(path.read_bytes() for path in own_files.rglob("IM*"))
    assert copies == originals
    assert len(copies) == 3
