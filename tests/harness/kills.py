"""kill -9 at random moments of a mount under load, again and again: `python -m harness.kills N` makes N kills.

Several readers open files, pictures and folders at random, most of which have yet to be fetched; after a random time
the process that serves them is killed. Then the mountpoint must clear by itself, the next mount must come up, and

* whoever read something to its end must have got the right bytes, before a kill and after it;
* every file whose `open` returned must be there without a request, with its exact size, unless the cache is so small
  that it had to go;
* nothing may be left on the disk that no row of the cache names, and nothing half arrived.

When most files are kept, the cache is removed, and all begins again.
"""

import contextlib
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from harness.figures import record
from harness.forked import ForkedMount, Starter
from harness.looking import by_uid, files, retrievals
from harness.patience import PATIENCE
from harness.series import write_study
from harness.server import DemoServer

READERS = 6
SERIES = 30
INSTANCES = 6
FAULTS = ("wrong_bytes", "wrong_listings", "lost_bodies", "wrong_sizes", "leftovers", "errors_before_the_kill")
"""What must never happen."""

LONGEST_LIFE = 0.4  # seconds under load: about as long as it takes to fetch half of everything
LONGEST_START = 0.08  # seconds: a little more than it takes until the mount answers
SHARE_OF_STARTS = 0.2  # of the kills: while the mount is being made
WORN_SHARE = 0.6  # of all files; with more of them kept, a kill hits little that is being written
TIGHT = 3 * 2**20  # bytes: a third of everything, so that each commit evicts
SHARE_OF_LISTINGS = 0.1  # of what the readers do


class Archive:
    """A server, the bytes of everything on it, and where a mount shows them."""

    def __init__(self, starter: Starter, server: DemoServer, expected: dict[str, bytes], folder: Path) -> None:
        self.starter = starter
        self.server = server
        with ForkedMount(starter, server.url, server.token(), folder) as mount:
            self.bytes_of = {
                path.relative_to(mount.path): expected[uid] for uid, path in by_uid(mount.path / "studies").items()
            }
            self.folders = {path.parent: set(os.listdir(mount.path / path.parent)) for path in self.bytes_of}
            self.pictures = [path.relative_to(mount.path) for path in files(mount.path / "thumbnails", "*.jpg")]


class Trial:
    """Mounts one after the other on one cache, each of them killed.

    Attributes:
        counts: what happened how often.
    """

    def __init__(self, archive: Archive, home: Path, seed: int, *, tight: bool) -> None:
        self._archive = archive
        self._home = home
        self._choice = random.Random(seed)
        self._tight = tight
        self._settings = {"cache_size": TIGHT} if tight else {}
        self._promised: set[Path] = set()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))

    def kill(self) -> None:
        """Mount, look what became of the mount before, put it under load, kill it."""
        archive = self._archive
        mount = ForkedMount(
            archive.starter, archive.server.url, archive.server.token(), self._home, list_ttl=0.2, **self._settings
        )
        if self._choice.random() < SHARE_OF_STARTS:
            mount.begin()
            time.sleep(self._choice.uniform(0, LONGEST_START))
            mount.kill()
            self.counts["kills_at_the_start"] += 1
            self.counts["kills"] += 1
            return
        with mount:
            self._look_around(mount)
            if len(self._promised) > WORN_SHARE * len(archive.bytes_of):
                self._begin_anew(mount)
            self._strike(mount)
            self.counts["kills"] += 1

    def _look_around(self, mount: ForkedMount) -> None:
        named, found = _on_disk(mount.cache)
        self._count("leftovers", len(found - named))
        if self._tight:
            self._promised.clear()  # it may have been evicted
        self._archive.server.clear_requests()
        for path in self._promised & self._archive.bytes_of.keys():
            size = (mount.path / path).stat().st_size
            self._count("wrong_sizes", size != len(self._archive.bytes_of[path]))
        for path in self._promised:
            self._check(path, (mount.path / path).read_bytes())
        self._count("found_again", len(self._promised))
        self._count("lost_bodies", len(retrievals(self._archive.server)))

    def _begin_anew(self, mount: ForkedMount) -> None:
        mount.__exit__(None, None, None)
        shutil.rmtree(mount.cache)
        self._promised.clear()
        mount.__enter__()

    def _strike(self, mount: ForkedMount) -> None:
        struck = threading.Event()
        readers = [
            threading.Thread(target=self._read, args=(mount, random.Random(self._choice.random()), struck), daemon=True)
            for _ in range(READERS)
        ]
        for reader in readers:
            reader.start()
        time.sleep(self._choice.uniform(0, LONGEST_LIFE))
        struck.set()
        mount.kill()
        for reader in readers:
            reader.join(PATIENCE)
            assert not reader.is_alive(), "a reader hangs in a mount whose process was killed"

    def _read(self, mount: ForkedMount, choice: random.Random, struck: threading.Event) -> None:
        everything = [*self._archive.bytes_of, *self._archive.pictures]
        try:
            while True:
                if choice.random() < SHARE_OF_LISTINGS:
                    folder = choice.choice(list(self._archive.folders))
                    self._count("wrong_listings", set(os.listdir(mount.path / folder)) != self._archive.folders[folder])
                    continue
                path = choice.choice(everything)
                with (mount.path / path).open("rb", buffering=0) as file:
                    with self._lock:
                        self._promised.add(path)
                    self._check(path, file.readall())
        except OSError:
            self._count("interrupted" if struck.is_set() else "errors_before_the_kill")

    def _check(self, path: Path, data: bytes) -> None:
        self._count("reads")
        if path in self._archive.bytes_of:
            self._count("wrong_bytes", data != self._archive.bytes_of[path])
        else:  # made anew each time; what is shown must be whole
            self._count("wrong_bytes", not (data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")))

    def _count(self, what: str, how_many: int = 1) -> None:
        with self._lock:
            self.counts[what] += how_many


def _on_disk(cache: Path) -> tuple[set[str], set[str]]:
    """The files that rows name, and those that are there, in the cache and on their way into it."""
    if not (cache / "bodies" / "cache.db").exists():
        return set(), set()
    with contextlib.closing(sqlite3.connect(cache / "bodies" / "cache.db")) as connection:
        named = {name for (name,) in connection.execute("SELECT filename FROM Cache WHERE filename IS NOT NULL")}
    return named, {path.name for path in [*cache.glob("bodies/files/*"), *cache.glob("tmp/*/*")]}


def kill_often(kills: int, folder: Path, *, seed: int) -> Counter[str]:
    """Kill mounts so many times, one half of them with a cache that is too small; what happened how often."""
    expected = write_study(folder / "data", series=SERIES, instances=INSTANCES)
    counts: Counter[str] = Counter()
    with DemoServer("--data", str(folder / "data")) as server, Starter() as starter:
        archive = Archive(starter, server, expected, folder / "names")
        for tight in (False, True):
            trial = Trial(archive, folder / f"tight-{tight}", seed, tight=tight)
            for _ in range(kills // 2):
                trial.kill()
            counts.update(trial.counts)
    return counts


def main() -> None:
    kills, seed = int(sys.argv[1]), time.time_ns() % 2**32
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="kheopsfs-kills-") as folder:
        counts = kill_often(kills, Path(folder), seed=seed)
    sys.stdout.writelines(f"{how_many:8} {what}\n" for what, how_many in sorted(counts.items()))
    record("kills", **counts)
    sys.exit(any(counts[fault] for fault in FAULTS))


if __name__ == "__main__":
    main()
