"""The cache: what was fetched once is not fetched again, by nobody, and is never wrong."""

import contextlib
import os
import random
import signal
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness.looking import digests, files, lists, only, retrievals, until, waits_for_mount, xattr
from harness.mounting import Mount
from harness.server import DemoServer

READERS = 6
SLICES = 60
MIB = 1024**2


@pytest.fixture(scope="module")
def slices() -> Iterator[DemoServer]:
    """A server with one series of slices of half a MiB."""
    with DemoServer("--synthetic", f"slices={SLICES}") as server:
        yield server


def a_study(mount: Mount) -> Path:
    return only((mount.path / "studies").glob("*MR_Sch*"))


def bodies(mount: Mount) -> list[Path]:
    return files(mount.cache / "bodies" / "files")


def test_a_second_read_asks_nobody(server: DemoServer, new_mount: Any) -> None:
    """S5, S11, S19: warm, after a remount, and after kill -9 and a remount: no request."""
    mount = new_mount(server)
    before = digests(a_study(mount))
    server.clear_requests()
    assert digests(a_study(mount)) == before
    assert server.requests() == []

    assert mount.command("umount", str(mount.path)).returncode == 0
    mount = new_mount(server, home=mount.home)
    assert digests(a_study(mount)) == before
    assert lists(server) == retrievals(server) == []

    os.kill(mount.pid, signal.SIGKILL)
    until(lambda: not mount.is_mounted)
    mount = new_mount(server, home=mount.home)
    assert digests(a_study(mount)) == before
    assert lists(server) == retrievals(server) == []


def test_what_is_being_read_when_the_mount_is_killed_is_whole_or_not_there(new_mount: Any) -> None:
    """S7, S20: kill -9 in the middle of a series; the next mount shows the right bytes."""
    with DemoServer() as server:
        mount = new_mount(server, token=server.token("user", "Ada"))
        series = only((mount.path / "studies").glob("*PET-CT*/0002_*"))
        expected = {
            instance["sha256"]
            for study in server.call("GET", "/library", params={"sha256": "1"})
            for listed in study["series"]
            for instance in listed["instances"]
            if listed["SeriesInstanceUID"] == xattr(series, "dicom.SeriesInstanceUID")
        }
        paths = sorted(series.iterdir())
        paths[0].read_bytes()
        server.fault(kind="stall", path="/series/[0-9.]+$", byte=3 * MIB)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(lambda: [path.read_bytes() for path in paths])
            until(lambda: len(bodies(mount)) > 3)
            os.kill(mount.pid, signal.SIGKILL)
            with pytest.raises(OSError):
                reading.result(20)
        until(lambda: not mount.is_mounted)
        server.clear_faults()
        server.clear_requests()
        mount = new_mount(server, home=mount.home, token=server.token("user", "Ada"))
        again = mount.path / series.relative_to(mount.path)
        assert set(digests(again).values()) == expected
        assert sum(entry["bytes"] for entry in retrievals(server)) > 0


def test_two_mounts_share_one_cache(server: DemoServer, new_mount: Any) -> None:
    """S19: at once; what one has read, the other has."""
    first = new_mount(server)
    expected = digests(a_study(first))
    server.clear_requests()
    second = new_mount(server, home=first.home, mountpoint="second")
    assert digests(a_study(second)) == expected
    assert retrievals(server) == []
    other = only((second.path / "studies").glob("*Chest_AP*"))
    read = digests(other)
    server.clear_requests()
    assert digests(first.path / other.relative_to(second.path)) == read
    assert retrievals(server) == []


def test_the_cache_is_nobody_elses_business(server: DemoServer, new_mount: Any) -> None:
    """S19: folders 0700, files 0600, whatever the umask."""
    old = os.umask(0)
    try:
        mount = new_mount(server)
        assert digests(a_study(mount))
    finally:
        os.umask(old)
    found = [mount.cache, *mount.cache.rglob("*")]
    assert len(found) > 10
    for path in found:
        with contextlib.suppress(FileNotFoundError):  # a database may drop a journal
            expected = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.lstat().st_mode) == expected, path


