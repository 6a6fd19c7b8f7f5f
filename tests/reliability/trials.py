"""Trying the cells of the fault matrix on real mounts.

Every trial takes studies that nobody has looked at, one for each operation, and one row of the matrix is tried at once:
prepare (what must be known before, such as the name of the file to open), switch the fault on, do everything side by
side, compare with the table, switch it off, and do everything again. Whatever is read at any time is compared with the
server's own bytes.
"""

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fault_matrix import MIDDLE, MIDDLE_OF, Fault, Operation, Outcome, Scope, Way
from harness.looking import until, xattr
from harness.patience import Attempt
from operations import ENDS_WITHIN, PERFORM, WELL, WRONG, Place, Results, open_whole, results_of
from ward import Ward

PROMPT = 2.0
"""Seconds for what is cached, whatever the server does; it takes milliseconds."""

COOL = 20.0
"""Seconds in which a mount must have noticed that the server is well again."""

LOOK_PAUSE = 0.05
"""Seconds between looks at what is cached, while the cells are tried."""


@dataclass
class Cell:
    """One operation on a study of its own, under one of the ways in which the fault of its row happens."""

    name: str
    operation: Operation
    place: Place
    way: Way

    def perform(self) -> None:
        """Raises OSError, or WrongBytesError."""
        PERFORM[self.operation](self.place)


def cells_of(ward: Ward, fault: Fault) -> list[Cell]:
    """All cells of a row, ready to be tried."""
    return [
        Cell(f"{fault.name}{number or ''}-{operation.name.lower()}", operation, ward.take(operation), way)
        for number, way in enumerate(fault.ways or ((),))
        for operation in Operation
    ]


def try_row(
    ward: Ward, fault: Fault, on: Callable[[list[Cell]], None], off: Callable[[], None], *, known_works: bool = True
) -> None:
    """Try all cells of a row.

    Args:
        ward: where.
        fault: the row.
        on: switches the fault on for these cells.
        off: switches it off.
        known_works: what is cached can be read all the while.
    """
    cells = cells_of(ward, fault)
    healthy = ward.take(Operation.OPEN) if fault.scope is not Scope.SERVER else None
    on(cells)
    try:
        everything = Attempt(lambda: perform_all(ward, cells))
        # So many silent requests to so many studies hold all turns of the gate; then the others wait for them.
        turns_are_held = fault.row[Operation.LIST] is Outcome.ETIMEDOUT
        other = Attempt(lambda: open_whole(healthy)) if healthy is not None and not turns_are_held else None
        while known_works and not everything.is_over:
            Attempt(ward.read_known).result(PROMPT)
            time.sleep(LOOK_PAUSE)
        if healthy is not None:
            assert results_of(other or Attempt(lambda: open_whole(healthy))) == WELL, "another study"
        results = everything.result(len(cells) * ENDS_WITHIN)
        ward.cells += len(results)
        assert not (unexpected := _unexpected(fault, cells, results)), unexpected
        for cell in cells:
            if cell.operation is Operation.OPEN and results[cell.name] & {"EIO", "ETIMEDOUT"}:
                assert xattr(cell.place.file, "kheops.cached") == "no"
    finally:
        off()
    if fault.scope is Scope.SERVER:
        until(lambda: not _failing(ward, cells), seconds=COOL)
    assert not (failing := _failing(ward, cells)), f"the fault is over, and yet: {failing}"
    for cell in cells:
        if cell.place.handle is not None:
            os.close(cell.place.handle)


def perform_all(ward: Ward, cells: Sequence[Cell]) -> dict[str, Results]:
    """Do all at once; how each ended."""
    attempts = {cell.name: Attempt(cell.perform) for cell in cells}
    results = {name: results_of(attempt) for name, attempt in attempts.items()}
    ward.wrong += sum(WRONG in result for result in results.values())
    return results


def _unexpected(fault: Fault, cells: list[Cell], results: dict[str, Results]) -> dict[str, str]:
    return {
        cell.name: f"{_shown(results[cell.name])} instead of {fault.row[cell.operation].shown}"
        for cell in cells
        if not results[cell.name] <= fault.row[cell.operation].allowed
    }


def _failing(ward: Ward, cells: list[Cell]) -> dict[str, str]:
    return {name: _shown(result) for name, result in perform_all(ward, cells).items() if result != WELL}


def _shown(results: Results) -> str:
    return ", ".join(sorted(result or "works" for result in results))


def strike(ward: Ward, fault: Fault) -> Callable[[list[Cell]], None]:
    """What switches a fault of the demo server on."""

    def on(cells: list[Cell]) -> None:
        documents = [_document(ward, fault, cell, one) for cell in cells for one in cell.way]
        ward.server.call("POST", "/faults", json=documents)

    return on


_BELOW = {
    Scope.STUDY: "(?![0-9.])",
    Scope.SERVER: "(?![0-9.])",
    Scope.LISTS: r"/series(/[0-9.]+/(instances|metadata))?(\?|$)",
    Scope.SERIES_LIST: r"/series(\?|$)",
    Scope.BODIES: r"/series/[0-9.]+(/instances/[0-9.]+)?(\?|$)",
}


def _document(ward: Ward, fault: Fault, cell: Cell, one: dict[str, Any]) -> dict[str, Any]:
    document = one | {"path": re.escape(cell.place.StudyInstanceUID) + _BELOW[fault.scope]}
    if document.get("byte") == MIDDLE:
        document["byte"] = MIDDLE_OF[cell.operation]
    if (elements := document.pop("rows", None)) is not None:
        document["text"] = json.dumps([row | elements for row in ward.series_list(cell.place)])
    return document
