"""Several processes and threads at once: nobody sees another's half work, and the limit holds for all."""

import contextlib
import os
import random
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
from store_helpers import MIB, in_child, keep, look, noise, read, start_child, warnings

from kheopsfs.store import Store
from kheopsfs.store.database import _is_held

KEYS = [f"instance/1.2/{number}" for number in range(12)]
LIMIT = 400_000


def body_of(key: str, writer: int) -> bytes:
    """Says itself who wrote it, so that a reader can tell a whole body from any mixture."""
    return f"{key} {writer}\n".encode() + noise(20_000 + 4_000 * writer, seed=KEYS.index(key) * 100 + writer)


def is_whole(key: str, data: bytes) -> bool:
    found_key, writer = data.split(b"\n", 1)[0].decode().split(" ")
    return found_key == key and data == body_of(key, int(writer))


def work_hard(folder, writer: int, rounds: int) -> None:
    choice = random.Random(writer)
    with Store(folder, LIMIT) as store:
        for _round in range(rounds):
            key = choice.choice(KEYS)
            match choice.randrange(6):
                case 0 | 1 | 2:
                    data = read(store, key)
                    assert data is None or is_whole(key, data), key
                case 3 | 4:
                    with store.bodies.incoming() as incoming:
                        incoming.write(body_of(key, writer))
                        with incoming.commit(key) as body:
                            assert body.pread(body.size, 0) == body_of(key, writer)
                case 5:
                    store.bodies.discard(key)
            store.ledger.record("g", f"{writer}/{_round}", _round)
            store.listings.put(key, body_of(key, writer))
            listing = store.listings.get(key)
            assert listing is None or is_whole(key, listing.payload)


def work_until_killed(folder, writer: int) -> None:
    threading.Timer(0.1 + writer / 10, os.kill, (os.getpid(), signal.SIGKILL)).start()
    work_hard(folder, writer, 1_000_000)


@pytest.mark.parametrize("killed", [False, True])
def test_processes_at_once(quick_folder, killed):
    """Four processes; when `killed`, each has a brother that is killed in the middle of the same work."""
    folder = quick_folder
    Store(folder, LIMIT).close()
    children = []
    for writer in range(4):
        children.append((start_child(lambda writer=writer: work_hard(folder, writer, 60)), 0))
        if killed:
            children.append((start_child(lambda writer=writer: work_until_killed(folder, writer)), 9))
    for pid, expected in children:
        assert os.waitpid(pid, 0)[1] == expected
    with Store(folder, LIMIT) as store:
        on_disk = look(folder)
        assert on_disk.files <= set(on_disk.rows.values())
        assert killed or on_disk.files == set(on_disk.rows.values())
        assert on_disk.size <= LIMIT
        assert not on_disk.arriving
        sizes = store.ledger.sizes("g")
        assert all(sizes[f"{writer}/{number}"] == number for writer in range(4) for number in range(60))


def test_many_starts_at_once(quick_folder):
    """Eight processes find no cache, and make one."""
    go, going = os.pipe()

    def start(number):
        os.read(go, 1)
        with Store(quick_folder, MIB) as store:
            keep(store, str(number), b"data")
            store.ledger.record("g", str(number), 4)

    children = [start_child(lambda number=number: start(number)) for number in range(8)]
    os.write(going, b"g" * 8)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 8
    for end in (go, going):
        os.close(end)
    with Store(quick_folder, MIB) as store:
        assert store.ledger.sizes("g") == {str(number): 4 for number in range(8)}
        assert all(read(store, str(number)) == b"data" for number in range(8))


def test_threads_at_once(store):
    failures = []

    def work(writer):
        choice = random.Random(writer)
        try:
            for number in range(40):
                key = choice.choice(KEYS)
                keep(store, key, body_of(key, writer))
                data = read(store, choice.choice(KEYS[:3]) if number % 2 else key)
                assert data is None or is_whole(data.split(b" ")[0].decode(), data)
                store.ledger.record("g", f"{writer}/{number}", number)
                assert store.ledger.size("g", f"{writer}/{number}") == number
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store.ledger.sizes("g")) == 8 * 40


