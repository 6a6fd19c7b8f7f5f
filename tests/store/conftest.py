"""Folders and disks for the tests of the store."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.disks import small_disk as small_disk_on
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
    with small_disk_on(tmp_path / "disk", "4m", "nr_inodes=1000") as disk:
        yield disk
