"""Which rule keeps a day's demand below the limit, and what does it spend? Budget, thresholds, two baselines, foresight.

Every rule drives the same fleet (10 x 11 kW, 120 kWh usable, full at the start, recharging allowed, commands 1 s late) over the
same seeded synthetic days, or over a day of your own (`--load`). `budget` and `threshold` are `gridtide.control.peak.step` itself.
A day is over when its highest billed interval ends more than 0.5 kW above the limit. With --json the last line is one JSON object.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import highspy
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from synthetic_day import synthetic_day

from gridtide.control import demand_clock, peak
from gridtide.model.demand import DemandInterval
from gridtide.plan.clairvoyant import Stay, lowest_peak_kw

FLEET_KW = 110.0
FLEET_KWH = 120.0
START_S = 28_800.0
OVER_KW = 0.5
BUFFERS_KW = (0, 10, 25, 35, 50, 75)
TARIFFS = {"block": DemandInterval(900.0, 1), "rolling": DemandInterval(900.0, 3)}
RULES = ("none", "budget", *(f"threshold-{b}" for b in BUFFERS_KW), "symmetric", "elapsed")
RATIO = 1.2
"""A threshold that is over on no more days than the budget must have spent at least this many times its energy."""
Floats = NDArray[np.float64]
Control = Callable[[demand_clock.DemandState, float, float], float]
"""(clock, uncontrolled load in kW, fleet energy in kWh) to fleet power in kW, + charging."""


class Task(Struct, frozen=True):
    """One day under one rule."""

    rule: str
    tariff: str
    base_kw: float
    draw: int
    limit_kw: float
    load_file: str


class Day(Struct, frozen=True):
    """What one day came to; `kwh` is what the fleet gave."""

    peak_kw: float
    kwh: float
    starts: int
    left_kwh: float


def product_rule(settings: peak.PeakSettings, interval: DemandInterval) -> Control:
    """The product's own peak controller."""
    state = peak.PeakState()

    def control(clock: demand_clock.DemandState, load_kw: float, energy_kwh: float) -> float:
        nonlocal state
        room = peak.FleetRoom(min(FLEET_KW, energy_kwh * 3600.0), energy_kwh)
        state, plan = peak.step(state, clock, interval, peak.LoadNow(load_kw, load_kw), room, 1.0, settings)
        return -plan.discharge_kw if plan.discharge_kw > 0.0 else plan.charge_room_kw

    return control


def symmetric_rule(limit_kw: float) -> Control:
    """OpenEMS-like: what exceeds the limit is discharged, what lacks to limit - 50 kW is charged."""

    def control(_: demand_clock.DemandState, load_kw: float, __: float) -> float:
        return max(0.0, limit_kw - 50.0 - load_kw) - max(0.0, load_kw - limit_kw)

    return control


def elapsed_rule(limit_kw: float, interval: DemandInterval) -> Control:
    """Common in building automation: everything is shed while energy + present power x time left exceeds the budget."""

    def control(clock: demand_clock.DemandState, load_kw: float, _: float) -> float:
        allow_kw = demand_clock.allow_kw(clock, interval, limit_kw, 1.0)
        return -FLEET_KW if load_kw > allow_kw else max(0.0, min(allow_kw, limit_kw) - load_kw)

    return control


def control_of(rule: str, limit_kw: float, interval: DemandInterval) -> Control:
    """The control of a rule's name."""
    if rule == "none":
        return lambda *_: 0.0
    if rule == "symmetric":
        return symmetric_rule(limit_kw)
    if rule == "elapsed":
        return elapsed_rule(limit_kw, interval)
    if rule == "budget":
        return product_rule(peak.PeakSettings(limit_kw=limit_kw), interval)
    buffer_kw = float(rule.removeprefix("threshold-"))
    return product_rule(peak.PeakSettings(mode="threshold", limit_kw=limit_kw, buffer_kw=buffer_kw), interval)


