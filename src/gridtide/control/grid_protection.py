"""May anything flow at this voltage and frequency? Trips with clearing times, ride-through, momentary cessation, the way back.

Pure and total. A trip, a lost grid and a restart of the clock of good values are decided on the meter's samples alone, by their
monotonic instants. What a reading cannot say (not a number, out of any plausible range) counts as not seen, never as good.
"""

import math

from msgspec import Struct, structs

from gridtide.control.grid_profiles import Profile, Trip
from gridtide.model.decision import GridSample

LOST_HZ, LOST_PU = 10.0, 0.1
"""Below either there is no grid: a frequency register shows 0, or every phase is dead."""
HIGHEST_HZ, HIGHEST_PU = 100.0, 2.5
"""Beyond these a reading is no measurement."""
HYSTERESIS_HZ = 0.05
"""An alarm for frequency ends this far inside the window."""
TOLERANCE_S = 1e-6


class GridSettings(Struct, frozen=True, kw_only=True):
    """What is watched, and by which profile."""

    profile: Profile
    nominal_v: float = 230.0
    """Phase to neutral."""
    has_frequency: bool = True
    has_voltage: bool = True
    """Whether the meter tells it; what it tells must be there in every sample."""
    stale_s: float = 1.0
    """Age of the last usable sample after which the grid cannot be seen."""
    outage_s: float = 10.0
    """Unseen for longer: an outage may have taken the meter with it, so discharge waits like after one."""


class GridState(Struct, frozen=True):
    """What is remembered between samples."""

    seen_s: float = -math.inf
    """Instant of the last usable sample."""
    since_s: tuple[float, ...] = ()
    """Per trip element: first sample of the unbroken stretch outside its level; inf inside."""
    good_since_s: float = math.inf
    """First sample of the unbroken stretch inside the enter-service window; inf outside it."""
    tripped: str = ""
    """Cause of the trip that holds, in words; empty in service."""
    unsure: bool = False
    """Unseen for so long that discharge waits for good values."""
    alarm: str = ""
    """`low` or `high` while the frequency is outside the alarm window."""
    ceased: str = ""
    """`low` or `high` while the voltage asks for momentary cessation."""
    entered_s: float = -math.inf
    """Return to service after the last trip."""


class GridVerdict(Struct, frozen=True):
    """What may flow now."""

    in_service: bool
    charge_share: float
    """Share of every row's rating, 0..1."""
    discharge_share: float
    reason: str
    """Why anything is held, in words; empty when nothing is."""
    events: tuple[str, ...] = ()

    @property
    def may_charge(self) -> bool:
        """Whether any charging may go on."""
        return self.charge_share > 0.0

    @property
    def may_discharge(self) -> bool:
        """Whether any discharge may go on."""
        return self.discharge_share > 0.0


def fresh(*, tripped: str = "") -> GridState:
    """State of a start; `tripped` is the cause of a trip that was kept over a restart."""
    return GridState(tripped=tripped)


def step(
    state: GridState, sample: GridSample | None, now_s: float, settings: GridSettings
) -> tuple[GridState, GridVerdict]:
    """Take the newest sample and judge at monotonic `now_s`. Without a new sample only time has passed."""
    before = state
    if sample is not None and sample.at_s > state.seen_s and _is_usable(sample, settings):
        state = _take(state, sample, settings)
    blind_s = now_s - state.seen_s
    blind = not blind_s <= settings.stale_s
    if not blind_s <= settings.outage_s and math.isfinite(state.seen_s):
        state = structs.replace(state, unsure=True)
    return state, _verdict(before, state, blind, now_s, settings.profile)


