"""What the server says about a token, in words.

Scopes are not what they seem (the Kheops contract, "Authentication"): a user token may do everything, whatever it was
granted, and the permission to download is a hint for the web page. Who holds such a token should know.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from kheopsfs.cli.access import Access
from kheopsfs.kheops.albums import albums
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials
from kheopsfs.kheops.tokens import TokenInfo


@dataclass(frozen=True)
class Findings:
    """What the server says about a token."""

    info: TokenInfo
    albums: list[str]
    expires: datetime | None


def inquire(access: Access) -> list[tuple[str, str]]:
    """Ask the server, and put the answers into words.

    Raises:
        KheopsfsError: it cannot be asked, or refuses the token.
    """
    findings = trio.run(_ask, access)
    return [
        ("token", _whose(findings)),
        ("may", "\n".join(_permissions(findings.info))),
        ("expires", _expiry(findings)),
    ]


async def _ask(access: Access) -> Findings:
    settings = access.settings
    credentials = Credentials(access.token, settings.auth, settings.token_file)
    async with Client(access.address, credentials, idle_timeout=settings.idle_timeout) as client:
        info = await client.introspect()
        names = [album.attributes().get("name", album.album_id) for album in await albums(client, info)]
        return Findings(info, names, await client.token_expiry(info))


def _whose(findings: Findings) -> str:
    info = findings.info
    if info.kind == "album":
        return f"album token of {', '.join(findings.albums) or info.album_id}: shows this one album"
    count = len(findings.albums)
    return f"user token of {info.subject}: shows the inbox and {count} album{'' if count == 1 else 's'}"


def _permissions(info: TokenInfo) -> list[str]:
    if info.kind == "user":
        return [
            "do everything its user may, deleting included: the server ignores",
            "whatever was or was not ticked when it was made. Keep it like a password.",
        ]
    words = {
        "read": "look at images and fetch them (a download permission is a hint for the web page, never a limit)",
        "write": "add images to the album, and with read also remove them",
        "send": "send images on to others",
    }
    granted = [text for scope, text in words.items() if scope in info.scopes]
    if "read" not in info.scopes:
        granted.append("NOT look at images: every file of a mount would be refused")
    return granted


def _expiry(findings: Findings) -> str:
    if findings.info.kind == "album":
        return "not known: the server does not tell for album tokens"
    if findings.expires is None:
        return "not known: the server does not say"
    days = (findings.expires - datetime.now(UTC)).days
    return f"{findings.expires.astimezone():%Y-%m-%d %H:%M %Z} (in {days} days)"
