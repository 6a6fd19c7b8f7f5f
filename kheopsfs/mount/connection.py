"""How a mount comes to its server and its cache, before anything is mounted.

Online, the server says first whose the token is; only then is the cache touched. Offline, the cache says it, for a
token that the server accepted lately (`kheopsfs.fetch.standings`), and no connection is made, not even to look up the
server's name. A mount that was to be online never turns into an offline one by itself: a viewer that shows yesterday's
list without a word is worse than an error that names the choice.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import trio

from kheopsfs.config import Settings
from kheopsfs.errors import KheopsfsError, PermissionMissingError, TokenRefusedError
from kheopsfs.fetch import Gate, OfflineGate
from kheopsfs.fetch.standings import NEVER_SEEN, Standings, demand_trusted
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials
from kheopsfs.store import Store


@asynccontextmanager
async def connected(
    settings: Settings, credentials: Credentials, address: Address
) -> AsyncIterator[tuple[Gate, Store]]:
    """The gate to the server and the store, for the body of the `async with`.

    Raises:
        KheopsfsError: the server does not take the token or cannot be asked; or, offline, the token is not known here.
    """
    async with Client(address, credentials, idle_timeout=settings.idle_timeout) as client:
        gate = None if settings.offline else await _online(client, settings)
        store = await trio.to_thread.run_sync(Store, settings.cache_dir, settings.cache_size)
        try:
            standings = Standings(store, address.origin)
            if gate is None:
                gate = await trio.to_thread.run_sync(_offline, client, standings)
            else:
                await standings.note(credentials.token, gate.info)
                gate.on_verdict = standings.note
            yield gate, store
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(store.close)


async def _online(client: Client, settings: Settings) -> Gate:
    try:
        return Gate(client, await client.introspect(), recheck=settings.list_ttl)
    except PermissionMissingError:
        raise
    except TokenRefusedError:
        await trio.to_thread.run_sync(_forget, client, settings)
        raise
    except KheopsfsError as error:
        if not await trio.to_thread.run_sync(_could_be_offline, client, settings):
            raise
        raise type(error)(f"{error} What is in the cache can be mounted without the server: --offline") from error


def _offline(client: Client, standings: Standings) -> OfflineGate:
    standing = standings.recall(client.credentials.token)
    if standing is None:
        raise TokenRefusedError(NEVER_SEEN)
    demand_trusted(standing.confirmed_at)
    return OfflineGate(client, standing)


def _could_be_offline(client: Client, settings: Settings) -> bool:
    """Whether an offline mount with the same settings would come about."""
    with suppress(KheopsfsError), _standings_if_any(client, settings) as standings:
        if standings is not None:
            _offline(client, standings)
            return True
    return False


def _forget(client: Client, settings: Settings) -> None:
    """The server has refused the token: it must not read offline either."""
    with suppress(KheopsfsError), _standings_if_any(client, settings) as standings:
        if standings is not None:
            standings.forget(client.credentials.token)


@contextmanager
def _standings_if_any(client: Client, settings: Settings) -> Iterator[Standings | None]:
    """What the cache says of tokens, if there is a cache: none is made for a mount that does not come about."""
    if not settings.cache_dir.exists():
        yield None
        return
    with Store(settings.cache_dir, settings.cache_size) as store:
        yield Standings(store, client.address.origin)
