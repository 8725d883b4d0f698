"""The demand clock: meters the billed interval as the utility does, and says what power may still run.

One clock serves the fast controller, the planner and the page. It holds the running sub-interval's energy, the
complete sub-intervals of the window, the billing period's peak and the ratchet. Its state is a small struct that is
stored each cycle, so that a restart inside an interval loses nothing but the gap itself.
"""

import math

from msgspec import Struct, structs

from gridtide.model.demand import DemandInterval

RATCHET_PERIODS = 12
NEVER_S = -1e15
"""Before any instant; finite, because the state is stored as JSON, which knows no infinity."""
LONGEST_GAP_S = 31 * 86_400.0
"""A longer span is a clock that was set anew, not a gap."""


class DemandState(Struct, frozen=True):
    """What the clock remembers. Energies in kWs (kW times seconds)."""

    at_s: float = NEVER_S
    """Instant up to which energy is counted, UTC epoch seconds; `NEVER_S` before the first sample."""
    power_kw: float = 0.0
    """The last power seen."""
    sub_start_s: float = NEVER_S
    energy_kws: float = 0.0
    """Import energy of the running sub-interval up to `at_s`."""
    past_kws: tuple[float, ...] = ()
    """Energies of the complete sub-intervals before it, oldest first, as many as the window needs."""
    register_kwh: float | None = None
    period_start_s: float = NEVER_S
    peak_kw: float = 0.0
    """Highest complete interval average of the billing period."""
    past_peaks_kw: tuple[float, ...] = ()
    """Peaks of earlier billing periods, oldest first."""


class Closed(Struct, frozen=True):
    """One billed interval that ended."""

    end_s: float
    average_kw: float


def advance(
    state: DemandState,
    interval: DemandInterval,
    at_s: float,
    power_kw: float,
    *,
    gap_s: float = 5.0,
    register_kwh: float | None = None,
    period_start_s: float = NEVER_S,
) -> tuple[DemandState, tuple[Closed, ...]]:
    """Count `power_kw` (mean since the last sample) up to `at_s`; returns the intervals that ended on the way.

    A span longer than `gap_s` is filled from the import register where both ends have one, else bounded by the higher of the
    last and the new power. Export counts as zero import. A clock that steps back a little counts nothing; one that was set
    anew (back by an interval, or ahead by a month) begins a new interval and keeps the peaks. Not a number counts nothing.
    """
    if not (math.isfinite(at_s) and math.isfinite(power_kw)):
        return state, ()
    if register_kwh is not None and not math.isfinite(register_kwh):
        register_kwh = None
    span_s = at_s - state.at_s
    if not -interval.length_s < span_s <= LONGEST_GAP_S:
        return _begin(state, interval, at_s, power_kw, gap_s, register_kwh, period_start_s), ()
    if span_s <= 0.0:
        return state, ()
    mean_kw = power_kw
    if span_s > gap_s:
        mean_kw = max(power_kw, state.power_kw)
        if register_kwh is not None and state.register_kwh is not None and register_kwh >= state.register_kwh:
            mean_kw = (register_kwh - state.register_kwh) * 3600.0 / span_s
    return _count(state, interval, at_s, max(mean_kw, 0.0), power_kw, register_kwh, period_start_s)


def _begin(
    state: DemandState,
    interval: DemandInterval,
    at_s: float,
    power_kw: float,
    gap_s: float,
    register_kwh: float | None,
    period_start_s: float,
) -> DemandState:
    """The first sample, or the first after the clock was set anew."""
    start_s = interval.sub_start_s(at_s)
    energy_kws = max(power_kw, 0.0) * (at_s - start_s) if at_s - start_s <= gap_s else 0.0
    # After a leap ahead the old period still has to be closed; after a step back the earlier one is running again.
    known = state.period_start_s > NEVER_S
    period_s = min(state.period_start_s, period_start_s) if known else period_start_s
    return structs.replace(
        state, at_s=at_s, power_kw=power_kw, sub_start_s=start_s, energy_kws=energy_kws, past_kws=(),
        register_kwh=register_kwh, period_start_s=period_s,
    )  # fmt: skip


