"""Serving a world on a socket of the loopback interface.

The server announces itself once its port is open, serves until SIGTERM or SIGINT, and then stops at once, whatever is
still being streamed or held back by a fault. It logs no requests: their addresses may hold tokens.
"""

import asyncio
import gc
import itertools
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from kheopsfs.demo import worlds
from kheopsfs.demo.accounts import Accounts
from kheopsfs.demo.answers import Behaviour
from kheopsfs.demo.app import Kheops
from kheopsfs.demo.elements import lenient
from kheopsfs.demo.worlds import World

HOST = "127.0.0.1"
"""Sample data or not, nobody else on the network is to see them."""

KEEP_ALIVE = 65
"""Seconds that an idle connection is kept, as nginx does in front of Kheops."""


BACKLOG = 1024
"""Connections that may wait to be accepted: more than nginx would hold."""


@dataclass(frozen=True)
class AnnouncedToken:
    """A token and what it opens, in words."""

    token: str
    kind: str
    what: str


@dataclass(frozen=True)
class Announcement:
    """Where the server is and how to get in."""

    url: str
    tokens: tuple[AnnouncedToken, ...]

    def as_json(self) -> str:
        """All of it in one line."""
        return json.dumps({"url": self.url, "tokens": [vars(token) for token in self.tokens]}, ensure_ascii=False)


class _Server(uvicorn.Server):
    """Says when it is up, and stops at the first signal without waiting for anybody."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Report once connections are accepted and signals are ours."""
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave now."""
        self.stop()

    def stop(self) -> None:
        """Leave now; may be called from another thread."""
        self.should_exit = self.force_exit = True


class _Protocol(H11Protocol):
    """Lets the application see its connection, to know when the client is gone, to reset it, and to count requests."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the transport and a counter where each request's scope will have them."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport, "requests": itertools.count(1)}


class Server:
    """A server that is bound and ready to run.

    Args:
        app: what it serves.
        ready: called once, as soon as connections are accepted and signals end the server properly.
        port: of the loopback interface; 0 for any free one.
        certfile: PEM certificate chain for TLS; plain HTTP without.
        keyfile: PEM key of it.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        app: ASGIApp,
        ready: Callable[[], None],
        *,
        port: int = 0,
        certfile: Path | None = None,
        keyfile: Path | None = None,
    ) -> None:
        self._socket = _listen(port)
        scheme = "https" if certfile else "http"
        self.url = f"{scheme}://{HOST}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            ssl_certfile=certfile,
            ssl_keyfile=keyfile,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # clients that leave are no news here
        self._server = _Server(config, ready)

    def run(self) -> None:
        """Serve until `stop` or, in the main thread, a signal."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return soon; may be called from another thread."""
        self._server.stop()


def _listen(port: int) -> socket.socket:
    """Bind and listen, so that the port is known and connections wait before the loop runs."""
    # asyncio turns Nagle's delay off only for sockets that say they are TCP; with it every small answer takes 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def announcement(url: str, accounts: Accounts) -> Announcement:
    """What to tell whoever started the server."""
    told = tuple(AnnouncedToken(token.secret, token.kind, token.what) for token in accounts.tokens.values())
    return Announcement(url, told)


def serve(
    world: World,
    announce: Callable[[Announcement], None],
    *,
    port: int = 0,
    behaviour: Behaviour | None = None,
    certfile: Path | None = None,
    keyfile: Path | None = None,
    wrap: Callable[[Kheops], ASGIApp] = lambda kheops: kheops,
) -> None:
    """Serve a world until a signal.

    Args:
        world: what to serve.
        announce: called once, as soon as connections are accepted.
        port: 0 for any free one.
        behaviour: what differs from the default installation.
        certfile: for TLS.
        keyfile: for TLS.
        wrap: puts something around the application.

    Raises:
        OSError: the port is taken.
    """
    kheops = Kheops(world.library, world.accounts, behaviour)

    def ready() -> None:
        announce(announcement(server.url, world.accounts))

    server = Server(wrap(kheops), ready, port=port, certfile=certfile, keyfile=keyfile)
    gc.freeze()  # the library stays for good; looking through 100 000 studies for garbage doubles the cost of a list
    with lenient():
        server.run()


def run(port: int = 0, data: Path | None = None, announce: Callable[[Announcement], None] = lambda _: None) -> None:
    """Serve the sample hospital, or a folder of DICOM files, until SIGTERM or SIGINT.

    Args:
        port: of the loopback interface; 0 for any free one.
        data: a folder of DICOM files instead of the samples.
        announce: called once, as soon as connections are accepted.

    Raises:
        KheopsfsError: there is no DICOM file in the folder.
        OSError: the folder cannot be read, or the port is taken.
    """
    serve(worlds.of_samples() if data is None else worlds.of_folder(data), announce, port=port)
