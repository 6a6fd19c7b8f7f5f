"""Lists that are kept: whom a silent server keeps waiting. The clock is trio's own test clock."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kheopsfs.fetch.catalogue import STALE_GRACE, Catalogue
from kheopsfs.fetch.gate import Gate
from kheopsfs.fetch.line import CONCURRENT_REQUESTS
from kheopsfs.kheops.answers import Answer
from kheopsfs.kheops.records import EVERYTHING, SeriesQuery
from kheopsfs.kheops.tokens import TokenInfo
from kheopsfs.store import Store

SERIES = b'[{"0020000E": {"vr": "UI", "Value": ["1.2.3"]}}]'
QUERIES = [SeriesQuery(EVERYTHING, f"1.2.{number}") for number in range(2 * CONCURRENT_REQUESTS)]


@dataclass
class Server:
    """What lists take of a client: one answer for all of them, or none."""

    silent: bool = False
    last_heard: float = -math.inf
    idle_timeout: float = 30.0

    async def get(self, path: str, params: Any, *, parse: Callable[[bytes], Any]) -> Answer[Any]:
        if self.silent:
            await trio.sleep_forever()
        self.last_heard = trio.current_time()
        return Answer(200, parse(SERIES), None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "cache", 1 << 20)
    yield opened
    opened.close()


@pytest.mark.trio
async def test_one_reader_waits_for_news_of_a_silent_server_and_the_others_do_not(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, store: Store
) -> None:
    """S5, S17: what is kept is shown at once while nothing is heard; news are waited for again once something is."""
    server = Server()
    info = TokenInfo(kind="user", subject="someone", scopes=frozenset({"user", "read"}), token_id="", album_id="")
    gate = Gate(server, info, recheck=60)  # type: ignore[arg-type]
    catalogue = Catalogue(gate, store, nursery, namespace="n", ttl=1e-9)  # stale as soon as it is there
    for query in QUERIES:
        await catalogue.listing(query)
    server.silent = True
    assert [await _seconds(catalogue, query) for query in QUERIES] == pytest.approx(
        [STALE_GRACE] + [0.0] * (len(QUERIES) - 1)
    )
    await trio.sleep(1)
    server.last_heard = trio.current_time()
    assert [await _seconds(catalogue, query) for query in QUERIES[:3]] == pytest.approx([STALE_GRACE, 0.0, 0.0])


async def _seconds(catalogue: Catalogue, query: SeriesQuery) -> float:
    """How long a reader waits for a listing, which is the one that is kept."""
    began = trio.current_time()
    assert (await catalogue.listing(query)).rows
    return trio.current_time() - began
