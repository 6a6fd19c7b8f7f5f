"""What a mount takes of the machine stays what it was: memory however big a file is, descriptors however many are
opened."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.forked import ForkedMount, Starter
from harness.looking import files, only
from harness.patience import errno_of
from harness.server import DemoServer

MIB = 2**20
HUGE = 256
"""MiB of one multi-frame object."""
MOST_MEMORY = 48 * MIB
"""More than at rest that the process may ever need for it: batches, pieces of reads, threads."""

SMALL = 150
ROUNDS = 6
MOST_DESCRIPTORS = 60
"""More after many rounds than after the first: worker threads come and go, each with its connections."""


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", f"multiframe={HUGE}M,small={SMALL},slices=8") as demo:
        yield demo


def peak(mount: ForkedMount) -> int:
    """The most memory in bytes that the process ever had since the peak was last forgotten (proc(5), VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{mount.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def forget_peak(mount: ForkedMount) -> None:
    Path(f"/proc/{mount.pid}/clear_refs").write_text("5")


def read_through(path: Path) -> int:
    """Past the kernel's pages, so that each byte is asked of the mount."""
    buffer = bytearray(MIB)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        total = 0
        while count := os.preadv(descriptor, [buffer], total):
            total += count
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return total
    finally:
        os.close(descriptor)


def test_memory_does_not_grow_with_the_file(server: DemoServer, starter: Starter, tmp_path: Path) -> None:
    """S7, S9: a multi-frame object of hundreds of megabytes: while it is fetched, while it is read again, and, in the
    next mount, while its checksum is verified and it is read."""
    for what in ("fetched", "verified"):
        with ForkedMount(starter, server.url, server.token(), tmp_path, list_ttl=3600.0) as mount:
            path = only(path for path in files(mount.path / "studies") if "multi" in str(path))
            forget_peak(mount)
            rest = peak(mount)
            for _ in range(2):
                assert read_through(path) == path.stat().st_size > HUGE * MIB
                assert peak(mount) < rest + MOST_MEMORY, what


def descriptors(mount: ForkedMount) -> int:
    return len(os.listdir(f"/proc/{mount.pid}/fd"))


def test_descriptors_do_not_leak(server: DemoServer, starter: Starter, tmp_path: Path) -> None:
    """S19: many opens, whole and partial reads, listings, pictures, and opens that fail."""
    with ForkedMount(starter, server.url, server.token(), tmp_path) as mount:
        paths = files(mount.path / "studies", "*.dcm")
        small = [path for path in paths if "small" in str(path)]
        assert len(small) == SMALL
        pictures = files(mount.path / "thumbnails" / "studies", "*.jpg")[:20]
        counts = []
        for number in range(ROUNDS):
            for path in [*small, *pictures]:
                with contextlib.suppress(OSError), path.open("rb") as file:
                    file.read(100)
            for folder in {path.parent for path in paths}:
                os.listdir(folder)
            refused = only(path for path in paths if "multi" in str(path))
            server.fault(kind="cut", path="/instances/[0-9.]+$", byte=5000)
            assert errno_of(refused.read_bytes) is not None
            server.clear_faults()
            counts.append(descriptors(mount))
            assert counts[-1] < counts[0] + MOST_DESCRIPTORS, (number, counts)
