"""Every request of the kernel, guarded: it ends, and whatever goes wrong in it ends as an errno.

Why each rule (measured behaviour of pyfuse3 and the kernel):

* an exception other than FUSEError ends the mount for everyone, so none leaves a handler;
* a caller whose request is inside the daemon cannot be killed, and pyfuse3's `terminate` waits for running handlers, so
  each runs in a cancel scope of ours that ending the mount cancels; the caller then gets EIO at once;
* no request is answered while the token is dead, cached or not, except those that only close something.

What went wrong is logged without paths: names hold patients' names.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

import pyfuse3
import trio

from kheopsfs.errors import KheopsfsError, ServerUnreachableError, TokenRefusedError

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


class Requests:
    """The requests that are being handled now."""

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._ending = False

    def begin(self) -> trio.CancelScope:
        """A scope for one request; already cancelled when the mount is being ended."""
        scope = trio.CancelScope()
        self._scopes.add(scope)
        if self._ending:
            scope.cancel()
        return scope

    def end(self, scope: trio.CancelScope) -> None:
        """The request is answered."""
        self._scopes.discard(scope)

    def cancel_all(self) -> None:
        """Answer everything at once with EIO, now and from now on: the mount is being ended."""
        self._ending = True
        for scope in self._scopes:
            scope.cancel()


class Guarded(Protocol):
    """What a class of handlers must have for `handler`."""

    requests: Requests

    def admit(self) -> None:
        """Raises KheopsfsError when nothing may be answered now."""


def handler(method: F) -> F:
    """Make a method of an operations class (a `Guarded` one) a handler that keeps the rules above."""

    async def admitted(self: Guarded, *args: Any) -> Any:
        scope = self.requests.begin()
        try:
            with scope:
                self.admit()
                return await method(self, *args)
        finally:
            self.requests.end(scope)
        raise pyfuse3.FUSEError(errno.EIO)  # cancelled: the mount is being ended

    return _guard(method, admitted)


def closing_handler(method: F) -> F:
    """Like `handler`, for requests that let go of something, and wait for nothing: these are never refused, or it would
    stay open."""
    return _guard(method, method)


def _guard(method: F, answer: Callable[..., Coroutine[Any, Any, Any]]) -> F:
    @functools.wraps(method)
    async def guarded(self: Guarded, *args: Any) -> Any:
        try:
            return await answer(self, *args)
        except pyfuse3.FUSEError:
            raise
        except KheopsfsError as error:
            _log(method.__name__, error)
            raise pyfuse3.FUSEError(error.errno) from error
        except OSError as error:
            log.exception("%s: the cache's disk failed", method.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error
        except Exception as error:
            log.exception("%s: a bug in kheopsfs; please report it", method.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return cast(F, guarded)


def _log(operation: str, error: KheopsfsError) -> None:
    # A dead token and an absent server are announced once, where they are found out; a line per file helps nobody.
    announced = isinstance(error, (TokenRefusedError, ServerUnreachableError))
    level = logging.DEBUG if announced or error.errno == errno.ENOENT else error.log_level
    log.log(level, "%s: %s", operation, error)
