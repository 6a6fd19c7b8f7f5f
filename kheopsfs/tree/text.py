"""Text from the server made fit for a file name.

Whatever a modality, a registrar or a hostile server wrote, a cleaned text

* is NFC, of characters that Linux, macOS and Windows all take and that a shell leaves alone;
* shows all it holds: no controls, no bidi or zero-width marks, no blanks, no combining mark without its base;
* begins with none of ``. - ~ _`` and ends with none of ``. _ -``, so it is never hidden, an option, ``.`` or ``..``;
* may be empty, and then that part of a name is left out.

Cleaning depends on the text alone: not on the locale, the platform or what else is in the folder.
"""

import re
import unicodedata
from functools import lru_cache

_LONGEST_TEXT = 1024  # code points looked at. Names hold 120 bytes; values of a hostile server may be megabytes.
_CACHED_TEXTS = 16384  # descriptions and names repeat across rows; about 2 MB when full.

_TO_HYPHEN = frozenset("/\\:*?\"<>|'`$&;!")  # separators, wild cards and quoting of a file system or a shell
_BLANK_CONTROLS = frozenset("\t\n\v\f\r\x85")  # white space although their category says control
_BLANK_CATEGORIES = frozenset(("Zs", "Zl", "Zp"))
_DROPPED_CATEGORIES = frozenset(("Cc", "Cf", "Cs"))  # controls; bidi, zero-width and other format marks; surrogates

# Invisible as well, though Unicode files them under letters and marks (its Default_Ignorable_Code_Point property).
_INVISIBLE = frozenset(
    (
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),  # joiners and fillers
        *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10)),  # variation selectors
        *range(0xE0000, 0xE1000),  # tags, more variation selectors
    )
)

_EMPTY = "NULL"  # what some writers store for "no value", even in dates
_HEAD_STRIPPED = "._-~"
_TAIL_STRIPPED = "._-"
_RUN = re.compile(r"[-_]{2,}")

# Names that Windows takes for devices, whatever extension follows; ¹²³ count as digits there.
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9¹²³])(?:\.|\Z)", re.IGNORECASE)


class _Replacements(dict[int, str | None]):
    """Code point → what takes its place, for `str.translate`. Non-ASCII is worked out at each call: it is rare."""

    def __missing__(self, code: int) -> str | None:
        return _replacement(code)


def _replacement(code: int) -> str | None:
    character = chr(code)
    category = unicodedata.category(character)
    if category in _BLANK_CATEGORIES or character in _BLANK_CONTROLS:
        return "_"
    if category in _DROPPED_CATEGORIES or code in _INVISIBLE or _is_noncharacter(code):
        return None
    return "-" if character in _TO_HYPHEN else character


def _is_noncharacter(code: int) -> bool:
    """Code points that are never text (Unicode 23.7); some file systems refuse them."""
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


_REPLACEMENTS = _Replacements((code, _replacement(code)) for code in range(0x80))


def clean(text: str) -> str:
    """The text as part of a name, uncut; empty when nothing is left of it or it is ``NULL``."""
    return _clean(text[:_LONGEST_TEXT])


@lru_cache(maxsize=_CACHED_TEXTS)
def _clean(text: str) -> str:
    if text.isascii():
        text = text.translate(_REPLACEMENTS)
    else:
        # NFC may bring forth forbidden characters (U+037E becomes ";"), dropping may bring a mark to its base.
        text = unicodedata.normalize("NFC", text).translate(_REPLACEMENTS)
        text = unicodedata.normalize("NFC", text)
    text = _RUN.sub(_one_of_a_run, text)
    text = _strip_head(text).rstrip(_TAIL_STRIPPED)
    return "" if text == _EMPTY else text


def _one_of_a_run(run: re.Match[str]) -> str:
    """A hyphen with blanks around it stays a hyphen: "Cardiac - CT" becomes Cardiac-CT."""
    return "-" if "-" in run.group() else "_"


def _strip_head(text: str) -> str:
    start = 0
    while start < len(text) and (text[start] in _HEAD_STRIPPED or _joins_what_precedes(text[start])):
        start += 1
    return text[start:]


def _joins_what_precedes(character: str) -> bool:
    """Combining marks and emoji skin tones: drawn with the character before them."""
    if character.isascii():
        return False
    return unicodedata.category(character).startswith("M") or 0x1F3FB <= ord(character) <= 0x1F3FF


def cut(text: str, room: int) -> str:
    """The beginning of a cleaned text that fits into `room` bytes of UTF-8, itself clean.

    The cut falls between characters, not between a base and its combining marks, unless one base alone carries more
    marks than fit.
    """
    encoded = text.encode()
    if len(encoded) <= room:
        return text
    kept = encoded[:room].decode(errors="ignore")
    end = len(kept)
    while end and _joins_what_precedes(text[end]):
        end -= 1
    return (kept[:end] or kept).rstrip(_TAIL_STRIPPED)


def is_device_name(text: str) -> bool:
    """Whether Windows would open a device instead of a file of this name (also ``CON.`` and ``con.txt``)."""
    return _DEVICE.match(text) is not None


def fold(name: str) -> str:
    """Equal for names that a file system without case or with another normal form would mix up.

    Caseless matching of Unicode (D145) and, because Windows compares upper case, what is equal in upper case (ı and i).
    """
    if name.isascii():
        return name.lower()
    caseless = unicodedata.normalize("NFD", name).casefold().upper().casefold()
    return unicodedata.normalize("NFD", caseless)
