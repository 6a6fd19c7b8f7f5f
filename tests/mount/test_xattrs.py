"""Extended attributes: what the lists said, the address, and how well a file is known."""

import errno
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.looking import files, only, retrievals, xattr
from harness.mounting import Mount
from harness.server import DemoServer


def getfattr(path: Path) -> dict[str, str]:
    """What `getfattr -d` prints."""
    printed = subprocess.run(
        ["getfattr", "-d", "--absolute-names", path], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return dict(re.findall(r'^([^=#]+)="(.*)"$', printed, re.MULTILINE))


@pytest.fixture
def study(mount: Mount) -> Path:
    return only((mount.path / "studies").glob("*PET-CT*"))


def test_a_study_has_what_the_list_gave(study: Path) -> None:
    """S22: values as they are listed; counts, names, dates."""
    found = getfattr(study)
    expected = {
        "PatientName": "Doe^Jane",
        "PatientID": "DEMO-001",
        "StudyDate": "20240305",
        "StudyDescription": "PET-CT Thorax",
        "AccessionNumber": "A1001",
        "NumberOfStudyRelatedSeries": "6",
        "ReferringPhysicianName": "House^Gregory",
    }
    assert {f"user.dicom.{keyword}": value for keyword, value in expected.items()}.items() <= found.items()


def test_a_name_in_three_scripts_comes_as_it_is(mount: Mount) -> None:
    """S22: all component groups."""
    study = only((mount.path / "studies").glob("*MR_Sch*"))
    assert xattr(study, "dicom.PatientName") == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_series_and_instances_know_their_uids_up_to_the_study(server: DemoServer, study: Path) -> None:
    """S22: and their DICOMweb addresses, which name the server that was mounted."""
    series = only(study.glob("0002_*"))
    instance = sorted(series.iterdir())[0]
    uids = [xattr(instance, f"dicom.{level}InstanceUID") for level in ("Study", "Series", "SOP")]
    assert [xattr(series, f"dicom.{level}InstanceUID") for level in ("Study", "Series")] == uids[:2]
    api = f"{server.url.removesuffix('/')}/api"
    assert xattr(study, "kheops.url") == f"{api}/studies/{uids[0]}"
    assert xattr(series, "kheops.url") == f"{api}/studies/{uids[0]}/series/{uids[1]}"
    assert xattr(instance, "kheops.url") == f"{api}/studies/{uids[0]}/series/{uids[1]}/instances/{uids[2]}"
    assert xattr(series, "dicom.Modality") == "CT"
    assert xattr(instance, "dicom.InstanceNumber") == "1"
    assert xattr(instance, "dicom.Rows") == "256"


def test_what_the_standard_does_not_name_has_eight_digits(mount: Mount) -> None:
    """S22: the PACS's private size hint, where it was listed."""
    report = next(iter(files(only((mount.path / "studies").glob("*PET-CT*/*_SR_*")))))
    assert int(xattr(report, "dicom.77771053")) > 0
    for path in (mount.path / "studies").rglob("*"):
        for name in os.listxattr(path):
            assert re.fullmatch(r"user\.(dicom\.([A-Z][A-Za-z0-9]+|[0-9A-F]{8})|kheops\.(url|size|cached))", name), name
            assert os.getxattr(path, name)


def test_pictures_and_archives_have_them_too(mount: Mount) -> None:
    """S13, S22: of the thing that they show."""
    picture = files(only((mount.path / "thumbnails" / "studies").glob("*PET-CT*")))[0]
    archive = only((mount.path / "zip" / "studies").glob("*PET-CT*"))
    assert xattr(picture, "dicom.StudyInstanceUID") == xattr(archive, "dicom.StudyInstanceUID")
    for path in (picture, archive):
        assert {"user.kheops.size", "user.kheops.cached", "user.kheops.url"} <= getfattr(path).keys()


def test_what_stands_for_no_dicom_object_has_none(mount: Mount) -> None:
    """S22: the folders of ours, and albums."""
    for path in (mount.path, mount.path / "studies", *(mount.path / "albums").iterdir()):
        assert os.listxattr(path) == []
    assert set(os.listxattr(mount.path / "README.txt")) == {"user.kheops.size", "user.kheops.cached"}


def test_an_attribute_that_is_not_there_is_no_data(study: Path) -> None:
    """S22: ENODATA, also for other namespaces; and none can be set."""
    for name in (
        "user.dicom.PatientComments",
        "user.kheops.size",
        "user.nothing",
        "user.dicom.",
        "security.capability",
    ):
        with pytest.raises(OSError) as failure:
            os.getxattr(study, name)
        assert failure.value.errno in (errno.ENODATA, errno.EOPNOTSUPP)
    with pytest.raises(OSError) as failure:
        os.setxattr(study, "user.dicom.PatientName", b"Nobody")
    assert failure.value.errno == errno.EROFS


def test_looking_fetches_nothing_and_tells_what_is_cached(server: DemoServer, new_mount: Any) -> None:
    """S12, S22: `cached` turns from no to yes with the first read."""
    mount = new_mount(server)
    paths = files(only((mount.path / "studies").glob("*Chest_AP*")))
    server.clear_requests()
    for path in paths:
        assert getfattr(path)["user.kheops.cached"] == "no"
    assert retrievals(server) == []
    for path in paths:
        path.read_bytes()
        assert getfattr(path)["user.kheops.cached"] == "yes"


def test_no_attribute_holds_the_token(server: DemoServer, new_mount: Any) -> None:
    """S21, S22: with link addresses the server writes the token into the rows of its lists."""
    token = server.token("user", "Ada")
    mount = new_mount(server, "--auth", "link", token=token)
    checked = 0
    for path in mount.path.rglob("*"):
        for name in os.listxattr(path, follow_symlinks=False):
            assert token not in os.getxattr(path, name, follow_symlinks=False).decode()
            checked += 1
    assert checked > 1000
