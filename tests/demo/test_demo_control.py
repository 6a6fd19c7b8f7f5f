"""The control interface: the log of requests, and changes to the world while it serves."""

import httpx
import pytest
from demo_client import STORED, ZIP, Demo, bodies


def test_the_log_knows_who_asked_what_and_how(demo: Demo) -> None:
    place = demo.series("Findings")
    token = demo.token("user token of Ada")
    demo.control("DELETE", "/requests")
    demo.get("/api/studies?limit=3", accept="application/json")
    answer = demo.http.get(place.first, auth=httpx.BasicAuth("token", demo.token("album token of PET")))
    demo.get(f"/api/link/{token}/albums", token=None)
    demo.get("/api/studies", token=None)
    demo.http.get("/api/studies", headers={"Authorization": "Bearer " + "A" * 22})
    log = demo.requests()
    assert [(one["auth"], one["token"], one["status"]) for one in log] == [
        ("bearer", "user", 200),
        ("basic", "album", 200),
        ("link", "user", 200),
        ("none", "none", 401),
        ("bearer", "unknown", 401),
    ]
    assert (log[0]["method"], log[0]["path"], log[0]["query"]) == ("GET", "/api/studies", "limit=3")
    assert log[0]["accept"] == "application/json"
    assert log[1]["bytes"] == len(answer.content)
    assert all(one["complete"] and one["ended"] >= one["started"] and one["in_flight"] == 1 for one in log)
    assert log[2]["path"] == "/api/albums"
    assert token not in str(log)


def test_the_log_counts_what_is_in_flight(demo: Demo) -> None:
    demo.fault("stall", "/api/albums")
    demo.control("DELETE", "/requests")
    with pytest.raises(httpx.ReadTimeout):
        demo.http.get("/api/albums", headers=demo.bearer("user token"), timeout=0.2)
    assert [one["status"] for one in demo.requests()] == [None]


def test_tokens_can_be_revoked_and_restored(own_demo: Demo) -> None:
    token = {"token": own_demo.token("user token")}
    own_demo.control("POST", "/revoke", token)
    assert own_demo.get("/api/studies").status_code == 401
    assert own_demo.http.post("/api/token/introspect", data=token).json() == {"active": False}
    own_demo.control("POST", "/restore", token)
    assert own_demo.get("/api/studies").status_code == 200


def test_new_instances_appear(own_demo: Demo) -> None:
    place = own_demo.series("plan")
    before = own_demo.get(f"/api/studies?StudyInstanceUID={place.study}").json()[0]["00201208"]["Value"]
    added = own_demo.control(
        "POST",
        "/instances",
        {"like": place.instances[0]["SOPInstanceUID"], "attributes": {"InstanceNumber": 2}},
    )
    assert (added["StudyInstanceUID"], added["SeriesInstanceUID"]) == (place.study, place.series)
    listed = own_demo.get(f"{place.url}/instances?InstanceNumber=2").json()
    assert [row["00080018"]["Value"] for row in listed] == [[added["SOPInstanceUID"]]]
    assert len(bodies(own_demo.get(place.url, accept=STORED))) == 2
    after = own_demo.get(f"/api/studies?StudyInstanceUID={place.study}").json()[0]["00201208"]["Value"]
    assert (before, after) == (["3"], ["4"])


def test_arrivals_that_kheops_has_not_heard_of(own_demo: Demo) -> None:
    place = own_demo.series("plan")
    own_demo.control("POST", "/instances", {"like": place.instances[0]["SOPInstanceUID"], "counted": False})
    study = own_demo.get(f"/api/studies?StudyInstanceUID={place.study}").json()[0]
    assert study["00201208"]["Value"] == ["3"], "the study list counts from memory"
    (series,) = own_demo.get(f"/api/studies/{place.study}/series?Modality=RTPLAN").json()
    assert series["00201209"]["Value"] == ["2"], "the series list counts in the PACS"


def test_new_series_and_studies_appear_where_they_are_linked(own_demo: Demo) -> None:
    place = own_demo.series("plan")
    album = own_demo.album("Empty")
    like = place.instances[0]["SOPInstanceUID"]
    own_demo.control("POST", "/instances", {"like": like, "study": "new", "sources": [album, "demo-ada"]})
    (row,) = own_demo.get(f"/api/studies?album={album}").json()
    study = row["0020000D"]["Value"][0]
    assert study != place.study
    assert own_demo.get(f"/api/studies?StudyInstanceUID={study}&inbox").status_code == 200
    own_demo.control("POST", "/instances", {"like": like, "study": study, "series": "new", "sources": [album]})
    assert len(own_demo.get(f"/api/studies/{study}/series?album={album}").json()) == 2
    assert len(own_demo.get(f"/api/studies/{study}/series?inbox").json()) == 1


