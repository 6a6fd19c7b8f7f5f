"""A server that lies on every level of the tree: albums, studies, series, instances (S2, S10, S14).

An error that says so, or names that are fit to be seen; the mount lives, nothing leads out of it, no request leaves the
API, and all other folders are as they were. One mount sees all the lies, each told about a folder of its own.
"""

import errno
import json
import os
import stat
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.looking import LIST, RETRIEVAL, only
from harness.mounting import Mount, NewMount
from harness.patience import Attempt, errno_of, result_of
from harness.server import DemoServer

NAME_LIMIT = 120
"""Bytes of the longest name, without `.dcm`."""

LARGEST_SIZE = 2**40
"""Bytes; a size beyond would keep `rsync -c` busy for hours."""

ALBUMS = 25
STUDIES = 15

TEXTS = {
    "climbing": "../../etc/passwd",
    "dots": "..",
    "a dot": ".",
    "absolute": "/etc/passwd",
    "4 KiB of emoji": "🫀" * 1024,
    "long": "A" * 1_000_000,
    "controls": "a\x00b\x01\x1b[31m\r\n\t\x7fc",
    "bidi": "gpj.\u202efdp\u2066\u200b\ufeffx",
    "halves of surrogate pairs": "a\ud800b\udfff",
    "combining": "Z" + "\u0301" * 3000,
    "shell": "$(rm -rf ~); `id` & | > < * ? ' \" \\ !",
    "option": "--help",
    "device": "CON",
    "blank": " " * 500,
    "backslashes": "\\..\\..\\windows",
    "address": "%2e%2e%2f?x=1#y",
    "nothing": "",
    "null": "NULL",
    "carets": "^" * 64 + "=" * 64,
}

VALUES: dict[str, Any] = {
    "a number": 7,
    "a huge number": 10**400,
    "a real number": 1e308,
    "true": True,
    "null": None,
    "a list": [["deeper", ["and deeper"]]],
    "an object": {"Alphabetic": {"Alphabetic": "x"}},
    "an absurd person": {"Alphabetic": 5, "Ideographic": [], "Phonetic": None},
    "many": ["x"] * 10_000,
}

NUMBERS: list[Any] = [2**31, 2**63, -1, "-1", "1e400", "99999999999999999999"]

UIDS: dict[str, Any] = {
    "climbing": "../../etc",
    "dots": "..",
    "a dot": ".",
    "a slash": "1/2",
    "long": "1." * 5000 + "1",
    "empty": "",
    "letters": "not-a-uid",
    "a query": "1.2?album=x",
    "a fragment": "1.2#x",
    "encoded": "1.2%2f..%2f..",
    "a line": "1.2\r\nHost: elsewhere",
    "NUL": "1.2\x00.3",
    "two": "1.2\\1.3",
    "a number": 12,
    "null": None,
    "an object": {"Alphabetic": "1.2"},
    "other digits": "１.２.٣",
}
GOOD_UID = "1.2.840.1"

DOCUMENTS = {
    "a web page": "<!doctype html><html><body>Login</body></html>",
    "nothing": "",
    "cut": '[{"0020000D": {"vr": "UI", "Value": ["1.2',
    "cut between rows": '[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}},',
    "null": "null",
    "a text": '"studies"',
    "an object": '{"error": "no"}',
    "nested": "[" * 100_000 + "]" * 100_000,
    "two documents": "[] []",
}
"""What is no list at all."""

POOR_LISTS = {
    "rows that are none": '[1, "x", null, [], true, 1e999]',
    "empty rows": "[{}, {}, {}]",
    "elements that are none": '[{"0020000D": "1.2.3"}, {"0020000D": ["1.2.3"]}, {"0020000D": null}]',
    "values that are none": '[{"0020000D": {"vr": "UI", "Value": "1.2.3"}}, {"0020000D": {"Value": {"0": "1.2.3"}}}]',
    "infinite": '[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00201208": {"vr": "IS", "Value": [1e999, -1e999]}}]',
    "not a number": '[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00201208": {"vr": "IS", "Value": [NaN]}}]',
    "half a surrogate pair": '[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00100010": {"Value": ["\\ud800"]}}]',
}
"""Lists of which something may be made."""


