"""Retrieval from the demo server, which behaves as Kheops does: every sample, and every fault of a body."""

import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from harness.server import DemoServer
from PIL import Image

from kheopsfs.errors import BadAnswerError, KheopsfsError, NotFoundError, StalledError
from kheopsfs.kheops import retrieve
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.completeness import check_zip, check_zip_origin
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.records import EVERYTHING, INBOX, Source
from kheopsfs.kheops.retrieve import InstanceBegun, InstanceBytes

INBOX_OF_USER = "demo-ada"
NOT_RENDERED = {"SR", "DOC", "SEG", "RTSTRUCT", "RTPLAN", "ECG"}


@dataclass(frozen=True)
class Series:
    """One series as the demo server describes it to its tests."""

    uids: tuple[str, str]
    modality: str
    sources: frozenset[str]
    checksums: dict[str, str]


class Demo:
    """The demo server and what its library holds."""

    def __init__(self, server: DemoServer) -> None:
        self.server = server
        self.series = [
            Series(
                (study["StudyInstanceUID"], series["SeriesInstanceUID"]),
                series["Modality"],
                frozenset(series["sources"]),
                {instance["SOPInstanceUID"]: instance["sha256"] for instance in series["instances"]},
            )
            for study in server.call("GET", "/library", params={"sha256": "1"})
            for series in study["series"]
        ]
        self.longest = max(self.of(INBOX_OF_USER), key=lambda series: len(series.checksums))

    def of(self, source: str) -> list[Series]:
        return [series for series in self.series if source in series.sources]

    def count(self, StudyInstanceUID: str, source: str) -> int:
        """How many instances a source shows of a study."""
        return sum(len(series.checksums) for series in self.of(source) if series.uids[0] == StudyInstanceUID)

    def fail(self, kind: str, path: str = "/series/", **options: Any) -> None:
        """Switch one fault on."""
        self.server.fault(kind=kind, path=path, **options)

    @asynccontextmanager
    async def client(self, kind: str = "user", idle_timeout: float = 20) -> AsyncIterator[Client]:
        address, _ = parse_address(self.server.url)
        credentials = Credentials(Token(self.server.token(kind)))
        async with Client(address, credentials, idle_timeout=idle_timeout) as client:
            yield client


@pytest.fixture(scope="module")
def running_demo() -> Iterator[Demo]:
    with DemoServer() as server:
        yield Demo(server)


@pytest.fixture
def demo(running_demo: Demo) -> Iterator[Demo]:
    yield running_demo
    running_demo.server.clear_faults()


async def retrieved(
    client: Client, uids: tuple[str, str], SOPInstanceUID: str | None = None
) -> tuple[list[tuple[str, str]], KheopsfsError | None]:
    """UID and SHA-256 of what was proven, in order; and the error at the end."""
    proven: list[tuple[str, str]] = []
    current, digest = "", hashlib.sha256()
    try:
        async with retrieve.instances(client, *uids, SOPInstanceUID) as events:
            async for event in events:
                if isinstance(event, InstanceBegun):
                    current, digest = event.SOPInstanceUID, hashlib.sha256()
                elif isinstance(event, InstanceBytes):
                    digest.update(event.data)
                else:
                    proven.append((current, digest.hexdigest()))
    except KheopsfsError as error:
        return proven, error
    return proven, None


async def zipped(client: Client, StudyInstanceUID: str, source: Source) -> io.BytesIO:
    """A study's zip as the mount asks for it."""
    info = await client.introspect()
    token = await client.viewer_token(StudyInstanceUID, source) if retrieve.zip_token_needed(info, source) else None
    async with retrieve.study_zip(client, StudyInstanceUID, token) as arriving:
        return io.BytesIO(b"".join([piece async for piece in arriving]))


