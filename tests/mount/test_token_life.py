"""Tokens that change hands and rights that are taken away: what may be seen follows, cached or not (S14, S15).

What a dead token does is in `test_errors`; that the server cannot be asked is in `test_offline`.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness.looking import files, only, until, xattr
from harness.mounting import Mount, NewMount
from harness.patience import errno_of
from harness.server import DemoServer


@pytest.fixture(scope="module")
def hospital() -> Iterator[DemoServer]:
    """A server whose tokens, albums and series change."""
    with DemoServer() as server:
        yield server


def some_file(folder: Path, pattern: str) -> Path:
    return files(only(list(folder.glob(pattern))), "*.dcm")[0]


def put(mount: Mount, token: str) -> None:
    """Replace the token file as careful programs do: whole, and in one step."""
    successor = mount.token_file.with_name("successor")
    successor.touch(mode=0o600)
    successor.write_text(token)
    successor.rename(mount.token_file)


def spoil(file: Path, how: str) -> None:
    file.unlink(missing_ok=True)
    if how != "vanished":
        file.touch(mode=0o600)
    if how == "open to the group":
        file.write_text("aaaaaaaaaaaaaaaaaaaaaa")
        file.chmod(0o640)
    if how == "unreadable":
        file.write_text("aaaaaaaaaaaaaaaaaaaaaa")
        file.chmod(0o000)


# What root cannot be kept from reading is a good token file for root.
SPOILT = ["vanished", "empty", "open to the group", *(["unreadable"] if os.geteuid() else [])]


def test_a_token_file_that_is_spoilt_and_then_replaced(hospital: DemoServer, new_mount: NewMount) -> None:
    """S14, S21: as long as the file cannot be used the old token is, and the log says once why. A new token is used
    before anybody needs it: when the old one is revoked after that, nobody notices."""
    token, successor = hospital.token("user", "Ada"), hospital.token("user", "revoked")
    mount = new_mount(hospital, token=token, list_ttl="1")
    known = some_file(mount.path / "studies", "*Chest_AP*")
    expected = known.read_bytes()
    for count, how in enumerate(SPOILT, 1):
        spoil(mount.token_file, how)
        until(lambda count=count: mount.log().count("The token stays as it was") == count)  # type: ignore[misc]
        assert known.read_bytes() == expected
    hospital.call("POST", "/restore", json={"token": successor})
    hospital.clear_requests()
    put(mount, successor)
    new = token_id(hospital, successor)
    until(lambda: os.listdir(mount.path / "studies") and token_ids(hospital)[-1:] == [new])
    hospital.call("POST", "/revoke", json={"token": token})
    try:
        hospital.clear_requests()
        until(lambda: hospital.requests("/introspect"))
        assert known.read_bytes() == expected
        assert some_file(mount.path / "studies", "*Florence*").read_bytes()
        assert "the token is refused" not in mount.log()
    finally:
        hospital.call("POST", "/restore", json={"token": token})
        hospital.call("POST", "/revoke", json={"token": successor})


def token_ids(server: DemoServer) -> list[str]:
    """The tokens with which lists and bytes were asked for, in order."""
    return [entry["token_id"] for entry in server.requests("/api/") if "/introspect" not in entry["path"]]


def token_id(server: DemoServer, token: str) -> str:
    """What the server calls a token."""
    answer = httpx.post(f"{server.url}/api/token/introspect", data={"token": token}, trust_env=False)
    return str(answer.json()["cap_token"])


def test_nothing_is_asked_for_with_a_token_of_another_account(hospital: DemoServer, new_mount: NewMount) -> None:
    """S14: also in the moment between the change of the token file and the answer of whose it is, so that nothing of
    one account is ever kept as another's."""
    grace, ada = hospital.token("user", "Grace"), hospital.token("user", "Ada")
    mount = new_mount(hospital, token=grace, list_ttl="1")
    study = next((mount.path / "studies").iterdir())
    hospital.clear_requests()
    hospital.fault(kind="delay", path="/introspect", seconds=1.5)
    try:
        put(mount, ada)
        until(lambda: hospital.requests("/introspect"))
        while "another account" not in mount.log():
            errno_of(lambda: os.listdir(study))
            errno_of(lambda: os.listdir(mount.path / "studies"))
    finally:
        hospital.clear_faults()
    assert errno_of(lambda: os.listdir(mount.path / "studies")) == errno.EACCES
    asked = token_ids(hospital)
    assert asked
    assert set(asked) == {token_id(hospital, grace)}
    put(mount, grace)
    until(lambda: errno_of(lambda: os.listdir(mount.path / "studies")) is None)


