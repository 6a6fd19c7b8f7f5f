"""DICOM JSON (PS3.18 Annex F), as servers really write it, into the text that a record keeps.

The model: a list is an array of datasets, a dataset maps tags to elements, an element may have a ``Value``. Nothing
beyond that is taken for granted. Values may be missing or null, numbers may be text, text may be a number, names may
lack their alphabetic group, any of it may be of an absurd type. What makes no sense is left out; it never spoils the
row. Only a row without a usable UID is dropped as a whole, because nothing could be asked for with it.

Left out on purpose: sequences and bulk data (a record is flat), and URLs, because in link mode they hold the token (the
Kheops contract, "Authentication"). Empty elements are left out too: for a reader absent and empty are one.

Lists are long, so they are parsed straight into the two small classes below, which the garbage collector does not
follow. A list that does not fit them, because of one absurd value somewhere, is parsed again in a slower way that does
not mind.
"""

import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any, TypeVar

import msgspec
from pydicom.datadict import dictionary_VR, keyword_for_tag

from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops.answers import demand_parsable, parse_json
from kheopsfs.kheops.records import UID_PATTERN, Instance, Record, Series, Study

logger = logging.getLogger("kheopsfs.kheops")

R = TypeVar("R", bound=Record)


class PersonName(msgspec.Struct, gc=False):
    """The component groups of a name (PS3.18 F.2.2), in the order in which PS3.5 6.2.1 joins them."""

    Alphabetic: str | None = None
    Ideographic: str | None = None
    Phonetic: str | None = None


class Element(msgspec.Struct, gc=False):
    """One element. The items of a sequence come out as names without groups, which are nothing."""

    Value: list[str | int | float | bool | PersonName | None] | None = None


Row = dict[str, Element]

_decoder = msgspec.json.Decoder(list[Row])

# Bytes of UTF-8 kept of one element. The longest text that a list is good for is a comment; a page of absurd ones must
# not fill the memory.
_TEXT_LIMIT = 64 * 1024

# Characters; shorter text cannot reach the limit, whatever its characters are.
_SHORT_TEXT = _TEXT_LIMIT // 4

_UID = re.compile(UID_PATTERN)

_TAG = re.compile(r"[0-9A-F]{8}", re.ASCII)

# Tags that a server makes up are without number, those that lists contain are not.
_NAMES_LIMIT = 4096

_names: dict[str, str] = {}


def parse(content: bytes) -> list[Row]:
    """The rows of a list. A row that is no object is an empty one.

    Raises:
        BadAnswerError: not JSON, not all of it, not an array, or absurdly much of it.
    """
    demand_parsable(content)
    try:
        return _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        document = parse_json(content)
        if not isinstance(document, list):
            raise BadAnswerError("The answer is not a list.") from None
        return [_tolerated(row) for row in document]


def studies(rows: Iterable[Row]) -> list[Study]:
    """The studies of a study list."""
    return _records(rows, lambda found: _identified(Study, found, "StudyInstanceUID"))


def series(rows: Iterable[Row], StudyInstanceUID: str) -> list[Series]:
    """The series of a study's list. Which study that is is known from the request, whatever the rows say."""

    def record(found: dict[str, str]) -> Series | None:
        found.pop("StudyInstanceUID", None)
        return _identified(Series, found, "SeriesInstanceUID", StudyInstanceUID=StudyInstanceUID)

    return _records(rows, record)


def instances(
    rows: Iterable[Row], StudyInstanceUID: str, SeriesInstanceUID: str, keep: frozenset[str]
) -> list[Instance]:
    """The instances of a series' list, or of its metadata.

    Args:
        rows: what the server gave.
        StudyInstanceUID: the study that was asked for.
        SeriesInstanceUID: the series that was asked for.
        keep: the attributes to keep, out of the hundreds that metadata have.
    """

    ancestors = {"StudyInstanceUID": StudyInstanceUID, "SeriesInstanceUID": SeriesInstanceUID}
    kept = keep | {"SOPInstanceUID"}
    return _records(rows, lambda found: _identified(Instance, found, "SOPInstanceUID", **ancestors), kept)


