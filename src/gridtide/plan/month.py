"""What the rest of a billing period will reach anyway: the peak that each past day could have been lived with, and from these the
distribution of the highest one among the days still to come.

Each day is played at many targets by a rule that knows nothing of it beforehand (`early`). Days of one kind (working days,
Saturdays, Sundays) are taken as exchangeable: what that says of the highest of the days ahead needs no distribution (`_highest`).
A target too low may end far above the one it should have been: where it does, the month begins with a safer one (`_safe_kw`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from gridtide.market.tariff import Tariff
from gridtide.plan.early import import_kw
from gridtide.plan.forecast_calendar import DAY_S, Calendar, Floats, Ints, local_index, moments
from gridtide.plan.horizon import Bools, Horizon
from gridtide.plan.optimise import Settings, optimise
from gridtide.plan.registers import Peaks, Rates, Register, windows
from gridtide.plan.stays import Stay, vehicles

LEVELS = tuple((k + 0.5) / 20.0 for k in range(20))
"""Equally likely levels that a distribution is told by."""
EXACT = Settings(exact_below=1 << 30)
LEAST_DAYS = 3
BUSY_STAYS = 60
_LEVELS = 16
"""Targets tried at once, and again around the best."""
_LOWEST = 0.7
"""Lowest target tried, as a share of the day's highest load."""
_UNSEEN = 0.5
"""Share of a surprise that a plan does not see coming."""
_LEAST_SCALE = 0.005
"""Of the highest peak: the tail is at least as wide."""


class DayPeak(Struct, frozen=True, eq=False):
    """One past day."""

    start_s: float
    """Local midnight, UTC epoch s."""
    group: int
    """Kind of day: working day 0, Saturday 1, Sunday or holiday 2."""
    peak_kw: Mapping[tuple[int, int], float]
    """By charge and period: the lowest peak that a target known from the morning on would have led to."""
    steep: float = 1.0
    """By how many kW a target one kW below that would have ended above it."""


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
    """The peaks of the lowest target that was held all day, and what a lower one would have led to."""
    starts = facts.rates.starts_s
    group = int(moments(calendar, 900, local_index(calendar, 900, starts[:1])).group[0])
    found = windows(facts.rates, np.arange(starts.size), Peaks())
    if not found:
        return DayPeak(float(starts[0]), group, {})
    masks = np.array([window.mask for _, window in found])
    peak_kw, steep = _lived_with(facts, masks, np.array([window.price_per_kw[0] for _, window in found]))
    by = {(register[0], register[2]): float(kw) for (register, _), kw in zip(found, peak_kw, strict=True)}
    return DayPeak(float(starts[0]), group, by, steep)


def _lived_with(facts: DayFacts, masks: Bools, price_per_kw: Floats) -> tuple[Floats, float]:
    """For registers (R, S) the peaks (R,) of the targets that cost least, and by how many kW a target that is one kW lower raises
    the peak above it (1: not at all, the peak stays where it is).

    Several registers are tried in the proportion of the peaks of the day's lowest bill.
    """
    load_kw = np.array([facts.load_kw[mask].max() for mask in masks])
    if not facts.stays:
        return load_kw, 1.0

    def peaks(scale: Floats) -> Floats:
        target_kw = np.where(masks, base_kw[:, None], np.inf).min(axis=0)
        targets = np.minimum(scale[:, None] * target_kw, facts.import_cap_kw)
        lived = import_kw(facts.rates.starts_s, facts.rates.slot_s, facts.load_kw, facts.stays, targets)
        return np.array([lived[:, mask].max(axis=1) for mask in masks]).T

    base_kw = np.full(len(masks), facts.import_cap_kw)
    free_kw = peaks(np.ones(1))[0]
    base_kw = np.maximum(_lowest_bill(facts) if len(masks) > 1 else free_kw, 1e-3)
    coarse = np.linspace(_LOWEST * (np.minimum(load_kw, free_kw) / base_kw).min(), (free_kw / base_kw).max(), _LEVELS)
    reached = peaks(coarse)
    best = int((reached @ price_per_kw).argmin())
    fine = np.linspace(coarse[max(best - 1, 0)], coarse[min(best + 1, _LEVELS - 1)], _LEVELS)
    tried = np.concatenate([reached[best : best + 1], peaks(fine)])
    held_kw = tried[(tried @ price_per_kw).argmin()]
    scale = (held_kw / base_kw).max()
    below = (coarse < 0.98 * scale) & (coarse > 0.88 * scale)
    target_kw = coarse[below, None] * base_kw
    steep = (reached[below] - target_kw) / np.maximum(held_kw - target_kw, 1e-3)
    return held_kw, max(float(steep.max(axis=1).mean()), 1.0) if below.any() else 1.0


def _lowest_bill(facts: DayFacts) -> Floats:
    """The peaks of a day's lowest bill, every register at its full price; a busy day by half hours, which takes a fifth of the time
    and finds a peak no lower."""
    horizon, _ = hindsight(facts, 2 if len(facts.stays) > BUSY_STAYS else 1)
    begins = horizon.start_s + 3600.0 * horizon.hours[0] * np.arange(horizon.steps)
    return optimise(horizon, vehicles(facts.stays, begins, horizon.hours, facts.wear_price_per_kwh), EXACT)[0].peak_kw


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
        highest = np.array(_highest(np.array(peaks), np.array([day.group for day in days]), ahead))
        # Days that are nowhere near the highest say nothing about what happens below it.
        upper = np.quantile(peaks, 0.75)
        steep = float(np.mean([day.steep for day, kw in zip(days, peaks, strict=True) if kw >= upper]))
        found[(charge, 0, period)] = np.maximum(highest, _safe_kw(highest, steep)).tolist()
    return found


def _safe_kw(highest_kw: Floats, steep: float) -> float:
    """The target for a month whose days need at most one of the equally likely `highest_kw`.

    Where C is needed a target T < C ends in a peak of T + steep (C - T), if nobody sees it coming; a plan sees a part. The expected
    peak is lowest where C exceeds T with probability 1 / steep.
    """
    unseen = _UNSEEN * steep
    return float(np.interp(1.0 - 1.0 / unseen, LEVELS, highest_kw)) if unseen > 1.0 else 0.0


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
