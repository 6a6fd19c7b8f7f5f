"""Large instances are read while they arrive (S7): never a wrong byte, never a short file, nothing fetched twice."""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.looking import only, retrievals, until, xattr
from harness.mounting import Mount, NewMount
from harness.patience import Attempt, errno_of, result_of
from harness.server import DemoServer

MIB = 1024**2
SIZE = 48 * MIB
"""Of the multi-frame instance: above what is shown only when it is whole."""
MIDDLE = 40 * MIB
IDLE = "3"


@pytest.fixture(scope="module")
def archive() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", f"multiframe={SIZE // MIB}M") as server:
        yield server


@pytest.fixture
def server(archive: DemoServer) -> Iterator[DemoServer]:
    archive.clear_requests()
    yield archive
    archive.clear_faults()


def truth(server: DemoServer) -> dict[str, Any]:
    (study,) = server.call("GET", "/library", params={"sha256": "1"})
    instance: dict[str, Any] = study["series"][0]["instances"][0]
    return instance


def instance_of(mount: Mount) -> Path:
    return only(list((mount.path / "studies").glob("*/*/*.dcm")))


def bodies(mount: Mount) -> list[Path]:
    return [path for path in (mount.cache / "bodies" / "files").iterdir() if path.is_file()]


def seen_once(server: DemoServer, new_mount: NewMount) -> Mount:
    """A new mount whose ledger knows the size of the instance, and whose cache has lost it."""
    mount = new_mount(server, idle_timeout=IDLE)
    file = instance_of(mount)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == truth(server)["sha256"]
    assert mount.command("umount", str(mount.path)).returncode == 0
    for body in bodies(mount):
        body.unlink()
    server.clear_requests()
    again = new_mount(server, home=mount.home, idle_timeout=IDLE)
    assert xattr(instance_of(again), "kheops.size") == "exact"
    return again


def the_server_states_it(server: DemoServer, new_mount: NewMount) -> Mount:
    """A new mount of a server that states the length of each part."""
    server.fault(kind="part_length", path="/instances/")
    return new_mount(server, idle_timeout=IDLE)


KNOWN = pytest.mark.parametrize("known", [seen_once, the_server_states_it])


@KNOWN
def test_what_has_arrived_is_read_while_the_rest_is_silent(server: DemoServer, new_mount: NewMount, known: Any) -> None:
    """S7, S11, S16: `open` does not wait for the end, `fstat` is exact, the end that never comes is ETIMEDOUT."""
    mount = known(server, new_mount)
    path, expected = instance_of(mount), truth(server)
    server.fault(kind="stall", path="/instances/[0-9.]+$", byte=MIDDLE)
    with result_of(lambda: path.open("rb", buffering=0)) as file:
        assert os.fstat(file.fileno()).st_size == expected["size"]
        begin = result_of(lambda: os.pread(file.fileno(), 4 * MIB, 0))
        middle = result_of(lambda: os.pread(file.fileno(), MIB, 30 * MIB))
        assert begin[128:132] == b"DICM"
        assert errno_of(lambda: os.pread(file.fileno(), 10, expected["size"] - 10)) == errno.ETIMEDOUT
    assert xattr(path, "kheops.cached") == "no"
    server.clear_faults()
    whole = result_of(path.read_bytes)
    assert hashlib.sha256(whole).hexdigest() == expected["sha256"]
    assert whole[: 4 * MIB] == begin
    assert whole[30 * MIB : 31 * MIB] == middle
    assert xattr(path, "kheops.cached") == "yes"


@KNOWN
@pytest.mark.parametrize("fault", [{"kind": "cut"}, {"kind": "reset"}], ids=["cut", "reset"])
def test_a_cut_is_mended_behind_a_reader_who_has_seen_the_beginning(
    server: DemoServer, new_mount: NewMount, known: Any, fault: dict[str, Any]
) -> None:
    """S7: it is asked for once more, compared with what was shown, and read to its end."""
    mount = known(server, new_mount)
    path, expected = instance_of(mount), truth(server)
    server.fault(kind="stall", path="/instances/[0-9.]+$", byte=MIDDLE // 2, times=1)
    server.fault(path="/instances/[0-9.]+$", byte=MIDDLE, times=1, **fault)
    with path.open("rb", buffering=0) as file:
        begin = os.pread(file.fileno(), MIB, 0)
        reader = Attempt(path.read_bytes)
        server.clear_faults()  # the stall ends; what strikes this request later still strikes
        assert hashlib.sha256(reader.result()).hexdigest() == expected["sha256"]
        assert os.pread(file.fileno(), MIB, 0) == begin
    assert [entry["status"] for entry in retrievals(server)] == [200, 200]


def test_a_size_that_is_no_longer_true_is_an_error_at_the_end_not_a_short_file(
    server: DemoServer, new_mount: NewMount
) -> None:
    """S7, S11: the object was edited since it was seen: whoever reads it to the end gets EIO, then the new file."""
    mount = seen_once(server, new_mount)
    assert mount.command("umount", str(mount.path)).returncode == 0
    pretend_it_was_seen_shorter(mount, by=3 * MIB)
    mount = new_mount(server, home=mount.home, idle_timeout=IDLE)
    path, expected = instance_of(mount), truth(server)
    assert path.stat().st_size == expected["size"] - 3 * MIB
    assert errno_of(path.read_bytes) == errno.EIO
    until(lambda: path.stat().st_size == expected["size"])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["sha256"]
    assert len(retrievals(server)) == 1


def pretend_it_was_seen_shorter(mount: Mount, *, by: int) -> None:
    from kheopsfs.store.ledger import Ledger

    with closing(sqlite3.connect(mount.cache / "ledger" / "ledger.db")) as database:
        ((group, name, size),) = database.execute("SELECT collection, name, size FROM Sizes").fetchall()
    ledger = Ledger(mount.cache / "ledger")
    ledger.record(group, name, size - by)
    ledger.close()


def test_whoever_looks_at_the_head_and_comes_back_joins_the_same_retrieval(
    server: DemoServer, new_mount: NewMount
) -> None:
    """S7: programs open, look, close and open again; nothing is downloaded twice."""
    mount = the_server_states_it(server, new_mount)
    path, expected = instance_of(mount), truth(server)
    server.fault(kind="stall", path="/instances/[0-9.]+$", byte=MIDDLE)
    for _ in range(3):
        with path.open("rb", buffering=0) as file:
            assert len(os.pread(file.fileno(), 1024, 0)) == 1024
    server.clear_faults()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["sha256"]
    assert len(retrievals(server)) == 1


def test_pull_of_a_large_instance_waits_for_its_end(server: DemoServer, new_mount: NewMount) -> None:
    """S11: `kheopsfs pull` has it whole in the cache when it returns."""
    mount = the_server_states_it(server, new_mount)
    path = instance_of(mount)
    assert mount.command("pull", "-q", str(path)).returncode == 0
    assert xattr(path, "kheops.cached") == "yes"
