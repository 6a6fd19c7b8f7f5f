"""The client of one server: sends requests, judges answers, and raises nothing but `KheopsfsError`.

Its promises to the rest of the house:

* **The token goes to this server only**, the way the credentials say. No redirect is followed. What is logged or raised
  names the public URL; in link mode that is the path before the token is put in.
* **Timeouts are idle timeouts.** A body may take hours, as long as bytes keep coming.
* **GETs are repeated** (three times, after short random pauses) when the server answers 500, 502, 503, 504 or breaks
  the connection; never after a 4xx or a stall. A connection that the server closed while it was idle is no failure.
* **401 is not taken at its word.** Kheops says it for whatever a token may not see, so the token is introspected, once
  for all requests that ask at the same time. Only `active: false` makes it a `TokenRefusedError`.
* **Nothing that a server sends stays**, cookies included: the token is all that makes a request ours.
* Every wait can be cancelled, and ends by itself: the headers of an answer after ten idle timeouts, however they drip
  in and however many interim answers (1xx) precede them; the body as `Body` says.
* `last_heard` tells silence from slowness: when the last byte of any list or body came.

Concurrency is limited by ten connections; requests beyond wait for one without a deadline, because how long that takes
says nothing about the server.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import trio

from kheopsfs import __version__
from kheopsfs.errors import (
    BadAnswerError,
    KheopsfsError,
    NotFoundError,
    PermissionMissingError,
    StalledError,
    TokenRefusedError,
)
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.answers import PATIENCE, Answer, Body, count, is_json, parse_json
from kheopsfs.kheops.auth import auth_for
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.failures import ATTEMPTS, Passing, is_repeatable, refusal, retried, translated, with_status
from kheopsfs.kheops.inquiry import Inquiry
from kheopsfs.kheops.records import Source
from kheopsfs.kheops.tokens import UNMOUNTABLE, TokenInfo, exchanged, expiration, token_info, viewer_form
from kheopsfs.kheops.transport import Transport, silence_http_loggers

logger = logging.getLogger("kheopsfs.kheops")

DICOM_JSON = "application/dicom+json"
JSON = "application/json"

# Seconds to establish a connection, TLS included. A server that is up answers within a round trip or three.
_CONNECT_TIMEOUT = 10.0

# Bytes. An explanation of Kheops's is a few hundred.
_EXPLANATION_LIMIT = 8 * 1024

T = TypeVar("T")

Params = Mapping[str, str | int]


class Client:
    """A connection pool to one server; an async context manager.

    Args:
        address: the server.
        credentials: the token; looked at for every request, so that it can be replaced.
        idle_timeout: seconds without a byte after which the server counts as stalled.

    Attributes:
        idle_timeout: as given.
        last_heard: when a byte last came in answer to a GET, on trio's clock. What is posted is about tokens, which
            Kheops knows by itself; it says nothing of the PACS.
    """

    def __init__(self, address: Address, credentials: Credentials, *, idle_timeout: float = 30.0) -> None:
        silence_http_loggers()
        self.address = address
        self.credentials = credentials
        self.idle_timeout = idle_timeout
        self._http = httpx.AsyncClient(
            transport=Transport(address),
            timeout=httpx.Timeout(idle_timeout, connect=min(_CONNECT_TIMEOUT, idle_timeout), pool=None),
            headers={"User-Agent": f"kheopsfs/{__version__}"},
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        self._inquiry = Inquiry(self.introspect)
        self.last_heard = -math.inf

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._http.__aexit__(exc_type, exc_value, traceback)

    def url(self, path: str) -> str:
        """The public URL of a path below the API, without any token."""
        return f"{self.address.api}{path}"

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
        request = _Request("GET", path, {"Accept": accept, "Accept-Encoding": "gzip"}, (200, 204), unseen, params)
        return await retried(lambda: self._answer(request, parse), attempts)

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
        request = _Request("GET", path, headers, (200, 206), NotFoundError, params, token=token)
        body = self._body(request, await retried(lambda: self._send(request)))
        try:
            _demand_no_web_page(body)
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
        request = _Request("POST", path, headers, expected, PermissionMissingError, form=form)
        return await retried(lambda: self._answer(request, parse_json))

    async def _answer(self, request: "_Request", parse: Callable[[bytes], T]) -> Answer[T]:
        """Make one attempt at a JSON answer. Only a 200 has a document.

        Raises:
            Passing: it failed or is not whole; asking again may help.
            KheopsfsError: asking again will not help.
        """
        response = await self._send(request)
        body = self._body(request, response)
        total_count = count(response.headers.get("x-total-count"))
        try:
            if body.status != HTTPStatus.OK:
                return Answer(body.status, None, total_count)
            _demand_no_web_page(body)
            if not is_json(body.media_type):
                raise BadAnswerError(f"{body.url} answered with {body.media_type[:100]!r} instead of JSON.")
            content = await body.read()
        finally:
            await body.aclose()
        logger.debug("%s: %d bytes", request, len(content))
        try:
            return Answer(body.status, parse(content), total_count)
        except BadAnswerError as error:
            # A server that fails after the first 8 KiB ends the body as if it were whole.
            raise Passing(
                BadAnswerError(f"{body.url} answered with JSON that is malformed, cut off, or of another shape.")
            ) from error

    async def _send(self, request: "_Request") -> httpx.Response:
        """Make one attempt. The response is open and its status is one of the expected ones.

        Raises:
            Passing: it failed; asking again may help.
            KheopsfsError: asking again will not help.
        """
        url = self.url(request.path)
        message = self._http.build_request(
            request.method, url, params=request.params, headers=request.headers, data=request.form
        )
        used = self.credentials.token
        if request.form is not None:
            # The form holds the token. Kheops would read a Basic header beside it as a client's credentials: 400.
            auth = None
        elif request.token is not None:
            auth = auth_for(Credentials(request.token, self.credentials.kind))
        else:
            auth = auth_for(self.credentials)
        with translated(self.address, url), trio.CancelScope() as patience:

            async def watch(event: str, _info: object) -> None:
                # The clock starts with the request, not with the wait for a free connection.
                if event == "http11.receive_response_headers.started":
                    patience.deadline = trio.current_time() + PATIENCE * self.idle_timeout

            message.extensions["trace"] = watch
            response = await self._http.send(message, auth=auth, stream=True)
            patience.deadline = math.inf
        if patience.cancelled_caught:
            raise StalledError(f"{url} did not come to the end of its headers.")
        logger.debug("%s → %d", request, response.status_code)
        if request.form is None:
            self._hear()
        if response.status_code in request.expected:
            return response
        failure = refusal(self.address, url, response)
        await self._log_explanation(response, request)
        if is_repeatable(response.status_code):
            raise Passing(failure)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            if request.token is None and used != self.credentials.token:
                # The token was replaced while the request was under way.
                raise Passing(failure, at_once=True)
            await self._inquiry.demand_living(self.credentials.token)
            raise with_status(request.unseen(f"{url} is not shown to this token."), response.status_code)
        raise failure

    def _body(self, request: "_Request", response: httpx.Response) -> Body:
        heard = self._hear if request.form is None else lambda: None
        return Body(self.address, self.url(request.path), response, self.idle_timeout, heard)

    def _hear(self) -> None:
        self.last_heard = trio.current_time()

    async def _log_explanation(self, response: httpx.Response, request: "_Request") -> None:
        """Read an error to its end, and log the reason if Kheops itself gives one; a web page is not looked at.

        Raises:
            StalledError: not even the error comes to its end.
        """
        body = self._body(request, response)
        try:
            # Kheops states the length of anything this short; what is longer is not worth the wait.
            if body.content_length is None or body.content_length > _EXPLANATION_LIMIT:
                return
            content = await body.read()
            if is_json(body.media_type):
                message = str(parse_json(content)["message"])
                logger.debug("%s: %s", request, message.replace(self.credentials.token.reveal(), "…"))
        except StalledError:
            raise
        except (KheopsfsError, Passing, TypeError, KeyError):
            return
        finally:
            await body.aclose()


@dataclass(frozen=True, repr=False)
class _Request:
    """What to ask for; as text, what the log may say about it. There is no `repr`: a form holds the token."""

    method: str
    path: str
    headers: dict[str, str]
    expected: tuple[int, ...]
    unseen: type[KheopsfsError]
    params: Params | None = None
    form: dict[str, str] | None = None
    token: Token | None = None

    def __str__(self) -> str:
        query = f"?{httpx.QueryParams(self.params)}" if self.params else ""
        return f"{self.method} {self.path}{query}"


def _demand_no_web_page(body: Body) -> None:
    if body.is_web_page:
        raise BadAnswerError(f"{body.url} answered with a web page. Is this really the address of a Kheops server?")
