"""Whether the token is dead: asked once for everybody who wants to know.

Kheops says 401 for a dead token and for anything that a living one may not see (the Kheops contract, "Errors"). When a
token dies hundreds of requests fail within a second, and each introspection writes to the server's database. So the
first to ask asks for all: the others wait for its answer, and for two seconds it is given to whoever comes later.
"""

from collections.abc import Awaitable, Callable

import trio

from kheopsfs.errors import KheopsfsError
from kheopsfs.kheops.credentials import Token

# Seconds. Long enough for a burst of requests, short enough that a token that was revoked just now is noticed.
_LIFETIME = 2.0


class Inquiry:
    """Answers whether a token lives.

    Args:
        introspect: asks the server about the current token; raises if it is dead, or if that cannot be found out.
    """

    def __init__(self, introspect: Callable[[], Awaitable[object]]) -> None:
        self._introspect = introspect
        self._asking = trio.Lock()
        self._about: Token | None = None
        self._good_until = 0.0
        self._failure: KheopsfsError | None = None

    async def demand_living(self, token: Token) -> None:
        """Return if the current token, which is `token`, lives.

        Raises:
            TokenRefusedError: it is dead.
            KheopsfsError: it could not be found out.
        """
        async with self._asking:
            if token != self._about or trio.current_time() > self._good_until:
                self._failure = None
                try:
                    await self._introspect()
                except KheopsfsError as failure:
                    self._failure = failure
                self._about = token
                self._good_until = trio.current_time() + _LIFETIME
            if self._failure is not None:
                # A new exception for each, because a traceback grows with every raise.
                raise type(self._failure)(*self._failure.args)
