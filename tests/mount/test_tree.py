"""What a mount looks like: the folders of each kind of token, names, numbers, times."""

import os
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from harness.looking import files, lists, only, until, xattr
from harness.mounting import Mount
from harness.server import DemoServer

TTL = "1"


def walk(root: Path) -> Iterator[Path]:
    """Every node below a folder; links are not followed."""
    for folder, folders, names in os.walk(root):
        yield from (Path(folder, name) for name in (*folders, *names))


def series_of(source: Path) -> set[str]:
    """The SeriesInstanceUIDs in a folder of studies."""
    return {xattr(series, "dicom.SeriesInstanceUID") for series in source.glob("*/*")}


def held(server: DemoServer, source: str | None = None) -> set[str]:
    """The SeriesInstanceUIDs that the server has in an inbox (sub) or an album (id), or at all."""
    return {
        series["SeriesInstanceUID"]
        for study in server.call("GET", "/library")
        for series in study["series"]
        if source is None or source in series["sources"]
    }


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_user_sees_inbox_albums_and_all_studies(mount: Mount) -> None:
    """S1: the top of the tree, three times the same."""
    assert names(mount.path) == {".nomedia", "README.txt", "albums", "by-uid", "inbox", "studies", "thumbnails", "zip"}
    for view in ("thumbnails", "zip"):
        assert names(mount.path / view) == {"albums", "inbox", "studies"}
    assert len(names(mount.path / "albums")) == 5


def test_an_album_token_sees_its_one_album(server: DemoServer, album_mount: Mount) -> None:
    """S1: no inbox; `studies` shows what the album holds."""
    assert names(album_mount.path) == {".nomedia", "README.txt", "albums", "by-uid", "studies", "thumbnails", "zip"}
    assert names(album_mount.path / "zip") == {"albums", "studies"}
    album = only((album_mount.path / "albums").iterdir())
    assert album.name.startswith("Chest-Heart")
    expected = held(server, album.name.rpartition("_")[2])
    assert series_of(album) == series_of(album_mount.path / "studies") == expected
    assert expected < held(server)


def test_each_level_holds_the_next_and_nothing_else(mount: Mount) -> None:
    """S1: studies hold series, series hold instances, and those are DICOM files."""
    for source in (mount.path / "studies", mount.path / "inbox", *(mount.path / "albums").iterdir()):
        assert all(path.is_dir() for path in (*source.glob("*"), *source.glob("*/*")))
        instances = list(source.glob("*/*/*"))
        assert all(path.is_file() and path.suffix == ".dcm" for path in instances)
        assert instances or source.name.startswith("Empty")


def test_a_source_shows_only_what_is_in_it(server: DemoServer, mount: Mount) -> None:
    """S1: every album, the inbox and all studies hold exactly the series that the server has in them."""
    assert series_of(mount.path / "studies") == held(server)
    assert series_of(mount.path / "inbox") == held(server, "demo-ada")
    for album in (mount.path / "albums").iterdir():
        assert series_of(album) == held(server, album.name.rpartition("_")[2])


def test_a_shared_study_differs_between_two_albums(mount: Mount) -> None:
    """S1: one study, two albums, other series in each."""
    trial, pet = (only((mount.path / "albums").glob(f"{name}*/*Doe-Jane_PET-CT*")) for name in ("Chest", "PET"))
    assert trial.name == pet.name
    assert xattr(trial, "dicom.StudyInstanceUID") == xattr(pet, "dicom.StudyInstanceUID")
    assert {xattr(series, "dicom.Modality") for series in trial.iterdir()} == {"CT", "SEG"}
    assert {xattr(series, "dicom.Modality") for series in pet.iterdir()} == {"PT", "SR"}


@pytest.mark.parametrize("view", ["thumbnails", "zip"])
def test_the_other_views_hold_the_same_paths(mount: Mount, view: str) -> None:
    """S1: what is shown below `thumbnails` and `zip` stands at the same path as its DICOM files."""
    shown = [path.relative_to(mount.path / view) for path in walk(mount.path / view)]
    assert len(shown) > 20
    for path in shown:
        dicom = {".zip": path.with_suffix(""), ".jpg": path.with_suffix("")}.get(path.suffix, path)
        assert (mount.path / dicom).is_dir() or (mount.path / dicom).with_name(dicom.name + ".dcm").is_file()


def test_links_by_uid_lead_to_their_studies(mount: Mount) -> None:
    """S1: every study, by a relative link, and the target is that study."""
    links = {path.name: path for path in (mount.path / "by-uid").iterdir()}
    assert links.keys() == {xattr(study, "dicom.StudyInstanceUID") for study in (mount.path / "studies").iterdir()}
    for uid, link in links.items():
        assert link.is_symlink()
        assert not link.readlink().is_absolute()
        assert xattr(link.resolve(strict=True), "dicom.StudyInstanceUID") == uid
        assert link.resolve().parent == mount.path / "studies"


