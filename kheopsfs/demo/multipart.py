"""Instances as a `multipart/related` body (RFC 2387, PS3.18 8.6.1).

Parts come as the server finds them and have no name: their only header is Content-Type. The closing boundary is written
when, and only when, every part went out whole.
"""

import secrets
from collections.abc import Callable, Iterator

from kheopsfs.demo.answers import Answer, UpstreamError
from kheopsfs.demo.bodies import Bytes
from kheopsfs.demo.delivery import CLOSING, Part, cut, failure
from kheopsfs.demo.faults import Plan


def answer(parts: Iterator[Part], media_type: str, plan: Plan) -> Answer:
    """A multipart answer over the parts.

    Args:
        parts: may raise `UpstreamError` at any point.
        media_type: of the parts, without parameters; the answer's `type` parameter.
        plan: its faults of delivery are applied here.
    """
    boundary = secrets.token_hex(16)
    first = next(parts, None)
    if first is None:
        raise UpstreamError(404)
    syntax = first.media_type.partition("transfer-syntax=")[2]
    content_type = f'multipart/related;type="{media_type}";boundary={boundary}'
    if syntax:
        content_type += f";transfer-syntax={syntax}"
    length = plan.get("part_length") is not None
    status = 206 if plan.get("partial") else 200
    return Answer(status, content_type, _encode(first, parts, boundary.encode(), length=length, fails=failure(plan)))


def _encode(
    first: Part, rest: Iterator[Part], boundary: bytes, *, length: bool, fails: Callable[[int], int | None]
) -> Iterator[Bytes]:
    part: Part | None = first
    opening = b"--" + boundary
    number = 0
    while part is not None:
        header = opening + b"\r\nContent-Type: " + part.media_type.encode()
        if length:
            header += b"\r\nContent-Length: %d" % part.body.size
        yield header + b"\r\n\r\n"
        yield from cut(part.body, fails(number))
        opening = b"\r\n--" + boundary
        number += 1
        part = next(rest, None)
    if fails(CLOSING) is not None:
        raise UpstreamError
    yield opening + b"--\r\n"
