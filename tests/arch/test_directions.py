"""One rule of direction: model <- {control, market, twin, wire} <- plan <- run <- app, read from the imports themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gridtide

ROOT = Path(gridtide.__file__).parent
MAY_SEE: dict[str, frozenset[str]] = {
    "model": frozenset({"model"}),
    "control": frozenset({"model", "control"}),
    "market": frozenset({"model", "market"}),
    "twin": frozenset({"model", "twin"}),
    "wire": frozenset({"model", "wire"}),
    "plan": frozenset({"model", "control", "market", "plan"}),
    "run": frozenset({"model", "control", "market", "twin", "wire", "plan", "run", "data"}),
    "app": frozenset({"model", "control", "market", "twin", "wire", "plan", "run", "app", "data"}),
}


def seen_rooms(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of our own packages; `package` is where the module lies below `gridtide`."""
    for node in ast.walk(ast.parse(source)):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(("gridtide", *package)[: len(package) + 2 - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            targets = [f"{module}.{item.name}" for item in node.names]
        for parts in (target.split(".") for target in targets):
            if parts[0] == "gridtide" and len(parts) > 1 and not parts[1].startswith("__"):
                yield getattr(node, "lineno", 0), parts[1]


def breaches(room: str) -> list[str]:
    """Imports of this room that go the wrong way."""
    found = []
    for path in sorted((ROOT / room).rglob("*.py")):
        package = path.relative_to(ROOT).parts[:-1]
        for line, seen in seen_rooms(path.read_text(encoding="utf-8"), package):
            if seen not in MAY_SEE[room]:
                found.append(f"{path.relative_to(ROOT)}:{line} sees {seen}")
    return found


@pytest.mark.parametrize("room", sorted(MAY_SEE))
def test_imports_go_one_way(room: str) -> None:
    assert any((ROOT / room).rglob("*.py"))
    assert breaches(room) == []


def test_there_are_no_other_rooms() -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert rooms <= set(MAY_SEE) | {"data"}


@pytest.mark.parametrize(
    ("source", "package", "room"),
    [
        ("import gridtide.run.clock", ("control",), "run"),
        ("from gridtide.market.bill import x", ("control",), "market"),
        ("from gridtide import market", ("control",), "market"),
        ("from ..market import bill", ("control",), "market"),
        ("from ...market import bill", ("wire", "ocpp"), "market"),
        ("def f():\n    from gridtide.app import cli", ("model",), "app"),
    ],
)
def test_a_planted_import_is_seen(source: str, package: tuple[str, ...], room: str) -> None:
    assert [seen for _, seen in seen_rooms(source, package)] == [room]


def test_an_import_from_beside_is_one_s_own_room() -> None:
    assert [seen for _, seen in seen_rooms("from .guard import clamp", ("control",))] == ["control"]
