"""Real programs on a mount do what they do on plain files.

Two tables. Programs that people use on studies are compared, on the samples, with the same program on a plain copy.
Then every way that programs have to ask for a size and to read: on `--sizes=exact` nothing may differ, on
`--sizes=bound` nothing may differ *in silence*; what a program that trusts the bound does is written down in its row.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pydicom
import pytest
import SimpleITK
from harness.looking import digests, files, only
from harness.mounting import Mount
from harness.server import DemoServer

SECONDS = 60
SHIPPED = Path(pydicom.data.data_manager.DATA_ROOT) / "test_files"


@dataclass(frozen=True)
class Outcome:
    status: int
    out: bytes
    err: bytes


def run(command: str, folder: Path, **environment: str | Path) -> Outcome:
    """A shell command in a folder. Locale C, so that nothing depends on the machine."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{command}"],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8", **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


# -- programs for studies --------------------------------------------------------------------------------------------

ALL = "find . -name '*.dcm' -print0 | sort -z | xargs -0"
ONE_OF_EACH_SERIES = "find . -name '00001_*.dcm' | sort | xargs -d '\\n' -n 1"

READERS = {
    "find": "find . | sort",
    "find files": "find . -type f -name '*.dcm' | sort",
    "ls -R": "ls -R",
    "sha256sum": f"{ALL} sha256sum",
    "dcmdump": f"{ALL} dcmdump --print-all",
    "dcmftest": f"{ALL} dcmftest",
    "gdcminfo": f"{ONE_OF_EACH_SERIES} gdcminfo",
    "diff, once they were read": f'{ALL} cat | sha256sum && diff -r . "$PLAIN"',
    "rsync -c, once they were read": f'{ALL} cat | sha256sum && rsync -rc --dry-run --itemize-changes ./ "$PLAIN"/',
}


@pytest.fixture
def studies(new_mount, server: DemoServer) -> Path:
    """`studies/` of a mount that has read nothing yet."""
    return new_mount(server).path / "studies"


@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
def test_a_reader_prints_what_it_prints_for_plain_files(command: str, mount: Mount, copy_of_samples: Path) -> None:
    """S6, S8, S11: same output, same exit status."""
    studies = mount.path / "studies"
    expected = run(command, copy_of_samples, PLAIN=copy_of_samples)
    assert expected.out
    assert run(command, studies, PLAIN=copy_of_samples) == expected


COPIERS = {
    "cp -r": 'cp -r . "$OUT"',
    "cp -a": 'cp -a . "$OUT"',
    "rsync -a": 'rsync -a ./ "$OUT"/',
    "GNU tar": 'tar -cf - . | tar -xf - -C "$OUT"',
}


@pytest.mark.parametrize("command", COPIERS.values(), ids=COPIERS)
def test_a_copy_holds_every_file_byte_for_byte(
    command: str, studies: Path, copy_of_samples: Path, tmp_path: Path
) -> None:
    """S1, S6, S8, S11: a cold copy of everything, without a word of complaint."""
    assert run(command, studies, OUT=tmp_path) == Outcome(0, b"", b"")
    assert digests(tmp_path) == digests(copy_of_samples)
    run('chmod -R u+w "$OUT"', tmp_path, OUT=tmp_path)


def test_a_second_rsync_transfers_nothing(studies: Path, tmp_path: Path) -> None:
    """S3, S11: sizes and times stay what the first rsync copied."""
    first = run('rsync -a --itemize-changes ./ "$OUT"/', studies, OUT=tmp_path)
    assert first.status == 0
    assert first.out.count(b">f") == len(files(tmp_path))
    assert run('rsync -a --itemize-changes ./ "$OUT"/', studies, OUT=tmp_path) == Outcome(0, b"", b"")
    run('chmod -R u+w "$OUT"', tmp_path, OUT=tmp_path)


