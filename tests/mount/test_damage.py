"""A damaged cache through a mount: noticed, said in one line, fetched again, and no wrong byte (S9, S11, S19).

What the store does with each kind of damage is tested with the store; here is what a reader and the log get of it.
"""

import contextlib
import os
import pickle
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.forked import ForkedMount, Starter
from harness.looking import by_uid, files, retrievals, xattr
from harness.patience import errno_of, result_of
from harness.series import write_study
from harness.server import DemoServer

SERIES, INSTANCES = 3, 2
NOBODY = 65534
INSERT = (
    "INSERT OR REPLACE INTO Cache (key, raw, store_time, access_time, size, mode, filename, value) "
    "VALUES (?, 1, 1, 1, 0, ?, ?, ?)"
)
PICKLE = 4
"""diskcache's mode of a pickled value."""


@dataclass(frozen=True)
class Archive:
    """A server, the right bytes by SOPInstanceUID, and the home of a mount that has read all of it."""

    server: DemoServer
    right: dict[str, bytes]
    warm: Path


@pytest.fixture(scope="module")
def archive(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    right = write_study(folder / "data", series=SERIES, instances=INSTANCES)
    with DemoServer("--data", str(folder / "data")) as server:
        with ForkedMount(starter, server.url, server.token(), folder / "warm") as mount:
            assert {uid: path.read_bytes() for uid, path in by_uid(mount.path / "studies").items()} == right
        yield Archive(server, right, folder / "warm")


class Damaged:
    """Mounts, on a copy of the warm cache."""

    def __init__(self, starter: Starter, archive: Archive, home: Path) -> None:
        shutil.copytree(archive.warm / "cache", home / "cache")
        self.home = home
        self.cache = home / "cache" / "kheopsfs"
        self.archive = archive
        self._starter = starter

    def mounted(self) -> ForkedMount:
        server = self.archive.server
        return ForkedMount(self._starter, server.url, server.token(), self.home, list_ttl=3600.0)

    def database(self, name: str) -> Path:
        return self.cache / name

    def alter(self, statement: str, *arguments: object, database: str = "bodies/cache.db") -> None:
        with contextlib.closing(sqlite3.connect(self.cache / database)) as connection, connection:
            assert connection.execute(statement, arguments).rowcount, "nothing was altered"

    def row(self, SOPInstanceUID: str) -> tuple[str, Path]:
        """The key and the file of an instance."""
        with contextlib.closing(sqlite3.connect(self.cache / "bodies" / "cache.db")) as connection:
            ((key, name),) = connection.execute(
                "SELECT key, filename FROM Cache WHERE key LIKE ?", (f"%/{SOPInstanceUID}",)
            ).fetchall()
        return key, self.cache / "bodies" / "files" / name

    def read(self, mount: ForkedMount) -> dict[str, bytes]:
        return {uid: result_of(path.read_bytes) for uid, path in by_uid(mount.path / "studies").items()}

    def complaints(self, mount: ForkedMount) -> list[str]:
        assert "Traceback" not in mount.log()
        return [line for line in mount.log().splitlines() if " WARNING " in line or " ERROR " in line]


@pytest.fixture
def damaged(starter: Starter, archive: Archive, tmp_path: Path) -> Damaged:
    return Damaged(starter, archive, tmp_path)


# -- bodies -----------------------------------------------------------------------------------------------------------


def flip(path: Path, place: float) -> None:
    with path.open("r+b") as file:
        offset = min(int(path.stat().st_size * place), path.stat().st_size - 1)
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def put_in_its_place(path: Path, make: Callable[[Path], object]) -> None:
    path.rename(path.parent.parent.parent / "moved")
    make(path)


def make_socket(path: Path) -> None:
    # The name of a socket is short, the path of a test's folder is not.
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):
        listener.bind(path.name)


def give_away(path: Path) -> None:
    if os.geteuid():
        pytest.skip("giving a file away takes root")
    os.chown(path, NOBODY, NOBODY)


