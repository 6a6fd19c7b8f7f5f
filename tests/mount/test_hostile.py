"""Answers of a server that is broken or means harm: a clear error or sane names, and the mount stays whole.

S2, S7, S14: nothing leads out of the tree, nothing is lost beside what is unusable, other folders go on working.
"""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.mounting import Mount
from harness.server import DemoServer

STUDIES = r"^/api/studies\?"
GOOD = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture(scope="module")
def clinic() -> Iterator[DemoServer]:
    with DemoServer() as demo:
        yield demo


@pytest.fixture(scope="module")
def mount(clinic: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """Every look asks the server again."""
    with Mount(clinic.url, clinic.token("user", "Ada"), tmp_path_factory.mktemp("home"), list_ttl="0") as mounted:
        yield mounted


@pytest.fixture(autouse=True)
def the_mount_survives(clinic: DemoServer, mount: Mount) -> Iterator[None]:
    yield
    clinic.clear_faults()
    assert sorted(os.listdir(mount.path)) == [
        ".nomedia", "README.txt", "albums", "by-uid", "inbox", "studies", "thumbnails", "zip",
    ]  # fmt: skip
    picked = next((mount.path / "inbox").glob("*/*/*.dcm"))
    assert picked.read_bytes()[128:132] == b"DICM"
    assert "Traceback" not in mount.log()


def study(uid: object = GOOD, **named: Any) -> dict[str, Any]:
    """One row of a study list; `named` are elements by tag."""
    return {"0020000D": {"vr": "UI", "Value": [uid]}} | {tag.removeprefix("x"): value for tag, value in named.items()}


def answer(clinic: DemoServer, body: Any, path: str = STUDIES) -> None:
    """Have a list answered with this."""
    text = body if isinstance(body, str) else json.dumps(body)
    clinic.fault(kind="body", path=path, text=text, media_type="application/dicom+json")


def listed(mount: Mount) -> list[str]:
    return sorted(os.listdir(mount.path / "studies"))


HOSTILE_TEXTS = [
    "../../etc",
    "..",
    "/",
    "/etc/passwd",
    "\\\\server\\share",
    "😀" * 1024,
    "a" * 100_000,
    "\x00\x01\x02\x1b[31m",
    "\u202egnp.exe",
    "e\u0301" * 500,
    "$(touch pwned)`id`;rm -rf *",
    "CON",
    "-rf",
    "~root",
    "\ud800",
    "NULL",
    "",
    "line\nbreak\ttab",
]


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_hostile_texts_become_one_sane_name(clinic: DemoServer, mount: Mount, text: str) -> None:
    """S2."""
    row = study(
        x00100010={"vr": "PN", "Value": [{"Alphabetic": text}]},
        x00081030={"vr": "LO", "Value": [text]},
        x00100020={"vr": "LO", "Value": [text]},
        x00080020={"vr": "DA", "Value": [text]},
    )
    answer(clinic, [row])
    (name,) = listed(mount)
    assert len(name.encode()) <= 120
    assert not name.startswith((".", "-", "~"))
    assert not set(name) & set("/\\:*?\"<>|'`$&;!\n\t\x00\x1b")
    assert (mount.path / "studies" / name).is_dir()
    assert str((mount.path / "by-uid" / GOOD).readlink()) == f"../studies/{name}"


@pytest.mark.parametrize(
    "uid", ["..", ".", "", "1/2", "../../etc/passwd", "1" * 10_000, "abc", None, True, {"a": 1}, [], "１.２"]
)
def test_unusable_uids_are_left_out_and_nothing_else(clinic: DemoServer, mount: Mount, uid: object) -> None:
    answer(clinic, [study(uid), study()])
    assert len(listed(mount)) == 1


NO_LISTS = [
    "{}",
    "null",
    '"studies"',
    "[",
    '[{"0020000D": {"vr": "UI", "Value": ["1.2"]}}',
    "<html><body>Sign in</body></html>",
    "[" * 5000,
    "1e999",
]


@pytest.mark.parametrize("text", NO_LISTS, ids=range(len(NO_LISTS)))
def test_what_is_no_list_is_an_error_and_hurts_nothing_else(clinic: DemoServer, tmp_path: Path, text: str) -> None:
    """S14: EIO, never an empty folder; S17: over as soon as the server has recovered."""
    with Mount(clinic.url, clinic.token("user", "Ada"), tmp_path, list_ttl="0") as fresh:
        answer(clinic, text)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            listed(fresh)
        assert os.listdir(fresh.path / "albums"), "other lists are not touched"
        clinic.clear_faults()
        assert len(listed(fresh)) > 3


def test_rows_that_are_no_rows_are_left_out(clinic: DemoServer, mount: Mount) -> None:
    answer(clinic, [None, 1, True, [], {}, "text", study()])
    assert len(listed(mount)) == 1


@pytest.mark.parametrize(
    "element",
    [
        None,
        5,
        "text",
        [],
        {},
        {"vr": "PN"},
        {"vr": "PN", "Value": None},
        {"vr": "PN", "Value": "Doe^Jane"},
        {"vr": "PN", "Value": [None]},
        {"vr": "PN", "Value": ["Doe^Jane"]},
        {"vr": "PN", "Value": [{"Alphabetic": None}]},
        {"vr": "PN", "Value": [{"Ideographic": {"a": 1}}]},
        {"vr": 7, "Value": [[[[]]]]},
        {"vr": "PN", "Value": [1e308, True, {"Phonetic": "x"}]},
    ],
    ids=str,
)
def test_elements_of_the_wrong_kind_leave_the_study_listed(clinic: DemoServer, mount: Mount, element: object) -> None:
    answer(
        clinic, [study(x00100010=element, x00080020=element, x00081030=element, x00201208=element, nonsense=element)]
    )
    (name,) = listed(mount)
    path = mount.path / "studies" / name
    for attribute in os.listxattr(path):
        os.getxattr(path, attribute)
    path.stat()


def test_a_study_that_is_listed_twice_is_there_once(clinic: DemoServer, mount: Mount) -> None:
    answer(clinic, [study(), study(), study()])
    assert len(listed(mount)) == 1


def test_absurd_numbers_make_no_absurd_sizes(clinic: DemoServer, tmp_path: Path) -> None:
    """S10: a bound is never zero and never absurd."""
    with Mount(clinic.url, clinic.token("user", "Ada"), tmp_path) as fresh:
        series = next(path for path in fresh.path.glob("studies/*/*_CT_*") if path.is_dir())
        values: list[object] = ["9" * 400, -1, "1e999", "abc", 1e300, None]
        rows = [
            {
                "00080018": {"vr": "UI", "Value": [f"{GOOD}.{number}"]},
                "00280010": {"vr": "US", "Value": [value]},
                "00280011": {"vr": "US", "Value": [value]},
                "00280008": {"vr": "IS", "Value": [value]},
                "77771053": {"vr": "UL", "Value": [value]},
                "00200013": {"vr": "IS", "Value": [value]},
            }
            for number, value in enumerate(values)
        ]
        answer(clinic, rows, r"/instances(\?|$)")
        answer(clinic, rows, r"/metadata(\?|$)")
        listed_files = list(series.iterdir())
        clinic.clear_faults()
        assert len(listed_files) == len(values)
        for file in listed_files:
            assert 0 < file.stat().st_size <= 64 * 2**30
            assert file.stat().st_blocks > 0


def test_nothing_leads_out_of_the_tree(clinic: DemoServer, mount: Mount) -> None:
    answer(clinic, [study(f"{GOOD}.{number}", x00100010={"vr": "PN", "Value": [{"Alphabetic": text}]})
                    for number, text in enumerate(HOSTILE_TEXTS)])  # fmt: skip
    found = subprocess.run(["find", ".", "-maxdepth", "2"], cwd=mount.path, capture_output=True, check=False)
    assert found.returncode == 0
    assert len(listed(mount)) == len(HOSTILE_TEXTS)
    root = mount.path.resolve()
    for path in (mount.path / "by-uid").iterdir():
        assert path.resolve().is_relative_to(root)
