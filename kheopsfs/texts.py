"""What a setting says, read from its text. Flags, the environment and the config file all speak text.

Each function raises ValueError, with a sentence that repeats the text, for one that means nothing.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

SMALLEST_CACHE = 16 * 1024**2
"""Bytes. Every body passes through the cache; below this, hardly any file could be opened."""

_UNIT_BYTES = {
    "": 1,
    **{f"{letter}{end}": 1024**power for power, letter in enumerate("kmgt", 1) for end in ("", "ib")},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]*)", re.ASCII)

FUSE_OPTIONS_WITHOUT_VALUE = frozenset(
    {"allow_other", "allow_root", "auto_unmount", "default_permissions", "ro"}
    | {"nosuid", "nodev", "noexec", "exec", "noatime", "atime", "async", "sync", "dirsync"}
)
FUSE_OPTIONS_WITH_VALUE = frozenset({"fsname"})
"""What can be said with `-o`. Not here on purpose: `rw` (nothing can be written), `max_read` (with it, the kernel and
pyfuse3 disagree about the size of a read and the mount is broken: measured), `subtype` (it tells our mounts from
others)."""


def parse_size(text: str) -> int:
    """Bytes from ``10G``, ``500M``, ``1.5TiB`` (powers of 1024) or ``10GB`` (powers of 1000). Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNIT_BYTES.get(match[2].casefold()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is no size; write a number and a unit, such as 500M or 10G")
    return int(float(match[1]) * unit)


def parse_cache_size(text: str) -> int:
    """Bytes of a cache. Raises ValueError, also for one that could hold hardly any file."""
    size = parse_size(text)
    if size < SMALLEST_CACHE:
        raise ValueError(f"{text!r} is too small; the cache needs at least {SMALLEST_CACHE // 1024**2}M")
    return size


def parse_seconds(text: str) -> float:
    """A time span in seconds, 0 included. Raises ValueError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (0 <= seconds < math.inf):
        raise ValueError(f"{text!r} is no number of seconds")
    return seconds


def parse_deadline(text: str) -> float:
    """A time span in seconds after which something has failed. Raises ValueError."""
    if seconds := parse_seconds(text):
        return seconds
    raise ValueError("a deadline of 0 seconds would fail every request")


def parse_switch(text: str) -> bool:
    """True from ``true``, ``yes`` or ``1``, false from their opposites. Raises ValueError."""
    if (word := text.casefold()) in {"true", "yes", "1", "false", "no", "0"}:
        return word in {"true", "yes", "1"}
    raise ValueError(f"{text!r} is neither true nor false")


def parse_path(text: str) -> Path:
    """An absolute path; ``~`` is a home directory. Raises ValueError."""
    if "\0" in text:
        raise ValueError(f"{text!r} is no path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{text!r} names a user who does not exist") from None


def one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """A function that accepts these words, in any case."""

    def parse(text: str) -> str:
        if text.casefold() not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return text.casefold()

    return parse


def parse_fuse_options(text: str) -> dict[str, str | None]:
    """The options of `-o a,b=c`. Raises ValueError for one that the mount does not know or must not have."""
    options: dict[str, str | None] = {}
    for option in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = option.partition("=")
        known = FUSE_OPTIONS_WITH_VALUE if equals else FUSE_OPTIONS_WITHOUT_VALUE
        if name not in known:
            every = sorted(FUSE_OPTIONS_WITHOUT_VALUE | {f"{name}=…" for name in FUSE_OPTIONS_WITH_VALUE})
            raise ValueError(f"mount option {option!r} is not one of {', '.join(every)}")
        options[name] = value if equals else None
    return options
