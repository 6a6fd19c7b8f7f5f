"""Albums and the inbox as JSON (contract: "Albums").

Members whose value is null are left out, times are UTC without a zone, names are whatever somebody typed. The inbox is
no album. An album token sees a short form of its own album, even without the read permission, and nothing else here.
"""

import re
from collections.abc import Callable, Iterable

from kheopsfs.demo.accounts import Album, Principal, Source, User
from kheopsfs.demo.answers import NO_CACHE, Answer, Call, ErrorAnswer, json_answer, json_error
from kheopsfs.demo.credentials import for_authorization
from kheopsfs.demo.library import Study
from kheopsfs.demo.qido import number

_SORTS = ["created_time", "last_event_time", "name", "number_of_users", "number_of_studies", "number_of_comments"]

_MEMBER_FLAGS = ["add_user", "download_series", "send_series", "delete_series", "add_series", "write_comments"]


def listing(call: Call) -> Answer:
    """`GET /api/albums`."""
    principal = _user(call)
    limit, offset = number(call, "limit", least=1), number(call, "offset", least=0) or 0
    found = [album for album in principal.albums() if all(fits(album) for fits in _filters(call, principal))]
    name = call.query.get("sort", "-created_time")
    bare = name.removeprefix("-")
    if bare not in _SORTS:
        raise ErrorAnswer(json_error(400, "Bad Query Parameter", "sort"))
    rows = [_row(call, principal, album) for album in found]
    rows.sort(key=lambda row: (row[bare], row["album_id"]), reverse=name.startswith("-"))
    page = rows[offset:] if limit is None else rows[offset : offset + limit]
    return json_answer(page, headers=[("X-Total-Count", str(len(rows))), NO_CACHE])


def album(call: Call, album_id: str) -> Answer:
    """`GET /api/albums/{a}`."""
    principal = for_authorization(call)
    one = call.album(principal, album_id)
    with_users = call.query.get("includeUsers") == "true"
    if principal.is_user:
        row = _row(call, principal, one)
        if with_users:
            row["users"] = _users(call, one)
        return json_answer(row, headers=[NO_CACHE])
    if with_users:
        return json_error(403, "Forbidden", "An album token may not see the users")
    short = ["album_id", "name", "description", "modalities", "number_of_studies", "number_of_series", "number_of_instances"]
    row = _row(call, principal, one)
    return json_answer({name: row[name] for name in short if name in row}, headers=[NO_CACHE])


def members(call: Call, album_id: str) -> Answer:
    """`GET /api/albums/{a}/users`."""
    one = call.album(_user(call), album_id)
    rows = _users(call, one)
    offset, limit = number(call, "offset", least=0) or 0, number(call, "limit", least=1)
    page = rows[offset:] if limit is None else rows[offset : offset + limit]
    return json_answer(page, headers=[("X-Total-Count", str(len(rows))), NO_CACHE])


def events(call: Call, album_id: str) -> Answer:
    """`GET /api/albums/{a}/events`: the album's creation, and nothing since."""
    one = call.album(_user(call), album_id)
    creator = next(iter(one.members))
    event = {
        "event_type": "Mutation",
        "mutation_type": "CREATE_ALBUM",
        "origin": creator,
        "post_date": one.created_time,
    }
    return json_answer([event], headers=[("X-Total-Count", "1"), NO_CACHE])


def inbox(call: Call) -> Answer:
    """`GET /api/inboxinfo`."""
    principal = _user(call)
    return json_answer(_counts(call, principal, "inbox"), headers=[NO_CACHE])


def comments(call: Call, StudyInstanceUID: str) -> Answer:
    """`GET /api/studies/{st}/comments`: nobody has said anything."""
    principal = for_authorization(call)
    if not principal.can_read or not principal.series(call.library.studies.get(StudyInstanceUID)):
        return json_error(403, "Forbidden", "The study is not accessible")
    return json_answer([], headers=[("X-Total-Count", "0"), NO_CACHE])


def _user(call: Call) -> Principal:
    principal = for_authorization(call)
    if not principal.is_user:
        raise ErrorAnswer(json_error(403, "Forbidden", "Only for users"))
    return principal


def _filters(call: Call, principal: Principal) -> Iterable[Callable[[Album], bool]]:
    if name := call.query.get("name"):
        pattern = re.compile(".*".join(map(re.escape, name.split("*"))), re.IGNORECASE | re.DOTALL)
        yield lambda album: pattern.fullmatch(album.name) is not None
    if modality := call.query.get("modality"):
        yield lambda album: modality.upper() in _modalities(_held(call, principal, album), principal, album)
    if call.query.get("favorite") == "true":
        yield lambda album: principal.token.owner.sub in album.favorite_of
    for member in ("created_time", "last_event_time"):
        if wanted := call.query.get(member):
            yield _time_filter(member, wanted)


def _time_filter(member: str, wanted: str) -> Callable[[Album], bool]:
    first, dash, last = wanted.partition("-")
    if not re.fullmatch(r"\d{8}|\d{8}-(\d{8})?|-\d{8}", wanted):
        raise ErrorAnswer(json_error(400, "Bad Query Parameter", member))
    low, high = (first, last or "99999999") if dash else (first, first)

    def fits(album: Album) -> bool:
        day: str = getattr(album, member)[:10].replace("-", "")
        return low <= day <= high

    return fits


def _held(call: Call, principal: Principal, source: Source) -> list[Study]:
    return list(principal.studies(call.library, source))


def _modalities(studies: Iterable[Study], principal: Principal, source: Source) -> list[str]:
    return sorted({one.modality for study in studies for one in principal.series(study, source) if one.modality})


def _counts(call: Call, principal: Principal, source: Source) -> dict[str, object]:
    studies = _held(call, principal, source)
    held = [one for study in studies for one in principal.series(study, source)]
    return {
        "modalities": _modalities(studies, principal, source),
        "number_of_studies": len(studies),
        "number_of_series": len(held),
        "number_of_instances": sum(one.counted for one in held),
    }


def _row(call: Call, principal: Principal, album: Album) -> dict[str, object]:
    sub = principal.token.owner.sub
    row: dict[str, object] = {
        "album_id": album.album_id,
        "name": album.name,
        "created_time": album.created_time,
        "last_event_time": album.last_event_time,
        "number_of_users": len(album.members),
        "number_of_comments": album.comments,
        **_counts(call, principal, album),
        **{flag: album.flags.get(flag, False) for flag in _MEMBER_FLAGS},
        "is_favorite": sub in album.favorite_of,
        "notification_new_series": True,
        "notification_new_comment": True,
        "is_admin": album.members.get(sub, False),
    }
    if album.description is not None:
        row["description"] = album.description
    return row


def _users(call: Call, album: Album) -> list[dict[str, object]]:
    known: list[tuple[User, bool]] = [(call.accounts.users[sub], admin) for sub, admin in album.members.items()]
    return [{"sub": user.sub, "name": user.name, "email": user.email, "is_admin": admin} for user, admin in known]
