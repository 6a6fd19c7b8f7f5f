"""WADO-URI: DICOM without a wrapper, pictures, and what is no picture (contract: "Retrieval")."""

import hashlib
import io

import numpy as np
import pydicom
import pytest
from demo_client import Demo, Place
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

JPEG = "image/jpeg"


def wado(place: Place, query: str = "", *, instance: int | None = 0) -> str:
    object_uid = "" if instance is None else f"&objectUID={place.instances[instance]['SOPInstanceUID']}"
    return f"/api/wado?requestType=WADO&studyUID={place.study}&seriesUID={place.series}{object_uid}&{query}"


def jpeg(demo: Demo, place: Place, query: str = "", *, instance: int | None = 0) -> Image.Image:
    answer = demo.get(wado(place, f"contentType={JPEG}&{query}", instance=instance))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == JPEG
    assert answer.content.endswith(b"\xff\xd9")
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return image


def test_dicom_as_stored_and_decompressed(demo: Demo) -> None:
    place = next(one for one in demo.library(checksums=True) if len(one.instances) == 6)
    for number, one in enumerate(place.instances):
        stored = demo.get(wado(place, "contentType=application/dicom&transferSyntax=*", instance=number))
        assert stored.headers["content-type"] == "application/dicom"
        assert hashlib.sha256(stored.content).hexdigest() == one["sha256"]
    compressed = next(
        number for number, one in enumerate(place.instances) if one["TransferSyntaxUID"] == "1.2.840.10008.1.2.5"
    )
    answer = demo.get(wado(place, "contentType=application/dicom", instance=compressed))
    assert pydicom.dcmread(io.BytesIO(answer.content)).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize("parameter", ["rows=100", "columns=100", "frameNumber=1", "windowCenter=1"])
def test_dicom_takes_no_parameters_of_pictures(demo: Demo, parameter: str) -> None:
    answer = demo.get(wado(demo.series("AP"), f"contentType=application/dicom&{parameter}"))
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain"


def test_study_and_series_are_asked_for_before_the_token(demo: Demo) -> None:
    for query in ("seriesUID=1.2", "studyUID=1.2", "studyUID=1.2&studyUID=1.3&seriesUID=1.4"):
        answer = demo.get(f"/api/wado?requestType=WADO&{query}", token=None)
        assert answer.status_code == 400
    assert demo.get("/api/wado?requestType=WADO&studyUID=1.2&seriesUID=1.3", token=None).status_code == 401
    assert demo.get("/api/wado?requestType=WADO&studyUID=1.2&seriesUID=1.3").status_code == 401


def test_a_picture_fits_and_keeps_its_shape(demo: Demo) -> None:
    radiograph = demo.series("AP")
    assert jpeg(demo, radiograph).size == (256, 192)
    assert jpeg(demo, radiograph, "rows=100&columns=100").size == (100, 75)
    assert jpeg(demo, radiograph, "rows=96").size == (128, 96)
    assert jpeg(demo, radiograph, "columns=512").size == (512, 384)
    assert demo.get(wado(radiograph, f"contentType={JPEG}&rows=many")).status_code == 400


def test_what_is_grey_and_what_is_in_colour(demo: Demo) -> None:
    assert jpeg(demo, demo.series("Thorax 5.0 B31f")).mode == "L"
    for number in range(3):
        assert jpeg(demo, demo.series("colours"), instance=number).mode == "RGB"
    captures = demo.series("secondary captures")
    stripes = np.asarray(jpeg(demo, captures)).astype(int)
    red, green, blue = (stripes[row, 50] for row in (5, 25, 45))
    assert red[0] - red[1] > 150, "YBR has become RGB"
    assert green[1] - green[0] > 150
    assert blue[2] - blue[0] > 150


def test_windows(demo: Demo) -> None:
    place = demo.series("Thorax 5.0 B31f")
    middle = len(place.instances) // 2
    own = np.asarray(jpeg(demo, place, instance=middle)).astype(float)
    lung = np.asarray(jpeg(demo, place, "windowCenter=-600&windowWidth=1500", instance=middle)).astype(float)
    assert own[128, 70] < 30, "lung is black in the soft window"
    assert 40 < lung[128, 70] < 220
    assert lung[128, 128] > 200
    assert demo.get(wado(place, f"contentType={JPEG}&windowCenter=40")).status_code == 400
    assert demo.get(wado(place, f"contentType={JPEG}&windowCenter=x&windowWidth=1")).status_code == 400


def test_monochrome1_is_shown_upside_down(demo: Demo) -> None:
    shown = np.asarray(jpeg(demo, demo.series("AP"))).astype(float)
    assert shown[96, 2] < 40, "air is black"
    assert shown[96, 128] > 200, "the spine is white"


def test_a_multi_frame_image_needs_a_frame_number(demo: Demo) -> None:
    for description, frames in (("cine", 30), ("enhanced", 16)):
        place = demo.series(description)
        refused = demo.get(wado(place, f"contentType={JPEG}"))
        assert refused.status_code == 406
        assert refused.headers["content-type"] == "text/plain"
        jpeg(demo, place, "frameNumber=1")
        jpeg(demo, place, f"frameNumber={frames}")
        assert demo.get(wado(place, f"contentType={JPEG}&frameNumber={frames + 1}")).status_code == 404
        assert demo.get(wado(place, f"contentType={JPEG}&frameNumber=0")).status_code == 400
    jpeg(demo, demo.series("AP"), "frameNumber=1")


@pytest.mark.parametrize("description", ["Findings", "Report", "Lungs", "rest", "plan", "structures", "measurements"])
def test_what_is_no_image_is_not_rendered(demo: Demo, description: str) -> None:
    answer = demo.get(wado(demo.series(description), f"contentType={JPEG}&frameNumber=1"))
    assert answer.status_code == 406
    assert answer.headers["content-type"] == "text/plain"


def test_a_codec_that_is_missing_shows_as_a_bad_gateway(demo: Demo) -> None:
    place = demo.series("every transfer syntax")
    number = next(
        number for number, one in enumerate(place.instances) if one["TransferSyntaxUID"] == "1.2.840.10008.1.2.4.80"
    )
    assert demo.get(wado(place, f"contentType={JPEG}", instance=number)).status_code == 502


@pytest.mark.parametrize(
    ("description", "media_type"),
    [
        ("AP", JPEG),
        ("cine", "application/dicom"),
        ("Findings", "text/html;charset=utf-8"),
        ("Report", "application/pdf"),
        ("rest", "application/dicom"),
        ("Lungs", "application/dicom"),
    ],
)
def test_without_a_type_the_instance_decides(demo: Demo, description: str, media_type: str) -> None:
    answer = demo.get(wado(demo.series(description)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    if description == "Report":
        assert answer.content.startswith(b"%PDF")


def test_a_series_is_shown_by_the_middle_of_no_order(demo: Demo) -> None:
    place = demo.series("Thorax 5.0 B31f")
    chosen = demo.get(wado(place, f"contentType={JPEG}", instance=None))
    assert chosen.status_code == 200
    pictures = [
        demo.get(wado(place, f"contentType={JPEG}", instance=number)).content for number in range(len(place.instances))
    ]
    assert chosen.content in pictures
    assert chosen.content != pictures[len(pictures) // 2], "not the middle slice"
    assert demo.get(wado(demo.series("Findings"), f"contentType={JPEG}", instance=None)).status_code == 406


def test_an_object_that_is_not_there(demo: Demo) -> None:
    answer = demo.get(f"{wado(demo.series('AP'), instance=None)}objectUID=1.2.3")
    assert answer.status_code == 404
