"""nginx in front of Kheops: which service gets a request (Kheops's `locations.conf`, as the contract gives it).

The table is read from the top; the first line whose pattern and methods fit decides. Trailing slashes and letter case
matter, as they do there. Link URLs are taken apart before, for nginx sends them through the same table again.
"""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl


class Destination(Enum):
    """Who answers."""

    AUTHORIZATION = "Authorization"
    PROXY = "DICOMwebProxy"
    ZIPPER = "Zipper"
    UI = "UI"
    NOT_FOUND = "nginx, 404"
    NOT_ALLOWED = "nginx, 405"
    BAD_WADO = "nginx, 400"


@dataclass(frozen=True)
class Link:
    """What a link URL stands for."""

    token: str
    path: str


_UID = "[0-9.]+"
_STUDY = f"/api/studies/{_UID}"
_SERIES = f"{_STUDY}/series/{_UID}"
_INSTANCE = f"{_SERIES}/instances/{_UID}"

_LINK = re.compile(r"/api/link/([A-Za-z0-9.+=_-]+)(/.*)")

_ZIP_IN_QUERY = re.compile(r"(^|&)accept=[^&]*application(/|%2F)zip")  # %2f does not count there either

_Row = tuple[re.Pattern[str], str, Destination]


def _row(pattern: str, methods: str, destination: Destination) -> _Row:
    return re.compile(pattern), methods, destination


_TABLE: tuple[_Row, ...] = (
    _row("/api/studies", "GET OPTIONS", Destination.AUTHORIZATION),
    _row("/api/studies", "POST", Destination.PROXY),
    _row("/api/studies", "HEAD", Destination.NOT_FOUND),
    _row("/api/studies", "*", Destination.NOT_ALLOWED),
    _row(_STUDY, "PUT DELETE OPTIONS", Destination.AUTHORIZATION),
    _row(_STUDY, "*", Destination.PROXY),
    _row(f"{_STUDY}/(series|metadata)", "*", Destination.AUTHORIZATION),
    _row(f"{_STUDY}/(instances|ohifmetadata)", "*", Destination.PROXY),
    _row(f"{_STUDY}/(users|albums|comments|favorites).*", "*", Destination.AUTHORIZATION),
    _row(f"{_SERIES}/(users|albums).*", "*", Destination.AUTHORIZATION),
    _row(f"{_SERIES}/(instances|metadata|thumbnail|bulkdata/[0-9A-Fa-f/]+)", "*", Destination.PROXY),
    _row(f"{_INSTANCE}(/frames/[0-9]+|/metadata|/thumbnail|/bulkdata/[0-9A-Fa-f/]+)?", "*", Destination.PROXY),
    _row(f"{_SERIES}(/.*)?", "GET", Destination.PROXY),
    _row(f"{_SERIES}(/.*)?", "*", Destination.AUTHORIZATION),
    _row("/api/ohifservermetadata", "*", Destination.PROXY),
    _row("/api(/.*)?", "*", Destination.AUTHORIZATION),
    _row(".*", "*", Destination.UI),
)


def link(path: str) -> Link | None:
    """Take a link URL apart; None for any other path."""
    match = _LINK.fullmatch(path)
    return Link(match[1], f"/api{match[2]}") if match else None


def route(method: str, path: str, query: str, accept: str) -> Destination:
    """Who answers a request.

    Args:
        method: in upper case.
        path: decoded, no link URL.
        query: as it was sent, not decoded.
        accept: the Accept header or the empty text.
    """
    if path.startswith("/api/wado"):
        asked = any(name.lower() == "requesttype" and value == "WADO" for name, value in parse_qsl(query))
        return Destination.PROXY if asked else Destination.BAD_WADO
    for pattern, methods, destination in _TABLE:
        if pattern.fullmatch(path) and (methods == "*" or method in methods.split()):
            if destination is Destination.PROXY and re.fullmatch(_STUDY, path) and _wants_zip(query, accept):
                return Destination.ZIPPER
            return destination
    raise AssertionError("the last row takes everything")


def _wants_zip(query: str, accept: str) -> bool:
    return "application/zip" in accept or bool(_ZIP_IN_QUERY.search(query))
