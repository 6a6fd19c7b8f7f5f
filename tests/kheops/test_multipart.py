"""The multipart parser: exact parts whatever the pieces, and nothing called whole that is not."""

import re
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from retrieval_fixtures import BOUNDARY, CONTENT_TYPE, multipart, part, pieces

from kheopsfs.errors import BadAnswerError
from kheopsfs.kheops.multipart import HEADER_LIMIT, PADDING_LIMIT, MultipartParser, PartBegun, PartData

SHORT = 'multipart/related; type="application/dicom"; boundary=b'

# Text that is made of what delimiters are made of meets a delimiter's look-alikes far more often than random bytes.
look_alikes = st.lists(
    st.sampled_from(
        [b"\r\n", b"--", b"b", b"\r\n--b", b"--b", b"-", b"\r", b"\n", b" ", b"\t", b"\r\n\r\n", b"x: 1", b"\0"]
    )
).map(b"".join)
contents = st.binary(max_size=200) | look_alikes
cuts = st.lists(st.integers(0, 2000), max_size=40)


@dataclass
class Read:
    """What one part turned out to be."""

    headers: dict[str, str]
    content: bytearray = field(default_factory=bytearray)
    proven: bool = False


def read(parser: MultipartParser, body: Iterable[bytes]) -> tuple[list[Read], BadAnswerError | None]:
    """All that a parser says about a body, and the error that ended it."""
    parts: list[Read] = []
    try:
        for piece in body:
            for event in parser.feed(piece):
                if isinstance(event, PartBegun):
                    assert not parts or parts[-1].proven
                    parts.append(Read(dict(event.headers)))
                elif isinstance(event, PartData):
                    assert event.data
                    assert not parts[-1].proven
                    parts[-1].content += event.data
                else:
                    parts[-1].proven = True
        parser.close()
    except BadAnswerError as error:
        return parts, error
    return parts, None


def whole(parts: list[Read]) -> list[bytes]:
    return [bytes(part.content) for part in parts if part.proven]


def body_of(written: list[bytes], *, with_length: list[bool], padding: bytes = b"") -> tuple[bytes, list[int]]:
    """A body with boundary ``b``, and for each part where the delimiter that proves it is over."""
    body = b"--b" + padding + b"\r\n"
    proofs = []
    for number, (content, stated) in enumerate(zip(written, with_length, strict=True), 1):
        length = b"Content-Length: %d\r\n" % len(content) if stated else b""
        body += b"Content-Type: application/dicom\r\n" + length + b"\r\n" + content + b"\r\n--b"
        body += b"--" if number == len(written) else padding + b"\r\n"
        proofs.append(len(body))
    return body, proofs


def delimiter_inside(content: bytes) -> bool:
    """Whether this content cannot be sent with the boundary ``b`` (RFC 2046 5.1.1: it must not occur in a part)."""
    return re.search(rb"\r\n--b(--|[ \t]*\r\n)", content + b"\r\n") is not None


@given(
    written=st.lists(st.tuples(contents, st.booleans()), min_size=1, max_size=6), cuts=cuts, blanks=st.integers(0, 5)
)
@example(written=[(b"\r\n--bx", False), (b"\r\n--b-", False), (b"--b\r\n", False), (b"", False)], cuts=[], blanks=1)
def test_any_parts_in_any_pieces_come_out_exactly(
    written: list[tuple[bytes, bool]], cuts: list[int], blanks: int
) -> None:
    assume(not any(delimiter_inside(content) for content, _ in written))
    sent = [content for content, _ in written]
    body, _ = body_of(sent, with_length=[stated for _, stated in written], padding=b" " * blanks)
    parts, error = read(MultipartParser(SHORT), pieces(body, cuts))
    assert error is None
    assert whole(parts) == sent
    assert all(part.headers["content-type"] == "application/dicom" for part in parts)


@given(content=contents)
def test_a_stated_length_lets_a_part_hold_even_delimiters(content: bytes) -> None:
    body, _ = body_of([content], with_length=[True])
    parts, error = read(MultipartParser(SHORT), [body])
    assert error is None
    assert whole(parts) == [content]


