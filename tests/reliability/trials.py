"""Trying the cells of the fault matrix on real mounts.

Model: a *ward* is an archive on a server and one mount of it. Every trial takes studies that nobody has looked at, one
for each operation, and one row of the matrix is tried at once: prepare (what must be known before, such as the name of
the file to open), switch the fault on, do everything side by side, compare with the table, switch it off, and do
everything again. Whatever is read at any time is compared with the server's own bytes.
"""

import errno
import io
import json
import os
import re
import statistics
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fault_matrix import MIDDLE, MIDDLE_OF, Fault, Operation, Outcome, Scope, Way
from harness.looking import only, until, xattr
from harness.mounting import Mount
from harness.patience import Attempt
from harness.server import DemoServer

from kheopsfs.errors import MountpointError
from kheopsfs.mount.pull import files_below, pull

IDLE = "2"
"""Seconds without a byte after which the mounts give a request up."""

ENDS_WITHIN = 30.0
"""Seconds in which every call must have come back: many times the idle deadline, for the machine may be busy."""

PROMPT = 2.0
"""Seconds for what is cached, whatever the server does; it takes milliseconds."""

COOL = 20.0
"""Seconds in which a mount must have noticed that the server is well again."""

LOOK_PAUSE = 0.05
"""Seconds between looks at what is cached, while the cells are tried."""

SLICES = 3
"""Instances of a series that is long enough to come in one request."""

Result = str | None
"""None: all was right. Otherwise the name of an errno, or `WRONG`."""

WRONG = "WRONG BYTES"
WELL: frozenset[Result] = frozenset({None})


class WrongBytesError(Exception):
    """Something was read that is not what the server holds."""


@dataclass
class Place:
    """One study, for one operation."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    root: Path
    study: str
    written: dict[str, bytes]
    names: dict[str, str] = field(default_factory=dict)
    series: str = ""
    handle: int | None = None
    picture: bytes = b""

    @property
    def unseen(self) -> Path:
        """The study in a folder of which nobody has looked at more than its name."""
        return self.root / "studies" / self.study

    @property
    def folder(self) -> Path:
        """The series in the folder in which it was listed."""
        return self.root / "inbox" / self.study / self.series

    @property
    def file(self) -> Path:
        """One of its files."""
        return self.folder / min(self.names)

    @property
    def truth(self) -> bytes:
        """The bytes of `file`."""
        return self.written[self.names[self.file.name]]

    def list_it(self) -> None:
        """Learn the names of all in it."""
        self.series = only(list((self.root / "inbox" / self.study).iterdir())).name
        self.names = {path.name: xattr(path, "dicom.SOPInstanceUID") for path in self.folder.iterdir()}


def _list(place: Place) -> None:
    if os.listdir(place.unseen) != [place.series]:
        raise WrongBytesError


def _stat(place: Place) -> None:
    if (place.unseen / place.series / place.file.name).stat().st_size < len(place.truth):
        raise WrongBytesError


def _open(place: Place) -> None:
    with place.file.open("rb") as file:
        _compare(file.read(), place.truth)
        forget_pages(file.fileno())  # they may have come with the opening; now the mount is asked for them
        file.seek(0)
        _compare(file.read(), place.truth)


def _read_on(place: Place) -> None:
    assert place.handle is not None
    forget_pages(place.handle)
    _compare(os.pread(place.handle, 2 * len(place.truth), 0), place.truth)


def _thumbnail(place: Place) -> None:
    of = (place.root / "thumbnails" / place.folder.relative_to(place.root) / place.file.name).with_suffix(".jpg")
    _compare(of.read_bytes(), place.picture)


def _zip(place: Place) -> None:
    data = (place.root / "zip" / "inbox" / f"{place.study}.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        held = sorted(archive.read(name) for name in archive.namelist() if name != "DICOMDIR")
    if held != sorted(place.written.values()):
        raise WrongBytesError


def _pull(place: Place) -> None:
    """Raises what the folder, or some of its files, failed with; those that are here are read."""
    try:
        pulled = list(pull(files_below([place.folder])))
    except MountpointError as error:
        raise error.__cause__ or error from None
    for one in pulled:
        if one.error is None:
            _compare(one.path.read_bytes(), place.written[place.names[one.path.name]])
    if failures := [one.error for one in pulled if one.error is not None]:
        raise _PartlyError(failures, whole=len(failures) < len(pulled))


class _PartlyError(Exception):
    """Some files were not to be had; `whole`: others were."""

    def __init__(self, failures: list[OSError], *, whole: bool) -> None:
        super().__init__(failures)
        self.failures = failures
        self.whole = whole


PERFORM: dict[Operation, Callable[[Place], None]] = {
    Operation.LIST: _list,
    Operation.STAT: _stat,
    Operation.OPEN: _open,
    Operation.READ: _read_on,
    Operation.THUMBNAIL: _thumbnail,
    Operation.ZIP: _zip,
    Operation.PULL: _pull,
}


def _compare(data: bytes, truth: bytes) -> None:
    if data != truth:
        raise WrongBytesError


def forget_pages(descriptor: int) -> None:
    """Have the kernel ask the mount again."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def results_of(attempt: Attempt[None]) -> frozenset[Result]:
    """How an operation ended, for each of its files; fails if it did not end."""
    try:
        attempt.result(ENDS_WITHIN)
    except WrongBytesError:
        return frozenset({WRONG})
    except _PartlyError as error:
        return frozenset(map(_name, error.failures)) | ({None} if error.whole else frozenset())
    except OSError as error:
        return frozenset({_name(error)})
    return WELL


