"""The fleets that `plan.py` is timed on: the generator of the comparison protocol, and cases that are hard for a
decomposition."""

from collections.abc import Callable

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from gridtide.plan.horizon import Horizon, Vehicles, demand_window

Floats = NDArray[np.float64]
STEPS = 96
KAPPA = 0.5
"""Demand price, per kW and day (about 15 per kW and month)."""
CAP_PER_VEHICLE_KW = 4.5


def prices() -> Floats:
    """A day-ahead curve: cheap nights, a cheap noon, a dear evening, per kWh."""
    hour = np.arange(STEPS) / 4.0
    return np.asarray(
        0.16 + 0.05 * np.exp(-(((hour - 8.0) / 1.8) ** 2)) + 0.16 * np.exp(-(((hour - 19.0) / 2.2) ** 2))
        - 0.06 * np.exp(-(((hour - 13.5) / 2.0) ** 2)) - 0.05 * (hour < 6.0)
    )  # fmt: skip


def load(n: int, rng: np.random.Generator) -> Floats:
    """A building of about 1.5 kW per vehicle with an afternoon hump."""
    hour = np.arange(STEPS) / 4.0
    shape = 0.8 + 1.2 * np.exp(-(((hour - 14.0) / 4.0) ** 2)) + 0.3 * np.exp(-(((hour - 19.0) / 1.5) ** 2))
    return np.asarray(n * (shape + 0.05 * rng.standard_normal(STEPS)))


