"""S10: until a file was opened, its size is an upper bound; never less than the truth, never 0, never absurd."""

from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data.data_manager import DATA_ROOT

from kheopsfs.fetch.sizes import HEADER_ROOM, LARGEST_BOUND, STORAGE_OBJECT_SIZE, UNKNOWN_SIZE, bound, ceiling
from kheopsfs.kheops.contents import InstanceFile, InstanceThumbnail, StudyZip
from kheopsfs.kheops.records import EVERYTHING, Instance, Study

SAMPLES = sorted(Path(DATA_ROOT, "test_files").rglob("*.dcm"))  # what the package itself ships
LISTED = ("Rows", "Columns", "BitsAllocated", "NumberOfFrames")


def instance(attributes: dict[str, str]) -> InstanceFile:
    record = Instance.pack(attributes, StudyInstanceUID="1", SeriesInstanceUID="1.2", SOPInstanceUID="1.2.3")
    return InstanceFile(record)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_s10_bound_of_real_files_is_never_below_the_truth(sample: Path) -> None:
    dataset = pydicom.dcmread(sample, force=True, specific_tags=list(LISTED))
    listed = {keyword: str(dataset[keyword].value) for keyword in LISTED if keyword in dataset}
    assert bound(instance(listed)) >= sample.stat().st_size


@given(
    rows=st.integers(1, 65_535),
    columns=st.integers(1, 65_535),
    frames=st.integers(1, 2000),
    bits=st.sampled_from([1, 8, 12, 16, 32, 64]),
    samples=st.integers(1, 4),
)
def test_s10_bound_holds_every_image_uncompressed(
    rows: int, columns: int, frames: int, bits: int, samples: int
) -> None:
    listed = {"Rows": str(rows), "Columns": str(columns), "BitsAllocated": str(bits), "NumberOfFrames": str(frames)}
    pixels = rows * columns * frames * samples * bits // 8
    if pixels + HEADER_ROOM <= LARGEST_BOUND:
        assert bound(instance(listed)) >= pixels + HEADER_ROOM


@given(hint=st.integers(1, 2**32), pixels=st.booleans())
def test_s10_bound_holds_the_servers_own_hint(hint: int, pixels: bool) -> None:
    listed = {STORAGE_OBJECT_SIZE: str(hint)} | ({"Rows": "2", "Columns": "2"} if pixels else {})
    assert bound(instance(listed)) > hint


@given(st.dictionaries(st.sampled_from([*LISTED, STORAGE_OBJECT_SIZE]), st.text(max_size=400)))
def test_s10_bound_of_absurd_lists_is_neither_zero_nor_absurd(listed: dict[str, str]) -> None:
    assert 0 < bound(instance(listed)) <= LARGEST_BOUND


def test_s10_nothing_known_is_a_flat_guess() -> None:
    assert bound(instance({})) == UNKNOWN_SIZE


@given(st.integers(0, 10**6))
def test_s10_bounds_of_renditions(count: int) -> None:
    study = Study.pack({"NumberOfStudyRelatedInstances": str(count)}, StudyInstanceUID="1")
    assert 0 < bound(StudyZip(EVERYTHING, study)) <= LARGEST_BOUND
    assert bound(InstanceThumbnail(instance({}).instance)) > 250 * 250 * 3


@given(
    listed=st.dictionaries(st.sampled_from(LISTED), st.sampled_from(["1", "512", "65535", "x", ""])),
    size=st.integers(0, 2**40),
)
def test_s16_a_body_may_take_what_its_bound_says_and_what_the_cache_may(listed: dict[str, str], size: int) -> None:
    contents = instance(listed), StudyZip(EVERYTHING, Study.pack({}, StudyInstanceUID="1"))
    for content in contents:
        assert ceiling(content, size) >= max(size, bound(content))
        assert ceiling(content, 0) <= 16 * LARGEST_BOUND
