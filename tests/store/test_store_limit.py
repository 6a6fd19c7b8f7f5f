"""The limit: enforced when writing, least recently opened first, and no more than needed."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_helpers import MIB, keep, look, noise, read

from kheopsfs.store import Store


def test_the_least_recently_opened_goes_first(folder):
    with Store(folder, 4_000) as store:
        for key in "abcd":
            keep(store, key, b"x" * 1_000)
        read(store, "a")
        keep(store, "e", b"x" * 1_000)
        assert set(look(folder).rows) == {"a", "c", "d", "e"}
        assert look(folder).files == set(look(folder).rows.values())


def test_no_more_goes_than_needed(folder):
    """A few big bodies are not all thrown out for one more."""
    with Store(folder, 5_000) as store:
        for key in "abcde":
            keep(store, key, b"x" * 1_000)
        keep(store, "f", b"x" * 500)
        assert set(look(folder).rows) == {"b", "c", "d", "e", "f"}


def test_one_big_body_pushes_out_many_small_ones(folder):
    with Store(folder, 100_000) as store:
        for number in range(400):
            keep(store, str(number), b"x" * 250)
        keep(store, "big", b"x" * 90_000)
        on_disk = look(folder)
        assert on_disk.size <= 100_000
        assert set(on_disk.rows) == {"big", *(str(number) for number in range(360, 400))}
        assert len(on_disk.files) == 41


def test_a_body_above_the_limit_is_served_and_not_kept(folder):
    with Store(folder, 1_000) as store:
        keep(store, "small", b"x" * 900)
        incoming = store.bodies.incoming()
        incoming.write(b"y" * 1_001)
        with incoming.commit("big") as body:
            assert body.pread(2_000, 0) == b"y" * 1_001
        assert store.bodies.open("big") is None
        assert read(store, "small") == b"x" * 900
        assert not look(folder).arriving


def test_with_no_room_at_all_everything_is_served(folder):
    with Store(folder, 0) as store:
        incoming = store.bodies.incoming()
        incoming.write(b"y")
        with incoming.commit("k") as body:
            assert body.pread(1, 0) == b"y"
        assert not look(folder).files


def test_a_smaller_limit_holds_from_the_next_commit_on(folder):
    with Store(folder, MIB) as store:
        for number in range(20):
            keep(store, str(number), b"x" * 1_000)
    with Store(folder, 5_000) as store:
        assert len(look(folder).rows) == 20
        keep(store, "new", b"x" * 1_000)
        assert set(look(folder).rows) == {"new", "19", "18", "17", "16"}


def test_recency_outlives_the_store(folder):
    with Store(folder, MIB) as store:
        for key in "abc":
            keep(store, key, b"x" * 1_000)
        read(store, "a")
    with Store(folder, 3_000) as store:
        keep(store, "d", b"x" * 1_000)
        assert set(look(folder).rows) == {"a", "c", "d"}


@pytest.mark.parametrize(("interval", "left"), [(0.0, {"a", "c", "d"}), (3600.0, {"b", "c", "d"})])
def test_recency_is_written_for_other_processes_once_an_interval(folder, monkeypatch, interval, left):
    monkeypatch.setattr("kheopsfs.store.rows.RECENCY_INTERVAL", interval)
    with Store(folder, 3_000) as reader, Store(folder, 3_000) as writer:
        for key in "abc":
            keep(writer, key, b"x" * 1_000)
        read(reader, "a")
        keep(writer, "d", b"x" * 1_000)
        assert set(look(folder).rows) == left


def test_opening_writes_nothing(store, folder):
    """Readers never wait for a writer, so they must not be one."""
    keep(store, "k", b"data")
    log = folder / "bodies" / "cache.db-wal"
    before = log.stat().st_size, log.read_bytes()
    for _time in range(100):
        assert read(store, "k") == b"data"
    assert (log.stat().st_size, log.read_bytes()) == before


operations = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.sampled_from("abcdef"), st.integers(0, 1_300)),
        st.tuples(st.just("open"), st.sampled_from("abcdef"), st.just(0)),
        st.tuples(st.just("discard"), st.sampled_from("abcdef"), st.just(0)),
        st.tuples(st.just("reopen"), st.just(""), st.just(0)),
    ),
    max_size=40,
)
SIZE_LIMIT = 3_000


class Model:
    """What the cache must hold: a dict whose order is from least to most recently opened."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def keep(self, key: str, data: bytes) -> None:
        self.bodies.pop(key, None)
        self.bodies[key] = data
        while sum(map(len, self.bodies.values())) > SIZE_LIMIT:
            del self.bodies[next(iter(self.bodies))]

    def open(self, key: str) -> bytes | None:
        if key not in self.bodies:
            return None
        self.bodies[key] = self.bodies.pop(key)
        return self.bodies[key]


@pytest.mark.timeout(300)
@settings(max_examples=60)
@given(operations)
def test_any_sequence_agrees_with_a_dict(steps):
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="kheopsfs-test-") as parent:
        folder = Path(parent, "cache")
        model = Model()
        store = Store(folder, SIZE_LIMIT)
        for number, (what, key, size) in enumerate(steps):
            match what:
                case "keep":
                    data = noise(size, seed=number)
                    keep(store, key, data)
                    model.keep(key, data)
                case "open":
                    assert read(store, key) == model.open(key)
                case "discard":
                    store.bodies.discard(key)
                    model.bodies.pop(key, None)
                case "reopen":
                    store.close()
                    store = Store(folder, SIZE_LIMIT)
            assert {key for key in "abcdef" if store.bodies.contains(key)} == set(model.bodies)
        on_disk = look(folder)
        assert set(on_disk.rows) == set(model.bodies)
        assert on_disk.files == set(on_disk.rows.values())
        assert on_disk.size == sum(map(len, model.bodies.values()))
        store.close()
