"""What can be a mountpoint, what is one, and whether FUSE works here: asked of the real kernel.

What needs another mount table runs in a mount namespace of its own, which takes root or user namespaces.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kheopsfs.errors import MountpointError
from kheopsfs.mount.environment import check_mountpoint, fuse_problem, fuse_version, mounted

UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def can_unshare() -> bool:
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


needs_namespace = pytest.mark.skipif(not can_unshare(), reason="no mount namespaces for this user")


def in_namespace(setup: str, python: str) -> str:
    """What some Python prints after some shell, in a mount namespace that vanishes afterwards."""
    script = f'set -e; {setup}; exec "$0" -c "$1"'
    return subprocess.run(
        [*UNSHARE, "sh", "-c", script, sys.executable, python], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    assert check_mountpoint(tmp_path / "link") == (tmp_path / "real").resolve()


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnt").mkdir()
    assert check_mountpoint(Path("mnt")) == (tmp_path / "mnt").resolve()


def test_a_missing_directory_is_not(tmp_path: Path) -> None:
    with pytest.raises(MountpointError, match="does not exist"):
        check_mountpoint(tmp_path / "missing")


def test_a_dangling_link_is_not(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(MountpointError, match="does not exist"):
        check_mountpoint(tmp_path / "link")


def test_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountpointError, match="not a directory"):
        check_mountpoint(tmp_path / "file")


def test_a_directory_with_something_in_it_is_not(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    with pytest.raises(MountpointError, match="not empty"):
        check_mountpoint(tmp_path)


def test_a_mountpoint_is_not() -> None:
    with pytest.raises(MountpointError, match=r"mountpoint already \(proc\)"):
        check_mountpoint(Path("/proc"))


def test_what_is_mounted() -> None:
    entry = mounted(Path("/proc"))
    assert entry is not None
    assert entry.type == "proc"
    assert not entry.is_ours
    assert mounted(Path("/proc/self")) is None
    assert mounted(Path("/proc/../proc")) == entry
    assert mounted(Path("/")) is not None


@needs_namespace
def test_names_with_blanks_and_backslashes(tmp_path: Path) -> None:
    name = "a b\\040\tc\nü"
    (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / name)
    printed = in_namespace(
        f"cd '{tmp_path}'; mount -t tmpfs 'some source' a*",
        "from pathlib import Path\n"
        "from kheopsfs.mount.environment import mounted\n"
        f"for path in (Path({str(tmp_path / name)!r}), Path('link')):\n"
        "    entry = mounted(path)\n"
        "    print(entry.type, entry.source, entry.mountpoint.name == path.resolve().name)",
    )
    assert printed.splitlines() == ["tmpfs some source True"] * 2
    assert mounted(tmp_path / name) is None


PROBLEM = "from kheopsfs.mount.environment import fuse_problem; print(fuse_problem())"


def test_fuse_works_here() -> None:
    assert fuse_problem() is None
    assert fuse_version().startswith("3.")


@needs_namespace
@pytest.mark.parametrize(
    ("setup", "complaint"),
    [
        ("mount --bind /dev/null /dev/fuse", "/dev/fuse is not the FUSE device"),
        ("mount -t tmpfs none /dev", "/dev/fuse is missing"),
        ("PATH=/nowhere", "fusermount3 is missing"),
    ],
)
def test_what_is_missing_for_fuse(setup: str, complaint: str) -> None:
    printed = in_namespace(setup, PROBLEM)
    assert printed.startswith(complaint)
    assert printed.endswith((".", "SYS_ADMIN"))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("capsh") is None, reason="takes root and capsh")
def test_root_without_the_right_to_mount() -> None:
    printed = subprocess.run(
        ["capsh", "--drop=cap_sys_admin", "--", "-c", f'"{sys.executable}" -c "{PROBLEM}"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "CAP_SYS_ADMIN" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
@pytest.mark.parametrize(("mode", "problem"), [(0o600, "may not be opened by you"), (0o666, "None")])
def test_a_device_that_only_root_may_open(mode: int, problem: str) -> None:
    # What is imported later may not be readable to nobody.
    become_nobody = "import os, pyfuse3; os.setgid(65534); os.setuid(65534)\n"
    printed = in_namespace(
        f"mount -t tmpfs -o dev none /mnt && mknod -m {mode:o} /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse",
        PROBLEM.replace("; ", "\n" + become_nobody, 1),
    )
    assert problem in printed
