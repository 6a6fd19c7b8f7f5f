"""kill -9 at any moment leaves the whole body or none, and nothing that piles up.

The child that works on the store is killed before its first call of the operating system or of SQLite, then before its
second, and so on until it gets through.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from harness.calls import Calls
from store_helpers import MIB, in_child, keep, look, noise, read

from kheopsfs.store import Store
from kheopsfs.store.files import Files

T = TypeVar("T")

OLD = noise(5_000, seed=1)
NEW = noise(9_000, seed=2)
OTHER = noise(7_000, seed=3)


def killed_at(step: int, prepare: Callable[[], T], work: Callable[[T], object]) -> bool:
    """Run `prepare`, then `work` in a child that dies before its call number `step`; False when it got through."""

    def count_and_kill() -> None:
        prepared = prepare()
        with Calls(die_at=step).counted():
            work(prepared)

    status = in_child(count_and_kill)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def prepared(folder: Path) -> None:
    with Store(folder, MIB) as store:
        keep(store, "k", OLD)
        keep(store, "other", OTHER)


def roomy(folder: Path) -> Store:
    return Store(folder, MIB)


def tight(folder: Path) -> Store:
    return Store(folder, len(OTHER) + len(NEW))


def with_dead_session(folder: Path) -> Path:
    """The folder, after a process died between all three steps of a commit."""
    keep(roomy(folder), "k", NEW)
    finished = folder / "bodies" / "files" / look(folder).rows["k"]
    session = next((folder / "tmp").iterdir())
    os.link(finished, session / finished.name)
    (session / ("a" * 32)).write_bytes(b"arriving")
    (session / ("b" * 32)).write_bytes(b"finished")
    os.link(session / ("b" * 32), finished.with_name("b" * 32))
    dead = session.with_name(f"{session.name[:32]}-{'0' * 16}")
    session.rename(dead)
    return folder


def commit(store: Store) -> None:
    incoming = store.bodies.incoming()
    incoming.write(memoryview(NEW)[:4_000])
    incoming.write(memoryview(NEW)[4_000:])
    incoming.commit("k").close()


def commit_another(store: Store) -> None:
    keep(store, "new", NEW)


def discard(store: Store) -> None:
    store.bodies.discard("k")


def sweep(store: Store) -> None:
    store.bodies._files.expect_orphans()
    keep(store, "new", NEW)


def close(store: Store) -> None:
    keep(store, "new", NEW)
    store.bodies.incoming().write(b"arriving")
    store.close()


def recover(folder: Path) -> None:
    Files(folder / "bodies", folder / "tmp")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("prepare", "work", "outcomes"),
    [
        (roomy, commit, {OLD, NEW, None}),
        (roomy, commit_another, {OLD, NEW, None}),
        (tight, commit_another, {OLD, NEW, None}),
        (roomy, discard, {OLD, None}),
        (roomy, sweep, {OLD, NEW, None}),
        (roomy, close, {OLD, NEW, None}),
        (with_dead_session, recover, {None}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_killed_anywhere(quick_folder, prepare, work, outcomes):
    folder = quick_folder
    step, killed, seen = 0, True, set()
    while killed:
        with Store(folder, MIB) as store:
            keep(store, "k", OLD)
            keep(store, "other", OTHER)
            store.bodies.discard("new")
        step += 1
        killed = killed_at(step, lambda: prepare(folder), work)
        with Store(folder, MIB) as store:
            assert read(store, "k") in {OLD, NEW, None}, step
            assert read(store, "new") in {NEW, None}, step
            seen |= {read(store, "k"), read(store, "new")}
            assert read(store, "other") in {OTHER, None}, step
            on_disk = look(folder)
            assert on_disk.files <= set(on_disk.rows.values()), step  # no file that nothing names
            assert not on_disk.arriving, step
            assert len(list((folder / "tmp").iterdir())) == 1, step  # the session of the store that looks
    assert step > 5  # it was killed at several moments
    assert seen == outcomes


def test_killed_during_the_first_start(quick_folder, caplog):
    """At each of the first moments, where the folders are made; then at every seventh of the hundreds of statements."""
    step, killed = 1, True
    while killed:
        folder = quick_folder / str(step)
        killed = killed_at(step, lambda folder=folder: folder, lambda folder: Store(folder, MIB))
        with Store(folder, MIB) as store:
            keep(store, "k", NEW)
            store.ledger.record("g", "n", 1)
            store.listings.put("l", b"listing")
            assert read(store, "k") == NEW, step
            assert store.ledger.sizes("g") == {"n": 1}, step
            assert store.listings.get("l").payload == b"listing", step
        step += 1 if step < 60 else 7
    assert step > 100
    assert not caplog.records
