"""The fault matrix: every fault against every operation, what must come of it, and why.

A table and nothing else. `test_fault_matrix.py` tries each of its cells on a real mount, `scripts/reliability` makes
docs/reliability.md from it. So the documentation promises what was tried, and all that was tried.

A fault strikes either what is asked for about one study (`demo` says how the demo server does it; several ways make
several trials of one row), or the whole server (the tests know how, by the fault's name).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Operation(Enum):
    """What a program does; the value is the heading of the column."""

    LIST = "list a folder"
    STAT = "stat"
    OPEN = "open a file"
    READ = "read on"
    THUMBNAIL = "thumbnail"
    ZIP = "zip"
    PULL = "pull"


class Outcome(Enum):
    """What may come of an operation: the value is what the matrix shows, `allowed` the errnos; None is success.

    Success always means: byte for byte what the server holds.
    """

    WORKS = "works", frozenset({None})
    UNTOUCHED = "·", frozenset({None})
    EIO = "EIO", frozenset({"EIO"})
    ETIMEDOUT = "ETIMEDOUT", frozenset({"ETIMEDOUT"})
    ETIMEDOUT_THEN_EIO = "ETIMEDOUT, then EIO", frozenset({"ETIMEDOUT", "EIO"})
    EACCES = "EACCES", frozenset({"EACCES"})
    WHOLE_OR_EIO = "whole or EIO", frozenset({None, "EIO"})
    WHOLE_OR_EACCES = "whole or EACCES", frozenset({None, "EACCES"})

    def __init__(self, shown: str, allowed: frozenset[str | None]) -> None:
        self.shown = shown
        self.allowed = allowed


class Scope(Enum):
    """Which requests about one study a fault strikes."""

    STUDY = "everything about the study"
    LISTS = "lists of its series and instances"
    SERIES_LIST = "the list of its series"
    BODIES = "its instances"
    SERVER = "the whole server"


Row = Mapping[Operation, Outcome]
Way = tuple[dict[str, Any], ...]
WORKS, UNTOUCHED, EIO, ETIMEDOUT, EACCES = (
    Outcome.WORKS,
    Outcome.UNTOUCHED,
    Outcome.EIO,
    Outcome.ETIMEDOUT,
    Outcome.EACCES,
)
MIDDLE = "middle"
"""A byte within whatever the operation asks for."""

MIDDLE_OF = {
    Operation.LIST: 100,
    Operation.STAT: 100,
    Operation.OPEN: 20_000,
    Operation.READ: 20_000,
    Operation.THUMBNAIL: 500,
    Operation.ZIP: 30_000,
    Operation.PULL: 20_000,
}


@dataclass(frozen=True)
class Fault:
    """One row.

    Attributes:
        name: for ids of tests.
        what: what happens, for people.
        row: what comes of it.
        why: the reason of whatever is not obvious in the row.
        scope: what is struck.
        ways: each way of doing it, as faults of `kheopsfs.demo.faults` without their path. `rows` in a ``body`` fault
            are elements put into each row of the true list.
    """

    name: str
    what: str
    row: Row
    why: str
    scope: Scope = Scope.STUDY
    ways: tuple[Way, ...] = ()


def _row(everything: Outcome, **others: Outcome) -> Row:
    """A row in which all but the named operations come out the same. Reading on needs no server."""
    row = dict.fromkeys(Operation, everything)
    if everything is not WORKS:
        row[Operation.READ] = UNTOUCHED
    return row | {Operation[name.upper()]: outcome for name, outcome in others.items()}


def _way(kind: str, **options: Any) -> Way:
    return ({"kind": kind, **options},)


_STATUSES = (500, 502, 503, 504)
_ABSURD = {"vr": "IS", "Value": ["9" * 400]}
_NULLS: tuple[Any, ...] = (None, {"vr": "IS", "Value": None}, {"vr": 7, "Value": [None]}, "text")


FAULTS = (
    # -- no connection -------------------------------------------------------------------------------------------------
    Fault(
        "refused",
        "The server refuses connections",
        _row(EIO),
        "Found out at once; from then on requests fail without waiting, until a probe finds the server again.",
        Scope.SERVER,
    ),
    Fault(
        "dns",
        "Its name cannot be looked up",
        _row(EIO),
        "As when connections are refused. A name is looked up for each new connection, so news arrives by itself.",
        Scope.SERVER,
    ),
    Fault(
        "black-hole",
        "A black hole: no packet to it is ever answered",
        _row(EIO),
        "Nobody accepts a connection for ten seconds (or the idle deadline, if that is shorter).",
        Scope.SERVER,
    ),
    Fault(
        "silent-server",
        "It accepts connections and never says anything",
        _row(ETIMEDOUT, pull=Outcome.ETIMEDOUT_THEN_EIO),
        "The idle deadline passes once. A probe finds the same, and then requests fail with EIO without waiting.",
        Scope.SERVER,
    ),
    Fault(
        "tls",
        "Its TLS certificate is not valid",
        _row(EIO),
        "The token is not sent to a server that cannot prove who it is. The log names the reason.",
        Scope.SERVER,
    ),
    # -- a connection that breaks or falls silent ----------------------------------------------------------------------
    Fault(
        "reset",
        "Connections are reset before an answer",
        _row(EIO),
        "After four attempts.",
        ways=(_way("reset"),),
    ),
    Fault(
        "reset-once",
        "Connections are reset before an answer, once",
        _row(WORKS),
        "Asked again after a moment.",
        ways=(_way("reset", times=1),),
    ),
    Fault(
        "reset-within",
        "Connections are reset in the middle of an answer",
        _row(EIO),
        "What was received is thrown away, except for instances of a series that were already proven whole.",
        ways=(_way("reset", byte=MIDDLE),),
    ),
    Fault(
        "reset-within-once",
        "Connections are reset in the middle of an answer, once",
        _row(WORKS),
        "Asked again.",
        ways=(_way("reset", byte=MIDDLE, times=1),),
    ),
    Fault(
        "stall",
        "Silence instead of an answer",
        _row(ETIMEDOUT),
        "After the idle deadline; not asked again, for whoever waited that long has waited enough.",
        ways=(_way("stall"),),
    ),
    Fault(
        "stall-within",
        "Silence in the middle of an answer",
        _row(ETIMEDOUT),
        "After the idle deadline, counted from the last byte that came.",
        ways=(_way("stall", byte=MIDDLE),),
    ),
    Fault(
        "trickle",
        "Answers that come slowly, but come",
        _row(WORKS),
        "Only silence has a deadline, and what comes to the same (less than 64 bytes a second for five minutes).",
        ways=(_way("trickle", bytes=20_000, seconds=0.8),),
    ),
    # -- answers that are none -----------------------------------------------------------------------------------------
    Fault(
        "5xx",
        "500, 502, 503 or 504 for ever",
        _row(EIO),
        "After four attempts.",
        ways=tuple(_way("status", code=code) for code in _STATUSES),
    ),
    Fault(
        "5xx-once",
        "500, 502, 503 or 504 once",
        _row(WORKS),
        "Asked again after a moment.",
        ways=tuple(_way("status", code=code, times=1) for code in _STATUSES),
    ),
    Fault(
        "5xx-stalled",
        "An error page that never ends",
        _row(ETIMEDOUT),
        "That is silence as well.",
        ways=(({"kind": "status", "code": 500}, {"kind": "stall", "byte": 20}),),
    ),
    Fault(
        "html",
        "A web page with status 200",
        _row(EIO),
        "A proxy's sign-in page, for example. Never taken for data.",
        ways=(_way("html"),),
    ),
    Fault(
        "redirect",
        "A redirect to another host",
        _row(EIO),
        "Not followed: the token goes to the server that was mounted and to nobody else.",
        ways=tuple(_way("status", code=code, location="http://elsewhere.invalid/") for code in (302, 307)),
    ),
    Fault(
        "content-type",
        "The wrong Content-Type",
        _row(EIO, thumbnail=WORKS),
        "A picture is judged by its bytes alone, everything else by its type first.",
        ways=(_way("content_type", media_type="text/plain"),),
    ),
    Fault(
        "gzip",
        "Compression that nobody asked for",
        _row(WORKS),
        "It is undone; the bytes are the same.",
        ways=(_way("gzip"),),
    ),
    # -- bodies that are not what they seem ----------------------------------------------------------------------------
    Fault(
        "cut",
        "Answers that end early and look complete",
        _row(EIO, pull=Outcome.WHOLE_OR_EIO),
        "What a Kheops server does when its PACS fails. Every kind of answer has a proof of its end: JSON its last"
        " bracket, an instance the multipart boundary behind it, a picture its end marker, a zip its DICOMDIR."
        " The instances of a series that came before the cut are proven, and kept.",
        ways=(_way("cut", fraction=0.6), _way("cut", byte=0)),
    ),
    Fault(
        "cut-at-boundary",
        "Instances that end exactly where a boundary should be",
        _row(UNTOUCHED, open=EIO, zip=EIO, pull=Outcome.WHOLE_OR_EIO),
        "All the bytes are there, but nothing says so: not shown.",
        Scope.STUDY,
        ways=(_way("upstream"),),
    ),
    Fault(
        "cut-after-boundary",
        "Instances that are cut behind the closing boundary",
        _row(UNTOUCHED, open=WORKS, pull=WORKS),
        "Nothing that belongs to an instance is missing.",
        Scope.BODIES,
        ways=(_way("cut", fraction=0.999995),),
    ),
    Fault(
        "wrong-instance",
        "Another instance than the one that was asked for",
        _row(UNTOUCHED, open=EIO, zip=EIO, pull=Outcome.WHOLE_OR_EIO),
        "Each file says who it is, and is asked. A zip's DICOMDIR must name no other study or series.",
        ways=(_way("wrong_instance"),),
    ),
    Fault(
        "duplicate",
        "Instances that are delivered twice",
        _row(UNTOUCHED, open=EIO, pull=Outcome.WHOLE_OR_EIO),
        "One instance was asked for, so two are a fault. In a series the second copy is passed over.",
        ways=(_way("duplicate"),),
    ),
    Fault(
        "junk",
        "Something that is no DICOM file",
        _row(UNTOUCHED, open=EIO, pull=Outcome.WHOLE_OR_EIO),
        "The beginning of each file must say which instance it is.",
        ways=(_way("junk"),),
    ),
    Fault(
        "partial",
        "Status 206: the server left instances out",
        _row(UNTOUCHED, open=EIO, pull=Outcome.WHOLE_OR_EIO),
        "What it did send of a series is proven; what it left out is asked for one by one.",
        ways=(_way("partial", parts=1),),
    ),
    # -- lists ---------------------------------------------------------------------------------------------------------
    Fault(
        "json-cut",
        "Lists whose JSON is cut",
        _row(UNTOUCHED, list=EIO, stat=EIO, zip=EIO),
        "Never shown as a shorter list. A zip is held against the list of its series.",
        Scope.LISTS,
        ways=(_way("cut", fraction=0.9), _way("cut", byte=1)),
    ),
    Fault(
        "json-nested",
        "Lists nested a hundred thousand deep",
        _row(UNTOUCHED, list=EIO, stat=EIO, zip=EIO),
        "No list.",
        Scope.LISTS,
        ways=(_way("body", text="[" * 100_000), _way("body", text='{"a":' * 100_000)),
    ),
    Fault(
        "json-types",
        "JSON that is no list of anything",
        _row(UNTOUCHED, list=EIO, stat=EIO, zip=EIO),
        "An error, never an empty folder.",
        Scope.LISTS,
        ways=tuple(_way("body", text=text) for text in ("{}", "null", '[7, null, "x", [], {}]')),
    ),
    Fault(
        "json-nulls",
        "Lists with nulls and values of absurd types",
        _row(WORKS),
        "What makes no sense is left out; it never spoils the row.",
        Scope.SERIES_LIST,
        ways=tuple(_way("body", rows={"00201209": value, "00400244": value}) for value in _NULLS),
    ),
    Fault(
        "json-numbers",
        "Lists with absurd numbers",
        _row(WORKS),
        "A number that cannot be counts as none. A zip is then proven by its DICOMDIR and its checksums.",
        Scope.SERIES_LIST,
        ways=(_way("body", rows={"00201209": _ABSURD}),),
    ),
    # -- the token -----------------------------------------------------------------------------------------------------
    Fault(
        "token-revoked",
        "The token is revoked between two requests",
        _row(EACCES, read=Outcome.WHOLE_OR_EACCES),
        "The first request that the server refuses tells it, or a question once a minute. From then on everything is"
        " EACCES, cached files too, until the token lives again or another one is in the token file.",
        Scope.SERVER,
    ),
    Fault(
        "token-revoked-within",
        "The token is revoked in the middle of an answer",
        _row(Outcome.WHOLE_OR_EACCES, read=Outcome.WHOLE_OR_EACCES),
        "What was under way ends whole or not at all; then everything is EACCES.",
        Scope.SERVER,
        (_way("revoke", byte=MIDDLE),),
    ),
    # -- this machine --------------------------------------------------------------------------------------------------
    Fault(
        "clock",
        "This machine's clock jumps by a year, forward or back",
        _row(WORKS),
        "Deadlines do not go by the wall clock. Lists count as old and are asked for again.",
        Scope.SERVER,
    ),
)
