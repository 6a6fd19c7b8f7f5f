"""Whole or cut: JPEG and zip, cut at every place a server or a line can cut them."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from retrieval_fixtures import dicom_file, instance_uid, study_zip_of

from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops import completeness
from kheopsfs.kheops.completeness import check_jpeg, check_zip, check_zip_origin


def jpeg() -> bytes:
    rendered = io.BytesIO()
    Image.linear_gradient("L").resize((40, 40)).save(rendered, "JPEG")
    return rendered.getvalue()


JPEG = jpeg()
FILES = [dicom_file(instance_uid(number), bytes(2000)) for number in range(3)]
ZIP = study_zip_of(FILES)


def test_a_whole_jpeg_is_accepted() -> None:
    check_jpeg(JPEG)


def test_a_jpeg_cut_anywhere_is_refused() -> None:
    for end in range(len(JPEG)):
        with pytest.raises(BadAnswerError):
            check_jpeg(JPEG[:end])


@pytest.mark.parametrize("data", [b"", b"<html>", b"\0" + JPEG, JPEG + b"\0", JPEG + b"\r\n"])
def test_what_is_not_exactly_a_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswerError):
        check_jpeg(data)


@pytest.mark.parametrize("expected", [3, None])
def test_a_whole_zip_is_accepted_and_counted(tmp_path: Path, expected: int | None) -> None:
    path = tmp_path / "study"
    path.write_bytes(ZIP)
    assert check_zip(path, expected) == 3
    with path.open("rb") as file:
        assert check_zip(file, expected) == 3


@pytest.mark.parametrize("expected", [0, 2, 4])
def test_another_number_of_instances_is_refused(expected: int) -> None:
    with pytest.raises(BadAnswerError):
        check_zip(io.BytesIO(ZIP), expected)


def test_a_zip_the_server_gave_up_is_refused_although_it_is_valid() -> None:
    given_up = study_zip_of([*FILES[:2], FILES[2][:500]], dicomdir=None)
    with zipfile.ZipFile(io.BytesIO(given_up)) as archive:
        assert archive.testzip() is None
    with pytest.raises(BadAnswerError, match="DICOMDIR"):
        check_zip(io.BytesIO(given_up), 3)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_zip_cut_anywhere_is_refused(tmp_path: Path, as_file: bool) -> None:
    path = tmp_path / "study"
    path.write_bytes(ZIP)
    for end in [*range(0, len(ZIP) - 700, 97), *range(len(ZIP) - 700, len(ZIP))][::-1]:
        if as_file:
            with path.open("r+b") as file:
                file.truncate(end)
        with pytest.raises(BadAnswerError):
            check_zip(path if as_file else io.BytesIO(ZIP[:end]), None)


def test_a_wrong_byte_in_an_instance_is_found() -> None:
    damaged = bytearray(ZIP)
    damaged[ZIP.index(FILES[1][-100:])] ^= 1
    with pytest.raises(BadAnswerError, match="checksum"):
        check_zip(io.BytesIO(damaged), 3)


def written_zip(*names: str, method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name in names:
            archive.writestr(name, FILES[0])
    return made


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([], id="nothing at all"),
        pytest.param(["DICOMDIR", "DICOM/0/1"], id="DICOMDIR first"),
        pytest.param(["DICOM/0/1", "DICOM/DICOMDIR"], id="DICOMDIR elsewhere"),
        pytest.param(["DICOM/0/1", "README", "DICOMDIR"], id="stranger"),
    ],
)
def test_another_layout_is_refused(names: list[str]) -> None:
    with pytest.raises(BadAnswerError):
        check_zip(written_zip(*names), None)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_entry_twice_is_not_two_instances() -> None:
    with pytest.raises(BadAnswerError):
        check_zip(written_zip("DICOM/0/1", "DICOM/0/1", "DICOMDIR"), 2)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_kheops_never_uses_are_refused(method: int) -> None:
    with pytest.raises(BadAnswerError):
        check_zip(written_zip("DICOM/0/1", "DICOMDIR", method=method), 1)


def with_directory_size(size: int) -> bytes:
    """A zip whose end record states another size of the central directory."""
    end = ZIP.rindex(b"PK\x05\x06")
    return ZIP[: end + 12] + struct.pack("<L", size) + ZIP[end + 16 :]


def with_entry_at(offset: int) -> bytes:
    """A zip whose directory says that its first entry lies at `offset`."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("DICOM/0/1", FILES[0])
        archive.writestr("DICOMDIR", b"a directory")
        archive.infolist()[0].header_offset = offset
    return made.getvalue()


