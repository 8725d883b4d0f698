"""What the rest of a billing period will reach anyway: the peak that the fleet could have held on each past day, and from these the
distribution of the highest one among the days still to come.

A day's holdable peak is the exact programme of that day with its load and its stays. Days of one kind (working days, Saturdays,
Sundays) are taken as exchangeable: what that says of the highest of the days ahead needs no distribution (`_highest`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from gridtide.market.tariff import Tariff
from gridtide.plan.forecast_calendar import DAY_S, Calendar, Floats, Ints, local_index, moments
from gridtide.plan.horizon import Horizon
from gridtide.plan.optimise import Settings, optimise
from gridtide.plan.registers import Peaks, Rates, Register, windows
from gridtide.plan.stays import Stay, vehicles

LEVELS = tuple((k + 0.5) / 20.0 for k in range(20))
"""Equally likely levels that a distribution is told by."""
EXACT = Settings(exact_below=1 << 30)
LEAST_DAYS = 3
BUSY_STAYS = 60
_LEAST_SCALE = 0.005
"""Of the highest peak: the tail is at least as wide."""


class DayPeak(Struct, frozen=True, eq=False):
    """One past day."""

    start_s: float
    """Local midnight, UTC epoch s."""
    group: int
    """Kind of day: working day 0, Saturday 1, Sunday or holiday 2."""
    peak_kw: Mapping[tuple[int, int], float]
    """Holdable peak by charge and period."""


class DayFacts(Struct, frozen=True, eq=False, kw_only=True):
    """A time that is over."""

    rates: Rates
    """Its T slots are the steps."""
    load_kw: Floats
    """(T,)."""
    stays: Sequence[Stay]
    import_cap_kw: float
    floor_kw: float
    wear_price_per_kwh: float


def hindsight(facts: DayFacts, join: int = 1) -> tuple[Horizon, tuple[Register, ...]]:
    """The horizon of a time that is over, with everything known, and the registers of its demand windows.

    `join` slots make a step: their mean load for the energy, the highest for the peaks.
    """
    at = facts.rates
    slots = np.arange(0, at.starts_s.size, join)
    found = windows(at, slots, Peaks())
    load = facts.load_kw.reshape(-1, join)
    horizon = Horizon(
        start_s=float(at.starts_s[0]), hours=np.full(slots.size, join * at.slot_s / 3600.0), load_kw=load.mean(axis=1),
        load_high_kw=load.max(axis=1), load_low_kw=load.min(axis=1),
        import_price=at.import_price.reshape(-1, join).mean(axis=1),
        export_price=at.export_price.reshape(-1, join).mean(axis=1), import_cap_kw=np.full(slots.size, facts.import_cap_kw),
        floor_kw=np.full(slots.size, facts.floor_kw), demand=tuple(window for _, window in found), limit_price_per_kwh=1e4,
    )  # fmt: skip
    return horizon, tuple(register for register, _ in found)


def day_peak(facts: DayFacts, calendar: Calendar) -> DayPeak:
    """The peaks of the lowest bill of a day that is over, every register at its full price; a busy day by half hours, which takes
    a fifth of the time and finds a peak no lower."""
    horizon, registers = hindsight(facts, 2 if len(facts.stays) > BUSY_STAYS else 1)
    starts = facts.rates.starts_s
    rows = vehicles(
        facts.stays,
        horizon.start_s + 3600.0 * horizon.hours[0] * np.arange(horizon.steps),
        horizon.hours,
        facts.wear_price_per_kwh,
    )
    if rows.size and registers:
        peak_kw = optimise(horizon, rows, EXACT)[0].peak_kw
    else:
        peak_kw = np.array([float(horizon.load_high_kw[w.mask].max(initial=0.0)) for w in horizon.demand])
    group = int(moments(calendar, 900, local_index(calendar, 900, starts[:1])).group[0])
    by = {(r[0], r[2]): float(kw) for r, kw in zip(registers, peak_kw, strict=True)}
    return DayPeak(float(starts[0]), group, by)


def later_peaks(
    days: Sequence[DayPeak], tariff: Tariff, next_s: float, end_s: float, calendar: Calendar
) -> dict[Register, list[float]]:
    """For each monthly register equally likely highest peaks of the days from `next_s` to `end_s` (UTC epoch s).

    Empty where fewer than three past days are known, or no day is left: then every kW above what is billed counts in full.
    """
    if end_s - next_s < DAY_S / 2 or len(days) < LEAST_DAYS:
        return {}
    ahead = moments(
        calendar, 900, local_index(calendar, 900, np.arange(next_s + DAY_S / 2, end_s, DAY_S, dtype=np.float64))
    ).group
    found: dict[Register, list[float]] = {}
    for charge, period in sorted({key for day in days for key in day.peak_kw}):
        if charge >= 0 and tariff.demand[charge].per == "day":
            continue
        peaks = [day.peak_kw.get((charge, period), 0.0) for day in days]
        found[(charge, 0, period)] = _highest(np.array(peaks), np.array([day.group for day in days]), ahead)
    return found


def _highest(peak_kw: Floats, group: Ints, ahead: Ints) -> list[float]:
    """Quantiles (`LEVELS`) of the highest peak of the days ahead, from past days of the same kinds (of any kind where there are
    none).

    Of n past days and k days ahead that are exchangeable, the k stay below the j-th of the n with probability
    prod_{i<k} (j + i) / (n + 1 + i). Beyond the highest of the past, what is left falls off exponentially, with the mean excess of
    the past days over their upper quartile as its scale.
    """
    values = np.unique(peak_kw)
    share = np.ones(values.size)
    for kind, count in zip(*np.unique(ahead, return_counts=True), strict=True):
        same = np.sort(peak_kw[group == kind] if (group == kind).any() else peak_kw)
        rank = np.searchsorted(same, values, side="right")
        share *= np.prod([(rank + i) / (same.size + 1.0 + i) for i in range(int(count))], axis=0)
    upper = np.quantile(peak_kw, 0.75)
    scale_kw = max(float((peak_kw[peak_kw >= upper] - upper).mean()), _LEAST_SCALE * float(values[-1]), 1e-6)
    levels = np.array(LEVELS)
    beyond = np.maximum(np.log((1.0 - share[-1]) / (1.0 - levels)), 0.0) if share[-1] < 1.0 else np.zeros(levels.size)
    return [float(kw) for kw in np.interp(levels, share, values) + scale_kw * beyond]
