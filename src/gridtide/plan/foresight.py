"""From what a site knows now to a plan's problem, and from the plan to what the fast controller is told.

The peak target is what the plan holds with the high load; the fast controller keeps it second by second. Where a step has no
value in a peak, planned discharge (for the price) is passed on; where it has, who gives is left to the controller, which sees the
real load, and nobody charges beyond the plan.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from gridtide.control.guidance import Guidance
from gridtide.control.needs import NeedSettings
from gridtide.market.tariff import Tariff
from gridtide.model.demand import DemandInterval
from gridtide.model.fleet import EvseTable, FleetSample, Floats, SiteLimits
from gridtide.plan.forecast import Forecast
from gridtide.plan.horizon import Bools, DemandWindow, Horizon, Vehicles, demand_window
from gridtide.plan.optimise import Plan
from gridtide.plan.registers import Peaks, Rates, Register, next_midnight_s, steps_from, windows
from gridtide.plan.stays import Early, Stay, vehicles

OWN_LIMIT = "own limit"
OWN_LIMIT_PRICE_PER_KW = 100.0
_BY_DAY_S = 8.0 * 3600.0
_TINY = 1e-6
_SEEN = (
    "capacity_kwh", "soc", "need_soc", "need_kwh", "minimum_soc", "left_s", "charge_limit_kw", "discharge_limit_kw",
    "may_discharge",
)  # fmt: skip


class ForesightSettings(Struct, frozen=True, kw_only=True):
    """How far a plan looks, and how careful it is."""

    fine_steps: int = 8
    """Whole billed intervals after the running one; hours after them."""
    reach_h: float = 24.0
    high_level: float = 0.75
    """Quantile of the load that peaks are held against."""
    low_level: float = 0.1
    """Quantile of the load that the least import is held against."""
    hurry_per_kwh_h: float = 0.0005
    """What waiting an hour counts, so that of equal hours the earlier is taken."""
    wear_per_kwh: float = 0.06
    hurdle_per_kwh: float = 0.02
    """What giving for the price alone must earn beyond its wear: who leaves early takes along what was charged to be given."""
    kept_h: float = 1.0
    """Hours before each departure that are planned with a part of the power, while there is time to spare."""
    silent_s: float = 30.0
    """Rows silent for longer are not planned."""


class Here(Struct, frozen=True, eq=False, kw_only=True):
    """What is fixed about a site."""

    table: EvseTable
    limits: SiteLimits
    need: NeedSettings
    interval: DemandInterval
    tariff: Tariff


class Known(Struct, frozen=True, eq=False, kw_only=True):
    """What a site knows at one instant."""

    here: Here
    now_s: float
    """UTC epoch s."""
    fleet: FleetSample
    """Rows whose departure nobody told hold an estimate in `left_s`."""
    rates: Rates
    """The tariff from now on as far as the plan looks; its slots are the billed (sub-)intervals."""
    begun_kwh: float
    """Imported so far in the billed window that ends with the running slot."""
    peaks: Peaks
    later_kw: Mapping[Register, Sequence[float]]
    load: Forecast
    expected: Sequence[Stay]
    own_limit_kw: float = math.inf
    """The limit that people set: the most that a plan may ask for, drivers' needs apart."""


class Problem(Struct, frozen=True, eq=False, kw_only=True):
    """What a plan is asked, and what its columns stand for."""

    horizon: Horizon
    vehicles: Vehicles
    starts_s: Floats
    """(T + 1,): borders of the steps, UTC epoch s."""
    rows: tuple[int, ...]
    """Row of the table of each of the first vehicles; the others are still to come."""
    registers: tuple[Register, ...]


