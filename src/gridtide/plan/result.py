"""What a plan is, what it costs, and what it misses: reckoned from the vehicles' powers alone, whoever made them."""

from typing import Literal

import numpy as np
from msgspec import Struct

from gridtide.plan.coupling import KINDS, Coupling, interval_share
from gridtide.plan.horizon import Bools, Floats, Horizon, Ints, Vehicles
from gridtide.plan.store import Stores, tapered_kw
from gridtide.plan.store_numpy import connected

What = Literal["energy", "import_cap", "export", "group_import", "group_export", "reserve_up", "reserve_down"]
Reason = Literal[
    "battery_too_small", "stay_too_short", "site_limit", "group_limit", "too_dear", "load_alone", "vehicles",
    "fleet_power", "fleet_energy",
]  # fmt: skip
"""Why it is missed. Of energy: the battery holds less; full power from arrival would not do; the site's or the group's limit
is in the way; it costs more than the need's price. Of a limit: the load without vehicles is already beyond it, or the vehicles
bring it there. Of a promise: the fleet's power or its energy."""
_LEAST_KW = 1e-4
_LEAST_KWH = 1e-3
_RESTORES = 4
Where = tuple[What, Reason]
_BY_KIND: dict[str, Where] = {
    "import_cap": ("import_cap", "vehicles"), "export": ("export", "vehicles"),
    "group_import": ("group_import", "vehicles"), "group_export": ("group_export", "vehicles"),
    "reserve_up": ("reserve_up", "fleet_power"), "reserve_down": ("reserve_down", "fleet_power"),
    "reserve_up_energy": ("reserve_up", "fleet_energy"), "reserve_down_energy": ("reserve_down", "fleet_energy"),
}  # fmt: skip


class Shortfall(Struct, frozen=True):
    """One thing that the plan does not hold."""

    what: What
    who: str
    """A vehicle's key, `site`, or `group <j>`."""
    step: int
    """First step of it; a vehicle's last one."""
    steps: int
    """How many steps in a row."""
    missing: float
    """kWh for energy, kW (the worst step) otherwise."""
    reason: Reason


class Costs(Struct, frozen=True):
    """The plan's cost by part, in the prices' currency; the missed parts are weights, no money."""

    energy: float
    """Import less what export earns."""
    demand: float
    """Above what is billed anyway."""
    wear: float
    calendar: float
    left: float
    """Value of the energy left in vehicles that stay on: a negative cost."""
    missed_need: float
    missed_limits: float
    missed_reserve: float

    @property
    def total(self) -> float:
        """What the planner minimises."""
        return float(sum(getattr(self, name) for name in self.__struct_fields__))


class Flow(Struct, frozen=True, eq=False, kw_only=True):
    """Powers that the batteries can follow, and what becomes of them."""

    power_kw: Floats
    """(N, T)."""
    energy_kwh: Floats
    """(N, T): at the end of each step; before arrival what it will come with, after departure what it left with."""


def follow(horizon: Horizon, vehicles: Vehicles, stores: Stores, power_kw: Floats) -> Flow:
    """`power_kw` (N, T) led through the real losses, bounds and taper: what does not fit is cut off.

    Where cutting (a battery full earlier, because a mean of charging and discharging loses less than was booked) would take
    the site below its least import, discharge gives way.
    """
    flow = _follow(horizon, vehicles, stores, power_kw)
    for _ in range(_RESTORES):
        under = horizon.floor_kw - horizon.load_low_kw - flow.power_kw.sum(axis=0)
        given = np.maximum(-flow.power_kw, 0.0)
        back = np.clip(under / np.maximum(given.sum(axis=0), 1e-12), 0.0, 1.0)
        if not ((under > _LEAST_KW * 0.1) & (back * given.sum(axis=0) > 0.0)).any():
            break
        flow = _follow(horizon, vehicles, stores, flow.power_kw + given * back)
    return flow


