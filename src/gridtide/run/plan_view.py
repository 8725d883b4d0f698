"""A plan in the words and columns that CLI, API and page show."""

from collections.abc import Callable, Sequence

import numpy as np

from gridtide.model.plan_view import MISSED_REASONS, Missed, PlannedVehicle, PlanStep, PlanView
from gridtide.plan.result import Shortfall
from gridtide.run.planning import Answer

_LIMITS = {
    "import_cap": "The site's import limit is exceeded", "export": "The least import is not held",
    "group_import": "The limit of {who} is exceeded", "group_export": "The discharge limit of {who} is exceeded",
    "reserve_up": "Reserve to lower import is not held", "reserve_down": "Reserve to raise import is not held",
}  # fmt: skip


def plan_view(answer: Answer, bays: Sequence[str], now_s: float, clock: Callable[[float], str]) -> PlanView:
    """The plan as people see it at `now_s` (UTC epoch s); `bays` name the rows of the table, `clock` writes an instant."""
    asked, plan = answer.asked, answer.plan
    horizon, rows, rates = asked.horizon, asked.vehicles, answer.known.rates
    slots = np.searchsorted(rates.starts_s, asked.starts_s[:-1], side="right") - 1
    step = min(max(int(np.searchsorted(asked.starts_s, now_s, side="right")) - 1, 0), horizon.steps - 1)
    targets = _targets(answer)
    fleet_kw = plan.power_kw.sum(axis=0)
    steps = tuple(
        PlanStep(
            start_s=float(asked.starts_s[t]), end_s=float(asked.starts_s[t + 1]), load_kw=float(horizon.load_kw[t]),
            load_high_kw=float(horizon.load_high_kw[t]), vehicles_kw=float(fleet_kw[t]),
            price_per_kwh=float(rates.import_price[slots[t]]), target_kw=targets[t],
        )
        for t in range(horizon.steps)
    )  # fmt: skip
    held = [k for k, window in enumerate(horizon.demand) if window.mask[step]]
    return PlanView(
        made_s=horizon.start_s, target_kw=targets[step],
        value_per_kw=float(sum(plan.value_per_kw[k] for k in held)), currency=answer.known.here.tariff.currency,
        method=plan.method, gap=max(plan.gap, 0.0), cost=plan.costs.energy + plan.costs.demand + plan.costs.wear,
        cpu_s=plan.cpu_s, steps=steps,
        vehicles=tuple(_vehicle(answer, k, row, bays, step) for k, row in enumerate(asked.rows)),
        missed=tuple(_missed(answer, item, bays, clock) for item in plan.shortfalls if not _is_nobodys(item, rows.keys)),
    )  # fmt: skip


def _is_nobodys(item: Shortfall, keys: Sequence[str]) -> bool:
    """A mean of vehicles still to come that is a little short of a mean need says nothing about anybody; nor does a least import
    that the building alone may fall below: no vehicle gives then, and the forecast's low end is rarely met."""
    if item.what == "export":
        return item.reason == "load_alone"
    return item.what == "energy" and item.who.startswith("expected") and item.who in keys and item.missing < 1.0


def _targets(answer: Answer) -> list[float | None]:
    horizon, peaks = answer.asked.horizon, answer.plan.peak_kw
    found: list[float | None] = []
    for t in range(horizon.steps):
        held = [float(peaks[k]) for k, window in enumerate(horizon.demand) if window.mask[t]]
        found.append(min(held) if held else None)
    return found


def _vehicle(answer: Answer, k: int, row: int, bays: Sequence[str], step: int) -> PlannedVehicle:
    rows, plan = answer.asked.vehicles, answer.plan
    left_s = float(answer.known.fleet.left_s[row])
    return PlannedVehicle(
        bay=bays[row], power_kw=float(plan.power_kw[k, step]),
        leaves_s=answer.known.now_s + left_s if np.isfinite(left_s) else None, energy_kwh=float(rows.energy_kwh[k]),
        required_kwh=float(rows.required_kwh[k]), planned_kwh=float(plan.energy_kwh[k, max(int(rows.last[k]), 0)]),
    )  # fmt: skip


def _missed(answer: Answer, item: Shortfall, bays: Sequence[str], clock: Callable[[float], str]) -> Missed:
    asked = answer.asked
    begin_s = float(asked.starts_s[item.step])
    end_s = float(asked.starts_s[min(item.step + item.steps, asked.horizon.steps)])
    unit, at_s = ("kWh", end_s) if item.what == "energy" else ("kW", begin_s)
    who = item.who
    if item.what == "energy":
        k = asked.vehicles.keys.index(item.who)
        who = bays[asked.rows[k]] if k < len(asked.rows) else "expected"
        said = "A vehicle still to come" if who == "expected" else who
        words = f"{said} misses {item.missing:.1f} kWh at {clock(at_s)}: {MISSED_REASONS[item.reason]}"
    else:
        what = _LIMITS[item.what].format(who=who)
        words = (
            f"{what} by {item.missing:.1f} kW from {clock(begin_s)} to {clock(end_s)}: {MISSED_REASONS[item.reason]}"
        )
    return Missed(item.what, who, at_s, (end_s - begin_s) / 3600.0, item.missing, unit, item.reason, words)
