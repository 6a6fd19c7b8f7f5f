"""The few attributes of a list row that shape the tree, read without unpacking the others.

A row has thirty attributes and more; names, times and shape need a handful. Decoding just these from the packed map
costs a fraction of a full `Record.attributes()`, which counts for 100 000 rows. What a row lacks is the empty text.
"""

import msgspec

from kheopsfs.kheops.records import Album, Instance, Series, Study, packed_name


class StudyRow(msgspec.Struct, gc=False, rename=packed_name):
    """Of a study: what its name and time come from."""

    StudyDate: str = ""
    StudyTime: str = ""
    TimezoneOffsetFromUTC: str = ""
    PatientName: str = ""
    PatientID: str = ""
    StudyDescription: str = ""


class SeriesRow(msgspec.Struct, gc=False, rename=packed_name):
    """Of a series: name, time, and what helps to list and to render its instances."""

    SeriesNumber: str = ""
    Modality: str = ""
    SeriesDescription: str = ""
    NumberOfSeriesRelatedInstances: str = ""
    SeriesDate: str = ""
    SeriesTime: str = ""
    PerformedProcedureStepStartDate: str = ""
    PerformedProcedureStepStartTime: str = ""
    TimezoneOffsetFromUTC: str = ""


class InstanceRow(msgspec.Struct, gc=False, rename=packed_name):
    """Of an instance: name, time, and whether it is an image."""

    InstanceNumber: str = ""
    SOPClassUID: str = ""
    Rows: str = ""
    ContentDate: str = ""
    ContentTime: str = ""
    AcquisitionDate: str = ""
    AcquisitionTime: str = ""
    InstanceCreationDate: str = ""
    InstanceCreationTime: str = ""
    TimezoneOffsetFromUTC: str = ""


class AlbumRow(msgspec.Struct, gc=False, rename=packed_name):
    """Of an album, in Kheops's words."""

    name: str = ""
    created_time: str = ""
    last_event_time: str = ""


_studies = msgspec.msgpack.Decoder(StudyRow)
_series = msgspec.msgpack.Decoder(SeriesRow)
_instances = msgspec.msgpack.Decoder(InstanceRow)
_albums = msgspec.msgpack.Decoder(AlbumRow)


def study_row(study: Study) -> StudyRow:
    """The row of one study."""
    return _studies.decode(study.packed)


def series_row(series: Series) -> SeriesRow:
    """The row of one series."""
    return _series.decode(series.packed)


def instance_row(instance: Instance) -> InstanceRow:
    """The row of one instance."""
    return _instances.decode(instance.packed)


def album_row(album: Album) -> AlbumRow:
    """The row of one album."""
    return _albums.decode(album.packed)
