"""Strategies side by side: the same load, vehicles and tariff under different control, and the lowest bill with hindsight."""

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from functools import partial

import numpy as np
from msgspec import Struct, structs

from gridtide.market.bill import Bill, bill
from gridtide.market.tariff import billing_period, utc_offsets_s
from gridtide.model.comparison import STRATEGIES, Comparison, StrategyResult
from gridtide.model.fleet import Floats
from gridtide.plan import clairvoyant, foresight
from gridtide.plan.month import EXACT, DayFacts, hindsight
from gridtide.plan.optimise import optimise
from gridtide.plan.registers import rates
from gridtide.plan.stays import Stay, vehicles
from gridtide.run import fast, many, study
from gridtide.run.fast import Run
from gridtide.run.study import StudyInputs

_SHORT_KWH = 0.1
_LONGEST_FIRST = ("plan", "budget", "threshold", "none", "clairvoyant")


class Played(Struct, frozen=True, eq=False, kw_only=True):
    """What a strategy left behind, as far as the comparison needs it."""

    strategy: str
    sub_kw: Floats
    """(m,): means per demand sub-interval."""
    building_kw: Floats
    charged_kwh: float
    discharged_kwh: float
    starts: int
    drivers_short: int
    plans: int
    cpu_s: float


def play(inputs: StudyInputs, strategy: str, progress: Callable[[float], None] | None = None) -> Played:
    """Play one strategy. `progress` is told the share done. Raises `ValueError` for a strategy that is not known."""
    began_s = time.process_time()
    study.check(inputs)
    if strategy == "clairvoyant":
        return structs.replace(_hindsight(inputs), cpu_s=time.process_time() - began_s)
    run, plans = _run(inputs, strategy, progress)
    arrivals = inputs.world.arrivals
    return Played(
        strategy=strategy, sub_kw=study.means(inputs, run.grid_kw).sub_kw,
        building_kw=study.means(inputs, run.building_kw).sub_kw,
        charged_kwh=run.plant.ledger.ac_in_kwh, discharged_kwh=run.plant.ledger.ac_out_kwh,
        starts=int(run.plant.evse.starts.sum()),
        drivers_short=sum(study.is_short(arrivals[item.arrival], item) for item in run.left),
        plans=plans, cpu_s=time.process_time() - began_s,
    )  # fmt: skip


def _run(inputs: StudyInputs, strategy: str, progress: Callable[[float], None] | None) -> tuple[Run, int]:
    span = (inputs.start_s, inputs.end_s, inputs.step_s)
    if strategy == "none":
        return fast.charge_at_once(inputs.world, *span, storage=inputs.storage, progress=progress), 0
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy {strategy[:40]!r}: give some of {', '.join(STRATEGIES)}")
    mode = "threshold" if strategy == "threshold" else "budget"
    # A plan is free to choose the peak; on a site, the limit that people set is the most that it may ask for.
    limit_kw = inputs.settings.limits.transformer_kw if strategy == "plan" else inputs.settings.peak.limit_kw
    rule = structs.replace(inputs.settings.peak, mode=mode, limit_kw=limit_kw)
    settings = structs.replace(inputs.settings, peak=rule)
    planning = None
    if strategy == "plan":
        planning = study.planning_of(structs.replace(inputs, settings=settings))
    run = fast.controlled(
        inputs.world, settings, *span, storage=inputs.storage, progress=progress, planning=planning,
        period_start=lambda at_s: billing_period(inputs.tariff, at_s)[0],
    )  # fmt: skip
    return run, planning.plans if planning else 0


