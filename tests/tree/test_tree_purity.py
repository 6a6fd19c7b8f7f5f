"""The tree can do no I/O and read no clock, because it imports nothing that could."""

import ast
from pathlib import Path

import pytest

import kheopsfs.tree

_MODULES = sorted(Path(kheopsfs.tree.__path__[0]).glob("*.py"))
_PURE = {"bisect", "collections", "collections.abc", "datetime", "enum", "functools", "hashlib", "operator", "re"}
_PURE |= {"typing", "unicodedata"}
_OURS = ("kheopsfs.tree", "kheopsfs.kheops.records", "kheopsfs.kheops.contents")


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.stem)
def test_imports_are_pure(module: Path) -> None:
    source = ast.parse(module.read_text(encoding="utf-8"))
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or ""]
        else:
            continue
        for name in imported:
            assert name in _PURE or name == "msgspec" or name.startswith(_OURS), f"{module.name} imports {name}"


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.stem)
def test_nothing_opens_prints_or_asks_the_time(module: Path) -> None:
    source = ast.parse(module.read_text(encoding="utf-8"))
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
    }
    assert not called & {"open", "print", "input", "now", "today", "utcnow", "fromtimestamp"}


def test_there_are_modules_to_look_at() -> None:
    assert len(_MODULES) > 5
