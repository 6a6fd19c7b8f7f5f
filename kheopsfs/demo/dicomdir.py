"""A DICOMDIR for the files of a zip (PS3.3 annex F, PS3.10 clause 8).

The records of a directory point at each other by byte offsets into the file. Offsets have a fixed width, so every
record is encoded once with zeros to learn its length, and once more when all places are known.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from kheopsfs.demo.library import Instance, Series, Study

_ITEM_HEADER = 8
"""Bytes of tag and length in front of an item's value."""


_KINDS = {
    "1.2.840.10008.5.1.4.1.1.88.": "SR DOCUMENT",
    "1.2.840.10008.5.1.4.1.1.104.": "ENCAP DOC",
    "1.2.840.10008.5.1.4.1.1.9.": "WAVEFORM",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT DOSE",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT STRUCTURE SET",
    "1.2.840.10008.5.1.4.1.1.481.5": "RT PLAN",
}
"""Directory record types by the beginning of the SOP class; IMAGE for what else has pixels."""


@dataclass
class _Record:
    """A directory record; `children` are the records one level below."""

    dataset: Dataset
    children: "list[_Record]" = field(default_factory=list)
    position: int = 0


def build(studies: Mapping[str, Study], files: list[tuple[Series, Instance, str]]) -> bytes:
    """The DICOMDIR of some files.

    Args:
        studies: what the files belong to, by UID.
        files: each instance with its series and its name in the file set, slashes between the components.
    """
    root = _tree(studies, files)
    every = list(_flatten(root))
    meta = _header()
    position = len(_file(meta, root, every, b""))
    for record in every:
        record.position = position
        position += _ITEM_HEADER + len(_encode(record.dataset))
    _link(root)
    items = b"".join(_item(_encode(record.dataset)) for record in every)
    return _file(meta, root, every, items)


def _tree(studies: Mapping[str, Study], files: list[tuple[Series, Instance, str]]) -> list[_Record]:
    below: dict[str, dict[str, _Record]] = {}
    for series, instance, name in files:
        of_study = below.setdefault(series.StudyInstanceUID, {})
        record = of_study.setdefault(series.SeriesInstanceUID, _Record(_series(series)))
        record.children.append(_Record(_instance(instance, name)))
    return [_patient(studies[uid], list(series.values())) for uid, series in below.items()]


def _patient(study: Study, series: list[_Record]) -> _Record:
    patient = _record("PATIENT")
    patient.PatientName = _text(study, "00100010")
    patient.PatientID = _text(study, "00100020") or "none"
    entry = _record("STUDY")
    entry.StudyDate = _text(study, "00080020") if _text(study, "00080020").isdigit() else ""
    entry.StudyTime = _text(study, "00080030")
    entry.StudyDescription = _text(study, "00081030")
    entry.StudyInstanceUID = study.StudyInstanceUID
    entry.StudyID = _text(study, "00200010")
    entry.AccessionNumber = _text(study, "00080050")
    return _Record(patient, [_Record(entry, series)])


def _record(kind: str) -> Dataset:
    dataset = Dataset()
    dataset.OffsetOfTheNextDirectoryRecord = 0
    dataset.RecordInUseFlag = 0xFFFF
    dataset.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    dataset.DirectoryRecordType = kind
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _series(series: Series) -> Dataset:
    dataset = _record("SERIES")
    dataset.Modality = series.modality
    dataset.SeriesInstanceUID = series.SeriesInstanceUID
    dataset.SeriesNumber = next(iter(series.attributes.get("00200011", ())), "")
    return dataset


def _instance(instance: Instance, name: str) -> Dataset:
    sop_class = instance.text("00080016")
    kind = next((kind for start, kind in _KINDS.items() if sop_class.startswith(start)), None)
    dataset = _record(kind or ("IMAGE" if instance.frames else "PRIVATE"))
    if dataset.DirectoryRecordType == "PRIVATE":
        dataset.PrivateRecordUID = sop_class
    dataset.ReferencedFileID = name.split("/")
    dataset.ReferencedSOPClassUIDInFile = sop_class
    dataset.ReferencedSOPInstanceUIDInFile = instance.SOPInstanceUID
    dataset.ReferencedTransferSyntaxUIDInFile = instance.TransferSyntaxUID
    dataset.InstanceNumber = instance.text("00200013")
    return dataset


def _text(study: Study, tag: str) -> str:
    return next(iter(study.attributes.get(tag, ())), "")


def _flatten(records: list[_Record]) -> list[_Record]:
    return [one for record in records for one in (record, *_flatten(record.children))]


def _link(records: list[_Record]) -> None:
    for record, following in pairwise(records):
        record.dataset.OffsetOfTheNextDirectoryRecord = following.position
    for record in records:
        if record.children:
            record.dataset.OffsetOfReferencedLowerLevelDirectoryEntity = record.children[0].position
            _link(record.children)


def _encode(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def _item(value: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(value).to_bytes(4, "little") + value


def _header() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _file(meta: FileMetaDataset, root: list[_Record], every: list[_Record], items: bytes) -> bytes:
    """The whole file; its record sequence is written by hand, for only its bytes know their places."""
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.FileSetID = "KHEOPS"
    dataset.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = root[0].position
    dataset.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = root[-1].position
    dataset.FileSetConsistencyFlag = 0
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    sequence = b"\x04\x00\x20\x12SQ\x00\x00" + len(items).to_bytes(4, "little")
    return buffer.getvalue() + sequence + items
