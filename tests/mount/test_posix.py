"""POSIX, rule by rule: what a program may take for granted of any read-only file system.

What other modules of this folder keep: every write is EROFS for the programs that people use (`test_errors`), long
folders with any buffer (`test_traps`), reads of any length from any place (`test_traps`).
"""

import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from harness.looking import by_uid, only, original, until, xattr
from harness.mounting import Mount
from harness.patience import errno_of, result_of
from harness.server import DemoServer

SMALL = 300
"""Instances in the long series: several replies of readdir."""

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """Where the rules are tried: a mount with one of everything, and what the server says is in the file."""

    server: DemoServer
    mount: Mount
    folder: Path
    file: Path
    long_folder: Path
    link: Path
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        DemoServer("--synthetic", f"slices=4,small={SMALL}") as server,
        Mount(server.url, server.token("user"), tmp_path_factory.mktemp("home"), "--list-ttl", "1") as mount,
        httpx.Client(trust_env=False) as client,
    ):
        studies = mount.path / "studies"
        folder, long_folder = only(studies.glob("*slices*/*")), only(studies.glob("*small*/*"))
        link = mount.path / "by-uid" / xattr(folder, "dicom.StudyInstanceUID")
        file = sorted(folder.iterdir())[0]
        yield Place(
            server, mount, folder, file, long_folder, link, original(server, server.token("user"), file, client)
        )
        assert "a bug in kheopsfs" not in mount.log()


@contextmanager
def opened(path: Path | str, flags: int = os.O_RDONLY, dir_fd: int | None = None) -> Iterator[int]:
    """A descriptor."""
    descriptor = os.open(path, flags, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def on_file(call: Callable[[int], object]) -> Callable[[Place], object]:
    """A call with a descriptor of the file."""

    def with_file(here: Place) -> object:
        with opened(here.file) as descriptor:
            return call(descriptor)

    return with_file


# -- what is refused, and how -----------------------------------------------------------------------------------------

Refusals = dict[str, tuple[Callable[[Place], object], int]]

PATHS: Refusals = {
    "a name of 255 bytes is only missing": (lambda here: os.stat(here.folder / ("x" * 255)), errno.ENOENT),
    "a name of 256 bytes": (lambda here: os.stat(here.folder / ("x" * 256)), errno.ENAMETOOLONG),
    "a name of 256 bytes in 128 characters": (lambda here: os.stat(here.folder / ("é" * 128)), errno.ENAMETOOLONG),
    "a name of 4 000 bytes": (lambda here: os.stat(here.mount.path / ("x" * 4000)), errno.ENAMETOOLONG),
    "a path of 5 000 bytes": (lambda here: os.stat(f"{here.folder}{'/.' * 2500}"), errno.ENAMETOOLONG),
    "an empty path": (lambda here: os.stat(""), errno.ENOENT),
    "a name that is no UTF-8": (lambda here: os.stat(os.fsencode(here.folder) + b"/\xff\xfe"), errno.ENOENT),
    "a name with a line break": (lambda here: os.stat(here.folder / "a\nb"), errno.ENOENT),
    "the name in capitals": (lambda here: os.stat(here.folder / here.file.name.upper()), errno.ENOENT),
    "a name below a file": (lambda here: os.stat(here.file / "name"), errno.ENOTDIR),
    "a slash behind a file": (lambda here: os.stat(f"{here.file}/"), errno.ENOTDIR),
    "dots below a file": (lambda here: os.stat(f"{here.file}/.."), errno.ENOTDIR),
    "listing a file": (lambda here: os.listdir(here.file), errno.ENOTDIR),
    "changing into a file": (lambda here: os.chdir(here.file), errno.ENOTDIR),
    "O_DIRECTORY of a file": (lambda here: os.open(here.file, os.O_DIRECTORY), errno.ENOTDIR),
    "O_NOFOLLOW of a link": (lambda here: os.open(here.link, os.O_NOFOLLOW), errno.ELOOP),
    "readlink of a file": (lambda here: os.readlink(here.file), errno.EINVAL),
    "readlink of a folder": (lambda here: os.readlink(here.folder), errno.EINVAL),
    "running a file": (lambda here: os.execv(here.file, ["x"]), errno.EACCES),
}

CHANGES: Refusals = {
    "mknod": (lambda here: os.mknod(here.folder / "new"), errno.EROFS),
    "link": (lambda here: os.link(here.file, here.folder / "new"), errno.EROFS),
    "symlink": (lambda here: os.symlink("target", here.folder / "new"), errno.EROFS),
    "rename": (lambda here: os.rename(here.file, here.folder / "new"), errno.EROFS),
    "rename out": (lambda here: os.rename(here.file, here.mount.home / "new"), errno.EXDEV),
    "rename in": (lambda here: os.rename(here.mount.token_file, here.folder / "new"), errno.EXDEV),
    "unlink": (lambda here: os.unlink(here.file), errno.EROFS),
    "unlink of nothing": (lambda here: os.unlink(here.folder / "none"), errno.EROFS),
    "rmdir": (lambda here: os.rmdir(here.folder), errno.EROFS),
    "mkdir over what is there": (lambda here: os.mkdir(here.folder), errno.EEXIST),
    "O_EXCL over what is there": (lambda here: os.open(here.file, os.O_CREAT | os.O_EXCL), errno.EEXIST),
    "O_CREAT of a new name": (lambda here: os.open(here.folder / "new", os.O_CREAT), errno.EROFS),
    "O_TMPFILE": (lambda here: os.open(here.folder, os.O_TMPFILE | os.O_RDWR), errno.EROFS),
    "a folder for writing": (lambda here: os.open(here.folder, os.O_WRONLY), errno.EISDIR),
    "utime": (lambda here: os.utime(here.file), errno.EROFS),
    "chmod": (lambda here: os.chmod(here.file, 0o600), errno.EROFS),
    "chown": (lambda here: os.chown(here.file, 1, 1), errno.EROFS),
    "setxattr": (lambda here: os.setxattr(here.file, "user.new", b"1"), errno.EROFS),
    "setxattr of the system": (lambda here: os.setxattr(here.file, "security.new", b"1"), errno.EROFS),
    "a socket": (lambda here: bind(here.folder / "new"), errno.EROFS),
    "fchmod": (on_file(lambda fd: os.fchmod(fd, 0o600)), errno.EROFS),
    "ftruncate": (on_file(lambda fd: os.ftruncate(fd, 0)), errno.EINVAL),
    "write": (on_file(lambda fd: os.write(fd, b"x")), errno.EBADF),
    "fallocate": (on_file(lambda fd: os.posix_fallocate(fd, 0, 10)), errno.EBADF),
    "a mapping that writes": (on_file(lambda fd: mmap.mmap(fd, 0, prot=mmap.PROT_WRITE)), errno.EACCES),
    "a lock for writing": (on_file(lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX)), errno.EBADF),
}

