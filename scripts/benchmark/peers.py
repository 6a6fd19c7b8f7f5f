"""The peers: curl and dicomweb-client. Each call is one measurement, with an empty folder to write to.

Tokens go through standard input, never through arguments.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmark.measure import run, seconds_of

PARALLEL = 8  # what the first kheopsfs design called many: Kheops has 10 database connections for everybody
ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True)
class SeriesFacts:
    """One series of the server: its UIDs, its instances with their sizes in bytes and checksums (SHA-256)."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    sizes: dict[str, int]
    checksums: set[str]

    @property
    def path(self) -> str:
        """Below the server's API."""
        return f"/studies/{self.StudyInstanceUID}/series/{self.SeriesInstanceUID}"

    @property
    def bytes(self) -> int:
        """Of all instances together."""
        return sum(self.sizes.values())


@contextmanager
def empty_folder(folder: Path) -> Iterator[Path]:
    """A new folder whose name begins like this; its files give their space back afterwards, but stay until the end.

    Not deleted at once, because ext4 passes over inodes that were freed within the last minutes one by one: whoever
    makes files next would pay for it.
    """
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        yield made
    finally:
        free_space(made)


def free_space(folder: Path) -> None:
    """Make all files below a folder empty."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)


@dataclass(frozen=True)
class Peers:
    """`url` leads to the API over the link that is measured; `scratch` is a folder on the disk that all share."""

    url: str
    token: str
    scratch: Path

    def curl(self, *paths: str, accept: str = ACCEPT, at_least: int = 0) -> float:
        """Seconds that curl takes for these paths of the API, in parallel if there are several.

        Raises:
            CalledProcessError: an answer was no success.
            AssertionError: fewer bytes came than `at_least`.
        """
        with empty_folder(self.scratch / "curl") as folder:
            quoted = accept.replace('"', '\\"')
            config = [f'header = "Authorization: Bearer {self.token}"', f'header = "Accept: {quoted}"']
            for number, path in enumerate(paths):
                config += [f'url = "{self.url}{path}"', f'output = "{folder / str(number)}"']
            command: list[str | Path] = [
                "curl",
                "--silent",
                "--show-error",
                "--fail",
                "--noproxy",
                "*",
                "--config",
                "-",
            ]
            if len(paths) > 1:
                command += ["--parallel", "--parallel-max", str(PARALLEL)]
            taken = seconds_of(lambda: run(command, feed="\n".join(config)))
            arrived = sum(path.stat().st_size for path in folder.iterdir())
            assert arrived >= at_least, f"curl got {arrived} bytes of {at_least}"
            return taken

    def dicomweb_client(self, series: SeriesFacts, wanted: Sequence[str]) -> float:
        """Seconds that dicomweb-client takes; `wanted` are instances, or ``["iterated"]`` for the series as one."""
        with empty_folder(self.scratch / "dicomweb") as folder:
            command: list[str | Path] = [sys.executable, Path(__file__).with_name("dicomweb.py"), folder, self.url]
            printed = run([*command, series.StudyInstanceUID, series.SeriesInstanceUID, *wanted], feed=self.token)
            assert len(list(folder.iterdir())) == len(series.sizes)
            return float(printed)