BODY_DAMAGES: dict[str, Callable[[Path], object]] = {
    "first byte": lambda path: flip(path, 0),
    "a byte in the middle": lambda path: flip(path, 0.5),
    "last byte": lambda path: flip(path, 1),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "longer": extend,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "somebody else's": give_away,
    "link to the right bytes": lambda path: put_in_its_place(
        path, lambda path: path.symlink_to(path.parent.parent.parent / "moved")
    ),
    "link to nothing": lambda path: put_in_its_place(path, lambda path: path.symlink_to("/nonexistent/body")),
    "FIFO": lambda path: put_in_its_place(path, os.mkfifo),
    "socket": lambda path: put_in_its_place(path, make_socket),
    "folder": lambda path: put_in_its_place(path, os.mkdir),
}


@pytest.mark.parametrize("damage", BODY_DAMAGES)
def test_a_damaged_body(damaged: Damaged, damage: str) -> None:
    """S9: found when it is first opened; one request brings it back, for this mount and the next."""
    uid = next(iter(damaged.archive.right))
    _, file = damaged.row(uid)
    BODY_DAMAGES[damage](file)
    damaged.archive.server.clear_requests()
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right
        assert len(retrievals(damaged.archive.server)) == 1
        (line,) = damaged.complaints(mount)
        assert "the body in the cache is damaged" in line
        assert uid in line
    with damaged.mounted() as mount:
        damaged.archive.server.clear_requests()
        assert damaged.read(mount) == damaged.archive.right
        assert retrievals(damaged.archive.server) == []
        assert len(damaged.complaints(mount)) == 1, "the line of the mount before"


def test_a_body_that_was_removed(damaged: Damaged) -> None:
    """S9: it is not there, which is no reason for a line."""
    uid = next(iter(damaged.archive.right))
    damaged.row(uid)[1].unlink()
    damaged.archive.server.clear_requests()
    with damaged.mounted() as mount:
        assert xattr(by_uid(mount.path / "studies")[uid], "kheops.cached") == "no"
        assert damaged.read(mount) == damaged.archive.right
        assert len(retrievals(damaged.archive.server)) == 1
        assert damaged.complaints(mount) == []


# -- rows that no store wrote -----------------------------------------------------------------------------------------


class Bomb:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("database", ["bodies/cache.db", "listings/cache.db"])
def test_a_planted_pickle(damaged: Damaged, tmp_path: Path, database: str) -> None:
    """S9, S19: in place of every row. None is unpickled, each gets one line, and all is fetched again."""
    with contextlib.closing(sqlite3.connect(damaged.database(database))) as connection, connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM Cache")]
        for key in keys:
            connection.execute(INSERT, (key, PICKLE, None, pickle.dumps(Bomb(tmp_path / "exploded"))))
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right
        lines = damaged.complaints(mount)
        assert lines
        assert all("the row in the cache is damaged" in line for line in lines)
        named = [next(key for key in keys if f" {key}:" in line) for line in lines]
        assert len(named) == len(set(named)) <= len(keys)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["../../../../outside", "/etc/hostname", "sub/../../../../../outside", "outside"])
def test_a_planted_file_name(damaged: Damaged, name: str) -> None:
    """S9, S19: a row that names a file elsewhere shows nothing of it, and the file stays as it is."""
    uid = next(iter(damaged.archive.right))
    key, _ = damaged.row(uid)
    outside = damaged.home / "outside"
    outside.write_bytes(b"not yours")
    damaged.alter("UPDATE Cache SET filename = ? WHERE key = ?", name, key)
    damaged.archive.server.clear_requests()
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right
        assert len(retrievals(damaged.archive.server)) == 1
        (line,) = damaged.complaints(mount)
        assert "the row in the cache is damaged" in line
    assert outside.read_bytes() == b"not yours"


def test_a_row_that_names_the_file_of_another_instance(damaged: Damaged) -> None:
    """S9: a body is what its own row says, so a file in the wrong place is a damaged one."""
    first, second = list(damaged.archive.right)[:2]
    damaged.alter("UPDATE Cache SET filename = ? WHERE key = ?", damaged.row(second)[1].name, damaged.row(first)[0])
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right


# -- databases --------------------------------------------------------------------------------------------------------


def overwrite_all_but_the_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(size - 100))


DATABASE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(os.urandom(20_000)),
    "cut": lambda path: os.truncate(path, 5_000),
    "all but the header": overwrite_all_but_the_header,
    "somebody else's": give_away,
}


