"""What lies on this machine: addresses as typed, token and config files, the cache's rows, notes, the mount table."""

import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec

from fuzzing.lists import QUERIES, demand_sane_tree
from fuzzing.target import Draw, Target
from kheopsfs.config import Settings, SettingsError, load_profiles, settle
from kheopsfs.errors import BadURLError, CacheUnusableError, TokenRefusedError, printable
from kheopsfs.fetch.catalogue import decoded
from kheopsfs.kheops.address import parse_address
from kheopsfs.kheops.credentials import read_token_file
from kheopsfs.kheops.records import Album, Instance, Series, Study
from kheopsfs.mount import registry
from kheopsfs.mount.environment import parse_mount_table
from kheopsfs.store import Store
from kheopsfs.store.disk import DamagedRowError, Disk
from kheopsfs.store.listings import _HEADER, _checksum, _unpacked


@contextmanager
def private_file(content: bytes) -> Iterator[Path]:
    """A file of these bytes, in memory only."""
    descriptor = os.memfd_create("input")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def address(data: bytes) -> None:
    """A typed address: refused, or one that every part of the program reads alike; plain http stays on this machine."""
    typed = data.decode("utf-8", "replace")
    try:
        found, token = parse_address(typed)
    except BadURLError:
        return
    url = httpx.URL(found.api)
    assert url.scheme in ("https", "http")
    assert url.scheme == "https" or found.is_loopback
    assert url.userinfo == b""
    assert not url.query
    assert not url.fragment
    assert url.path.endswith("/api")
    assert found.api.isascii()
    assert found.api.isprintable()
    assert found.origin == str(url.copy_with(path="/")).removesuffix("/")
    assert parse_address(found.api) == (found, None)
    assert token is None or len(token.reveal()) < 22 or token.reveal() not in found.api


def token_file(data: bytes) -> None:
    with private_file(data) as path, suppress(TokenRefusedError):
        token = read_token_file(path)
        assert token.reveal() == data.decode("ascii").strip()


def config_file(data: bytes) -> None:
    """Profiles, and settings of them, or an error that says where."""
    with private_file(data) as path, suppress(SettingsError):
        for profile in load_profiles(path).values():
            with suppress(SettingsError):
                settings = settle(Path("/mnt"), {}, {}, profile)
                assert Settings.from_json(settings.as_json()) == settings
                assert settings.cache_dir.is_absolute()
                os.fsencode(settings.cache_dir).decode("utf-8", "surrogateescape")


def kept_listing(data: bytes) -> None:
    """A listing in the cache whose checksum was made to fit: nothing, or sane records."""
    draw = Draw(data)
    kind = (Album, Study, Series, Instance)[draw.number(4)]
    packed = draw.number(2)
    content = draw.rest()
    compressed = content if packed else zlib.compress(content, 0)
    stored = _unpacked("k", _HEADER.pack(_checksum("k", 1.0, compressed), 1.0) + compressed)
    _unpacked("k", content)
    if stored is not None:
        found = decoded(QUERIES[kind], stored.payload)
        if found is not None:
            demand_sane_tree(list(found))


def cache_row(data: bytes) -> None:
    """Columns as anybody may have written them: damaged, a body by its proper name, or plain data."""
    draw = Draw(data)
    mode, filename, value = (_column(draw) for _ in range(3))
    with suppress(DamagedRowError):
        Disk("unused").fetch(mode, filename, value, read=bool(draw.number(2)))
    with suppress(DamagedRowError):
        Disk("unused").get(filename, draw.number(2))


def _column(draw: Draw) -> object:
    match draw.number(6):
        case 0:
            return None
        case 1:
            return draw.number(256) - 8
        case 2:
            return struct.unpack("<d", draw.take(8).ljust(8, b"\0"))[0]
        case 3:
            return draw.take(draw.number(256))
        case 4:
            return "0123456789abcdef" * 2
        case _:
            return draw.text()


