"""Tests that a page names: whether they are there, and how they ended when they were run for it."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

ELLIPSIS: Final = "…"
_NAMED: Final = re.compile(r"`((?:tests/|::)[^`]+)`")


class UnknownTestError(ValueError):
    """A page names a test that does not exist."""


def tests_of(root: Path) -> dict[str, tuple[str, ...]]:
    """Names of the test functions of every test file, by its path below `root`."""
    found = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[path.relative_to(root).as_posix()] = tuple(
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        )
    return found


def resolve(name: str, there: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Ids of the test functions a name means: a file, `file::test`, or `file::beginning…`. UnknownTestError: none."""
    path, _, function = name.partition("::")
    if path not in there:
        raise UnknownTestError(f"{name}: there is no test file {path}")
    if function.endswith(ELLIPSIS):
        meant = tuple(test for test in there[path] if test.startswith(function.removesuffix(ELLIPSIS)))
    else:
        meant = tuple(test for test in there[path] if not function or test == function)
    if not meant:
        raise UnknownTestError(f"{name}: {path} has no such test")
    return tuple(f"{path}::{test}" for test in meant)


def named_in(text: str) -> tuple[str, ...]:
    """Names of tests in a line of a page; `::test` belongs to the file named before it."""
    names: list[str] = []
    path = ""
    for name in _NAMED.findall(text):
        path = name.partition("::")[0] or path
        names.append(name if name.startswith("tests/") else path + name)
    return tuple(names)


def run(ids: Iterable[str], root: Path, report: Path) -> dict[str, str]:
    """Run tests by their ids; how each ended: `passed`, `failed` or `skipped`.

    RuntimeError: pytest could not run them.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *sorted(set(ids)),
    ]
    ended = subprocess.run(command, cwd=root, stdout=sys.stderr, check=False)
    if ended.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run the named tests (exit code {ended.returncode})")
    return outcomes(report.read_text(encoding="utf-8"))


def outcomes(report: str) -> dict[str, str]:
    """How each test function ended, of a JUnit report: the worst of its parameters counts."""
    found: dict[str, str] = {}
    order = ("passed", "skipped", "failed")
    for case in ET.fromstring(report).iter("testcase"):
        path = (case.get("classname") or "").replace(".", "/") + ".py"
        name = f"{path}::{(case.get('name') or '').partition('[')[0]}"
        kinds = {child.tag for child in case}
        state = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[name] = max(found.get(name, "passed"), state, key=order.index)
    return found


def told(names: Iterable[str], there: Mapping[str, tuple[str, ...]], ended: Mapping[str, str] | None) -> str:
    """Names for a table's cell with how they ended; with None they were not run, which is said once above the table."""
    cells = []
    for name in names:
        ids = resolve(name, there)
        cell = f"`{name}`"
        if ended is not None:
            states = [ended.get(test, "not run") for test in ids]
            worst = next((state for state in ("failed", "not run", "skipped") if state in states), "passed")
            cell += f" {worst}"
        cells.append(cell)
    return ", ".join(cells)
