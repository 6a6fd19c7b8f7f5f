"""Lists from servers that page, cap, shift and fail."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from scripted_server import ACTIVE_USER, Asked, Said, Script, said, said_in_chunks

from kheopsfs.errors import (
    BadAnswerError,
    KheopsfsError,
    NotFoundError,
    PermissionMissingError,
    ServerFaultError,
)
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.records import (
    EVERYTHING,
    INBOX,
    AlbumsQuery,
    InstancesQuery,
    Series,
    SeriesQuery,
    Source,
    StudiesQuery,
)
from kheopsfs.kheops.search import listing
from kheopsfs.kheops.tokens import TokenInfo

USER = TokenInfo("user", "ada", frozenset({"user"}), "aB3dE6gH9k", "")
ALBUM = TokenInfo("album", "ada", frozenset({"read"}), "aB3dE6gH9k", "dTxCc6OJyG")
IN_ALBUM = Source("album", "dTxCc6OJyG")
JSON = "application/json"


def study(n: int) -> dict[str, Any]:
    return {"0020000D": {"vr": "UI", "Value": [f"1.2.{n}"]}}


def instance(n: int, **more: Any) -> dict[str, Any]:
    return {"00080018": {"vr": "UI", "Value": [f"1.2.3.{n}"]}, **more}


def paged(
    rows: list[Any],
    cap: int = 10**9,
    total: Callable[[], int | None] | None = None,
    media_type: str = "application/dicom+json",
) -> Callable[[Asked], Said]:
    """Kheops's paging: 204 past the end, the total in a header."""

    def answer(asked: Asked) -> Said:
        offset, limit = int(asked.query["offset"]), min(int(asked.query["limit"]), cap)
        count = len(rows) if total is None else total()
        headers: dict[str, Any] = {} if count is None else {"X_Total_Count": count}
        page = rows[offset : offset + limit]
        return said(page, media_type, **headers) if page else said(status=204, **headers)

    return answer


def uids(records: Any) -> list[str]:
    return [record.StudyInstanceUID for record in records]


# Studies


@pytest.mark.trio
@pytest.mark.parametrize(
    ("info", "source", "narrowing"),
    [
        (USER, EVERYTHING, {}),
        (USER, INBOX, {"inbox": "true"}),
        (USER, IN_ALBUM, {"album": "dTxCc6OJyG"}),
        (ALBUM, IN_ALBUM, {"album": "dTxCc6OJyG"}),
    ],
)
async def test_what_a_study_list_is_asked_for(
    script: Script, client: Client, info: TokenInfo, source: Source, narrowing: dict[str, str]
) -> None:
    script.on("", said(status=204, X_Total_Count=0))
    assert await listing(client, info, StudiesQuery(source)) == []
    (asked,) = script.asked
    assert asked.path == "/api/studies"
    assert asked.query == {"limit": "1000", "offset": "0", "includefield": "StudyDescription", **narrowing}


@pytest.mark.trio
@pytest.mark.parametrize("query", [StudiesQuery(INBOX), SeriesQuery(INBOX, "1.2")])
async def test_an_album_token_has_no_inbox_to_ask_for(script: Script, client: Client, query: Any) -> None:
    with pytest.raises(PermissionMissingError, match="inbox"):
        await listing(client, ALBUM, query)
    assert not script.asked


@pytest.mark.trio
@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2000, 7345])
async def test_all_pages_are_taken_in_order_and_none_twice(script: Script, client: Client, count: int) -> None:
    script.on("", paged([study(n) for n in range(count)]))
    assert uids(await listing(client, USER, StudiesQuery(EVERYTHING))) == [f"1.2.{n}" for n in range(count)]
    assert sorted(int(asked.query["offset"]) for asked in script.asked) == list(range(0, count, 1000))


