"""Listings: as they were put, with the time, or not there."""

import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_helpers import MIB, alter, noise, warnings

from kheopsfs.store import Store, StoredListing, listings
from kheopsfs.store.listings import _packed, _unpacked


def test_a_listing_is_kept_with_its_time(folder):
    before = time.time()
    with Store(folder, MIB) as store:
        assert store.listings.get("studies") is None
        store.listings.put("studies", b"old")
        store.listings.put("studies", b"payload" * 10_000)
    after = time.time()
    with Store(folder, MIB) as store:
        listing = store.listings.get("studies")
        assert listing.payload == b"payload" * 10_000
        assert before <= listing.fetched_at <= after
        store.listings.discard("studies")
        store.listings.discard("studies")
        assert store.listings.get("studies") is None


def test_a_listing_of_many_megabytes(store):
    payload = noise(1_000) * 12_000
    store.listings.put("studies", payload)
    assert store.listings.get("studies").payload == payload


def test_listings_have_a_limit_of_their_own(folder, monkeypatch):
    monkeypatch.setattr("kheopsfs.store.listings.SIZE_LIMIT", 5_000)
    with Store(folder, 0) as store:
        for number in range(10):
            store.listings.put(str(number), noise(1_000, seed=number))
        assert store.listings.get("9").payload == noise(1_000, seed=9)
        assert store.listings.get("6").payload == noise(1_000, seed=6)
        assert store.listings.get("0") is None


@pytest.mark.parametrize("value", [b"", b"short", b"x" * 100, "text", 1, 1.5])
def test_a_damaged_listing_is_dropped_with_one_line(store, folder, caplog, value):
    store.listings.put("k", b"payload")
    store.listings.put("sound", b"sound")
    alter(folder, "UPDATE Cache SET value = ? WHERE key = 'k'", value, database="listings/cache.db")
    assert store.listings.get("k") is None
    assert store.listings.get("k") is None
    assert [line.split(":")[0] for line in warnings(caplog)] == ["k"]
    assert store.listings.get("sound").payload == b"sound"


def test_a_listing_under_another_key_is_damaged(store, folder):
    store.listings.put("k", b"payload")
    alter(folder, "UPDATE Cache SET key = 'other' WHERE key = 'k'", database="listings/cache.db")
    assert store.listings.get("other") is None


@given(st.text(st.characters(blacklist_categories=["Cs"])), st.binary(), st.floats(0, 2**40))
def test_what_is_packed_is_unpacked(key, payload, fetched_at):
    listing = StoredListing(payload, fetched_at)
    assert _unpacked(key, _packed(key, listing)) == listing


@given(st.binary(min_size=1), st.data())
def test_any_flipped_bit_shows(payload, data):
    packed = bytearray(_packed("k", StoredListing(payload, 1.0)))
    position = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[position // 8] ^= 1 << position % 8
    assert _unpacked("k", bytes(packed)) is None


@pytest.mark.parametrize("compressed", [zlib.compress(bytes(5_000_000)), zlib.compress(b"x") + b"more", b"x", b""])
def test_a_planted_listing_does_not_fill_the_memory(store, folder, monkeypatch, compressed):
    """Its checksum is no signature: anyone can make one."""
    monkeypatch.setattr(listings, "PAYLOAD_LIMIT", 1_000_000)
    planted = listings._HEADER.pack(listings._checksum("k", 1.0, compressed), 1.0) + compressed
    store.listings.put("k", b"payload")
    alter(folder, "UPDATE Cache SET value = ? WHERE key = 'k'", planted, database="listings/cache.db")
    assert store.listings.get("k") is None
