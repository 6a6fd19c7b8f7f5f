"""Faults: each kind, how often it strikes, and what a client sees of it."""

import io
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from demo_client import STORED, ZIP, Demo, bodies, boundary, parts
from hypothesis import given
from hypothesis import strategies as st

from kheopsfs.demo.faults import Fault, Faults

SHORT = httpx.Timeout(0.3, connect=30)
"""Seconds to wait for a byte that does not come."""


@pytest.fixture
def series_url(demo: Demo) -> str:
    return demo.series("PET WB corrected").url


@given(
    after=st.integers(0, 4), times=st.one_of(st.none(), st.integers(0, 4)), asked=st.lists(st.booleans(), max_size=12)
)
def test_a_fault_lets_some_pass_and_then_strikes_some(after: int, times: int | None, asked: list[bool]) -> None:
    faults = Faults()
    faults.add(Fault("status", re.compile("studies"), after=after, times=times, options={"code": 503}))
    struck = [faults.plan("GET", "/studies" if ours else "/albums").get("status") is not None for ours in asked]
    ours = [hit for hit, is_ours in zip(struck, asked, strict=True) if is_ours]
    expected = [place >= after and (times is None or place < after + times) for place in range(len(ours))]
    assert ours == expected
    assert not any(hit for hit, is_ours in zip(struck, asked, strict=True) if not is_ours)


@pytest.mark.parametrize("document", [{"kind": "earthquake"}, {}, {"kind": "status", "path": "("}])
def test_a_fault_that_is_none(document: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"no such kind|regular expression"):
        Fault.parse(document)


def test_the_first_of_a_kind_wins_and_the_rest_wait() -> None:
    faults = Faults()
    for code in (500, 503):
        faults.add(Fault.parse({"kind": "status", "code": code, "times": 1}))
    assert [faults.plan("GET", "/").option("status", "code") for _ in range(3)] == [500, 503, None]


@pytest.mark.parametrize("code", [500, 502, 503, 504, 418])
def test_a_status_with_html_and_then_none(demo: Demo, series_url: str, code: int) -> None:
    demo.fault("status", "/series/", code=code, times=2)
    seen = [demo.get(series_url, accept=STORED) for _ in range(3)]
    assert [answer.status_code for answer in seen] == [code, code, 200]
    assert seen[0].headers["content-type"].startswith("text/html")


def test_only_the_named_method_and_path(demo: Demo) -> None:
    demo.fault("status", r"^/api/studies\?limit", method="GET", code=500)
    assert demo.get("/api/studies").status_code == 200
    assert demo.get("/api/studies?limit=1").status_code == 500
    described = demo.control("GET", "/faults")
    assert [(one["kind"], one["seen"], one["struck"]) for one in described] == [("status", 1, 1)]
    demo.control("DELETE", "/faults")
    assert demo.get("/api/studies?limit=1").status_code == 200


def test_a_redirect_to_another_host(demo: Demo) -> None:
    demo.fault("status", "/api/albums", code=302, location="http://elsewhere.invalid/")
    answer = demo.get("/api/albums")
    assert answer.status_code == 302
    assert answer.headers["location"] == "http://elsewhere.invalid/"


def test_html_with_200(demo: Demo) -> None:
    demo.fault("html", "/api/studies")
    answer = demo.get("/api/studies")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html"


def test_another_body_and_another_type(demo: Demo) -> None:
    demo.fault("body", "/api/studies", text='[{"0020000D": 7}]', times=1)
    answer = demo.get("/api/studies")
    assert answer.json() == [{"0020000D": 7}]
    assert answer.headers["content-type"] == "application/dicom+json"
    demo.fault("content_type", "/api/studies", media_type="text/plain")
    changed = demo.get("/api/studies")
    assert changed.headers["content-type"] == "text/plain"
    assert len(changed.json()) > 1


def test_truncated_json_is_consistent_with_its_length(demo: Demo) -> None:
    whole = demo.get("/api/studies").content
    demo.fault("cut", "/api/studies", fraction=0.7)
    answer = demo.get("/api/studies")
    assert answer.content == whole[: int(len(whole) * 0.7)]
    assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("byte", [0, 1, 5000, 8192, 300_000, 1_000_000])
def test_a_body_that_ends_early_and_looks_complete(demo: Demo, series_url: str, byte: int) -> None:
    demo.fault("cut", "/series/", byte=byte)
    assert len(demo.get(series_url, accept=STORED).content) == byte


@pytest.mark.parametrize(("count", "byte"), [(1, 0), (3, 0), (3, 20_000), (39, 100)])
def test_the_pacs_fails_between_and_inside_parts(demo: Demo, series_url: str, count: int, byte: int) -> None:
    whole = bodies(demo.get(series_url, accept=STORED))
    demo.fault("upstream", "/series/", parts=count, byte=byte)
    answer = demo.get(series_url, accept=STORED)
    assert answer.status_code == 200
    pieces = (b"\r\n" + answer.content).split(b"\r\n--" + boundary(answer))[1:]
    contents = [piece.partition(b"\r\n\r\n")[2] for piece in pieces]
    assert contents[:count] == whole[:count]
    assert contents[count:] == [whole[count][:byte]]


