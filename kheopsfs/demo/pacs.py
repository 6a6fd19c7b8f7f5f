"""Series and instance searches as dcm4chee does them, before Kheops touches the answer (PS3.18 10.6).

A name that is no attribute fails the search; a filter on an attribute that is not indexed here matches everything. No
match at all is a 204 at the PACS, which Kheops cannot read (contract: "a page past the end is 500"). At most 1 000 rows
are given, without a word.
"""

import fnmatch
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import QueryParams

from kheopsfs.demo.answers import Call
from kheopsfs.demo.elements import Attributes, is_standard, tag
from kheopsfs.demo.library import Instance, Series

CAP = 1000
"""Rows; dcm4chee's shipped configuration."""

LARGEST = 99_999
"""The largest limit and offset that dcm4chee's patterns admit."""

_CONTROLS = {"includefield", "limit", "offset", "orderby", "fuzzymatching", "includedefaults"}

_COMMON = ("00080005", "00080054", "00080056", "00080201")
_SERIES = (
    *_COMMON,
    *[
        "0020000D",
        "0020000E",
        "00080060",
        "0008103E",
        "00081190",
        "00200011",
        "00201209",
        "00400244",
        "00400245",
        "00400275",
    ],
)
_INSTANCE = (
    *_COMMON,
    *[
        "0020000D",
        "0020000E",
        "00080016",
        "00080018",
        "00081190",
        "00200013",
        "00280008",
        "00280010",
        "00280011",
        "00280100",
    ],
)


class PacsError(Exception):
    """The PACS refuses the search."""


class NoMatchError(Exception):
    """The PACS answers 204."""


@dataclass
class _Row:
    """All that the PACS knows of one match."""

    key: str
    values: Attributes


@dataclass(frozen=True)
class Search:
    """The parameters of one search, as dcm4chee reads them."""

    filters: tuple[tuple[str, str], ...]
    fields: frozenset[str]
    everything: bool
    orderby: tuple[str, ...]
    limit: int
    offset: int

    @classmethod
    def parse(cls, query: QueryParams, ours: Iterable[str] = ()) -> "Search":
        """Read the parameters that Kheops forwards, all but `ours`.

        Raises:
            PacsError: a name is no attribute, or a number is out of range.
        """
        given = [(name, value) for name, value in query.multi_items() if name not in set(ours)]
        fields = [field for name, value in given if name == "includefield" for field in value.split(",")]
        order = [field for name, value in given if name == "orderby" for field in value.split(",")]
        return cls(
            filters=tuple((_tag(name), value) for name, value in given if name not in _CONTROLS),
            fields=frozenset(_tag(field) for field in fields if field != "all"),
            everything="all" in fields,
            orderby=tuple(f"-{_tag(field[1:])}" if field.startswith("-") else _tag(field) for field in order),
            limit=_number(given, "limit", least=1, default=CAP),
            offset=_number(given, "offset", least=0, default=0),
        )


def _tag(name: str) -> str:
    found = tag(name)
    if found is None or not (is_standard(found) or found.startswith("7777")):
        raise PacsError(f"not an attribute: {name}")
    return found


def _number(given: Sequence[tuple[str, str]], name: str, *, least: int, default: int) -> int:
    text = next((value for other, value in given if other == name), None)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and least <= int(text) <= LARGEST):
        raise PacsError(f"{name} out of range")
    return int(text)


def search_series(call: Call, candidates: Iterable[Series], search: Search) -> list[tuple[Series, Attributes]]:
    """The matching series and their attributes.

    Raises:
        NoMatchError: there is none.
    """
    found = {series.SeriesInstanceUID: series for series in candidates}
    rows = [_Row(uid, _series_values(call, series)) for uid, series in found.items()]
    return [(found[row.key], row.values) for row in _run(call, rows, search, _SERIES)]


def search_instances(call: Call, series: Series, search: Search) -> list[Attributes]:
    """The matching instances' attributes.

    Raises:
        NoMatchError: there is none.
    """
    rows = [_Row(uid, _instance_values(call, series, one)) for uid, one in series.instances.items()]
    return [row.values for row in _run(call, rows, search, _INSTANCE)]