def stays(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """60 % at work, 20 % overnight until morning, 20 % in the evening: first and last step."""
    kind = rng.choice(3, n, p=[0.6, 0.2, 0.2])
    arrive = np.select([kind == 0, kind == 1], [rng.normal(8.2, 0.9, n), np.zeros(n)], rng.normal(17.8, 1.0, n))
    leave = np.select([kind == 0, kind == 1], [rng.normal(17.0, 1.1, n), rng.normal(7.5, 0.7, n)], np.full(n, 24.0))
    first = np.clip((arrive * 4).astype(np.int64), 0, STEPS - 5)
    return first, np.clip((leave * 4).astype(np.int64) - 1, first + 3, STEPS - 1)


def fleet(n: int, rng: np.random.Generator) -> Vehicles:
    """Vehicles of 40 to 100 kWh behind 7.4 to 22 kW, as the generator has them."""
    first, last = stays(n, rng)
    capacity = rng.choice([40.0, 60.0, 77.0, 100.0], n)
    power = rng.choice([7.4, 11.0, 22.0], n, p=[0.3, 0.5, 0.2])
    energy = rng.uniform(0.2, 0.7, n) * capacity
    hours = (last - first + 1) * 0.25
    # The need is within reach at 90 % of full power.
    required = np.clip(rng.uniform(0.6, 0.9, n) * capacity, 0.0, energy + 0.9 * 0.95 * power * hours)
    one = np.ones(n)
    return Vehicles(
        keys=tuple(f"ev-{k}" for k in range(n)), first=first, last=last, charge_kw=power, discharge_kw=power.copy(),
        charge_efficiency=0.95 * one, discharge_efficiency=0.95 * one, capacity_kwh=capacity, least_kwh=0.1 * capacity,
        energy_kwh=energy, required_kwh=required, need_price_per_kwh=10.0 * one, left_value_per_kwh=0.0 * one,
        wear_price_per_kwh=0.02 * one, calendar_price_per_kwh_h=0.0 * one, group=np.full(n, -1), knee_soc=one.copy(),
        taper_kw=0.95 * power,
    )  # fmt: skip


def site(n: int, rng: np.random.Generator) -> Horizon:
    """One demand price over the day, a limit of 4.5 kW per vehicle, no export."""
    building, one, price = load(n, rng), np.ones(STEPS), prices()
    return Horizon(
        start_s=0.0, hours=0.25 * one, load_kw=building, load_high_kw=building, load_low_kw=building, import_price=price,
        export_price=price, import_cap_kw=CAP_PER_VEHICLE_KW * n * one, floor_kw=0.0 * one,
        demand=(demand_window("flat", one > 0.0, KAPPA),),
    )  # fmt: skip


Case = tuple[Horizon, Vehicles]


def reference(n: int, seed: int) -> Case:
    """The generator of the comparison protocol."""
    rng = np.random.default_rng(seed)
    vehicles = fleet(n, rng)
    return site(n, rng), vehicles


def tight(n: int, seed: int) -> Case:
    """A limit that cannot be held all day."""
    horizon, vehicles = reference(n, seed)
    return structs.replace(horizon, import_cap_kw=np.full(STEPS, 2.2 * n)), vehicles


def negative(n: int, seed: int) -> Case:
    """Ten hours of negative prices around noon, export allowed and paid less."""
    horizon, vehicles = reference(n, seed)
    price = horizon.import_price - 0.3 * (np.abs(np.arange(STEPS) - 52) < 20)
    return structs.replace(
        horizon, import_price=price, export_price=price - 0.03, floor_kw=np.full(STEPS, -1.0 * n)
    ), vehicles


def transformers(n: int, seed: int, groups: int = 50) -> Case:
    """Fifty transformers, each of which binds."""
    horizon, vehicles = reference(n, seed)
    group = np.random.default_rng(seed + 1).permutation(n) % groups
    caps = np.bincount(group, weights=vehicles.charge_kw, minlength=groups) * 0.45
    return structs.replace(horizon, group_cap_kw=caps, group_export_kw=caps), structs.replace(vehicles, group=group)


def no_discharge(n: int, seed: int) -> Case:
    """Charging only."""
    horizon, vehicles = reference(n, seed)
    return horizon, structs.replace(vehicles, discharge_kw=np.zeros(n))


def equal(n: int, seed: int) -> Case:
    """Every vehicle the same: the worst case for sums of bang-bang plans."""
    horizon, vehicles = reference(n, seed)
    same = {"first": 32, "last": 67, "charge_kw": 11.0, "discharge_kw": 11.0, "capacity_kwh": 60.0, "least_kwh": 6.0}
    same |= {"energy_kwh": 24.0, "required_kwh": 48.0, "taper_kw": 10.45}
    columns = {name: np.full(n, value, dtype=getattr(vehicles, name).dtype) for name, value in same.items()}
    return horizon, structs.replace(vehicles, **columns)


def all_day(n: int, seed: int) -> Case:
    """Connected from first to last step: a depot, or batteries."""
    horizon, vehicles = reference(n, seed)
    return horizon, structs.replace(vehicles, first=np.zeros(n, dtype=np.int64), last=np.full(n, STEPS - 1))


def other(n: int, seed: int) -> Case:
    """Another generator: spiky prices, night depot and shift work, large batteries, two demand windows, cheap export, ageing."""
    rng = np.random.default_rng(seed + 1000)
    horizon, vehicles = site(n, rng), fleet(n, rng)
    first = rng.integers(0, STEPS - 12, n)
    last = np.minimum(first + rng.integers(8, 70, n), STEPS - 1)
    price = np.clip(0.12 + 0.08 * rng.standard_normal(STEPS).cumsum() / 4.0, 0.01, 0.6)
    dear = (np.arange(STEPS) >= 64) & (np.arange(STEPS) < 84)
    windows = (
        demand_window("flat", np.ones(STEPS) > 0.0, 0.3, 1.2 * n, (1.4 * n, 1.9 * n, 2.3 * n)),
        demand_window("evening", dear, 0.6, 0.5 * n),
    )
    horizon = structs.replace(
        horizon, import_price=price, export_price=0.6 * price, demand=windows, load_high_kw=1.1 * horizon.load_kw,
        floor_kw=np.full(STEPS, -0.5 * n),
    )  # fmt: skip
    reach = vehicles.energy_kwh + 0.8 * vehicles.charge_kw * 0.25 * (last - first + 1)
    return horizon, structs.replace(
        vehicles, first=first, last=last, required_kwh=np.minimum(vehicles.required_kwh, reach),
        calendar_price_per_kwh_h=np.full(n, 1e-4), wear_price_per_kwh=rng.uniform(0.01, 0.06, n),
        left_value_per_kwh=np.where(last == STEPS - 1, 0.1, 0.0),
    )  # fmt: skip


HARD: dict[str, Callable[[int, int], Case]] = {
    "tight": tight, "negative": negative, "transformers": transformers, "no_discharge": no_discharge, "equal": equal,
    "all_day": all_day, "other": other,
}  # fmt: skip


def a_step_later(horizon: Horizon, vehicles: Vehicles, energy_kwh: Floats) -> Case:
    """The same site one step on with 2 % more load, its vehicles at `energy_kwh` (N,)."""

    def on(values: Floats) -> Floats:
        return np.append(values[1:], values[:1])

    names = ("load_kw", "load_high_kw", "load_low_kw")
    columns = {name: 1.02 * on(getattr(horizon, name)) for name in names}
    columns |= {
        name: on(getattr(horizon, name)) for name in ("import_price", "export_price", "import_cap_kw", "floor_kw")
    }
    later = structs.replace(horizon, start_s=horizon.start_s + 3600.0 * float(horizon.hours[0]), **columns)
    there = vehicles.first == 0
    return later, structs.replace(
        vehicles, first=np.maximum(vehicles.first - 1, 0), last=vehicles.last - 1,
        energy_kwh=np.where(there, energy_kwh, vehicles.energy_kwh),
    )  # fmt: skip
