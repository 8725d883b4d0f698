"""What an amount costs that fills tiers one after the other."""

from collections.abc import Sequence
from math import inf, isinf

import numpy as np

from gridtide.market.charges import DemandTier, EnergyCharge, EnergyTier, Floats

_PER_KW = ("kwh_per_kw", "kwh_per_kw_per_day")
_PER_DAY = ("kwh_per_day", "kwh_per_kw_per_day")


def demand_cost(tiers: Sequence[DemandTier], demand_kw: float) -> float:
    """What a demand costs, kW: each tier its part; the last tier takes what is left."""
    return sum(tier.price_per_kw * (high - low) for tier, low, high in _filled(tiers, demand_kw))


def demand_that_costs(tiers: Sequence[DemandTier], cost: float) -> float:
    """The highest demand that costs no more than `cost`, kW; infinite where no demand does."""
    spent, low = 0.0, 0.0
    for k, tier in enumerate(tiers):
        high = tier.up_to_kw if k + 1 < len(tiers) else inf
        if high <= low:
            continue
        if tier.price_per_kw > 0.0 and spent + tier.price_per_kw * (high - low) > cost:
            return low + (cost - spent) / tier.price_per_kw
        if not isinf(high):
            spent += tier.price_per_kw * (high - low)
            low = high
    return inf


def _filled(tiers: Sequence[DemandTier], demand_kw: float) -> list[tuple[DemandTier, float, float]]:
    found, low = [], 0.0
    for k, tier in enumerate(tiers):
        high = min(demand_kw, tier.up_to_kw) if k + 1 < len(tiers) else demand_kw
        if high > low:
            found.append((tier, low, high))
            low = high
    return found


def energy_bounds_kwh(tiers: Sequence[EnergyTier], billed_kw: float, days: int) -> Floats:
    """Rising upper bounds of a month's tiers, kWh, (tiers,); the last is infinite, an empty tier ends where it begins.

    `billed_kw` and `days` are those of the month. A bound per kW opens a block; bounds in kWh that follow it are steps inside
    that block, and the block's own price is then not used (the way utilities write "hours use of demand" rates).
    """
    bounds, block_kwh = [], inf
    for k, tier in enumerate(tiers):
        bound = tier.up_to * days if tier.unit in _PER_DAY else tier.up_to
        if tier.unit in _PER_KW:
            block_kwh = inf if isinf(bound) else bound * billed_kw
            framed = k + 1 < len(tiers) and tiers[k + 1].unit not in _PER_KW
            bound = 0.0 if framed else block_kwh
        bounds.append(min(bound, block_kwh))
    bounds[-1] = inf
    return np.maximum.accumulate(np.array(bounds))


def cumulative(energy_kwh: Floats, bounds_kwh: Floats, price_per_kwh: Sequence[float]) -> Floats:
    """What the first `energy_kwh` (n,) of a month cost where only one period's prices held."""
    cost, low = np.zeros(np.shape(energy_kwh)), 0.0
    for bound, price in zip(bounds_kwh, price_per_kwh, strict=True):
        if bound > low:
            cost += price * np.clip(energy_kwh - low, 0.0, bound - low)
            low = float(bound)
    return cost


def has_tiers(charge: EnergyCharge) -> bool:
    """Whether any period has more than one price."""
    return any(len(tiers) > 1 for tiers in charge.periods)


def depends_on_demand(charge: EnergyCharge) -> bool:
    """Whether a bound is per kW of demand."""
    return any(tier.unit in _PER_KW for tiers in charge.periods for tier in tiers[:-1])


def split_cost(
    charge: EnergyCharge,
    rows: Sequence[tuple[int, float]],
    billed_kw: float,
    days: int,
    in_order: bool,
    sell: bool = False,
) -> float:
    """What a month's energy costs, or earns with `sell`. `rows`: (period, kWh) in the order in which it came, kWh >= 0."""
    if not rows:
        return 0.0
    period = np.array([row[0] for row in rows], dtype=np.int64)
    kwh = np.array([row[1] for row in rows], dtype=float)
    end_kwh = np.cumsum(kwh)
    total_kwh = float(end_kwh[-1])
    cost = 0.0
    for k in np.unique(period):
        tiers, mine = charge.periods[int(k)], period == k
        price = [tier.sell_per_kwh if sell else tier.price_per_kwh for tier in tiers]
        if len(tiers) == 1:
            cost += price[0] * float(kwh[mine].sum())
            continue
        bounds = energy_bounds_kwh(tiers, billed_kw, days)
        if in_order:
            ends = end_kwh[mine]
            cost += float((cumulative(ends, bounds, price) - cumulative(ends - kwh[mine], bounds, price)).sum())
        elif total_kwh > 0.0:
            cost += float(cumulative(end_kwh[-1:], bounds, price)[0]) * float(kwh[mine].sum()) / total_kwh
    return cost
