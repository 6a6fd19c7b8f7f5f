"""Retrieval over real sockets: what a whole, a cut and a wrong answer become."""

import io
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from retrieval_fixtures import (
    BOUNDARY,
    CONTENT_TYPE,
    SERIES,
    STUDY,
    Reply,
    Request,
    dicom_file,
    instance_uid,
    multipart,
    part,
    pieces,
    scripted_server,
    study_zip_of,
)

from kheopsfs.errors import BadAnswerError, NotFoundError
from kheopsfs.kheops import retrieve
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.completeness import check_zip
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.delivery import InstanceReader
from kheopsfs.kheops.records import EVERYTHING, INBOX, Source
from kheopsfs.kheops.retrieve import InstanceBegun, InstanceBytes, InstanceEvent, InstanceProven
from kheopsfs.kheops.tokens import TokenInfo

UIDS = [instance_uid(number) for number in range(4)]
FILES = [dicom_file(uid, bytes([number]) * (50 + 700 * number)) for number, uid in enumerate(UIDS)]
BODY = multipart(FILES)
CLOSING = f"--{BOUNDARY}--".encode()

# For each file, where the delimiter that proves it is over.
PROOFS = [
    BODY.index(b"\r\n--" + BOUNDARY.encode(), BODY.index(file) + len(file)) + len("\r\n--" + BOUNDARY + "--")
    for file in FILES
]

IMAGE = b"\xff\xd8" + bytes(1000) + b"\xff\xd9"


def file_with_private_information(length: int, written: int | None = None) -> bytes:
    """A file with private file meta information (0002,0102) of so many bytes before anything tells which it is."""
    information = struct.pack("<HH2sHI", 0x0002, 0x0102, b"OB", 0, length) + bytes(
        length if written is None else written
    )
    return FILES[0][:132] + information + FILES[0][132:]


@asynccontextmanager
async def asking(reply: Reply) -> AsyncIterator[tuple[Client, list[Request]]]:
    """A client of a server that always gives this reply, and what the server was asked."""
    async with scripted_server(reply) as server:
        address, _ = parse_address(server.url)
        async with Client(address, Credentials(Token("T" * 22)), idle_timeout=20) as client:
            yield client, server.requests


@dataclass
class Delivered:
    """What became known of an answer."""

    proven: list[tuple[str, bytes]] = field(default_factory=list)
    expected_sizes: list[int | None] = field(default_factory=list)
    largest_piece: int = 0
    error: BadAnswerError | None = None
    _current: str = ""
    _content: bytearray = field(default_factory=bytearray)

    def take(self, event: InstanceEvent) -> None:
        match event:
            case InstanceBegun(SOPInstanceUID=uid, expected_size=size):
                self._current, self._content = uid, bytearray()
                self.expected_sizes.append(size)
            case InstanceBytes(data=data):
                assert self._current
                self._content += data
                self.largest_piece = max(self.largest_piece, len(data))
            case InstanceProven():
                self.proven.append((self._current, bytes(self._content)))
                self._current = ""


async def retrieved(client: Client, SOPInstanceUID: str | None) -> Delivered:
    delivered = Delivered()
    try:
        async with retrieve.instances(client, STUDY, SERIES, SOPInstanceUID) as events:
            async for event in events:
                delivered.take(event)
    except BadAnswerError as error:
        delivered.error = error
    return delivered


async def delivered_by(reply: Reply, SOPInstanceUID: str | None) -> Delivered:
    async with asking(reply) as (client, _):
        return await retrieved(client, SOPInstanceUID)


@pytest.mark.parametrize("step", [1, 100, 64 * 1024])
@pytest.mark.trio
async def test_a_series_arrives_exactly(step: int) -> None:
    async with asking(Reply([BODY[at : at + step] for at in range(0, len(BODY), step)])) as (client, requests):
        delivered = await retrieved(client, None)
    assert delivered.error is None
    assert delivered.proven == list(zip(UIDS, FILES, strict=True))
    assert [request.path for request in requests] == [f"/api/studies/{STUDY}/series/{SERIES}"]
    assert requests[0].query == {}
    assert requests[0].headers["accept"] == 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.trio
