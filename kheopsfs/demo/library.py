"""What the PACS holds: studies, their series, their instances.

The library is read once, when the server starts, and then knows of every instance all that any list can ask for;
while it serves, files are only copied. It says nothing about who may see what: that is `accounts`.

An instance belongs where its own attributes say. Two files with one SOPInstanceUID are one instance: the first found is
kept.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from kheopsfs.demo.bodies import Body, FileBody
from kheopsfs.demo.elements import Attributes, attributes, read

logger = logging.getLogger(__name__)

STUDY_TAGS = (
    "00080020",  # StudyDate
    "00080030",  # StudyTime
    "00080050",  # AccessionNumber
    "00080090",  # ReferringPhysicianName
    "00080201",  # TimezoneOffsetFromUTC
    "00081030",  # StudyDescription
    "00100010",  # PatientName
    "00100020",  # PatientID
    "00100030",  # PatientBirthDate
    "00100040",  # PatientSex
    "00200010",  # StudyID
)

SERIES_TAGS = (
    "00080005",  # SpecificCharacterSet
    "00080021",  # SeriesDate
    "00080031",  # SeriesTime
    "00080060",  # Modality
    "00080070",  # Manufacturer
    "0008103E",  # SeriesDescription
    "00081090",  # ManufacturerModelName
    "00180015",  # BodyPartExamined
    "00181030",  # ProtocolName
    "00200011",  # SeriesNumber
    "00400244",  # PerformedProcedureStepStartDate
    "00400245",  # PerformedProcedureStepStartTime
    "00400275",  # RequestAttributesSequence
)

INSTANCE_TAGS = (
    "00080008",  # ImageType
    "00080016",  # SOPClassUID
    "00080018",  # SOPInstanceUID
    "00080023",  # ContentDate
    "00080033",  # ContentTime
    "00200013",  # InstanceNumber
    "00280002",  # SamplesPerPixel
    "00280008",  # NumberOfFrames
    "00280010",  # Rows
    "00280011",  # Columns
    "00280100",  # BitsAllocated
)

_IDENTITY = ("0020000D", "0020000E")  # StudyInstanceUID, SeriesInstanceUID


@dataclass(slots=True, eq=False)
class Instance:
    """One SOP instance and its bytes."""

    SOPInstanceUID: str
    TransferSyntaxUID: str
    attributes: Attributes
    body: Body

    def text(self, tag: str) -> str:
        """The first value of an attribute, or the empty text."""
        return next(iter(self.attributes.get(tag, ())), "")

    @property
    def frames(self) -> int:
        """NumberOfFrames; 0 if it has no pixels."""
        if not self.text("00280010"):
            return 0
        return int(self.text("00280008") or 1)


@dataclass(slots=True, eq=False)
class Series:
    """One series. `counted` is what Kheops's database believes it holds; the truth is `len(instances)`."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    attributes: Attributes
    instances: dict[str, Instance] = field(default_factory=dict)
    counted: int = 0

    @property
    def modality(self) -> str:
        """The first value of Modality, or the empty text."""
        return next(iter(self.attributes.get("00080060", ())), "")


@dataclass(slots=True, eq=False)
class Study:
    """One study and its series, in the order in which they were found."""

    StudyInstanceUID: str
    attributes: Attributes
    series: dict[str, Series] = field(default_factory=dict)


class Library:
    """All studies by their UID."""

    def __init__(self) -> None:
        self.studies: dict[str, Study] = {}
        self._known: set[str] = set()
        self.kept: dict[object, Any] = {}
        """What was worked out about all studies and is true until something changes."""

    def changed(self) -> None:
        """Anything at all has changed, be it only who may see what: forget what was found before."""
        self.kept.clear()

    def add(self, body: Body) -> Instance | None:
        """File one instance under the study and the series that it names.

        Returns:
            The instance, or None when the library has that SOPInstanceUID already, wherever it is.

        Raises:
            InvalidDicomError: it is no DICOM file, or a DICOMDIR, or it lacks one of its UIDs.
        """
        dataset = read(body, (*_IDENTITY, *STUDY_TAGS, *SERIES_TAGS, *INSTANCE_TAGS))
        uids = attributes(dataset, _IDENTITY)
        own = attributes(dataset, INSTANCE_TAGS)
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise InvalidDicomError("a DICOMDIR is no instance")
        if not (uids.get("0020000D") and uids.get("0020000E") and own.get("00080018") and syntax):
            raise InvalidDicomError("it lacks one of its UIDs")
        if own["00080018"][0] in self._known:
            return None
        self._known.add(own["00080018"][0])
        study_uid, series_uid = uids["0020000D"][0], uids["0020000E"][0]
        study = self.studies.get(study_uid)
        if study is None:
            study = self.studies[study_uid] = Study(study_uid, attributes(dataset, STUDY_TAGS))
        series = study.series.get(series_uid)
        if series is None:
            series = study.series[series_uid] = Series(study_uid, series_uid, attributes(dataset, SERIES_TAGS))
        instance = Instance(own["00080018"][0], syntax, own, body)
        series.instances[instance.SOPInstanceUID] = instance
        series.counted += 1
        return instance

    def remove(self, series: Series, SOPInstanceUID: str) -> None:
        """Lose an instance; its series stays, even if it is empty now."""
        del series.instances[SOPInstanceUID]
        self._known.discard(SOPInstanceUID)

    def instances(self) -> Iterator[Instance]:
        """Every instance there is."""
        for study in self.studies.values():
            for series in study.series.values():
                yield from series.instances.values()


def from_folder(folder: Path) -> Library:
    """Index every DICOM file below a folder; a log line for each that is left out.

    Raises:
        OSError: the folder cannot be read.
    """
    library = Library()
    for path in _files(folder):
        try:
            if library.add(FileBody(path)) is None:
                logger.warning("left out, its SOPInstanceUID is there already: %s", path)
        except (InvalidDicomError, EOFError) as error:
            logger.warning("left out, not a DICOM instance (%s): %s", error.args[0] if error.args else "", path)
        except Exception as error:
            logger.warning("left out, unreadable (%s): %s", type(error).__name__, path)
    return library


def _files(folder: Path) -> Iterator[Path]:
    """All regular files below the folder in a stable order, links to files included."""
    for directory, names, files in _walk(folder):
        names.sort()
        yield from (path for path in (Path(directory) / name for name in sorted(files)) if path.is_file())


def _walk(folder: Path) -> Iterable[tuple[str, list[str], list[str]]]:
    def refuse(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error

    return os.walk(folder, onerror=refuse)
