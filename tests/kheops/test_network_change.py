"""A machine that wakes up in another network: its old connections are dead, and nobody will ever say so.

The same file is the program that runs in a network of its own (`unshare --net`), where it takes its own address away
between two requests.
"""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio

from kheopsfs.kheops.address import Address
from kheopsfs.kheops.answers import parse_json
from kheopsfs.kheops.client import Client
from kheopsfs.kheops.credentials import Credentials, Token

SERVER, BEFORE = "10.9.9.2", "10.9.9.1"
ALONE = ["unshare", "--map-root-user", "--net"]
NEVER = 3600.0
"""Seconds without a byte after which the client would give up: it must find out in another way."""


def can_be_alone() -> bool:
    return subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode == 0


def test_a_request_on_a_connection_from_another_network_is_made_again() -> None:
    """S16: it is noticed that nothing arrives, long before the idle deadline, and a new connection has the answer."""
    if not can_be_alone():
        pytest.skip("a network of one's own is not to be had here")
    repository = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*ALONE, sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": repository},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [BEFORE, "answered", SERVER, "answered"]


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


class Teller(BaseHTTPRequestHandler):
    """Answers with JSON and prints from where it was asked, once per connection."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        say(self.client_address[0])

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_arguments: object) -> None:
        pass


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


async def ask_before_and_after(port: int) -> None:
    address = Address(f"http://{SERVER}:{port}/api")
    async with Client(address, Credentials(Token("a" * 22)), idle_timeout=NEVER) as client:
        for source in (BEFORE, SERVER):
            ip(f"route change local {SERVER} dev lo src {source} table local")
            await client.get("/albums", parse=parse_json, accept="application/json")
            say("answered")
            if source == BEFORE:
                ip(f"addr del {BEFORE}/32 dev lo")


if __name__ == "__main__":
    ip("link set lo up")
    for own in (BEFORE, SERVER):
        ip(f"addr add {own}/32 dev lo")
    server = ThreadingHTTPServer((SERVER, 0), Teller)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trio.run(ask_before_and_after, server.server_port)
    os._exit(0)  # a connection of the server's is still open
