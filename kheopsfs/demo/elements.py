"""Attributes as the server's lists hold them, and as DICOM JSON (PS3.18 annex F).

Inside the demo server an attribute is a tag (eight upper-case hex digits) and a tuple of texts: ``()`` is an element
without a value, an empty text a null among values. Texts are those of the file; nothing is checked or corrected, for
a Kheops server does neither.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import pydicom
from pydicom.config import IGNORE, settings
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from kheopsfs.demo.bodies import Body

Attributes = dict[str, tuple[str, ...]]

_INTEGERS = {"US", "UL", "SS", "SL"}

_PRIVATE = {
    "00012345": "IS",  # number of favourites; Kheops's own
    "00012346": "IS",  # number of comments; Kheops's own
    "77770010": "LO",  # creator of dcm4chee's private elements
    "77771030": "DT",  # SeriesReceiveDateTime
    "77771031": "DT",  # SeriesUpdateDateTime
    "77771040": "DT",  # InstanceReceiveDateTime
    "77771041": "DT",  # InstanceUpdateDateTime
    "77771052": "UI",  # StorageTransferSyntaxUID
    "77771053": "UL",  # StorageObjectSize
}


def tag(name: str) -> str | None:
    """The tag of a keyword or of eight upper-case hex digits; None for anything else."""
    if len(name) == 8 and set(name) <= set("0123456789ABCDEF"):
        return name
    number = tag_for_keyword(name)
    return None if number is None else f"{number:08X}"


@cache
def vr(name: str) -> str:
    """The value representation of a tag (PS3.6, dcm4chee's and Kheops's private ones)."""
    return _PRIVATE.get(name) or str(dictionary_VR(int(name, 16)))


def is_standard(name: str) -> bool:
    """Whether the DICOM dictionary knows the tag."""
    return bool(keyword_for_tag(int(name, 16)))


@contextmanager
def lenient() -> Iterator[None]:
    """pydicom takes values as they are: it neither warns nor refuses. Holds for the whole process."""
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = before


def read(body: Body, wanted: Iterable[str] | None = None) -> Dataset:
    """Parse the body up to its pixel data, only the `wanted` tags if given.

    Raises:
        pydicom.errors.InvalidDicomError: it is no DICOM file.
    """
    tags = None if wanted is None else [int(name, 16) for name in wanted]
    with body.open() as file:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)


def attributes(dataset: Dataset, wanted: Iterable[str]) -> Attributes:
    """The texts of the wanted elements that the dataset has."""
    found = ((name, dataset.get(int(name, 16))) for name in wanted)
    return {name: _texts(element) for name, element in found if element is not None}


def _texts(element: DataElement) -> tuple[str, ...]:
    if element.VR == "SQ" or element.is_empty:
        return ()
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    return tuple(str(value) for value in values)


def encode(
    values: Mapping[str, tuple[str, ...]], *, numbers: bool, vrs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One row of a list in DICOM JSON, by ascending tag.

    Args:
        values: tag to texts.
        numbers: whether IS and DS are JSON numbers (Kheops before v1.0.0) instead of strings.
        vrs: value representations that differ from the dictionary's.
    """
    return {name: _element(values[name], (vrs or {}).get(name) or vr(name), numbers=numbers) for name in sorted(values)}


def _element(texts: tuple[str, ...], representation: str, *, numbers: bool) -> dict[str, Any]:
    if not texts:
        return {"vr": representation}
    return {"vr": representation, "Value": [_value(text, representation, numbers=numbers) for text in texts]}


def _value(text: str, representation: str, *, numbers: bool) -> Any:
    if not text:
        return None
    if representation == "PN":
        return person_name(text)
    if representation in _INTEGERS or (representation == "IS" and numbers):
        return _number(text, int)
    if representation == "DS" and numbers:
        return _number(text, float)
    return text


def _number(text: str, kind: type[int] | type[float]) -> int | float | None:
    try:
        return kind(text)
    except ValueError:
        return None  # as old dcm4che writers did; new ones write text, and are asked for text


def person_name(text: str) -> dict[str, str]:
    """A person name's groups (PS3.18 F.2.2), those that are empty left out."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: part for group, part in groups if part}
