"""The folders that repeat in every view: albums, studies of a source, series of a study, instances of a series.

A `View` is a way to look at the same things, so a path in one view is a path in the others, up to what the last
component shows. A list belongs to a query, not to a folder: all views of a study ask for the same rows. Names are made
from all rows, also those that a view leaves out, so a series is called the same wherever it is.
"""

from collections.abc import Sequence
from enum import Enum
from operator import attrgetter
from typing import Literal

import msgspec

from kheopsfs.kheops.contents import InstanceFile, InstanceThumbnail, SeriesThumbnail, StudyZip
from kheopsfs.kheops.records import (
    Album,
    AlbumsQuery,
    Instance,
    InstancesQuery,
    Record,
    Series,
    SeriesQuery,
    Source,
    StudiesQuery,
    Study,
)
from kheopsfs.tree.names import NameStyle, album_names, instance_names, series_names, study_names
from kheopsfs.tree.nodes import File, Folder, Node
from kheopsfs.tree.rendering import instance_has_picture, series_has_picture
from kheopsfs.tree.rows import album_row, instance_row, series_row, study_row
from kheopsfs.tree.siblings import distinct, ordered, place
from kheopsfs.tree.times import album_mtime, instance_mtime, series_mtime, study_mtime, study_zone
from kheopsfs.tree.values import whole_number

TokenKind = Literal["user", "album"]


class Shape(Enum):
    """What a view shows of an instance, a series or a study."""

    DICOM = "dicom"
    THUMBNAILS = "thumbnails"
    ZIP = "zip"


class View(msgspec.Struct, frozen=True):
    """What all folders of a part of the tree have in common."""

    shape: Shape
    kind: TokenKind
    style: NameStyle


class AlbumsFolder(Folder, frozen=True, gc=False, kw_only=True):
    """The albums that the token sees."""

    view: View

    @property
    def query(self) -> AlbumsQuery:
        """The token's albums."""
        return AlbumsQuery()

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """A source for each album."""
        albums = distinct(rows, Album, attrgetter("album_id"))
        return ordered(
            SourceFolder(
                **place(self, name, f"album/{album.album_id}", album_mtime(album_row(album))),
                view=self.view,
                source=Source("album", album.album_id),
                album=album,
            )
            for album, name in zip(albums, album_names(albums, self.view.style), strict=True)
        )


class SourceFolder(Folder, frozen=True, gc=False, kw_only=True):
    """The studies of a source: the inbox, an album, or all."""

    view: View
    source: Source
    album: Album | None

    @property
    def record(self) -> Album | None:
        """The album; None for the inbox and for all studies."""
        return self.album

    @property
    def query(self) -> StudiesQuery:
        """The studies of the source."""
        return StudiesQuery(self.source)

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """A folder for each study, or in the zip view an archive."""
        studies = distinct(rows, Study, attrgetter("StudyInstanceUID"))
        node = self._archive if self.view.shape is Shape.ZIP else self._folder
        return ordered(map(node, studies, study_names(studies, self.view.style)))

    def _archive(self, study: Study, name: str) -> File:
        return File(
            **place(self, f"{name}.zip", f"study/{study.StudyInstanceUID}", study_mtime(study_row(study), self.mtime)),
            content=StudyZip(self.source, study),
        )

    def _folder(self, study: Study, name: str) -> "StudyFolder":
        row = study_row(study)
        return StudyFolder(
            **place(self, name, f"study/{study.StudyInstanceUID}", study_mtime(row, self.mtime)),
            view=self.view,
            source=self.source,
            record=study,
            zone=study_zone(row),
        )


class StudyFolder(Folder, frozen=True, gc=False, kw_only=True):
    """The series of a study that are in a source."""

    view: View
    source: Source
    record: Study
    zone: int  # seconds east of UTC, for the times of its series and instances

    @property
    def query(self) -> SeriesQuery:
        """The series that the source shows of the study."""
        return SeriesQuery(self.source, self.record.StudyInstanceUID)

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """A folder for each series; among thumbnails a picture beside it, and only for what has pictures."""
        series = distinct(rows, Series, attrgetter("SeriesInstanceUID"))
        named = zip(series, series_names(series, self.view.style), strict=True)
        if self.view.shape is Shape.DICOM:
            return ordered(self._folder(one, name) for one, name in named)
        drawn = [(one, name) for one, name in named if series_has_picture(series_row(one))]
        return ordered(node for one, name in drawn for node in (self._folder(one, name), self._picture(one, name)))

    def _folder(self, series: Series, name: str) -> "SeriesFolder":
        return SeriesFolder(
            **place(
                self,
                name,
                f"series/{series.SeriesInstanceUID}",
                series_mtime(series_row(series), self.zone, self.mtime),
            ),
            view=self.view,
            record=series,
            zone=self.zone,
        )

    def _picture(self, series: Series, name: str) -> File:
        return File(
            **place(
                self,
                f"{name}.jpg",
                f"thumbnail/{series.SeriesInstanceUID}",
                series_mtime(series_row(series), self.zone, self.mtime),
            ),
            content=SeriesThumbnail(series),
        )


class SeriesFolder(Folder, frozen=True, gc=False, kw_only=True):
    """The instances of a series."""

    view: View
    record: Series
    zone: int  # seconds east of UTC, the study's

    @property
    def query(self) -> InstancesQuery:
        """The instances, with what the series list said about them."""
        row = series_row(self.record)
        count = whole_number(row.NumberOfSeriesRelatedInstances)
        return InstancesQuery(
            self.record.StudyInstanceUID,
            self.record.SeriesInstanceUID,
            expected=None if count is None else max(0, count),
            Modality=row.Modality,
        )

    def children(self, rows: Sequence[Record]) -> list[Node]:
        """A file for each instance: DICOM, or among thumbnails a picture of those that have one."""
        instances = distinct(rows, Instance, attrgetter("SOPInstanceUID"))
        names = instance_names(instances, self.view.style)
        thumbnails = self.view.shape is Shape.THUMBNAILS
        content = InstanceThumbnail if thumbnails else InstanceFile
        extension = ".jpg" if thumbnails else ".dcm"
        nodes = []
        for instance, name in zip(instances, names, strict=True):
            row = instance_row(instance)
            if thumbnails and not instance_has_picture(row):
                continue
            nodes.append(
                File(
                    **place(
                        self,
                        name + extension,
                        f"instance/{instance.SOPInstanceUID}",
                        instance_mtime(row, self.zone, self.mtime),
                    ),
                    content=content(instance),
                )
            )
        return ordered(nodes)
