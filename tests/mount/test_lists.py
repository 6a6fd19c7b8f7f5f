"""Lists through the mount: whole, cheap, as fresh as promised, whatever the rows hold."""

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from harness.looking import files, lists, only, retrievals, until, xattr
from harness.mounting import Mount
from harness.server import DemoServer

STUDIES = 20_000
INSTANCES = 3_000
ALBUMS = 1_200


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A mount of a large synthetic archive, and its server."""
    with (
        DemoServer("--synthetic", f"studies={STUDIES},small={INSTANCES},albums={ALBUMS}") as server,
        Mount(server.url, server.token("user"), tmp_path_factory.mktemp("archive")) as mount,
    ):
        yield server, mount


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_twenty_thousand_studies_are_listed(archive: tuple[DemoServer, Mount]) -> None:
    """S4, S12: page by page, each study once, not one body."""
    server, mount = archive
    server.clear_requests()
    listed = subprocess.run(["ls", "-l", mount.path / "studies"], capture_output=True, check=True, timeout=60).stdout
    assert len(listed.splitlines()) == STUDIES + 1 + 1  # the small instances have a study, and `ls` prints a total
    assert len(names(mount.path / "studies")) == len({entry.name for entry in os.scandir(mount.path / "studies")})
    assert len({xattr(entry, "dicom.StudyInstanceUID") for entry in (mount.path / "studies").iterdir()}) == STUDIES + 1
    asked = lists(server)
    assert len(asked) == len({entry["query"] for entry in asked}) == 21
    assert retrievals(server) == []


def test_the_other_views_of_a_long_list_cost_nothing_more(archive: tuple[DemoServer, Mount]) -> None:
    """S4, S12: the same rows make `by-uid`, `thumbnails` and `zip`."""
    server, mount = archive
    names(mount.path / "studies")
    server.clear_requests()
    for view in ("by-uid", "thumbnails/studies", "zip/studies"):
        assert len(names(mount.path / view)) == STUDIES + 1
    assert server.requests() == []


def test_a_series_beyond_the_cap_is_listed_whole(archive: tuple[DemoServer, Mount]) -> None:
    """S4: the PACS cuts at 1 000 without a word."""
    _, mount = archive
    series = only((mount.path / "studies").glob("*small_instances*/*"))
    assert len(names(series)) == INSTANCES
    assert len({xattr(path, "dicom.SOPInstanceUID") for path in series.iterdir()}) == INSTANCES


def test_more_than_a_thousand_albums_are_listed(archive: tuple[DemoServer, Mount]) -> None:
    """S4: and each is a folder of its own."""
    _, mount = archive
    assert len(names(mount.path / "albums")) == ALBUMS + 1


def test_ls_of_a_study_asks_once_per_folder(server: DemoServer, new_mount: Any) -> None:
    """S12: `ls -lR` of a cold study: one list of series, one of instances for each."""
    mount = new_mount(server)
    study = only((mount.path / "studies").glob("*PET-CT*"))
    server.clear_requests()
    listed = subprocess.run(["ls", "-lR", study], capture_output=True, check=True, text=True, timeout=60).stdout
    assert listed.count(".dcm") == len(files(study)) > 100
    folders = 1 + len(names(study))
    asked = lists(server)
    assert len(asked) <= folders
    assert len(server.requests()) == len(asked)
    subprocess.run(["ls", "-lR", study], capture_output=True, check=True, timeout=60)
    assert len(server.requests()) == len(asked)


def test_an_empty_album_is_an_empty_folder(mount: Mount) -> None:
    """S4: 204 is an answer."""
    assert names(only((mount.path / "albums").glob("Empty*"))) == set()


def test_empty_json_is_an_empty_folder(new_mount: Any) -> None:
    """S4: `[]` is an answer too, for studies and for instances."""
    with DemoServer() as server:
        for path in ("/api/studies\\?", "/instances\\?"):
            server.fault(kind="body", path=path, text="[]", media_type="application/dicom+json", times=3)
        mount = new_mount(server, token=server.token("user", "Ada"))
        assert names(mount.path / "studies") == set()


def test_a_series_that_the_pacs_lost_is_an_empty_folder(new_mount: Any) -> None:
    """S4: the series list counts 0, and a search there would fail; `cp -r` of the study goes through."""
    with DemoServer() as server:
        study = next(study for study in server.call("GET", "/library") if len(study["series"]) == 2)
        lost, kept = study["series"]
        for instance in lost["instances"]:
            server.call("DELETE", f"/instances/{instance['SOPInstanceUID']}")
        mount = new_mount(server, token=server.token("user", "Ada"))
        folder = mount.path / "by-uid" / study["StudyInstanceUID"]
        found = {xattr(series, "dicom.SeriesInstanceUID"): series for series in folder.iterdir()}
        assert names(found[lost["SeriesInstanceUID"]]) == set()
        assert len(names(found[kept["SeriesInstanceUID"]])) == len(kept["instances"])


def test_odd_values_make_proper_names(mount: Mount) -> None:
    """S2, S4: NULL, missing and dotted dates, one component group, no description, negative and missing numbers."""
    found = {name.rpartition("_")[0] for name in names(mount.path / "studies")}
    assert {
        "undated_CT_compressed",
        "undated_Doe_no_date_at_all",
        "2004-01-19_山田-花子",
        "2022-06-14_Müller-Zoë_Échographie-couleurs",
        "2021-09-30_قباني-لنزار_RT_planning",
        "2023-11-17_Yamada-Tarou_MR_Schädel",
    } <= found
    odd = only((mount.path / "studies").glob("2004-01-19_*"))
    series = [name.rpartition("_")[0] for name in sorted(names(odd))]
    assert Counter(series) == Counter(
        ["0-0001_CT_negative_number", "CT_no_number", "0001_MR_twin", "0001_MR_twin", "0002"]
    )
    assert [path.name.rpartition("_")[0] for path in odd.glob("CT_no_number*/*")] == [""]


def test_blanks_before_values_are_no_part_of_them(mount: Mount) -> None:
    """S22: ModalitiesInStudy comes with leading blanks."""
    study = only((mount.path / "studies").glob("*PET-CT*"))
    assert xattr(study, "dicom.ModalitiesInStudy").split("\\") == ["CT", "DOC", "PT", "SEG", "SR"]


def test_numbers_as_numbers_change_nothing(mount: Mount, new_mount: Any) -> None:
    """S2, S10: names, sizes and times are the same when IS and DS come as JSON numbers."""
    with DemoServer("--numbers") as server:
        other = new_mount(server, token=server.token("user", "Ada"))

        def look(root: Path) -> dict[str, tuple[int, float]]:
            return {
                str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime)
                for path in (root / "studies").rglob("*")
            }

        assert look(other.path) == look(mount.path)


def test_a_fresh_list_is_shown_without_asking(new_mount: Any) -> None:
    """S5: younger than the ttl, also after a remount."""
    with DemoServer() as server:
        token = server.token("user", "Ada")
        with_long_ttl = {"token": token, "list_ttl": "3600"}
        mount = new_mount(server, **with_long_ttl)
        before = names(mount.path / "albums")
        server.call("POST", "/albums", json={"name": "N", "sub": "demo-ada", "created_time": "2024-06-01T10:00:00"})
        server.clear_requests()
        assert names(mount.path / "albums") == before
        assert mount.command("umount", str(mount.path)).returncode == 0
        again = new_mount(server, home=mount.home, **with_long_ttl)
        assert names(again.path / "albums") == before
        assert lists(server) == []


def test_without_a_ttl_every_ls_is_the_truth(new_mount: Any) -> None:
    """S5: `--list-ttl 0` asks each time."""
    with DemoServer() as server:
        mount = new_mount(server, "--list-ttl", "0", token=server.token("user", "Ada"))
        before = names(mount.path / "albums")
        for number in range(3):
            album = server.call(
                "POST",
                "/albums",
                json={"name": "N", "sub": "demo-ada", "created_time": f"2024-06-0{number + 1}T10:00:00"},
            )
            before.add(f"N_{album['album_id']}")
            assert names(mount.path / "albums") == before


def test_an_old_list_is_shown_while_the_server_is_slow(new_mount: Any) -> None:
    """S5: the stale list while the answer is outstanding, the new one as soon as it came, one request for all."""
    with DemoServer() as server:
        mount = new_mount(server, "--list-ttl", "1", token=server.token("user", "Ada"))
        before = names(mount.path / "albums")
        album = server.call(
            "POST", "/albums", json={"name": "Late", "sub": "demo-ada", "created_time": "2024-06-01T10:00:00"}
        )
        server.fault(kind="stall", path="^/api/albums")
        server.clear_requests()

        def asked() -> int:
            assert names(mount.path / "albums") == before
            return len(server.requests("/api/albums"))

        until(asked)
        for _ in range(3):
            assert asked() == 1
        server.clear_faults()
        until(lambda: names(mount.path / "albums") == before | {f"Late_{album['album_id']}"})
