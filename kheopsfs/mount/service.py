"""The life of one mount: connect, mount, serve, end.

A mount ends in one of three ways: a signal, an unmount by somebody else, or a bug in the loop. In each, our own
requests are cancelled *first*, because pyfuse3's `terminate` waits for handlers that are running; then the loop ends,
the mountpoint is cleared, and the library, the store and the connections are closed. None of that waits for the
network. If this process is killed, its keeper clears the mountpoint.

A lazy unmount (`umount -l`) leaves no trace on the FUSE device while files are open, so the mount table is watched. It
is watched for this very mount: meanwhile another may be on the same mountpoint, and must not be unmounted in its stead.
"""

import logging
import os
import resource
import signal
from collections.abc import Callable

import pyfuse3
import trio

from kheopsfs.config import Settings
from kheopsfs.errors import FUSEUnavailableError, KheopsfsError, MountpointError
from kheopsfs.fetch import Library
from kheopsfs.kheops.address import Address
from kheopsfs.kheops.credentials import Credentials
from kheopsfs.mount import helper, registry
from kheopsfs.mount.attributes import Attributes
from kheopsfs.mount.connection import connected
from kheopsfs.mount.environment import MountEntry, fuse_problem, mount_table, mounted, refuse_mounted
from kheopsfs.mount.keeper import Keeper
from kheopsfs.mount.operations import KheopsOperations
from kheopsfs.tree.names import NameStyle
from kheopsfs.tree.views import root

log = logging.getLogger(__name__)

TASKS = 400  # requests handled at once; when all are busy the whole mount stands still, and a waiting one costs little
IDLE_TASKS = 16  # kept waiting for requests, so that a burst does not begin with starting tasks
MOUNT_TABLE_PAUSE = 1.0  # seconds between looks at the mount table: a lazy unmount ends within a few


def run(settings: Settings, credentials: Credentials, address: Address, *, ready: Callable[[], None]) -> None:
    """Mount and serve until the mount is ended; blocks.

    Args:
        settings: what to mount where.
        credentials: the token, and where to look for its successor.
        address: the server.
        ready: called once, when the mount answers.

    Raises:
        KheopsfsError: it could not be mounted, and nothing of it is left.
    """
    _raise_descriptor_limit()
    try:
        trio.run(_serve, settings, credentials, address, ready)
    except BaseExceptionGroup as group:
        raise _first(group) from group


async def _serve(settings: Settings, credentials: Credentials, address: Address, ready: Callable[[], None]) -> None:
    async with (
        connected(settings, credentials, address) as (gate, store),
        Library.opened(gate, store, list_ttl=settings.list_ttl, exact_sizes=settings.sizes == "exact") as library,
    ):
        attributes = Attributes(os.geteuid(), os.getegid(), settings.list_ttl)
        operations = KheopsOperations(
            library, root(gate.info.kind, NameStyle(settings.names)), attributes, settings.mountpoint
        )
        _mount(operations, settings, address)
        entry = mounted(settings.mountpoint)
        keeper = Keeper(entry)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_on_signal, operations)
                nursery.start_soon(_end_when_unmounted, operations, entry)
                nursery.start_soon(operations.directories.follow_changes)
                nursery.start_soon(operations.ahead.work)
                nursery.start_soon(_say_when_ready, operations, ready)
                await pyfuse3.main(min_tasks=IDLE_TASKS, max_tasks=TASKS)
                nursery.cancel_scope.cancel()
        finally:
            operations.requests.cancel_all()
            pyfuse3.close(unmount=entry in mount_table())  # what is mounted there now may be another's
            operations.close()
            keeper.dismiss()


def _raise_descriptor_limit() -> None:
    """Every open file is a descriptor here as well, and so is every thread's database; the usual limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _mount(operations: KheopsOperations, settings: Settings, address: Address) -> None:
    options = {
        "ro": None,
        "default_permissions": None,
        "auto_unmount": None,  # clears the mountpoint, where it can, even if this process and its keeper are killed
        "subtype": "kheopsfs",
        "fsname": address.origin,
    } | settings.fuse_options
    try:
        with registry.reserved(settings.mountpoint), helper.woken_last():
            refuse_mounted(settings.mountpoint)  # the command looked before it asked the server, which took a while
            pyfuse3.init(
                operations,
                str(settings.mountpoint),
                {name if value is None else f"{name}={_escape(value)}" for name, value in options.items()},
            )
    except RuntimeError as error:
        if problem := fuse_problem():
            raise FUSEUnavailableError(problem) from error
        raise MountpointError(f"FUSE could not mount on {settings.mountpoint}; the line above says why.") from error


def _escape(value: str) -> str:
    """FUSE splits its options at commas."""
    return value.replace("\\", "\\\\").replace(",", "\\,")


async def _say_when_ready(operations: KheopsOperations, ready: Callable[[], None]) -> None:
    """The mount is ready when it answers, not when mount(2) returned."""
    await operations.answering.wait()
    ready()


async def _end_on_signal(operations: KheopsOperations) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("ending on %s", signal.Signals(number).name)
            _end(operations)


async def _end_when_unmounted(operations: KheopsOperations, entry: MountEntry | None) -> None:
    while True:
        await trio.sleep(MOUNT_TABLE_PAUSE)
        if entry not in await trio.to_thread.run_sync(mount_table):
            log.info("the mount was taken away")
            _end(operations)


def _end(operations: KheopsOperations) -> None:
    operations.requests.cancel_all()
    pyfuse3.terminate()


def _first(group: BaseExceptionGroup) -> BaseException:
    """The failure to report: ours before any other, and one that is no group."""
    for error in group.exceptions:
        inner = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(inner, KheopsfsError):
            return inner
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
