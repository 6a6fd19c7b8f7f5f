"""The kernel and pyfuse3 hold traps (measured behaviour, see the comments in `kheopsfs.mount`). Nobody may fall in.

Each test fails if its trap is stepped into. Whether the kernel asks or answers by itself shows when the process that
serves the mount is stopped: what the kernel knows still comes, everything else waits.
"""

import ctypes
import errno
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio
from harness.instrumented import InstrumentedMount
from harness.looking import only, retrievals, until, xattr
from harness.mounting import Mount, NewMount
from harness.patience import Attempt, errno_of, result_of
from harness.server import DemoServer

from kheopsfs.errors import KheopsfsError, NotFoundError
from kheopsfs.mount.handles import Handles, read_body
from kheopsfs.mount.inodes import Inodes
from kheopsfs.mount.requests import Requests, handler
from kheopsfs.store import Store
from kheopsfs.tree.names import NameStyle
from kheopsfs.tree.views import root

SLICES = 12
MANY = 10_500
"""Entries of the longest folder: many replies of `readdir`, whatever the kernel's buffer."""

CROWD = 120
"""Readers that wait at once; far more than the workers that a careless limit would give."""


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", f"slices={SLICES},small={CROWD},studies=2,multiframe=20M") as demo:
        yield demo


@pytest.fixture(scope="module")
def mount(server: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    with Mount(server.url, server.token(), tmp_path_factory.mktemp("home"), "--list-ttl", "3600") as mounted:
        yield mounted


def files_of(mount: Mount, study: str) -> list[Path]:
    return sorted((mount.path / "studies").glob(f"*{study}*/*/*.dcm"))


@contextmanager
def stopped(mount: Mount) -> Iterator[None]:
    """Nobody answers the kernel."""
    os.kill(mount.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(mount.pid, signal.SIGCONT)


# -- 1, 2: names, and callers that wait -------------------------------------------------------------------------------


def test_names_are_never_asked_of_the_server(server: DemoServer, mount: Mount) -> None:
    """S4, S12: look-ups in one folder are serialised by the kernel, so they are answered from the folder's listing:
    neither names that are there nor names that are not cost a request."""
    folder = files_of(mount, "small")[0].parent
    names = os.listdir(folder)
    server.clear_requests()
    assert all((folder / name).stat().st_size for name in names)
    assert [errno_of((folder / f"no-such-{n}.dcm").stat) for n in range(50)] == [errno.ENOENT] * 50
    assert errno_of((folder.parent / "nothing").stat) == errno.ENOENT
    assert server.requests("/studies") == []


def test_a_folder_is_listed_once_for_all_who_look(server: DemoServer, new_mount: NewMount) -> None:
    """S16: however many look up names in a folder that was never listed, the server is asked for it once."""
    mount = new_mount(server)
    cold = only(list((mount.path / "studies").glob("*small*/*")))
    server.clear_requests()
    server.fault(kind="delay", path="/instances", seconds=0.5)
    try:
        looks = [Attempt((cold / f"{n}").stat) for n in range(20)]
        assert {look.errno() for look in looks} == {errno.ENOENT}
    finally:
        server.clear_faults()
    assert len(server.requests("/instances")) == 1


# -- 3: bugs ----------------------------------------------------------------------------------------------------------


class Handlers:
    """Handlers as pyfuse3 calls them."""

    def __init__(self) -> None:
        self.requests = Requests()
        self.ended = False

    def admit(self) -> None:
        return

    @handler
    async def fail(self, error: BaseException) -> None:
        raise error

    @handler
    async def wait(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.ended = True

    @handler
    async def answer(self) -> int:
        await trio.lowlevel.checkpoint()
        return 42


RAISED = [
    (ZeroDivisionError("a bug"), errno.EIO),
    (KeyError("a bug"), errno.EIO),
    (RecursionError(), errno.EIO),
    (MemoryError(), errno.EIO),
    (AssertionError(), errno.EIO),
    (ExceptionGroup("bugs", [ValueError()]), errno.EIO),
    (TimeoutError(), errno.EIO),
    (PermissionError(errno.EACCES, "of the cache"), errno.EIO),
    (NotFoundError("gone"), errno.ENOENT),
    (KheopsfsError("something"), errno.EIO),
    (pyfuse3.FUSEError(errno.ESTALE), errno.ESTALE),
]


@pytest.mark.parametrize(("error", "number"), RAISED, ids=[type(error).__name__ for error, _ in RAISED])
@pytest.mark.trio
async def test_whatever_is_raised_leaves_a_handler_as_an_errno(
    error: Exception, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """S14: pyfuse3 ends the mount for everyone when anything but FUSEError leaves a handler."""
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await Handlers().fail(error)
    assert raised.value.errno == number
    is_bug = not isinstance(error, (KheopsfsError, pyfuse3.FUSEError, OSError))
    assert ("a bug in kheopsfs" in caplog.text) == is_bug
    assert ("Traceback" in caplog.text) == (is_bug or isinstance(error, OSError))


def test_a_bug_costs_one_answer_and_not_the_mount(server: DemoServer, tmp_path: Path) -> None:
    """S14: EIO for who asked, a traceback in the log, and the mount goes on."""
    with InstrumentedMount(server.url, server.token(), tmp_path) as mount:
        file, other, *_ = files_of(mount, "small")
        mount.have_a_bug(have=True)
        assert errno_of(file.read_bytes) == errno.EIO
        assert errno_of(lambda: os.listdir(file.parent)) == errno.EIO
        assert errno_of(lambda: os.listdir(mount.path / "albums")) == errno.EIO
        assert errno_of(lambda: os.getxattr(file, "user.kheops.cached")) == errno.EIO
        assert (mount.path / "README.txt").read_text()
        assert mount.log().count("ZeroDivisionError") >= 3
        assert mount.log().count("a bug in kheopsfs") >= 3
        mount.have_a_bug(have=False)
        assert file.read_bytes()[128:132] == b"DICM"
        assert other.read_bytes()
        assert os.listdir(mount.path / "albums")


# -- 4: ending while handlers run -------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_what_runs_is_cancelled_before_the_loop_is_ended() -> None:
    """S18: pyfuse3 waits for running handlers when it ends, so each must end when told to, with an errno; and so must
    whatever comes later."""
    handlers = Handlers()
    numbers = []

    async def ask() -> None:
        try:
            await handlers.wait()
        except pyfuse3.FUSEError as error:
            numbers.append(error.errno)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        handlers.requests.cancel_all()
    await ask()
    assert numbers == [errno.EIO] * 4
    assert handlers.ended
    with pytest.raises(pyfuse3.FUSEError):
        await handlers.answer()


# -- 5: short reads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["1", "777", "4097", "131072", "1000003", "64M"])
def test_every_read_is_full(mount: Mount, tmp_path: Path, block: str) -> None:
    """S8: a short answer is taken for the end of the file; whatever the size of the blocks, a copy is whole."""
    study = "small" if block in {"1", "777"} else "multi-frame"
    file = files_of(mount, study)[0]
    copy = tmp_path / "copy"
    command = ["dd", f"if={file}", f"of={copy}", f"bs={block}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={"LC_ALL": "C"})
    data = file.read_bytes()
    assert copy.read_bytes() == data
    assert f"{len(data)} bytes" in done.stderr


def test_single_reads_are_full(mount: Mount) -> None:
    """S8: one `pread`, past every page cache, gives all it asked for up to the end, and nothing behind it."""
    file = files_of(mount, "multi-frame")[0]
    data = file.read_bytes()
    with file.open("rb", buffering=0) as opened:
        for offset, length in ((0, len(data)), (1, 1 << 20), (len(data) - 10, 4096), (4095, 131_073)):
            assert os.pread(opened.fileno(), length, offset) == data[offset : offset + length]
        assert os.pread(opened.fileno(), 4096, len(data)) == b""
        assert os.pread(opened.fileno(), 4096, len(data) + 10**9) == b""
        with mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert len(mapped) == len(data)
            assert mapped[-1000:] == data[-1000:]


def test_reading_uncached_pages_from_many_places_at_once(mount: Mount) -> None:
    """S8: reads that arrive together and out of order do not get each other's bytes."""
    file = files_of(mount, "multi-frame")[0]
    data = file.read_bytes()
    with file.open("rb", buffering=0) as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        places = [(n * 7_919 * 131 % len(data), 50_000 + n) for n in range(60)]
        reads = [Attempt(lambda p=place: os.pread(opened.fileno(), p[1], p[0])) for place in places]  # type: ignore[misc]
        assert [read.result() for read in reads] == [data[start : start + length] for start, length in places]


@pytest.mark.trio
async def test_a_file_that_was_cut_behind_our_back_is_an_error(tmp_path: Path) -> None:
    """S8, S9: EIO, never a short answer, when the file in the cache is shorter than it was when it was proven."""
    store = Store(tmp_path / "cache", 2**30)
    try:
        with store.bodies.incoming() as incoming:
            incoming.write(bytes(range(256)) * 1024)
            body = incoming.commit("key")
        assert await read_body(body, 1000, 500) == (bytes(range(256)) * 1024)[1000:1500]
        assert await read_body(body, body.size - 10, 500) == bytes(range(246, 256))
        assert await read_body(body, body.size + 10, 500) == b""
        os.truncate(f"/proc/self/fd/{body.fileno()}", 1200)
        with pytest.raises((pyfuse3.FUSEError, KheopsfsError)) as raised:
            await read_body(body, 1000, 500)
        assert raised.value.errno == errno.EIO
        body.close()
    finally:
        store.close()


def test_a_damaged_cache_never_reaches_a_reader(mount: Mount) -> None:
    """S8, S9: with its file in the cache cut while it is open, a reader gets an error or the truth."""
    file = files_of(mount, "multi-frame")[0]  # smaller ones are held open for a while by the mount itself
    data = file.read_bytes()
    kept = {path for path in (mount.cache / "bodies").rglob("*") if path.is_file() and path.stat().st_size == len(data)}
    with file.open("rb", buffering=0) as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for path in kept:
            if path.read_bytes() == data:
                os.truncate(path, 1000)
        assert errno_of(lambda: os.pread(opened.fileno(), len(data), 0)) == errno.EIO
    assert result_of(file.read_bytes) == data


# -- 6: invalidating from inside --------------------------------------------------------------------------------------


def test_many_readers_of_a_file_whose_size_settles(server: DemoServer, new_mount: NewMount) -> None:
    """S11: telling the kernel about a settled size from inside a request may deadlock; readers, stats and listings of
    one file at the same time all come back, with the same bytes and the exact size."""
    mount = new_mount(server)
    for file in files_of(mount, "study")[:2]:
        readers = [Attempt(file.read_bytes) for _ in range(16)]
        looks = [Attempt(file.stat) for _ in range(16)]
        lists = [Attempt(lambda file=file: os.listdir(file.parent)) for _ in range(4)]  # type: ignore[misc]
        data = {reader.result() for reader in readers}
        assert len(data) == 1
        assert all(look.result().st_size >= len(next(iter(data))) for look in looks)
        assert all(listed.result() for listed in lists)
        assert file.stat().st_size == len(data.pop())


# -- 8: how reads are sized -------------------------------------------------------------------------------------------


def test_the_size_of_reads_cannot_be_set(server: DemoServer, mount: Mount, tmp_path: Path) -> None:
    """S8: `max_read` breaks a mount, so nobody can give it, and we do not."""
    other = Mount(server.url, server.token(), tmp_path)
    options = ["--token-file", str(other.token_file), "-o", "max_read=131072"]
    done = other.command("mount", other.url, str(other.path), *options)
    assert done.returncode == 2
    assert "max_read" in done.stderr
    assert not other.is_mounted
    (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {mount.path} " in line]
    assert "max_read" not in line


# -- 9: many who wait -------------------------------------------------------------------------------------------------


def test_a_crowd_that_waits_hinders_nobody(server: DemoServer, new_mount: NewMount) -> None:
    """S16: 120 readers of files that do not come; what is cached or listed is there at once all the same, and another
    series comes."""
    mount = new_mount(server, "--list-ttl", "3600", idle_timeout="600")
    waiting, (known, fresh, *_) = files_of(mount, "small"), files_of(mount, "slices")
    assert len(waiting) == CROWD
    data = known.read_bytes()
    series = xattr(waiting[0], "dicom.SeriesInstanceUID")
    server.clear_requests()
    server.fault(kind="stall", path=f"{series}($|/instances/)")
    try:
        readers = [Attempt(file.read_bytes) for file in waiting]
        until(lambda: len(retrievals(server)) >= 2)
        assert result_of(known.read_bytes) == data
        assert result_of(fresh.read_bytes)
        assert len(result_of(lambda: os.listdir(known.parent))) == SLICES
        assert result_of(lambda: os.listxattr(known))
        assert result_of(lambda: subprocess.run(["ls", mount.path], check=True, capture_output=True)).stdout
        assert not any(reader.is_over for reader in readers)
    finally:
        server.clear_faults()
    assert all(reader.result() for reader in readers)


def test_a_crowd_that_waits_in_vain_waits_together(server: DemoServer, new_mount: NewMount) -> None:
    """S16: 120 readers of files that never come, and six requests at a time: nobody waits for twenty idle deadlines."""
    deadline = 2
    mount = new_mount(server, idle_timeout=str(deadline))
    waiting = files_of(mount, "small")
    server.fault(kind="stall", path=f"{xattr(waiting[0], 'dicom.SeriesInstanceUID')}($|/instances/)")
    try:
        began = time.monotonic()
        readers = [Attempt(file.read_bytes) for file in waiting]
        assert {reader.errno() for reader in readers} == {errno.ETIMEDOUT}
        assert time.monotonic() - began < 15 * deadline
    finally:
        server.clear_faults()
    assert all(reader.result() for reader in [Attempt(file.read_bytes) for file in waiting])


# -- 10, 11, 12, 13: what the kernel remembers ------------------------------------------------------------------------


def resident_bytes(file: Path) -> int:
    """How much of a file the page cache holds when it is opened again, according to `fincore`."""
    done = subprocess.run(["fincore", "-nbo", "RES", file], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


def test_pages_outlive_the_file_handle(mount: Mount) -> None:
    """S6: an instance never changes, so opening it again keeps its pages (readers open a file up to seven times)."""
    file = files_of(mount, "slices")[0]
    data = file.read_bytes()
    for _ in range(2):
        assert resident_bytes(file) >= len(data)
    assert file.read_bytes() == data


STAT = "import os,sys; print(os.stat(sys.argv[1]).st_size)"
MISSING = "import os,sys; print(os.path.lexists(sys.argv[1]))"


def asked_while_stopped(mount: Mount, program: str, path: Path) -> str:
    """What a program prints while nobody answers the kernel."""
    with stopped(mount):
        asking = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
        try:
            return asking.communicate(timeout=30)[0].strip()
        except subprocess.TimeoutExpired:
            pytest.fail("the kernel had to ask")


def test_settled_attributes_are_the_kernels(mount: Mount) -> None:
    """S11: `stat` of a file whose size is settled costs no request at all."""
    file = files_of(mount, "slices")[0]
    size = len(file.read_bytes())
    assert file.stat().st_size == size
    assert asked_while_stopped(mount, STAT, file) == str(size)


def test_bounds_are_not_remembered(server: DemoServer, new_mount: NewMount) -> None:
    """S10, S11: whoever saw the bound sees the exact size as soon as anybody has opened the file."""
    mount = new_mount(server, "--list-ttl", "3600")
    twin = new_mount(server, "--list-ttl", "3600")
    for file in (files_of(mount, "slices")[0], files_of(mount, "small")[0], *files_of(mount, "study")):
        bound = file.stat().st_size
        assert os.listdir(file.parent)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            exact = os.fstat(descriptor).st_size
            assert exact == file.stat().st_size < bound
            done = subprocess.run(["stat", "-c", "%s", file], capture_output=True, text=True, check=True, timeout=60)
            assert int(done.stdout) == exact == os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
        assert len(file.read_bytes()) == exact
        assert (twin.path / file.relative_to(mount.path)).stat().st_size == bound


@pytest.mark.parametrize("name", [".DS_Store", "desktop.ini", ".hidden", ".Trash-1000", "autorun.inf", "._x.dcm"])
def test_names_that_nothing_can_have_are_asked_for_once(mount: Mount, name: str) -> None:
    """S12: the kernel remembers that there is no such name."""
    path = files_of(mount, "slices")[0].parent / name
    assert errno_of(path.stat) == errno.ENOENT
    assert asked_while_stopped(mount, MISSING, path) == "False"


def test_junk_names_list_nothing(server: DemoServer, new_mount: NewMount) -> None:
    """S12: a file manager that probes a folder that nobody looks into costs no list."""
    mount = new_mount(server)
    server.clear_requests()
    assert errno_of((mount.path / "inbox" / ".Trash-0").stat) == errno.ENOENT
    assert errno_of((mount.path / "albums" / "desktop.ini").stat) == errno.ENOENT
    assert server.requests("/api/studies") == server.requests("/api/albums") == []


CLOSE_LATER = """
import os, sys
first, second = (os.open(sys.argv[1], os.O_RDONLY) for _ in range(2))
os.close(first)
print("one", flush=True)
sys.stdin.readline()
os.close(second)
print("two", flush=True)
"""


def test_closing_is_not_asked_for(mount: Mount) -> None:
    """S16: `flush` is unknown here, which the kernel remembers: closing a file waits for nobody."""
    file = files_of(mount, "slices")[0]
    closing = subprocess.Popen(
        [sys.executable, "-c", CLOSE_LATER, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert closing.stdout is not None
    assert closing.stdout.readline() == "one\n"
    with stopped(mount):
        said, _ = closing.communicate("go on\n", timeout=30)
        assert said == "two\n"


ACCESS = "import os,sys; print(os.access(sys.argv[1], os.R_OK), os.access(sys.argv[1], os.W_OK))"


def test_permissions_are_the_kernels(mount: Mount) -> None:
    """S3: `access` needs no request; the kernel judges by the mode."""
    file = files_of(mount, "slices")[0]
    assert file.read_bytes()
    assert asked_while_stopped(mount, ACCESS, file) == "True False"


def test_an_inode_that_is_not_known_any_more_is_looked_up_again() -> None:
    """S2: ESTALE makes the kernel ask for the name once more; EIO or ENOENT would be final."""
    inodes = Inodes(root("user", NameStyle("readable")))
    with pytest.raises(pyfuse3.FUSEError) as raised:
        inodes[4711]
    assert raised.value.errno == errno.ESTALE


# -- 14: the mount itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with,comma", "back\\slash,", "a=b,allow_other,max_read=1"])
def test_a_comma_in_the_file_systems_name(server: DemoServer, tmp_path: Path, name: str) -> None:
    """S21: FUSE splits its options at commas; a name with one must not become another option."""
    with InstrumentedMount(server.url, server.token(), tmp_path, fuse_options={"fsname": name}) as mount:
        assert os.listdir(mount.path)
        (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {mount.path} " in line]
        _, source, options = line.partition(" - ")[2].split(" ")
        assert source == name.replace("\\", "\\134")
        assert "allow_other" not in options
        assert "max_read" not in options


def test_handles_are_not_inodes(mount: Mount) -> None:
    """S8: read and release are told the file handle only: two readers of one file, one of which closes."""
    file, other = files_of(mount, "slices")[:2]
    with file.open("rb", buffering=0) as one, other.open("rb", buffering=0) as two:
        with file.open("rb", buffering=0) as third:
            assert third.read(1000) == one.read(1000)
        os.posix_fadvise(one.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert one.read() == file.read_bytes()[1000:]
        assert two.read() == other.read_bytes()


def test_handle_numbers_are_not_used_twice() -> None:
    """S8: a release that comes late must not close somebody else's file."""
    handles: Handles[str] = Handles()
    first = handles.add("first")
    assert handles.pop(first) == "first"
    assert handles.add("second") != first
    with pytest.raises(pyfuse3.FUSEError) as raised:
        handles[first]
    assert raised.value.errno == errno.EBADF


# -- 15: long folders, and what is forgotten --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_list() -> Iterator[DemoServer]:
    with DemoServer("--synthetic", f"studies={MANY}") as demo:
        yield demo


@pytest.fixture(scope="module")
def long_folder(long_list: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstrumentedMount]:
    home = tmp_path_factory.mktemp("home")
    with InstrumentedMount(long_list.url, long_list.token(), home, list_ttl=3600.0) as mounted:
        assert len(result_of(lambda: os.listdir(mounted.path / "studies"))) == MANY
        yield mounted


SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61}.get(os.uname().machine)


def getdents(folder: Path, buffer_size: int) -> Iterator[bytes]:
    """Names as the kernel gives them into a small buffer (getdents(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(buffer_size)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while length := libc.syscall(SYS_GETDENTS64, descriptor, buffer, buffer_size):
            assert length > 0, os.strerror(ctypes.get_errno())
            offset = 0
            while offset < length:
                (size,) = struct.unpack_from("=H", buffer, offset + 16)
                yield buffer.raw[offset + 19 : offset + size].split(b"\0", 1)[0]
                offset += size
    finally:
        os.close(descriptor)


@pytest.mark.skipif(SYS_GETDENTS64 is None, reason="the number of getdents64 is not known here")
@pytest.mark.parametrize("buffer_size", [400, 4096, 1 << 20])
def test_long_folders_with_any_buffer(long_folder: InstrumentedMount, buffer_size: int) -> None:
    """S4: `readdir` goes on where it stopped: every entry once, in order, whatever fits into a reply."""
    names = list(getdents(long_folder.path / "studies", buffer_size))
    entries = [name for name in names if name not in {b".", b".."}]
    assert len(entries) == len(set(entries)) == MANY
    assert entries == sorted(entries)
    assert len(names) - len(entries) <= 2


def test_long_folders_with_ls(long_folder: InstrumentedMount) -> None:
    """S4: `ls -U` prints every entry once; `ls -l` too, with attributes."""
    for options in ("-U", "-lU"):
        done = subprocess.run(
            ["ls", options, long_folder.path / "studies"], capture_output=True, text=True, check=True, timeout=60
        )
        lines = [line for line in done.stdout.splitlines() if not line.startswith("total")]
        assert len(lines) == len({line.split()[-1] for line in lines}) == MANY


def test_seeking_in_a_folder(long_folder: InstrumentedMount) -> None:
    """S4: rewinding a folder while reading it gives the same entries again."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.readdir.argtypes = libc.rewinddir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
    stream = libc.opendir(os.fsencode(long_folder.path / "studies"))

    def names(count: int) -> list[bytes]:
        return [ctypes.string_at(libc.readdir(stream) + 19) for _ in range(count)]

    try:
        first = names(3000)
        libc.rewinddir(stream)
        assert names(3000) == first
    finally:
        libc.closedir(stream)


@pytest.mark.skipif(os.geteuid() != 0, reason="dropping the kernel's caches takes root")
def test_what_the_kernel_forgets_is_forgotten(long_folder: InstrumentedMount) -> None:
    """S4: every entry that was listed and every name that was looked up counts; when the kernel lets go of them all,
    nothing is left, however often they were listed."""
    folder = long_folder.path / "studies"
    for _ in range(3):
        assert len(os.listdir(folder)) == MANY
        assert len([entry.stat() for entry in os.scandir(folder)]) == MANY

    def forgotten() -> bool:
        Path("/proc/sys/vm/drop_caches").write_text("2\n")
        return long_folder.count("inodes") < 100

    assert until(forgotten)
    assert long_folder.count("folders") == 0
    assert len(os.listdir(folder)) == MANY
    name = os.listdir(folder)[MANY // 2]
    assert (folder / name).is_dir()


def test_nothing_stays_open(server: DemoServer, tmp_path: Path) -> None:
    """S8: whatever was opened, read, listed and closed leaves no handle behind."""
    with InstrumentedMount(server.url, server.token(), tmp_path) as mount:
        for _ in range(3):
            assert all(file.read_bytes() for file in files_of(mount, "small")[:40])
            assert subprocess.run(["find", mount.path], capture_output=True, check=True, timeout=60).stdout
            assert len(os.listdir(mount.path)) > 3
        until(lambda: mount.count("files") == mount.count("folders") == 0)


def test_counting_and_forgetting() -> None:
    """S3: a node is remembered as long as the kernel counts it; forgetting comes in batches, for nodes long gone and
    for more than was counted, and never raises."""
    inodes = Inodes(root("user", NameStyle("readable")))
    node = next(node for node in inodes.folder(pyfuse3.ROOT_INODE).children(()) if node.name == "studies")
    for _ in range(5):
        inodes.looked_up(node)
    inodes.forget([(node.ino, 3)])
    assert node.ino in inodes
    batch: Sequence[Any] = [(node.ino, 1), (4711, 1), (pyfuse3.ROOT_INODE, 10**6), (node.ino, 1), (node.ino, 7)]
    inodes.forget(batch)
    assert node.ino not in inodes
    assert len(inodes) == 1
    assert inodes.folder(pyfuse3.ROOT_INODE)
