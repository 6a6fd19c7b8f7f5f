"""What the entries of a folder are called.

A name is made of a leading part that sorts (date or number), texts for a person, and a tail that identifies::

    2006-10-19_MAGIX_Cardiac-CT_k7f3qz      study     date, patient, StudyDescription, digest
    0010_CT_Cir_CardiacCirc_b5w9xd          series    SeriesNumber, Modality, SeriesDescription, digest
    00001_4m2tca                            instance  InstanceNumber, digest
    Cardio-Trial_dTxCc6OJyG                 album     name, album id

Missing parts are left out, except that a study without a date is ``undated``. The texts give way when a name gets too
long; lead and tail never do. These are *stems*: the views append ``.dcm``, ``.jpg`` or ``.zip``.

Names of one folder differ, even where case and normal form do not count. The digest of the UID sees to that with six
characters; entries that are equal all the same take ten, and then all 52. An album id and, in the style `uid`, a UID
are tails by themselves and take a digest only where they are equal or not well-formed. Equal means: the whole folded
name is.

**A new arrival renames nothing**, for a name depends on the thing alone: no counters, no order. That holds up to one
coincidence: the arrival has the same parts as an entry *and* the same six characters, once in 2³⁰ such pairs. It cannot
hold without exception. A name that never changes and is the same in every mount, whatever arrived first, is a function
of the thing alone, and six characters cannot tell all UIDs apart; a promise without "unless" would cost a name of 52
characters or a whole UID. Album ids that differ only in case are the like coincidence for albums.

Byte order is reading order: dates, SeriesNumber up to 9999 and InstanceNumber up to 99999 sort as they count.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from kheopsfs.kheops.records import Album, Instance, Series, Study
from kheopsfs.tree.identity import WHOLE_DIGEST, digest
from kheopsfs.tree.rows import album_row, instance_row, series_row, study_row
from kheopsfs.tree.text import clean, cut, fold, is_device_name
from kheopsfs.tree.values import iso_date, padded, person

MAX_COMPONENT = 120  # bytes of UTF-8: half of what file systems take, so that a program may append to a name
LONGEST_EXTENSION = 4  # bytes: .dcm .jpg .zip
MAX_STEM = MAX_COMPONENT - LONGEST_EXTENSION

Thing = TypeVar("Thing")

_DIGEST_LENGTHS = (0, 6, 10, WHOLE_DIGEST)  # characters, tried in this order until the names of a folder differ
_WITHOUT_DIGEST, _SHORTEST_DIGEST = 0, 1  # indices into it
_SERIES_DIGITS = 4
_INSTANCE_DIGITS = 5
_LONGEST_UID = 64  # characters, PS3.5 9.1
_LONGEST_ALBUM_ID = 32  # characters; Kheops makes ids of 10


class NameStyle(StrEnum):
    """How much names tell, because paths leak into shell histories, logs and lists of recent files."""

    READABLE = "readable"  # patient's name, descriptions
    ID = "id"  # PatientID in the place of the patient's name
    UID = "uid"  # UIDs and album ids, nothing else


class _Stem(NamedTuple):
    """The parts of a name before it is known whether the folder holds its like."""

    identity: str  # what the digest is of
    lead: str = ""
    texts: tuple[str, ...] = ()
    plain_id: str = ""  # shown whole, before the digest if there is one


def album_names(albums: Sequence[Album], style: NameStyle) -> list[str]:
    """One stem for each album, in the order given. The style `id` shows albums by name."""
    return _settled(albums, lambda album: _album_stem(album, style))


def study_names(studies: Sequence[Study], style: NameStyle) -> list[str]:
    """One stem for each study, in the order given."""
    if style is NameStyle.UID:
        return uid_names([study.StudyInstanceUID for study in studies])
    return _settled(studies, lambda study: _study_stem(study, style))


def series_names(series: Sequence[Series], style: NameStyle) -> list[str]:
    """One stem for each series, in the order given."""
    if style is NameStyle.UID:
        return uid_names([one.SeriesInstanceUID for one in series])
    return _settled(series, _series_stem)


def instance_names(instances: Sequence[Instance], style: NameStyle) -> list[str]:
    """One stem for each instance, in the order given."""
    if style is NameStyle.UID:
        return uid_names([instance.SOPInstanceUID for instance in instances])
    return _settled(instances, _instance_stem)


def uid_names(UIDs: Sequence[str]) -> list[str]:
    """The UIDs themselves; one that is not well-formed is cleaned like a text and takes a digest."""
    return _settled(UIDs, lambda UID: _Stem(UID, plain_id=UID) if _is_uid(UID) else _Stem(UID, texts=(clean(UID),)))


def _is_uid(text: str) -> bool:
    """Digits and single dots between them (PS3.5 9.1; leading zeros are let pass, they occur)."""
    return len(text) <= _LONGEST_UID and text.isascii() and all(map(str.isdigit, text.split(".")))


def _album_stem(album: Album, style: NameStyle) -> _Stem:
    album_id = album.album_id
    texts = () if style is NameStyle.UID else (clean(album_row(album).name),)
    if album_id.isascii() and album_id.isalnum() and len(album_id) <= _LONGEST_ALBUM_ID:
        return _Stem(album_id, texts=texts, plain_id=album_id)
    return _Stem(album_id, texts=(*texts, clean(album_id)))


def _study_stem(study: Study, style: NameStyle) -> _Stem:
    row = study_row(study)
    patient = clean(row.PatientID) if style is NameStyle.ID else person(row.PatientName)
    return _Stem(study.StudyInstanceUID, iso_date(row.StudyDate) or "undated", (patient, clean(row.StudyDescription)))


def _series_stem(series: Series) -> _Stem:
    row = series_row(series)
    texts = clean(row.Modality), clean(row.SeriesDescription)
    return _Stem(series.SeriesInstanceUID, padded(row.SeriesNumber, _SERIES_DIGITS), texts)


def _instance_stem(instance: Instance) -> _Stem:
    return _Stem(instance.SOPInstanceUID, padded(instance_row(instance).InstanceNumber, _INSTANCE_DIGITS))


def _settled(things: Sequence[Thing], stem: Callable[[Thing], _Stem]) -> list[str]:
    """The names of a folder's entries: all that clash get the next longer digest, until none does.

    It ends because digests only get longer, and whole digests of different identities differ. Stems are made when they
    are needed and not kept: those of 100 000 studies would take more memory than the names.
    """
    names: list[str] = []
    levels = bytearray()
    for thing in things:
        made = stem(thing)
        levels.append(_WITHOUT_DIGEST if made.plain_id else _SHORTEST_DIGEST)
        names.append(_assembled(made, _DIGEST_LENGTHS[levels[-1]]))
    while clashing := _clashing(names, lambda index: stem(things[index]).identity):
        for index in clashing:
            levels[index] = min(levels[index] + 1, len(_DIGEST_LENGTHS) - 1)
            names[index] = _assembled(stem(things[index]), _DIGEST_LENGTHS[levels[index]])
    return names


def _clashing(names: Sequence[str], identity: Callable[[int], str]) -> list[int]:
    """Which entries have a name that some other thing of the folder has too. A row that comes twice is one thing."""
    if len({hash(fold(name)) for name in names}) == len(names):
        return []
    owners: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        owners[fold(name)].append(index)
    contested = [found for found in owners.values() if len(set(map(identity, found))) > 1]
    return [index for found in contested for index in found]


def _assembled(stem: _Stem, digest_length: int) -> str:
    """Lead, texts and tail, joined; at most `MAX_STEM` bytes, at the texts' expense."""
    tail = [stem.plain_id] if stem.plain_id else []
    if digest_length:
        tail.append(digest(stem.identity, digest_length))
    texts = [text for text in stem.texts if text]
    lead = [stem.lead] if stem.lead else []
    name = "_".join([*lead, *texts, *tail])
    if len(name) >= MAX_STEM or not name.isascii():
        fixed = sum(len(part) + 1 for part in (*lead, *tail))  # ASCII, each with its "_"; one spare byte for the guard
        name = "_".join([*lead, *_shortened(texts, MAX_STEM - fixed), *tail])
    return f"_{name}" if is_device_name(name) else name


def _shortened(texts: Sequence[str], room: int) -> list[str]:
    """The texts cut so that they and a "_" before each fit: what is short stays whole, the long ones share the rest."""
    sizes = [len(text.encode()) + 1 for text in texts]
    share = room
    for done, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - done)
        if size > share:
            break
        room -= size
    else:
        return list(texts)
    return [short for text in texts if (short := cut(text, share - 1))]
