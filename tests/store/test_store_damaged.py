"""Broken databases: moved aside with one line in the log, and never an exception."""

import contextlib
import os
import random
import sqlite3
import threading

import pytest
from store_helpers import MIB, alter, body_file, in_child, keep, look, read, warnings

from kheopsfs.store import Store

DATABASES = ["bodies/cache.db", "listings/cache.db", "ledger/ledger.db"]


def fill(store):
    for number in range(50):
        keep(store, f"k{number}", b"data")
        store.listings.put(f"l{number}", b"listing" * 100)
        store.ledger.record("g", f"n{number}", number)


def use(store):
    """Everything that can be asked: each answer is right, or 'not there'."""
    for number in range(50):
        assert read(store, f"k{number}") in {b"data", None}
        store.bodies.contains(f"k{number}")
        listing = store.listings.get(f"l{number}")
        assert listing is None or listing.payload == b"listing" * 100
        assert store.ledger.size("g", f"n{number}") in {number, None}
    assert set(store.ledger.sizes("g").items()) <= {(f"n{number}", number) for number in range(50)}


def works(store):
    keep(store, "new", b"new")
    store.listings.put("new", b"new")
    store.ledger.record("g", "new", 3)
    assert read(store, "new") == b"new"
    assert store.listings.get("new").payload == b"new"
    assert store.ledger.size("g", "new") == 3


def write_garbage(path):
    path.write_bytes(os.urandom(20_000))


def write_text(path):
    path.write_text("This is not a database.\n" * 100)


def cut(path):
    os.truncate(path, 5_000)


def cut_to_nothing(path):
    os.truncate(path, 0)


def remove(path):
    path.unlink()


def overwrite_all_but_the_header(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(size - 100))


def drop_tables(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"DROP TABLE {name}")


def other_tables(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name in ("Cache", "Settings", "Sizes"):
            connection.execute(f"CREATE TABLE {name} (surprise)")


def link_elsewhere(path):
    path.rename(path.parent.parent.parent / "outside.db")
    path.symlink_to(path.parent.parent.parent / "outside.db")


def make_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [
    write_garbage,
    write_text,
    cut,
    cut_to_nothing,
    remove,
    overwrite_all_but_the_header,
    drop_tables,
    other_tables,
    link_elsewhere,
    make_folder,
]


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_before_the_start(quick_folder, caplog, damage, database):
    with Store(quick_folder, MIB) as store:
        fill(store)
    damage(quick_folder / database)
    with Store(quick_folder, MIB) as store:
        use(store)
        works(store)
        on_disk = look(quick_folder)
        assert on_disk.files == set(on_disk.rows.values())  # what lost its row was swept
    assert len(warnings(caplog)) <= 1
    if damage is write_garbage:
        assert "damaged" in warnings(caplog)[0]
        assert (quick_folder / f"{database}.damaged").stat().st_size == 20_000
    assert (quick_folder / database).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_while_in_use(quick_folder, damage, database):
    """By another process, for this one's own handling of the file must not be disturbed by closing descriptors."""
    with Store(quick_folder, MIB) as store:
        fill(store)
        assert in_child(lambda: damage(quick_folder / database)) == 0
        use(store)
        works_in_the_end(store)
        seen = []

        def in_another_thread():
            use(store)
            works_in_the_end(store)
            seen.append(True)

        thread = threading.Thread(target=in_another_thread)
        thread.start()
        thread.join()
        assert seen
    with Store(quick_folder, MIB) as store:
        use(store)
        works(store)


def works_in_the_end(store):
    """SQLite may go on for a while with what it has in memory; still nothing is raised, and nothing is wrong."""
    keep(store, "new", b"new")
    store.listings.put("new", b"new")
    store.ledger.record("g", "new", 3)
    assert read(store, "new") in {b"new", None}
    listing = store.listings.get("new")
    assert listing is None or listing.payload == b"new"
    assert store.ledger.size("g", "new") in {3, None}
    store.bodies.discard("new")
    store.listings.discard("new")
    store.ledger.forget("g", "new")


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("seed", range(12))
def test_any_bits_flipped(quick_folder, database, seed):
    """What SQLite does not notice, the checksums do."""
    choice = random.Random(seed)
    with Store(quick_folder, MIB) as store:
        fill(store)
    path = quick_folder / database
    data = bytearray(path.read_bytes())
    for _bit in range(choice.choice([1, 10, 200])):
        data[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    path.write_bytes(data)
    with Store(quick_folder, MIB) as store:
        use_after_flips(store)
        works(store)


def use_after_flips(store):
    for number in range(50):
        assert read(store, f"k{number}") in {b"data", None}
        listing = store.listings.get(f"l{number}")
        assert listing is None or listing.payload == b"listing" * 100
        assert store.ledger.size("g", f"n{number}") in {number, None}
    assert set(store.ledger.sizes("g").items()) <= {(f"n{number}", number) for number in range(50)}


def test_a_database_that_another_process_replaced_is_noticed(folder, caplog):
    with Store(folder, MIB) as store:
        fill(store)
    with Store(folder, MIB) as first, Store(folder, MIB) as second:
        for store in (first, second):
            keep(store, "k", b"data")
            store.ledger.record("g", "n", 1)
            assert read(store, "k") == b"data"
        logs = [folder / f"{name}{log}" for name in DATABASES for log in ("-wal", "-shm")]
        shared = {log.stat().st_ino for log in logs}
        for name in DATABASES:
            assert in_child(lambda name=name: write_garbage(folder / name)) == 0
        with Store(folder, MIB) as third:
            keep(third, "third", b"third")
            third.ledger.record("g", "third", 3)
            third.listings.put("third", b"listing")
            assert not shared & {log.stat().st_ino for log in logs}
        for store in (first, second):
            assert read(store, "third") == b"third"
            assert store.ledger.sizes("g") == {"third": 3}
            assert store.bodies.open("k") is None
    assert len(warnings(caplog)) == 3


def test_a_row_that_is_no_text_is_dropped_alone(store, folder, caplog):
    keep(store, "k", b"data")
    keep(store, "sound", b"sound")
    alter(folder, "UPDATE Cache SET value = CAST(x'ff' AS TEXT) WHERE key = 'k'")
    assert store.bodies.open("k") is None
    assert read(store, "sound") == b"sound"
    assert len(warnings(caplog)) == 1
    assert set(look(folder).rows) == {"sound"}


@pytest.mark.parametrize("count", [-(10**12), 10**12, 1.5])
def test_a_count_of_bytes_that_went_wrong_starts_anew(store, folder, caplog, count):
    keep(store, "k", b"data")
    alter(folder, "UPDATE Settings SET value = ? WHERE key = 'size'", count)
    keep(store, "another", b"data")
    works(store)
    assert "damaged" in warnings(caplog)[0]
    keep(store, "another", b"data")
    on_disk = look(folder)
    assert on_disk.files == set(on_disk.rows.values())


def test_log_lines_hold_keys_and_paths_only(folder, caplog):
    with Store(folder, MIB) as store:
        keep(store, "instance/1.2/3", b"Family^Given")
    body_file(folder, "instance/1.2/3").write_bytes(b"Family^Giveb")
    with Store(folder, MIB) as store:
        assert store.bodies.open("instance/1.2/3") is None
    assert "Family" not in caplog.text
    assert "instance/1.2/3" in caplog.text