def test_the_right_to_read_is_taken_away(hospital: DemoServer, new_mount: NewMount) -> None:
    """S14: once the lists were asked for again, what was cached is EACCES as well; nobody calls the token dead."""
    mount = new_mount(hospital, token=hospital.token("album", "Chest/Heart"), list_ttl="1")
    album = only(list((mount.path / "albums").iterdir()))
    known = files(album, "*.dcm")[0]
    expected = known.read_bytes()
    hospital.fault(kind="status", path="/api/studies", code=403)
    try:
        for call in (lambda: os.listdir(album), known.read_bytes, known.stat, lambda: os.listdir(known.parent)):
            until(lambda call=call: errno_of(call) == errno.EACCES)  # type: ignore[misc]
        assert "the token is refused" not in mount.log()
    finally:
        hospital.clear_faults()
    until(lambda: errno_of(known.read_bytes) is None)
    assert known.read_bytes() == expected


def album_of(mount: Mount, name: str) -> tuple[Path, str]:
    folder = only(list((mount.path / "albums").glob(f"{name}*")))
    return folder, folder.name.rpartition("_")[2]


def test_a_series_that_was_taken_out_of_an_album(hospital: DemoServer, new_mount: NewMount) -> None:
    """S1, S5: it goes from the album with all that was cached, in every view, and stays where it still is."""
    mount = new_mount(hospital, token=hospital.token("user", "Ada"), list_ttl="1")
    album, album_id = album_of(mount, "PET")
    known = some_file(album, "*PET-CT*/*_PT_*")
    elsewhere = mount.path / "inbox" / known.relative_to(album)
    picture = mount.path / "thumbnails" / known.parent.relative_to(mount.path)
    assert known.read_bytes() == elsewhere.read_bytes()
    assert picture.exists()
    uids: dict[str, Any] = {
        "study": xattr(known, "dicom.StudyInstanceUID"),
        "series": xattr(known, "dicom.SeriesInstanceUID"),
    }
    hospital.call("POST", "/unlink", json={"source": album_id, **uids})
    try:
        for path in (known.parent, picture):
            until(lambda path=path: not path.exists())  # type: ignore[misc]
        assert errno_of(known.read_bytes) == errno.ENOENT
        assert known.parent.name not in os.listdir(known.parent.parent)
        assert elsewhere.read_bytes()
    finally:
        hospital.call("POST", "/link", json={"source": album_id, **uids})


def test_an_album_that_its_user_has_left(hospital: DemoServer, new_mount: NewMount) -> None:
    """S1, S5, S23: what only the album showed is gone from every list, also for the next mount and an offline one."""
    token = hospital.token("user", "Ada")
    mount = new_mount(hospital, token=token, list_ttl="1")
    album, album_id = album_of(mount, "Chest")
    like = xattr(files(album, "*.dcm")[0], "dicom.SOPInstanceUID")
    new = hospital.call(
        "POST",
        "/instances",
        json={"like": like, "study": "new", "sources": [album_id], "attributes": {"StudyDescription": "only here"}},
    )
    until(lambda: list(album.glob("*only_here*")))
    known = some_file(album, "*only_here*")
    everywhere = mount.path / "studies" / known.relative_to(album)
    link = mount.path / "by-uid" / new["StudyInstanceUID"]
    until(everywhere.exists)
    until(link.exists)
    assert known.read_bytes() == everywhere.read_bytes()
    hospital.call("POST", f"/albums/{album_id}", json={"members": {"somebody else": True}})
    gone = (album, known, everywhere, link)
    for path in gone:
        until(lambda path=path: not path.exists())  # type: ignore[misc]
    assert {errno_of(path.read_bytes) for path in gone[1:]} == {errno.ENOENT}
    assert mount.command("umount", str(mount.path)).returncode == 0
    for offline in ("false", "true"):
        again = new_mount(hospital, home=mount.home, token=token, offline=offline)
        assert not any(path.exists() for path in gone)
        assert again.command("umount", str(again.path)).returncode == 0
