"""Lists, tokens and the three ways to present one, against the demo server, which behaves as Kheops does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from harness.server import DemoServer

from kheopsfs.errors import NotFoundError, PermissionMissingError, TokenRefusedError
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import AuthKind, Credentials, Token
from kheopsfs.kheops.records import (
    EVERYTHING,
    INBOX,
    Album,
    AlbumsQuery,
    Instance,
    InstancesQuery,
    Record,
    Series,
    SeriesQuery,
    Source,
    StudiesQuery,
    Study,
)
from kheopsfs.kheops.search import listing

ADA = "demo-ada"


@asynccontextmanager
async def client_of(demo: DemoServer, token: str, kind: AuthKind = "bearer") -> AsyncIterator[Client]:
    address, _ = parse_address(demo.url)
    async with Client(address, Credentials(Token(token), kind), idle_timeout=20) as client:
        yield client


def held_by(demo: DemoServer, *holders: str) -> dict[str, dict[str, Any]]:
    """Study UID → series UID → series, of what the holders (inbox by subject, or album) have."""
    held: dict[str, dict[str, Any]] = {}
    for study in demo.call("GET", "/library"):
        for series in study["series"]:
            if set(holders) & set(series["sources"]):
                held.setdefault(study["StudyInstanceUID"], {})[series["SeriesInstanceUID"]] = series
    return held


async def albums_of(client: Client) -> list[Album]:
    found = await listing(client, await client.introspect(), AlbumsQuery())
    return [album for album in found if isinstance(album, Album)]


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["bearer", "basic", "link"])
async def test_every_list_says_what_the_library_holds(demo: DemoServer, kind: AuthKind) -> None:
    demo.clear_requests()
    async with client_of(demo, demo.token("user"), kind) as client:
        info = await client.introspect()
        assert (info.kind, info.subject) == ("user", ADA)
        albums = [album.album_id for album in await albums_of(client)]
        sources = {INBOX: [ADA], EVERYTHING: [ADA, *albums], **{Source("album", one): [one] for one in albums}}
        for source, holders in sources.items():
            held = held_by(demo, *holders)
            studies = await listing(client, info, StudiesQuery(source))
            assert {study.StudyInstanceUID for study in studies if isinstance(study, Study)} == set(held)
            assert len(studies) == len(held)
            for StudyInstanceUID, series in held.items():
                found = await listing(client, info, SeriesQuery(source, StudyInstanceUID))
                assert {each.SeriesInstanceUID for each in found if isinstance(each, Series)} == set(series)
    entries = demo.requests()
    assert {entry["auth"] for entry in entries if "introspect" not in entry["path"]} == {kind}
    assert {entry["status"] for entry in entries} <= {200, 204}


@pytest.mark.trio
async def test_instances_of_every_series(demo: DemoServer) -> None:
    async with client_of(demo, demo.token("user")) as client:
        info = await client.introspect()
        for StudyInstanceUID, series in held_by(demo, ADA).items():
            rows = await listing(client, info, SeriesQuery(INBOX, StudyInstanceUID))
            for row in rows:
                assert isinstance(row, Series)
                listed = row.attributes()
                expected = int(listed["NumberOfSeriesRelatedInstances"])
                query = InstancesQuery(StudyInstanceUID, row.SeriesInstanceUID, expected, listed.get("Modality", ""))
                found = await listing(client, info, query)
                held = {one["SOPInstanceUID"]: one for one in series[row.SeriesInstanceUID]["instances"]}
                assert {one.SOPInstanceUID for one in found if isinstance(one, Instance)} == set(held)
                assert all(bounded(one.attributes()) for one in found)


def bounded(listed: dict[str, str]) -> bool:
    return "77771053" in listed or {"Rows", "Columns"} <= listed.keys()


@pytest.mark.trio
async def test_values_arrive_as_the_standard_means_them(demo: DemoServer) -> None:
    async with client_of(demo, demo.token("user")) as client:
        info = await client.introspect()
        found: dict[str, dict[str, str]] = {
            study.StudyInstanceUID: study.attributes()
            for study in await listing(client, info, StudiesQuery(EVERYTHING))
            if isinstance(study, Study)
        }
        demo.call("POST", "/behaviour", json={"numbers": True})
        again = await listing(client, info, StudiesQuery(EVERYTHING))
        demo.call("POST", "/behaviour", json={"numbers": False})
    assert any("\\" in listed["ModalitiesInStudy"] for listed in found.values())
    assert all(
        value == value.strip(" ") for listed in found.values() for text in listed.values() for value in text.split("\\")
    )
    assert any(listed.get("StudyDescription") for listed in found.values())
    assert {study.StudyInstanceUID: study.attributes() for study in again if isinstance(study, Study)} == found


@pytest.mark.trio
async def test_an_album_token_sees_its_album(demo: DemoServer) -> None:
    async with client_of(demo, demo.token("album")) as client:
        info = await client.introspect()
        assert info.kind == "album"
        (album,) = await albums_of(client)
        assert album.album_id == info.album_id
        assert album.attributes()["name"].startswith("Chest/Heart trial")
        held = held_by(demo, info.album_id)
        for source in (EVERYTHING, Source("album", info.album_id)):
            studies: list[Record] = await listing(client, info, StudiesQuery(source))
            assert {study.StudyInstanceUID for study in studies if isinstance(study, Study)} == set(held)
        assert await client.token_expiry(info) is None
        with pytest.raises(NotFoundError):
            await listing(client, info, StudiesQuery(Source("album", "nosuchalbm")))


@pytest.mark.trio
async def test_an_empty_album_and_one_without_read_permission(demo: DemoServer) -> None:
    async with client_of(demo, demo.token("album", "empty")) as client:
        assert await listing(client, await client.introspect(), StudiesQuery(EVERYTHING)) == []
    async with client_of(demo, demo.token("album", "write only")) as client:
        info = await client.introspect()
        assert "read" not in info.scopes
        with pytest.raises(PermissionMissingError):
            await listing(client, info, StudiesQuery(EVERYTHING))


@pytest.mark.trio
async def test_the_end_of_a_user_token_is_known(demo: DemoServer) -> None:
    async with client_of(demo, demo.token("user")) as client:
        expiry = await client.token_expiry(await client.introspect())
    assert expiry is not None
    assert expiry.tzinfo is not None


@pytest.mark.trio
@pytest.mark.parametrize("what", ["expired", "revoked"])
async def test_dead_tokens(demo: DemoServer, what: str) -> None:
    async with client_of(demo, demo.token("user", what)) as client:
        with pytest.raises(TokenRefusedError):
            await client.introspect()
        with pytest.raises(TokenRefusedError):
            await client.get("/studies", parse=bytes)


@pytest.mark.trio
async def test_a_viewer_token_shows_its_study_and_cannot_be_mounted(demo: DemoServer) -> None:
    StudyInstanceUID, series = next(iter(held_by(demo, ADA).items()))
    async with client_of(demo, demo.token("user")) as client:
        viewer = await client.viewer_token(StudyInstanceUID, INBOX)
        path = f"/studies/{StudyInstanceUID}/series/{next(iter(series))}"
        async with client.stream(path, accept='multipart/related; type="application/dicom"', token=viewer) as body:
            assert body.media_type == "multipart/related"
        with pytest.raises(NotFoundError):
            await client.viewer_token("1.2.3.4", INBOX)
    async with client_of(demo, viewer.reveal()) as client:
        with pytest.raises(TokenRefusedError, match="cannot be mounted"):
            await client.introspect()


@pytest.mark.trio
async def test_a_hidden_study_and_a_hidden_series(demo: DemoServer) -> None:
    async with client_of(demo, demo.token("album")) as client:
        info = await client.introspect()
        own = held_by(demo, info.album_id)
        foreign = next(uid for uid in held_by(demo, ADA) if uid not in own)
        with pytest.raises(NotFoundError):
            await listing(client, info, SeriesQuery(EVERYTHING, foreign))
        with pytest.raises(NotFoundError):
            await listing(client, info, InstancesQuery(foreign, "1.2.3", 1, "CT"))


@pytest.mark.trio
async def test_long_lists_from_a_pacs_that_stops_at_a_thousand() -> None:
    with DemoServer("--synthetic", "studies=2300,slices=2500") as demo:
        async with client_of(demo, demo.token("user")) as client:
            info = await client.introspect()
            studies = await listing(client, info, StudiesQuery(EVERYTHING))
            uids = {study.StudyInstanceUID for study in studies if isinstance(study, Study)}
            assert len(uids) == len(studies) >= 2300
            study, series = next(
                (study["StudyInstanceUID"], series)
                for study in demo.call("GET", "/library")
                for series in study["series"]
                if len(series["instances"]) == 2500
            )
            demo.clear_requests()
            query = InstancesQuery(study, series["SeriesInstanceUID"], 2500, series["Modality"])
            found = await listing(client, info, query)
            held = {one["SOPInstanceUID"] for one in series["instances"]}
            assert {one.SOPInstanceUID for one in found if isinstance(one, Instance)} == held
            assert len(demo.requests("/instances")) == 3
            demo.clear_requests()
            demo.fault(kind="body", path="/instances", text="[]", media_type="application/dicom+json")
            found = await listing(client, info, query)
            assert {one.SOPInstanceUID for one in found if isinstance(one, Instance)} == held
            assert len(demo.requests("/metadata")) == 1
