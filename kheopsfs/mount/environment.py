"""This machine: can it mount with FUSE, and may this directory become a mountpoint?

Believes the kernel only: what is mounted stands in ``/proc/self/mountinfo``, and asking that file never blocks, while
any system call on a mountpoint waits for whoever serves it, possibly for ever. So paths are resolved without touching
their last component until the mount table said that nothing is mounted there.
"""

import errno
import importlib
import os
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kheopsfs.errors import MountpointError
from kheopsfs.mount import registry

FILE_SYSTEM_TYPE = "fuse.kheopsfs"
"""What the mount table calls a mount of ours (`subtype=kheopsfs`)."""

FUSE_DEVICE = Path("/dev/fuse")
FUSE_DEVICE_NUMBER = os.makedev(10, 229)
"""Given to FUSE in the kernel's list of devices (admin-guide/devices.txt)."""

CAP_SYS_ADMIN = 21
"""The capability that mounting takes (capabilities(7)), as a bit of the masks in ``/proc/self/status``."""

TOOL_DEADLINE = 5.0
"""Seconds for FUSE's own tools, which only ask the kernel."""

GOOD_READ_AHEAD = 4096
"""KiB. The kernel's 128 make it ask for a large file in small pieces: 150 MB took 0.4 instead of 2 GB/s (measured)."""

_IN_A_CONTAINER = "In a container, start it with: --device /dev/fuse --cap-add SYS_ADMIN"


@dataclass(frozen=True)
class MountEntry:
    """One line of the mount table (proc(5), mountinfo)."""

    mountpoint: Path
    type: str
    source: str
    device: str

    @property
    def is_ours(self) -> bool:
        """Whether kheopsfs mounted it."""
        return self.type == FILE_SYSTEM_TYPE


def mount_table() -> list[MountEntry]:
    """What is mounted, in the order of mounting."""
    return parse_mount_table(Path("/proc/self/mountinfo").read_bytes())


def read_ahead_setting(entry: MountEntry) -> Path:
    """The file that says how many KiB the kernel reads ahead on a mount; only root may write it."""
    return Path("/sys/class/bdi", entry.device, "read_ahead_kb")


def parse_mount_table(content: bytes) -> list[MountEntry]:
    """The entries of a mount table. Other users choose names in it: a line that cannot be read is none of ours."""
    # Only "\n" ends a line here. The kernel does not escape the other characters that `splitlines` takes for ends.
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: str) -> MountEntry | None:
    before, _, after = line.partition(" - ")
    fields, more = before.split(" "), after.split(" ")
    if len(fields) < 6 or len(more) < 2:
        return None
    return MountEntry(Path(_unescape(fields[4])), _unescape(more[0]), _unescape(more[1]), fields[2])


def _unescape(field: str) -> str:
    """Blank, tab, newline and backslash stand as three octal digits in the mount table."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def mounted(path: Path) -> MountEntry | None:
    """What is mounted on exactly this path: the topmost, if several."""
    table = {entry.mountpoint: entry for entry in mount_table()}
    absolute = path.absolute()
    # First without looking at the last component itself: if it is a mountpoint, only its server could answer.
    return table.get(_resolved_parent(absolute)) or table.get(Path(os.path.realpath(absolute)))


def _resolved_parent(path: Path) -> Path:
    return Path(os.path.realpath(path.parent)) / path.name if path.name not in {"", ".."} else path


def fuse_version() -> str:
    """The version of FUSE's own tools, such as ``3.14.0``; empty if not known."""
    fusermount = shutil.which("fusermount3")
    if fusermount is None:
        return ""
    answer = _run([fusermount, "--version"])
    return answer.stdout.strip().rpartition(" ")[2]


def fuse_problem() -> str | None:
    """Why FUSE cannot be used here, as a sentence to act on; None if nothing speaks against it."""
    return _device_problem() or _tools_problem() or _privilege_problem()


def _device_problem() -> str | None:
    try:
        status = FUSE_DEVICE.stat()
    except OSError:
        return f"{FUSE_DEVICE} is missing. Load the kernel module (modprobe fuse). {_IN_A_CONTAINER}"
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != FUSE_DEVICE_NUMBER:
        return f"{FUSE_DEVICE} is not the FUSE device. {_IN_A_CONTAINER}"
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EACCES:
            # fusermount3 is setuid root, but opens the device as the user who called it.
            return f"{FUSE_DEVICE} may not be opened by you; it usually has mode 0666. As root: chmod 666 {FUSE_DEVICE}"
        return f"{FUSE_DEVICE} cannot be opened: {error.strerror}. {_IN_A_CONTAINER}"
    return None


