"""What the tests of the server package share."""

from collections.abc import AsyncIterator, Iterator

import pytest
from scripted_server import Script, scripted

from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials, Token
from tests.harness.server import DemoServer

SECRET = "s3cr3tS3CR3Ts3cr3tS3CR"


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
