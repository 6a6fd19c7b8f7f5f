"""The three ways to present a token (the Kheops contract, "Authentication").

Each is one small class whose `auth_flow` takes the token from the credentials *at the moment a request is sent*, so a
token that was replaced is used from the next request on. None of them answers a challenge: a 401 is not an invitation
to try again, and what it means is judged elsewhere.
"""

from base64 import b64encode
from collections.abc import Generator

import httpx

from kheopsfs.kheops.credentials import Credentials

# The server ignores the name; it only must not hold a colon.
_BASIC_USER = "token"

Flow = Generator[httpx.Request, httpx.Response, None]


class BearerAuth(httpx.Auth):
    """``Authorization: Bearer T`` (RFC 6750)."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Flow:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._credentials.token.reveal()}"
        yield request


class BasicAuth(httpx.Auth):
    """``Authorization: Basic base64(token:T)`` (RFC 7617), for servers behind something that knows nothing else."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Flow:
        """Add the header."""
        pair = f"{_BASIC_USER}:{self._credentials.token.reveal()}"
        request.headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        yield request


class LinkAuth(httpx.Auth):
    """The token inside the path: ``…/api/X`` becomes ``…/api/link/T/X``, and there is no header.

    The API's root is the first ``/api`` of the path, which is how `parse_address` makes it.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Flow:
        """Rewrite the path."""
        link = f"/api/link/{self._credentials.token.reveal()}/".encode()
        request.url = request.url.copy_with(raw_path=request.url.raw_path.replace(b"/api/", link, 1))
        yield request


_WAYS: dict[str, type[BearerAuth | BasicAuth | LinkAuth]] = {"bearer": BearerAuth, "basic": BasicAuth, "link": LinkAuth}


def auth_for(credentials: Credentials) -> httpx.Auth:
    """The way these credentials ask for."""
    return _WAYS[credentials.kind](credentials)
