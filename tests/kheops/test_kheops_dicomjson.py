"""DICOM JSON as servers write it, and as nobody should."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kheopsfs.errors import BadAnswerError, KheopsfsError
from kheopsfs.kheops import dicomjson
from kheopsfs.kheops.metadata import RowSplitter
from kheopsfs.kheops.records import Record

UID = "1.2.840.113619.2.404"
OWN_UIDS = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"}


def attributes_of(elements: dict[str, Any]) -> dict[str, str]:
    row = {"0020000D": {"vr": "UI", "Value": [UID]}, **elements}
    (study,) = dicomjson.studies(dicomjson.parse(json.dumps([row]).encode()))
    assert study.StudyInstanceUID == UID
    return study.attributes()


# Values


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ({"vr": "LO", "Value": ["one"]}, "one"),
        ({"vr": "CS", "Value": ["CT", " PT", " SR "]}, "CT\\PT\\SR"),
        ({"vr": "LO", "Value": ["a", None, "c"]}, "a\\\\c"),
        ({"vr": "IS", "Value": ["12"]}, "12"),
        ({"vr": "IS", "Value": [12]}, "12"),
        ({"vr": "DS", "Value": [1.5, -2, "3.0"]}, "1.5\\-2\\3.0"),
        ({"vr": "DS", "Value": [512.0]}, "512"),
        ({"vr": "DS", "Value": [1e300]}, "1e+300"),
        ({"vr": "UL", "Value": [(1 << 64) - 1]}, "18446744073709551615"),
        ({"vr": "DA", "Value": ["NULL"]}, "NULL"),
        ({"vr": "LO", "Value": ["Grüße 東京"]}, "Grüße 東京"),
        ({"vr": "LO", "Value": "not a list"}, "not a list"),
        ({"vr": "LO", "Value": ["a\0b\0"]}, "ab"),
        ({"vr": "LT", "Value": ["two\nlines"]}, "two\nlines"),
        ({"Value": ["without vr"]}, "without vr"),
    ],
)
def test_values_become_text(element: Any, text: str) -> None:
    assert attributes_of({"00081030": element})["StudyDescription"] == text


@pytest.mark.parametrize(
    "element",
    [
        {"vr": "LO"},
        {"vr": "LO", "Value": []},
        {"vr": "LO", "Value": None},
        {"vr": "LO", "Value": [None]},
        {"vr": "LO", "Value": [""]},
        {"vr": "LO", "Value": ["  "]},
        {"vr": "LO", "Value": [None, ""]},
        {"vr": "LO", "Value": [True]},
        {"vr": "LO", "Value": [[1]]},
        {"vr": "LO", "Value": {"a": 1}},
        {"vr": "DS", "Value": [10**40]},
        {"vr": "OB", "InlineBinary": "AAAA"},
        {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["code"]}}]},
        None,
        "text",
        7,
        ["Value"],
    ],
)
def test_what_is_no_value_is_left_out_and_spoils_nothing(element: Any) -> None:
    assert attributes_of({"00081030": element, "00200010": {"vr": "SH", "Value": ["7"]}}) == {"StudyID": "7"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        ({"Alphabetic": " Doe^Jane^^^ "}, "Doe^Jane^^^"),
        ({"Ideographic": "山田"}, "=山田"),
        ({"Alphabetic": None, "Phonetic": "やまだ"}, "==やまだ"),
        ({"Alphabetic": "A=B"}, "A=B"),
        ({"Alphabetic": 7, "Ideographic": "山"}, "=山"),
        ("Doe^Jane", "Doe^Jane"),
    ],
)
def test_person_names(name: Any, text: str) -> None:
    assert attributes_of({"00100010": {"vr": "PN", "Value": [name]}})["PatientName"] == text


@pytest.mark.parametrize("name", [{}, {"Alphabetic": ""}, {"Alphabetic": None}, {"Other": "x"}])
def test_names_that_are_none(name: Any) -> None:
    assert attributes_of({"00100010": {"vr": "PN", "Value": [name]}}) == {}


def test_several_names() -> None:
    names = [{"Alphabetic": "A^B"}, {"Alphabetic": "C^D", "Ideographic": "丁"}]
    assert attributes_of({"00081048": {"vr": "PN", "Value": names}}) == {"PhysiciansOfRecord": "A^B\\C^D=丁"}


def test_tags_the_standard_does_not_know_go_by_their_digits() -> None:
    found = attributes_of(
        {
            "77771053": {"vr": "UL", "Value": [526336]},
            "00012345": {"vr": "IS", "Value": ["3"]},
            "7777106f": {"vr": "DT", "Value": ["2020"]},
            "0008103e": {"vr": "LO", "Value": ["lower case"]},
            "PatientName": {"vr": "PN", "Value": ["a keyword"]},
            "123": {"vr": "LO", "Value": ["short"]},
            "0008103G": {"vr": "LO", "Value": ["no digit"]},
        }
    )
    assert found == {"77771053": "526336", "00012345": "3", "7777106F": "2020", "SeriesDescription": "lower case"}


def test_urls_are_left_out_because_they_may_hold_the_token() -> None:
    secret = "https://host/api/link/aB3dE6gH9kL2nO5qR8tU1v/studies/1"
    assert attributes_of({"00081190": {"vr": "UR", "Value": [secret]}, "00081190 ": {"Value": [secret]}}) == {}


def test_a_text_is_cut_at_64_kib_on_a_character() -> None:
    for text in ("x" * 70_000, "é" * 70_000, "丁" * 70_000):
        kept = attributes_of({"00081030": {"vr": "LO", "Value": [text]}})["StudyDescription"]
        assert text.startswith(kept)
        assert 65_530 < len(kept.encode()) <= 65_536
    many = attributes_of({"00081030": {"vr": "LO", "Value": ["y" * 1000] * 1000}})["StudyDescription"]
    assert len(many) == 65_536


def test_halves_of_surrogate_pairs_and_stray_bytes_are_replaced() -> None:
    row = b'{"0020000D": {"Value": ["1.2"]}, "00081030": {"Value": ["a\\ud800b\xffc"]}}'
    (study,) = dicomjson.studies(dicomjson.parse(b"[" + row + b"]"))
    assert study.attributes() == {"StudyDescription": "a?b\N{REPLACEMENT CHARACTER}c"}


# Identity


@pytest.mark.parametrize("uid", ["1.2.3", "1", "0.1.02", "1" * 100, " 1.2 ", "1.2\0", "1..2"])
def test_usable_uids(uid: str) -> None:
    (study,) = dicomjson.studies(dicomjson.parse(json.dumps([{"0020000D": {"Value": [uid]}}]).encode()))
    assert study.StudyInstanceUID == uid.strip(" \0")
    assert study.attributes() == {}


@pytest.mark.parametrize(
    "row",
    [
        {},
        None,
        7,
        "row",
        [],
        {"0020000D": {"vr": "UI"}},
        {"0020000D": {"vr": "UI", "Value": []}},
        *(
            {"0020000D": {"vr": "UI", "Value": [uid]}}
            for uid in ["", ".", "..", "1/2", "../1", "1.2a", "1" * 101, "١.٢", {}]
        ),
    ],
)
def test_a_row_without_a_usable_uid_is_dropped_and_counted(row: Any, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"0020000D": {"Value": ["1.2"]}}, row, row]
    with caplog.at_level(logging.WARNING):
        studies = dicomjson.studies(dicomjson.parse(json.dumps(rows).encode()))
    assert [study.StudyInstanceUID for study in studies] == ["1.2"]
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 rows of a list have no usable UID and are left out"
    ]


def test_ancestors_are_those_that_were_asked_for() -> None:
    row = {
        "0020000D": {"Value": ["9.9"]},
        "0020000E": {"Value": ["8.8"]},
        "00080018": {"Value": ["7.7"]},
        "00080060": {"Value": ["CT"]},
        "00200013": {"Value": ["4"]},
    }
    rows = dicomjson.parse(json.dumps([row]).encode())
    (series,) = dicomjson.series(rows, "1.1")
    assert (series.StudyInstanceUID, series.SeriesInstanceUID) == ("1.1", "8.8")
    assert series.attributes() == {"SOPInstanceUID": "7.7", "Modality": "CT", "InstanceNumber": "4"}
    (instance,) = dicomjson.instances(rows, "1.1", "2.2", frozenset({"InstanceNumber"}))
    assert (instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID) == ("1.1", "2.2", "7.7")
    assert instance.attributes() == {"InstanceNumber": "4"}


# Anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Value", "Alphabetic", "vr", "x"]), inner)
    ),
    max_leaves=8,
)
uid_like = st.text("0123456789./a \0", max_size=12)
elements = st.fixed_dictionaries({"Value": st.lists(uid_like | json_values, max_size=3) | json_values}) | json_values
tags = st.sampled_from(["0020000D", "0020000E", "00080018", "00100010", "00081190", "77771053", "xx"])
documents = st.lists(st.dictionaries(tags, elements, max_size=4) | json_values, max_size=5) | json_values


@given(documents)
def test_any_json_gives_well_formed_records_or_a_bad_answer(document: Any) -> None:
    content = json.dumps(document).encode()
    try:
        rows = dicomjson.parse(content)
    except BadAnswerError:
        assert not isinstance(document, list)
        return
    assert isinstance(document, list)
    assert len(rows) == len(document)
    records: list[Record] = [
        *dicomjson.studies(rows),
        *dicomjson.series(rows, "1.2"),
        *dicomjson.instances(rows, "1.2", "3.4", frozenset({"PatientName", "77771053"})),
    ]
    for record in records:
        for uid in (getattr(record, name) for name in OWN_UIDS if hasattr(record, name)):
            assert re.fullmatch(r"[0-9.]{1,100}", uid)
            assert uid.strip(".")
        for name, text in record.attributes().items():
            assert re.fullmatch(r"[A-Za-z0-9]+", name)
            assert text
            assert text == text.strip(" ")
            assert "\0" not in text
            assert len(text.encode()) <= 65_536


@given(st.binary(max_size=60) | st.text('[]{}",:\\u01eE+-.tfn ', max_size=40).map(str.encode))
@example(b"[" * 50_000)
@example(b'[{"0020000D": ' * 20_000)
@example(b'[{"0020000D": {"Value": [' + b"9" * 5000 + b"]}}]")
def test_any_bytes_are_rows_or_a_bad_answer(content: bytes) -> None:
    try:
        dicomjson.studies(dicomjson.parse(content))
    except KheopsfsError:
        return


# Metadata, row by row


def fed(content: bytes, cuts: Iterator[int] | list[int]) -> list[dicomjson.Row]:
    splitter = RowSplitter()
    rows: list[dicomjson.Row] = []
    start = 0
    for cut in [*cuts, len(content)]:
        rows += splitter.feed(content[start:cut])
        start = max(start, cut)
    return rows + splitter.close()


def metadata(count: int, size: int, separators: tuple[str, str] | None = None) -> bytes:
    """Rows with text and sequences that look like the boundary between rows."""
    item = {"00080100": {"vr": "SH", "Value": ['"},{"', '}]},{"00080018"']}}
    return json.dumps(
        [
            {
                "00080018": {"vr": "UI", "Value": [f"1.2.{n}"]},
                "00081115": {"vr": "SQ", "Value": [item, item, item]},
                "00204000": {"vr": "LT", "Value": ["x" * size + "},{"]},
                "00081140": {"vr": "SQ", "Value": [item]},
            }
            for n in range(count)
        ],
        separators=separators,
    ).encode()


@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n ", " : "), None])
@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 0), (1, 3_000_000), (5000, 10), (200, 20_000), (3, 700_000)])
def test_rows_come_out_as_they_went_in(count: int, size: int, separators: tuple[str, str] | None) -> None:
    content = metadata(count, size, separators)
    rows = fed(content, [*range(0, len(content), 65_000)])
    assert rows == dicomjson.parse(content)
    assert len(rows) == count


def test_rows_come_while_bytes_arrive_and_do_not_gather() -> None:
    content = metadata(4000, 2000)
    splitter = RowSplitter()
    held = early = 0
    for start in range(0, len(content), 65_536):
        early += len(splitter.feed(content[start : start + 65_536]))
        held = max(held, len(splitter._rest))
    assert early > 3700
    assert held < 1_200_000 < len(content)
    assert early + len(splitter.close()) == 4000


def test_a_row_full_of_false_boundaries_is_not_judged_over_and_over() -> None:
    frames = [{"00289145": {"vr": "SQ", "Value": [{"00281052": {"vr": "DS", "Value": [n]}}]}} for n in range(60_000)]
    content = json.dumps([{"00080018": {"Value": ["1.2"]}, "52009230": {"vr": "SQ", "Value": frames}}]).encode()
    assert len(content) > 4_000_000
    assert fed(content, [*range(0, len(content), 65_536)]) == dicomjson.parse(content)


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(0, 3))
def test_cuts_make_no_difference(cuts: list[int], count: int) -> None:
    content = metadata(count, 20)
    assert fed(content, sorted(min(cut, len(content)) for cut in cuts)) == dicomjson.parse(content)


@pytest.mark.parametrize(
    "content", [b"", b"[", b"{}", b"<html>", metadata(5000, 500)[:-1], metadata(5000, 500)[:-90] + b"]"]
)
def test_metadata_that_are_cut_or_none_are_a_bad_answer(content: bytes) -> None:
    with pytest.raises(BadAnswerError):
        fed(content, [*range(0, len(content), 65_000)])


def test_one_absurd_row_does_not_spoil_its_neighbours() -> None:
    content = metadata(3000, 300)[:-1] + b', 7, {"00080018": {"Value": ["9.9", {"a": [[]]}]}}, "\\ud800"]'
    instances = dicomjson.instances(fed(content, [*range(0, len(content), 65_000)]), "1", "2", frozenset())
    assert len(instances) == 3001
    assert instances[-1].SOPInstanceUID == "9.9"
