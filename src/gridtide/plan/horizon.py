"""What a plan is made for, as columns: the site's steps, its prices and limits, the vehicles and what they owe.

Everything is the caller's: a forecast's quantiles, a tariff's prices, the fleet's stays. + is import and charging; vehicle
powers are magnitudes at the AC side, energies are in the battery. A horizon says nothing of the clock: step 0 starts at
`start_s` because the caller says so.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class DemandWindow(Struct, frozen=True, eq=False, kw_only=True):
    """One demand register: what its peak over the masked steps costs, piecewise linear and convex in the peak."""

    name: str
    mask: Bools
    """(T,): the steps that count."""
    from_kw: Floats
    """(K,), rising: a kW of peak above `from_kw[k]` costs `price_per_kw[k]`; below `from_kw[0]` it is free, being billed
    anyway."""
    price_per_kw: Floats
    """(K,), rising."""


def demand_window(
    name: str, mask: Bools, price_per_kw: float, billed_kw: float = 0.0, later_peaks_kw: Sequence[float] = ()
) -> DemandWindow:
    """A register at `price_per_kw`, whose billing period already has the peak `billed_kw` (or its ratchet floor) and is not over.

    The rule for the rest of the period: `later_peaks_kw` are equally likely peaks that the days after this plan will reach
    whatever is done today. What today's peak P adds to the expected bill is price * E[max(P, billed, later)], so the next kW
    above P costs price * share of `later_peaks_kw` below P. Without them, today is the period's last day: every kW above
    `billed_kw` costs the full price.
    """
    later = np.maximum(np.sort(np.asarray(later_peaks_kw, dtype=np.float64)), billed_kw)
    if later.size == 0:
        return DemandWindow(
            name=name, mask=mask, from_kw=np.array([billed_kw]), price_per_kw=np.array([float(price_per_kw)])
        )
    from_kw = np.unique(later)
    share = np.searchsorted(later, from_kw, side="right") / later.size
    return DemandWindow(name=name, mask=mask, from_kw=from_kw, price_per_kw=price_per_kw * share)


class Reserve(Struct, frozen=True, eq=False, kw_only=True):
    """Capacity promised to the grid: held at every step, and for `endurance_h` if it is called."""

    up_kw: Floats
    """(T,): import can be lowered by so much (less charging, more discharge)."""
    down_kw: Floats
    """(T,): import can be raised by so much."""
    endurance_h: float
    penalty_per_kw_h: float
    """What a promised kW that is not held for an hour costs."""


class Horizon(Struct, frozen=True, eq=False, kw_only=True):
    """T steps of the site. Prices per kWh in one currency; powers kW."""

    start_s: float
    """Start of step 0, UTC epoch s."""
    hours: Floats
    """(T,): length of each step."""
    load_kw: Floats
    """(T,): the building without vehicles, median forecast: what energy is paid for."""
    load_high_kw: Floats
    """(T,): the quantile that peaks and import caps are held against."""
    load_low_kw: Floats
    """(T,): the quantile that `floor_kw` is held against."""
    import_price: Floats
    export_price: Floats
    """(T,): what export earns. Where it is above `import_price` the bill is not convex: see `Prices` in `coupling`."""
    import_cap_kw: Floats
    """(T,): highest import of the site; inf is none."""
    floor_kw: Floats
    """(T,): lowest planned import: the import margin, or minus the allowed export; -inf is none."""
    demand: tuple[DemandWindow, ...] = ()
    group_cap_kw: Floats = field(default_factory=lambda: np.zeros(0))
    """(J,): highest sum of the vehicles of each group (transformer, feeder, circuit)."""
    group_export_kw: Floats = field(default_factory=lambda: np.zeros(0))
    """(J,): highest sum of their discharge; empty is none."""
    reserve: Reserve | None = None
    begun_h: float = 0.0
    """Hours of the billed interval that had passed when step 0 started (a plan made inside an interval)."""
    begun_kwh: float = 0.0
    """Energy imported in them."""
    limit_price_per_kwh: float = 100.0
    """What a kWh beyond a site or group limit counts: far above any need, so that limits give way last."""

    @property
    def steps(self) -> int:
        """T."""
        return int(self.hours.shape[0])


class Vehicles(Struct, frozen=True, eq=False, kw_only=True):
    """N stays, one row each (a vehicle that comes twice has two rows). All (N,) unless said otherwise."""

    keys: tuple[str, ...]
    """Names for the report and for recognising a stay in the next plan."""
    first: Ints
    """First connected step."""
    last: Ints
    """Last connected step, included; below `first` the vehicle is not there."""
    charge_kw: Floats
    discharge_kw: Floats
    charge_efficiency: Floats
    """One way, AC to battery, (0, 1]."""
    discharge_efficiency: Floats
    """One way, battery to AC, (0, 1]."""
    capacity_kwh: Floats
    least_kwh: Floats
    """Never discharged below; a vehicle that comes with less may only gain."""
    energy_kwh: Floats
    """In the battery now, or on arrival."""
    required_kwh: Floats
    """In the battery at the end of `last`; soft."""
    need_price_per_kwh: Floats
    """What a missing kWh at departure counts."""
    left_value_per_kwh: Floats
    """What a kWh in the battery at the end of `last` is worth: 0 for a driver, the price ahead for a stay that goes on."""
    wear_price_per_kwh: Floats
    """Per kWh discharged, AC."""
    calendar_price_per_kwh_h: Floats
    """Calendar ageing: per kWh stored and hour."""
    group: Ints
    """Index into `Horizon.group_cap_kw`; -1 is none."""
    knee_soc: Floats
    """Where the taper begins; 1 is no taper."""
    taper_kw: Floats
    """Battery power at the knee."""
    charge_limit_kw: Floats | None = None
    """(N, T): charging limit per step below `charge_kw` (part-time steps, derates, a tapered plan); None is none."""

    @property
    def size(self) -> int:
        """N."""
        return len(self.keys)


class HorizonError(ValueError):
    """A problem that cannot be planned; `problems` names every column, what is wrong and the cure."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def check(horizon: Horizon, vehicles: Vehicles) -> None:
    """Raises `HorizonError` with every column that has a wrong shape, a value that is not finite, or one out of range."""
    wrong = [*_shapes(horizon, vehicles)]
    if not wrong:
        wrong = [*_ranges(horizon, vehicles)]
    if wrong:
        raise HorizonError(tuple(wrong))


