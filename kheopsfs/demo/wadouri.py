"""WADO-URI: one object by query parameters, as DICOM or as a picture (PS3.18 clause 9; contract: "Retrieval").

nginx has checked requestType. The proxy insists on study and series before it looks at the token; the rest is the
PACS's: a multi-frame image is not rendered without a frame number, and what is no image is not rendered at all.
"""

import html
from collections.abc import Iterator

from kheopsfs.demo import rendering
from kheopsfs.demo.answers import HTML, NO_CACHE, Answer, Call, ErrorAnswer, pacs_error, tomcat
from kheopsfs.demo.bodies import Bytes
from kheopsfs.demo.conversion import ENCAPSULATED_DOCUMENT, as_asked, element_bytes
from kheopsfs.demo.credentials import for_proxy
from kheopsfs.demo.delivery import Part, cut, failure, parts
from kheopsfs.demo.library import Instance
from kheopsfs.demo.qido import accessible
from kheopsfs.demo.wado import middle

DICOM, JPEG, PNG, PDF = "application/dicom", "image/jpeg", "image/png", "application/pdf"

_ONLY_FOR_PICTURES = [
    "rows",
    "columns",
    "frameNumber",
    "imageQuality",
    "windowCenter",
    "windowWidth",
    "region",
    "annotation",
]

DEFAULT_QUALITY = 90
"""JPEG quality, 1 to 100, when a request names none."""

_SR = "1.2.840.10008.5.1.4.1.1.88."
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def wado(call: Call) -> Answer:
    """`GET /api/wado?requestType=WADO&…`."""
    places = [call.query.getlist(name) for name in ("studyUID", "seriesUID")]
    if any(len(values) != 1 for values in places):
        return tomcat(400)
    series = accessible(call, for_proxy(call), places[0][0], places[1][0])
    object_uid = call.query.get("objectUID")
    if object_uid is None and series.instances:
        found = middle(call, series)
    elif object_uid in series.instances:
        found = series.instances[object_uid]
    else:
        return pacs_error(404, "No matches")
    wanted = call.query.get("contentType", _natural_type(found)).partition(";")[0]
    answer = _dicom(call, found) if wanted == DICOM else _other(call, found, wanted)
    answer.headers.append(NO_CACHE)
    return answer


def _natural_type(found: Instance) -> str:
    if found.text("00080016").startswith(_SR):
        return "text/html"
    if found.text("00080016") == _ENCAPSULATED_PDF:
        return PDF
    return JPEG if found.frames == 1 and rendering.is_image(found) else DICOM


def _dicom(call: Call, found: Instance) -> Answer:
    if any(name in call.query for name in _ONLY_FOR_PICTURES):
        return pacs_error(400, "Not applicable to application/dicom")
    converted = as_asked(found, call.query.get("transferSyntax"))
    if converted is None:
        return pacs_error(406, "Transfer syntax not supported")

    def make(one: Instance) -> Part:
        return Part(DICOM, converted[1] if one is found else one.body)

    def pieces() -> Iterator[Bytes]:
        for number, part in enumerate(parts(iter([found]), make, call)):
            yield from cut(part.body, failure(call.plan)(number))

    return Answer(200, DICOM, pieces())


def _other(call: Call, found: Instance, wanted: str) -> Answer:
    if wanted == PDF and found.text("00080016") == _ENCAPSULATED_PDF:
        return Answer(200, PDF, element_bytes(found, ENCAPSULATED_DOCUMENT))
    if wanted == "text/html" and found.text("00080016").startswith(_SR):
        return Answer(200, HTML, f"<html><body>{html.escape(found.SOPInstanceUID)}</body></html>".encode())
    if wanted not in (JPEG, PNG) or not rendering.is_image(found):
        return pacs_error(406, "Not renderable")
    return _picture(call, found, "JPEG" if wanted == JPEG else "PNG")


def _picture(call: Call, found: Instance, kind: rendering.Format) -> Answer:
    number = _number(call, "frameNumber")
    if number is None and found.frames > 1:
        return pacs_error(406, "A multi-frame image needs a frameNumber")
    if (number or 1) > found.frames:
        return pacs_error(404, "No such frame")
    size, window = (_number(call, "columns"), _number(call, "rows")), _window(call)
    quality = _number(call, "imageQuality") or DEFAULT_QUALITY
    try:
        image = rendering.picture(found, number or 1, size, window)
        body = rendering.encode(image, kind, quality)
    except Exception:
        return tomcat(502)
    return Answer(200, f"image/{kind.lower()}", body)


def _number(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ErrorAnswer(pacs_error(400, name))
    return int(text)


def _window(call: Call) -> tuple[float, float] | None:
    given = [call.query.get(name) for name in ("windowCenter", "windowWidth")]
    try:
        centre, width = (None if text is None else float(text) for text in given)
    except ValueError as error:
        raise ErrorAnswer(pacs_error(400, "window")) from error
    if (centre is None) != (width is None):
        raise ErrorAnswer(pacs_error(400, "window"))
    return None if centre is None or width is None else (centre, width)