def database(data: bytes) -> None:
    """The cache's databases with bytes changed: whatever is not there is fetched again, nothing is raised."""
    draw = Draw(data)
    which = ("bodies/cache.db", "listings/cache.db", "ledger.db")[draw.number(3)]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        files = _databases()
        for name, content in files.items():
            path = Path(folder, "cache", name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(_changed(content, draw) if name == which else content)
            path.chmod(0o600)
        with suppress(CacheUnusableError), Store(Path(folder, "cache"), 2**20) as store:
            for key in ("k", "l"):
                if (body := store.bodies.open(key)) is not None:
                    with body:
                        assert body.pread(100, 0) == b"data"
                store.bodies.contains(key)
                store.listings.get(key)
                assert store.ledger.sizes("g").get(key) in (None, 4)
            with store.bodies.incoming() as incoming:
                incoming.write(b"data")
                incoming.commit("l").close()
            store.listings.put("l", b"payload")
            store.ledger.record("g", "l", 4)


def _changed(content: bytes, draw: Draw) -> bytes:
    changed = bytearray(content)
    while not draw.is_over:
        at = draw.number(65536) % len(changed)
        new = draw.take(1 + draw.number(16))
        changed[at : at + len(new)] = new
    return bytes(changed)


_made: dict[str, bytes] = {}


def _databases() -> dict[str, bytes]:
    """Three sound databases, made once."""
    if not _made:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            root = Path(folder, "cache")
            with Store(root, 2**20) as store:
                with store.bodies.incoming() as incoming:
                    incoming.write(b"data")
                    incoming.commit("k").close()
                store.listings.put("k", b"payload")
                store.ledger.record("g", "k", 4)
            for path in root.rglob("*.db"):
                _made[str(path.relative_to(root))] = path.read_bytes()
    return _made


def mount_table(data: bytes) -> None:
    """A mount table with lines of every kind: the sound line among them is always found."""
    sound = b"36 35 98:0 / /mnt\\040x rw - fuse.kheopsfs https://k rw\n"
    for table in (sound + data, data.removesuffix(b"\n") + b"\n" + sound):
        assert any(
            entry.is_ours and entry.mountpoint == Path("/mnt x") and entry.device == "98:0"
            for entry in parse_mount_table(table)
        )


def note(data: bytes) -> None:
    """A note on a running mount: a daemon, or none."""
    with private_file(data) as path:
        daemon = registry._read(path)
        assert daemon is None or not daemon.is_alive


def shown(data: bytes) -> None:
    """What is logged or printed moves no cursor."""
    line = printable(data.decode("utf-8", "surrogateescape"))
    assert line.isprintable()
    line.encode()


_ROWS = [Study.pack({"PatientName": "Doe^Jane", "StudyDate": "20240305"}, StudyInstanceUID="1.2")]
_TOML = b"""[profiles.hospital]
url = "https://k"
token_file = "~/t"
cache_size = "50G"
list_ttl = 5.5
names = "id"
insecure_http = false
fuse_options = ["allow_other", "fsname=x"]
"""

TARGETS = (
    Target(
        address,
        (
            b"https://kheops.example.org:8443/pacs/api/studies",
            b"https://token:aToken0fTwentyTwoChars@k/api",
            b"http://[::1]:80/api/link/aToken0fTwentyTwoChars/studies",
            b"http://localhost/view/x",
            "https://bücher.example/".encode(),
        ),
        regressions=("[::0%ÅÓ]/stu".encode(), b"http://[::1%lo]/api"),
    ),
    Target(token_file, (b"aToken0fTwentyTwoChars\n", b" a.b-c_d=\r\n", b"")),
    Target(
        config_file,
        (_TOML, b"[profiles]\na = 1\n", b"[profiles.a]\nurl='x'\nlist_ttl=inf"),
        regressions=(
            b"[profiles.a]\nurl='x'\nlist_ttl=0x" + b"F" * 6000,
            b"[profiles.a]\nurl='x'\ncache_dir=\"\\u0000\"",
            b"a=" + b"[" * 6000,
        ),
    ),
    Target(
        kept_listing,
        (b"\1\0" + msgspec.msgpack.encode(_ROWS), b"\1\1" + zlib.compress(msgspec.msgpack.encode(_ROWS)), b"\0\0\x90"),
    ),
    Target(cache_row, (b"\1\x48\4\3\x084 abcdef",)),
    Target(database, (b"\0", b"\1\0\x10\0\xff", b"\2\x10\x20\3\0\0\0"), slow=True),
    Target(
        mount_table,
        (b"22 27 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n", b"1 2 3 4 5 6 - a\n"),
        regressions=("37 35 0:9 / /home/eve/a\u2028b\x0cc rw - fuse.sshfs x rw\n".encode(),),
    ),
    Target(
        note,
        (
            b'{"pid": 1, "started": 2, "boot": "b", "mountpoint": "/m", "url": "https://k", "log": null}',
            b"[]",
        ),
        regressions=(
            b'{"pid": 1e999, "started": 2, "boot": "b", "mountpoint": "/m", "url": "https://k", "log": null}',
            b"[" * 6000,
        ),
    ),
    Target(shown, (b"plain", b"\x1b[31mred\xc2\x9b\xe2\x80\xae")),
)

assert sys.platform == "linux"
