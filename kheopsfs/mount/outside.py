"""A look at the mount from outside: by a process that has nothing of the mount's.

The process that serves a mount must never wait for it itself. Killed while one of its threads does, that thread cannot
end, because the kernel only lets it go with an answer; with the thread, the descriptor of the FUSE device stays open,
so the kernel does not know that no answer will come. The mount, everyone who waits for it and what would have cleared
the mountpoint then hang for ever. A thread that waits for another process's answer can be killed, and the other
process is let go because the device is closed.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

_PROGRAM = """
import os, sys
for line in sys.stdin.buffer:
    try:
        os.stat(bytes.fromhex(line.decode()))
    except OSError:
        pass
    os.write(1, b".")
"""
"""What the process does: stat what it is told, say that it is done, end with its input."""


class Outside:
    """A process that looks. It is started when it is first needed; one thread at a time is served."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def stat(self, path: Path) -> None:
        """Have the kernel ask for the attributes of `path`, if it does not know them, and wait for it. In a worker
        thread only.

        Raises:
            OSError: there is no such process, or no longer.
        """
        with self._turn:
            process = self._process = self._process or self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(os.fsencode(path).hex().encode() + b"\n")
            if not process.stdout.read(1):
                raise BrokenPipeError("the process that looks at the mount has ended")

    def close(self) -> None:
        """End the process. After the end of the mount, or it may wait for it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    @staticmethod
    def _started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the mount alone
        )
