"""A machine that sleeps, and a clock that is put right meanwhile (S5, S7, S14 to S18).

Sleep is simulated by stopping the mount's process and the server: nothing moves, and when it goes on all deadlines have
passed. That connections are dead afterwards is another matter; `tests/kheops` has it.
"""

import errno
import os
import signal
import time
from pathlib import Path

from harness.figures import record
from harness.instrumented import InstrumentedMount
from harness.looking import by_uid, retrievals, until, xattr
from harness.patience import Attempt, errno_of, result_of
from harness.series import write_study
from harness.server import DemoServer

IDLE_SECONDS = 1.5
SLEEP_SECONDS = IDLE_SECONDS + 1.0
SLICES = 24
CLOCKS = (43_200.0, -43_200.0)
"""Seconds by which the mount's clock is wrong after each sleep."""


def sleep_and_wake(mount: InstrumentedMount, server: DemoServer, clock: float) -> None:
    for pid in (server.pid, mount.pid):
        os.kill(pid, signal.SIGSTOP)
    mount.set_clock(clock)
    time.sleep(SLEEP_SECONDS)
    for pid in (mount.pid, server.pid):
        os.kill(pid, signal.SIGCONT)


def test_sleeping_with_requests_in_flight_while_the_clock_is_put_right(tmp_path: Path) -> None:
    """S7, S14, S16: whoever waited gets the right bytes, ETIMEDOUT or EIO. Then everything works as before, without a
    remount: reading, news in the lists, and the death of the token, whichever way the clock was moved."""
    folder = tmp_path / "archive"
    written = [write_study(folder, series=1, instances=SLICES) for _ in CLOCKS]
    for _ in CLOCKS:
        write_study(folder, series=2, instances=1, patient="Unlisted")
    with (
        DemoServer("--data", str(folder)) as server,
        InstrumentedMount(
            server.url, server.token(), tmp_path / "home", idle_timeout=IDLE_SECONDS, list_ttl=1.0
        ) as mount,
    ):
        outcomes: list[int | None] = []
        studies = {
            uid: path for study in (mount.path / "studies").glob("*Test*") for uid, path in by_uid(study).items()
        }
        unlisted = sorted((mount.path / "studies").glob("*Unlisted*"))
        for clock, truth, study in zip(CLOCKS, written, unlisted, strict=True):
            files = {uid: studies[uid] for uid in truth}
            server.fault(kind="trickle", path="/series/[0-9.]+", bytes=20_000, seconds=0.2)
            server.fault(kind="stall", path="/series$", times=1)
            server.clear_requests()
            readers = {uid: Attempt(path.read_bytes) for uid, path in files.items()}
            listing = Attempt(lambda study=study: os.listdir(study))  # type: ignore[misc]
            until(lambda: retrievals(server))
            sleep_and_wake(mount, server, clock)
            server.clear_faults()
            for uid, reader in readers.items():
                outcomes.append(reader.errno())
                assert outcomes[-1] is not None or reader.result() == truth[uid]
            outcomes.append(listing.errno())
            for uid, path in files.items():
                until(lambda path=path: errno_of(path.read_bytes) is None)  # type: ignore[misc]
                assert path.read_bytes() == truth[uid]
            until(lambda study=study: errno_of(lambda: os.listdir(study)) is None)  # type: ignore[misc]
            assert_news_and_death_are_noticed(server, mount, path)
        assert set(outcomes) <= {None, errno.ETIMEDOUT, errno.EIO}
        assert result_of(lambda: os.listdir(mount.path / "studies"))
        assert "Traceback" not in mount.log()
    record("sleep", requests_in_flight=len(outcomes), answered_rightly=outcomes.count(None), answered_wrongly=0)


def assert_news_and_death_are_noticed(server: DemoServer, mount: InstrumentedMount, known: Path) -> None:
    """The clock says nothing about how fresh a list is that came before it was moved, nor about a token."""
    like = {"like": xattr(known, "dicom.SOPInstanceUID"), "study": "new", "sources": ["demo-user"]}
    new = server.call("POST", "/instances", json=like)["StudyInstanceUID"]
    until((mount.path / "by-uid" / new).exists)
    token = {"token": server.token()}
    server.call("POST", "/revoke", json=token)
    until(lambda: errno_of(known.read_bytes) == errno.EACCES)
    server.call("POST", "/restore", json=token)
    until(lambda: errno_of(known.read_bytes) is None)
