"""Whether a finished body is whole, for those that no multipart boundary proves: JPEG and zip.

A Kheops server that fails in the middle of a body ends it in the ordinary way (the Kheops contract, "Truncation can
look complete"): the transport's end says nothing, so the structure must.

* A JPEG is whole if it begins with SOI and ends with EOI (ISO 10918-1 B.1.1.3), nothing before and nothing behind.
* A zip that the server could not finish is still a *valid* zip, with a last file that may be cut and a matching CRC. It
  is whole only if DICOMDIR is its last entry, every entry reads back with its CRC, and the number of instances agrees
  with the live count of the source's series. More instances than counted are no better than fewer: either the lists
  are old or the zip is not of that source. Its DICOMDIR, which the server makes from what it delivers, must name the
  study and none but the source's series.

These checks read memory and local files; they block, and a zip takes as long as reading it. That holds for a hostile
one too: Kheops stores without compressing, so what claims to unpack to many times its size is refused before it is
unpacked, and so is a directory that would fill the memory.
"""

import errno
import io
import os
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread

from kheopsfs.errors import BadAnswerError

# Bytes of a zip's directory: 600 000 entries. They take ten times as much in memory.
_DIRECTORY_LIMIT = 64 * 1024 * 1024

# Times its own size to which a zip may unpack.
_MOST_UNPACKED = 16

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"

# Bytes. A record takes a few hundred, and there is one for each instance.
DICOMDIR_LIMIT = 256 * 1024 * 1024

# What zipfile lets through for bytes that are no zip, or one of a kind that Kheops never makes (encrypted, exotic).
_UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def check_jpeg(data: bytes) -> None:
    """Accept a whole JPEG.

    Raises:
        BadAnswerError: it is none, or it is cut.
    """
    if not data.startswith(_SOI):
        raise BadAnswerError("The server's answer is not a JPEG image.")
    if not data.endswith(_EOI):
        raise BadAnswerError("The server's JPEG image was cut short.")


def check_zip(file: Path | BinaryIO, expected_instances: int | None) -> int:
    """Accept a whole DICOM zip of a study, and count its instances.

    Args:
        file: a finished file, by path or open for reading (seekable).
        expected_instances: the sum of NumberOfSeriesRelatedInstances over the series list of the zip's source (that
            list is live; the study list's counts are cached and may be inflated). None if nobody knows.

    Returns:
        How many instances the zip holds, DICOMDIR not counted.

    Raises:
        BadAnswerError: no zip, damaged, without DICOMDIR at its end, or not as many instances as expected.
        OSError: the file itself could not be read.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return check_zip(opened, expected_instances)
    try:
        with zipfile.ZipFile(_InPieces(file)) as archive:
            entries = archive.infolist()
            instances = _count_instances(entries, expected_instances)
            if sum(entry.file_size for entry in entries) > _MOST_UNPACKED * file.seek(0, os.SEEK_END):
                raise BadAnswerError("The server's zip would unpack to many times its size.")
            damaged = archive.testzip() is not None
    except _UNREADABLE_ZIP:
        raise BadAnswerError("The server's zip is cut or damaged.") from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise BadAnswerError("The server's zip is cut or damaged.") from None  # its directory points before its start
    if damaged:
        raise BadAnswerError("The server's zip is damaged: a checksum does not agree.")
    return instances


def check_zip_origin(file: Path | BinaryIO, StudyInstanceUID: str, series: Collection[str]) -> None:
    """Accept a whole zip (see `check_zip`) of this study, of no other series than these, and with nothing twice.

    Args:
        file: as for `check_zip`.
        StudyInstanceUID: the study.
        series: the SeriesInstanceUID of every series of the zip's source.

    Raises:
        BadAnswerError: DICOMDIR names others, one twice, or cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive, archive.open("DICOMDIR") as entry:
            directory = io.BytesIO(entry.read(DICOMDIR_LIMIT))
        records = dcmread(directory, specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
        studies = {str(record.StudyInstanceUID) for record in records if "StudyInstanceUID" in record}
        named = {str(record.SeriesInstanceUID) for record in records if "SeriesInstanceUID" in record}
        files = [
            str(record.get("ReferencedSOPInstanceUIDInFile")) for record in records if "ReferencedFileID" in record
        ]
    except Exception as error:  # pydicom fails in many ways, none of which says that the zip is right
        raise BadAnswerError("The server's zip has a DICOMDIR that cannot be read.") from error
    if studies != {StudyInstanceUID} or not named <= set(series) or len(set(files)) < len(files):
        raise BadAnswerError("The server's zip holds other instances than those of the study.")


class _InPieces(io.BufferedIOBase):
    """A file that gives no piece which would fill the memory; zipfile reads a directory in one, whatever its size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size > _DIRECTORY_LIMIT:
            raise zipfile.BadZipFile("its directory is too large")
        return self._file.read(size)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _count_instances(entries: list[zipfile.ZipInfo], expected: int | None) -> int:
    names = [entry.filename for entry in entries]
    if not names or names[-1] != "DICOMDIR":
        raise BadAnswerError("The server's zip is incomplete: it does not end with DICOMDIR.")
    instances = names[:-1]
    plain = all(entry.compress_type in {zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED} for entry in entries)
    in_place = all(name.startswith("DICOM/") for name in instances) and len(set(instances)) == len(instances)
    if not plain or not in_place:
        raise BadAnswerError("The server's zip does not have the layout of a Kheops study zip.")
    if expected is not None and len(instances) != expected:
        raise BadAnswerError(f"The server's zip holds {len(instances)} instances where its series list {expected}.")
    return len(instances)