def test_the_readme_says_what_the_folders_are(mount: Mount) -> None:
    """S1: static text, with its true size."""
    readme = mount.path / "README.txt"
    text = readme.read_text()
    assert all(f"{name}/" in text for name in names(mount.path) - {".nomedia", "README.txt"})
    assert len(text.encode()) == readme.stat().st_size


def test_everything_is_read_only_and_belongs_to_who_mounted(mount: Mount) -> None:
    """S3: modes 0444 and 0555, owner and group of the mounting user."""
    for path in (mount.path, *walk(mount.path)):
        found = path.lstat()
        expected = 0o777 if stat.S_ISLNK(found.st_mode) else 0o555 if stat.S_ISDIR(found.st_mode) else 0o444
        assert stat.S_IMODE(found.st_mode) == expected
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


def test_times_come_from_the_data(mount: Mount) -> None:
    """S3: a study has its date and time; one without a date, and the folders of ours, have the epoch."""
    dated = undated = 0
    for study in (mount.path / "studies").iterdir():
        present = os.listxattr(study)
        date = xattr(study, "dicom.StudyDate") if "user.dicom.StudyDate" in present else ""
        time = xattr(study, "dicom.StudyTime") if "user.dicom.StudyTime" in present else ""
        zone = xattr(study, "dicom.TimezoneOffsetFromUTC") if "user.dicom.TimezoneOffsetFromUTC" in present else "+0000"
        digits = date.replace(".", "")
        if digits.isdigit():
            expected = datetime.strptime(f"{digits}{time[:6].ljust(6, '0')}{zone}", "%Y%m%d%H%M%S%z")
            assert study.stat().st_mtime == expected.timestamp()
            dated += 1
        else:
            assert study.stat().st_mtime == 0
            undated += 1
    assert dated >= 7
    assert undated >= 2
    assert mount.path.stat().st_mtime == (mount.path / "studies").stat().st_mtime == 0


def test_two_mounts_agree_on_everything(server: DemoServer, mount: Mount, new_mount: Any) -> None:
    """S2, S3: names, inode numbers, times; and within a mount no two nodes share a number."""
    other = new_mount(server)

    def look(root: Path) -> dict[str, tuple[int, int, float]]:
        found = {path: path.lstat() for path in walk(root)}
        return {str(path.relative_to(root)): (s.st_ino, s.st_mode, s.st_mtime) for path, s in found.items()}

    here, there = look(mount.path), look(other.path)
    assert here == there
    assert len(here) > 1000
    assert len({ino for ino, _, _ in here.values()}) == len(here)


def test_names_trip_no_program(mount: Mount) -> None:
    """S2: at most 120 bytes, no forbidden character, unique without case; instances sort as they are numbered. Only the
    root has a hidden name, for those who look for just that (S25)."""
    for folder in (mount.path, *(path for path in walk(mount.path) if path.is_dir() and not path.is_symlink())):
        found = [path.name for path in folder.iterdir()]
        assert len({name.casefold() for name in found}) == len(found)
        for name in found if folder != mount.path else set(found) - {".nomedia"}:
            assert len(name.encode()) <= 120
            assert not re.search(r"[/\\:*?\"<>|'`$&;!\s\x00-\x1f]", name), name
            assert not name.startswith((".", "-", "~"))
    for series in (mount.path / "studies").glob("*Thorax*/*"):
        numbers = [int(xattr(path, "dicom.InstanceNumber")) for path in sorted(series.iterdir())]
        assert numbers == sorted(numbers)


