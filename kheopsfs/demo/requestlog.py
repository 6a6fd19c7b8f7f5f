"""A log of every request, for tests that ask how a client behaved.

It never holds a token: a request names its token by kind and id, and link URLs are written without theirs.
"""

import time
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from kheopsfs.demo import routing
from kheopsfs.demo.app import Kheops, secret_of
from kheopsfs.demo.credentials import BadBase64Error, presented


class RequestLog:
    """Passes requests on to a Kheops and writes them down.

    An entry is there as soon as its request is. `bytes` counts the body as it was handed to the connection, and
    `in_flight` is how many requests, this one included, were being answered when it came.
    """

    def __init__(self, kheops: Kheops) -> None:
        self.entries: list[dict[str, Any]] = []
        self._kheops = kheops
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        entry = self._entry(Request(scope))
        self.entries.append(entry)
        self._in_flight += 1

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)
            if message["type"] == "http.response.body":
                entry["bytes"] += len(message["body"])
                entry["complete"] = not message["more_body"]

        try:
            await self._kheops(scope, receive, counting)
        finally:
            self._in_flight -= 1
            entry["ended"] = time.monotonic()

    def _entry(self, request: Request) -> dict[str, Any]:
        link = routing.link(request.scope["path"])
        secret = secret_of(request)
        viewer = self._kheops.accounts.viewers.get(secret or "")
        token = viewer.parent if viewer else self._kheops.accounts.tokens.get(secret or "")
        kind = "viewer" if viewer else token.kind if token else "unknown" if secret else "none"
        return {
            "method": request.method,
            "path": link.path if link else request.scope["path"],
            "query": request.url.query,
            "auth": "link" if link else _way(request),
            "token": kind,
            "token_id": token.token_id if token else None,
            "accept": request.headers.get("accept"),
            "accept_encoding": request.headers.get("accept-encoding"),
            "range": request.headers.get("range"),
            "status": None,
            "bytes": 0,
            "complete": False,
            "in_flight": self._in_flight + 1,
            "started": time.monotonic(),
            "ended": None,
        }


def _way(request: Request) -> str:
    try:
        return presented(request.headers.get("authorization"))[0]
    except BadBase64Error:
        return "basic"
