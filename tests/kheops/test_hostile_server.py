"""S16: a server that means harm by how much it sends, how slowly, and for how long: waits end, memory stays flat.

What it means by *what* it sends is in tests/mount/test_hostile.py and tests/fuzzing.
"""

import gzip
import itertools
import json
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from retrieval_fixtures import BOUNDARY, CONTENT_TYPE, SERIES, STUDY, dicom_file, instance_uid, multipart
from scripted_server import SECRET, Asked, Said, Script, said, said_in_chunks

from kheopsfs.errors import BadAnswerError, KheopsfsError, ServerUnreachableError, StalledError
from kheopsfs.kheops import dicomjson, pages
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.records import EVERYTHING, AlbumsQuery, InstancesQuery, Query, StudiesQuery
from kheopsfs.kheops.retrieve import InstanceProven, instances, study_zip
from kheopsfs.kheops.search import listing
from kheopsfs.kheops.tokens import TokenInfo

USER = TokenInfo("user", "ada", frozenset({"user"}), "aB3dE6gH9k", "")
OK = b"HTTP/1.1 200 OK\r\n"
INSTANCE = 'multipart/related; type="application/dicom"; boundary=b'


@asynccontextmanager
async def hostile(
    head: bytes, more: Callable[[], Iterator[bytes]], pause: float = 0, *, idle_timeout: float = 30
) -> AsyncIterator[Client]:
    """A client of a server that answers each request with `head`, then with what `more` gives, pausing before each."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(head)
            for piece in more():
                await trio.sleep(pause)
                await stream.send_all(piece)
            await trio.sleep_forever()
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        address, _ = parse_address(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        async with Client(address, Credentials(Token(SECRET)), idle_timeout=idle_timeout) as client:
            yield client
        nursery.cancel_scope.cancel()


def for_ever(piece: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.repeat(piece)


async def a_list(client: Client) -> object:
    return await client.get("/studies", parse=dicomjson.parse)


async def an_instance(client: Client) -> object:
    async with instances(client, STUDY, SERIES, instance_uid(1)) as events:
        return [event async for event in events]


async def a_zip(client: Client) -> object:
    async with study_zip(client, STUDY, None) as stream:
        return [piece async for piece in stream]


ASKED = pytest.mark.parametrize("ask", [a_list, an_instance, a_zip])


# -- how slowly -------------------------------------------------------------------------------------------------------


@pytest.mark.trio
@ASKED
async def test_headers_that_drip_in_for_ever(
    clock: trio.testing.MockClock, ask: Callable[[Client], Awaitable[object]]
) -> None:
    """A byte every 20 seconds outwits any idle timeout."""
    async with hostile(OK + b"X-Long: ", for_ever(b"x"), 20) as client:
        began = trio.current_time()
        with pytest.raises(StalledError):
            await ask(client)
        assert trio.current_time() - began < 400


@pytest.mark.trio
@ASKED
async def test_a_body_that_drips_in_for_ever(
    clock: trio.testing.MockClock, ask: Callable[[Client], Awaitable[object]]
) -> None:
    kind = {a_list: "application/json", an_instance: INSTANCE, a_zip: "application/zip"}[ask].encode()
    async with hostile(OK + b"Content-Type: " + kind + b"\r\n\r\n", for_ever(b" "), 20) as client:
        began = trio.current_time()
        with pytest.raises(StalledError):
            await ask(client)
        assert trio.current_time() - began < 400


@pytest.mark.trio
async def test_a_chunk_size_that_drips_in_for_ever(clock: trio.testing.MockClock) -> None:
    head = OK + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1;x="
    async with hostile(head, for_ever(b"x"), 20) as client:
        with pytest.raises(StalledError):
            await a_list(client)


@pytest.mark.trio
async def test_a_slow_reader_is_not_a_slow_server(clock: trio.testing.MockClock) -> None:
    """Only the time in which the server is waited for counts."""
    pieces = [b"x" * 100] * 20
    head = OK + b"Content-Type: application/zip\r\nContent-Length: 2000\r\n\r\n"
    async with hostile(head, lambda: iter(pieces), 25) as client, study_zip(client, STUDY, None) as stream:
        received = b""
        async for piece in stream:
            received += piece
            if len(received) == 100:
                await trio.sleep(10_000)
    assert received == b"x" * 2000


# -- for how long, and how much ---------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_interim_answers_for_ever() -> None:
    async with hostile(
        b"", for_ever(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100), idle_timeout=0.1
    ) as client:
        with pytest.raises(StalledError), trio.fail_after(60):
            await a_list(client)


@pytest.mark.trio
@pytest.mark.parametrize("line", [b"X-%d: y\r\n" % 1, b"x" * 1000, b"\r\n folded"])
async def test_headers_without_end(line: bytes) -> None:
    async with hostile(OK + b"X: ", for_ever(line * 100)) as client:
        with pytest.raises(ServerUnreachableError), trio.fail_after(60):
            await a_list(client)


@pytest.mark.trio
@pytest.mark.parametrize("piece", [b"x" * 4096, b"\r\n--b\r", b"--b--", b"\r\n"])
async def test_a_preamble_without_end(piece: bytes) -> None:
    async with hostile(OK + b"Content-Type: " + INSTANCE.encode() + b"\r\n\r\n", for_ever(piece * 50)) as client:
        with pytest.raises(BadAnswerError), trio.fail_after(60):
            await an_instance(client)


@pytest.mark.trio
@pytest.mark.parametrize("pause", [0, 0.05])
async def test_an_epilogue_without_end_keeps_nobody_waiting(pause: float) -> None:
    """What is whole is handed out, whatever follows it."""
    body = multipart([dicom_file(instance_uid(1))])
    head = OK + f"Content-Type: {CONTENT_TYPE}\r\n\r\n".encode() + body
    async with hostile(head, for_ever(b"--" + BOUNDARY.encode() + b"\r\n" * 10), pause) as client:
        with trio.fail_after(60):
            events = await an_instance(client)
    assert isinstance(events, list)
    assert isinstance(events[-1], InstanceProven)


@pytest.mark.trio
async def test_compression_with_a_tail_without_end() -> None:
    head = OK + b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"[]")
    async with hostile(head, for_ever(b"x" * 65536)) as client:
        with pytest.raises(BadAnswerError), trio.fail_after(60):
            await a_list(client)


@pytest.mark.trio
@pytest.mark.parametrize(
    "document",
    [b"[" + b"{}," * 3_000_000 + b"{}]", b"[[" + b"1," * 3_000_000 + b"1]]", b'{"a":' * 3_000_000],
    ids=["rows", "values", "nested"],
)
async def test_a_document_of_absurdly_many_values(script: Script, client: Client, document: bytes) -> None:
    script.on("", said(gzip.compress(document, 1), "application/json", Content_Encoding="gzip"))
    with pytest.raises(BadAnswerError):
        await a_list(client)


_ASK_AND_WEIGH = """
import resource, sys, trio
from kheopsfs.errors import KheopsfsError
from kheopsfs.kheops import dicomjson
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials, Token

