"""What ties the vehicles together, as one table of rows: peaks, site and group limits, export, promises.

Every row reads  coef * Z - (its variable) <= rhs,  where Z is one step of one profile (the fleet's power, a group's power, or the
fleet's stored energy) and the row's variable is the peak of a demand window or a slack of its own. The exact programme, the
master programme of the fleet and the certified bound all read this one table. Rows that can never bind are left out.
"""

from typing import NamedTuple

import numpy as np
from msgspec import Struct

from gridtide.plan.horizon import Bools, Floats, Horizon, Ints, Vehicles
from gridtide.plan.store import Stores, Tolls
from gridtide.plan.store_numpy import connected

SITE = 0
"""Profile 0 is the fleet's power, kW; profile 1 + j the power of group j."""
KINDS = (
    "peak", "import_cap", "export", "sold", "group_import", "group_export",
    "reserve_up", "reserve_down", "reserve_up_energy", "reserve_down_energy",
)  # fmt: skip


class Prices(NamedTuple):
    """Prices of a kWh, (T,). Where export earns more than import costs, a bill is not convex in the net power: such a step is
    priced on both sides as on the side where the building alone stands."""

    import_price: Floats
    export_price: Floats


class Coupling(Struct, frozen=True, eq=False, kw_only=True):
    """R rows. `profile` numbers: 0 site, 1..J groups, J + 1 stored energy (up), J + 2 stored energy (down)."""

    kind: Ints
    """Index into `KINDS`."""
    step: Ints
    profile: Ints
    coef: Floats
    rhs: Floats
    window: Ints
    """Demand window whose peak is the row's variable; -1: a slack of its own."""
    slack_price: Floats
    """Price of a kW of slack; 0 where the row has a window."""
    groups: int
    window_from: tuple[Floats, ...]
    window_price: tuple[Floats, ...]
    window_most: Floats
    """(W,): a peak that no plan can exceed."""
    base_cost: float
    """Cost of the building's energy at the import price."""
    prices: Prices

    @property
    def size(self) -> int:
        """R."""
        return int(self.step.shape[0])

    @property
    def stored(self) -> bool:
        """Whether any row reads the stored energy."""
        return bool((self.profile > self.groups).any())


def effective_prices(horizon: Horizon) -> Prices:
    """The bill as a convex function of net power."""
    imported, exported = horizon.import_price, horizon.export_price
    importing = horizon.load_kw >= 0.0
    concave = exported > imported
    return Prices(np.where(concave & ~importing, exported, imported), np.where(concave & importing, imported, exported))


def couple(horizon: Horizon, vehicles: Vehicles, stores: Stores) -> Coupling:
    """The rows of a problem."""
    steps, groups = horizon.steps, int(horizon.group_cap_kw.shape[0])
    there = connected(vehicles.first, vehicles.last, steps)
    most_kw = np.where(there, stores.limit_kw, 0.0)
    least_kw = np.where(there, vehicles.discharge_kw[:, None], 0.0)
    parts = [
        *_peaks(horizon),
        *_site(horizon, most_kw.sum(axis=0), least_kw.sum(axis=0)),
        *_groups(horizon, vehicles.group, most_kw, least_kw),
        *_reserve(horizon, stores, there, most_kw.sum(axis=0), least_kw.sum(axis=0), groups),
    ]
    prices = effective_prices(horizon)
    share, begun = interval_share(horizon)
    top = share * (horizon.load_high_kw + most_kw.sum(axis=0)) + begun
    whole = np.concatenate(parts, axis=1) if parts else np.zeros((7, 0))
    return Coupling(
        kind=whole[0].astype(np.int64), step=whole[1].astype(np.int64), profile=whole[2].astype(np.int64),
        coef=whole[3], rhs=whole[4], window=whole[5].astype(np.int64), slack_price=whole[6], groups=groups,
        window_from=tuple(w.from_kw for w in horizon.demand), window_price=tuple(w.price_per_kw for w in horizon.demand),
        window_most=np.array([max(float(np.max(top[w.mask], initial=0.0)), w.from_kw[-1]) for w in horizon.demand]),
        base_cost=float((prices.import_price * horizon.hours * horizon.load_kw).sum()), prices=prices,
    )  # fmt: skip


def interval_share(horizon: Horizon) -> tuple[Floats, Floats]:
    """What a step's power counts for in its billed mean, and what was metered before: mean = share * power + begun, (T,), (T,)
    kW."""
    share, begun = np.ones(horizon.steps), np.zeros(horizon.steps)
    whole_h = horizon.hours[0] + horizon.begun_h
    share[0], begun[0] = horizon.hours[0] / whole_h, horizon.begun_kwh / whole_h
    return share, begun


def _rows(
    kind: str, step: Ints, profile: int, coef: Floats | float, rhs: Floats, window: int, price: Floats | float
) -> Floats:
    found = np.empty((7, step.size))
    found[0], found[1], found[2], found[3] = KINDS.index(kind), step, profile, coef
    found[4], found[5], found[6] = rhs, window, price
    return found


def _peaks(horizon: Horizon) -> list[Floats]:
    share, begun = interval_share(horizon)
    found = []
    for k, window in enumerate(horizon.demand):
        t = np.flatnonzero(window.mask)
        found.append(_rows("peak", t, SITE, share[t], -(share * horizon.load_high_kw + begun)[t], k, 0.0))
    return found


