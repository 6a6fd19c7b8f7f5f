"""Folders and disks for the tests of the store."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_helpers import MIB

from kheopsfs.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def quick_folder(folder: Path) -> Iterator[Path]:
    """In memory where that is possible: for tests that open and close a store, which syncs, hundreds of times."""
    if not os.access("/dev/shm", os.W_OK):
        yield folder
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="kheopsfs-test-") as memory:
        yield Path(memory) / "cache"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store(folder, 100 * MIB) as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    mountpoint = tmp_path / "disk"
    mountpoint.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=1000,mode=0700", "tmpfs", str(mountpoint)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "-l", str(mountpoint)], check=True)
