"""Which service answers a path (contract: "Routing"), and what those say that have nothing for it."""

import httpx
import pytest
from demo_client import STORED, ZIP, Demo, bodies

from kheopsfs.demo.routing import Destination, link, route

STUDY = "/api/studies/1.2.3"
SERIES = f"{STUDY}/series/1.2.4"
INSTANCE = f"{SERIES}/instances/1.2.5"


@pytest.mark.parametrize(
    ("method", "path", "destination"),
    [
        ("GET", "/api/studies", Destination.AUTHORIZATION),
        ("OPTIONS", "/api/studies", Destination.AUTHORIZATION),
        ("POST", "/api/studies", Destination.PROXY),
        ("HEAD", "/api/studies", Destination.NOT_FOUND),
        ("PUT", "/api/studies", Destination.NOT_ALLOWED),
        ("DELETE", "/api/studies", Destination.NOT_ALLOWED),
        ("PATCH", "/api/studies", Destination.NOT_ALLOWED),
        ("GET", "/api/studies/", Destination.AUTHORIZATION),
        ("GET", STUDY, Destination.PROXY),
        ("HEAD", STUDY, Destination.PROXY),
        ("POST", STUDY, Destination.PROXY),
        ("PUT", STUDY, Destination.AUTHORIZATION),
        ("DELETE", STUDY, Destination.AUTHORIZATION),
        ("GET", f"{STUDY}/", Destination.AUTHORIZATION),
        ("GET", f"{STUDY}/series", Destination.AUTHORIZATION),
        ("GET", f"{STUDY}/series/", Destination.AUTHORIZATION),
        ("GET", f"{STUDY}/metadata", Destination.AUTHORIZATION),
        ("GET", f"{STUDY}/instances", Destination.PROXY),
        ("GET", f"{STUDY}/comments", Destination.AUTHORIZATION),
        ("PUT", f"{SERIES}/albums/abc", Destination.AUTHORIZATION),
        ("GET", SERIES, Destination.PROXY),
        ("HEAD", SERIES, Destination.AUTHORIZATION),
        ("DELETE", SERIES, Destination.AUTHORIZATION),
        ("HEAD", f"{SERIES}/instances", Destination.PROXY),
        ("HEAD", f"{SERIES}/metadata", Destination.PROXY),
        ("HEAD", f"{SERIES}/thumbnail", Destination.PROXY),
        ("HEAD", INSTANCE, Destination.PROXY),
        ("HEAD", f"{INSTANCE}/frames/1", Destination.PROXY),
        ("HEAD", f"{INSTANCE}/frames/1,2", Destination.AUTHORIZATION),
        ("GET", f"{INSTANCE}/frames/1,2", Destination.PROXY),
        ("GET", f"{INSTANCE}/rendered", Destination.PROXY),
        ("GET", "/api/albums", Destination.AUTHORIZATION),
        ("GET", "/api/series", Destination.AUTHORIZATION),
        ("GET", "/api/ohifservermetadata", Destination.PROXY),
        ("GET", "/", Destination.UI),
        ("GET", "/studies", Destination.UI),
        ("GET", "/view/abc", Destination.UI),
    ],
)
def test_the_table(method: str, path: str, destination: Destination) -> None:
    assert route(method, path, "", "") is destination


@pytest.mark.parametrize(
    ("query", "accept", "zipped"),
    [
        ("", ZIP, True),
        ("", f"text/html, {ZIP}", True),
        ("accept=application/zip", "*/*", True),
        ("accept=application%2Fzip", "*/*", True),
        ("album=x&accept=application%2Fzip", "", True),
        ("accept=application%2fzip", "*/*", False),
        ("accept=application%2F/zip", "*/*", False),
        ("", STORED, False),
    ],
)
def test_a_zip_is_chosen_by_header_or_query_with_a_capital_f(query: str, accept: str, zipped: bool) -> None:
    assert route("GET", STUDY, query, accept) is (Destination.ZIPPER if zipped else Destination.PROXY)
    assert route("GET", SERIES, query, accept) is Destination.PROXY, "only the study URL is diverted"


