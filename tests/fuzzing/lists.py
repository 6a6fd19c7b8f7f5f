"""Lists and other JSON: from any bytes to records, names, times and sizes."""

import json
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from fuzzing.target import Draw, Target
from kheopsfs.errors import KheopsfsError
from kheopsfs.fetch.catalogue import decoded
from kheopsfs.fetch.sizes import LARGEST_BOUND, bound
from kheopsfs.kheops import albums as album_lists
from kheopsfs.kheops import dicomjson, metadata
from kheopsfs.kheops.answers import parse_json
from kheopsfs.kheops.contents import InstanceFile, StudyZip
from kheopsfs.kheops.instances import _ATTRIBUTES as INSTANCE_ATTRIBUTES
from kheopsfs.kheops.records import (
    EVERYTHING,
    Album,
    AlbumsQuery,
    Instance,
    InstancesQuery,
    Query,
    Record,
    Series,
    SeriesQuery,
    StudiesQuery,
    Study,
)
from kheopsfs.kheops.tokens import exchanged, expiration, token_info
from kheopsfs.tree import names, rows, times
from kheopsfs.tree.text import clean, cut, fold
from kheopsfs.tree.values import padded, person

FORBIDDEN = frozenset("/\\:*?\"<>|'`$&;!\0")
LONGEST_TEXT = 64 * 1024  # bytes of one attribute

QUERIES: dict[type[Record], Query] = {
    Album: AlbumsQuery(),
    Study: StudiesQuery(EVERYTHING),
    Series: SeriesQuery(EVERYTHING, "1.2"),
    Instance: InstancesQuery("1.2", "1.3"),
}


# -- what must hold ---------------------------------------------------------------------------------------------------


def instructs(text: str) -> bool:
    """Whether a terminal would obey some of it: controls, bidi and other format marks, line ends, halves of pairs.

    Private characters are none of these: hospitals write names with them.
    """
    return any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)


def demand_sane_names(stems: Sequence[str], identities: Sequence[str]) -> None:
    """S2: short, printable, safe for shells, Windows and URLs; different things never share a name, case or not."""
    for stem in stems:
        assert 0 < len(stem.encode()) <= names.MAX_STEM, stem
        assert not instructs(stem), stem
        assert not FORBIDDEN & set(stem), stem
        assert not any(character.isspace() for character in stem), stem
        assert stem[0] not in ".-~", stem
        assert not re.fullmatch(r"(?i:con|prn|aux|nul|(?:com|lpt)[0-9])", stem), stem
    owners: dict[str, str] = {}
    for stem, identity in zip(stems, identities, strict=True):
        assert owners.setdefault(fold(stem), identity) == identity, stem


def demand_sane_records(records: Sequence[Record]) -> None:
    """Attributes are bounded text and survive the disk; the tree can be made of them."""
    for record in records:
        for keyword, text in record.attributes().items():
            assert "\0" not in keyword + text
            assert len(text.encode()) <= LONGEST_TEXT
    if records:
        assert decoded(QUERIES[type(records[0])], msgspec.msgpack.encode(records)) == records
        demand_sane_tree(records)


def demand_sane_tree(records: Sequence[Record]) -> None:
    """Whatever records hold: the names, times and sizes that come of them."""
    if not records:
        return
    for style in names.NameStyle:
        demand_sane_names(*named(records, style))
    for record in records:
        demand_sane_facts(record)


def named(records: Sequence[Any], style: names.NameStyle) -> tuple[list[str], list[str]]:
    match records[0]:
        case Album():
            return names.album_names(records, style), [record.album_id for record in records]
        case Study():
            return names.study_names(records, style), [record.StudyInstanceUID for record in records]
        case Series():
            return names.series_names(records, style), [record.SeriesInstanceUID for record in records]
        case _:
            return names.instance_names(records, style), [record.SOPInstanceUID for record in records]


def demand_sane_facts(record: Record) -> None:
    """S3, S10: a time that the kernel takes, a size that is neither nought nor absurd."""
    match record:
        case Album():
            moment = times.album_mtime(rows.album_row(record))
        case Study():
            moment = times.study_mtime(rows.study_row(record), 0)
            assert 0 < bound(StudyZip(EVERYTHING, record)) <= LARGEST_BOUND
        case Series():
            moment = times.series_mtime(rows.series_row(record), 0, 0)
        case Instance():
            moment = times.instance_mtime(rows.instance_row(record), 0, 0)
            assert 0 < bound(InstanceFile(record)) <= LARGEST_BOUND
        case _:
            raise AssertionError(record)
    assert abs(moment) < 2**38


# -- targets ----------------------------------------------------------------------------------------------------------


def study_list(data: bytes) -> None:
    """DICOM JSON as studies, series and instances."""
    with suppress(KheopsfsError):
        found = dicomjson.parse(data)
        demand_sane_records(dicomjson.studies(found))
        demand_sane_records(dicomjson.series(found, "1.2"))
        demand_sane_records(dicomjson.instances(found, "1.2", "1.3", INSTANCE_ATTRIBUTES))


