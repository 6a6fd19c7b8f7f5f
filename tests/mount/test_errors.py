"""What a caller gets when something fails, and that the mount is whole again once nothing fails any more (S14–S17).

The fault matrix (tests/reliability) has every fault beside every operation. Here is what it cannot say: how often the
server is asked, what else happens, and what is no fault of a server at all.
"""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.disks import small_disk as small_disk_on
from harness.instrumented import InstrumentedMount
from harness.looking import only, retrievals, until, xattr
from harness.mounting import Mount, NewMount
from harness.patience import Attempt, errno_of, result_of
from harness.series import write_study
from harness.server import DemoServer

IDLE = "2"
"""Seconds without a byte after which the mounts of this module give a request up."""

STUDIES = 60
SLICES = 4
"""Instances in the only series of each study of the archive."""


class Archive:
    """A server with many short series, a mount of it, and the files as they were written."""

    def __init__(self, server: DemoServer, mount: Mount, written: dict[str, bytes]) -> None:
        self.server = server
        self.mount = mount
        self.written = written
        self._unused = sorted((mount.path / "studies").glob("*/*"))

    def folder(self) -> Path:
        """A series that nobody has listed yet."""
        return self._unused.pop()

    def series(self) -> list[Path]:
        """The files of a series that nobody has opened yet."""
        return sorted(self.folder().iterdir())

    def fault(self, path: Path, *, below: str = "", **fault: object) -> None:
        """Switch a fault on for what is retrieved of the series of a file."""
        self.server.fault(path=f"{xattr(path, 'dicom.SeriesInstanceUID')}{below}", **fault)

    def is_right(self, path: Path) -> bool:
        """Whether a file reads as it was written, after whatever happened before."""
        return result_of(path.read_bytes) == self.written[xattr(path, "dicom.SOPInstanceUID")]


@pytest.fixture(scope="module")
def whole_archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    written = {}
    for _ in range(STUDIES):  # a series in a study of its own, for nobody fetches the next study ahead
        written |= write_study(folder, series=1, instances=SLICES)
    with (
        DemoServer("--data", str(folder)) as server,
        Mount(server.url, server.token("user"), tmp_path_factory.mktemp("home"), idle_timeout=IDLE) as mount,
    ):
        yield Archive(server, mount, written)
        assert "a bug in kheopsfs" not in mount.log()


@pytest.fixture
def archive(whole_archive: Archive) -> Iterator[Archive]:
    whole_archive.server.clear_requests()
    yield whole_archive
    whole_archive.server.clear_faults()


def cached(path: Path) -> str:
    return xattr(path, "kheops.cached")


# -- answers that are cut, or are not what was asked for --------------------------------------------------------------

FILE_SIZE = 52_000
"""Bytes of a file of the archive, roughly: a header and 51 200 bytes of pixels."""

CUTS: dict[str, dict[str, object]] = {
    "cut inside the part": {"kind": "cut", "fraction": 0.6},
    "cut before the closing boundary": {"kind": "upstream"},
    "cut in the header": {"kind": "cut", "byte": 90},
    "cut to nothing": {"kind": "cut", "byte": 0},
    "reset inside the part": {"kind": "reset", "byte": 20_000},
    "another instance": {"kind": "wrong_instance"},
    "delivered twice": {"kind": "duplicate"},
    "no DICOM": {"kind": "junk"},
    "partial content": {"kind": "partial", "parts": 1},
    "a web page": {"kind": "html"},
    "not multipart": {"kind": "content_type", "media_type": "application/dicom"},
}


@pytest.mark.parametrize("fault", CUTS.values(), ids=CUTS)
def test_a_bad_answer_once_is_asked_for_again(archive: Archive, fault: dict[str, object]) -> None:
    """S7: a body that is cut, another one, or none at all is never shown; the next answer is."""
    first, *_ = archive.series()
    archive.fault(first, times=1, **fault)
    assert archive.is_right(first)
    assert cached(first) == "yes"
    assert len(retrievals(archive.server)) == 2


