"""Which token is taken, of several; and that asking for one shows nothing of it."""

import os
import pty
import select
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kheopsfs.cli.access import gain_access
from kheopsfs.kheops.address import Address
from tests.cli.conftest import COMMAND, PATIENCE, Demo, Home

# In the order in which they are asked.
PLACES = ["typed file", "URL", "variable", "arranged file"]
TOKENS = {place: f"{number}" * 22 for number, place in enumerate(PLACES)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A token file for each place that is one."""
    folder = tmp_path_factory.mktemp("tokens")
    found = {}
    for place in ("typed file", "arranged file"):
        found[place] = folder / place
        found[place].write_text(TOKENS[place])
        found[place].chmod(0o600)
    return found


@given(st.sets(st.sampled_from(PLACES), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_place_that_has_a_token_gives_it(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], places: set[str]
) -> None:
    home = files["typed file"].parent
    environment = {"KHEOPS_TOKEN": TOKENS["variable"]} if "variable" in places else {}
    if "arranged file" in places:
        environment["KHEOPSFS_TOKEN_FILE"] = str(files["arranged file"])
    url = f"https://kheops.invalid/view/{TOKENS['URL']}" if "URL" in places else "https://kheops.invalid"
    flags = {"token_file": str(files["typed file"]) if "typed file" in places else None}
    access = gain_access(url, home, flags, environment)
    expected = next(place for place in PLACES if place in places)
    assert access.token.reveal() == TOKENS[expected]
    assert access.settings.token_file == files.get(expected), "only a file that gave the token is read again"
    assert access.address == Address("https://kheops.invalid/api")
    assert access.settings.url == access.address.api
    shown = "".join(capsys.readouterr()) + repr(access)
    assert not any(token in shown for token in TOKENS.values())
    assert ("history" in shown) == ("URL" in places)


def converse(home: Home, arguments: list[str], answer: str, environment: dict[str, str]) -> tuple[str, int]:
    """Run the command on a terminal and type an answer to its one question; the terminal's screen, and the status."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [*COMMAND, *arguments], {**home.environment, **environment})
    screen = b""
    typed = False
    while select.select([terminal], [], [], PATIENCE)[0]:
        try:
            screen += os.read(terminal, 4096)
        except OSError:  # how a terminal says that nobody has it open any more
            break
        if b"Token" in screen and not typed:
            os.write(terminal, answer.encode() + b"\n")
            typed = True
    os.close(terminal)
    return screen.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_prompt_does_not_show_what_is_typed(home: Home, demo: Demo, user_token: str) -> None:
    screen, status = converse(home, ["check", demo.url], user_token, {})
    assert status == 0, screen
    assert "Token (not shown): " in screen
    assert "user token of" in screen
    assert user_token not in screen


def test_a_terminal_as_standard_input_is_asked_like_a_person(home: Home, demo: Demo, user_token: str) -> None:
    screen, status = converse(home, ["check", demo.url, "--token-file", "-"], user_token, {})
    assert status == 0, screen
    assert "Token (not shown): " in screen
    assert user_token not in screen


def test_typing_nothing(home: Home, demo: Demo) -> None:
    screen, status = converse(home, ["check", demo.url], "", {})
    assert status == 6
    assert "No token was typed" in screen
