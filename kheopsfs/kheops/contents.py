"""The bodies that the server can deliver, by name: what a file of the mount holds.

Contents are values: equal contents are the same bytes wherever they appear in the tree, so an instance that two albums
share is fetched and kept once. `key` is that identity as text, stable across runs, and names the body on disk; it
holds UIDs and digests, never a patient's name. The part before its last slash groups what is listed together.
"""

import hashlib

import msgspec

from kheopsfs.kheops.records import Instance, Series, Source, Study


class InstanceFile(msgspec.Struct, frozen=True):
    """One instance as a DICOM file (PS3.10), exactly the bytes of the server's multipart part."""

    instance: Instance

    @property
    def key(self) -> str:
        """The identity as text."""
        return f"instance/{self.instance.SeriesInstanceUID}/{self.instance.SOPInstanceUID}"


class InstanceThumbnail(msgspec.Struct, frozen=True):
    """The first frame of one instance as JPEG."""

    instance: Instance

    @property
    def key(self) -> str:
        """The identity as text."""
        return f"thumbnail/{self.instance.SeriesInstanceUID}/{self.instance.SOPInstanceUID}"


class SeriesThumbnail(msgspec.Struct, frozen=True):
    """One image that stands for a series, as JPEG."""

    series: Series

    @property
    def key(self) -> str:
        """The identity as text."""
        return f"thumbnail/{self.series.SeriesInstanceUID}"


class StudyZip(msgspec.Struct, frozen=True):
    """The server's own DICOM zip of what a source shows of a study.

    The identity includes how many series and instances the study list counted: a study that grew is another zip.
    """

    source: Source
    study: Study

    @property
    def key(self) -> str:
        """The identity as text."""
        listed = self.study.attributes()
        counts = (listed.get(f"NumberOfStudyRelated{what}", "") for what in ("Series", "Instances"))
        origin = f"{self.source.kind}:{self.source.album_id}:{':'.join(counts)}"
        return f"zip/{self.study.StudyInstanceUID}.{hashlib.sha256(origin.encode()).hexdigest()[:16]}"


Content = InstanceFile | InstanceThumbnail | SeriesThumbnail | StudyZip