def problem(known: Known, settings: ForesightSettings) -> Problem:
    """The horizon and the vehicles of a plan that is made now."""
    here, limits, at = known.here, known.here.limits, known.rates
    rows, stays = connected_stays(known, settings)
    tomorrow_s = next_midnight_s(here.tariff, known.now_s)
    starts, hours, slots = steps_from(
        at, known.now_s, settings.fine_steps, _until_s(known, settings, stays, tomorrow_s)
    )
    ends = starts + hours * 3600.0
    bought = at.import_price[slots]
    found = windows(at, slots, known.peaks, known.later_kw, tomorrow_s)
    passed_s = known.now_s - (float(ends[0]) - here.interval.length_s)
    horizon = Horizon(
        start_s=known.now_s, hours=hours,
        load_kw=_of_steps(known.load, known.load.median_kw, starts, ends),
        load_high_kw=_of_steps(known.load, known.load.at_level(settings.high_level), starts, ends, highest=True),
        load_low_kw=_of_steps(known.load, known.load.at_level(settings.low_level), starts, ends),
        import_price=bought + settings.hurry_per_kwh_h * (starts - known.now_s) / 3600.0, export_price=at.export_price[slots],
        import_cap_kw=np.full(starts.size, limits.transformer_kw),
        floor_kw=np.full(starts.size, least_import_kw(limits)),
        demand=(*(window for _, window in found), *_own(known, starts < tomorrow_s)),
        group_cap_kw=np.array(limits.group_kw, dtype=np.float64),
        begun_h=max(passed_s, 0.0) / 3600.0, begun_kwh=known.begun_kwh, limit_price_per_kwh=1e4,
    )  # fmt: skip
    columns = vehicles(
        [*stays, *known.expected], starts, hours, settings.wear_per_kwh + settings.hurdle_per_kwh,
        Early(settings.hurry_per_kwh_h, settings.kept_h),
    )  # fmt: skip
    return Problem(
        horizon=horizon, vehicles=_kept(columns, here.table, rows, bought), starts_s=np.append(starts, ends[-1]),
        rows=rows, registers=tuple(register for register, _ in found),
    )  # fmt: skip


def _until_s(known: Known, settings: ForesightSettings, stays: Sequence[Stay], tomorrow_s: float) -> float:
    """How far to look: to midnight by day when everybody leaves before it, since what comes after is planned anew anyway; else as
    far as the settings say."""
    by_day = tomorrow_s - known.now_s >= _BY_DAY_S
    stays_on = any(math.isfinite(stay.departs_s) and stay.departs_s > tomorrow_s for stay in stays)
    return tomorrow_s if by_day and not stays_on else known.now_s + settings.reach_h * 3600.0


def _own(known: Known, today: Bools) -> tuple[DemandWindow, ...]:
    """The limit that people set, as a peak that is dearer than any tariff's and cheaper than a driver's need: of today, and of what
    is planned beyond it."""
    if known.own_limit_kw >= known.here.limits.transformer_kw:
        return ()
    parts = ((OWN_LIMIT, today), (OWN_LIMIT + " later", ~today))
    return tuple(
        demand_window(name, mask, OWN_LIMIT_PRICE_PER_KW, _own_kw(known)) for name, mask in parts if mask.any()
    )


def _own_kw(known: Known) -> float:
    """The limit that people set, or the peak that is billed anyway."""
    return max(known.own_limit_kw, max(known.peaks.reached_kw.values(), default=0.0))


def least_import_kw(limits: SiteLimits) -> float:
    """The least import that may be planned: the margin, or what may be exported."""
    return -limits.export_kw if limits.export_kw > 0.0 else limits.import_margin_kw


def _kept(columns: Vehicles, table: EvseTable, rows: tuple[int, ...], price: Floats) -> Vehicles:
    """What is left in a stationary battery keeps the value of the cheapest hour."""
    stays_on = np.zeros(columns.size, dtype=np.bool_)
    stays_on[: len(rows)] = table.storage[list(rows)]
    columns.calendar_price_per_kwh_h[stays_on] = 0.0
    columns.left_value_per_kwh[stays_on] = max(float(price.min()), 0.0) * columns.discharge_efficiency[stays_on]
    return columns


def _of_steps(load: Forecast, value_kw: Floats, starts: Floats, ends: Floats, *, highest: bool = False) -> Floats:
    """(T,): a forecast's values over steps that follow one another and need not be its own: their mean, or their highest."""
    most = value_kw.size - 1
    first = np.clip(np.floor((starts - load.starts_s[0]) / load.step_s), 0, most).astype(np.int64)
    last = int(np.clip(np.ceil((ends[-1] - load.starts_s[0]) / load.step_s) - 1, first[-1], most))
    inside = value_kw[: last + 1]
    if highest:
        return np.asarray(np.maximum.reduceat(inside, first), dtype=np.float64)
    count = np.maximum(np.diff(np.append(first, last + 1)), 1)
    return np.asarray(np.add.reduceat(inside, first) / count, dtype=np.float64)


def connected_stays(known: Known, settings: ForesightSettings) -> tuple[tuple[int, ...], list[Stay]]:
    """The vehicles (and batteries) that are there and answer: their rows, and what a plan may do with them."""
    fleet, table = known.fleet, known.here.table
    online = (fleet.connected | table.storage) & ~fleet.fault & (fleet.age_s <= settings.silent_s)
    rows = np.flatnonzero(online).tolist()
    return tuple(rows), stays_of(known.here, fleet, rows, known.now_s)