def test_arrivals_appear_and_rename_nothing(new_mount: Any) -> None:
    """S2, S5: a new instance, series, study and album are there after the ttl; all that was there keeps its name and
    number.
    """
    with DemoServer() as server:
        mount = new_mount(server, "--list-ttl", TTL, token=server.token("user", "Ada"))
        studies = mount.path / "studies"
        before = {path: path.lstat().st_ino for path in walk(studies)}
        study = only(studies.glob("*Doe-Jane_PET-CT*"))
        series = only(study.glob("0002_*"))
        like = {
            "like": xattr(sorted(series.iterdir())[0], "dicom.SOPInstanceUID"),
            "sources": ["demo-ada"],
        }
        instance = server.call("POST", "/instances", json={**like, "attributes": {"InstanceNumber": 7}})
        in_series = server.call("POST", "/instances", json={**like, "series": "new"})
        in_study = server.call("POST", "/instances", json={**like, "study": "new"})
        album = server.call(
            "POST", "/albums", json={"name": "Newer", "sub": "demo-ada", "created_time": "2024-06-01T10:00:00"}
        )

        def uids(folder: Path, level: str) -> set[str]:
            return {xattr(path, f"dicom.{level}InstanceUID") for path in folder.iterdir()}

        until(lambda: in_study["StudyInstanceUID"] in uids(studies, "Study"))
        until(lambda: in_series["SeriesInstanceUID"] in uids(study, "Series"))
        until(lambda: instance["SOPInstanceUID"] in uids(series, "SOP"))
        until(lambda: f"Newer_{album['album_id']}" in names(mount.path / "albums"))
        after = {path: path.lstat().st_ino for path in walk(studies)}
        assert before.items() <= after.items()
        # The new instance; the new series with one; the new study with a series with one.
        assert len(after) == len(before) + 1 + 2 + 3
        server.clear_requests()
        fresh = new_mount(server, token=server.token("user", "Ada"))
        root = fresh.path / "studies"
        assert {path.relative_to(root): path.lstat().st_ino for path in walk(root)} == {
            path.relative_to(studies): ino for path, ino in after.items()
        }


def test_what_the_server_loses_disappears(new_mount: Any) -> None:
    """S5: a series taken out of an album, an album deleted."""
    with DemoServer() as server:
        mount = new_mount(server, "--list-ttl", TTL, token=server.token("user", "Ada"))
        albums = mount.path / "albums"
        pet = only(albums.glob("PET*"))
        study = only(pet.glob("*PET-CT*"))
        report = only(study.glob("*_SR_*"))
        change = {
            "source": pet.name.rpartition("_")[2],
            "study": xattr(report, "dicom.StudyInstanceUID"),
            "series": xattr(report, "dicom.SeriesInstanceUID"),
        }
        kept = names(study) - {report.name}
        server.call("POST", "/unlink", json=change)
        until(lambda: names(study) == kept)
        until(lambda: not report.exists())
        assert (mount.path / "studies" / report.relative_to(pet)).is_dir()
        server.call("DELETE", f"/albums/{change['source']}")
        until(lambda: pet.name not in names(albums))
        until(lambda: not pet.exists())


def test_names_by_id_hold_no_patients_name(server: DemoServer, new_mount: Any) -> None:
    """S2: `--names id` shows PatientID instead."""
    mount = new_mount(server, "--names", "id")
    patients = {
        part
        for study in server.call("GET", "/library")
        for name in study["attributes"].get("00100010", [])
        for part in re.split(r"[\^=/ ]", name)
        if len(part) > 2 and part != "NULL"
    }
    assert {"Jane", "Yamada", "Müller"} <= patients
    paths = "\n".join(str(path.relative_to(mount.path)) for path in walk(mount.path))
    assert "2024-03-05_DEMO-001_PET-CT_Thorax_" in paths
    assert not [patient for patient in patients if patient in paths]


def test_names_by_uid_hold_nothing_else(server: DemoServer, new_mount: Any) -> None:
    """S2: `--names uid`."""
    mount = new_mount(server, "--names", "uid")
    for source in (mount.path / "studies", mount.path / "inbox", *(mount.path / "albums").iterdir()):
        for path in walk(source):
            level = ("Study", "Series", "SOP")[len(path.relative_to(source).parts) - 1]
            assert path.name.removesuffix(".dcm") == xattr(path, f"dicom.{level}InstanceUID")
    assert all(re.fullmatch("[A-Za-z0-9]{10}", name) for name in names(mount.path / "albums"))


def test_names_that_cannot_be_are_answered_without_a_request(server: DemoServer, new_mount: Any) -> None:
    """S12: what file managers probe for costs the server nothing, in folders that nobody has listed yet."""
    mount = new_mount(server)
    study = only((mount.path / "studies").glob("*PET-CT*"))
    server.clear_requests()
    for folder in (mount.path, mount.path / "inbox", mount.path / "albums", study):
        for name in (".Trash", ".Trash-1000", ".hidden", ".DS_Store", "._x", "autorun.inf", "desktop.ini", "Thumbs.db"):
            assert not os.path.lexists(folder / name)
    assert lists(server) == []
    assert not (study / "nothing").exists()
    assert len(lists(server)) == 1


def test_a_listing_opens_nothing(server: DemoServer, new_mount: Any) -> None:
    """S12: walking the whole tree is lists only."""
    mount = new_mount(server)
    server.clear_requests()
    assert len(files(mount.path)) > 1000
    assert lists(server) == list(server.requests())
