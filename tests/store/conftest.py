"""What the tests of the store share: a folder, bodies, and a look at what is really on the disk."""

import contextlib
import logging
import os
import random
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kheopsfs.store import Store

MIB = 2**20


@dataclass(frozen=True)
class OnDisk:
    """What is in a cache folder, without asking the store."""

    files: set[str]
    rows: dict[str, str]
    arriving: set[str]
    size: int


def look(folder: Path) -> OnDisk:
    with contextlib.closing(sqlite3.connect(folder / "bodies" / "cache.db")) as connection:
        rows = dict(connection.execute("SELECT key, filename FROM Cache WHERE raw = 1"))
        (size,) = connection.execute("SELECT coalesce(sum(size), 0) FROM Cache").fetchone()
    return OnDisk(
        files=set(os.listdir(folder / "bodies" / "files")),
        rows=rows,
        arriving={path.name for path in (folder / "tmp").glob("*/*")},
        size=size,
    )


def alter(folder: Path, statement: str, *arguments: object, database: str = "bodies/cache.db") -> None:
    """Change a database behind the store's back."""
    with contextlib.closing(sqlite3.connect(folder / database)) as connection, connection:
        connection.execute(statement, arguments)


def keep(store: Store, key: str, data: bytes) -> None:
    incoming = store.bodies.incoming()
    incoming.write(data)
    incoming.commit(key).close()


def read(store: Store, key: str) -> bytes | None:
    body = store.bodies.open(key)
    if body is None:
        return None
    with body:
        return body.pread(body.size, 0)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def body_file(folder: Path, key: str) -> Path:
    return folder / "bodies" / "files" / look(folder).rows[key]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def quick_folder(folder: Path) -> Iterator[Path]:
    """In memory where that is possible: for tests that open and close a store hundreds of times, each of which syncs."""
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
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(mountpoint)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "-l", str(mountpoint)], check=True)