def shuffled(call: Call, series: Series) -> list[Instance]:
    """The instances of a series in the PACS's order, which is nobody else's."""
    instances = list(series.instances.values())
    return sorted(instances, key=lambda one: _scatter(one.SOPInstanceUID)) if call.behaviour.shuffled else instances


def _scatter(uid: str) -> int:
    """A number that looks random and is always the same for a UID."""
    return zlib.crc32(uid.encode())


def _run(call: Call, rows: list[_Row], search: Search, defaults: tuple[str, ...]) -> list[_Row]:
    rows = [row for row in rows if all(_matches(row.values, name, pattern) for name, pattern in search.filters)]
    if call.behaviour.shuffled:
        rows.sort(key=lambda row: _scatter(row.key))
    for name in reversed(search.orderby):
        rows.sort(key=partial(_order, name.removeprefix("-")), reverse=name.startswith("-"))
    rows = rows[search.offset :][: min(search.limit, CAP)]
    if not rows:
        raise NoMatchError
    for row in rows:
        row.values = _select(row.values, search, defaults)
    return rows


def _matches(values: Attributes, name: str, pattern: str) -> bool:
    if name not in values or not pattern:
        return True
    wanted = pattern.replace("\\", ",").split(",")
    return any(fnmatch.fnmatchcase(text.lower(), one.lower()) for text in values[name] for one in wanted)


def _order(name: str, row: _Row) -> tuple[int, float, str]:
    text = next(iter(row.values.get(name, ())), "")
    try:
        return 0, float(text), ""
    except ValueError:
        return 1, 0.0, text


def _select(values: Attributes, search: Search, defaults: tuple[str, ...]) -> Attributes:
    """What of the attributes is shown: defaults and requested fields even when empty, private ones only with `all`."""
    shown = {name: values.get(name, ()) for name in (*defaults, *search.fields)}
    if search.everything or "77770010" in search.fields:
        shown |= {name: texts for name, texts in values.items() if search.everything or name.startswith("7777")}
    return {name: texts for name, texts in shown.items() if texts or name in values or is_standard(name)}


def _series_values(call: Call, series: Series) -> Attributes:
    values = series.attributes | {
        "00080054": ("DCM4CHEE",),
        "00080056": ("ONLINE",),
        "00081190": (f"{call.api}/studies/{series.StudyInstanceUID}/series/{series.SeriesInstanceUID}",),
        "0020000D": (series.StudyInstanceUID,),
        "0020000E": (series.SeriesInstanceUID,),
        "00201209": (str(len(series.instances)),),
    }
    if call.behaviour.size_hints:
        values |= {"77770010": ("DCM4CHEE Archive 5",), "77771030": (_RECEIVED,), "77771031": (_RECEIVED,)}
    return values


def _instance_values(call: Call, series: Series, instance: Instance) -> Attributes:
    place = f"{call.api}/studies/{series.StudyInstanceUID}/series/{series.SeriesInstanceUID}"
    values = instance.attributes | {
        "00080054": ("DCM4CHEE",),
        "00080056": ("ONLINE",),
        "00081190": (f"{place}/instances/{instance.SOPInstanceUID}",),
        "0020000D": (series.StudyInstanceUID,),
        "0020000E": (series.SeriesInstanceUID,),
    }
    if "00080005" in series.attributes:
        values["00080005"] = series.attributes["00080005"]
    if call.behaviour.size_hints:
        values |= {
            "77770010": ("DCM4CHEE Archive 5",),
            "77771040": (_RECEIVED,),
            "77771041": (_RECEIVED,),
            "77771052": (instance.TransferSyntaxUID,),
            "77771053": (str(stored_size(instance)),),
        }
    return values


_RECEIVED = "20240305101530.000+0000"


def stored_size(instance: Instance) -> int:
    """StorageObjectSize: within 2 KiB of what is delivered, on either side, never equal; wraps at 4 GiB."""
    difference = _scatter(instance.SOPInstanceUID) % 4096 - 2048 or 2048
    return max(instance.body.size + difference, 1) % 2**32