def simulate(load_kw: Floats, control: Control, interval: DemandInterval) -> Day:
    """Run one day at 1 s; a command acts one second after the load it answers."""
    clock = demand_clock.DemandState()
    full_kws = FLEET_KWH * 3600.0
    energy_kws, wish_kw, before_kw, given_kws, starts, highest_kw = full_kws, 0.0, 0.0, 0.0, 0, 0.0
    for second, load in enumerate(load_kw.tolist()):
        power = max(-min(FLEET_KW, energy_kws), min(wish_kw, FLEET_KW, full_kws - energy_kws))
        energy_kws += power
        given_kws -= min(power, 0.0)
        starts += power < -1e-9 and before_kw >= -1e-9
        before_kw = power
        clock, closed = demand_clock.advance(clock, interval, START_S + second + 1.0, load + power)
        highest_kw = max([highest_kw, *(item.average_kw for item in closed)])
        wish_kw = control(clock, load, energy_kws / 3600.0)
    return Day(highest_kw, given_kws / 3600.0, starts, energy_kws / 3600.0)


def clairvoyant(load_kw: Floats, interval: DemandInterval, limit_kw: float) -> Day:
    """Lowest peak of the same fleet as one lossless battery, and the least energy that keeps the limit (nan: nothing can)."""
    means = load_kw.reshape(-1, round(interval.sub_s)).mean(axis=1)
    end_s = START_S + load_kw.size
    battery = Stay(START_S, end_s, FLEET_KW, FLEET_KW, FLEET_KWH, 0.0, 0.0, FLEET_KWH, 1.0)
    best_kw = lowest_peak_kw([battery], START_S, interval.sub_s, means, means, interval.sub_intervals)
    kwh, left_kwh = least_energy(means, interval, limit_kw) if best_kw <= limit_kw + OVER_KW else (math.nan, math.nan)
    return Day(best_kw, kwh, 0, left_kwh)


def least_energy(means_kw: Floats, interval: DemandInterval, limit_kw: float) -> tuple[float, float]:
    """Least discharge, kWh, that keeps every window at the limit (+ 0.5 kW), and what is left in the evening."""
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    hours, k, n = interval.sub_s / 3600.0, interval.sub_intervals, len(means_kw)
    give = [solver.addVariable(0.0, FLEET_KW * hours, 1.0) for _ in range(n)]
    take = [solver.addVariable(0.0, FLEET_KW * hours, 1e-6) for _ in range(n)]
    held = [solver.addVariable(0.0, FLEET_KWH, 0.0) for _ in range(n)]
    solver.addConstr(held[0] + give[0] - take[0] == FLEET_KWH)
    for i in range(1, n):
        solver.addConstr(held[i] - held[i - 1] + give[i] - take[i] == 0.0)
    for i in range(n - k + 1):
        window = range(i, i + k)
        room_kwh = ((limit_kw + OVER_KW) * k - float(means_kw[i : i + k].sum())) * hours
        solver.addConstr(sum(take[j] - give[j] for j in window) <= room_kwh)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return math.nan, math.nan
    value = solver.getSolution().col_value
    return float(sum(value[:n])), float(value[3 * n - 1])


def read_load(path: Path) -> Floats:
    """A day of 1 s rows, kW in the last column; a first row that is no number is a header. Cut to whole intervals."""
    values: list[float] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.split(",")[-1].strip()
        try:
            value = float(text)
        except ValueError:
            if number == 1 or not line.strip():
                continue
            value = math.nan
        if not math.isfinite(value):
            msg = f"{path}, line {number}: {text!r} is no power in kW; give one finite number per second"
            raise SystemExit(msg)
        values.append(value)
    whole = len(values) // 900 * 900
    if whole == 0:
        msg = f"{path}: {len(values)} rows are less than one interval; give at least 900 rows of 1 s"
        raise SystemExit(msg)
    return np.array(values[:whole])


def play(task: Task) -> Day:
    """One task, in whatever process."""
    load = read_load(Path(task.load_file)) if task.load_file else synthetic_day(task.draw, task.base_kw)
    interval = TARIFFS[task.tariff]
    if task.rule == "clairvoyant":
        return clairvoyant(load, interval, task.limit_kw)
    return simulate(load, control_of(task.rule, task.limit_kw, interval), interval)


def row_of(base: str, tariff: str, rule: str, days: list[Day], limit_kw: float) -> dict[str, float | int | str | None]:
    """Means over the days of one rule; `kwh` over days on which a number exists."""
    peaks = [day.peak_kw for day in days]
    known = [day for day in days if not math.isnan(day.kwh)]
    mean = (lambda name: float(np.mean([getattr(day, name) for day in known]))) if known else (lambda _: None)
    return {
        "base_kw": base,
        "tariff": tariff,
        "rule": rule,
        "days": len(days),
        "over": sum(p > limit_kw + OVER_KW for p in peaks),
        "mean_peak_kw": float(np.mean(peaks)),
        "max_peak_kw": max(peaks),
        "kwh": mean("kwh"),
        "starts": mean("starts"),
        "left_kwh": mean("left_kwh"),
    }