def metadata_in_pieces(data: bytes) -> None:
    """Metadata give the same instances in pieces as whole."""
    draw = Draw(data)
    step, content = 1 + draw.number(256), draw.rest()
    try:
        whole = _instances(dicomjson.parse(content))
    except KheopsfsError:
        whole = None
    stretch, window = metadata._STRETCH, metadata._WINDOW
    metadata._STRETCH, metadata._WINDOW = 48, 96  # so that little input is many stretches
    try:
        splitter = metadata.RowSplitter()
        found: list[dicomjson.Row] = []
        for start in range(0, len(content), step):
            found += splitter.feed(content[start : start + step])
        found += splitter.close()
        assert whole is not None, "what is no list as a whole was one in pieces"
        assert [row.attributes() for row in _instances(found)] == [row.attributes() for row in whole]
    except KheopsfsError:
        assert whole is None
    finally:
        metadata._STRETCH, metadata._WINDOW = stretch, window


def _instances(found: list[dicomjson.Row]) -> list[Instance]:
    return dicomjson.instances(found, "1.2", "1.3", INSTANCE_ATTRIBUTES)


def album_list(data: bytes) -> None:
    """Kheops's own JSON as albums."""
    with suppress(KheopsfsError):
        demand_sane_records(album_lists._albums(album_lists._list(data)))


def token_answers(data: bytes) -> None:
    """Introspection, the description of a token, and an exchange."""
    with suppress(KheopsfsError):
        document = parse_json(data)
        moment = expiration(document)
        assert moment is None or moment.tzinfo is not None
        with suppress(KheopsfsError):
            info = token_info(document)
            assert (info.kind == "album") == bool(info.album_id)
            assert re.fullmatch(r"[A-Za-z0-9_-]*", info.album_id)
        assert exchanged(document).reveal().isprintable()


def texts(data: bytes) -> None:
    """Rows whose every text is hostile."""
    draw = Draw(data)
    kinds: list[tuple[type[Record], str, tuple[str, ...]]] = [
        (Study, "StudyInstanceUID", ("StudyDate", "PatientName", "PatientID", "StudyDescription")),
        (Album, "album_id", ("name", "created_time")),
    ]
    kind, identity, keywords = kinds[draw.number(2)]
    records = []
    while not draw.is_over and len(records) < 8:
        own = f"1.{draw.number(4)}" if kind is Study else "AaB"[draw.number(3)] * 10
        attributes = {keyword: dicomjson.cleaned(draw.text()) for keyword in keywords}
        records.append(kind.pack(attributes, **{identity: own}))
    demand_sane_records(records)


def text(data: bytes) -> None:
    """Cleaning is settled after once, cutting keeps clean what is clean."""
    draw = Draw(data)
    room = draw.number(256)
    dirty = draw.rest().decode("utf-8", "surrogatepass" if room % 2 else "replace") if _decodes(data[1:]) else ""
    cleaned = clean(dirty)
    assert clean(cleaned) == cleaned
    assert not FORBIDDEN & set(cleaned)
    assert not instructs(cleaned)
    short = cut(cleaned, room)
    assert len(short.encode()) <= room
    assert cleaned.startswith(short)
    assert clean(short) in (short, "")
    person(dirty)
    assert re.fullmatch(r"|(0-)?[0-9]{4,}", padded(dirty, 4))


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


# -- seeds ------------------------------------------------------------------------------------------------------------


def _row(**elements: Any) -> dict[str, Any]:
    return {tag.removeprefix("x"): {"vr": vr, "Value": value} for tag, (vr, value) in elements.items()}


_STUDY = _row(
    x00080020=("DA", ["20240305"]),
    x00080030=("TM", ["101112.5"]),
    x00081030=("LO", ["Thorax / Abd"]),
    x00100010=("PN", [{"Alphabetic": "Doe^Jane", "Ideographic": "山田^太郎"}]),
    x00100020=("LO", ["P-1"]),
    x0020000D=("UI", ["1.2.3"]),
    x00201206=("IS", [2]),
)
_INSTANCE = _row(
    x00080018=("UI", ["1.2.3.4"]),
    x00200013=("IS", ["7"]),
    x00280010=("US", [512]),
    x00280011=("US", [512]),
    x00280008=("IS", [1e3]),
    x00080012=("DA", ["20240305"]),
    x00081140=("SQ", [{"00081150": {"vr": "UI", "Value": ["1.2"]}}]),
)
_ALBUM = {"album_id": "dTxCc6OJyG", "name": "Cardio Trial", "modalities": ["CT", "MR"], "is_admin": True, "x": None}
_ALIVE = {"active": True, "scope": "user read", "sub": "ada", "cap_token": "0123456789", "access_token": "a.b-c"}


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


STUDY_ROWS = _json([_STUDY])
_LISTS = (_json([]), STUDY_ROWS, _json([_STUDY, _INSTANCE, {}]), _json([_INSTANCE, _INSTANCE | _STUDY]))

TARGETS = (
    Target(study_list, _LISTS),
    Target(metadata_in_pieces, tuple(step + content for step in (b"\0", b"\x30") for content in _LISTS)),
    Target(album_list, (_json([_ALBUM]), _json([_ALBUM, {**_ALBUM, "album_id": "DTXCC6OJYG"}, {}]))),
    Target(
        token_answers, (_json(_ALIVE), _json({**_ALIVE, "album_id": "dTxCc6OJyG"}), _json({"expiration_time": "2030"}))
    ),
    Target(texts, (b"\0\1\x0820240305\x08Doe^Jane\x03P-1\x0fThorax/Abdomen.", b"\1\1\x05CON.a\x042024")),
    Target(text, (b"\x10Thorax / Abd \xe2\x80\xae", "\x11e\u0301 Müller 山田".encode())),
)
