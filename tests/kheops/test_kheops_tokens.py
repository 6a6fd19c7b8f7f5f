"""What Kheops says about tokens, and the narrower token made from one."""

from datetime import UTC, datetime
from typing import Any

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import ACTIVE_USER, INACTIVE, SECRET, WEB_PAGE, Said, Script, said

from kheopsfs.errors import BadAnswerError, KheopsfsError, NotFoundError, ServerFaultError, TokenRefusedError
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import AuthKind, Credentials, Token
from kheopsfs.kheops.records import EVERYTHING, INBOX, Source
from kheopsfs.kheops.tokens import TokenInfo, exchanged, expiration, token_info

JSON = "application/json"
USER = TokenInfo("user", "ada", frozenset({"user"}), "aB3dE6gH9k", "")
ALBUM = TokenInfo("album", "ada", frozenset({"read"}), "aB3dE6gH9k", "dTxCc6OJyG")


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["bearer", "basic", "link"])
async def test_introspection_carries_the_token_in_its_form_only(script: Script, kind: AuthKind) -> None:
    script.on("introspect", ACTIVE_USER)
    async with Client(parse_address(script.url)[0], Credentials(Token(SECRET), kind)) as client:
        info = await client.introspect()
    (asked,) = script.asked
    assert (asked.method, asked.target, asked.form) == ("POST", "/api/token/introspect", {"token": SECRET})
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in asked.headers
    assert info == TokenInfo("user", "ada", frozenset({"user", "read", "write"}), "aB3dE6gH9k", "")


@pytest.mark.trio
async def test_an_album_token_without_any_permission(script: Script, client: Client) -> None:
    script.on("introspect", said({"active": True, "sub": "ada", "cap_token": "x", "album_id": "dTxCc6OJyG"}, JSON))
    assert await client.introspect() == TokenInfo("album", "ada", frozenset(), "x", "dTxCc6OJyG")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (INACTIVE, TokenRefusedError, "expired, was revoked"),
        (said(b"", "text/html", status=401), TokenRefusedError, "cannot be mounted"),
        (said({"active": True, "scope": "openid email"}), TokenRefusedError, "cannot be mounted"),
        (said({"active": True, "album_id": "../.."}), BadAnswerError, "album id"),
        (said({"active": "yes"}), BadAnswerError, "Kheops"),
        (said([]), BadAnswerError, "Kheops"),
        (WEB_PAGE, BadAnswerError, "Kheops"),
        (said(status=404), NotFoundError, "404"),
        (said(status=400), BadAnswerError, "400"),
        (said(status=500), ServerFaultError, "500"),
    ],
)
async def test_what_an_introspection_may_come_to(
    clock: trio.testing.MockClock,
    script: Script,
    client: Client,
    answer: Said,
    error: type[KheopsfsError],
    words: str,
) -> None:
    script.on("introspect", answer)
    with pytest.raises(error, match=words):
        await client.introspect()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
members = st.sampled_from(["active", "sub", "scope", "cap_token", "album_id", "expiration_time", "access_token"])


@given(json_values | st.dictionaries(members, json_values | st.just(True)))
def test_any_document_is_understood_or_refused(document: Any) -> None:
    for understand in (token_info, exchanged, expiration):
        try:
            understand(document)
        except KheopsfsError:
            continue


@pytest.mark.trio
async def test_when_a_user_token_ends(script: Script, client: Client) -> None:
    script.on("capabilities", said({"expiration_time": "2030-02-03T04:05:06Z", "revoked": False}, JSON))
    assert await client.token_expiry(USER) == datetime(2030, 2, 3, 4, 5, 6, tzinfo=UTC)
    (asked,) = script.asked
    assert asked.path == "/api/capabilities/aB3dE6gH9k"
    assert "content-type" not in asked.headers


@pytest.mark.trio
async def test_an_album_token_is_not_even_asked_about(script: Script, client: Client) -> None:
    assert await client.token_expiry(ALBUM) is None
    assert not script.asked


@pytest.mark.parametrize("text", ["", "soon", 12, None])
def test_an_end_that_is_none(text: Any) -> None:
    assert expiration({"expiration_time": text}) is None


def test_an_end_without_a_zone_is_utc() -> None:
    assert expiration({"expiration_time": "2030-02-03T04:05:06.7"}) == datetime(
        2030, 2, 3, 4, 5, 6, 700_000, tzinfo=UTC
    )


@pytest.mark.trio
@pytest.mark.parametrize(
    ("source", "narrowing"),
    [
        (Source("album", "dTxCc6OJyG"), {"source_type": "album", "source_id": "dTxCc6OJyG"}),
        (INBOX, {"source_type": "inbox"}),
        (EVERYTHING, {}),
    ],
)
async def test_a_token_is_exchanged_for_a_viewer_token(
    script: Script, client: Client, source: Source, narrowing: dict[str, str]
) -> None:
    script.on("/api/token$", said({"access_token": "eyJ.abc", "token_type": "Bearer", "expires_in": 18000}, JSON))
    assert await client.viewer_token("1.2.3", source) == Token("eyJ.abc")
    (asked,) = script.asked
    assert asked.form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": SECRET,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "viewer read",
        "studyUID": "1.2.3",
        **narrowing,
    }
    assert "authorization" not in asked.headers


@pytest.mark.trio
@pytest.mark.parametrize(("introspection", "error"), [(ACTIVE_USER, NotFoundError), (INACTIVE, TokenRefusedError)])
@pytest.mark.parametrize("status", [400, 401])
async def test_an_exchange_that_is_refused(
    script: Script, client: Client, introspection: Said, error: type[KheopsfsError], status: int
) -> None:
    script.on("/api/token$", said({"error": "invalid_grant", "error_description": "no"}, JSON, status=status))
    script.on("introspect", introspection)
    with pytest.raises(error) as caught:
        await client.viewer_token("1.2.3", INBOX)
    assert SECRET not in str(caught.value)


@pytest.mark.trio
@pytest.mark.parametrize("document", [{}, [], {"access_token": None}, {"access_token": "a b"}])
async def test_an_exchange_without_a_token(script: Script, client: Client, document: Any) -> None:
    script.on("/api/token$", said(document, JSON))
    with pytest.raises(BadAnswerError, match="without a token"):
        await client.viewer_token("1.2.3", INBOX)
