"""Pictures and archives: whole, of the right things, and asked for with the right token."""

import errno
import io
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from harness.looking import files, only, retrievals, xattr
from harness.mounting import Mount, NewMount
from harness.server import DemoServer
from PIL import Image

LARGEST = 250  # pixels, each way
RENDERED = {"CT", "MR", "PT", "US", "OT", "CR", "RTDOSE", ""}


def jpeg_of(path: Path) -> Image.Image:
    image = Image.open(io.BytesIO(path.read_bytes()))
    image.load()
    assert image.format == "JPEG"
    return image


def errno_of(path: Path) -> int | None:
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return None


def can_draw(server: DemoServer, token: str, picture: Path) -> bool:
    """Whether the server itself has a JPEG of an instance: it lacks decoders for some transfer syntaxes."""
    query = {
        "requestType": "WADO",
        "studyUID": xattr(picture, "dicom.StudyInstanceUID"),
        "seriesUID": xattr(picture, "dicom.SeriesInstanceUID"),
        "objectUID": xattr(picture, "dicom.SOPInstanceUID"),
        "contentType": "image/jpeg",
        "frameNumber": "1",
    }
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{server.url.removesuffix('/')}/api/wado"
    return httpx.get(url, params=query, headers=headers, trust_env=False, timeout=30).status_code == httpx.codes.OK


