"""How long does a year take? 100 vehicles that come and go, one-minute steps, twin and controller in the loop; then with plans
as well, made anew as vehicles come and leave and at least hourly, each from the last one's basis.

The world is made up from a seed: an office's load (weekly shape, weather, noise; 15-minute means with the usual texture), equal
11 kW bidirectional bays, vehicles around half past eight on working days and now and then one in the evening, and the packaged
tariff. Wall time counts against the limit; CPU seconds tell whether the machine was busy with something else meanwhile.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

import gridtide
from gridtide.control import site
from gridtide.control.meter import MeterSettings
from gridtide.control.peak import PeakSettings
from gridtide.control.site import Settings
from gridtide.market.bill import bill
from gridtide.market.tariff import billing_period
from gridtide.market.tariff_formats import parse_tariff
from gridtide.model.demand import DemandInterval
from gridtide.model.fleet import EvseTable, Floats, SiteLimits
from gridtide.run import fast
from gridtide.run.planning import Planning
from gridtide.run.study import StudyInputs, is_short, planning_of
from gridtide.twin import evse, plant
from gridtide.twin.arrivals import CAPACITIES_KWH, Arrival
from gridtide.twin.building import LoadSeries, textured

YEAR_DAYS = 365
LIMIT_S = {"alone": 180.0, "planned": 600.0}
AIM_S = {"alone": 60.0, "planned": 240.0}
"""Wall time of a year of 100 bays, by leg."""
DAY_S, STEP_S = 86_400.0, 60.0
START_S = 1_546_329_600.0
"""2019-01-01 00:00 in Los Angeles, a Tuesday."""
FIRST_WEEKDAY = 1
RATED_KW, EFFICIENCY = 11.0, 0.94
LIMIT_KW_PER_BAY = 4.2
"""The peak limit, for each bay: with it the fleet now and then has to give."""
TIMEZONE = "America/Los_Angeles"


def year(days: int, bays: int, seed: int) -> StudyInputs:
    """The world of this bench: `days` from New Year on, `bays` bays, everything drawn from `seed`."""
    rng = np.random.default_rng(seed)
    table, limit_kw = _table(bays), LIMIT_KW_PER_BAY * bays
    load = textured(LoadSeries(START_S, 900.0, _load_kw(rng, days, bays)), seed)
    tariff_file = Path(gridtide.__file__).parent / "data" / "tariff_pge_a10_2019.json"
    tariff = parse_tariff(json.loads(tariff_file.read_text(encoding="utf-8")), TIMEZONE)
    settings = Settings(
        table=table,
        limits=SiteLimits(transformer_kw=2.0 * limit_kw),
        interval=DemandInterval(900.0),
        peak=PeakSettings(limit_kw=limit_kw),
        meter=MeterSettings(stale_s=2.0 * STEP_S, highest_kw=2.4 * limit_kw),
        cycle_s=STEP_S,
    )
    return StudyInputs(
        site=f"{bays} bays", timezone=TIMEZONE,
        world=plant.world(table, [evse.MODELS["measured_v2g"]] * bays, load, _visits(rng, days, bays)),
        settings=settings, tariff=tariff,
        start_s=START_S, end_s=START_S + days * DAY_S, step_s=STEP_S, wear_per_kwh=0.06,
    )  # fmt: skip


def _table(bays: int) -> EvseTable:
    """Equal bidirectional DC bays."""
    rated = np.full(bays, RATED_KW)
    return EvseTable(
        ids=tuple(f"bay-{i + 1}" for i in range(bays)),
        charge_kw=rated,
        discharge_kw=rated,
        least_kw=np.full(bays, 0.5),
        step_kw=np.zeros(bays),
        ramp_kw_per_s=rated,
        hold_s=np.full(bays, 60.0),
        efficiency=np.full(bays, EFFICIENCY),
        fallback_kw=np.zeros(bays),
        phase_share=np.full((bays, 3), 1.0 / 3.0),
        group=np.full(bays, -1),
        storage=np.zeros(bays, dtype=np.bool_),
    )


def _load_kw(rng: np.random.Generator, days: int, bays: int) -> Floats:
    """15-minute means, kW: base, office hours, hot afternoons, the day's weather and slow noise."""
    day, hour = np.divmod(np.arange(days * 96), 96)
    hour = hour / 4.0
    is_workday = (day + FIRST_WEEKDAY) % 7 < 5
    office = np.clip(np.minimum(hour - 6.0, 20.0 - hour) / 3.0, 0.0, 1.0)
    season = 0.5 - 0.5 * np.cos(2.0 * np.pi * (day - 20.0) / 365.0)
    weather = rng.normal(1.0, 0.25, days)[day]
    heat = season * weather * np.exp(-0.5 * ((hour - 15.5) / 2.5) ** 2)
    noise = np.convolve(rng.normal(0.0, 1.0, days * 96), np.exp(-np.arange(24) / 6.0), "same")
    load = 1.2 + np.where(is_workday, 1.1, 0.2) * office + np.where(is_workday, 1.2, 0.5) * heat + 0.05 * noise
    return bays * np.maximum(load, 0.3)


