"""How long does sharing one target over a large fleet take? Against the limit, and against plain bisection in the same run.

`sum_error_kw` compares what was placed with what bounds and group caps admit, reckoned independently of `share`.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gridtide.control.allocate import share

LIMIT_MS = 15.0
Floats = NDArray[np.float64]


def bisection(target: float, weight: Floats, lo: Floats, up: Floats) -> Floats:
    """The plain way: 40 halvings over all rows, no groups."""
    low, high = 0.0, float(np.max(up / weight))
    for _ in range(40):
        theta = 0.5 * (low + high)
        low, high = (theta, high) if np.clip(theta * weight, lo, up).sum() < target else (low, theta)
    return np.clip(high * weight, lo, up)


def cpu_ms(run: Callable[[], object], repeats: int) -> float:
    """Median CPU milliseconds of `run`."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        spent.append((time.process_time() - start) * 1e3)
    return statistics.median(spent)


def main() -> int:
    """Time it and print one JSON object as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vehicles", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--target", type=float, default=0.5, help="share of the fleet's rated power to place")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(7)
    n = args.vehicles
    up = rng.choice([7.4, 11.0, 22.0], n)
    lo = np.where(rng.random(n) < 0.05, up, 0.0)
    weight = up * rng.uniform(0.2, 3.0, n)
    group = rng.integers(0, args.groups, n)
    offered = np.bincount(group, weights=up, minlength=args.groups)
    caps = offered * rng.uniform(0.3, 1.1, args.groups)
    target = args.target * float(up.sum())
    found = share(target, weight, lo, up, group, caps)
    sums = np.bincount(group, weights=found.power_kw, minlength=args.groups)
    forced = np.bincount(group, weights=lo, minlength=args.groups)
    reachable_kw = float(np.maximum(np.minimum(caps, offered), forced).sum())
    expected_kw = min(max(target, float(lo.sum())), reachable_kw)
    result = {
        "vehicles": n,
        "groups": args.groups,
        "numpy_ms": round(cpu_ms(lambda: share(target, weight, lo, up, group, caps), args.repeats), 3),
        "bisection_no_groups_ms": round(cpu_ms(lambda: bisection(target, weight, lo, up), args.repeats), 3),
        "limit_ms": LIMIT_MS,
        "target_kw": target,
        "reachable_kw": reachable_kw,
        "placed_kw": float(found.power_kw.sum()),
        "sum_error_kw": abs(float(found.power_kw.sum()) - expected_kw),
        "missing_error_kw": abs(found.missing_kw - (target - expected_kw)),
        "group_excess_kw": float(np.max(sums - np.maximum(caps, forced))),
        "bound_excess_kw": float(np.max(np.maximum(found.power_kw - up, lo - found.power_kw))),
    }
    result["ratio_to_limit"] = round(result["numpy_ms"] / LIMIT_MS, 3)
    result["ratio_to_bisection"] = round(result["numpy_ms"] / result["bisection_no_groups_ms"], 3)
    errors = ("sum_error_kw", "missing_error_kw", "group_excess_kw", "bound_excess_kw")
    result["exact"] = all(result[name] < 1e-6 for name in errors)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:24} {value}")
    return 0 if result["exact"] and result["numpy_ms"] <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