def _site(horizon: Horizon, most_kw: Floats, least_kw: Floats) -> list[Floats]:
    """Import cap, least import (both wide enough for a called reserve), and energy sold below the import price."""
    up = horizon.reserve.up_kw if horizon.reserve else 0.0
    down = horizon.reserve.down_kw if horizon.reserve else 0.0
    cap, floor = horizon.import_cap_kw - down - horizon.load_high_kw, horizon.load_low_kw - horizon.floor_kw - up
    limit = horizon.limit_price_per_kwh * horizon.hours
    over, under = np.flatnonzero(most_kw > cap), np.flatnonzero(least_kw > floor)
    found = [
        _rows("import_cap", over, SITE, 1.0, cap[over], -1, limit[over]),
        _rows("export", under, SITE, -1.0, floor[under], -1, limit[under]),
    ]
    prices = effective_prices(horizon)
    spread = (prices.import_price - prices.export_price) * horizon.hours
    sold = np.flatnonzero((spread > 0.0) & (least_kw > horizon.load_kw))
    return [*found, _rows("sold", sold, SITE, -1.0, horizon.load_kw[sold], -1, spread[sold])]


def _groups(horizon: Horizon, group: Ints, most_kw: Floats, least_kw: Floats) -> list[Floats]:
    limit = horizon.limit_price_per_kwh * horizon.hours
    found = []
    for j in range(horizon.group_cap_kw.shape[0]):
        rows = group == j
        cap = float(horizon.group_cap_kw[j])
        t = np.flatnonzero(most_kw[rows].sum(axis=0) > cap)
        found.append(_rows("group_import", t, 1 + j, 1.0, np.full(t.size, cap), -1, limit[t]))
        if horizon.group_export_kw.size:
            cap = float(horizon.group_export_kw[j])
            t = np.flatnonzero(least_kw[rows].sum(axis=0) > cap)
            found.append(_rows("group_export", t, 1 + j, -1.0, np.full(t.size, cap), -1, limit[t]))
    return found


def _reserve(
    horizon: Horizon, stores: Stores, there: Bools, most_kw: Floats, least_kw: Floats, groups: int
) -> list[Floats]:
    """The fleet's power and its energy hold what is promised. Pooled over the fleet: vehicles may take turns within the
    endurance."""
    if horizon.reserve is None:
        return []
    reserve, hours = horizon.reserve, horizon.hours
    up, down = np.flatnonzero(reserve.up_kw > 0.0), np.flatnonzero(reserve.down_kw > 0.0)
    price = reserve.penalty_per_kw_h * hours
    endurance = max(reserve.endurance_h, 1e-9)
    eta_c, eta_d, capacity, least = (stores.table[:, k] for k in (2, 3, 4, 5))
    bottom = (there * (eta_d * least)[:, None]).sum(axis=0) / endurance
    top = (there * (capacity / eta_c)[:, None]).sum(axis=0) / endurance
    return [
        _rows("reserve_up", up, SITE, -1.0, (least_kw - reserve.up_kw)[up], -1, price[up]),
        _rows("reserve_down", down, SITE, 1.0, (most_kw - reserve.down_kw)[down], -1, price[down]),
        _rows("reserve_up_energy", up, groups + 1, -1.0 / endurance, -(reserve.up_kw + bottom)[up], -1, price[up]),
        _rows("reserve_down_energy", down, groups + 2, 1.0 / endurance, (top - reserve.down_kw)[down], -1, price[down]),
    ]


def tolls(coupling: Coupling, horizon: Horizon, dual: Floats) -> Tolls:
    """What the vehicles pay when the rows cost `dual` (R,) >= 0."""
    steps, groups = horizon.steps, coupling.groups
    by = np.bincount(
        coupling.profile * steps + coupling.step, weights=coupling.coef * dual, minlength=(groups + 3) * steps
    ).reshape(groups + 3, steps)
    price = coupling.prices.import_price + by[0] / horizon.hours
    own = np.vstack([price[None, :], price + by[1 : groups + 1] / horizon.hours])
    return Tolls(price=own, hold_up=by[groups + 1], hold_down=by[groups + 2])


def admissible(coupling: Coupling, dual: Floats) -> Floats:
    """`dual` made fit for a bound: non-negative, at most the slack's price, a window's sum at most its last price."""
    own = coupling.window < 0
    fit = np.where(own, np.clip(dual, 0.0, coupling.slack_price), np.maximum(dual, 0.0))
    for k, price in enumerate(coupling.window_price):
        rows = coupling.window == k
        total = float(fit[rows].sum())
        if total > price[-1] > 0.0:
            fit[rows] *= price[-1] / total
        elif total > price[-1]:
            fit[rows] = 0.0
    return fit


def lower_bound(coupling: Coupling, dual: Floats, value: Floats) -> float:
    """The Lagrangian bound: no plan costs less, whatever `dual` (R,) is admissible; `value` (N,) is the vehicles' least cost
    at it."""
    total = coupling.base_cost - float(dual @ coupling.rhs) + float(value.sum())
    for k, (from_kw, price) in enumerate(zip(coupling.window_from, coupling.window_price, strict=True)):
        weight = float(dual[coupling.window == k].sum())
        # min over P in [from, most] of cost(P) - weight P
        width = np.diff(np.append(from_kw, max(coupling.window_most[k], from_kw[-1])))
        total += -weight * from_kw[0] + float((np.minimum(price - weight, 0.0) * width).sum())
    return total