def _visits(rng: np.random.Generator, days: int, bays: int) -> list[Arrival]:
    """On working days most bays are taken around half past eight for about 8 h; some evenings and weekends somebody comes too."""
    found: list[Arrival] = []
    for day in range(days):
        is_workday = (day + FIRST_WEEKDAY) % 7 < 5
        for row in range(bays):
            if is_workday and rng.random() < 0.9:
                found.append(_visit(rng, row, day, rng.normal(8.5, 0.7), max(rng.normal(8.0, 1.2), 1.0)))
            if rng.random() < (0.06 if is_workday else 0.1):
                found.append(_visit(rng, row, day, rng.uniform(19.5, 20.5), rng.uniform(0.75, 2.5)))
    return _apart(found)


def _visit(rng: np.random.Generator, row: int, day: int, hour: float, stay_h: float) -> Arrival:
    arrived_s = START_S + day * DAY_S + round(3600.0 * hour)
    departs_s = arrived_s + round(3600.0 * stay_h)
    capacity_kwh = float(rng.choice(CAPACITIES_KWH))
    target_soc = float(rng.integers(65, 81)) / 100.0
    need_kwh = min(float(rng.uniform(5.0, 25.0)), 0.8 * RATED_KW * stay_h)
    return Arrival(
        session_id=f"{day}-{row}-{arrived_s:.0f}", row=row, arrived_s=arrived_s, departs_s=departs_s,
        told_departs_s=departs_s, capacity_kwh=capacity_kwh, soc=target_soc - need_kwh * EFFICIENCY / capacity_kwh,
        target_soc=target_soc, need_kwh=need_kwh, may_discharge=bool(rng.random() < 0.95),
    )  # fmt: skip


def _apart(visits: list[Arrival]) -> list[Arrival]:
    """Without those who would find their bay taken."""
    free_s: dict[int, float] = {}
    found = []
    for visit in sorted(visits, key=lambda item: item.arrived_s):
        if visit.arrived_s >= free_s.get(visit.row, 0.0):
            free_s[visit.row] = visit.departs_s + STEP_S
            found.append(visit)
    return found


