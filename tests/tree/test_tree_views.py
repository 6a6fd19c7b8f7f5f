"""The shape of the mount, for both kinds of tokens."""

import random
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_samples import (
    albums,
    assert_distinct_without_case,
    assert_safe_component,
    crockford,
    identity,
    instances,
    one_instance,
    one_series,
    one_study,
    series,
    studies,
)
from tree_world import (
    ALBUM,
    ALBUM_LISTS,
    CIRC,
    CT_IMAGE,
    FIRST,
    HEAD,
    MAGIX,
    USER_LISTS,
    directory,
    walk,
)

from kheopsfs.kheops.contents import InstanceFile, InstanceThumbnail, SeriesThumbnail, StudyZip
from kheopsfs.kheops.records import EVERYTHING, INBOX, InstancesQuery, SeriesQuery, StudiesQuery
from kheopsfs.tree.junk import is_junk_name
from kheopsfs.tree.names import NameStyle
from kheopsfs.tree.nodes import File, Folder, Link, Node, attributes_of, url_path
from kheopsfs.tree.views import root

MAGIX_NAME = f"2006-10-19_MAGIX_Cardiac-CT_{crockford('1.2.10', 6)}"
HEAD_NAME = f"2010-02-03_Doe-Jane_Head_{crockford('1.2.20', 6)}"
CIRC_NAME = f"0010_CT_Circ_3.0_{crockford('1.2.10.1', 6)}"
REPORT_NAME = f"0099_SR_{crockford('1.2.10.2', 6)}"
BRAIN_NAME = f"0001_MR_{crockford('1.2.20.1', 6)}"
FIRST_NAME = f"00001_{crockford('1.2.10.1.1', 6)}"
SECOND_NAME = f"00002_{crockford('1.2.10.1.2', 6)}"
TEXT_NAME = f"00001_{crockford('1.2.10.2.1', 6)}"
SLICE_NAME = f"00001_{crockford('1.2.20.1.1', 6)}"
ALBUM_NAME = "Cardio_Trial_dTxCc6OJyG"

MAGIX_SERIES = {CIRC_NAME: [FIRST_NAME, SECOND_NAME], REPORT_NAME: [TEXT_NAME]}
HEAD_SERIES = {BRAIN_NAME: [SLICE_NAME]}
CIRC_ONLY = {CIRC_NAME: [FIRST_NAME, SECOND_NAME]}

Studies = dict[str, dict[str, list[str]]]


def expected_paths(sources: dict[str, Studies], by_uid: list[str]) -> set[str]:
    """All paths of a tree, spelt out from what each source shows."""
    paths = {".nomedia", "README.txt", "by-uid", "thumbnails", "zip"} | {f"by-uid/{UID}" for UID in by_uid}
    for source, shown in sources.items():
        for view in ("", "thumbnails/", "zip/"):
            paths |= {view + str(folder) for folder in PurePosixPath(f"{source}/x").parents if folder.name}
        for study, its_series in shown.items():
            paths |= {f"{source}/{study}", f"thumbnails/{source}/{study}", f"zip/{source}/{study}.zip"}
            for one, its_instances in its_series.items():
                folder = f"{source}/{study}/{one}"
                paths |= {folder} | {f"{folder}/{name}.dcm" for name in its_instances}
                if one != REPORT_NAME:
                    paths |= {f"thumbnails/{folder}", f"thumbnails/{folder}.jpg"}
                    paths |= {f"thumbnails/{folder}/{name}.jpg" for name in its_instances}
    return paths


def test_the_whole_tree_of_a_user_token() -> None:
    assert set(walk(root("user"), USER_LISTS)) == expected_paths(
        {
            "studies": {MAGIX_NAME: MAGIX_SERIES, HEAD_NAME: HEAD_SERIES},
            "inbox": {HEAD_NAME: HEAD_SERIES},
            f"albums/{ALBUM_NAME}": {MAGIX_NAME: CIRC_ONLY},
        },
        by_uid=["1.2.10", "1.2.20"],
    )


def test_the_whole_tree_of_an_album_token() -> None:
    assert set(walk(root("album"), ALBUM_LISTS)) == expected_paths(
        {"studies": {MAGIX_NAME: CIRC_ONLY}, f"albums/{ALBUM_NAME}": {MAGIX_NAME: CIRC_ONLY}}, by_uid=["1.2.10"]
    )