async def test_one_instance_arrives_exactly() -> None:
    async with asking(Reply([multipart(FILES[2:3])])) as (client, requests):
        delivered = await retrieved(client, UIDS[2])
    assert delivered.error is None
    assert delivered.proven == [(UIDS[2], FILES[2])]
    assert [request.path for request in requests] == [f"/api/studies/{STUDY}/series/{SERIES}/instances/{UIDS[2]}"]


@pytest.mark.parametrize("broken", [False, True], ids=["the body ends in the ordinary way", "the connection breaks"])
@pytest.mark.trio
async def test_a_series_cut_anywhere_keeps_what_was_proven(broken: bool) -> None:
    around = {position + offset for position in [0, *PROOFS] for offset in range(-50, 3)}
    within = range(0, len(BODY), 301)
    ends = sorted(end for end in around.union(within) if 0 <= end < PROOFS[-1])
    reply = Reply([], broken=broken)
    async with asking(reply) as (client, _):
        for end in ends:
            reply.chunks = [BODY[:end]]
            delivered = await retrieved(client, None)
            count = sum(proof <= end for proof in PROOFS)
            assert delivered.proven == list(zip(UIDS, FILES, strict=True))[:count]
            assert delivered.error is not None


@pytest.mark.parametrize("broken", [False, True], ids=["the body ends in the ordinary way", "the connection breaks"])
@pytest.mark.trio
async def test_one_instance_cut_anywhere_is_never_proven(broken: bool) -> None:
    body = multipart(FILES[:1])
    reply = Reply([], broken=broken)
    async with asking(reply) as (client, _):
        for end in [*range(0, len(body) - 60, 37), *range(len(body) - 60, len(body) - len("-\r\n") + 1)]:
            reply.chunks = [body[:end]]
            delivered = await retrieved(client, UIDS[0])
            assert delivered.proven == []
            assert delivered.error is not None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(multipart(FILES[1:2]), id="another instance"),
        pytest.param(multipart([FILES[0], FILES[0]]), id="two parts"),
        pytest.param(multipart([FILES[0], FILES[1]]), id="two parts, the second another instance"),
        pytest.param(part(FILES[0]) + part(b"")[:-2], id="another part begins"),
        pytest.param(CLOSING, id="no part"),
        pytest.param(multipart([b""]), id="an empty part"),
        pytest.param(multipart([b"short"]), id="a short part that is not DICOM"),
        pytest.param(multipart([b"<html>" + bytes(5000)]), id="a long part that is not DICOM"),
        pytest.param(part(FILES[0], "Content-Length: 5\r\n") + CLOSING, id="a wrong length"),
        pytest.param(b'{"message": "no multipart"}', id="no multipart"),
        pytest.param(b"", id="nothing"),
    ],
)
@pytest.mark.trio
async def test_a_wrong_answer_for_one_instance_is_refused(body: bytes) -> None:
    delivered = await delivered_by(Reply([body]), UIDS[0])
    assert delivered.proven == []
    assert delivered.error is not None


@pytest.mark.parametrize("SOPInstanceUID", [None, UIDS[0]], ids=["series", "instance"])
@pytest.mark.parametrize(
    "content_type", ["text/html", "application/json", "multipart/related", "application/dicom", ""]
)
@pytest.mark.trio
async def test_another_type_is_refused(content_type: str, SOPInstanceUID: str | None) -> None:
    delivered = await delivered_by(Reply([multipart(FILES[:1])], content_type), SOPInstanceUID)
    assert delivered.proven == []
    assert delivered.error is not None


@pytest.mark.trio
async def test_a_series_without_parts_is_refused() -> None:
    assert (await delivered_by(Reply([CLOSING]), None)).error is not None


@pytest.mark.trio
async def test_what_came_before_a_bad_part_stays_proven() -> None:
    delivered = await delivered_by(Reply([multipart([FILES[0], b"not DICOM", FILES[1]])]), None)
    assert delivered.proven == [(UIDS[0], FILES[0])]
    assert delivered.error is not None


@pytest.mark.trio
async def test_an_instance_that_comes_twice_is_told_twice() -> None:
    delivered = await delivered_by(Reply([multipart([FILES[0], FILES[1], FILES[0]])]), None)
    assert delivered.error is None
    assert [uid for uid, _ in delivered.proven] == [UIDS[0], UIDS[1], UIDS[0]]


