"""The disk of the cache through a mount: full, read-only, too small, shared (S6, S8, S14, S19)."""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.disks import small_disk
from harness.forked import ForkedMount, Starter
from harness.looking import by_uid, files, retrievals, xattr
from harness.mounting import Mount
from harness.patience import errno_of, result_of
from harness.series import write_study
from harness.server import DemoServer

SERIES, INSTANCES = 6, 10
BODY = 53_000
"""Bytes of each file, rounded up a little."""

PAGE = 4096
DISK = "16m"
"""Room for the write-ahead logs of three databases, about 4 MiB each, and for the archive."""

FS_IOC_SETFLAGS = 0x40086602
FS_IMMUTABLE_FL = 0x10


@dataclass(frozen=True)
class Archive:
    """A server, and the right bytes by SOPInstanceUID."""

    server: DemoServer
    right: dict[str, bytes]
    starter: Starter

    def mounted(self, home: Path, **settings: object) -> ForkedMount:
        return ForkedMount(self.starter, self.server.url, self.server.token(), home, **settings)

    @property
    def size(self) -> int:
        return sum(map(len, self.right.values()))

    def is_right(self, path: Path) -> bool:
        return result_of(path.read_bytes) == self.right[xattr(path, "dicom.SOPInstanceUID")]


@pytest.fixture(scope="module")
def archive(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    right = write_study(folder / "data", series=SERIES, instances=INSTANCES)
    with DemoServer("--data", str(folder / "data")) as server:
        yield Archive(server, right, starter)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    with small_disk(tmp_path / "disk", DISK) as folder:
        yield folder


def complaints(mount: ForkedMount) -> list[str]:
    assert "Traceback" not in mount.log()
    return [line for line in mount.log().splitlines() if " WARNING " in line or " ERROR " in line]


# -- full -------------------------------------------------------------------------------------------------------------


def fill(disk: Path, *, leave: int) -> Path:
    """Take all room but `leave` bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(PAGE))
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


def test_a_disk_that_is_full_at_any_step(archive: Archive, disk: Path, tmp_path: Path) -> None:
    """S7, S14: with room for nothing, for a part of a body, for a body without its row, for all but its size, …: the
    reader gets the right bytes or EIO; what was kept stays readable; with room again all is well, in the next mount as
    well.
    """
    outcomes = set()
    with archive.mounted(tmp_path / "home", cache_dir=disk / "cache", list_ttl=0.0) as mount:
        first, *paths = by_uid(mount.path / "studies").values()
        assert archive.is_right(first)
        for pages, path in enumerate(paths[:: len(paths) // 20]):
            ballast = fill(disk, leave=pages * PAGE)
            outcome = errno_of(lambda path=path: path.read_bytes())  # type: ignore[misc]
            assert outcome in {None, errno.EIO}
            assert outcome is not None or archive.is_right(path)
            assert os.listdir(path.parent), "a listing needs no room"
            assert archive.is_right(first)
            ballast.unlink()
            assert archive.is_right(path)
            outcomes.add(outcome)
        assert "ENOSPC" in mount.log()
        assert "Traceback" not in mount.log()
        assert outcomes == {None, errno.EIO}
    with archive.mounted(tmp_path / "home", cache_dir=disk / "cache") as mount:
        assert all(archive.is_right(path) for path in by_uid(mount.path / "studies").values() if path.stat().st_size)
    assert list((disk / "cache" / "tmp").glob("*/*")) == []


def test_a_disk_that_fills_up_in_the_middle_of_a_series(archive: Archive, disk: Path, tmp_path: Path) -> None:
    """S7, S14: those that have no room are an error each, those that arrived before are right, and nobody waits."""
    with archive.mounted(tmp_path / "home", cache_dir=disk / "cache") as mount:
        paths = list(by_uid(mount.path / "studies").values())
        fill(disk, leave=4 * BODY)
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda path: errno_of(path.read_bytes), paths[:INSTANCES]))
        assert set(outcomes) == {None, errno.EIO}
        assert all(archive.is_right(path) for path, outcome in zip(paths, outcomes, strict=False) if outcome is None), (
            "they are kept, or were open a moment ago"
        )


# -- read-only --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [False, True])
def test_a_read_only_disk_at_the_start(archive: Archive, disk: Path, tmp_path: Path, warm: bool) -> None:
    """S14: status 9 and a sentence that names the folder."""
    if warm:
        with archive.mounted(tmp_path / "home", cache_dir=disk / "cache") as mount:
            assert archive.is_right(next(iter(by_uid(mount.path / "studies").values())))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    other = Mount(archive.server.url, archive.server.token(), tmp_path / "home")
    done = other.command(
        "mount", other.url, str(other.path), "--token-file", str(other.token_file), "--cache-dir", str(disk / "cache")
    )
    assert done.returncode == 9
    assert str(disk / "cache") in "".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not other.is_mounted


@contextmanager
def immutable(*folders: Path) -> Iterator[None]:
    """Nothing can be made or removed in the folders, not even by root: a disk on which only what is open goes on."""

    def set_flags(flags: int) -> None:
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", flags))
            except OSError:
                pytest.skip("this file system or this user cannot make a folder immutable")
            finally:
                os.close(descriptor)

    set_flags(FS_IMMUTABLE_FL)
    try:
        yield
    finally:
        set_flags(0)


def test_a_disk_that_becomes_read_only(archive: Archive, disk: Path, tmp_path: Path) -> None:
    """S14: what is kept can be read, what is not is EIO, and all is well when it can be written again."""
    cache = disk / "cache"
    with archive.mounted(tmp_path / "home", cache_dir=cache, list_ttl=0.0) as mount:
        kept, lost = list(by_uid(mount.path / "studies").values())[:: INSTANCES + 1][:2]
        assert archive.is_right(kept)
        (session,) = (cache / "tmp").iterdir()
        with immutable(session, cache / "bodies" / "files"):
            assert archive.is_right(kept)
            assert os.listdir(lost.parent)
            assert errno_of(lost.read_bytes) == errno.EIO
        with immutable(cache / "bodies" / "files"):
            assert archive.is_right(lost), "it arrived, but cannot be kept"
        assert all("cache" in line for line in complaints(mount))
        assert archive.is_right(list(by_uid(mount.path / "studies").values())[-1])


# -- too small --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bodies", [0.5, 4.5, 12.5, 40.5])
def test_a_study_that_is_larger_than_the_cache(archive: Archive, tmp_path: Path, bodies: float) -> None:
    """S6, S19: with room for less than one file, for less than a series, for two series, for most of the study: a copy
    is right, asks for each file at most once and a little, and leaves the cache within its limit.
    """
    limit = int(bodies * BODY)
    with archive.mounted(tmp_path / "home", cache_size=limit) as mount:
        archive.server.clear_requests()
        done = subprocess.run(["cp", "-r", mount.path / "studies", tmp_path / "copy"], check=False, timeout=60)
        assert done.returncode == 0
        copied = sorted(path.read_bytes() for path in files(tmp_path / "copy"))
        assert copied == sorted(archive.right.values())
        asked = retrievals(archive.server)
        assert len(asked) <= len(archive.right) + SERIES
        assert sum(entry["bytes"] for entry in asked) < 1.5 * archive.size
        assert sum(file.stat().st_size for file in files(mount.cache / "bodies" / "files")) <= limit
        assert complaints(mount) == []


# -- shared -----------------------------------------------------------------------------------------------------------


def test_many_mounts_and_pulls_on_one_small_cache(archive: Archive, tmp_path: Path) -> None:
    """S6, S8, S19: while all evict what the others keep, nobody reads a wrong byte, what is open stays readable, and
    the limit holds when all have finished."""
    limit = 20 * BODY
    cache = tmp_path / "cache"
    with ExitStack() as stack:
        mounts = [
            stack.enter_context(archive.mounted(tmp_path / str(number), cache_dir=cache, cache_size=limit))
            for number in range(3)
        ]
        found = [list(by_uid(mount.path / "studies").values()) for mount in mounts]
        opened = [stack.enter_context(paths[0].open("rb", buffering=0)) for paths in found]
        pulls = [
            subprocess.Popen(
                [sys.executable, "-m", "kheopsfs", "pull", mount.path / "studies"],
                env=mount.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for mount in mounts[:2]
        ]
        with ThreadPoolExecutor(len(mounts)) as pool:
            orders = [found[0], found[1][::-1], found[2][::2] + found[2][1::2]]
            walks = [pool.submit(lambda paths=paths: [archive.is_right(path) for path in paths]) for paths in orders]
            assert all(all(walk.result(60)) for walk in walks)
        for pull in pulls:
            said, _ = pull.communicate(timeout=60)
            assert pull.returncode == 0, said
        for file, paths in zip(opened, found, strict=True):
            assert result_of(file.readall) == archive.right[xattr(paths[0], "dicom.SOPInstanceUID")]
        kept = files(cache / "bodies" / "files")
        assert sum(file.stat().st_size for file in kept) <= limit
        assert len(kept) > 5, "it is a cache all the same"
        for mount in mounts:
            assert complaints(mount) == []
    assert list((cache / "tmp").glob("*/*")) == []
    shutil.rmtree(cache)
