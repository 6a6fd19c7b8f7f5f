"""When the things of the tree were made, by their data: st_mtime, never "now".

A thing has the first of its own dates that is a day; one without takes its parent's time. Clock times count in the zone
the row names (TimezoneOffsetFromUTC), else in the study's, else as UTC: Kheops lists the zone with the study only.
"""

from kheopsfs.tree.rows import AlbumRow, InstanceRow, SeriesRow, StudyRow
from kheopsfs.tree.values import kheops_moment, moment, zone

UNDATED = 0  # seconds since the epoch: what folders have that stand for no data


def study_zone(row: StudyRow) -> int:
    """The study's offset from UTC in seconds; UTC unless it says otherwise."""
    return zone(row.TimezoneOffsetFromUTC) or 0


def album_mtime(row: AlbumRow) -> int:
    """When something last happened in the album."""
    for time in (row.last_event_time, row.created_time):
        seconds = kheops_moment(time)
        if seconds is not None:
            return seconds
    return UNDATED


def study_mtime(row: StudyRow, parent: int) -> int:
    """StudyDate and StudyTime."""
    return _first(((row.StudyDate, row.StudyTime),), study_zone(row), parent)


def series_mtime(row: SeriesRow, zone_of_study: int, parent: int) -> int:
    """SeriesDate, else the start of the procedure step, which is the one that PACSs list."""
    dates = (
        (row.SeriesDate, row.SeriesTime),
        (row.PerformedProcedureStepStartDate, row.PerformedProcedureStepStartTime),
    )
    return _first(dates, _zone(row, zone_of_study), parent)


def instance_mtime(row: InstanceRow, zone_of_study: int, parent: int) -> int:
    """ContentDate, else acquisition, else creation of the instance."""
    dates = (
        (row.ContentDate, row.ContentTime),
        (row.AcquisitionDate, row.AcquisitionTime),
        (row.InstanceCreationDate, row.InstanceCreationTime),
    )
    return _first(dates, _zone(row, zone_of_study), parent)


def _zone(row: SeriesRow | InstanceRow, zone_of_study: int) -> int:
    own = zone(row.TimezoneOffsetFromUTC)
    return zone_of_study if own is None else own


def _first(dates: tuple[tuple[str, str], ...], zone_offset: int, parent: int) -> int:
    for date, time in dates:
        seconds = moment(date, time, zone_offset) if date else None
        if seconds is not None:
            return seconds
    return parent
