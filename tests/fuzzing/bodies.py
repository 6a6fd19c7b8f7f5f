"""Bodies: multipart against a parser that has all of it at hand, DICOM heads, JPEG, zip."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress

from fuzzing.target import Draw, Target
from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops.completeness import check_jpeg, check_zip
from kheopsfs.kheops.delivery import InstanceBegun, InstanceBytes, InstanceReader
from kheopsfs.kheops.dicomfile import HEAD_LIMIT, identify
from kheopsfs.kheops.multipart import HEADER_LIMIT, PADDING_LIMIT, MultipartParser, PartData, PartProven

BOUNDARY = b"b-0"
CONTENT_TYPE = 'multipart/related; type="application/dicom"; boundary=b-0'
_DELIMITER = re.compile(rb"\r\n--b-0(--|[ \t]{0,256}\r\n)")


def reference(body: bytes) -> tuple[list[bytes], bool]:
    """The parts that a delimiter follows, and whether the body was closed; by looking at the whole body at once."""
    text = b"\r\n" + body
    parts: list[bytes] = []
    found = _DELIMITER.search(text)
    while found is not None and found[1] != b"--":
        end = text.find(b"\r\n\r\n", found.end() - 2)
        if end < 0:
            return parts, False
        stated: bytes | None = None
        for line in re.sub(rb"\r\n[ \t]+", b" ", text[found.end() - 2 : end]).split(b"\r\n")[1:]:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name.strip():
                return parts, False
            if name.strip().lower() == "content-length":
                stated = value.strip().encode("latin-1")
        start = end + 4
        if stated is None:
            found = _DELIMITER.search(text, start)
        elif re.fullmatch(rb"[0-9]{1,18}", stated):
            found = _DELIMITER.match(text, start + int(stated))
        else:
            return parts, False
        if found is not None:
            parts.append(text[start : found.start()])
    return parts, found is not None


def cut(draw: Draw, body: bytes) -> Iterator[bytes]:
    """The body in pieces."""
    steps = [1 + draw.number(256) for _ in range(4)]
    at = 0
    while at < len(body):
        step = steps[at % len(steps)]
        yield body[at : at + step]
        at += step


def parts_of(pieces: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """What the parser proves, and that it holds on to no more than it must."""
    parser = MultipartParser(CONTENT_TYPE)
    parts: list[bytes] = []
    arriving = bytearray()
    with suppress(BadAnswerError):
        for piece in pieces:
            for event in parser.feed(piece):
                match event:
                    case PartData(data=data):
                        arriving += data
                    case PartProven():
                        parts.append(bytes(arriving))
                        arriving.clear()
            assert len(parser._held) <= HEADER_LIMIT + PADDING_LIMIT + len(BOUNDARY) + 8
        parser.close()
        return parts, True
    return parts, False


def multipart(data: bytes) -> None:
    """However a body is mutated and cut: proven is what the reference says, no more and no less."""
    draw = Draw(data)
    steps, body = draw.take(4), draw.rest()
    expected = reference(body)
    assert parts_of(iter([body])) == expected
    assert parts_of(cut(Draw(steps), body)) == expected


def proven_by(reader: InstanceReader, pieces: Iterator[bytes]) -> list[tuple[str, bytes]]:
    proven: list[tuple[str, bytes]] = []
    uid = ""
    arriving = bytearray()
    with suppress(BadAnswerError):
        for piece in pieces:
            for event in reader.feed(piece):
                match event:
                    case InstanceBegun(SOPInstanceUID=uid):
                        arriving.clear()
                    case InstanceBytes(data=data):
                        arriving += data
                    case _:
                        proven.append((uid, bytes(arriving)))
            assert reader._head is None or len(reader._head) < HEAD_LIMIT + len(piece)
    return proven


def delivery(data: bytes) -> None:
    """Instances that are proven are parts of the reference, in order, under the UID that is in them."""
    draw = Draw(data)
    steps, alone, body = draw.take(4), draw.number(2), draw.rest()
    asked = "1.2.3" if alone else None
    whole = proven_by(InstanceReader(CONTENT_TYPE, asked, partial=False), iter([body]))
    assert proven_by(InstanceReader(CONTENT_TYPE, asked, partial=False), cut(Draw(steps), body)) == whole
    parts, complete = reference(body)
    assert [content for _, content in whole] == parts[: len(whole)]
    assert all(identify(content[:HEAD_LIMIT], True) == uid for uid, content in whole)
    if alone:
        assert not whole or (complete and len(parts) == 1 and whole[0][0] == asked)
    elif len(whole) < len(parts):
        with suppress(BadAnswerError):
            identify(parts[len(whole)], True)
            raise AssertionError("a part that is whole and says who it is was not proven")


def content_type(data: bytes) -> None:
    """A boundary, or a refusal."""
    with suppress(BadAnswerError):
        MultipartParser(data.decode("latin-1"))


def dicom_head(data: bytes) -> None:
    """A UID, "more", or a refusal; what the beginning of a file said, the whole file does not take back."""
    draw = Draw(data)
    most, head = draw.number(65536), draw.rest()
    early = None
    with suppress(BadAnswerError):
        early = identify(head[:most], False)
    try:
        uid = identify(head, True)
    except BadAnswerError as error:
        assert early is None or "deflated" in str(error)
    else:
        assert uid is not None
        assert re.fullmatch(r"[0-9][0-9.]{0,63}", uid)
        assert early in (None, uid)


def jpeg(data: bytes) -> None:
    """From SOI to EOI, or a refusal."""
    with suppress(BadAnswerError):
        check_jpeg(data)
        assert data[:2] + data[-2:] == b"\xff\xd8\xff\xd9"


def study_zip(data: bytes) -> None:
    """As many instances as expected, or a refusal."""
    draw = Draw(data)
    expected = (None, 0, 1, 2)[draw.number(4)]
    with suppress(BadAnswerError):
        count = check_zip(io.BytesIO(draw.rest()), expected)
        assert count >= 0
        assert expected in (None, count)


# -- seeds ------------------------------------------------------------------------------------------------------------


def element(tag: bytes, vr: bytes, value: bytes) -> bytes:
    return tag + vr + len(value).to_bytes(2, "little") + value


def dicom(uid: bytes = b"1.2.3\0", syntax: bytes = b"1.2.840.10008.1.2.1\0", data_set: bytes | None = None) -> bytes:
    """The least that is a DICOM file."""
    meta = element(b"\x02\0\x03\0", b"UI", uid) + element(b"\x02\0\x10\0", b"UI", syntax)
    if data_set is None:
        data_set = element(b"\x08\0\x16\0", b"UI", b"1.2.840.10008.5.1.4.1.1.7\0") + element(
            b"\x08\0\x18\0", b"UI", uid
        )
    return bytes(128) + b"DICM" + meta + data_set + element(b"\x10\0\x10\0", b"PN", b"Doe^Jane")


def joined(*contents: bytes, headers: bytes = b"Content-Type: application/dicom\r\n") -> bytes:
    """A whole multipart body."""
    parts = (
        b"--b-0\r\n" + headers.replace(b"LENGTH", b"%d" % len(part)) + b"\r\n" + part + b"\r\n" for part in contents
    )
    return b"".join(parts) + b"--b-0--\r\n"


def _deflated() -> bytes:
    data_set = element(b"\x08\0\x18\0", b"UI", b"1.2.3\0") + element(b"\x10\0\x10\0", b"PN", b"Doe^Jane")
    packer = zlib.compressobj(wbits=-15)
    return dicom(syntax=b"1.2.840.10008.1.2.1.99", data_set=packer.compress(data_set) + packer.flush())


def _zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"content of " + name.encode())
    return target.getvalue()


_IMPLICIT = dicom(syntax=b"1.2.840.10008.1.2\0", data_set=b"\x08\0\x18\0" + (6).to_bytes(4, "little") + b"1.2.3\0")
_BODIES = (
    joined(dicom()),
    joined(dicom(), dicom(b"1.2.4\0")),
    joined(dicom(), headers=b"Content-Length: LENGTH\r\n"),
    joined(b"\r\n--b-0 \r", b"--b-0--", b"\r\n\r\n--b-"),
    b"preamble\r\n" + joined(_deflated()) + b"epilogue\r\n--b-0\r\n",
)
_DECISIONS = (b"\0\0\0\0", b"\x00\x06\x40\xff")

TARGETS = (
    Target(multipart, tuple(steps + body for steps in _DECISIONS for body in _BODIES)),
    Target(delivery, tuple(steps + way + body for steps in _DECISIONS for way in (b"\0", b"\1") for body in _BODIES)),
    Target(content_type, (CONTENT_TYPE.encode(), b'Multipart/Related;boundary="a\\"b";x=y')),
    Target(dicom_head, tuple(b"\x00\x90" + file for file in (dicom(), _IMPLICIT, _deflated()))),
    Target(jpeg, (b"\xff\xd8\xff\xe0\0\x10JFIF\xff\xd9",)),
    Target(
        study_zip,
        (*(n + _zipped("DICOM/0/1", "DICOM/0/2", "DICOMDIR") for n in (b"\0", b"\3")), b"\0" + _zipped("DICOMDIR")),
    ),
)
