"""Figures that tests and `scripts/soak` find out, for docs/reliability.md.

They are written only when somebody wants them: `KHEOPSFS_FIGURES=docs/reliability.json scripts/test …` merges what the
tests counted into that file, one object for each kind of trial.
"""

import fcntl
import json
import os
from pathlib import Path

VARIABLE = "KHEOPSFS_FIGURES"


def record(trial: str, **figures: float | str) -> None:
    """Note the figures of one kind of trial, in place of those of an earlier run."""
    if not (name := os.environ.get(VARIABLE)):
        return
    with Path(name).open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        known = json.loads(text) if text else {}
        known.setdefault(trial, {}).update(figures)
        file.truncate(0)
        file.write(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
