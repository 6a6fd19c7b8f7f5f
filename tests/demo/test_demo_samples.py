"""The sample hospital: what is in it, and that other programs can use it."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from demo_client import STORED, Demo, bodies
from pydicom.uid import UID

from kheopsfs.demo import samples
from kheopsfs.demo.elements import lenient


@pytest.fixture(scope="module")
def datasets(shared_demo: Demo) -> list[pydicom.Dataset]:
    with lenient():
        return [
            pydicom.dcmread(io.BytesIO(content))
            for place in shared_demo.library()
            for content in bodies(shared_demo.get(place.url, accept=STORED))
        ]


def test_it_is_the_same_on_every_start() -> None:
    with lenient():
        first, second = samples.library(), samples.library()
        ids = [sorted(samples.accounts().albums) for _ in range(2)]
    described = [
        [(one.SOPInstanceUID, one.body.sha256()) for one in library.instances()] for library in (first, second)
    ]
    assert described[0] == described[1]
    assert len({uid for uid, _ in described[0]}) == len(described[0]), "no SOPInstanceUID twice"
    assert ids[0] == ids[1]


def test_tokens_are_new_on_every_start() -> None:
    assert not set(samples.accounts().tokens) & set(samples.accounts().tokens)


def test_every_kind_is_there(datasets: list[pydicom.Dataset]) -> None:
    modalities = {dataset.get("Modality") for dataset in datasets}
    assert {"CT", "MR", "PT", "CR", "US", "OT", "SR", "SEG", "DOC", "RTPLAN", "RTDOSE", "RTSTRUCT", "ECG"} <= modalities
    syntaxes = {dataset.file_meta.TransferSyntaxUID.name for dataset in datasets}
    for kind in ("RLE", "JPEG 2000", "JPEG-LS", "JPEG Baseline", "JPEG Lossless", "Implicit", "Big Endian", "Deflated"):
        assert any(kind in name for name in syntaxes), kind
    colours = {dataset.get("PhotometricInterpretation") for dataset in datasets}
    assert {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL_422", "YBR_RCT"} <= colours
    assert any(dataset.get("NumberOfFrames") == 30 for dataset in datasets)
    assert any("PerFrameFunctionalGroupsSequence" in dataset and dataset.Modality == "MR" for dataset in datasets)


def test_files_agree_with_their_meta_information(datasets: list[pydicom.Dataset]) -> None:
    for dataset in datasets:
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID
        assert UID(dataset.SOPClassUID).name != dataset.SOPClassUID


def test_albums_show_one_study_differently(shared_demo: Demo) -> None:
    albums = [shared_demo.album(name) for name in ("Chest/Heart trial 🫀", "PET follow-up")]
    shown = [{place.series for place in shared_demo.library() if album in place.sources} for album in albums]
    studies = [{place.study for place in shared_demo.library() if album in place.sources} for album in albums]
    assert studies[0] & studies[1]
    assert not shown[0] & shown[1]


@pytest.mark.parametrize(
    ("description", "size", "spacing"),
    [
        ("Thorax 5.0 B31f", (256, 256, 64), (1.5, 1.5, 5.0)),
        ("Thorax 10.0 B70f lung", (256, 256, 32), (1.5, 1.5, 10.0)),
        ("PET WB corrected", (128, 128, 40), (3.0, 3.0, 8.0)),
    ],
)
def test_the_chest_is_a_volume(
    shared_demo: Demo, tmp_path: Path, description: str, size: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    for number, content in enumerate(bodies(shared_demo.get(shared_demo.series(description).url, accept=STORED))):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    volume = reader.Execute()
    assert volume.GetSize() == size
    assert volume.GetSpacing() == pytest.approx(spacing)
    assert volume.GetOrigin()[2] == pytest.approx(-spacing[2] * (size[2] - 1) / 2)
    if description.startswith("Thorax"):
        voxels = SimpleITK.GetArrayFromImage(volume)
        middle = voxels[size[2] // 2]
        assert np.median(middle[:20, :20]) < -950, "air"
        assert -900 < np.median(middle[120:136, 70:80]) < -750, "lung"
        assert middle[173, 126] > 300, "spine"


def test_reconstructions_lie_on_top_of_each_other(datasets: list[pydicom.Dataset]) -> None:
    frames = {
        one.FrameOfReferenceUID
        for one in datasets
        if one.get("StudyDescription") == "PET-CT Thorax" and "FrameOfReferenceUID" in one
    }
    assert len(frames) == 1
