"""How a request says who it is, and what the services answer when it does not.

Three ways: Bearer, Basic with any user name, link URL (which nginx turns into Bearer). The same failure looks different
from service to service (contract: "Errors").
"""

import base64
import binascii
from typing import Literal

from kheopsfs.demo.accounts import Principal
from kheopsfs.demo.answers import Call, ErrorAnswer, tomcat

Way = Literal["bearer", "basic", "link", "none"]

_CHALLENGES = (("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Bearer"))


class BadBase64Error(ValueError):
    """A Basic header that is no base64."""


def presented(header: str | None) -> tuple[Way, str | None]:
    """The way and the token of an Authorization header; no token if it is missing or malformed.

    Raises:
        BadBase64Error: Basic, but not base64.
    """
    scheme, _, value = (header or "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return "bearer", value or None
    if scheme.lower() != "basic":
        return "none", None
    try:
        decoded = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadBase64Error from error
    parts = decoded.split(":")
    return "basic", parts[1] if len(parts) == 2 and parts[1] else None


def for_authorization(call: Call) -> Principal:
    """Who calls the Authorization service.

    Raises:
        ErrorAnswer: 401; with challenges only if the header is missing or malformed.
    """
    try:
        _, secret = presented(call.authorization())
    except BadBase64Error:
        secret = None
    if secret is None:
        raise ErrorAnswer(tomcat(401, _CHALLENGES))
    return _find(call, secret, ())


def for_proxy(call: Call) -> Principal:
    """Who calls the DICOMweb proxy.

    Raises:
        ErrorAnswer: 401; with challenges only if there is a token and it is dead. 500 for bad base64.
    """
    try:
        _, secret = presented(call.authorization())
    except BadBase64Error as error:
        raise ErrorAnswer(tomcat(500)) from error
    if secret is None:
        raise ErrorAnswer(tomcat(401))
    return _find(call, secret, _CHALLENGES)


def not_accessible() -> ErrorAnswer:
    """What the proxy says of a series that is unknown or not the token's: the token exchange failed."""
    return ErrorAnswer(tomcat(401, _CHALLENGES))


def _find(call: Call, secret: str, challenges: tuple[tuple[str, str], ...]) -> Principal:
    principal = call.accounts.find(secret)
    if principal is None:
        raise ErrorAnswer(tomcat(401, challenges))
    return principal
