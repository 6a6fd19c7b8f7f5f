"""Mounts that come and go beside the first one, on the same cache: read for a while, and ended in one of many ways."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.looking import until
from harness.mounting import Mount
from harness.server import DemoServer

from soaking.catalog import Catalog
from soaking.readers import Reader
from soaking.tally import Tally, Weather

READERS = 2
END_SECONDS = 30.0
"""A mount that is there for longer after it was ended is a breach; five are promised, on a machine that is idle."""


def _unmount(mount: Mount) -> None:
    done = mount.command("umount", str(mount.path))
    assert done.returncode == 0, f"umount: {done.stderr}"


def _lazily(mount: Mount) -> None:
    subprocess.run(["fusermount3", "-u", "-z", mount.path], capture_output=True, check=False, timeout=60)


WAYS: dict[str, Callable[[Mount, int], object]] = {
    "umount": lambda mount, _: _unmount(mount),
    "fusermount3 -uz": lambda mount, _: _lazily(mount),
    "SIGTERM": lambda _, pid: os.kill(pid, signal.SIGTERM),
    "SIGINT": lambda _, pid: os.kill(pid, signal.SIGINT),
    "SIGKILL": lambda _, pid: os.kill(pid, signal.SIGKILL),
}


class Visitor(threading.Thread):
    """One mountpoint on which mounts come and go.

    Args:
        server, first: which server to mount, and the mount whose home, cache and token file to share.
        seed: of the random choices; its last word names the mountpoint.
    """

    def __init__(
        self, server: DemoServer, first: Mount, catalog: Catalog, tally: Tally, weather: Weather, *, seed: str
    ) -> None:
        super().__init__(daemon=True)
        options = ("--list-ttl", "1", "--cache-size", "16M")
        token = first.token_file.read_text()
        self._mount = Mount(
            server.url, token, first.home, *options, mountpoint=seed.rpartition(" ")[2], idle_timeout="2"
        )
        self._catalog, self._tally, self._weather = catalog, tally, weather
        self._random = random.Random(seed)
        self._over = threading.Event()
        self.readers: list[Reader] = []

    def run(self) -> None:
        """Visit until `end`."""
        while not self._over.is_set():
            try:
                self._visit()
            except Exception as error:  # a bug of the soak must not look like silence
                self._tally.breach(f"a mount that comes and goes: {type(error).__name__}: {error}")
            self._over.wait(self._random.uniform(0, 1))

    def end(self) -> None:
        """Stop after this visit."""
        self._over.set()

    def log(self) -> str:
        """What the mounts of all visitors have logged so far."""
        return self._mount.log()

    def _visit(self) -> None:
        turns, calm = self._weather.turns(), self._weather.is_calm()
        try:
            self._mount.__enter__()
        except AssertionError as error:
            self._tally.event("mounts refused")
            if calm and turns == self._weather.turns():
                self._tally.breach(f"a mount was refused while nothing was wrong: {error}")
            return
        self._tally.event("mounts")
        pid = self._mount.pid
        self.readers = [
            Reader(self._mount.path, self._catalog, self._tally, self._weather, seed=f"{self._random.random()}")
            for _ in range(READERS)
        ]
        for reader in self.readers:
            reader.start()
        self._over.wait(self._random.uniform(0.5, 6))
        for reader in self.readers:
            reader.leaving.set()
        way = self._random.choice(list(WAYS))
        self._tally.event(f"ended by {way}")
        WAYS[way](self._mount, pid)
        begun = time.monotonic()
        until(lambda: not self._mount.is_mounted and not Path(f"/proc/{pid}").exists(), seconds=END_SECONDS)
        self._tally.longest_end(time.monotonic() - begun)
        for reader in self.readers:
            reader.end()
        for reader in self.readers:
            reader.join(END_SECONDS)
            assert not reader.is_alive(), f"a reader of a mount ended by {way} got no answer"
        assert list(self._mount.path.iterdir()) == [], "the mountpoint is not what it was"
