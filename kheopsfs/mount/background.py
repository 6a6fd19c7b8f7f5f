"""The process that serves one mount: reads its order, mounts, says so once, and serves until it is told to stop.

It is started by `kheopsfs.mount.launch` only, and lives by three rules. What it was told stays inside it: the order
came through a pipe, and what is logged passes a formatter that takes the token out. Whoever started it gets exactly
one answer, a line of JSON. Once it has answered it holds on to nothing of the caller's: not its terminal, not its
pipes, not its directory.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from kheopsfs.errors import KheopsfsError
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.credentials import Credentials
from kheopsfs.mount import logs, memory, registry, service
from kheopsfs.mount.launch import Order

log = logging.getLogger("kheopsfs.mount.background")  # __name__ is __main__ here

UNEXPECTED = 1
"""Exit status of a bug."""


def take_order() -> Order:
    """Read the order that `launch` put on standard input, which is then nobody's any more."""
    memory.keep_to_ourselves()
    order = Order.decode(sys.stdin.buffer.read())
    _point_at(os.devnull, os.O_RDONLY, 0)
    return order


def serve(order: Order, log_file: Path | None, ready: Callable[[], None]) -> None:
    """Mount, and serve until the mount is ended.

    Args:
        order: what to mount where.
        log_file: where to log to; None for the terminal.
        ready: called once, when the mount answers.

    Raises:
        KheopsfsError: there is no mount, and nothing of it is left.
    """
    settings = order.settings
    credentials = Credentials(order.token, settings.auth, settings.token_file)
    # What this process makes (cache, ledger, log) is for its user alone.
    os.umask(0o077)
    logs.set_up(settings.log_level, log_file, logs.RedactingFormatter(credentials))

    def note_and_tell() -> None:
        registry.register(settings.mountpoint, settings.url, log_file)
        log.info("%s is mounted on %s", settings.url, settings.mountpoint)
        ready()

    try:
        address, _ = parse_address(settings.url, insecure_http=settings.insecure_http)
        service.run(settings, credentials, address, ready=note_and_tell)
    finally:
        registry.unregister(settings.mountpoint)
    log.info("%s is unmounted", settings.mountpoint)


class Caller:
    """Whoever started this process and waits for its one answer."""

    def __init__(self) -> None:
        self._waiting = True
        self.log_file: Path | None = None

    def mount_answers(self) -> None:
        """There is a mount."""
        self._tell({"ok": True})

    def failed(self, error: KheopsfsError) -> int:
        """There is no mount, or no longer: the exit status for it."""
        log.log(error.log_level, "%s", error)
        self._tell({"ok": False, "error": str(error), "exit_code": error.exit_code})
        return error.exit_code

    def broken(self, error: Exception) -> int:
        """A bug: the exit status for it. What it was stands in the log, where a token is taken out of it."""
        log.critical("Unexpected: this is a bug in kheopsfs", exc_info=error)
        text = f"Unexpected: {type(error).__name__}. The log has the details: {self.log_file}"
        self._tell({"ok": False, "error": text, "exit_code": UNEXPECTED})
        return UNEXPECTED

    def _tell(self, answer: dict[str, object]) -> None:
        if not self._waiting:
            return
        self._waiting = False
        try:
            os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")
        except BrokenPipeError:
            # The caller was killed while it waited. Nobody knows of this mount: undo it, in the ordinary way.
            os.kill(os.getpid(), signal.SIGTERM)
        _point_at(os.devnull, os.O_WRONLY, sys.stdout.fileno())
        # What bypasses logging, such as the last words of a crashing interpreter, still reaches the log file.
        _point_at(self.log_file or os.devnull, os.O_WRONLY | os.O_APPEND, sys.stderr.fileno())


def _point_at(path: Path | str, flags: int, descriptor: int) -> None:
    """Make a standard stream lead somewhere else."""
    opened = os.open(path, flags)
    os.dup2(opened, descriptor)
    os.close(opened)


def main() -> int:
    """Serve the mount that the order on standard input describes; the exit status."""
    order = take_order()
    caller = Caller()
    try:
        caller.log_file = logs.log_file(order.settings.mountpoint)
        serve(order, caller.log_file, caller.mount_answers)
    except KheopsfsError as error:
        return caller.failed(error)
    except Exception as error:  # the one place where a bug that ended the mount is told from a failure
        return caller.broken(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
