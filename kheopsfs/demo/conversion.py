"""Instances in another transfer syntax than the stored one.

A PACS that is not told a transfer syntax delivers Explicit VR Little Endian, so compressed images come decompressed.
Where no codec is installed, the stored form is delivered: that is what a client must be able to take anyway.
"""

import io
import logging
from functools import lru_cache

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from kheopsfs.demo.bodies import Body, MemoryBody
from kheopsfs.demo.library import Instance

logger = logging.getLogger(__name__)

KEPT = 32
"""Converted instances that are kept in memory."""


def as_asked(instance: Instance, syntax: str | None) -> tuple[str, Body] | None:
    """The instance in the transfer syntax that a request names.

    Args:
        instance: what to deliver.
        syntax: ``*`` for as stored, a UID, or None for the default.

    Returns:
        The transfer syntax it ended up in and the bytes; None if the named one cannot be made.
    """
    if syntax in ("*", instance.TransferSyntaxUID):
        return instance.TransferSyntaxUID, instance.body
    if syntax in (None, ExplicitVRLittleEndian):
        return decompressed(instance)
    return None


def decompressed(instance: Instance) -> tuple[str, Body]:
    """The instance in Explicit VR Little Endian if that can be made, else as stored."""
    if instance.TransferSyntaxUID == ExplicitVRLittleEndian:
        return instance.TransferSyntaxUID, instance.body
    return _converted(instance)


@lru_cache(maxsize=KEPT)
def _converted(instance: Instance) -> tuple[str, Body]:
    try:
        return str(ExplicitVRLittleEndian), MemoryBody(_rewrite(instance))
    except Exception as error:
        logger.info("delivered as stored, not convertible: %s", type(error).__name__)
        return instance.TransferSyntaxUID, instance.body


def _rewrite(instance: Instance) -> bytes:
    dataset = parse(instance)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        dataset.decompress(as_rgb=False, generate_instance_uid=False)
    elif not syntax.is_little_endian:
        _swap(dataset)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def parse(instance: Instance) -> Dataset:
    """The whole instance, pixel data included."""
    with instance.body.open() as file:
        return pydicom.dcmread(io.BytesIO(file.read()))


def _swap(dataset: Dataset) -> None:
    """Turn big-endian words of pixel data round; everything else is turned by the writer."""
    width = dataset.get("BitsAllocated", 8) // 8
    if "PixelData" in dataset and width > 1:
        dataset.PixelData = np.frombuffer(dataset.PixelData, f">u{width}").astype(f"<u{width}").tobytes()


PIXEL_DATA, ENCAPSULATED_DOCUMENT = "7FE00010", "00420011"


def element_bytes(instance: Instance, tag: str) -> bytes:
    """The raw value of one element, pixel data decompressed.

    Raises:
        KeyError: the instance has no such element, or it has no value.
    """
    _, body = decompressed(instance)
    with body.open() as file:
        element = pydicom.dcmread(file, specific_tags=[int(tag, 16)]).get(int(tag, 16))
    if element is None or not isinstance(element.value, bytes):
        raise KeyError(tag)
    return element.value
