"""Starting does not look at what is kept (S20): the work is the same for ten bodies and for thousands."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.calls import Calls
from store_helpers import MIB, in_child, keep

from kheopsfs.store import Store

FEW, MANY = 10, 3_000
SLACK = 20
"""Calls by which two starts may differ: SQLite does some of its work now or later. Looking at each body takes MANY."""


def fill(folder: Path, count: int) -> None:
    with Store(folder, MIB) as store:
        for number in range(count):
            keep(store, f"{number}", b"x" * 64)
            store.listings.put(f"{number}", b"listing")
        store.ledger.record_many("group", {f"{number}": 64 for number in range(count)})


def reads() -> tuple[int, int]:
    """The system's calls to read, and the bytes that they gave, of this process so far (proc(5), io)."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["syscr"]), int(counters["rchar"])


def start(folder: Path, report: Path) -> None:
    """Open a store until it answers, and report how many calls of the system and of SQLite that took, how many calls to
    read, how many bytes they gave, and which folders were listed. For a process of its own: the hook stays for ever.
    """
    listed: list[str] = []

    def note_listing(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"os.listdir", "os.scandir"}:
            listed.append(str(arguments[0]))

    sys.addaudithook(note_listing)
    Store(folder.with_name("new"), MIB).close()  # what only the first one in a process does
    listed.clear()
    calls = Calls()
    reads_before, bytes_before = reads()
    with calls.counted():
        store = Store(folder, MIB)
        assert store.bodies.contains("1")
    reads_after, bytes_after = reads()
    report.write_text(json.dumps([calls.count, reads_after - reads_before, bytes_after - bytes_before, listed]))


def test_starting_costs_the_same_however_much_is_kept(quick_folder: Path) -> None:
    """S20"""
    reports = []
    for name, count in (("few", FEW), ("many", MANY)):
        folder = quick_folder / name
        fill(folder, count)
        assert len(os.listdir(folder / "bodies" / "files")) == count
        assert in_child(lambda folder=folder: start(folder, quick_folder / "report")) == 0
        reports.append(json.loads((quick_folder / "report").read_text()))
    (few, few_reads, few_bytes, _), (many, many_reads, many_bytes, listed) = reports
    assert many <= few + SLACK
    # The trees of the databases are a little deeper.
    assert many_reads <= few_reads + 20
    assert many_bytes <= few_bytes + 20 * 4096
    assert listed
    assert not [folder for folder in listed if "bodies" in folder]
