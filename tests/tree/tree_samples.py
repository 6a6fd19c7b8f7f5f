"""Rows and texts for the tests of the tree: what a server might send, from tidy to hostile."""

import base64
import hashlib
import unicodedata

from hypothesis import strategies as st

from kheopsfs.kheops.records import Album, Instance, Series, Study

# Pairs of UIDs whose SHA-256 share the first 30 and the first 50 bits, found by search.
SAME_SIX = ("1.2.826.0.1.3680043.8.498.25229", "1.2.826.0.1.3680043.8.498.76976")
SAME_TEN = ("1.2.826.0.1.3680043.8.498.34446922", "1.2.826.0.1.3680043.8.498.70017524")

NASTY = [
    "",
    "NULL",
    ".",
    "..",
    "../../etc",
    "-rf",
    "~root",
    "CON",
    "con.txt",
    "CON.CON",
    "aux.",
    "COM¹.x",
    "a\0b",
    "a\nb",
    "a\tb",
    "\x1b[31mred\x1b[0m",
    "\u202egpj.exe",
    "\u200b\ufeff",
    "e\u200b\u0301",
    "\u0301\u0302",
    "\u037e\u212a\u1fef",
    "<\u0338>\u0338",
    "ſtraße STRASSE",
    "İıIi",
    "משה כהן",
    "محمد\u200cعلی",
    "山田^太郎",
    "👩\u200d👩\u200d👧\u200d👦👍🏽🇨🇭",
    "\U0001f3fd",
    "\uffff\ufdd0",
    "\u3164\u115f",
    "क्षत्रिय " * 30,
    "a" + "\u0301" * 500,
    "x" * 4096,
    "é" * 4096,
    "𝔘" * 2048,
    "$(rm -rf /); `id` & | > * ? ! ' \" \\",
]

texts = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.characters(categories=["Mn", "Mc", "Me", "Cf", "Cc", "Zs", "Zl", "Zp", "Po", "Pd"]), max_size=20),
    st.text("aA-_. ~/\u0301\u200b\u00adİſßΣςé", max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4).map(lambda text: text * 500),
)
plain_uids = st.from_regex(r"[0-9](\.[0-9]{1,3}){0,4}", fullmatch=True)
uids = st.one_of(plain_uids, plain_uids, texts)
dates = st.one_of(
    st.dates().map(lambda day: f"{day:%Y%m%d}".zfill(8)), st.sampled_from(["NULL", "", "2006.10.19"]), texts
)
numbers = st.one_of(st.integers(-(10**6), 10**6).map(str), st.sampled_from(["12.0", " 7", "1.5", "9" * 5000]), texts)


def _attributes(**values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional=values)


_study_attributes = _attributes(
    StudyDate=dates, StudyTime=texts, PatientName=texts, PatientID=texts, StudyDescription=texts
)
_series_attributes = _attributes(SeriesNumber=numbers, Modality=texts, SeriesDescription=texts, SeriesDate=dates)
_instance_attributes = _attributes(InstanceNumber=numbers, ContentDate=dates, Rows=texts, SOPClassUID=texts)

studies = st.builds(lambda UID, attributes: Study.pack(attributes, StudyInstanceUID=UID), uids, _study_attributes)
series = st.builds(lambda UID, attributes: one_series("1.2", UID, **attributes), uids, _series_attributes)
instances = st.builds(lambda UID, attributes: one_instance("1.2", "1.3", UID, **attributes), uids, _instance_attributes)
album_ids = st.one_of(
    st.text("aAbB1", min_size=10, max_size=10), st.text("aAbB1", min_size=1, max_size=2), st.just("CON"), texts
)
albums = st.builds(lambda album_id, name: one_album(album_id, name=name), album_ids, texts)


def one_album(album_id: str, **attributes: str) -> Album:
    return Album.pack(attributes, album_id=album_id)


def one_study(StudyInstanceUID: str, **attributes: str) -> Study:
    return Study.pack(attributes, StudyInstanceUID=StudyInstanceUID)


def one_series(StudyInstanceUID: str, SeriesInstanceUID: str, **attributes: str) -> Series:
    return Series.pack(attributes, StudyInstanceUID=StudyInstanceUID, SeriesInstanceUID=SeriesInstanceUID)


def one_instance(StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str, **attributes: str) -> Instance:
    return Instance.pack(
        attributes,
        StudyInstanceUID=StudyInstanceUID,
        SeriesInstanceUID=SeriesInstanceUID,
        SOPInstanceUID=SOPInstanceUID,
    )


def identity(record: Album | Study | Series | Instance) -> str:
    """The id by which the things of one list differ."""
    match record:
        case Album():
            return record.album_id
        case Study():
            return record.StudyInstanceUID
        case Series():
            return record.SeriesInstanceUID
        case Instance():
            return record.SOPInstanceUID


def crockford(text: str, length: int) -> str:
    """The digest of a UID, by another road than the tree's: RFC 4648 base32 spelt in Crockford's letters."""
    encoded = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    letters = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghjkmnpqrstvwxyz")
    return encoded.translate(letters)[:length]


def assert_safe_component(name: str) -> None:
    """What every file system, shell and person may rely on."""
    assert 0 < len(name.encode()) <= 120
    assert unicodedata.is_normalized("NFC", name)
    assert not set(name) & set("/\\:*?\"<>|'`$&;! ")
    assert name[0] not in ".-~"
    assert not name.endswith((".", " "))
    assert not unicodedata.category(name[0]).startswith("M")
    for character in name:
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"}, hex(ord(character))
    device = name.partition(".")[0].upper()
    assert device not in {"CON", "PRN", "AUX", "NUL"}
    assert not (device[:3] in {"COM", "LPT"} and device[3:] in set("0123456789¹²³"))


def assert_distinct_without_case(names: list[str]) -> None:
    """No two names are one on a file system without case or with another normal form."""
    for form in ("NFC", "NFD"):
        assert len({unicodedata.normalize(form, name).casefold() for name in names}) == len(names)
        assert len({unicodedata.normalize(form, name.casefold()) for name in names}) == len(names)
    assert len({name.upper() for name in names}) == len(names)
