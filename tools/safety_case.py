"""`make safety-case`: run the campaign and the pairs, then write docs/safety-case.md from what they gave.

python -m tools.safety_case [--seeds 20] [--hours 1] [--pair-seeds 1] [--every 5] [--run-tests]

Results of earlier runs are taken with --campaign FILE --pairs FILE (what `gridtide verify --json` printed). Exit code 1: something
was violated or failed, the page tells it; 2: no page could be made, for instance because it would name a test that is not there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import structs, toml

from tools import named_tests
from tools.safety_case_page import Rows, Shown, named, page, passed

ROOT: Final = Path(__file__).resolve().parent.parent
ROWS: Final = ROOT / "tools/safety_case.toml"
OUTPUT: Final = ROOT / "docs/safety-case.md"
VERIFY: Final = (sys.executable, "-c", "from gridtide.app.cli import main; main()", "verify", "--json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page; the exit code."""
    given = _parser().parse_args(arguments)
    rows = toml.decode(ROWS.read_bytes(), type=Rows)
    shown = Shown(
        commit=_commit(), campaign={}, pairs=None, tests=named_tests.tests_of(ROOT), ended=None,
        attacks=(ROOT / "docs/attacks.md").read_text(encoding="utf-8"), mutation=_text(ROOT / "docs/mutation.md"),
        hours=given.hours,
    )  # fmt: skip
    try:
        ids = named(rows, shown)
        shown = structs.replace(shown, campaign=_campaign(given), pairs=_pairs(given))
        if given.run_tests:
            with tempfile.TemporaryDirectory() as folder:
                shown = structs.replace(shown, ended=named_tests.run(ids, ROOT, Path(folder) / "tests.xml"))
        text = page(rows, shown)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"no safety case: {error}", file=sys.stderr)
        return 2
    given.output.write_text(text, encoding="utf-8")
    print(f"{given.output} is written", file=sys.stderr)
    return 0 if passed(rows, shown) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="random sites")
    parser.add_argument(
        "--hours", type=float, default=1.0, help="simulated hours of each; with --campaign, what they were"
    )
    parser.add_argument("--pair-seeds", type=int, default=1, help="sites of each pair of faults; 0: no pairs")
    parser.add_argument("--every", type=int, default=5, help="only every n-th pair")
    parser.add_argument("--evses", type=int, default=10, help="stations of each site")
    parser.add_argument("--processes", type=int, default=0, help="0: one a core")
    parser.add_argument("--campaign", type=Path, help="JSON of an earlier campaign")
    parser.add_argument("--pairs", type=Path, help="JSON of earlier pairs")
    parser.add_argument("--run-tests", action="store_true", help="run the named tests too and tell how they ended")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser


def _campaign(given: argparse.Namespace) -> dict[str, Any]:
    if given.campaign is not None:
        return _read(given.campaign)
    return _verify(given, "--seeds", given.seeds, "--hours", given.hours)


def _pairs(given: argparse.Namespace) -> dict[str, Any] | None:
    if given.pairs is not None:
        return _read(given.pairs)
    if given.pair_seeds == 0:
        return None
    return _verify(given, "--pairs", "--seeds", given.pair_seeds, "--every", given.every)


def _verify(given: argparse.Namespace, *options: object) -> dict[str, Any]:
    """What `gridtide verify --json` prints; a violation is a result."""
    command = [*VERIFY, "--evses", str(given.evses), "--processes", str(given.processes), *map(str, options)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if ended.returncode not in (0, 1) or not ended.stdout:
        raise RuntimeError(f"gridtide verify {' '.join(map(str, options))} ended with {ended.returncode}")
    return _object(ended.stdout)


def _read(path: Path) -> dict[str, Any]:
    return _object(path.read_bytes())


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict) or "violations_by_invariant" not in found:
        raise ValueError("that is not what gridtide verify --json prints")
    return found


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _commit() -> str:
    """What was run, with a word when files differ from it."""

    def git(*words: str) -> str:
        ended = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return ended.stdout.strip() if ended.returncode == 0 else ""

    name = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return name + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else "")


if __name__ == "__main__":
    raise SystemExit(main())