def test_only_the_closing_boundary_is_missing(demo: Demo, series_url: str) -> None:
    whole = demo.get(series_url, accept=STORED)
    demo.fault("upstream", "/series/")
    answer = demo.get(series_url, accept=STORED)
    closing = b"\r\n--" + boundary(answer) + b"--\r\n"
    assert closing not in answer.content
    assert len(answer.content) == len(whole.content) - len(closing)


def test_before_8_kib_the_same_failure_has_a_status(demo: Demo) -> None:
    demo.fault("upstream", "/series/", parts=0, byte=2000)
    assert demo.get(demo.series("Findings").url, accept=STORED).status_code == 502


def test_a_bare_body_ends_early_without_a_mark(demo: Demo) -> None:
    place = demo.series("AP")
    demo.fault("upstream", "/api/wado", parts=0, byte=50_000)
    query = f"requestType=WADO&studyUID={place.study}&seriesUID={place.series}&contentType=application/dicom"
    answer = demo.get(f"/api/wado?{query}&transferSyntax=*")
    assert answer.status_code == 200
    assert len(answer.content) == 50_000


@pytest.mark.parametrize("options", [{"parts": 5, "byte": 10_000}, {}])
def test_a_zip_that_fails_is_a_valid_zip_without_its_dicomdir(demo: Demo, options: dict[str, int]) -> None:
    study = demo.series("Report").study
    whole = demo.get(f"/api/studies/{study}", accept=ZIP).content
    demo.fault("upstream", study, **options)
    answer = demo.get(f"/api/studies/{study}", accept=ZIP)
    assert answer.status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None, "the checksums of what is there are right"
    names = zipfile.ZipFile(io.BytesIO(whole)).namelist()
    if options:
        assert archive.namelist() == names[:6]
        assert archive.getinfo(names[5]).file_size == 10_000
    else:
        assert archive.namelist() == names[:-1]


def test_a_body_without_end(demo: Demo, series_url: str) -> None:
    demo.fault("endless", "/series/", byte=100_000)
    headers = {"Accept": STORED, "Authorization": f"Bearer {demo.token('user token')}"}
    received = bytearray()
    with httpx.stream("GET", f"{demo.url.rstrip('/')}{series_url}", headers=headers) as answer:
        for piece in answer.iter_bytes():
            received += piece
            if len(received) > 50_000_000:
                break
    assert any(received[:100_000])
    assert not any(received[100_000:])


@pytest.mark.parametrize("byte", [None, 0, 100_000])
def test_a_reset(demo: Demo, series_url: str, byte: int | None) -> None:
    demo.fault("reset", "/series/", **({} if byte is None else {"byte": byte}))
    with pytest.raises(httpx.NetworkError):
        demo.get(series_url, accept=STORED)


def test_a_reset_is_a_reset_and_not_an_end(demo: Demo, series_url: str) -> None:
    demo.fault("reset", "/series/", byte=20_000)
    host, port = urlsplit(demo.url).hostname, urlsplit(demo.url).port
    with socket.create_connection((host, port)) as raw:
        raw.sendall(
            f"GET {series_url} HTTP/1.1\r\nHost: demo\r\nAccept: {STORED}\r\n"
            f"Authorization: Bearer {demo.token('user token')}\r\n\r\n".encode()
        )
        with pytest.raises(ConnectionResetError):
            while raw.recv(65536):
                pass


@contextmanager
def opened(demo: Demo, path: str) -> Iterator[httpx.Response]:
    with demo.http.stream("GET", path, headers={**demo.bearer("user token"), "Accept": STORED}) as one:
        yield one


def take(pieces: Iterator[bytes], count: int) -> int:
    """Receive until there are at least `count` bytes; how many there are."""
    received = 0
    while received < count:
        received += len(next(pieces))
    return received


def test_a_stall_before_the_headers(demo: Demo, series_url: str) -> None:
    demo.fault("stall", "/series/")
    with pytest.raises(httpx.ReadTimeout):
        demo.http.get(series_url, headers=demo.bearer("user token"), timeout=SHORT)
    assert demo.get("/api/studies").status_code == 200, "nobody else waits"


def test_a_stall_in_the_middle_ends_when_it_is_lifted(demo: Demo, series_url: str) -> None:
    whole = len(demo.get(series_url, accept=STORED).content)
    demo.fault("stall", "/series/", byte=100_000)
    with opened(demo, series_url) as answer:
        pieces = answer.iter_raw()
        assert take(pieces, 100_000) == 100_000
        demo.control("DELETE", "/faults")
        assert 100_000 + sum(map(len, pieces)) == whole


