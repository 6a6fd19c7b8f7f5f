"""What a mount must show, worked out from what the server says it holds and from nothing of kheopsfs.

A `World` is the truth of one moment: which series are in which source, which instances are in which series, and what
their bytes are. Nothing here knows a file name: what a mount shows is compared by the UIDs in its extended attributes.

A `History` is the truth over time. A list that is kept for `ttl` seconds may show the truth of any moment in them; so
what a mount showed must have been true at some moment since then, and what is true now must be shown soon (S5).
"""

import os
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from harness.looking import xattr
from harness.server import DemoServer

ALL = "studies"
"""The source that is everything the token sees; the others are named by a user's sub or an album's id."""

T = TypeVar("T", bound=Hashable)
Names = frozenset[str]


@dataclass(frozen=True)
class World:
    """The truth of one moment, for a user token."""

    sources: Mapping[str, Mapping[str, Names]]
    """Source → StudyInstanceUID → SeriesInstanceUIDs."""
    instances: Mapping[str, tuple[str, ...]]
    """SeriesInstanceUID → SOPInstanceUIDs."""
    sha256: Mapping[str, str]
    """SOPInstanceUID → checksum of the delivered bytes."""
    albums: Mapping[str, str]
    """Album id → name."""

    @classmethod
    def of(cls, server: DemoServer, token: str, sub: str) -> "World":
        """Ask the server's control interface, and its own list of albums."""
        library = server.call("GET", "/library", params={"sha256": "1"})
        answer = httpx.get(f"{server.url.rstrip('/')}/api/albums", headers={"Authorization": f"Bearer {token}"})
        albums = {album["album_id"]: album["name"] for album in answer.raise_for_status().json()}
        sources: dict[str, dict[str, Names]] = {ALL: {}, sub: {}} | {album_id: {} for album_id in albums}
        instances, sha256 = {}, {}
        for study in library:
            uid = study["StudyInstanceUID"]
            for series in study["series"]:
                instances[series["SeriesInstanceUID"]] = tuple(one["SOPInstanceUID"] for one in series["instances"])
                sha256 |= {one["SOPInstanceUID"]: one["sha256"] for one in series["instances"]}
                holders = sources.keys() & set(series["sources"])
                for source in holders | ({ALL} if holders else set()):
                    sources[source][uid] = sources[source].get(uid, frozenset()) | {series["SeriesInstanceUID"]}
        return cls(sources, instances, sha256, albums)

    def studies(self, source: str) -> Names:
        """The studies in a source; none if there is no such source."""
        return frozenset(self.sources.get(source, ()))

    def series(self, source: str, StudyInstanceUID: str) -> Names:
        """The series of a study that are in a source."""
        return self.sources.get(source, {}).get(StudyInstanceUID, frozenset())

    def content(self, SeriesInstanceUID: str) -> Names:
        """The instances of a series."""
        return frozenset(self.instances.get(SeriesInstanceUID, ()))

    def counts(self, source: str, StudyInstanceUID: str) -> tuple[int, ...]:
        """How many instances each series of a study has that is in a source."""
        return tuple(len(self.content(one)) for one in self.series(source, StudyInstanceUID))

    def places(self) -> list[tuple[str, str, str, str]]:
        """Every instance wherever it is shown: source, study, series, instance; in an order that does not depend on
        UIDs, so that a number stands for the same place each time.
        """
        return [
            (source, study, series, instance)
            for source, studies in self.sources.items()
            for study, shown in studies.items()
            for series in self.instances
            if series in shown
            for instance in self.instances[series]
        ]


class History:
    """The worlds there were, and when."""

    def __init__(self, first: World) -> None:
        self._worlds = [(time.monotonic(), first)]

    @property
    def now(self) -> World:
        return self._worlds[-1][1]

    def change(self, make: Callable[[], World]) -> None:
        """Note a change: from here on the old world or the new one may be seen, and after it the new one alone."""
        self._worlds.append((time.monotonic(), self.now))
        self._worlds.append((time.monotonic(), make()))

    def since(self, moment: float, view: Callable[[World], T]) -> set[T]:
        """What `view` could see at some time since a moment of the monotonic clock."""
        ends = [begun for begun, _ in self._worlds[1:]] + [float("inf")]
        return {view(world) for (_, world), end in zip(self._worlds, ends, strict=True) if end >= moment}


def shown(folder: Path, level: str) -> dict[str, Path]:
    """The entries of a folder of a mount by the UID that they have at a level (Study, Series, SOP)."""
    return {xattr(folder / name, f"dicom.{level}InstanceUID"): folder / name for name in os.listdir(folder)}


def shown_albums(folder: Path) -> dict[str, Path]:
    """The albums in a mount by their id."""
    return {name.rpartition("_")[2]: folder / name for name in os.listdir(folder)}
