"""Where the server is and who we are there: from what the user typed to an address, settings and a token.

The token comes from the first of these that has one: `--token-file`, the URL itself, the variable `KHEOPS_TOKEN`, the
token file that `KHEOPSFS_TOKEN_FILE` or the profile names, a hidden prompt. What was typed for this one command wins
over what was arranged for all. No token is ever printed, put into a message, or accepted as the value of a flag.
"""

import getpass
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kheopsfs.cli.console import warn
from kheopsfs.config import Profile, Settings, SettingsError, config_file, load_profiles, settle
from kheopsfs.errors import BadURLError, TokenRefusedError
from kheopsfs.kheops.address import Address, parse_address
from kheopsfs.kheops.credentials import Token, read_token_file
from kheopsfs.mount.launch import TOKEN_VARIABLE

STANDARD_INPUT = "-"

_BARE_WORD = re.compile(r"[^/.:]+")
"""What can be the name of a profile. A host without a domain is written with its scheme: https://kheops"""

LONGEST_INPUT = 4096
"""Characters read from standard input: far more than any token has, far less than a file piped in by mistake."""


@dataclass(frozen=True)
class Access:
    """A server, how to behave towards it, and a token for it."""

    address: Address
    settings: Settings
    token: Token


def gain_access(
    target: str, mountpoint: Path, flags: Mapping[str, str | None], environment: Mapping[str, str] = os.environ
) -> Access:
    """What the user typed, made definite. Asks for the token only if nothing else gives one.

    Args:
        target: a URL, or the name of a profile.
        mountpoint: where to mount; plays no part in anything else.
        flags: what the command line said, by the setting's name.
        environment: the process's environment.

    Raises:
        BadURLError: neither a URL nor a profile, or plain http to another machine.
        SettingsError: a setting, or the config file, cannot be understood.
        TokenRefusedError: there is no token, or its file is not private.
    """
    profile = _profile(target) if _BARE_WORD.fullmatch(target) else None
    from_input = flags.get("token_file") == STANDARD_INPUT
    told = {**flags, "token_file": None} if from_input else flags
    settings = settle(mountpoint, told, environment, profile)
    address, embedded = parse_address(profile.url if profile else target, insecure_http=settings.insecure_http)
    if embedded is not None:
        if profile is not None:
            raise SettingsError(f"{profile.place}: the URL holds a token. Put it into a file and name that: token_file")
        warn(
            "The token in this URL is now in your shell's history, and others could see it while this command ran. "
            "Next time, put it into a file (chmod 600) and use --token-file."
        )
    if from_input:
        token, file = _token_from_input(), None
    else:
        token, file = _find_token(flags.get("token_file") is not None, embedded, environment, settings.token_file)
    # Only the file that the token really came from is worth reading again when it changes.
    return Access(address, replace(settings, url=address.api, token_file=file), token)


def _profile(name: str) -> Profile:
    """The profile of that name. A word is not repeated in the message: it could be a token, pasted at the wrong place.

    Raises:
        BadURLError: there is none.
    """
    file = config_file()
    profiles = load_profiles(file)
    if name in profiles:
        return profiles[name]
    known = f"It has: {', '.join(profiles)}." if profiles else "It has none yet."
    raise BadURLError(
        f"This is neither the address of a server, such as https://kheops.example.org, nor a profile in {file}. {known}"
    )


def _find_token(
    file_was_typed: bool, embedded: Token | None, environment: Mapping[str, str], file: Path | None
) -> tuple[Token, Path | None]:
    """The token, and the file it came from, if any."""
    if file is not None and file_was_typed:
        return read_token_file(file), file
    if embedded is not None:
        return embedded, None
    if environment.get(TOKEN_VARIABLE):
        return Token(environment[TOKEN_VARIABLE].strip()), None
    if file is not None:
        return read_token_file(file), file
    return _token_from_prompt(), None


def _token_from_input() -> Token:
    if sys.stdin.isatty():
        return _token_from_prompt()
    text = sys.stdin.read(LONGEST_INPUT).strip()
    if not text:
        raise TokenRefusedError("There is no token on standard input.")
    return Token(text)


def _token_from_prompt() -> Token:
    if not _has_terminal():
        raise TokenRefusedError(
            f"There is no token. Name a file that holds it (--token-file F), or set {TOKEN_VARIABLE}, "
            f"or pipe it in (--token-file {STANDARD_INPUT})."
        )
    text = getpass.getpass("Token (not shown): ").strip()
    if not text:
        raise TokenRefusedError("No token was typed.")
    return Token(text)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
