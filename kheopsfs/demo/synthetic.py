"""Archives of any size that cost next to nothing: for benchmarks, and for what only shows with many of something.

An instance is a header of its own and a pattern that all share; a study of the long list gets its series when somebody
looks at it. Everything follows from numbers, so UIDs and bytes are the same on every start.
"""

import io
import re
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import IS

from kheopsfs.demo.bodies import PIECE, Body, MemoryBody, PatternBody
from kheopsfs.demo.elements import Attributes
from kheopsfs.demo.library import Instance, Library, Series, Study

ROOT = "1.2.826.0.1.3680043.8.498.9"
"""Every synthetic UID begins with this; kind and numbers follow."""

SLICE_SIZE = 512
"""Columns and rows of a large slice: 512 KiB of 16-bit pixels, 528 KB as a file."""

SMALL_SIZE = 16
"""Columns and rows of a small instance."""

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class SyntheticSpec:
    """How much there is of what.

    Attributes:
        studies: studies with one series of one tiny instance each.
        slices: large slices in one CT series of a study of its own.
        small: tiny instances in one series of a study of its own.
        multiframe: bytes of pixel data of one multi-frame instance.
        albums: albums that hold the first study, besides the one that holds everything.
    """

    studies: int = 0
    slices: int = 0
    small: int = 0
    multiframe: int = 0
    albums: int = 0

    @classmethod
    def parse(cls, text: str) -> "SyntheticSpec":
        """Read ``slices=500,multiframe=150M``.

        Raises:
            ValueError: an unknown name, or no number.
        """
        known = {field.name for field in fields(cls)}
        given = {}
        for item in filter(None, text.split(",")):
            name, _, value = item.partition("=")
            if name not in known:
                raise ValueError(f"no such part of a synthetic archive: {name!r}; there are {', '.join(sorted(known))}")
            unit = _UNITS.get(value[-1:].upper(), 1)
            given[name] = int(value if unit == 1 else value[:-1]) * unit
        return cls(**given)


class _LazyStudy(Study):
    """One of very many: its series exist only while somebody looks."""

    @property
    def series(self) -> dict[str, Series]:
        """Its one series, made anew each time."""
        return _small_series(_LIST, int(self.StudyInstanceUID.rpartition(".")[2]) - _STUDY_BASE, 1)

    @series.setter
    def series(self, _: dict[str, Series]) -> None:
        """What the constructor gives is not needed."""


_SLICES, _SMALL, _MULTIFRAME, _LIST = range(1, 5)
"""Kinds of studies: the component of the UID after the root."""

_STUDY_BASE, _INSTANCE_BASE = 20_000_000, 1_000_000
"""Added to numbers, so that all UIDs of a kind are equally long and headers differ in place."""


def library(spec: SyntheticSpec) -> Library:
    """Make the archive."""
    found = Library()
    if spec.slices:
        _add(found, _SLICES, f"{spec.slices} slices", _slices(spec.slices))
    if spec.small:
        _add(found, _SMALL, f"{spec.small} small instances", _small_series(_SMALL, 0, spec.small))
    if spec.multiframe:
        _add(found, _MULTIFRAME, "multi-frame", _multiframe(spec.multiframe))
    for number in range(1, spec.studies + 1):
        uid = _study_uid(_LIST, number)
        found.studies[uid] = _LazyStudy(uid, _study_attributes(_LIST, number, f"study {number}"))
    return found


def _add(found: Library, kind: int, description: str, series: dict[str, Series]) -> None:
    uid = _study_uid(kind, 0)
    found.studies[uid] = Study(uid, _study_attributes(kind, 0, description), series)


def _study_uid(kind: int, number: int) -> str:
    return f"{ROOT}.{kind}.{_STUDY_BASE + number}"


def _study_attributes(kind: int, number: int, description: str) -> Attributes:
    day, month, year = number % 28 + 1, number // 28 % 12 + 1, 2000 + number // 336 % 25
    return {
        "00080020": (f"{year}{month:02}{day:02}",),
        "00080030": ("120000.000000",),
        "00080050": (f"S{kind}{number:06}",),
        "00081030": (description,),
        "00100010": (f"Synthetic^{number:06}",),
        "00100020": (f"SYN-{kind}-{number:06}",),
        "00100040": ("O",),
    }


