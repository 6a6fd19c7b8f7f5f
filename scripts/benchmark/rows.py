"""The rows of the benchmark: each function is one turn of one group of rows, all its peers after one another.

A `Bench` is one server seen over one link. Every turn mounts with an empty cache of its own, so a first time is a first
time. What is copied is compared with the originals outside the measured time.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.mounting import Mount
from harness.server import DemoServer

from benchmark.measure import (
    GB,
    Samples,
    check_copies,
    cpu_seconds,
    peak_megabytes,
    quietly,
    run,
    seconds_of,
)
from benchmark.nullfs import NullMount
from benchmark.peers import Peers, SeriesFacts, empty_folder, free_space

KHEOPSFS = "kheopsfs"
CURL = "curl"
ONE_MULTIPART = "curl, one multipart"
PARALLEL_SINGLE = "curl, 8 parallel"
ITERATED = "dicomweb-client, iterated"
BY_INSTANCE = "dicomweb-client, by instance"
LOCAL = "local cp -r"
NULL = "null pyfuse3"
MEMORY = "kheopsfs, peak MB"

COLD, WARM, REMOUNTED = "cold cp -r, 500 slices", "warm cp -r (kernel pages)", "cp -r after remount (disk cache)"
SCAN, SHUFFLED_SCAN = "cold header scan, in order", "cold header scan, shuffled"
FIRST_OPEN, MULTIFRAME = "first open of one instance", "150 MB multi-frame"
CPU, REQUESTS = "CPU s per GB, cold cp -r", "requests after remount"
WARM_STAT, WARM_LIST, WARM_READ = "warm stat of 500", "warm readdir of 500", "warm open+read of 500"
MANY_STUDIES = "ls of 100 000 studies"

_SHUFFLE = 4711  # seed: every run shuffles alike
_LOOPS = 20  # a warm stat of 500 files takes 2 ms: too short to be timed alone

_WARM_CODE = """
import os, sys, time
folder, what, loops = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(folder)  # a long way to a mount is none of its own slowness
paths = os.listdir('.')
def stat():
    for path in paths:
        os.stat(path)
def readdir():
    os.listdir('.')
def read():
    for path in paths:
        with open(path, 'rb', buffering=0) as file:
            while file.read(1 << 20):
                pass
work = {'stat': stat, 'readdir': readdir, 'read': read}[what]
work()
begun = time.perf_counter()
for _ in range(loops):
    work()
print((time.perf_counter() - begun) / loops)
"""


@dataclass
class Bench:
    """One server over one link, and the figures so far. `whole` is for the unshaped link: everything is measured."""

    samples: Samples
    server: DemoServer
    url: str
    link: str
    scratch: Path
    whole: bool
    slow: bool = False
    token: str = field(init=False)
    peers: Peers = field(init=False)

    def __post_init__(self) -> None:
        self.token = self.server.token()
        self.peers = Peers(f"{self.url.rstrip('/')}/api", self.token, self.scratch)

    def add(self, row: str, peer: str, figure: float) -> None:
        self.samples.add(self.link, row, peer, figure)

    def note_memory(self, row: str, mount: Mount) -> None:
        self.add(row, MEMORY, peak_megabytes(mount.pid))

    @contextmanager
    def mounted(self) -> Iterator[Mount]:
        """kheopsfs with nothing in its cache."""
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.scratch))
        try:
            with Mount(self.url, self.token, home) as mount:
                yield mount
        finally:
            free_space(home)

    def facts(self, description: str) -> SeriesFacts:
        """The first series of the study with that description, from the server's own books."""
        for study in self.server.call("GET", "/library"):
            if study["attributes"]["00081030"][0] == description:
                break
        study = self.server.call("GET", f"/library?study={study['StudyInstanceUID']}&sha256=1")[0]
        series = study["series"][0]
        return SeriesFacts(
            study["StudyInstanceUID"],
            series["SeriesInstanceUID"],
            {one["SOPInstanceUID"]: one["size"] for one in series["instances"]},
            {one["sha256"] for one in series["instances"]},
        )


def series_folder(mount: Mount, description: str) -> Path:
    """The folder of the only series of that study; lists the source and the study."""
    study = next(path for path in (mount.path / "studies").iterdir() if description in path.name)
    return next(study.iterdir())


