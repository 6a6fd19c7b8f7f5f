"""What a request is to a service, and what a service answers.

An answer's body is bytes or an iterator of pieces; the transport decides about length and chunks. An iterator may give
up in the middle by raising `UpstreamError`: before 8 KiB have gone out that becomes its error answer, afterwards a body
that ends early and looks complete (contract: "Truncation can look complete").

Errors come in the shapes that the contract names: JSON where a Kheops service made them, else HTML of Tomcat or nginx.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.datastructures import Headers, QueryParams

from kheopsfs.demo.accounts import Accounts, Album, Principal, Source
from kheopsfs.demo.bodies import Bytes
from kheopsfs.demo.faults import Plan
from kheopsfs.demo.library import Library

DICOM_JSON = "application/dicom+json"
JSON = "application/json"
HTML = "text/html;charset=utf-8"

NO_CACHE = ("Cache-Control", "no-cache")


@dataclass
class Answer:
    """Status, media type, further headers and body of a response."""

    status: int = 200
    media_type: str | None = None
    body: bytes | Iterator[Bytes] = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


class ErrorAnswer(Exception):  # noqa: N818  it is an answer, raised to leave the handler
    """Leaves a handler with an answer other than the one it was making."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class UpstreamError(ErrorAnswer):
    """Something behind the service broke while the body was being made."""

    def __init__(self, status: int = 502) -> None:
        super().__init__(tomcat(status))


@dataclass
class Behaviour:
    """What differs between installations, or is turned on for a test.

    Attributes:
        numbers: IS and DS are JSON numbers, as before Kheops v1.0.0.
        gzip: compress everything when the client offers it, as the TLS variants of the proxy do.
        latency: seconds that pass before any answer.
        shuffled: series are delivered and listed in an order that has nothing to do with InstanceNumber.
        size_hints: the PACS is a dcm4chee, which lists its private 7777 elements.
        thumbnails: the PACS has the thumbnail resource, as dcm4chee has.
    """

    numbers: bool = False
    gzip: bool = False
    latency: float = 0.0
    shuffled: bool = True
    size_hints: bool = True
    thumbnails: bool = True


@dataclass
class Call:
    """One request as a service behind nginx sees it."""

    method: str
    path: str
    query: QueryParams
    headers: Headers
    body: bytes
    api: str
    """The public address of the API for links in answers; holds the token when it came by link URL."""
    library: Library
    accounts: Accounts
    behaviour: Behaviour
    plan: Plan

    def authorization(self) -> str | None:
        """The Authorization header, which nginx has set for link URLs."""
        return self.headers.get("authorization")

    def source(self, principal: Principal) -> Source:
        """The album or inbox that the query names.

        Raises:
            ErrorAnswer: 400, 403 or 404, by the rules for lists.
        """
        album_id = self.query.get("album")
        inbox = self.query.get("inbox")
        if inbox is not None:
            if album_id is not None:
                raise ErrorAnswer(json_error(400, "Bad Query Parameter", "Use only album xor inbox"))
            if principal.token.album is not None:
                if inbox == "true":
                    raise ErrorAnswer(json_error(403, "Forbidden", "An album token has no inbox"))
                raise ErrorAnswer(json_error(400, "Bad Query Parameter", "inbox"))
            return "inbox"
        return None if album_id is None else self.album(principal, album_id)

    def album(self, principal: Principal, album_id: str) -> Album:
        """An album that the token reaches.

        Raises:
            ErrorAnswer: 404; unknown and foreign albums look the same.
        """
        album = principal.album(album_id)
        if album is None:
            raise ErrorAnswer(json_error(404, "Album not found", "The album does not exist or you don't have access"))
        return album


def json_answer(value: Any, media_type: str = JSON, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """200 with JSON in UTF-8."""
    return Answer(200, media_type, msgspec.json.encode(value), list(headers))


def json_error(status: int, message: str, detail: str, media_type: str = JSON) -> Answer:
    """An error that a Kheops service worded itself."""
    body = {"message": message, "detail": detail, "help": ""}
    return Answer(status, media_type, json.dumps(body).encode())


def server_fault() -> Answer:
    """The 500 of an unexpected fault in a Kheops service, with the id of its log line."""
    return json_error(500, "Internal Server Error", f"log id: {secrets.token_hex(8)}")


def tomcat(status: int, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """Tomcat's error page, its report text hidden."""
    title = f"HTTP Status {status} – {_phrase(status)}"
    page = f'<!doctype html><html lang="en"><head><title>{title}</title></head><body><h1>{title}</h1></body></html>'
    return Answer(status, HTML, page.encode(), list(headers))


def nginx(status: int, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """nginx's error page."""
    title = f"{status} {_phrase(status)}"
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Answer(status, "text/html", page.encode(), list(headers))


def pacs_error(status: int, message: str) -> Answer:
    """An error of dcm4chee, passed through: plain text that looks like JSON."""
    return Answer(status, "text/plain", f'{{"errorMessage":"{message}"}}'.encode())


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in list(HTTPStatus) else "Unknown"