@pytest.mark.trio
async def test_four_pages_at_a_time(script: Script, client: Client) -> None:
    first = said([study(n) for n in range(1000)], X_Total_Count=9000)
    script.on("", first, Said(b"", "stall"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listing, client, USER, StudiesQuery(EVERYTHING))
        await script.until_asked("", 5)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(script.asked) == 5
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_server_with_smaller_pages_of_its_own(script: Script, client: Client) -> None:
    script.on("", paged([study(n) for n in range(950)], cap=100))
    assert uids(await listing(client, USER, StudiesQuery(EVERYTHING))) == [f"1.2.{n}" for n in range(950)]


@pytest.mark.trio
@pytest.mark.parametrize("count", [0, 5, 1000, 2500])
async def test_without_a_total_a_page_that_is_not_full_is_the_last(script: Script, client: Client, count: int) -> None:
    script.on("", paged([study(n) for n in range(count)], total=lambda: None))
    assert len(await listing(client, USER, StudiesQuery(EVERYTHING))) == count
    assert len(script.asked) == count // 1000 + 1


@pytest.mark.trio
async def test_a_server_without_totals_or_offsets_is_not_asked_for_ever(script: Script, client: Client) -> None:
    script.on("", said([study(n) for n in range(1000)]))
    assert len(await listing(client, USER, StudiesQuery(EVERYTHING))) == 1000
    assert len(script.asked) == 2


@pytest.mark.trio
async def test_a_total_that_is_a_lie_ends(script: Script, client: Client) -> None:
    script.on("", paged([study(n) for n in range(1500)], total=lambda: 10**11))
    assert len(await listing(client, USER, StudiesQuery(EVERYTHING))) == 1500


@pytest.mark.trio
async def test_a_list_that_shifts_while_it_is_read_is_read_again(script: Script, client: Client) -> None:
    rows = [study(n) for n in range(2000)]
    honest = paged(rows)

    def shifting(asked: Asked) -> Said:
        if len(script.asked) == 2:
            rows.insert(0, study(5000))  # the page that is asked for now repeats a row, and one is never seen
        return honest(asked)

    script.on("", shifting)
    found = uids(await listing(client, USER, StudiesQuery(EVERYTHING)))
    assert found == ["1.2.5000", *(f"1.2.{n}" for n in range(2000))]


@pytest.mark.trio
async def test_a_list_that_never_holds_still_is_everything_seen_of_it(script: Script, client: Client) -> None:
    rows = [study(n) for n in range(1500)]
    honest = paged(rows)

    def restless(asked: Asked) -> Said:
        rows.insert(0, study(5000 + len(rows)))
        return honest(asked)

    script.on("", restless)
    found = uids(await listing(client, USER, StudiesQuery(EVERYTHING)))
    assert len(found) == len(set(found))
    assert set(found) >= {f"1.2.{n}" for n in range(1499)}
    assert len(script.asked_for("offset=0")) == 3


@pytest.mark.trio
async def test_a_page_that_fails_fails_the_list_with_its_own_error(
    script: Script, client: Client, clock: trio.testing.MockClock
) -> None:
    script.on("", paged([study(n) for n in range(8000)]))
    script.on("offset=5000", said(status=502))
    with pytest.raises(ServerFaultError, match="502"):
        await listing(client, USER, StudiesQuery(EVERYTHING))


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (said({"message": "no list"}), BadAnswerError),
        (said(None), BadAnswerError),
        (said(status=404), NotFoundError),
        (said(status=403), PermissionMissingError),
    ],
)
async def test_lists_that_are_none(
    script: Script, client: Client, clock: trio.testing.MockClock, answer: Said, error: type[KheopsfsError]
) -> None:
    script.on("", answer)
    for query in (StudiesQuery(EVERYTHING), AlbumsQuery()):
        with pytest.raises(error):
            await listing(client, USER, query)


@pytest.mark.trio
async def test_401_on_a_list_is_a_permission_that_is_missing(script: Script, client: Client) -> None:
    script.on("", said(status=401))
    script.on("introspect", ACTIVE_USER)
    with pytest.raises(PermissionMissingError):
        await listing(client, USER, StudiesQuery(EVERYTHING))


# Series


@pytest.mark.trio
@pytest.mark.parametrize(
    ("source", "narrowing"), [(EVERYTHING, {}), (INBOX, {"inbox": "true"}), (IN_ALBUM, {"album": "dTxCc6OJyG"})]
)
async def test_series_are_asked_for_whole(
    script: Script, client: Client, source: Source, narrowing: dict[str, str]
) -> None:
    rows = [{"0020000E": {"Value": [f"7.{n}"]}, "00201209": {"Value": [str(n)]}} for n in (1, 2, 2)]
    script.on("", said(rows, X_Total_Count=3))
    found = await listing(client, USER, SeriesQuery(source, "1.2"))
    assert [each.SeriesInstanceUID for each in found if isinstance(each, Series)] == ["7.1", "7.2"]
    assert found[0].attributes() == {"NumberOfSeriesRelatedInstances": "1"}
    (asked,) = script.asked
    assert (asked.path, asked.query) == ("/api/studies/1.2/series", narrowing)


@pytest.mark.trio
@pytest.mark.parametrize("answer", [said(status=204, X_Total_Count=0), said([])])
async def test_no_series(script: Script, client: Client, answer: Said) -> None:
    script.on("", answer)
    assert await listing(client, USER, SeriesQuery(EVERYTHING, "1.2")) == []


