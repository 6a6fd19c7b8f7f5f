"""Albums and the inbox as JSON (contract: "Albums").

Members whose value is null are left out, times are UTC without a zone, names are whatever somebody typed. The inbox is
no album. An album token sees a short form of its own album, even without the read permission, and nothing else here.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from kheopsfs.demo.accounts import Album, Holdings, Principal, User, shown
from kheopsfs.demo.answers import NO_CACHE, Answer, Call, ErrorAnswer, json_answer, json_error
from kheopsfs.demo.credentials import for_authorization
from kheopsfs.demo.listing import bad_parameter, page

_SORTS = ["created_time", "last_event_time", "name", "number_of_users", "number_of_studies", "number_of_comments"]

_MEMBER_FLAGS = ["add_user", "download_series", "send_series", "delete_series", "add_series", "write_comments"]


def listing(call: Call) -> Answer:
    """`GET /api/albums`."""
    principal = _user(call)
    found = [album for album in principal.albums() if all(fits(album) for fits in _filters(call, principal))]
    name = call.query.get("sort", "-created_time")
    bare = name.removeprefix("-")
    if bare not in _SORTS:
        raise bad_parameter("sort")
    rows = [_row(call, principal, album) for album in found]
    rows.sort(key=lambda row: (row[bare], row["album_id"]), reverse=name.startswith("-"))
    return json_answer(page(call, rows), headers=[("X-Total-Count", str(len(rows))), NO_CACHE])


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
    short = [
        "album_id",
        "name",
        "description",
        "modalities",
        "number_of_studies",
        "number_of_series",
        "number_of_instances",
    ]
    row = _row(call, principal, one)
    return json_answer({name: row[name] for name in short if name in row}, headers=[NO_CACHE])


def members(call: Call, album_id: str) -> Answer:
    """`GET /api/albums/{a}/users`."""
    one = call.album(_user(call), album_id)
    rows = _users(call, one)
    return json_answer(page(call, rows), headers=[("X-Total-Count", str(len(rows))), NO_CACHE])


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
    return json_answer(_counts(call, principal.token.owner.inbox), headers=[NO_CACHE])


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
        yield lambda album: modality.upper() in _counts(call, album.holdings)["modalities"]
    if call.query.get("favorite") == "true":
        yield lambda album: principal.token.owner.sub in album.favorite_of
    for member in ("created_time", "last_event_time"):
        if wanted := call.query.get(member):
            yield _time_filter(member, wanted)


def _time_filter(member: str, wanted: str) -> Callable[[Album], bool]:
    first, dash, last = wanted.partition("-")
    if not re.fullmatch(r"\d{8}|\d{8}-(\d{8})?|-\d{8}", wanted):
        raise bad_parameter(member)
    low, high = (first, last or "99999999") if dash else (first, first)

    def fits(album: Album) -> bool:
        day: str = getattr(album, member)[:10].replace("-", "")
        return low <= day <= high

    return fits


def _counts(call: Call, holdings: Holdings) -> dict[str, Any]:
    """What an inbox or album holds, each series counted once."""
    kept: dict[Holdings, dict[str, Any]] = call.library.kept.setdefault("counts", {})
    if holdings not in kept:
        studies = [call.library.studies[uid] for uid in holdings.studies if uid in call.library.studies]
        modalities: set[str] = set()
        series = instances = 0
        for one in (one for study in studies for one in shown(study, [holdings])):
            modalities.add(one.modality)
            series += 1
            instances += one.counted
        kept[holdings] = {
            "modalities": sorted(modalities - {""}),
            "number_of_studies": len(studies),
            "number_of_series": series,
            "number_of_instances": instances,
        }
    return kept[holdings]


def _row(call: Call, principal: Principal, album: Album) -> dict[str, Any]:
    sub = principal.token.owner.sub
    row: dict[str, Any] = {
        "album_id": album.album_id,
        "name": album.name,
        "created_time": album.created_time,
        "last_event_time": album.last_event_time,
        "number_of_users": len(album.members),
        "number_of_comments": album.comments,
        **_counts(call, album.holdings),
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
