"""The disk: what was fetched once and can be shown again. Knows files and SQLite, nothing of HTTP or DICOM.

Everything here is synchronous and may block: call it from worker threads. Everything may be called from several
threads and processes at once. Nothing here is a reason for a mount to fail: what the disk cannot give is not there,
what it cannot take is not kept, and only a body that has no room to arrive is an error.
"""

from kheopsfs.store.bodies import Bodies
from kheopsfs.store.body import Body, Incoming
from kheopsfs.store.ledger import Ledger
from kheopsfs.store.listings import Listings, StoredListing
from kheopsfs.store.store import CacheInUseError, Contents, Store, contents, purge

__all__ = [
    "Bodies",
    "Body",
    "CacheInUseError",
    "Contents",
    "Incoming",
    "Ledger",
    "Listings",
    "Store",
    "StoredListing",
    "contents",
    "purge",
]
