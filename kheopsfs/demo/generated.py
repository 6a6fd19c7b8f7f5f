"""Sample instances that are made here, because pydicom ships none of their kind."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedMRImageStorage,
    PositronEmissionTomographyImageStorage,
    SegmentationStorage,
)

from kheopsfs.demo.bodies import Body
from kheopsfs.demo.cards import SeriesCard, member, uid
from kheopsfs.demo.phantom import Grid, Volume

_AXIAL = [1, 0, 0, 0, 1, 0]


def ct(series: SeriesCard, grid: Grid, volume: Volume, window: tuple[int, int]) -> Iterator[Body]:
    """A CT series: stored values are Hounsfield units plus 1024."""
    for index, plane in enumerate(volume):
        dataset = _plane(CTImageStorage, series, grid, index, (plane + 1024).astype(np.uint16))
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = window
        dataset.KVP, dataset.BodyPartExamined = 120, "CHEST"
        yield member(dataset, series, index + 1)


def pt(series: SeriesCard, grid: Grid, volume: Volume) -> Iterator[Body]:
    """A PET series in Bq/ml."""
    for index, plane in enumerate(volume):
        dataset = _plane(PositronEmissionTomographyImageStorage, series, grid, index, plane.astype(np.uint16))
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.Units = 0, 1, "BQML"
        dataset.WindowCenter, dataset.WindowWidth = 5000, 10000
        dataset.BodyPartExamined, dataset.ImageIndex = "CHEST", index + 1
        yield member(dataset, series, index + 1)


def radiograph(series: SeriesCard, grid: Grid, volume: Volume) -> Body:
    """The chest from the front, MONOCHROME1: the rays go through the volume from front to back."""
    attenuation = np.clip(volume.astype(np.float64) + 1000, 0, None).sum(axis=1) / 1000 * grid.spacing
    shown = np.exp(-attenuation[::-1] / 90)
    stretched = np.repeat(shown, round(grid.thickness / grid.spacing), axis=0)
    dataset = _image(ComputedRadiographyImageStorage, (4095 * stretched).astype(np.uint16))
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.HighBit = "MONOCHROME1", 12, 11
    dataset.ViewPosition, dataset.BodyPartExamined = "AP", "CHEST"
    return member(dataset, series, 1)


def enhanced(series: SeriesCard, grid: Grid, volume: Volume) -> Body:
    """An enhanced multi-frame image with the geometry in its functional groups (PS3.3 C.7.6.16)."""
    dataset = _image(EnhancedMRImageStorage, (volume + 1024).astype(np.uint16)[0])
    dataset.PixelData = (volume + 1024).astype(np.uint16).tobytes()
    dataset.NumberOfFrames = len(volume)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
    dataset.FrameOfReferenceUID = uid("frame of reference", series.study.StudyInstanceUID)
    dataset.SharedFunctionalGroupsSequence = _groups(
        PixelMeasuresSequence=_item(PixelSpacing=[grid.spacing] * 2, SliceThickness=grid.thickness),
        PlaneOrientationSequence=_item(ImageOrientationPatient=_AXIAL),
        PixelValueTransformationSequence=_item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="US"),
        FrameVOILUTSequence=_item(WindowCenter=40, WindowWidth=400),
    )
    dataset.PerFrameFunctionalGroupsSequence = _per_frame(grid, range(len(volume)))
    dataset.WindowCenter, dataset.WindowWidth = 1064, 400
    return member(dataset, series, 1)


def segmentation(series: SeriesCard, grid: Grid, mask: NDArray[np.uint8]) -> Body:
    """A binary segmentation of the slices in which the mask has anything."""
    slices = [index for index in range(len(mask)) if mask[index].any()]
    dataset = _image(SegmentationStorage, mask[0])
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.NumberOfFrames = len(slices)
    dataset.PixelData = pack_bits(mask[slices].reshape(-1))
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.SegmentationType, dataset.ContentLabel = "BINARY", "LUNGS"
    dataset.FrameOfReferenceUID = uid("frame of reference", series.study.StudyInstanceUID)
    dataset.SegmentSequence = [_item(SegmentNumber=1, SegmentLabel="Lungs", SegmentAlgorithmType="MANUAL")[0]]
    dataset.SharedFunctionalGroupsSequence = _groups(
        PixelMeasuresSequence=_item(PixelSpacing=[grid.spacing] * 2, SliceThickness=grid.thickness),
        PlaneOrientationSequence=_item(ImageOrientationPatient=_AXIAL),
        SegmentIdentificationSequence=_item(ReferencedSegmentNumber=1),
    )
    dataset.PerFrameFunctionalGroupsSequence = _per_frame(grid, slices)
    return member(dataset, series, 1)


def report(series: SeriesCard, text: str) -> Body:
    """A one-page PDF in DICOM."""
    dataset = Dataset()
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.DocumentTitle, dataset.MIMETypeOfEncapsulatedDocument = "Report", "application/pdf"
    dataset.BurnedInAnnotation = "NO"
    dataset.EncapsulatedDocument = _pdf(text)
    return member(dataset, series, 1)


def _image(sop_class: str, plane: NDArray[np.uint16] | NDArray[np.uint8]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * plane.itemsize
    dataset.HighBit, dataset.PixelRepresentation = 8 * plane.itemsize - 1, 0
    dataset.PixelData = plane.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _plane(sop_class: str, series: SeriesCard, grid: Grid, index: int, plane: NDArray[np.uint16]) -> Dataset:
    dataset = _image(sop_class, plane)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.FrameOfReferenceUID = uid("frame of reference", series.study.StudyInstanceUID)
    dataset.ImagePositionPatient = [round(value, 3) for value in grid.position(index)]
    dataset.ImageOrientationPatient, dataset.PatientPosition = _AXIAL, "HFS"
    dataset.PixelSpacing = [grid.spacing] * 2
    dataset.SliceThickness = dataset.SpacingBetweenSlices = grid.thickness
    dataset.SliceLocation = round(grid.position(index)[2], 3)
    return dataset


def _item(**values: object) -> Sequence:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def _groups(**sequences: Sequence) -> Sequence:
    return _item(**sequences)


def _per_frame(grid: Grid, slices: "range | list[int]") -> Sequence:
    frames = Sequence()
    for number, index in enumerate(slices, 1):
        position = [round(value, 3) for value in grid.position(index)]
        frames.append(
            _groups(
                PlanePositionSequence=_item(ImagePositionPatient=position),
                FrameContentSequence=_item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[number]),
            )[0]
        )
    return frames


def _pdf(text: str) -> bytes:
    """The smallest PDF with a line of text; of even length, as DICOM wants it."""
    stream = f"BT /F1 18 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    body = b"%PDF-1.4\n"
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return body + b"\n" * (len(body) % 2)
