"""Folders of one's own files: what is indexed, what is left out, and that bytes stay as they are."""

import hashlib
import io
import logging
import shutil
from pathlib import Path

import pydicom
import pytest
from demo_client import STORED, Demo, bodies
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from kheopsfs.demo import worlds
from kheopsfs.demo.bodies import PIECE, Body, FileBody, MemoryBody, PatternBody
from kheopsfs.demo.elements import lenient
from kheopsfs.demo.library import from_folder
from kheopsfs.errors import KheopsfsError


def shipped(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nested, names of all sorts, a copy of one instance, and things that are no DICOM."""
    root = tmp_path / "my data"
    (root / "deep/er").mkdir(parents=True)
    shutil.copy(shipped("CT_small.dcm"), root / "IM1")
    moved = pydicom.dcmread(shipped("CT_small.dcm"))
    moved.SeriesInstanceUID = "1.2.3.4"
    moved.save_as(root / "same instance elsewhere.dcm")
    shutil.copy(shipped("CT_small.dcm"), root / "zz copy of it.dcm")
    shutil.copy(shipped("MR_small_RLE.dcm"), root / "deep/er/ünï.dcm")
    shutil.copy(shipped("rtplan.dcm"), root / "deep/plan")
    shutil.copy(shipped("dicomdirtests/DICOMDIR"), root / "DICOMDIR")
    (root / "notes.txt").write_text("no image")
    (root / "empty").write_bytes(b"")
    (root / "cut.dcm").write_bytes(shipped("CT_small.dcm").read_bytes()[:400])
    (root / "gone").symlink_to("nowhere")
    return root


def test_what_is_indexed_and_what_is_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), lenient():
        library = from_folder(folder)
    paths = {Path(str(one.body.path)).name for one in library.instances() if isinstance(one.body, FileBody)}
    assert paths == {"IM1", "ünï.dcm", "plan"}, "the first of two copies is kept"
    said = [record.getMessage() for record in caplog.records]
    for name in ("zz copy of it.dcm", "same instance elsewhere.dcm", "DICOMDIR", "notes.txt", "empty", "cut.dcm"):
        assert any(line.endswith(name) for line in said), name
    assert len(said) == 6
    assert not [line for line in said if "CompressedSamples" in line], "no patient is named"


def test_the_bytes_of_the_files_are_delivered(folder: Path) -> None:
    originals = {
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("IM1", "deep/er/ünï.dcm", "deep/plan")
    }
    with Demo("--data", str(folder)) as demo:
        delivered = {
            hashlib.sha256(content).hexdigest()
            for place in demo.library()
            for content in bodies(demo.get(place.url, accept=STORED))
        }
        kinds = [one["kind"] for one in demo.announcement["tokens"]]
        assert kinds == ["user", "album"]
        assert int(demo.get("/api/studies?inbox").headers["x-total-count"]) == 3
        (album,) = demo.get("/api/albums").json()
        assert album["name"] == "my data"
        assert int(demo.get("/api/studies", "album token").headers["x-total-count"]) == 3
    assert delivered == originals


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(KheopsfsError, match="no DICOM file"):
        worlds.of_folder(tmp_path)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        worlds.of_folder(tmp_path / "nowhere")


@given(
    header=st.binary(max_size=40),
    pattern=st.binary(min_size=1, max_size=30),
    length=st.integers(0, 200),
    shift=st.integers(0, 60),
    offset=st.integers(0, 250),
    count=st.integers(0, 250),
)
def test_a_pattern_is_what_it_says(
    header: bytes, pattern: bytes, length: int, shift: int, offset: int, count: int
) -> None:
    body = PatternBody(header, memoryview(pattern), length, shift)
    whole = header + (pattern * (2 + (shift + length) // len(pattern)))[shift % len(pattern) :][:length]
    assert body.size == len(whole)
    assert b"".join(body.pieces()) == whole
    assert bytes(body.read_at(offset, count)) == whole[offset : offset + count]


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_all_bodies_are_read_alike(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(data)
    every: list[Body] = [
        MemoryBody(data),
        FileBody(tmp_path / "file"),
        PatternBody(b"", memoryview(data or b"x"), len(data)),
    ]
    for body in every:
        assert b"".join(body.pieces()) == data
        assert body.sha256() == hashlib.sha256(data).hexdigest()
        assert bytes(body.read_at(size // 2, 100)) == data[size // 2 :][:100]
        with body.open() as file:
            file.seek(-min(size, 5), io.SEEK_END)
            assert file.read() == data[size - min(size, 5) :]
            assert file.tell() == size


def test_lenient_lasts_as_long_as_it_is_asked_for() -> None:
    before = pydicom.config.settings.reading_validation_mode
    with lenient():
        assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
    assert pydicom.config.settings.reading_validation_mode == before
