"""The albums of a token (the Kheops contract, "Albums").

A user token has a list of them; an album token has its one album, whose number introspection told. Albums are plain
JSON: members of an album become text under Kheops's own names, truth as ``true`` and ``false``, several modalities
joined by backslashes. Members that are null or of an unknown shape are left out. An album without a proper id is left
out as a whole: the id becomes part of URLs and file names.
"""

import logging
from typing import Any

from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops.answers import parse_json
from kheopsfs.kheops.client import JSON, Client
from kheopsfs.kheops.dicomjson import joined, scalar
from kheopsfs.kheops.pages import PAGE_SIZE, Page, all_pages
from kheopsfs.kheops.records import Album
from kheopsfs.kheops.tokens import ALBUM_ID, TokenInfo

logger = logging.getLogger("kheopsfs.kheops")


async def albums(client: Client, info: TokenInfo) -> list[Album]:
    """The albums of the token, newest first.

    Raises:
        KheopsfsError: any of those that `Client.stream` raises.
    """
    if info.kind == "album":
        answer = await client.get(f"/albums/{info.album_id}", parse=parse_json, accept=JSON)
        return _albums([answer.document])

    async def page(offset: int) -> Page[Album]:
        answer = await client.get("/albums", {"limit": PAGE_SIZE, "offset": offset}, parse=_list, accept=JSON)
        rows = answer.document or []
        return Page(_albums(rows), len(rows), answer.total_count)

    return await all_pages(page, lambda album: album.album_id)


def _list(content: bytes) -> list[Any]:
    document = parse_json(content)
    if not isinstance(document, list):
        raise BadAnswerError("The answer is not a list.")
    return document


def _albums(rows: list[Any]) -> list[Album]:
    made = [_album(row) for row in rows]
    usable = [album for album in made if album is not None]
    if len(usable) < len(made):
        logger.warning("%d of %d albums have no usable id and are left out", len(made) - len(usable), len(made))
    return usable


def _album(row: Any) -> Album | None:
    if not isinstance(row, dict):
        return None
    album_id = row.get("album_id")
    if not isinstance(album_id, str) or not ALBUM_ID.fullmatch(album_id):
        return None
    members = {scalar(name): _text(value) for name, value in row.items() if name != "album_id"}
    return Album.pack({name: text for name, text in members.items() if text}, album_id=album_id)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return joined(value) if isinstance(value, list) else scalar(value)
