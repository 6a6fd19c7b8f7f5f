"""DICOM files of one's own for a demo server to serve: many short series, each instance different from all others."""

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

EDGE = 160
"""Rows and columns: 51 200 bytes of pixels, well above the 8 192 up to which Kheops states a length."""


def write_study(
    folder: Path, *, series: int, instances: int, patient: str = "Test^Patient", edge: int = EDGE
) -> dict[str, bytes]:
    """Write a study of CT images; the bytes of every file by SOPInstanceUID."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(series * instances)
    files = {}
    StudyInstanceUID = generate_uid()
    for number in range(1, series + 1):
        SeriesInstanceUID = generate_uid()
        for place in range(1, instances + 1):
            image = _image(StudyInstanceUID, SeriesInstanceUID, number, place, patient)
            image.Rows = image.Columns = edge
            image.PixelData = noise.integers(0, 4096, (edge, edge), dtype="<u2").tobytes()
            file = folder / f"{image.SOPInstanceUID}.dcm"
            pydicom.dcmwrite(file, image, enforce_file_format=True)
            files[str(image.SOPInstanceUID)] = file.read_bytes()
    return files


def another(like: bytes, **attributes: object) -> tuple[Dataset, bytes]:
    """A copy of a DICOM file as an instance of its own, with some attributes changed; and its bytes."""
    image = pydicom.dcmread(io.BytesIO(like))
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, image, enforce_file_format=True)
    return image, buffer.getvalue()


def _image(StudyInstanceUID: str, SeriesInstanceUID: str, series: int, number: int, patient: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = StudyInstanceUID, SeriesInstanceUID
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20240101", "120000", "1", "A1"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = patient, "T1", "19700101", "O"
    image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", series, number
    image.SeriesDescription = f"series {series}"
    image.ReferringPhysicianName = ""
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    return image
