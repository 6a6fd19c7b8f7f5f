"""Mounts made with the command that users type, each with a home directory of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

TOOL_SECONDS = 60


class Mount:
    """`kheopsfs mount`, until the end of the `with`."""

    def __init__(
        self, url: str, token: str, home: Path, *options: str, mountpoint: str = "mnt", **settings: str
    ) -> None:
        self.url = url
        self.home = home
        self.path = home / mountpoint
        self.token_file = home / "token"
        self.cache = home / "cache" / "kheopsfs"
        self._options = options
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(exist_ok=True)
        self.write_token(token)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KHEOPS", "XDG_"))},
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_RUNTIME_DIR": str(home),
            **{f"KHEOPSFS_{name.upper()}": value for name, value in settings.items()},
        }

    def write_token(self, token: str) -> None:
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(token)

    def command(
        self, *arguments: str, prefix: Sequence[str] = (), **kwargs: object
    ) -> subprocess.CompletedProcess[str]:
        """Run `kheopsfs` in this home."""
        return subprocess.run(
            [*prefix, sys.executable, "-m", "kheopsfs", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            check=False,
            **kwargs,  # type: ignore[call-overload]
        )

    def __enter__(self) -> Self:
        done = self.command("mount", self.url, str(self.path), "--token-file", str(self.token_file), *self._options)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_mounted:
            done = self.command("umount", str(self.path))
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log()}"

    @property
    def is_mounted(self) -> bool:
        return os.path.ismount(self.path) or str(self.path) in Path("/proc/self/mountinfo").read_text()

    def log(self) -> str:
        """What the mount's process has logged so far."""
        return "".join(path.read_text() for path in sorted((self.home / "state").rglob("*.log")))

    @property
    def pid(self) -> int:
        """The process that serves this mount."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"kheopsfs.mount.background" in arguments and os.fsencode(self.path) in arguments:
                    return int(entry.name)
        raise LookupError("no process serves this mount")

    @property
    def keeper(self) -> int:
        """The process that clears the mountpoint should the one that serves it be killed."""
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            if b"Clears a FUSE mountpoint" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise LookupError("this mount has no keeper")


NewMount = Callable[..., Mount]
"""The fixture `new_mount`: makes mounts that end with the test."""