def _hindsight(inputs: StudyInputs) -> Played:
    """The lowest bill: a linear programme over each billing period with everything known; bounds, losses and needs as the
    controller's, without dead time, ramps, least currents and taper. A bound, not a rival.

    A stay that crosses the end of a period owes there what full power could not add afterwards, and begins the next one with
    what it needs: a little better than possible. Tiers of energy are priced as the first; a rolling window as blocks, which it
    is never below.
    """
    interval = inputs.settings.interval
    building = study.means(inputs, _building(inputs)).sub_kw
    per_block = interval.sub_intervals
    count = building.size // per_block
    block_kw = building[: count * per_block].reshape(count, per_block).mean(axis=1)
    starts = inputs.start_s + interval.length_s * np.arange(count, dtype=np.float64)
    total, charged, given, short = block_kw.copy(), 0.0, 0.0, 0
    stays = [_stay(k, item) for k, item in enumerate(study.stays(inputs))]
    for first, last in _periods(inputs, starts):
        end_s = float(starts[last - 1]) + interval.length_s
        facts = DayFacts(
            rates=rates(inputs.tariff, float(starts[first]), interval.length_s, last - first),
            load_kw=block_kw[first:last], stays=[part for stay in stays if (part := _part(stay, float(starts[first]), end_s))],
            import_cap_kw=inputs.settings.limits.transformer_kw,
            floor_kw=foresight.least_import_kw(inputs.settings.limits), wear_price_per_kwh=inputs.wear_per_kwh,
        )  # fmt: skip
        horizon, _ = hindsight(facts)
        rows = vehicles(facts.stays, facts.rates.starts_s, horizon.hours, inputs.wear_per_kwh)
        plan, _ = optimise(horizon, rows, EXACT)
        total[first:last] += plan.power_kw.sum(axis=0)
        charged += float((np.maximum(plan.power_kw, 0.0) * horizon.hours).sum())
        given += float((np.maximum(-plan.power_kw, 0.0) * horizon.hours).sum())
        short += sum(item.what == "energy" and item.missing > _SHORT_KWH for item in plan.shortfalls)
    power = np.concatenate(
        [np.repeat(total - block_kw, per_block) + building[: count * per_block], building[count * per_block :]]
    )
    return Played(
        strategy="clairvoyant", sub_kw=power, building_kw=building, charged_kwh=charged, discharged_kwh=given, starts=0,
        drivers_short=short, plans=0, cpu_s=0.0,
    )  # fmt: skip


def _building(inputs: StudyInputs) -> Floats:
    """(m,): the load without vehicles per step, kW, less generation."""
    world = inputs.world
    steps = round((inputs.end_s - inputs.start_s) / inputs.step_s)
    edges = inputs.start_s + inputs.step_s * np.arange(steps + 1)
    parts = [world.building] if world.pv is None else [world.building, world.pv]
    loads = [np.array([part.mean_kw(a, b) for a, b in itertools.pairwise(edges)]) for part in parts]
    return loads[0] if len(loads) == 1 else np.asarray(loads[0] - loads[1])


def _periods(inputs: StudyInputs, starts: Floats) -> list[tuple[int, int]]:
    """Billing periods as ranges of the blocks."""
    found, at = [], 0
    while at < starts.size:
        end_s = billing_period(inputs.tariff, float(starts[at]) + 1.0)[1]
        last = int(np.searchsorted(starts, end_s - 1.0))
        found.append((at, max(last, at + 1)))
        at = found[-1][1]
    return found


def _stay(number: int, item: clairvoyant.Stay) -> Stay:
    return Stay(
        key=str(number), arrived_s=item.arrived_s, departs_s=item.departs_s, charge_kw=item.charge_kw,
        discharge_kw=item.discharge_kw, efficiency=item.efficiency, capacity_kwh=max(item.high_kwh, item.need_kwh),
        energy_kwh=item.start_kwh, required_kwh=item.need_kwh, least_kwh=item.low_kwh,
    )  # fmt: skip


def _part(stay: Stay, start_s: float, end_s: float) -> Stay | None:
    """The part of a stay within a billing period; None where there is none."""
    if stay.departs_s <= start_s or stay.arrived_s >= end_s:
        return None
    if stay.arrived_s >= start_s:
        return stay
    return structs.replace(stay, arrived_s=start_s, energy_kwh=max(stay.energy_kwh, stay.required_kwh))


