"""A relay before a server, for what no server can do to itself: to refuse, to be silent, to be nowhere.

Bytes are never changed. The port stays this relay's, whatever it does, so that nobody else can answer on it.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PIECE = 64 * 1024
BACKLOG = 128
PATIENCE = 10.0


class Relay:
    """Passes connections on to a server until it is told otherwise; ends with the `with`.

    Args:
        url: the server.
        tls: speak TLS to the clients with this; plain without.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._server_port = urlsplit(url).port
        self._tls = tls
        with socket.create_server((HOST, 0)) as free:
            self.port: int = free.getsockname()[1]
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, self.port))  # by its number: a port that the kernel chose is lost with `shutdown`
        self.url = f"{'https' if tls else 'http'}://{HOST}:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._fillers: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.pass_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self._do(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._socket.close()

    def pass_on(self, tls: ssl.SSLContext | None = None) -> None:
        """Be a good line; with another certificate if one is given."""
        self._do(self._close())
        self._do(self._open(tls or self._tls))
        self._loop.call_soon_threadsafe(self._flowing.set)

    def refuse(self) -> None:
        """Reset what is open, and refuse what comes."""
        self._do(self._close())

    def be_silent(self) -> None:
        """Let no byte through any more. Connections stay, and new ones are accepted."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def vanish(self) -> None:
        """Drop what is open, and answer no packet any more: the kernel drops SYNs that its queue has no room for."""
        self._do(self._close())
        self._socket.listen(0)
        while not self._fillers or self._is_connected(self._fillers[-1]):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((HOST, self.port))
            self._fillers.append(filler)

    @staticmethod
    def _is_connected(filler: socket.socket) -> bool:
        """On loopback a connection is there at once, or there is no room for it."""
        try:
            filler.getpeername()
        except OSError:
            return False
        return True

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _open(self, tls: ssl.SSLContext | None) -> None:
        self._listener = await asyncio.start_server(self._carry_both, sock=self._socket.dup(), ssl=tls, backlog=BACKLOG)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        for writer in self._writers:
            writer.transport.abort()
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._socket.shutdown(socket.SHUT_RD)  # stops listening, and keeps the port

    @staticmethod
    async def _finish() -> None:
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways, until either side ends it."""
        answers, requests = await asyncio.open_connection(HOST, self._server_port)
        self._writers |= {writer, requests}
        ways = [
            asyncio.ensure_future(self._carry(reader, requests)),
            asyncio.ensure_future(self._carry(answers, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._writers -= {writer, requests}
        requests.close()
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
