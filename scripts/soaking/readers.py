"""Who reads: threads that do one random operation after the other and compare what comes with the catalog.

A right answer is the right bytes or names; the only other answer is an errno out of the table (S14), and that only
while something is wrong. What a mount shows while it is being ended is compared as far as there are bytes.
"""

import errno
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.looking import xattr

from soaking.catalog import Catalog
from soaking.tally import Tally, Weather

FAILURES = {errno.EIO, errno.ETIMEDOUT, errno.EACCES, errno.ENOENT}
"""What S14 allows while something is wrong."""
ENDINGS = FAILURES | {errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EINVAL}
"""What may come of a mount that goes at that very moment."""

MAPPED = """
import hashlib, mmap, sys
try:
    with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        print(hashlib.sha256(mapped).hexdigest())
except OSError as error:
    sys.exit(error.errno)
"""
SUBPROCESS_SECONDS = 120
ERROR_PAUSE = 0.02  # seconds: what fails at once would otherwise be most of what is done


class WrongError(Exception):
    """What came is neither right nor an error."""


class Reader(threading.Thread):
    """One reader of one mount.

    Args:
        root: the mountpoint.
        catalog: what is there.
        seed: of the random choices.
    """

    def __init__(self, root: Path, catalog: Catalog, tally: Tally, weather: Weather, *, seed: str) -> None:
        super().__init__(daemon=True)
        self._root, self._catalog, self._tally, self._weather = root, catalog, tally, weather
        self._random = random.Random(seed)
        self._folders, self._files, self._links = (
            list(part) for part in (catalog.folders, catalog.files, catalog.links)
        )
        self._go_on = threading.Event()
        self._go_on.set()
        self._over = threading.Event()
        self.leaving = threading.Event()
        """Set while the mount is being ended: errors say nothing, and names are those of an empty folder."""
        self._doing: tuple[str, float] | None = None

    def run(self) -> None:
        """Read until `end`."""
        while not self._over.is_set():
            if self._go_on.wait(1):
                self._one()

    def end(self) -> None:
        """Stop after what is being done."""
        self._over.set()
        self._go_on.set()

    def pause(self) -> None:
        """Stop for a while after what is being done."""
        self._go_on.clear()

    def resume(self) -> None:
        """Go on."""
        self._go_on.set()

    def waiting(self) -> tuple[str, float] | None:
        """What it is doing, and for how many seconds."""
        doing = self._doing
        return None if doing is None else (doing[0], time.monotonic() - doing[1])

    def _one(self) -> None:
        operation = self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        place = self._random.choice(self._folders if operation is _list else self._files)
        if operation is _follow:
            place = self._random.choice(self._links)
        what = f"{operation.__name__.strip('_')} {place}"
        turns, calm = self._weather.turns(), self._weather.is_calm()
        self._doing = (what, time.monotonic())
        try:
            self._tally.right(operation(self._root / place, place, self._catalog, self._random))
        except OSError as error:
            if error.errno == self._catalog.failing.get(place):
                self._tally.right(0)
            else:
                self._judge(what, error.errno or 0, surely_calm=calm and turns == self._weather.turns())
        except WrongError as error:
            if not (self.leaving.is_set() and operation is _list):
                self._tally.mistaken(f"{what}: {error}")
        except Exception as error:  # a bug of the soak must not look like silence
            self._tally.breach(f"{what}: {error!r}")
        finally:
            self._doing = None

    def _judge(self, what: str, number: int, *, surely_calm: bool) -> None:
        leaving = self.leaving.is_set()
        if number not in (ENDINGS if leaving else FAILURES) or (surely_calm and not leaving):
            when = "while nothing was wrong" if surely_calm else "which is not in the table"
            self._tally.breach(f"{what}: {errno.errorcode.get(number, number)} {when}")
        self._tally.failed(number)
        time.sleep(ERROR_PAUSE)


# -- what a reader does: the number of bytes compared, WrongError, or OSError -----------------------------------------