def _shapes(horizon: Horizon, vehicles: Vehicles) -> list[str]:
    steps, size, groups = horizon.steps, vehicles.size, horizon.group_cap_kw.shape[0]
    expected: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
        name: (getattr(horizon, name), (steps,))
        for name in (
            "hours", "load_kw", "load_high_kw", "load_low_kw", "import_price", "export_price", "import_cap_kw", "floor_kw"
        )
    }  # fmt: skip
    expected |= {
        name: (getattr(vehicles, name), (size,))
        for name in Vehicles.__struct_fields__
        if name not in ("keys", "charge_limit_kw")
    }
    if vehicles.charge_limit_kw is not None:
        expected["charge_limit_kw"] = (vehicles.charge_limit_kw, (size, steps))
    if horizon.group_export_kw.size:
        expected["group_export_kw"] = (horizon.group_export_kw, (groups,))
    if horizon.reserve is not None:
        expected |= {f"reserve.{n}": (getattr(horizon.reserve, n), (steps,)) for n in ("up_kw", "down_kw")}
    expected |= {f"demand {w.name}: mask": (w.mask, (steps,)) for w in horizon.demand}
    found = [f"{name} {a.shape}: give {shape}" for name, (a, shape) in expected.items() if a.shape != shape]
    return found if steps else ["hours is empty: give at least one step"]


_STEPS = (
    "hours", "load_kw", "load_high_kw", "load_low_kw", "import_price", "export_price", "import_cap_kw", "floor_kw",
)  # fmt: skip
_MAGNITUDES = (
    "charge_kw", "discharge_kw", "capacity_kwh", "least_kwh", "energy_kwh", "need_price_per_kwh", "taper_kw",
)  # fmt: skip
_MAY_BE_INF = ("import_cap_kw", "floor_kw", "charge_limit_kw")


