"""Fetch everything below some folders of a mount ahead of time, by doing what any reader does: opening the files.

The mount knows how to fetch well (whole series in one request, nothing twice), so all that is needed here is to walk
and to open. A file that is in the cache already is not opened, so a pull that was interrupted goes on where it was.

Invariant: every regular file below the paths is reported exactly once, and so is every folder that cannot be listed.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from kheopsfs.errors import MountpointError
from kheopsfs.mount.environment import mount_table
from kheopsfs.mount.xattr_names import CACHED

READERS = 4  # files opened at once: enough that the line is never idle, few enough that a series stays one request


@dataclass(frozen=True, slots=True)
class Pulled:
    """One file: its size in bytes once it is here, or why it is not."""

    path: Path
    size: int
    was_cached: bool
    error: OSError | None = None


def files_below(paths: Iterable[Path]) -> tuple[list[Path], dict[Path, OSError]]:
    """Every regular file at or below the paths, in order, and each folder that cannot be listed, with the reason.

    Asks the mount for listings only.

    Raises:
        MountpointError: a path is not in a mount of ours.
    """
    files: list[Path] = []
    unlisted: dict[Path, OSError] = {}
    for path in paths:
        absolute = Path(os.path.realpath(path))
        if not any(entry.is_ours and absolute.is_relative_to(entry.mountpoint) for entry in mount_table()):
            raise MountpointError(f"{path} is not in a mount of kheopsfs; name a file or folder of one")
        files.extend(_walk(absolute, unlisted))
    return files, unlisted


def pull(files: Iterable[Path]) -> Iterator[Pulled]:
    """Have each file in the cache; report it when it is, in no order. Stopping early loses nothing."""
    remaining = iter(files)
    with ThreadPoolExecutor(READERS, thread_name_prefix="pull") as readers:
        running: set[Future[Pulled]] = set()
        try:
            while True:
                while len(running) < READERS and (path := next(remaining, None)) is not None:
                    running.add(readers.submit(_fetch, path))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


def _walk(path: Path, unlisted: dict[Path, OSError]) -> Iterator[Path]:
    try:
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except NotADirectoryError:
        yield path
        return
    except OSError as error:
        unlisted[path] = error
        return
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), unlisted)
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def _fetch(path: Path) -> Pulled:
    try:
        if os.getxattr(path, CACHED) == b"yes":
            return Pulled(path, path.stat().st_size, was_cached=True)
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            os.pread(file.fileno(), 1, size - 1)  # a large instance opens early; its last byte comes with the proof
            return Pulled(path, size, was_cached=False)
    except OSError as error:
        return Pulled(path, 0, was_cached=False, error=error)
