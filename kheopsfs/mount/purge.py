"""Remove what kheopsfs left on this machine: a cache, and the logs of mounts that have ended.

Nothing of either is in use afterwards, because nothing in use is removed: the store knows by its locks whether anybody
has the cache open, and a log belongs to a mount that the registry knows. Here is only found out who that is.
"""

import os
from pathlib import Path

from kheopsfs.mount import logs, registry
from kheopsfs.store import CacheInUseError, Contents, purge


def purge_cache(directory: Path) -> Contents:
    """Remove a cache; what was removed.

    Raises:
        CacheInUseError: it is in use.
        CacheUnusableError: it is no cache of kheopsfs, or cannot be removed.
    """
    demand_unused(directory)
    return purge(directory)


def demand_unused(directory: Path) -> None:
    """Return if no mount is known to use the cache.

    Raises:
        CacheInUseError: one does; the message says which, and how to end it.
    """
    mounts = _mounts_that_use(directory)
    if mounts:
        names, advice = " and on ".join(map(str, mounts)), "; ".join(f"kheopsfs umount {path}" for path in mounts)
        raise CacheInUseError(f"The cache {directory} is in use by the mount on {names}. End that first: {advice}")


def idle_logs() -> list[Path]:
    """The log files, also those put aside, of mounts that have ended."""
    in_use = {daemon.log for daemon in registry.living()}
    return [file for file in sorted(logs.log_directory().glob("*.log*")) if _first_of(file) not in in_use]


def _first_of(file: Path) -> Path:
    """The log to which a file belongs that was put aside (`x.log.1`)."""
    return file if file.suffix == ".log" else file.with_suffix("")


def _mounts_that_use(directory: Path) -> list[Path]:
    """The mountpoints of the mounts whose processes have something in a folder open."""
    folder = os.path.realpath(directory) + os.sep
    return sorted(daemon.mountpoint for daemon in registry.living() if _has_open(daemon.pid, folder))


def _has_open(pid: int, folder: str) -> bool:
    try:
        return any(str(entry.readlink()).startswith(folder) for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it ends just now
        return False
