"""Who downloads what, and when: listings, retrievals in flight, priorities, sizes. Knows nothing of FUSE.

The mount asks one object, the `Library`; everything else here is its parts.
"""

from kheopsfs.fetch.arriving import ArrivingBody
from kheopsfs.fetch.library import Library

__all__ = ["ArrivingBody", "Library"]