async def ask():
    async with Client(parse_address(sys.argv[1])[0], Credentials(Token("t"))) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            await client.get("/studies", parse=dicomjson.parse, attempts=1)
        except KheopsfsError as error:
            print(type(error).__name__, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

trio.run(ask)
"""


@pytest.mark.trio
async def test_a_page_of_a_gigabyte_takes_no_gigabyte(script: Script) -> None:
    """Whether it is sent, or unpacks to it."""
    packer = zlib.compressobj(1, wbits=31)
    packed = b"".join(packer.compress(b" " * 2**20) for _ in range(1024)) + packer.flush()
    script.on("", said(packed, "application/json", Content_Encoding="gzip"))
    done = await trio.run_process([sys.executable, "-c", _ASK_AND_WEIGH, script.url], capture_stdout=True)
    name, grown = done.stdout.decode().split()
    assert name == "BadAnswerError"
    assert int(grown) < 400 * 1024, "KiB"


# -- lists ------------------------------------------------------------------------------------------------------------


def study(number: int) -> dict[str, Any]:
    return {"0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]}, "00080018": {"vr": "UI", "Value": [f"1.2.{number}"]}}


def album(number: int) -> dict[str, Any]:
    return {"album_id": f"A{number}", "name": "x"}


def without_end(row: Callable[[int], dict[str, Any]], size: int, **headers: int) -> Callable[[Asked], Said]:
    """A page at each offset, and never the last."""

    def page(asked: Asked) -> Said:
        offset = int(asked.query.get("offset", 0))
        return said([row(number) for number in range(offset, offset + size)], **headers)

    return page


@pytest.mark.trio
@pytest.mark.parametrize("headers", [{}, {"X_Total_Count": 10**11}], ids=["blindly", "by total"])
@pytest.mark.parametrize(
    ("query", "row"),
    [
        (StudiesQuery(EVERYTHING), study),
        (AlbumsQuery(), album),
        (InstancesQuery("1.2", "1.3"), study),
        (InstancesQuery("1.2", "1.3", expected=10**11), study),
    ],
    ids=["studies", "albums", "instances", "expected instances"],
)
async def test_a_list_without_end(
    script: Script,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    query: Query,
    row: Callable[[int], dict[str, Any]],
    headers: dict[str, int],
) -> None:
    monkeypatch.setattr(pages, "_ROWS_LIMIT", 10_000)
    script.on("", without_end(row, 1000, **headers))
    with pytest.raises(BadAnswerError, match="does not end"):
        await listing(client, USER, query)
    assert len(script.asked) < 20


@pytest.mark.trio
async def test_pages_of_one_row_without_end(script: Script, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_PAGES_LIMIT", 50)
    script.on("", without_end(study, 1, X_Total_Count=10**11))
    with pytest.raises(BadAnswerError, match="does not end"):
        await listing(client, USER, StudiesQuery(EVERYTHING))
    assert len(script.asked) < 60


@pytest.mark.trio
async def test_rows_of_absurd_texts_without_end(
    script: Script, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_BYTES_LIMIT", 1_000_000)
    comment = {"00104000": {"vr": "LT", "Value": ["x" * 60_000]}}
    script.on("", without_end(lambda number: study(number) | comment, 10, X_Total_Count=10**6))
    with pytest.raises(BadAnswerError, match="does not end"):
        await listing(client, USER, StudiesQuery(EVERYTHING))


@pytest.mark.trio
async def test_metadata_without_end(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search gave less than was promised, so the metadata are asked for; what the search gave stays."""
    monkeypatch.setattr(pages, "_ROWS_LIMIT", 10_000)
    rows = b",".join(json.dumps(study(number)).encode() for number in range(2000)) + b","
    first = said_in_chunks(json.dumps([study(1)]).encode()).data
    head = OK + b"Content-Type: application/dicom+json\r\n\r\n["

    async def serve(stream: trio.SocketStream) -> None:
        with_metadata = b"/metadata" in await stream.receive_some()
        try:
            await stream.send_all(head if with_metadata else first)
            while with_metadata:
                await stream.send_all(rows)
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        address, _ = parse_address(f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
        async with Client(address, Credentials(Token(SECRET))) as client:
            with trio.fail_after(60):
                found = await listing(client, USER, InstancesQuery("1.2", "1.3", expected=5))
        nursery.cancel_scope.cancel()
    assert len(found) == 1


# -- what stays -------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_cookies_are_not_kept(script: Script, client: Client) -> None:
    script.on("", said([], Set_Cookie="session=1; Path=/"))
    await a_list(client)
    await a_list(client)
    assert all("cookie" not in asked.headers for asked in script.asked)


@pytest.mark.trio
async def test_any_of_it_is_an_understood_error(script: Script, client: Client) -> None:
    """Numbers in headers that no list and no body has."""
    script.on("", said([], X_Total_Count="9" * 5000), said([], X_Total_Count="-1"), said([], length=10**11))
    assert await a_list(client)
    assert await a_list(client)
    script.on("", Said(OK + b"Content-Length: " + b"9" * 500 + b"\r\n\r\n[]", "close"))
    with pytest.raises(KheopsfsError):
        await a_list(client)
