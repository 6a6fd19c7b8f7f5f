"""Values of DICOM elements as names and times need them (PS3.5 6.2).

Nothing here fails: servers hand on what modalities wrote, so a value that cannot be understood counts as missing.
Numbers, dates and times are read from ASCII digits only.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from kheopsfs.tree.text import clean

_LARGEST_IS = 2**31  # PS3.5 table 6.2-1: an IS lies within ±(2³¹ - 1)
_SECONDS_PER_DAY = 86_400
_FARTHEST_ZONE = 14 * 3600  # seconds; PS3.3 C.12.1.1.8: -1200 to +1400

_IS = re.compile(r"[+-]?\d{1,12}(?:\.0*)?", re.ASCII)
_DA = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|\.(\d\d)\.(\d\d))", re.ASCII)
_TM = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.\d*)?)?)?", re.ASCII)
_ZONE = re.compile(r"([+-])(\d\d)(\d\d)", re.ASCII)
_KHEOPS_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d:\d\d:\d\d)", re.ASCII)


def person(PatientName: str) -> str:
    """A person name (PN) as ``Family-Given``, cleaned: alphabetic, else ideographic, else phonetic (PS3.5 6.2.1).

    A name with neither family nor given name shows the other components it has.
    """
    first = PatientName.partition("\\")[0]
    for group in first.split("="):
        components = group.split("^")
        for chosen in (components[:2], components[2:]):
            name = "-".join(filter(None, map(clean, chosen)))
            if name:
                return name
    return ""


def whole_number(text: str) -> int | None:
    """An integer string (IS), also written ``12.0``; None when it is missing, fractional or out of range."""
    stripped = text.strip()
    if not _IS.fullmatch(stripped):
        return None
    number = int(stripped.partition(".")[0])
    return number if abs(number) < _LARGEST_IS else None


def padded(text: str, digits: int) -> str:
    """An integer string so that byte order is number order from 0 to 10^digits - 1; empty when it is no number.

    Greater numbers keep all their digits. Negative ones come before nought and do not begin with a hyphen: -5 is
    ``0-0005``.
    """
    number = whole_number(text)
    if number is None:
        return ""
    return f"{number:0{digits}d}" if number >= 0 else f"0-{-number:0{digits}d}"


@lru_cache(maxsize=4096)  # a list has few different days
def _midnight(date: str) -> datetime | None:
    match = _DA.fullmatch(date.strip())
    if match is None:
        return None
    year, month, day = (int(group) for group in match.groups() if group)
    try:
        return datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        return None


def iso_date(date: str) -> str:
    """A DA, ``YYYYMMDD`` or as in ACR-NEMA ``YYYY.MM.DD``, as ``YYYY-MM-DD``; empty when it is no day."""
    midnight = _midnight(date)
    return midnight.date().isoformat() if midnight else ""


def zone(TimezoneOffsetFromUTC: str) -> int | None:
    """The offset ``&ZZXX`` in seconds; None when it is missing or absurd."""
    match = _ZONE.fullmatch(TimezoneOffsetFromUTC.strip())
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    seconds = int(hours) * 3600 + int(minutes) * 60
    if seconds > _FARTHEST_ZONE or int(minutes) >= 60:
        return None
    return -seconds if sign == "-" else seconds


def moment(date: str, time: str, zone_offset: int) -> int | None:
    """Seconds since the epoch (UTC) of a DA and a TM in a zone; None without a day. A time that is no time is midnight.

    Fractions of a second are left out.
    """
    midnight = _midnight(date)
    if midnight is None:
        return None
    return int(midnight.timestamp()) + _seconds_of_day(time) - zone_offset


def _seconds_of_day(time: str) -> int:
    match = _TM.fullmatch(time.strip())
    if match is None:
        return 0
    hours, minutes, seconds = (int(group or 0) for group in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    return total if minutes < 60 and seconds <= 60 and total <= _SECONDS_PER_DAY else 0


def kheops_moment(time: str) -> int | None:
    """Seconds since the epoch of a time of Kheops's own: ISO 8601 in UTC without a zone (contract: albums)."""
    match = _KHEOPS_TIME.match(time.strip())
    if match is None:
        return None
    year, month, day, time_of_day = match.groups()
    return moment(year + month + day, time_of_day, 0)