@pytest.mark.trio
async def test_every_series_arrives_exactly(demo: Demo) -> None:
    async with demo.client() as client:
        for series in demo.of(INBOX_OF_USER):
            proven, error = await retrieved(client, series.uids)
            assert error is None
            assert len(proven) == len(series.checksums)
            assert dict(proven) == series.checksums


@pytest.mark.trio
async def test_an_instance_of_every_series_arrives_exactly(demo: Demo) -> None:
    async with demo.client() as client:
        for series in demo.of(INBOX_OF_USER):
            uid, checksum = next(iter(series.checksums.items()))
            assert await retrieved(client, series.uids, uid) == ([(uid, checksum)], None)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("kind", "options", "count"),
    [
        ("cut", {"byte": 9000}, 0),
        ("cut", {"fraction": 0.3}, 19),
        ("cut", {"fraction": 0.9999}, 63),
        ("upstream", {"parts": 3, "byte": 0}, 3),
        ("upstream", {"parts": 3, "byte": 5000}, 3),
        ("upstream", {}, 63),
        ("partial", {"parts": 7}, 7),
        ("junk", {"part": 5}, 5),
    ],
)
async def test_a_series_that_fails_midway_keeps_what_was_proven(
    demo: Demo, kind: str, options: dict[str, Any], count: int
) -> None:
    assert len(demo.longest.checksums) == 64
    demo.fail(kind, **options)
    async with demo.client() as client:
        proven, error = await retrieved(client, demo.longest.uids)
    assert isinstance(error, BadAnswerError)
    assert dict(proven).items() <= demo.longest.checksums.items()
    assert len(proven) == count


@pytest.mark.trio
async def test_a_reset_connection_proves_nothing_that_did_not_arrive(demo: Demo) -> None:
    demo.fail("reset", byte=3_000_000)
    async with demo.client() as client:
        proven, error = await retrieved(client, demo.longest.uids)
    assert isinstance(error, BadAnswerError)
    assert dict(proven).items() <= demo.longest.checksums.items()
    assert len(proven) < 3_000_000 / 130_000


@pytest.mark.trio
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("cut", {"byte": 9000}),
        ("cut", {"fraction": 0.9999}),
        ("reset", {"byte": 9000}),
        ("upstream", {}),
        ("partial", {"parts": 1}),
        ("junk", {"part": 0}),
        ("wrong_instance", {"part": 0}),
        ("duplicate", {"part": 0}),
        ("html", {}),
    ],
)
async def test_a_bad_answer_for_one_instance_is_never_proven(demo: Demo, kind: str, options: dict[str, Any]) -> None:
    demo.fail(kind, "/instances/", **options)
    async with demo.client() as client:
        proven, error = await retrieved(client, demo.longest.uids, list(demo.longest.checksums)[-1])
    assert proven == []
    assert isinstance(error, BadAnswerError)


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["part_length", "gzip"])
async def test_what_a_server_may_do_differently_changes_nothing(demo: Demo, kind: str) -> None:
    demo.fail(kind)
    async with demo.client() as client:
        proven, error = await retrieved(client, demo.longest.uids)
    assert error is None
    assert dict(proven) == demo.longest.checksums


@pytest.mark.trio
async def test_a_stall_ends_after_the_idle_timeout(demo: Demo) -> None:
    demo.fail("stall", byte=500_000)
    async with demo.client(idle_timeout=2) as client:
        proven, error = await retrieved(client, demo.longest.uids)
    assert isinstance(error, StalledError)
    assert proven
    assert dict(proven).items() <= demo.longest.checksums.items()


@pytest.mark.trio
async def test_what_the_token_does_not_see_is_not_found(demo: Demo) -> None:
    async with demo.client("album") as client:
        album_id = (await client.introspect()).album_id
        hidden = next(series for series in demo.series if album_id not in series.sources)
        _, error = await retrieved(client, hidden.uids)
        assert isinstance(error, NotFoundError)
        with pytest.raises(NotFoundError):
            await retrieve.jpeg(client, *hidden.uids, None)


