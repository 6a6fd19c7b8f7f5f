"""Series search and instance search (contract: "Series search", "Instance search")."""

from collections.abc import Iterator
from typing import Any

import pytest
from demo_client import Demo

SERIES_DEFAULTS = {
    "00080005",
    "00080054",
    "00080056",
    "00080060",
    "00080201",
    "0008103E",
    "00081190",
    "0020000D",
    "0020000E",
    "00200011",
    "00201209",
    "00400244",
    "00400245",
    "00400275",
}
INSTANCE_DEFAULTS = {
    "00080005",
    "00080016",
    "00080018",
    "00080054",
    "00080056",
    "00080201",
    "00081190",
    "0020000D",
    "0020000E",
    "00200013",
    "00280008",
    "00280010",
    "00280011",
    "00280100",
}
ROOT = "1.2.826.0.1.3680043.8.498.9"


def value(row: dict[str, Any], tag: str) -> Any:
    return row[tag].get("Value", [None])[0]


@pytest.fixture(scope="module")
def many() -> Iterator[tuple[Demo, str]]:
    """A series of 2500 instances and the path of its list."""
    with Demo("--synthetic", "small=2500") as demo:
        study = f"{ROOT}.2.20000000"
        yield demo, f"/api/studies/{study}/series/{study}.1"


def series(demo: Demo, query: str = "", token: str = "user token of Ada") -> list[dict[str, Any]]:
    answer = demo.get(f"/api/studies/{demo.series('Report').study}/series?{query}", token)
    assert answer.status_code == 200
    return list(answer.json())


def test_the_attributes_of_a_series(demo: Demo) -> None:
    rows = series(demo)
    assert all(set(row) == SERIES_DEFAULTS for row in rows)
    assert rows[0]["00400275"] == {"vr": "SQ"}, "asked for and empty: no value"
    assert [value(row, "00200011") for row in rows] == ["2", "3", "4", "5", "6", "7"]
    assert value(rows[0], "00201209") == "64"


def test_what_the_pacs_understands_is_forwarded(demo: Demo) -> None:
    (pet,) = series(demo, "Modality=PT")
    assert value(pet, "0008103E") == "PET WB corrected"
    everything = series(demo, "Modality=PT&includefield=all")[0]
    assert {"77770010", "77771030", "77771031", "00180015"} <= set(everything)
    extra = series(demo, "Modality=PT&includefield=00080070&includefield=SeriesDate")[0]
    assert extra["00080070"] == {"vr": "LO"}
    assert "00080021" in extra


def test_a_filter_that_matches_nothing_breaks_the_service(demo: Demo) -> None:
    answer = demo.get(f"/api/studies/{demo.series('Report').study}/series?Modality=XX")
    assert answer.status_code == 500
    assert "log id" in answer.json()["detail"]


def test_what_the_pacs_does_not_understand_is_its_failure(demo: Demo) -> None:
    answer = demo.get(f"/api/studies/{demo.series('Report').study}/series?Nonsense=1")
    assert answer.status_code == 502
    assert "message" in answer.json()


def test_a_source_narrows_the_series(demo: Demo) -> None:
    album = demo.album("PET follow-up")
    assert [value(row, "00080060") for row in series(demo, f"album={album}")] == ["PT", "SR"]
    assert [value(row, "00080060") for row in series(demo, token="album token of PET")] == ["PT", "SR"]
    assert len(series(demo, "inbox=false")) == 6


def test_hidden_studies_and_empty_sources(demo: Demo) -> None:
    study = demo.series("Report").study
    other = demo.get(f"/api/studies/{study}/series?album={demo.album('Teaching')}")
    assert (other.status_code, other.content) == (204, b"")
    hidden = demo.get("/api/studies/1.2.3/series")
    assert hidden.status_code == 404
    assert hidden.headers["content-type"].startswith("text/html")
    assert demo.get(f"/api/studies/{study}/series?album=unknown").status_code == 404
    assert demo.get(f"/api/studies/{study}/series?inbox&album=unknown").status_code == 400


def test_series_are_paged_before_they_are_sorted(demo: Demo) -> None:
    answer = demo.get(f"/api/studies/{demo.series('Report').study}/series?limit=3")
    numbers = [int(value(row, "00200011")) for row in answer.json()]
    assert answer.headers["x-total-count"] == "6"
    assert numbers == sorted(numbers) != [2, 3, 4]
    assert series(demo, "limit=0") == series(demo, "offset=50") == []
    descending = [value(row, "00200011") for row in series(demo, "sort=-SeriesNumber")]
    assert descending == ["7", "6", "5", "4", "3", "2"]
    assert demo.get(f"/api/studies/{demo.series('Report').study}/series?sort=SeriesDate").status_code == 400


def test_favourites_need_a_source_and_do_not_count(demo: Demo) -> None:
    study = demo.series("Report").study
    assert demo.get(f"/api/studies/{study}/series?favorite=true").status_code == 400
    answer = demo.get(f"/api/studies/{study}/series?favorite=true&inbox")
    assert answer.json() == []
    assert answer.headers["x-total-count"] == "6"


