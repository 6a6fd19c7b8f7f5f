"""The keeper: a process that clears the mountpoint when the process that serves the mount is killed.

FUSE's own helper (`auto_unmount`) does that for root only. It opens the mountpoint and waits to hear ENOTCONN; without
`allow_other` the kernel tells it EACCES instead, for it runs as root on behalf of another user, and it gives up. The
keeper asks the mount table. It never touches the mountpoint, so no mount, dead or hanging, can hold it up.

It waits for the end of its input, which comes when this process ends, however it does. A mount that ends by itself says
farewell: it kills its keeper once the mountpoint is clear. Own session, nothing open of the mount's, neither token nor
mountpoint nor the name of kheopsfs among its arguments: what takes the mount, be it Ctrl-C, a terminal that is closed,
the kernel short of memory or `pkill -f`, leaves the keeper alone. What kills both leaves a dead mount to FUSE's helper,
or to the next command.

The kernel gives device numbers away again, so an equal line in the mount table may be another mount. The keeper
therefore watches the table, and ends with the mount: whatever it clears has been there all the time.
"""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

from kheopsfs.mount.environment import MountEntry

log = logging.getLogger(__name__)

_PROGRAM = """
# Clears a FUSE mountpoint when the process that serves it is killed.
import os, select
table = open("/proc/self/mountinfo", "rb", buffering=0)
changes = select.poll()
changes.register(0, 0)
changes.register(table, select.POLLPRI)
bereft = False
while os.environb[b"LINE"] in table.read():
    if bereft:
        os.execvp("fusermount3", [b"fusermount3", b"-u", b"-z", b"--", os.environb[b"MOUNTPOINT"]])
    bereft = any(descriptor == 0 for descriptor, _ in changes.poll())
    table.seek(0)
"""
"""What the keeper does: look whenever the mount table changes or the input ends, until the mount is not listed.

The end of input is an event even if none is asked for; a change of the mount table is an exceptional one (proc(5)).
"""


class Keeper:
    """The keeper of a mount: from its creation until it is dismissed or the mount is gone.

    Args:
        entry: what the mount table says of the mount; None if it is gone already, and there is nothing to keep.
    """

    def __init__(self, entry: MountEntry | None) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if entry is not None:
            try:
                self._process = self._started(entry)
            except OSError:
                log.warning("nobody will clear %s if this process is killed", entry.mountpoint, exc_info=True)

    def dismiss(self) -> None:
        """Once nothing is left of the mount that should be cleared."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    @staticmethod
    def _started(entry: MountEntry) -> subprocess.Popen[bytes]:
        mountpoint = str(entry.mountpoint).encode("utf-8", "surrogateescape")  # as it was read
        escaped = re.sub(rb"[\\ \t\n]", lambda match: b"\\%03o" % ord(match[0]), mountpoint)
        environment: dict[str, str | bytes] = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LINE": b" %s / %s " % (entry.device.encode(), escaped),
            "MOUNTPOINT": mountpoint,
        }
        return subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            # The interpreter itself: the path of a virtual environment often holds the name of kheopsfs.
            [Path(sys.executable).resolve(), "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
