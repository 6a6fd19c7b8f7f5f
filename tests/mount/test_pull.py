"""`kheopsfs pull`: everything below a folder is in the cache afterwards, whatever was there before."""

from pathlib import Path

from harness.looking import digests, files, retrievals, xattr
from harness.mounting import NewMount
from harness.server import DemoServer


def test_a_folder_is_pulled_whole_and_read_without_the_server(server: DemoServer, new_mount: NewMount) -> None:
    """S11: sizes are exact afterwards. The bytes are those that a mount without a cache reads."""
    mount, other = new_mount(server), new_mount(server)
    folder = mount.path / "inbox"
    done = mount.command("pull", str(folder))
    assert done.returncode == 0, done.stderr
    pulled = files(folder)
    assert {xattr(file, "kheops.cached") for file in pulled} == {"yes"}
    assert {xattr(file, "kheops.size") for file in pulled} == {"exact"}
    assert f"{len(pulled)}/{len(pulled)} files" in done.stderr
    server.clear_requests()
    read = digests(folder)
    assert retrievals(server) == []
    assert read == digests(other.path / "inbox")


def test_a_second_pull_asks_for_nothing(server: DemoServer, new_mount: NewMount) -> None:
    mount = new_mount(server)
    study = next((mount.path / "inbox").iterdir())
    assert mount.command("pull", "--quiet", str(study)).returncode == 0
    server.clear_requests()
    again = mount.command("pull", "--quiet", str(study))
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert retrievals(server) == []


def test_a_link_is_pulled_as_what_it_leads_to(server: DemoServer, new_mount: NewMount) -> None:
    mount = new_mount(server)
    link = next((mount.path / "by-uid").iterdir())
    assert mount.command("pull", "-q", str(link)).returncode == 0
    assert {xattr(file, "kheops.cached") for file in files(link.resolve())} == {"yes"}


def test_what_fails_is_named_and_the_rest_is_pulled(new_mount: NewMount) -> None:
    with DemoServer() as clinic:
        mount = new_mount(clinic)
        series = next(path for path in (mount.path / "studies").glob("*PET-CT*/*_CT_*") if path.is_dir())
        broken = sorted(series.iterdir())[3]
        uid = xattr(broken, "dicom.SOPInstanceUID")
        clinic.fault(kind="status", path=r"/series/[0-9.]+$", code=500)
        clinic.fault(kind="status", path=rf"/instances/{uid}$", code=500)
        done = mount.command("pull", "-q", str(series))
        assert done.returncode == 1
        assert done.stderr.splitlines() == [f"{broken}: Input/output error"]
        assert {file for file in series.iterdir() if xattr(file, "kheops.cached") == "no"} == {broken}
        clinic.clear_faults()
        assert mount.command("pull", "-q", str(series)).returncode == 0


def test_what_is_not_in_a_mount_is_refused(server: DemoServer, new_mount: NewMount, tmp_path: Path) -> None:
    mount = new_mount(server)
    outside = mount.command("pull", str(tmp_path))
    assert outside.returncode == 7
    assert "not in a mount of kheopsfs" in outside.stderr
    missing = mount.command("pull", "-q", str(mount.path / "nobody"))
    assert (missing.returncode, missing.stderr) == (1, f"{mount.path / 'nobody'}: No such file or directory\n")
    assert mount.command("pull").returncode == 2