def test_links_come_and_go(own_demo: Demo) -> None:
    place = own_demo.series("Findings")
    album = own_demo.album("Empty")
    change = {"source": album, "study": place.study, "series": place.series}
    own_demo.control("POST", "/link", change)
    assert len(own_demo.get(f"/api/studies/{place.study}/series?album={album}").json()) == 1
    own_demo.control("POST", "/unlink", change)
    assert own_demo.get(f"/api/studies?album={album}").status_code == 204
    own_demo.control("POST", "/unlink", {"source": "demo-ada", "study": place.study, "series": place.series})
    inbox = own_demo.get(f"/api/studies/{place.study}/series?inbox").json()
    assert place.series not in [row["0020000E"]["Value"][0] for row in inbox]
    assert len(inbox) == 5


def test_a_series_that_the_pacs_has_lost(own_demo: Demo) -> None:
    place = own_demo.series("plan")
    own_demo.control("DELETE", f"/instances/{place.instances[0]['SOPInstanceUID']}")
    (listed,) = own_demo.get(f"/api/studies/{place.study}/series?Modality=RTPLAN").json()
    assert listed["00201209"]["Value"] == ["0"]
    assert own_demo.get(f"{place.url}/instances").status_code == 500
    assert own_demo.get(place.url, accept=STORED).status_code == 404
    assert own_demo.get(place.first, accept=STORED).status_code == 404
    wado = f"/api/wado?requestType=WADO&studyUID={place.study}&seriesUID={place.series}"
    assert own_demo.get(wado).status_code == 404
    study = f"/api/studies/{place.study}"
    assert own_demo.get(study, accept=STORED).status_code == 502
    assert own_demo.get(study, accept=ZIP).status_code == 502
    assert own_demo.get(f"{study}/instances").status_code == 500


def test_a_study_is_cut_where_the_pacs_has_lost_a_series(own_demo: Demo) -> None:
    pet = own_demo.series("PET WB corrected")
    for one in pet.instances:
        own_demo.control("DELETE", f"/instances/{one['SOPInstanceUID']}")
    answer = own_demo.get(f"/api/studies/{pet.study}", accept=STORED)
    assert answer.status_code == 200
    assert not answer.content.endswith(b"--\r\n")


def test_albums_come_change_and_go(own_demo: Demo) -> None:
    created = own_demo.control(
        "POST", "/albums", {"name": "New one", "sub": "demo-ada", "created_time": "2026-01-01T00:00:00"}
    )
    album = created["album_id"]
    assert own_demo.get("/api/albums").json()[0]["album_id"] == album
    own_demo.control("POST", f"/albums/{album}", {"name": "Renamed", "last_event_time": "2026-02-01T00:00:00"})
    assert own_demo.get(f"/api/albums/{album}").json()["name"] == "Renamed"
    own_demo.control("DELETE", f"/albums/{album}")
    assert own_demo.get(f"/api/albums/{album}").status_code == 404
    own_demo.control("DELETE", f"/albums/{own_demo.album('Chest/Heart trial 🫀')}")
    assert own_demo.get("/api/studies", "album token of Chest").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", "/faults", {"kind": "earthquake"}),
        ("POST", "/revoke", {"token": "unknown"}),
        ("POST", "/behaviour", {"colour": "red"}),
        ("POST", "/instances", {"like": "1.2.3"}),
        ("DELETE", "/instances/1.2.3", None),
        ("POST", "/link", {"source": "nobody", "study": "1.2"}),
        ("POST", "/albums", {"sub": "nobody"}),
        ("POST", "/albums/unknown", {"name": "x"}),
        ("DELETE", "/albums/unknown", None),
        ("POST", "/instances", [1]),
    ],
)
def test_a_change_that_cannot_be_made(demo: Demo, method: str, path: str, document: object) -> None:
    answer = demo.http.request(method, f"/_control{path}", json=document)
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_what_the_control_interface_has_not(demo: Demo) -> None:
    assert demo.http.get("/_control/elsewhere").status_code == 404


def test_the_library_is_described(demo: Demo) -> None:
    place = demo.series("PET WB corrected")
    album = demo.album("PET follow-up")
    assert set(place.sources) == {"demo-ada", album}
    (only,) = demo.control("GET", f"/library?study={place.study}&sha256=1")
    assert only["StudyInstanceUID"] == place.study
    one = only["series"][0]["instances"][0]
    assert {"SOPInstanceUID", "size", "sha256", "frames", "TransferSyntaxUID"} <= set(one)
