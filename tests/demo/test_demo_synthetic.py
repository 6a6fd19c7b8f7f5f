"""Synthetic archives: that they are what they say, however large."""

import io
from itertools import islice
from pathlib import Path

import httpx
import pydicom
import pytest
from demo_client import STORED, ZIP, Demo, bodies, parts

from kheopsfs.demo import synthetic
from kheopsfs.demo.synthetic import ROOT, SyntheticSpec


def test_a_spec_is_read() -> None:
    spec = SyntheticSpec.parse("slices=500,multiframe=150M,studies=2")
    assert spec == SyntheticSpec(studies=2, slices=500, multiframe=150 << 20)
    assert SyntheticSpec.parse("multiframe=2g").multiframe == 2 << 30
    assert SyntheticSpec.parse("") == SyntheticSpec()


@pytest.mark.parametrize("text", ["colour=red", "slices", "slices=many", "slices=1T"])
def test_a_spec_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        SyntheticSpec.parse(text)


@pytest.mark.parametrize("spec", [SyntheticSpec(slices=3), SyntheticSpec(small=3), SyntheticSpec(multiframe=1 << 20)])
def test_every_instance_is_a_proper_file_of_its_own(spec: SyntheticSpec) -> None:
    library = synthetic.library(spec)
    seen = set()
    for study in library.studies.values():
        for series in study.series.values():
            for uid, instance in series.instances.items():
                data = b"".join(instance.body.pieces())
                dataset = pydicom.dcmread(io.BytesIO(data))
                assert len(data) == instance.body.size
                assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == uid
                assert dataset.StudyInstanceUID == study.StudyInstanceUID == series.StudyInstanceUID
                assert dataset.SeriesInstanceUID == series.SeriesInstanceUID
                assert str(dataset.InstanceNumber) == instance.text("00200013")
                assert dataset.ImagePositionPatient[2] == dataset.InstanceNumber
                assert dataset.pixel_array.shape[-1] == int(instance.text("00280011"))
                seen.add(data)
    assert len(seen) == len(list(library.instances()))


def test_slices_are_about_528_kb_and_all_different() -> None:
    library = synthetic.library(SyntheticSpec(slices=500))
    bodies_of = [one.body for one in library.instances()]
    assert len(bodies_of) == 500
    assert {body.size // 1000 for body in bodies_of} == {525}
    assert len({body.sha256() for body in islice(bodies_of, 0, None, 50)}) == 10


def test_the_long_list_makes_its_series_when_they_are_looked_at() -> None:
    library = synthetic.library(SyntheticSpec(studies=300))
    studies = list(library.studies.values())
    assert len(studies) == 300
    (series,) = studies[299].series.values()
    (instance,) = series.instances.values()
    dataset = pydicom.dcmread(instance.body.open())
    assert dataset.StudyInstanceUID == studies[299].StudyInstanceUID
    assert list(studies[5].series) == [f"{studies[5].StudyInstanceUID}.1"]


def test_a_large_multi_frame_costs_no_memory_and_is_all_there() -> None:
    study = f"{ROOT}.3.20000000"
    with Demo("--synthetic", "multiframe=600M") as demo:
        headers = {**demo.bearer("user token"), "Accept": STORED}
        with demo.http.stream("GET", f"/api/studies/{study}/series/{study}.1", headers=headers) as answer:
            received = sum(map(len, answer.iter_raw()))
        (place,) = demo.library()
        assert received > place.instances[0]["size"] > 600 << 20
        assert place.instances[0]["frames"] == 1200
        picture = demo.get(
            f"/api/wado?requestType=WADO&studyUID={study}&seriesUID={place.series}&frameNumber=1200"
            f"&objectUID={place.instances[0]['SOPInstanceUID']}&contentType=image/jpeg"
        )
        assert picture.status_code == 200
        status = Path(f"/proc/{demo.process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 250 << 10, "KiB"


def test_many_studies_and_albums() -> None:
    with Demo("--synthetic", "studies=3000,albums=50,slices=2") as demo:
        seen: list[str] = []
        while True:
            page: httpx.Response = demo.get(f"/api/studies?limit=1000&offset={len(seen)}")
            if page.status_code == 204:
                break
            seen += [row["0020000D"]["Value"][0] for row in page.json()]
        assert len(set(seen)) == len(seen) == 3001 == int(page.headers["x-total-count"])
        assert demo.get("/api/albums").headers["x-total-count"] == "51"
        series = demo.get(f"/api/studies/{seen[17]}/series").json()[0]["0020000E"]["Value"][0]
        (content,) = bodies(demo.get(f"/api/studies/{seen[17]}/series/{series}", accept=STORED))
        assert pydicom.dcmread(io.BytesIO(content)).StudyInstanceUID == seen[17]
        assert bodies(demo.get(f"/api/studies/{seen[17]}", accept=STORED)) == [content]
        assert demo.get(f"/api/studies/{seen[17]}", accept=ZIP).status_code == 200
        slices = next(uid for uid in seen if uid.startswith(f"{ROOT}.1."))
        assert len(parts(demo.get(f"/api/studies/{slices}", "album token", accept=STORED))) == 2
