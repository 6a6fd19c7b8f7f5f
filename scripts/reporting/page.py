"""The parts of docs/reliability.md that are generated: the fault matrix, and the figures that trials noted.

Each part stands between two comments. Figures are whatever `tests/harness/figures.py` wrote: one object of numbers for
each kind of trial. The few that everybody asks for come first, by name; then all of them, whatever they are.
"""

from collections.abc import Mapping

from fault_matrix import FAULTS, Fault, Operation

MATRIX = "<!-- matrix: written by scripts/reliability -->", "<!-- end of matrix -->"
REASONS = "<!-- reasons: written by scripts/reliability -->", "<!-- end of reasons -->"
FIGURES = "<!-- figures: written by scripts/reliability -->", "<!-- end of figures -->"

HEADLINES = (
    ("cells of the matrix tried", "matrix", "cells"),
    ("kills survived", "kills", "kills"),
    ("bad inputs tried", "inputs", "inputs"),
    ("hours of everything at once", "soak", "hours"),
)

Figures = Mapping[str, Mapping[str, float | str]]


def written(page: str, figures: Figures) -> str:
    """The page with everything that is generated made anew."""
    for marks, text in ((MATRIX, matrix()), (REASONS, reasons()), (FIGURES, tables(figures))):
        page = _replaced(page, marks, text)
    return page


def between(page: str, marks: tuple[str, str]) -> str:
    """What stands between two marks now.

    Raises:
        ValueError: a mark is not there.
    """
    begin, end = page.index(marks[0]) + len(marks[0]), page.index(marks[1])
    return page[begin:end].strip()


def _replaced(page: str, marks: tuple[str, str], text: str) -> str:
    begin, end = page.index(marks[0]) + len(marks[0]), page.index(marks[1])
    return f"{page[:begin]}\n\n{text}\n\n{page[end:]}"


def matrix() -> str:
    """Faults down, operations across."""
    lines = [_line("what happens", *(operation.value for operation in Operation)), _line(*["---"] * 8)]
    return "\n".join(lines + [_line(fault.what, *_outcomes(fault)) for fault in FAULTS])


def _outcomes(fault: Fault) -> list[str]:
    return [fault.row[operation].shown for operation in Operation]


def reasons() -> str:
    """One point for each fault."""
    return "\n".join(f"* **{fault.what}.** {fault.why}" for fault in FAULTS)


def tables(figures: Figures) -> str:
    """The figures everybody asks for, then all."""
    lines = [_line("", "so far"), _line("---", "---:")]
    for what, trial, name in HEADLINES:
        if name in figures.get(trial, {}):
            lines.append(_line(what, _number(figures[trial][name])))
    wrong = [float(known["wrong_bytes"]) for known in figures.values() if "wrong_bytes" in known]
    if wrong:
        lines.append(_line("wrong bytes, in all of them", _number(sum(wrong))))
    lines += ["", _line("trial", "figure", "value"), _line("---", "---", "---:")]
    for trial, known in sorted(figures.items()):
        lines += [_line(trial, name.replace("_", " "), _number(value)) for name, value in sorted(known.items())]
    return "\n".join(lines)


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:g}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
