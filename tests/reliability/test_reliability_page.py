"""docs/reliability.md says what the tests try, and nothing else."""

from pathlib import Path

import pytest
from fault_matrix import FAULTS, Operation

from scripts.reporting import page

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


@pytest.mark.parametrize(
    ("marks", "text"), [(page.MATRIX, page.matrix()), (page.REASONS, page.reasons())], ids=["matrix", "reasons"]
)
def test_the_page_agrees_with_the_table(marks: tuple[str, str], text: str) -> None:
    assert page.between(DOCUMENT.read_text(), marks) == text, "run scripts/reliability"


def test_every_fault_says_what_comes_of_every_operation() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.row.keys() == set(Operation) for fault in FAULTS)


def test_figures_of_any_trial_are_shown() -> None:
    figures = {"matrix": {"cells": 1234, "wrong_bytes": 0}, "earthquakes": {"magnitude": 7.5, "wrong_bytes": 2}}
    shown = page.tables(figures).splitlines()
    assert "| cells of the matrix tried | 1 234 |" in shown
    assert "| wrong bytes, in all of them | 2 |" in shown
    assert "| earthquakes | magnitude | 7.5 |" in shown
    assert page.tables({}).count("\n") == 4


def test_writing_twice_changes_nothing() -> None:
    once = page.written(DOCUMENT.read_text(), {"kills": {"kills": 3}})
    assert page.written(once, {"kills": {"kills": 3}}) == once
