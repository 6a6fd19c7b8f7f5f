"""Sizes once seen are kept for ever, and are right."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_helpers import MIB, alter, in_child, keep

from kheopsfs.store import Store


def test_sizes_by_group_and_name(store):
    store.ledger.record("series", "a", 10)
    store.ledger.record("series", "b", 2**40)
    store.ledger.record("other", "a", 0)
    assert store.ledger.sizes("series") == {"a": 10, "b": 2**40}
    assert store.ledger.size("series", "a") == 10
    assert store.ledger.size("other", "a") == 0
    assert store.ledger.size("series", "c") is None
    assert store.ledger.sizes("unknown") == {}
    store.ledger.record("series", "a", 11)
    assert store.ledger.size("series", "a") == 11
    store.ledger.forget("series", "a")
    store.ledger.forget("series", "never")
    assert store.ledger.sizes("series") == {"b": 2**40}


def test_sizes_outlive_the_body_and_the_store(folder):
    with Store(folder, 10) as store:
        keep(store, "k", b"0123456789")
        store.ledger.record("series", "k", 10)
        keep(store, "l", b"0123456789")
        assert not store.bodies.contains("k")
    with Store(folder, 10) as store:
        assert store.ledger.size("series", "k") == 10


def test_sizes_outlive_a_kill(folder):
    Store(folder, MIB).close()

    def record_and_die():
        Store(folder, MIB).ledger.record("series", "k", 10)
        os.kill(os.getpid(), 9)

    assert in_child(record_and_die) == 9
    with Store(folder, MIB) as store:
        assert store.ledger.size("series", "k") == 10


@pytest.mark.parametrize(
    "change", ["size = size - 1", "size = size + 256", "name = 'b'", "collection = 'other'", "checksum = 0"]
)
def test_an_entry_that_was_changed_is_not_there(store, folder, change):
    store.ledger.record("series", "a", 1_000)
    store.ledger.record("series", "sound", 1)
    alter(folder, f"UPDATE Sizes SET {change} WHERE name = 'a'", database="ledger/ledger.db")
    assert store.ledger.sizes("series") == {"sound": 1}
    assert store.ledger.sizes("other") == {}
    assert store.ledger.size("series", "a") is None
    assert store.ledger.size("series", "b") is None


names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from("gh"), st.dictionaries(names, st.integers(0, 2**62), max_size=4)),
        st.tuples(st.just("forget"), st.sampled_from("gh"), names),
        st.tuples(st.just("reopen"), st.just(""), st.none()),
    ),
    max_size=20,
)


@settings(max_examples=60)
@given(steps)
def test_any_sequence_agrees_with_a_dict(sequence):
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="kheopsfs-test-") as parent:
        model: dict[str, dict[str, int]] = {"g": {}, "h": {}}
        store = Store(Path(parent, "cache"), MIB)
        for what, group, argument in sequence:
            match what:
                case "record":
                    store.ledger.record_many(group, argument)
                    model[group].update(argument)
                case "forget":
                    store.ledger.forget(group, argument)
                    model[group].pop(argument, None)
                case "reopen":
                    store.close()
                    store = Store(Path(parent, "cache"), MIB)
        for group, sizes in model.items():
            assert store.ledger.sizes(group) == sizes
            assert all(store.ledger.size(group, name) == size for name, size in sizes.items())
        store.close()