def test_the_root_lists_itself_in_order() -> None:
    names = [node.name for node in root("user").children(())]
    assert names == [".nomedia", "README.txt", "albums", "by-uid", "inbox", "studies", "thumbnails", "zip"]
    assert root("user").query is None


@pytest.mark.parametrize("style", NameStyle)
@pytest.mark.parametrize("lists", [USER_LISTS, ALBUM_LISTS])
def test_links_lead_to_the_study(style: NameStyle, lists: dict) -> None:
    tree = walk(root("user" if lists is USER_LISTS else "album", style), lists)
    links = {path: node for path, node in tree.items() if isinstance(node, Link)}
    assert links
    for path, link in links.items():
        folder, up, *rest = (*PurePosixPath(path).parent.parts, *PurePosixPath(link.target).parts)
        assert (folder, up) == ("by-uid", "..")
        target = tree["/".join(rest)]
        assert isinstance(target, Folder)
        assert url_path(target) == f"/studies/{link.name}"


@pytest.mark.parametrize("style", NameStyle)
def test_a_path_in_one_view_is_a_path_in_the_others(style: NameStyle) -> None:
    tree = walk(root("user", style), USER_LISTS)
    plain = {path for path in tree if path.startswith(("studies", "inbox", "albums"))}
    for view, extension, other in (("thumbnails/", ".dcm", ".jpg"), ("zip/", "", ".zip")):
        for path in tree:
            if path.startswith(view):
                inner = path.removeprefix(view)
                assert inner in plain or inner.removesuffix(other) + extension in plain or inner[:-4] in plain


def test_the_style_uid_says_nothing_but_ids() -> None:
    tree = walk(root("user", NameStyle.UID), USER_LISTS)
    assert "albums/dTxCc6OJyG/1.2.10/1.2.10.1/1.2.10.1.1.dcm" in tree
    assert "thumbnails/studies/1.2.10/1.2.10.1.jpg" in tree
    assert "zip/inbox/1.2.20.zip" in tree
    link = tree["by-uid/1.2.20"]
    assert isinstance(link, Link)
    assert link.target == "../studies/1.2.20"


def test_the_style_id_shows_the_patient_id() -> None:
    tree = walk(root("user", NameStyle.ID), USER_LISTS)
    assert f"studies/2010-02-03_D1_Head_{crockford('1.2.20', 6)}" in tree
    assert not any("Doe" in path for path in tree)


# What nodes stand for.


def test_folders_say_which_list_fills_them() -> None:
    tree = walk(root("user"), USER_LISTS)
    queries = {path: node.query for path, node in tree.items() if isinstance(node, Folder)}
    assert queries["studies"] == StudiesQuery(EVERYTHING)
    assert queries["zip/inbox"] == StudiesQuery(INBOX)
    assert queries[f"thumbnails/albums/{ALBUM_NAME}"] == StudiesQuery(ALBUM)
    assert queries[f"albums/{ALBUM_NAME}/{MAGIX_NAME}"] == SeriesQuery(ALBUM, "1.2.10")
    query = queries[f"inbox/{HEAD_NAME}/{BRAIN_NAME}"]
    assert isinstance(query, InstancesQuery)
    assert (query.StudyInstanceUID, query.SeriesInstanceUID, query.expected, query.Modality) == (
        "1.2.20",
        "1.2.20.1",
        None,
        "MR",
    )
    query = queries[f"studies/{MAGIX_NAME}/{CIRC_NAME}"]
    assert isinstance(query, InstancesQuery)
    assert (query.expected, query.Modality) == (2, "CT")
    assert {path for path, query in queries.items() if query is None} == {"thumbnails", "zip"}


def test_files_say_which_body_they_hold() -> None:
    tree = walk(root("user"), USER_LISTS)

    def content(path: str) -> object:
        node = tree[path]
        assert isinstance(node, File)
        return node.content

    album = f"albums/{ALBUM_NAME}/{MAGIX_NAME}"
    assert content(f"{album}/{CIRC_NAME}/{FIRST_NAME}.dcm") == InstanceFile(FIRST)
    assert content(f"thumbnails/{album}/{CIRC_NAME}/{FIRST_NAME}.jpg") == InstanceThumbnail(FIRST)
    assert content(f"thumbnails/{album}/{CIRC_NAME}.jpg") == SeriesThumbnail(CIRC)
    assert content(f"zip/{album}.zip") == StudyZip(ALBUM, MAGIX)
    assert content(f"zip/studies/{MAGIX_NAME}.zip") == StudyZip(EVERYTHING, MAGIX)