@pytest.mark.trio
async def test_a_hidden_study(script: Script, client: Client) -> None:
    script.on("", said(b"<html>", "text/html", status=404))
    with pytest.raises(NotFoundError):
        await listing(client, USER, SeriesQuery(EVERYTHING, "1.2"))


# Instances


def query(expected: int | None = None, Modality: str = "CT") -> InstancesQuery:
    return InstancesQuery("1.2", "1.2.3", expected, Modality)


def dcm4chee(rows: list[Any], cap: int = 1000) -> Callable[[Asked], Said]:
    """An instance search as Kheops passes it on: no total, 500 past the end, never album or inbox."""

    def answer(asked: Asked) -> Said:
        if not asked.query.keys() <= {"limit", "offset", "orderby", "includefield"}:
            return said(status=502)
        offset, limit = int(asked.query.get("offset", 0)), min(int(asked.query.get("limit", cap)), cap)
        page = rows[offset : offset + limit]
        return said(page) if page else said(b"<html>", "text/html", status=500)

    return answer


def named(records: Any) -> list[str]:
    return [record.SOPInstanceUID for record in records]


@pytest.mark.trio
@pytest.mark.parametrize("Modality", ["CT", "MR", "US", "MG", "SM"])
async def test_images_are_asked_for_without_size_hints(script: Script, client: Client, Modality: str) -> None:
    script.on("", dcm4chee([instance(1)]))
    await listing(client, USER, query(1, Modality))
    (asked,) = script.asked
    assert asked.path == "/api/studies/1.2/series/1.2.3/instances"
    assert asked.query == {"limit": "1000", "offset": "0", "orderby": "SOPInstanceUID"}


@pytest.mark.trio
@pytest.mark.parametrize("Modality", ["SR", "DOC", "RTSTRUCT", "SEG", "ECG", "PR", "OT", "", "XYZ"])
async def test_what_rows_and_columns_cannot_bound_is_asked_for_with_size_hints(
    script: Script, client: Client, Modality: str
) -> None:
    script.on("", dcm4chee([instance(1, **{"77771053": {"vr": "UL", "Value": [4711]}, "00100010": {"Value": ["x"]}})]))
    (record,) = await listing(client, USER, query(1, Modality))
    assert script.asked[0].query["includefield"] == "all"
    assert record.attributes() == {"77771053": "4711"}, "what is not needed is not kept"