def _ranges(horizon: Horizon, vehicles: Vehicles) -> list[str]:
    columns = tuple(n for n in Vehicles.__struct_fields__ if n != "keys")
    wrong = []
    for table, names in ((horizon, _STEPS), (vehicles, columns)):
        for name in names:
            value = getattr(table, name)
            if value is not None and not (~np.isnan(value) if name in _MAY_BE_INF else np.isfinite(value)).all():
                wrong.append(f"{name} holds a value that is not a number: leave the row out or give a bound")
    return [*wrong, *_vehicles(horizon, vehicles), *_numbers(horizon), *_windows(horizon)]


def _vehicles(horizon: Horizon, vehicles: Vehicles) -> list[str]:
    wrong = [f"{name} is negative: give magnitudes" for name in _MAGNITUDES if (getattr(vehicles, name) < 0.0).any()]
    for name in ("charge_efficiency", "discharge_efficiency", "knee_soc"):
        value = getattr(vehicles, name)
        if ((value <= 0.0) | (value > 1.0)).any():
            wrong.append(f"{name}: give shares above 0, at most 1")
    if (vehicles.least_kwh > vehicles.capacity_kwh).any():
        wrong.append("least_kwh is above capacity_kwh: give a battery that holds its least energy")
    there = vehicles.first <= vehicles.last
    if ((vehicles.first < 0) | (vehicles.last >= horizon.steps))[there].any():
        wrong.append(f"first, last: give steps from 0 to {horizon.steps - 1}")
    if ((vehicles.group < -1) | (vehicles.group >= horizon.group_cap_kw.shape[0])).any():
        wrong.append("group: give indices into group_cap_kw, or -1")
    if (vehicles.left_value_per_kwh > vehicles.need_price_per_kwh).any():
        cure = "a missing kWh must count at least what a spare one is worth"
        wrong.append(f"left_value_per_kwh is above need_price_per_kwh: {cure}")
    return wrong


def _windows(horizon: Horizon) -> list[str]:
    wrong = []
    for window in horizon.demand:
        rising = (np.diff(window.from_kw) > 0.0).all() and (np.diff(window.price_per_kw) >= 0.0).all()
        if window.from_kw.size == 0 or window.from_kw.shape != window.price_per_kw.shape or not rising:
            wrong.append(f"demand {window.name}: give rising from_kw and price_per_kw of one length")
        elif window.price_per_kw[0] < 0.0 or not np.isfinite(window.from_kw).all():
            wrong.append(f"demand {window.name}: give finite, non-negative numbers")
    return wrong


def _numbers(horizon: Horizon) -> list[str]:
    """The horizon's single numbers, group caps and reserve."""
    numbers = {
        "start_s": horizon.start_s, "begun_h": horizon.begun_h, "begun_kwh": horizon.begun_kwh,
        "limit_price_per_kwh": horizon.limit_price_per_kwh,
    }  # fmt: skip
    least_zero = {"begun_h": horizon.begun_h, "limit_price_per_kwh": horizon.limit_price_per_kwh}
    wrong = [f"{name} = {value}: give a finite number" for name, value in numbers.items() if not np.isfinite(value)]
    if (horizon.hours <= 0.0).any():
        wrong.append("hours: give positive lengths")
    if np.isnan(horizon.group_cap_kw).any() or np.isnan(horizon.group_export_kw).any():
        wrong.append("group_cap_kw, group_export_kw: give a number for each group, inf for none")
    if horizon.reserve is not None:
        reserve = horizon.reserve
        held = np.concatenate([reserve.up_kw, reserve.down_kw])
        least_zero |= {"reserve.endurance_h": reserve.endurance_h, "reserve.penalty_per_kw_h": reserve.penalty_per_kw_h}
        if not (np.isfinite(held) & (held >= 0.0)).all():
            wrong.append("reserve.up_kw, reserve.down_kw: give finite magnitudes")
    return wrong + [
        f"{name} = {value}: give a number from 0" for name, value in least_zero.items() if not 0.0 <= value < np.inf
    ]
