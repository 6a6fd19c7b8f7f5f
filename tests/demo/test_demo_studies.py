"""Study search (contract: "Study search")."""

import math
from itertools import pairwise
from typing import Any

import pytest
from demo_client import Demo
from hypothesis import given, settings
from hypothesis import strategies as st

UID, DATE, NAME, MODALITIES = "0020000D", "00080020", "00100010", "00080061"
SERIES, INSTANCES = "00201206", "00201208"


def value(row: dict[str, Any], tag: str) -> Any:
    return row.get(tag, {}).get("Value", [None])[0]


def uids(demo: Demo, query: str = "", token: str = "user token of Ada") -> list[str]:
    answer = demo.get(f"/api/studies?{query}", token)
    assert answer.status_code in (200, 204), answer.text
    found = [value(row, UID) for row in answer.json()] if answer.status_code == 200 else []
    assert answer.headers["x-total-count"] == str(len(found))
    return found


def row_of(demo: Demo, study: str, query: str = "") -> dict[str, Any]:
    (row,) = demo.get(f"/api/studies?StudyInstanceUID={study}&{query}").json()
    return row


def test_the_answer_is_dicom_json_that_nobody_may_cache(demo: Demo) -> None:
    answer = demo.get("/api/studies")
    assert answer.headers["content-type"] == "application/dicom+json"
    assert answer.headers["cache-control"] == "no-cache"
    assert demo.get("/api/studies", accept="application/json").headers["content-type"] == "application/json"
    assert demo.get("/api/studies", accept="image/png").status_code == 406


def test_a_user_sees_the_union_once_and_an_album_token_its_album(demo: Demo) -> None:
    every, inbox = uids(demo), uids(demo, "inbox=true")
    assert len(set(every)) == len(every)
    assert set(inbox) < set(every)
    album = demo.album("Chest/Heart trial 🫀")
    mine = set(uids(demo, f"album={album}"))
    assert set(uids(demo, token="album token of Chest")) == mine
    assert set(uids(demo, f"album={album}", token="album token of Chest")) == mine
    assert uids(demo, f"album={demo.album('Empty')}") == []


def test_inbox_counts_by_its_presence(demo: Demo) -> None:
    assert uids(demo, "inbox=false") == uids(demo, "inbox=true") == uids(demo, "inbox")


@pytest.mark.parametrize(
    ("query", "token", "status"),
    [
        ("inbox=true&album={album}", "user token of Ada", 400),
        ("inbox=true", "album token of Chest", 403),
        ("inbox=false", "album token of Chest", 400),
        ("album=unknown", "user token of Ada", 404),
        ("album={album}", "user token of Grace", 404),
        ("album={album}", "album token of Chest", 404),
        ("limit=0", "user token of Ada", 400),
        ("limit=many", "user token of Ada", 400),
        ("offset=-1", "user token of Ada", 400),
        ("sort=PatientSex", "user token of Ada", 400),
        ("StudyDate=2024-03-05", "user token of Ada", 400),
        ("StudyDate=20240230", "user token of Ada", 400),
        ("StudyTime=1015", "user token of Ada", 400),
        ("favorite=true", "user token of Ada", 400),
        ("favorite=false&inbox=true", "user token of Ada", 400),
        ("includefield=favorite", "user token of Ada", 400),
    ],
)
def test_what_is_refused(demo: Demo, query: str, token: str, status: int) -> None:
    answer = demo.get(f"/api/studies?{query.format(album=demo.album('PET follow-up'))}", token)
    assert answer.status_code == status
    assert set(answer.json()) == {"message", "detail", "help"}


def test_nothing_is_204_with_a_total(demo: Demo) -> None:
    for query, total in (("PatientName=Nobody", "0"), ("offset=1000", str(len(uids(demo))))):
        answer = demo.get(f"/api/studies?{query}")
        assert answer.status_code == 204
        assert answer.content == b""
        assert answer.headers["x-total-count"] == total
    favorites = demo.get("/api/studies?inbox&favorite=true")
    assert favorites.status_code == 204


@given(limit=st.integers(1, 12))
@settings(max_examples=6)
def test_paging_is_stable_and_complete(shared_demo: Demo, limit: int) -> None:
    every = uids(shared_demo)
    pages: list[str] = []
    for offset in range(0, math.ceil(len(every) / limit) * limit, limit):
        answer = shared_demo.get(f"/api/studies?limit={limit}&offset={offset}")
        pages += [value(row, UID) for row in answer.json()]
        assert answer.headers["x-total-count"] == str(len(every))
        more = offset + limit < len(every)
        assert ("warning" in answer.headers) is more
        if more:
            assert answer.headers["warning"].startswith("Warning: 299 {+service}")
    assert pages == every


