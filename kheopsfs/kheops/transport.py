"""How bytes travel: a connection pool for httpx with reads of 256 KiB, through the proxy of the environment if any.

httpcore reads the socket in pieces of 64 KiB and pays a good deal of Python for each of them. `_WideStream` asks the
socket for more than it was asked for: the parser behind it takes pieces of any size, and a long body costs about half
as much. On a line that keeps delivering less than that, it lets the pieces gather for a moment. TLS is not affected,
its records end at 16 KiB.

A proxy is taken from the usual variables (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``), never for this
machine itself: plain http is allowed there only because it does not leave it.

Exceptions stay httpcore's own; `failures` translates them.
"""

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx
import trio

from kheopsfs.errors import ServerUnreachableError
from kheopsfs.kheops.address import Address

# Bytes. Measured with a chunked body of 264 MB over loopback: beyond this nothing is gained.
_READ_SIZE = 256 * 1024

# A fast line delivers many small pieces, each of which costs as much as a large one: after so many of less than half
# the size, each read first lets some more of them come in, for so many seconds.
_SMALL_READS, _GATHERING = 8, 0.0015

# More than 8 requests at once only queue in the server, which has 10 database connections.
_CONNECTIONS = 10

# Seconds. nginx closes idle connections after 65 s, some servers after 1 s; a new connection is cheap beside a query.
_KEEPALIVE = 15.0

# Milliseconds (tcp(7)) that what was sent may stay unacknowledged before the connection counts as broken. A machine
# that woke up in another network has connections that nobody will ever answer: each would cost a whole idle timeout.
_UNACKNOWLEDGED = 5_000
_SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)]


class _WideStream(httpcore.AsyncNetworkStream):
    """A connection that reads up to 256 KiB, however little is asked for.

    The names of the parameters, `timeout` among them, are those of httpcore's interface.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._small_reads = 0  # in a row, without a pause between them

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._small_reads >= _SMALL_READS:
            await trio.sleep(_GATHERING)
        asked_at = trio.current_time()
        data = await self._stream.read(max(max_bytes, _READ_SIZE), timeout)
        if len(data) >= _READ_SIZE or trio.current_time() - asked_at > _GATHERING:
            self._small_reads = 0  # there is more than we take, or less than is worth gathering
        elif len(data) < _READ_SIZE // 2:
            self._small_reads += 1
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return await self._stream.start_tls(ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _WideBackend(httpcore.TrioBackend):
    """TCP connections that are `_WideStream`."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _WideStream(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpx.AsyncByteStream):
    """The body of an answer, as httpx wants it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: AsyncIterator[bytes] = self._stream.__aiter__()
        return pieces

    async def aclose(self) -> None:
        await self._stream.aclose()


class Transport(httpx.AsyncBaseTransport):
    """The connections to one server.

    Raises:
        ServerUnreachableError: the environment asks for a proxy that cannot be used.
    """

    def __init__(self, address: Address) -> None:
        proxy = _environment_proxy(address)
        # The system's certificates, or those that SSL_CERT_FILE or SSL_CERT_DIR name.
        tls = ssl.create_default_context() if address.is_secure else None
        common: dict[str, Any] = {
            "ssl_context": tls,
            "max_connections": _CONNECTIONS,
            "keepalive_expiry": _KEEPALIVE,
            "network_backend": _WideBackend(),
            "socket_options": _SOCKET_OPTIONS,
        }
        self._pool = _proxied_pool(proxy, common) if proxy else httpcore.AsyncConnectionPool(**common)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the answer's body is not read."""
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Stream(answer.stream))

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._pool.__aexit__(exc_type, exc_value, traceback)


def _environment_proxy(address: Address) -> str | None:
    """The proxy's URL, or None to connect directly."""
    origin = urlsplit(address.origin)
    if address.is_loopback or proxy_bypass(origin.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _proxied_pool(proxy: str, common: dict[str, Any]) -> httpcore.AsyncConnectionPool:
    try:
        parts = urlsplit(proxy)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    if port is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerUnreachableError(
            "The proxy that the environment names cannot be used: http://host:port or https://host:port is supported."
        )
    # Bytes, because httpcore takes text for ASCII.
    login = (unquote(parts.username).encode(), unquote(parts.password or "").encode()) if parts.username else None
    return httpcore.AsyncHTTPProxy(
        proxy_url=httpcore.URL(scheme=parts.scheme, host=parts.hostname, port=port, target="/"),
        proxy_auth=login,
        proxy_ssl_context=ssl.create_default_context() if parts.scheme == "https" else None,
        **common,
    )


def silence_http_loggers() -> None:
    """Keep httpx and httpcore from logging: they would write URLs and headers, and with them the token."""
    for name in ("httpx", "httpcore"):
        # The level also rules the loggers below, as long as nobody gives those a level of their own.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
