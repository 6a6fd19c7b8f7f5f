"""What comes back from the server, before anybody asks what it means.

Two shapes: an `Answer` is a small JSON document, whole and parsed; a `Body` is a stream of bytes of unknown length.
Both are judged by their media type first. Kheops answers HTML with 200 for any path outside its API, and a proxy in
between may answer HTML for anything, so nothing is parsed on trust.

Content coding is undone here and not by httpx, which neither bounds what one piece expands to nor notices that a gzip
stream ends early. JSON is asked for with gzip, binaries with ``identity``; a server that compresses those all the same
is understood.

Nothing here takes a server's word for how much is to come. A document has a limit in bytes and in values, because one
that is parsed takes many times its length in memory. A body may be of any length, but it has to *come*: a server that
sends a byte now and then, which no idle timeout notices, is as silent as one that sends none (see `LEAST_RATE`).
"""

import json
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import httpcore
import httpx
import msgspec
import trio

from kheopsfs.errors import BadAnswerError, StalledError
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.failures import Passing, translated

T = TypeVar("T")

# Bytes of a document. A page of 1 000 studies takes 1.2 MB; the one list that comes whole, a study's series, less.
ANSWER_LIMIT = 64 * 1024 * 1024

# Values in a document. Each takes up to 100 bytes once it is parsed, and in JSON as few as two. A page of 1 000 studies
# has some 200 000.
_VALUES_LIMIT = 2_000_000

# Bytes per second, on average over `PATIENCE` idle timeouts: less than any line carries, modems included.
LEAST_RATE = 64
PATIENCE = 10

# Bytes that one step of decompression may yield; 256 KiB of gzip can hold 256 MiB.
_DECODED_PIECE = 256 * 1024