def test_a_bad_answer_is_asked_for_three_times(archive: Archive) -> None:
    """S7, S14: then it is EIO, and nothing is left of what came."""
    first, *_ = archive.series()
    archive.fault(first, kind="cut", fraction=0.6)
    assert errno_of(first.read_bytes) == errno.EIO
    assert len(retrievals(archive.server)) == 3
    assert list((archive.mount.cache / "tmp").rglob("*.*")) == []


def test_a_series_that_is_cut_in_the_middle(archive: Archive) -> None:
    """S7: what came before the cut was proven and stays; only what is missing is asked for again."""
    files = archive.series()
    assert archive.is_right(files[0])
    archive.server.clear_requests()
    archive.fault(files[0], below="$", kind="upstream", parts=2, byte=100)
    readers = [Attempt(file.read_bytes) for file in files[1:]]
    assert [reader.result() for reader in readers] == [
        archive.written[xattr(file, "dicom.SOPInstanceUID")] for file in files[1:]
    ]
    series_stream, *alone = sorted(retrievals(archive.server), key=lambda entry: "/instances/" in entry["path"])
    assert "/instances/" not in series_stream["path"]
    assert len({entry["path"] for entry in alone}) == len(alone) <= 2, "what the stream brought is not asked for again"
    archive.server.clear_requests()
    assert all(archive.is_right(file) for file in files)
    assert retrievals(archive.server) == []


# -- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 404, 410])
def test_what_is_gone_is_no_such_file(archive: Archive, code: int) -> None:
    """S14, S15: refused for one instance while the token lives: ENOENT after the listing was asked for again."""
    first, second, *_ = archive.series()
    archive.fault(first, below="/instances/[0-9.]+$", kind="status", code=code, times=1)
    archive.server.clear_requests()
    assert errno_of(first.read_bytes) == errno.ENOENT
    assert archive.server.requests("/instances")[-1]["path"].endswith("/instances"), "the listing was asked for again"
    assert archive.is_right(second)
    assert archive.is_right(first), "it is listed, so it is asked for again"


def test_an_instance_that_was_removed(archive: Archive) -> None:
    """S5, S14: ENOENT for whoever opens it, and it leaves the listing at once, without waiting for its age."""
    first, *others = archive.series()
    archive.server.call("DELETE", f"/instances/{xattr(first, 'dicom.SOPInstanceUID')}")
    assert errno_of(first.read_bytes) == errno.ENOENT
    until(lambda: not first.exists())
    assert sorted(first.parent.iterdir()) == others
    assert all(archive.is_right(other) for other in others)


# -- silence ----------------------------------------------------------------------------------------------------------


