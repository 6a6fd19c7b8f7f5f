"""Changes to a world while it serves: new arrivals, links that come and go, instances that the PACS loses.

A holder of series is named by the sub of a user, for the inbox, or by the id of an album.
"""

import io
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from kheopsfs.demo.accounts import Album, Holdings
from kheopsfs.demo.app import Kheops
from kheopsfs.demo.bodies import MemoryBody
from kheopsfs.demo.conversion import parse
from kheopsfs.demo.library import Instance

_NEW = "new"


def holder(kheops: Kheops, name: str) -> Holdings:
    """The inbox of a user or the contents of an album.

    Raises:
        KeyError: neither.
    """
    if name in kheops.accounts.users:
        return kheops.accounts.users[name].inbox
    return kheops.accounts.albums[name].holdings


def add_instance(kheops: Kheops, like: str, options: dict[str, Any]) -> dict[str, str]:
    """File a copy of an instance under a SOPInstanceUID of its own.

    Args:
        kheops: where.
        like: SOPInstanceUID of the model.
        options: `study` and `series` (a UID or ``new``; the model's without), `sources` (names of holders that get the
            series), `counted` false when Kheops is not to learn of it, `attributes` (keyword to value) to set.

    Returns:
        The three UIDs of the copy.

    Raises:
        StopIteration: no such model.
    """
    dataset = parse(next(one for one in kheops.library.instances() if one.SOPInstanceUID == like))
    for keyword, value in options.get("attributes", {}).items():
        setattr(dataset, keyword, value)
    if study := options.get("study"):
        dataset.StudyInstanceUID = generate_uid() if study == _NEW else study
    if series := options.get("series", _NEW if options.get("study") == _NEW else None):
        dataset.SeriesInstanceUID = generate_uid() if series == _NEW else series
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return add_file(kheops, buffer.getvalue(), options)


def add_file(kheops: Kheops, data: bytes, options: dict[str, Any]) -> dict[str, str]:
    """File a DICOM file; options and result as for `add_instance`."""
    added = kheops.library.add(MemoryBody(data))
    if added is None:
        raise KeyError("it is there already")
    study, series = _place(kheops, added)
    if not options.get("counted", True):
        kheops.library.studies[study].series[series].counted -= 1
    for name in options.get("sources", []):
        holder(kheops, name).put(study, series)
    return {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": added.SOPInstanceUID}


def _place(kheops: Kheops, wanted: Instance) -> tuple[str, str]:
    for study in kheops.library.studies.values():
        for series in study.series.values():
            if series.instances.get(wanted.SOPInstanceUID) is wanted:
                return study.StudyInstanceUID, series.SeriesInstanceUID
    raise KeyError(wanted.SOPInstanceUID)


def remove_instance(kheops: Kheops, SOPInstanceUID: str) -> None:
    """The PACS loses an instance; its series stays, even if it is empty now.

    Raises:
        KeyError: no such instance.
    """
    for study in kheops.library.studies.values():
        for series in study.series.values():
            if series.instances.pop(SOPInstanceUID, None) is not None:
                return
    raise KeyError(SOPInstanceUID)


def link(kheops: Kheops, name: str, study: str, series: str | None) -> None:
    """Put a series, or a whole study, into an inbox or album."""
    holder(kheops, name).put(study, series)


def unlink(kheops: Kheops, name: str, study: str, series: str | None) -> None:
    """Take a series, or a whole study, out of an inbox or album."""
    holder(kheops, name).remove(study, series, kheops.library)


def add_album(kheops: Kheops, name: str, sub: str, created: str) -> Album:
    """A new, empty album of a user."""
    return kheops.accounts.add_album(name, kheops.accounts.users[sub], created)


def remove_album(kheops: Kheops, album_id: str) -> None:
    """An album is deleted, and its tokens with it.

    Raises:
        KeyError: no such album.
    """
    album = kheops.accounts.albums.pop(album_id)
    for token in kheops.accounts.tokens.values():
        token.revoked = token.revoked or token.album is album