@given(
    written=st.lists(st.tuples(contents, st.booleans()), min_size=1, max_size=4), cuts=cuts, end=st.integers(0, 2000)
)
def test_cut_anywhere_only_what_a_delimiter_followed_is_whole(
    written: list[tuple[bytes, bool]], cuts: list[int], end: int
) -> None:
    assume(not any(delimiter_inside(content) for content, _ in written))
    sent = [content for content, _ in written]
    body, proofs = body_of(sent, with_length=[stated for _, stated in written])
    assume(end < len(body))
    parser = MultipartParser(SHORT)
    parts, error = read(parser, pieces(body[:end], cuts))
    assert error is not None
    assert not parser.complete
    assert whole(parts) == sent[: sum(proof <= end for proof in proofs)]
    assert all(content.startswith(part.content) for part, content in zip(parts, sent, strict=False))


def test_cut_at_every_byte() -> None:
    sent = [b"one\r\n--", b"", b"\r\n--bb three"]
    body, proofs = body_of(sent, with_length=[False, True, False], padding=b"\t ")
    for end in range(len(body)):
        parser = MultipartParser(SHORT)
        parts, error = read(parser, (body[at : at + 1] for at in range(end)))
        assert error is not None
        assert not parser.complete
        assert whole(parts) == sent[: sum(proof <= end for proof in proofs)]


@given(noise=st.binary(max_size=300) | look_alikes, cuts=cuts, started=st.booleans())
@example(noise=b"--b\r\n\r\n--b--", cuts=[], started=False)
@example(noise=b"\r\n--b\r\n--b--", cuts=[9], started=True)
def test_any_bytes_give_the_same_in_any_pieces_and_fail_only_in_one_way(
    noise: bytes, cuts: list[int], started: bool
) -> None:
    body = b"--b\r\n\r\n" * started + noise
    parts, error = read(MultipartParser(SHORT), [body])
    again, error_again = read(MultipartParser(SHORT), pieces(body, cuts))
    assert whole(parts) == whole(again)
    assert str(error) == str(error_again)


def test_preamble_and_epilogue_are_ignored() -> None:
    body = b"A preamble\r\n--bx\r\n" + multipart([b"one", b"two"]) + multipart([b"no part of it"])
    parts, error = read(MultipartParser(CONTENT_TYPE), [body])
    assert error is None
    assert whole(parts) == [b"one", b"two"]


def test_a_body_without_parts_is_complete() -> None:
    assert read(MultipartParser(SHORT), [b"--b--"]) == ([], None)


@pytest.mark.parametrize("body", [b"", b"\n--b\n\nx\n--b--\n", b"<html>--b--</html>", b"x--b--"])
def test_what_holds_no_delimiter_is_never_complete(body: bytes) -> None:
    parts, error = read(MultipartParser(SHORT), [body])
    assert parts == []
    assert isinstance(error, BadAnswerError)


def test_names_of_headers_are_lower_case_and_folded_lines_are_one() -> None:
    body = (
        part(b"", "CONTENT-Type:application/dicom;\r\n\ttransfer-syntax=1.2\r\nX-Empty:\r\n")
        + f"--{BOUNDARY}--".encode()
    )
    parts, error = read(MultipartParser(CONTENT_TYPE), [body])
    assert error is None
    assert parts[0].headers == {"content-type": "application/dicom; transfer-syntax=1.2", "x-empty": ""}


@pytest.mark.parametrize("stated", ["3", "5", "-4", "4 4", "four", "", "9" * 30])
def test_a_wrong_length_is_an_error(stated: str) -> None:
    body = part(b"four", f"Content-Length: {stated}\r\n") + multipart([b"next"])
    parser = MultipartParser(CONTENT_TYPE)
    parts, error = read(parser, [body])
    assert isinstance(error, BadAnswerError)
    assert whole(parts) == []
    assert list(parser.feed(multipart([b"later"]))) == [], "after an error nothing more may be proven"