def _list(path: Path, place: str, catalog: Catalog, _: random.Random) -> int:
    found = frozenset(one.name for one in path.iterdir())
    if found != catalog.folders[place]:
        missing, more = catalog.folders[place] - found, found - catalog.folders[place]
        raise WrongError(f"{len(missing)} names are missing, {len(more)} are too many")
    return 0


def _look(path: Path, place: str, catalog: Catalog, _: random.Random) -> int:
    status, data = path.stat(), catalog.files[place]
    if status.st_size < len(data or b"x"):
        raise WrongError(f"its size is {status.st_size}")
    with path.open("rb") as file:
        opened = os.fstat(file.fileno()).st_size
    if data is not None and opened != len(data):
        raise WrongError(f"its size is {opened} after open")
    return 0


def _know(path: Path, place: str, catalog: Catalog, _: random.Random) -> int:
    is_ours = "/" not in place  # README.txt, .nomedia: of no study
    if not is_ours and not xattr(path, "dicom.StudyInstanceUID"):
        raise WrongError("it has no UID")
    if xattr(path, "kheops.size") not in {"exact", "bound"}:
        raise WrongError("nothing is known of its size")
    return 0


def _follow(path: Path, place: str, catalog: Catalog, _: random.Random) -> int:
    if str(path.readlink()) != catalog.links[place] or xattr(path.resolve(), "dicom.StudyInstanceUID") != path.name:
        raise WrongError("it leads elsewhere")
    return 0


def _read(path: Path, place: str, catalog: Catalog, _: random.Random) -> int:
    data = path.read_bytes()
    _compare(data, place, catalog)
    return len(data)


def _read_here_and_there(path: Path, place: str, catalog: Catalog, choice: random.Random, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        size = os.fstat(descriptor).st_size
        known = catalog.files[place]
        data = _pread(descriptor, size, 0) if known is None else known
        compared = 0
        for _ in range(choice.randint(1, 8)):
            offset, length = choice.randint(0, size), choice.choice((1, 100, 4096, 65_537, 1_000_000))
            read = _pread(descriptor, length, offset)
            if read != data[offset : offset + length]:
                raise WrongError(f"{length} bytes from {offset} on are {len(read)} others")
            compared += len(read)
            time.sleep(choice.choice((0, 0, 0, 0.05)))
        return compared
    finally:
        os.close(descriptor)


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    """All of it up to the end. The kernel gives what it has when the rest fails, and the error to who asks again."""
    data = b""
    while len(data) < length and (more := os.pread(descriptor, length - len(data), offset + len(data))):
        data += more
    return data


def _read_direct(path: Path, place: str, catalog: Catalog, choice: random.Random) -> int:
    return _read_here_and_there(path, place, catalog, choice, os.O_DIRECT)


def _map(path: Path, place: str, catalog: Catalog, _: random.Random) -> int:
    """In a process of its own: a mapped page that cannot be had ends whoever touches it (SIGBUS)."""
    done = subprocess.run(
        [sys.executable, "-c", MAPPED, path], capture_output=True, text=True, timeout=SUBPROCESS_SECONDS, check=False
    )
    if done.returncode:
        raise OSError(errno.EIO if done.returncode < 0 else done.returncode, "in another process")
    data = catalog.files[place]
    if data is not None and done.stdout.strip() != hashlib.sha256(data).hexdigest():
        raise WrongError("its mapped bytes are others")
    return len(data or b"")


def _compare(data: bytes, place: str, catalog: Catalog) -> None:
    expected = catalog.files[place]
    if expected is not None:
        if data != expected:
            raise WrongError(f"its {len(data)} bytes are not those {len(expected)}")
    elif place.endswith(".jpg"):
        if not (data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")):
            raise WrongError("no whole JPEG")
    elif b"DICOMDIR" not in data[-200:] or b"PK\x05\x06" not in data[-200:]:
        raise WrongError("no whole zip")


Operation = Callable[[Path, str, Catalog, random.Random], int]

OPERATIONS: dict[Operation, int] = {
    _list: 20,
    _look: 15,
    _know: 10,
    _follow: 5,
    _read: 30,
    _read_here_and_there: 15,
    _read_direct: 5,
    _map: 1,
}
"""How often which comes, relative to each other."""
