"""The origin as one ASGI application: a request comes in at nginx, a service answers, the transport sends.

Faults and behaviour are looked up for each request; what the application itself knows is its library and its accounts.
"""

import asyncio
import logging

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from kheopsfs.demo import routing, services
from kheopsfs.demo.accounts import Accounts
from kheopsfs.demo.answers import Answer, Behaviour, Call, tomcat
from kheopsfs.demo.credentials import BadBase64Error, presented
from kheopsfs.demo.faults import Faults, Plan
from kheopsfs.demo.library import Library
from kheopsfs.demo.transport import Connection

logger = logging.getLogger(__name__)

BODY_LIMIT = 1 << 20
"""Bytes of a request body that are read; forms are far smaller, and nothing else is taken."""


class Kheops:
    """A whole Kheops installation behind one address."""

    def __init__(self, library: Library, accounts: Accounts, behaviour: Behaviour | None = None) -> None:
        self.library = library
        self.accounts = accounts
        self.behaviour = behaviour or Behaviour()
        self.faults = Faults()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; there is nothing to start or to stop."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        plan = self.faults.plan(request.method, _target(request))
        connection = Connection(scope, receive, send, plan, self.behaviour)
        connection.revoke = lambda: self._revoke(request)
        try:
            answer = await connection.before()
            if answer is None:
                answer = await self._answer(request, plan)
            await connection.deliver(answer)
        except asyncio.CancelledError:  # the server stops; who waits for an answer must not get one made up for it
            connection.abort()
            raise
        except ConnectionError:
            pass

    async def _answer(self, request: Request, plan: Plan) -> Answer:
        body = await _body(request) if request.method == "POST" else b""
        headers = MutableHeaders(raw=list(request.scope["headers"]))
        path, api = request.scope["path"], f"{request.url.scheme}://{request.url.netloc}/api"
        if link := routing.link(path):
            path, api = link.path, f"{api}/link/{link.token}"
            headers["authorization"] = f"Bearer {link.token}"
        call = Call(
            method=request.method,
            path=path,
            query=request.query_params,
            headers=headers,
            body=body,
            api=api,
            library=self.library,
            accounts=self.accounts,
            behaviour=self.behaviour,
            plan=plan,
        )
        destination = routing.route(request.method, path, request.url.query, headers.get("accept", ""))
        try:
            return services.answer(destination, call)
        except Exception:
            logger.exception("%s cannot answer", destination.value)
            return tomcat(500)

    def _revoke(self, request: Request) -> None:
        secret = secret_of(request) or ""
        if token := self.accounts.tokens.get(secret):
            token.revoked = True
        if viewer := self.accounts.viewers.get(secret):
            viewer.expires = 0.0


def secret_of(request: Request) -> str | None:
    """The token that a request presents, in whatever way."""
    if link := routing.link(request.scope["path"]):
        return link.token
    try:
        return presented(request.headers.get("authorization"))[1]
    except BadBase64Error:
        return None


def _target(request: Request) -> str:
    query = request.url.query
    return f"{request.scope['path']}?{query}" if query else str(request.scope["path"])


async def _body(request: Request) -> bytes:
    received = b""
    async for piece in request.stream():
        received += piece
        if len(received) > BODY_LIMIT:
            break
    return received