def instances_in(archive: bytes) -> set[str]:
    """The SOPInstanceUIDs in a DICOM zip, which ends with its DICOMDIR."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        *entries, last = opened.namelist()
        assert last == "DICOMDIR"
        return {
            str(pydicom.dcmread(io.BytesIO(opened.read(entry)), stop_before_pixels=True).SOPInstanceUID)
            for entry in entries
        }


def held(server: DemoServer, StudyInstanceUID: str, source: str | None = None) -> set[str]:
    """The SOPInstanceUIDs that the server has of a study, in an inbox (sub) or an album (id), or at all."""
    return {
        instance["SOPInstanceUID"]
        for study in server.call("GET", "/library", params={"study": StudyInstanceUID})
        for series in study["series"]
        if source is None or source in series["sources"]
        for instance in series["instances"]
    }


def test_every_picture_is_a_small_jpeg(server: DemoServer, mount: Mount) -> None:
    """S1, S7: of every instance that the server can draw."""
    token = server.token("user", "Ada")
    drawn = 0
    for picture in files(mount.path / "thumbnails" / "studies"):
        if picture.with_suffix("").is_dir():
            continue
        if "PET-CT" in str(picture) and not picture.name.startswith("00001_"):
            continue  # one of each of the long series is enough
        if can_draw(server, token, picture):
            assert max(jpeg_of(picture).size) <= LARGEST
            drawn += 1
        else:
            assert errno_of(picture) in (errno.EIO, errno.ENOENT)
    assert drawn >= 25


def test_only_what_can_be_drawn_has_a_picture(mount: Mount) -> None:
    """S1: a folder and a picture for each series of images, nothing for reports, plans, masks and waveforms."""
    seen = set()
    for series in (mount.path / "studies").glob("*/*"):
        modality = xattr(series, "dicom.Modality") if "user.dicom.Modality" in os.listxattr(series) else ""
        twin = mount.path / "thumbnails" / series.relative_to(mount.path)
        assert twin.is_dir() == twin.with_name(f"{twin.name}.jpg").is_file() == (modality in RENDERED), modality
        seen.add(modality)
    assert {"SR", "DOC", "SEG", "ECG", "RTPLAN", "RTSTRUCT"} <= seen


def test_a_multi_frame_image_shows_its_first_frame(mount: Mount) -> None:
    """S1: without a frame number the server refuses."""
    series = only((mount.path / "thumbnails" / "studies").glob("*MR_Sch*/0002_MR_enhanced*/"))
    assert series.is_dir() or series.suffix == ".jpg"
    folder = series.with_suffix("") if series.suffix == ".jpg" else series
    assert max(jpeg_of(only(folder.iterdir())).size) <= LARGEST
    assert max(jpeg_of(folder.with_name(f"{folder.name}.jpg")).size) <= LARGEST


def test_a_series_picture_is_that_of_its_middle_when_the_server_picks_badly(server: DemoServer, new_mount: Any) -> None:
    """S1: 406 for the series; the middle instance by number stands in."""
    mount = new_mount(server)
    series = only((mount.path / "studies").glob("*PET-CT*/0004_PT*"))
    middle = sorted(series.iterdir())[(len(list(series.iterdir())) - 1) // 2]
    server.fault(kind="status", path="^/api/wado\\?(?!.*objectUID)", code=406)
    try:
        server.clear_requests()
        picture = mount.path / "thumbnails" / series.relative_to(mount.path)
        jpeg_of(picture.with_name(f"{picture.name}.jpg"))
        assert [entry["status"] for entry in retrievals(server)] == [406, 200]
        assert xattr(middle, "dicom.SOPInstanceUID") in retrievals(server)[-1]["query"]
    finally:
        server.clear_faults()


@pytest.mark.parametrize("source", ["studies", "inbox"])
def test_a_zip_of_a_user_holds_its_source(server: DemoServer, mount: Mount, source: str) -> None:
    """S1, S7: all of the study that the source has; from the inbox with a token that sees nothing else."""
    for name in ("Chest_AP", "MR_Sch"):
        archive = only((mount.path / "zip" / source).glob(f"*{name}*"))
        server.clear_requests()
        data = archive.read_bytes()
        sub = "demo-ada" if source == "inbox" else None
        assert instances_in(data) == held(server, xattr(archive, "dicom.StudyInstanceUID"), sub)
        (asked,) = retrievals(server)
        assert asked["token"] == ("user" if source == "studies" else "viewer")


def test_a_zip_in_an_album_holds_the_series_of_that_album(server: DemoServer, mount: Mount, tmp_path: Path) -> None:
    """S1, S7: the study that two albums share, with a viewer token for each; `unzip -t` is content."""
    found = []
    for name in ("Chest", "PET"):
        archive = only((mount.path / "zip" / "albums").glob(f"{name}*/*PET-CT*"))
        server.clear_requests()
        data = archive.read_bytes()
        album = archive.parent.name.rpartition("_")[2]
        found.append(instances_in(data))
        assert found[-1] == held(server, xattr(archive, "dicom.StudyInstanceUID"), album)
        assert [entry["token"] for entry in retrievals(server)] == ["viewer"]
        assert subprocess.run(["unzip", "-tq", archive], capture_output=True, check=False, timeout=60).returncode == 0
        server.clear_requests()
        assert archive.read_bytes() == data
        assert server.requests() == []
    assert not found[0] & found[1]


def test_a_zip_with_an_album_token_needs_no_other(server: DemoServer, album_mount: Mount) -> None:
    """S1: the token sees one album anyway."""
    archive = only((album_mount.path / "zip" / "studies").glob("*PET-CT*"))
    album = only((album_mount.path / "albums").iterdir()).name.rpartition("_")[2]
    server.clear_requests()
    data = archive.read_bytes()
    assert instances_in(data) == held(server, xattr(archive, "dicom.StudyInstanceUID"), album)
    assert [entry["token"] for entry in retrievals(server)] == ["album"]


def test_a_kept_zip_is_not_shown_for_a_study_that_changed(new_mount: NewMount) -> None:
    """S5, S7: one series takes the place of another of as many instances. The study list says the same as before, and
    the zip is another all the same. Without a change it is not asked for again.
    """
    with DemoServer() as server:
        mount = new_mount(server, "--list-ttl", "0")
        inbox = mount.path / "zip" / "inbox"
        archive = only(inbox.glob("*Chest_AP*"))
        study = xattr(archive, "dicom.StudyInstanceUID")
        before = instances_in(archive.read_bytes())
        assert before == held(server, study, "demo-ada")
        (series,) = only_study(server, study)["series"]
        like = {"like": next(iter(before)), "sources": ["demo-ada"], "series": "new"}
        server.call("POST", "/instances", json=like)
        gone = {"source": "demo-ada", "study": study, "series": series["SeriesInstanceUID"]}
        server.call("POST", "/unlink", json=gone)
        archive = only(inbox.glob("*Chest_AP*"))
        after = instances_in(archive.read_bytes())
        assert after == held(server, study, "demo-ada")
        assert len(after) == len(before) == 1
        assert after != before
        server.clear_requests()
        assert instances_in(archive.read_bytes()) == after
        assert retrievals(server) == []


def only_study(server: DemoServer, StudyInstanceUID: str) -> dict[str, Any]:
    (study,) = server.call("GET", "/library", params={"study": StudyInstanceUID})
    return dict(study)


CUTS = {
    "zip, in the middle": ("zip", {"kind": "cut", "fraction": 0.5}),
    "zip, before its end": ("zip", {"kind": "cut", "fraction": 0.99}),
    "zip, that an upstream failure closed properly": ("zip", {"kind": "upstream", "parts": 0, "byte": 10_000}),
    "picture": ("thumbnails", {"kind": "cut", "fraction": 0.7}),
    "picture that is a page": ("thumbnails", {"kind": "html"}),
    "zip that is a page": ("zip", {"kind": "html"}),
}


@pytest.mark.parametrize(("view", "fault"), CUTS.values(), ids=CUTS)
def test_what_is_cut_is_an_error_and_is_not_kept(
    server: DemoServer, new_mount: Any, view: str, fault: dict[str, Any]
) -> None:
    """S7: asked for three times, then EIO; when the server has recovered, the next open has it whole."""
    mount = new_mount(server)
    folder = only((mount.path / view / "studies").glob("*Chest_AP*"))
    path = folder if view == "zip" else next(path for path in files(folder) if path.parent != folder)
    uid = xattr(path, "dicom.StudyInstanceUID")
    where = f"^/api/studies/{uid}(\\?.*)?$" if view == "zip" else "^/api/wado"
    server.fault(path=where, **fault)
    server.clear_requests()
    try:
        assert errno_of(path) == errno.EIO
        assert len(retrievals(server)) == 3
        assert xattr(path, "kheops.cached") == "no"
        assert xattr(path, "kheops.size") == "bound"
    finally:
        server.clear_faults()
    data = path.read_bytes()
    assert xattr(path, "kheops.cached") == "yes"
    if view == "zip":
        assert instances_in(data) == held(server, uid)
    else:
        assert jpeg_of(path)