def test_attributes_are_the_row_and_the_uids() -> None:
    tree = walk(root("user"), USER_LISTS)
    series_path = f"thumbnails/studies/{MAGIX_NAME}/{CIRC_NAME}"
    expected = CIRC.attributes() | {"StudyInstanceUID": "1.2.10", "SeriesInstanceUID": "1.2.10.1"}
    assert attributes_of(tree[series_path]) == attributes_of(tree[series_path + ".jpg"]) == expected
    instance = attributes_of(tree[f"studies/{MAGIX_NAME}/{CIRC_NAME}/{FIRST_NAME}.dcm"])
    assert instance["SOPInstanceUID"] == "1.2.10.1.1"
    assert instance["StudyInstanceUID"] == "1.2.10"
    assert instance["Rows"] == "512"
    for path in ("README.txt", "studies", "albums", f"albums/{ALBUM_NAME}", "by-uid/1.2.10"):
        assert attributes_of(tree[path]) == {}


def test_attributes_hold_no_address_and_so_no_token() -> None:
    tree = walk(root("user"), USER_LISTS)
    for path in (f"studies/{MAGIX_NAME}", f"zip/studies/{MAGIX_NAME}.zip"):
        attributes = attributes_of(tree[path])
        assert attributes["PatientName"] == "MAGIX"
        assert not any("secret" in value for value in attributes.values())


def test_nodes_know_their_dicomweb_path() -> None:
    tree = walk(root("user"), USER_LISTS)
    paths = {path: url_path(node) for path, node in tree.items()}
    assert paths[f"zip/inbox/{HEAD_NAME}.zip"] == paths[f"inbox/{HEAD_NAME}"] == "/studies/1.2.20"
    assert paths[f"studies/{MAGIX_NAME}/{CIRC_NAME}"] == "/studies/1.2.10/series/1.2.10.1"
    instance = f"studies/{MAGIX_NAME}/{CIRC_NAME}/{FIRST_NAME}"
    expected = "/studies/1.2.10/series/1.2.10.1/instances/1.2.10.1.1"
    assert paths[f"{instance}.dcm"] == paths[f"thumbnails/{instance}.jpg"] == expected
    assert paths["README.txt"] is paths["studies"] is paths[f"albums/{ALBUM_NAME}"] is None


def test_an_album_folder_has_the_album_as_record() -> None:
    node = walk(root("user"), USER_LISTS)[f"albums/{ALBUM_NAME}"]
    assert node.record is not None
    assert node.record.attributes()["name"] == "Cardio Trial"


def test_no_repr_shows_a_name() -> None:
    for path, node in walk(root("user"), USER_LISTS).items():
        assert "Doe" not in repr(node), path
        assert "MAGIX" not in repr(node), path


# Inode numbers.


@pytest.mark.parametrize("kind", ["user", "album"])
def test_inode_numbers_are_distinct_and_positive(kind: str) -> None:
    top = root("user" if kind == "user" else "album")
    tree = walk(top, USER_LISTS if kind == "user" else ALBUM_LISTS)
    inos = [top.ino, *(node.ino for node in tree.values())]
    assert len(set(inos)) == len(inos)
    assert top.ino == top.parent_ino == 1
    assert all(2 <= node.ino < 2**63 for node in tree.values())


def test_every_node_knows_its_parent() -> None:
    tree = walk(root("user"), USER_LISTS)
    for path, node in tree.items():
        parent = path.rpartition("/")[0]
        assert node.parent_ino == (tree[parent].ino if parent else 1)


def test_inode_numbers_do_not_depend_on_names_or_attributes() -> None:
    def inos(tree: dict[str, Node]) -> set[int]:
        return {node.ino for node in tree.values()}

    expected = inos(walk(root("user"), USER_LISTS))
    for style in NameStyle:
        assert inos(walk(root("user", style), USER_LISTS)) == expected
    renamed = USER_LISTS | {StudiesQuery(EVERYTHING): [one_study("1.2.10"), one_study("1.2.20", PatientName="New")]}
    assert inos(walk(root("user"), renamed)) == expected