_GZIP_WINDOW = zlib.MAX_WBITS | 16  # zlib's way to ask for gzip's own header and checksum


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A JSON document.

    Attributes:
        status: 200, or 204 for an empty list.
        document: what was parsed; None if there was no body.
        total_count: ``X-Total-Count``, the size of the list before paging, if the server said it.
    """

    status: int
    document: T | None = field(repr=False)  # patients' names are in it
    total_count: int | None


class Body:
    """The bytes of an answer that was not refused. Iterate over it once: pieces of up to 256 KiB, decoded.

    The end of the iteration says that HTTP ended properly, which is no proof that the content is whole.

    Iterating raises:
        BadAnswerError: the connection broke in mid-body, or the compression is damaged.
        StalledError: no byte for the idle timeout, or next to none for ten times as long.

    Attributes:
        url: where it comes from, without a token.
        status: 200, or 206 when the PACS left something out.
        content_type: the header as it came, with boundary and all.
        media_type: the same without parameters, in lower case.
        content_length: in bytes, if the server said it and the body is not compressed.
        received: bytes so far, as they came over the line.
    """

    def __init__(
        self,
        address: Address,
        url: str,
        response: httpx.Response,
        idle_timeout: float,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """`heard` is called for each piece that comes."""
        self._address = address
        self._heard = heard
        self.url = url
        self._response = response
        self._patience = PATIENCE * idle_timeout
        self._coding = response.headers.get("content-encoding", "identity").strip().lower()
        self._line = response.aiter_raw()
        self._pieces = self._decoded()
        self.status: int = response.status_code
        self.content_type: str = response.headers.get("content-type", "")
        self.media_type = self.content_type.partition(";")[0].strip().lower()
        self.content_length = count(response.headers.get("content-length")) if self._coding == "identity" else None
        self.received = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except Passing as passing:
            # In mid-body there is no asking again from here: what came before has been handed out.
            raise passing.error from passing.__cause__

    def demand_no_web_page(self) -> None:
        """Raises BadAnswerError for HTML, which is never what was asked for."""
        if self.media_type in ("text/html", "application/xhtml+xml"):
            raise BadAnswerError(f"{self.url} answered with a web page. Is this really the address of a Kheops server?")

    async def read(self) -> bytes:
        """All of a JSON answer.

        Raises:
            Passing: it was cut off; asking again may help.
            StalledError: no byte for the idle timeout.
            BadAnswerError: it is larger than any honest one, or its compression is damaged.
        """
        whole = bytearray()
        async for piece in self._pieces:
            whole += piece
            if len(whole) > ANSWER_LIMIT:
                raise BadAnswerError(f"The answer of {self.url} is absurdly long.")
        return bytes(whole)

    async def aclose(self) -> None:
        """Give the connection back, or end it if there is more to come. No more can be read."""
        await self._pieces.aclose()
        await self._response.aclose()
        # The generators of httpx and httpcore wait in the middle of the body. Now that the connection is closed the
        # next read ends them in order, instead of the garbage collector some time later.
        with trio.CancelScope(shield=True), suppress(httpcore.NetworkError, httpcore.ProtocolError, httpx.StreamError):
            async for _ in self._line:
                pass

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._raw()) as raw:
            if self._coding == "identity":
                async for piece in raw:
                    yield piece
                return
            if self._coding not in ("gzip", "x-gzip"):
                raise BadAnswerError(f"{self.url} answered in a content coding that was not asked for.")
            decoder = zlib.decompressobj(_GZIP_WINDOW)
            async for piece in raw:
                remaining = piece
                while remaining:
                    try:
                        yield decoder.decompress(remaining, _DECODED_PIECE)
                    except zlib.error as error:
                        raise BadAnswerError(f"The answer of {self.url} is damaged: {error}.") from error
                    remaining = decoder.unconsumed_tail
                    if decoder.unused_data:  # which would be kept, all of it
                        raise BadAnswerError(f"The answer of {self.url} goes on behind the end of its compression.")
            # At most the rest of one repetition, 258 bytes, that did not fit into the last piece.
            yield decoder.flush()
            if self.received and not decoder.eof:
                raise Passing(BadAnswerError(f"The answer of {self.url} was cut off after {self.received} bytes."))

    async def _raw(self) -> AsyncGenerator[bytes, None]:
        with translated(self._address, self.url, lambda: self.received):
            waited, came = 0.0, 0  # only time spent here counts, not what the reader does meanwhile
            while True:
                since = trio.current_time()
                with trio.move_on_after(self._patience - waited) as patience:
                    piece = await anext(self._line, None)
                if patience.cancelled_caught:
                    raise StalledError(f"{self.url} fell silent, but for {came} bytes in {self._patience:.0f} s.")
                if piece is None:
                    return
                waited += trio.current_time() - since
                came += len(piece)
                if came >= LEAST_RATE * self._patience:
                    waited, came = 0.0, 0
                self.received += len(piece)
                self._heard()
                yield piece


def parse_json(content: bytes) -> Any:
    """Parse JSON as servers write it: text that is not quite Unicode does not spoil the rest.

    Raises:
        BadAnswerError: not JSON, not all of it, or absurdly much of it.
    """
    demand_parsable(content)
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # msgspec refuses halves of surrogate pairs and stray bytes; the standard library is slower and lets them pass.
        try:
            return json.loads(content.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise BadAnswerError("The answer is not JSON, or not all of it.") from None


def demand_parsable(content: bytes) -> None:
    """Raises BadAnswerError for JSON that would take gigabytes once it is parsed."""
    # Every value opens an object or an array or follows a comma, but for the first ones.
    if sum(map(content.count, (b"{", b"[", b","))) > _VALUES_LIMIT:
        raise BadAnswerError("The answer holds absurdly many values.")


def is_json(media_type: str) -> bool:
    """Whether a body of this type may be parsed. A missing type is judged by the parser."""
    return media_type in ("", "application/json") or media_type.endswith("+json")


def count(text: str | None) -> int | None:
    """A number out of a header, ``Content-Length`` or ``X-Total-Count``; None if it is none.

    More than twelve digits are neither a list nor a body.
    """
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 12 else None
