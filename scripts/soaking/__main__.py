"""The soak in one go; see docs/reliability.md.

A quarter of the time, sequences of random events run against a model (`harness.events`). For the rest, readers work on
one mount all the time and on others that come and go, all on one small cache, through storms and calms in turn: in a
storm faults of every kind strike and the token dies now and then; in a calm nothing may fail. At the end of each calm
everybody stops, and what the first mount's process holds is looked at.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import figures
from harness.events import Events, Stage
from harness.instrumented import InstrumentedMount
from harness.looking import until
from harness.patience import errno_of
from harness.server import DemoServer
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from soaking import catalog, health
from soaking.faults import any_fault
from soaking.readers import Reader
from soaking.tally import Tally, Weather
from soaking.visitors import Visitor

DEFAULT_MINUTES = 3.0
EVENTS_SHARE = 0.25
STORM_SECONDS, CALM_SECONDS = 12.0, 8.0
RECOVERY_SECONDS = 60.0  # from the end of the last fault until nothing fails any more
UNANSWERED_SECONDS = 90.0  # an operation that takes longer is a hang; the longest has several deadlines in a row
READERS, VISITORS = 5, 2
SETTINGS: dict[str, Any] = {
    "list_ttl": 1.0,
    "cache_size": 6 * 1024**2,  # a third of what there is
    "idle_timeout": 2.0,
    "read_along": 200_000,  # bytes; seven of the samples are as large as that
    "log_level": "info",
}
SUB = "demo-ada"
RELIABILITY = Path(__file__).resolve().parents[2] / "docs" / "reliability.json"


class Soak:
    """One server, one mount that stays, others that come and go, and everybody who reads."""

    def __init__(self, folder: Path, seed: str, stack: ExitStack) -> None:
        self.tally, self.weather = Tally(), Weather()
        self.samples: list[health.Sample] = []
        self._random = random.Random(seed)
        self._server = stack.enter_context(DemoServer())
        self._token = self._server.token("user", "Ada")
        self._mount = stack.enter_context(InstrumentedMount(self._server.url, self._token, folder, **SETTINGS))
        self._catalog = catalog.take(self._server, self._token, SUB, self._mount)
        self.samples.append(health.look(self._mount))
        shared = (self._catalog, self.tally, self.weather)
        self._readers = [Reader(self._mount.path, *shared, seed=f"{seed} {number}") for number in range(READERS)]
        self._visitors = [
            Visitor(self._server, self._mount, *shared, seed=f"{seed} visit-{number}") for number in range(VISITORS)
        ]

    def run(self, seconds: float) -> None:
        """Storms and calms for so long."""
        end = time.monotonic() + seconds
        for thread in (*self._readers, *self._visitors):
            thread.start()
        while time.monotonic() < end and not self.tally.broken:
            self._storm()
            self._calm()
            self._look()
        for thread in (*self._readers, *self._visitors):
            thread.end()
        for thread in (*self._readers, *self._visitors):
            thread.join(UNANSWERED_SECONDS)
        for growth in health.growths(self.samples, len(self._catalog) + 1):
            self.tally.breach(growth)
        if any(
            "a bug in kheopsfs" in log for log in (self._mount.log(), *(visitor.log() for visitor in self._visitors))
        ):
            self.tally.breach("a log tells of a bug")

    def _storm(self) -> None:
        self.weather.turn(calm=False)
        end = time.monotonic() + STORM_SECONDS
        while time.monotonic() < end:
            for fault in (any_fault(self._random) for _ in range(self._random.randint(1, 4))):
                self._server.fault(**fault)
                self.tally.event(f"fault: {fault['kind']}")
            self._wait(self._random.uniform(0.2, 1.5))
            if self._random.random() < 0.3:
                self._server.clear_faults()
            if self._random.random() < 0.15:
                self._server.call("POST", "/revoke", json={"token": self._token})
                self.tally.event("token revoked")
                self._wait(self._random.uniform(0.2, 2))
            self._server.call("POST", "/restore", json={"token": self._token})
            if self._random.random() < 0.1:
                self._server_sleeps(self._random.uniform(0.5, 5))

    def _server_sleeps(self, seconds: float) -> None:
        """Connections are taken, and nobody answers."""
        os.kill(self._server.pid, signal.SIGSTOP)
        try:
            self.tally.event("server asleep")
            self._wait(seconds)
        finally:
            os.kill(self._server.pid, signal.SIGCONT)

    def _calm(self) -> None:
        self._server.clear_faults()
        self._server.call("POST", "/restore", json={"token": self._token})
        begun = time.monotonic()
        studies = self._mount.path / "studies"
        try:
            until(lambda: errno_of(lambda: list(studies.iterdir())) is None, seconds=RECOVERY_SECONDS)
            self._wait(4)  # what began in the storm fails now or never: every deadline is half as long
            until(lambda: errno_of(lambda: list(studies.iterdir())) is None, seconds=RECOVERY_SECONDS)
        except AssertionError:
            self.tally.breach(f"the mount did not recover within {time.monotonic() - begun:.0f} seconds")
        self.weather.turn(calm=True)
        self._wait(CALM_SECONDS)

    def _look(self) -> None:
        for reader in self._readers:
            reader.pause()
        try:
            until(lambda: not any(reader.waiting() for reader in self._readers), seconds=UNANSWERED_SECONDS)
            self.samples.append(health.look(self._mount))
            print(f"{time.strftime('%H:%M:%S')} {self.tally.operations} operations; {self.samples[-1]}", flush=True)
        except AssertionError as error:
            self.tally.breach(f"while nobody reads: {error}")
        for reader in self._readers:
            reader.resume()

    def _wait(self, seconds: float) -> None:
        """Wait, and see that nobody waits for ever."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 1))
            for reader in self._readers + [reader for visitor in self._visitors for reader in visitor.readers]:
                waiting = reader.waiting()
                if waiting is not None and waiting[1] > UNANSWERED_SECONDS:
                    self.tally.event("unanswered")
                    self.tally.breach(f"no answer: {waiting[0]}\n{self._mount.stacks()}")
                    return