def _tools_problem() -> str | None:
    if shutil.which("fusermount3") is None:
        return "fusermount3 is missing. Install FUSE 3 (Debian: apt-get install fuse3)."
    try:
        importlib.import_module("pyfuse3")
    except ImportError as error:
        return (
            f"pyfuse3 cannot be loaded ({error}). Install libfuse 3 (Debian: apt-get install fuse3) and kheopsfs again."
        )
    return None


def _privilege_problem() -> str | None:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if os.geteuid() == 0:
        if not int(status["CapEff"], 16) >> CAP_SYS_ADMIN & 1:
            return f"This root may not mount (no CAP_SYS_ADMIN). {_IN_A_CONTAINER}"
    elif not _can_gain_root():
        return "fusermount3 is not setuid root, so only root can mount here (chmod u+s on it, or reinstall fuse3)."
    elif status.get("NoNewPrivs", "0").strip() == "1":
        return "This process may not gain privileges (no_new_privs), so fusermount3 cannot mount for it."
    return None


def _can_gain_root() -> bool:
    fusermount = shutil.which("fusermount3")
    if fusermount is None:
        return False
    status = Path(fusermount).stat()
    return bool(status.st_mode & stat.S_ISUID) and status.st_uid == 0


def check_mountpoint(path: Path) -> Path:
    """The directory to mount on, resolved, once it is sure that a mount there hides and breaks nothing.

    A dead mount of kheopsfs itself (its process was killed) is cleared away first.

    Raises:
        MountpointError: it is missing, no directory, not empty, not writable by us, or something is mounted there.
    """
    clear_dead(path)
    refuse_mounted(path)
    try:
        resolved = path.resolve(strict=True)
        children = os.listdir(resolved)  # noqa: PTH208 - one call that fails at once, not an iterator
    except FileNotFoundError:
        raise MountpointError(f"{path} does not exist. Make it first: mkdir -p {path}") from None
    except NotADirectoryError:
        raise MountpointError(f"{path} is not a directory. Name an empty directory to mount on.") from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountpointError(f"{path} lies in a mount that is dead. Clear it: fusermount3 -u {path}") from None
        raise MountpointError(f"{path} cannot be used: {error.strerror}.") from None
    if children:
        raise MountpointError(f"{path} is not empty. Name an empty directory: a mount would hide what is in it.")
    if not os.access(resolved, os.W_OK | os.X_OK):
        raise MountpointError(f"{path} is not yours to mount on: you need write permission for it.")
    return resolved


def refuse_mounted(path: Path) -> None:
    """Raises MountpointError when something is mounted on exactly this path."""
    if (entry := mounted(path)) is not None:
        advice = f"kheopsfs umount {path}" if entry.is_ours else f"umount {path}"
        raise MountpointError(f"{path} is a mountpoint already ({entry.type}). Unmount it first: {advice}")


def clear_dead(path: Path, *, lazy: bool = False) -> None:
    """Unmount what kheopsfs mounted on a path, if nobody serves it any more.

    Raises:
        MountpointError: another command is mounting there; the dead mount is its business.
    """
    if (entry := mounted(path)) is None or not entry.is_ours or not is_dead(entry.mountpoint):
        return
    with registry.reserved(entry.mountpoint):
        if is_dead(entry.mountpoint):  # still, now that nobody can mount there
            unmount(entry.mountpoint, lazy=lazy)


def is_dead(mountpoint: Path) -> bool:
    """Whether nobody serves this FUSE mount any more.

    A process of ours that is alive is believed without asking: if it is stopped, it would never answer.
    """
    if registry.find(mountpoint) is not None:
        return False
    try:
        os.statvfs(mountpoint)  # not stat: the kernel remembers attributes for longer than their server lives
    except OSError as error:
        return error.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False


def unmount(mountpoint: Path, *, lazy: bool = False) -> str | None:
    """Ask the kernel, by way of `fusermount3`, to unmount; None if it did, else what it said.

    Args:
        mountpoint: the resolved directory that is mounted on.
        lazy: detach it now even if it is in use, and clean up when it no longer is.
    """
    fusermount = shutil.which("fusermount3")
    command = [fusermount, "-u", *(["-z"] if lazy else [])] if fusermount else ["umount", *(["-l"] if lazy else [])]
    try:
        answer = _run([*command, "--", str(mountpoint)])
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {TOOL_DEADLINE:.0f} seconds"
    if answer.returncode == 0:
        return None
    return answer.stderr.strip() or f"{command[0]} ended with {answer.returncode}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=TOOL_DEADLINE, check=False)  # noqa: S603
