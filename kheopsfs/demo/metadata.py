"""Instances as DICOM JSON with their bulk data left out (PS3.18 10.4.1.1.2 and annex F)."""

import base64
from collections.abc import Iterator
from typing import Any

import msgspec
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from kheopsfs.demo.bodies import Bytes
from kheopsfs.demo.elements import person_name, read
from kheopsfs.demo.library import Instance

_BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}
_NUMBERS = {"FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"}

INLINE_LIMIT = 64
"""Bytes of a binary value that stay inside the document."""


def array(instances: Iterator[tuple[Instance, str]], *, numbers: bool) -> Iterator[Bytes]:
    """A JSON array with one object for each instance, piece by piece.

    Args:
        instances: with the address of each, for its BulkDataURIs.
        numbers: whether IS and DS are JSON numbers.
    """
    separator = b"["
    for instance, address in instances:
        yield separator + msgspec.json.encode(document(instance, address, numbers=numbers))
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def document(instance: Instance, address: str, *, numbers: bool) -> dict[str, Any]:
    """All elements of one instance but file meta information and group lengths."""
    found = _encode(read(instance.body), f"{address}/bulkdata", numbers=numbers)
    if instance.frames:
        found["7FE00010"] = {"vr": "OW", "BulkDataURI": f"{address}/bulkdata/7FE00010"}
    return found


def _encode(dataset: Dataset, bulk: str, *, numbers: bool) -> dict[str, Any]:
    found = {}
    for key in sorted(dataset.keys()):
        try:
            element = dataset[key]
        except Exception:  # noqa: S112  an unreadable element is not listed
            continue
        if element.tag.element != 0:
            found[f"{int(element.tag):08X}"] = _element(element, bulk, numbers=numbers)
    return found


def _element(element: DataElement, bulk: str, *, numbers: bool) -> dict[str, Any]:
    representation = element.VR[:2]
    if element.is_empty:
        return {"vr": representation}
    if representation == "SQ":
        return {"vr": "SQ", "Value": [_encode(item, bulk, numbers=numbers) for item in element.value]}
    if representation in _BINARY:
        if len(element.value) > INLINE_LIMIT:
            return {"vr": representation, "BulkDataURI": f"{bulk}/{int(element.tag):08X}"}
        return {"vr": representation, "InlineBinary": base64.b64encode(element.value).decode()}
    values = element.value if isinstance(element.value, (MultiValue, list)) else [element.value]
    return {"vr": representation, "Value": [_value(value, representation, numbers=numbers) for value in values]}


def _value(value: Any, representation: str, *, numbers: bool) -> Any:
    if representation == "PN":
        return person_name(str(value))
    if representation in _NUMBERS:
        return float(value) if representation in ("FD", "FL") else int(value)
    if representation == "AT":
        return f"{int(value):08X}"
    if representation in ("IS", "DS") and numbers:
        return float(value) if representation == "DS" else int(value)
    return str(value) or None
