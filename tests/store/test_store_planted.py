"""Rows that the store never wrote: nothing is unpickled, and nothing outside the folder is opened or deleted."""

import os
import pickle
from pathlib import Path

import diskcache
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_helpers import MIB, alter, keep, look, read, warnings

from kheopsfs.store import Store
from kheopsfs.store.disk import DamagedRowError, Disk, StoredBody

INSERT = (
    "INSERT INTO Cache (key, raw, store_time, access_time, size, mode, filename, value) VALUES (?, ?, 1, 1, 0, ?, ?, ?)"
)
BODY_ROW = 64
PICKLE = 4
CHECKSUM = "0" * 32


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def bomb(tmp_path):
    return tmp_path / "exploded"


def payload(bomb: Path) -> bytes:
    return pickle.dumps(Bomb(bomb))


def test_a_planted_pickle_does_not_run(folder, bomb, caplog):
    with Store(folder, MIB) as store:
        keep(store, "sound", b"sound")
    alter(folder, INSERT, "k", 1, PICKLE, None, payload(bomb))
    alter(folder, INSERT, "l", 1, PICKLE, None, payload(bomb), database="listings/cache.db")
    with Store(folder, MIB) as store:
        assert not store.bodies.contains("k")
        assert store.bodies.open("k") is None
        assert store.listings.get("l") is None
        assert "k" not in look(folder).rows
        assert read(store, "sound") == b"sound"
    assert not bomb.exists()
    assert [line.split(":")[0] for line in warnings(caplog)] == ["k", "l"]


def test_the_planted_pickle_is_a_real_one(folder, bomb):
    """Read by diskcache as it comes, the same row does run."""
    with Store(folder, MIB):
        pass
    alter(folder, INSERT, "k", 1, PICKLE, None, payload(bomb))
    with diskcache.Cache(str(folder / "bodies")) as cache:
        cache.get("k")
    assert bomb.exists()


def test_a_planted_pickle_in_a_file_does_not_run(folder, bomb):
    with Store(folder, MIB):
        pass
    name = "a" * 32
    (folder / "bodies" / "files" / name).write_bytes(payload(bomb))
    alter(folder, INSERT, "k", 1, PICKLE, name, None)
    with Store(folder, MIB) as store:
        assert store.bodies.open("k") is None
    assert not bomb.exists()


def test_planted_keys_tags_and_iteration_do_not_run(folder, bomb):
    with Store(folder, 10) as store:
        keep(store, "k", b"data")
        alter(folder, INSERT, payload(bomb), 0, PICKLE, None, payload(bomb))
        alter(folder, "UPDATE Cache SET tag = ? WHERE key = 'k'", payload(bomb))
        assert read(store, "k") == b"data"
        with diskcache.Cache(str(folder / "bodies"), disk=Disk) as cache:
            with pytest.raises(DamagedRowError):
                list(cache)
            with pytest.raises(DamagedRowError):
                cache.peekitem(last=True)
            cache.check()
        keep(store, "new", b"0123456789")
        assert set(look(folder).rows) == {"new"}
    assert not bomb.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("disk_evil", 1),
        ("get", "x"),
        ("_disk", "x"),
        ("sqlite_evil", "1; DROP TABLE Cache"),
        ("eviction_policy", "evil"),
    ],
)
def test_planted_settings_have_no_effect(folder, bomb, key, value):
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
    alter(folder, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", key, value)
    alter(folder, "INSERT OR REPLACE INTO Settings VALUES ('disk_pickle_protocol', ?)", payload(bomb))
    with Store(folder, MIB) as store:
        assert read(store, "k") in {b"data", None}
        keep(store, "k", b"again")
        assert read(store, "k") == b"again"
    assert not bomb.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../../../outside",
        "../files/../../../outside",
        "{absolute}",
        "sub/name",
        "",
        ".",
        "..",
        "A" * 32,
        "a" * 31,
        7,
        b"x",
    ],
)
def test_a_planted_file_name_leads_nowhere(folder, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_bytes(b"data")
    if name == "{absolute}":
        name = str(outside)
    with Store(folder, 10) as store:
        for key in ("read", "replaced", "discarded", "evicted"):
            alter(folder, INSERT, key, 1, BODY_ROW, name, f"4 {CHECKSUM}")
        assert store.bodies.open("read") is None
        assert not store.bodies.contains("replaced")
        keep(store, "replaced", b"data")
        store.bodies.discard("discarded")
        keep(store, "big", b"0123456789")
        assert set(look(folder).rows) == {"big"}
    assert outside.read_bytes() == b"data"


def test_a_link_in_place_of_a_body_is_removed_and_what_it_leads_to_is_not(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"data")
    name = "a" * 32
    with Store(folder, MIB) as store:
        (folder / "bodies" / "files" / name).symlink_to(outside)
        alter(folder, INSERT, "k", 1, BODY_ROW, name, f"4 {CHECKSUM}")
        assert store.bodies.open("k") is None
        assert not (folder / "bodies" / "files" / name).is_symlink()
    assert outside.read_bytes() == b"data"


@pytest.mark.parametrize(
    "value",
    [None, [], {}, True, object(), (1,), bytearray(b"x"), memoryview(b"x")],
    ids=lambda value: type(value).__name__,
)
def test_the_cache_takes_only_what_it_can_give_back(tmp_path, value):
    with diskcache.Cache(str(tmp_path), disk=Disk) as cache:
        with pytest.raises(TypeError):
            cache.set("k", value)
        with pytest.raises(TypeError):
            cache.set(value, "v")
        with pytest.raises(TypeError):
            cache.set("k", value, read=True)
        assert list(cache) == []


@pytest.mark.parametrize("key", [1, 1.5, b"k"])
def test_a_key_is_text(tmp_path, key):
    with diskcache.Cache(str(tmp_path), disk=Disk) as cache, pytest.raises(TypeError):
        cache.get(key)


def test_a_listing_is_bytes(store):
    with pytest.raises(TypeError):
        store.listings.put("k", "text")


@given(st.one_of(st.binary(), st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)))
def test_what_the_cache_takes_it_gives_back(value):
    disk = Disk("unused")
    _size, mode, filename, column = disk.store(value, read=False)
    assert disk.fetch(mode, filename, column, read=False) == value


@given(
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    st.integers(0, 2**62),
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
)
def test_a_body_row_says_what_was_stored(name, size, checksum):
    disk = Disk("unused")
    body = StoredBody(name, size, checksum)
    stored_size, mode, filename, column = disk.store(body, read=False)
    assert stored_size == size
    assert disk.fetch(mode, filename, column, read=True) == body


columns = st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary())


@given(st.one_of(st.integers(-1, 100), columns), columns, columns)
def test_any_other_row_is_damaged_or_plain_data(mode, filename, value):
    try:
        fetched = Disk("unused").fetch(mode, filename, value, read=False)
    except DamagedRowError:
        return
    assert fetched is value
    assert filename is None
    assert type(fetched) in {bytes, str, int, float}
