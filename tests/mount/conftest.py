"""Servers and mounts that the tests of a module share, and the same files without any mount."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from harness.forked import Starter
from harness.looking import by_uid, original
from harness.mounting import Mount
from harness.server import DemoServer

NewMount = Callable[..., Mount]


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    """A demo server with the samples; who changes its world or leaves faults behind takes one of their own."""
    with DemoServer() as demo:
        yield demo


@pytest.fixture(scope="module")
def mount(server: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """Everything Ada sees, which is every sample."""
    with Mount(server.url, server.token("user", "Ada"), tmp_path_factory.mktemp("user")) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def album_mount(server: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """What the album token of “Chest/Heart trial” shows."""
    with Mount(server.url, server.token("album", "Chest/Heart"), tmp_path_factory.mktemp("album")) as mounted:
        yield mounted


@pytest.fixture
def new_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewMount]:
    """Make mounts for one test: `new_mount(server, *options, home=…, token=…, **settings)`; each is cold unless it gets
    the home of an earlier one.
    """
    with ExitStack() as mounts:

        def make(
            server: DemoServer,
            *options: str,
            home: Path | None = None,
            token: str | None = None,
            mountpoint: str = "mnt",
            **settings: str,
        ) -> Mount:
            token = token or server.announcement["tokens"][0]["token"]
            home = home or tmp_path_factory.mktemp("home")
            return mounts.enter_context(Mount(server.url, token, home, *options, mountpoint=mountpoint, **settings))

        yield make


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    """Starts mounts that cost next to nothing; see `harness.forked`."""
    with Starter() as running:
        yield running


@pytest.fixture(scope="session")
def copy_of_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples in plain folders, named as below `studies/`. No byte of them went through kheopsfs."""
    copy = tmp_path_factory.mktemp("plain") / "studies"
    with DemoServer() as server:
        token = server.token("user", "Ada")
        with (
            Mount(server.url, token, tmp_path_factory.mktemp("names")) as mounted,
            httpx.Client(trust_env=False) as client,
        ):
            studies = mounted.path / "studies"
            known = {
                instance["SOPInstanceUID"]: instance["sha256"]
                for study in server.call("GET", "/library", params={"sha256": "1"})
                for series in study["series"]
                for instance in series["instances"]
            }
            found = by_uid(studies)
            assert found.keys() == known.keys()
            for uid, path in found.items():
                data = original(server, token, path, client)
                assert hashlib.sha256(data).hexdigest() == known[uid]
                plain = copy / path.relative_to(studies)
                plain.parent.mkdir(parents=True, exist_ok=True)
                plain.write_bytes(data)
    return copy
