"""A user who is not root, and mounts of this user's.

Root becomes nobody for that, in a mount namespace in which everybody may open the FUSE device, as on any desktop. The
interpreter and the project may lie where only root can look, so nobody may read everything here; that means nothing to
FUSE, and `fusermount3` loses it. Whoever is not root to begin with is the ordinary user already.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.mounting import Mount

NOBODY = 65534
UNSHARE = ["unshare", "--mount", "--propagation", "slave"]  # mounts of others that end do not live on in here
DEVICE = "mount -t tmpfs -o dev none /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse"
READ_EVERYTHING = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


class OrdinaryUser:
    """Use it in a `with`, around the mounts.

    Attributes:
        home: a directory of this user's that others can reach.
        prefix: put before a command, has this user run it.
    """

    def __enter__(self) -> Self:
        self.home = Path(tempfile.mkdtemp(prefix="kheopsfs-user-"))
        self.prefix: list[str] = []
        self._process = os.getpid()
        if not os.geteuid():
            self._namespace = subprocess.Popen(
                [*UNSHARE, "sh", "-c", f"{DEVICE} && echo ready && read over"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._namespace.stdout is not None
            assert self._namespace.stdout.readline() == "ready\n"
            self._process = self._namespace.pid
            identity = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *READ_EVERYTHING]
            self.prefix = ["nsenter", f"--mount=/proc/{self._process}/ns/mnt", "setpriv", *identity]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.prefix:
            self._namespace.communicate("over\n")
        shutil.rmtree(self.home)

    def own(self, path: Path) -> None:
        """Make this user the owner of a file, or of a folder and all that is in it."""
        if self.prefix:
            for each in (path, *path.rglob("*")):
                os.chown(each, NOBODY, NOBODY)

    def mount_table(self) -> str:
        """What is mounted where this user is."""
        return Path(f"/proc/{self._process}/mountinfo").read_text()

    @staticmethod
    def is_possible() -> bool:
        """Whether the one who runs the tests is this user, or can become it."""
        return bool(os.geteuid()) or not subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode


class OrdinaryMount(Mount):
    """A `Mount` of an ordinary user's. Look into it with `started`: root may not, and does not even see it."""

    def __init__(self, user: OrdinaryUser, url: str, token: str, mountpoint: str) -> None:
        super().__init__(url, token, user.home, mountpoint=mountpoint)
        self._user = user
        user.own(user.home)

    def started(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A command of this user's while it runs."""
        return subprocess.Popen([*self._user.prefix, *command], env=self.environment, text=True, **options)

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return super().command(*arguments, prefix=self._user.prefix, **options)

    @property
    def is_mounted(self) -> bool:
        return str(self.home) in self._user.mount_table()