@pytest.mark.trio
async def test_an_image_has_a_jpeg_and_a_report_has_none(demo: Demo) -> None:
    rendered = 0
    async with demo.client() as client:
        for series in demo.of(INBOX_OF_USER):
            uid = next(iter(series.checksums))
            if series.modality in NOT_RENDERED:
                with pytest.raises(NotFoundError):
                    await retrieve.jpeg(client, *series.uids, uid)
                continue
            with Image.open(io.BytesIO(await retrieve.jpeg(client, *series.uids, uid))) as image:
                assert image.format == "JPEG"
                assert max(image.size) <= retrieve.JPEG_EDGE
            assert await retrieve.jpeg(client, *series.uids, None)
            rendered += 1
    assert rendered >= 5


@pytest.mark.trio
async def test_a_cut_jpeg_is_refused(demo: Demo) -> None:
    demo.fail("cut", "/wado", fraction=0.9)
    async with demo.client() as client:
        with pytest.raises(BadAnswerError):
            await retrieve.jpeg(client, *demo.longest.uids, None)


@pytest.mark.trio
async def test_a_zip_holds_what_its_source_shows(demo: Demo) -> None:
    StudyInstanceUID = demo.longest.uids[0]
    async with demo.client("album") as client:
        album_id = (await client.introspect()).album_id
        in_album = demo.count(StudyInstanceUID, album_id)
        assert check_zip(await zipped(client, StudyInstanceUID, Source("album", album_id)), in_album) == in_album
    async with demo.client() as client:
        in_inbox = demo.count(StudyInstanceUID, INBOX_OF_USER)
        assert in_album < in_inbox
        assert check_zip(await zipped(client, StudyInstanceUID, Source("album", album_id)), in_album) == in_album
        assert check_zip(await zipped(client, StudyInstanceUID, INBOX), in_inbox) == in_inbox
        everything = await zipped(client, StudyInstanceUID, EVERYTHING)
        assert check_zip(everything, None) >= in_inbox
        with pytest.raises(BadAnswerError):
            check_zip(everything, in_album)


@pytest.mark.trio
async def test_a_zip_says_what_it_holds(demo: Demo) -> None:
    """S7: no instance of another study, no series that the source does not have, and nothing twice."""
    StudyInstanceUID = demo.longest.uids[0]
    of_study = {series.uids[1] for series in demo.series if series.uids[0] == StudyInstanceUID}
    of_another = next(series for series in demo.series if series.uids[0] != StudyInstanceUID)
    async with demo.client() as client:
        everything = await zipped(client, StudyInstanceUID, EVERYTHING)
        count = check_zip(everything, None)
        check_zip_origin(everything, StudyInstanceUID, of_study)
        for study, series in ((StudyInstanceUID, of_study - {demo.longest.uids[1]}), ("1.2.3", of_study)):
            with pytest.raises(BadAnswerError):
                check_zip_origin(everything, study, series)
        for stranger in (next(iter(of_another.checksums)), list(demo.longest.checksums)[1]):
            demo.fail("wrong_instance", "/studies/", uid=stranger)
            spoiled = await zipped(client, StudyInstanceUID, EVERYTHING)
            demo.server.clear_faults()
            check_zip(spoiled, count)
            with pytest.raises(BadAnswerError):
                check_zip_origin(spoiled, StudyInstanceUID, of_study)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("kind", "options"), [("upstream", {"parts": 3, "byte": 5000}), ("upstream", {}), ("cut", {"fraction": 0.99})]
)
async def test_a_zip_that_fails_midway_is_refused(demo: Demo, kind: str, options: dict[str, Any]) -> None:
    demo.fail(kind, "/studies/", **options)
    async with demo.client() as client:
        arrived = await zipped(client, demo.longest.uids[0], EVERYTHING)
    with pytest.raises(BadAnswerError):
        check_zip(arrived, None)
