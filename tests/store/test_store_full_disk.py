"""A full disk costs the bodies that have no room, and nothing else."""

import os

import pytest
from store_helpers import MIB, in_child, keep, look, noise, read, warnings

from kheopsfs.errors import DiskFullError
from kheopsfs.store import Store


def fill(path):
    with path.open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(b"x" * 4096)


def test_a_body_that_has_no_room_is_an_error_of_that_body_alone(small_disk):
    folder = small_disk / "cache"
    with Store(folder, 100 * MIB) as store:
        keep(store, "small", b"small")
        incoming = store.bodies.incoming()
        with pytest.raises(DiskFullError, match="no room left"):
            for _piece in range(100):
                incoming.write(noise(65_536))
        assert 0 < incoming.size < 4 * MIB
        with pytest.raises(ValueError, match="could not be written"):
            incoming.commit("big")
        incoming.discard()
        assert not look(folder).arriving
        assert not store.bodies.contains("big")
        assert read(store, "small") == b"small"
        keep(store, "next", noise(65_536))
        assert read(store, "next") == noise(65_536)


def test_what_arrived_before_the_disk_was_full_is_served_though_its_row_has_no_room(small_disk, caplog):
    folder = small_disk / "cache"
    with Store(folder, 100 * MIB) as store:
        keep(store, "before", b"before")
        arriving = []
        for number in range(200):  # more rows than fit into what room SQLite has already
            incoming = store.bodies.incoming()
            incoming.write(f"body {number}".encode())
            arriving.append(incoming)
        fill(small_disk / "ballast")
        for number, incoming in enumerate(arriving):
            with incoming.commit(f"instance/1.2.3/{number}") as body:
                assert body.pread(100, 0) == f"body {number}".encode()
            store.ledger.record("g", f"{number}" * 50, number)
            store.listings.put(f"{number}", noise(1_000, seed=number))
        assert store.bodies.open("instance/1.2.3/199") is None
        assert read(store, "before") == b"before"
        on_disk = look(folder)
        assert on_disk.files == set(on_disk.rows.values())
        assert not on_disk.arriving
        assert 1 <= len(warnings(caplog)) <= 6  # not one for each of 200
        (small_disk / "ballast").unlink()
        keep(store, "after", b"after")
        assert read(store, "after") == b"after"
        store.ledger.record("g", "after", 1)
        assert store.ledger.size("g", "after") == 1
        assert in_child(lambda: keep(Store(folder, MIB), "other process", b"data")) == 0
        assert read(store, "other process") == b"data"
        assert not (folder / "bodies" / "cache.db.damaged").exists()


def test_no_room_for_another_file_is_an_error_of_that_body_alone(small_disk):
    folder = small_disk / "cache"
    with Store(folder, 100 * MIB) as store:
        keep(store, "k", b"data")
        number = 0
        with pytest.raises(OSError, match="No space"):
            while True:
                os.mknod(small_disk / str(number))
                number += 1
        with pytest.raises(DiskFullError, match="no room left"):
            store.bodies.incoming()
        assert read(store, "k") == b"data"