def test_silence_in_a_series(archive: Archive) -> None:
    """S14, S16: a series that falls silent holds nobody up for longer than the deadline and a request of one's own."""
    files = archive.series()
    assert archive.is_right(files[0])
    archive.fault(files[0], below="$", kind="stall", byte=FILE_SIZE * 3 // 2)
    assert all(reader.result() for reader in [Attempt(file.read_bytes) for file in files[1:]])
    assert all(archive.is_right(file) for file in files)


def test_a_reader_that_is_killed_goes_when_its_request_ends(archive: Archive) -> None:
    """S16: a caller inside the mount cannot be killed (the kernel's rule), so its request must end by itself."""
    silent, *_ = archive.series()
    archive.fault(silent, kind="stall")
    reader = subprocess.Popen(["cat", silent], stdout=subprocess.DEVNULL)
    until(lambda: retrievals(archive.server))
    reader.kill()
    assert Attempt(reader.wait).result() == -signal.SIGKILL


# -- pictures and archives --------------------------------------------------------------------------------------------


def thumbnails(archive: Archive, file: Path) -> Path:
    return archive.mount.path / "thumbnails" / file.parent.relative_to(archive.mount.path)


BAD_PICTURES: dict[str, tuple[dict[str, object], int]] = {
    "cut": ({"kind": "cut", "fraction": 0.5}, errno.EIO),
    "empty": ({"kind": "cut", "byte": 0}, errno.EIO),
    "a web page": ({"kind": "html"}, errno.EIO),
    "not rendered": ({"kind": "status", "code": 406}, errno.ENOENT),
    "failing": ({"kind": "status", "code": 500}, errno.EIO),
    "silent": ({"kind": "stall"}, errno.ETIMEDOUT),
    "silent in the middle": ({"kind": "stall", "byte": 500}, errno.ETIMEDOUT),
}


def test_pictures_that_fail(archive: Archive) -> None:
    """S7, S14: a JPEG is proven by its end marker; what is none is never shown, and later it is right."""
    folders = [thumbnails(archive, archive.series()[0]) for _ in BAD_PICTURES]
    pictures = [sorted(folder.iterdir())[0] for folder in folders]
    for folder, (fault, _) in zip(folders, BAD_PICTURES.values(), strict=True):
        archive.server.fault(path=f"/wado.*{xattr(folder, 'dicom.SeriesInstanceUID')}", **fault)
    of_series = [folder.with_name(f"{folder.name}.jpg") for folder in folders]
    for paths in (pictures, of_series):
        attempts = [Attempt(path.read_bytes) for path in paths]
        failed = {name: attempt.errno() for name, attempt in zip(BAD_PICTURES, attempts, strict=True)}
        assert failed == {name: number for name, (_, number) in BAD_PICTURES.items()}
        assert {cached(path) for path in paths} == {"no"}
    archive.server.clear_faults()
    for path in pictures + of_series:
        data = result_of(path.read_bytes)
        assert data.startswith(b"\xff\xd8")
        assert data.endswith(b"\xff\xd9")


def test_a_picture_that_is_cut_once(archive: Archive) -> None:
    """S7: a cut JPEG is asked for again."""
    picture = sorted(thumbnails(archive, archive.series()[0]).iterdir())[0]
    archive.server.fault(path="/wado", kind="cut", fraction=0.7, times=1)
    assert result_of(picture.read_bytes).endswith(b"\xff\xd9")


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DemoServer, Path]]:
    """A server and the one zip of its only study."""
    folder = tmp_path_factory.mktemp("zipped")
    write_study(folder, series=2, instances=SLICES)
    with (
        DemoServer("--data", str(folder)) as server,
        Mount(server.url, server.token("user"), tmp_path_factory.mktemp("home"), idle_timeout=IDLE) as mount,
    ):
        yield server, only(list((mount.path / "zip" / "inbox").iterdir()))


def test_a_zip_that_is_cut_once(zipped: tuple[DemoServer, Path], tmp_path: Path) -> None:
    """S7: a zip that ends early, but as if it were whole, is asked for again; `unzip -t` agrees with the result."""
    server, path = zipped
    server.fault(path=r"/studies/[0-9.]+($|\?)", kind="upstream", parts=3, byte=1000, times=1)
    shutil.copyfile(path, tmp_path / "study.zip")
    names = shutil.get_unpack_formats()
    assert any(name == "zip" for name, *_ in names)
    shutil.unpack_archive(tmp_path / "study.zip", tmp_path / "unpacked")
    assert len(list((tmp_path / "unpacked" / "DICOM").rglob("*"))) >= 2 * SLICES
    assert (tmp_path / "unpacked" / "DICOMDIR").exists()


# -- the token --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clinic() -> Iterator[DemoServer]:
    """A server whose tokens die and live again."""
    with DemoServer() as server:
        yield server


def some_file(mount: Mount, series: str) -> Path:
    return sorted((mount.path / "studies").glob(f"*/{series}/*.dcm"))[0]


def refusals(mount: Mount) -> int:
    return mount.log().count("the token is refused")