@pytest.mark.parametrize(
    ("query", "known"),
    [
        ("requestType=WADO", True),
        ("REQUESTTYPE=WADO&studyUID=1", True),
        ("requestType=wado", False),
        ("studyUID=1", False),
        ("", False),
    ],
)
def test_wado_needs_its_request_type(query: str, known: bool) -> None:
    assert route("GET", "/api/wado", query, "") is (Destination.PROXY if known else Destination.BAD_WADO)


def test_a_link_url_is_its_token_and_its_path() -> None:
    found = link("/api/link/abc.D-e_f+g=/studies/1.2.3/series")
    assert found is not None
    assert (found.token, found.path) == ("abc.D-e_f+g=", f"{STUDY}/series")
    assert link("/api/link/abc") is None
    assert link("/api/studies") is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/api/studies", 404),
        ("PUT", "/api/studies", 405),
        ("HEAD", SERIES, 405),
        ("GET", "/api/studies/", 404),
        ("POST", "/api/studies/", 405),
        ("GET", f"{STUDY}/", 404),
        ("GET", "/api/series", 404),
        ("GET", "/api/instances", 404),
        ("GET", f"{INSTANCE}/rendered", 404),
        ("GET", f"{INSTANCE}/frames/1,2", 404),
        ("GET", f"{STUDY}/thumbnail", 404),
        ("GET", "/api/nothing", 404),
        ("POST", "/api/studies", 501),
        ("DELETE", SERIES, 501),
        ("PUT", f"{STUDY}/albums/abc", 501),
        ("DELETE", "/api/albums/abc", 501),
    ],
)
def test_what_is_not_there(demo: Demo, method: str, path: str, status: int) -> None:
    answer = demo.http.request(method, path, headers=demo.bearer("user token of Ada"))
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


def test_outside_of_the_api_is_html_with_200(demo: Demo) -> None:
    answer = demo.get("/inbox/whatever", token=None)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_nginx_refuses_wado_without_its_type_as_octets(demo: Demo) -> None:
    answer = demo.get("/api/wado?studyUID=1.2")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/octet-stream"
    assert b"requestType" in answer.content


def test_links_work_everywhere_and_give_the_token_away(demo: Demo) -> None:
    token = demo.token("user token of Ada")
    place = demo.series("Findings")
    prefix = f"/api/link/{token}"
    assert demo.get(f"{prefix}/studies", token=None).status_code == 200
    listed = demo.get(f"{prefix}/studies/{place.study}/series", token=None).json()
    assert all(f"/api/link/{token}/studies/" in one["00081190"]["Value"][0] for one in listed)
    below = place.url.removeprefix("/api")
    instances = demo.get(f"{prefix}{below}/instances", token=None).json()
    assert f"/api/link/{token}/studies/" in instances[0]["00081190"]["Value"][0]
    assert len(bodies(demo.get(f"{prefix}{below}", token=None, accept=STORED))) == 1
    metadata = demo.get(f"{prefix}{demo.series('enhanced').url.removeprefix('/api')}/metadata", token=None).json()
    assert f"/api/link/{token}/" in metadata[0]["7FE00010"]["BulkDataURI"]


def test_without_a_link_the_public_address_is_written(demo: Demo) -> None:
    place = demo.series("Findings")
    (listed,) = (one for one in demo.get(f"/api/studies/{place.study}/series?Modality=SR").json())
    assert listed["00081190"]["Value"] == [f"{demo.url}{place.url}"]


def test_a_link_outdoes_the_header(demo: Demo) -> None:
    dead = demo.token("revoked user token")
    assert demo.get(f"/api/link/{dead}/studies").status_code == 401


def test_browsers_of_other_origins_are_let_in(demo: Demo) -> None:
    for path in ("/api/studies", demo.series("Findings").url):
        assert demo.get(path).headers["access-control-allow-origin"] == "*"
    answer: httpx.Response = demo.http.options("/api/studies")
    assert answer.status_code == 200