def _take(state: GridState, sample: GridSample, settings: GridSettings) -> GridState:
    """A usable sample: timers, trips, the way back."""
    profile, at_s = settings.profile, sample.at_s
    low_pu, high_pu = _range_pu(sample, settings)
    hz = sample.frequency_hz if settings.has_frequency else profile.nominal_hz
    held = state.since_s or (math.inf,) * len(profile.trips)
    since = tuple(
        (min(old, at_s) if _is_outside(trip, low_pu, high_pu, hz) else math.inf)
        for trip, old in zip(profile.trips, held, strict=True)
    )
    cause = _cause(profile, since, at_s, high_pu, hz)
    gap_s = at_s - state.seen_s
    good = profile.enter_low_pu <= low_pu and high_pu <= profile.enter_high_pu
    good &= profile.enter_low_hz <= hz <= profile.enter_high_hz
    unbroken = good and not cause and gap_s <= settings.stale_s
    good_since = state.good_since_s if unbroken and math.isfinite(state.good_since_s) else at_s
    good_since = good_since if good and not cause else math.inf
    back = at_s - good_since >= profile.enter_delay_s - TOLERANCE_S
    returns = back and bool(state.tripped)
    return GridState(
        seen_s=at_s,
        since_s=since,
        good_since_s=good_since,
        tripped=cause or ("" if back else state.tripped),
        unsure=not back and (state.unsure or (math.isfinite(state.seen_s) and gap_s > settings.outage_s)),
        alarm=_alarm(state.alarm, hz, profile),
        ceased="low" if low_pu < profile.cease_low_pu else "high" if high_pu > profile.cease_high_pu else "",
        entered_s=at_s if returns else state.entered_s,
    )


def _verdict(before: GridState, state: GridState, blind: bool, now_s: float, profile: Profile) -> GridVerdict:
    ramp_s = profile.enter_ramp_s
    share = min(max((now_s - state.entered_s) / ramp_s, 0.0), 1.0) if ramp_s > 0.0 else 1.0
    share = 0.0 if math.isnan(share) else share
    off = bool(state.tripped) or state.ceased == "low" or (blind and profile.strict)
    no_charge = off or state.alarm == "low"
    no_discharge = off or blind or state.unsure or state.alarm == "high" or state.ceased == "high"
    events: tuple[str, ...] = ()
    if state.tripped and not before.tripped:
        events = ("grid_trip",)
    elif before.tripped and not state.tripped:
        events = ("grid_returned",)
    if state.alarm and state.alarm != before.alarm and not state.tripped:
        events = (*events, "grid_alarm")
    return GridVerdict(
        not state.tripped,
        0.0 if no_charge else share,
        0.0 if no_discharge else share,
        _reason(state, blind, share),
        events,
    )


def _reason(state: GridState, blind: bool, share: float) -> str:
    if state.tripped:
        return state.tripped
    if blind:
        return "voltage and frequency are not seen"
    if state.ceased:
        return f"the voltage is too {state.ceased} for a moment"
    if state.unsure:
        return "voltage and frequency were not seen for a while"
    if state.alarm:
        return f"the frequency is too {state.alarm}"
    return "returning to service" if share < 1.0 else ""


def _is_usable(sample: GridSample, settings: GridSettings) -> bool:
    if not math.isfinite(sample.at_s):
        return False
    if settings.has_frequency and not 0.0 <= sample.frequency_hz <= HIGHEST_HZ:
        return False
    highest_v = HIGHEST_PU * settings.nominal_v
    volts = sample.voltages_v
    return not settings.has_voltage or (bool(volts) and all(0.0 <= value <= highest_v for value in volts))


def _range_pu(sample: GridSample, settings: GridSettings) -> tuple[float, float]:
    """Lowest and highest phase, per unit."""
    if not settings.has_voltage:
        return 1.0, 1.0
    return min(sample.voltages_v) / settings.nominal_v, max(sample.voltages_v) / settings.nominal_v


def _is_outside(trip: Trip, low_pu: float, high_pu: float, hz: float) -> bool:
    if trip.side == "over":
        return (high_pu if trip.quantity == "voltage" else hz) > trip.level
    return (low_pu if trip.quantity == "voltage" else hz) < trip.level


def _cause(profile: Profile, since: tuple[float, ...], at_s: float, high_pu: float, hz: float) -> str:
    """Why the grid must be left now, or nothing."""
    if hz < LOST_HZ or high_pu < LOST_PU:
        return "the grid is lost"
    for trip, start_s in zip(profile.trips, since, strict=True):
        if at_s - start_s >= trip.clearing_s - TOLERANCE_S:
            unit = "of nominal" if trip.quantity == "voltage" else "Hz"
            return f"{trip.side}-{trip.quantity}: beyond {trip.level:g} {unit} for {trip.clearing_s:g} s"
    return ""


def _alarm(before: str, hz: float, profile: Profile) -> str:
    low = profile.alarm_low_hz + (HYSTERESIS_HZ if before == "low" else 0.0)
    high = profile.alarm_high_hz - (HYSTERESIS_HZ if before == "high" else 0.0)
    return "low" if hz < low else "high" if hz > high else ""