def demand_usable(rows: Sized, records: Sequence[R]) -> Sequence[R]:
    """The records that were made of rows, unless there are rows and not one was good: that is no empty list.

    Raises:
        BadAnswerError: then.
    """
    if rows and not records:
        raise BadAnswerError("The answer is a list in which not one row has a usable UID.")
    return records


def cleaned(text: str) -> str:
    """Text without what no file system, terminal or msgpack can hold: NUL and halves of surrogate pairs; bounded."""
    if "\0" in text:
        text = text.replace("\0", "")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    if len(text) > _SHORT_TEXT:
        text = text.encode()[:_TEXT_LIMIT].decode("utf-8", "ignore")
    return text.strip(" ")


def scalar(value: Any) -> str:
    """One value as text, without the blanks that pad it (PS3.5 6.2). What is neither text nor a number is empty."""
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        # More than 64 bits are in no element; turning thousands of digits into text is slow, or refused.
        return str(value) if abs(value) < 1 << 64 else ""
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(value)
    if isinstance(value, PersonName):
        groups = (value.Alphabetic, value.Ideographic, value.Phonetic)
        return cleaned("=".join(map(scalar, groups)).rstrip("="))
    return ""


def joined(values: Iterable[Any]) -> str:
    """The values of one element, joined by backslashes (PS3.5 6.2); empty if all of them are."""
    text = cleaned("\\".join(map(scalar, values)))
    return text if text.strip("\\") else ""


def _records(
    rows: Iterable[Row], make: Callable[[dict[str, str]], R | None], keep: frozenset[str] | None = None
) -> list[R]:
    made = [make(_texts(row, keep)) for row in rows]
    usable = [record for record in made if record is not None]
    if len(usable) < len(made):
        logger.warning(
            "%d of %d rows of a list have no usable UID and are left out", len(made) - len(usable), len(made)
        )
    return usable


def _texts(row: Row, keep: frozenset[str] | None) -> dict[str, str]:
    """The elements of one row as keyword → text, or those to keep. This is where a long list spends its time."""
    found: dict[str, str] = {}
    for tag, element in row.items():
        values = element.Value
        if not values:
            continue
        name = _names.get(tag)
        if name is None:
            name = _name(tag)
        if not name or (keep is not None and name not in keep):
            continue
        value = values[0]
        if len(values) == 1 and value.__class__ is str and value.isascii() and len(value) < _SHORT_TEXT:
            text = value.replace("\0", "").strip(" ")
        else:
            text = joined(values)
        if text:
            found[name] = text
    return found


def _identified(kind: type[R], found: dict[str, str], own: str, **ancestors: str) -> R | None:
    """Take the row's own UID out of what was found, and make a record of the rest."""
    # A UID has one value; of several the first is as good as any.
    uid = found.pop(own, "").partition("\\")[0].rstrip(" ")
    return kind.pack(found, **ancestors, **{own: uid}) if _UID.fullmatch(uid) else None


def _tolerated(row: Any) -> Row:
    """What makes sense of a row that does not fit."""
    if not isinstance(row, dict):
        return {}
    return {
        tag: Element([_tolerated_value(value) for value in _as_list(element.get("Value"))])
        for tag, element in row.items()
        if isinstance(element, dict)
    }


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _tolerated_value(value: Any) -> str | int | float | PersonName | None:
    if isinstance(value, dict):
        groups = (value.get(group) for group in PersonName.__struct_fields__)
        return PersonName(*(group if isinstance(group, str) else None for group in groups))
    return value if isinstance(value, str | int | float) else None


def _name(tag: str) -> str:
    """The keyword of a tag, its eight digits if the standard has none, or nothing if it is not to be kept."""
    digits = tag.upper()
    name = ""
    if _TAG.fullmatch(digits):
        number = int(digits, 16)
        name = keyword_for_tag(number) or digits
        if name != digits and dictionary_VR(number) in ("SQ", "UR"):
            name = ""
    if len(_names) < _NAMES_LIMIT:
        _names[tag] = name
    return name
