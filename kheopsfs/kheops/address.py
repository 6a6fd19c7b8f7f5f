"""The address of a server, as people have it at hand, and the token that may be in it.

An `Address` is the root of the API without any secret: ``https://host[:port][/prefix]/api``. People paste what they
find: the front page, a DICOMweb URL with ``token:T@``, a link URL, the share link ``/view/T``, a page of the web
interface. All name the same server. A token found on the way is handed over apart and is never part of the address.

Two rules make this module careful. **A message never repeats what was given**, because a token may be anywhere in it;
it names at most scheme and host. **A token does not travel in clear text**: plain http is for this machine only, unless
the caller insists. Without a scheme https is assumed, also for this machine.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from kheopsfs.errors import BadURLError, TokenRefusedError
from kheopsfs.kheops.credentials import Token

_DEFAULT_PORTS = {"https": 443, "http": 80}

_EXAMPLE = "Write it like https://kheops.example.org"

# Pages of the web interface: what follows the server's own prefix when somebody copies from the browser.
_PAGES = frozenset({"albums", "inbox", "studies", "study", "viewer"})

_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]{1,100}", re.ASCII)

# A bare token given where the address belongs. No host or path prefix in use looks like this.
_LOOKS_LIKE_TOKEN = re.compile(r"[A-Za-z0-9]{22}", re.ASCII)

# Characters; no real address comes near, and all that follows is linear in it.
_LENGTH_LIMIT = 16 * 1024


@dataclass(frozen=True)
class Address:
    """Where the API is: `api` is ``https://host[:port][/prefix]/api``, without a trailing slash and without a token."""

    api: str

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.api)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def is_secure(self) -> bool:
        """Whether the connection is TLS."""
        return self.api.startswith("https:")

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, going by its name."""
        return _is_loopback(urlsplit(self.api).hostname or "")


def parse_address(text: str, *, insecure_http: bool = False) -> tuple[Address, Token | None]:
    """Make out the server and the token, if there is one in it.

    Args:
        text: what the user gave.
        insecure_http: allow plain http to other machines.

    Raises:
        BadURLError: no address of a server, or plain http to another machine. The text is not repeated.
    """
    parts = _split(text)
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise BadURLError(f"A Kheops server is reached by https (or http on this machine), nothing else. {_EXAMPLE}")
    host = _host(parts)
    try:
        port = parts.port
    except ValueError:
        raise BadURLError(f"The port in the address of the server is not a number up to 65535. {_EXAMPLE}") from None
    if port == 0:
        raise BadURLError(f"No server has port 0. {_EXAMPLE}")
    if scheme == "http" and not (insecure_http or _is_loopback(host)):
        raise BadURLError(
            f"http://{host} would send the token in clear text over the network. Use https://{host} instead."
        )

    suffix = "" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}"
    bracketed = f"[{host}]" if ":" in host else host
    prefix, path_token = _path(parts, host)
    token = _one_token(_userinfo_token(parts), path_token)
    return Address(f"{scheme}://{bracketed}{suffix}{prefix}/api"), token


def _split(text: str) -> SplitResult:
    text = text.strip()
    if not text:
        raise BadURLError(f"The address of the server is missing. {_EXAMPLE}")
    if len(text) > _LENGTH_LIMIT or not text.isprintable() or " " in text or "\\" in text:
        raise BadURLError(f"The address of the server has characters that no address has. {_EXAMPLE}")
    if "://" not in text.partition("?")[0].partition("#")[0]:
        if text.lower().startswith(("http:", "https:")):
            raise BadURLError(f"Two slashes follow the colon in the address of the server. {_EXAMPLE}")
        text = f"https://{text}"
    try:
        return urlsplit(text)
    except ValueError:
        raise BadURLError(f"The address of the server is malformed. {_EXAMPLE}") from None


def _host(parts: SplitResult) -> str:
    """The host in lower case and ASCII; an IPv6 address without its brackets."""
    host = (parts.hostname or "").lower()
    if ":" in host:
        try:
            # The stroke takes away the meaning of a zone (%eth0), which may be any text and means something here only.
            return str(ipaddress.IPv6Address(host.replace("%", "/")))
        except ValueError:
            raise BadURLError(f"The host in the address of the server is no IPv6 address. {_EXAMPLE}") from None
    try:
        host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host) or ".." in host:
        raise BadURLError(f"There is no host in the address of the server. {_EXAMPLE}")
    if _LOOKS_LIKE_TOKEN.fullmatch(host):
        raise BadURLError(f"That looks like a token, and the address of the server is wanted. {_EXAMPLE}")
    return host


def _userinfo_token(parts: SplitResult) -> str | None:
    userinfo, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None
    # The user name means nothing to Kheops, so only what stands in the password's place can be the token.
    _, colon, password = userinfo.partition(":")
    if not (colon and password):
        raise BadURLError("A token goes into the address like this: https://token:TOKEN@kheops.example.org")
    return unquote(password)


def _path(parts: SplitResult, host: str) -> tuple[str, str | None]:
    """The prefix before ``/api``, and the token of a link or share URL."""
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    prefix: list[str] = []
    token = None
    for n, segment in enumerate(segments):
        rest = segments[n + 1 :]
        if segment == "api":
            if rest[:1] == ["link"]:
                token = _expected_token(rest[1:], host)
            break
        if segment == "view":
            token = _expected_token(rest, host)
            break
        if segment in _PAGES:
            break
        # What stands behind a stray "link" would be a token.
        is_odd = segment in (".", "..", "link") or not _SEGMENT.fullmatch(segment)
        if is_odd or _LOOKS_LIKE_TOKEN.fullmatch(segment):
            raise BadURLError(f"The path after {host} is not that of a Kheops server. {_EXAMPLE}")
        prefix.append(segment)
    return "".join(f"/{segment}" for segment in prefix), token


def _expected_token(segments: list[str], host: str) -> str:
    if not segments:
        raise BadURLError(f"The link to {host} ends before its token.")
    return segments[0]


def _one_token(*found: str | None) -> Token | None:
    texts = {text for text in found if text is not None}
    if not texts:
        return None
    if len(texts) > 1:
        raise BadURLError("The address of the server holds two different tokens.")
    try:
        return Token(texts.pop())
    except TokenRefusedError:
        raise BadURLError("What stands in the token's place in the address of the server is not a token.") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
