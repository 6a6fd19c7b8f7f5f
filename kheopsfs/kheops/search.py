"""The lists that the server can give, by the query that names them.

Each level of Kheops has its own ways (the Kheops contract, "Study search" and what follows). Studies come from Kheops's
own database: exact paging, a total, a source. Series come from the PACS and are filtered by source; the server sorts
after paging, so they are asked for whole. Albums and instances have modules of their own.
"""

from kheopsfs.errors import PermissionMissingError
from kheopsfs.kheops import dicomjson
from kheopsfs.kheops.albums import albums
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.exchange import Params
from kheopsfs.kheops.instances import instances
from kheopsfs.kheops.pages import PAGE_SIZE, Page, all_pages
from kheopsfs.kheops.records import (
    AlbumsQuery,
    InstancesQuery,
    Query,
    Record,
    Series,
    SeriesQuery,
    Source,
    StudiesQuery,
    Study,
)
from kheopsfs.kheops.tokens import TokenInfo


async def listing(client: Client, info: TokenInfo, query: Query) -> list[Record]:
    """The list that a query names, as records of its kind.

    Raises:
        PermissionMissingError: the inbox, for an album token.
        NotFoundError: what is listed does not exist, or is not shown to the token.
        KheopsfsError: any of those that `Client.stream` raises.
    """
    if isinstance(query, AlbumsQuery):
        return [*await albums(client, info)]
    if isinstance(query, InstancesQuery):
        return [*await instances(client, query)]
    if isinstance(query, StudiesQuery):
        return [*await studies(client, info, query.source)]
    return [*await series(client, info, query)]


async def studies(client: Client, info: TokenInfo, source: Source) -> list[Study]:
    """The studies of a source, latest first."""
    narrowing = _narrowing(info, source)

    async def page(offset: int) -> Page[Study]:
        params: Params = {"limit": PAGE_SIZE, "offset": offset, "includefield": "StudyDescription", **narrowing}
        answer = await client.get("/studies", params, parse=dicomjson.parse)
        rows = answer.document or []
        return Page(dicomjson.demand_usable(rows, dicomjson.studies(rows)), len(rows), answer.total_count)

    return await all_pages(page, lambda study: study.StudyInstanceUID)


async def series(client: Client, info: TokenInfo, query: SeriesQuery) -> list[Series]:
    """The series of a study that are in a source, each once."""
    path = f"/studies/{query.StudyInstanceUID}/series"
    answer = await client.get(path, _narrowing(info, query.source), parse=dicomjson.parse)
    rows = answer.document or []
    found = dicomjson.demand_usable(rows, dicomjson.series(rows, query.StudyInstanceUID))
    return list({each.SeriesInstanceUID: each for each in found}.values())


def _narrowing(info: TokenInfo, source: Source) -> dict[str, str]:
    """The parameters that choose a source. The mere presence of ``inbox`` chooses the inbox, whatever its value."""
    if source.kind == "inbox":
        if info.kind == "album":
            raise PermissionMissingError("An album token shows its album only; it has no inbox.")
        return {"inbox": "true"}
    return {"album": source.album_id} if source.kind == "album" else {}