def _slices(count: int) -> dict[str, Series]:
    """Noise on a ramp; each slice is its neighbour's shifted by a row."""
    values = SLICE_SIZE * (SLICE_SIZE + count)
    noise = np.random.default_rng(1).integers(0, 256, values)
    pattern = memoryview((np.arange(values) * 4096 // values + noise).astype("<u2").tobytes()).cast("B")
    header = _Header(_SLICES, CTImageStorage, SLICE_SIZE)
    series = _series(_SLICES, 0)
    for number in range(1, count + 1):
        shift = 2 * SLICE_SIZE * (number - 1)
        body = PatternBody(header.of(0, number), pattern, header.pixel_bytes, shift)
        _file(series, header, number, body)
    return {series.SeriesInstanceUID: series}


def _small_series(kind: int, study: int, count: int) -> dict[str, Series]:
    header = _small_header(kind)
    series = _series(kind, study)
    for number in range(1, count + 1):
        _file(series, header, number, MemoryBody(header.of(study, number) + bytes(header.pixel_bytes)))
    return {series.SeriesInstanceUID: series}


def _multiframe(length: int) -> dict[str, Series]:
    """As many frames of zeros as make up the length, at least one."""
    header = _Header(_MULTIFRAME, EnhancedCTImageStorage, SLICE_SIZE, max(length // (2 * SLICE_SIZE**2), 1))
    series = _series(_MULTIFRAME, 0)
    _file(series, header, 1, PatternBody(header.of(0, 1), memoryview(bytes(2 * PIECE)), header.pixel_bytes))
    return {series.SeriesInstanceUID: series}


def _series(kind: int, study: int) -> Series:
    study_uid = _study_uid(kind, study)
    attributes: Attributes = {"00080060": ("CT",), "0008103E": ("synthetic",), "00200011": ("1",)}
    return Series(study_uid, f"{study_uid}.1", attributes)


def _file(series: Series, header: "_Header", number: int, body: Body) -> None:
    uid = f"{series.SeriesInstanceUID}.{_INSTANCE_BASE + number}"
    attributes = header.attributes | {"00080018": (uid,), "00200013": (str(number),)}
    series.instances[uid] = Instance(uid, str(ExplicitVRLittleEndian), attributes, body)
    series.counted += 1


class _Header:
    """All of a file before its pixels, made once for a kind of instance; of each instance only the numbers differ."""

    _NUMBER = re.compile(rb"\x20\x00\x13\x00IS\x06\x00(.{6})", re.DOTALL)
    _Z = re.compile(rb"\x20\x00\x32\x00DS\x0e\x00-100\\-100\\(.{4})", re.DOTALL)

    def __init__(self, kind: int, sop_class: str, size: int, frames: int = 1) -> None:
        self.pixel_bytes = 2 * size * size * frames
        self._study = _study_uid(kind, 0).encode()
        dataset = self._dataset(_study_uid(kind, 0), sop_class, size, frames)
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        self._template = buffer.getvalue() + b"\xe0\x7f\x10\x00OW\x00\x00" + self.pixel_bytes.to_bytes(4, "little")
        self._places = [match.span(1) for match in map(self._search, (self._NUMBER, self._Z))]
        self.attributes: Attributes = {
            "00080016": (str(sop_class),),
            "00280002": ("1",),
            "00280010": (str(size),),
            "00280011": (str(size),),
            "00280100": ("16",),
        }
        if frames > 1:
            self.attributes["00280008"] = (str(frames),)

    def of(self, study: int, number: int) -> bytes:
        """The header of one instance."""
        header = bytearray(self._template)
        for (start, end), text in zip(self._places, (f"{number:<6}", f"{number % 10_000:<4}"), strict=True):
            header[start:end] = text.encode()
        instance = header.replace(b".%d" % _INSTANCE_BASE, b".%d" % (_INSTANCE_BASE + number))
        head, _, base = self._study.rpartition(b".")
        return bytes(instance.replace(self._study, b"%s.%d" % (head, int(base) + study)))

    def _search(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        match = pattern.search(self._template)
        assert match is not None
        return match

    @staticmethod
    def _dataset(study_uid: str, sop_class: str, size: int, frames: int) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = f"{study_uid}.1.{_INSTANCE_BASE}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, f"{study_uid}.1"
        dataset.FrameOfReferenceUID = f"{study_uid}.2"
        dataset.StudyDate, dataset.Modality, dataset.SeriesNumber = "20000101", "CT", 1
        dataset.PatientName, dataset.PatientID = "Synthetic", "SYN"
        dataset.InstanceNumber = IS("000000")
        dataset.ImagePositionPatient = ["-100", "-100", "0000"]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.5], 1
        dataset.Rows = dataset.Columns = size
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
        if frames > 1:
            dataset.NumberOfFrames = frames
        return dataset


@cache
def _small_header(kind: int) -> _Header:
    return _Header(kind, CTImageStorage, SMALL_SIZE)
