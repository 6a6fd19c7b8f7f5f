"""Multipart bodies, DICOM files and cut streams for the retrieval tests, made by simple code of their own.

Nothing here comes from the package under test: bodies are joined by hand, DICOM files written by pydicom.
"""

import io
import itertools
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import pydicom
import trio
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

BOUNDARY = "0f5d1e1c-7b51-4e3d-9c2e-6f5f1b1c2d3e"
CONTENT_TYPE = f'multipart/related;type="application/dicom";transfer-syntax=1.2.840.10008.1.2.1; boundary={BOUNDARY}'

STUDY = "1.2.826.0.1.3680043.8.498.1"
SERIES = "1.2.826.0.1.3680043.8.498.1.2"


def instance_uid(number: int) -> str:
    return f"{SERIES}.{number}"


def dicom_file(SOPInstanceUID: str, pixels: bytes = b"") -> bytes:
    """A small image of one row, with `pixels` as its PixelData."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set = Dataset()
    data_set.file_meta = meta
    data_set.SOPClassUID = SecondaryCaptureImageStorage
    data_set.SOPInstanceUID = SOPInstanceUID
    data_set.StudyInstanceUID = STUDY
    data_set.SeriesInstanceUID = SERIES
    data_set.PatientName = "Nobody^Known"
    if pixels:
        data_set.PixelData = pixels + bytes(len(pixels) % 2)
        data_set["PixelData"].VR = "OB"
    written = io.BytesIO()
    pydicom.dcmwrite(written, data_set, enforce_file_format=True)
    return written.getvalue()


def part(content: bytes, headers: str = "Content-Type: application/dicom\r\n") -> bytes:
    """One part with the delimiter before it, as it lies in a body."""
    return f"--{BOUNDARY}\r\n{headers}\r\n".encode() + content + b"\r\n"


def multipart(contents: Sequence[bytes]) -> bytes:
    """A whole body, as dcm4chee writes it."""
    return b"".join(part(content) for content in contents) + f"--{BOUNDARY}--\r\n".encode()


def pieces(body: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """The body, cut at the given positions (any order, any number)."""
    positions = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return (body[start:end] for start, end in itertools.pairwise(positions))


class _OneWay(io.RawIOBase):
    """A target that cannot seek, as the server's answer: zipfile then writes data descriptors."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written += data
        return len(data)


def study_zip_of(files: Sequence[bytes], dicomdir: bytes | None = b"a directory") -> bytes:
    """A study's zip as Kheops streams it: deflate at level 0, DICOMDIR last; None: given up before it."""
    target = _OneWay()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as archive:
        for number, file in enumerate(files, 1):
            archive.writestr(f"DICOM/{number // 1000}/{number}", file)
        if dicomdir is not None:
            archive.writestr("DICOMDIR", dicomdir)
    return bytes(target.written)


@dataclass
class Reply:
    """What a `ScriptedServer` answers: always chunked, because no length is what Kheops gives."""

    chunks: Sequence[bytes]
    content_type: str = CONTENT_TYPE
    status: int = 200
    broken: bool = False  # the connection ends without the last chunk

    def head(self) -> bytes:
        return (
            f"HTTP/1.1 {self.status} Scripted\r\nContent-Type: {self.content_type}\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        ).encode()


@dataclass
class Request:
    """What a `ScriptedServer` was asked."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class ScriptedServer:
    """A server on a real socket that answers everything with `reply`."""

    reply: Reply
    requests: list[Request] = field(default_factory=list)
    hung_up: trio.Event = field(default_factory=trio.Event)  # a client left before it had everything
    url: str = ""

    async def answer(self, stream: trio.SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some()
        line, *fields = head.decode("ascii").rstrip().split("\r\n")
        parts = urlsplit(line.split(" ")[1])
        headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in fields)}
        self.requests.append(Request(parts.path, dict(parse_qsl(parts.query)), headers))
        try:
            await stream.send_all(self.reply.head())
            for chunk in self.reply.chunks:
                if chunk:
                    await stream.send_all(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if not self.reply.broken:
                await stream.send_all(b"0\r\n\r\n")
        except trio.BrokenResourceError:
            self.hung_up.set()
        await stream.aclose()


@asynccontextmanager
async def scripted_server(reply: Reply) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(reply)
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, server.answer, 0, host="127.0.0.1")
        )
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()
