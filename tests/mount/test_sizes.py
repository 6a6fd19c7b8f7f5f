"""Sizes: an upper bound until the first open, exact ever after."""

import contextlib
import math
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness.looking import by_uid, files, only, retrievals, until, waits_for_mount, xattr
from harness.mounting import Mount
from harness.server import DemoServer

SLICES = 48
SMALLEST_CACHE = "16M"  # less than the slices together


def true_sizes(server: DemoServer) -> dict[str, int]:
    """What the server delivers, by SOPInstanceUID."""
    return {
        instance["SOPInstanceUID"]: instance["size"]
        for study in server.call("GET", "/library")
        for series in study["series"]
        for instance in series["instances"]
    }


@pytest.fixture(scope="module")
def slices() -> Iterator[DemoServer]:
    """A server with one series of large slices."""
    with DemoServer("--synthetic", f"slices={SLICES}") as server:
        yield server


def remount(mount: Mount, server: DemoServer, new_mount: Any, **settings: str) -> Mount:
    assert mount.command("umount", str(mount.path)).returncode == 0
    return new_mount(server, home=mount.home, **settings)


def test_a_size_is_a_bound_until_the_first_open(server: DemoServer, new_mount: Any) -> None:
    """S10, S12, S13: never less than the truth and never 0, on every sample, without one body."""
    mount = new_mount(server)
    server.clear_requests()
    truth = true_sizes(server)
    found = by_uid(mount.path / "studies")
    assert found.keys() == truth.keys()
    for uid, path in found.items():
        assert truth[uid] <= path.stat().st_size <= truth[uid] + 64 * 1024**2
        assert xattr(path, "kheops.size") == "bound"
        assert xattr(path, "kheops.cached") == "no"
    subprocess.run(["du", "-s", mount.path], check=True, capture_output=True, timeout=60)
    assert retrievals(server) == []


def test_a_bound_without_any_hint_of_the_server_holds(new_mount: Any) -> None:
    """S10: a PACS without size hints; pixels and a flat guess remain."""
    with DemoServer() as server:
        server.call("POST", "/behaviour", json={"size_hints": False})
        mount = new_mount(server, token=server.token("user", "Ada"))
        truth = true_sizes(server)
        assert all(path.stat().st_size >= truth[uid] for uid, path in by_uid(mount.path / "studies").items())


def test_renditions_have_bounds_too(server: DemoServer, new_mount: Any) -> None:
    """S10, S11, S12: pictures and archives, exact once opened."""
    mount = new_mount(server)
    server.clear_requests()
    pictures = files(only((mount.path / "thumbnails" / "studies").glob("*PET-CT*")))
    archives = [path for path in files(mount.path / "zip" / "studies") if "Chest_AP" in path.name]
    assert pictures
    assert archives
    paths = pictures[::20] + archives
    bounds = {path: path.stat().st_size for path in paths}
    assert retrievals(server) == []
    for path, bound in bounds.items():
        size = len(path.read_bytes())
        assert 0 < size < bound
        assert path.stat().st_size == size


def test_fstat_after_open_is_exact(server: DemoServer, new_mount: Any) -> None:
    """S11, S13: on the descriptor at once, whatever was asked before; then by path, with its blocks."""
    mount = new_mount(server)
    truth = true_sizes(server)
    found = by_uid(only((mount.path / "studies").glob("*MR_Sch*")))
    assert all(path.stat().st_size > truth[uid] for uid, path in found.items())
    for uid, path in found.items():
        with path.open("rb") as file:
            assert os.fstat(file.fileno()).st_size == truth[uid]
            assert file.seek(0, os.SEEK_END) == truth[uid]
        looked = path.stat()
        assert looked.st_size == len(path.read_bytes()) == truth[uid]
        assert looked.st_blocks == math.ceil(truth[uid] / 512)
        assert xattr(path, "kheops.size") == "exact"
        assert xattr(path, "kheops.cached") == "yes"