def lists(bench: Bench, series: SeriesFacts) -> None:
    """First `ls` of a source, a study and a series; first open of one instance."""
    query = "?limit=1000&offset=0&includefield=StudyDescription"
    with bench.mounted() as mount:
        source = mount.path / "studies"
        bench.add("first ls of a source", KHEOPSFS, seconds_of(lambda: quietly(["ls", source])))
        study = next(path for path in source.iterdir() if "500_slices" in path.name)
        bench.add("first ls of a study", KHEOPSFS, seconds_of(lambda: quietly(["ls", study])))
        folder = next(study.iterdir())
        bench.add("first ls of a series (500)", KHEOPSFS, seconds_of(lambda: quietly(["ls", folder])))
        instance = sorted(folder.iterdir())[len(series.sizes) // 2]
        bench.add(FIRST_OPEN, KHEOPSFS, seconds_of(lambda: quietly(["cat", instance])))
        bench.note_memory(FIRST_OPEN, mount)
    json = "application/dicom+json"
    bench.add("first ls of a source", CURL, bench.peers.curl(f"/studies{query}", accept=json))
    bench.add("first ls of a study", CURL, bench.peers.curl(f"/studies/{series.StudyInstanceUID}/series", accept=json))
    bench.add("first ls of a series (500)", CURL, bench.peers.curl(f"{series.path}/instances?limit=1000", accept=json))
    uid, size = sorted(series.sizes.items())[len(series.sizes) // 2]
    bench.add(FIRST_OPEN, CURL, bench.peers.curl(f"{series.path}/instances/{uid}", at_least=size))


def copies(bench: Bench, series: SeriesFacts) -> None:
    """The series from nothing to files, by everyone; then, on the whole bench, again and again by kheopsfs."""
    _kheopsfs_copies(bench, series)
    bench.add(COLD, ONE_MULTIPART, bench.peers.curl(series.path, at_least=series.bytes))
    singles = [f"{series.path}/instances/{uid}" for uid in series.sizes]
    bench.add(COLD, PARALLEL_SINGLE, bench.peers.curl(*singles, at_least=series.bytes))
    if not bench.slow:
        bench.add(COLD, ITERATED, bench.peers.dicomweb_client(series, ["iterated"]))
    if bench.whole:
        bench.add(COLD, BY_INSTANCE, bench.peers.dicomweb_client(series, list(series.sizes)))


def _kheopsfs_copies(bench: Bench, series: SeriesFacts) -> None:
    def copied(row: str, peer: str, folder: Path, checksums: set[str]) -> None:
        with empty_folder(bench.scratch / "copy") as copy:
            bench.add(row, peer, seconds_of(lambda: quietly(["cp", "-r", folder, copy])))
            check_copies(copy, checksums)

    with bench.mounted() as mount:
        folder = series_folder(mount, "500_slices")
        used = cpu_seconds(mount.pid)
        copied(COLD, KHEOPSFS, folder, series.checksums)
        bench.add(CPU, KHEOPSFS, (cpu_seconds(mount.pid) - used) / series.bytes * GB)
        bench.note_memory(COLD, mount)
        if not bench.whole:
            return
        copied(WARM, KHEOPSFS, folder, series.checksums)
        bench.add("second read (cat)", KHEOPSFS, seconds_of(lambda: _read_all(folder)))
        with empty_folder(bench.scratch / "local") as local:
            quietly(["cp", "-r", folder, local])
            for row in (WARM, REMOUNTED):
                copied(row, LOCAL, local, series.checksums)
            bench.add("second read (cat)", LOCAL, seconds_of(lambda: _read_all(next(local.iterdir()))))
            _warm(bench, folder, next(local.iterdir()))
        bench.note_memory(WARM, mount)
        done = mount.command("umount", str(mount.path))
        assert done.returncode == 0, done.stderr
        with mount:
            folder = series_folder(mount, "500_slices")
            bench.server.clear_requests()
            copied(REMOUNTED, KHEOPSFS, folder, series.checksums)
            bench.add(REQUESTS, KHEOPSFS, len(bench.server.requests("/studies")))
            bench.note_memory(REMOUNTED, mount)


def _read_all(folder: Path) -> None:
    quietly(["sh", "-c", 'cat "$1"/* > /dev/null', "sh", folder])


def _warm(bench: Bench, folder: Path, originals: Path) -> None:
    """What the kernel can mostly answer by itself, against a file system that does nothing else."""
    body = next(originals.iterdir())
    with NullMount(
        Path(tempfile.mkdtemp(prefix="null-", dir=bench.scratch)), len(list(originals.iterdir())), body
    ) as null:
        for row in (COLD, WARM):
            with empty_folder(bench.scratch / "copy") as copy:
                bench.add(row, NULL, seconds_of(partial(quietly, ["cp", "-r", null.path, copy])))
        for row, what, loops in ((WARM_STAT, "stat", _LOOPS), (WARM_LIST, "readdir", _LOOPS), (WARM_READ, "read", 2)):
            for peer, where in ((KHEOPSFS, folder), (NULL, null.path)):
                bench.add(row, peer, float(run([sys.executable, "-c", _WARM_CODE, where, what, str(loops)])))


def scans(bench: Bench) -> None:
    """dcmdump over all headers of a series that nobody has read yet, in order and in no order."""
    for row in (SCAN, SHUFFLED_SCAN):
        with bench.mounted() as mount:
            paths = sorted(series_folder(mount, "500_slices").iterdir())
            if row == SHUFFLED_SCAN:
                random.Random(_SHUFFLE).shuffle(paths)
            command: list[str | Path] = ["dcmdump", "-q", "+P", "0010,0010", *paths]
            bench.add(row, KHEOPSFS, seconds_of(partial(quietly, command)))
            bench.note_memory(row, mount)


def multiframe(bench: Bench, series: SeriesFacts) -> None:
    """One instance of 150 MB."""
    (uid,) = series.sizes
    with bench.mounted() as mount, empty_folder(bench.scratch / "copy") as copy:
        folder = series_folder(mount, "multi-frame")
        bench.add(MULTIFRAME, KHEOPSFS, seconds_of(lambda: quietly(["cp", "-r", folder, copy])))
        check_copies(copy, series.checksums)
        bench.note_memory(MULTIFRAME, mount)
    bench.add(MULTIFRAME, CURL, bench.peers.curl(f"{series.path}/instances/{uid}", at_least=series.bytes))


def many_studies(bench: Bench, count: int) -> None:
    """`ls` of a source with very many studies, the first time and the second."""
    with bench.mounted() as mount:
        source = mount.path / "studies"
        bench.add(MANY_STUDIES, KHEOPSFS, seconds_of(lambda: quietly(["ls", "-U", source])))
        bench.add("the same, second time", KHEOPSFS, seconds_of(lambda: quietly(["ls", "-U", source])))
        assert len(list(source.iterdir())) == count
        bench.note_memory(MANY_STUDIES, mount)
    pages = [f"/studies?limit=1000&offset={offset}" for offset in range(0, count, 1000)]
    bench.add(MANY_STUDIES, PARALLEL_SINGLE, bench.peers.curl(*pages, accept="application/dicom+json"))
