"""Study search: `GET /api/studies` (PS3.18 10.6; contract: "Study search").

The list comes from Kheops's own database, not from the PACS: it knows fewer attributes, counts from memory, sorts and
pages as a client expects, and writes some values oddly. Each study appears once, whatever it is reached through; its
instances are counted once for each way to them.
"""

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass

from kheopsfs.demo.accounts import Holdings, Principal, Source, shown
from kheopsfs.demo.answers import NO_CACHE, Answer, Call, json_answer
from kheopsfs.demo.credentials import for_authorization
from kheopsfs.demo.elements import Attributes, encode, tag
from kheopsfs.demo.library import STUDY_TAGS, Study
from kheopsfs.demo.listing import Order, bad_parameter, media_type, only_favorites, page, require_read

_DESCRIPTION, _FAVORITES, _COMMENTS = "00081030", "00012345", "00012346"

_SORTS = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "StudyInstanceUID",
    "StudyID",
)
_TEXT_FILTERS = (
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "StudyID",
    "StudyDescription",
)

KEPT_SEARCHES = 8
"""Sorted results that are kept between the pages of one search: sorting 100 000 studies again for each would show."""


def studies(call: Call) -> Answer:
    """The studies of a source."""
    principal = for_authorization(call)
    as_type = media_type(call)
    source = call.source(principal)
    require_read(principal)
    fields = _fields(call, source)
    found = _found(call, principal, source)
    if only_favorites(call, source):
        found = []
    wanted = page(call, found)
    headers = [("X-Total-Count", str(len(found))), NO_CACHE]
    if not wanted:
        return Answer(204, headers=headers)
    if (remaining := len(found) - int(call.query.get("offset", "0")) - len(wanted)) > 0:
        warning = f"Warning: 299 {{+service}}: There are {remaining} additional results that can be requested"
        headers.append(("Warning", warning))  # malformed on purpose
    return json_answer([_row(call, match, fields) for match in wanted], as_type, headers)


def _fields(call: Call, source: Source) -> set[str]:
    asked = {tag(field) or field for value in call.query.getlist("includefield") for field in value.split(",")}
    asked |= {{"favorite": _FAVORITES, "comments": _COMMENTS}.get(field, field) for field in asked}
    if _FAVORITES in asked and source is None:
        raise bad_parameter("includefield")
    return asked & {_DESCRIPTION, _FAVORITES, _COMMENTS}


@dataclass(frozen=True)
class _Match:
    """A study, and the holdings through which it was reached."""

    study: Study
    ways: list[Holdings]


_Filter = Callable[[_Match], bool]


def _found(call: Call, principal: Principal, source: Source) -> list[_Match]:
    """All matches in order."""
    order = Order(call, _SORTS, "-StudyDate")
    filters = _filters(call)
    asked = sorted(item for item in call.query.multi_items() if item[0] not in ("limit", "offset"))
    holder = principal.viewer.secret if principal.viewer else principal.token.secret
    key = (holder, *asked)
    kept: dict[object, list[_Match]] = call.library.kept.setdefault("studies", {})
    if key not in kept:
        known = call.library.studies
        reached = (_Match(known[uid], ways) for uid, ways in principal.reach(source).items() if uid in known)
        found = [match for match in reached if all(fits(match) for fits in filters)]
        found.sort(key=lambda match: match.study.StudyInstanceUID)
        found.sort(key=lambda match: order.key(_sortable(match.study)), reverse=order.descending)
        while len(kept) >= KEPT_SEARCHES:
            del kept[next(iter(kept))]
        kept[key] = found
    return kept[key]


def _sortable(study: Study) -> Attributes:
    return study.attributes | {"0020000D": (study.StudyInstanceUID,)}


def _filters(call: Call) -> list[_Filter]:
    asked: dict[str, str] = {}
    for name, value in call.query.multi_items():
        asked.setdefault(tag(name) or name, value)
    filters: list[_Filter] = []
    for keyword in _TEXT_FILTERS:
        name = tag(keyword) or ""
        if name in asked:
            filters.append(_text_filter(name, asked[name]))
    for keyword, check in (("StudyDate", _date), ("StudyTime", _time)):
        name = tag(keyword) or ""
        if name in asked:
            filters.append(_range_filter(name, asked[name], check, keyword))
    if uid := asked.get("0020000D"):
        filters.append(lambda match: match.study.StudyInstanceUID == uid)
    if modality := asked.get("00080061"):
        filters.append(lambda match: modality.upper() in {one.modality for one in shown(match.study, match.ways)})
    return filters


def _text_filter(name: str, wanted: str) -> _Filter:
    """Case-insensitive; the star is the only wildcard. A person name fits with any of its groups."""
    pattern = re.compile(".*".join(map(re.escape, wanted.split("*"))), re.IGNORECASE | re.DOTALL)

    def fits(match: _Match) -> bool:
        text = next(iter(match.study.attributes.get(name, ())), "")
        return any(pattern.fullmatch(part) for part in (text, *text.split("=")))

    return fits


def _range_filter(name: str, wanted: str, check: Callable[[str], bool], keyword: str) -> _Filter:
    first, dash, last = wanted.partition("-")
    given = [bound for bound in (first, last) if bound]
    if not given or not all(check(bound) for bound in given):
        raise bad_parameter(keyword)
    low, high = (first, last or "\uffff") if dash else (first, first)

    def fits(match: _Match) -> bool:
        text = next(iter(match.study.attributes.get(name, ())), "")
        return bool(text) and low <= text <= high

    return fits


def _date(text: str) -> bool:
    try:
        datetime.datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return len(text) == 8


def _time(text: str) -> bool:
    return re.fullmatch(r"([01]\d|2[0-3])[0-5]\d[0-5]\d\.\d{6}", text) is not None


def _row(call: Call, match: _Match, fields: set[str]) -> dict[str, object]:
    study, visible = match.study, shown(match.study, match.ways)
    modalities = sorted({one.modality for one in visible if one.modality})
    counted = sum(one.counted * sum(one in way for way in match.ways) for one in visible)
    values: Attributes = {
        "00080056": ("ONLINE",),
        "00080061": tuple(text if place == 0 else f" {text}" for place, text in enumerate(modalities)) or ("",),
        "0020000D": (study.StudyInstanceUID,),
        "00201206": (str(len(visible)),),
        "00201208": (str(counted),),
    }
    for name in STUDY_TAGS:
        if study.attributes.get(name) and (name != _DESCRIPTION or _DESCRIPTION in fields):
            values[name] = study.attributes[name]
    if _FAVORITES in fields:
        values[_FAVORITES] = ("0",)
    if _COMMENTS in fields:
        values[_COMMENTS] = ("0",)
    return encode(values, numbers=call.behaviour.numbers, vrs={_DESCRIPTION: "CS"})