def test_ls_lists_the_sizes_and_times_of_a_copy_that_kept_them(studies: Path, tmp_path: Path) -> None:
    """S3, S11: after reading, `ls -lR` shows of every file what it shows of a `cp -a`."""
    assert run('cp -a . "$OUT"', studies, OUT=tmp_path).status == 0
    command = "ls -lRn --time-style=+%s | awk '/^-/ {print $1, $3, $4, $5, $6, $7} /:$/'"
    shown = run(command, studies)
    assert shown.out.count(b".dcm") == len(files(tmp_path))
    assert shown == run(command, tmp_path)
    run('chmod -R u+w "$OUT"', tmp_path, OUT=tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # the samples are odd on purpose
def test_every_file_of_a_series_folder_is_dicom_for_pydicom(studies: Path, copy_of_samples: Path) -> None:
    """S1, S6: the loop that everyone writes, on every series."""
    checked = 0
    for series in studies.glob("*/*"):
        datasets = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
        plain = [pydicom.dcmread(path) for path in sorted((copy_of_samples / series.relative_to(studies)).iterdir())]
        assert datasets == plain
        assert {dataset.SeriesInstanceUID for dataset in datasets} == {
            os.getxattr(series, "user.dicom.SeriesInstanceUID").decode()
        }
        checked += len(datasets)
    assert checked == len(files(copy_of_samples))


def test_simpleitk_reads_the_same_volume(mount: Mount, copy_of_samples: Path) -> None:
    """S6, S8: voxels, spacing, origin and direction of the CT series."""

    def volume(root: Path) -> SimpleITK.Image:
        reader = SimpleITK.ImageSeriesReader()
        folder = only(root.glob("*Doe-Jane_PET-CT*/0002_CT_*"))
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        return reader.Execute()

    mounted, plain = volume(mount.path / "studies"), volume(copy_of_samples)
    assert mounted.GetSize() == plain.GetSize() == (256, 256, 64)
    assert mounted.GetSpacing() == plain.GetSpacing()
    assert mounted.GetOrigin() == plain.GetOrigin()
    assert mounted.GetDirection() == plain.GetDirection()
    assert SimpleITK.GetArrayFromImage(mounted).tobytes() == SimpleITK.GetArrayFromImage(plain).tobytes()


def test_dcm2niix_converts_to_the_same_volume(mount: Mount, copy_of_samples: Path, tmp_path: Path) -> None:
    """S1, S6, S8: a study of CT, PET, a segmentation, a PDF and a report; the same files with the same bytes."""
    made = {}
    for name, root in (("mounted", mount.path / "studies"), ("plain", copy_of_samples)):
        out = tmp_path / name
        out.mkdir()
        study = only(root.glob("*Doe-Jane_PET-CT*"))
        assert run('dcm2niix -b y -ba n -f %s_%p -o "$OUT" .', study, OUT=out).status == 0
        made[name] = digests(out)
    assert made["mounted"] == made["plain"]
    assert [name for name in made["plain"] if name.endswith(".nii")]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # the samples are odd on purpose
def test_a_folder_of_ones_own_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """S6: `serve-demo --data DIR`, mounted and copied: the checksums of the originals, no file more, none less."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir()
    for path in archivable(SHIPPED):
        shutil.copyfile(path, data / path.name)
    with subprocess.Popen(
        [sys.executable, "-m", "kheopsfs", "serve-demo", "--json", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            announced = json.loads(process.stdout.readline())
            token = next(token["token"] for token in announced["tokens"] if token["kind"] == "user")
            with Mount(announced["url"], token, tmp_path / "home") as mounted:
                done = run('cp -r studies "$OUT"', mounted.path, OUT=copy)
        finally:
            process.terminate()
    assert done == Outcome(0, b"", b"")
    originals = sorted(digests(data).values())
    assert len(originals) > 30
    assert sorted(digests(copy).values()) == originals


def archivable(folder: Path) -> list[Path]:
    """DICOM files that an archive takes: proper files (PS3.10 7.1) with all their UIDs, each instance once."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        needed = [dataset.get(uid) for uid in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        needed += [dataset.file_meta.get(uid) for uid in ("MediaStorageSOPInstanceUID", "TransferSyntaxUID")]
        if dataset.preamble and all(needed):
            found.setdefault(dataset.SOPInstanceUID, path)
    return list(found.values())


# -- the size contract -----------------------------------------------------------------------------------------------


class Bound(Enum):
    """What a tool makes of a file whose size is an upper bound until it is opened."""

    RIGHT = "right: no difference, no complaint"
    LOUD = "says so: a complaint or an exit status, whatever came out"
    PADDED = "pads with zeros without a word: nothing is lost"
    ESTIMATE = "prints the bound: it reads nothing"


@dataclass(frozen=True)
class Tool:
    """One program.

    Attributes:
        command: run in a series folder, with `$OUT` an empty folder and `$PLAIN` a plain copy of the series; in
            `$HERE` lie the programs below.
        makes: whether it fills `$OUT` with copies; otherwise it prints, and what it prints counts.
        bound: what it does in the mode `bound`.
    """

    name: str
    command: str
    makes: bool = True
    bound: Bound = Bound.RIGHT


def each(command: str) -> str:
    return f"for f in *.dcm; do {command} || exit 1; done"


def python(statement: str) -> str:
    return shlex.join([sys.executable, "-c", f"import glob, os\nout = os.environ['OUT']\n{statement}"])


def prints(name: str, command: str, bound: Bound = Bound.RIGHT) -> Tool:
    return Tool(name, command, makes=False, bound=bound)


TOOLS = [
    Tool("cp", 'cp *.dcm "$OUT"'),
    Tool("cp -r", 'cp -r . "$OUT"'),
    Tool("cp --reflink", 'cp --reflink=auto *.dcm "$OUT"'),
    Tool("cp --reflink=never", 'cp --reflink=never *.dcm "$OUT"'),
    Tool("cp --sparse=auto", 'cp --sparse=auto *.dcm "$OUT"'),
    Tool("cp --sparse=always", 'cp --sparse=always *.dcm "$OUT"'),
    Tool("install", 'install -m 644 *.dcm "$OUT"'),
    Tool("dd", each('dd if="$f" of="$OUT/$f" bs=64k status=none')),
    Tool("dd whole", each('dd if="$f" of="$OUT/$f" bs=16M status=none')),
    Tool("cat", each('cat "$f" > "$OUT/$f"')),
    Tool("tee", each('tee "$OUT/$f" < "$f" > /dev/null')),
    Tool("split", each('split -b 10000 "$f" "$OUT/$f." && cat "$OUT/$f".?? > "$OUT/$f" && rm "$OUT/$f".??')),
    Tool("rsync -a", 'rsync -a ./ "$OUT"/'),
    Tool("rsync -c", 'rsync -rc ./ "$OUT"/'),
    Tool("rsync --inplace", 'rsync -r --inplace --no-whole-file ./ "$OUT"/'),
    Tool("GNU tar", 'tar -cf - *.dcm | tar -xf - -C "$OUT"'),
    Tool("GNU tar posix", 'tar --format=posix -cf - *.dcm | tar -xf - -C "$OUT"'),
    Tool("GNU tar sparse", 'tar -S -cf - *.dcm | tar -xf - -C "$OUT"'),
    Tool("bsdtar", 'bsdtar --no-xattrs -cf - *.dcm | tar -xf - -C "$OUT"', bound=Bound.PADDED),
    Tool(
        "bsdtar zip",
        'bsdtar --no-xattrs --format=zip -cf "$OUT/a" *.dcm && cd "$OUT" && unzip -q a && rm a',
        bound=Bound.PADDED,
    ),
    Tool("busybox tar", 'busybox tar -cf - *.dcm | tar -xf - -C "$OUT"', bound=Bound.LOUD),
    Tool("busybox cp", 'busybox cp *.dcm "$OUT"'),
    Tool("cpio", 'ls *.dcm | cpio --quiet -o -H newc | (cd "$OUT" && cpio --quiet -i)', bound=Bound.LOUD),
    Tool("7z", '7z a -bd -bso0 -bsp0 "$OUT/a.7z" *.dcm && cd "$OUT" && 7z x -bd -bso0 -bsp0 a.7z && rm a.7z'),
    Tool("zip", 'zip -q "$OUT/a.zip" *.dcm && cd "$OUT" && unzip -q a.zip && rm a.zip'),
    Tool("zip -0", 'zip -q -0 "$OUT/a.zip" *.dcm && cd "$OUT" && unzip -q a.zip && rm a.zip'),
    Tool("gzip", each('gzip -c "$f" | gunzip > "$OUT/$f"')),
    Tool("xz", each('xz -0 -c "$f" | unxz > "$OUT/$f"')),
    Tool("bzip2", each('bzip2 -c "$f" | bunzip2 > "$OUT/$f"')),
    Tool("curl file:", each('curl -s -o "$OUT/$f" "file://$PWD/$f"')),
    Tool("perl", each('perl -e \'binmode STDIN; local $/; print <STDIN>\' < "$f" > "$OUT/$f"')),
    Tool("perl File::Copy", each('perl -MFile::Copy -e "copy(@ARGV) or die" "$f" "$OUT/$f"')),
    Tool("shutil.copyfile", python("import shutil\nfor f in glob.glob('*.dcm'): shutil.copyfile(f, f'{out}/{f}')")),
    Tool("shutil.copytree", python("import shutil\nshutil.copytree('.', out, dirs_exist_ok=True)")),
    Tool(
        "Python mmap",
        python(
            "import mmap\n"
            "for f in glob.glob('*.dcm'):\n"
            "    with open(f, 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:\n"
            "        open(f'{out}/{f}', 'wb').write(view)"
        ),
    ),
    Tool(
        "Python sendfile",
        python(
            "for f in glob.glob('*.dcm'):\n"
            "    with open(f, 'rb') as file, open(f'{out}/{f}', 'wb') as copy:\n"
            "        while os.sendfile(copy.fileno(), file.fileno(), None, 1 << 20): pass"
        ),
    ),
    Tool(
        "Python tarfile",
        python(
            "import tarfile\n"
            "with tarfile.open(f'{out}/a', 'w') as tar:\n"
            "    for f in glob.glob('*.dcm'): tar.add(f)\n"
            "tarfile.open(f'{out}/a').extractall(out)\nos.unlink(f'{out}/a')"
        ),
        bound=Bound.LOUD,
    ),
    Tool(
        "Python zipfile",
        python(
            "import zipfile\n"
            "with zipfile.ZipFile(f'{out}/a', 'w') as archive:\n"
            "    for f in glob.glob('*.dcm'): archive.write(f)\n"
            "zipfile.ZipFile(f'{out}/a').extractall(out)\nos.unlink(f'{out}/a')"
        ),
    ),
    Tool("Java Files.copy", 'java -cp "$HERE" Copy copy . "$OUT"'),
    Tool("Java readAllBytes", 'java -cp "$HERE" Copy read . "$OUT"'),
    Tool("Java transferTo", 'java -cp "$HERE" Copy channel . "$OUT"'),
    Tool("dcmconv", each('dcmconv "$f" "$OUT/$f"')),
    Tool("gdcmconv", each('gdcmconv "$f" "$OUT/$f"')),
    prints(
        "SimpleITK",
        python(
            "import hashlib, SimpleITK\n"
            "for f in sorted(glob.glob('*.dcm')):\n"
            "    print(hashlib.sha256(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(f))).hexdigest())"
        ),
    ),
    prints("diff -r", 'diff -r . "$PLAIN"', Bound.LOUD),
    prints("cmp", each('cmp "$f" "$PLAIN/$f"')),
    prints("md5sum", "md5sum *.dcm"),
    prints("sha256sum", "sha256sum *.dcm"),
    prints("cksum", "cksum *.dcm"),
    prints("openssl", "openssl dgst -sha256 *.dcm"),
    prints("git hash-object", "git hash-object *.dcm"),
    prints("wc -c", each('wc -c "$f"')),
    # For several files it looks at all of them before it opens the first, and seeks by what it saw.
    prints("wc -c of several", "wc -c *.dcm | awk '{print $1}'", Bound.ESTIMATE),
    prints("wc -c on standard input", each('wc -c < "$f"')),
    prints("od", "od -An -tx1 *.dcm | sha256sum"),
    prints("xxd", each('xxd "$f" | sha256sum')),
    prints("head -c", "head -q -c 5000 *.dcm | sha256sum"),
    prints("head -c minus", "head -q -c -5000 *.dcm | sha256sum"),
    prints("tail -c", "tail -q -c 5000 *.dcm | sha256sum"),
    prints("tac", "tac *.dcm | sha256sum"),
    prints("strings", "strings *.dcm | sha256sum"),
    prints("file", "file *.dcm"),
    prints("grep -c", "grep -c -a DICM *.dcm"),
    prints("base64", each('base64 "$f" | sha256sum')),
    prints("awk", "mawk 'END {print NR}' *.dcm"),
    prints("dcmdump", "dcmdump -q *.dcm | sha256sum"),
    prints("dcm2json", 'for f in 00001_*.dcm 00003_*.dcm; do dcm2json "$f" | sha256sum || exit 1; done'),
    prints("dcmftest", "dcmftest *.dcm"),
    prints("gdcminfo", each('gdcminfo "$f"')),
    prints("ls -l", "ls -l *.dcm | awk '{print $5}'", Bound.ESTIMATE),
    prints("stat", "stat -c %s *.dcm", Bound.ESTIMATE),
    prints("du", "du -b *.dcm | cut -f 1", Bound.ESTIMATE),
    prints("find -printf", "find . -type f -printf '%f %s\\n' | sort | cut -d ' ' -f 2", Bound.ESTIMATE),
]

JAVA = """
import java.io.*; import java.nio.channels.*; import java.nio.file.*;
class Copy {
  public static void main(String[] arguments) throws IOException {
    try (var paths = Files.newDirectoryStream(Path.of(arguments[1]), "*.dcm")) {
      for (var path : paths) {
        var copy = Path.of(arguments[2]).resolve(path.getFileName());
        switch (arguments[0]) {
          case "copy" -> Files.copy(path, copy);
          case "read" -> Files.write(copy, Files.readAllBytes(path));
          default -> {
            try (var from = FileChannel.open(path); var to = new FileOutputStream(copy.toFile()).getChannel()) {
              for (long done = 0, n; (n = from.transferTo(done, from.size() - done, to)) > 0; done += n);
            }
          }
        }
      }
    }
  }
}
"""


def label(tool: Tool) -> str:
    """What the study for this tool is called."""
    return re.sub(r"\W+", "", f"x{tool.name.title()}") + f"z{TOOLS.index(tool)}"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled Java, where there is a compiler."""
    here = tmp_path_factory.mktemp("programs")
    if shutil.which("javac"):
        (here / "Copy.java").write_text(JAVA)
        subprocess.run(["javac", "Copy.java"], cwd=here, check=True, timeout=SECONDS)
    return here


@pytest.fixture(scope="module")
def one_study_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study for every tool, so that each finds its files untouched: the next *series* may be fetched ahead of time.

    No size is a multiple of a block; one file is far smaller than its pixels would be.
    """
    data = tmp_path_factory.mktemp("series")
    for number, tool in enumerate(TOOLS, 1):
        study, series = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
        for instance, name in enumerate(("CT_small.dcm", "JPEG2000.dcm", "MR_small.dcm"), 1):
            dataset = pydicom.dcmread(SHIPPED / name)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
            dataset.StudyDate, dataset.PatientName, dataset.StudyDescription = "20240101", "Size", label(tool)
            dataset.SeriesNumber, dataset.Modality = 1, "CT"
            dataset.InstanceNumber = instance
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
            dataset.ImageComments = "-" * (2 * number)
            dataset.save_as(data / f"{number}-{instance}.dcm")
    return data


@pytest.fixture(scope="module", params=["bound", "exact"])
def sized(
    request: pytest.FixtureRequest, one_study_each: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The studies on a cold mount, in each mode."""
    with DemoServer("--data", str(one_study_each)) as server:
        token = server.token("user")
        with Mount(server.url, token, tmp_path_factory.mktemp(request.param), f"--sizes={request.param}") as mounted:
            yield mounted.path / "studies"


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_no_size_misleads_a_tool(
    tool: Tool, sized: Path, one_study_each: Path, programs: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """S10, S11, S13: in `exact` nothing differs; in `bound` nothing differs in silence, and nothing is ever lost."""
    if tool.command.startswith("java") and not shutil.which("javac"):
        pytest.skip("no JDK on this machine")
    series = only(sized.glob(f"*_{label(tool)}_*/*"))
    plain, expected_out, out = (tmp_path / name for name in ("plain", "expected", "out"))
    for folder in (plain, expected_out, out):
        folder.mkdir()
    number = TOOLS.index(tool) + 1
    got = run(tool.command, series, OUT=out, PLAIN=plain_series(one_study_each, number, series, plain), HERE=programs)
    expected = run(tool.command, plain, OUT=expected_out, PLAIN=plain, HERE=programs)
    assert (expected.status, expected.err) == (0, b""), expected
    made, wanted = contents(out), contents(expected_out)
    right = got == expected and made == wanted
    assert len(wanted) == (3 if tool.makes else 0)

    mode = request.node.callspec.params["sized"]
    expectation = Bound.RIGHT if mode == "exact" else tool.bound
    match expectation:
        case Bound.RIGHT:
            assert right, (got, {name: len(data) for name, data in made.items()})
        case Bound.LOUD:
            assert got.status != 0 or got.err, got
        case Bound.PADDED:
            assert (got.status, got.err) == (0, b"")
            assert made.keys() == wanted.keys()
            assert not right, "it reads sizes after opening now: say so in the table"
            for name, data in made.items():
                assert data.startswith(wanted[name])
                assert not data[len(wanted[name]) :].strip(b"\0")
        case Bound.ESTIMATE:
            shown, true = [sorted(map(int, outcome.out.split())) for outcome in (got, expected)]
            assert got.status == 0
            assert all(estimate > size for estimate, size in zip(shown, true, strict=True))


def plain_series(data: Path, number: int, series: Path, plain: Path) -> Path:
    """Fill a plain folder with the files of one series under their names in the mount, which opens none of them."""
    names = sorted(path.name for path in series.iterdir())
    for instance, name in enumerate(names, 1):
        assert name.startswith(f"{instance:05}_")
        shutil.copyfile(data / f"{number}-{instance}.dcm", plain / name)
    return plain


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files(folder)}