def test_the_cache_keeps_its_limit_and_open_files_stay_readable(slices: DemoServer, new_mount: Any) -> None:
    """S19: 31 MB through a cache of 16 MiB; what was opened first is gone from the cache but not for its reader."""
    mount = new_mount(slices, cache_size="16M")
    paths = files(mount.path / "studies")
    with paths[0].open("rb", buffering=0) as first:
        head = first.read(4096)
        expected = [path.read_bytes() for path in paths[1:]]
        assert sum(path.stat().st_size for path in bodies(mount)) <= 16 * MIB
        first.seek(0)
        whole = first.read()
        assert whole[:4096] == head
        assert len(whole) == os.fstat(first.fileno()).st_size
    assert xattr(paths[0], "kheops.cached") == "no"
    assert xattr(paths[-1], "kheops.cached") == "yes"
    assert paths[0].read_bytes() == whole
    assert [path.read_bytes() for path in paths[1:]] == expected


def test_a_damaged_body_is_fetched_again(server: DemoServer, new_mount: Any) -> None:
    """S9: one flipped byte on the disk, found when the next mount opens it; one line in the log."""
    mount = new_mount(server)
    path = only(a_study(mount).glob("0002_*/*"))
    expected = path.read_bytes()
    assert mount.command("umount", str(mount.path)).returncode == 0
    body = only([body for body in bodies(mount) if body.read_bytes() == expected])
    with body.open("r+b") as file:
        file.seek(len(expected) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    server.clear_requests()
    log = mount.log()
    mount = new_mount(server, home=mount.home)
    assert path.read_bytes() == expected
    assert len(retrievals(server)) == 1
    lines = [line for line in mount.log().removeprefix(log).splitlines() if " WARNING " in line or " ERROR " in line]
    assert len(lines) == 1, lines
    server.clear_requests()
    assert path.read_bytes() == expected
    assert retrievals(server) == []


def test_readers_of_one_file_share_one_request(new_mount: Any) -> None:
    """S11: all wait for the same retrieval and get the same bytes."""
    with DemoServer() as server:
        mount = new_mount(server, token=server.token("user", "Ada"))
        path = only((mount.path / "studies").glob("*Chest_AP*/*/*"))
        server.fault(kind="stall", path="/instances/[0-9.]+$")
        server.clear_requests()
        threads: list[int] = []
        all_there = threading.Barrier(READERS + 1)

        def read() -> bytes:
            threads.append(threading.get_native_id())
            all_there.wait(20)
            return path.read_bytes()

        with ThreadPoolExecutor(READERS) as pool, contextlib.ExitStack() as lifted:
            lifted.callback(server.clear_faults)
            readers = [pool.submit(read) for _ in range(READERS)]
            all_there.wait(20)
            until(lambda: all(map(waits_for_mount, threads)))
            until(lambda: retrievals(server))
            server.clear_faults()
            found = {reader.result(20) for reader in readers}
        assert len(found) == 1
        assert found.pop()[128:132] == b"DICM"
        assert len(retrievals(server)) == 1


@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
def test_a_series_costs_three_requests(slices: DemoServer, new_mount: Any, order: str) -> None:
    """S12: all files of a series by one reader, in any order: one list, at most three requests for bytes, none of
    them twice the bytes.
    """
    mount = new_mount(slices)
    series = only((mount.path / "studies").glob("*/*"))
    slices.clear_requests()
    paths = sorted(series.iterdir())
    match order:
        case "reversed":
            paths.reverse()
        case "shuffled":
            random.Random(1).shuffle(paths)
    sizes = [len(path.read_bytes()) for path in paths]
    assert len(sizes) == SLICES
    assert len(lists(slices)) == 1
    asked = retrievals(slices)
    assert len(asked) <= 3
    assert sum(entry["bytes"] for entry in asked) < sum(sizes) + 3 * max(sizes)
