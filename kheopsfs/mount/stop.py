"""End a mount: whoever serves it, in whatever state it is, within a few seconds and with nothing left behind.

A mount is gone when the kernel no longer lists it *and* its process has ended. Asking the process (SIGTERM) is the
way that leaves nothing half done; the kernel is asked only if that did not help, or if there is no process to ask.
"""

import signal
from pathlib import Path

from kheopsfs.errors import MountpointError
from kheopsfs.mount import registry
from kheopsfs.mount.environment import mounted, unmount

POLITE_DEADLINE = 3.5
"""Seconds from SIGTERM until the process has unmounted and ended. It promises less than five."""

BEREFT_DEADLINE = 1.0
"""Seconds until a process whose mount was taken away notices and ends."""


def stop(path: Path) -> None:
    """Unmount what kheopsfs mounted on a path, and wait until it is gone.

    Raises:
        MountpointError: nothing of ours is mounted there, or the kernel would not let go of it.
    """
    entry = mounted(path)
    if entry is None:
        raise MountpointError(f"Nothing is mounted on {path}.")
    if not entry.is_ours:
        raise MountpointError(f"{path} was not mounted by kheopsfs ({entry.type}). To unmount it all the same: umount")
    daemon = registry.find(entry.mountpoint)
    process = registry.hold(daemon) if daemon is not None else None
    if process is None:
        _detach(entry.mountpoint)
        return
    try:
        process.signal(signal.SIGTERM)
        ended = process.wait(POLITE_DEADLINE)
        _detach(entry.mountpoint)
        if not ended and not process.wait(BEREFT_DEADLINE):
            process.signal(signal.SIGKILL)
            process.wait(BEREFT_DEADLINE)
            registry.find(entry.mountpoint)  # a process that was killed cannot take back its own note
    finally:
        process.close()


def _detach(mountpoint: Path) -> None:
    """Have the kernel unmount, if it still lists the mount: at once if it is free, else as soon as it is."""
    for lazy in (False, True):
        if mounted(mountpoint) is None:
            return
        problem = unmount(mountpoint, lazy=lazy)
    if mounted(mountpoint) is not None:
        raise MountpointError(f"{mountpoint} could not be unmounted: {problem}")
