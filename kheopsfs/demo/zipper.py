"""Zips: Kheops's own of a study, and the PACS's of a series or an instance (contract: "Zip").

Kheops's zip holds every series that the token may see, whatever album or inbox the query names, decompressed, under
running numbers, with ``DICOMDIR`` as its last entry. It is streamed: entries are deflated at level 0 with their sizes
behind them. When the PACS fails on the way, the zip is closed properly all the same: the entry that was being written
is short, the rest and ``DICOMDIR`` are missing, and no zip tool notices.
"""

import hashlib
import re
import time
import zipfile
from collections.abc import Iterator

from kheopsfs.demo import dicomdir
from kheopsfs.demo.accept import parse
from kheopsfs.demo.accounts import Principal
from kheopsfs.demo.answers import NO_CACHE, Answer, Call, ErrorAnswer, UpstreamError, tomcat
from kheopsfs.demo.bodies import Bytes
from kheopsfs.demo.conversion import decompressed
from kheopsfs.demo.credentials import for_proxy
from kheopsfs.demo.delivery import CLOSING, cut, failure, hits, of_series, stranger
from kheopsfs.demo.library import Instance, Series

ZIP = "application/zip"

_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")

FILES_PER_FOLDER = 1000


def study(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}` when a zip is asked for."""
    if not _OID.fullmatch(StudyInstanceUID):
        return tomcat(400)
    accepted = parse(call.headers.get("accept"))
    if accepted and not {one.media_type for one in accepted} & {ZIP, "application/*", "*/*"}:
        return tomcat(406)
    try:
        principal = for_proxy(call)
    except ErrorAnswer as error:
        return tomcat(401 if error.answer.status == 401 else 502)
    visible = principal.series(call.library.studies.get(StudyInstanceUID)) if principal.can_read else []
    if not visible or not visible[0].instances:
        return tomcat(502)
    headers = [("Content-Disposition", 'attachment; filename="DICOM.ZIP"')]
    return Answer(200, ZIP, _stream(call, principal, visible), headers)


def pacs_zip(call: Call, wanted: list[Instance]) -> Answer:
    """dcm4chee's zip of a series or an instance: hashed names, real compression."""

    def pieces() -> Iterator[Bytes]:
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in wanted:
                name = "/".join(hashlib.sha1(part.encode()).hexdigest()[:8].upper() for part in _place(call, one))  # noqa: S324  a name
                with archive.open(f"DICOM/{name}.dcm", "w", force_zip64=False) as entry:
                    for piece in decompressed(one)[1].pieces():
                        entry.write(piece)
                        yield sink.take()
        yield sink.take()

    return Answer(200, ZIP, pieces(), [NO_CACHE])


def _place(call: Call, one: Instance) -> tuple[str, str, str]:
    parts = call.path.split("/")
    return parts[3], parts[5], one.SOPInstanceUID


def _stream(call: Call, principal: Principal, visible: list[Series]) -> Iterator[Bytes]:
    sink = _Sink()
    files: list[tuple[Series, Instance, str]] = []
    fails = failure(call.plan)
    archive = zipfile.ZipFile(sink, "w")
    try:
        for series, instance in of_series(call, principal, visible):
            number = len(files) + 1
            if hits(call.plan, "wrong_instance", number - 1):
                series, instance = stranger(call, instance)  # noqa: PLW2901
            name = f"DICOM/{number // FILES_PER_FOLDER}/{number}"
            with archive.open(_Entry(name), "w") as entry:
                for piece in cut(decompressed(instance)[1], fails(number - 1)):
                    entry.write(piece)
                    yield sink.take()
            files.append((series, instance, name))
        if fails(CLOSING) is None:
            with archive.open(_Entry("DICOMDIR"), "w") as entry:
                entry.write(dicomdir.build(call.library.studies, files))
    except UpstreamError:
        pass  # what the Java stream does when it is left by an exception: close, and so look whole
    archive.close()
    yield sink.take()


class _Entry(zipfile.ZipInfo):
    """An entry as the Java zip stream writes it: deflated at level 0, now, its name marked as UTF-8."""

    def __init__(self, name: str) -> None:
        super().__init__(name, time.localtime()[:6])
        self.compress_type = zipfile.ZIP_DEFLATED
        self._compresslevel = 0

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(), self.flag_bits | 0x800


class _Sink:
    """Where the zip module writes: takes bytes until they are taken away; has no position, so sizes follow the data."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._waiting.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def take(self) -> bytes:
        """What was written since the last time."""
        waiting, self._waiting = self._waiting, []
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)