class Stopwatch:
    """Wall seconds spent in functions, by name."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def around(self, module: Any, function: str, name: str) -> Iterator[None]:
        """Count every call of `module.function` under `name` while this lasts."""
        real: Callable[..., Any] = getattr(module, function)
        spent, calls, clock = self.spent_s, self.calls, time.perf_counter
        spent.setdefault(name, 0.0)
        calls.setdefault(function, 0)

        def timed(*args: Any, **named: Any) -> Any:
            began_s = clock()
            calls[function] += 1
            try:
                return real(*args, **named)
            finally:
                spent[name] += clock() - began_s

        setattr(module, function, timed)
        try:
            yield
        finally:
            setattr(module, function, real)


def alone(inputs: StudyInputs) -> fast.Run:
    """Twin and controller, no plan."""
    return fast.controlled(
        inputs.world, inputs.settings, inputs.start_s, inputs.end_s, inputs.step_s,
        period_start=lambda at_s: billing_period(inputs.tariff, at_s)[0],
    )  # fmt: skip


def planned(inputs: StudyInputs) -> fast.Run:
    """Twin, controller and planner; nothing is known before the year, and nobody tells the plan what peak to hold."""
    peak = structs.replace(inputs.settings.peak, limit_kw=inputs.settings.limits.transformer_kw)
    inputs = structs.replace(inputs, settings=structs.replace(inputs.settings, peak=peak))
    return fast.controlled(
        inputs.world, inputs.settings, inputs.start_s, inputs.end_s, inputs.step_s, planning=planning_of(inputs),
        period_start=lambda at_s: billing_period(inputs.tariff, at_s)[0],
    )  # fmt: skip


LEGS: dict[str, Callable[[StudyInputs], fast.Run]] = {"alone": alone, "planned": planned}


def _quarters(inputs: StudyInputs, power_kw: Floats) -> tuple[Floats, Floats]:
    """Starts (UTC epoch s) and means, kW, of the quarter hours of a series by steps."""
    kw = power_kw.reshape(-1, round(900.0 / inputs.step_s)).mean(axis=1)
    return inputs.start_s + 900.0 * np.arange(kw.size, dtype=np.float64), kw


def measure(inputs: StudyInputs, leg: Callable[[StudyInputs], fast.Run]) -> dict[str, float | int]:
    """Run one leg: times, shares of the wall time, and what became of the year. `plan_of_advise` is the part of `plan` in which
    plans are made."""
    watch = Stopwatch()
    with ExitStack() as stack:
        for module, function, name in (
            (plant, "advance", "twin"), (plant, "command", "twin"), (fast, "observe", "twin"), (site, "step", "control"),
            (Planning, "advise", "plan"), (Planning, "note", "plan"), (Planning, "answer", "plan_of_advise"),
        ):  # fmt: skip
            stack.enter_context(watch.around(module, function, name))
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        run = leg(inputs)
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    steps, book = len(run.grid_kw), run.plant.ledger
    price = bill(inputs.tariff, *_quarters(inputs, run.grid_kw), 900.0).total
    per_interval = round(inputs.settings.interval.length_s / inputs.step_s)
    highest = (series.reshape(-1, per_interval).mean(axis=1).max() for series in (run.building_kw, run.grid_kw))
    building_kw, with_kw = (round(float(kw), 1) for kw in highest)
    return {
        "steps": steps,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "us_per_step": round(1e6 * wall_s / steps, 1),
        **{f"{name}_share": round(spent_s / wall_s, 3) for name, spent_s in watch.spent_s.items()},
        "plans": watch.calls.get("answer", 0),
        "bill": round(price + book.ac_out_kwh * inputs.wear_per_kwh, 2),
        "sessions": len(run.left),
        "drivers_short": sum(is_short(inputs.world.arrivals[item.arrival], item) for item in run.left),
        "charged_kwh": round(book.ac_in_kwh, 1),
        "discharged_kwh": round(book.ac_out_kwh, 1),
        "peak_building_kw": building_kw,
        "peak_with_kw": with_kw,
        "worst_residual_kwh": book.worst_residual_kwh,
    }


def main() -> int:
    """Run the legs; the last line is one JSON object with --json. 1 when a leg takes longer than its limit for so many days."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=YEAR_DAYS)
    parser.add_argument("--bays", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="without the leg with plans")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    began_s = time.perf_counter()
    inputs = year(args.days, args.bays, args.seed)
    setup_s = time.perf_counter() - began_s
    share = args.days / YEAR_DAYS
    result: dict[str, Any] = {
        "days": args.days, "bays": args.bays, "visits": len(inputs.world.arrivals), "setup_s": round(setup_s, 2),
    }  # fmt: skip
    for name in ("alone",) if args.alone else LEGS:
        print(f"{args.days} days, {args.bays} bays, {name} ...", file=sys.stderr)
        found = measure(inputs, LEGS[name])
        limit_s, aim_s, wall_s = LIMIT_S[name] * share, AIM_S[name] * share, found["wall_s"]
        result[name] = found | {
            "limit_s": round(limit_s, 2), "ratio_to_limit": round(wall_s / limit_s, 3),
            "within_limit": wall_s <= limit_s, "within_aim": wall_s <= aim_s,
        }  # fmt: skip
    result["process_peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1)
    result["within_limit"] = all(result[name]["within_limit"] for name in LEGS if name in result)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            for part, item in value.items() if isinstance(value, dict) else (("", value),):
                print(f"{f'{key}.{part}' if part else key:28} {item}")
    return 0 if result["within_limit"] else 1


if __name__ == "__main__":
    sys.exit(main())