def test_a_client_that_leaves_a_stall_is_forgotten(demo: Demo, series_url: str) -> None:
    demo.fault("stall", "/series/", byte=9_000)
    with opened(demo, series_url) as answer:
        assert take(answer.iter_raw(), 9_000) == 9_000
    entry = next(one for one in demo.requests() if one["path"] == series_url)
    deadline = time.monotonic() + 20
    while entry["ended"] is None and time.monotonic() < deadline:
        entry = next(one for one in demo.requests() if one["path"] == series_url)
    assert entry["ended"] is not None
    assert entry["complete"] is False
    assert entry["bytes"] == 9_000


def test_a_trickle(demo: Demo) -> None:
    url = demo.series("Findings").url
    demo.fault("trickle", "/series/", bytes=1000, seconds=0.01)
    request = demo.http.build_request("GET", url, headers={**demo.bearer("user token"), "Accept": STORED})
    answer = demo.http.send(request, stream=True)
    sizes = [len(piece) for piece in answer.iter_raw()]
    assert len(sizes) == 4
    assert max(sizes) == 1000


def test_a_delay(demo: Demo) -> None:
    demo.fault("delay", "/api/albums", seconds=0.4)
    began = time.monotonic()
    assert demo.get("/api/albums").status_code == 200
    assert time.monotonic() - began >= 0.4


def test_latency_is_for_everybody(demo: Demo) -> None:
    demo.control("POST", "/behaviour", {"latency": 0.2})
    began = time.monotonic()
    assert demo.get("/api/albums").status_code == 200
    assert time.monotonic() - began >= 0.2


def test_part_faults(demo: Demo, series_url: str) -> None:
    whole = bodies(demo.get(series_url, accept=STORED))
    cases = {
        "duplicate": whole[:2] + whole[1:],
        "partial": whole[:2],
    }
    demo.fault("duplicate", "/series/", part=1)
    assert bodies(demo.get(series_url, accept=STORED)) == cases["duplicate"]
    demo.control("DELETE", "/faults")
    demo.fault("partial", "/series/", parts=2)
    answer = demo.get(series_url, accept=STORED)
    assert answer.status_code == 206
    assert bodies(answer) == cases["partial"]
    demo.control("DELETE", "/faults")
    demo.fault("junk", "/series/", part=3)
    changed = bodies(demo.get(series_url, accept=STORED))
    assert b"DICM" not in changed[3]
    assert [*changed[:3], *changed[4:]] == [*whole[:3], *whole[4:]]


def test_the_wrong_instance(demo: Demo) -> None:
    asked, other = demo.series("Findings"), demo.series("plan")
    right = bodies(demo.get(asked.first, accept=STORED))
    demo.fault("wrong_instance", asked.series, uid=other.instances[0]["SOPInstanceUID"], times=1)
    assert bodies(demo.get(asked.first, accept=STORED)) == bodies(demo.get(other.first, accept=STORED))
    first_of_all = demo.library()[0]
    demo.fault("wrong_instance", first_of_all.series)
    changed = bodies(demo.get(first_of_all.first, accept=STORED))
    assert changed != right
    demo.control("DELETE", "/faults")
    assert changed != bodies(demo.get(first_of_all.first, accept=STORED)), "another than the one asked for"


def test_parts_with_a_length_of_their_own(demo: Demo, series_url: str) -> None:
    demo.fault("part_length", "/series/")
    for head, content in parts(demo.get(series_url, accept=STORED)):
        assert f"Content-Length: {len(content)}".encode() in head.split(b"\r\n")


def test_a_token_revoked_after_some_requests(own_demo: Demo) -> None:
    own_demo.fault("revoke", "/api/studies", after=2)
    assert [own_demo.get("/api/studies").status_code for _ in range(4)] == [200, 200, 401, 401]


def test_a_token_revoked_in_the_middle_cuts_a_study_between_series(own_demo: Demo) -> None:
    study = own_demo.series("Report").study
    whole = own_demo.get(f"/api/studies/{study}", accept=STORED)
    count = len(parts(whole))
    own_demo.fault("revoke", study, byte=20_000)
    answer = own_demo.get(f"/api/studies/{study}", accept=STORED)
    assert answer.status_code == 200
    assert not answer.content.endswith(b"--\r\n")
    mark = b"--" + boundary(answer)
    assert 0 < answer.content.count(mark) < count
    assert own_demo.get("/api/studies").status_code == 401


def test_a_token_revoked_in_the_middle_leaves_a_zip_without_dicomdir(own_demo: Demo) -> None:
    study = own_demo.series("Report").study
    own_demo.fault("revoke", study, byte=20_000)
    answer = own_demo.get(f"/api/studies/{study}", accept=ZIP)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert "DICOMDIR" not in archive.namelist()
