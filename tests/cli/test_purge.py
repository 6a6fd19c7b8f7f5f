"""`kheopsfs purge`: what is removed, what is not, and who is asked first."""

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Demo, Home


@pytest.fixture
def used(home: Home, mountpoint: Path, demo: Demo, user_token: str) -> Iterator[Path]:
    """A mount from which one file was read; its cache is where it is by default."""
    done = home.run("mount", demo.url, mountpoint, "--token-file", home.token_file(user_token))
    assert done.status == 0, done.text
    file = next((mountpoint / "studies").glob("*Chest_AP*/*/*.dcm"))
    assert file.read_bytes()
    yield mountpoint
    home.run("umount", mountpoint)


def cache(home: Home) -> Path:
    return home.path / ".cache/kheopsfs"


def on_a_terminal(home: Home, answer: str, *arguments: str) -> tuple[int, str]:
    """Run the command on a terminal of its own and answer what it asks; its exit status and what it said."""
    child, terminal = pty.fork()
    if not child:
        os.execve(COMMAND[0], [*COMMAND, *arguments], home.environment)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, answer.encode() + b"\n")
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()


def test_a_cache_is_removed_when_nobody_uses_it_and_somebody_says_so(home: Home, used: Path, demo: Demo) -> None:
    """S24: refused while a mount uses it, and the mount is named; asked before; everything removed is counted."""
    outcome = home.run("purge", "--yes")
    assert outcome.status == 9
    assert f"is in use by the mount on {used}" in outcome.err
    assert f"kheopsfs umount {used}" in outcome.err
    log = next(home.logs.iterdir())
    elsewhere = home.run("purge", "--yes", "--logs", "--cache-dir", home.path / "elsewhere")
    assert elsewhere.status == 0
    assert "nothing to remove" in elsewhere.out
    assert log.exists(), "the log of a mount that lives"
    assert list((cache(home) / "bodies/files").iterdir())

    assert home.run("umount", used).status == 0
    outcome = home.run("purge")
    assert outcome.status == 2
    assert "--yes" in outcome.err
    status, said = on_a_terminal(home, "n", "purge")
    assert status == 1
    assert "1 fetched file (" in said
    assert "Nothing was removed." in said
    assert list((cache(home) / "bodies/files").iterdir())

    status, said = on_a_terminal(home, "y", "purge")
    assert status == 0
    assert f"Removed from {cache(home)}: 1 fetched file (" in said
    assert "1 log file of mounts that have ended stay" in said
    assert not cache(home).exists()
    assert log.exists()
    offline = home.run("mount", "--offline", demo.url, used, "--token-file", home.path / "token")
    assert offline.status == 6, "what was known of the token went with the cache"
    assert home.run("purge", "--yes", "--logs").status == 0
    assert list(home.logs.iterdir()) == []
    assert not cache(home).exists()


def test_a_folder_that_is_no_cache_is_left_alone(home: Home) -> None:
    """S24: not even the files that look like the cache's."""
    folder = home.path / "pictures"
    folder.mkdir(0o700)
    (folder / ("a" * 32)).write_text("a picture")
    outcome = home.run("purge", "--yes", KHEOPSFS_CACHE_DIR=str(folder))
    assert outcome.status == 9
    assert "is not a cache of kheopsfs" in outcome.err
    assert (folder / ("a" * 32)).read_text() == "a picture"
