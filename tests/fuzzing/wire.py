"""Whole answers as they come over the line, through the real client."""

import gzip
from contextlib import suppress
from typing import Any

import httpcore
import trio
import trio.testing

from fuzzing.lists import STUDY_ROWS
from fuzzing.target import Draw, Target
from kheopsfs.errors import KheopsfsError
from kheopsfs.kheops import dicomjson
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.retrieve import instances


def answer(data: bytes) -> None:
    """A whole answer as it comes over the line, headers and all: one of the understood errors, within the deadlines."""
    draw = Draw(data)
    step, way, wire = 1 + draw.number(256), draw.number(3), draw.rest()
    pieces = [wire[start : start + step] for start in range(0, len(wire), step)]
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(_ask, pieces, way, clock=clock)


async def _ask(pieces: list[bytes], way: int) -> None:
    credentials = Credentials(Token("s3cr3tS3CR3Ts3cr3tS3CR"))
    async with Client(Address("http://127.0.0.1/api"), credentials, idle_timeout=5) as client:
        backend = httpcore.AsyncMockBackend(pieces)
        transport: Any = client._exchange._http._transport
        transport._pool = httpcore.AsyncConnectionPool(network_backend=backend)
        with suppress(KheopsfsError), trio.fail_after(3600):
            if way == 0:
                await client.get("/studies", parse=dicomjson.parse)
            elif way == 1:
                await client.introspect()
            else:
                async with instances(client, "1.2", "1.3", None) as events:
                    async for _ in events:
                        pass


# -- seeds ------------------------------------------------------------------------------------------------------------


def _http(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _wire() -> list[bytes]:
    return [
        _http(STUDY_ROWS, b"Content-Type: application/dicom+json", b"X-Total-Count: 1"),
        _http(gzip.compress(STUDY_ROWS, mtime=0), b"Content-Encoding: gzip", b"Content-Type: application/json"),
        _http(b"", b"Location: https://127.0.0.1/x", status=b"302 Found"),
        _http(b'{"message": "no"}', b"Content-Type: application/json", b"Set-Cookie: a=b", status=b"404 Not Found"),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n[]\r\n0\r\n\r\n",
    ]


TARGETS = (Target(answer, tuple(b"\xff" + way + wire for way in (b"\0", b"\1", b"\2") for wire in _wire()), slow=True),)
