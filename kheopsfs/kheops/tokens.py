"""What Kheops says about tokens: whose it is, how long it lives, and a narrower one made from it.

There are two kinds of capability token: a *user token* is the whole account, an *album token* is one album. Only
introspection tells which (the Kheops contract, "Authentication"), and nothing but ``active: false`` there means that a
token is dead. A *viewer token* sees one study in one source for five hours; it cannot be introspected and cannot be
mounted.

This module reads and writes the documents; the client carries them.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from kheopsfs.errors import BadAnswerError, TokenRefusedError
from kheopsfs.kheops.credentials import Token
from kheopsfs.kheops.records import ALBUM_ID_PATTERN, Source

ALBUM_ID = re.compile(ALBUM_ID_PATTERN)

UNMOUNTABLE = (
    "This token cannot be mounted: it is a login or viewer token. Make a user token or an album token in Kheops."
)
DEAD = "The server refuses the token: it expired, was revoked, or never existed. Make a new one in Kheops."


@dataclass(frozen=True)
class TokenInfo:
    """A living token. `album_id` is empty for a user token.

    Attributes:
        kind: all of a user's data, or one album.
        subject: the owner, as the identity provider names them.
        scopes: of ``user read write downloadbutton send``.
        token_id: the token's public name in Kheops's lists; no secret.
        album_id: the one album it shows.
    """

    kind: Literal["user", "album"]
    subject: str
    scopes: frozenset[str]
    token_id: str
    album_id: str


def token_info(document: Any) -> TokenInfo:
    """Read an introspection (RFC 7662, with Kheops's members ``cap_token`` and ``album_id``).

    Raises:
        TokenRefusedError: not active, or of a kind that cannot be mounted.
        BadAnswerError: not an introspection.
    """
    if not isinstance(document, dict) or not isinstance(document.get("active"), bool):
        raise BadAnswerError("The server does not say whether the token is active. Is it a Kheops server?")
    if not document["active"]:
        raise TokenRefusedError(DEAD)
    scopes = frozenset(_text(document, "scope").split())
    album_id = _text(document, "album_id")
    if album_id and not ALBUM_ID.fullmatch(album_id):
        raise BadAnswerError("The server says that the token is for an album, but gives no proper album id.")
    if not album_id and "user" not in scopes:
        raise TokenRefusedError(UNMOUNTABLE)
    return TokenInfo(
        kind="album" if album_id else "user",
        subject=_text(document, "sub"),
        scopes=scopes,
        token_id=_text(document, "cap_token"),
        album_id=album_id,
    )


def expiration(document: Any) -> datetime | None:
    """Read when a token ends from Kheops's description of it (``/capabilities/{id}``); None if it does not say."""
    text = _text(document, "expiration_time") if isinstance(document, dict) else ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def viewer_form(token: Token, StudyInstanceUID: str, source: Source) -> dict[str, str]:
    """The form of a token exchange (RFC 8693) for one study as a source shows it."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token.reveal(),
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "viewer read",
        "studyUID": StudyInstanceUID,
    }
    if source.kind == "album":
        form |= {"source_type": "album", "source_id": source.album_id}
    elif source.kind == "inbox":
        form |= {"source_type": "inbox"}
    return form


def exchanged(document: Any) -> Token:
    """Read the viewer token out of the answer to an exchange.

    Raises:
        BadAnswerError: there is none.
    """
    try:
        return Token(document["access_token"])
    except (TypeError, KeyError, TokenRefusedError):
        raise BadAnswerError("The server answered the token exchange without a token.") from None


def _text(document: dict[str, Any], member: str) -> str:
    value = document.get(member)
    return value if isinstance(value, str) else ""