def _name(error: OSError) -> str:
    return errno.errorcode[error.errno or 0]


class Ward:
    """An archive and a mount of it; `known` is a file that was read before anything failed."""

    def __init__(self, server: DemoServer, mount: Mount, written: dict[str, bytes], client: httpx.Client) -> None:
        self.server = server
        self.mount = mount
        self._client = client
        self._token = mount.token_file.read_text()
        books = {study["StudyInstanceUID"]: study["series"][0] for study in server.call("GET", "/library")}
        self._unused: dict[int, list[Place]] = {}
        for path in sorted((mount.path / "inbox").iterdir()):
            uid = xattr(path, "dicom.StudyInstanceUID")
            instances = [one["SOPInstanceUID"] for one in books[uid]["instances"]]
            place = Place(
                uid, books[uid]["SeriesInstanceUID"], mount.path, path.name, {one: written[one] for one in instances}
            )
            self._unused.setdefault(len(instances), []).append(place)
        os.listdir(mount.path / "studies")
        os.listdir(mount.path / "zip" / "inbox")
        self.known = self.take(Operation.OPEN)
        self.cells = 0
        self.wrong = 0
        self.prompt: list[float] = []
        self.read_known()

    def take(self, operation: Operation) -> Place:
        """A study that nobody has looked at, ready for an operation."""
        place = self._unused[SLICES if operation is Operation.PULL else 1].pop()
        place.list_it()
        if operation is Operation.READ:
            place.handle = os.open(place.file, os.O_RDONLY)
        elif operation is Operation.THUMBNAIL:
            os.listdir(place.root / "thumbnails" / place.folder.relative_to(place.root))
            place.picture = self._picture(place)
        return place

    def _picture(self, place: Place) -> bytes:
        """What the server itself renders."""
        query: dict[str, str | int] = {
            "requestType": "WADO",
            "studyUID": place.StudyInstanceUID,
            "seriesUID": place.SeriesInstanceUID,
            "objectUID": only(list(place.written)),
            "contentType": "image/jpeg",
            "rows": 250,
            "columns": 250,
            "frameNumber": 1,
        }
        return self._ask("/api/wado", query).content

    def series_list(self, place: Place) -> Any:
        """What the server itself says of a study's series."""
        return self._ask(f"/api/studies/{place.StudyInstanceUID}/series", {"inbox": "true"}).json()

    def _ask(self, path: str, query: dict[str, Any]) -> httpx.Response:
        url = f"{self.server.url.removesuffix('/')}{path}"
        answer = self._client.get(url, params=query, headers={"Authorization": f"Bearer {self._token}"})
        return answer.raise_for_status()

    def perform(self, cells: "Sequence[Cell]") -> dict[str, frozenset[Result]]:
        """Do all at once; how each ended."""
        attempts = {cell.name: Attempt(cell.perform) for cell in cells}
        results = {name: results_of(attempt) for name, attempt in attempts.items()}
        self.wrong += sum(WRONG in result for result in results.values())
        return results

    def read_known(self) -> None:
        """What is cached is there, at once and as it was."""
        began = time.monotonic()
        with self.known.file.open("rb") as file:
            forget_pages(file.fileno())
            _compare(file.read(), self.known.truth)
        self.prompt.append(time.monotonic() - began)

    def revoke(self) -> None:
        """Let the token of the mount die."""
        self.server.call("POST", "/revoke", json={"token": self._token})

    def allow(self) -> None:
        """Let it live again, and switch off whatever kills it."""
        self.server.clear_faults()
        self.server.call("POST", "/restore", json={"token": self._token})

    def median_prompt_ms(self) -> float:
        return round(1000 * statistics.median(self.prompt), 1)


