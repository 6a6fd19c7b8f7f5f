"""Where tokens and patients' names must not be (S19, S21), after everything was used: lists, files, pictures, zips,
links, extended attributes, and every kind of failure."""

import errno
import itertools
import json
import os
import pickle
import re
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from harness.looking import files, only, until, xattr
from harness.mounting import Mount, NewMount
from harness.patience import Attempt, errno_of
from harness.server import DemoServer

PATIENTS = ["Doe", "Jane", "Yamada", "Tarou", "山田", "Müller", "Zoë", "Nightingale", "Florence", "Smith", "قباني"]
"""Parts of the names of the samples' patients."""

DESCRIPTIONS = ["Thorax", "Schädel", "planning", "Rest_ECG", "Findings"]
"""Parts of what studies and series are called; these too are in paths, and tell about a patient."""


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as demo:
        yield demo


SAMPLE = 3
"""Folders and files of each folder that are looked at closely."""


def look_at_everything(mount: Mount) -> bytes:
    """Every name of a mount, links and extended attributes in each folder, and some of each kind of file."""
    seen = []
    for folder, names, found in os.walk(mount.path):
        seen += [os.fsencode(name) for name in (*names, *found)]
        for name in (*names[:SAMPLE], *found[:SAMPLE]):
            path = Path(folder) / name
            path.lstat()
            if path.is_symlink():
                seen.append(os.fsencode(path.readlink()))
                continue
            for attribute in os.listxattr(path):
                seen += [attribute.encode(), os.getxattr(path, attribute)]
    first = {tuple(path.relative_to(mount.path).parts[:3]): path for path in files(mount.path)}
    for path in first.values():
        with suppress(OSError):  # a zip of what the token sees in part, a picture that cannot be made
            path.read_bytes()
    return b"\n".join(seen)


def fail_in_every_way(server: DemoServer, mount: Mount) -> None:
    """Requests for all that is not cached yet, with every kind of fault."""
    unread = [
        path for path in files(mount.path / "studies", "*.dcm") if os.getxattr(path, "user.kheops.cached") == b"no"
    ]
    faults = [
        {"kind": "cut", "fraction": 0.5},
        {"kind": "reset"},
        {"kind": "stall"},
        {"kind": "html"},
        {"kind": "junk"},
        {"kind": "wrong_instance"},
        *({"kind": "status", "code": code} for code in (400, 401, 403, 404, 406, 418, 500)),
        {"kind": "status", "code": 302, "location": "http://127.0.0.1:9/api/link/elsewhere"},
        {"kind": "status", "code": 302, "location": "no address at all:::"},
        {"kind": "body", "text": "nonsense"},
        {"kind": "content_type", "media_type": "text/html"},
        {"kind": "gzip"},
        {"kind": "upstream", "parts": 0, "byte": 5000},
        {"kind": "partial", "parts": 0},
        {"kind": "part_length"},
    ]
    by_series = {path.parent: path for path in unread}
    for path, fault in zip(by_series.values(), itertools.cycle(faults), strict=False):
        server.fault(path=os.getxattr(path, "user.dicom.SeriesInstanceUID").decode(), **fault)
    server.fault(path="/wado", kind="status", code=500, after=3)
    attempts = [Attempt(path.read_bytes) for path in by_series.values()]
    attempts += [Attempt(path.read_bytes) for path in files(mount.path / "thumbnails")[::40]]
    assert any(attempt.errno() for attempt in attempts)
    errno_of((mount.path / "studies" / "Doe^Jane").stat)
    server.clear_faults()


def written_by(mount: Mount) -> dict[Path, bytes]:
    """Everything that the mount has written: cache, log, notes; but not the token file, which is the user's."""
    written = {}
    for folder in (mount.home / name for name in ("cache", "state", "config", "kheopsfs")):
        for path in files(folder) if folder.exists() else ():
            with suppress(FileNotFoundError):  # a body that was replaced just now
                written[path] = path.read_bytes()
    return written


@pytest.mark.parametrize("auth", ["bearer", "basic", "link"])
def test_the_token_is_nowhere(server: DemoServer, new_mount: NewMount, auth: str) -> None:
    """S19, S21: not in arguments, environment or mount table, not in a name or an extended attribute (in link
    mode every RetrieveURL holds the token), nor in a log at its loudest or the cache, whose files are ours alone."""
    token = server.token("user", "Ada")
    mount = new_mount(server, "--auth", auth, "--log-level", "debug", token=token, idle_timeout="2")
    secret = token.encode()
    seen = look_at_everything(mount)
    assert b"user.kheops.url" in seen
    assert b"/api/studies/" in seen
    assert secret not in seen
    assert b"/link/" not in seen
    fail_in_every_way(server, mount)
    assert {request["auth"] for request in server.requests("/api/studies")} >= {auth}
    process = Path(f"/proc/{mount.pid}")
    for place in ("cmdline", "environ", "mountinfo", "comm"):
        assert secret not in (process / place).read_bytes()
    assert secret not in Path("/proc/self/mountinfo").read_bytes()
    assert secret not in subprocess.run(["ps", "axeww"], capture_output=True, check=True, timeout=60).stdout
    written = written_by(mount)
    assert any(path.suffix == ".log" for path in written)
    assert [path for path, content in written.items() if secret in content] == []
    viewer = re.compile(rb"[A-Za-z0-9_-]{150,}\.[A-Za-z0-9_.-]{200,}")
    assert [path for path, content in written.items() if path.suffix == ".log" and viewer.search(content)] == []
    for path in (mount.cache, *mount.cache.rglob("*")):
        status = path.lstat()
        assert not stat.S_IMODE(status.st_mode) & 0o077 or path.name == "CACHEDIR.TAG", path
    assert mount.command("umount", str(mount.path)).returncode == 0
    assert [path for path, content in written_by(mount).items() if secret in content] == []


