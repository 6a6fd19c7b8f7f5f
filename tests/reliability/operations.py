"""What programs do in a mount, on a study of its own, and how it ended; everything read is compared with the truth."""

import errno
import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fault_matrix import Operation
from harness.looking import only, xattr
from harness.patience import Attempt

from kheopsfs.mount.pull import files_below, pull

ENDS_WITHIN = 30.0
"""Seconds in which every call must have come back: many times the idle deadline, for the machine may be busy."""

Result = str | None
"""None: all was right. Otherwise the name of an errno, or `WRONG`."""

WRONG = "WRONG BYTES"
WELL = frozenset[Result]({None})
Results = frozenset[Result]


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


def open_whole(place: Place) -> None:
    with place.file.open("rb") as file:
        compare(file.read(), place.truth)
        forget_pages(file.fileno())  # they may have come with the opening; now the mount is asked for them
        file.seek(0)
        compare(file.read(), place.truth)


def _read_on(place: Place) -> None:
    assert place.handle is not None
    forget_pages(place.handle)
    compare(os.pread(place.handle, 2 * len(place.truth), 0), place.truth)


def _thumbnail(place: Place) -> None:
    of = (place.root / "thumbnails" / place.folder.relative_to(place.root) / place.file.name).with_suffix(".jpg")
    compare(of.read_bytes(), place.picture)


def _zip(place: Place) -> None:
    data = (place.root / "zip" / "inbox" / f"{place.study}.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        held = sorted(archive.read(name) for name in archive.namelist() if name != "DICOMDIR")
    if held != sorted(place.written.values()):
        raise WrongBytesError


def _pull(place: Place) -> None:
    """Raises what the folder or some of its files failed with; those that are here are read."""
    files, unlisted = files_below([place.folder])
    pulled = list(pull(files))
    for one in pulled:
        if one.error is None:
            compare(one.path.read_bytes(), place.written[place.names[one.path.name]])
    failures = [one.error for one in pulled if one.error is not None] + list(unlisted.values())
    if failures:
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
    Operation.OPEN: open_whole,
    Operation.READ: _read_on,
    Operation.THUMBNAIL: _thumbnail,
    Operation.ZIP: _zip,
    Operation.PULL: _pull,
}


def compare(data: bytes, truth: bytes) -> None:
    if data != truth:
        raise WrongBytesError


def forget_pages(descriptor: int) -> None:
    """Have the kernel ask the mount again."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def results_of(attempt: Attempt[None]) -> Results:
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
