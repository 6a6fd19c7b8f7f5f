"""Every reason not to mount has its own exit status and a sentence, and leaves nothing behind."""

import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from harness.looking import is_running

from kheopsfs.mount.environment import mounted
from tests.cli.conftest import PATIENCE, Demo, Home, Outcome, children
from tests.cli.test_environment import UNSHARE, needs_namespace

TOKEN = "vc8CW0nJgEOiMcBDbLwG5K"

Arguments = Callable[..., Outcome]


class WebPage(http.server.BaseHTTPRequestHandler):
    """A server that answers everything with a page, as Kheops does outside its API."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>Kheops</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None: ...


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server of web pages."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), WebPage) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["mount", "mount -f", "check"])
def attempt(request: pytest.FixtureRequest, home: Home, mountpoint: Path) -> Iterator[Arguments]:
    """Run a command that cannot succeed; it must say why in one line, and leave nothing."""

    def run(url: str, *options: str | Path, **variables: str) -> Outcome:
        command, *flags = request.param.split()
        place = [mountpoint] if command == "mount" else []
        outcome = home.run(command, *flags, *options, url, *place, **variables)
        assert "Traceback" not in outcome.text
        assert TOKEN not in outcome.text
        return outcome

    yield run
    assert mounted(mountpoint) is None
    assert list(mountpoint.iterdir()) == []
    assert home.notes == []


def test_an_unreachable_port(attempt: Arguments) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, but nobody listens
        outcome = attempt(f"http://127.0.0.1:{bound.getsockname()[1]}", KHEOPS_TOKEN=TOKEN)
    assert outcome.status == 4
    assert "cannot be reached" in outcome.err


def test_an_unknown_host(attempt: Arguments) -> None:
    outcome = attempt("https://kheops.invalid", KHEOPS_TOKEN=TOKEN)
    assert outcome.status == 4


def test_a_server_that_is_no_kheops(attempt: Arguments) -> None:
    with web_server() as port:
        outcome = attempt(f"http://127.0.0.1:{port}", KHEOPS_TOKEN=TOKEN)
    assert outcome.status == 4
    assert "web page" in outcome.err


def test_a_server_that_says_nothing(attempt: Arguments) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        outcome = attempt(url, KHEOPS_TOKEN=TOKEN, KHEOPSFS_IDLE_TIMEOUT="0.2")
    assert outcome.status == 4
    assert "silent" in outcome.err


def test_a_certificate_of_nobody_we_know(attempt: Arguments, tmp_path: Path) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with web_server(tls) as port:
        outcome = attempt(f"https://localhost:{port}", KHEOPS_TOKEN=TOKEN)
        assert outcome.status == 5
        assert "SSL_CERT_FILE" in outcome.err
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        trusted = attempt(f"https://localhost:{port}", KHEOPS_TOKEN=TOKEN, SSL_CERT_FILE=str(tmp_path / "ca.pem"))
    assert trusted.status == 4, "the advice helps: now the page is what is wrong"


def test_tls_to_a_server_without(attempt: Arguments, demo: Demo) -> None:
    outcome = attempt(f"https://{demo.host}", KHEOPS_TOKEN=TOKEN)
    assert outcome.status == 5


def test_plain_http_to_another_machine(attempt: Arguments) -> None:
    outcome = attempt("http://kheops.invalid", KHEOPS_TOKEN=TOKEN)
    assert outcome.status == 3
    assert "clear text" in outcome.err
    outcome = attempt("http://kheops.invalid", "--insecure-http", KHEOPS_TOKEN=TOKEN)
    assert outcome.status == 4


def test_a_token_that_nobody_knows(attempt: Arguments, demo: Demo) -> None:
    outcome = attempt(demo.url, KHEOPS_TOKEN=TOKEN)
    assert outcome.status == 6


def test_something_that_is_no_token(attempt: Arguments, demo: Demo) -> None:
    outcome = attempt(demo.url, KHEOPS_TOKEN="what\nis this?")
    assert outcome.status == 6


def test_no_token_and_no_terminal_to_ask_on(attempt: Arguments, demo: Demo) -> None:
    outcome = attempt(demo.url)
    assert outcome.status == 6
    assert "--token-file" in outcome.err


def test_nothing_on_standard_input(attempt: Arguments, demo: Demo) -> None:
    outcome = attempt(demo.url, "--token-file", "-")
    assert outcome.status == 6


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_file_that_others_can_read(attempt: Arguments, demo: Demo, home: Home, mode: int) -> None:
    outcome = attempt(demo.url, "--token-file", home.token_file(TOKEN, mode))
    assert outcome.status == 6
    assert "chmod 600" in outcome.err


def test_a_token_file_that_is_not_there(attempt: Arguments, demo: Demo, tmp_path: Path) -> None:
    assert attempt(demo.url, "--token-file", tmp_path / "missing").status == 6
    assert attempt(demo.url, "--token-file", tmp_path).status == 6


def test_an_empty_token_file(attempt: Arguments, demo: Demo, home: Home) -> None:
    assert attempt(demo.url, "--token-file", home.token_file("")).status == 6


def test_a_cache_directory_that_is_a_file(attempt: Arguments, demo: Demo, user_token: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = attempt(demo.url, "--cache-dir", tmp_path / "file", KHEOPS_TOKEN=user_token)
    assert outcome.status == 9


def test_a_mountpoint_that_is_none(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thing").touch()
    for path, complaint in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "file", "not a directory"),
        (tmp_path / "full", "not empty"),
        (Path("/proc"), "mountpoint already"),
    ):
        for command in (
            ["mount", "https://kheops.invalid"],
            ["mount", "-f", "https://kheops.invalid"],
            ["demo", "--once"],
        ):
            outcome = home.run(*command, path, KHEOPS_TOKEN=TOKEN)
            assert outcome.status == 7, outcome
            assert complaint in outcome.err
            assert str(path) in outcome.err


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_a_mountpoint_of_somebody_else() -> None:
    script = (
        "import os, sys; from pathlib import Path; from kheopsfs.mount.environment import check_mountpoint\n"
        "os.setgid(65534); os.setuid(65534); check_mountpoint(Path(sys.argv[1]))"
    )
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        done = subprocess.run([sys.executable, "-c", script, place], capture_output=True, text=True, check=False)
    assert f"{place} is not yours to mount on" in done.stderr


def test_umount_where_nothing_is_mounted(home: Home, mountpoint: Path) -> None:
    outcome = home.run("umount", mountpoint)
    assert outcome.status == 7
    assert outcome.err.startswith("kheopsfs: Nothing is mounted on")
    assert home.run("umount", mountpoint / "missing").status == 7


def test_umount_of_something_that_is_not_ours(home: Home) -> None:
    outcome = home.run("umount", "/proc")
    assert outcome.status == 7
    assert "not mounted by kheopsfs" in outcome.err
    assert mounted(Path("/proc")) is not None


@needs_namespace
@pytest.mark.parametrize("command", [["mount", "http://127.0.0.1:9", "{mnt}"], ["demo", "--once"]])
def test_without_fuse(home: Home, mountpoint: Path, command: list[str]) -> None:
    arguments = [argument.format(mnt=mountpoint) for argument in command]
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", script, "sh", sys.executable, "-m", "kheopsfs", *arguments],
        env={**home.environment, "KHEOPS_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 8
    assert done.stderr.startswith("kheopsfs: /dev/fuse is not the FUSE device")


def test_ctrl_c_while_the_server_is_silent(home: Home, mountpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with home.started("mount", url, mountpoint, KHEOPS_TOKEN=TOKEN) as command:
            connection, _ = silent.accept()  # the mount's own process has started and asks
            (daemon,) = children(command.pid)
            command.send_signal(signal.SIGINT)
            _, err = command.communicate(timeout=PATIENCE)
            connection.close()
    assert command.returncode == 130
    assert "Traceback" not in err
    assert not is_running(daemon)
    assert mounted(mountpoint) is None
