"""The Accept header, as far as retrieval needs it (RFC 9110 12.5.1; PS3.18 8.7.5)."""

import re
from dataclasses import dataclass

_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*("[^"]*"|[^;,\s]*)')
_RANGE = re.compile(r'\s*([\w*+.-]+/[\w*+.-]+)((?:\s*;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^;,]*))*)\s*(?:,|$)')


@dataclass(frozen=True)
class MediaRange:
    """One of the types that a client takes, with its parameters in lower case names and without quotes."""

    media_type: str
    parameters: dict[str, str]

    @property
    def is_wildcard(self) -> bool:
        """Anything goes."""
        return self.media_type in ("*/*", "multipart/*")

    @property
    def is_multipart(self) -> bool:
        """A multipart body."""
        return self.media_type == "multipart/related"

    @property
    def type(self) -> str:
        """The type of the parts; DICOM if nothing is said."""
        return self.parameters.get("type", "application/dicom")


def parse(header: str | None) -> list[MediaRange]:
    """The ranges in the order given; none for a missing header."""
    return [
        MediaRange(match[1].lower(), {name.lower(): value.strip('"') for name, value in _PARAMETER.findall(match[2])})
        for match in _RANGE.finditer(header or "")
    ]