@pytest.mark.trio
async def test_206_says_that_something_is_missing() -> None:
    series = await delivered_by(Reply([multipart(FILES[:2])], status=206), None)
    assert series.proven == [(UIDS[0], FILES[0]), (UIDS[1], FILES[1])]
    assert series.error is not None
    assert "incomplete" in str(series.error)
    instance = await delivered_by(Reply([multipart(FILES[:1])], status=206), UIDS[0])
    assert instance.proven == []
    assert instance.error is not None


@pytest.mark.parametrize("SOPInstanceUID", [None, UIDS[0]], ids=["series", "instance"])
@pytest.mark.trio
async def test_a_connection_that_breaks_behind_the_closing_boundary_spoils_nothing(SOPInstanceUID: str | None) -> None:
    delivered = await delivered_by(Reply([multipart(FILES[:1])], broken=True), SOPInstanceUID)
    assert delivered.error is None
    assert delivered.proven == [(UIDS[0], FILES[0])]


@pytest.mark.trio
async def test_a_size_that_the_part_states_is_passed_on() -> None:
    stated = part(FILES[0], f"Content-Length: {len(FILES[0])}\r\n")
    delivered = await delivered_by(Reply([stated, part(FILES[1]), CLOSING]), None)
    assert delivered.error is None
    assert delivered.expected_sizes == [len(FILES[0]), None]


@pytest.mark.trio
async def test_a_large_instance_passes_in_small_pieces() -> None:
    chunk = bytes(range(256)) * 4096
    head = part(FILES[0])[:-2]
    reply = Reply([head, *[chunk] * 30, b"\r\n" + CLOSING])
    delivered = await delivered_by(reply, UIDS[0])
    assert delivered.error is None
    assert delivered.proven == [(UIDS[0], FILES[0] + chunk * 30)]
    assert delivered.largest_piece <= 256 * 1024 + 1024


def test_an_instance_begins_soon_after_its_head_told_which_it_is() -> None:
    told_late = file_with_private_information(5000)
    reader = InstanceReader(CONTENT_TYPE, None, partial=False)
    for file, known in ((told_late, 7000), (FILES[1], 700), (told_late, 7000)):
        list(reader.feed(part(b"")[:-2]))
        fed = 0
        content = file + bytes(20_000)
        while not [event for event in reader.feed(content[fed : fed + 100]) if isinstance(event, InstanceBegun)]:
            fed += 100
        assert fed <= 2 * known
        list(reader.feed(content[fed + 100 :] + b"\r\n"))


def test_a_head_that_never_tells_is_not_collected() -> None:
    reader = InstanceReader(CONTENT_TYPE, None, partial=False)
    list(reader.feed(part(file_with_private_information(1 << 30, written=0))[:-2]))
    with pytest.raises(BadAnswerError):
        for _ in range(17):
            list(reader.feed(bytes(64 * 1024)))


@pytest.mark.trio
async def test_leaving_early_ends_the_request() -> None:
    async with scripted_server(Reply([part(FILES[0])[:-2], *[bytes(1 << 20)] * 200])) as server:
        address, _ = parse_address(server.url)
        async with Client(address, Credentials(Token("T" * 22))) as client:
            async with retrieve.instances(client, STUDY, SERIES, None) as events:
                assert await anext(events) == InstanceBegun(UIDS[0], None)
            with trio.fail_after(20):
                await server.hung_up.wait()


@pytest.mark.parametrize("status", [404, 406, 410])
@pytest.mark.trio
async def test_what_is_not_there_is_not_found(status: int) -> None:
    async with asking(Reply([b"{}"], "text/plain", status)) as (client, _):
        with pytest.raises(NotFoundError):
            await retrieved(client, UIDS[0])
        with pytest.raises(NotFoundError):
            await retrieve.jpeg(client, STUDY, SERIES, None)
        with pytest.raises(NotFoundError):
            async with retrieve.study_zip(client, STUDY, None):
                raise AssertionError("must not be reached")


