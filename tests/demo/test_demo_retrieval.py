"""WADO-RS, metadata, frames, bulk data and thumbnails (contract: "Retrieval")."""

import hashlib
import io
from typing import Any

import pydicom
import pytest
from demo_client import DECOMPRESSED, STORED, Demo, bodies, parts
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

OCTETS = 'multipart/related; type="application/octet-stream"'


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def digests(contents: list[bytes]) -> list[str]:
    return sorted(hashlib.sha256(content).hexdigest() for content in contents)


def test_every_series_is_delivered_as_stored(demo: Demo) -> None:
    for place in demo.library(checksums=True):
        answer = demo.get(place.url, accept=STORED)
        assert answer.status_code == 200
        assert digests(bodies(answer)) == sorted(one["sha256"] for one in place.instances), place.modality


def test_parts_have_a_type_and_no_name(demo: Demo) -> None:
    place = demo.series("every transfer syntax")
    answer = demo.get(place.url, accept=STORED)
    assert answer.headers["cache-control"] == "no-cache"
    found = parts(answer)
    syntaxes = {str(read(content).file_meta.TransferSyntaxUID) for _, content in found}
    assert len(syntaxes) == 6
    for head, content in found:
        syntax = read(content).file_meta.TransferSyntaxUID
        assert head == f"Content-Type: application/dicom;transfer-syntax={syntax}".encode()
    media_type, *parameters = answer.headers["content-type"].split(";")
    assert media_type == "multipart/related"
    assert 'type="application/dicom"' in parameters
    assert f"transfer-syntax={read(found[0][1]).file_meta.TransferSyntaxUID}" in parameters


def test_parts_come_in_no_order_but_always_in_the_same(demo: Demo) -> None:
    place = demo.series("PET WB corrected")
    first, second = (bodies(demo.get(place.url, accept=STORED)) for _ in range(2))
    numbers = [int(read(content).InstanceNumber) for content in first]
    assert sorted(numbers) == list(range(1, 41)) != numbers
    assert first == second
    demo.control("POST", "/behaviour", {"shuffled": False})
    ordered = bodies(demo.get(place.url, accept=STORED))
    assert [int(read(content).InstanceNumber) for content in ordered] == list(range(1, 41))


def test_one_instance(demo: Demo) -> None:
    place = demo.series("Findings")
    (content,) = bodies(demo.get(place.first, accept=STORED))
    assert read(content).SOPInstanceUID == place.instances[0]["SOPInstanceUID"]


def test_without_a_transfer_syntax_everything_is_decompressed(demo: Demo) -> None:
    place = demo.series("every transfer syntax")
    reference = None
    for content in bodies(demo.get(place.url, accept=DECOMPRESSED)):
        dataset = read(content)
        if dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian:
            reference = reference or dataset.PixelData
            assert dataset.PixelData == reference, "six codings of one image"
        else:
            assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80", "the only one without a codec"


def test_a_syntax_that_cannot_be_made(demo: Demo) -> None:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90'
    assert demo.get(demo.series("Report").first, accept=accept).status_code == 406
    stored = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'
    assert demo.get(demo.series("Report").first, accept=stored).status_code == 200


@pytest.mark.parametrize(
    ("accept", "study", "series"),
    [
        (STORED, 200, 200),
        ("multipart/related; type=application/dicom; transfer-syntax=*", 200, 200),
        ("multipart/related", 200, 200),
        ("*/*", 200, 200),
        ("application/dicom", 406, 406),
        ("image/jpeg", 406, 406),
        (f"{STORED}, */*", 406, 200),
        (f"image/png, {STORED}", 406, 200),
        ("", 406, 200),
    ],
)
def test_accept(demo: Demo, accept: str, study: int, series: int) -> None:
    place = demo.series("structures")
    request = demo.http.build_request(
        "GET", f"/api/studies/{place.study}", headers={**demo.bearer("user token"), "Accept": accept}
    )
    if not accept:
        del request.headers["accept"]
    assert demo.http.send(request).status_code == study
    assert demo.get(place.url, accept=accept or "*/*").status_code == series


def test_anything_goes_means_pixel_data_for_a_study(demo: Demo) -> None:
    place = demo.series("AP")
    answer = demo.get(f"/api/studies/{place.study}", accept="*/*")
    assert 'type="application/octet-stream"' in answer.headers["content-type"]
    ((head, content),) = parts(answer)
    assert head == b"Content-Type: application/octet-stream"
    (stored,) = bodies(demo.get(place.url, accept=STORED))
    assert content == read(stored).PixelData
    (by_series,) = bodies(demo.get(place.url, accept="*/*"))
    assert read(by_series).PixelData == content, "there it means DICOM"


def test_a_study_honours_its_source(demo: Demo) -> None:
    study = demo.series("Report").study
    album = demo.album("PET follow-up")
    for query, token in ((f"?album={album}", "user token"), ("", "album token of PET")):
        contents = bodies(demo.get(f"/api/studies/{study}{query}", token, accept=STORED))
        assert {read(content).Modality for content in contents} == {"PT", "SR"}
        assert len(contents) == 41
    everything = bodies(demo.get(f"/api/studies/{study}?inbox=true", accept=STORED))
    assert len(everything) == sum(len(place.instances) for place in demo.library() if place.study == study)
    elsewhere = demo.get(f"/api/studies/{study}?album={demo.album('Teaching')}", accept=STORED)
    assert elsewhere.status_code == 502
    assert demo.get(f"/api/studies/{study}?album=unknown", accept=STORED).status_code == 502