def test_descriptors_go_with_their_threads(store):
    def open_descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    def use():
        keep(store, "k", b"data")
        store.listings.get("l")
        store.ledger.size("g", "n")

    def in_a_thread():
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    in_a_thread()
    before = open_descriptors()
    for _thread in range(100):
        in_a_thread()
    assert open_descriptors() <= before + 4


def test_a_body_that_another_process_evicts_stays_readable(store, folder):
    keep(store, "k", b"data")
    with store.bodies.open("k") as body:

        def crowd_out():
            with Store(folder, 10) as other:
                keep(other, "new", b"0123456789")

        assert in_child(crowd_out) == 0
        assert not store.bodies.contains("k")
        assert body.pread(4, 0) == b"data"
    assert read(store, "new") == b"0123456789"


def test_a_transaction_that_was_left_open_locks_nobody_out_for_ever(store, folder):
    store.bodies._rows._database._tables._con.execute("BEGIN IMMEDIATE")
    keep(store, "not kept", b"data")
    assert in_child(lambda: keep(Store(folder, MIB), "k", b"data")) == 0
    assert read(store, "k") == b"data"
    keep(store, "k", b"again")
    assert read(store, "k") == b"again"


def test_a_stuck_writer_stops_nobody_from_reading(folder, caplog, monkeypatch):
    """Another process holds the databases' write locks for ever: bodies are served, and not kept."""
    monkeypatch.setattr("kheopsfs.store.rows.BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr("kheopsfs.store.ledger.BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr("kheopsfs.store.database.HELD_INTERVAL", 0.0)
    with Store(folder, MIB) as store, contextlib.ExitStack() as locks:
        keep(store, "old", b"old")
        store.ledger.record("g", "old", 3)
        store.listings.put("old", b"old")
        for name in ("bodies/cache.db", "listings/cache.db", "ledger/ledger.db"):
            other = sqlite3.connect(folder / name, isolation_level=None)
            locks.callback(other.close)
            other.execute("BEGIN IMMEDIATE")
        assert read(store, "old") == b"old"
        for number in range(3):
            with store.bodies.incoming() as incoming:
                incoming.write(b"new")
                with incoming.commit(f"new{number}") as body:
                    assert body.pread(3, 0) == b"new"
        store.bodies.discard("old")
        store.ledger.record("g", "new", 3)
        store.listings.put("new", b"new")
        assert store.ledger.sizes("g") == {"old": 3}
        assert store.listings.get("new") is None
        assert store.listings.get("old").payload == b"old"
        assert len(look(folder).files) == 1
        assert not look(folder).arriving
        assert len(warnings(caplog)) == 3  # one for each database, not one for each body
        locks.close()
        keep(store, "new", b"new")
        assert read(store, "new") == b"new"


@pytest.mark.parametrize("name", ["bodies/cache.db", "listings/cache.db", "ledger/ledger.db"])
def test_a_writer_that_never_ends_is_waited_for_once(folder, caplog, monkeypatch, name):
    """S16: a process that was stopped in the middle of a transaction: what is kept is read, nothing more is."""
    monkeypatch.setattr("kheopsfs.store.rows.BUSY_TIMEOUT", 0.5)
    monkeypatch.setattr("kheopsfs.store.ledger.BUSY_TIMEOUT", 0.5)
    waits = []
    with Store(folder, MIB) as store, contextlib.closing(sqlite3.connect(folder / name)) as stuck:
        keep(store, "before", b"data")
        store.ledger.record("g", "before", 1)
        store.listings.put("before", b"listing")
        stuck.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(
            "kheopsfs.store.database._is_held", lambda cause: _is_held(cause) and not waits.append(cause)
        )
        for number in range(50):
            keep(store, str(number), b"data")
            store.ledger.record("g", str(number), 1)
            store.listings.put(str(number), b"listing")
            assert read(store, "before") == b"data"
            assert store.ledger.size("g", "before") == 1
            assert store.listings.get("before").payload == b"listing"
        assert len(waits) == 1
        assert len(warnings(caplog)) == 1
        stuck.rollback()
        for database in (store.bodies._rows._database, store.listings._rows._database, store.ledger._database):
            database._held_until = 0.0  # as after the interval
        keep(store, "after", b"data")
        assert read(store, "after") == b"data"
