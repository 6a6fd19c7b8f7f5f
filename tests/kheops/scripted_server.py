"""A server on a real socket that answers prepared bytes, for all that no honest server does."""

import json
import re
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import trio

DICOM_JSON = "application/dicom+json"

# The token of the `client` fixture.
SECRET = "s3cr3tS3CR3Ts3cr3tS3CR"

Ending = Literal["keep", "close", "reset", "stall"]


@dataclass
class Asked:
    """One request, as it came over the line."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass
class Said:
    """Bytes to send, and what follows: the next request, the end, a reset, or silence."""

    data: bytes
    then: Ending = "keep"


Answerer = Callable[[Asked], Said]


def said(
    content: Any = b"",
    media_type: str | None = DICOM_JSON,
    *,
    status: int = 200,
    then: Ending = "keep",
    length: int | None = None,
    **headers: str | int,
) -> Said:
    """An answer with a length. `length` other than the true one makes a lie of it; documents become JSON."""
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Scripted"]
    if status != 204:
        lines.append(f"Content-Length: {len(content) if length is None else length}")
        if media_type is not None:
            lines.append(f"Content-Type: {media_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Said("\r\n".join([*lines, "", ""]).encode() + content, then)


def said_in_chunks(*chunks: bytes, media_type: str = DICOM_JSON, whole: bool = True, then: Ending = "keep") -> Said:
    """An answer without a length, as Kheops gives beyond 8 KiB."""
    head = f"HTTP/1.1 200 Scripted\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return Said(head + body + (b"0\r\n\r\n" if whole else b""), then)


ACTIVE_USER = said({"active": True, "sub": "ada", "scope": "user read write", "cap_token": "aB3dE6gH9k"})
INACTIVE = said({"active": False}, "application/json")
WEB_PAGE = said(b"<!doctype html><title>Kheops</title>", "text/html; charset=utf-8")


@dataclass
class Script:
    """What a server was asked, and what it answers. The last answer of a path is given for ever."""

    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    connections: int = 0
    _rules: list[tuple[re.Pattern[str], list[Said | Answerer]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)
    _arrived: trio.Event = field(default_factory=trio.Event)

    def on(self, target: str, *answers: Said | Answerer) -> None:
        """Answer requests whose path and query match the expression; the latest rule wins."""
        self._rules.insert(0, (re.compile(target), list(answers)))

    def asked_for(self, target: str) -> list[Asked]:
        return [asked for asked in self.asked if re.search(target, asked.target)]

    async def until_asked(self, target: str, times: int = 1) -> None:
        """Wait until that many matching requests have come."""
        while len(self.asked_for(target)) < times:
            await self._arrived.wait()

    def _answer(self, asked: Asked) -> Said:
        for pattern, answers in self._rules:
            if pattern.search(asked.target):
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                return answer if isinstance(answer, Said) else answer(asked)
        return said({"message": "not in the script"}, "application/json", status=404)

    async def serve(self, stream: trio.abc.Stream, socket: trio.SocketStream) -> None:
        number = next(self._numbers)
        self.connections += 1
        try:
            received = b""
            while True:
                while b"\r\n\r\n" not in received:
                    data = await stream.receive_some()
                    if not data:
                        return
                    received += data
                head, _, received = received.partition(b"\r\n\r\n")
                line, *fields = head.decode("ascii").split("\r\n")
                headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in fields)}
                while len(received) < int(headers.get("content-length", 0)):
                    received += await stream.receive_some()
                body, received = received[: int(headers.get("content-length", 0))], b""
                method, target, _ = line.split(" ")
                self.asked.append(Asked(method, target, headers, body, number))
                self._arrived.set()
                self._arrived = trio.Event()
                answer = self._answer(self.asked[-1])
                await stream.send_all(answer.data)
                if answer.then == "close":
                    return
                if answer.then == "reset":
                    socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                    return
                if answer.then == "stall":
                    await trio.sleep_forever()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            socket.socket.close()


@asynccontextmanager
async def scripted(context: ssl.SSLContext | None = None) -> AsyncIterator[Script]:
    """Run a script on a free port; with a context over TLS, as ``localhost``."""
    script = Script()

    async def serve(socket: trio.SocketStream) -> None:
        if context is None:
            await script.serve(socket, socket)
        else:
            await script.serve(trio.SSLStream(socket, context, server_side=True, https_compatible=True), socket)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        script.url = f"http://127.0.0.1:{port}" if context is None else f"https://localhost:{port}"
        yield script
        nursery.cancel_scope.cancel()