def test_a_user_may_retrieve_a_series_whatever_the_album(demo: Demo) -> None:
    report = demo.series("Report")
    assert demo.get(f"{report.url}?album={demo.album('PET follow-up')}", accept=STORED).status_code == 200
    assert demo.get(report.url, "album token of PET", accept=STORED).status_code == 401


def test_an_instance_that_is_not_there(demo: Demo) -> None:
    place = demo.series("Findings")
    answer = demo.get(f"{place.url}/instances/1.2.3", accept=STORED)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/plain"
    assert "errorMessage" in answer.text


def test_metadata_of_a_series(demo: Demo) -> None:
    place = demo.series("PET WB corrected")
    answer = demo.get(f"{place.url}/metadata")
    assert answer.headers["content-type"] == "application/dicom+json"
    rows: list[dict[str, Any]] = answer.json()
    assert len(rows) == 40
    row = rows[0]
    uid = row["00080018"]["Value"][0]
    assert row["7FE00010"]["BulkDataURI"] == f"{demo.url}{place.url}/instances/{uid}/bulkdata/7FE00010"
    assert row["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    assert row["00200032"]["Value"][0] == "-190.5", "a decimal string stays a string"
    (alone,) = demo.get(f"{place.url}/instances/{uid}/metadata").json()
    assert alone == row
    (pixels,) = bodies(demo.get(row["7FE00010"]["BulkDataURI"].removeprefix(demo.url), accept=OCTETS))
    assert len(pixels) == 128 * 128 * 2
    demo.control("POST", "/behaviour", {"numbers": True})
    assert demo.get(f"{place.url}/metadata").json()[0]["00200032"]["Value"][0] == -190.5


def test_metadata_of_every_kind_of_instance_can_be_made(demo: Demo) -> None:
    for place in demo.library():
        answer = demo.get(f"{place.url}/metadata")
        assert [row["0020000E"]["Value"] for row in answer.json()] == [[place.series]] * len(place.instances)


def test_metadata_of_a_study_point_inside(demo: Demo) -> None:
    study = demo.series("Report").study
    rows = demo.get(f"/api/studies/{study}/metadata?album={demo.album('PET follow-up')}").json()
    assert len(rows) == 41
    addresses = {row["7FE00010"]["BulkDataURI"] for row in rows if "7FE00010" in row}
    assert addresses
    assert not [address for address in addresses if address.startswith(demo.url)]
    assert demo.get("/api/studies/1.2.3/metadata").status_code == 404


def test_frames_are_raw_and_one_at_a_time(demo: Demo) -> None:
    place = demo.series("enhanced")
    whole = read(bodies(demo.get(place.url, accept=STORED))[0])
    length = len(whole.PixelData) // 16
    (second,) = bodies(demo.get(f"{place.first}/frames/2", accept=OCTETS))
    assert second == whole.PixelData[length : 2 * length]
    assert demo.get(f"{place.first}/frames/17", accept=OCTETS).status_code == 404
    assert demo.get(f"{place.first}/frames/1", accept="image/jpeg").status_code == 406


def test_bulk_data_that_is_not_there(demo: Demo) -> None:
    assert demo.get(f"{demo.series('Findings').first}/bulkdata/7FE00010", accept=OCTETS).status_code == 404
    (document,) = bodies(demo.get(f"{demo.series('Report').first}/bulkdata/00420011", accept=OCTETS))
    assert document.startswith(b"%PDF")


def thumbnail(demo: Demo, path: str, accept: str) -> tuple[str, Image.Image]:
    answer = demo.get(path, accept=accept)
    assert answer.status_code == 200
    return answer.headers["content-type"], Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize(
    ("accept", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("*/*", "PNG"), ("image/*", "PNG")]
)
def test_thumbnails(demo: Demo, accept: str, kind: str) -> None:
    place = demo.series("Thorax 5.0 B31f")
    media_type, image = thumbnail(demo, f"{place.url}/thumbnail", accept)
    assert media_type == f"image/{kind.lower()}"
    assert image.format == kind
    assert image.size == (64, 64)
    _, large = thumbnail(demo, f"{place.first}/thumbnail?viewport=300,200", accept)
    assert large.size == (200, 200), "it fits and keeps its shape"
    _, frame = thumbnail(demo, f"{demo.series('cine').first}/frames/30/thumbnail", accept)
    assert frame.size[0] == 64


def test_what_is_no_image_has_an_icon(demo: Demo) -> None:
    for description in ("Findings", "Report", "Lungs", "rest", "plan"):
        _, image = thumbnail(demo, f"{demo.series(description).url}/thumbnail", "image/jpeg")
        assert image.size == (64, 64)


def test_thumbnails_that_cannot_be(demo: Demo) -> None:
    place = demo.series("Thorax 5.0 B31f")
    assert demo.get(f"{place.url}/thumbnail", accept="text/html").status_code == 406
    assert demo.get(f"{place.url}/thumbnail?viewport=big").status_code == 400
    assert demo.get(f"{place.first}/frames/2/thumbnail").status_code == 404
