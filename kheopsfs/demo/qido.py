"""The three searches as a client sees them (PS3.18 10.6; contract: "Study search", "Series search", "Instance search").

Studies come from Kheops's own database. Series and instances come from the PACS: the Authorization service cuts the
series down to what the token may see, the proxy asks for the instances of one series once it knows that the token may
see it. What the PACS does is in `pacs`; what breaks between the two is here.
"""

import datetime
import re
from collections.abc import Callable, Iterable

from kheopsfs.demo.accounts import Principal, Source
from kheopsfs.demo.answers import (
    DICOM_JSON,
    JSON,
    NO_CACHE,
    Answer,
    Call,
    ErrorAnswer,
    json_answer,
    json_error,
    server_fault,
    tomcat,
)
from kheopsfs.demo.credentials import for_authorization, for_proxy, not_accessible
from kheopsfs.demo.elements import Attributes, encode, tag
from kheopsfs.demo.library import STUDY_TAGS, Series, Study
from kheopsfs.demo.pacs import NoMatchError, PacsError, Search, search_instances, search_series

_DESCRIPTION, _FAVORITES, _COMMENTS = "00081030", "00012345", "00012346"

_STUDY_SORTS = ["StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "StudyInstanceUID", "StudyID"]
_SERIES_SORTS = ["Modality", "SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances"]
_TEXT_FILTERS = ["AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID", "StudyID", "StudyDescription"]

KEPT_SEARCHES = 8
"""Sorted results that are kept between the pages of one search: sorting 100 000 studies again for each would show."""


def studies(call: Call) -> Answer:
    """`GET /api/studies`."""
    principal = for_authorization(call)
    media_type = list_media_type(call)
    source = call.source(principal)
    require_read(principal)
    favorite = _favorite(call, source)
    limit = number(call, "limit", least=1)
    offset = number(call, "offset", least=0) or 0
    fields = _study_fields(call, source)
    found = [] if favorite else _found(call, principal, source)
    page = found[offset:] if limit is None else found[offset : offset + limit]
    total = ("X-Total-Count", str(len(found)))
    if not page:
        return Answer(204, headers=[total, NO_CACHE])
    headers = [total, NO_CACHE]
    if (remaining := len(found) - offset - len(page)) > 0:
        warning = f"Warning: 299 {{+service}}: There are {remaining} additional results that can be requested"
        headers.append(("Warning", warning))
    rows = [_study_row(call, principal, source, study, fields) for study in page]
    return json_answer(rows, media_type, headers)


def series(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/series`."""
    principal = for_authorization(call)
    media_type = list_media_type(call)
    source = call.source(principal)
    require_read(principal)
    favorite = _favorite(call, source)
    limit, offset = number(call, "limit", least=0), number(call, "offset", least=0) or 0
    order = _order(call, _SERIES_SORTS, "SeriesNumber")
    study = call.library.studies.get(StudyInstanceUID)
    if study is None or not principal.series(study):
        return tomcat(404)
    visible = {one.SeriesInstanceUID for one in principal.series(study, source)}
    if not visible:
        return Answer(204, headers=[NO_CACHE])
    try:
        search = Search.parse(call.query, ("album", "inbox", "favorite", "limit", "offset", "sort"))
        found = search_series(call, study.series.values(), search)
    except PacsError:
        return json_error(502, "Bad Gateway", "The PACS refused the search", DICOM_JSON)
    except NoMatchError:
        return server_fault()
    rows = [values for one, values in found if one.SeriesInstanceUID in visible]
    total = ("X-Total-Count", str(len(rows)))
    rows = [] if favorite else rows
    page = rows[offset:] if limit is None else rows[offset : offset + limit]
    page.sort(key=order.key, reverse=order.descending)
    body = [encode(values, numbers=call.behaviour.numbers) for values in page]
    return json_answer(body, media_type, [total, NO_CACHE])


def instances(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/series/{se}/instances`. The query goes to the PACS as it is."""
    principal = for_proxy(call)
    media_type = list_media_type(call)
    one = accessible(call, principal, StudyInstanceUID, SeriesInstanceUID)
    try:
        rows = search_instances(call, one, Search.parse(call.query))
    except PacsError:
        return tomcat(502)
    except NoMatchError:
        return tomcat(500)
    return json_answer([encode(row, numbers=call.behaviour.numbers) for row in rows], media_type, [NO_CACHE])


def study_instances(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/instances`: one search per visible series, one after the other."""
    principal = for_proxy(call)
    media_type = list_media_type(call)
    visible = source_series(call, principal, StudyInstanceUID)
    limit, offset = number(call, "limit", least=1), number(call, "offset", least=0) or 0
    rows: list[Attributes] = []
    try:
        search = Search.parse(call.query, ("album", "inbox", "limit", "offset"))
        for one in visible:
            rows += search_instances(call, one, search)
    except PacsError:
        return tomcat(502)
    except NoMatchError:
        return tomcat(500)
    page = rows[offset:] if limit is None else rows[offset : offset + limit]
    if not page:
        return Answer(204, headers=[NO_CACHE])
    return json_answer([encode(row, numbers=call.behaviour.numbers) for row in page], media_type, [NO_CACHE])


def source_series(call: Call, principal: Principal, StudyInstanceUID: str) -> list[Series]:
    """The series that a study-level call of the proxy covers; it asks the Authorization service for them.

    Raises:
        ErrorAnswer: 401 and 403 as they came; 502 for anything else, an unknown study and an empty source included.
    """
    require_read(principal)
    try:
        source = call.source(principal)
    except ErrorAnswer as error:
        raise ErrorAnswer(tomcat(403 if error.answer.status == 403 else 502)) from error
    visible = principal.series(call.library.studies.get(StudyInstanceUID), source)
    if not visible:
        raise ErrorAnswer(tomcat(502))
    return visible


def accessible(call: Call, principal: Principal, StudyInstanceUID: str, SeriesInstanceUID: str) -> Series:
    """A series that the token may retrieve.

    Raises:
        ErrorAnswer: 401, whatever the reason.
    """
    study = call.library.studies.get(StudyInstanceUID)
    if principal.can_read:
        for one in principal.series(study):
            if one.SeriesInstanceUID == SeriesInstanceUID:
                return one
    raise not_accessible()


def require_read(principal: Principal) -> None:
    """Only with the read permission.

    Raises:
        ErrorAnswer: 403.
    """
    if not principal.can_read:
        raise ErrorAnswer(json_error(403, "Forbidden", "The token has no read permission", DICOM_JSON))


def list_media_type(call: Call) -> str:
    """The type of a list.

    Raises:
        ErrorAnswer: 406. The XML form, which Kheops has, is not made here.
    """
    accept = call.headers.get("accept", "*/*")
    if DICOM_JSON in accept or "*/*" in accept or "application/*" in accept:
        return DICOM_JSON
    if JSON in accept:
        return JSON
    raise ErrorAnswer(tomcat(406))


def number(call: Call, name: str, *, least: int) -> int | None:
    """A whole number of the query; None without it.

    Raises:
        ErrorAnswer: 400, junk or too small.
    """
    text = call.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise _bad(name)
    return int(text)


def _bad(parameter: str) -> ErrorAnswer:
    return ErrorAnswer(json_error(400, "Bad Query Parameter", parameter, DICOM_JSON))


def _favorite(call: Call, source: Source) -> bool:
    if "favorite" not in call.query:
        return False
    if call.query["favorite"] != "true" or source is None:
        raise _bad("favorite")
    return True


class _Order:
    """A sort parameter."""

    def __init__(self, name: str, *, descending: bool) -> None:
        self._tag = tag(name) or ""
        self.descending = descending

    def key(self, values: Attributes) -> tuple[int, float, str]:
        text = next(iter(values.get(self._tag, ())), "")
        if self._tag in ("00200011", "00201209"):
            try:
                return 0, float(text), ""
            except ValueError:
                return 1, 0.0, text
        return 0, 0.0, text


def _order(call: Call, admitted: Iterable[str], default: str) -> _Order:
    text = call.query.get("sort", default)
    name = text.removeprefix("-")
    by_tag = {tag(keyword): keyword for keyword in admitted}
    if tag(name) not in by_tag:
        raise _bad("sort")
    return _Order(by_tag[tag(name)], descending=text.startswith("-"))


def _study_fields(call: Call, source: Source) -> set[str]:
    asked = {tag(field) or field for value in call.query.getlist("includefield") for field in value.split(",")}
    asked |= {{"favorite": _FAVORITES, "comments": _COMMENTS}.get(field, field) for field in asked}
    if _FAVORITES in asked and source is None:
        raise _bad("includefield")
    return asked & {_DESCRIPTION, _FAVORITES, _COMMENTS}


def _found(call: Call, principal: Principal, source: Source) -> list[Study]:
    """All matches in order."""
    order = _order(call, _STUDY_SORTS, "-StudyDate")
    filters = _filters(call, principal, source)
    asked = sorted(item for item in call.query.multi_items() if item[0] not in ("limit", "offset"))
    holder = principal.viewer.secret if principal.viewer else principal.token.secret
    key = (holder, *asked)
    kept = call.library.searches
    if key not in kept:
        found = [study for study in principal.studies(call.library, source) if all(fits(study) for fits in filters)]
        found.sort(key=lambda study: study.StudyInstanceUID)
        found.sort(key=lambda study: order.key(_sortable(study)), reverse=order.descending)
        while len(kept) >= KEPT_SEARCHES:
            del kept[next(iter(kept))]
        kept[key] = found
    return kept[key]


def _sortable(study: Study) -> Attributes:
    return study.attributes | {"0020000D": (study.StudyInstanceUID,)}


_Filter = Callable[[Study], bool]


def _filters(call: Call, principal: Principal, source: Source) -> list[_Filter]:
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
        filters.append(lambda study: study.StudyInstanceUID == uid)
    if modality := asked.get("00080061"):
        filters.append(
            lambda study: modality.upper() in {one.modality.upper() for one in principal.series(study, source)}
        )
    return filters


def _text_filter(name: str, wanted: str) -> _Filter:
    """Case-insensitive; the star is the only wildcard. A person name fits with any of its groups."""
    pattern = re.compile(".*".join(map(re.escape, wanted.split("*"))), re.IGNORECASE | re.DOTALL)

    def fits(study: Study) -> bool:
        text = next(iter(study.attributes.get(name, ())), "")
        return any(pattern.fullmatch(part) for part in (text, *text.split("=")))

    return fits


def _range_filter(name: str, wanted: str, check: Callable[[str], bool], keyword: str) -> _Filter:
    first, dash, last = wanted.partition("-")
    given = [bound for bound in (first, last) if bound]
    if not given or not all(check(bound) for bound in given):
        raise _bad(keyword)
    low, high = (first, last or "\uffff") if dash else (first, first)

    def fits(study: Study) -> bool:
        text = next(iter(study.attributes.get(name, ())), "")
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


def _study_row(call: Call, principal: Principal, source: Source, study: Study, fields: set[str]) -> dict[str, object]:
    visible = principal.series(study, source)
    modalities = sorted({one.modality for one in visible if one.modality})
    counted = sum(one.counted * principal.links(one, source) for one in visible)
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
