"""The client on real sockets: what it sends, what it takes for an answer, and what it gives up on."""

import gzip
import json
import logging
import ssl
import warnings
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from scripted_server import (
    ACTIVE_USER,
    INACTIVE,
    SECRET,
    WEB_PAGE,
    Said,
    Script,
    said,
    said_in_chunks,
    scripted,
)

from kheopsfs.errors import (
    BadAnswerError,
    BadURLError,
    KheopsfsError,
    NotFoundError,
    PermissionMissingError,
    ServerFaultError,
    ServerUnreachableError,
    StalledError,
    TLSError,
    TokenRefusedError,
)
from kheopsfs.kheops.address import Address, parse_address
from kheopsfs.kheops.answers import Answer, Body, parse_json
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import AuthKind, Credentials, Token

BINARY = "application/octet-stream"
OTHER = "Z9" * 11


@asynccontextmanager
async def client_of(url: str, kind: AuthKind = "bearer", idle_timeout: float = 20) -> AsyncIterator[Client]:
    address, _ = parse_address(url)
    async with Client(address, Credentials(Token(SECRET), kind), idle_timeout=idle_timeout) as client:
        yield client


async def get(client: Client, path: str = "/studies", **more: Any) -> Answer[Any]:
    return await client.get(path, parse=parse_json, **more)


async def read(client: Client, path: str = "/wado", **more: Any) -> tuple[Body, bytes]:
    async with client.stream(path, accept=BINARY, **more) as body:
        return body, b"".join([piece async for piece in body])


@asynccontextmanager
async def serving(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that is no HTTP server; gives its port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


# What is sent


@pytest.mark.trio
async def test_bearer_is_a_header(script: Script) -> None:
    script.on("", said([]))
    async with client_of(script.url, "bearer") as client:
        await get(client, "/studies", params={"limit": 5, "inbox": "true"})
    (asked,) = script.asked
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert (asked.method, asked.target) == ("GET", "/api/studies?limit=5&inbox=true")
    assert asked.headers["accept"] == "application/dicom+json"
    assert asked.headers["accept-encoding"] == "gzip"


@pytest.mark.trio
async def test_basic_has_one_colon(script: Script) -> None:
    script.on("", said([]))
    async with client_of(script.url, "basic") as client:
        await get(client)
    scheme, _, value = script.asked[0].headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert b64decode(value).split(b":") == [b"token", SECRET.encode()]


@pytest.mark.trio
async def test_link_is_a_path_without_a_header(script: Script) -> None:
    script.on("", said([]))
    async with client_of(f"{script.url}/pacs/api", "link") as client:
        await get(client, "/studies/1.2/series", params={"album": "a/api/b"})
        assert client.url("/studies") == f"{script.url}/pacs/api/studies"
    (asked,) = script.asked
    assert asked.path == f"/pacs/api/link/{SECRET}/studies/1.2/series"
    assert asked.query == {"album": "a/api/b"}
    assert "authorization" not in asked.headers


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["bearer", "basic", "link"])
async def test_a_viewer_token_replaces_the_token_for_one_request(script: Script, kind: AuthKind) -> None:
    viewer = "eyJhbGciOi.x_y-z=+." + "w" * 500
    script.on("", said(b"zip", "application/zip"))
    async with client_of(script.url, kind) as client:
        await read(client, "/studies/1.2", token=Token(viewer))
        await read(client, "/studies/1.2")
    narrowed, normal = script.asked
    carried = {
        "bearer": lambda asked: asked.headers["authorization"].removeprefix("Bearer "),
        "basic": lambda asked: b64decode(asked.headers["authorization"][6:]).decode().removeprefix("token:"),
        "link": lambda asked: asked.path.removeprefix("/api/link/").removesuffix("/studies/1.2"),
    }[kind]
    assert carried(narrowed) == viewer
    assert carried(normal) == SECRET


@pytest.mark.trio
async def test_binaries_are_asked_for_uncompressed(script: Script) -> None:
    script.on("", said(b"bytes", BINARY))
    async with client_of(script.url) as client:
        await read(client)
    assert script.asked[0].headers["accept-encoding"] == "identity"
    assert script.asked[0].headers["accept"] == BINARY


