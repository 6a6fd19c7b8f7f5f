"""Zips (contract: "Zip")."""

import io
import struct
import zipfile
from pathlib import Path

import pydicom
import pytest
from demo_client import STORED, ZIP, Demo
from pydicom.fileset import FileSet
from pydicom.uid import ExplicitVRLittleEndian


def zipped(demo: Demo, study: str, token: str = "user token", query: str = "") -> zipfile.ZipFile:
    answer = demo.get(f"/api/studies/{study}{query}", token, accept=ZIP)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == ZIP
    assert "DICOM.ZIP" in answer.headers["content-disposition"]
    return zipfile.ZipFile(io.BytesIO(answer.content))


def modalities(archive: zipfile.ZipFile) -> set[str]:
    names = [name for name in archive.namelist() if name != "DICOMDIR"]
    return {pydicom.dcmread(io.BytesIO(archive.read(name)), stop_before_pixels=True).Modality for name in names}


def test_the_layout(demo: Demo) -> None:
    place = demo.series("colours")
    count = sum(len(one.instances) for one in demo.library() if one.study == place.study)
    archive = zipped(demo, place.study)
    assert archive.namelist() == [f"DICOM/0/{number}" for number in range(1, count + 1)] + ["DICOMDIR"]
    assert archive.testzip() is None


def test_the_thousandth_file_opens_another_folder() -> None:
    with Demo("--synthetic", "small=1001") as demo:
        names = zipped(demo, "1.2.826.0.1.3680043.8.498.9.2.20000000").namelist()
    assert names[998:1001] == ["DICOM/0/999", "DICOM/1/1000", "DICOM/1/1001"]


def test_entries_are_deflated_at_level_0_with_their_sizes_behind(demo: Demo) -> None:
    answer = demo.get(f"/api/studies/{demo.series('plan').study}", accept=ZIP)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    for entry in archive.infolist():
        signature, _, flags, method, _, _, crc, packed, size = struct.unpack_from(
            "<4sHHHHHIII", answer.content, entry.header_offset
        )
        assert signature == b"PK\x03\x04"
        assert flags & 0x08, "sizes follow the data"
        assert flags & 0x800, "the name is UTF-8"
        assert (crc, packed, size) == (0, 0, 0)
        assert method == entry.compress_type == zipfile.ZIP_DEFLATED
        assert entry.compress_size > entry.file_size


def test_instances_are_decompressed(demo: Demo) -> None:
    archive = zipped(demo, demo.series("cine").study)
    found = [
        pydicom.dcmread(io.BytesIO(archive.read(name)), stop_before_pixels=True)
        for name in archive.namelist()
        if name != "DICOMDIR"
    ]
    cine = next(dataset for dataset in found if dataset.get("NumberOfFrames") == 30)
    assert cine.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_two_zips_differ_in_their_dicomdir(demo: Demo) -> None:
    study = demo.series("plan").study
    uids = {
        pydicom.dcmread(io.BytesIO(zipped(demo, study).read("DICOMDIR"))).file_meta.MediaStorageSOPInstanceUID
        for _ in range(2)
    }
    assert len(uids) == 2


def test_the_dicomdir_leads_to_every_file(demo: Demo, tmp_path: Path) -> None:
    place = demo.series("Report")
    zipped(demo, place.study).extractall(tmp_path)
    found = FileSet(tmp_path / "DICOMDIR")
    expected = [
        one["SOPInstanceUID"]
        for one_series in demo.library()
        if one_series.study == place.study
        for one in one_series.instances
    ]
    assert sorted(instance.SOPInstanceUID for instance in found) == sorted(expected)
    assert all(Path(instance.path).is_file() for instance in found)
    assert all(pydicom.dcmread(instance.path).SOPInstanceUID == instance.SOPInstanceUID for instance in found)
    assert {str(instance.PatientName) for instance in found} == {"Doe^Jane"}


def test_album_and_inbox_are_ignored(demo: Demo) -> None:
    study = demo.series("Report").study
    for query in ("", f"?album={demo.album('PET follow-up')}", "?inbox=true", "?album=unknown"):
        assert modalities(zipped(demo, study, query=query)) == {"CT", "PT", "SEG", "DOC", "SR"}
    assert modalities(zipped(demo, study, "album token of PET")) == {"PT", "SR"}


@pytest.mark.parametrize(
    ("query", "accept", "status"),
    [
        ("?accept=application%2Fzip", "*/*", 200),
        ("?accept=application%2Fzip", "application/*", 200),
        ("?accept=application%2Fzip", "image/png", 406),
        ("?accept=application%2fzip", STORED, 200),
    ],
)
def test_header_and_query_must_agree(demo: Demo, query: str, accept: str, status: int) -> None:
    answer = demo.get(f"/api/studies/{demo.series('plan').study}{query}", accept=accept)
    assert answer.status_code == status
    if accept == STORED:
        assert answer.headers["content-type"].startswith("multipart/related"), "a small f is no zip"


def test_a_uid_must_be_well_formed(demo: Demo) -> None:
    odd = demo.series("negative number")
    assert ".007." in odd.study
    assert demo.get(f"/api/studies/{odd.study}", accept=ZIP).status_code == 400
    assert demo.get(f"/api/studies/{odd.study}", accept=STORED).status_code == 200
    assert demo.get("/api/studies/5", accept=ZIP).status_code == 400


def test_a_series_zip_is_the_pacs_own(demo: Demo) -> None:
    place = demo.series("PET WB corrected")
    answer = demo.get(place.url, accept=ZIP)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert len(archive.namelist()) == 40
    assert all(name.startswith("DICOM/") and name.endswith(".dcm") for name in archive.namelist())
    assert sum(one.compress_size for one in archive.infolist()) < sum(one.file_size for one in archive.infolist()) / 2
