"""How instances come to be on the disk: a real client, a real store, a real server; no FUSE.

Requests are counted at the server. The archive is one study of two series: 40 slices of 528 KB, 30 small instances.
"""

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from harness.server import DemoServer

from kheopsfs.errors import BadAnswerError, StalledError
from kheopsfs.fetch import Gate, Library
from kheopsfs.fetch import series as series_module
from kheopsfs.fetch import single as single_module
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.contents import InstanceFile
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.records import EVERYTHING, Instance, InstancesQuery, SeriesQuery, StudiesQuery
from kheopsfs.store import Store

pytestmark = pytest.mark.trio

IDLE_SECONDS = 3.0
SLICES = 40
FEW_SLICES = 8


class Scene:
    """A library on the server, and what it should deliver."""

    def __init__(self, server: DemoServer, library: Library) -> None:
        self.server = server
        self.library = library
        self.rows: list[Instance] = []

    async def read(self, row: Instance) -> str:
        body = await self.library.open(InstanceFile(row))
        with body:
            return hashlib.sha256(await trio.to_thread.run_sync(body.pread, body.size, 0)).hexdigest()

    @property
    def truth(self) -> dict[str, str]:
        return {
            instance["SOPInstanceUID"]: instance["sha256"]
            for study in self.server.call("GET", "/library", params={"sha256": "1"})
            for series in study["series"]
            for instance in series["instances"]
        }

    def body_requests(self) -> list[str]:
        """Paths of requests for bytes: `series` for a whole series, a UID for one instance."""
        found = []
        for entry in self.server.requests():
            path = entry["path"].split("?")[0]
            if "/series/" in path and not path.endswith(("/instances", "/series", "/metadata")):
                found.append(path.rpartition("/instances/")[2] if "/instances/" in path else "series")
        return found


@pytest.fixture(scope="module")
def archive() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", f"slices={SLICES}") as server:
        yield server


@pytest.fixture(scope="module")
def short_archive() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", f"slices={FEW_SLICES}") as server:
        yield server


@asynccontextmanager
async def scene_on(server: DemoServer, cache: Path, **options: Any) -> AsyncIterator[Scene]:
    server.clear_faults()
    address, _ = parse_address(server.url)
    credentials = Credentials(Token(server.token("user")))
    async with Client(address, credentials, idle_timeout=IDLE_SECONDS) as client:
        gate = Gate(client, await client.introspect(), recheck=60.0)
        with Store(cache, 10**9) as store:
            options = {"list_ttl": 600.0, "exact_sizes": False} | options
            async with Library.opened(gate, store, **options) as library:
                scene = Scene(server, library)
                study = (await library.listing(StudiesQuery(EVERYTHING))).rows[0]
                series = (await library.listing(SeriesQuery(EVERYTHING, study.StudyInstanceUID))).rows[0]
                query = InstancesQuery(study.StudyInstanceUID, series.SeriesInstanceUID, Modality="CT")
                scene.rows = list((await library.listing(query)).rows)
                assert len(scene.rows) == len(scene.truth)
                server.clear_requests()
                yield scene
    server.clear_faults()


@pytest.mark.parametrize("order", ["listed", "shuffled"])
async def test_walking_through_a_series_takes_one_request_for_the_first_and_one_for_the_rest(
    archive: DemoServer, tmp_path: Path, order: str
) -> None:
    async with scene_on(archive, tmp_path / "cache") as scene:
        if order == "shuffled":
            random.Random(1).shuffle(scene.rows)
        truth = scene.truth
        for row in scene.rows:
            assert await scene.read(row) == truth[row.SOPInstanceUID]
        requests = scene.body_requests()
        assert requests[0] == scene.rows[0].SOPInstanceUID
        assert requests.count("series") == 1
        assert len(requests) <= 3


async def test_many_readers_at_once_download_nothing_twice(archive: DemoServer, tmp_path: Path) -> None:
    async with scene_on(archive, tmp_path / "cache") as scene:
        truth, read = scene.truth, []

        async def reader(row: Instance) -> None:
            assert await scene.read(row) == truth[row.SOPInstanceUID]
            read.append(row)

        async with trio.open_nursery() as nursery:
            for row in scene.rows * 3:
                nursery.start_soon(reader, row)
        assert len(read) == 3 * SLICES
        requests = scene.body_requests()
        assert requests.count("series") == 1
        assert len(requests) == len(set(requests)) <= 3


async def test_one_instance_alone_fetches_no_more(archive: DemoServer, tmp_path: Path) -> None:
    async with scene_on(archive, tmp_path / "cache") as scene:
        for _ in range(3):
            await scene.read(scene.rows[7])
        assert scene.body_requests() == [scene.rows[7].SOPInstanceUID]


