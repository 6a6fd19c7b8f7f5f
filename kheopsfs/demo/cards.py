"""Patients, studies and series of the sample library, and how an instance is made a member of one.

UIDs follow from names, so that a sample library is the same on every start and on every machine.
"""

import io
from dataclasses import dataclass, field
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from kheopsfs.demo.bodies import MemoryBody

_UTF8 = "ISO_IR 192"


@dataclass(frozen=True)
class Patient:
    """A made-up person."""

    name: str
    patient_id: str
    born: str = ""
    sex: str = "O"


@dataclass(frozen=True)
class StudyCard:
    """One sample study."""

    patient: Patient
    description: str
    date: str | None
    time: str = "101530.000000"
    accession: str = ""
    study_id: str = "1"
    charset: str | list[str] = _UTF8
    referring: str = "House^Gregory"
    uid: str = ""

    @property
    def StudyInstanceUID(self) -> str:
        """Its own, or one that follows from patient and description."""
        return self.uid or uid("study", self.patient.patient_id, self.description)


@dataclass(frozen=True)
class SeriesCard:
    """One sample series. `number` None leaves SeriesNumber out."""

    study: StudyCard
    modality: str
    number: int | None
    description: str
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def SeriesInstanceUID(self) -> str:
        """Follows from the study and the description."""
        return uid("series", self.study.StudyInstanceUID, self.description, str(self.number))


def uid(*parts: str) -> str:
    """A UID that is always the same for the same parts."""
    return str(generate_uid(entropy_srcs=["kheopsfs", *parts]))


def member(dataset: Dataset, series: SeriesCard, number: int | None) -> MemoryBody:
    """Make an instance a member of a series and write it, its pixel data untouched.

    Args:
        dataset: with SOPClassUID; its transfer syntax is kept, Explicit VR Little Endian if it has none.
        series: where it belongs.
        number: its InstanceNumber; None leaves that out.
    """
    study, patient = series.study, series.study.patient
    name = f"{number} {dataset.get('SOPInstanceUID', '')}"
    dataset.SpecificCharacterSet = study.charset
    dataset.PatientName, dataset.PatientID = patient.name, patient.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = patient.born, patient.sex
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study.StudyInstanceUID, series.SeriesInstanceUID
    dataset.SOPInstanceUID = uid("instance", series.SeriesInstanceUID, name)
    dataset.AccessionNumber, dataset.StudyID = study.accession, study.study_id
    dataset.ReferringPhysicianName = study.referring
    dataset.Modality, dataset.SeriesDescription = series.modality, series.description
    _set(dataset, "StudyDescription", study.description)
    _set(dataset, "StudyDate", study.date)
    _set(dataset, "StudyTime", study.time if study.date else None)
    _set(dataset, "SeriesNumber", series.number)
    _set(dataset, "InstanceNumber", number)
    for keyword, value in series.more.items():
        setattr(dataset, keyword, value)
    return MemoryBody(_write(dataset))


def _set(dataset: Dataset, keyword: str, value: Any) -> None:
    """Set an element; None removes it."""
    if value is not None:
        setattr(dataset, keyword, value)
    elif keyword in dataset:
        delattr(dataset, keyword)


def _write(dataset: Dataset) -> bytes:
    meta = getattr(dataset, "file_meta", None) or FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    dataset.file_meta = meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
