"""The metadata of a series, row by row while they arrive.

Metadata (PS3.18 8.7.2, ``…/metadata``) are the one list that nothing caps: hundreds of attributes for each of thousands
of instances, 100 MB and more, of which a dozen attributes matter. `RowSplitter` cuts the array into smaller arrays as
the bytes come, so that no more than a stretch of it is ever in memory.

It does not follow the JSON character by character, which would be slow. It guesses where a row ends, ``},{"00080005"``:
rows of a list begin with the same tag, and the items of their sequences with another. The parser judges the guess: what
precedes a true boundary is, with the closing bracket added, a whole array; what precedes a false one, inside a sequence
or a text, cannot be. Where guesses fail the stretch doubles, so the work stays proportional to the length, and at the
end what is left is an array in any case.
"""

import re

import msgspec

from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops.answers import ANSWER_LIMIT
from kheopsfs.kheops.dicomjson import Row, parse

# Bytes. One stretch takes some milliseconds to parse and holds from ten to some hundred instances.
_STRETCH = 256 * 1024

# A boundary is looked for in the last part of a stretch only, and only so many guesses are judged.
_WINDOW = 64 * 1024
_GUESSES = 4

_FIRST_TAG = re.compile(rb'\[\s*\{\s*("[0-9A-Fa-f]{8}")')


class RowSplitter:
    """Turns the pieces of a JSON array into rows."""

    def __init__(self) -> None:
        self._rest = bytearray()  # begins with the array's bracket, or one put in its place
        self._next_look = _STRETCH

    def feed(self, piece: bytes) -> list[Row]:
        """Take the next bytes; give the rows that are complete, usually none or many.

        Raises:
            BadAnswerError: a single row is larger than any honest answer.
        """
        self._rest += piece
        if len(self._rest) < self._next_look:
            return []
        rows = self._cut()
        self._next_look = max(_STRETCH, 2 * len(self._rest))
        if len(self._rest) > ANSWER_LIMIT:
            raise BadAnswerError("A list of the server is absurdly long.")
        return rows

    def close(self) -> list[Row]:
        """Say that no more bytes will come; give the rows that are left.

        Raises:
            BadAnswerError: not JSON, not all of it, or not an array.
        """
        return parse(bytes(self._rest))

    def _cut(self) -> list[Row]:
        first_tag = _FIRST_TAG.match(self._rest)
        boundary = re.compile(rb"\}\s*(,)\s*\{\s*" + (first_tag[1] if first_tag else b""))
        guesses = list(boundary.finditer(self._rest, max(0, len(self._rest) - _WINDOW)))
        for comma in [guess.start(1) for guess in guesses[: -_GUESSES - 1 : -1]]:
            stretch = bytes(self._rest[:comma]) + b"]"
            if _is_whole(stretch):
                self._rest[: comma + 1] = b"["
                return parse(stretch)
        return []


def _is_whole(content: bytes) -> bool:
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
