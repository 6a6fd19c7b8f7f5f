"""What Kheops tells about tokens: introspection, token exchange, expiry (contract: "Authentication").

Introspection is open to everyone and tells a token's kind and permissions, never its expiry. A user token may look up
its own expiry; an album token cannot.
"""

import datetime
from urllib.parse import parse_qsl

from kheopsfs.demo.accounts import VIEWER_TOKEN_LIFE, Principal, Source, Token
from kheopsfs.demo.answers import NO_CACHE, Answer, Call, ErrorAnswer, json_answer, json_error, tomcat
from kheopsfs.demo.credentials import for_authorization

FORM = "application/x-www-form-urlencoded"

_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  the name of a kind


def introspect(call: Call) -> Answer:
    """`POST /api/token/introspect`."""
    if not _is_form(call):
        return tomcat(415)
    if (call.authorization() or "").lower().startswith("basic"):
        raise _oauth_error("invalid_client", "Unknown client")
    secret = _form(call).get("token", "")
    if secret in call.accounts.viewers:
        return tomcat(401)
    principal = call.accounts.find(secret)
    if principal is None:
        return json_answer({"active": False})
    token = principal.token
    told: dict[str, object] = {"active": True, "sub": token.owner.sub, "cap_token": token.token_id}
    if token.scope:
        told["scope"] = token.scope
    if token.album is not None:
        told["album_id"] = token.album.album_id
    return json_answer(told)


def exchange(call: Call) -> Answer:
    """`POST /api/token`: a viewer token from a capability token (RFC 8693)."""
    if not _is_form(call):
        return tomcat(415)
    form = _form(call)
    study_uid = form.get("studyUID", "")
    if form.get("grant_type") != _EXCHANGE:
        raise _oauth_error("unsupported_grant_type", "Only the token exchange is made here")
    if form.get("subject_token_type") != _ACCESS_TOKEN or not study_uid:
        raise _oauth_error("invalid_request", "subject_token_type or studyUID is missing or wrong")
    if "viewer" not in form.get("scope", "").split():
        raise _oauth_error("invalid_scope", "The scope must hold viewer")
    principal = call.accounts.find(form.get("subject_token", ""))
    if principal is None or principal.viewer is not None:
        raise _oauth_error("invalid_grant", "The subject_token is not valid")
    source = _source(principal, form.get("source_type"), form.get("source_id"))
    if not principal.can_read or not principal.series(call.library.studies.get(study_uid), source):
        raise _oauth_error("invalid_grant", "The study is not accessible")
    viewer = call.accounts.add_viewer(principal.token, study_uid, source)
    return json_answer({"access_token": viewer.secret, "token_type": "Bearer", "expires_in": VIEWER_TOKEN_LIFE})


def _source(principal: Principal, kind: str | None, source_id: str | None) -> Source:
    """The source that a viewer token is narrowed to.

    Raises:
        ErrorAnswer: 400.
    """
    if kind is None:
        return None
    if kind == "album" and (album := principal.album(source_id or "")) is not None:
        return album
    if kind == "inbox" and principal.is_user:
        return "inbox"
    if kind in ("album", "inbox"):
        raise _oauth_error("invalid_grant", f"The {kind} is not accessible")
    raise _oauth_error("invalid_request", "source_type is album or inbox")


def capability(call: Call, token_id: str) -> Answer:
    """`GET /api/capabilities/{id}`."""
    principal = for_authorization(call)
    if not principal.is_user:
        return json_error(403, "Forbidden", "Only users have capability tokens")
    media_type = call.headers.get("content-type", FORM)
    if not media_type.startswith(FORM):
        return tomcat(415)
    owner = principal.token.owner
    found = next(
        (one for one in call.accounts.tokens.values() if one.token_id == token_id and one.owner is owner), None
    )
    if found is None:
        return json_error(404, "Capability not found", "The capability does not exist or is not yours")
    return json_answer(_describe(found), headers=[NO_CACHE])


def user_only_by_login(call: Call) -> Answer:
    """`/api/capabilities`: needs the JWT of a login, which no capability token is."""
    for_authorization(call)
    return tomcat(401)


def users(call: Call) -> Answer:
    """`GET /api/users?reference=`: who a sub or an e-mail address is."""
    principal = for_authorization(call)
    if not principal.is_user:
        return json_error(403, "Forbidden", "Only users may look up users")
    reference = call.query.get("reference")
    for user in call.accounts.users.values():
        if reference in (user.sub, user.email):
            return json_answer({"sub": user.sub, "name": user.name, "email": user.email}, headers=[NO_CACHE])
    return Answer(204, headers=[NO_CACHE])


def _describe(token: Token) -> dict[str, object]:
    told: dict[str, object] = {
        "id": token.token_id,
        "title": token.what,
        "issued_at_time": _time(token.issued),
        "not_before_time": _time(token.not_before),
        "expiration_time": _time(token.expires),
        "revoked": token.revoked,
        "scope_type": token.kind,
    }
    if token.last_used is not None:
        told["last_used"] = _time(token.last_used)
    if token.album is not None:
        told |= {
            "read_permission": "read" in token.permissions,
            "write_permission": "write" in token.permissions,
            "download_permission": "downloadbutton" in token.permissions,
            "appropriate_permission": "send" in token.permissions,
            "album": {"id": token.album.album_id, "name": token.album.name},
        }
    return told


def _time(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _is_form(call: Call) -> bool:
    return call.headers.get("content-type", "").startswith(FORM)


def _form(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode("utf-8", "replace")))


def _oauth_error(error: str, description: str) -> ErrorAnswer:
    answer = json_answer({"error": error, "error_description": description})
    answer.status = 400
    return ErrorAnswer(answer)