def test_sizes_outlive_the_bodies_the_mount_and_a_crash(slices: DemoServer, new_mount: Any) -> None:
    """S11, S19: after eviction, after a remount, after kill -9: exact without a request for bytes."""
    mount = new_mount(slices, cache_size=SMALLEST_CACHE)
    truth = true_sizes(slices)

    def check(mounted: Mount) -> None:
        slices.clear_requests()
        found = by_uid(mounted.path / "studies")
        assert {uid: path.stat().st_size for uid, path in found.items()} == truth
        assert {xattr(path, "kheops.size") for path in found.values()} == {"exact"}
        assert "no" in {xattr(path, "kheops.cached") for path in found.values()}
        assert retrievals(slices) == []

    for path in files(mount.path / "studies"):
        path.read_bytes()
    check(mount)
    mount = remount(mount, slices, new_mount, cache_size=SMALLEST_CACHE)
    check(mount)
    os.kill(mount.pid, signal.SIGKILL)
    until(lambda: not mount.is_mounted)
    check(new_mount(slices, home=mount.home, cache_size=SMALLEST_CACHE))


def test_exact_sizes_are_exact_before_any_open(server: DemoServer, new_mount: Any) -> None:
    """S11, S13: `--sizes=exact`: the first `stat` of a series settles all of it in few requests."""
    mount = new_mount(server, "--sizes", "exact")
    truth = true_sizes(server)
    series = only((mount.path / "studies").glob("*PET-CT*/0002_*"))
    server.clear_requests()
    listed = subprocess.run(["ls", "-l", series], capture_output=True, text=True, check=True, timeout=60).stdout
    printed = {fields[8]: int(fields[4]) for fields in map(str.split, listed.splitlines()) if len(fields) == 9}
    assert printed == {path.name: truth[uid] for uid, path in by_uid(series).items()}
    assert len(printed) == 64
    of_this_series = [
        entry for entry in retrievals(server) if xattr(series, "dicom.SeriesInstanceUID") in entry["path"]
    ]
    assert len(of_this_series) <= 3
    for uid, path in by_uid(mount.path / "studies").items():
        assert path.stat().st_size == truth[uid]
        assert xattr(path, "kheops.size") == "exact"


def test_stat_waits_for_a_retrieval_that_will_settle_the_size(new_mount: Any) -> None:
    """S11: who looks while somebody else's open is under way sees the size, not the bound."""
    with DemoServer() as server:
        mount = new_mount(server, token=server.token("user", "Ada"))
        path = only((mount.path / "studies").glob("*Chest_AP*/*/*"))
        uid = xattr(path, "dicom.SOPInstanceUID")
        truth = true_sizes(server)[uid]
        assert path.stat().st_size > truth
        server.fault(kind="stall", path=f"/instances/{uid}", byte=20_000)
        server.clear_requests()
        with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as lifted:
            lifted.callback(server.clear_faults)
            reader = pool.submit(path.read_bytes)
            until(lambda: retrievals(server))
            looking = threading.Event()
            thread: list[int] = []

            def look() -> int:
                thread.append(threading.get_native_id())
                looking.set()
                return path.stat().st_size

            size = pool.submit(look)
            assert looking.wait(20)
            until(lambda: waits_for_mount(thread[0]))
            assert not size.done()
            server.clear_faults()
            assert size.result(20) == len(reader.result(20)) == truth
        assert len(retrievals(server)) == 1


def test_every_file_says_how_well_its_size_is_known(mount: Mount) -> None:
    """S13: also pictures, archives, the README."""
    some: list[Path] = [mount.path / "README.txt"]
    some += [next(iter(files(mount.path / view / "studies"))) for view in ("thumbnails", "zip")]
    some.append(next(iter(files(mount.path / "studies"))))
    for path in some:
        assert xattr(path, "kheops.size") in ("exact", "bound")
    assert xattr(some[0], "kheops.size") == "exact"