def checks_of(rows: list[dict[str, float | int | str | None]], synthetic: bool) -> dict[str, bool | None]:
    """The claims as booleans; `generator_rebuilt` is None without base 430 or on a day of your own."""
    undominated, dear = True, True
    for base, tariff in sorted({(str(r["base_kw"]), str(r["tariff"])) for r in rows}):
        table = {str(r["rule"]): r for r in rows if r["base_kw"] == base and r["tariff"] == tariff}
        over, kwh = float(table["budget"]["over"] or 0), float(table["budget"]["kwh"] or 0.0)
        for rule in (name for name in table if name.startswith("threshold-")):
            its_over, its_kwh = float(table[rule]["over"] or 0), float(table[rule]["kwh"] or 0.0)
            undominated &= not (its_over <= over and its_kwh <= kwh and (its_over < over or its_kwh < kwh))
            dear &= its_over > over or its_kwh >= RATIO * kwh
    rebuilt = None
    block = {str(r["rule"]): r for r in rows if r["base_kw"] == "430" and r["tariff"] == "block"}
    if synthetic and block:
        none, at_limit = block["none"], block["threshold-0"]
        days = float(none["days"] or 0)
        rebuilt = none["over"] == days and 565.0 <= float(none["mean_peak_kw"] or 0.0) <= 590.0
        rebuilt = rebuilt and float(at_limit["over"] or 0) >= 25.0 / 30.0 * days
    return {"generator_rebuilt": rebuilt, "no_threshold_dominates": undominated, "energy_ratio_ok": dear}


def measure(args: argparse.Namespace) -> list[dict[str, float | int | str | None]]:
    """All rows, with progress on stderr."""
    first, last = (0, 1) if args.load else (int(part) for part in args.draws.split(":"))
    bases = ["load"] if args.load else [f"{base:g}" for base in args.base]
    rows: list[dict[str, float | int | str | None]] = []
    combos = list(product(bases, args.tariff, (*RULES, "clairvoyant")))
    begun = time.monotonic()
    with ProcessPoolExecutor(args.jobs) as pool:
        for done, (base, tariff, rule) in enumerate(combos, start=1):
            base_kw = 0.0 if args.load else float(base)
            task = partial(Task, rule, tariff, base_kw)
            tasks = [task(draw=d, limit_kw=args.limit, load_file=args.load or "") for d in range(first, last)]
            rows.append(row_of(base, tariff, rule, list(pool.map(play, tasks, chunksize=3)), args.limit))
            spent = time.monotonic() - begun
            print(f"[{done}/{len(combos)}] {base} {tariff} {rule}, {spent:.0f} s", file=sys.stderr, flush=True)
    return rows


def parse() -> argparse.Namespace:
    """Arguments, checked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", default="0:30", help="first:last+1 of the seeded days, default 0:30")
    parser.add_argument("--base", type=float, nargs="+", default=[430.0, 380.0], help="base loads, kW")
    parser.add_argument("--tariff", nargs="+", choices=list(TARIFFS), default=list(TARIFFS))
    parser.add_argument("--limit", type=float, default=500.0, help="limit, kW")
    parser.add_argument("--load", help="CSV of a day of your own: 1 s rows, kW in the last column, header optional")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ends = args.draws.split(":")
    if len(ends) != 2 or not all(e.isdigit() for e in ends) or int(ends[0]) >= int(ends[1]):
        parser.error(f"--draws is {args.draws!r}; give A:B with 0 <= A < B, such as 0:30")
    return args


def main() -> int:
    """Measure, print the table and the checks."""
    args = parse()
    rows = measure(args)
    checks = checks_of(rows, synthetic=not args.load)
    keys = list(rows[0])
    print(" ".join(f"{key:>13}" for key in keys))
    for row in rows:
        print(
            " ".join(
                f"{v:>13.1f}" if isinstance(v, float) else f"{'-' if v is None else v!s:>13}" for v in row.values()
            )
        )
    for name, holds in checks.items():
        print(f"{name}: {holds}")
    if args.json:
        print(json.dumps({"draws": args.draws, "limit_kw": args.limit, "rows": rows, **checks}))
    return 1 if False in checks.values() else 0


if __name__ == "__main__":
    sys.exit(main())
