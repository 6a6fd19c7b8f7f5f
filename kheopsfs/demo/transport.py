"""How answers leave the origin: length or chunks, compression, and the faults of a connection.

The rules are those of the Java services and nginx together (contract: "Sizes and transport"): Content-Length only for
bodies of at most 8 KiB, no validators, no ranges; HEAD does all the work of GET and sends none of it; the TLS variants
compress whatever the client allows. Bodies are pulled only as fast as the client takes them.
"""

import asyncio
import contextlib
import itertools
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from kheopsfs.demo.answers import Answer, Behaviour, ErrorAnswer, nginx
from kheopsfs.demo.bodies import PIECE, Bytes
from kheopsfs.demo.faults import Fault, Plan

JERSEY_BUFFER = 8192
"""Bytes; a body that fits has a Content-Length, and its failures have a status."""

REQUESTS_PER_CONNECTION = 1000
"""After so many nginx closes a connection, whatever the client wants."""

GZIP_MINIMUM = 1000
"""Bytes; nginx leaves shorter bodies alone when it knows their length."""

GZIP_LEVEL = 1
"""nginx is set to 6; what the client sees is the same, and this costs a third."""


class Connection:
    """One request's way back to its client."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, plan: Plan, behaviour: Behaviour) -> None:
        self._headers = Headers(scope=scope)
        self._head = scope["method"] == "HEAD"
        state: dict[str, Any] = scope.get("state", {})
        self._transport: asyncio.Transport | None = state.get("transport")
        self._number: int = next(state["requests"]) if "requests" in state else 1
        self._receive = receive
        self._send = send
        self._plan = plan
        self._behaviour = behaviour
        self.revoke: Callable[[], None] = lambda: None
        """Kills the token of this request."""

    async def before(self) -> Answer | None:
        """Apply the faults that come before a service is asked.

        Returns:
            The answer that a fault gives instead of the service.

        Raises:
            ConnectionError: the client went away, or was thrown out.
        """
        if seconds := self._behaviour.latency + self._plan.option("delay", "seconds", 0):
            await asyncio.sleep(seconds)
        if (fault := self._plan.get("revoke")) and "byte" not in fault.options:
            self.revoke()
        if (fault := self._plan.get("reset")) and "byte" not in fault.options:
            await self._reset()
        if (fault := self._plan.get("stall")) and "byte" not in fault.options:
            await self._stall(fault)
        if fault := self._plan.get("status"):
            location = fault.options.get("location")
            return nginx(fault.options["code"], [("Location", location)] if location else [])
        if self._plan.get("html"):
            return Answer(200, "text/html", b"<!doctype html><html><body>Kheops</body></html>")
        return None

    async def deliver(self, answer: Answer) -> None:
        """Send the answer.

        Raises:
            ConnectionError: the client went away, or was thrown out.
        """
        if fault := self._plan.get("body"):
            answer.body = fault.options["text"].encode()
            answer.media_type = fault.options.get("media_type", answer.media_type)
        answer.media_type = self._plan.option("content_type", "media_type", answer.media_type)
        pieces = self._cut(_coalesce(iter([answer.body]) if isinstance(answer.body, bytes) else answer.body))
        start: list[Bytes] = []
        complete = False
        try:
            while sum(map(len, start)) <= JERSEY_BUFFER:
                start.append(next(pieces))
        except StopIteration:
            complete = True
        except ErrorAnswer as error:
            answer = error.answer
            assert isinstance(answer.body, bytes)
            start, complete = [answer.body], True
        body, length = _chain(start, pieces), sum(map(len, start)) if complete else None
        if self._compresses(length):
            answer.headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
            body, length = _gzip(body), None
        await self._start(answer, length)
        await self._stream(body)

    async def _start(self, answer: Answer, length: int | None) -> None:
        headers = [*answer.headers]
        if answer.media_type is not None:
            headers.append(("Content-Type", answer.media_type))
        if length is not None and answer.status not in (204, 304):
            headers.append(("Content-Length", str(length)))
        if self._number >= REQUESTS_PER_CONNECTION:
            headers.append(("Connection", "close"))
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": encoded})

    async def _stream(self, body: Iterator[Bytes]) -> None:
        async for piece in self._paced(body):
            if self._transport is not None and self._transport.is_closing():
                raise ConnectionAbortedError
            if not self._head:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # a client that reads as fast as we write must not keep the others waiting
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _paced(self, body: Iterator[Bytes]) -> AsyncIterator[Bytes]:
        """The body with the connection's faults."""
        marks = sorted(
            (fault.options["byte"], kind)
            for kind in ("reset", "stall", "revoke")
            if (fault := self._plan.get(kind)) and "byte" in fault.options
        )
        step, pause = self._plan.option("trickle", "bytes"), self._plan.option("trickle", "seconds", 0)
        position = 0
        for piece in body:
            view = memoryview(piece)
            while marks and marks[0][0] <= position + len(view):
                mark, kind = marks.pop(0)
                yield view[: mark - position]
                view, position = view[mark - position :], mark
                await self._strike(kind)
            position += len(view)
            if step is None:
                yield view
                continue
            for offset in range(0, len(view), step):
                yield view[offset : offset + step]
                await asyncio.sleep(pause)

    async def _strike(self, kind: str) -> None:
        fault = self._plan.get(kind)
        assert fault is not None
        if kind == "reset":
            await self._reset()
        elif kind == "stall":
            await self._stall(fault)
        else:
            self.revoke()

    def _cut(self, pieces: Iterator[Bytes]) -> Iterator[Bytes]:
        """The body, ended early or never if a fault says so."""
        if fault := self._plan.get("endless"):
            return itertools.chain(_take(pieces, fault.options["byte"]), itertools.repeat(bytes(PIECE)))
        fault = self._plan.get("cut")
        if fault is None:
            return pieces
        if "byte" in fault.options:
            return _take(pieces, fault.options["byte"])
        whole = b"".join(pieces)
        return iter([whole[: int(len(whole) * fault.options.get("fraction", 0.5))]])

    def _compresses(self, length: int | None) -> bool:
        if self._plan.get("gzip"):
            return True
        offered = "gzip" in self._headers.get("accept-encoding", "")
        return self._behaviour.gzip and offered and (length is None or length >= GZIP_MINIMUM)

    def abort(self) -> None:
        """End the connection without finishing anything."""
        if self._transport is not None:
            self._transport.abort()

    async def _reset(self) -> None:
        """End the connection with a TCP reset instead of a proper end."""
        if self._transport is not None:
            raw: Any = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
            await self._disconnected()
        raise ConnectionResetError

    async def _stall(self, fault: Fault) -> None:
        """Nothing, until the fault is lifted or the client goes away."""
        lifted = asyncio.ensure_future(fault.lifted.wait())
        gone = asyncio.ensure_future(self._disconnected())
        try:
            await asyncio.wait([lifted, gone], return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ConnectionAbortedError
        finally:
            for task in (lifted, gone):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _coalesce(pieces: Iterator[Bytes]) -> Iterator[Bytes]:
    """The same bytes in pieces worth sending, empty ones left out; big ones are not copied unless small ones wait."""
    waiting: list[Bytes] = []
    size = 0
    try:
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield waiting[0] if len(waiting) == 1 else b"".join(waiting)
                waiting, size = [], 0
    except ErrorAnswer:
        if size:
            yield b"".join(waiting)
        raise
    if size:
        yield b"".join(waiting)


def _take(pieces: Iterator[Bytes], count: int) -> Iterator[Bytes]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def _chain(start: list[Bytes], rest: Iterator[Bytes]) -> Iterator[Bytes]:
    """The pieces, ending quietly where something behind the service breaks."""
    yield from start
    with contextlib.suppress(ErrorAnswer):
        yield from rest


def _gzip(pieces: Iterator[Bytes]) -> Iterator[Bytes]:
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
    for piece in pieces:
        if squeezed := compressor.compress(piece):
            yield squeezed
    yield compressor.flush()