def _follow(horizon: Horizon, vehicles: Vehicles, stores: Stores, power_kw: Floats) -> Flow:
    there = connected(vehicles.first, vehicles.last, horizon.steps)
    wish = np.where(there, np.clip(power_kw, -stores.table[:, 1:2], stores.limit_kw), 0.0)
    eta_c, eta_d, capacity, least, energy = (stores.table[:, k] for k in (2, 3, 4, 5, 6))
    curved = bool((vehicles.knee_soc < 1.0).any())
    kept = np.ascontiguousarray(wish.T)
    stored = np.empty(kept.shape)
    for t, h in enumerate(horizon.hours.tolist()):
        kw = kept[t]
        if curved:
            kw = np.minimum(kw, tapered_kw(vehicles, horizon.hours[t : t + 1], energy[:, None])[:, 0])
        room_kwh, held_kwh = np.maximum(capacity - energy, 0.0), np.maximum(energy - least, 0.0)
        kw = np.maximum(np.minimum(kw, room_kwh / (eta_c * h)), held_kwh * eta_d / -h)
        energy = energy + np.where(kw > 0.0, kw * eta_c, kw / eta_d) * h
        kept[t], stored[t] = kw, energy
    return Flow(power_kw=np.ascontiguousarray(kept.T), energy_kwh=np.ascontiguousarray(stored.T))


def profiles(stores: Stores, coupling: Coupling, flow: Flow) -> Floats:
    """(J + 3, T): the profiles that the rows read."""
    steps = stores.hours.size
    table = np.zeros((coupling.groups + 3, steps))
    if coupling.groups:
        np.add.at(table, stores.price_row, flow.power_kw)
    table[0] = flow.power_kw.sum(axis=0)
    if coupling.stored:
        there = connected(stores.first, stores.last, steps)
        table[coupling.groups + 1] = (flow.energy_kwh * stores.table[:, 3:4] * there).sum(axis=0)
        table[coupling.groups + 2] = (flow.energy_kwh / stores.table[:, 2:3] * there).sum(axis=0)
    return table


def excess(coupling: Coupling, table: Floats) -> Floats:
    """(R,): by how much each row with a slack of its own is exceeded."""
    over = coupling.coef * table[coupling.profile, coupling.step] - coupling.rhs
    return np.where(coupling.window < 0, np.maximum(over, 0.0), 0.0)


def peaks(horizon: Horizon, power_kw: Floats) -> Floats:
    """(W,): the demand windows' peaks of a fleet's power (T,), with the high load, never below what is billed anyway."""
    share, begun = interval_share(horizon)
    mean = share * (horizon.load_high_kw + power_kw) + begun
    return np.array([max(float(np.max(mean[w.mask], initial=-np.inf)), w.from_kw[0]) for w in horizon.demand])


def price_of(horizon: Horizon, vehicles: Vehicles, stores: Stores, coupling: Coupling, flow: Flow) -> Costs:
    """What a plan costs."""
    table, hours = profiles(stores, coupling, flow), horizon.hours
    there = connected(vehicles.first, vehicles.last, horizon.steps)
    beyond = excess(coupling, table) * coupling.slack_price
    by_kind = dict(zip(KINDS, np.bincount(coupling.kind, weights=beyond, minlength=len(KINDS)).tolist(), strict=True))
    demand = 0.0
    for window, peak in zip(horizon.demand, peaks(horizon, table[0]), strict=True):
        widths = np.clip(peak - window.from_kw, 0.0, np.append(np.diff(window.from_kw), np.inf))
        demand += float((widths * window.price_per_kw).sum())
    here = vehicles.first <= vehicles.last
    end = np.where(here, flow.energy_kwh[:, -1], 0.0)
    required, need, left, wear, calendar = (stores.table[:, k] for k in (7, 8, 9, 10, 11))
    given = (np.maximum(-flow.power_kw, 0.0) * hours).sum(axis=1)
    return Costs(
        energy=coupling.base_cost + float((coupling.prices.import_price * hours * table[0]).sum()) + by_kind["sold"],
        demand=demand,
        wear=float((wear * given).sum()),
        calendar=float((calendar * (flow.energy_kwh * there * hours).sum(axis=1)).sum()),
        left=-float((left * end).sum()),
        missed_need=float(((need - left) * np.maximum(required - end, 0.0) * here).sum()),
        missed_limits=sum(by_kind[k] for k in ("import_cap", "export", "group_import", "group_export")),
        missed_reserve=sum(value for kind, value in by_kind.items() if kind.startswith("reserve")),
    )  # fmt: skip


