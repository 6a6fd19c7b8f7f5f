"""What the server's lists say, as slim records, and the names of the lists.

A record keeps its UIDs as text and everything else that the list gave *packed*: one small msgpack map from keyword to
text, in which the keywords of every list are one character each. Lists reach 100 000 rows; a pydicom Dataset or a dict
per row would cost ten times the memory, and nobody looks at most of it. Rows that carry no usable UID never become
records.

Text follows the DICOM conventions: values of one element joined by a backslash (PS3.5 6.2), the component groups of a
person name by ``=`` (PS3.5 6.2.1), numbers in decimal. Leading and trailing blanks of each value are gone, a null is
the empty text. Keywords are the standard's; an element it does not know goes by its eight upper-case hex digits.

A `Source` is where a listing is taken from; the `Query` types name each list that the server can give. Sources and
queries are hashable: they key the listings in memory and on disk.
"""

import string
from typing import Annotated, Literal, Self

import msgspec

# nginx lets digits and dots through and nothing else. The standard ends at 64 characters, some devices do not.
UID_PATTERN = r"^(?=[0-9.]*[0-9])[0-9.]{1,100}\Z"

# Kheops makes ten letters and digits. Some other characters do no harm in a URL or a file name.
ALBUM_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}\Z"

# Looked at when a record is decoded: identities become URLs and names, also those of a list that was kept on disk.
UID = Annotated[str, msgspec.Meta(pattern=UID_PATTERN)]
AlbumId = Annotated[str, msgspec.Meta(pattern=ALBUM_ID_PATTERN)]

# What the server's lists give of each row. The order is part of what is kept on disk: append only.
_LISTED = (
    *("StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability", "ModalitiesInStudy", "StudyDescription"),
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "ReferringPhysicianName"),
    *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "TimezoneOffsetFromUTC", "RetrieveURL"),
    *("Modality", "SeriesDescription", "SeriesNumber", "NumberOfSeriesRelatedInstances", "SpecificCharacterSet"),
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "RetrieveAETitle"),
    *("SOPClassUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
)
_CHARACTERS = string.ascii_letters + string.digits
_short = dict(zip(_LISTED, _CHARACTERS, strict=False))
_long = {character: keyword for keyword, character in _short.items()}

_AS_IT_IS = "="  # no keyword begins with it

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, str])


def packed_name(keyword: str) -> str:
    """What a keyword is called in `Record.packed`. One that looks like a short name is marked as what it is."""
    if keyword in _long or keyword.startswith(_AS_IT_IS):
        return _AS_IT_IS + keyword
    return _short.get(keyword, keyword)


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """One row of a list: its identity in the subclass's fields, all else in `packed`."""

    packed: bytes

    @classmethod
    def pack(cls, attributes: dict[str, str], **identity: str) -> Self:
        """Make a record from keyword → text and the fields that identify it."""
        return cls(packed=_encoder.encode({packed_name(name): text for name, text in attributes.items()}), **identity)

    def __repr__(self) -> str:
        # A record in a traceback must not put a patient's name into the log.
        return f"<{type(self).__name__}>"

    def attributes(self) -> dict[str, str]:
        """All attributes the list gave: keyword to text. Unpacks at each call."""
        return {
            _long.get(name) or name.removeprefix(_AS_IT_IS): text for name, text in _decoder.decode(self.packed).items()
        }


class Study(Record, frozen=True, gc=False, array_like=True, kw_only=True):
    """One study as a source shows it (PS3.18 10.6, contract: study search)."""

    StudyInstanceUID: UID


class Series(Record, frozen=True, gc=False, array_like=True, kw_only=True):
    """One series of a study as a source shows it."""

    StudyInstanceUID: UID
    SeriesInstanceUID: UID


class Instance(Record, frozen=True, gc=False, array_like=True, kw_only=True):
    """One instance of a series; the same in every source."""

    StudyInstanceUID: UID
    SeriesInstanceUID: UID
    SOPInstanceUID: UID


class Album(Record, frozen=True, gc=False, array_like=True, kw_only=True):
    """One album. Its attributes are Kheops's members: ``name``, ``description``, ``number_of_studies``, …"""

    album_id: AlbumId


class Source(msgspec.Struct, frozen=True):
    """Where studies are taken from: all that the token sees, the user's inbox, or one album."""

    kind: Literal["all", "inbox", "album"]
    album_id: str = ""


EVERYTHING = Source("all")
INBOX = Source("inbox")


class AlbumsQuery(msgspec.Struct, frozen=True, tag=True):
    """The albums of the token: all of a user's, or an album token's one."""


class StudiesQuery(msgspec.Struct, frozen=True, tag=True):
    """The studies of a source, each once."""

    source: Source


class SeriesQuery(msgspec.Struct, frozen=True, tag=True):
    """The series of a study that are in a source."""

    source: Source
    StudyInstanceUID: str


class InstancesQuery(msgspec.Struct, frozen=True, tag=True):
    """The instances of a series, whatever the source. The series list's own words help to ask well:

    `expected` is NumberOfSeriesRelatedInstances (None: not known), against which a capped list is found out;
    `Modality` tells whether size hints are worth their price. Neither is part of the list's identity.
    """

    StudyInstanceUID: str
    SeriesInstanceUID: str
    expected: int | None = None
    Modality: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InstancesQuery) and self.SeriesInstanceUID == other.SeriesInstanceUID

    def __hash__(self) -> int:
        return hash(("instances", self.SeriesInstanceUID))


Query = AlbumsQuery | StudiesQuery | SeriesQuery | InstancesQuery
