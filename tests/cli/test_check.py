"""`kheopsfs check`: what it says about each kind of token, and about this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kheopsfs.mount.environment import mounted
from tests.cli.conftest import PATIENCE, Demo, Home
from tests.cli.test_environment import UNSHARE, needs_namespace


def row(text: str, title: str) -> str:
    """What stands beside a title."""
    lines = [line for line in text.splitlines() if line.split(" ")[0] == title]
    assert len(lines) == 1, text
    return lines[0].removeprefix(title).strip()


def test_a_user_token(home: Home, demo: Demo, user_token: str) -> None:
    outcome = home.run("check", demo.url, KHEOPS_TOKEN=user_token)
    assert outcome.status == 0, outcome
    assert row(outcome.out, "server") == f"http://{demo.host}/api"
    assert row(outcome.out, "token").startswith("user token of ")
    assert "albums" in row(outcome.out, "token")
    assert "deleting included" in row(outcome.out, "may")
    assert " days)" in row(outcome.out, "expires")
    assert "version 3." in row(outcome.out, "FUSE")
    assert "not there yet" in row(outcome.out, "cache")
    assert user_token not in outcome.text
    assert not (home.path / ".cache").exists(), "looking makes nothing"


def test_an_album_token(home: Home, demo: Demo) -> None:
    token = next(token for what, token in demo.tokens.items() if what.startswith("album token") and "read" in what)
    outcome = home.run("check", demo.url, KHEOPS_TOKEN=token)
    assert outcome.status == 0, outcome
    assert row(outcome.out, "token").startswith("album token of ")
    assert "look at images" in row(outcome.out, "may")
    assert "deleting" not in outcome.out
    assert row(outcome.out, "expires").startswith("not known")


def test_an_album_token_that_may_not_read(home: Home, demo: Demo) -> None:
    token = next(token for what, token in demo.tokens.items() if "no read" in what)
    outcome = home.run("check", demo.url, KHEOPS_TOKEN=token)
    assert outcome.status == 0, outcome
    assert "NOT look at images" in outcome.out
    assert "add images" in outcome.out


def test_a_token_that_has_expired(home: Home, demo: Demo) -> None:
    outcome = home.run("check", demo.url, KHEOPS_TOKEN=demo.tokens["expired user token"])
    assert outcome.status == 6
    assert "expired" in outcome.err
    assert "works here" in row(outcome.out, "FUSE")


@pytest.mark.parametrize("auth", ["bearer", "basic", "link"])
def test_each_way_to_send_it(home: Home, demo: Demo, user_token: str, auth: str) -> None:
    assert home.run("check", demo.url, "--auth", auth, KHEOPS_TOKEN=user_token).status == 0


def test_a_cache_that_is_there(home: Home, demo: Demo, user_token: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "body").write_bytes(bytes(3 * 1024**2))
    outcome = home.run("check", demo.url, "--cache-dir", cache, KHEOPS_TOKEN=user_token)
    assert row(outcome.out, "cache") == f"{cache} (3 MiB used)"


@pytest.mark.skipif(bool(os.geteuid()), reason="only root may change how far the kernel reads ahead")
def test_advice_on_read_ahead_as_long_as_it_is_needed(
    home: Home, demo: Demo, mountpoint: Path, user_token: str
) -> None:
    """The advice is a command that can be typed as it stands, and it is gone when it was followed."""

    def advice() -> list[str]:
        said = home.run("check", demo.url, KHEOPS_TOKEN=user_token).out
        device = mounted(mountpoint).device  # type: ignore[union-attr]
        return re.findall(f"echo .*/{device}/.*", said)

    assert home.run("mount", demo.url, mountpoint, "--token-file", home.token_file(user_token)).status == 0
    (command,) = advice()
    subprocess.run(["sh", "-c", command], check=True, timeout=PATIENCE)
    assert advice() == []
    assert home.run("umount", mountpoint).status == 0


@needs_namespace
def test_what_fails_does_not_hide_the_rest(home: Home, demo: Demo, user_token: str) -> None:
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", script, "sh", sys.executable, "-m", "kheopsfs", "check", demo.url],
        env={**home.environment, "KHEOPS_TOKEN": user_token},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 8
    assert "user token of" in row(done.stdout, "token")
    assert "/dev/fuse" in done.stderr


def test_of_several_failures_the_first_gives_the_status(home: Home, demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = home.run("check", demo.url, "--cache-dir", tmp_path / "file", KHEOPS_TOKEN="vc8CW0nJgEOiMcBDbLwG5K")
    assert outcome.status == 6
    assert "cache directory" in outcome.err
    assert "works here" in row(outcome.out, "FUSE")
