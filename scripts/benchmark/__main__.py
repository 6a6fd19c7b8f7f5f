"""The whole benchmark in one go; see docs/benchmarks.md."""

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from harness.server import DemoServer

from benchmark import report, rows
from benchmark.links import Link
from benchmark.measure import Samples
from benchmark.rows import Bench
from benchmark.targets import HUNDRED, LOOPBACK, SHAPED

GROUPS = ("lists", "copies", "scans", "multiframe", "studies")
TURNS, SHAPED_TURNS, SLOW_TURNS = 5, 3, 1  # 264 MB take 21 s at 100 Mb/s
ARCHIVE = "slices=500,multiframe=150M"
STUDIES = 100_000
DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> int:
    """Measure what was asked for, print it, and write it down if it was everything."""
    options = _options()
    groups, links = options.only or GROUPS, options.link or (LOOPBACK, *SHAPED)
    samples = Samples()
    scratch = Path(tempfile.mkdtemp(prefix="kheopsfs-bench-", dir=options.scratch))
    try:
        with DemoServer("--synthetic", ARCHIVE) as server:
            for link in links:
                _measure(samples, server, link, groups, scratch, quick=options.quick)
        if "studies" in groups and LOOPBACK in links:
            with DemoServer("--synthetic", f"studies={STUDIES}") as server:
                bench = Bench(samples, server, server.url, LOOPBACK, scratch, whole=True)
                for _ in range(1 if options.quick else SHAPED_TURNS):
                    rows.many_studies(bench, STUDIES)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n" + report.tables(samples))
    if options.write:
        report.write(samples, DOCS)
    return 0


def _measure(
    samples: Samples, server: DemoServer, link: str, groups: tuple[str, ...], scratch: Path, *, quick: bool
) -> None:
    whole, slow = link == LOOPBACK, link == HUNDRED
    turns = 1 if quick else TURNS if whole else SLOW_TURNS if slow else SHAPED_TURNS
    with ExitStack() as stack:
        url = server.url if whole else stack.enter_context(Link(server.url, *SHAPED[link])).url
        bench = Bench(samples, server, url, link, scratch, whole, slow)
        slices, frames = bench.facts("500 slices"), bench.facts("multi-frame")
        for _ in range(turns):
            if "copies" in groups:
                rows.copies(bench, slices)
            if "scans" in groups:
                rows.scans(bench)
            if "multiframe" in groups and not slow:
                rows.multiframe(bench, frames)
        if "lists" in groups:
            for _ in range(turns + 2):  # short, so that more turns cost little and steady the median
                rows.lists(bench, slices)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure kheopsfs beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one turn of everything")
    parser.add_argument("--only", action="append", choices=GROUPS, help="only this group of rows; may be repeated")
    parser.add_argument("--link", action="append", choices=(LOOPBACK, *SHAPED), help="only over this link; likewise")
    parser.add_argument("--write", action="store_true", help="write the results into docs/")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to measure; the temporary folder by default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
