"""A mount without its server, on purpose: it shows what is cached, fails at once for the rest, and asks nobody."""

import errno
import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from harness.looking import files, only, until, xattr
from harness.mounting import Mount, NewMount
from harness.patience import errno_of
from harness.server import DemoServer

from kheopsfs.fetch.standings import CLOCK_TOLERANCE, DAY, TRUSTED_DAYS, Standings
from kheopsfs.kheops.credentials import Token
from kheopsfs.kheops.tokens import TokenInfo
from kheopsfs.store import Store

STUDY = "*MR_Sch*"
"""The study that was read whole while the server was there."""
LISTED = "*PET-CT*"
"""A study whose folders were listed, and of which nothing was opened."""
UNKNOWN = "*RT_planning*"
"""A study that was never looked into."""


class Listener:
    """Where the server was: takes connections, never answers, and tells whether there were any."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._taken: list[socket.socket] = []

    @property
    def was_asked(self) -> bool:
        try:
            self._taken.append(self._socket.accept()[0])
        except BlockingIOError:
            return bool(self._taken)
        return True

    def close(self) -> None:
        for connection in [*self._taken, self._socket]:
            connection.close()


@dataclass
class Past:
    """A home in which a mount was used while the server was there, and what it showed then."""

    url: str
    tokens: dict[str, str]
    home: Path
    shown: dict[str, bytes]
    sizes: dict[str, int]
    tree: list[str]
    listener: Listener

    def mount(self, *options: str, token: str = "Ada", **settings: str) -> Mount:
        return Mount(self.url, self.tokens[token], self.home, *options, **settings)

    def command(self, *options: str, token: str = "Ada", **settings: str) -> subprocess.CompletedProcess[str]:
        """`kheopsfs mount` once more, beside the offline mount."""
        mount = self.mount(token=token, mountpoint="other", **settings)
        return mount.command("mount", self.url, str(mount.path), "--token-file", str(mount.token_file), *options)


READ = (f"studies/{STUDY}", "thumbnails/studies/*Smith-Jones*/*", "zip/inbox/*Florence*")
"""What was read whole, and is read again offline."""


def folder(mount: Mount, pattern: str) -> Path:
    return only(list(mount.path.glob(pattern)))


def by_name(mount: Mount) -> dict[str, Path]:
    """The files that were read whole, by their path in the mount."""
    tops = [top for pattern in READ for top in mount.path.glob(pattern)]
    found = [path for top in tops for path in ([top] if top.is_file() else files(top))]
    return {str(path.relative_to(mount.path)): path for path in found}


def contents(mount: Mount) -> dict[str, bytes]:
    """What they hold."""
    return {name: hashlib.sha256(path.read_bytes()).digest() for name, path in by_name(mount).items()}


def tree(mount: Mount) -> list[str]:
    """All that two studies hold, and the lists above them."""
    found = [path for top in ("albums", "studies", "by-uid") for path in (mount.path / top).iterdir()]
    found += [path for study in (STUDY, LISTED) for path in folder(mount, f"studies/{study}").rglob("*")]
    return sorted(str(path.relative_to(mount.path)) for path in found)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    home = tmp_path_factory.mktemp("offline") / "home"
    with DemoServer() as server:
        tokens = {name: server.token("user", name) for name in ("Ada", "Grace")} | {"album": server.token("album")}
        with Mount(server.url, tokens["Ada"], home) as mount:
            shown = contents(mount)
            sizes = {name: path.stat().st_size for name, path in by_name(mount).items()}
            names = tree(mount)
    listener = Listener(int(server.url.rstrip("/").rpartition(":")[2]))
    yield Past(server.url, tokens, home, shown, sizes, names, listener)
    listener.close()


@pytest.fixture(scope="module")
def offline(past: Past) -> Iterator[Mount]:
    """An offline mount for which every list is stale."""
    with past.mount("--offline", "--list-ttl", "0") as mount:
        yield mount


# Those that ask whether the listener was asked come first: one test lets an online mount ask it.


def test_what_is_cached_lists_and_reads(past: Past, offline: Mount) -> None:
    """S23: lists however old, instances, pictures and archives, byte for byte, with their exact sizes."""
    assert tree(offline) == past.tree
    known = by_name(offline)
    assert {name: path.stat().st_size for name, path in known.items()} == past.sizes
    assert {xattr(path, "kheops.size") for path in known.values()} == {"exact"}
    assert {xattr(path, "kheops.cached") for path in known.values()} == {"yes"}
    assert contents(offline) == past.shown
    assert not past.listener.was_asked


def test_what_is_not_cached_fails_at_once(past: Past, offline: Mount) -> None:
    """S17, S23: EIO without any wait for what was never listed, and for what was listed and never opened."""
    unread = files(folder(offline, f"studies/{LISTED}"))[:5]
    archive = folder(offline, f"zip/studies/{UNKNOWN}")
    unlisted = [folder(offline, f"{top}/{UNKNOWN}") for top in ("studies", "thumbnails/studies")]
    assert unread
    assert {xattr(path, "kheops.cached") for path in [*unread, archive]} == {"no"}
    # Far more than would fit into the patience of the tests if each waited for anything.
    for _ in range(10):
        assert {errno_of(path.read_bytes) for path in [*unread, archive]} == {errno.EIO}
        assert {errno_of(lambda path=path: os.listdir(path)) for path in unlisted} == {errno.EIO}  # type: ignore[misc]
    assert {xattr(path, "kheops.size") for path in unread} == {"bound"}
    assert {errno_of((path / "any name").stat) for path in unlisted} == {errno.EIO}
    assert not past.listener.was_asked


def test_programs_say_what_failed_and_go_on(past: Past, offline: Mount, tmp_path: Path) -> None:
    """S23: `cp -r` copies what is cached, names what is not, and fails."""
    for name, status in ((STUDY, 0), (LISTED, 1), (UNKNOWN, 1)):
        done = subprocess.run(
            ["cp", "-r", folder(offline, f"studies/{name}"), tmp_path],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status
        assert ("Input/output error" in done.stderr) == bool(status)
    copied = {path.name for path in files(tmp_path)}
    assert copied == {Path(name).name for name in past.sizes if name.startswith("studies/")}


def test_pull_names_what_it_could_not_fetch(past: Past, offline: Mount) -> None:
    """S23: files and folders that need the server are failures; what is cached is none."""
    assert offline.command("pull", "-q", str(folder(offline, f"studies/{STUDY}"))).returncode == 0
    unlisted, listed = (folder(offline, f"studies/{name}") for name in (UNKNOWN, LISTED))
    done = offline.command("pull", "-q", str(unlisted), str(listed))
    assert done.returncode == 1
    assert sorted(done.stderr.splitlines()) == sorted(
        f"{path}: Input/output error" for path in [unlisted, *files(listed)]
    )
    assert not past.listener.was_asked


def test_the_command_and_the_log_say_that_the_mount_is_offline(past: Past, offline: Mount) -> None:
    """S23: nobody takes an offline mount for the server's present state."""
    done = past.command("--offline")
    assert done.returncode == 0
    assert offline.command("umount", str(past.home / "other")).returncode == 0
    assert "Offline: the server is never contacted." in done.stdout
    assert offline.log().count("the mount is offline: the server is never asked") == 2
    assert "Traceback" not in offline.log()
    assert not past.listener.was_asked