def test_a_token_that_is_replaced_is_not_logged_either(server: DemoServer, new_mount: NewMount) -> None:
    """S21: the old token and the new one are both secret."""
    token, successor = server.token("user", "Ada"), server.token("user", "revoked")
    mount = new_mount(server, "--list-ttl", "1", "--log-level", "debug", token=token)
    server.call("POST", "/restore", json={"token": successor})
    server.call("POST", "/revoke", json={"token": token})
    try:
        until(lambda: "token is refused" in mount.log())
        mount.write_token(successor)
        until(lambda: errno_of(lambda: os.listdir(mount.path / "studies")) is None)
    finally:
        server.call("POST", "/restore", json={"token": token})
        server.call("POST", "/revoke", json={"token": successor})
    for secret in (token.encode(), successor.encode()):
        assert [path for path, content in written_by(mount).items() if secret in content] == []


def test_patients_are_not_in_the_log(server: DemoServer, new_mount: NewMount) -> None:
    """S21: at the default level no name, description or path is logged, whatever fails."""
    mount = new_mount(server, token=server.token("user", "Ada"), idle_timeout="2")
    seen = look_at_everything(mount).decode()
    assert all(name in seen for name in PATIENTS)
    studies = list((mount.path / "studies").iterdir())
    numbers = {xattr(study, "dicom.PatientID") for study in studies if "user.dicom.PatientID" in os.listxattr(study)}
    assert len(numbers) > 3
    fail_in_every_way(server, mount)
    assert errno_of((mount.path / "studies/Doe-Jane").read_bytes) == errno.ENOENT
    log = mount.log()
    assert len(log.splitlines()) > 10, "there was something to log"
    words = {*PATIENTS, *DESCRIPTIONS, *(number for number in numbers if len(number) > 4)}
    assert [word for word in words if word in log.replace(str(mount.path), "")] == []
    assert "WARNING" in log


# -- nobody else is told ----------------------------------------------------------------------------------------------