@pytest.mark.trio
async def test_a_replaced_token_is_used_from_the_next_request_on(script: Script, client: Client) -> None:
    script.on("", said([]))
    await get(client)
    client.credentials.token = Token(OTHER)
    await get(client)
    assert [asked.headers["authorization"] for asked in script.asked] == [f"Bearer {SECRET}", f"Bearer {OTHER}"]


@pytest.mark.trio
async def test_loopback_ignores_the_proxy_of_the_environment(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    script.on("", said([]))
    async with client_of(script.url) as client:
        assert (await get(client)).document == []


@pytest.mark.trio
async def test_other_machines_are_reached_through_the_proxy_of_the_environment(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", script.url.replace("http://", "http://me:p%40ss@"))
    monkeypatch.delenv("no_proxy", raising=False)
    script.on("", said([7]))
    address, _ = parse_address("http://kheops.invalid", insecure_http=True)
    async with Client(address, Credentials(Token(SECRET))) as client:
        assert (await get(client)).document == [7]
    (asked,) = script.asked
    assert asked.target == "http://kheops.invalid/api/studies"
    assert b64decode(asked.headers["proxy-authorization"].removeprefix("Basic ")) == b"me:p@ss"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://", "http://host:port"])
def test_a_proxy_that_cannot_be_used_is_named_as_the_reason(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ServerUnreachableError, match="proxy"):
        Client(Address("https://kheops.invalid/api"), Credentials(Token(SECRET)))


# What is an answer


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["bearer", "basic", "link"])
async def test_a_proxy_hears_of_a_secure_server_its_name_and_nothing_else(
    kind: AuthKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = bytearray()

    async def proxy(stream: trio.SocketStream) -> None:
        heard.extend(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with serving(proxy) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        async with client_of("https://kheops.invalid", kind) as client:
            with pytest.raises(ServerUnreachableError, match="proxy"):
                await get(client, "/studies/1.2/series")
    assert heard.startswith(b"CONNECT kheops.invalid:443 HTTP/1.1\r\n")
    basic = b64encode(f"token:{SECRET}".encode())
    assert all(secret not in heard for secret in (SECRET.encode(), basic, b"studies", b"link", b"uthorization"))


@pytest.mark.trio
async def test_a_document_and_its_total(script: Script, client: Client) -> None:
    script.on("", said([{"a": 1}], X_Total_Count=12))
    assert await get(client) == Answer(200, [{"a": 1}], 12)


@pytest.mark.trio
async def test_nothing_is_no_document(script: Script, client: Client) -> None:
    script.on("", said(status=204, X_Total_Count=0))
    assert await get(client) == Answer(204, None, 0)


@pytest.mark.trio
@pytest.mark.parametrize("total", ["many", "-1", "", "9" * 40, "1.5"])
async def test_an_absurd_total_is_none(script: Script, client: Client, total: str) -> None:
    script.on("", said([], X_Total_Count=total))
    assert (await get(client)).total_count is None


@pytest.mark.trio
@pytest.mark.parametrize("media_type", ["application/json;charset=utf-8", "Application/DICOM+JSON", None])
async def test_json_goes_by_several_names(script: Script, client: Client, media_type: str | None) -> None:
    script.on("", said(["é"], media_type))
    assert (await get(client)).document == ["é"]


@pytest.mark.trio
async def test_a_compressed_document_is_expanded(script: Script, client: Client) -> None:
    document = [{"a": "b" * 100}] * 20_000
    script.on("", said(gzip.compress(json.dumps(document).encode()), Content_Encoding="gzip"))
    assert (await get(client)).document == document


@pytest.mark.trio
async def test_text_that_is_not_quite_unicode_does_not_spoil_a_document(script: Script, client: Client) -> None:
    script.on("", said(b'["\\ud800", "\xff", NaN, 1e999]'))
    document: Any = (await get(client)).document
    assert document[1] == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.trio
@pytest.mark.parametrize("length", [0, 1, 8192, 3_000_000])
async def test_a_stream_gives_every_byte_in_bounded_pieces(script: Script, client: Client, length: int) -> None:
    content = bytes(range(256)) * (length // 256) + bytes(length % 256)
    script.on("", said_in_chunks(*[content[n : n + 70_000] for n in range(0, length, 70_000)], media_type="a/b; c=d"))
    async with client.stream("/x", accept="*/*") as body:
        pieces = [piece async for piece in body]
    assert b"".join(pieces) == content
    assert max(map(len, pieces), default=0) <= 256 * 1024
    assert (body.status, body.media_type, body.content_type, body.content_length) == (200, "a/b", "a/b; c=d", None)
    assert body.received == length


@pytest.mark.trio
async def test_a_stated_length_is_passed_on_but_not_that_of_compressed_bytes(script: Script, client: Client) -> None:
    content = b"x" * 5000
    script.on("plain", said(content, BINARY))
    script.on("forced", said(gzip.compress(content), BINARY, Content_Encoding="GZIP"))
    body, data = await read(client, "/plain")
    assert (body.content_length, data) == (5000, content)
    body, data = await read(client, "/forced")
    assert (body.content_length, data) == (None, content)


@pytest.mark.trio
async def test_a_gzip_bomb_comes_in_bounded_pieces(script: Script, client: Client) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(64)), packer.flush()])
    script.on("", said(bomb, BINARY, Content_Encoding="gzip"))
    total = 0
    async with client.stream("/x", accept="*/*") as body:
        async for piece in body:
            assert len(piece) <= 256 * 1024
            total += len(piece)
    assert total == 64 << 20


@pytest.mark.trio
async def test_partial_content_is_handed_on(script: Script, client: Client) -> None:
    script.on("", said(b"part", BINARY, status=206))
    body, data = await read(client)
    assert (body.status, data) == (206, b"part")


@pytest.mark.trio
async def test_a_body_may_be_left_early_and_the_client_goes_on(script: Script, client: Client) -> None:
    script.on("long", said(b"x" * 4_000_000, BINARY))
    script.on("short", said(b"y", BINARY))
    for _ in range(15):  # more often than there are connections
        async with client.stream("/long", accept="*/*") as body:
            async for _piece in body:
                break
    assert (await read(client, "/short"))[1] == b"y"


@pytest.mark.trio
async def test_a_connection_is_used_again(script: Script, client: Client) -> None:
    script.on("", said([]))
    for _ in range(5):
        await get(client)
    assert script.connections == 1


@pytest.mark.trio
async def test_ten_connections_and_no_more(script: Script, client: Client) -> None:
    script.on("", said(b"abc", BINARY, length=4, then="stall"))
    async with trio.open_nursery() as nursery:
        for _ in range(15):
            nursery.start_soon(read, client)
        await script.until_asked("wado", 10)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert script.connections == 10
        nursery.cancel_scope.cancel()
    script.on("", said([]))
    assert (await get(client)).document == []


# What is no answer


@pytest.mark.trio
@pytest.mark.parametrize("what", [get, read])
async def test_a_web_page_is_no_answer(script: Script, client: Client, what: Callable[..., Any]) -> None:
    script.on("", WEB_PAGE)
    with pytest.raises(BadAnswerError, match="really the address of a Kheops server"):
        await what(client)
    assert len(script.asked) == 1


@pytest.mark.trio
@pytest.mark.parametrize("media_type", ["text/plain", "application/dicom", "application/octet-stream"])
async def test_what_is_not_json_by_its_type_is_not_parsed(script: Script, client: Client, media_type: str) -> None:
    script.on("", said(b"[]", media_type))
    with pytest.raises(BadAnswerError, match="instead of JSON"):
        await get(client)
    assert len(script.asked) == 1


CUT = [
    said(b'[{"a": 1}, {"b"'),
    said(b""),
    said(b"[1] x"),
    said(b"[" * 100_000),
    said(b"[1, 2]", length=100, then="close"),
    said(b"[1, 2]", length=100, then="reset"),
    said_in_chunks(b"[1", whole=False, then="close"),
    said_in_chunks(b"[1", whole=True),
    said(gzip.compress(b"[1, 2]")[:-3], Content_Encoding="gzip"),
]


@pytest.mark.trio
@pytest.mark.parametrize("cut", CUT)
async def test_a_cut_document_is_asked_for_again(
    clock: trio.testing.MockClock, script: Script, client: Client, cut: Said
) -> None:
    script.on("", cut, cut, said([1]))
    assert (await get(client)).document == [1]
    assert len(script.asked) == 3


@pytest.mark.trio
async def test_a_document_that_stays_cut_is_a_bad_answer(
    clock: trio.testing.MockClock, script: Script, client: Client
) -> None:
    script.on("", CUT[0])
    with pytest.raises(BadAnswerError, match="cut off"):
        await get(client)
    assert len(script.asked) == 4


@pytest.mark.trio
@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip"])
async def test_a_coding_that_was_not_asked_for_is_a_bad_answer(script: Script, client: Client, coding: str) -> None:
    script.on("", said(b"abc", BINARY, Content_Encoding=coding))
    with pytest.raises(BadAnswerError, match="coding"):
        await read(client)


@pytest.mark.trio
async def test_damaged_compression_is_a_bad_answer(script: Script, client: Client) -> None:
    packed = bytearray(gzip.compress(bytes(100_000)))
    packed[20] ^= 0xFF
    script.on("", said(bytes(packed), BINARY, Content_Encoding="gzip"))
    with pytest.raises(BadAnswerError, match="damaged"):
        await read(client)


@pytest.mark.trio
@pytest.mark.parametrize(
    "cut",
    [
        said(b"x" * 100_000, BINARY, length=100_001, then="close"),
        said(b"x" * 100_000, BINARY, length=100_001, then="reset"),
        said_in_chunks(b"x" * 100_000, whole=False, then="close"),
        said_in_chunks(b"x" * 100_000, whole=False, then="reset"),
        said(gzip.compress(bytes(100_000))[:-8], BINARY, Content_Encoding="gzip"),
    ],
)
async def test_a_body_that_breaks_off_says_so_and_is_not_repeated(script: Script, client: Client, cut: Said) -> None:
    script.on("", cut)
    with pytest.raises(BadAnswerError, match="cut off after"):
        await read(client)
    assert len(script.asked) == 1


@pytest.mark.trio
@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("what", [get, read])
async def test_a_fault_that_passes_is_not_seen(
    clock: trio.testing.MockClock, script: Script, client: Client, status: int, what: Callable[..., Any]
) -> None:
    fault = said(b"<html>", "text/html", status=status)
    script.on("", fault, fault, fault, said([1]))
    await what(client)
    assert len(script.asked) == 4


@pytest.mark.trio
@pytest.mark.parametrize("what", [get, read])
async def test_a_fault_that_stays_is_raised_with_its_status(
    clock: trio.testing.MockClock, script: Script, client: Client, what: Callable[..., Any]
) -> None:
    script.on("", said(b"<html>", "text/html", status=502))
    with pytest.raises(ServerFaultError, match="502 Bad Gateway") as caught:
        await what(client)
    assert caught.value.status == 502
    assert len(script.asked) == 4


@pytest.mark.trio
async def test_a_caller_may_want_fewer_attempts(script: Script, client: Client) -> None:
    script.on("", said(status=500))
    with pytest.raises(ServerFaultError):
        await get(client, attempts=1)
    assert len(script.asked) == 1


@pytest.mark.trio
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadAnswerError),
        (403, PermissionMissingError),
        (404, NotFoundError),
        (405, BadAnswerError),
        (406, NotFoundError),
        (410, NotFoundError),
        (418, BadAnswerError),
        (429, BadAnswerError),
        (501, ServerFaultError),
        (202, BadAnswerError),
        (299, BadAnswerError),
        (599, ServerFaultError),
    ],
)
@pytest.mark.parametrize("what", [get, read])
async def test_what_a_status_means_and_that_it_is_not_asked_twice(
    script: Script, client: Client, status: int, error: type[KheopsfsError], what: Callable[..., Any]
) -> None:
    script.on("", said(b"<h1>no</h1>", "text/html", status=status))
    with pytest.raises(error, match=f"{status}|permission") as caught:
        await what(client)
    assert caught.value.status == status
    assert len(script.asked) == 1


