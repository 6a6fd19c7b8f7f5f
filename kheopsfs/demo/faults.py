"""Faults: what goes wrong with a request, chosen at run time.

A fault names requests by a regular expression over method-free path and query, and counts them: it lets `after` of
them pass and then strikes `times` times, or for ever. All faults that strike a request make its `Plan`, which is
settled when the request arrives; each part of the server asks the plan for the kinds that are its business.

====================  =====================================================================================
kind                  what happens (further members)
====================  =====================================================================================
``delay``             the answer starts late (`seconds`)
``status``            answered at once with `code` and an HTML page; `location` for a redirect
``html``              200 with an HTML page
``body``              the body is `text` instead, with `media_type` if given
``content_type``      Content-Type is `media_type`
``gzip``              compressed although the client did not offer it
``cut``               the body ends early and looks complete: after `byte` bytes of it or `fraction` of it
``endless``           `byte` bytes of the body, then zeros without end
``reset``             TCP reset, after `byte` bytes of the body, without `byte` before the headers
``stall``             silence, after `byte` bytes, without `byte` before the headers, until the fault is lifted
``trickle``           at most `bytes` each `seconds`
``revoke``            the request's token dies: before it is looked at, or after `byte` bytes of the answer
``upstream``          the PACS fails after `parts` instances and `byte` bytes of the next one; without `parts`:
                      after the last, so that only what closes the body is missing
``partial``           206: only the first `parts` instances, properly closed
``wrong_instance``    part `part` holds another instance: `uid`, or any other
``duplicate``         part `part` is delivered twice
``junk``              part `part` is no DICOM
``part_length``       each part has a Content-Length of its own
====================  =====================================================================================
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = frozenset(
    [
        "delay",
        "status",
        "html",
        "body",
        "content_type",
        "gzip",
        "cut",
        "endless",
        "reset",
        "stall",
        "trickle",
        "revoke",
        "upstream",
        "partial",
        "wrong_instance",
        "duplicate",
        "junk",
        "part_length",
    ]
)


@dataclass(eq=False)
class Fault:
    """One fault and how often it struck."""

    kind: str
    path: re.Pattern[str]
    method: str | None = None
    after: int = 0
    times: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seen: int = 0
    struck: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> "Fault":
        """Read one fault from JSON.

        Raises:
            ValueError: the kind is unknown, or the path is no regular expression.
        """
        options = dict(document)
        kind = options.pop("kind", None)
        if kind not in KINDS:
            raise ValueError(f"no such kind of fault: {kind!r}")
        try:
            path = re.compile(options.pop("path", ""))
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        known = {name: options.pop(name) for name in ("method", "after", "times") if name in options}
        return cls(kind, path, options=options, **known)

    def strikes(self, method: str, target: str) -> bool:
        """Count a request; whether this one is struck."""
        if self.method not in (None, method) or not self.path.search(target):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True


class Plan:
    """The faults that strike one request: at most one of a kind, the one switched on first."""

    def __init__(self, by_kind: Mapping[str, Fault]) -> None:
        self._by_kind = by_kind

    def get(self, kind: str) -> Fault | None:
        """The fault of a kind, if it strikes."""
        return self._by_kind.get(kind)

    def option(self, kind: str, name: str, default: Any = None) -> Any:
        """An option of the fault of a kind; `default` also when there is none."""
        fault = self._by_kind.get(kind)
        return default if fault is None else fault.options.get(name, default)


NO_FAULTS = Plan({})


class Faults:
    """The faults that are switched on."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Switch one on."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Switch all off; what stalls goes on."""
        for fault in self._faults:
            fault.lifted.set()
        self._faults.clear()

    def plan(self, method: str, target: str) -> Plan:
        """What strikes this request. Counts it."""
        if not self._faults:
            return NO_FAULTS
        striking: dict[str, Fault] = {}
        for fault in self._faults:
            if fault.kind not in striking and fault.strikes(method, target):
                striking[fault.kind] = fault
        return Plan(striking)

    def describe(self) -> list[dict[str, Any]]:
        """Each fault with its counts."""
        return [
            {
                "kind": fault.kind,
                "path": fault.path.pattern,
                "seen": fault.seen,
                "struck": fault.struck,
                **fault.options,
            }
            for fault in self._faults
        ]
