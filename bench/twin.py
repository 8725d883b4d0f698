"""How fast is the twin? Charger-steps per CPU second of the whole plant, beside a bare NumPy loop of the same physics.

Two days are run: `parked` (every bay occupied all day) and `workplace` (every vehicle comes between 6 and 10 h and goes between 15
and 19 h, so that 2 n events split the steps). Each step sends fresh seeded setpoints to all chargers. The bare loop has taper and
losses only (no charger dynamics, heat, ledgers, events or building): it is a ceiling, not a rival.
"""

import argparse
import json
import resource
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gridtide.model import losses, taper
from gridtide.model.fleet import EvseTable
from gridtide.twin import evse, plant
from gridtide.twin.arrivals import KNEE_SOC, Arrival
from gridtide.twin.building import LoadSeries, textured

DAY_S = 86_400.0
RATED_KW = 11.0
EFFICIENCY = 0.94
CAPACITIES_KWH = (40.0, 60.0, 77.0, 100.0)
Floats = NDArray[np.float64]


def table(n: int) -> EvseTable:
    """`n` equal bidirectional 11 kW bays."""
    rated = np.full(n, RATED_KW)
    return EvseTable(
        ids=tuple(f"bay-{i + 1}" for i in range(n)),
        charge_kw=rated,
        discharge_kw=rated,
        least_kw=np.full(n, 0.5),
        step_kw=np.zeros(n),
        ramp_kw_per_s=rated,
        hold_s=np.full(n, 60.0),
        efficiency=np.full(n, EFFICIENCY),
        fallback_kw=np.zeros(n),
        phase_share=np.full((n, 3), 1.0 / 3.0),
        group=np.full(n, -1),
        storage=np.zeros(n, dtype=np.bool_),
    )


def stays(n: int, workplace: bool, rng: np.random.Generator) -> list[Arrival]:
    """One vehicle per bay: there all day, or a working day's stay."""
    found = []
    for row in range(n):
        arrived, departs = (rng.uniform(6.0, 10.0), rng.uniform(15.0, 19.0)) if workplace else (-1.0, 48.0)
        found.append(
            Arrival(
                session_id=f"s{row}", row=row, arrived_s=3600.0 * arrived, departs_s=3600.0 * departs,
                told_departs_s=3600.0 * departs, capacity_kwh=float(rng.choice(CAPACITIES_KWH)),
                soc=float(rng.uniform(0.2, 0.7)), target_soc=0.8, need_kwh=20.0, may_discharge=True,
            )
        )  # fmt: skip
    return found


def build(n: int, workplace: bool) -> tuple[plant.World, plant.Plant]:
    """A plant of `n` bays with a flat 400 kW building that has the usual texture."""
    rng = np.random.default_rng(n)
    building = textured(LoadSeries(0.0, 900.0, np.full(96, 400.0)), seed=1)
    here = plant.world(table(n), [evse.MODELS["fast"]] * n, building, stays(n, workplace, rng))
    return here, plant.start(here, 0.0)


def wishes(n: int, steps: int) -> Floats:
    """Seeded setpoints, kW, shape (min(steps, 96), n), used in turn."""
    return np.random.default_rng(5).uniform(-RATED_KW, RATED_KW, (min(steps, 96), n))


def full_day(here: plant.World, state: plant.Plant, wish: Floats, steps: int) -> plant.Plant:
    """One day of the whole twin."""
    dt_s = DAY_S / steps
    for k in range(steps):
        state = plant.command(here, state, wish[k % len(wish)])
        state, _ = plant.advance(here, state, (k + 1) * dt_s)
    return state


def bare_day(n: int, wish: Floats, steps: int) -> Floats:
    """The same day as bare physics: taper and losses, signed, on plain arrays."""
    hours = np.full(n, DAY_S / steps / 3600.0)
    capacity = np.full(n, 60.0)
    energy = 0.5 * capacity
    efficiency, full = np.full(n, EFFICIENCY), np.full(n, RATED_KW)
    up, down = np.full(n, 1.0 - KNEE_SOC), np.full(n, 0.05)
    for k in range(steps):
        power = losses.battery_kw(wish[k % len(wish)], efficiency)
        charging = power > 0.0
        soc = energy / capacity
        room = np.maximum(np.where(charging, 1.0 - soc, soc - 0.05), 0.0)
        moved = taper.energy_kwh(np.abs(power), hours, room, np.where(charging, up, down), capacity, full)
        energy = energy + np.where(charging, moved, -moved)
    return energy


def cpu_s(run: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of `run`."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def measure(n: int, steps: int, repeats: int) -> dict[str, float | int]:
    """One line of the table."""
    wish = wishes(n, steps)
    begun = time.process_time()
    here, state = build(n, workplace=False)
    setup_s = time.process_time() - begun
    begun = time.process_time()
    busy_here, busy_state = build(n, workplace=True)
    busy_setup_s = time.process_time() - begun
    parked_s = cpu_s(lambda: full_day(here, state, wish, steps), repeats)
    busy_s = cpu_s(lambda: full_day(busy_here, busy_state, wish, steps), repeats)
    bare_s = cpu_s(lambda: bare_day(n, wish, steps), repeats)
    tracemalloc.start()
    end = full_day(busy_here, busy_state, wish, min(steps, 96))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    work = n * steps
    return {
        "chargers": n,
        "steps": steps,
        "parked_per_s": round(work / parked_s),
        "workplace_per_s": round(work / busy_s),
        "bare_per_s": round(work / bare_s),
        "parked_over_bare": round(bare_s / parked_s, 3),
        "workplace_over_bare": round(bare_s / busy_s, 3),
        "parked_day_ms": round(1e3 * parked_s, 2),
        "workplace_day_ms": round(1e3 * busy_s, 2),
        "setup_ms": round(1e3 * setup_s, 2),
        "workplace_setup_ms": round(1e3 * busy_setup_s, 2),
        "peak_run_mb": round(peak_bytes / 1e6, 2),
        "worst_residual_kwh": end.ledger.worst_residual_kwh,
    }


def main() -> int:
    """Measure every size and step; the last line is one JSON object with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chargers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[96, 1440], help="steps per day: 96 is 15 min, 1440 is 1 min"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for steps in args.steps:
        for n in args.chargers:
            print(f"{n} chargers, {steps} steps ...", file=sys.stderr)
            rows.append(measure(n, steps, args.repeats))
    balanced = all(row["worst_residual_kwh"] < 1e-9 for row in rows)
    if args.json:
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
        print(json.dumps({"rows": rows, "energy_balanced": balanced, "process_peak_mb": round(memory_mb, 1)}))
        return 0 if balanced else 1
    keys = list(rows[0])
    print(" ".join(f"{key:>19}" for key in keys))
    for row in rows:
        print(" ".join(f"{row[key]:>19.3g}" for key in keys))
    print(f"energy balanced to 1e-9 kWh in every step: {balanced}")
    return 0 if balanced else 1


if __name__ == "__main__":
    sys.exit(main())
