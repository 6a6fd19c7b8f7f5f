"""Which instance a file is: judged against pydicom, on its own sample files and on damaged ones."""

import io
import struct
import zlib

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from retrieval_fixtures import dicom_file, instance_uid

from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops.dicomfile import HEAD_LIMIT, identify

UID = instance_uid(1)
FILE = dicom_file(UID, bytes(1000))
TRANSFER_SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]
# Samples that ship with pydicom: the common codecs, a big-endian, a deflated, a structured report, a PDF.
SAMPLES = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "image_dfl.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "SC_rgb_rle.dcm",
    "reportsi.dcm",
    "rtplan.dcm",  # its meta information names another instance than its data set
]


def element(tag: int, vr: bytes, value: bytes, byte_order: str = "<") -> bytes:
    """One explicit element with a length of two bytes."""
    return struct.pack(byte_order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def file_without_meta_uid(syntax: str, SOPInstanceUID: str | None) -> bytes:
    """A file whose meta information says nothing but the transfer syntax, written by pydicom."""
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.ImageType = ["DERIVED", "SECONDARY"]
    data_set.add_new("InstanceCreationDate", "DA", "20200101")
    if SOPInstanceUID is not None:
        data_set.SOPInstanceUID = SOPInstanceUID
    data_set.PatientName = "Nobody^Known"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    written = io.BytesIO()
    pydicom.dcmwrite(written, data_set, enforce_file_format=False)
    return bytes(128) + b"DICM" + written.getvalue().removeprefix(bytes(128) + b"DICM")


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_files_are_what_pydicom_says(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    with open(path, "rb") as file:  # noqa: PTH123  pydicom returns text
        data = file.read()
    assert identify(data, final=True) == pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID


def test_the_answer_comes_as_soon_as_the_bytes_allow() -> None:
    answers = [identify(FILE[:length], final=False) for length in range(len(FILE))]
    known = answers.index(UID)
    assert set(answers[:known]) == {None}
    assert set(answers[known:]) == {UID}
    assert FILE[:known].rstrip(b"\0").endswith(UID.encode()), "known with the last byte of the value"


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda syntax: syntax.name)
def test_the_data_set_answers_where_the_meta_information_does_not(syntax: str) -> None:
    data = file_without_meta_uid(syntax, UID)
    assert identify(data, final=True) == UID
    assert all(identify(data[:length], final=False) in {None, UID} for length in range(len(data)))


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda syntax: syntax.name)
def test_a_file_that_names_no_instance_is_refused(syntax: str) -> None:
    with pytest.raises(BadAnswerError):
        identify(file_without_meta_uid(syntax, None), final=True)


@pytest.mark.parametrize("meta_uid", [b"", b"1.2.99"])
def test_the_data_set_has_the_last_word(meta_uid: bytes) -> None:
    data = bytes(128) + b"DICM" + element(0x00020003, b"UI", meta_uid) + element(0x00080018, b"UI", b"1.2.34")
    assert identify(data, final=True) == "1.2.34"


@pytest.mark.parametrize(
    "data_set",
    [
        pytest.param(struct.pack("<HH2sHI", 8, 6, b"SQ", 0, 0xFFFFFFFF) + bytes(100), id="undefined length before it"),
        pytest.param(element(0x00080018, b"UI", b""), id="empty"),
        pytest.param(element(0x00080020, b"DA", b"20200101"), id="missing"),
    ],
)
def test_the_meta_information_answers_where_the_data_set_does_not(data_set: bytes) -> None:
    assert identify(bytes(128) + b"DICM" + element(0x00020003, b"UI", b"1.2.99") + data_set, final=False) == "1.2.99"


@pytest.mark.parametrize("tag", [0x00020003, 0x00080018])
def test_a_uid_is_not_read_before_its_last_byte_came(tag: int) -> None:
    data = bytes(128) + b"DICM" + element(tag, b"UI", b"1.2.34")
    assert [identify(data[:-missing], final=False) for missing in range(1, 7)] == [None] * 6


@pytest.mark.parametrize("padding", [b"", b"\0", b" "])
def test_padding_is_no_part_of_the_uid(padding: bytes) -> None:
    assert identify(bytes(128) + b"DICM" + element(0x00080018, b"UI", b"1.2.3" + padding), final=False) == "1.2.3"


@pytest.mark.parametrize(
    "uid", [b"..", b"../../etc/passwd", b"1.2/3", b"1.2\\1.3", b"\xff\xfe", b"1" * 65, b"\0\0", b"1 2"]
)
@pytest.mark.parametrize("tag", [0x00020003, 0x00080018])
def test_a_uid_that_could_be_something_else_is_refused(uid: bytes, tag: int) -> None:
    with pytest.raises(BadAnswerError):
        identify(bytes(128) + b"DICM" + element(tag, b"UI", uid), final=False)


@pytest.mark.parametrize("data", [b"<html>" + bytes(200), b"\xff\xd8" + bytes(126) + b"DIC\0"])
def test_what_is_not_dicom_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadAnswerError):
        identify(data, final=False)


@pytest.mark.parametrize("length", [0, 100, 130, 132, 140, 200, 300])
def test_a_file_that_ends_too_early_is_refused(length: int) -> None:
    assert identify(FILE[:length], final=False) is None
    with pytest.raises(BadAnswerError):
        identify(FILE[:length], final=True)


def test_a_head_that_never_says_is_given_up() -> None:
    endless = bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 1, b"OB", 0, 0xFFFFFFFF)
    assert identify(endless + bytes(HEAD_LIMIT // 2), final=False) is None
    with pytest.raises(BadAnswerError):
        identify(endless + bytes(HEAD_LIMIT), final=False)


def test_a_deflated_bomb_is_not_inflated_beyond_the_limit() -> None:
    import tracemalloc

    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = struct.pack("<HH2sHI", 8, 1, b"OB", 0, 1 << 30)
    packed = deflate.compress(bomb) + b"".join(deflate.compress(bytes(1 << 20)) for _ in range(200)) + deflate.flush()
    data = bytes(128) + b"DICM" + element(0x00020010, b"UI", DeflatedExplicitVRLittleEndian.encode()) + packed
    tracemalloc.start()
    with pytest.raises(BadAnswerError):
        identify(data, final=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * HEAD_LIMIT


@given(noise=st.binary(max_size=400), kept=st.integers(0, len(FILE)), final=st.booleans())
def test_whatever_the_bytes_the_outcome_is_one_of_three(noise: bytes, kept: int, final: bool) -> None:
    for syntax in TRANSFER_SYNTAXES:
        for start in (b"", bytes(128) + b"DICM", FILE[:kept], file_without_meta_uid(syntax, None)[: kept // 4 + 132]):
            try:
                uid = identify(start + noise, final)
            except BadAnswerError:
                continue
            assert uid is None or (0 < len(uid) <= 64 and set(uid) <= set("0123456789."))
            assert uid is not None or not final


@given(at=st.integers(132, 400), byte=st.integers(0, 255))
def test_one_wrong_byte_never_breaks_the_reader(at: int, byte: int) -> None:
    data = bytearray(FILE)
    data[at] = byte
    try:
        assert identify(bytes(data), final=True)
    except BadAnswerError:
        return