def test_the_attributes_of_an_instance(demo: Demo) -> None:
    rows = demo.get(f"{demo.series('PET WB corrected').url}/instances").json()
    assert all(set(row) == INSTANCE_DEFAULTS for row in rows)
    assert value(rows[0], "00280010") == 128
    assert isinstance(value(rows[0], "00200013"), str)
    report = demo.get(f"{demo.series('Findings').url}/instances")
    assert report.json()[0]["00280010"] == {"vr": "US"}
    assert "x-total-count" not in report.headers
    assert report.headers["cache-control"] == "no-cache"


def test_size_hints_differ_from_what_is_delivered(demo: Demo) -> None:
    place = demo.series("PET WB corrected")
    assert "77771053" not in demo.get(f"{place.url}/instances").json()[0]
    rows = demo.get(f"{place.url}/instances?includefield=all").json()
    hints = {value(row, "00080018"): value(row, "77771053") for row in rows}
    delivered = {one["SOPInstanceUID"]: one["size"] for one in place.instances}
    assert hints.keys() == delivered.keys()
    assert all(isinstance(hint, int) for hint in hints.values())
    assert all(0 < abs(hints[uid] - delivered[uid]) <= 2048 for uid in hints)
    assert {hints[uid] > delivered[uid] for uid in hints} == {True, False}, "on either side"
    assert value(rows[0], "77771052") == place.instances[0]["TransferSyntaxUID"]


def test_another_pacs_has_no_size_hints(demo: Demo) -> None:
    demo.control("POST", "/behaviour", {"size_hints": False, "thumbnails": False})
    place = demo.series("PET WB corrected")
    row = demo.get(f"{place.url}/instances?includefield=all").json()[0]
    assert not [tag for tag in row if tag.startswith("7777")]
    assert demo.get(f"{place.url}/thumbnail").status_code == 404


def test_instances_come_in_no_order_unless_asked(demo: Demo) -> None:
    url = demo.series("PET WB corrected").url
    numbers = [int(value(row, "00200013")) for row in demo.get(f"{url}/instances").json()]
    assert sorted(numbers) == list(range(1, 41)) != numbers
    ordered = demo.get(f"{url}/instances?orderby=-InstanceNumber&limit=5&offset=2").json()
    assert [value(row, "00200013") for row in ordered] == ["38", "37", "36", "35", "34"]
    (one,) = demo.get(f"{url}/instances?InstanceNumber=7").json()
    assert value(one, "00200013") == "7"


@pytest.mark.parametrize("query", ["album=abc", "inbox=true", "Nonsense=1", "limit=0", "limit=100000", "offset=-1"])
def test_what_breaks_an_instance_search(demo: Demo, query: str) -> None:
    answer = demo.get(f"{demo.series('PET WB corrected').url}/instances?{query}")
    assert answer.status_code == 502
    assert answer.headers["content-type"].startswith("text/html")


def test_a_thousand_without_a_word(many: tuple[Demo, str]) -> None:
    demo, url = many
    for query in ("", "?limit=2000"):
        answer = demo.get(f"{url}/instances{query}")
        assert len(answer.json()) == 1000
        assert "warning" not in answer.headers


def test_paging_reaches_all_and_the_page_after_the_last_is_500(many: tuple[Demo, str]) -> None:
    demo, url = many
    seen = []
    for offset in (0, 500, 1000, 1500, 2000):
        page = demo.get(f"{url}/instances?limit=500&offset={offset}&orderby=InstanceNumber").json()
        seen += [int(value(row, "00200013")) for row in page]
    assert seen == list(range(1, 2501))
    past = demo.get(f"{url}/instances?limit=500&offset=2500&orderby=InstanceNumber")
    assert past.status_code == 500
    assert past.headers["content-type"].startswith("text/html")


def test_metadata_are_not_capped(many: tuple[Demo, str]) -> None:
    demo, url = many
    assert len(demo.get(f"{url}/metadata").json()) == 2500


def test_all_instances_of_a_study(demo: Demo) -> None:
    study = demo.series("Report").study
    rows = demo.get(f"/api/studies/{study}/instances?album={demo.album('PET follow-up')}").json()
    assert len(rows) == 41
    assert len(demo.get(f"/api/studies/{study}/instances?limit=7&inbox").json()) == 7
    assert demo.get(f"/api/studies/{study}/instances?offset=1000").status_code == 204


def test_numbers_of_series_may_be_odd(demo: Demo) -> None:
    study = demo.series("negative number").study
    rows = demo.get(f"/api/studies/{study}/series").json()
    numbers = [row["00200011"].get("Value", [None])[0] for row in rows]
    assert numbers[0] == "-1"
    assert None in numbers
    assert numbers.count("1") == 2
    instances = demo.get(f"{demo.series('no number').url}/instances").json()
    assert instances[0]["00200013"] == {"vr": "IS"}