def note(mount: Mount, token: str, *, age: float = 0.0) -> None:
    """Let the server have accepted a token so many seconds ago, as far as the cache knows."""

    async def write() -> None:
        info = TokenInfo("user", "anybody", frozenset({"user"}), "id", "")
        await Standings(store, mount.url.rstrip("/")).note(Token(token), info)

    with Store(mount.cache, 2**30) as store, pytest.MonkeyPatch.context() as patch:
        now = time.time
        patch.setattr(time, "time", lambda: now() - age)
        trio.run(write)


REFUSALS = {
    "too long ago": (TRUSTED_DAYS * DAY + 60, "7 days ago"),
    "in the future": (-CLOCK_TOLERANCE - 60, "put the clock right"),
}


def test_a_token_that_was_not_accepted_here_lately_opens_nothing(past: Past) -> None:
    """S23: not another user's, nor an album's, nor one whose last acceptance is too old or cannot be true."""
    for token in ("Grace", "album"):
        done = past.command("--offline", token=token)
        assert done.returncode == 6
        assert "this one was not used with this cache directory yet" in done.stderr
    for age, reason in REFUSALS.values():
        note(past.mount(), past.tokens["Grace"], age=age)
        done = past.command("--offline", token="Grace")
        assert done.returncode == 6
        assert reason in done.stderr
    assert not past.listener.was_asked


def test_without_the_option_the_server_is_asked_and_the_option_is_named(past: Past) -> None:
    """S23: no mount becomes an offline one by itself; who could have one is told so."""
    done = past.command(idle_timeout="1")
    assert done.returncode == 4
    assert "can be mounted without the server: --offline" in done.stderr
    assert past.listener.was_asked
    done = past.command(token="album", idle_timeout="1")
    assert done.returncode == 4
    assert "--offline" not in done.stderr


def test_a_server_in_reach_is_not_asked_either_and_a_refused_token_is_forgotten(new_mount: NewMount) -> None:
    """S14, S21, S23: offline means that nobody is asked. A token that the server refused is not good offline."""
    with DemoServer() as server:
        token = server.token("album", "PET")
        online = new_mount(server, token=token, offline="false")
        study = only(list((online.path / "albums").glob("*/*PET-CT*")))
        before = os.listdir(study)
        assert online.command("umount", str(online.path)).returncode == 0
        stored = b"".join(path.read_bytes() for path in files(online.cache))
        assert token.encode() not in stored

        server.clear_requests()
        offline = new_mount(server, home=online.home, token=token, offline="true", list_ttl="0")
        assert os.listdir(study) == before
        assert errno_of(lambda: os.listdir(study / before[0])) == errno.EIO
        assert server.requests() == []
        assert offline.command("umount", str(offline.path)).returncode == 0

        # Refused while it is in use, then refused to a mount that begins.
        online = new_mount(server, home=online.home, token=token, list_ttl="1")
        server.call("POST", "/revoke", json={"token": token})
        until(lambda: errno_of(lambda: os.listdir(study)) == errno.EACCES)
        assert online.command("umount", str(online.path)).returncode == 0
        mounting = ["mount", server.url, str(online.path), "--token-file", str(online.token_file)]
        assert_unknown(online, mounting)
        note(online, token)
        assert online.command(*mounting).returncode == 6
        assert_unknown(online, mounting)


def assert_unknown(mount: Mount, mounting: list[str]) -> None:
    done = mount.command(*mounting, "--offline")
    assert done.returncode == 6
    assert "it was refused since" in done.stderr
    assert not mount.is_mounted