@pytest.mark.parametrize("parts", range(FEW_SLICES + 1))
@pytest.mark.parametrize("inside", [0, 1000, 300_000])
async def test_after_a_cut_only_what_is_missing_is_asked_for_again(
    short_archive: DemoServer, tmp_path: Path, parts: int, inside: int
) -> None:
    """S7: cut at every boundary between parts and inside every part; the answer looks complete each time."""
    async with scene_on(short_archive, tmp_path / "cache") as scene:
        short_archive.fault(kind="upstream", path=r"/series/[0-9.]+$", parts=parts, byte=inside, times=1)
        truth = scene.truth
        for row in scene.rows:
            assert await scene.read(row) == truth[row.SOPInstanceUID]
        requests = scene.body_requests()
        alone = [request for request in requests if request != "series"]
        assert len(alone) == len(set(alone)), "an instance was downloaded twice by requests of its own"
        assert requests.count("series") <= 2
        # The first instance, the stream that was cut, and the rest: a second stream, or a request each where hardly
        # anything is missing; and one that overtakes.
        assert len(requests) <= 5


async def test_a_reader_overtakes_a_stream_that_stands_still(archive: DemoServer, tmp_path: Path) -> None:
    async with scene_on(archive, tmp_path / "cache") as scene:
        archive.fault(kind="stall", path=r"/series/[0-9.]+$", byte=600_000)
        truth = scene.truth
        await scene.read(scene.rows[0])
        with trio.fail_after(IDLE_SECONDS * 5):
            assert await scene.read(scene.rows[-1]) == truth[scene.rows[-1].SOPInstanceUID]
        assert scene.rows[-1].SOPInstanceUID in scene.body_requests()


async def test_a_stall_is_a_stall_and_is_not_waited_for_again(archive: DemoServer, tmp_path: Path) -> None:
    """S16: every wait ends, and a stall is ETIMEDOUT."""
    async with scene_on(archive, tmp_path / "cache") as scene:
        archive.fault(kind="stall", path=r"/instances/", byte=1000)
        with trio.fail_after(IDLE_SECONDS * 5), pytest.raises(StalledError):
            await scene.read(scene.rows[0])
        assert len(scene.body_requests()) == 1


async def test_a_bad_answer_is_asked_for_again_but_not_for_ever(archive: DemoServer, tmp_path: Path) -> None:
    """S7: cut bodies are never handed out."""
    async with scene_on(archive, tmp_path / "cache") as scene:
        archive.fault(kind="cut", path=r"/instances/", fraction=0.5)
        with pytest.raises(BadAnswerError):
            await scene.read(scene.rows[0])
        assert len(scene.body_requests()) == single_module.ATTEMPTS
        archive.clear_faults()
        assert await scene.read(scene.rows[0]) == scene.truth[scene.rows[0].SOPInstanceUID]


async def test_a_stream_that_nobody_reads_any_more_is_given_up(
    archive: DemoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_module, "INTEREST_SECONDS", 0.1)
    async with scene_on(archive, tmp_path / "cache") as scene:
        archive.fault(kind="trickle", path=r"/series/[0-9.]+$", bytes=300_000, seconds=0.2)
        for row in scene.rows[:2]:
            await scene.read(row)
        streams: list[dict[str, Any]] = []
        with trio.fail_after(30):
            while not streams or streams[0].get("bytes") is None:
                await trio.sleep(0.1)
                streams = [entry for entry in archive.requests() if entry["path"].split("?")[0].count("/") == 5]
        assert streams[0]["bytes"] < SLICES * 500_000


async def test_exact_sizes_are_settled_by_one_request_for_the_series(archive: DemoServer, tmp_path: Path) -> None:
    """S11 with `--sizes exact`: asking for a size fetches the series."""
    async with scene_on(archive, tmp_path / "cache", exact_sizes=True) as scene:
        for row in scene.rows:
            assert (await scene.library.settle(InstanceFile(row))).exact
        requests = scene.body_requests()
        assert requests.count("series") == 1
        assert len(requests) <= 2


async def test_asking_for_a_size_waits_for_the_retrieval_that_settles_it(archive: DemoServer, tmp_path: Path) -> None:
    """S10, S12: a bound without any request; exact when a retrieval is under way."""
    async with scene_on(archive, tmp_path / "cache") as scene:
        assert not (await scene.library.settle(InstanceFile(scene.rows[5]))).exact
        assert scene.body_requests() == []
        for row in scene.rows[:2]:
            await scene.read(row)
        assert (await scene.library.settle(InstanceFile(scene.rows[5]))).exact


async def test_what_was_fetched_needs_no_request_in_another_life(archive: DemoServer, tmp_path: Path) -> None:
    async with scene_on(archive, tmp_path / "cache") as scene:
        for row in scene.rows:
            await scene.read(row)
    async with scene_on(archive, tmp_path / "cache") as scene:
        truth = scene.truth
        for row in scene.rows:
            assert (await scene.library.settle(InstanceFile(row))).exact
            assert await scene.read(row) == truth[row.SOPInstanceUID]
        assert scene.body_requests() == []


async def test_what_was_opened_a_moment_ago_is_still_open(archive: DemoServer, tmp_path: Path) -> None:
    """Programs open a file again and again: that needs neither the server nor the cache's database."""
    async with scene_on(archive, tmp_path / "cache") as scene:
        first = await scene.read(scene.rows[0])
        for file in (tmp_path / "cache" / "bodies").rglob("*"):
            if file.is_file() and "." not in file.name:
                file.unlink()
        assert await scene.read(scene.rows[0]) == first
        assert scene.body_requests() == [scene.rows[0].SOPInstanceUID]
