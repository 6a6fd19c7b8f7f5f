"""The folder: ours alone, marked as a cache, and removed on demand without touching anything else."""

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from store_helpers import MIB, in_child, keep, look, read

from kheopsfs.errors import CacheUnusableError
from kheopsfs.store import Contents, Store, contents, purge

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")


def modes(folder):
    return {
        str(path.relative_to(folder.parent)): stat.S_IMODE(path.lstat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_folders_are_0700_and_files_0600_whatever_the_umask(tmp_path, umask):
    folder = tmp_path / "made" / "on" / "the" / "way"

    def work():
        os.umask(umask)
        with Store(folder, MIB) as store:
            keep(store, "k", b"data")
            store.listings.put("l", b"listing")
            store.ledger.record("g", "n", 1)
            store.bodies.incoming().write(b"arriving")
            thread = threading.Thread(target=keep, args=(store, "k", b"data"))
            thread.start()
            thread.join()
            assert os.umask(umask) == umask
            found = modes(tmp_path / "made")
            assert any(name.endswith("-wal") for name in found)
            assert any(name.endswith("-shm") for name in found)
            for name, mode in found.items():
                assert mode == (0o700 if (tmp_path / name).is_dir() else 0o600), (name, oct(mode))

    assert in_child(work) == 0


def test_looser_rights_to_read_are_taken_away(folder):
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with Store(folder, MIB) as store:
        assert read(store, "k") == b"data"
        found = modes(folder)
    assert {mode for name, mode in found.items() if name.endswith((".db", "cache", "bodies", "tmp", "files"))} <= {
        0o700,
        0o600,
    }


def test_an_empty_folder_becomes_a_cache(folder):
    folder.mkdir(0o755)
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
    assert modes(folder)["cache"] == 0o700


def test_the_folder_is_tagged_as_a_cache(folder):
    Store(folder, MIB).close()
    assert (folder / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


def test_a_folder_that_leads_elsewhere_is_followed(folder, tmp_path):
    elsewhere = tmp_path / "big disk"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
    with Store(elsewhere, MIB) as store:
        assert read(store, "k") == b"data"
    purge(folder)
    assert not elsewhere.exists()


def test_two_stores_share_a_folder(folder):
    with Store(folder, MIB) as first, Store(folder, MIB) as second:
        keep(first, "k", b"data")
        assert read(second, "k") == b"data"


def refused(folder, text):
    with pytest.raises(CacheUnusableError) as caught:
        Store(folder, MIB)
    assert text in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_folder_with_other_things_in_it_is_refused(folder):
    folder.mkdir()
    (folder / "thesis.odt").write_text("years of work")
    refused(folder, "not a cache")
    assert [path.name for path in folder.iterdir()] == ["thesis.odt"]


def test_a_cache_that_was_emptied_while_in_use_is_one_again(folder):
    """What goes on using it makes anew what it needs, all but the tag."""
    with Store(folder, MIB) as store:
        keep(store, "before", b"data")
        shutil.rmtree(folder)
        store.listings.put("l", b"listing")
        keep(store, "after", b"data")
    with Store(folder, MIB) as store:
        assert read(store, "after") == b"data"
        assert (folder / "CACHEDIR.TAG").exists()
    (folder / "CACHEDIR.TAG").unlink()
    (folder / "bodies" / "thesis.odt").write_text("years of work")
    refused(folder, "not a cache")


def test_the_cache_of_another_program_is_refused(folder):
    folder.mkdir()
    tag = "Signature: 8a477f597d28d172789f06886806bc55\n# made by another program\n"
    (folder / "CACHEDIR.TAG").write_text(tag)
    refused(folder, "not a cache")
    assert (folder / "CACHEDIR.TAG").read_text() == tag


def test_a_file_in_place_of_the_folder_is_refused(folder):
    folder.write_text("file")
    refused(folder, "in the way")


@pytest.mark.parametrize("name", ["bodies", "tmp", "listings", "ledger", "bodies/files"])
def test_a_link_in_place_of_a_folder_inside_is_refused(folder, tmp_path, name):
    Store(folder, MIB).close()
    elsewhere = tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    refused(folder, "in the way")
    purge(folder)
    assert sorted(elsewhere.rglob("*")) == before


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
def test_a_folder_that_others_can_write_is_refused(folder, mode):
    Store(folder, MIB).close()
    folder.chmod(mode)
    refused(folder, "other users can write")
    folder.chmod(0o700)
    (folder / "bodies").chmod(mode)
    refused(folder, "other users can write")


def test_a_folder_whose_name_holds_a_variable_is_refused(tmp_path):
    refused(tmp_path / "$HOME", "variable")
    with Store(tmp_path / "$NO_SUCH_VARIABLE ~ %", MIB) as store:
        keep(store, "k", b"data")


@root_only
def test_a_folder_of_another_user_is_refused(folder):
    Store(folder, MIB).close()
    os.chown(folder, 65_534, 65_534)
    refused(folder, "another user")
    os.chown(folder, 0, 0)
    os.chown(folder / "ledger", 65_534, 65_534)
    refused(folder, "another user")


@root_only
def test_a_place_where_one_may_not_write_is_refused():
    with tempfile.TemporaryDirectory(prefix="kheopsfs-test-") as place:
        Path(place).chmod(0o755)

        def as_nobody():
            os.setgid(65_534)
            os.setuid(65_534)
            refused(Path(place, "cache"), "Permission denied")

        assert in_child(as_nobody) == 0


def test_a_read_only_file_system_is_refused(small_disk):
    folder = small_disk / "cache"
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused(folder, "Read-only file system")


def test_a_full_disk_is_refused_at_the_start(small_disk):
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(b"x" * 4096)
    refused(small_disk / "cache", "no room left")


def test_purge_removes_all_that_the_store_made(folder):
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
        store.listings.put("l", b"listing")
        store.ledger.record("g", "n", 1)
    (folder / "bodies" / "cache.db.damaged").write_bytes(b"")
    (folder / "tmp" / f"{'0' * 32}-{'0' * 16}").mkdir()
    (folder / "tmp" / f"{'0' * 32}-{'0' * 16}" / ("a" * 32)).write_bytes(b"arriving")
    found = contents(folder)
    assert (found.bodies, found.bytes_of_bodies) == (2, len(b"data") + len(b"arriving"))
    assert found.other_bytes > 0
    assert purge(folder) == found
    assert not folder.exists()
    assert purge(folder) == contents(folder) == Contents()
    with Store(folder, MIB) as store:
        assert store.bodies.open("k") is None
        assert store.ledger.size("g", "n") is None


def test_purge_leaves_what_the_store_did_not_make(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ("a" * 32)).write_text("outside")
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
    (folder / "bodies" / "note.txt").write_text("note")
    (folder / "bodies" / "link").symlink_to(outside)
    purge(folder)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert left == {"CACHEDIR.TAG", "bodies", "bodies/note.txt", "bodies/link"}
    assert (outside / ("a" * 32)).read_text() == "outside"


def test_purge_refuses_what_is_no_cache(folder):
    folder.mkdir()
    (folder / ("a" * 32)).write_text("file")
    for look_or_purge in (contents, purge):
        with pytest.raises(CacheUnusableError, match="not a cache"):
            look_or_purge(folder)
    assert [path.name for path in folder.iterdir()] == ["a" * 32]


def test_purge_refuses_a_cache_in_use(folder):
    with Store(folder, MIB) as store:
        keep(store, "k", b"data")
        with pytest.raises(CacheUnusableError, match="in use"):
            purge(folder)
        assert read(store, "k") == b"data"
        assert len(look(folder).files) == 1
