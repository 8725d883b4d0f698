"""What a site remembers over a restart: the run-time limit, the latches, the clocks of the running interval."""

import math
from contextlib import suppress

import msgspec
import numpy as np
from msgspec import Struct, structs

from gridtide.control import demand_clock, grid_protection, trust, wear
from gridtide.control import site as control
from gridtide.control.demand_clock import DemandState
from gridtide.control.guard import GuardState
from gridtide.control.shadow import Carried, ShadowState
from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.steady_clock import SteadyClock
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
    operations: tuple[int, ...] = ()
    turns: tuple[int, ...] = ()
    """Of each row's contactor in the running day."""
    day_left_s: float = 0.0
    grid_trip: str = ""
    """Cause of a trip of the grid protection that holds, in words."""
    turning: tuple[tuple[int, float, float], ...] = ()
    """Row, direction (-1 or +1) and time for which it may not turn yet, s."""
    wall_s: float = 0.0
    """UTC epoch s at which this was kept."""


class Restored(Struct, frozen=True, eq=False):
    """What a new service starts from, and what people should know about it."""

    settings: control.Settings
    state: control.State
    carried: Carried
    shadow_state: ShadowState
    notes: tuple[str, ...]


def welded_key(bay: str) -> str:
    """The store's key of a bay's latched contactor."""
    return f"welded:{bay}"


def set_right(clock: Clock, store: Store) -> None:
    """A clock that knows no jumps goes on from what the store knows of the time, before anything reckons with it."""
    saved = store.get_state(STATE)
    if not isinstance(clock, SteadyClock) or saved is None:
        return
    with suppress(msgspec.DecodeError):  # `restore` tells of it
        clock.not_before(msgspec.json.decode(saved, type=Kept).wall_s)


def save(
    store: Store, carried: Carried, left: ShadowState, settings: control.Settings, state: control.State, wall_s: float
) -> None:
    """Keep the clocks, what was used of the contactors' day, who may not turn yet, and a trip that holds; the newest wins."""
    used = state.trust.wear
    known = tuple(None if math.isnan(value) else round(value, 3) for value in left.left_kwh.tolist())
    kept = Kept(
        carried, settings.interval.length_s, settings.interval.sub_intervals, known,
        tuple(used.operations.tolist()), tuple(used.turns.tolist()), used.day_left_s, state.protection.grid.tripped,
        _turning(state, settings.table), wall_s,
    )  # fmt: skip
    store.put_state(STATE, msgspec.json.encode(kept))


def restore(
    store: Store,
    settings: control.Settings,
    state: control.State,
    carried: Carried,
    shadow_state: ShadowState,
    damaged: bool,
    mono_s: float,
) -> Restored:
    """Settings, latches and clocks from the store at the monotonic instant `mono_s`. What cannot be read is told and begun
    afresh, never guessed.

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
            found = msgspec.json.decode(saved, type=Kept)
            carried, shadow_state = _clocks(found, settings, shadow_state)
            state = structs.replace(
                state, demand=carried.site, trust=_used(state.trust, found),
                guard=_held(state.guard, found.turning, settings.table, mono_s),
            )  # fmt: skip
            if found.grid_trip and settings.protection.grid is not None:
                # Nobody looked meanwhile: the time of good values begins anew.
                grid = grid_protection.fresh(tripped=found.grid_trip)
                state = structs.replace(state, protection=structs.replace(state.protection, grid=grid))
                notes.append(f"The grid protection had tripped ({found.grid_trip}): it waits for good values again.")
    except (msgspec.DecodeError, ValueError) as error:
        notes.append(f"What was stored of the running interval cannot be read ({error}): it begins afresh.")
    latched = damaged or kept.get("estop") == b"true" or state.guard.estop
    sign = kept.get("meter_sign") == b"true" or state.meter.sign_fault
    bays = [kept.get(welded_key(bay)) == b"true" for bay in settings.table.ids]
    welded = np.array(bays, dtype=np.bool_) | state.trust.open.welded
    state = structs.replace(state, trust=trust.with_welds(state.trust, welded))
    if welded.any():
        names = ", ".join(bay for bay, latched in zip(settings.table.ids, welded, strict=True) if latched)
        notes.append(f"Out of use, because the contactor welded: {names}.")
    state = structs.replace(
        state, guard=structs.replace(state.guard, estop=latched), meter=structs.replace(state.meter, sign_fault=sign)
    )
    return Restored(settings, state, carried, shadow_state, tuple(notes))


def _used(state: trust.TrustState, kept: Kept) -> trust.TrustState:
    """What was used of the contactors' day; a fleet of another size begins afresh."""
    size = state.connected.size
    if len(kept.operations) != size or len(kept.turns) != size or not 0.0 < kept.day_left_s <= wear.DAY_S:
        return state
    used = structs.replace(
        state.wear, operations=np.array(kept.operations, dtype=np.int64), turns=np.array(kept.turns, dtype=np.int64),
        day_left_s=kept.day_left_s,
    )  # fmt: skip
    return structs.replace(state, wear=used)


def _turning(state: control.State, table: EvseTable) -> tuple[tuple[int, float, float], ...]:
    """Rows that turned less than their hold time ago."""
    if not math.isfinite(state.at_s):
        return ()
    left_s = state.guard.turned_s + table.hold_s - state.at_s
    rows = np.flatnonzero((left_s > 0.0) & (state.guard.direction != 0.0))
    return tuple((int(row), float(state.guard.direction[row]), round(float(left_s[row]), 1)) for row in rows)


def _held(
    state: GuardState, turning: tuple[tuple[int, float, float], ...], table: EvseTable, mono_s: float
) -> GuardState:
    """Who may not turn yet. How long nobody ran is not counted: the wall clock may have been set meanwhile."""
    direction, turned_s = state.direction.copy(), state.turned_s.copy()
    for row, sign, left_s in turning:
        if 0 <= row < table.size and sign in (-1.0, 1.0) and 0.0 < left_s <= table.hold_s[row]:
            direction[row], turned_s[row] = sign, mono_s + left_s - table.hold_s[row]
    return structs.replace(state, direction=direction, turned_s=turned_s)


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
