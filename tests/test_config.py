"""Where a setting comes from, and how it is read."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheopsfs.config import ENVIRONMENT_PREFIX, Profile, Settings, SettingsError, load_profiles, settle
from kheopsfs.texts import FUSE_OPTIONS_WITHOUT_VALUE, parse_fuse_options, parse_size

MOUNTPOINT = Path("/mnt/kheops")

# For each setting: three different texts that mean something, and how it looks when read.
TEXTS = {
    "token_file": [("/a/token", Path("/a/token")), ("/b/token", Path("/b/token")), ("/c/token", Path("/c/token"))],
    "auth": [("bearer", "bearer"), ("basic", "basic"), ("LINK", "link")],
    "cache_dir": [("/a", Path("/a")), ("/b", Path("/b")), ("/c", Path("/c"))],
    "cache_size": [("1G", 2**30), ("500M", 500 * 2**20), ("2TB", 2 * 10**12)],
    "list_ttl": [("0", 0.0), ("1.5", 1.5), ("3600", 3600.0)],
    "names": [("readable", "readable"), ("id", "id"), ("uid", "uid")],
    "sizes": [("bound", "bound"), ("exact", "exact"), ("Bound", "bound")],
    "log_level": [("debug", "debug"), ("INFO", "info"), ("error", "error")],
    "fuse_options": [
        ("allow_other", {"allow_other": None}),
        ("fsname=x", {"fsname": "x"}),
        ("nodev,nosuid", {"nodev": None, "nosuid": None}),
    ],
    "idle_timeout": [("1", 1.0), ("2", 2.0), ("0.5", 0.5)],
    "insecure_http": [("true", True), ("no", False), ("1", True)],
    "offline": [("true", True), ("no", False), ("1", True)],
}

DEFAULTS = {"cache_size": 10 * 2**30, "list_ttl": 60.0, "names": "readable", "auth": "bearer", "idle_timeout": 30.0}


def profile(**settings: str) -> Profile:
    return Profile("hospital", Path("/etc/config.toml"), "https://kheops.example.org", settings)


def test_every_setting_has_a_parser_and_a_default() -> None:
    settings = settle(MOUNTPOINT, {}, {})
    assert set(TEXTS) == set(settings.as_json()) - {"url", "mountpoint"}
    for name, value in DEFAULTS.items():
        assert getattr(settings, name) == value
    assert settings.cache_dir.name == "kheopsfs"
    assert settings.token_file is None
    assert settings.fuse_options == {}
    assert settings.insecure_http is False


@given(st.data())
def test_the_first_place_that_says_it_wins(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TEXTS)))
    flag, variable, entry = data.draw(st.permutations(TEXTS[name]))
    said = data.draw(st.sets(st.sampled_from(["flag", "environment", "profile"]), min_size=1))
    settings = settle(
        MOUNTPOINT,
        {name: flag[0] if "flag" in said else None},
        {ENVIRONMENT_PREFIX + name.upper(): variable[0]} if "environment" in said else {},
        profile(**({name: entry[0]} if "profile" in said else {})),
    )
    expected = flag if "flag" in said else variable if "environment" in said else entry
    assert getattr(settings, name) == expected[1]


def test_an_empty_variable_says_nothing() -> None:
    assert settle(MOUNTPOINT, {}, {"KHEOPSFS_CACHE_SIZE": ""}, profile(cache_size="1G")).cache_size == 2**30


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("auth", "cookie"),
        ("cache_dir", "~nobody-of-that-name/x"),
        ("cache_size", "10Q"),
        ("cache_size", "-1G"),
        ("cache_size", ""),
        ("cache_size", "1"),
        ("cache_size", "9" * 400),
        ("list_ttl", "soon"),
        ("list_ttl", "-1"),
        ("list_ttl", "nan"),
        ("list_ttl", "inf"),
        ("names", "pretty"),
        ("sizes", "none"),
        ("log_level", "trace"),
        ("fuse_options", "max_read=4096"),
        ("fuse_options", "rw"),
        ("fuse_options", "allow_other=1"),
        ("fuse_options", "fsname"),
        ("idle_timeout", "0"),
        ("insecure_http", "perhaps"),
    ],
)
def test_what_cannot_be_meant_is_reported_with_its_place(name: str, text: str) -> None:
    flag = "-o" if name == "fuse_options" else f"--{name.replace('_', '-')}"
    with pytest.raises(SettingsError) as of_flag:
        settle(MOUNTPOINT, {name: text}, {})
    assert str(of_flag.value).startswith(f"{flag}: ")
    assert of_flag.value.exit_code == 2
    if text:
        with pytest.raises(SettingsError, match=f"^KHEOPSFS_{name.upper()}: "):
            settle(MOUNTPOINT, {}, {f"KHEOPSFS_{name.upper()}": text})
    with pytest.raises(SettingsError, match=rf"^{name} in \[profiles.hospital\] of /etc/config.toml: "):
        settle(MOUNTPOINT, {}, {}, profile(**{name: text}))


@given(st.integers(1, 10**6), st.sampled_from([("", 0), ("K", 1), ("M", 2), ("G", 3), ("T", 4)]), st.booleans())
def test_sizes(number: int, unit: tuple[str, int], blank: bool) -> None:
    letter, power = unit
    gap = " " if blank else ""
    assert parse_size(f"{number}{gap}{letter}") == number * 1024**power
    assert parse_size(f"{number}{gap}{letter.lower()}") == number * 1024**power
    if letter:
        assert parse_size(f"{number}{gap}{letter}iB") == number * 1024**power
        assert parse_size(f"{number}{gap}{letter}B") == number * 1000**power


@given(st.text(max_size=20))
def test_a_size_is_a_size_or_a_value_error(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert size >= 0
    assert text.strip()[0].isdigit()


@given(st.sets(st.sampled_from(sorted(FUSE_OPTIONS_WITHOUT_VALUE))), st.booleans())
def test_fuse_options_survive_their_own_spelling(names: set[str], spaced: bool) -> None:
    assert parse_fuse_options((", " if spaced else ",").join(names)) == dict.fromkeys(names)


@given(st.data())
def test_settings_survive_json(data: st.DataObject) -> None:
    flags = {name: data.draw(st.sampled_from(texts))[0] for name, texts in TEXTS.items() if data.draw(st.booleans())}
    settings = settle(MOUNTPOINT, flags, {})
    assert Settings.from_json(json.loads(json.dumps(settings.as_json()))) == settings


def test_relative_paths_are_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = settle(Path("mnt"), {"cache_dir": "cache"}, {})
    assert settings.mountpoint == tmp_path / "mnt"
    assert settings.cache_dir == tmp_path / "cache"


def test_a_config_file_gives_profiles(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("""
        [profiles.hospital]
        url = "https://kheops.example.org"
        token_file = "hospital.token"
        cache_dir = "~/cache"
        cache_size = "50G"
        list_ttl = 5
        insecure_http = false
        fuse_options = ["allow_other", "nodev"]

        [profiles."trial 2"]
        url = "https://trial.example.org"
    """)
    profiles = load_profiles(file)
    assert set(profiles) == {"hospital", "trial 2"}
    assert profiles["hospital"].url == "https://kheops.example.org"
    settings = settle(MOUNTPOINT, {}, {}, profiles["hospital"])
    assert settings.token_file == tmp_path / "hospital.token", "a relative path is meant from the file's folder"
    assert settings.cache_dir == Path.home() / "cache"
    assert settings.cache_size == 50 * 2**30
    assert settings.list_ttl == 5
    assert settings.fuse_options == {"allow_other": None, "nodev": None}


def test_no_config_file_means_no_profiles(tmp_path: Path) -> None:
    assert load_profiles(tmp_path / "config.toml") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("profiles = 1", "must be tables"),
        ("[profiles]\nx = 1", "is a table"),
        ("[default]\nnames = 'id'", "'default' means nothing here"),
        ("[profiles.x]\nurl = 'https://h'\nchache_size = '1G'", "'chache_size' is no setting"),
        ("[profiles.x]\nurl = 'https://h'\nmountpoint = '/mnt'", "'mountpoint' is no setting"),
        ("[profiles.x]\nnames = 'id'", "needs the server's address"),
        ("[profiles.x]\nurl = 'https://h'\nnames = {a = 1}", "must be a text"),
        ("[profiles.x]\nurl = 'https://h'\nfuse_options = [1]", "must be a text"),
        ("[profiles.x", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_config_file_that_cannot_be_meant(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=complaint) as error:
        load_profiles(file)
    assert str(file) in str(error.value)


def test_a_config_file_never_holds_a_token(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[profiles.x]\nurl = 'https://h'\ntoken = 'vc8CW0nJgEOiMcBDbLwG5K'")
    with pytest.raises(SettingsError, match="token_file") as error:
        load_profiles(file)
    assert "vc8CW0nJgEOiMcBDbLwG5K" not in str(error.value)
