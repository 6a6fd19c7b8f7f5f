"""Which instance is this: the SOPInstanceUID from the first bytes of a DICOM file.

The parts of a series come unnamed and in any order (the Kheops contract, "Retrieval"), so the head of each file says
which instance it is. The data set's SOPInstanceUID counts, because that is what the server's lists name.
MediaStorageSOPInstanceUID of the file meta information must equal it (PS3.10 7.1) but does not always: some tools
change one and forget the other. It counts only where the data set cannot be read as far as that.

Only element headers are read, no values but UIDs, and never more than `HEAD_LIMIT` bytes; whatever the bytes are, the
outcome is a UID, "more bytes are needed" or `BadAnswerError`. A general DICOM reader takes many times as long and
fails in many more ways.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from kheopsfs.errors import BadAnswerError

# Bytes of a file within which it must have said who it is. The meta information takes some hundred; 1 MiB leaves room
# for private information (0002,0102) and for a preamble of data elements before (0008,0018).
HEAD_LIMIT = 1024 * 1024

_META_START = 128 + len(b"DICM")  # PS3.10 7.1
_META_GROUP = 0x0002
_MEDIA_STORAGE_SOP_INSTANCE_UID = 0x0002_0003
_TRANSFER_SYNTAX_UID = 0x0002_0010
_SOP_INSTANCE_UID = 0x0008_0018

_IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"

# Value representations with a length of two bytes; all others reserve two bytes and have four (PS3.5 7.1.2).
_SHORT_LENGTH = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_UNDEFINED_LENGTH = 0xFFFF_FFFF

# PS3.5 9.1. Some writers pad with a blank instead of a NUL. A UID becomes part of names: it must not be "..".
_UID = re.compile(rb"([0-9][0-9.]{0,63})[\0 ]*")


class _MoreNeeded(Exception):  # noqa: N818  not an error: the bytes end here
    """The element goes on beyond the bytes at hand."""


class _Element(NamedTuple):
    tag: int
    start: int
    length: int


def identify(head: bytes, final: bool) -> str | None:
    """The SOPInstanceUID of the DICOM file that begins with `head`.

    Args:
        head: the first bytes of the file, always from its very first.
        final: `head` is the whole file.

    Returns:
        The UID; None if more bytes are needed to tell.

    Raises:
        BadAnswerError: this is no DICOM file, or it does not say which instance it is.
    """
    if not b"DICM".startswith(head[128:_META_START]):
        raise BadAnswerError("The server delivered something that is not a DICOM file.")
    try:
        return _read_uid(head)
    except _MoreNeeded:
        if final or len(head) >= HEAD_LIMIT:
            raise BadAnswerError("The server delivered a DICOM file that does not say which instance it is.") from None
        return None


def _read_uid(head: bytes) -> str:
    media_storage_uid = None
    transfer_syntax = None
    position = _META_START
    for element in _elements(head, position, explicit=True, byte_order="<"):
        if element.tag >> 16 != _META_GROUP:
            break
        if element.tag == _MEDIA_STORAGE_SOP_INSTANCE_UID:
            media_storage_uid = _uid(head, element)
        elif element.tag == _TRANSFER_SYNTAX_UID:
            transfer_syntax = _uid(head, element)
        position = element.start + element.length
    uid = _read_uid_of_data_set(head[position:], transfer_syntax) or media_storage_uid
    if uid is None:
        raise BadAnswerError("The server delivered a DICOM file that does not say which instance it is.")
    return uid


def _read_uid_of_data_set(data: bytes, transfer_syntax: str | None) -> str | None:
    if transfer_syntax == _DEFLATED:
        try:
            data = zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(data, HEAD_LIMIT)
        except zlib.error:
            raise BadAnswerError("The server delivered a DICOM file whose deflated data set is damaged.") from None
    explicit = transfer_syntax != _IMPLICIT_LITTLE_ENDIAN
    byte_order = ">" if transfer_syntax == _EXPLICIT_BIG_ENDIAN else "<"
    for element in _elements(data, 0, explicit=explicit, byte_order=byte_order):
        if element.tag == _SOP_INSTANCE_UID:
            return _uid(data, element)
        if element.tag > _SOP_INSTANCE_UID or element.length == _UNDEFINED_LENGTH:
            break
    return None


def _elements(data: bytes, position: int, *, explicit: bool, byte_order: str) -> Iterator[_Element]:
    """The data elements from `position` on, values unread, as far as they can be read (PS3.5 7.1).

    Raises:
        _MoreNeeded: where the bytes end.
    """
    while position + 8 <= len(data):
        group, number = struct.unpack_from(byte_order + "HH", data, position)
        if not explicit:
            start, (length,) = position + 8, struct.unpack_from(byte_order + "I", data, position + 4)
        elif not data[position + 4 : position + 6].isalpha():
            return  # no VR: the transfer syntax says what is not so, as some writers of compressed files have it
        elif data[position + 4 : position + 6] in _SHORT_LENGTH:
            start, (length,) = position + 8, struct.unpack_from(byte_order + "H", data, position + 6)
        elif position + 12 <= len(data):
            start, (length,) = position + 12, struct.unpack_from(byte_order + "I", data, position + 8)
        else:
            break
        yield _Element(group << 16 | number, start, length)
        position = start + length
    raise _MoreNeeded


def _uid(data: bytes, element: _Element) -> str | None:
    """The UID that is the element's value; None if the value is empty."""
    if not element.length:
        return None
    end = element.start + element.length
    if end > len(data):
        raise _MoreNeeded
    uid = _UID.fullmatch(data, element.start, end)
    if uid is None:
        raise BadAnswerError("The server delivered a DICOM file with a malformed UID.")
    return uid[1].decode("ascii")
