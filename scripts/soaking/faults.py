"""Faults of every kind that the demo server knows, at random; none of them lies so well that nobody could notice."""

import random
from typing import Any

from kheopsfs.demo.faults import KINDS

LISTS = (r"/api/albums", r"/api/studies($|\?)", r"/series($|\?)", r"/instances($|\?)")
BYTES = (r"/instances/[0-9.]+$", r"/series/[0-9.]+$", r"/studies/[0-9.]+($|\?)", r"/wado\?")
TOKENS = (r"/api/token",)

ANYWHERE = {"delay", "status", "html", "reset", "stall", "trickle", "revoke", "gzip"}
"""Kinds that strike lists as well; the others change bytes of bodies, which only bodies can prove."""
STATUSES = (301, 401, 403, 404, 410, 418, 429, 500, 502, 503, 504)


def any_fault(choice: random.Random) -> dict[str, Any]:
    """A fault to switch on."""
    kind = choice.choice(sorted(KINDS))
    where = choice.choices((BYTES, LISTS, TOKENS), (6, 3, 1) if kind in ANYWHERE else (1, 0, 0))[0]
    return {
        "kind": kind,
        "path": choice.choice(where),
        "after": choice.choice((0, 0, 1, 3)),
        "times": 1 if kind == "revoke" else choice.choice((1, 1, 2, 5, None)),
        **choice.choice(_options(choice).get(kind, [{}])),
    }


def _options(choice: random.Random) -> dict[str, list[dict[str, Any]]]:
    """What else the faults of a kind may say, one of several."""
    byte = {"byte": choice.choice((0, 1, 100, 9000, 70_000))}
    part = {"part": choice.randint(0, 3)}
    return {
        "delay": [{"seconds": choice.uniform(0.1, 1.5)}],
        "status": [{"code": choice.choice(STATUSES), "location": "http://127.0.0.1:9/elsewhere"}],
        "body": [{"text": text} for text in ("", "{}", "no such thing", "\0" * 10_000)],
        "content_type": [{"media_type": name} for name in ("application/dicom", "text/plain", "image/png", "")],
        "cut": [{"fraction": choice.random()}, byte],
        "reset": [{}, byte],
        "stall": [{}, byte],
        "revoke": [{}, byte],
        "trickle": [{"bytes": size, "seconds": 0.1} for size in (5_000, 50_000)],
        "upstream": [{}, {"parts": choice.randint(0, 5), **byte}],
        "partial": [{"parts": choice.randint(1, 3)}],
        "wrong_instance": [part],
        "duplicate": [part],
        "junk": [part],
    }
