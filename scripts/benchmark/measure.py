"""What is measured: seconds of a command, CPU and memory of a daemon, and whether what arrived is right.

A figure alone says little on a shared machine. Peers are therefore measured in turns (A B A B …), each figure is the
median of its turns, and what counts is the ratio of two medians of the same run.
"""

import hashlib
import os
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

COMMAND_SECONDS = 900  # deadline of one command: the slowest copy over the slowest link takes about a minute

GB = 1e9


class WrongBytesError(Exception):
    """A copy differs from its original: no figure is worth anything then."""


class Samples:
    """Figures by link, row and peer, in the order in which they were taken."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, link: str, row: str, peer: str, figure: float) -> None:
        """One more figure."""
        self._taken[link, row, peer].append(figure)
        print(f"  {link:22} {row:36} {peer:32} {figure:10.3f}", flush=True)

    def median(self, link: str, row: str, peer: str) -> float | None:
        """The median, or None if it was not measured."""
        taken = self._taken.get((link, row, peer))
        return statistics.median(taken) if taken else None

    def as_rows(self) -> list[dict[str, object]]:
        """Everything, for JSON."""
        return [
            {"link": link, "row": row, "peer": peer, "median": statistics.median(taken), "taken": taken}
            for (link, row, peer), taken in self._taken.items()
        ]


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def run(command: Sequence[str | Path], *, feed: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; raises CalledProcessError."""
    done = subprocess.run(
        [str(word) for word in command],
        input=feed,
        stdin=subprocess.DEVNULL if feed is None else None,
        capture_output=True,
        text=True,
        check=True,
        timeout=COMMAND_SECONDS,
        env=env,
    )
    return done.stdout


def quietly(command: Sequence[str | Path]) -> None:
    """Run a command whose output does not matter; raises CalledProcessError."""
    subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, check=True, timeout=COMMAND_SECONDS)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, user and system together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(pid: int) -> float:
    """The most memory a process has had resident (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError("no VmHWM")


def check_copies(folder: Path, checksums: set[str]) -> None:
    """Compare a folder's files with the originals.

    Raises:
        WrongBytesError: a file differs, is missing, or is too many.
    """
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()]
    if sorted(found) != sorted(checksums):
        wrong = len(set(found) - checksums)
        raise WrongBytesError(f"{len(found)} files of {len(checksums)} in {folder}, {wrong} of them wrong")