def _count(
    state: DemandState,
    interval: DemandInterval,
    at_s: float,
    mean_kw: float,
    power_kw: float,
    register_kwh: float | None,
    period_start_s: float,
) -> tuple[DemandState, tuple[Closed, ...]]:
    sub_s = interval.sub_s
    start_s, energy_kws, past = state.sub_start_s, state.energy_kws, state.past_kws
    from_s, peak_kw = state.at_s, state.peak_kw
    period_s, peaks = state.period_start_s, state.past_peaks_kw
    closed: list[Closed] = []
    while at_s >= start_s + sub_s:
        end_s = start_s + sub_s
        energy_kws += mean_kw * (end_s - from_s)
        window = (*past, energy_kws)
        if len(window) >= interval.sub_intervals:
            average_kw = sum(window[-interval.sub_intervals :]) / interval.length_s
            closed.append(Closed(end_s, average_kw))
            peak_kw = max(peak_kw, average_kw)
        past = window[-(interval.sub_intervals - 1) :] if interval.rolling else ()
        start_s, from_s, energy_kws = end_s, end_s, 0.0
        if period_s < period_start_s <= end_s:
            if period_s > NEVER_S:
                peaks = (*peaks, peak_kw)[-RATCHET_PERIODS:]
            period_s, peak_kw = period_start_s, 0.0
    energy_kws += mean_kw * (at_s - from_s)
    after = DemandState(
        at_s=at_s, power_kw=power_kw, sub_start_s=start_s, energy_kws=energy_kws, past_kws=past,
        register_kwh=register_kwh, period_start_s=period_s, peak_kw=peak_kw, past_peaks_kw=peaks,
    )  # fmt: skip
    return after, tuple(closed)


def left_s(state: DemandState, interval: DemandInterval) -> float:
    """Seconds to the end of the running sub-interval."""
    return state.sub_start_s + interval.sub_s - state.at_s


def window_energy_kws(state: DemandState, interval: DemandInterval) -> float:
    """Energy so far of the window that ends with the running sub-interval, kWs."""
    return (
        sum(state.past_kws[-(interval.sub_intervals - 1) :]) + state.energy_kws
        if interval.rolling
        else state.energy_kws
    )


def floor_kw(state: DemandState, ratchet: float) -> float:
    """Demand that is billed anyway, kW: this period's peak, or the ratchet's share of an earlier one."""
    return max(state.peak_kw, ratchet * max(state.past_peaks_kw, default=0.0))


def windows(state: DemandState, interval: DemandInterval) -> list[tuple[float, float]]:
    """(energy so far in kWs, seconds left) of every billed window that contains now, the earliest to end first."""
    left = left_s(state, interval)
    if not interval.rolling:
        return [(state.energy_kws, left)]
    past = state.past_kws
    found = []
    for ahead in range(interval.sub_intervals):
        kept = interval.sub_intervals - 1 - ahead
        energy = state.energy_kws + (sum(past[-kept:]) if kept else 0.0)
        found.append((energy, left + ahead * interval.sub_s))
    return found


def allow_kw(state: DemandState, interval: DemandInterval, limit_kw: float, cycle_s: float = 0.5) -> float:
    """Mean power that may run to the end of every window that contains now, kW (may be negative).

    allow = (L T - E) / (T - t), the least over the windows; the time left is never less than one cycle.
    """
    total = limit_kw * interval.length_s
    return min((total - energy) / max(left, cycle_s) for energy, left in windows(state, interval))


def projected_kw(state: DemandState, interval: DemandInterval, power_kw: float) -> float:
    """Average of the running window if `power_kw` ran to its end, kW."""
    energy = window_energy_kws(state, interval)
    return (energy + max(power_kw, 0.0) * max(left_s(state, interval), 0.0)) / interval.length_s
