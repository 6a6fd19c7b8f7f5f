"""What the command teaches, and what it says when it is misused."""

import re
from pathlib import Path

import pytest

from kheopsfs.cli.console import EXIT_CODES
from tests.cli.conftest import Home

COMMANDS = ["mount", "umount", "check", "pull", "purge", "demo", "serve-demo"]
SECRET = "vc8CW0nJgEOiMcBDbLwG5K"
HOST = "https://kheops.invalid"


def test_help_names_every_command_and_exit_status(home: Home) -> None:
    outcome = home.run("--help")
    assert outcome.status == 0
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\s", outcome.out, re.MULTILINE)
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"{code}\s+{re.escape(meaning)}", outcome.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(home: Home, command: str) -> None:
    outcome = home.run(command, "--help")
    assert outcome.status == 0
    assert f"kheopsfs {command}" in outcome.out
    assert outcome.err == ""


def test_without_a_command_help_is_shown(home: Home) -> None:
    outcome = home.run()
    assert outcome.status == 2
    assert "kheopsfs mount https://" in outcome.text


def test_version(home: Home) -> None:
    outcome = home.run("--version")
    assert outcome.status == 0
    assert re.fullmatch(r"kheopsfs \d+\.\d+\.\d+\n", outcome.out)


def test_the_readme_has_the_same_exit_statuses() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", readme, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option(home: Home, command: str) -> None:
    outcome = home.run(command, "--colour")
    assert outcome.status == 2
    assert "--colour" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("command", ["mount", "check"])
def test_a_token_is_no_flag(home: Home, command: str, mountpoint: Path) -> None:
    for arguments in ([f"--token={SECRET}"], ["--token", SECRET]):
        outcome = home.run(command, *arguments, HOST, *([mountpoint] if command == "mount" else []))
        assert outcome.status == 2
        assert SECRET not in outcome.text


@pytest.mark.parametrize(
    "arguments",
    [
        ["mount"],
        ["mount", HOST],
        ["mount", HOST, "a", "b"],
        ["umount"],
        ["umount", "a", "b"],
        ["check"],
        ["pull"],
        ["check", HOST, "more"],
        ["demo", "a", "b"],
        ["serve-demo", "a"],
        ["unknown"],
        ["mount", "--auth", "cookie", HOST, "{mnt}"],
        ["mount", "--names", "pretty", HOST, "{mnt}"],
        ["mount", "--log-level", "trace", HOST, "{mnt}"],
        ["mount", "--cache-size", "10Q", HOST, "{mnt}"],
        ["mount", "--cache-size", "1", HOST, "{mnt}"],
        ["mount", "--list-ttl", "soon", HOST, "{mnt}"],
        ["mount", "--list-ttl=-1", HOST, "{mnt}"],
        ["mount", "-o", "max_read=4096", HOST, "{mnt}"],
        ["mount", "-o", "rw", HOST, "{mnt}"],
        ["mount", "-o", "allow_other", "-o", "nonsense", HOST, "{mnt}"],
        ["check", "--auth", "cookie", HOST],
        ["serve-demo", "--port", "70000"],
        ["serve-demo", "--port", "http"],
        ["serve-demo", "--data", "/nonexistent"],
        ["serve-demo", "--data", "/etc/hostname"],
    ],
    ids=" ".join,
)
def test_misuse_is_explained(home: Home, mountpoint: Path, arguments: list[str]) -> None:
    outcome = home.run(*(argument.format(mnt=mountpoint) for argument in arguments))
    assert outcome.status == 2
    assert outcome.err
    assert "Traceback" not in outcome.err


def test_bad_settings_in_the_environment_are_named(home: Home, mountpoint: Path) -> None:
    outcome = home.run("mount", HOST, mountpoint, KHEOPSFS_CACHE_SIZE="much")
    assert outcome.status == 2
    assert "KHEOPSFS_CACHE_SIZE" in outcome.err


@pytest.mark.parametrize(
    ("config", "status", "complaint"),
    [
        ("", 3, "nor a profile in"),
        ("[profiles.other]\nurl = 'https://h'", 3, "It has: other."),
        (f"[profiles.hospital]\nurl = '{HOST}'\ncolour = 'red'", 2, "'colour' is no setting"),
        (f"[profiles.hospital]\nurl = '{HOST}'\ntoken = '{SECRET}'", 2, "token_file = …"),
        (f"[profiles.hospital]\nurl = 'https://token:{SECRET}@kheops.invalid'", 2, "the URL holds a token"),
        ("[profiles.hospital]\nurl = 'ftp://kheops.invalid'", 3, "https"),
        ("[profiles.hospital", 2, "cannot be read"),
    ],
)
@pytest.mark.parametrize("command", ["mount", "check"])
def test_bad_profiles(home: Home, mountpoint: Path, command: str, config: str, status: int, complaint: str) -> None:
    home.write_config(config)
    outcome = home.run(command, "hospital", *([mountpoint] if command == "mount" else []))
    assert outcome.status == status
    assert complaint in outcome.err
    assert SECRET not in outcome.text


BAD_URLS = [
    "ftp://kheops.invalid",
    "https://",
    "https://kheops.invalid:99999",
    "https:/kheops.invalid",
    f"https://kheops.invalid/{SECRET}",
    "https://kheops.invalid/api/link/",
    f"https://{SECRET}@kheops.invalid",
    f"https://token:{SECRET}x@kheops.invalid/api/link/{SECRET}/studies",
    "http://kheops.invalid",
    "https://kheops.invalid/a b",
    SECRET,
    "",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("command", ["mount", "check"])
def test_bad_urls(home: Home, mountpoint: Path, command: str, url: str) -> None:
    outcome = home.run(command, url, *([mountpoint] if command == "mount" else []), KHEOPS_TOKEN=SECRET)
    assert outcome.status == 3
    assert outcome.err.startswith("kheopsfs: ")
    assert "Traceback" not in outcome.err
    assert SECRET not in outcome.text
