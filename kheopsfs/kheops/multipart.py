"""multipart/related bodies of any size, taken apart while they arrive (RFC 2046 5.1, RFC 2387, PS3.18 8.6.1.2).

The parser does no I/O and keeps nothing of a part but what may turn out to be the beginning of a delimiter: its memory
does not grow with the body. What it believes:

* A delimiter is CRLF, two hyphens and the boundary, followed either by two more hyphens (it then closes the body) or by
  blanks and CRLF. Anything else that looks like one is data. A dash-boundary at the very start needs no CRLF.
* **A part is whole only once the delimiter after it was seen**, and `PartProven` says so. Nothing else proves it: a
  Kheops server that fails after the first 8 KiB ends the body in the ordinary way (the Kheops contract, "Truncation can
  look complete"). The body is whole only once the closing delimiter was seen; `close` insists on it.
* A part that states its Content-Length is not searched, but the delimiter must follow right where it says.
* Preamble (up to a limit) and epilogue are nobody's business. How the body was cut into pieces changes nothing.

Lines end with CRLF; an answer with bare LF is not read as if it were right.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum, auto

import msgspec

from kheopsfs.errors import BadAnswerError

# Bytes of one part's header block. Servers send three or four short lines; 16 KiB is what HTTP servers allow a request.
HEADER_LIMIT = 16 * 1024

# Bytes before the first delimiter. Nobody sends any; what goes on like this holds no part.
PREAMBLE_LIMIT = 64 * 1024

# Blanks a gateway may add after a delimiter (RFC 2046 "transport-padding"). A limit, or a run of blanks would be held.
PADDING_LIMIT = 256

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")  # RFC 2046 5.1.1
_PARAMETER = re.compile(r'[ \t]*;[ \t]*([^\s;="]+)=("(?:[^"\\]|\\.)*"|[^\s;"]*)')
_DELIMITER_END = re.compile(rb"--|[ \t]{0,%d}\r\n" % PADDING_LIMIT)
_DELIMITER_END_SO_FAR = re.compile(rb"-?|[ \t]{0,%d}\r?" % PADDING_LIMIT)


class PartBegun(msgspec.Struct, frozen=True):
    """The headers of a part were read: lower-case name to value."""

    headers: Mapping[str, str]
    content_length: int | None


class PartData(msgspec.Struct, frozen=True):
    """The next bytes of the part; never empty. A view of the piece that was fed, not a copy."""

    data: memoryview


class PartProven(msgspec.Struct, frozen=True):
    """The delimiter after the part was seen: the part is whole."""


Event = PartBegun | PartData | PartProven


class _Stage(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    BODY = auto()
    OVER = auto()


class MultipartParser:
    """One body being read.

    Args:
        content_type: the answer's Content-Type field.

    Raises:
        BadAnswerError: it is not multipart/related, or names no boundary.
    """

    def __init__(self, content_type: str) -> None:
        self._delimiter = b"\r\n--" + _boundary(content_type)
        self._stage = _Stage.PREAMBLE
        self._held = b"\r\n"  # so that a dash-boundary at the very start is found like any other
        self._owed: int | None = None  # bytes of the part still to come, where it stated its Content-Length
        self._preamble = 0  # bytes of it so far
        self.complete = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes of the body. Iterate to the end before feeding more.

        Scanning is fastest while a piece is still in the processor's cache: feed what a socket gives as it comes.

        Raises:
            BadAnswerError: the body is not well formed. What was proven before stays proven; nothing more will be.
        """
        if self._held:
            data, self._held = self._held + data, b""
        position = 0
        while position < len(data) and self._stage is not _Stage.OVER:
            if self._stage is _Stage.HEADERS:
                begun, position = self._read_headers(data, position)
                if begun is not None:
                    yield begun
                continue
            in_body = self._stage is _Stage.BODY
            end, delimiter_end = self._find_delimiter(data, position)
            if in_body and end > position:
                yield PartData(memoryview(data)[position:end])
            if self._stage is _Stage.PREAMBLE:
                self._preamble += end - position
                if self._preamble > PREAMBLE_LIMIT:
                    raise self._malformed(f"there is no boundary in its first {PREAMBLE_LIMIT} bytes")
            if delimiter_end is None:
                self._held = data[end:]
                return
            self.complete = delimiter_end[0] == b"--"
            self._stage = _Stage.OVER if self.complete else _Stage.HEADERS
            position = delimiter_end.end() - len(b"\r\n")  # a header block begins with the CRLF that ends the delimiter
            if in_body:
                yield PartProven()

    def close(self) -> None:
        """Say that no more bytes will come.

        Raises:
            BadAnswerError: the closing delimiter was not seen.
        """
        if not self.complete:
            raise BadAnswerError("The server's answer was cut short: its closing boundary is missing.")

    def _find_delimiter(self, data: bytes, start: int) -> tuple[int, re.Match[bytes] | None]:
        """Where content ends, and the match that ends the delimiter there; None when only more bytes can tell.

        The first figure without the second: content up to there is certain, the rest must be held.
        """
        if self._owed is None:
            return self._search(data, start)
        skipped = min(self._owed, len(data) - start)
        self._owed -= skipped
        start += skipped
        if self._owed or start == len(data):
            return start, None
        end, delimiter_end = self._search(data, start)
        if end != start:
            raise self._malformed("a part is not as long as it states")
        return end, delimiter_end

    def _search(self, data: bytes, start: int) -> tuple[int, re.Match[bytes] | None]:
        while (found := data.find(self._delimiter, start)) >= 0:
            start = found + len(self._delimiter)
            if delimiter_end := _DELIMITER_END.match(data, start):
                return found, delimiter_end
            if _DELIMITER_END_SO_FAR.fullmatch(data, start):
                return found, None
        # CR is the first byte of a delimiter and occurs nowhere else in it: only the last CR can begin one.
        last = data.rfind(b"\r", max(start, len(data) - len(self._delimiter) + 1))
        return (last if last >= 0 and self._delimiter.startswith(data[last:]) else len(data)), None

    def _read_headers(self, data: bytes, start: int) -> tuple[PartBegun | None, int]:
        """The part's headers and where its content starts; None, and everything held, until the empty line came."""
        end = data.find(b"\r\n\r\n", start, start + HEADER_LIMIT)
        if end < 0:
            if len(data) - start >= HEADER_LIMIT:
                raise self._malformed(f"the header of a part is longer than {HEADER_LIMIT} bytes")
            self._held = data[start:]
            return None, len(data)
        block = data[start:end].decode("latin-1")
        headers: dict[str, str] = {}
        for line in re.sub(r"\r\n[ \t]+", " ", block).split("\r\n")[1:]:  # folded lines: RFC 5322 2.2.3
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                raise self._malformed("the header of a part holds a line without a name")
            headers[name.strip().lower()] = value.strip()
        self._owed = self._content_length(headers)
        self._stage = _Stage.BODY
        return PartBegun(headers, self._owed), end + len(b"\r\n\r\n")

    def _content_length(self, headers: Mapping[str, str]) -> int | None:
        text = headers.get("content-length")
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise self._malformed("the Content-Length of a part is not a number")
        return int(text)

    def _malformed(self, what: str) -> BadAnswerError:
        self._stage = _Stage.OVER
        return BadAnswerError(f"The server's answer is not well-formed multipart: {what}.")


def _boundary(content_type: str) -> bytes:
    """The boundary that a Content-Type field names (RFC 2387, RFC 9110 8.3.1)."""
    media_type, _, _ = content_type.partition(";")
    if media_type.strip().lower() != "multipart/related":
        raise BadAnswerError("The server's answer is not multipart/related.")
    position = len(media_type)
    while parameter := _PARAMETER.match(content_type, position):
        position = parameter.end()
        if parameter[1].lower() == "boundary":
            value = parameter[2]
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            if _BOUNDARY.fullmatch(value):
                return value.encode("ascii")
            break
    raise BadAnswerError("The server's multipart answer names no usable boundary.")
