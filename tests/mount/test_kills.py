"""kill -9 of a mount, at every step of keeping something and at random moments (S7, S11, S18, S20)."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.figures import record
from harness.forked import ForkedMount, Starter
from harness.kills import FAULTS, kill_often
from harness.looking import by_uid, retrievals
from harness.patience import PATIENCE, Attempt
from harness.series import write_study
from harness.server import DemoServer

KILLS = 12
LEAST_KILLS = 10
SLICES = 120
SERIES = 40
"""Each has one instance that no mount has opened yet; more than there are steps."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("archive")
    return folder, write_study(folder, series=SERIES, instances=1)


@pytest.fixture(scope="module")
def server(archive: tuple[Path, dict[str, bytes]]) -> Iterator[DemoServer]:
    with DemoServer("--data", str(archive[0])) as demo:
        yield demo


def read(path: Path) -> bytes:
    return path.read_bytes()


def list_it(path: Path) -> bytes:
    return "\n".join(os.listdir(path.parent)).encode()


@pytest.mark.parametrize(
    ("what", "work", "list_ttl", "stride"),
    # A look into a folder keeps the lists above it, too, so every second step shows each step of one.
    [("a_body", read, 3600.0, 1), ("a_listing", list_it, 0.0, 2)],
    ids=["a body and its size", "a listing"],
)
def test_killed_at_every_step_of_keeping(
    starter: Starter,
    server: DemoServer,
    archive: tuple[Path, dict[str, bytes]],
    tmp_path: Path,
    what: str,
    work: Callable[[Path], bytes],
    list_ttl: float,
    stride: int,
) -> None:
    """S7, S11, S20: before each call of the operating system or of SQLite with which a body, its row, its size or a
    listing is kept: the next mount comes up, shows the right bytes, and has what an earlier one kept."""

    def mounted() -> ForkedMount:
        return ForkedMount(starter, server.url, server.token(), tmp_path, list_ttl=list_ttl)

    def check_kept(paths: list[Path]) -> None:
        server.clear_requests()
        for path in paths:
            assert path.stat().st_size == len(right[path]), step
            assert path.read_bytes() == right[path], step
        assert retrievals(server) == [], step

    with mounted() as mount:
        right = {path: archive[1][uid] for uid, path in by_uid(mount.path / "studies").items()}
    untouched = iter(right)
    kept: list[Path] = []
    step, kills, finished = 1, 0, False
    while not finished:
        path = next(untouched)
        with mounted() as mount:
            check_kept(kept[-2:])
            mount.die_at(step)
            attempt = Attempt(lambda path=path: work(path))  # type: ignore[misc]
            if finished := attempt.errno() is None:
                assert attempt.result() in {right[path], path.name.encode()}
                assert mount.is_running
            else:
                mount.kill()
                kills += 1
        with mounted() as mount:
            assert os.listdir(path.parent) == [path.name], step
            assert path.read_bytes() == right[path], step
            assert "Traceback" not in mount.log()
        kept.append(path)
        step += stride
    with mounted():
        check_kept(kept)
    assert kills > LEAST_KILLS
    record("kills", **{f"steps_of_{what}": kills})


def test_a_mount_never_waits_for_itself(starter: Starter, tmp_path: Path) -> None:
    """S18: a process that is killed while one of its threads waits for its own mount can never end, nor can the mount.
    Stopped at each of many files while they arrive, no thread of it is caught at that."""
    with (
        DemoServer("--synthetic", f"slices={SLICES}") as server,
        ForkedMount(starter, server.url, server.token(), tmp_path) as mount,
    ):
        paths = list(by_uid(mount.path / "studies").values())
        turn, done = threading.Semaphore(0), threading.Semaphore(0)

        def read_in_turn() -> None:
            for path in paths:
                turn.acquire()
                path.read_bytes()
                done.release()

        reading = Attempt(read_in_turn)
        for _ in range(SLICES):
            turn.release()
            os.kill(mount.pid, signal.SIGSTOP)
            try:
                waiting = [(thread / "wchan").read_text() for thread in Path(f"/proc/{mount.pid}/task").iterdir()]
            finally:
                os.kill(mount.pid, signal.SIGCONT)
            assert not [what for what in waiting if "request_wait_answer" in what]
            assert done.acquire(timeout=PATIENCE)
        reading.result()


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """S7, S11, S18, S20: under load; no wrong byte, and what was opened once needs no request after the next mount."""
    counts = kill_often(KILLS, tmp_path, seed=1)
    assert {fault: counts[fault] for fault in FAULTS} == dict.fromkeys(FAULTS, 0), counts
    assert counts["kills"] == KILLS
    assert counts["found_again"] > KILLS
    assert counts["interrupted"] > KILLS