@pytest.mark.trio
async def test_the_reason_that_kheops_gives_is_logged_without_the_token(
    script: Script, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    script.on("", said({"message": f"Bad album for {SECRET}", "detail": "x"}, "application/json", status=400))
    with caplog.at_level(logging.DEBUG), pytest.raises(BadAnswerError):
        await get(client)
    assert "Bad album" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.trio
@pytest.mark.parametrize("body", [b"[1]", b'{"detail": 1}', b"{", b'"text"', b"null"])
async def test_an_explanation_of_any_shape_does_no_harm(script: Script, client: Client, body: bytes) -> None:
    script.on("", said(body, "application/json", status=404))
    with pytest.raises(NotFoundError):
        await get(client)


# Redirects


@pytest.mark.trio
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_move_to_https_is_advised_not_followed(script: Script, client: Client, status: int) -> None:
    script.on("", said(status=status, Location="https://127.0.0.1/api/studies"))
    with pytest.raises(BadURLError, match=r"Use the address https://127\.0\.0\.1 instead"):
        await get(client)
    assert len(script.asked) == 1


@pytest.mark.trio
@pytest.mark.parametrize(
    "location",
    [
        "https://other.example/api/studies",
        "/elsewhere",
        "//other.example/",
        "http://127.0.0.1/",
        "ftp://x",
        "https://[",
        "",
    ],
)
async def test_no_other_redirect_is_followed(script: Script, client: Client, location: str) -> None:
    async with scripted() as other:
        script.on(
            "",
            said(
                status=302, Location=location.replace("other.example", other.url[7:].replace("127.0.0.1", "localhost"))
            ),
        )
        for what in (get, read):
            with pytest.raises(BadAnswerError):
                await what(client)
        assert not other.asked
    assert len(script.asked) == 2


# Connections


@pytest.mark.trio
async def test_a_connection_closed_while_idle_is_no_failure(
    script: Script, client: Client, clock: trio.testing.MockClock
) -> None:
    script.on("", said([]), Said(b"", "close"), said([2]))
    await get(client)
    before = trio.current_time()
    assert (await get(client)).document == [2]
    assert len(script.asked) == 3
    assert trio.current_time() == before, "at once, without a pause"


@pytest.mark.trio
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("what", [get, read])
async def test_a_connection_that_breaks_before_the_answer_is_tried_again(
    clock: trio.testing.MockClock, script: Script, client: Client, ending: Any, what: Callable[..., Any]
) -> None:
    script.on("", Said(b"", ending), Said(b"HTTP/1.1 200 OK\r\nConte", ending), said([3]))
    await what(client)
    assert len(script.asked) == 3


@pytest.mark.trio
async def test_a_connection_that_always_breaks_is_a_server_out_of_reach(
    clock: trio.testing.MockClock, script: Script, client: Client
) -> None:
    script.on("", Said(b"", "close"))
    with pytest.raises(ServerUnreachableError, match="breaks the connection off"):
        await get(client)
    assert len(script.asked) == 4


@pytest.mark.trio
async def test_what_does_not_speak_http_is_a_server_out_of_reach(
    clock: trio.testing.MockClock, script: Script, client: Client
) -> None:
    script.on("", Said(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "close"))
    with pytest.raises(ServerUnreachableError, match="does not speak HTTP"):
        await get(client)


@pytest.mark.trio
async def test_nobody_listening() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with client_of(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(
            ServerUnreachableError, match=f"http://127.0.0.1:{port} cannot be reached: .*refused"
        ) as caught:
            await get(client)
    assert caught.value.exit_code == 4


@pytest.mark.trio
async def test_a_name_that_does_not_exist() -> None:
    async with client_of("https://no-such-host.invalid") as client:
        with pytest.raises(ServerUnreachableError, match=r"https://no-such-host\.invalid cannot be reached: "):
            await get(client)


@pytest.mark.trio
@pytest.mark.parametrize(
    "silence",
    [
        Said(b"", "stall"),
        Said(b"HTTP/1.1 200 OK\r\n", "stall"),
        said(b"[1", length=100, then="stall"),
        said_in_chunks(b"[1", whole=False, then="stall"),
    ],
)
@pytest.mark.parametrize("what", [get, read])
async def test_silence_is_a_stall_and_not_asked_twice(
    clock: trio.testing.MockClock, script: Script, silence: Said, what: Callable[..., Any]
) -> None:
    script.on("", silence)
    async with client_of(script.url, idle_timeout=0.2) as client:
        with pytest.raises(StalledError):
            await what(client)
    assert len(script.asked) == 1


@pytest.mark.trio
async def test_a_slow_body_is_no_stall_as_long_as_bytes_come(clock: trio.testing.MockClock) -> None:
    async def drip(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 120000\r\n\r\n")
        for _ in range(60):
            await trio.sleep(25)
            await stream.send_all(b"x" * 2000)

    async with serving(drip) as port, client_of(f"http://127.0.0.1:{port}", idle_timeout=30) as client:
        assert (await read(client))[1] == b"x" * 120_000


@pytest.mark.trio
@pytest.mark.parametrize(
    "answer",
    [Said(b"", "stall"), said(b"[1", length=100, then="stall"), said(status=502), said(status=401)],
    ids=["head", "body", "pause", "introspection"],
)
async def test_every_wait_can_be_cancelled(script: Script, client: Client, answer: Said) -> None:
    script.on("", answer)
    script.on("introspect", Said(b"", "stall"))
    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(get, client)
            nursery.start_soon(read, client)
        await script.until_asked("", 3)
        nursery.cancel_scope.cancel()
    script.on("", said([]))
    assert (await get(client)).document == []


# TLS


def tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the system trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


@pytest.mark.trio
async def test_a_server_that_proves_who_it_is(authority: trustme.CA) -> None:
    async with scripted(tls(authority, "localhost")) as script, client_of(script.url) as client:
        script.on("", said(b"x" * 500_000, BINARY))
        assert len((await read(client))[1]) == 500_000


@pytest.mark.trio
async def test_a_certificate_of_an_unknown_authority(authority: trustme.CA) -> None:
    async with scripted(tls(trustme.CA(), "localhost")) as script, client_of(script.url) as client:
        with pytest.raises(TLSError, match=r"could not prove who it is.*SSL_CERT_FILE") as caught:
            await get(client)
        assert caught.value.exit_code == 5
        assert not script.asked


@pytest.mark.trio
async def test_a_certificate_for_another_name(authority: trustme.CA) -> None:
    async with scripted(tls(authority, "other.example")) as script, client_of(script.url) as client:
        with pytest.raises(TLSError, match="could not prove who it is"):
            await get(client)


@pytest.mark.trio
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_tls_that_is_broken_is_not_spoken(authority: trustme.CA, version: ssl.TLSVersion) -> None:
    context = tls(authority, "localhost")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    async with scripted(context) as script, client_of(script.url) as client:
        with pytest.raises(TLSError, match="does not speak TLS as expected"):
            await get(client)
        assert not script.asked


@pytest.mark.trio
async def test_https_to_a_server_that_speaks_http() -> None:
    async def object_to_anything(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(object_to_anything) as port, client_of(f"localhost:{port}") as client:
        with pytest.raises(TLSError, match=f"write http://localhost:{port}"):
            await get(client)


# The meaning of 401


@pytest.mark.trio
async def test_a_dead_token(script: Script, client: Client) -> None:
    script.on("", said(status=401))
    script.on("introspect", INACTIVE)
    for what in (get, read):
        with pytest.raises(TokenRefusedError, match="expired, was revoked, or never existed"):
            await what(client)
    assert len(script.asked_for("introspect")) == 1, "one verdict for both"


@pytest.mark.trio
async def test_a_living_token_that_does_not_see_it(script: Script, client: Client) -> None:
    script.on("", said(status=401))
    script.on("introspect", ACTIVE_USER)
    with pytest.raises(PermissionMissingError) as caught:
        await get(client)
    assert caught.value.status == 401
    with pytest.raises(NotFoundError):
        await get(client, unseen=NotFoundError)
    with pytest.raises(NotFoundError):
        await read(client)
    assert len(script.asked_for("introspect")) == 1


@pytest.mark.trio
async def test_a_verdict_does_not_last(script: Script, client: Client, clock: trio.testing.MockClock) -> None:
    script.on("", said(status=401))
    script.on("introspect", ACTIVE_USER, INACTIVE)
    with pytest.raises(NotFoundError):
        await read(client)
    await trio.sleep(2.1)
    with pytest.raises(TokenRefusedError):
        await read(client)


@pytest.mark.trio
async def test_many_refused_at_once_share_one_introspection(script: Script, client: Client) -> None:
    script.on("", said(status=401))
    script.on("introspect", ACTIVE_USER)
    caught: list[KheopsfsError] = []

    async def ask() -> None:
        try:
            await read(client)
        except KheopsfsError as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(ask)
    assert [type(error) for error in caught] == [NotFoundError] * 40
    assert len(script.asked_for("introspect")) == 1


@pytest.mark.trio
async def test_whoever_asks_goes_on_when_the_one_who_asked_first_is_cancelled(script: Script, client: Client) -> None:
    script.on("", said(status=401))
    script.on("introspect", Said(b"", "stall"), ACTIVE_USER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, client)
        await script.until_asked("introspect")
        async with trio.open_nursery() as others:

            async def ask() -> None:
                with pytest.raises(NotFoundError):
                    await read(client)

            others.start_soon(ask)
            await script.until_asked("wado", 2)
            nursery.cancel_scope.cancel()
            others.cancel_scope.shield = True


@pytest.mark.trio
async def test_when_it_cannot_be_found_out_that_is_the_failure(
    clock: trio.testing.MockClock, script: Script, client: Client
) -> None:
    script.on("", said(status=401))
    script.on("introspect", said(status=503))
    with pytest.raises(ServerFaultError):
        await read(client)


@pytest.mark.trio
async def test_a_token_replaced_while_the_request_was_under_way_gets_its_chance(script: Script, client: Client) -> None:
    def refuse_and_replace(_: Any) -> Said:
        client.credentials.token = Token(OTHER)
        return said(status=401)

    script.on("", refuse_and_replace, said([4]))
    assert (await get(client)).document == [4]
    assert [asked.headers["authorization"] for asked in script.asked] == [f"Bearer {SECRET}", f"Bearer {OTHER}"]


# What is logged and raised


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["bearer", "basic", "link"])
async def test_no_token_in_any_log_or_error(
    clock: trio.testing.MockClock, script: Script, kind: AuthKind, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [
        said([], X_Total_Count=1),
        said(status=400),
        said(status=401),
        said(status=500),
        said(status=302, Location=f"https://other.example/api/link/{SECRET}/studies"),
        said(status=302, Location=f"https://127.0.0.1/api/link/{SECRET}/studies"),
        WEB_PAGE,
        CUT[0],
        Said(b"", "reset"),
        Said(b"", "stall"),
    ]
    errors: list[str] = []
    logging.getLogger("httpx").setLevel(logging.NOTSET)  # a client silences it again
    with caplog.at_level(logging.DEBUG):
        async with client_of(script.url, kind, idle_timeout=0.3) as client:
            script.on("introspect", ACTIVE_USER)
            for answer in answers:
                script.on("studies|wado", answer)
                for what in (get, read):
                    try:
                        await what(client)
                    except KheopsfsError as error:
                        errors.append(f"{error!r} {error} {caught_causes(error)}")
    encoded = SECRET[:18]
    assert len(errors) >= 17
    assert all(encoded not in error for error in errors)
    assert SECRET not in caplog.text
    assert "GET /studies → 200" in caplog.text
    assert {record.name for record in caplog.records} <= {"kheopsfs.kheops"}


def caught_causes(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(f"{error!r}")
        error = error.__cause__
    return " ".join(texts)