@pytest.mark.parametrize("name", ["StudyDate", "00080020"])
def test_sorting_is_newest_first_unless_told(demo: Demo, name: str) -> None:
    rows = demo.get("/api/studies").json()
    dates = [value(row, DATE) or "" for row in rows]
    assert dates == sorted(dates, reverse=True)
    forward = demo.get(f"/api/studies?sort={name}").json()
    assert [value(row, DATE) or "" for row in forward] == sorted(dates)
    by_uid = demo.get("/api/studies?sort=-StudyInstanceUID").json()
    assert all(value(left, UID) > value(right, UID) for left, right in pairwise(by_uid))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("PatientName=doe^jane", {"Doe^Jane"}),
        ("PatientName=*jane*", {"Doe^Jane"}),
        ("PatientName=jane", set()),
        ("PatientName=Doe^Jan?", set()),
        ("PatientName=山田^太郎", {"Yamada^Tarou"}),
        ("00100020=DEMO-00*", {"Doe^Jane", "Yamada^Tarou", "Müller^Zoë", "قباني^لنزار", "Nightingale^Florence^^Dr^OM"}),
        ("StudyDescription=*w/o*", {"Smith/Jones^A.B."}),
        ("StudyDate=20240305-20240306", {"Doe^Jane", "Smith/Jones^A.B."}),
        ("StudyDate=-20040201", {"=", "NULL"}),
        ("ModalitiesInStudy=rtplan", {"قباني^لنزار"}),
        ("ModalitiesInStudy=RT", set()),
        ("AccessionNumber=A/1004", {"قباني^لنزار"}),
        ("StudyTime=101530.000000&PatientName=Doe*", {"Doe^Jane"}),
        ("PatientName=Doe^Jane&PatientName=Nobody", {"Doe^Jane"}),
        ("PatientSex=X&Nonsense=1&PatientName=Doe^Jane", {"Doe^Jane"}),
    ],
)
def test_filters(demo: Demo, query: str, names: set[str]) -> None:
    answer = demo.get(f"/api/studies?{query}")
    rows = answer.json() if answer.status_code == 200 else []
    found = {(value(row, NAME) or {}).get("Alphabetic", "=") for row in rows}
    if query.startswith("StudyDate=-"):
        assert found == {"="}, "text that is no date is compared as text"
    else:
        assert found == names


def test_the_attributes_of_a_study(demo: Demo) -> None:
    chest = row_of(demo, demo.series("Report").study)
    assert set(chest) == {
        "00080020", "00080030", "00080050", "00080056", "00080061", "00080090", "00100010", "00100020", "00100030",
        "00100040", "0020000D", "00200010", "00201206", "00201208",
    }  # fmt: skip
    assert value(chest, "00080056") == "ONLINE"
    assert chest["00080030"] == {"vr": "TM", "Value": ["101530.000000"]}


def test_later_modalities_have_a_leading_blank(demo: Demo) -> None:
    chest = row_of(demo, demo.series("Report").study)
    assert chest[MODALITIES]["Value"] == ["CT", " DOC", " PT", " SEG", " SR"]
    unknown = row_of(demo, demo.series("CON").study)
    assert unknown[MODALITIES]["Value"] == [None]


def test_the_description_comes_on_request_and_as_a_code(demo: Demo) -> None:
    study = demo.series("Report").study
    for field in ("StudyDescription", "00081030", "favorite,StudyDescription&inbox"):
        assert row_of(demo, study, f"includefield={field}")["00081030"] == {"vr": "CS", "Value": ["PET-CT Thorax"]}
    assert "00081030" not in row_of(demo, study, "includefield=all")
    odd = row_of(demo, study, "inbox&includefield=favorite&includefield=comments")
    assert odd["00012345"]["vr"] == odd["00012346"]["vr"] == "IS"


def test_counts_double_where_a_series_is_reached_twice(demo: Demo) -> None:
    place = demo.series("Report")
    of_study = [one for one in demo.library() if one.study == place.study]
    in_inbox = sum(len(one.instances) for one in of_study)
    albums = [demo.album("Chest/Heart trial 🫀"), demo.album("PET follow-up")]
    in_albums = sum(len(one.instances) for one in of_study if set(one.sources) & set(albums))
    assert value(row_of(demo, place.study, "inbox"), INSTANCES) == str(in_inbox)
    everywhere = row_of(demo, place.study)
    assert value(everywhere, INSTANCES) == str(in_inbox + in_albums)
    assert value(everywhere, SERIES) == "6"


def test_an_album_shows_only_its_series(demo: Demo) -> None:
    study = demo.series("Report").study
    seen = {}
    for name in ("Chest/Heart trial 🫀", "PET follow-up"):
        row = row_of(demo, study, f"album={demo.album(name)}")
        seen[name] = row[MODALITIES]["Value"], value(row, SERIES)
    assert seen == {"Chest/Heart trial 🫀": (["CT", " SEG"], "3"), "PET follow-up": (["PT", " SR"], "2")}


def test_odd_values_come_as_they_are(demo: Demo) -> None:
    anonymous = row_of(demo, demo.series("as found").study)
    assert value(anonymous, DATE) == value(anonymous, "00080030") == "NULL"
    undated = row_of(demo, demo.series("CON").study)
    assert DATE not in undated
    assert value(undated, NAME) == {"Alphabetic": "Doe^^^"}
    nameless = row_of(demo, demo.series("negative number").study)
    assert value(nameless, NAME) == {"Ideographic": "山田^花子"}
    assert value(nameless, DATE) == "2004.01.19"
    assert len(value(nameless, UID)) == 64
    assert ".007." in value(nameless, UID)


def test_numbers_are_texts_unless_the_release_is_old(demo: Demo) -> None:
    assert all(isinstance(value(row, SERIES), str) for row in demo.get("/api/studies").json())
    demo.control("POST", "/behaviour", {"numbers": True})
    assert all(isinstance(value(row, SERIES), int) for row in demo.get("/api/studies").json())


def test_the_list_is_utf8(demo: Demo) -> None:
    raw = demo.get("/api/studies?PatientName=Müller*").content
    assert "Müller^Zoë".encode() in raw
