"""A tariff over the steps of a plan: what energy costs, which steps count for which peak, and what a kW of that peak costs.

A register is one peak that is billed: a charge's period of a month, or of a local day. A charge of which only the dearest period
is billed is read as one register over all its priced periods at the dearest price: never less than the bill.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from gridtide.market.sums import demand_key
from gridtide.market.tariff import Tariff, local_time, prices, sell_prices
from gridtide.plan.horizon import Bools, DemandWindow, Floats, Ints, demand_window

Register = tuple[int, int, int]
"""Index of the charge, local day (0: the charge is monthly) and period (-1: the dearest of all)."""
REGIME: Register = (-1, 0, 0)
"""The year's peak of a tariff with hours of use."""


class Peaks(Struct, frozen=True):
    """Peaks that are billed anyway."""

    reached_kw: Mapping[Register, float] = {}
    """By register, of the running billing period."""
    floor_kw: float = 0.0
    """Of every ratcheted monthly register: what a ratchet bills whatever happens."""


class Counts(Struct, frozen=True, eq=False):
    """One register over a span of slots."""

    register: Register
    price_per_kw: float
    mask: Bools
    """(S,): slots that count for it."""
    ratcheted: bool


class Rates(Struct, frozen=True, eq=False):
    """A tariff over slots of equal length; what a plan reads instead of asking the tariff for each step."""

    starts_s: Floats
    """(S,), UTC epoch s."""
    slot_s: float
    import_price: Floats
    export_price: Floats
    """(S,): what a kWh imported costs and a kWh exported earns, taxes included."""
    counts: tuple[Counts, ...]
    alike: Ints
    """(S,): number of the run of slots with the same prices and registers within the same hour."""


def rates(tariff: Tariff, from_s: float, slot_s: float, count: int) -> Rates:
    """The tariff over `count` slots from `from_s` (UTC epoch s, a border of the billed interval)."""
    starts = from_s + slot_s * np.arange(count, dtype=np.float64)
    bought = prices(tariff, starts) * (1.0 + tariff.tax_fraction) + tariff.tax_per_kwh
    sold = sell_prices(tariff, starts)
    masks: dict[Register, Bools] = {}
    cost: dict[Register, float] = {}
    for t, at_s in enumerate(starts.tolist()):
        for register, price in registers_at(tariff, at_s):
            masks.setdefault(register, np.zeros(count, dtype=np.bool_))[t] = True
            cost[register] = price
    found = tuple(Counts(r, cost[r], mask, _ratcheted(tariff, r)) for r, mask in masks.items())
    rows = np.array([np.floor(starts / 3600.0), bought, sold, *(item.mask for item in found)])
    changes = np.concatenate([[False], (np.diff(rows, axis=1) != 0.0).any(axis=0)])
    return Rates(starts, slot_s, bought, sold, found, np.cumsum(changes))


def registers_at(tariff: Tariff, start_s: float) -> list[tuple[Register, float]]:
    """Every register with a price that an interval from `start_s` counts for, and that price per kW (first tier)."""
    found = []
    for k, item in enumerate(tariff.demand):
        day, period = demand_key(tariff, item, start_s)
        price = item.periods[period][0].price_per_kw
        if price > 0.0 and item.combine == "dearest":
            found.append(((k, day, -1), max(tiers[0].price_per_kw for tiers in item.periods)))
        elif price > 0.0:
            found.append(((k, day, period), price))
    if tariff.regime is not None:
        found.append((REGIME, min(tariff.regime.below_per_kw, tariff.regime.above_per_kw)))
    return found


def _ratcheted(tariff: Tariff, register: Register) -> bool:
    return register != REGIME and tariff.demand[register[0]].ratcheted and tariff.demand[register[0]].per == "month"


def noted(tariff: Tariff, peaks: Peaks, start_s: float, mean_kw: float) -> Peaks:
    """The peaks after a billed interval that began at `start_s` (UTC epoch s) ended at `mean_kw`."""
    reached = dict(peaks.reached_kw)
    for register, _ in registers_at(tariff, start_s):
        reached[register] = max(reached.get(register, 0.0), mean_kw)
    return Peaks(reached, peaks.floor_kw)


def windows(
    at: Rates,
    slots: Ints,
    peaks: Peaks,
    later_kw: Mapping[Register, Sequence[float]] | None = None,
    today_s: float = np.inf,
) -> tuple[tuple[Register, DemandWindow], ...]:
    """One demand window per register with a price among the steps whose first slots are `slots` (T,).

    `later_kw`: equally likely peaks that the rest of the billing period will reach in a monthly register anyway. What begins at
    `today_s` or later is such a rest: it has a window of its own, so that an uncertain tomorrow is no licence for today.
    """
    later = later_kw or {}
    today = at.starts_s[slots] < today_s
    found = []
    for item in at.counts:
        mask = item.mask[slots]
        monthly = item.register[1] == 0
        billed = max(peaks.reached_kw.get(item.register, 0.0), peaks.floor_kw if item.ratcheted else 0.0)
        ahead = later.get(item.register, ()) if monthly else ()
        for part, inside in (("", mask & today), (" later", mask & ~today)):
            if inside.any():
                name = ":".join(str(number) for number in item.register) + part
                found.append((item.register, demand_window(name, inside, item.price_per_kw, billed, ahead)))
    return tuple(found)


def steps_from(at: Rates, now_s: float, fine: int, until_s: float) -> tuple[Floats, Floats, Ints]:
    """Starts (UTC epoch s), lengths (h) and first slots of a plan's steps, (T,): the rest of the running slot, `fine` whole slots,
    then the slots of an hour joined wherever prices and registers are the same, to at least `until_s`."""
    first = int(np.floor((now_s - at.starts_s[0]) / at.slot_s + 1e-9))
    last = min(int(np.ceil((until_s - at.starts_s[0]) / at.slot_s)), at.starts_s.size)
    slots = np.arange(first, last)
    keep = np.concatenate([[True], np.diff(at.alike[slots]) != 0])
    keep[: fine + 2] = True
    slots = slots[keep]
    edges = np.append(at.starts_s[slots], at.starts_s[0] + last * at.slot_s)
    edges[0] = now_s
    return edges[:-1], np.diff(edges) / 3600.0, slots


def midnight_s(tariff: Tariff, at_s: float) -> float:
    """Local midnight before an instant, UTC epoch s."""
    local = local_time(tariff, at_s)
    return local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def next_midnight_s(tariff: Tariff, at_s: float) -> float:
    """Local midnight after an instant, UTC epoch s; a day has 23 to 25 hours."""
    return midnight_s(tariff, midnight_s(tariff, at_s) + 36.0 * 3600.0)
