"""A slow line on this machine: a relay that lets bytes through no faster than a rate, and each half a round trip late.

A relay of our own rather than `tc netem`, because it needs no root, no namespaces and no kernel module, and because the
server stays on loopback. All connections share one line per direction. A new connection costs one round trip before
its first byte. There are no losses and no slow start, so a line is a little better than a real one, for all peers
alike.
"""

import queue
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PIECE = 64 * 1024  # bytes per hop: half a millisecond at 1 Gb/s, so that connections share the line evenly
WINDOW_PIECES = 64  # pieces under way per connection: 4 MiB, more than the 2.5 MB that fill 1 Gb/s at 20 ms


class _Line:
    """One direction."""

    def __init__(self, bits_per_second: float, delay: float) -> None:
        self.delay = delay
        self._seconds_per_byte = 8 / bits_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pass_through(self, length: int) -> float:
        """Wait until the last of `length` bytes has left; returns when it is due at the other end."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + length * self._seconds_per_byte
            left_at = self._free_at
        _sleep_until(left_at)
        return left_at + self.delay


def _sleep_until(moment: float) -> None:
    if (rest := moment - time.monotonic()) > 0:
        time.sleep(rest)


def _carry(source: socket.socket, target: socket.socket, line: _Line, first_delay: float) -> None:
    """All that comes from one socket to the other, late."""
    under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(WINDOW_PIECES)

    def deliver() -> None:
        try:
            while True:
                due, data = under_way.get()
                _sleep_until(due)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
        except OSError:  # one side has gone: the other is to notice
            source.close()

    threading.Thread(target=deliver, daemon=True).start()
    if first_delay:
        time.sleep(first_delay)
    data = b"."
    while data:
        try:
            data = source.recv(PIECE)
        except OSError:
            data = b""
        under_way.put((line.pass_through(len(data)), data))


def _serve(port: int, bits_per_second: float, round_trip: float) -> None:
    up, down = _Line(bits_per_second, round_trip / 2), _Line(bits_per_second, round_trip / 2)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_carry, args=(client, server, up, round_trip), daemon=True).start()
            threading.Thread(target=_carry, args=(server, client, down, 0.0), daemon=True).start()


class Link:
    """A relay to a server's URL, in a process of its own, until the end of the `with`."""

    def __init__(self, url: str, bits_per_second: float, round_trip: float) -> None:
        parts = urlsplit(url)
        command = [sys.executable, __file__, str(parts.port), str(bits_per_second), str(round_trip)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = parts._replace(netloc=f"127.0.0.1:{int(self._process.stdout.readline())}").geturl()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
