"""Lengths, chunks, ranges, compression, HEAD (contract: "Sizes and transport")."""

import gzip
import http.client
import io
import zipfile

import pytest
from demo_client import STORED, ZIP, Demo, bodies

IDENTITY = {"accept_encoding": "identity"}
NO_VALIDATORS = {"etag", "last-modified", "accept-ranges", "content-range"}


@pytest.mark.parametrize(("description", "has_length"), [("Findings", True), ("structures", True), ("AP", False)])
def test_a_length_only_up_to_8_kib(demo: Demo, description: str, has_length: bool) -> None:
    answer = demo.get(demo.series(description).first, accept=STORED)
    assert (len(answer.content) <= 8192) is has_length
    assert ("content-length" in answer.headers) is has_length
    assert ("transfer-encoding" in answer.headers) is not has_length
    if has_length:
        assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("size", [8191, 8192, 8193])
def test_the_limit_to_the_byte(demo: Demo, size: int) -> None:
    demo.fault("body", "/api/albums$", text="x" * size)
    answer = demo.get("/api/albums")
    assert len(answer.content) == size
    assert ("content-length" in answer.headers) is (size <= 8192)


def test_lists_follow_the_same_rule(demo: Demo) -> None:
    assert "content-length" in demo.get("/api/albums").headers
    long = demo.get(f"{demo.series('Thorax 5.0 B31f').url}/instances")
    assert len(long.content) > 8192
    assert "content-length" not in long.headers


@pytest.mark.parametrize("path", ["{first}", "{series}", "{series}/metadata", "{study}/series", "{series}/thumbnail"])
def test_no_validators_and_no_ranges(demo: Demo, path: str) -> None:
    place = demo.series("PET WB corrected")
    url = path.format(first=place.first, series=place.url, study=f"/api/studies/{place.study}")
    whole = demo.get(url, accept="*/*")
    part = demo.get(url, accept="*/*", range="bytes=10-19", if_none_match="*")
    assert part.status_code == whole.status_code == 200
    assert len(part.content) == len(whole.content) > 20
    assert not NO_VALIDATORS & {name.lower() for name in part.headers}
    assert part.headers["cache-control"] == "no-cache"


def test_head_does_the_work_and_tells_nothing(demo: Demo) -> None:
    small, large = demo.series("Findings"), demo.series("PET WB corrected")
    headers = {**demo.bearer("user token"), "Accept": STORED}
    with_length = demo.http.head(small.first, headers=headers)
    assert with_length.status_code == 200
    assert int(with_length.headers["content-length"]) > 1000
    without = demo.http.head(large.first, headers=headers)
    assert without.status_code == 200
    assert "content-length" not in without.headers
    assert with_length.content == without.content == b""
    assert demo.http.head(large.url, headers=headers).status_code == 405
    study = demo.http.head(f"/api/studies/{large.study}", headers=headers)
    assert study.status_code == 200
    assert "content-length" not in study.headers


def test_the_plain_variant_never_compresses(demo: Demo) -> None:
    answer = demo.get("/api/albums", accept_encoding="gzip")
    assert "content-encoding" not in answer.headers


def test_the_tls_variants_compress_everything_that_is_offered_gzip(demo: Demo) -> None:
    demo.control("POST", "/behaviour", {"gzip": True})
    place = demo.series("AP")
    for path, accept in (
        ("/api/studies", "*/*"),
        (place.url, STORED),
        (f"/api/studies/{place.study}", ZIP),
        (f"{place.url}/thumbnail?viewport=256,256", "image/jpeg"),
    ):
        answer = demo.get(path, accept=accept, accept_encoding="gzip")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "content-length" not in answer.headers
        plain = demo.get(path, accept=accept, **IDENTITY)
        assert "content-encoding" not in plain.headers
        assert len(plain.content) > 1000
    assert len(bodies(demo.get(place.url, accept=STORED, accept_encoding="gzip"))) == 1
    tiny = demo.get("/api/inboxinfo", accept_encoding="gzip")
    assert "content-encoding" not in tiny.headers, "nginx leaves what is short alone"
    assert "content-length" in tiny.headers


def test_gzip_though_nobody_offered(demo: Demo) -> None:
    place = demo.series("AP")
    demo.fault("gzip", place.series)
    request = demo.http.build_request("GET", place.url, headers={**demo.bearer("user token"), "Accept": STORED})
    request.headers["Accept-Encoding"] = "identity"
    answer = demo.http.send(request, stream=True)
    raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw).startswith(b"--")


def test_a_zip_has_no_length(demo: Demo) -> None:
    answer = demo.get(f"/api/studies/{demo.series('Report').study}", accept=ZIP)
    assert "content-length" not in answer.headers
    assert "cache-control" not in answer.headers
    assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist()[-1] == "DICOMDIR"


def test_a_connection_is_closed_after_a_thousand_requests(demo: Demo) -> None:
    connection = http.client.HTTPConnection(demo.url.removeprefix("http://"))
    closing = []
    for number in range(1, 1001):
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        if answer.getheader("connection") == "close":
            closing.append(number)
    assert closing == [1000]


def test_nothing_says_what_the_server_is_made_of(demo: Demo) -> None:
    assert "server" not in demo.get("/api/albums").headers
