"""Changes to a world while it serves: new arrivals, links that come and go, instances that the PACS loses.

A holder of series is named by the sub of a user, for the inbox, or by the id of an album. Every function takes the JSON
document that describes the change; what it names must exist.
"""

import io
from typing import Any

import pydicom
from pydicom.uid import generate_uid

from kheopsfs.demo.accounts import Album, Holdings, Token
from kheopsfs.demo.app import Kheops
from kheopsfs.demo.bodies import MemoryBody
from kheopsfs.demo.conversion import parse
from kheopsfs.demo.library import Instance, Series

_NEW = "new"


class UnknownNameError(Exception):
    """A change names something that is not there."""


def token(kheops: Kheops, change: dict[str, Any]) -> Token:
    """The `token` of the document.

    Raises:
        UnknownNameError: there is none such.
    """
    found = kheops.accounts.tokens.get(change.get("token", ""))
    if found is None:
        raise UnknownNameError("token")
    return found


def holders(kheops: Kheops) -> dict[str, Holdings]:
    """All inboxes by their user's sub and all albums by their id."""
    inboxes = {sub: user.inbox for sub, user in kheops.accounts.users.items()}
    return inboxes | {album_id: album.holdings for album_id, album in kheops.accounts.albums.items()}


def add_instance(kheops: Kheops, change: dict[str, Any]) -> dict[str, str]:
    """File a copy of an instance under a SOPInstanceUID of its own.

    Args:
        kheops: where.
        change: `like` (SOPInstanceUID of the model); `study` and `series` (a UID or ``new``; the model's without);
            `attributes` (keyword to value) to set; `sources` (holders that get the series); `counted` false when Kheops
            is not to learn of it, so that only the PACS counts it.

    Returns:
        The three UIDs of the copy.

    Raises:
        UnknownNameError: no such model or source.
    """
    dataset = parse(_find(kheops, change.get("like"))[1])
    for keyword, value in change.get("attributes", {}).items():
        setattr(dataset, keyword, value)
    if study := change.get("study"):
        dataset.StudyInstanceUID = generate_uid() if study == _NEW else study
    if series := change.get("series", _NEW if study == _NEW else None):
        dataset.SeriesInstanceUID = generate_uid() if series == _NEW else series
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    uids = add_file(kheops, buffer.getvalue())
    if not change.get("counted", True):
        _find(kheops, uids["SOPInstanceUID"])[0].counted -= 1
    for source in change.get("sources", []):
        _holder(kheops, source).put(uids["StudyInstanceUID"], uids["SeriesInstanceUID"])
    return uids


def add_file(kheops: Kheops, data: bytes) -> dict[str, str]:
    """File a DICOM file.

    Returns:
        Its three UIDs.

    Raises:
        ValueError: it is there already.
        InvalidDicomError: it is no DICOM file.
    """
    added = kheops.library.add(MemoryBody(data))
    if added is None:
        raise ValueError("it is there already")
    series, _ = _find(kheops, added.SOPInstanceUID)
    return {
        "StudyInstanceUID": series.StudyInstanceUID,
        "SeriesInstanceUID": series.SeriesInstanceUID,
        "SOPInstanceUID": added.SOPInstanceUID,
    }


def remove_instance(kheops: Kheops, SOPInstanceUID: str) -> None:
    """The PACS loses an instance; its series stays listed, even if it is empty now.

    Raises:
        UnknownNameError: no such instance.
    """
    series, _ = _find(kheops, SOPInstanceUID)
    kheops.library.remove(series, SOPInstanceUID)


def link(kheops: Kheops, change: dict[str, Any]) -> None:
    """Put a `series`, or all of a `study`, into a `source`.

    Raises:
        UnknownNameError: no such source.
    """
    _holder(kheops, change.get("source")).put(change["study"], change.get("series"))


def unlink(kheops: Kheops, change: dict[str, Any]) -> None:
    """Take a `series`, or all of a `study`, out of a `source`.

    Raises:
        UnknownNameError: no such source.
    """
    _holder(kheops, change.get("source")).remove(change["study"], change.get("series"), kheops.library)


def add_album(kheops: Kheops, change: dict[str, Any]) -> Album:
    """A new, empty album: its `name`, the `sub` of its user, its `created_time`.

    Raises:
        UnknownNameError: no such user.
    """
    user = kheops.accounts.users.get(change.get("sub", ""))
    if user is None:
        raise UnknownNameError("sub")
    return kheops.accounts.add_album(change["name"], user, change["created_time"])


def change_album(kheops: Kheops, album_id: str, change: dict[str, Any]) -> None:
    """Set members of an album.

    Raises:
        UnknownNameError: no such album or member.
    """
    album = kheops.accounts.albums.get(album_id)
    for member, value in change.items():
        if not hasattr(album, member):
            raise UnknownNameError(member)
        setattr(album, member, value)


def remove_album(kheops: Kheops, album_id: str) -> None:
    """An album is deleted, and its tokens with it.

    Raises:
        UnknownNameError: no such album.
    """
    album = kheops.accounts.albums.pop(album_id, None)
    if album is None:
        raise UnknownNameError(album_id)
    for one in kheops.accounts.tokens.values():
        one.revoked = one.revoked or one.album is album


def _holder(kheops: Kheops, name: str | None) -> Holdings:
    found = holders(kheops).get(name or "")
    if found is None:
        raise UnknownNameError(f"source {name}")
    return found


def _find(kheops: Kheops, SOPInstanceUID: str | None) -> tuple[Series, Instance]:
    for study in kheops.library.studies.values():
        for series in study.series.values():
            if SOPInstanceUID in series.instances:
                return series, series.instances[SOPInstanceUID or ""]
    raise UnknownNameError(f"instance {SOPInstanceUID}")
