"""Albums, the inbox, and what an album token may know of them (contract: "Albums")."""

import pytest
from demo_client import Demo

SHORT = {
    "album_id", "name", "description", "modalities", "number_of_studies", "number_of_series", "number_of_instances",
}  # fmt: skip


def test_the_albums_of_a_user(demo: Demo) -> None:
    answer = demo.get("/api/albums")
    albums = answer.json()
    assert answer.headers["x-total-count"] == "5"
    names = [album["name"] for album in albums]
    assert names.count("Teaching") == 2
    assert "Chest/Heart trial 🫀" in names
    created = [album["created_time"] for album in albums]
    assert created == sorted(created, reverse=True)
    assert all(len(album["album_id"]) == 10 and album["album_id"].isalnum() for album in albums)


def test_the_members_of_an_album(demo: Demo) -> None:
    (pet,) = demo.get("/api/albums?name=pet*").json()
    assert "description" not in pet, "what is null is left out"
    assert pet["modalities"] == ["CR", "PT", "SR"]
    assert (pet["number_of_studies"], pet["number_of_series"], pet["number_of_instances"]) == (2, 3, 42)
    assert pet["is_favorite"] is True
    assert pet["is_admin"] is True
    assert not pet["created_time"].endswith("Z")
    assert demo.get(f"/api/albums/{pet['album_id']}").json() == pet
    (empty,) = demo.get("/api/albums?name=Empty").json()
    assert empty["modalities"] == []
    assert empty["number_of_studies"] == 0


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("name=*HEART*", ["Chest/Heart trial 🫀"]),
        ("modality=rtplan", []),
        ("modality=seg", ["Chest/Heart trial 🫀"]),
        ("favorite=true", ["PET follow-up"]),
        ("created_time=20240306-", ["PET follow-up", "Chest/Heart trial 🫀"]),
        ("limit=1&offset=1&sort=name", ["Empty"]),
        ("sort=number_of_studies&limit=1", ["Empty"]),
    ],
)
def test_albums_can_be_searched(demo: Demo, query: str, names: list[str]) -> None:
    answer = demo.get(f"/api/albums?{query}")
    assert answer.status_code == 200, "no albums are an empty list, not 204"
    assert [album["name"] for album in answer.json()] == names


@pytest.mark.parametrize("query", ["sort=colour", "limit=0", "offset=x", "created_time=yesterday"])
def test_bad_album_searches(demo: Demo, query: str) -> None:
    assert demo.get(f"/api/albums?{query}").status_code == 400


def test_members_see_an_album_and_others_do_not(demo: Demo) -> None:
    trial, pet = demo.album("Chest/Heart trial 🫀"), demo.album("PET follow-up")
    grace = "user token of Grace"
    seen = demo.get(f"/api/albums/{trial}?includeUsers=true", grace).json()
    assert seen["is_admin"] is False
    assert len(seen["users"]) == 2
    foreign = demo.get(f"/api/albums/{pet}", grace)
    assert foreign.status_code == 404
    assert foreign.headers["content-type"] == "application/json"
    assert foreign.json()["message"] == "Album not found"


def test_an_album_token_sees_the_short_form_of_its_own(demo: Demo) -> None:
    what, trial = "album token of Chest", demo.album("Chest/Heart trial 🫀")
    assert set(demo.get(f"/api/albums/{trial}", what).json()) == SHORT
    assert demo.get(f"/api/albums/{trial}?includeUsers=true", what).status_code == 403
    assert demo.get(f"/api/albums/{demo.album('Empty')}", what).status_code == 404
    writer = "album token of Teaching: write only"
    token = demo.token(writer)
    album = demo.http.post("/api/token/introspect", data={"token": token}).json()["album_id"]
    assert demo.get(f"/api/albums/{album}", writer).status_code == 200, "without the read permission, too"


@pytest.mark.parametrize("path", ["/api/albums", "/api/inboxinfo", "/api/albums/{a}/users", "/api/albums/{a}/events"])
def test_what_only_users_may_ask(demo: Demo, path: str) -> None:
    path = path.format(a=demo.album("Chest/Heart trial 🫀"))
    assert demo.get(path).status_code == 200
    refused = demo.get(path, "album token of Chest")
    assert refused.status_code == 403
    assert set(refused.json()) == {"message", "detail", "help"}


def test_the_inbox_is_no_album_and_has_counts(demo: Demo) -> None:
    told = demo.get("/api/inboxinfo").json()
    listed = demo.get("/api/studies?inbox=true")
    assert told["number_of_studies"] == int(listed.headers["x-total-count"])
    assert set(told) == {"modalities", "number_of_studies", "number_of_series", "number_of_instances"}


def test_comments_of_a_study(demo: Demo) -> None:
    place = demo.series("Report")
    assert demo.get(f"/api/studies/{place.study}/comments", "album token of Chest").json() == []
    assert demo.get("/api/studies/1.2.3/comments").status_code == 403
