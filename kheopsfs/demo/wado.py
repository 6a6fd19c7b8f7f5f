"""Retrieval through the DICOMweb proxy: WADO-RS, metadata, frames, bulk data, thumbnails (PS3.18 10.4).

A call for a series or anything below it is first exchanged for a token of that one series, and any failure of that is
401. After that the PACS decides. Only the study call is the proxy's own work: it goes through the visible series one
by one and strings their parts together, so that a series that cannot be delivered cuts it short.
"""

from collections.abc import Callable, Iterator

from kheopsfs.demo import metadata, multipart, rendering, zipper
from kheopsfs.demo.accept import MediaRange, parse
from kheopsfs.demo.answers import NO_CACHE, Answer, Call, ErrorAnswer, UpstreamError, pacs_error, tomcat
from kheopsfs.demo.bodies import MemoryBody
from kheopsfs.demo.conversion import PIXEL_DATA, as_asked, element_bytes
from kheopsfs.demo.credentials import for_authorization, for_proxy
from kheopsfs.demo.delivery import Part, of_series, parts
from kheopsfs.demo.library import Instance, Series
from kheopsfs.demo.listing import media_type, require_read
from kheopsfs.demo.pacs import shuffled
from kheopsfs.demo.qido import accessible, source_series

DICOM = "application/dicom"
OCTETS = "application/octet-stream"

INTERNAL_PACS = "http://pacsarc:8080/dcm4chee-arc/aets/DCM4CHEE/rs"
"""What study metadata give away: addresses inside the operator's network."""

THUMBNAIL = 64
"""Columns and rows of a thumbnail when no viewport is given."""


def study(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}`."""
    principal = for_proxy(call)
    accepted = parse(call.headers.get("accept"))
    if len(accepted) != 1:  # missing, or a list, which the proxy cannot handle
        return tomcat(406)
    wanted = accepted[0]
    if wanted.is_wildcard:
        wanted = MediaRange("multipart/related", {"type": OCTETS})
    if wanted.media_type != "multipart/related" or wanted.type not in (DICOM, OCTETS):
        return tomcat(406)
    visible = source_series(call, principal, StudyInstanceUID)
    return _answer(call, (one for _, one in of_series(call, principal, visible)), wanted)


def series(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/series/{se}`."""
    one = accessible(call, for_proxy(call), StudyInstanceUID, SeriesInstanceUID)
    return _retrieve(call, shuffled(call, one))


def instance(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str) -> Answer:
    """`GET …/instances/{i}`."""
    return _retrieve(call, [_instance(call, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID)])


def series_metadata(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str) -> Answer:
    """`GET …/series/{se}/metadata`, not limited to 1 000."""
    one = accessible(call, for_proxy(call), StudyInstanceUID, SeriesInstanceUID)
    return _metadata(call, [one], call.api)


def instance_metadata(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str) -> Answer:
    """`GET …/instances/{i}/metadata`."""
    found = _instance(call, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID)
    only = Series(StudyInstanceUID, SeriesInstanceUID, {}, {SOPInstanceUID: found})
    return _metadata(call, [only], call.api)


def study_metadata(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/metadata`, from the Authorization service; its BulkDataURIs are not rewritten."""
    principal = for_authorization(call)
    require_read(principal)
    source = call.source(principal)
    found = call.library.studies.get(StudyInstanceUID)
    if not principal.series(found):
        return tomcat(404)
    visible = principal.series(found, source)
    if not visible:
        return Answer(204, headers=[NO_CACHE])
    return _metadata(call, visible, INTERNAL_PACS)


def frame(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str, number: str) -> Answer:
    """`GET …/frames/{n}`: the pixels of one frame, decompressed."""
    found = _instance(call, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID)
    if not any(one.is_wildcard or (one.is_multipart and one.type == OCTETS) for one in _ranges(call)):
        return pacs_error(406, "Not acceptable")
    if not 1 <= int(number) <= found.frames:
        return pacs_error(404, "No such frame")
    pixels = element_bytes(found, PIXEL_DATA)
    length = len(pixels) // found.frames
    body = MemoryBody(pixels[(int(number) - 1) * length : int(number) * length])
    return _no_cache(multipart.answer(iter([Part(OCTETS, body)]), OCTETS, call.plan))


def bulkdata(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str, path: str) -> Answer:
    """`GET …/instances/{i}/bulkdata/{path}`: one value of the data set's top level."""
    found = _instance(call, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID)
    try:
        body = MemoryBody(element_bytes(found, path))
    except (KeyError, ValueError):  # not there, or below the top level
        return pacs_error(404, "No such bulk data")
    return _no_cache(multipart.answer(iter([Part(OCTETS, body)]), OCTETS, call.plan))