def shortfalls(
    horizon: Horizon, vehicles: Vehicles, stores: Stores, coupling: Coupling, flow: Flow
) -> tuple[Shortfall, ...]:
    """Everything that the plan does not hold: by how much, from when, and why."""
    table = profiles(stores, coupling, flow)
    over = excess(coupling, table)
    over[coupling.kind == KINDS.index("sold")] = 0.0
    found = _needs(horizon, vehicles, stores, flow, coupling, table)
    hit = over > _LEAST_KW
    for kind, profile in sorted(set(zip(coupling.kind[hit].tolist(), coupling.profile[hit].tolist(), strict=True))):
        rows = np.flatnonzero(hit & (coupling.kind == kind) & (coupling.profile == profile))
        rows = rows[np.argsort(coupling.step[rows])]
        for run in np.split(rows, np.flatnonzero(np.diff(coupling.step[rows]) > 1) + 1):
            found.append(_limit(horizon, KINDS[kind], profile, coupling.groups, coupling.step[run], over[run]))
    return tuple(found)


def _limit(horizon: Horizon, kind: str, profile: int, groups: int, step: Ints, over: Floats) -> Shortfall:
    what, reason = _BY_KIND[kind]
    worst = int(step[over.argmax()])
    alone = {
        "import_cap": horizon.load_high_kw[worst] > horizon.import_cap_kw[worst],
        "export": horizon.load_low_kw[worst] < horizon.floor_kw[worst],
    }
    return Shortfall(
        what=what, who=f"group {profile - 1}" if 0 < profile <= groups else "site", step=int(step[0]), steps=int(step.size),
        missing=float(over.max()), reason="load_alone" if alone.get(kind, False) else reason,
    )  # fmt: skip


def _needs(
    horizon: Horizon, vehicles: Vehicles, stores: Stores, flow: Flow, coupling: Coupling, table: Floats
) -> list[Shortfall]:
    here = vehicles.first <= vehicles.last
    missing = np.where(here, vehicles.required_kwh - flow.energy_kwh[:, -1], 0.0)
    short = np.flatnonzero(missing > _LEAST_KWH)
    if short.size == 0:
        return []
    full = follow(horizon, vehicles, stores, stores.limit_kw).energy_kwh[:, -1]
    tight = _tight(coupling, table)
    found = []
    for i in short.tolist():
        at = slice(int(vehicles.first[i]), int(vehicles.last[i]) + 1)
        room = flow.power_kw[i, at] < stores.limit_kw[i, at] - _LEAST_KW
        reason: Reason = "too_dear"
        if vehicles.required_kwh[i] > stores.table[i, 4] + _LEAST_KWH:
            reason = "battery_too_small"
        elif full[i] < vehicles.required_kwh[i] - _LEAST_KWH:
            reason = "stay_too_short"
        elif (tight[0, at] & room).any():
            reason = "site_limit"
        elif (tight[stores.price_row[i], at] & room).any():
            reason = "group_limit"
        found.append(
            Shortfall(
                what="energy", who=vehicles.keys[i], step=at.stop - 1, steps=1, missing=float(missing[i]), reason=reason
            )
        )
    return found


def _tight(coupling: Coupling, table: Floats) -> Bools:
    """(J + 3, T): where an import limit leaves no room."""
    caps = np.isin(coupling.kind, [KINDS.index("import_cap"), KINDS.index("group_import")])
    value = coupling.coef * table[coupling.profile, coupling.step]
    full = caps & (value >= coupling.rhs - np.maximum(1e-3, 1e-4 * np.abs(coupling.rhs)))
    found = np.zeros(table.shape, dtype=np.bool_)
    found[coupling.profile[full], coupling.step[full]] = True
    return found
