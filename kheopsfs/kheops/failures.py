"""What went wrong with a request, in the words of `kheopsfs.errors`.

Two kinds of failure meet here: connections that break (httpcore's exceptions) and statuses that were not wanted. Each
becomes one `KheopsfsError` whose sentence names the public URL, never a token. A failure that may be over in a moment
is wrapped as `Passing`, and `retried` tries again; everything else is final at once. In particular nothing is repeated
after a 4xx, and nothing after a stall: whoever waited 30 s in vain has waited enough.
"""

import os
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TypeVar

import httpcore
import httpx
import trio

from kheopsfs.errors import (
    BadAnswerError,
    BadURLError,
    KheopsfsError,
    NotFoundError,
    PermissionMissingError,
    ServerFaultError,
    ServerUnreachableError,
    StalledError,
    TLSError,
)
from kheopsfs.kheops.address import Address

T = TypeVar("T")
E = TypeVar("E", bound=KheopsfsError)

# One request and three repetitions.
ATTEMPTS = 4

# Seconds. The pause before a repetition is drawn between the first and a ceiling that doubles up to the last, so that
# many readers who failed together do not come back together.
_SHORTEST_PAUSE, _FIRST_CEILING, _LONGEST_PAUSE = 0.1, 0.25, 1.0

_REPEATABLE = frozenset({500, 502, 503, 504})

_NOT_THERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.NOT_ACCEPTABLE})

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Passing(Exception):  # noqa: N818
    """The request failed with `error`, and asking again may help. Never leaves this package, and is no error yet.

    Attributes:
        error: what to raise when it does not.
        at_once: the server merely closed an idle connection; the first repetition needs no pause.
    """

    def __init__(self, error: KheopsfsError, *, at_once: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.at_once = at_once


async def retried(attempt: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
    """Run `attempt`, again while it raises `Passing`, at most `attempts` times in all.

    Raises:
        KheopsfsError: what the last attempt failed with.
    """
    for n in range(1, attempts + 1):
        try:
            return await attempt()
        except Passing as passing:
            if n == attempts:
                raise passing.error from passing.__cause__
            if not (passing.at_once and n == 1):
                ceiling = min(_FIRST_CEILING * 2 ** (n - 1), _LONGEST_PAUSE)
                await trio.sleep(random.uniform(_SHORTEST_PAUSE, ceiling))  # noqa: S311
    raise AssertionError("at least one attempt is made")


@contextmanager
def translated(address: Address, url: str, received: Callable[[], int] | None = None) -> Iterator[None]:
    """Turn what httpcore and httpx raise into ours.

    Args:
        address: the server.
        url: what is being asked for, without a token.
        received: in the middle of a body, says how many bytes have come. A connection that breaks there has cut the
            body; before the first byte of an answer it may just have been idle for too long.

    Raises:
        Passing: the connection broke.
        ServerUnreachableError: no connection.
        TLSError: no trust.
        StalledError: no byte for the idle timeout.
        BadAnswerError: not HTTP.
    """
    try:
        yield
    except (httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
        raise StalledError(f"{url} fell silent: no byte came for the idle timeout.") from error
    except httpcore.ConnectTimeout as error:
        raise ServerUnreachableError(f"{address.origin} does not accept the connection in time.") from error
    except httpcore.ConnectError as error:
        raise _unconnected(address, error) from error
    except httpcore.ProxyError as error:
        raise ServerUnreachableError(f"The proxy does not let us through to {address.origin}: {error}.") from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        if received is None:
            broken = ServerUnreachableError(f"{address.origin} breaks the connection off, or does not speak HTTP.")
            raise Passing(broken, at_once=True) from error
        raise Passing(BadAnswerError(f"The answer of {url} was cut off after {received()} bytes.")) from error
    except (httpx.RemoteProtocolError, httpx.InvalidURL) as error:
        # httpx itself looks at one thing only: where a redirect leads.
        raise BadAnswerError(f"{url} redirects to something that is no address.") from error


def is_repeatable(status: int) -> bool:
    """Whether asking again may help after this status."""
    return status in _REPEATABLE


def refusal(address: Address, url: str, response: httpx.Response) -> KheopsfsError:
    """What a status other than the wanted ones means; 401 is for the caller to find out."""
    status = response.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return with_status(ServerFaultError(f"{url} answered {_named(status)}."), status)
    if status in _REDIRECTS:
        return with_status(_redirected(address, url, response), status)
    if status == HTTPStatus.FORBIDDEN:
        return with_status(PermissionMissingError(f"The token has no permission for {url}."), status)
    if status in _NOT_THERE:
        return with_status(NotFoundError(f"{url} is not there ({_named(status)})."), status)
    return with_status(BadAnswerError(f"{url} answered {_named(status)}."), status)


def with_status(error: E, status: int) -> E:
    """Note the HTTP status that led to the error."""
    error.status = status
    return error


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _redirected(address: Address, url: str, response: httpx.Response) -> KheopsfsError:
    """Kheops redirects from http to https only; anything else could lead the token astray."""
    target = response.next_request.url if response.next_request else None
    if target and target.scheme == "https" and not address.is_secure and target.host == httpx.URL(address.api).host:
        port = f":{target.port}" if target.port else ""
        host = f"[{target.host}]" if ":" in target.host else target.host
        return BadURLError(f"{address.origin} moved to https. Use the address https://{host}{port} instead.")
    return BadAnswerError(f"{url} redirects elsewhere, which no Kheops server does; it was not followed.")


def _unconnected(address: Address, error: httpcore.ConnectError) -> KheopsfsError:
    """Why there is no connection: find the reason among the causes."""
    reason = ""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TLSError(
                f"{address.origin} could not prove who it is: {cause.verify_message}. If an authority of your own"
                " signed its certificate, add it to the system's, or name its file in SSL_CERT_FILE."
            )
        if isinstance(cause, ssl.SSLError):
            hint = f" If it speaks plain HTTP, write http{address.origin[5:]}." if address.is_loopback else ""
            return TLSError(f"{address.origin} does not speak TLS as expected ({cause.reason or 'no reason'}).{hint}")
        if isinstance(cause, OSError) and cause.strerror:
            # trio's text names the address; a failed look-up of a name has a negative number and only a text.
            reason = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
    return ServerUnreachableError(f"{address.origin} cannot be reached{': ' if reason else ''}{reason}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, and so on; of several attempts the last."""
    while error is not None:
        yield error
        error = error.exceptions[-1] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
