import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tree_samples import NASTY, texts

from kheopsfs.tree.text import clean, cut, fold, is_device_name


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Thorax", "Thorax"),
        ("Cir  CardiacCirc  3.0  B20f", "Cir_CardiacCirc_3.0_B20f"),
        ("Cardiac - CT", "Cardiac-CT"),
        ("T1/T2", "T1-T2"),
        ("  padded  ", "padded"),
        ("a\\b:c*d?e\"f<g>h|i'j`k$l&m;n!o", "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o"),
        ("../../etc", "etc"),
        ("..", ""),
        ("-_.~x._-", "x"),
        ("NULL", ""),
        (" NULL ", ""),
        ("Null", "Null"),
        ("a\tb\nc", "a_b_c"),
        ("a\0b\x07c\x7f", "abc"),
        ("\u202egpj.exe", "gpj.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("e\u0301", "é"),
        ("e\u200b\u0301", "é"),
        ("\u0301lone mark", "lone_mark"),
        ("\u037e \u212a", "K"),
        ("non\u00a0breaking\u3000space", "non_breaking_space"),
        ("a\ufe0fb\u3164c\uffff", "abc"),
        ("Zürich 山田 שלום 👍🏽", "Zürich_山田_שלום_👍🏽"),
        ("100% (of) [x] {y} #1 @a +b =c ^d ,e", "100%_(of)_[x]_{y}_#1_@a_+b_=c_^d_,e"),
    ],
)
def test_examples(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(texts)
def test_cleaned_text_is_clean(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not set(cleaned) & set("/\\:*?\"<>|'`$&;! \t\n\0")
    assert cleaned == cleaned.lstrip("._-~").rstrip("._-")
    assert not any(run in cleaned for run in ("__", "--", "_-", "-_"))
    assert all(unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"} for character in cleaned)


@given(st.text(st.characters(categories=["Cs", "Lu", "Nd"])))
def test_lone_surrogates_do_not_survive(text: str) -> None:
    clean(text).encode()


@given(st.text("abcXYZ019", min_size=1))
def test_what_is_harmless_stays(text: str) -> None:
    assert clean(text) == text


def test_work_is_bounded_by_the_text_looked_at() -> None:
    assert clean("x" * 10_000_000) == clean("x" * 10_000)


@given(texts.map(clean), st.integers(1, 130))
@example(clean("é" * 100), 5)
@example(clean("a\u0301\u0323b\u0301"), 3)
def test_a_cut_text_is_the_clean_beginning_that_fits(text: str, room: int) -> None:
    short = cut(text, room)
    assert len(short.encode()) <= room
    assert text.startswith(short)
    assert clean(short) == short or short == "NULL"
    if len(text.encode()) <= room:
        assert short == text


@pytest.mark.parametrize(("text", "room", "short"), [("ab-cd", 3, "ab"), ("ab_._cd", 5, "ab"), ("éé", 3, "é")])
def test_a_cut_leaves_no_separator_and_no_half_character(text: str, room: int, short: str) -> None:
    assert cut(text, room) == short


def test_a_cut_keeps_marks_with_their_base() -> None:
    assert cut("ab" + "q\u0303\u0302", 5) == "ab"
    assert cut("ab" + "q\u0303\u0302", 7) == "abq\u0303\u0302"
    assert cut("👍🏽", 7) == "👍"  # the base alone is all that fits: better than nothing


@pytest.mark.parametrize(
    "name", ["CON", "con", "Prn.txt", "aux.", "nul.tar.gz", "COM1", "com0.x", "LPT9", "COM¹", "lpt³.a"]
)
def test_device_names(name: str) -> None:
    assert is_device_name(name)


@pytest.mark.parametrize("name", ["CONE", "CON_x", "xCON", "COM", "COM10", "LPTA", "", "a.CON"])
def test_names_that_are_no_devices(name: str) -> None:
    assert not is_device_name(name)


@given(texts, texts)
@example("straße", "STRASSE")
@example("É", "e\u0301")
@example("Σ", "ς")
def test_fold_is_at_least_as_coarse_as_file_systems(one: str, other: str) -> None:
    for form in ("NFC", "NFD"):
        if unicodedata.normalize(form, one).casefold() == unicodedata.normalize(form, other).casefold():
            assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("straße", "STRASSE"), ("É", "e\u0301"), ("Σ", "ς"), ("a", "A"), ("ı", "i")]
)
def test_fold_takes_these_for_one(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize("text", NASTY)
def test_cleaning_depends_on_nothing_but_the_text(text: str) -> None:
    before = clean(text)
    for other in NASTY:
        clean(other)
    assert clean(text) == before
