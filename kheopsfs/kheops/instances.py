"""The instances of a series, all of them (the Kheops contract, "Instance search").

The list comes from the PACS as it is: a source would be an error there, no total is given, dcm4chee stops at 1 000 rows
without a word and fails on a page past the end. So pages are asked for in a fixed order, and the number of instances
that the series list gave is what the result is held against. If rows are missing the metadata, which nothing caps, fill
the gap.

Order and size hints are extensions of dcm4chee. A PACS that refuses them is asked again without, which is why the
requests below go from the most to the least that one can wish for.
"""

import logging

from kheopsfs.errors import BadAnswerError, NotFoundError, PermissionMissingError, ServerFaultError, StalledError
from kheopsfs.kheops import dicomjson
from kheopsfs.kheops.client import DICOM_JSON, Client
from kheopsfs.kheops.failures import ATTEMPTS
from kheopsfs.kheops.metadata import RowSplitter
from kheopsfs.kheops.pages import PAGE_SIZE, ListLimits, Page
from kheopsfs.kheops.records import Instance, InstancesQuery

logger = logging.getLogger("kheopsfs.kheops")

# Of PS3.3 C.7.3.1.1.1, the modalities whose objects are images: Rows, Columns and NumberOfFrames bound their size well
# enough. All others ask the PACS for the size it stored, at the price of one more database query per instance. SEG and
# RTDOSE are among those others: with one bit or four bytes per sample Rows × Columns is a poor bound, and a series of
# them is short.
_IMAGE_MODALITIES = frozenset(
    """
    BMD CFM CR CT DG DMS DX ES GM HC IO IVOCT IVUS LS MG MR NM OCT OP OPM OPT OPTBSV OPTENF PA PT PX RF RG RTIMAGE SM TG
    US XA XC
    """.split()  # noqa: SIM905
)

# What is kept of an instance, whichever way it was listed: what names it, dates it and bounds its size.
_ATTRIBUTES = frozenset(
    {
        "SOPClassUID",
        "InstanceNumber",
        "InstanceCreationDate",
        "InstanceCreationTime",
        "ContentDate",
        "ContentTime",
        "AcquisitionDate",
        "AcquisitionTime",
        "TimezoneOffsetFromUTC",
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
        "BitsAllocated",
        "AvailableTransferSyntaxUID",
        "77771040",  # dcm4chee: when it received the instance
        "77771052",  # dcm4chee: the transfer syntax it stored
        "77771053",  # dcm4chee: StorageObjectSize, the bytes it stored
    }
)

# Requests that may well fail for a reason that will not pass are tried twice, not four times.
_DOUBTFUL_ATTEMPTS = 2


async def instances(client: Client, query: InstancesQuery) -> list[Instance]:
    """The instances of a series, ordered by SOPInstanceUID if the PACS can do that.

    Raises:
        NotFoundError: the series does not exist or is not shown to the token.
        KheopsfsError: any of those that `Client.stream` raises.
    """
    if query.expected == 0:
        return []  # the series list counts live; the search of a series without instances ends in a 500
    found = await _search(client, query)
    if query.expected is not None and len(found) < query.expected:
        logger.debug("series %s: %d of %d listed", query.SeriesInstanceUID, len(found), query.expected)
        try:
            listed = await _metadata(client, query)
        except (BadAnswerError, NotFoundError, PermissionMissingError, ServerFaultError, StalledError) as error:
            logger.warning("Only %d of %d instances could be listed: %s", len(found), query.expected, error)
        else:
            # The search knows sizes, so its rows stay.
            found = {instance.SOPInstanceUID: instance for instance in listed} | found
    return list(found.values())


async def _search(client: Client, query: InstancesQuery) -> dict[str, Instance]:
    """What the search gives, page after page."""
    limits = ListLimits()
    wishes = _wishes(query.Modality)
    page, extras = await _first_page(client, query, wishes)
    found = {instance.SOPInstanceUID: instance for instance in page.records}
    rows = page.rows
    while page.rows >= PAGE_SIZE and not (query.expected is not None and query.expected <= rows):
        try:
            page = await _page(client, query, rows, extras, _DOUBTFUL_ATTEMPTS)
        except ServerFaultError as error:
            logger.debug("taken for the end of the list: %s", error)
            break
        limits.take(page.rows, page.records)
        before = len(found)
        found |= {instance.SOPInstanceUID: instance for instance in page.records}
        rows += page.rows
        if len(found) == before:
            # The PACS does not know offsets, and gives the same page again.
            break
    return found


def _wishes(Modality: str) -> list[dict[str, str]]:
    """Parameters to try, the fewest last. Unique keys make a stable order, which paging needs."""
    order = {"orderby": "SOPInstanceUID"}
    if Modality in _IMAGE_MODALITIES:
        return [order, {}]
    return [order | {"includefield": "all"}, order, {}]


async def _first_page(
    client: Client, query: InstancesQuery, wishes: list[dict[str, str]]
) -> tuple[Page[Instance], dict[str, str]]:
    """The first page, and the parameters with which it was granted."""
    *doubtful, plain = wishes
    for extras in doubtful:
        try:
            return await _page(client, query, 0, extras, _DOUBTFUL_ATTEMPTS), extras
        except (BadAnswerError, ServerFaultError) as error:
            if error.status is None:
                raise
            logger.debug("asked again with fewer parameters: %s", error)
    return await _page(client, query, 0, plain, ATTEMPTS), plain


async def _page(
    client: Client, query: InstancesQuery, offset: int, extras: dict[str, str], attempts: int
) -> Page[Instance]:
    answer = await client.get(
        f"{_path(query)}/instances",
        {"limit": PAGE_SIZE, "offset": offset, **extras},
        parse=dicomjson.parse,
        unseen=NotFoundError,
        attempts=attempts,
    )
    rows = answer.document or []
    return Page(dicomjson.demand_usable(rows, _records(query, rows)), len(rows), None)


async def _metadata(client: Client, query: InstancesQuery) -> list[Instance]:
    """What the metadata give, slimmed while they arrive."""
    limits = ListLimits()
    splitter = RowSplitter()
    found: list[Instance] = []
    async with client.stream(f"{_path(query)}/metadata", accept=DICOM_JSON, compressed=True) as body:
        async for piece in body:
            if rows := splitter.feed(piece):
                records = _records(query, rows)
                limits.take(len(rows), records)
                found += records
    return found + _records(query, splitter.close())


def _path(query: InstancesQuery) -> str:
    return f"/studies/{query.StudyInstanceUID}/series/{query.SeriesInstanceUID}"


def _records(query: InstancesQuery, rows: list[dicomjson.Row]) -> list[Instance]:
    return dicomjson.instances(rows, query.StudyInstanceUID, query.SeriesInstanceUID, _ATTRIBUTES)
