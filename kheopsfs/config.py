"""Settings: what one mount is to be, and where each part of that was said.

A setting is said in one of four places; the first that says it wins: a flag of the command, the environment
(`KHEOPSFS_CACHE_DIR`, …), the profile in the config file, the default. All four speak *text*, so a setting has exactly
one parser, and a text that does not parse is reported with the place that said it.

The config file (TOML, `~/.config/kheopsfs/config.toml`) holds profiles, and a profile holds an address and settings:

    [profiles.hospital]
    url = "https://kheops.example.org"
    token_file = "~/.config/kheopsfs/hospital.token"
    cache_size = "50G"

Neither the file nor `Settings` ever holds a token: a token lives in a file of its own, or is handed over at the start.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import platformdirs

from kheopsfs.errors import KheopsfsError
from kheopsfs.texts import (
    one_of,
    parse_cache_size,
    parse_deadline,
    parse_fuse_options,
    parse_path,
    parse_seconds,
    parse_switch,
)

AuthName = Literal["bearer", "basic", "link"]
NamesStyle = Literal["readable", "id", "uid"]
SizesMode = Literal["bound", "exact"]
LogLevel = Literal["debug", "info", "warning", "error"]

ENVIRONMENT_PREFIX = "KHEOPSFS_"


class SettingsError(KheopsfsError):
    """A setting says something that cannot be meant; same exit status as any other misuse of a command."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Settings:
    """What one mount is to be. Paths are absolute: the process that serves the mount lives in ``/``.

    Attributes:
        url: the server's API address, without a token (as `Address.api` gives it); empty until that is known.
        mountpoint: the directory to mount on.
        token_file: where the token is read from again when it changes; None if it came another way.
        auth: how the token is presented.
        cache_dir: the disk cache's directory.
        cache_size: bytes of bodies that the cache may keep.
        list_ttl: seconds for which a listing counts as fresh.
        names: what names of studies and series are made of.
        sizes: whether a size may be an upper bound until the file is opened, or is fetched for when it is asked for.
        log_level: the least severity that is logged.
        fuse_options: the options of `-o`; the value is None for one that stands alone.
        idle_timeout: seconds without a byte from the server after which a request has failed.
        insecure_http: whether plain http to another machine is accepted.
        offline: whether the server is never contacted and only what is cached is shown.
    """

    url: str
    mountpoint: Path
    token_file: Path | None
    auth: AuthName
    cache_dir: Path
    cache_size: int
    list_ttl: float
    names: NamesStyle
    sizes: SizesMode
    log_level: LogLevel
    fuse_options: dict[str, str | None]
    idle_timeout: float
    insecure_http: bool
    offline: bool

    def as_json(self) -> dict[str, Any]:
        """The settings as values that JSON knows."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `as_json`."""
        paths = {name: Path(values[name]) for name in ("mountpoint", "token_file", "cache_dir") if values[name]}
        return cls(**{**values, **paths})


@dataclass(frozen=True)
class Profile:
    """One `[profiles.NAME]` of the config file: an address, and settings as text."""

    name: str
    file: Path
    url: str
    settings: dict[str, str]

    @property
    def place(self) -> str:
        """What to call it in a message."""
        return f"[profiles.{self.name}] of {self.file}"


@dataclass(frozen=True)
class _Setting:
    """How one setting is read, and what it is when nobody says anything."""

    parse: Callable[[str], object]
    default: str
    flag: str = ""


_SETTINGS = {
    "token_file": _Setting(lambda text: parse_path(text) if text else None, ""),
    "auth": _Setting(one_of(get_args(AuthName)), "bearer"),
    "cache_dir": _Setting(parse_path, platformdirs.user_cache_dir("kheopsfs")),
    "cache_size": _Setting(parse_cache_size, "10G"),
    "list_ttl": _Setting(parse_seconds, "60"),
    "names": _Setting(one_of(get_args(NamesStyle)), "readable"),
    "sizes": _Setting(one_of(get_args(SizesMode)), "bound"),
    "log_level": _Setting(one_of(get_args(LogLevel)), "info"),
    "fuse_options": _Setting(parse_fuse_options, "", flag="-o"),
    "idle_timeout": _Setting(parse_deadline, "30"),
    "insecure_http": _Setting(parse_switch, "false"),
    "offline": _Setting(parse_switch, "false"),
}


def config_file() -> Path:
    """Where the profiles are."""
    return platformdirs.user_config_path("kheopsfs") / "config.toml"


def settle(
    mountpoint: Path,
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    profile: Profile | None = None,
) -> Settings:
    """The settings of one mount, all but `url`: flag, else environment, else profile, else default.

    Args:
        mountpoint: the directory to mount on.
        flags: what the command line said, by the setting's name; None where it said nothing.
        environment: the process's environment; an empty variable says nothing.
        profile: the profile that the command line named, if any.

    Raises:
        SettingsError: a text does not parse; the message names the place that said it.
    """
    values = {}
    for name, setting in _SETTINGS.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        if (flag := flags.get(name)) is not None:
            origin, text = setting.flag or f"--{name.replace('_', '-')}", flag
        elif environment.get(variable):
            origin, text = variable, environment[variable]
        elif profile is not None and name in profile.settings:
            origin, text = f"{name} in {profile.place}", profile.settings[name]
        else:
            origin, text = "the default", setting.default
        try:
            values[name] = setting.parse(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}.") from None
    return Settings(url="", mountpoint=mountpoint.absolute(), **values)  # type: ignore[arg-type]


def load_profiles(file: Path) -> dict[str, Profile]:
    """Every profile of a config file; none if there is no such file.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or says something that is no setting; also if it holds a
            token, which belongs into a file that only its owner can read.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{file} cannot be read: {error}.") from None
    for key in document:
        if key != "profiles":
            raise SettingsError(f"{file}: {key!r} means nothing here; the file holds [profiles.NAME] tables only.")
    profiles = document.get("profiles", {})
    if not isinstance(profiles, dict):
        raise SettingsError(f"{file}: 'profiles' must be tables: [profiles.NAME].")
    return {name: _profile(name, table, file) for name, table in profiles.items()}


def _profile(name: str, table: object, file: Path) -> Profile:
    place = f"[profiles.{name}] of {file}"
    if not isinstance(table, dict):
        raise SettingsError(f"{place}: a profile is a table.")
    if "token" in table:
        raise SettingsError(
            f"{place} holds a token. Put the token alone into a file that only you can read (chmod 600), "
            "and name that file here: token_file = …"
        )
    url = table.get("url")
    if not isinstance(url, str) or not url:
        raise SettingsError(f"{place} needs the server's address: url = …")
    settings = {}
    for key, value in table.items():
        if key == "url":
            continue
        if key not in _SETTINGS:
            raise SettingsError(f"{place}: {key!r} is no setting; known are url, {', '.join(_SETTINGS)}.")
        settings[key] = _as_text(value, f"{place}: {key}")
        if key in ("token_file", "cache_dir") and settings[key] and not settings[key].startswith("~"):
            settings[key] = str(file.parent / settings[key])
    return Profile(name, file, url, settings)


def _as_text(value: object, place: str) -> str:
    """A TOML value as the text that the same setting has on the command line."""
    match value:
        case bool():
            return str(value).lower()
        case int() if abs(value) >= 1 << 64:
            raise SettingsError(f"{place} is no number that anything could be set to.")
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(item, str) for item in value):
            return ",".join(value)
    raise SettingsError(f"{place} must be a text, a number, true or false, or a list of texts.")