READS: Refusals = {
    "before the start": (on_file(lambda fd: os.pread(fd, 10, -1)), errno.EINVAL),
    "seeking before the start": (on_file(lambda fd: os.lseek(fd, -1, os.SEEK_SET)), errno.EINVAL),
    "data beyond the end": (on_file(lambda fd: os.lseek(fd, 1 << 30, os.SEEK_DATA)), errno.ENXIO),
    "a hole beyond the end": (on_file(lambda fd: os.lseek(fd, 1 << 30, os.SEEK_HOLE)), errno.ENXIO),
    "a folder": (lambda here: read_with(here.folder, os.O_RDONLY), errno.EISDIR),
    "O_PATH": (lambda here: read_with(here.file, os.O_PATH), errno.EBADF),
    "flags that a file has not": (on_file(lambda fd: fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))), errno.ENOTTY),
    "no such attribute": (lambda here: os.getxattr(here.file, "user.none"), errno.ENODATA),
    "no capabilities": (lambda here: os.getxattr(here.file, "security.capability"), errno.ENODATA),
    "no room for an attribute": (
        lambda here: into_two_bytes(libc.getxattr, here.file, b"user.kheops.size"),
        errno.ERANGE,
    ),
    "no room for the attributes": (lambda here: into_two_bytes(libc.listxattr, here.file), errno.ERANGE),
}

FS_IOC_GETFLAGS = 0x80086601


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, opened(path.parent, os.O_PATH) as folder:  # longer paths do not fit
        one.bind(f"/proc/self/fd/{folder}/{path.name}")


def read_with(path: Path, flags: int) -> bytes:
    with opened(path, flags) as descriptor:
        return os.read(descriptor, 1)


def into_two_bytes(call: Any, path: Path, *name: bytes) -> None:
    if call(os.fsencode(path), *name, ctypes.create_string_buffer(2), 2) < 0:
        raise OSError(ctypes.get_errno(), "")