def main() -> int:
    """Soak for as long as was asked for; 1 if something was not as it must be."""
    options = _options()
    seconds = options.hours * 3600 if options.hours else options.minutes * 60
    seed = options.seed or str(random.SystemRandom().randrange(10**6))
    print(f"seed {seed}", flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="kheopsfs-soak-"))
    begun = time.monotonic()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        sequences = _events(scratch / "events", seconds * EVENTS_SHARE)
        soak = Soak(scratch / "readers", seed, stack)
        soak.run(seconds * (1 - EVENTS_SHARE))
    hours = (time.monotonic() - begun) / 3600
    _report(soak, hours, sequences)
    if options.write:
        _write(soak, hours, sequences)
    return 1 if soak.tally.broken else 0


def _events(folder: Path, seconds: float) -> int:
    """Sequences of random events for so long; how many.

    Raises:
        AssertionError, OSError: a mount showed something else than the model, with the sequence that led there.
    """
    sequences = 0
    end = time.monotonic() + seconds
    few = settings(
        max_examples=5,
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with Stage(folder) as stage:
        while time.monotonic() < end:
            run_state_machine_as_test(lambda: Events(stage), settings=few)  # type: ignore[no-untyped-call]
            sequences += few.max_examples
    return sequences


def _report(soak: Soak, hours: float, sequences: int) -> None:
    tally = soak.tally
    print(f"\n{hours:.2f} hours, {sequences} sequences of events")
    print(f"{tally.operations} operations, {tally.bytes / 1e9:.2f} GB compared, {tally.wrong} answers wrong")
    for what, counts in (("errors", tally.errors), ("events", tally.events)):
        print(f"{what}:", ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none")
    print(f"longest end of a mount: {tally.slowest_end:.1f} s")
    warm = soak.samples[max(1, len(soak.samples) // health.WARM_SHARE) - 1]
    for when, sample in (("at the start", soak.samples[0]), ("warm", warm), ("at the end", soak.samples[-1])):
        print(f"{when}: {sample}")
    print(f"broken rules: {len(tally.broken)}")


def _write(soak: Soak, hours: float, sequences: int) -> None:
    tally, first, last = soak.tally, soak.samples[0], soak.samples[-1]
    os.environ[figures.VARIABLE] = str(RELIABILITY)
    figures.record(
        "soak",
        hours=round(hours, 2),
        sequences=sequences,
        operations=tally.operations,
        gigabytes=round(tally.bytes / 1e9, 2),
        wrong_bytes=tally.wrong,
        unanswered=tally.events["unanswered"],
        mounts=tally.events["mounts"],
        mounts_killed=tally.events["ended by SIGKILL"],
        faults=sum(count for name, count in tally.events.items() if name.startswith("fault: ")),
        errors=sum(tally.errors.values()),
        megabytes_at_start=round(first.megabytes),
        megabytes_at_end=round(last.megabytes),
        broken_rules=len(tally.broken),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Let readers loose while everything goes wrong.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help="how long (3)")
    length.add_argument("--hours", type=float, help="how long")
    parser.add_argument("--seed", help="of the random choices of the readers and faults; what is printed at the start")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/reliability.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
