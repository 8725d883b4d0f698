"""`make mutate`: how many small faults, planted one at a time in the safety kernel, do the tests notice?

python tools/mutate.py [--packages .venv/mutation/packages] [--least-pct 95] [--children 2] [MUTANT ...]

Works in a copy of the tree and fails when a file is below the least share. mutmut leaves decorated functions alone, so
decorators are put behind their functions in that copy: `guard.clamp` is mutated like the rest.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAST_PCT = 95.0
FAILED = (1, 3)
"""Exit codes of a mutant that a test noticed."""
TIMED_OUT = (-24, 24, 36, 152, 255)
"""The same of one that ran far beyond the usual time."""
MARKS = ("pragma: no mutate", "pragma: no cover")


@dataclass
class Score:
    """What became of the mutants of one file."""

    file: str
    noticed: int = 0
    timed_out: int = 0
    """How many of the noticed did not end in time: few, or the machine was too busy to tell."""
    survived: list[str] = field(default_factory=list)

    @property
    def pct(self) -> float:
        """Share of mutants that were noticed, percent."""
        total = self.noticed + len(self.survived)
        return 100.0 * self.noticed / total if total else 0.0


def decorators_behind(text: str) -> str:
    """The same module with every decorator of a module-level function applied by an assignment at its end."""
    lines = text.splitlines(keepends=True)
    after: list[str] = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef):
            for decorator in reversed(node.decorator_list):
                after.append(f"\n{node.name} = ({ast.unparse(decorator)})({node.name})\n")
                for number in range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1):
                    lines[number - 1] = "\n"
    return "".join(lines + after)


def prepared(tree: Path, files: list[str]) -> None:
    """A fresh copy of what the tests need, with `files` ready to be mutated."""
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "mutants" / "src").mkdir(parents=True)  # Python forgets a search path that is not there when it starts
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for name in files:
        text = (tree / name).read_text(encoding="utf-8")
        if any(mark in text for mark in MARKS):
            raise SystemExit(f"{name}: marks that leave code out are not allowed here")
        (tree / name).write_text(decorators_behind(text), encoding="utf-8")


def run(tree: Path, packages: Path, children: int, mutants: list[str]) -> None:
    """Let mutmut plant its mutants; raises SystemExit when it cannot run at all."""
    found = os.pathsep.join([str(packages), str(tree / "mutants" / "src"), str(tree / "mutants")])
    told = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children), *mutants]
    done = subprocess.run(told, cwd=tree, env=os.environ | {"PYTHONPATH": found}, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise SystemExit(f"mutmut ended with {done.returncode}")


def score(tree: Path, name: str) -> Score:
    """Read what mutmut kept of one file; a mutant that no test reached counts as survived."""
    kept = json.loads((tree / "mutants" / f"{name}.meta").read_text(encoding="utf-8"))
    found = Score(name)
    for mutant, code in kept["exit_code_by_key"].items():
        if code is None:
            continue  # not asked for
        if code in FAILED + TIMED_OUT:
            found.noticed += 1
            found.timed_out += code in TIMED_OUT
        else:
            found.survived.append(mutant)
    return found


def main() -> int:
    """Run, print one line per file and every survivor; 1 when a file is below the least share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=ROOT / ".venv/mutation/packages")
    parser.add_argument("--tree", type=Path, default=ROOT / ".venv/mutation/tree")
    parser.add_argument("--least-pct", type=float, default=LEAST_PCT)
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1)
    parser.add_argument("mutants", nargs="*")
    args = parser.parse_args()
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = [str(name) for name in config["tool"]["mutmut"]["only_mutate"]]
    prepared(args.tree, files)
    run(args.tree, args.packages, args.children, args.mutants)
    scores = [score(args.tree, name) for name in files]
    for found in scores:
        print(
            f"{found.file}: {found.noticed} noticed ({found.timed_out} by time), {len(found.survived)} survived, {found.pct:.1f} %"
        )
        for mutant in found.survived:
            print(f"  survived {mutant}")
    return 0 if all(found.pct >= args.least_pct for found in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