@pytest.mark.parametrize(("call", "expected"), PATHS.values(), ids=PATHS)
def test_paths_that_lead_nowhere(here: Place, call: Callable[[Place], object], expected: int) -> None:
    """S1: ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP and EINVAL, as path_resolution(7) has them."""
    assert errno_of(lambda: call(here)) == expected


@pytest.mark.parametrize(("call", "expected"), CHANGES.values(), ids=CHANGES)
def test_changes_that_are_refused(here: Place, call: Callable[[Place], object], expected: int) -> None:
    """S14: EROFS, or what POSIX says comes first."""
    before = os.listdir(here.folder)
    assert errno_of(lambda: call(here)) == expected
    assert os.listdir(here.folder) == before


@pytest.mark.parametrize(("call", "expected"), READS.values(), ids=READS)
def test_reads_that_are_refused(here: Place, call: Callable[[Place], object], expected: int) -> None:
    """S8: an error where POSIX wants one, never made-up bytes."""
    assert errno_of(lambda: call(here)) == expected


# -- what a node is ---------------------------------------------------------------------------------------------------


def test_dots_lead_here_and_up(here: Place) -> None:
    """S1: `.` and `..` everywhere, also out of the mount and through a link."""
    for folder in (here.folder, here.folder.parent, here.mount.path / "studies", here.mount.path):
        assert os.stat(f"{folder}/.").st_ino == folder.stat().st_ino
        assert os.path.samestat(os.stat(f"{folder}/.."), folder.parent.stat())
    assert os.path.samestat(os.stat(f"{here.link}/.."), (here.mount.path / "studies").stat())
    assert Path(os.path.realpath(f"{here.link}/../../by-uid/{here.link.name}")) == here.folder.parent


def test_listing_and_stat_agree(here: Place) -> None:
    """S3: type and number of an entry (d_type, d_ino) are those that `stat` gives, in every kind of folder."""
    seen = 0
    for folder, _, _ in os.walk(here.mount.path):
        with os.scandir(folder) as entries:
            for entry in entries:
                status = os.lstat(entry.path)
                assert entry.inode() == status.st_ino
                assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(status.st_mode)
                assert entry.is_file(follow_symlinks=False) == stat.S_ISREG(status.st_mode)
                assert entry.is_symlink() == stat.S_ISLNK(status.st_mode)
                seen += 1
    assert seen > 2 * SMALL


def test_the_number_of_links_misleads_nobody(here: Place) -> None:
    """S3: 1, which for a folder says “unknown”: `find` must not stop looking for folders when it has seen nlink - 2."""
    assert {path.lstat().st_nlink for path in (here.mount.path, here.folder, here.file, here.link)} == {1}
    found = subprocess.run(["find", here.mount.path / "studies", "-type", "d"], capture_output=True, check=True).stdout
    assert len(found.splitlines()) == 1 + 2 + 2


def test_access_is_what_the_mode_says(here: Place) -> None:
    """S3: nobody may write or run a file, not even root; folders can be searched."""
    rights = (os.F_OK, os.R_OK, os.W_OK, os.X_OK)
    assert [os.access(here.file, right) for right in rights] == [True, True, False, False]
    assert [os.access(here.folder, right) for right in rights] == [True, True, False, True]
    for right, expected in ((os.W_OK, errno.EROFS), (os.X_OK, errno.EACCES)):
        assert libc.access(os.fsencode(here.file), right) == -1
        assert ctypes.get_errno() == expected