def test_a_dead_token(clinic: DemoServer, new_mount: NewMount) -> None:
    """S14, S15: EACCES for everything, also for what is cached and for what the kernel remembers; one line in the log;
    and everything works again once another token of the same account is in the token file."""
    token, successor = clinic.token("user", "Ada"), clinic.token("user", "revoked")
    mount = new_mount(clinic, "--list-ttl", "1", token=token, idle_timeout=IDLE)
    known, unknown = some_file(mount, "*SR_Findings*"), some_file(mount, "*DOC_Report*")
    expected = known.read_bytes()
    assert known.stat().st_size == len(expected)
    with known.open("rb"):
        clinic.call("POST", "/revoke", json={"token": token})
        until(lambda: errno_of(known.read_bytes) == errno.EACCES)
        until(lambda: errno_of(known.stat) == errno.EACCES)
        calls: list[Callable[[], object]] = [
            unknown.read_bytes,
            lambda: os.listdir(mount.path),
            lambda: os.listdir(known.parent),
            lambda: os.getxattr(known, "user.kheops.size"),
            (mount.path / "README.txt").read_bytes,
            (mount.path / "no such name").stat,
        ]
        assert [errno_of(call) for call in calls] == [errno.EACCES] * len(calls)
        for program in (["cat", known], ["ls", "-l", known.parent], ["cp", unknown, mount.home / "copy"]):
            done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode != 0
            assert "Permission denied" in done.stderr
    assert refusals(mount) == 1

    clinic.call("POST", "/restore", json={"token": successor})
    mount.write_token(successor)
    until(lambda: errno_of(known.read_bytes) is None)
    assert known.read_bytes() == expected
    assert len(unknown.read_bytes()) > 0
    assert "token is accepted again" in mount.log()
    clinic.call("POST", "/revoke", json={"token": successor})
    clinic.call("POST", "/restore", json={"token": token})


def test_a_token_that_dies_is_noticed_by_the_first_who_asks_the_server(clinic: DemoServer, new_mount: NewMount) -> None:
    """S15: a dead token is EACCES, never "no such file": on a list, on an instance, a picture and a zip."""
    token = clinic.token("user", "Grace")
    studies = [
        lambda mount: some_file(mount, "*ECG_rest*").read_bytes(),
        lambda mount: os.listdir(mount.path / "inbox"),
        lambda mount: next((mount.path / "zip" / "studies").iterdir()).read_bytes(),
    ]
    mounts = [new_mount(clinic, token=token, idle_timeout=IDLE, mountpoint=f"mnt{n}") for n in range(len(studies))]
    for mount in mounts:
        assert some_file(mount, "*ECG_rest*").exists()
        assert list((mount.path / "zip" / "studies").iterdir())
    clinic.call("POST", "/revoke", json={"token": token})
    try:
        for mount, ask in zip(mounts, studies, strict=True):
            assert errno_of(lambda ask=ask, mount=mount: ask(mount)) == errno.EACCES  # type: ignore[misc]
            assert refusals(mount) == 1
    finally:
        clinic.call("POST", "/restore", json={"token": token})


def test_an_old_token_that_is_accepted_again(clinic: DemoServer, new_mount: NewMount) -> None:
    """S14: a token that the server takes back needs no new token file."""
    token = clinic.token("album", "PET")
    mount = new_mount(clinic, "--list-ttl", "1", token=token)
    assert os.listdir(mount.path / "studies")
    clinic.call("POST", "/revoke", json={"token": token})
    until(lambda: errno_of(lambda: os.listdir(mount.path)) == errno.EACCES)
    clinic.call("POST", "/restore", json={"token": token})
    until(lambda: errno_of(lambda: os.listdir(mount.path)) is None)
    assert os.listdir(mount.path / "studies")


def test_a_token_of_somebody_else_changes_nobodys_view(clinic: DemoServer, new_mount: NewMount) -> None:
    """S14: what is mounted was Grace's; another account's token in the token file does not turn it into theirs."""
    token = clinic.token("user", "Grace")
    mount = new_mount(clinic, "--list-ttl", "1", token=token)
    before = os.listdir(mount.path / "studies")
    clinic.call("POST", "/revoke", json={"token": token})
    try:
        until(lambda: errno_of(lambda: os.listdir(mount.path)) == errno.EACCES)
        mount.write_token(clinic.token("user", "Ada"))
        until(lambda: "another account" in mount.log())
        assert errno_of(lambda: os.listdir(mount.path / "studies")) == errno.EACCES
    finally:
        clinic.call("POST", "/restore", json={"token": token})
    mount.write_token(token)
    until(lambda: errno_of(lambda: os.listdir(mount.path)) is None)
    assert os.listdir(mount.path / "studies") == before


