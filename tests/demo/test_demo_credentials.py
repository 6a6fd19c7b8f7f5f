"""The three ways to present a token, and the shapes of refusal (contract: "Authentication", "Errors")."""

import base64

import pytest
from demo_client import STORED, ZIP, Demo

LIST = "/api/studies"


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize("user", ["", "token", "anybody at all"])
def test_basic_with_any_user(demo: Demo, user: str) -> None:
    headers = basic(f"{user}:{demo.token('user token of Ada')}")
    assert demo.http.get(LIST, headers=headers).status_code == 200
    assert demo.http.get(demo.series("Findings").first, headers={**headers, "Accept": STORED}).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_bearer_in_any_case(demo: Demo, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {demo.token('user token of Ada')}"}
    assert demo.http.get(LIST, headers=headers).status_code == 200


@pytest.mark.parametrize("text", ["{token}", ":{token}:", "a:b:{token}", "{token}:"])
def test_basic_must_split_in_two(demo: Demo, text: str) -> None:
    headers = basic(text.format(token=demo.token("user token of Ada")))
    assert demo.http.get(LIST, headers=headers).status_code == 401


def test_bad_base64(demo: Demo) -> None:
    headers = {"Authorization": "Basic %%%"}
    assert demo.http.get(LIST, headers=headers).status_code == 401
    assert demo.http.get(demo.series("Findings").first, headers=headers).status_code == 500


def test_a_token_in_the_query_is_nothing(demo: Demo) -> None:
    answer = demo.get(f"{LIST}?access_token={demo.token('user token of Ada')}", token=None)
    assert answer.status_code == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Digest abc"}, {"Authorization": "Bearer"}])
def test_no_token(demo: Demo, headers: dict[str, str]) -> None:
    place = demo.series("Findings")
    listed = demo.http.get(LIST, headers=headers)
    assert listed.status_code == 401
    assert listed.headers.get_list("www-authenticate") == ["Basic", "Bearer"]
    retrieved = demo.http.get(place.first, headers={**headers, "Accept": STORED})
    assert retrieved.status_code == 401
    assert "www-authenticate" not in retrieved.headers
    assert demo.http.get(f"/api/studies/{place.study}", headers={**headers, "Accept": ZIP}).status_code == 401


@pytest.mark.parametrize("what", ["expired", "revoked", None])
def test_unknown_expired_and_revoked_look_the_same(demo: Demo, what: str | None) -> None:
    secret = demo.token(what) if what else "A" * 22
    headers = {"Authorization": f"Bearer {secret}"}
    place = demo.series("Findings")
    listed = demo.http.get(LIST, headers=headers)
    assert listed.status_code == 401
    assert "www-authenticate" not in listed.headers
    assert listed.headers["content-type"].startswith("text/html")
    retrieved = demo.http.get(place.first, headers={**headers, "Accept": STORED})
    assert retrieved.status_code == 401
    assert retrieved.headers.get_list("www-authenticate") == ["Basic", "Bearer"]
    assert demo.http.get(f"/api/studies/{place.study}", headers={**headers, "Accept": ZIP}).status_code == 401


def test_what_is_not_yours_is_401_404_or_502(demo: Demo) -> None:
    place = demo.series("Thorax 5.0 B31f")
    grace = "user token of Grace"
    other = demo.series("Report")  # of the same study, but in no album of hers
    assert demo.get(f"/api/studies/{place.study}/series", grace).status_code == 200
    for path in (other.first, other.url, f"{other.url}/instances", f"{other.url}/metadata", f"{other.url}/thumbnail"):
        assert demo.get(path, grace, accept="*/*").status_code == 401
    wado = f"/api/wado?requestType=WADO&studyUID={other.study}&seriesUID={other.series}"
    assert demo.get(wado, grace).status_code == 401
    hidden = demo.series("plan").study
    assert demo.get(f"/api/studies/{hidden}/series", grace).status_code == 404
    assert demo.get(f"/api/studies/{hidden}", grace, accept=STORED).status_code == 502
    assert demo.get(f"/api/studies/{hidden}", grace, accept=ZIP).status_code == 502
    unknown = "/api/studies/1.2.3"
    assert demo.get(f"{unknown}/series").status_code == 404
    assert demo.get(f"{unknown}/series/1.2.4", accept=STORED).status_code == 401
    assert demo.get(unknown, accept=STORED).status_code == 502
    assert demo.get(unknown, accept=ZIP).status_code == 502


def test_without_the_read_permission(demo: Demo) -> None:
    what = "album token of Teaching: write only"
    place = demo.series("cine")
    listed = demo.get(LIST, what)
    assert listed.status_code == 403
    assert set(listed.json()) == {"message", "detail", "help"}
    assert listed.headers["content-type"] == "application/dicom+json"
    assert demo.get(f"/api/studies/{place.study}/series", what).status_code == 403
    assert demo.get(place.first, what, accept=STORED).status_code == 401
    assert demo.get(f"/api/studies/{place.study}", what, accept=STORED).status_code == 403
    assert demo.get(f"/api/studies/{place.study}", what, accept=ZIP).status_code == 502
    album = demo.album("Teaching")
    assert demo.get(f"/api/albums/{album}", what).status_code in (200, 404), "one of two albums of that name"


@pytest.mark.parametrize("what", ["user token", "album token"])
def test_tokens_are_22_letters_and_digits(demo: Demo, what: str) -> None:
    assert all(len(one["token"]) == 22 and one["token"].isalnum() for one in demo.announcement["tokens"])
    assert demo.token(what)