@contextmanager
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """Another server: its address, and all that anybody sends to it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as waiting:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = waiting.accept()
                    with client:
                        heard.append(client.recv(65536))
                        client.sendall(
                            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n[]"
                        )

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{waiting.getsockname()[1]}", heard


@pytest.mark.parametrize("auth", ["bearer", "link"])
def test_redirects_are_not_followed(server: DemoServer, tmp_path: Path, auth: str) -> None:
    """S21: wherever the server points to, nobody there hears anything: no token, no connection."""
    with (
        listener() as (elsewhere, heard),
        Mount(server.url, server.token("user", "Ada"), tmp_path, "--auth", auth) as mount,
    ):
        file = next((mount.path / "studies").glob("*/*SR*/*.dcm"))
        for code in (301, 302, 303, 307, 308):
            target = f"{elsewhere}/api/studies"
            server.fault(path="/(studies|albums|wado)", kind="status", code=code, location=target)
            try:
                assert errno_of(file.read_bytes) == errno.EIO
                assert errno_of(lambda: os.listdir(mount.path / "inbox")) == errno.EIO
                assert errno_of(lambda: os.listdir(mount.path / "albums")) == errno.EIO
            finally:
                server.clear_faults()
        assert file.read_bytes()
        assert httpx.get(elsewhere, trust_env=False).status_code == 200, "it would have heard"
        assert len(heard) == 1


def test_proxies_of_the_environment_are_not_told(server: DemoServer, tmp_path: Path) -> None:
    """S21: a proxy named in the environment would see the token of a plain connection."""
    with listener() as (proxy, heard):
        mount = Mount(server.url, server.token("user", "Grace"), tmp_path)
        mount.environment |= dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), proxy)
        with mount:
            assert os.listdir(mount.path / "studies")
        assert heard == []


@pytest.mark.parametrize("url", ["http://192.0.2.1/api", "http://kheops.invalid", "http://[2001:db8::1]/api/studies"])
def test_plain_http_to_another_machine_is_refused(tmp_path: Path, url: str) -> None:
    """S21: a token goes over plain http to this machine only, unless told otherwise."""
    mount = Mount(url, "aToken0fTwentyTwoChars", tmp_path)
    done = mount.command("mount", url, str(mount.path), "--token-file", str(mount.token_file))
    assert done.returncode == 3
    assert "https" in done.stderr
    assert "aToken" not in done.stderr + done.stdout
    assert not mount.is_mounted


def test_a_token_file_that_others_can_read_is_not_read_again(server: DemoServer, new_mount: NewMount) -> None:
    """S21: also while the mount lives, a successor in a file that others can read is not taken."""
    token, successor = server.token("album", "PET"), server.token("user", "Grace")
    mount = new_mount(server, "--list-ttl", "1", token=token)
    server.call("POST", "/revoke", json={"token": token})
    try:
        until(lambda: errno_of(lambda: os.listdir(mount.path)) == errno.EACCES)
        mount.token_file.chmod(0o644)
        mount.token_file.write_text(successor)
        server.clear_requests()
        until(lambda: len(server.requests("introspect")) >= 2)
        assert errno_of(lambda: os.listdir(mount.path)) == errno.EACCES
        assert "another account" not in mount.log(), "the file was not believed"
    finally:
        server.call("POST", "/restore", json={"token": token})


def test_addresses_in_answers_are_not_asked(server: DemoServer, tmp_path: Path) -> None:
    """S21: RetrieveURL and BulkDataURI may say what they like; each request goes to the server that was mounted."""
    with listener() as (elsewhere, heard), Mount(server.url, server.token("user", "Ada"), tmp_path) as mount:
        file = next((mount.path / "studies").glob("*/*/*.dcm"))
        uids = {name: xattr(file, f"dicom.{name}InstanceUID") for name in ("Study", "Series", "SOP")}
        urls = {
            "00081190": {"vr": "UR", "Value": [f"{elsewhere}/api/studies/{uids['Study']}"]},
            "00081115": {"vr": "SQ", "Value": [{"00081190": {"vr": "UR", "Value": [elsewhere]}}]},
            "7FE00010": {"vr": "OW", "BulkDataURI": f"{elsewhere}/bulkdata"},
            "00081196": {"vr": "UR", "Value": [f"//{elsewhere.removeprefix('http://')}"]},
        }
        for path, tag, uid in (
            (r"/studies\?", "0020000D", "Study"),
            (r"/series(\?|$)", "0020000E", "Series"),
            (r"/instances(\?|$)|/metadata", "00080018", "SOP"),
        ):
            row = {tag: {"vr": "UI", "Value": [uids[uid]]}, **urls}
            server.fault(kind="body", path=path, text=json.dumps([row]), media_type="application/dicom+json")
        try:
            shown = only(list((mount.path / "inbox").glob("*/*/*.dcm")))
            assert xattr(shown, "dicom.SOPInstanceUID") == uids["SOP"]
            assert shown.read_bytes()
            for picture in (mount.path / "thumbnails" / "inbox").glob("*/*/*.jpg"):
                assert picture.read_bytes()
        finally:
            server.clear_faults()
        assert httpx.get(elsewhere, trust_env=False).status_code == 200, "it would have heard"
        assert len(heard) == 1


# -- what lies in the cache is data -----------------------------------------------------------------------------------

_WATCH = """
import os, sys
def watch(event, arguments):
    if event == "pickle.find_class":
        with open(os.environ["UNPICKLED"], "a") as file:
            file.write(repr(arguments))
sys.addaudithook(watch)
"""


def test_nothing_is_unpickled(server: DemoServer, tmp_path: Path) -> None:
    """S19: pickle does not even look at it, whatever was planted in any row of any database of the cache."""
    watched = tmp_path / "watch"
    watched.mkdir()
    (watched / "sitecustomize.py").write_text(_WATCH)
    noted = tmp_path / "noted"
    mount = Mount(server.url, server.token("user", "Ada"), tmp_path / "home")
    mount.environment |= {"PYTHONPATH": str(watched), "UNPICKLED": str(noted)}
    bomb = pickle.dumps(tmp_path)  # a Path is made by calling a class
    with mount:
        file = next((mount.path / "studies").glob("*/*/*.dcm"))
        data = file.read_bytes()
    for database in mount.cache.rglob("cache.db"):
        with closing(sqlite3.connect(database)) as connection, connection as rows:
            rows.execute("UPDATE Cache SET mode = 4, value = ?, tag = ?", (bomb, bomb))  # diskcache's MODE_PICKLE
            rows.execute("INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 4, ?)", (bomb, bomb))
    with mount:
        assert file.read_bytes() == data
        assert os.listdir(mount.path / "albums")
    assert not noted.exists()
    control = [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)"]
    subprocess.run(control, env=mount.environment, input=bomb, check=True)
    assert "Path" in noted.read_text(), "it would have been noted"