def test_files_that_are_closed_while_the_token_is_dead(clinic: DemoServer, tmp_path: Path) -> None:
    """S14: refusing everything must not keep what its owner has closed."""
    token = clinic.token("album", "PET")
    with InstrumentedMount(clinic.url, token, tmp_path, list_ttl=1.0) as mount:
        files = sorted((mount.path / "studies").glob("*/*PT*/*.dcm"))[:20]
        opened = [file.open("rb") for file in files]
        folder = os.open(files[0].parent, os.O_RDONLY)
        assert mount.count("files") >= len(files)
        clinic.call("POST", "/revoke", json={"token": token})
        try:
            until(lambda: errno_of(files[0].read_bytes) == errno.EACCES)
            for file in opened:
                file.close()
            os.close(folder)
            until(lambda: mount.count("files") == mount.count("folders") == 0)
        finally:
            clinic.call("POST", "/restore", json={"token": token})


def test_a_token_without_permission(clinic: DemoServer, new_mount: NewMount) -> None:
    """S14: a living token that may not read is EACCES, and nobody calls it dead."""
    mount = new_mount(clinic, token=clinic.token("album", "no read"))
    assert errno_of(lambda: os.listdir(mount.path / "studies")) == errno.EACCES
    assert (mount.path / "README.txt").read_text()
    assert refusals(mount) == 0


def test_the_token_dies_in_the_middle_of_a_body(clinic: DemoServer, new_mount: NewMount) -> None:
    """S7, S15: what was under way may end well or with EACCES, but never with half a file."""
    token = clinic.token("album", "Chest/Heart")
    mount = new_mount(clinic, token=token, idle_timeout=IDLE)
    folder = sorted((mount.path / "studies").glob("*/*CT_Thorax_5*"))[0]
    files = sorted(folder.iterdir())
    clinic.fault(kind="revoke", path="/series/[0-9.]+$", byte=300_000)
    try:
        readers = [Attempt(file.read_bytes) for file in files]
        assert {reader.errno() for reader in readers} <= {None, errno.EACCES}
    finally:
        clinic.clear_faults()
        clinic.call("POST", "/restore", json={"token": token})


# -- the server is gone -----------------------------------------------------------------------------------------------


def test_the_server_goes_and_comes_back(tmp_path: Path) -> None:
    """S14, S17: what is cached lists and reads; the rest is EIO at once; when the server is back so is the mount."""
    folder = tmp_path / "archive"
    written = write_study(folder, series=3, instances=1)
    server = DemoServer("--data", str(folder))
    port = server.url.rstrip("/").rpartition(":")[2]
    try:
        with Mount(server.url, server.token("user"), tmp_path / "home", "--list-ttl", "1", idle_timeout="20") as mount:
            study = only(list((mount.path / "studies").iterdir()))
            first, second, third = sorted(study.iterdir())
            known, unknown = only(list(first.iterdir())), only(list(second.iterdir()))
            expected = known.read_bytes()
            server.close()

            until(lambda: "the server cannot be reached" in mount.log() or errno_of(unknown.read_bytes) is None)
            assert known.read_bytes() == expected
            assert sorted(study.iterdir()) == [first, second, third]
            assert list(first.iterdir()) == [known]
            # More of them than would fit into the patience of the test if each waited for a connection.
            assert {errno_of(unknown.read_bytes) for _ in range(20)} == {errno.EIO}
            assert {errno_of(lambda: os.listdir(third)) for _ in range(20)} == {errno.EIO}
            assert mount.log().count("the server cannot be reached") == 1

            server = DemoServer("--data", str(folder), "--port", port)
            mount.write_token(server.token("user"))  # a demo server makes new tokens each time it starts
            until(lambda: errno_of(unknown.read_bytes) is None)
            assert unknown.read_bytes() == written[xattr(unknown, "dicom.SOPInstanceUID")]
            assert len(os.listdir(third)) == 1
            assert "the server is back" in mount.log()
    finally:
        server.close()