@pytest.mark.parametrize("line", ["no colon\r\n", ": no name\r\n"])
def test_a_header_line_without_a_name_is_an_error(line: str) -> None:
    parts, error = read(MultipartParser(CONTENT_TYPE), [part(b"content", line) + multipart([])])
    assert parts == []
    assert isinstance(error, BadAnswerError)


@pytest.mark.parametrize("step", [1 << 20, 1000])
@pytest.mark.parametrize(("length", "accepted"), [(HEADER_LIMIT - 10, True), (HEADER_LIMIT + 1, False)])
def test_a_header_block_has_a_limit(length: int, accepted: bool, step: int) -> None:
    body = part(b"x", "X: " + "y" * (length - len("\r\nX: \r\n\r\n")) + "\r\n") + f"--{BOUNDARY}--".encode()
    parts, error = read(MultipartParser(CONTENT_TYPE), (body[at : at + step] for at in range(0, len(body), step)))
    assert whole(parts) == ([b"x"] if accepted else [])
    assert accepted == (error is None)


def test_an_endless_header_block_is_not_collected() -> None:
    parser = MultipartParser(CONTENT_TYPE)
    list(parser.feed(part(b"", "")[:-4] + b"X: "))
    with pytest.raises(BadAnswerError):
        for _ in range(3):
            list(parser.feed(b"y" * (HEADER_LIMIT // 2)))


@pytest.mark.parametrize(("blanks", "is_delimiter"), [(PADDING_LIMIT, True), (PADDING_LIMIT + 1, False)])
def test_blanks_after_a_delimiter_have_a_limit(blanks: int, is_delimiter: bool) -> None:
    content = b"a\r\n--b" + b" " * blanks + b"\r\n\r\nc"
    body = b"--b\r\n\r\n" + content + b"\r\n--b--"
    parts, error = read(MultipartParser(SHORT), (body[at : at + 1] for at in range(len(body))))
    assert error is None
    assert whole(parts) == ([b"a", b"c"] if is_delimiter else [content])


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/related; boundary=b", "b"),
        ("Multipart/Related;Boundary=b;type=x", "b"),
        ('multipart/related; type="a;boundary=c"; boundary="b"', "b"),
        (r'multipart/related; boundary="\b"', "b"),
        ("multipart/related; boundary=b; charset=utf-8", "b"),
        ('multipart/related; boundary="a b:=?/(),\'+_.-c"', "a b:=?/(),'+_.-c"),
        ('multipart/related;start="<r@resteasy>"; boundary=' + "x" * 70, "x" * 70),
    ],
)
def test_boundaries_that_are_understood(content_type: str, boundary: str) -> None:
    parts, error = read(MultipartParser(content_type), [f"--{boundary}\r\n\r\nx\r\n--{boundary}--".encode()])
    assert error is None
    assert whole(parts) == [b"x"]


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/html",
        "application/dicom",
        "multipart/mixed; boundary=b",
        "multipart/related",
        "multipart/related; boundary=",
        'multipart/related; boundary=""',
        'multipart/related; boundary="b',
        'multipart/related; boundary="b "',
        "multipart/related; boundary=b\u00e9",
        "multipart/related; boundary=a@b",
        "multipart/related; boundary=" + "x" * 71,
        'multipart/related; type="boundary=b"',
    ],
)
def test_content_types_that_are_refused(content_type: str) -> None:
    with pytest.raises(BadAnswerError):
        MultipartParser(content_type)


@given(st.text())
def test_any_content_type_is_understood_or_refused(text: str) -> None:
    for content_type in (text, "multipart/related;" + text):
        try:
            MultipartParser(content_type)
        except BadAnswerError:
            continue


def test_memory_does_not_grow_with_the_part() -> None:
    piece = bytes(64 * 1024)
    parser = MultipartParser(CONTENT_TYPE)
    list(parser.feed(part(b"")[:-2]))
    tracemalloc.start()
    for _ in range(1000):
        list(parser.feed(piece))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(piece)