@pytest.mark.parametrize("database", ["bodies/cache.db", "listings/cache.db", "ledger/ledger.db"])
@pytest.mark.parametrize("damage", DATABASE_DAMAGES)
def test_a_damaged_database(damaged: Damaged, database: str, damage: str) -> None:
    """S9, S11: moved aside with one line. What it held is fetched again, what the others held is not; a size is exact
    from the next open on, also for the mount after."""
    DATABASE_DAMAGES[damage](damaged.database(database))
    damaged.archive.server.clear_requests()
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right
        assert bool(retrievals(damaged.archive.server)) == (database == "bodies/cache.db")
        lines = damaged.complaints(mount)
        assert len(lines) == 1 or (not lines and damage == "cut"), "SQLite may not notice, but then the checksums do"
        assert all(f"{damaged.database(database)} was damaged" in line for line in lines)
    found = len(files(damaged.cache / "bodies" / "files"))
    assert found == len(damaged.archive.right), "files without a row are swept"
    with damaged.mounted() as mount:
        damaged.archive.server.clear_requests()
        sizes = {uid: path.stat().st_size for uid, path in by_uid(mount.path / "studies").items()}
        assert sizes == {uid: len(data) for uid, data in damaged.archive.right.items()}
        assert damaged.read(mount) == damaged.archive.right
        assert retrievals(damaged.archive.server) == []


# -- under a running mount --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["a byte in the middle", "cut", "empty", "longer", "link to the right bytes"])
def test_damage_before_this_mount_opened_the_body(damaged: Damaged, damage: str) -> None:
    """S9: a body that the mount has not opened yet is proven when it is."""
    with damaged.mounted() as mount:
        found = by_uid(mount.path / "studies")
        for uid in found:
            BODY_DAMAGES[damage](damaged.row(uid)[1])
            with contextlib.suppress(FileNotFoundError):
                (damaged.cache / "moved").unlink()
        assert damaged.read(mount) == damaged.archive.right
        assert len(damaged.complaints(mount)) == len(found)


def test_damage_after_this_mount_opened_the_body(damaged: Damaged) -> None:
    """S9: this mount trusts what it has proven; the next one does not."""
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right
        for uid in damaged.archive.right:
            flip(damaged.row(uid)[1], 0.5)
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right
        assert len(damaged.complaints(mount)) == len(damaged.archive.right)


def test_a_body_that_is_cut_while_it_is_open(damaged: Damaged) -> None:
    """S8, S9: who reads beyond the cut gets EIO, not a shorter file; who opens it anew gets all of it."""
    uid = next(iter(damaged.archive.right))
    with damaged.mounted() as mount:
        path = by_uid(mount.path / "studies")[uid]
        body = damaged.row(uid)[1]
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)  # past the kernel's pages, which have it whole
        try:
            assert result_of(lambda: os.pread(descriptor, 4096, 0)) == damaged.archive.right[uid][:4096]
            os.truncate(body, 5_000)
            assert errno_of(lambda: os.pread(descriptor, 65_536, 0)) is not None
            assert result_of(path.read_bytes) == damaged.archive.right[uid]
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("database", ["bodies/cache.db", "listings/cache.db", "ledger/ledger.db"])
@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_database_that_is_damaged_under_a_mount(damaged: Damaged, database: str, damage: str) -> None:
    """S9: the mount goes on, and so does the next one; no wrong byte, no traceback."""
    with damaged.mounted() as mount:
        for path in list(by_uid(mount.path / "studies").values())[::2]:
            path.read_bytes()
        DATABASE_DAMAGES[damage](damaged.database(database))
        assert damaged.read(mount) == damaged.archive.right
        assert len(damaged.complaints(mount)) <= 2
    with damaged.mounted() as mount:
        assert damaged.read(mount) == damaged.archive.right


def test_the_cache_is_emptied_under_a_mount(damaged: Damaged) -> None:
    """S19: what is open stays readable, what is not is fetched again, and is kept again."""
    with damaged.mounted() as mount:
        found = by_uid(mount.path / "studies")
        first = next(iter(found))
        with found[first].open("rb") as opened:
            shutil.rmtree(damaged.cache)
            assert result_of(opened.read) == damaged.archive.right[first]
        assert damaged.read(mount) == damaged.archive.right
        assert "Traceback" not in mount.log()
    with damaged.mounted() as mount:
        damaged.archive.server.clear_requests()
        assert damaged.read(mount) == damaged.archive.right
        assert len(retrievals(damaged.archive.server)) <= SERIES
