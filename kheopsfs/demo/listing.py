"""What the lists of Kheops's own services have in common: their parameters, their types, who may read.

A parameter that is understood and wrong is 400; one that is not understood is not looked at.
"""

from collections.abc import Iterable
from typing import TypeVar

from kheopsfs.demo.accounts import Principal, Source
from kheopsfs.demo.answers import DICOM_JSON, JSON, Call, ErrorAnswer, json_error, tomcat
from kheopsfs.demo.elements import Attributes, tag

Row = TypeVar("Row")

_NUMERIC = ("00200011", "00201209")  # SeriesNumber, NumberOfSeriesRelatedInstances


class Order:
    """A sort parameter, by keyword or by tag, descending with a dash in front.

    Raises:
        ErrorAnswer: 400, not one of the `admitted` keywords.
    """

    def __init__(self, call: Call, admitted: Iterable[str], default: str) -> None:
        text = call.query.get("sort", default)
        self._tag = tag(text.removeprefix("-"))
        self.descending = text.startswith("-")
        if self._tag is None or self._tag not in map(tag, admitted):
            raise bad_parameter("sort")

    def key(self, values: Attributes) -> tuple[int, float, str]:
        """What rows are sorted by; numbers before what is none."""
        text = next(iter(values.get(self._tag or "", ())), "")
        if self._tag not in _NUMERIC:
            return 0, 0.0, text
        try:
            return 0, float(text), ""
        except ValueError:
            return 1, 0.0, text


def page(call: Call, rows: list[Row], *, least: int = 1) -> list[Row]:
    """The rows that `limit` and `offset` ask for; `least` is the smallest limit admitted.

    Raises:
        ErrorAnswer: 400, junk or too small.
    """
    limit, offset = _number(call, "limit", least), _number(call, "offset", 0) or 0
    return rows[offset:] if limit is None else rows[offset : offset + limit]


def _number(call: Call, name: str, least: int) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise bad_parameter(name)
    return int(text)


def only_favorites(call: Call, source: Source) -> bool:
    """Whether only favourites are asked for; nothing is one here.

    Raises:
        ErrorAnswer: 400, not ``true`` or without a source.
    """
    if "favorite" not in call.query:
        return False
    if call.query["favorite"] != "true" or source is None:
        raise bad_parameter("favorite")
    return True


def require_read(principal: Principal) -> None:
    """Only with the read permission.

    Raises:
        ErrorAnswer: 403.
    """
    if not principal.can_read:
        raise ErrorAnswer(json_error(403, "Forbidden", "The token has no read permission", DICOM_JSON))


def media_type(call: Call) -> str:
    """The type of a list of DICOM attributes.

    Raises:
        ErrorAnswer: 406. The XML form, which Kheops has, is not made here.
    """
    accept = call.headers.get("accept", "*/*")
    if DICOM_JSON in accept or "*/*" in accept or "application/*" in accept:
        return DICOM_JSON
    if JSON in accept:
        return JSON
    raise ErrorAnswer(tomcat(406))


def bad_parameter(name: str) -> ErrorAnswer:
    """400 for a parameter."""
    return ErrorAnswer(json_error(400, "Bad Query Parameter", name, DICOM_JSON))
