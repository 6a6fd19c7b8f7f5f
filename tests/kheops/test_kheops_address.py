"""Addresses as people have them, and the tokens that are in them."""

import ipaddress
import traceback

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kheopsfs.errors import BadURLError
from kheopsfs.kheops.address import Address, parse_address
from kheopsfs.kheops.credentials import Token

T = "aB3dE6gH9kL2nO5qR8tU1v"
UID = "1.2.840.113619.2.1"


@pytest.mark.parametrize(
    ("text", "api", "token"),
    [
        ("https://demo.kheops.online", "https://demo.kheops.online/api", None),
        ("https://demo.kheops.online/", "https://demo.kheops.online/api", None),
        ("  https://demo.kheops.online/api\n", "https://demo.kheops.online/api", None),
        ("https://demo.kheops.online/api/", "https://demo.kheops.online/api", None),
        ("https://demo.kheops.online/api/studies", "https://demo.kheops.online/api", None),
        (f"https://demo.kheops.online/api/studies/{UID}/series/{UID}?x=1#y", "https://demo.kheops.online/api", None),
        ("demo.kheops.online", "https://demo.kheops.online/api", None),
        ("demo.kheops.online:8443/api", "https://demo.kheops.online:8443/api", None),
        ("HTTPS://Demo.Kheops.ONLINE:443", "https://demo.kheops.online/api", None),
        ("https://[2001:DB8::1]:8443/", "https://[2001:db8::1]:8443/api", None),
        ("https://bücher.example", "https://xn--bcher-kva.example/api", None),
        (f"https://token:{T}@host.org/api/studies", "https://host.org/api", T),
        (f"https://anybody:{T}@host.org", "https://host.org/api", T),
        (f"https://:{T}@host.org", "https://host.org/api", T),
        (f"token:{T}@host.org", "https://host.org/api", T),
        (f"https://host.org/api/link/{T}/studies", "https://host.org/api", T),
        (f"https://host.org/api/link/{T}", "https://host.org/api", T),
        (f"https://token:{T}@host.org/api/link/{T}/studies", "https://host.org/api", T),
        (f"https://host.org/view/{T}", "https://host.org/api", T),
        (f"https://host.org/view/{T}?a=b", "https://host.org/api", T),
        (f"https://host.org/pacs/kheops/view/{T}", "https://host.org/pacs/kheops/api", T),
        ("https://host.org/pacs/kheops/api/studies", "https://host.org/pacs/kheops/api", None),
        ("https://host.org/pacs", "https://host.org/pacs/api", None),
        ("https://host.org/albums/dTxCc6OJyG", "https://host.org/api", None),
        ("https://host.org/inbox", "https://host.org/api", None),
        ("http://localhost:8042", "http://localhost:8042/api", None),
        ("http://127.3.2.1/api", "http://127.3.2.1/api", None),
        ("http://[::1]:80/api", "http://[::1]/api", None),
        ("localhost:8042", "https://localhost:8042/api", None),
    ],
)
def test_every_address_that_people_have_names_the_same_api(text: str, api: str, token: str | None) -> None:
    address, found = parse_address(text)
    assert address == Address(api)
    assert (found and found.reveal()) == token


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "https://",
        "https:///api",
        "https:/host.org/api",
        "http:host.org",
        "ftp://host.org",
        "file:///etc/passwd",
        "https://host.org:99999",
        "https://host.org:0",
        "https://host.org:eight",
        "https://[::1",
        "https://[::zz]",
        "https://host..org",
        "https://ho st.org",
        "https://host.org/a b",
        "https://host.org/..",
        "https://host.org\\@other.org",
        "https://host\x00.org",
        "https://-/api",
        f"https://{T}@host.org",
        "https://token:@host.org",
        "https://token:a:b@host.org",
        f"https://token:{T}@host.org/view/{T[::-1]}",
        "https://host.org/api/link",
        "https://host.org/view",
        "https://host.org/view/not%20a%20token",
        f"https://host.org/{T}",
        f"https://host.org/link/{T}/studies",
        "https://api/link/short/studies",
        T,
        f"https://{T}",
        "x" * 100_000,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadURLError):
        parse_address(text)


@pytest.mark.parametrize(
    "host", ["kheops.example.org", "10.0.0.1", "[fe80::1]", "localhost.example.org", "127.0.0.1.nip.io"]
)
def test_plain_http_to_another_machine_is_refused_unless_insisted_on(host: str) -> None:
    with pytest.raises(BadURLError, match=r"clear text.*https://"):
        parse_address(f"http://{host}/api")
    address, _ = parse_address(f"http://{host}/api", insecure_http=True)
    assert address.api == f"http://{host}/api"
    assert not address.is_secure
    assert not address.is_loopback


def test_parts_of_an_address() -> None:
    address, _ = parse_address("https://host.org:8443/pacs/api")
    assert address.origin == "https://host.org:8443"
    assert address.is_secure
    assert parse_address("https://localhost:1/x")[0].is_loopback
    assert parse_address("https://[::1]:1/x")[0].is_loopback


hosts = st.sampled_from(["host.org", "localhost:8042", "[::1]:1", "ho st", "", "host:port", "-"])
tokens = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+=_-", min_size=12, max_size=80
).filter(lambda text: not text.isdigit())
places = st.sampled_from(
    [
        "{scheme}{user}:{token}@{host}/api/studies",
        "{scheme}{token}@{host}",
        "{scheme}{token}:@{host}/",
        "{scheme}{host}/api/link/{token}/studies",
        "{scheme}{host}/view/{token}",
        "{scheme}{host}/pacs/view/{token}/more",
        "{scheme}{user}:{token}@{host}/api/link/{token}!/studies",
        "{scheme}{host}/api/studies?access_token={token}",
        "{scheme}{host}/#{token}",
        "{scheme}{user}:{token}:x@{host}",
    ]
)


@given(
    place=places,
    scheme=st.sampled_from(["https://", "http://", "", "ftp://", "https:/"]),
    user=st.sampled_from(["token", "", "me", "%"]),
    host=hosts,
    token=tokens,
)
def test_a_token_never_shows(place: str, scheme: str, user: str, host: str, token: str) -> None:
    assume(host or scheme != "https:/")  # with the slash that follows, the server would be called "view"
    text = place.format(scheme=scheme, user=user, host=host, token=token)
    try:
        found = parse_address(text)
    except BadURLError as error:
        shown = [str(error), repr(error), "".join(traceback.format_exception(error))]
    else:
        shown = [str(found), repr(found), found[0].api, found[0].origin, f"{found}"]
    assert all(token.lower() not in each.lower() for each in shown)


@given(st.text(max_size=60) | st.from_regex(r"(https?://)?[^/]{0,20}(:[0-9]{0,6})?(/[^/]{0,12}){0,4}", fullmatch=True))
def test_any_text_is_an_address_or_is_refused(text: str) -> None:
    try:
        address, token = parse_address(text)
    except BadURLError:
        return
    assert address.api.endswith("/api")
    assert parse_address(address.api) == (address, None)
    assert token is None or isinstance(token, Token)
    assert address.is_secure or address.is_loopback


@given(st.ip_addresses())
def test_loopback_is_what_the_standard_library_says(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    assert parse_address(f"https://{host}")[0].is_loopback == ip.is_loopback
