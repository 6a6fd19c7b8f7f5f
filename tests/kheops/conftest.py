"""What the tests of the server package share."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio.testing
from harness.server import DemoServer
from scripted_server import SECRET, Script, scripted

from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials, Token


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """A clock on which pauses and timeouts pass at once. It waits a little for bytes that are still on their way."""
    return trio.testing.MockClock(autojump_threshold=0.02)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    """A server that answers as the test says."""
    async with scripted() as script:
        yield script


@pytest.fixture
async def client(script: Script) -> AsyncIterator[Client]:
    """A client of the scripted server, with a bearer token."""
    address, _ = parse_address(script.url)
    async with Client(address, Credentials(Token(SECRET)), idle_timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def demo() -> Iterator[DemoServer]:
    """A demo server of the module's own."""
    with DemoServer() as server:
        yield server
