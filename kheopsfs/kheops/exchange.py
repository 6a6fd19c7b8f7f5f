"""The exchange with one server: one attempt at a request, and the judgement of its answer.

What is asked for, and how often, is the client's business. What holds for each attempt:

* **The token goes to this server only**, the way the credentials say. No redirect is followed. What is logged or raised
  names the public URL; in link mode that is the path before the token is put in.
* **Timeouts are idle timeouts.** A body may take hours, as long as bytes keep coming.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self, TypeVar

import httpx
import trio

from kheopsfs import __version__
from kheopsfs.errors import BadAnswerError, KheopsfsError, StalledError
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.answers import PATIENCE, Answer, Body, count, is_json, parse_json
from kheopsfs.kheops.auth import auth_for
from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.kheops.failures import Passing, is_repeatable, refusal, translated, with_status
from kheopsfs.kheops.inquiry import Inquiry
from kheopsfs.kheops.transport import Transport, silence_http_loggers

logger = logging.getLogger("kheopsfs.kheops")

# Seconds to establish a connection, TLS included. A server that is up answers within a round trip or three.
_CONNECT_TIMEOUT = 10.0

# Bytes. An explanation of Kheops's is a few hundred.
_EXPLANATION_LIMIT = 8 * 1024

T = TypeVar("T")

Params = Mapping[str, str | int]


@dataclass(frozen=True, repr=False)
class Request:
    """What to ask for; as text, what the log may say about it. There is no `repr`: a form holds the token.

    Attributes:
        method: GET or POST.
        path: below the API, beginning with a slash.
        headers: besides those that every request has.
        expected: the statuses that are no failure.
        unseen: what a 401 means while the token lives.
        params: the query.
        form: of a POST. It holds the token, so none is presented in any other way.
        token: a viewer token to use instead of the credentials' one.
    """

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


class Exchange:
    """The connections to one server, and what is sent and heard over them; an async context manager.

    Args:
        address: the server.
        credentials: the token; looked at for every request, so that it can be replaced.
        idle_timeout: seconds without a byte after which the server counts as stalled.
        inquiry: whom to ask whether the token lives.

    Attributes:
        last_heard: when a byte last came in answer to a GET, on trio's clock. What is posted is about tokens, which
            Kheops knows by itself; it says nothing of the PACS.
    """

    def __init__(self, address: Address, credentials: Credentials, idle_timeout: float, inquiry: Inquiry) -> None:
        silence_http_loggers()
        self._address = address
        self._credentials = credentials
        self._idle_timeout = idle_timeout
        self._inquiry = inquiry
        self._http = httpx.AsyncClient(
            transport=Transport(address),
            timeout=httpx.Timeout(idle_timeout, connect=min(_CONNECT_TIMEOUT, idle_timeout), pool=None),
            headers={"User-Agent": f"kheopsfs/{__version__}"},
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        self.last_heard = -math.inf

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._http.__aexit__(*raised)

    def url(self, path: str) -> str:
        """The public URL of a path below the API, without any token."""
        return f"{self._address.api}{path}"

    async def answer(self, request: Request, parse: Callable[[bytes], T]) -> Answer[T]:
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
            body.demand_no_web_page()
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

    async def body(self, request: Request) -> Body:
        """Make one attempt at a body of any length, which the caller closes.

        Raises:
            Passing: it failed before the first byte of the body; asking again may help.
            KheopsfsError: asking again will not help.
        """
        return self._body(request, await self._send(request))

    async def _send(self, request: Request) -> httpx.Response:
        """Make one attempt. The response is open and its status is one of the expected ones.

        Raises:
            Passing: it failed; asking again may help.
            KheopsfsError: asking again will not help.
        """
        url = self.url(request.path)
        message = self._http.build_request(
            request.method, url, params=request.params, headers=request.headers, data=request.form
        )
        used = self._credentials.token
        if request.form is not None:
            # The form holds the token. Kheops would read a Basic header beside it as a client's credentials: 400.
            auth = None
        elif request.token is not None:
            auth = auth_for(Credentials(request.token, self._credentials.kind))
        else:
            auth = auth_for(self._credentials)
        with translated(self._address, url), trio.CancelScope() as patience:

            async def watch(event: str, _info: object) -> None:
                # The clock starts with the request, not with the wait for a free connection.
                if event == "http11.receive_response_headers.started":
                    patience.deadline = trio.current_time() + PATIENCE * self._idle_timeout

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
        failure = refusal(self._address, url, response)
        await self._log_explanation(response, request)
        if is_repeatable(response.status_code):
            raise Passing(failure)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            if request.token is None and used != self._credentials.token:
                # The token was replaced while the request was under way.
                raise Passing(failure, at_once=True)
            await self._inquiry.demand_living(self._credentials.token)
            raise with_status(request.unseen(f"{url} is not shown to this token."), response.status_code)
        raise failure

    def _body(self, request: Request, response: httpx.Response) -> Body:
        heard = self._hear if request.form is None else lambda: None
        return Body(self._address, self.url(request.path), response, self._idle_timeout, heard)

    def _hear(self) -> None:
        self.last_heard = trio.current_time()

    async def _log_explanation(self, response: httpx.Response, request: Request) -> None:
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
                logger.debug("%s: %s", request, message.replace(self._credentials.token.reveal(), "…"))
        except StalledError:
            raise
        except (KheopsfsError, Passing, TypeError, KeyError):
            return
        finally:
            await body.aclose()