def with_flags(flags: int) -> bytes:
    """A zip whose first entry has these general purpose flags."""
    entry = ZIP.index(b"PK\x01\x02")
    return ZIP[:6] + struct.pack("<H", flags) + ZIP[8 : entry + 8] + struct.pack("<H", flags) + ZIP[entry + 10 :]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_directory_size(0x7FFF_FFFF), id="directory before the start"),
        pytest.param(with_entry_at(1 << 62), id="entry far behind the end"),
        pytest.param(with_entry_at((1 << 64) - 1), id="entry where no file reaches"),
        pytest.param(with_flags(0x01), id="encrypted"),
        pytest.param(with_flags(0x20), id="patch"),
    ],
)
def test_a_zip_with_a_crooked_structure_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "study"
    path.write_bytes(data)
    for file in (path, io.BytesIO(data)):
        with pytest.raises(BadAnswerError):
            check_zip(file, None)


def test_a_file_that_cannot_be_read_is_not_the_servers_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_zip(tmp_path / "gone", None)


SMALL = study_zip_of([b"x" * 40])


@given(at=st.integers(0, len(SMALL) - 1), byte=st.integers(0, 255))
def test_one_wrong_byte_fails_in_no_other_way(at: int, byte: int) -> None:
    damaged = bytearray(SMALL)
    damaged[at] = byte
    try:
        assert check_zip(io.BytesIO(damaged), None) == 1
    except BadAnswerError:
        return


@given(noise=st.binary(max_size=300), end=st.integers(0, len(SMALL)))
@example(noise=b"PK\x05\x06" + bytes(8) + b"\xff" * 8 + b"\0\0", end=0)
def test_any_bytes_fail_in_no_other_way(noise: bytes, end: int) -> None:
    for data in (noise, SMALL[:end] + noise, noise + SMALL[end:]):
        try:
            check_zip(io.BytesIO(data), None)
        except BadAnswerError:
            continue


@pytest.mark.parametrize(
    "directory", [b"", b"a directory", FILES[0], bytes(200)], ids=["empty", "text", "file", "zeros"]
)
def test_a_zip_whose_directory_says_nothing_is_refused(directory: bytes) -> None:
    """S7: what is in such a zip is not known, so it is not shown."""
    with pytest.raises(BadAnswerError):
        check_zip_origin(io.BytesIO(study_zip_of(FILES, directory)), "1.2", {"1.2.3"})


def test_a_zip_that_would_unpack_to_many_times_its_size(tmp_path: Path) -> None:
    """It is refused by what its directory says, before hours are spent on unpacking it."""
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("DICOM/0/1", bytes(10_000_000))
        archive.writestr("DICOMDIR", b"a directory")
    with pytest.raises(BadAnswerError, match="many times its size"):
        check_zip(bomb, 1)


def test_a_zip_whose_directory_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "_DIRECTORY_LIMIT", 100_000)
    file = tmp_path / "study.zip"
    for count, is_whole in ((500, True), (5000, False)):
        with zipfile.ZipFile(file, "w") as archive:
            for number in range(count):
                archive.writestr(f"DICOM/0/{number}", b"")
            archive.writestr("DICOMDIR", b"a directory")
        if is_whole:
            assert check_zip(file, count) == count
        else:
            with pytest.raises(BadAnswerError, match="cut or damaged"):
                check_zip(file, count)
