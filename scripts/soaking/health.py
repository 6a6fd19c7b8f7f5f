"""What the process of the first mount has and holds, looked at while nobody reads; and what must not grow.

After the first third of the samples, which warm it up:

* nothing is open that nobody has open: `files` and `folders` are 0;
* `inodes` are no more than there are nodes in the tree;
* `tasks` and `descriptors` (without those of bodies held for the next reader, whose number is limited) stay what they
  were, up to `SLACK`: a leak of one in a hundred operations would pass it within minutes;
* memory stays what it was, up to `MEMORY_SHARE` and `MEMORY_SLACK`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from harness.instrumented import InstrumentedMount

WARM_SHARE = 3
"""One in so many samples is taken before it is warm."""
SLACK = 32
MEMORY_SHARE = 1.2
MEMORY_SLACK = 16.0  # MB


@dataclass(frozen=True)
class Sample:
    """One look."""

    inodes: int
    files: int
    folders: int
    tasks: int
    threads: int
    descriptors: int
    recent: int
    megabytes: float

    def __str__(self) -> str:
        return (
            f"inodes {self.inodes}, open {self.files} + {self.folders}, tasks {self.tasks}, threads {self.threads}, "
            f"descriptors {self.descriptors} and {self.recent} held, {self.megabytes:.0f} MB"
        )


def look(mount: InstrumentedMount) -> Sample:
    """Take a sample."""
    counts = mount.counts()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{mount.pid}/status").read_text())
    assert found is not None
    counts["descriptors"] -= counts["recent"]
    return Sample(**counts, megabytes=int(found[1]) / 1000)


def growths(samples: list[Sample], nodes: int) -> list[str]:
    """The rules that are broken; `nodes`: how many there are in the tree."""
    broken = []
    for sample in samples:
        if sample.files or sample.folders:
            broken.append(f"something stays open: {sample}")
        if sample.inodes > nodes:
            broken.append(f"inodes are not forgotten ({nodes} nodes): {sample}")
    warm_at = max(1, len(samples) // WARM_SHARE)
    for sample in samples[warm_at:]:
        for what in ("tasks", "descriptors"):
            if getattr(sample, what) > max(getattr(one, what) for one in samples[:warm_at]) + SLACK:
                broken.append(f"{what} grow: {sample}")
        if sample.megabytes > max(one.megabytes for one in samples[:warm_at]) * MEMORY_SHARE + MEMORY_SLACK:
            broken.append(f"memory grows: {sample}")
    return broken
