"""Introspection, token exchange and expiry (contract: "Authentication")."""

import datetime
import re

import httpx
import pytest
from demo_client import STORED, ZIP, Demo

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def introspect(demo: Demo, token: str, **headers: str) -> httpx.Response:
    return demo.http.post("/api/token/introspect", data={"token": token}, headers=headers)


def exchange(demo: Demo, what: str, study: str, **more: str) -> httpx.Response:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": demo.token(what),
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "viewer read",
        "studyUID": study,
        **more,
    }
    return demo.http.post("/api/token", data={name: value for name, value in form.items() if value})


@pytest.mark.parametrize(
    ("what", "scope", "is_album"),
    [
        ("user token of Ada", "user read write downloadbutton send", False),
        ("album token of Chest/Heart", "read", True),
        ("album token of PET", "read write downloadbutton send", True),
        ("album token of Teaching", "write", True),
    ],
)
def test_introspection_tells_kind_and_permissions_and_no_expiry(
    demo: Demo, what: str, scope: str, is_album: bool
) -> None:
    told = introspect(demo, demo.token(what)).json()
    assert told["active"] is True
    assert told["scope"] == scope
    assert ("album_id" in told) is is_album
    assert re.fullmatch("[A-Za-z0-9]{10}", told["cap_token"])
    assert set(told) <= {"active", "sub", "scope", "cap_token", "album_id"}


@pytest.mark.parametrize("what", ["expired", "revoked"])
def test_a_dead_token_is_inactive_and_nothing_else(demo: Demo, what: str) -> None:
    answer = introspect(demo, demo.token(what))
    assert answer.status_code == 200
    assert answer.json() == {"active": False}


def test_no_token_is_inactive(demo: Demo) -> None:
    answer = demo.http.post("/api/token/introspect", content=b"", headers=FORM)
    assert answer.status_code == 200
    assert answer.json() == {"active": False}


def test_bearer_is_a_public_client_and_basic_is_not(demo: Demo) -> None:
    token = demo.token("user token of Ada")
    assert introspect(demo, token, **demo.bearer("user token of Ada")).json()["active"] is True
    refused = introspect(demo, token, Authorization="Basic dG9rZW46YWJj")
    assert refused.status_code == 400
    assert refused.json()["error"] == "invalid_client"


def test_a_user_learns_when_a_token_ends(demo: Demo) -> None:
    token_id = introspect(demo, demo.token("user token of Ada")).json()["cap_token"]
    told = demo.get(f"/api/capabilities/{token_id}").json()
    expires = datetime.datetime.fromisoformat(told["expiration_time"])
    assert expires > datetime.datetime.now(datetime.UTC)
    assert told["expiration_time"].endswith("Z")
    assert told["scope_type"] == "user"
    assert told["revoked"] is False
    odd = demo.get(f"/api/capabilities/{token_id}", content_type="application/json")
    assert odd.status_code == 415


def test_an_album_token_does_not(demo: Demo) -> None:
    what = "album token of Chest/Heart"
    token_id = introspect(demo, demo.token(what)).json()["cap_token"]
    refused = demo.get(f"/api/capabilities/{token_id}", what)
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/json"
    mine = demo.get(f"/api/capabilities/{token_id}").json()
    assert mine["scope_type"] == "album"
    assert mine["album"]["name"] == "Chest/Heart trial 🫀"
    assert demo.get("/api/capabilities").status_code == 401, "the list needs a login"


def test_who_somebody_is(demo: Demo) -> None:
    sub = introspect(demo, demo.token("user token of Ada")).json()["sub"]
    assert demo.get(f"/api/users?reference={sub}").json()["name"] == "Ada Lovelace"
    assert demo.get("/api/users?reference=nobody").status_code == 204
    assert demo.get(f"/api/users?reference={sub}", "album token of Chest").status_code == 403


def test_a_viewer_token_sees_one_study_of_one_source(demo: Demo) -> None:
    chest, other = demo.series("Thorax 5.0 B31f"), demo.series("plan")
    album = demo.album("PET follow-up")
    answer = exchange(demo, "user token of Ada", chest.study, source_type="album", source_id=album)
    assert answer.status_code == 200
    told = answer.json()
    assert told["expires_in"] == 18000
    assert told["token_type"].lower() == "bearer"
    secret = told["access_token"]
    assert len(secret) > 300
    assert set("._-") & set(secret)
    headers = {"Authorization": f"Bearer {secret}"}
    listed = demo.http.get(f"/api/studies/{chest.study}/series", headers=headers).json()
    assert sorted(one["00080060"]["Value"][0] for one in listed) == ["PT", "SR"]
    assert demo.http.get(chest.first, headers={**headers, "Accept": STORED}).status_code == 401
    assert demo.http.get(other.first, headers={**headers, "Accept": STORED}).status_code == 401
    pet = demo.series("PET WB corrected")
    assert demo.http.get(pet.first, headers={**headers, "Accept": STORED}).status_code == 200
    assert demo.http.get(f"/api/link/{secret}/studies/{chest.study}/series").status_code == 200
    zipped = demo.http.get(f"/api/studies/{chest.study}", headers={**headers, "Accept": ZIP})
    assert zipped.status_code == 200
    assert introspect(demo, secret).status_code == 401
    assert demo.http.get("/api/albums", headers=headers).status_code == 403


def test_a_viewer_token_dies_with_its_parent(own_demo: Demo) -> None:
    study = own_demo.series("plan").study
    secret = exchange(own_demo, "user token of Ada", study, source_type="inbox").json()["access_token"]
    headers = {"Authorization": f"Bearer {secret}"}
    assert own_demo.http.get(f"/api/studies/{study}/series", headers=headers).status_code == 200
    own_demo.control("POST", "/revoke", {"token": own_demo.token("user token of Ada")})
    assert own_demo.http.get(f"/api/studies/{study}/series", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"subject_token_type": ""}, "invalid_request"),
        ({"studyUID": ""}, "invalid_request"),
        ({"scope": "read"}, "invalid_scope"),
        ({"subject_token": "A" * 22}, "invalid_grant"),
        ({"source_type": "album", "source_id": "unknown"}, "invalid_grant"),
        ({"source_type": "shelf"}, "invalid_request"),
        ({"studyUID": "1.2.3"}, "invalid_grant"),
    ],
)
def test_an_exchange_that_fails(demo: Demo, change: dict[str, str], error: str) -> None:
    answer = exchange(demo, "user token of Ada", **{"study": demo.series("plan").study, **change})
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert "error_description" in answer.json()


def test_an_album_token_can_be_narrowed_too(demo: Demo) -> None:
    chest = demo.series("Thorax 5.0 B31f")
    assert exchange(demo, "album token of Chest", chest.study).status_code == 200
    assert exchange(demo, "album token of Chest", chest.study, source_type="inbox").status_code == 400
    assert exchange(demo, "album token of Chest", demo.series("plan").study).status_code == 400
