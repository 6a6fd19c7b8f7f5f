"""Names: safe, distinct, in reading order, and never changed by what else is in the folder."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tree_samples import (
    SAME_SIX,
    SAME_TEN,
    albums,
    assert_distinct_without_case,
    assert_safe_component,
    crockford,
    dates,
    identity,
    instances,
    numbers,
    one_album,
    one_instance,
    one_series,
    one_study,
    series,
    studies,
    texts,
)

from kheopsfs.tree.names import (
    MAX_STEM,
    NameStyle,
    album_names,
    instance_names,
    series_names,
    study_names,
    uid_names,
)
from kheopsfs.tree.text import fold
from kheopsfs.tree.values import iso_date

READABLE, ID, UID = NameStyle
Namer = Callable[[Sequence, NameStyle], list[str]]
LEVELS: list[tuple[Namer, st.SearchStrategy]] = [
    (album_names, albums),
    (study_names, studies),
    (series_names, series),
    (instance_names, instances),
]
styles = st.sampled_from(NameStyle)
UID_A = "1.2.840.113745.101000.1008000.38048.4626.5933732"


@st.composite
def folders(draw: st.DrawFn) -> tuple[Namer, list, NameStyle]:
    """The rows of some list, each thing once, with what names them."""
    namer, rows = draw(st.sampled_from(LEVELS))
    return namer, draw(st.lists(rows, max_size=12, unique_by=identity)), draw(styles)


# Golden: the shapes of the design.


def test_a_study() -> None:
    study = one_study(UID_A, StudyDate="20061019", PatientName="MAGIX", StudyDescription="Cardiac-CT", PatientID="P/7")
    six = crockford(UID_A, 6)
    assert study_names([study], READABLE) == [f"2006-10-19_MAGIX_Cardiac-CT_{six}"]
    assert study_names([study], ID) == [f"2006-10-19_P-7_Cardiac-CT_{six}"]
    assert study_names([study], UID) == [UID_A]


def test_a_series() -> None:
    one = one_series("1.2", UID_A, SeriesNumber="10", Modality="CT", SeriesDescription="Cir-CardiacCirc-3.0-B20f")
    six = crockford(UID_A, 6)
    assert series_names([one], READABLE) == [f"0010_CT_Cir-CardiacCirc-3.0-B20f_{six}"]
    assert series_names([one], ID) == [f"0010_CT_Cir-CardiacCirc-3.0-B20f_{six}"]
    assert series_names([one], UID) == [UID_A]


def test_an_instance() -> None:
    instance = one_instance("1.2", "1.3", UID_A, InstanceNumber="1")
    assert instance_names([instance], READABLE) == [f"00001_{crockford(UID_A, 6)}"]
    assert instance_names([instance], UID) == [UID_A]


def test_an_album() -> None:
    album = one_album("dTxCc6OJyG", name="Cardio/Trial")
    assert album_names([album], READABLE) == ["Cardio-Trial_dTxCc6OJyG"]
    assert album_names([album], ID) == ["Cardio-Trial_dTxCc6OJyG"]
    assert album_names([album], UID) == ["dTxCc6OJyG"]


def test_the_digest_is_known() -> None:
    """Written out, so that no change of the digest goes unseen: it would rename every file of every mount."""
    assert study_names([one_study("1.2.3")], READABLE) == ["undated_rhznp6"]


def test_missing_parts_are_left_out() -> None:
    six = crockford("1.2.3", 6)
    assert study_names([one_study("1.2.3", StudyDate="NULL", PatientName="NULL")], READABLE) == [f"undated_{six}"]
    assert study_names([one_study("1.2.3", StudyDescription="Head")], READABLE) == [f"undated_Head_{six}"]
    assert series_names([one_series("1.2", "1.2.3")], READABLE) == [six]
    assert series_names([one_series("1.2", "1.2.3", Modality="MR")], READABLE) == [f"MR_{six}"]
    assert instance_names([one_instance("1", "2", "1.2.3", InstanceNumber="one")], READABLE) == [six]
    assert album_names([one_album("dTxCc6OJyG", name="...")], READABLE) == ["dTxCc6OJyG"]


def test_devices_are_guarded() -> None:
    six = crockford("1.2.3", 6)
    assert series_names([one_series("1.2", "1.2.3", SeriesDescription="con.1")], READABLE) == [f"_con.1_{six}"]
    assert album_names([one_album("CON")], UID) == ["_CON"]


@pytest.mark.parametrize("bad", ["", "../../etc", "1.2..3", ".1", "1.2/3", "x", "1" * 65, "١.٢", "1.2\n", "²"])
def test_a_malformed_uid_is_named_by_its_digest(bad: str) -> None:
    (name,) = uid_names([bad])
    assert_safe_component(name + ".dcm")
    assert name == crockford(bad, 6) or name.endswith("_" + crockford(bad, 6))


# Rules that hold for every folder.


@given(folders())
def test_names_are_safe(folder: tuple[Namer, list, NameStyle]) -> None:
    namer, rows, style = folder
    for name in namer(rows, style):
        assert len(name.encode()) <= MAX_STEM
        for extension in ("", ".dcm", ".jpg", ".zip"):
            assert_safe_component(name + extension)


@given(folders())
def test_names_of_a_folder_are_distinct_without_case(folder: tuple[Namer, list, NameStyle]) -> None:
    namer, rows, style = folder
    assert_distinct_without_case(namer(rows, style))


@given(folders(), st.randoms(use_true_random=False))
def test_names_do_not_depend_on_order(folder: tuple[Namer, list, NameStyle], random_: random.Random) -> None:
    namer, rows, style = folder
    named = dict(zip(map(identity, rows), namer(rows, style), strict=True))
    random_.shuffle(rows)
    assert dict(zip(map(identity, rows), namer(rows, style), strict=True)) == named


@given(folders(), st.randoms(use_true_random=False))
def test_an_arrival_renames_nothing(folder: tuple[Namer, list, NameStyle], random_: random.Random) -> None:
    """Things come one by one, in any order: nobody ever gets another name."""
    namer, rows, style = folder
    if namer is album_names:  # ids that are equal without case are the coincidence, tested below
        assume(len({fold(row.album_id) for row in rows}) == len(rows))
    random_.shuffle(rows)
    final = namer(rows, style)
    for count in range(len(rows) + 1):
        assert namer(rows[:count], style) == final[:count]


@given(folders())
def test_a_row_that_comes_twice_clashes_with_nothing(folder: tuple[Namer, list, NameStyle]) -> None:
    namer, rows, style = folder
    names = namer(rows, style)
    assert namer(rows + rows, style) == names + names


# What the parts promise.


@given(dates, texts, texts, texts, st.sampled_from([READABLE, ID]))
def test_a_study_keeps_date_and_digest(date: str, name: str, patient: str, text: str, style: NameStyle) -> None:
    study = one_study(UID_A, StudyDate=date, PatientName=name, PatientID=patient, StudyDescription=text)
    (stem,) = study_names([study], style)
    assert stem.startswith((iso_date(date) or "undated") + "_")
    assert stem.endswith("_" + crockford(UID_A, 6))


@given(texts, texts, texts)
def test_the_style_decides_what_leaks(name: str, patient: str, text: str) -> None:
    def names(style: NameStyle, **changed: str) -> list[str]:
        attributes = {"PatientName": name, "PatientID": patient, "StudyDescription": text} | changed
        return study_names([one_study(UID_A, **attributes)], style)

    assert names(ID) == names(ID, PatientName="Somebody^Else")
    assert names(UID) == names(UID, PatientName="Somebody^Else", PatientID="other", StudyDescription="other")


def test_long_texts_share_the_room() -> None:
    def texts_of(PatientName: str, StudyDescription: str) -> list[str]:
        row = one_study(UID_A, StudyDate="20200101", PatientName=PatientName, StudyDescription=StudyDescription)
        (name,) = study_names([row], READABLE)
        assert MAX_STEM - 3 <= len(name.encode()) <= MAX_STEM
        return name.split("_")[1:-1]

    patient, description = texts_of("P" * 4000, "D" * 4000)
    assert abs(len(patient) - len(description)) <= 1
    assert texts_of("Smith^John", "D" * 4000)[0] == "Smith-John"
    assert texts_of("P" * 4000, "Head")[1] == "Head"
    patient, description = texts_of("山" * 4000, "é" * 4000)
    assert abs(len(patient.encode()) - len(description.encode())) <= 3


@given(texts, st.from_regex(r"[A-Za-z0-9]{10}", fullmatch=True))
def test_an_album_keeps_its_id(name: str, album_id: str) -> None:
    (stem,) = album_names([one_album(album_id, name=name)], READABLE)
    assert stem == album_id or stem.endswith("_" + album_id)


@given(st.lists(st.integers(0, 99999), unique=True), texts)
def test_byte_order_is_reading_order(counts: list[int], text: str) -> None:
    def is_sorted(names: list[str]) -> bool:
        return names == sorted(names, key=str.encode)

    counts.sort()
    rows = [one_instance("1", "2", f"1.{-count % 7}.{count}", InstanceNumber=str(count)) for count in counts]
    assert is_sorted(instance_names(rows, READABLE))
    ordered = [
        one_series("1", f"1.{-count % 7}.{count}", SeriesNumber=str(count), Modality=text)
        for count in counts
        if count < 10_000
    ]
    assert is_sorted(series_names(ordered, READABLE))


@given(st.lists(st.dates(), unique=True), texts)
def test_studies_sort_by_date_and_undated_ones_come_last(days: list, patient: str) -> None:
    days.sort()
    rows = [
        one_study(f"1.{-number % 7}.{number}", StudyDate=day.isoformat().replace("-", ""), PatientName=patient)
        for number, day in enumerate(days)
    ]
    names = study_names([*rows, one_study("1.2", StudyDate="NULL", PatientName=patient)], READABLE)
    assert names == sorted(names, key=str.encode)


@given(st.lists(numbers, max_size=6))
@example(["1", "1", "01", "1.0", " 1"])
def test_repeated_numbers_keep_their_instances_apart(repeated: list[str]) -> None:
    rows = [one_instance("1", "2", f"1.{index}", InstanceNumber=text) for index, text in enumerate(repeated)]
    assert len(set(instance_names(rows, READABLE))) == len(rows)


# The coincidences.


def test_equal_names_with_equal_six_all_take_ten() -> None:
    """Also when only case differs; an entry with another text keeps six."""
    one, other = SAME_SIX
    rows = [
        one_study(one, StudyDescription="Head"),
        one_study(other, StudyDescription="HEAD"),
        one_study("1.2.3", StudyDescription="Head"),
    ]
    assert study_names(rows, READABLE) == [
        f"undated_Head_{crockford(one, 10)}",
        f"undated_HEAD_{crockford(other, 10)}",
        f"undated_Head_{crockford('1.2.3', 6)}",
    ]
    apart = [one_study(one, StudyDescription="Head"), one_study(other, StudyDescription="Neck")]
    assert crockford(one, 6) == crockford(other, 6)
    assert study_names(apart, READABLE) == [f"undated_Head_{crockford(one, 6)}", f"undated_Neck_{crockford(other, 6)}"]


def test_equal_names_with_equal_ten_take_the_whole_digest() -> None:
    one, other = SAME_TEN
    rows = [one_study(UID, StudyDate="20200101", PatientName="P" * 300) for UID in SAME_TEN]
    names = study_names(rows, READABLE)
    assert crockford(one, 10) == crockford(other, 10)
    assert [name.rpartition("_")[2] for name in names] == [crockford(one, 52), crockford(other, 52)]
    assert all(name.startswith("2020-01-01_PPP") and len(name) <= MAX_STEM for name in names)


def test_the_style_uid_needs_no_digest_for_uids_that_share_one() -> None:
    assert uid_names([*SAME_SIX, *SAME_TEN]) == [*SAME_SIX, *SAME_TEN]


def test_albums_whose_ids_differ_in_case_only() -> None:
    ids = ["dTxCc6OJyG", "DTXCC6OJYG"]
    for style, prefix in ((READABLE, "Trial_"), (UID, "")):
        names = album_names([one_album(album_id, name="Trial") for album_id in ids], style)
        assert names == [f"{prefix}{album_id}_{crockford(album_id, 6)}" for album_id in ids]
    assert album_names([one_album(ids[0], name="A"), one_album(ids[1], name="B")], READABLE) == [
        "A_dTxCc6OJyG",
        "B_DTXCC6OJYG",
    ]


def test_albums_that_differ_in_what_only_lower_case_tells_apart() -> None:
    albums_ = [one_album("abc", name="ı"), one_album("ABC", name="i"), one_album("Abc", name="I")]
    assert_distinct_without_case(album_names(albums_, READABLE))


def test_an_album_that_pretends_to_be_another_with_a_digest() -> None:
    ids = ["abc", "ABC"]
    forged = one_album(crockford("abc", 6), name="Trial_abc")
    names = album_names([*(one_album(album_id, name="Trial") for album_id in ids), forged], READABLE)
    assert_distinct_without_case(names)