class _Statx(ctypes.Structure):
    _fields_: ClassVar = [
        ("mask", ctypes.c_uint32),
        ("blksize", ctypes.c_uint32),
        ("attributes", ctypes.c_uint64),
        ("nlink", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("padding", ctypes.c_uint16),
        ("ino", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 200),
    ]


STATX_BASIC_STATS, STATX_BTIME, AT_SYMLINK_NOFOLLOW = 0x7FF, 0x800, 0x100


def test_statx_says_what_stat_says(here: Place) -> None:
    """S3, S11: all basic fields, and no made-up time of birth."""
    assert here.file.read_bytes() == here.data
    for path in (here.file, here.folder, here.link):
        found, status = _Statx(), path.lstat()
        asked = STATX_BASIC_STATS | STATX_BTIME
        assert libc.statx(-100, os.fsencode(path), AT_SYMLINK_NOFOLLOW, asked, ctypes.byref(found)) == 0
        assert found.mask & asked == STATX_BASIC_STATS
        assert (found.mode, found.ino, found.nlink) == (status.st_mode, status.st_ino, status.st_nlink)
        assert (found.size, found.blocks, found.uid) == (status.st_size, status.st_blocks, status.st_uid)


def test_the_file_system_as_df_sees_it(here: Place) -> None:
    """S14: read-only, no room at all, names of 255 bytes; `df` prints it."""
    found = os.statvfs(here.file)
    assert found.f_flag & os.ST_RDONLY
    assert (found.f_blocks, found.f_bfree, found.f_bavail, found.f_namemax) == (0, 0, 0, 255)
    assert found.f_bsize > 0
    assert os.pathconf(here.folder, "PC_NAME_MAX") == 255
    printed = subprocess.run(["df", here.folder], capture_output=True, text=True, check=True, timeout=60).stdout
    assert printed.splitlines()[-1].split()[-1] == str(here.mount.path)


# -- opening ----------------------------------------------------------------------------------------------------------


def test_o_path_names_a_file_and_fetches_nothing(here: Place) -> None:
    """S12: fstat, xattrs, and opening it for real later."""
    file = sorted(here.folder.iterdir())[-1]
    with opened(file, os.O_PATH) as descriptor:
        assert os.fstat(descriptor).st_ino == file.stat().st_ino
        assert os.getxattr(f"/proc/self/fd/{descriptor}", "user.kheops.cached") == b"no"
        with opened(f"/proc/self/fd/{descriptor}") as real:
            assert os.fstat(descriptor).st_size == os.fstat(real).st_size == here.size
    with opened(here.link, os.O_PATH | os.O_NOFOLLOW) as descriptor:
        assert stat.S_ISLNK(os.fstat(descriptor).st_mode)


def test_openat_from_a_folder_that_is_open(here: Place) -> None:
    """S1: relative to a descriptor, also upwards; fstatat, faccessat, readlinkat likewise."""
    with opened(here.folder, os.O_DIRECTORY | os.O_PATH) as folder:
        with opened(here.file.name, dir_fd=folder) as file:
            assert os.pread(file, 100, 0) == here.data[:100]
        with opened("../..", dir_fd=folder) as studies:
            assert os.path.samestat(os.fstat(studies), (here.mount.path / "studies").stat())
        assert os.stat(here.file.name, dir_fd=folder).st_ino == here.file.stat().st_ino
        assert os.access(here.file.name, os.R_OK, dir_fd=folder)
    with opened(here.link.parent) as folder:
        assert os.readlink(here.link.name, dir_fd=folder) == os.readlink(here.link)


def test_o_creat_of_what_is_there_opens_it(here: Place) -> None:
    """S14: programs that open with O_CREAT only to read are served."""
    with opened(here.file, os.O_RDONLY | os.O_CREAT) as descriptor:
        assert os.pread(descriptor, 100, 0) == here.data[:100]


# -- reading ----------------------------------------------------------------------------------------------------------

PLACES = ((0, 1), (0, 4096), (1, 4095), (4095, 2), (100_001, 131_073), (131_071, 300_000))


def test_seeking(here: Place) -> None:
    """S11: the end is where the bytes end; all is data, and the only hole is behind it."""
    with opened(here.file) as descriptor:
        assert os.lseek(descriptor, 0, os.SEEK_END) == here.size
        assert os.lseek(descriptor, -100, os.SEEK_CUR) == here.size - 100
        assert os.read(descriptor, 1000) == here.data[-100:]
        assert os.read(descriptor, 1000) == b""
        for offset in (0, 1, here.size - 1):
            assert os.lseek(descriptor, offset, os.SEEK_DATA) == offset
            assert os.lseek(descriptor, offset, os.SEEK_HOLE) == here.size
        assert os.lseek(descriptor, here.size + 10_000, os.SEEK_SET) == here.size + 10_000
        assert os.read(descriptor, 1) == b""


def test_reading_beyond_the_end(here: Place) -> None:
    """S8: what is there, then nothing; into one buffer or several."""
    with opened(here.file) as descriptor:
        assert os.pread(descriptor, 4096, here.size - 10) == here.data[-10:]
        for offset in (here.size, here.size + 4096, 1 << 40, 1 << 62):
            assert os.pread(descriptor, 4096, offset) == b""
        buffers = [bytearray(7), bytearray(0), bytearray(10_000)]
        assert os.preadv(descriptor, buffers, here.size - 5000) == 5000
        assert bytes(buffers[0] + buffers[2])[:5000] == here.data[-5000:]


def test_reading_past_the_page_cache(here: Place) -> None:
    """S8: O_DIRECT, at any offset and length, and mixed with ordinary reads."""
    with opened(here.file, os.O_RDONLY | os.O_DIRECT) as direct, opened(here.file) as ordinary:
        for offset, length in (*PLACES, (here.size - 10, 4096), (here.size, 10), (0, 2 * here.size)):
            assert os.pread(direct, length, offset) == here.data[offset : offset + length]
            assert os.pread(ordinary, length, offset) == here.data[offset : offset + length]


def test_advice_changes_no_byte(here: Place) -> None:
    """S8: fadvise of every kind, and readahead."""
    with opened(here.file) as descriptor:
        kinds = ("NORMAL", "SEQUENTIAL", "RANDOM", "NOREUSE", "WILLNEED", "DONTNEED")
        for advice in (getattr(os, f"POSIX_FADV_{kind}") for kind in kinds):
            os.posix_fadvise(descriptor, 0, 0, advice)
            for offset, length in PLACES:
                assert os.pread(descriptor, length, offset) == here.data[offset : offset + length]
        assert libc.readahead(descriptor, ctypes.c_int64(0), ctypes.c_size_t(here.size)) == 0


def test_mappings(here: Place) -> None:
    """S8, S11: shared and private, of all or from a page on; private ones can be written to and nobody sees it."""
    with opened(here.file) as descriptor:
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as shared:
            assert shared[:] == here.data
            shared.madvise(mmap.MADV_DONTNEED)
            assert shared[::4096] == here.data[::4096]
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY) as private:
            private[1000:1004] = b"mine"
            assert private[:1000] + private[1004:] == here.data[:1000] + here.data[1004:]
        start = 5 * mmap.ALLOCATIONGRANULARITY
        with mmap.mmap(descriptor, 10_000, prot=mmap.PROT_READ, offset=start) as part:
            assert part[:] == here.data[start : start + 10_000]
        assert os.pread(descriptor, 4, 1000) == here.data[1000:1004]


