"""Which instances a multipart answer delivers, and which of them are whole.

`InstanceReader` turns the pieces of one answer into events, without I/O. Its model:

* The bytes of a part are the file. Parts are unnamed and unordered, so the head of each is held until it has said which
  instance it is (at most 1 MiB, see `dicomfile`); all other bytes pass through as they come.
* **Of a series**, an instance is whole once the delimiter after its part was seen; whatever happens to the rest, it
  stays whole. An instance that is delivered twice is reported twice.
* **Of one instance** nothing less than the closing boundary will do, the part must be the only one, and it must be the
  instance that was asked for.
* The answer as a whole is good only if it was closed, delivered something, and was not marked as partial: status 206
  without a Range request means that the PACS left some out (the Kheops contract, "Retrieval"). `close` tells.
"""

from collections.abc import Iterator

import msgspec

from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops.dicomfile import HEAD_LIMIT, identify
from kheopsfs.kheops.multipart import MultipartParser, PartBegun, PartData

# Bytes of a part at which it is first asked who it is; doubled each time it could not tell yet, so that a head that
# drips in byte by byte is not joined over and over. The answer is nearly always within the first kilobyte.
_FIRST_LOOK = 1024


class InstanceBegun(msgspec.Struct, frozen=True):
    """An instance begins: its SOPInstanceUID, and its size in bytes where the server stated it."""

    SOPInstanceUID: str
    expected_size: int | None


class InstanceBytes(msgspec.Struct, frozen=True):
    """The next bytes of the instance; a view of the piece that arrived."""

    data: memoryview


class InstanceProven(msgspec.Struct, frozen=True):
    """The instance is whole. Without this event it is not."""


InstanceEvent = InstanceBegun | InstanceBytes | InstanceProven


class InstanceReader:
    """One answer being read.

    Args:
        content_type: the answer's Content-Type field.
        SOPInstanceUID: the one instance that was asked for; None if a series was.
        partial: the answer has status 206.

    Raises:
        BadAnswerError: the answer is not multipart/related.
    """

    def __init__(self, content_type: str, SOPInstanceUID: str | None, *, partial: bool) -> None:
        self._parser = MultipartParser(content_type)
        self._asked = SOPInstanceUID
        self._partial = partial
        self._parts = 0
        self._expected_size: int | None = None
        self._head: bytearray | None = None  # of the part that has not said yet which instance it is
        self._next_look = _FIRST_LOOK
        self.complete = False  # the closing boundary was seen, and nothing before it was wrong

    def feed(self, data: bytes) -> Iterator[InstanceEvent]:
        """Take the next bytes of the answer. Iterate to the end before feeding more.

        Raises:
            BadAnswerError: not well formed, not DICOM, or not the instance that was asked for. What was proven before
                stays proven.
        """
        for event in self._parser.feed(data):
            if isinstance(event, PartData):
                if self._head is None:
                    yield InstanceBytes(event.data)
                    continue
                self._head += event.data
                while self._head is not None and len(self._head) >= self._next_look:
                    yield from self._look(final=False)
            elif isinstance(event, PartBegun):
                self._begin(event)
            else:
                yield from self._look(final=True)
                if self._asked is None:
                    yield InstanceProven()
        if self._parser.complete and not self.complete:
            self.complete = True
            if self._asked is not None and self._parts and not self._partial:
                yield InstanceProven()

    def close(self) -> None:
        """Say that no more bytes will come.

        Raises:
            BadAnswerError: the answer was cut, empty, or marked as partial.
        """
        self._parser.close()
        if self._partial:
            raise BadAnswerError("The server's answer is incomplete: it left out some instances (status 206).")
        if not self._parts:
            raise BadAnswerError("The server's answer holds no instance.")

    def _begin(self, part: PartBegun) -> None:
        self._parts += 1
        if self._asked is not None and self._parts > 1:
            raise BadAnswerError("The server delivered more than the one instance that was asked for.")
        self._expected_size = part.content_length
        self._head = bytearray()  # a copy: views of pieces of one byte would take a hundred times as much
        self._next_look = _FIRST_LOOK

    def _look(self, *, final: bool) -> Iterator[InstanceEvent]:
        """Ask the head which instance it is; if it tells, let it pass."""
        if self._head is None:
            return
        # Looked at are 1, 2, 4 … KiB, wherever the pieces end: how an answer was cut must not change what it is.
        SOPInstanceUID = identify(bytes(self._head if final else self._head[: self._next_look]), final)
        if SOPInstanceUID is None:
            self._next_look = min(2 * self._next_look, HEAD_LIMIT)
            return
        if self._asked not in (None, SOPInstanceUID):
            raise BadAnswerError("The server delivered another instance than the one that was asked for.")
        yield InstanceBegun(SOPInstanceUID, self._expected_size)
        head, self._head = self._head, None
        yield InstanceBytes(memoryview(head))
