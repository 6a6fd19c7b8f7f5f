"""What the server listed, and when: kept so that a mount can show it before the server answers, or when it cannot.

A listing is an opaque payload under a key. It is stored compressed, in front of it the time it was put and a checksum
over everything including its key; what does not agree with its checksum is not there. All listings together have a
limit of their own, so that bodies never push them out.
"""

import logging
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import xxhash

from kheopsfs.store.rows import Rows

log = logging.getLogger(__name__)

SIZE_LIMIT = 256 * 2**20
"""Bytes, compressed. 10 000 studies are about 12 MB as DICOM JSON, and 1 MB here."""

PAYLOAD_LIMIT = 2**30
"""Bytes of one listing before it is compressed; twice what the longest list takes that is collected."""

_LEVEL = 1
"""zlib's fastest."""

_HEADER = struct.Struct("<16sd")
"""Checksum (XXH3, 128 bits), time of `put` in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class StoredListing:
    """A listing as it was put.

    Attributes:
        payload: its bytes.
        fetched_at: when, in seconds since 1970 (UTC).
    """

    payload: bytes
    fetched_at: float


class Listings:
    """Listings by key, in `folder`, shared by threads and processes.

    Raises:
        CacheUnusableError: the database can be neither opened nor made.
    """

    def __init__(self, folder: Path) -> None:
        self._rows = Rows(folder, SIZE_LIMIT)

    def get(self, key: str) -> StoredListing | None:
        """The listing under `key`, or None when it is not there, or was damaged."""
        value = self._rows.get(key)
        if value is None:
            return None
        listing = _unpacked(key, value) if isinstance(value, bytes) else None
        if listing is None:
            log.warning("%s: the listing in the cache is damaged; it is fetched again", key)
            self._rows.drop(key, only=value)
        return listing

    def put(self, key: str, payload: bytes) -> None:
        """Keep `payload` under `key` as of now, if the disk can.

        Raises:
            TypeError: it is not bytes.
        """
        if type(payload) is not bytes:
            raise TypeError(f"a listing is bytes, not {type(payload).__name__}")
        self._rows.put(key, _packed(key, StoredListing(payload, time.time())))
        self._rows.evict()

    def discard(self, key: str) -> None:
        """Keep nothing under `key`."""
        self._rows.drop(key)

    def close(self) -> None:
        """Let go of the database."""
        self._rows.close()


def _packed(key: str, listing: StoredListing) -> bytes:
    compressed = zlib.compress(listing.payload, _LEVEL)
    return _HEADER.pack(_checksum(key, listing.fetched_at, compressed), listing.fetched_at) + compressed


def _unpacked(key: str, value: bytes) -> StoredListing | None:
    if len(value) < _HEADER.size:
        return None
    checksum, fetched_at = _HEADER.unpack_from(value)
    compressed = value[_HEADER.size :]
    if checksum != _checksum(key, fetched_at, compressed):
        return None
    # The checksum is no signature: whoever can write the row can make one, and a bomb besides.
    decoder = zlib.decompressobj()
    try:
        payload = decoder.decompress(compressed, PAYLOAD_LIMIT)
    except zlib.error:
        return None
    return StoredListing(payload, fetched_at) if decoder.eof and not decoder.unused_data else None


def _checksum(key: str, fetched_at: float, compressed: bytes) -> bytes:
    digest = xxhash.xxh3_128(key.encode())
    digest.update(struct.pack("<d", fetched_at))
    digest.update(compressed)
    return digest.digest()
