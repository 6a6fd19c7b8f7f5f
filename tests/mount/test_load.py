"""Programs that read hard while the server stumbles: fio with checksums of its own, dcmtk and GDCM on every file.

Every fault strikes a few times and passes, so nobody may notice anything but that it takes longer.
"""

import io
import os
import subprocess
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pydicom
import pytest
from harness.looking import by_uid, files, xattr
from harness.mounting import Mount, NewMount
from harness.series import write_study
from harness.server import DemoServer

EDGES = (512, 512, 512, 512, 2048)
"""Rows and columns of what fio reads: slices, and an image that is larger than what is given to the kernel whole."""
BLOCK = 4096
"""Bytes that fio checks at once; the pixels begin at such a place, as O_DIRECT wants it elsewhere."""
IDLE = "2"

PASSING = (
    {"kind": "cut", "fraction": 0.5, "times": 2},
    {"kind": "reset", "byte": 60_000, "times": 2},
    {"kind": "upstream", "times": 1},
    {"kind": "gzip", "times": 1},
    {"kind": "trickle", "bytes": 100_000, "seconds": 0.05, "times": 1},
    {"kind": "status", "code": 503, "times": 1},
    {"kind": "part_length", "times": 1},
)


def fio(*jobs: str, names: list[Path], write: bool = False) -> subprocess.CompletedProcess[str]:
    """Write blocks that name their place and hold their checksum, or read them in any order and check."""
    size = names[0].stat().st_size - BLOCK
    command = [
        "fio",
        *(["--rw=write", "--do_verify=0"] if write else ["--readonly", "--rw=randread"]),
        f"--bs={BLOCK}",
        f"--offset={BLOCK}",
        f"--size={size}",
        "--verify=crc32c",
        "--verify_state_save=0",
        "--thread",
        f"--filename={':'.join(os.fspath(name) for name in names)}",
        *jobs,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


WAYS = (
    "--name=ordinary",
    "--numjobs=2",
    "--name=direct",
    "--direct=1",
    "--name=several",
    "--ioengine=libaio",
    "--iodepth=16",
)


def write_blocks_of_fio(image: bytes, folder: Path) -> None:
    """Write the same image with pixels that fio made: its header is padded to a block, and fio writes behind it."""
    dataset = pydicom.dcmread(io.BytesIO(image))
    header = len(image) - len(dataset.PixelData)
    dataset.ImageComments = "x" * (BLOCK - header - 8)  # an element's own header takes 8 bytes
    file = folder / f"{dataset.SOPInstanceUID}.dcm"
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    padded = file.read_bytes()
    assert len(padded) == BLOCK + len(dataset.PixelData)
    assert fio("--name=write", names=[file], write=True).returncode == 0
    assert file.read_bytes()[:BLOCK] == padded[:BLOCK]
    assert file.read_bytes() != padded


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DemoServer, Mount, Path]]:
    """A server with images whose pixels are fio's, a mount of it, and the folder with the files themselves."""
    folder, made = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("archive")
    for edge in EDGES:
        for image in write_study(folder, series=1, instances=1, edge=edge).values():
            write_blocks_of_fio(image, made)
    with (
        DemoServer("--data", str(made)) as server,
        Mount(server.url, server.token("user"), tmp_path_factory.mktemp("home"), idle_timeout=IDLE) as mount,
    ):
        yield server, mount, made


def test_fio_finds_every_block_where_it_belongs(blocks: tuple[DemoServer, Mount, Path]) -> None:
    """S6, S7, S8: random reads, through the page cache, past it, and many at once; every answer is bad at first."""
    server, mount, made = blocks
    found = by_uid(mount.path / "studies")
    for uid, fault in zip(found, cycle(PASSING), strict=False):
        server.fault(path=f"/instances/{uid}$", **fault)
    for edge in set(EDGES):
        names = [found[file.stem] for file in files(made) if file.stat().st_size == BLOCK + 2 * edge * edge]
        for name in names:
            name.open("rb").close()  # fio asks for the size before it opens
        done = fio(*WAYS, names=names)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("err= 0") == 4
        assert "verify" not in done.stderr


def test_fio_would_find_a_block_that_is_wrong(blocks: tuple[DemoServer, Mount, Path], tmp_path: Path) -> None:
    """S8: the test above can fail: one flipped bit, and one block in the place of another."""
    *_, made = blocks
    data = next(file.read_bytes() for file in files(made))
    flipped, swapped = bytearray(data), bytearray(data)
    flipped[len(data) // 2] ^= 1
    swapped[2 * BLOCK : 3 * BLOCK] = data[BLOCK : 2 * BLOCK]
    for number, damaged in enumerate((flipped, swapped)):
        (tmp_path / f"{number}").write_bytes(damaged)
        assert fio("--name=read", names=[tmp_path / f"{number}"]).returncode != 0


STUMBLES = (
    {"kind": "cut", "fraction": 0.7},
    {"kind": "reset", "byte": 5_000},
    {"kind": "upstream"},
    {"kind": "junk"},
    {"kind": "duplicate"},
    {"kind": "wrong_instance"},
)

COMMANDS = {
    "dcmftest": "find . -name '*.dcm' | sort | xargs -d '\\n' dcmftest",
    "dcmdump": "find . -name '*.dcm' | sort | xargs -d '\\n' dcmdump --print-all",
    "gdcminfo": "gdcminfo --recursive . | sort",
}


def test_readers_notice_nothing_of_what_passes(server: DemoServer, new_mount: NewMount, copy_of_samples: Path) -> None:
    """S6, S7, S11: three programs at once on a mount that has read nothing yet, while each series is answered badly
    once, and one of them with silence: each prints what it prints for the original files.
    """
    studies = new_mount(server, idle_timeout=IDLE).path / "studies"
    all_series = sorted(studies.glob("*/*"))
    try:
        for series, fault in zip(all_series, cycle(STUMBLES), strict=False):
            uid = xattr(series, "dicom.SeriesInstanceUID")
            server.fault(path=f"/series/{uid}(/instances/[0-9.]+)?$", times=1, **fault)
        longest = max(all_series, key=lambda series: len(list(series.iterdir())))
        server.fault(path=f"/series/{xattr(longest, 'dicom.SeriesInstanceUID')}$", kind="stall", byte=1000, times=1)
        running = {name: start(command, studies) for name, command in COMMANDS.items()}
        for name, command in COMMANDS.items():
            assert outcome(running[name]) == outcome(start(command, copy_of_samples)), name
        assert sum(fault["struck"] for fault in server.call("GET", "/faults")) > len(all_series) // 2
    finally:
        server.clear_faults()


def start(command: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["bash", "-c", f"exec 2>&1; {command}"], cwd=folder, stdout=subprocess.PIPE)


def outcome(process: subprocess.Popen[bytes]) -> tuple[bytes, int]:
    printed, _ = process.communicate(timeout=90)
    return printed, process.returncode
