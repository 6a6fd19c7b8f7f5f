"""Who downloads what, and when: listings, retrievals in flight, priorities, sizes. Knows nothing of FUSE.

The mount makes a `Gate` to the server (an `OfflineGate` if it never wants to reach it) and asks one object, the
`Library`; everything else here is its parts.
"""

from kheopsfs.fetch.arriving import ArrivingBody
from kheopsfs.fetch.gate import Gate, OfflineGate
from kheopsfs.fetch.library import Library

__all__ = ["ArrivingBody", "Gate", "Library", "OfflineGate"]
