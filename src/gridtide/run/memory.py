"""What a site remembers over a restart: the run-time limit, the latches, the clocks of the running interval."""

import math

import msgspec
import numpy as np
from msgspec import Struct, structs

from gridtide.control import demand_clock
from gridtide.control import site as control
from gridtide.control.demand_clock import DemandState
from gridtide.control.shadow import Carried, ShadowState
from gridtide.run.store import Store

STATE = "site"


class Limit(Struct, frozen=True):
    """The run-time setting of the peak target, as stored."""

    limit_kw: float
    buffer_kw: float


class Kept(Struct, frozen=True):
    """Stored every cycle."""

    carried: Carried
    length_s: float
    sub_intervals: int
    shadow_left_kwh: tuple[float | None, ...] = ()


class Restored(Struct, frozen=True, eq=False):
    """What a new service starts from, and what people should know about it."""

    settings: control.Settings
    state: control.State
    carried: Carried
    shadow_state: ShadowState
    notes: tuple[str, ...]


def save(store: Store, carried: Carried, left: ShadowState, settings: control.Settings) -> None:
    """Keep the clocks; the newest wins."""
    known = tuple(None if math.isnan(value) else round(value, 3) for value in left.left_kwh.tolist())
    kept = Kept(carried, settings.interval.length_s, settings.interval.sub_intervals, known)
    store.put_state(STATE, msgspec.json.encode(kept))


def restore(
    store: Store,
    settings: control.Settings,
    state: control.State,
    carried: Carried,
    shadow_state: ShadowState,
    damaged: bool,
) -> Restored:
    """Settings, latches and clocks from the store. What cannot be read is told and begun afresh, never guessed.

    A store that was damaged (`damaged`) may have held an emergency stop: it starts latched.
    """
    kept, notes = store.settings(), []
    try:
        if "peak" in kept:
            limit, file = msgspec.json.decode(kept["peak"], type=Limit), settings.peak
            if limit.limit_kw != file.limit_kw:
                notes.append(
                    f"The limit is {limit.limit_kw:g} kW as set by a person; the site file says {file.limit_kw:g} kW."
                )
            settings = with_limit(settings, limit)
        saved = store.get_state(STATE)
        if saved is not None and state.demand.at_s <= demand_clock.NEVER_S:
            carried, shadow_state = _clocks(msgspec.json.decode(saved, type=Kept), settings, shadow_state)
            state = structs.replace(state, demand=carried.site)
    except (msgspec.DecodeError, ValueError) as error:
        notes.append(f"What was stored of the running interval cannot be read ({error}): it begins afresh.")
    latched = damaged or kept.get("estop") == b"true" or state.guard.estop
    sign = kept.get("meter_sign") == b"true" or state.meter.sign_fault
    state = structs.replace(
        state, guard=structs.replace(state.guard, estop=latched), meter=structs.replace(state.meter, sign_fault=sign)
    )
    return Restored(settings, state, carried, shadow_state, tuple(notes))


def with_limit(settings: control.Settings, limit: Limit) -> control.Settings:
    """The settings with another limit and buffer."""
    return structs.replace(
        settings, peak=structs.replace(settings.peak, limit_kw=limit.limit_kw, buffer_kw=limit.buffer_kw)
    )


def _clocks(kept: Kept, settings: control.Settings, left: ShadowState) -> tuple[Carried, ShadowState]:
    """The clocks as kept; after a change of the billed interval only the peaks."""
    carried, interval = kept.carried, settings.interval
    same = (kept.length_s, kept.sub_intervals) == (interval.length_s, interval.sub_intervals)
    if not same or interval.sub_start_s(carried.site.sub_start_s) != carried.site.sub_start_s:
        carried = structs.replace(
            carried, site=_peaks(carried.site), building=_peaks(carried.building), at_once=_peaks(carried.at_once)
        )
    if len(kept.shadow_left_kwh) == left.left_kwh.size:
        values = np.array([math.nan if value is None else value for value in kept.shadow_left_kwh])
        left = ShadowState(values, np.isfinite(values))
    return carried, left


def _peaks(state: DemandState) -> DemandState:
    return DemandState(period_start_s=state.period_start_s, peak_kw=state.peak_kw, past_peaks_kw=state.past_peaks_kw)
