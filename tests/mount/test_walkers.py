"""Programs that walk through everything: they may list the whole server, but they fetch nothing by that (S12, S25)."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.looking import files, lists, retrievals
from harness.mounting import Mount, NewMount
from harness.server import DemoServer

GIO = "standard::*,thumbnail::*,access::*,owner::*,time::*,preview::*"
"""What a file manager of GNOME asks of each file, the type of its content and its thumbnail among it."""

WALKERS = {
    "ls": "ls -lRa --color=always $MNT",
    "find": "find $MNT -printf '%p %s %y %T@ %u\\n'",
    "find -size": "find $MNT -type f -size +1M -newermt 2000-01-01",
    "du": "du -ab $MNT",
    "tree": "tree -apsugDh --inodes $MNT",
    "gio": f"find $MNT/studies -type d -exec gio list -h -a '{GIO}' {{}} \\;",
    "updatedb": "updatedb -l no -U $ABOVE -o $DB --prunepaths '' && locate -d $DB .dcm",
    "rsync -n": "rsync -an $MNT/ $ABOVE/nowhere/",
    "getfattr": "getfattr -Rdhm - --absolute-names $MNT",
}


@pytest.fixture(scope="module")
def walked(server: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount in which nothing was ever opened."""
    with Mount(server.url, server.token("user", "Grace"), tmp_path_factory.mktemp("walked"), list_ttl="600") as mount:
        yield mount


def walk(mount: Mount, command: str) -> str:
    done = subprocess.run(
        ["sh", "-c", command],
        env={
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "MNT": str(mount.path),
            "ABOVE": str(mount.home),
            "DB": str(mount.home / "locate.db"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("command", WALKERS.values(), ids=WALKERS)
def test_a_walk_lists_each_folder_once_and_fetches_nothing(server: DemoServer, walked: Mount, command: str) -> None:
    """S12, S25: no instance, picture or archive, and each list at most once, however many walk."""
    name = "_CT_" if "studies" in command else ".dcm"
    server.clear_requests()
    assert name in walk(walked, command) or "rsync" in command
    assert retrievals(server) == []
    asked = [f"{entry['path']}?{entry['query']}" for entry in lists(server)]
    assert len(asked) == len(set(asked))
    assert not any((walked.cache / "bodies" / "files").iterdir())


def test_what_updatedb_is_told_to_leave_out_it_does_not_enter(server: DemoServer, new_mount: NewMount) -> None:
    """S25: `fuse.kheopsfs` in PRUNEFS, as the README says: not a single list."""
    mount = new_mount(server)
    server.clear_requests()
    command = WALKERS["updatedb"].replace("updatedb", "updatedb --add-prunefs fuse.kheopsfs").partition(" && ")[0]
    walk(mount, command)
    assert lists(server) == retrievals(server) == []
    assert files(mount.path / "studies")


def test_the_root_asks_indexers_to_stay_away(server: DemoServer, new_mount: NewMount) -> None:
    """S25: `.nomedia`, at the root only; it costs no list, and is not shown by `ls`."""
    mount = new_mount(server)
    server.clear_requests()
    assert b"leave this folder alone" in (mount.path / ".nomedia").read_bytes()
    assert ".nomedia" in os.listdir(mount.path)
    assert not any((mount.path / folder / ".nomedia").exists() for folder in ("studies", "inbox", "albums", "zip"))
    assert server.requests("/api/studies") == server.requests("/api/albums") == []
    assert "nomedia" not in subprocess.run(["ls", mount.path], capture_output=True, text=True, check=True).stdout
    assert list(Path(mount.path).rglob(".nomedia")) == [mount.path / ".nomedia"]
