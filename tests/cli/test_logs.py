"""The log of a mount: whatever is put into a line, a token does not come out."""

import logging
import stat
import sys
from pathlib import Path

import pytest

from kheopsfs.kheops.credentials import Credentials, Token
from kheopsfs.mount import logs

FIRST, SECOND = "a" * 22, "b" * 22


@pytest.fixture
def credentials() -> Credentials:
    return Credentials(Token(FIRST))


@pytest.fixture
def formatter(credentials: Credentials) -> logs.RedactingFormatter:
    return logs.RedactingFormatter(credentials)


def line(formatter: logs.RedactingFormatter, message: str, *args: object, trace: bool = False) -> str:
    info = sys.exc_info() if trace else None
    return formatter.format(logging.LogRecord("test", logging.INFO, __file__, 1, message, args, info))


def test_a_token_in_message_or_arguments(formatter: logs.RedactingFormatter) -> None:
    for said in (line(formatter, f"GET /api/link/{FIRST}/studies"), line(formatter, "GET %s %r", FIRST, {FIRST: 1})):
        assert FIRST not in said
        assert logs.REDACTED in said
    assert "INFO test: nothing special" in line(formatter, "nothing special")


def test_a_token_in_a_traceback(formatter: logs.RedactingFormatter) -> None:
    try:
        int(FIRST)
    except ValueError:
        said = line(formatter, "it failed", trace=True)
    assert "Traceback" in said
    assert FIRST not in said


def test_the_token_that_was_and_the_one_that_is(formatter: logs.RedactingFormatter, credentials: Credentials) -> None:
    line(formatter, "in use")
    credentials.token = Token(SECOND)
    said = line(formatter, "%s then %s", FIRST, SECOND)
    assert FIRST not in said
    assert SECOND not in said


@pytest.mark.parametrize(
    "hostile", ["a\n2026-01-01 CRITICAL forged: line", "\x1b[2J", "\r", "\u202etxt", "\x9b31m", "\udc80"]
)
def test_a_message_is_one_line_that_steers_nothing(formatter: logs.RedactingFormatter, hostile: str) -> None:
    said = line(formatter, "the server says %s", hostile)
    assert said.isprintable()
    try:
        {}[hostile]
    except KeyError:
        said = line(formatter, "it failed", trace=True)
    assert all(each.isprintable() for each in said.split("\n"))


def test_rotation_keeps_few_files_and_all_of_them_private(
    tmp_path: Path, formatter: logs.RedactingFormatter, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mount.log"
    file.touch(0o644)
    monkeypatch.setattr(logs, "LOG_FILE_SIZE", 1000)
    try:
        logs.set_up("info", file, formatter)
        for number in range(100):
            logging.getLogger("test").info("line %d %s", number, FIRST)
        logging.getLogger("httpx").info("GET %s", FIRST)
    finally:
        logging.basicConfig(force=True, handlers=[])
        logging.captureWarnings(False)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 1 + logs.LOG_FILES_PUT_ASIDE
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert all(path.stat().st_size <= 1000 for path in files)
    assert "line 99 [token]" in file.read_text()
    assert "GET" not in file.read_text()


def test_each_mountpoint_has_a_log_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first, second = logs.log_file(Path("/mnt/a")), logs.log_file(Path("/mnt/b"))
    assert first != second
    assert first.parent == tmp_path / "kheopsfs/log"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