def compared(inputs: StudyInputs, played: Sequence[Played], elapsed_s: float) -> Comparison:
    """The comparison of what was played; `none` must be among it."""
    bills = {item.strategy: _bill(inputs, item.sub_kw) for item in played}
    wear = {item.strategy: item.discharged_kwh * inputs.wear_per_kwh for item in played}
    cost = {name: found.total + wear[name] for name, found in bills.items()}
    possible = cost["none"] - cost["clairvoyant"] if "clairvoyant" in cost else 0.0
    building = played[0].building_kw
    starts = inputs.start_s + inputs.settings.interval.sub_s * np.arange(_billed(inputs, building).size)
    return Comparison(
        site=inputs.site, timezone=inputs.timezone, currency=inputs.tariff.currency, start_s=inputs.start_s,
        end_s=inputs.end_s, step_s=inputs.step_s, vehicles=int((~inputs.world.table.storage).sum()),
        sessions=len(inputs.world.arrivals), limit_kw=inputs.settings.peak.limit_kw,
        peak_kw_building=float(_billed(inputs, building).max()),
        history_days=inputs.past.load_kw.size * 900.0 / 86_400.0, history_sessions=len(inputs.past.stays),
        strategies=[
            _row(inputs, item, bills[item.strategy], wear[item.strategy], cost["none"], possible) for item in played
        ],
        interval_start_s=starts.tolist(),
        interval_kw={"building": _billed(inputs, building).tolist()}
        | {item.strategy: _billed(inputs, item.sub_kw).tolist() for item in played},
        assumptions=list(inputs.assumptions), elapsed_s=elapsed_s,
    )  # fmt: skip


def _row(
    inputs: StudyInputs, item: Played, found: Bill, wear: float, cost_none: float, possible: float
) -> StrategyResult:
    billed, total = _billed(inputs, item.sub_kw), found.total + wear
    energy, demand = found.energy - found.export_credit, found.demand + found.coincident + found.reactive
    return StrategyResult(
        strategy=item.strategy, peak_kw=float(billed.max()), bill=total, energy=energy, demand=demand,
        other=found.total - energy - demand, wear=wear, saved=cost_none - total,
        share_of_possible=(cost_none - total) / possible if possible > 0.005 else None,
        charged_kwh=item.charged_kwh, discharged_kwh=item.discharged_kwh, starts=item.starts,
        drivers_short=item.drivers_short, plans=item.plans, cpu_s=item.cpu_s, day_peak_kw=_day_peaks(inputs, billed),
    )  # fmt: skip


def _bill(inputs: StudyInputs, sub_kw: Floats) -> Bill:
    step_s = inputs.settings.interval.sub_s
    starts = inputs.start_s + step_s * np.arange(sub_kw.size, dtype=np.float64)
    return bill(inputs.tariff, starts, sub_kw, step_s, generation_kw=np.maximum(-sub_kw, 0.0))


def _billed(inputs: StudyInputs, sub_kw: Floats) -> Floats:
    """Billed windows of the sub-intervals' means."""
    count = inputs.settings.interval.sub_intervals
    return np.convolve(sub_kw, np.ones(count) / count, "valid")


def _day_peaks(inputs: StudyInputs, billed: Floats) -> list[float]:
    """Highest billed interval of each local day."""
    starts = inputs.start_s + inputs.settings.interval.sub_s * np.arange(billed.size, dtype=np.float64)
    day = np.floor((starts + utc_offsets_s(inputs.timezone, starts)) / 86_400.0).astype(np.int64)
    found = np.full(int(day[-1] - day[0]) + 1, -np.inf)
    np.maximum.at(found, day - day[0], billed)
    return [float(kw) for kw in found]


def compare(
    inputs: StudyInputs,
    strategies: Sequence[str],
    progress: Callable[[float], None] | None = None,
    processes: int = 1,
) -> Comparison:
    """Play every strategy; `none` is played even where it was not asked for, since savings are against it.

    With `processes` above 1 that many are played at a time and `progress` is told as each is done. Figures do not depend on it.
    """
    began_s = time.perf_counter()
    names = list(dict.fromkeys(("none", *strategies)))
    tell = progress or (lambda _: None)
    played: dict[str, Played] = {}
    if processes <= 1:
        for k, name in enumerate(names):
            played[name] = play(inputs, name, partial(_share, tell, k, len(names)))
    else:
        with many.processes(min(processes, len(names))) as pool:
            # The longest first.
            order = sorted(names, key=_LONGEST_FIRST.index)
            waiting = {pool.executor.submit(play, inputs, name): name for name in order}
            for ended in as_completed(waiting):
                played[waiting[ended]] = ended.result()
                tell(len(played) / len(names))
    tell(1.0)
    return compared(inputs, [played[name] for name in names], time.perf_counter() - began_s)


def _share(tell: Callable[[float], None], done: int, of: int, share: float) -> None:
    tell((done + share) / of)
