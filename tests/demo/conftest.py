import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from demo_client import Demo


@pytest.fixture(scope="session")
def shared_demo() -> Iterator[Demo]:
    """One server for all tests that change nothing, and for those that put everything back."""
    with Demo() as demo:
        yield demo


@pytest.fixture
def demo(shared_demo: Demo) -> Iterator[Demo]:
    """The shared server: without faults, with an empty log and the behaviour it had."""
    behaviour = shared_demo.control("GET", "/behaviour")
    yield shared_demo
    shared_demo.control("DELETE", "/faults")
    shared_demo.control("DELETE", "/requests")
    shared_demo.control("POST", "/behaviour", behaviour)
    shared_demo.http.cookies.clear()


@pytest.fixture
def own_demo() -> Iterator[Demo]:
    """A server of its own, for tests that change its world."""
    with Demo() as demo:
        yield demo
