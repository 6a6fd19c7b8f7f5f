from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_samples import texts

from kheopsfs.tree.values import iso_date, kheops_moment, moment, padded, person, whole_number, zone


@pytest.mark.parametrize(
    ("PatientName", "name"),
    [
        ("MAGIX", "MAGIX"),
        ("Smith^John", "Smith-John"),
        ("Smith^John^Q^Dr^III", "Smith-John"),
        ("Smith^^^^", "Smith"),
        ("^John", "John"),
        ("^^Quentin", "Quentin"),
        ("van der Berg^Anna Maria", "van_der_Berg-Anna_Maria"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada-Tarou"),
        ("=山田^太郎=やまだ^たろう", "山田-太郎"),
        ("==やまだ^たろう", "やまだ-たろう"),
        ("^^^^=山田", "山田"),
        ("***=山田", "山田"),
        ("NULL^NULL=山田", "山田"),
        ("Иванов^Иван", "Иванов-Иван"),
        ("First^One\\Second^Two", "First-One"),
        ("O'Neil^Seán", "O-Neil-Seán"),
        ("NULL", ""),
        ("", ""),
        ("^^^^", ""),
        ("==", ""),
        ("^=^=^", ""),
    ],
)
def test_person_names(PatientName: str, name: str) -> None:
    assert person(PatientName) == name


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        (" 12 ", 12),
        ("+3", 3),
        ("-4", -4),
        ("12.0", 12),
        ("12.", 12),
        ("007", 7),
        ("-0", 0),
        ("2147483647", 2147483647),
        ("2147483648", None),
        ("9" * 5000, None),
        ("1.5", None),
        ("1e2", None),
        ("1\\2", None),
        ("٣", None),
        ("NULL", None),
        ("", None),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0", "0000"), ("10", "0010"), ("9999", "9999"), ("12345", "12345"), ("-5", "0-0005"), ("x", ""), ("", "")],
)
def test_padded_numbers(text: str, shown: str) -> None:
    assert padded(text, 4) == shown


@given(st.integers(0, 99999), st.integers(0, 99999))
def test_padded_numbers_sort_as_they_count(one: int, other: int) -> None:
    assert (padded(str(one), 5) < padded(str(other), 5)) == (one < other)


@given(st.integers(-(2**31) + 1, -1), st.integers(0, 2**31 - 1))
def test_negative_numbers_come_first_and_never_look_like_options(negative: int, other: int) -> None:
    assert padded(str(negative), 5) < padded(str(other), 5)
    assert not padded(str(negative), 5).startswith("-")


@given(st.dates())
def test_dates_in_both_spellings(day: datetime) -> None:
    spelt = f"{day.year:04d}{day.month:02d}{day.day:02d}"
    dotted = f"{day.year:04d}.{day.month:02d}.{day.day:02d}"
    assert iso_date(spelt) == iso_date(dotted) == iso_date(f" {spelt} ") == day.isoformat()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NULL",
        "20061319",
        "20060230",
        "00000000",
        "2006",
        "200610",
        "2006-10-19",
        "2006.1019",
        "2006101９",
        "20061019\\2",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert iso_date(text) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("+0000", 0),
        ("+0100", 3600),
        ("-0530", -19800),
        ("+1400", 50400),
        ("+1500", None),
        ("+0060", None),
        ("0100", None),
        ("", None),
    ],
)
def test_zones(text: str, seconds: int | None) -> None:
    assert zone(text) == seconds


_DAY = 1161216000  # 2006-10-19T00:00:00Z


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("101112", 36672),
        ("101112.987654", 36672),
        ("10:11:12", 36672),
        ("1011", 36660),
        ("10", 36000),
        ("235960", 86400),
        ("", 0),
        ("NULL", 0),
        ("991112", 0),
        ("106112", 0),
        ("noon", 0),
    ],
)
def test_times_of_day(time: str, seconds: int) -> None:
    assert moment("20061019", time, 0) == _DAY + seconds


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-12 * 4, 14 * 4))
def test_moments_honour_the_zone(local: datetime, quarters: int) -> None:
    offset = quarters * 900
    date = f"{local.year:04d}{local:%m%d}"
    expected = local.replace(tzinfo=UTC, microsecond=0) - timedelta(seconds=offset)
    assert moment(date, f"{local:%H%M%S}", offset) == round(expected.timestamp())


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2006-10-19T10:11:12", _DAY + 36672),
        ("2006-10-19T10:11:12.5", _DAY + 36672),
        ("2006-10-19T10:11:12.123456", _DAY + 36672),
        ("2006-13-19T10:11:12", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_of_kheops(time: str, seconds: int | None) -> None:
    assert kheops_moment(time) == seconds


@given(texts, texts)
def test_nothing_fails_on_any_text(one: str, other: str) -> None:
    person(one)
    padded(one, 5)
    iso_date(one)
    zone(one)
    kheops_moment(one)
    assert moment(one, other, 0) is None or iso_date(one)
