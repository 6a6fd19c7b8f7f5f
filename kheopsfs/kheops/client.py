"""The client of one server: what can be asked of it. It raises nothing but `KheopsfsError`.

What it promises the rest of the house, besides what holds for each single attempt (`exchange`):

* **GETs are repeated** (three times, after short random pauses) when the server answers 500, 502, 503, 504 or breaks
  the connection; never after a 4xx or a stall. A connection that the server closed while it was idle is no failure.
* **Bodies are streamed, documents come whole.** Of a body only the beginning is asked for again: what came of it has
  been handed out. A document that was cut off is repeated like any other failure.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, Self, TypeVar

from kheopsfs.errors import KheopsfsError, NotFoundError, PermissionMissingError, TokenRefusedError
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.answers import Answer, Body, parse_json
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.exchange import Exchange, Params, Request
from kheopsfs.kheops.failures import ATTEMPTS, retried, with_status
from kheopsfs.kheops.inquiry import Inquiry
from kheopsfs.kheops.records import Source
from kheopsfs.kheops.tokens import UNMOUNTABLE, TokenInfo, exchanged, expiration, token_info, viewer_form

logger = logging.getLogger("kheopsfs.kheops")

DICOM_JSON = "application/dicom+json"
JSON = "application/json"

T = TypeVar("T")


class Client:
    """A connection pool to one server; an async context manager.

    Args:
        address: the server.
        credentials: the token; looked at for every request, so that it can be replaced.
        idle_timeout: seconds without a byte after which the server counts as stalled.

    Attributes:
        address, credentials, idle_timeout: as given.
    """

    def __init__(self, address: Address, credentials: Credentials, *, idle_timeout: float = 30.0) -> None:
        self.address = address
        self.credentials = credentials
        self.idle_timeout = idle_timeout
        self._inquiry = Inquiry(self.introspect)
        self._exchange = Exchange(address, credentials, idle_timeout, self._inquiry)

    async def __aenter__(self) -> Self:
        await self._exchange.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._exchange.__aexit__(*raised)

    @property
    def last_heard(self) -> float:
        """When a byte last came in answer to a GET, on trio's clock; `-math.inf` before the first."""
        return self._exchange.last_heard

    def url(self, path: str) -> str:
        """The public URL of a path below the API, without any token."""
        return self._exchange.url(path)

    async def get(
        self,
        path: str,
        params: Params | None = None,
        *,
        parse: Callable[[bytes], T],
        accept: str = DICOM_JSON,
        unseen: type[KheopsfsError] = PermissionMissingError,
        attempts: int = ATTEMPTS,
    ) -> Answer[T]:
        """Get a JSON document.

        Args:
            path: below the API, beginning with a slash.
            params: the query.
            parse: makes the document out of the body; a BadAnswerError says that the body is not whole.
            accept: the media type to ask for.
            unseen: what a 401 means while the token lives. Paths that Kheops's proxy serves (instances, metadata) say
                401 for what does not exist or is not shown: `NotFoundError`.
            attempts: how often to try in all.

        Raises:
            KheopsfsError: any of those that `stream` raises.
        """
        request = Request("GET", path, {"Accept": accept, "Accept-Encoding": "gzip"}, (200, 204), unseen, params)
        return await retried(lambda: self._exchange.answer(request, parse), attempts)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Params | None = None,
        *,
        accept: str,
        token: Token | None = None,
        compressed: bool = False,
    ) -> AsyncIterator[Body]:
        """Get a body of any length. The context yields it with status 200 or 206; it is no web page.

        Args:
            path: below the API, beginning with a slash.
            params: the query.
            accept: the media type to ask for.
            token: a viewer token to use instead of the credentials' one. When it is refused while the credentials'
                token lives, that is a `NotFoundError`: it may have expired, or the study may have left the source.
            compressed: offer gzip. For text only: some servers compress pixel data as well, slowly and in vain.

        Raises:
            ServerUnreachableError: no connection, or it breaks.
            TLSError: the server could not prove who it is.
            StalledError: no byte for the idle timeout.
            TokenRefusedError: the token is dead.
            PermissionMissingError: 403.
            NotFoundError: 404, 406, 410; or 401 for something that the token does not see.
            ServerFaultError: 5xx, after repetitions.
            BadURLError: the server moved from http to https.
            BadAnswerError: anything else that was not asked for.
        """
        headers = {"Accept": accept, "Accept-Encoding": "gzip" if compressed else "identity"}
        request = Request("GET", path, headers, (200, 206), NotFoundError, params, token=token)
        body = await retried(lambda: self._exchange.body(request))
        try:
            body.demand_no_web_page()
            yield body
        finally:
            await body.aclose()
            logger.debug("%s: %d bytes", request, body.received)

    async def introspect(self, token: Token | None = None) -> TokenInfo:
        """Ask the server what it knows about a token, by default the current one. Counts as a use of the token.

        Raises:
            TokenRefusedError: dead, or not of a kind that can be mounted.
            KheopsfsError: any of those that `stream` raises.
        """
        answer = await self._post(
            "/token/introspect", {"token": (token or self.credentials.token).reveal()}, (200, 401)
        )
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise TokenRefusedError(UNMOUNTABLE)
        return token_info(answer.document)

    async def token_expiry(self, info: TokenInfo) -> datetime | None:
        """When the token ends, in UTC; None if the server does not say. An album token cannot learn it.

        Raises:
            KheopsfsError: any of those that `stream` raises.
        """
        if info.kind == "album" or not info.token_id.isalnum():
            return None
        return expiration((await self.get(f"/capabilities/{info.token_id}", parse=parse_json, accept=JSON)).document)

    async def viewer_token(self, StudyInstanceUID: str, source: Source) -> Token:
        """Exchange the token for one that sees one study in one source only. It lives for five hours.

        Raises:
            TokenRefusedError: the token is dead.
            NotFoundError: the server makes none for this study.
            KheopsfsError: any of those that `stream` raises.
        """
        form = viewer_form(self.credentials.token, StudyInstanceUID, source)
        answer = await self._post("/token", form, (200, 400, 401))
        if answer.status != HTTPStatus.OK:
            await self._inquiry.demand_living(self.credentials.token)
            message = f"The server gives no viewer token for study {StudyInstanceUID}."
            raise with_status(NotFoundError(message), answer.status)
        return exchanged(answer.document)

    async def _post(self, path: str, form: dict[str, str], expected: tuple[int, ...]) -> Answer[Any]:
        """Post a form. Repeated like a GET: what is posted here changes nothing on the server."""
        headers = {"Accept": JSON, "Accept-Encoding": "identity"}
        request = Request("POST", path, headers, expected, PermissionMissingError, form=form)
        return await retried(lambda: self._exchange.answer(request, parse_json))
