"""Series and instance search as a client sees them (PS3.18 10.6; contract: "Series search", "Instance search").

Both come from the PACS. The Authorization service cuts the series down to what the token may see; the proxy asks for
the instances of one series once it knows that the token may see it. What the PACS does is in `pacs`; what breaks
between the two is here.
"""

from kheopsfs.demo.accounts import Principal
from kheopsfs.demo.answers import (
    DICOM_JSON,
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
from kheopsfs.demo.elements import Attributes, encode
from kheopsfs.demo.library import Series
from kheopsfs.demo.listing import Order, media_type, only_favorites, page, require_read
from kheopsfs.demo.pacs import NoMatchError, PacsError, Search, search_instances, search_series

_SORTS = ("Modality", "SeriesInstanceUID", "SeriesNumber", "NumberOfSeriesRelatedInstances")


def series(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/series`."""
    principal = for_authorization(call)
    as_type = media_type(call)
    source = call.source(principal)
    require_read(principal)
    favorites = only_favorites(call, source)
    order = Order(call, _SORTS, "SeriesNumber")
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
    shown = page(call, [] if favorites else rows, least=0)
    shown.sort(key=order.key, reverse=order.descending)  # after paging, so a page is sorted and the pages are not
    body = [encode(values, numbers=call.behaviour.numbers) for values in shown]
    return json_answer(body, as_type, [total, NO_CACHE])


def instances(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/series/{se}/instances`. The query goes to the PACS as it is."""
    principal = for_proxy(call)
    as_type = media_type(call)
    one = accessible(call, principal, StudyInstanceUID, SeriesInstanceUID)
    try:
        rows = search_instances(call, one, Search.parse(call.query))
    except PacsError:
        return tomcat(502)
    except NoMatchError:
        return tomcat(500)
    return json_answer([encode(row, numbers=call.behaviour.numbers) for row in rows], as_type, [NO_CACHE])


def study_instances(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/instances`: one search per visible series, one after the other."""
    principal = for_proxy(call)
    as_type = media_type(call)
    visible = source_series(call, principal, StudyInstanceUID)
    rows: list[Attributes] = []
    try:
        search = Search.parse(call.query, ("album", "inbox", "limit", "offset"))
        for one in visible:
            rows += search_instances(call, one, search)
    except PacsError:
        return tomcat(502)
    except NoMatchError:
        return tomcat(500)
    shown = page(call, rows)
    if not shown:
        return Answer(204, headers=[NO_CACHE])
    return json_answer([encode(row, numbers=call.behaviour.numbers) for row in shown], as_type, [NO_CACHE])


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
