"""What the server makes anew each time it is asked: thumbnails and zips.

No boundary proves these whole, so their structure must (the Kheops contract, "Truncation can look complete"): a JPEG
ends with EOI; a zip ends with DICOMDIR, which names no other series than the source's list, and holds as many instances
as that list says. Until that is checked, nothing is shown and nothing is kept.

A zip that is kept is still the study's only while the source's series list says what it said when the zip was made; the
study list's counts do not tell, for one series may have taken the place of another. The server ignores `album` and
`inbox` for zips. With a user token, a zip inside an album or the inbox is therefore
asked for with a viewer token that sees just that source of that study.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from statistics import median_low
from typing import BinaryIO, TypeVar

import trio

from kheopsfs.errors import BadAnswerError, NotFoundError, ServerFaultError, ServerUnreachableError, StalledError
from kheopsfs.fetch.catalogue import Catalogue, Listing
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.joined import Joined
from kheopsfs.fetch.line import Priority
from kheopsfs.fetch.sizes import ceiling
from kheopsfs.fetch.spool import Intake
from kheopsfs.kheops.completeness import check_zip, check_zip_origin
from kheopsfs.kheops.contents import Content, InstanceThumbnail, SeriesThumbnail, StudyZip
from kheopsfs.kheops.records import Instance, InstancesQuery, Record, Series, SeriesQuery
from kheopsfs.kheops.retrieve import jpeg, study_zip, zip_token_needed
from kheopsfs.store import Body

log = logging.getLogger(__name__)

ATTEMPTS = 3  # an answer that was cut is asked for again; a third failure is the server's, not the line's

Result = TypeVar("Result")
Rendition = InstanceThumbnail | SeriesThumbnail | StudyZip


class Renditions:
    """Thumbnails and zips of everything the token sees."""

    def __init__(
        self,
        gate: Gate,
        intake: Intake,
        catalogue: Catalogue,
        *,
        key: Callable[[Content], str],
    ) -> None:
        self._gate = gate
        self._intake = intake
        self._catalogue = catalogue
        self._key = key
        self._flights: Joined[str, Body] = Joined(intake.nursery, take=Body.dup, dispose=Body.close)

    async def open(self, rendition: Rendition) -> Body:
        """The whole rendition, kept or made now.

        Raises:
            NotFoundError: also when the PACS cannot render the object (406).
            TokenRefusedError, PermissionMissingError, ServerUnreachableError, ServerFaultError, StalledError,
            BadAnswerError, DiskFullError.
        """
        key = self._key(rendition)
        body = None
        if not isinstance(rendition, StudyZip) or await self._is_current(rendition, key):
            body = await trio.to_thread.run_sync(self._intake.store.bodies.open, key)
        return body if body is not None else await self._flights.get(key, lambda: self._make(rendition, key))

    async def _is_current(self, rendition: StudyZip, key: str) -> bool:
        """Whether a zip that is kept holds what the source shows of the study, as far as that can be known now."""
        made_of = await trio.to_thread.run_sync(self._intake.store.listings.get, _made_of(key))
        if made_of is None:
            return False
        try:
            listing = await self._catalogue.listing(SeriesQuery(rendition.source, rendition.study.StudyInstanceUID))
        except (ServerUnreachableError, ServerFaultError, StalledError):
            return True
        return made_of.payload == _contents(listing)

    async def _make(self, rendition: Rendition, key: str) -> Body:
        match rendition:
            case StudyZip():
                return await _insist(lambda: self._zip(rendition, key))
            case InstanceThumbnail(instance):
                data = await _insist(lambda: self._jpeg(instance, instance.SOPInstanceUID))
            case SeriesThumbnail(series):
                data = await self._series_jpeg(series)
        bodies: list[Body] = []
        async with self._intake.spooling(lambda _key, body: bodies.append(body)) as spool:
            spool.begin(len(data))
            await spool.write(data)
            spool.commit(key)
        return bodies[0]

    async def _jpeg(self, of: Series | Instance, SOPInstanceUID: str | None) -> bytes:
        async with self._gate.request(Priority.DEMANDED, of.SeriesInstanceUID) as client:
            return await jpeg(client, of.StudyInstanceUID, of.SeriesInstanceUID, SOPInstanceUID)

    async def _series_jpeg(self, series: Series) -> bytes:
        """The PACS picks an instance itself, from an unordered list and perhaps one it cannot render; then we pick."""
        try:
            return await _insist(lambda: self._jpeg(series, None))
        except (NotFoundError, BadAnswerError, ServerFaultError):
            query = InstancesQuery(series.StudyInstanceUID, series.SeriesInstanceUID)
            listing = await self._catalogue.listing(query)
            instances = [row for row in listing.rows if isinstance(row, Instance)]
            if not instances:
                raise
            middle = median_low((_number(instance), instance.SOPInstanceUID) for instance in instances)
            return await _insist(lambda: self._jpeg(series, middle[1]))

    async def _zip(self, rendition: StudyZip, key: str) -> Body:
        StudyInstanceUID = rendition.study.StudyInstanceUID
        listing = await self._catalogue.refresh(SeriesQuery(rendition.source, StudyInstanceUID))
        counts = [_whole(_count(row)) for row in listing.rows]
        expected = None if None in counts else sum(filter(None, counts))
        series = {row.SeriesInstanceUID for row in listing.rows if isinstance(row, Series)}

        def check(file: BinaryIO) -> None:
            check_zip(file, expected)
            check_zip_origin(file, StudyInstanceUID, series)

        bodies: list[Body] = []
        async with (
            self._intake.spooling(lambda _key, body: bodies.append(body)) as spool,
            self._gate.request(Priority.DEMANDED) as client,
        ):
            token = None
            if zip_token_needed(self._gate.info, rendition.source):
                token = await client.viewer_token(StudyInstanceUID, rendition.source)
            spool.begin(ceiling(rendition, self._intake.store.size_limit))
            async with study_zip(client, StudyInstanceUID, token) as pieces:
                async for piece in pieces:
                    await spool.write(piece)
            spool.commit(key, check)
        await trio.to_thread.run_sync(self._intake.store.listings.put, _made_of(key), _contents(listing))
        return bodies[0]


async def _insist(work: Callable[[], Awaitable[Result]]) -> Result:
    """Ask again when the answer was bad."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await work()
        except BadAnswerError as error:
            log.warning("%s; trying again", error)
    return await work()


def _count(series: Record) -> str:
    return series.attributes().get("NumberOfSeriesRelatedInstances", "")


def _made_of(key: str) -> str:
    """Where is kept what the zip of `key` was made of."""
    return f"{key}/series"


def _contents(listing: Listing) -> bytes:
    """What a zip made of these series holds: each series and how many instances, in any order."""
    return "\n".join(
        sorted(f"{row.SeriesInstanceUID} {_count(row)}" for row in listing.rows if isinstance(row, Series))
    ).encode()


def _number(instance: Instance) -> int:
    return _whole(instance.attributes().get("InstanceNumber", "")) or 0


def _whole(text: str) -> int | None:
    """An integer string (PS3.5 6.2) from a list; None when it is none."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,12}", text) else None