@given(
    bodies=st.lists(st.sampled_from([*FILES, b"", b"no DICOM", FILES[0][:300]]), max_size=5),
    cuts=st.lists(st.integers(0, 4000), max_size=10),
    end=st.integers(0, 12_000),
    asked=st.sampled_from([None, UIDS[0]]),
)
def test_whatever_comes_only_what_is_whole_and_asked_for_is_proven(
    bodies: list[bytes], cuts: Sequence[int], end: int, asked: str | None
) -> None:
    body = multipart(bodies)
    delivered = Delivered()
    reader = InstanceReader(CONTENT_TYPE, asked, partial=False)
    try:
        for piece in pieces(body[:end], cuts):
            for event in reader.feed(piece):
                delivered.take(event)
        reader.close()
    except BadAnswerError as error:
        delivered.error = error
    whole = end >= len(body) - 2
    if asked is None:
        good = bodies if all(file in FILES for file in bodies) else bodies[: [f in FILES for f in bodies].index(False)]
        assert [file for _, file in delivered.proven] == good[: len(delivered.proven)]
        assert (delivered.error is None) == (whole and good == bodies and bodies != [])
        assert len(delivered.proven) == len(good) or not whole
    else:
        right = whole and bodies == [FILES[0]]
        assert delivered.proven == [(UIDS[0], FILES[0])] * right
        assert (delivered.error is None) == right


@pytest.mark.trio
async def test_a_jpeg_is_asked_for_as_the_pacs_wants_it() -> None:
    async with asking(Reply([IMAGE], "image/jpeg")) as (client, requests):
        assert await retrieve.jpeg(client, STUDY, SERIES, UIDS[0]) == IMAGE
        assert await retrieve.jpeg(client, STUDY, SERIES, None) == IMAGE
    of_instance, of_series = requests
    assert of_instance.path == of_series.path == "/api/wado"
    assert of_instance.query == of_series.query | {"objectUID": UIDS[0]}
    assert of_series.query == {
        "requestType": "WADO",
        "studyUID": STUDY,
        "seriesUID": SERIES,
        "contentType": "image/jpeg",
        "rows": "250",
        "columns": "250",
        "frameNumber": "1",
    }


@pytest.mark.parametrize(
    "chunks",
    [[], [IMAGE[:-1]], [IMAGE[:500]], [b"\x89PNG\r\n"], [b"\xff\xd8", *[bytes(1 << 20)] * 17, b"\xff\xd9"]],
    ids=["empty", "last byte missing", "cut", "another type", "absurdly large"],
)
@pytest.mark.trio
async def test_a_bad_jpeg_is_refused(chunks: list[bytes]) -> None:
    async with asking(Reply(chunks, "image/jpeg")) as (client, _):
        with pytest.raises(BadAnswerError):
            await retrieve.jpeg(client, STUDY, SERIES, UIDS[0])


@pytest.mark.parametrize(("token", "sent"), [(None, "T" * 22), (Token("viewer.token-1"), "viewer.token-1")])
@pytest.mark.trio
async def test_a_zip_is_asked_for_with_the_given_token(token: Token | None, sent: str) -> None:
    archive = study_zip_of(FILES)
    async with (
        asking(Reply(list(pieces(archive, [100, 3000])), "application/zip")) as (client, requests),
        retrieve.study_zip(client, STUDY, token) as arriving,
    ):
        data = b"".join([piece async for piece in arriving])
    assert data == archive
    assert check_zip(io.BytesIO(data), len(FILES)) == len(FILES)
    assert requests[0].path == f"/api/studies/{STUDY}"
    assert requests[0].headers["accept"] == "application/zip"
    assert requests[0].headers["authorization"] == f"Bearer {sent}"


@pytest.mark.trio
async def test_what_is_no_zip_is_refused() -> None:
    async with asking(Reply([b"[]"], "application/json")) as (client, _):
        with pytest.raises(BadAnswerError):
            async with retrieve.study_zip(client, STUDY, None):
                raise AssertionError("must not be reached")


def test_only_a_user_token_needs_another_one_for_a_zip() -> None:
    user = TokenInfo("user", "somebody", frozenset({"user", "read"}), "id", "")
    album = TokenInfo("album", "somebody", frozenset({"read"}), "id", "a1")
    assert retrieve.zip_token_needed(user, INBOX)
    assert retrieve.zip_token_needed(user, Source("album", "a1"))
    assert not retrieve.zip_token_needed(user, EVERYTHING)
    assert not retrieve.zip_token_needed(album, EVERYTHING)
    assert not retrieve.zip_token_needed(album, Source("album", "a1"))
