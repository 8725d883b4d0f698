"""How long does one call of the guard take? Against the limit of 1 ms, for sites of 1 to 1,000 rows, with random evidence."""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gridtide.control import guard, needs
from gridtide.control.guard import GuardSettings
from gridtide.control.meter import Verdict
from gridtide.control.needs import NeedSettings
from gridtide.model.decision import Reason, Snapshot
from gridtide.model.fleet import EvseTable, FleetSample, SiteLimits

LIMIT_MS = 1.0
ROWS = (1, 10, 100, 1000)
GROUPS = 4
Floats = NDArray[np.float64]


def table_of(rng: np.random.Generator, rows: int) -> EvseTable:
    """AC and DC rows on three phases, in four groups and none."""
    alternating = rng.random(rows) < 0.5
    phase = np.where(rng.random(rows)[:, None] < 0.4, np.eye(3)[rng.integers(0, 3, rows)], 1.0 / 3.0)
    return EvseTable(
        ids=tuple(f"bay-{row}" for row in range(rows)),
        charge_kw=rng.choice([3.7, 11.0, 22.0], rows),
        discharge_kw=rng.choice([0.0, 7.0, 22.0], rows),
        least_kw=np.where(alternating, 1.38, 0.0),
        step_kw=np.where(alternating, 0.23, 0.0),
        ramp_kw_per_s=np.full(rows, 22.0),
        hold_s=np.full(rows, 60.0),
        efficiency=np.full(rows, 0.95),
        fallback_kw=np.full(rows, 1.38),
        phase_share=phase,
        group=rng.integers(-1, GROUPS, rows),
        storage=np.zeros(rows, dtype=np.bool_),
    )


def fleet_of(rng: np.random.Generator, rows: int) -> FleetSample:
    """Nine of ten rows are plugged in; one in ten is silent, faulty, hot or of unknown charge."""

    def odd(value: float, usual: Floats) -> Floats:
        return np.where(rng.random(rows) < 0.1, value, usual)

    return FleetSample(
        connected=rng.random(rows) < 0.9,
        fault=rng.random(rows) < 0.1,
        may_discharge=rng.random(rows) < 0.8,
        age_s=odd(60.0, rng.uniform(0.0, 1.5, rows)),
        power_kw=odd(np.nan, rng.uniform(-3.0, 3.0, rows)),
        soc=odd(np.nan, rng.uniform(0.15, 1.0, rows)),
        capacity_kwh=np.full(rows, 60.0),
        need_soc=odd(np.nan, rng.uniform(0.3, 0.95, rows)),
        need_kwh=np.full(rows, np.nan),
        minimum_soc=odd(0.5, np.full(rows, np.nan)),
        left_s=odd(np.inf, rng.uniform(0.0, 40_000.0, rows)),
        charge_limit_kw=np.full(rows, np.inf),
        discharge_limit_kw=odd(3.0, np.full(rows, np.inf)),
        temperature_c=odd(80.0, np.full(rows, np.nan)),
        register_kwh=np.full(rows, np.nan),
    )


def call_of(rows: int, seed: int) -> Callable[[], Floats]:
    """One call of the guard in which every limit of the site binds."""
    rng = np.random.default_rng(seed)
    table, fleet = table_of(rng, rows), fleet_of(rng, rows)
    limits = SiteLimits(
        transformer_kw=6.0 * rows + 50.0, static_building_kw=20.0, group_kw=(1.0 * rows,) * GROUPS, phase_a=8.0 * rows
    )
    snapshot = Snapshot(mono_s=100.0, now_s=0.0, meter=None, fleet=fleet)
    state, settings, rules = guard.fresh(rows), GuardSettings(), NeedSettings()
    need = needs.assess(table, fleet, rules, 0.5)
    wish, rank = rng.uniform(-22.0, 22.0, rows), rng.random(rows)
    reason = np.full(rows, Reason.SHAVING, dtype=np.uint8)
    verdict = Verdict(True, 2.0 * rows + 30.0, 2.0 * rows + 30.0)

    def call() -> Floats:
        return guard.clamp(
            wish, reason, rank, snapshot, verdict, need, table, limits, state, settings, rules, 0.5
        )[1]  # fmt: skip

    return call


def cpu_ms(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and 99th percentile of the CPU milliseconds of `run`."""
    run()
    spent = []
    for _ in range(repeats):
        start = time.process_time_ns()
        run()
        spent.append((time.process_time_ns() - start) / 1e6)
    return statistics.median(spent), statistics.quantiles(spent, n=100)[98]


def main() -> int:
    """Time it and print one JSON object as the last line with --json; 1 when the median is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    result: dict[str, float] = {"limit_ms": LIMIT_MS}
    for rows in args.rows:
        call = call_of(rows, 7)
        median, late = cpu_ms(call, args.repeats)
        result |= {
            f"guard_{rows}_ms": round(median, 3),
            f"guard_{rows}_p99_ms": round(late, 3),
            f"guard_{rows}_ratio_to_limit": round(median / LIMIT_MS, 3),
            f"guard_{rows}_flowing_rows": int(np.count_nonzero(call())),
        }
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:32} {value}")
    return 0 if all(result[f"guard_{rows}_ms"] <= LIMIT_MS for rows in args.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
