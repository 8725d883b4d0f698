"""`make fuzz-guard`: random states of one EVSE each through the guard, many rows a call, against invariants that know the truth.

python -m tools.fuzz_guard [--states 10000000] [--rows 1000] [--seed 1]

Two in a hundred states are put into calls of a few rows, where the limits of the site bind otherwise than in a large fleet.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.property.guard_cases import case, violations

FEW_ROWS = 5
FEW_SHARE = 0.02
KEPT = 20
"""Findings told in full."""


@dataclass
class Result:
    """What came out."""

    states: int = 0
    calls: int = 0
    charging: int = 0
    giving: int = 0
    findings: list[str] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)


def run(states: int, rows: int, seed: int) -> Result:
    """Ask the guard about `states` rows; the same seed gives the same states."""
    result = Result()
    for size, until in ((FEW_ROWS, int(states * FEW_SHARE)), (rows, states)):
        while result.states < until and len(result.findings) < KEPT:
            _ask(result, seed * 2**40 + result.calls, min(size, until - result.states))
    return result


def _ask(result: Result, number: int, rows: int) -> None:
    here = case(number, rows)
    _, setpoint, reason, _ = here.clamp()
    result.states += rows
    result.calls += 1
    result.charging += int(np.count_nonzero(setpoint > 0.0))
    result.giving += int(np.count_nonzero(setpoint < 0.0))
    found = violations(here, setpoint, reason)
    result.broken.update(found)
    if found:
        result.findings.append(f"case({number}, {rows}): {', '.join(found)}")


def main() -> int:
    """Run and tell; 1 when an invariant broke."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--states", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=1000, help="rows of one call")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # rubbish overflows on its way to "allows nothing"
    began_s = time.perf_counter()
    result = run(args.states, args.rows, args.seed)
    for finding in result.findings:
        print(finding)
    print(
        f"{result.states:,} states in {result.calls:,} calls, {result.charging:,} charge, {result.giving:,} give, "
        f"{sum(result.broken.values())} invariants broken, {time.perf_counter() - began_s:.0f} s"
    )
    return 1 if result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