def test_inode_numbers_are_known() -> None:
    """Written out: they have to be the same in every version, or backups by inode see everything change."""
    tree = walk(root("user", NameStyle.UID), USER_LISTS)
    paths = ("studies", "studies/1.2.10", "studies/1.2.10/1.2.10.1/1.2.10.1.1.dcm", "zip/studies/1.2.10.zip")
    assert [tree[path].ino for path in paths] == [
        7180840338132294893,
        6978481493083568535,
        4167712221174704651,
        9013268706544058077,
    ]


# Times.


def test_times_come_from_the_data() -> None:
    tree = walk(root("user"), USER_LISTS)
    at_utc = {path: node.mtime for path, node in tree.items()}
    study = 1161245472  # 2006-10-19 10:11:12 +0200
    assert at_utc[f"studies/{MAGIX_NAME}"] == at_utc[f"zip/studies/{MAGIX_NAME}.zip"] == study
    assert at_utc["by-uid/1.2.10"] == study
    series_start = 1161248400  # 11:00:00, in the study's zone
    circ = f"studies/{MAGIX_NAME}/{CIRC_NAME}"
    assert at_utc[circ] == at_utc[f"thumbnails/{circ}.jpg"] == series_start
    assert at_utc[f"{circ}/{FIRST_NAME}.dcm"] == series_start
    assert at_utc[f"studies/{MAGIX_NAME}/{REPORT_NAME}"] == study
    assert at_utc[f"studies/{HEAD_NAME}"] == 1265155200  # 2010-02-03, no time: midnight UTC
    assert at_utc[f"studies/{HEAD_NAME}/{BRAIN_NAME}/{SLICE_NAME}.dcm"] == 1265241600
    assert at_utc[f"albums/{ALBUM_NAME}"] == 1577934245  # last_event_time
    for path in ("README.txt", "albums", "inbox", "studies", "by-uid", "thumbnails", "zip", "zip/inbox"):
        assert at_utc[path] == 0


def test_undated_things_have_the_time_of_their_folder() -> None:
    lists = USER_LISTS | {StudiesQuery(ALBUM): [one_study("1.2.10", StudyDate="NULL")]}
    tree = walk(root("user"), lists)
    study = f"albums/{ALBUM_NAME}/undated_{crockford('1.2.10', 6)}"
    assert tree[study].mtime == tree[f"albums/{ALBUM_NAME}"].mtime != 0


def test_a_series_may_have_a_zone_of_its_own() -> None:
    row = one_series("1.2.10", "1.2.3", SeriesDate="20061019", SeriesTime="0000", TimezoneOffsetFromUTC="-0100")
    folder = walk(root("user"), USER_LISTS)[f"studies/{MAGIX_NAME}"]
    assert isinstance(folder, Folder)
    assert [node.mtime for node in folder.children([row])] == [1161216000 + 3600]


# What can be drawn.


@pytest.mark.parametrize("Modality", ["SR", "PR", "KO", "DOC", "SEG", "RTSTRUCT", "RTPLAN", "ECG", "REG", "AU"])
def test_series_without_pictures_are_not_among_thumbnails(Modality: str) -> None:
    assert _thumbnails_of(one_series("1.2.10", "1.2.3", Modality=Modality)) == []


@pytest.mark.parametrize("Modality", ["CT", "MR", "US", "RTDOSE", "RTIMAGE", "OT", "XC", "", "NEW"])
def test_series_with_pictures_have_one_beside_a_folder(Modality: str) -> None:
    folder, picture = _thumbnails_of(one_series("1.2.10", "1.2.3", Modality=Modality))
    assert isinstance(folder, Folder)
    assert isinstance(picture, File)
    assert picture.name == folder.name + ".jpg"


def _thumbnails_of(one: object) -> list[Node]:
    folder = walk(root("user"), USER_LISTS)[f"thumbnails/studies/{MAGIX_NAME}"]
    assert isinstance(folder, Folder)
    return folder.children([one])