def test_mounting_with_a_warm_cache_needs_a_server(tmp_path: Path) -> None:
    """S17: a mount begins with introspection; without a server there is none, and the reason is said."""
    server = DemoServer("--synthetic", "small=2")
    mount = Mount(server.url, server.token("user"), tmp_path / "home")
    server.close()
    done = mount.command("mount", mount.url, str(mount.path), "--token-file", str(mount.token_file))
    assert done.returncode == 4
    assert not mount.is_mounted


# -- the disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few files."""
    with small_disk_on(tmp_path / "disk", "8m") as disk:
        yield disk


def test_a_full_disk(archive: Archive, small_disk: Path, new_mount: NewMount) -> None:
    """S14: EIO for the file that does not fit, ENOSPC in the log; what fits goes on, and so does everything later."""
    mount = new_mount(archive.server, "--cache-dir", str(small_disk / "cache"), idle_timeout=IDLE)
    kept, lost, later = (sorted(folder.iterdir())[0] for folder in sorted((mount.path / "studies").glob("*/*"))[:3])
    expected = kept.read_bytes()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    assert errno_of(lost.read_bytes) == errno.EIO
    assert "ENOSPC" in mount.log()
    assert kept.read_bytes() == expected
    assert os.listdir(later.parent)
    filler.unlink()
    assert archive.is_right(lost)
    assert archive.is_right(later)


# -- writing ----------------------------------------------------------------------------------------------------------

WRITES = {
    "touch": "touch new",
    "touch what is there": "touch $FILE",
    "write": "echo > $FILE",
    "append": "echo >> $FILE",
    "create": "echo > new",
    "rm": "rm -f $FILE",
    "rm -r": "rm -r ../*",
    "mv": "mv $FILE new",
    "mv over": "mv -f $OTHER $FILE",
    "mkdir": "mkdir new",
    "rmdir": "rmdir ../*",
    "ln": "ln $FILE new",
    "ln -s": "ln -s $FILE new",
    "chmod": "chmod 600 $FILE",
    "chmod folder": "chmod 700 .",
    "chown": "chown 12345 $FILE",
    "setfattr": "setfattr -n user.comment -v hello $FILE",
    "setfattr -x": "setfattr -x user.kheops.size $FILE",
    "truncate": "truncate -s 0 $FILE",
    "mkfifo": "mkfifo new",
    "cp": "cp $OTHER $FILE",
    "dd": "dd if=/dev/zero of=$FILE conv=notrunc count=1",
    "sed -i": "sed -i s/a/b/ $FILE",
}


@pytest.fixture(scope="module")
def folder_to_write_in(whole_archive: Archive) -> Path:
    return whole_archive.series()[0].parent


@pytest.mark.parametrize("command", WRITES.values(), ids=WRITES)
def test_every_write_is_refused(whole_archive: Archive, folder_to_write_in: Path, command: str) -> None:
    """S14: EROFS for whatever would change something."""
    before = sorted(folder_to_write_in.iterdir())
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder_to_write_in,
        env={**os.environ, "LC_ALL": "C", "FILE": before[0].name, "OTHER": before[1].name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert sorted(folder_to_write_in.iterdir()) == before


WRITING_FLAGS = [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_CREAT | os.O_WRONLY]


@pytest.mark.parametrize("flags", WRITING_FLAGS)
def test_opening_for_writing_is_refused(folder_to_write_in: Path, flags: int) -> None:
    """S14: EROFS from `open` itself, also for root."""
    file = sorted(folder_to_write_in.iterdir())[0]
    assert errno_of(lambda: os.close(os.open(file, flags))) == errno.EROFS
