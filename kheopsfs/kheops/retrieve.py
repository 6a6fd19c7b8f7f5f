"""Retrieval: one instance, a whole series, a JPEG, a study's zip (WADO-RS, WADO-URI; PS3.18 9 and 10.4).

Bodies are streamed: nothing here grows with the size of a file, and every piece is at most as large as the client
reads from its socket. Each kind of body has its own proof of being whole, because the end of the transport proves
nothing on a Kheops server:

* instances: the multipart delimiters, see `delivery`; judged while they arrive, by the events that `instances` yields;
* JPEG: small, so it is read whole and judged before it is returned;
* zip: judged by `completeness.check_zip` once the caller has it in a file.

`transfer-syntax=*` asks for instances as they are stored; without it the PACS decompresses (the Kheops contract,
"Retrieval"). Nothing is asked for again here, and nothing is kept.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import trio

from kheopsfs.errors import BadAnswerError, StalledError
from kheopsfs.kheops.answers import Body
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.completeness import check_jpeg
from kheopsfs.kheops.credentials import Token
from kheopsfs.kheops.delivery import InstanceBegun, InstanceBytes, InstanceEvent, InstanceProven, InstanceReader
from kheopsfs.kheops.records import Source
from kheopsfs.kheops.tokens import TokenInfo

__all__ = [
    "InstanceBegun",
    "InstanceBytes",
    "InstanceEvent",
    "InstanceProven",
    "instances",
    "jpeg",
    "study_zip",
    "zip_token_needed",
]

_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_JPEG = "image/jpeg"
_ZIP = "application/zip"

# Edge of the square, in pixels, into which the PACS fits a rendered image: what a file manager shows at its largest.
JPEG_EDGE = 250

# Bytes of one JPEG. 250 × 250 pixels take some 20 KB; whatever is larger than this was not rendered as asked.
JPEG_LIMIT = 16 * 1024 * 1024

_PARTIAL_CONTENT = 206

# Seconds that the end of the answer may take after the closing boundary. Reading on to it saves a connection; waiting
# for it keeps somebody from what is already here.
_EPILOGUE_SECONDS = 1.0


@asynccontextmanager
async def instances(
    client: Client, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str | None
) -> AsyncIterator[AsyncIterator[InstanceEvent]]:
    """One instance, or with None all of a series, as they arrive: `InstanceBegun`, `InstanceBytes` …, `InstanceProven`.

    The bytes between `InstanceBegun` and `InstanceProven` are the file. Instances of a series come in any order and
    perhaps more than once. Leaving the context ends the request.

    Raises, on entering or while iterating; what was proven before stays proven:
        BadAnswerError: cut, not well formed, not DICOM, incomplete (206), or another instance than the one asked for.
        NotFoundError: the server does not know it or does not show it to this token.
        KheopsfsError: whatever else `Client.stream` raises.
    """
    path = f"/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}"
    if SOPInstanceUID is not None:
        path += f"/instances/{SOPInstanceUID}"
    async with client.stream(path, accept=_DICOM) as body:
        reader = InstanceReader(body.content_type, SOPInstanceUID, partial=body.status == _PARTIAL_CONTENT)
        async with aclosing(_events(body, reader)) as events:
            yield events


async def jpeg(client: Client, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str | None) -> bytes:
    """The first frame of an instance, or with None an image that stands for the series, as a JPEG of 250 × 250 at most.

    For a series the PACS takes the middle of an unordered list, which may vary and may not be an image.

    Raises:
        NotFoundError: there is none: unknown, not shown to this token, or nothing that can be rendered (406).
        BadAnswerError: cut, or no JPEG.
        KheopsfsError: whatever else `Client.stream` raises.
    """
    params = {
        "requestType": "WADO",
        "studyUID": StudyInstanceUID,
        "seriesUID": SeriesInstanceUID,
        "contentType": _JPEG,
        "rows": str(JPEG_EDGE),
        "columns": str(JPEG_EDGE),
        "frameNumber": "1",  # a multi-frame image is refused without it
    }
    if SOPInstanceUID is not None:
        params["objectUID"] = SOPInstanceUID
    data = bytearray()
    async with client.stream("/wado", params, accept=_JPEG) as body:
        async for piece in body:
            data += piece
            if len(data) > JPEG_LIMIT:
                raise BadAnswerError("The server's JPEG image is far larger than what was asked for.")
    image = bytes(data)
    check_jpeg(image)
    return image


def zip_token_needed(info: TokenInfo, source: Source) -> bool:
    """Whether a source's zip must be asked for with a viewer token (`Client.viewer_token`).

    The server ignores album and inbox for zips: a user token gets every series of the study that it can see anywhere.
    An album token sees its album only.
    """
    return info.kind == "user" and source.kind != "all"


@asynccontextmanager
async def study_zip(client: Client, StudyInstanceUID: str, token: Token | None) -> AsyncIterator[AsyncIterator[bytes]]:
    """The server's own DICOM zip of a study, as it arrives. Not proven: see `completeness.check_zip`.

    Args:
        client: the server.
        StudyInstanceUID: the study.
        token: decides which series are in it, see `zip_token_needed`; None for the client's own.

    Raises, on entering or while iterating:
        ServerFaultError: the server fails, or the token sees nothing of the study (502 means both).
        BadAnswerError: no zip, or cut so that the transport noticed.
        KheopsfsError: whatever else `Client.stream` raises.
    """
    async with client.stream(f"/studies/{StudyInstanceUID}", accept=_ZIP, token=token) as body:
        if body.media_type != _ZIP:
            raise BadAnswerError("The server's answer is not a zip.")
        yield body


async def _events(body: Body, reader: InstanceReader) -> AsyncGenerator[InstanceEvent, None]:
    async for piece in body:
        for event in reader.feed(piece):
            yield event
        if reader.complete:
            break
    reader.close()
    # Behind the closing boundary nothing can spoil the answer any more, not even a connection that breaks.
    with trio.move_on_after(_EPILOGUE_SECONDS), suppress(BadAnswerError, StalledError):
        async for _ in body:
            pass
