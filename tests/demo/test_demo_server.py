"""The process: how it announces itself, over which address it is reached, and that it stops at once."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from demo_client import PATIENCE, STORED, Demo, bodies

from kheopsfs.demo.server import AnnouncedToken, Announcement

COMMAND = [sys.executable, "-m", "kheopsfs.demo"]


def test_an_announcement_is_one_line() -> None:
    told = Announcement("http://127.0.0.1:1", (AnnouncedToken("T", "user", "all\nof it"),))
    assert "\n" not in told.as_json()
    assert json.loads(told.as_json()) == {
        "url": "http://127.0.0.1:1",
        "tokens": [{"token": "T", "kind": "user", "what": "all\nof it"}],
    }


def test_it_is_reached_on_this_machine_only(demo: Demo) -> None:
    address = urlsplit(demo.url)
    assert address.hostname == "127.0.0.1"
    table = Path(f"/proc/{demo.process.pid}/net/tcp").read_text().splitlines()
    listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    assert f"0100007F:{address.port:04X}" in listening
    assert f"00000000:{address.port:04X}" not in listening


def test_people_get_an_address_and_tokens() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        assert "user token of Ada" in process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert err == ""


def test_without_the_switch_there_is_no_control() -> None:
    with subprocess.Popen([*COMMAND, "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        answer = httpx.get(f"{url}/_control/library", trust_env=False)
        process.terminate()
    assert answer.headers["content-type"].startswith("text/html"), "the web UI's answer to an unknown path"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_though_streams_are_held_back(sent: signal.Signals) -> None:
    with Demo() as demo:
        url = demo.series("PET WB corrected").url
        demo.fault("stall", "/series/", byte=20_000)
        demo.fault("stall", "/albums")
        headers = {**demo.bearer("user token"), "Accept": STORED}
        ended = []

        def wait_for_albums() -> None:
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{demo.url}/api/albums", headers=headers, timeout=PATIENCE, trust_env=False)
            ended.append("albums")

        waiting = threading.Thread(target=wait_for_albums)
        waiting.start()
        with demo.http.stream("GET", url, headers=headers) as answer:
            pieces = answer.iter_raw()
            received = 0
            while received < 20_000:
                received += len(next(pieces))
            while not any(one["path"] == "/api/albums" for one in demo.requests()):
                pass
            demo.process.send_signal(sent)
            assert demo.process.wait(PATIENCE) == 0
            with pytest.raises(httpx.TransportError):
                next(pieces)
        waiting.join(PATIENCE)
        assert ended == ["albums"]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "cannot start" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--data", "/nowhere/at/all"], ["--synthetic", "colour=red"]])
def test_a_start_that_fails(arguments: list[str]) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, list[str]]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(tmp_path / "chain.pem", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context, ["--certfile", str(tmp_path / "chain.pem"), "--keyfile", str(tmp_path / "key.pem")]


def test_tls_with_compression(certificate: tuple[ssl.SSLContext, list[str]]) -> None:
    context, arguments = certificate
    with Demo(*arguments, "--gzip", verify=context) as demo:
        assert demo.url.startswith("https://")
        place = demo.series("PET WB corrected")
        compressed = demo.get(place.url, accept=STORED, accept_encoding="gzip")
        assert compressed.headers["content-encoding"] == "gzip"
        plain = demo.get(place.url, accept=STORED, accept_encoding="identity")
        assert bodies(plain) == bodies(compressed)
        listed = demo.get(f"/api/studies/{place.study}/series").json()
        assert listed[0]["00081190"]["Value"][0].startswith(demo.url)
        demo.fault("reset", "/series/", byte=50_000)
        with pytest.raises(httpx.TransportError):  # OpenSSL makes an unexpected end of the reset
            demo.get(place.url, accept=STORED)


def test_clients_share_the_server(demo: Demo) -> None:
    """A short request is answered while a long one waits for its reader."""
    study = demo.series("Report").study
    with demo.http.stream("GET", f"/api/studies/{study}", headers={**demo.bearer("user token"), "Accept": STORED}):
        assert demo.get("/api/inboxinfo").status_code == 200
