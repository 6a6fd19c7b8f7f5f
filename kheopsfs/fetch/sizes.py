"""How big a file is before anybody has seen it whole: an upper bound, never less than the truth.

Kheops tells no size in advance, and tools lose data without a word when a size errs downwards (measured over 108
commands; an estimate that errs upwards is printed or refused loudly at the worst). The bound of an instance is the
larger of the server's own hint and of what its pixels can take uncompressed, plus room for the header; where nothing
is known, a flat guess.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping

import trio

from kheopsfs.kheops.contents import Content, InstanceFile, StudyZip
from kheopsfs.store import Store

HEADER_ROOM = 256 * 1024  # bytes for all that is not pixels
ZIPPED_INSTANCE = 64 * 1024 * 1024  # bytes: in a zip instances are decompressed, and the study list says only how many
LEAST_ZIP_BOUND = 4 * 1024**3  # bytes: a study of one instance may be one multi-frame object of gigabytes
UNKNOWN_SIZE = 8 * 1024 * 1024  # bytes, for an object of which the lists say nothing
THUMBNAIL_ROOM = 256 * 1024  # bytes; 250 × 250 RGB pixels are 187 500 before compression
MOST_SAMPLES = 4  # samples per pixel; the lists do not tell, CMYK had four
LARGEST_BOUND = 64 * 1024**3  # bytes; `rsync -c` reads up to the bound, so it must not be absurd whatever a list says
CEILING_FACTOR = 16  # of a bound, beyond which a body is no surprise any more but one that does not end
GROUPS_AT_HAND = 1000  # series whose sizes are in memory; about 50 MB if each had 500 instances
STORAGE_OBJECT_SIZE = "77771053"  # dcm4chee's size as stored; a 32-bit number that wraps above 4 GiB


def bound(content: Content) -> int:
    """An upper bound in bytes for content that has not been fetched."""
    match content:
        case InstanceFile(instance):
            return _instance_bound(instance.attributes())
        case StudyZip(study=study):
            instances = _number(study.attributes().get("NumberOfStudyRelatedInstances", ""))
            return min(max(instances * ZIPPED_INSTANCE, LEAST_ZIP_BOUND), LARGEST_BOUND)
        case _:
            return THUMBNAIL_ROOM


def ceiling(content: Content, cache_size: int) -> int:
    """Bytes after which a body that is arriving is given up: no server may fill the disk with one that does not end.

    The bound cannot be that limit, for it may be a guess. A body may always take what the whole cache may
    (`cache_size`, in bytes), and more only if the lists announced something large.
    """
    return max(cache_size, bound(content) * (1 if isinstance(content, StudyZip) else CEILING_FACTOR))


def _instance_bound(listed: dict[str, str]) -> int:
    hint = _number(listed.get(STORAGE_OBJECT_SIZE, ""))
    rows, columns = _number(listed.get("Rows", "")), _number(listed.get("Columns", ""))
    frames = _number(listed.get("NumberOfFrames", "")) or 1
    # Float pixels have no BitsAllocated in the lists; eight bytes are the most a sample can take (PS3.3 C.7.6.3).
    sample_bytes = -(-_number(listed.get("BitsAllocated", "")) // 8) or 8
    pixels = rows * columns * frames * MOST_SAMPLES * sample_bytes
    if not hint and not pixels:
        return UNKNOWN_SIZE
    return min(max(hint, pixels) + HEADER_ROOM, LARGEST_BOUND)


def _number(text: str) -> int:
    """A count from a list; 0 when it is missing or absurd."""
    try:
        return max(0, int(float(text)))
    except (ValueError, OverflowError):
        return 0


class Sizes:
    """The sizes that are settled: seen whole once, and exact for ever.

    An instance's size outlives the eviction of its body, because the server delivers the same bytes again; thumbnails
    and zips are made anew each time, so theirs counts only as long as the body is kept.

    Sizes go by cache key; what is listed together (all up to the last slash of the key) is loaded together.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: OrderedDict[str, dict[str, int]] = OrderedDict()

    def settled(self, key: str) -> int | None:
        """The exact size in bytes if it is known and at hand; `load` first to be sure."""
        group, name = key.rsplit("/", 1)
        return self._groups.get(group, {}).get(name)

    async def load(self, keys: Iterable[str]) -> None:
        """Have the settled sizes of these at hand, and of all that is listed with them."""
        for group in {key.rsplit("/", 1)[0] for key in keys}:
            if group in self._groups:
                self._groups.move_to_end(group)
            else:
                read = await trio.to_thread.run_sync(self._read, group)
                self._groups[group] = read | self._groups.get(group, {})
        while len(self._groups) > GROUPS_AT_HAND:
            self._groups.popitem(last=False)

    def learn(self, key: str, size: int) -> None:
        """A body was seen whole. The ledger on disk is `record`'s business."""
        group, name = key.rsplit("/", 1)
        if group in self._groups:
            self._groups[group][name] = size

    def record(self, sizes: Mapping[str, int]) -> None:
        """Write settled sizes down for good. Blocks: for worker threads."""
        groups: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for key, size in sizes.items():
            group, name = key.rsplit("/", 1)
            groups[group][name] = size
        for group, named in groups.items():
            self._store.ledger.record_many(group, named)

    def _read(self, group: str) -> dict[str, int]:
        sizes = self._store.ledger.sizes(group)
        if "/instance/" in group:
            return sizes
        return {name: size for name, size in sizes.items() if self._store.bodies.contains(f"{group}/{name}")}
