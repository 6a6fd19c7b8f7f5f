"""Which process serves which mountpoint: one small file per mount, written by the process that serves it.

Before that it reserves the mountpoint, so that of two commands that start at the same moment only one mounts: the
kernel would stack the mounts, and ending the upper one would bring the lower one to light.

A process id alone proves nothing, because the kernel gives it away again. A daemon is therefore a process id *and* the
moment that process started *and* the boot it started in; a file whose three do not describe a living process of ours is
left over and means nothing. The files are private to the user (0600 in 0700) and never hold a token.
"""

import fcntl
import hashlib
import json
import os
import re
import select
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from kheopsfs.errors import MountpointError

SLUG_LENGTH = 60
"""Characters of a mountpoint's path in a file's name: enough to recognise it; the hash before it tells it apart."""


@dataclass(frozen=True)
class Daemon:
    """A process that serves a mount.

    Attributes:
        pid: its process id.
        started: when it started, in clock ticks since the boot (proc(5), stat, field 22).
        boot: the kernel's id of that boot.
        mountpoint: what it serves, resolved.
        url: the server, without a token.
        log: its log file; None if it logs to a terminal.
    """

    pid: int
    started: int
    boot: str
    mountpoint: Path
    url: str
    log: Path | None

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs, and is ours."""
        try:
            owner = Path(f"/proc/{self.pid}").stat().st_uid
        except OSError:
            return False
        return owner == os.geteuid() and self.boot == _boot() and self.started == _started(self.pid)


class Handle:
    """A hold on a running process that its id's next owner cannot inherit (pidfd_open(2))."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended meanwhile is no error."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    def wait(self, seconds: float | None) -> bool:
        """Whether the process has ended within this time; None waits for as long as it takes."""
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def close(self) -> None:
        """Let go of the process."""
        os.close(self._pidfd)


def hold(daemon: Daemon) -> Handle | None:
    """A hold on a daemon's process; None if it has ended."""
    try:
        handle = Handle(os.pidfd_open(daemon.pid))
    except ProcessLookupError:
        return None
    # Only now, with the process held, does the comparison say something about the process that will get the signal.
    if daemon.is_alive:
        return handle
    handle.close()
    return None


def slug(mountpoint: Path) -> str:
    """A file name for a mountpoint: readable, and different for different paths."""
    text = str(mountpoint)
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
    return f"{digest}-{re.sub(r'[^A-Za-z0-9]+', '-', text).strip('-')[-SLUG_LENGTH:]}"


@contextmanager
def reserved(mountpoint: Path) -> Iterator[None]:
    """Keep every other command of this user from changing what is mounted there, for the body of the `with`.

    Nobody waits: a mountpoint that is reserved is about to be mounted on. The lock goes with the process.

    Raises:
        MountpointError: another process has reserved it.
    """
    file = _file(mountpoint).with_suffix(".lock")
    private_directory(file.parent)
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = file.stat().st_ino == os.fstat(lock.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            current = False
        if not current:  # held by another process, or removed by the one that held it until this very moment
            raise MountpointError(f"Another command is mounting on {mountpoint} at this moment.")
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def register(mountpoint: Path, url: str, log: Path | None) -> None:
    """Say that this process serves a mountpoint. Replaces what was said about it before."""
    pid = os.getpid()
    daemon = Daemon(pid, _started(pid), _boot(), mountpoint, url, log)
    file = _file(mountpoint)
    private_directory(file.parent)
    temporary = file.with_suffix(f".{pid}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump({**asdict(daemon), "mountpoint": str(mountpoint), "log": str(log) if log else None}, stream)
    temporary.replace(file)


def unregister(mountpoint: Path) -> None:
    """Take back what this process said; what another process said about the mountpoint stays."""
    file = _file(mountpoint)
    daemon = _read(file)
    if daemon is not None and daemon.pid == os.getpid():
        file.unlink(missing_ok=True)


def find(mountpoint: Path) -> Daemon | None:
    """The living daemon that serves a (resolved) mountpoint."""
    file = _file(mountpoint)
    daemon = _read(file)
    if daemon is None or daemon.mountpoint != mountpoint:
        return None
    if not daemon.is_alive:
        file.unlink(missing_ok=True)
        return None
    return daemon


def living() -> list[Daemon]:
    """Every daemon of this user's that lives and is known here."""
    found = [_read(file) for file in _directory().glob("*.json")]
    return [daemon for daemon in found if daemon is not None and daemon.is_alive]


def private_directory(path: Path) -> Path:
    """Make a directory that only we can look into.

    Raises:
        MountpointError: it cannot be made, or it exists and is somebody else's.
    """
    try:
        # One by one: `parents=True` would leave the ones above to the umask, and with 0 to everybody.
        for missing in [*reversed(path.parents), path]:
            if not missing.exists():
                missing.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise MountpointError(f"{path} is not a directory of yours; kheopsfs keeps notes on running mounts there.")
        path.chmod(0o700)
    except OSError as error:
        raise MountpointError(
            f"{path} cannot be made ({error.strerror}); kheopsfs keeps notes on running mounts there. "
            "XDG_STATE_HOME names another place."
        ) from None
    return path


def _file(mountpoint: Path) -> Path:
    return _directory() / f"{slug(mountpoint)}.json"


def _directory() -> Path:
    """The user's runtime directory, which ends with the session; else the one for state, which outlives a boot."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # It can be another user's, under sudo, or gone.
    if runtime and Path(runtime).is_dir() and Path(runtime).stat().st_uid == os.geteuid():
        return Path(runtime) / "kheopsfs"
    return platformdirs.user_state_path("kheopsfs") / "run"


def _read(file: Path) -> Daemon | None:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        log = Path(values["log"]) if values["log"] else None
        return Daemon(
            pid=int(values["pid"]),
            started=int(values["started"]),
            boot=str(values["boot"]),
            mountpoint=Path(values["mountpoint"]),
            url=str(values["url"]),
            log=log,
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _started(pid: int) -> int:
    """Clock ticks since the boot; 0 if there is no such process, or only what its parent has yet to collect of it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # The second field, the command's name in parentheses, may itself hold blanks and parentheses.
    state, *others = text.rpartition(")")[2].split()
    return 0 if state in {"Z", "X"} else int(others[22 - 4])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