def row(elements: dict[str, Any]) -> dict[str, Any]:
    """A row of a list, from tag to value or values."""
    return {
        tag: {"vr": "LO", "Value": value if isinstance(value, list) else [value]} for tag, value in elements.items()
    }


class Hostile:
    """A mount of a server that is made to lie about one folder at a time."""

    def __init__(self, server: DemoServer, mount: Mount) -> None:
        self.server = server
        self.mount = mount
        self._albums = sorted((mount.path / "albums").glob("album_*"))
        self._studies = sorted((mount.path / "inbox").glob("*study*"))
        self._sane = sorted(os.listdir(mount.path / "studies"))

    def studies_of_an_album(self, document: str) -> Path:
        """An album that nobody has looked into, whose list of studies is `document`."""
        album = self._albums.pop()
        self.server.fault(path=f"/studies[?].*album={album.name.rpartition('_')[2]}", kind="body", text=document)
        return album

    def series_of_a_study(self, document: str) -> Path:
        """A study that nobody has looked into, whose list of series is `document`."""
        study = self._studies.pop()
        self.server.fault(path=f"/studies/{uid_of(study)}/series([?]|$)", kind="body", text=document)
        return study

    def instances_of_a_series(self, document: str) -> Path:
        """A series that nobody has looked into, whose list of instances is `document`."""
        series = only(list(self._studies.pop().iterdir()))
        for resource in ("instances", "metadata"):
            self.server.fault(path=f"/series/{uid_of(series, 'Series')}/{resource}", kind="body", text=document)
        return series

    def assert_nothing_else_changed(self) -> None:
        """The other folders are as before, a file can be read, the log has no bug, and no request left the API."""
        assert sorted(os.listdir(self.mount.path / "studies")) == self._sane
        assert "Traceback" not in self.mount.log()
        other = next((self.mount.path / "studies").glob("*small*/*/*.dcm"))
        assert other.read_bytes()[128:132] == b"DICM"
        for request in self.server.requests():
            path = request["path"]
            assert LIST.fullmatch(path) or RETRIEVAL.fullmatch(path) or path.startswith("/api/token"), path


def uid_of(path: Path, level: str = "Study") -> str:
    return os.getxattr(path, f"user.dicom.{level}InstanceUID").decode()


@pytest.fixture(scope="module")
def whole() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", f"small=3,studies={STUDIES},albums={ALBUMS}") as server:
        yield server


