"""How long a mount takes to start with many files in its cache: `python -m harness.startup 100000`.

The cache is made with the store's own code. What is measured is the command that users type, from its start to its end,
which is when the mount answers, and the opening of the store alone.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.figures import record
from harness.mounting import Mount
from harness.server import DemoServer
from kheopsfs.store import Store

STARTS = 5
INSTANCES = 500
"""Bodies of one series, whose sizes are noted together."""


def fill(cache: Path, count: int) -> None:
    """Keep so many small bodies, with their sizes."""
    with Store(cache, 2**40) as store:
        for series in range(0, count, INSTANCES):
            names = [f"{number}" for number in range(series, min(series + INSTANCES, count))]
            for name in names:
                incoming = store.bodies.incoming()
                incoming.write(os.urandom(64))
                incoming.commit(f"namespace/instance/{series}/{name}").close()
            store.ledger.record_many(f"namespace/instance/{series}", dict.fromkeys(names, 64))


def best(attempt: Callable[[], float]) -> float:
    """The seconds of the quickest of a few attempts: what disturbs one is not what is measured."""
    return min(attempt() for _ in range(STARTS))


def main() -> None:
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="kheopsfs-start-") as folder, DemoServer() as server:
        seconds: dict[str, float] = {}
        for name, bodies in (("empty", 0), ("full", count)):
            mount = Mount(server.url, server.token(), Path(folder) / name)
            fill(mount.cache, bodies)

            def start(mount: Mount = mount) -> float:
                before = time.perf_counter()
                with mount:
                    return time.perf_counter() - before

            def open_store(mount: Mount = mount) -> float:
                before = time.perf_counter()
                with Store(mount.cache, 2**40):
                    return time.perf_counter() - before

            seconds[f"{name}_seconds"] = round(best(start), 2)
            seconds[f"{name}_store_milliseconds"] = round(best(open_store) * 1000, 1)
    for what, taken in seconds.items():
        sys.stdout.write(f"{taken:8} {what}\n")
    record("start", files=count, **seconds)


if __name__ == "__main__":
    main()