@pytest.mark.parametrize(
    ("SOPClassUID", "Rows", "drawn"),
    [
        (CT_IMAGE, "512", True),
        (CT_IMAGE, "", False),
        ("", "512", True),
        ("1.2.840.10008.5.1.4.1.1.7", "10", True),
        ("1.2.840.10008.5.1.4.1.1.77.1.1", "10", True),
        ("1.2.840.10008.5.1.4.1.1.77.1.1.1", "10", False),
        ("1.2.840.10008.5.1.4.1.1.66.4", "10", False),
        ("1.2.840.10008.5.1.4.1.1.88.59", "10", False),
        ("1.2.840.10008.5.1.4.1.1.104.1", "10", False),
        ("1.2.840.10008.5.1.4.1.1.11.1", "10", False),
        ("1.2.840.10008.5.1.4.1.1.481.1", "10", True),
        ("1.2.840.10008.5.1.4.1.1.481.2", "10", True),
        ("1.2.840.10008.5.1.4.1.1.481.3", "10", False),
        ("1.2.3.4.private", "10", True),
    ],
)
def test_instances_without_pictures_are_not_among_thumbnails(SOPClassUID: str, Rows: str, drawn: bool) -> None:
    tree = walk(root("user"), USER_LISTS)
    row = one_instance("1.2.10", "1.2.10.1", "1.2.3", SOPClassUID=SOPClassUID, Rows=Rows)
    path = f"studies/{MAGIX_NAME}/{CIRC_NAME}"
    dicom, pictures = tree[path], tree[f"thumbnails/{path}"]
    assert isinstance(dicom, Folder)
    assert isinstance(pictures, Folder)
    assert len(dicom.children([row])) == 1
    assert bool(pictures.children([row])) is drawn


# Rows as they come.


def _folders_for_any_rows() -> st.SearchStrategy[tuple[Folder, list]]:
    tree = walk(root("user"), USER_LISTS) | walk(root("user", NameStyle.UID), USER_LISTS)
    rows = [
        ("albums", albums),
        ("studies", studies),
        ("by-uid", studies),
        ("zip/inbox", studies),
        (f"studies/{MAGIX_NAME}", series),
        (f"thumbnails/studies/{MAGIX_NAME}", series),
        (f"studies/{MAGIX_NAME}/{CIRC_NAME}", instances),
        (f"thumbnails/studies/{MAGIX_NAME}/{CIRC_NAME}", instances),
        ("studies/1.2.10/1.2.10.1", instances),
    ]
    return st.sampled_from(rows).flatmap(
        lambda pair: st.tuples(st.just(tree[pair[0]]), st.lists(pair[1], max_size=10))  # type: ignore[arg-type]
    )


@given(_folders_for_any_rows())
def test_entries_are_safe_distinct_and_in_byte_order(case: tuple[Folder, list]) -> None:
    folder, rows = case
    names = [node.name for node in folder.children(rows)]
    for name in set(names) - {".nomedia"}:
        assert_safe_component(name)
        assert not is_junk_name(name)
    assert_distinct_without_case(names)
    assert names == sorted(names, key=str.encode)


@given(_folders_for_any_rows(), st.randoms(use_true_random=False))
def test_order_and_repetition_of_rows_do_not_matter(case: tuple[Folder, list], random_: random.Random) -> None:
    folder, rows = case
    expected = folder.children(rows)
    assert folder.children(rows + rows) == expected
    unique = list({identity(row): row for row in reversed(rows)}.values())
    random_.shuffle(unique)
    assert folder.children(unique) == expected


def test_of_repeated_uids_the_first_row_counts() -> None:
    rows = [one_study("1.2", PatientName="First"), one_study("1.2", PatientName="Second")]
    studies_folder = walk(root("user"), USER_LISTS)["studies"]
    assert isinstance(studies_folder, Folder)
    assert [node.name for node in studies_folder.children(rows)] == [f"undated_First_{crockford('1.2', 6)}"]


def test_rows_of_another_list_are_a_bug() -> None:
    studies_folder = walk(root("user"), USER_LISTS)["studies"]
    assert isinstance(studies_folder, Folder)
    with pytest.raises(TypeError, match="list of Study"):
        studies_folder.children([CIRC])


def test_static_folders_ignore_rows() -> None:
    assert root("user").children([HEAD]) == root("user").children(())


def test_equal_lists_make_equal_nodes() -> None:
    assert walk(root("user"), USER_LISTS) == walk(root("user"), USER_LISTS)


def test_the_readme_names_every_folder_and_no_patient() -> None:
    top = directory(root("user"), USER_LISTS)
    readme = top.find("README.txt")
    assert isinstance(readme, File)
    assert isinstance(readme.content, bytes)
    text = readme.content.decode("ascii")
    assert all(f"{node.name}/" in text for node in top if isinstance(node, Folder))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "read-only" in text
    assert "kheopsfs --help" in text
    assert [node.name for node in root("album").children(()) if isinstance(node, File)] == [".nomedia", "README.txt"]