@pytest.mark.trio
@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500, 3000])
@pytest.mark.parametrize("known", [True, False])
async def test_a_long_series_is_paged_to_its_end(
    script: Script, client: Client, clock: trio.testing.MockClock, count: int, known: bool
) -> None:
    script.on("", dcm4chee([instance(n) for n in range(count)]))
    found = await listing(client, USER, query(count if known else None))
    assert named(found) == [f"1.2.3.{n}" for n in range(count)]
    if known:
        assert len(script.asked) == -(-count // 1000), "no page past the end, and no metadata"


@pytest.mark.trio
async def test_a_capped_list_is_completed_from_the_metadata(script: Script, client: Client) -> None:
    rows = [instance(n, **{"00200013": {"vr": "IS", "Value": [str(n)]}}) for n in range(3000)]
    hint = {"77771053": {"vr": "UL", "Value": [4711]}}
    script.on("/instances", lambda asked: said([row | hint for row in rows[:400]]))
    whole = said(rows).data.partition(b"\r\n\r\n")[2]
    script.on("/metadata", said_in_chunks(*[whole[n : n + 8000] for n in range(0, len(whole), 8000)]))
    found = await listing(client, USER, query(3000))
    assert sorted(named(found)) == sorted(f"1.2.3.{n}" for n in range(3000))
    assert sum("77771053" in record.attributes() for record in found) == 400, "the search's own rows stay"
    (asked,) = script.asked_for("metadata")
    assert asked.path == "/api/studies/1.2/series/1.2.3/metadata"
    assert asked.headers["accept-encoding"] == "gzip"


@pytest.mark.trio
@pytest.mark.parametrize(
    "answer", [said(status=404), said(status=502), said(b"[{"), said_in_chunks(b"[", whole=False, then="close")]
)
async def test_metadata_that_fail_leave_what_the_search_gave(
    script: Script, client: Client, clock: trio.testing.MockClock, answer: Said, caplog: pytest.LogCaptureFixture
) -> None:
    script.on("/instances", dcm4chee([instance(1)]))
    script.on("/metadata", answer)
    with caplog.at_level(logging.WARNING):
        assert named(await listing(client, USER, query(5))) == ["1.2.3.1"]
    assert "Only 1 of 5 instances could be listed" in caplog.text


@pytest.mark.trio
async def test_more_instances_than_expected_are_all_kept(script: Script, client: Client) -> None:
    script.on("", dcm4chee([instance(n) for n in range(9)]))
    assert len(await listing(client, USER, query(5))) == 9
    assert len(script.asked) == 1


@pytest.mark.trio
@pytest.mark.parametrize("status", [400, 500, 502])
@pytest.mark.parametrize("refused", [{"includefield"}, {"orderby"}, {"includefield", "orderby"}])
async def test_a_pacs_that_refuses_extensions_is_asked_without(
    script: Script, client: Client, clock: trio.testing.MockClock, status: int, refused: set[str]
) -> None:
    honest = dcm4chee([instance(1)])
    script.on("", lambda asked: said(status=status) if refused & asked.query.keys() else honest(asked))
    assert named(await listing(client, USER, query(1, "SR"))) == ["1.2.3.1"]
    last = script.asked[-1].query
    assert ("orderby" in last) == ("orderby" not in refused)
    assert "includefield" not in last


@pytest.mark.trio
async def test_a_pacs_that_fails_altogether(script: Script, client: Client, clock: trio.testing.MockClock) -> None:
    script.on("", said(status=502))
    with pytest.raises(ServerFaultError, match="502"):
        await listing(client, USER, query(3, "SR"))
    assert not script.asked_for("metadata")


@pytest.mark.trio
async def test_a_pacs_that_ignores_offsets(script: Script, client: Client) -> None:
    script.on("", said([instance(n) for n in range(1000)]))
    assert len(await listing(client, USER, query())) == 1000
    assert len(script.asked) == 2


@pytest.mark.trio
async def test_a_series_that_is_not_shown(script: Script, client: Client) -> None:
    script.on("", said(status=401))
    script.on("introspect", ACTIVE_USER)
    with pytest.raises(NotFoundError):
        await listing(client, USER, query(3))
    assert len(script.asked_for("instances")) == 1


@pytest.mark.trio
async def test_no_instances(script: Script, client: Client) -> None:
    script.on("", said(status=204))
    assert await listing(client, USER, query()) == []


# Albums


def album(album_id: Any, **more: Any) -> dict[str, Any]:
    return {"album_id": album_id, "name": f"Album {album_id}", **more}


@pytest.mark.trio
async def test_a_user_token_lists_all_albums(script: Script, client: Client) -> None:
    rows = [album(f"a{n:09}") for n in range(2500)]
    script.on("", paged(rows, media_type=JSON))
    found = await listing(client, USER, AlbumsQuery())
    assert [each.album_id for each in found] == [row["album_id"] for row in rows]  # type: ignore[attr-defined]
    assert {asked.path for asked in script.asked} == {"/api/albums"}
    assert script.asked[0].headers["accept"] == JSON


@pytest.mark.trio
async def test_an_album_token_lists_its_album(script: Script, client: Client) -> None:
    script.on("/albums/dTxCc6OJyG$", said(album("dTxCc6OJyG", number_of_studies=3), JSON))
    (found,) = await listing(client, ALBUM, AlbumsQuery())
    assert found.attributes() == {"name": "Album dTxCc6OJyG", "number_of_studies": "3"}


@pytest.mark.trio
async def test_members_of_an_album_become_text(script: Script, client: Client) -> None:
    row = album(
        "dTxCc6OJyG",
        name=" a/b\0 \N{GREEK SMALL LETTER ALPHA} ",
        description=None,
        modalities=["CT", "MR"],
        is_admin=True,
        is_favorite=False,
        number_of_studies=0,
        users=[{"sub": "x"}],
        odd={"a": 1},
        created_time="2020-01-02T03:04:05.678",
    )
    script.on("", said([row], JSON, X_Total_Count=1))
    (found,) = await listing(client, USER, AlbumsQuery())
    assert found.attributes() == {
        "name": "a/b \N{GREEK SMALL LETTER ALPHA}",
        "modalities": "CT\\MR",
        "is_admin": "true",
        "is_favorite": "false",
        "number_of_studies": "0",
        "created_time": "2020-01-02T03:04:05.678",
    }


@pytest.mark.trio
async def test_an_album_without_a_proper_id_is_left_out(
    script: Script, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    bad: list[Any] = ["..", "a/b", "", None, 7.5, "x" * 65, "a b", ["x"], {}]
    script.on("", said([*map(album, bad), 3, None, album("dTxCc6OJyG")], JSON, X_Total_Count=12))
    (found,) = await listing(client, USER, AlbumsQuery())
    assert found.album_id == "dTxCc6OJyG"  # type: ignore[attr-defined]
    assert "11 of 12 albums" in caplog.text
