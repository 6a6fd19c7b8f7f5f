"""Rows, packed: what goes in comes out, whatever a server calls its attributes."""

from hypothesis import given
from hypothesis import strategies as st

from kheopsfs.kheops.records import Album, Study, packed_name

NAMES = st.text(max_size=3) | st.sampled_from(["StudyDate", "PatientName", "a", "A", "0", "=", "=a", "==", "77771053"])


@given(st.dictionaries(NAMES, st.text()))
def test_what_is_packed_comes_out_as_it_was(attributes: dict[str, str]) -> None:
    assert Album.pack(attributes, album_id="dTxCc6OJyG").attributes() == attributes


@given(NAMES, NAMES)
def test_different_names_are_packed_differently(one: str, other: str) -> None:
    assert (packed_name(one) == packed_name(other)) == (one == other)


def test_the_keywords_of_every_list_take_one_character() -> None:
    assert len(packed_name("StudyDate")) == 1
    assert len(Study.pack({"StudyDate": ""}, StudyInstanceUID="1.2").packed) == len(b"\x81\xa1a\xa0")
