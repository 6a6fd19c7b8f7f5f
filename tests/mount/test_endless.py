"""Bodies that never end: an error for whoever asked, nothing on the disk, and everything else goes on (S7, S16)."""

import errno
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from harness.looking import files, original, retrievals, xattr
from harness.mounting import Mount
from harness.patience import errno_of, result_of
from harness.server import DemoServer

ROOM = 8 * 2**20
"""Bytes that databases and their logs may take beside the bodies."""


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as demo:
        yield demo


@pytest.fixture(scope="module")
def token(server: DemoServer) -> str:
    return server.token("user", "Ada")


@pytest.fixture(scope="module")
def mount(server: DemoServer, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    with Mount(server.url, token, tmp_path_factory.mktemp("home"), cache_size="16M") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def series(server: DemoServer, mount: Mount) -> Iterator[list[Path]]:
    """The files of a series of which none is here yet; no fault outlives the test."""
    folders = {path.parent for path in files(mount.path / "studies", "*.dcm") if xattr(path, "kheops.cached") == "no"}
    found = [sorted(folder.iterdir()) for folder in sorted(folders)]
    server.clear_requests()
    yield next(
        paths for paths in found if len(paths) > 3 and all(xattr(path, "kheops.cached") == "no" for path in paths)
    )
    server.clear_faults()
    server.clear_requests()


def on_disk(mount: Mount) -> int:
    """Bytes in the cache, finished or not."""
    return sum(path.stat().st_size for path in files(mount.cache))


def test_an_instance_without_end(
    server: DemoServer, mount: Mount, token: str, series: list[Path], client: httpx.Client
) -> None:
    """It is given up once it is larger than the whole cache may be, and not asked for again."""
    first, second, *_ = series
    uid = xattr(first, "dicom.SOPInstanceUID")
    server.fault(kind="endless", path=f"{uid}$", byte=2000)
    assert errno_of(first.read_bytes) == errno.EIO
    assert len([request for request in retrievals(server) if request["path"].endswith(uid)]) == 1
    assert "given up" in mount.log()
    assert on_disk(mount) < ROOM
    assert not files(mount.cache / "tmp")
    assert second.read_bytes() == original(server, token, second, client)
    server.clear_faults()
    assert first.read_bytes() == original(server, token, first, client)


def test_a_series_without_end(
    server: DemoServer, mount: Mount, token: str, series: list[Path], client: httpx.Client
) -> None:
    """Whoever walks through it gets every file all the same, one by one."""
    uid = xattr(series[0], "dicom.SeriesInstanceUID")
    server.fault(kind="endless", path=f"/series/{uid}$", byte=2000)
    for path in series[:4]:
        assert result_of(path.read_bytes) == original(server, token, path, client)
    assert on_disk(mount) < 16 * 2**20 + ROOM
    assert "Traceback" not in mount.log()


def test_an_epilogue_without_end(
    server: DemoServer, mount: Mount, token: str, series: list[Path], client: httpx.Client
) -> None:
    """What was closed is whole, whatever follows."""
    server.fault(kind="endless", path="/instances/[0-9.]+$", byte=10**9)
    assert result_of(series[0].read_bytes) == original(server, token, series[0], client)


def test_a_picture_without_end(server: DemoServer, mount: Mount) -> None:
    picture = next((mount.path / "thumbnails" / "studies").glob("*/*/*.jpg"))
    server.fault(kind="endless", path="/wado", byte=2000)
    try:
        assert errno_of(picture.read_bytes) == errno.EIO
    finally:
        server.clear_faults()
    assert picture.read_bytes().endswith(b"\xff\xd9")