def stays_of(here: Here, fleet: FleetSample, rows: list[int], now_s: float) -> list[Stay]:
    """What is known of the vehicles in these rows; without `soc` one is no more than what it was to be charged with.

    A departure is earlier by the time after which the fast controller charges at full power anyway.
    """
    table, need = here.table, here.need
    seen = zip(
        rows, *(getattr(fleet, name)[rows].tolist() for name in _SEEN),
        table.charge_kw[rows].tolist(), table.discharge_kw[rows].tolist(), table.efficiency[rows].tolist(),
        table.storage[rows].tolist(), (table.group[rows] if here.limits.group_kw else np.full(len(rows), -1)).tolist(),
        strict=True,
    )  # fmt: skip
    found = []
    for (
        row, capacity, soc, need_soc, need_kwh, minimum_soc, left_s, charge_limit, discharge_limit, may, charge_kw, discharge_kw,
        efficiency, storage, group,
    ) in seen:  # fmt: skip
        knee, give = 1.0, 0.0
        if capacity > 0.0 and math.isfinite(capacity) and 0.0 <= soc <= 1.0:
            target = min(need_soc, 1.0) if need_soc >= 0.0 else 0.0
            window = need.floor_soc if storage else max(need.window_low_soc, need.floor_soc)
            least = max(window, minimum_soc if minimum_soc >= 0.0 else 0.0) * capacity
            energy, required = soc * capacity, target * capacity
            # Needs above the knee are planned with the taper; others never get there.
            knee = need.knee_soc if required > need.knee_soc * capacity and not storage else 1.0
            highest = 1.0 if storage or knee < 1.0 else need.window_high_soc
            capacity = max(highest * capacity, required, energy)
            give = _least(discharge_limit, discharge_kw) if may else 0.0
        else:
            stored = need_kwh * efficiency if math.isfinite(need_kwh) and need_kwh > 0.0 else 0.0
            capacity, energy, required, least = stored, 0.0, stored, 0.0
        ready_s = math.inf if math.isnan(left_s) else max(left_s - need.reserve_s, min(left_s, 0.0))
        found.append(
            Stay(
                key=f"row {row}", arrived_s=now_s, departs_s=now_s + max(ready_s, 1.0),
                charge_kw=_least(charge_limit, charge_kw), discharge_kw=give, efficiency=efficiency,
                capacity_kwh=capacity, energy_kwh=energy, required_kwh=required, least_kwh=least, group=group, knee_soc=knee,
            )
        )  # fmt: skip
    return found


def _least(told_kw: float, rated_kw: float) -> float:
    """A told limit where there is one."""
    return min(told_kw, rated_kw) if told_kw >= 0.0 else rated_kw


class Aims(Struct, frozen=True, eq=False):
    """What a plan asks of the fast controller during one of its steps."""

    step: int
    ends_s: float
    """UTC epoch s."""
    limit_kw: float
    power_kw: Floats
    """(n,); nan where nothing is planned."""
    needed_kw: float
    """How far the plan goes beyond the limit that people set, for the drivers' sake."""


def aims(asked: Problem, plan: Plan, known: Known, now_s: float, most_kw: float) -> Aims | None:
    """What the plan asks for at `now_s`; None once it is over. `most_kw`: the target where no peak counts."""
    step = int(np.searchsorted(asked.starts_s, now_s, side="right")) - 1
    if not 0 <= step < asked.horizon.steps:
        return None
    power = np.full(known.here.table.size, np.nan)
    rows = list(asked.rows)
    planned = plan.power_kw[: len(rows), step]
    if plan.room_value_per_kw[step] > _TINY:
        planned = np.maximum(planned, 0.0)
    power[rows] = planned
    counts = (window.mask[step] for window in asked.horizon.demand)
    targets = [float(kw) for kw, held in zip(plan.peak_kw, counts, strict=True) if held]
    return Aims(
        step, float(asked.starts_s[step + 1]), min(targets, default=most_kw), power, _needed_kw(asked, plan, known)
    )


def _needed_kw(asked: Problem, plan: Plan, known: Known) -> float:
    """What today's peak exceeds the limit of people by, beyond what is billed anyway."""
    for window, peak_kw in zip(asked.horizon.demand, plan.peak_kw.tolist(), strict=True):
        if window.name == OWN_LIMIT:
            return float(max(peak_kw - _own_kw(known), 0.0))
    return 0.0


def guidance(found: Aims | None, now_s: float, mono_s: float) -> Guidance | None:
    """The same for the fast controller, which goes by the monotonic clock."""
    if found is None:
        return None
    return Guidance(
        limit_kw=found.limit_kw, power_kw=found.power_kw, needed_kw=found.needed_kw, until_s=mono_s + found.ends_s - now_s
    )  # fmt: skip
