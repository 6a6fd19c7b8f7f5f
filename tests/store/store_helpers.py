"""What the tests of the store do to a store, and a look at what is really on the disk."""

import contextlib
import logging
import os
import random
import sqlite3
import traceback
from collections.abc import Callable
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
        files={path.name for path in (folder / "bodies" / "files").iterdir()},
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


def start_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process, whose exit status is 1 when it raises; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its wait status."""
    return os.waitpid(start_child(work), 0)[1]