@pytest.fixture(scope="module")
def lying(whole: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    home = tmp_path_factory.mktemp("home")
    with Mount(whole.url, whole.token(), home, "--list-ttl", "3600", idle_timeout="10") as mount:
        yield Hostile(whole, mount)


@pytest.fixture
def hostile(lying: Hostile) -> Iterator[Hostile]:
    lying.server.clear_requests()
    yield lying
    lying.assert_nothing_else_changed()
    lying.server.clear_faults()


def assert_fit_to_be_seen(folder: Path) -> list[Path]:
    """The entries of a folder, after a look at their names and attributes."""
    names = result_of(lambda: os.listdir(os.fsencode(folder)))
    assert len(names) == len({name.decode().casefold() for name in names})
    for encoded in names:
        name = encoded.decode()
        assert 0 < len(encoded) <= NAME_LIMIT + len(".dcm")
        assert not name.startswith((".", "-", "~"))
        assert not set(name) & set("/\\:*?\"<>|'`$&;!")
        assert not {unicodedata.category(character) for character in name} & {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp"}
        status = (folder / name).lstat()
        assert stat.S_IFMT(status.st_mode) in {stat.S_IFDIR, stat.S_IFREG}
        assert 0 <= status.st_size < LARGEST_SIZE
        for attribute in os.listxattr(folder / name):
            assert len(os.getxattr(folder / name, attribute)) <= 2**16
    listed = subprocess.run(["ls", "-la", folder], capture_output=True, check=True, timeout=60)
    assert listed.stderr == b""
    return [folder / name.decode() for name in names]


def errnos(folders: list[Path]) -> list[int | None]:
    """How listing each of the folders fails, all at once."""
    looks = [Attempt(lambda folder=folder: os.listdir(folder)) for folder in folders]  # type: ignore[misc]
    return [look.errno() for look in looks]


# -- texts and numbers ------------------------------------------------------------------------------------------------


def test_studies_with_hostile_texts(hostile: Hostile) -> None:
    """S2: whatever a patient or a study is called, the name is fit to be seen; every study is there, once."""
    values = [*TEXTS.values(), *VALUES.values()]
    named = [{"Alphabetic": value} if isinstance(value, str) else value for value in values]
    rows = [
        row(
            {"0020000D": f"1.2.3.{n}", "00100010": named[n]}
            | dict.fromkeys(("00080020", "00080030", "00100020", "00081030", "00201208", "00080061"), value)
        )
        for n, value in enumerate(values)
    ]
    entries = assert_fit_to_be_seen(hostile.studies_of_an_album(json.dumps(rows)))
    assert len(entries) == len(values)
    assert set(errnos(entries)) <= {errno.ENOENT, None}


def test_series_with_hostile_texts(hostile: Hostile) -> None:
    """S2: the same for series, and for the pictures beside them."""
    values = [*TEXTS.values(), *VALUES.values()]
    rows = [
        row(
            {"0020000E": f"1.2.3.{n}"}
            | dict.fromkeys(("00080060", "00200011", "0008103E", "00400244", "00400245", "00201209"), value)
        )
        for n, value in enumerate(values)
    ]
    study = hostile.series_of_a_study(json.dumps(rows))
    assert len(assert_fit_to_be_seen(study)) == len(values)
    entries = assert_fit_to_be_seen(hostile.mount.path / "thumbnails" / study.relative_to(hostile.mount.path))
    pictures = [entry for entry in entries if entry.is_file()]
    assert errno_of(pictures[0].read_bytes) in {errno.ENOENT, errno.EIO}


def test_instances_with_hostile_texts(hostile: Hostile) -> None:
    """S2, S10: the same for instances; sizes are bounds, never absurd and never 0."""
    values = [*TEXTS.values(), *VALUES.values(), *NUMBERS]
    tags = ("00080016", "00200013", "00280010", "00280011", "00280008", "00280100", "77771053", "00080023")
    rows = [row({"00080018": f"1.2.3.{n}"} | dict.fromkeys(tags, value)) for n, value in enumerate(values)]
    entries = assert_fit_to_be_seen(hostile.instances_of_a_series(json.dumps(rows)))
    assert len(entries) == len(values)
    assert all(entry.stat().st_size > 0 for entry in entries)
    assert {errno_of(entry.read_bytes) for entry in entries[:3]} <= {errno.ENOENT, errno.EIO}


# -- UIDs, repetitions, documents -------------------------------------------------------------------------------------


def test_hostile_uids(hostile: Hostile) -> None:
    """S2: a UID is digits and dots or the row is left out; none gets into a path, a link or a request."""
    values = [*UIDS.values(), GOOD_UID]
    told = {tag: json.dumps([row({tag: value}) for value in values]) for tag in ("0020000D", "0020000E", "00080018")}
    studies = {uid_of(entry) for entry in assert_fit_to_be_seen(hostile.studies_of_an_album(told["0020000D"]))}
    series = {uid_of(entry, "Series") for entry in assert_fit_to_be_seen(hostile.series_of_a_study(told["0020000E"]))}
    for uids in (studies, series):
        assert GOOD_UID in uids
        assert all(set(uid) <= set("0123456789.") and len(uid) <= 128 for uid in uids), uids
    for entry in assert_fit_to_be_seen(hostile.instances_of_a_series(told["00080018"])):
        assert errno_of(entry.read_bytes) in {errno.ENOENT, errno.EIO}
    assert "have no usable UID" in hostile.mount.log()


def test_rows_that_come_twice(hostile: Hostile) -> None:
    """S2: one thing is one entry, whatever the list says how often and under which name."""
    rows = [row({"0020000D": "1.2.3", "00100010": {"Alphabetic": f"Doe^{n}"}}) for n in range(50)]
    assert len(assert_fit_to_be_seen(hostile.studies_of_an_album(json.dumps(rows)))) == 1


def test_documents_that_are_no_list(hostile: Hostile) -> None:
    """S14: EIO for what is no list, never an empty folder: someone might act on that. The true list is there as soon as
    the server sends it."""
    folders = [hostile.studies_of_an_album(document) for document in DOCUMENTS.values()]
    assert dict(zip(DOCUMENTS, errnos(folders), strict=True)) == dict.fromkeys(DOCUMENTS, errno.EIO)
    hostile.server.clear_faults()
    assert errnos(folders) == [None] * len(folders)
    assert [len(os.listdir(folder)) for folder in folders] == [1] * len(folders)


def test_documents_that_are_no_list_of_series_or_instances(hostile: Hostile) -> None:
    """S14: the same on the levels below."""
    documents = [DOCUMENTS[name] for name in ("a web page", "cut", "null")]
    folders = [*map(hostile.series_of_a_study, documents), *map(hostile.instances_of_a_series, documents)]
    assert errnos(folders) == [errno.EIO] * len(folders)
    hostile.server.clear_faults()
    assert [len(os.listdir(folder)) for folder in folders] == [1] * len(folders)


def test_lists_that_are_poor(hostile: Hostile) -> None:
    """S2, S14: EIO, or the rows of which something can be made."""
    folders = [hostile.studies_of_an_album(document) for document in POOR_LISTS.values()]
    for folder, number in zip(folders, errnos(folders), strict=True):
        assert number in {None, errno.EIO}
        if number is None:
            assert_fit_to_be_seen(folder)


def test_a_web_page_for_everything(whole: DemoServer, new_mount: NewMount) -> None:
    """S14: a login page in front of the server is EIO for lists and bytes, although its status is 200."""
    mount = new_mount(whole, idle_timeout="10")
    file = next((mount.path / "studies").glob("*small*/*/*.dcm"))
    whole.fault(path="/api/(studies|albums|wado)", kind="html")
    try:
        assert errno_of(file.read_bytes) == errno.EIO
        assert errno_of(lambda: os.listdir(mount.path / "albums")) == errno.EIO
        assert errno_of(lambda: os.listdir(mount.path / "inbox")) == errno.EIO
        assert "web page" in mount.log()
    finally:
        whole.clear_faults()
    assert file.read_bytes()
    assert os.listdir(mount.path / "albums")


ALBUM_ROWS: list[Any] = [
    {"album_id": "../../etc", "name": "x"},
    {"album_id": "..", "name": "x"},
    {"album_id": "a/b", "name": "x"},
    {"album_id": "A" * 10_000, "name": "x"},
    {"album_id": "", "name": "x"},
    {"album_id": 5, "name": "x"},
    {"name": "no id"},
    {"album_id": "abcdefghij", "name": {"not": "a text"}, "created_time": 5, "number_of_studies": "many"},
    {"album_id": "abcdefghij", "name": "the same again"},
    "no object",
    None,
    7,
    *({"album_id": f"abcdefgh{n:02}", "name": text} for n, text in enumerate(TEXTS.values())),
]


def test_hostile_albums(whole: DemoServer, new_mount: NewMount) -> None:
    """S2: album names are free text, and their ids are part of names and of requests."""
    mount = new_mount(whole, idle_timeout="10")
    whole.clear_requests()
    whole.fault(path="/api/albums", kind="body", text=json.dumps(ALBUM_ROWS))
    try:
        entries = assert_fit_to_be_seen(mount.path / "albums")
        assert len(entries) >= len(TEXTS)
        assert set(errnos(entries)) <= {None, errno.ENOENT}
        for request in whole.requests("/studies"):
            album = request["query"].partition("album=")[2].partition("&")[0]
            assert album.isalnum(), request
            assert len(album) <= 64
        assert "Traceback" not in mount.log()
    finally:
        whole.clear_faults()


def test_links_lead_nowhere_else(hostile: Hostile) -> None:
    """S1: every symbolic link of the tree is relative and ends within the mount."""
    for link in (hostile.mount.path / "by-uid").iterdir():
        assert not link.readlink().is_absolute()
        assert link.resolve().is_relative_to(hostile.mount.path)
        assert set(link.name) <= set("0123456789.")


def test_nothing_is_written_outside(lying: Hostile) -> None:
    """S2: after all that, the cache and the notes hold files of their own making only."""
    written = [path for folder in ("cache", "state", "config") for path in (lying.mount.home / folder).rglob("*")]
    assert written
    for path in written:
        assert path.name.isprintable()
        assert len(path.name) <= 100
        assert not path.is_symlink()
    assert not (lying.mount.home.parent / "etc").exists()