BEYOND = """
import ctypes, mmap, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
size, page = os.fstat(file).st_size, mmap.PAGESIZE
length = -(-size // page) * page + page
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
start = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
assert size % page, "the last page must be a part of one"
print(ctypes.string_at(start + size, length - page - size).strip(b"\\0"), flush=True)
ctypes.string_at(start + length - page, 1)
print("it was there")
"""


def test_a_mapping_beyond_the_end(here: Place) -> None:
    """S8: zeros up to the end of the last page, and SIGBUS behind it."""
    done = subprocess.run(
        [sys.executable, "-c", BEYOND, here.file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "b''\n"
    assert done.returncode == -signal.SIGBUS


def test_copies_that_the_kernel_makes(here: Place, tmp_path: Path) -> None:
    """S8: sendfile and splice give the same bytes; copy_file_range says EXDEV, and callers then copy themselves."""
    with opened(here.file) as descriptor, (tmp_path / "copy").open("w+b") as copy:
        sent = 0
        while count := os.sendfile(copy.fileno(), descriptor, sent, here.size):
            sent += count
        assert (tmp_path / "copy").read_bytes() == here.data
        assert errno_of(lambda: os.copy_file_range(descriptor, copy.fileno(), here.size, 0, 0)) in (None, errno.EXDEV)
        reading, writing = os.pipe()
        with closing(os.fdopen(reading, "rb")), closing(os.fdopen(writing, "wb")):
            assert os.splice(descriptor, writing, 30_000, offset_src=12_345) == 30_000
            assert os.read(reading, 30_000) == here.data[12_345:42_345]


def test_waiting_for_a_file(here: Place) -> None:
    """S16: a regular file is always ready (poll, select), has nothing to sync, and syncing it is no error."""
    with opened(here.file) as descriptor, opened(here.folder) as folder:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert [event & select.POLLIN for _, event in poll.poll(10_000)] == [select.POLLIN]
        assert select.select([descriptor], [], [], 10)[0] == [descriptor]
        for one in (descriptor, folder):
            os.fsync(one)
        os.fdatasync(descriptor)


LOCK = """
import fcntl, sys
with open(sys.argv[1], "rb") as file:
    try:
        getattr(fcntl, sys.argv[2])(file, int(sys.argv[3]) | fcntl.LOCK_NB)
    except OSError as error:
        print(error.errno)
    else:
        print("locked")
"""


def test_locks_work_between_the_programs_of_this_machine(here: Place) -> None:
    """S14: flock of any kind and fcntl locks for reading, as on any file that is open for reading."""

    def in_another_process(call: str, kind: int) -> str:
        command = [sys.executable, "-c", LOCK, os.fspath(here.file), call, str(kind)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    with opened(here.file) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert in_another_process("flock", fcntl.LOCK_SH) == str(errno.EWOULDBLOCK)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert in_another_process("flock", fcntl.LOCK_SH) == "locked"
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        assert in_another_process("flock", fcntl.LOCK_EX) == "locked"
        fcntl.lockf(descriptor, fcntl.LOCK_SH)
        assert in_another_process("lockf", fcntl.LOCK_SH) == "locked"


IN_OPEN = 0x20


def test_inotify_watches_what_happens_here(here: Place) -> None:
    """S5: a watch can be set, and tells of what this machine does; what the server does, nobody is told."""
    watch = libc.inotify_init1(os.O_NONBLOCK)
    try:
        assert libc.inotify_add_watch(watch, os.fsencode(here.folder), IN_OPEN) > 0
        here.file.read_bytes()
        _, mask, _, length = struct.unpack_from("iIII", event := os.read(watch, 4096))
        assert mask == IN_OPEN
        assert event[16 : 16 + length].rstrip(b"\0").decode() == here.file.name
    finally:
        os.close(watch)


# -- folders that change ----------------------------------------------------------------------------------------------


libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.closedir.argtypes = libc.rewinddir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Stream:
    """A directory stream of the C library."""

    def __init__(self, folder: Path) -> None:
        self._stream = libc.opendir(os.fsencode(folder))
        assert self._stream

    def read(self, most: int = 1_000_000) -> list[str]:
        names: list[str] = []
        while len(names) < most and (entry := libc.readdir(self._stream)):
            names.append(os.fsdecode(ctypes.string_at(entry + 19)))
        return names

    def tell(self) -> int:
        return int(libc.telldir(self._stream))

    def seek(self, place: int) -> None:
        libc.seekdir(self._stream, place)

    def rewind(self) -> None:
        libc.rewinddir(self._stream)

    def close(self) -> None:
        libc.closedir(self._stream)


def test_telldir_and_seekdir(here: Place) -> None:
    """S4: a place in a folder is the same place later."""
    with closing(Stream(here.long_folder)) as stream:
        first = stream.read(100)
        place = stream.tell()
        rest = stream.read()
        assert sorted({*first, *rest}) == sorted(first + rest) == sorted(os.listdir(here.long_folder))
        stream.seek(place)
        assert stream.read() == rest
        stream.rewind()
        assert stream.read() == first + rest


def test_a_folder_that_changes_while_it_is_read(here: Place) -> None:
    """S4, S5: who is reading gets each name that stays exactly once; who goes back to the start gets the news."""
    known = by_uid(here.long_folder)
    first = known[gone := next(iter(known))]
    with closing(Stream(here.long_folder)) as stream:
        begun = stream.read(10)
        place = stream.tell()
        here.server.call("DELETE", f"/instances/{gone}")
        here.server.call("POST", "/instances", json={"like": list(known)[1], "attributes": {"InstanceNumber": 0}})
        until(lambda: set(os.listdir(here.long_folder)) - {path.name for path in known.values()} and not first.exists())
        rest = stream.read()
        assert sorted(begun + rest) == sorted(path.name for path in known.values())
        stream.seek(place)
        assert stream.read() == rest
        stream.rewind()
        now = stream.read()
        assert now == sorted(os.listdir(here.long_folder))
        assert first.name not in now
        assert len(now) == len(known)


def test_a_folder_that_goes_while_somebody_is_in_it(here: Place) -> None:
    """S5, S16: whoever stands in a folder that the server took away finds nothing in it, and can leave."""
    study = only((here.mount.path / "inbox").glob("*slices*"))
    holder = next(
        name
        for listed in here.server.call("GET", "/library", params={"study": xattr(study, "dicom.StudyInstanceUID")})
        for name in listed["series"][0]["sources"]
        if name.startswith("demo-")
    )
    change = {"source": holder, "study": xattr(study, "dicom.StudyInstanceUID")}
    with opened(study) as folder:
        here.server.call("POST", "/unlink", json=change)
        try:
            until(lambda: not study.exists())
            until(lambda: result_of(lambda: os.listdir(f"/proc/self/fd/{folder}")) == [])
            assert errno_of(lambda: os.stat("name", dir_fd=folder)) == errno.ENOENT
            assert result_of(lambda: os.stat("..", dir_fd=folder)).st_ino == study.parent.stat().st_ino
        finally:
            here.server.call("POST", "/link", json=change)
    until(study.exists)
    assert len(os.listdir(study)) == 1