@dataclass
class Cell:
    """One operation on a study of its own, under one of the ways in which the fault of its row happens."""

    name: str
    operation: Operation
    place: Place
    way: Way

    def perform(self) -> None:
        """Raises OSError, or WrongBytesError."""
        PERFORM[self.operation](self.place)


def cells_of(ward: Ward, fault: Fault) -> list[Cell]:
    """All cells of a row, ready to be tried."""
    return [
        Cell(f"{fault.name}{number or ''}-{operation.name.lower()}", operation, ward.take(operation), way)
        for number, way in enumerate(fault.ways or ((),))
        for operation in Operation
    ]


def try_row(
    ward: Ward, fault: Fault, on: Callable[[list[Cell]], None], off: Callable[[], None], *, known_works: bool = True
) -> None:
    """Try all cells of a row.

    Args:
        ward: where.
        fault: the row.
        on: switches the fault on for these cells.
        off: switches it off.
        known_works: what is cached can be read all the while.
    """
    cells = cells_of(ward, fault)
    healthy = ward.take(Operation.OPEN) if fault.scope is not Scope.SERVER else None
    on(cells)
    try:
        everything = Attempt(lambda: ward.perform(cells))
        # So many silent requests to so many studies hold all turns of the gate; then the others wait for them.
        turns_are_held = fault.row[Operation.LIST] is Outcome.ETIMEDOUT
        other = Attempt(lambda: _open(healthy)) if healthy is not None and not turns_are_held else None
        while known_works and not everything.is_over:
            Attempt(ward.read_known).result(PROMPT)
            time.sleep(LOOK_PAUSE)
        if healthy is not None:
            assert results_of(other or Attempt(lambda: _open(healthy))) == WELL, "another study"
        results = everything.result(len(cells) * ENDS_WITHIN)
        ward.cells += len(results)
        assert not (unexpected := _unexpected(fault, cells, results)), unexpected
        for cell in cells:
            if cell.operation is Operation.OPEN and results[cell.name] & {"EIO", "ETIMEDOUT"}:
                assert xattr(cell.place.file, "kheops.cached") == "no"
    finally:
        off()
    if fault.scope is Scope.SERVER:
        until(lambda: not _failing(ward, cells), seconds=COOL)
    assert not (failing := _failing(ward, cells)), f"the fault is over, and yet: {failing}"
    for cell in cells:
        if cell.place.handle is not None:
            os.close(cell.place.handle)


def _unexpected(fault: Fault, cells: list[Cell], results: dict[str, frozenset[Result]]) -> dict[str, str]:
    return {
        cell.name: f"{_shown(results[cell.name])} instead of {fault.row[cell.operation].shown}"
        for cell in cells
        if not results[cell.name] <= fault.row[cell.operation].allowed
    }


def _failing(ward: Ward, cells: list[Cell]) -> dict[str, str]:
    return {name: _shown(result) for name, result in ward.perform(cells).items() if result != WELL}


def _shown(results: frozenset[Result]) -> str:
    return ", ".join(sorted(result or "works" for result in results))


def strike(ward: Ward, fault: Fault) -> Callable[[list[Cell]], None]:
    """What switches a fault of the demo server on."""

    def on(cells: list[Cell]) -> None:
        documents = [_document(ward, fault, cell, one) for cell in cells for one in cell.way]
        ward.server.call("POST", "/faults", json=documents)

    return on


_BELOW = {
    Scope.STUDY: "(?![0-9.])",
    Scope.SERVER: "(?![0-9.])",
    Scope.LISTS: r"/series(/[0-9.]+/(instances|metadata))?(\?|$)",
    Scope.SERIES_LIST: r"/series(\?|$)",
    Scope.BODIES: r"/series/[0-9.]+(/instances/[0-9.]+)?(\?|$)",
}


def _document(ward: Ward, fault: Fault, cell: Cell, one: dict[str, Any]) -> dict[str, Any]:
    document = one | {"path": re.escape(cell.place.StudyInstanceUID) + _BELOW[fault.scope]}
    if document.get("byte") == MIDDLE:
        document["byte"] = MIDDLE_OF[cell.operation]
    if (elements := document.pop("rows", None)) is not None:
        document["text"] = json.dumps([row | elements for row in ward.series_list(cell.place)])
    return document