def series_thumbnail(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str) -> Answer:
    """`GET …/series/{se}/thumbnail`: the middle of the unordered list stands for the series."""
    one = accessible(call, for_proxy(call), StudyInstanceUID, SeriesInstanceUID)
    if not one.instances:
        return pacs_error(404, "No matches")
    return _thumbnail(call, middle(call, one), 1)


def instance_thumbnail(
    call: Call, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str, number: str = "1"
) -> Answer:
    """`GET …/instances/{i}/thumbnail` and `…/frames/{n}/thumbnail`."""
    found = _instance(call, StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID)
    return _thumbnail(call, found, int(number))


def middle(call: Call, one: Series) -> Instance:
    """The instance that stands for a series in the PACS's eyes: any."""
    unordered = shuffled(call, one)
    return unordered[len(unordered) // 2]


def _instance(call: Call, StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str) -> Instance:
    one = accessible(call, for_proxy(call), StudyInstanceUID, SeriesInstanceUID)
    if SOPInstanceUID not in one.instances:
        raise ErrorAnswer(pacs_error(404, "No matches"))
    return one.instances[SOPInstanceUID]


def _ranges(call: Call) -> list[MediaRange]:
    """The Accept header as the PACS reads it: missing is anything."""
    return parse(call.headers.get("accept")) or [MediaRange("*/*", {})]


def _retrieve(call: Call, wanted: list[Instance]) -> Answer:
    """What the PACS answers for instances of one series."""
    if not wanted:
        return pacs_error(404, "No matches")
    for one in _ranges(call):
        if one.media_type == "application/zip":
            return zipper.pacs_zip(call, wanted)
        if one.is_wildcard:
            return _answer(call, iter(wanted), MediaRange("multipart/related", {"type": DICOM}))
        if one.is_multipart and one.type in (DICOM, OCTETS):
            return _answer(call, iter(wanted), one)
    return pacs_error(406, "Not acceptable")


def _answer(call: Call, wanted: Iterator[Instance], asked: MediaRange) -> Answer:
    """A multipart answer of DICOM files, or of bare pixel data."""
    make = _pixel_part if asked.type == OCTETS else _dicom_part(asked.parameters.get("transfer-syntax"))

    return _no_cache(multipart.answer(parts(wanted, make, call), asked.type, call.plan))


def _dicom_part(syntax: str | None) -> Callable[[Instance], Part]:
    def make(one: Instance) -> Part:
        converted = as_asked(one, syntax)
        if converted is None:
            raise UpstreamError(406)
        return Part(f"{DICOM};transfer-syntax={converted[0]}", converted[1])

    return make


def _pixel_part(one: Instance) -> Part:
    try:
        return Part(OCTETS, MemoryBody(element_bytes(one, PIXEL_DATA)))
    except KeyError:
        return Part(OCTETS, MemoryBody(b""))


def _metadata(call: Call, visible: list[Series], root: str) -> Answer:
    as_type = media_type(call)

    def listed() -> Iterator[tuple[Instance, str]]:
        for one in visible:
            place = f"{root}/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}/instances"
            for found in shuffled(call, one):
                yield found, f"{place}/{found.SOPInstanceUID}"

    if not any(one.instances for one in visible):
        return pacs_error(404, "No matches")
    return Answer(200, as_type, metadata.array(listed(), numbers=call.behaviour.numbers), [NO_CACHE])


def _thumbnail(call: Call, found: Instance, number: int) -> Answer:
    if not call.behaviour.thumbnails:
        return pacs_error(404, "No such resource")
    accepted = {one.media_type for one in _ranges(call)}
    kind: rendering.Format
    if accepted & {"image/png", "image/*", "*/*"}:
        kind = "PNG"
    elif "image/jpeg" in accepted:
        kind = "JPEG"
    else:
        return pacs_error(406, "Not acceptable")
    columns, rows = _viewport(call)
    if rendering.is_image(found):
        if not 1 <= number <= found.frames:
            return pacs_error(404, "No such frame")
        try:
            image = rendering.picture(found, number, (columns, rows))
        except Exception:
            return pacs_error(500, "Rendering failed")
    else:
        image = rendering.icon(found, columns, rows)
    return _no_cache(Answer(200, f"image/{kind.lower()}", rendering.encode(image, kind)))


def _viewport(call: Call) -> tuple[int, int]:
    parts = call.query.get("viewport", f"{THUMBNAIL},{THUMBNAIL}").split(",")
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise ErrorAnswer(pacs_error(400, "viewport"))
    return int(parts[0]), int(parts[1])


def _no_cache(answer: Answer) -> Answer:
    answer.headers.append(NO_CACHE)
    return answer
