"""One control cycle of a site: snapshot in, decision out. Pure; the same on a real site and in a simulated year."""

import math

import numpy as np
from msgspec import Struct, structs

from gridtide.control import demand_clock, dispatch, guard, meter, needs, peak, protection, trust
from gridtide.control.demand_clock import DemandState
from gridtide.control.dispatch import Override, TurnState
from gridtide.control.guard import GuardSettings, GuardState
from gridtide.control.guidance import Guidance, limit_kw, planned_kw
from gridtide.control.links import OperatorRule
from gridtide.control.meter import MeterSettings, MeterState
from gridtide.control.needs import NeedSettings
from gridtide.control.peak import PeakSettings, PeakState
from gridtide.control.protection import ProtectionSettings, ProtectionState
from gridtide.control.trust import Note, TrustSettings, TrustState
from gridtide.model.decision import Decision, Quality, Snapshot
from gridtide.model.demand import DemandInterval
from gridtide.model.fleet import EvseTable, FleetSample, Floats, SiteLimits

LEAST_CYCLE_S = 1e-3


class Settings(Struct, frozen=True, eq=False, kw_only=True):
    """Everything a cycle is told beside the snapshot."""

    table: EvseTable
    limits: SiteLimits
    interval: DemandInterval = DemandInterval()
    peak: PeakSettings = PeakSettings()
    need: NeedSettings = NeedSettings()
    guard: GuardSettings = GuardSettings()
    meter: MeterSettings = MeterSettings()
    trust: TrustSettings = TrustSettings()
    cycle_s: float = 0.5
    overrides: tuple[Override, ...] = ()
    protection: ProtectionSettings = ProtectionSettings()
    operator: OperatorRule | None = None
    """The grid operator's link, where the site has one."""
    guidance: Guidance | None = None
    """What a plan asks for now."""


class State(Struct, frozen=True, eq=False):
    """What a site remembers between cycles."""

    demand: DemandState
    peak: PeakState
    meter: MeterState
    guard: GuardState
    turns: TurnState
    trust: TrustState
    at_s: float = -math.inf
    """Monotonic instant of the last cycle."""
    notes: tuple[Note, ...] = ()
    """What the last cycle found at single rows."""
    protection: ProtectionState = ProtectionState()


def fresh(settings: Settings) -> State:
    """State of a site that has seen nothing."""
    size = settings.table.size
    return State(DemandState(), PeakState(), MeterState(), guard.fresh(size), dispatch.fresh(size), trust.fresh(size))


@np.errstate(all="ignore")  # rubbish in one row may overflow on its way to the guard
def step(state: State, snapshot: Snapshot, settings: Settings) -> tuple[State, Decision]:
    """Decide one cycle. The same state and snapshot give the same setpoints."""
    table = settings.table
    believed, fleet, notes = trust.step(
        state.trust, snapshot.fleet, snapshot.mono_s, table, settings.trust, state.guard.setpoint_kw
    )
    snapshot = structs.replace(snapshot, fleet=fleet)
    elapsed_s = snapshot.mono_s - state.at_s
    # A second decision at the same instant (one between two cycles, and the cycle) earns no second ramp.
    cycle_s = max(elapsed_s, LEAST_CYCLE_S) if 0.0 <= elapsed_s < 10.0 * settings.cycle_s else settings.cycle_s
    seen = guard.look(fleet, table, settings.guard)
    fleet_kw = _fleet_kw(seen.told_kw, fleet, settings)
    watched, verdict = meter.watch(
        state.meter, snapshot.meter, snapshot.mono_s, fleet_kw, float(table.charge_kw.sum()),
        snapshot.meter_error_rate, settings.meter, seen.given_kw,
    )  # fmt: skip
    clock, closed = _count(state, watched, snapshot, settings)
    need = needs.assess(table, fleet, settings.need, cycle_s)
    available, room = _available(fleet, need, settings)
    first = dispatch.fixed(need, fleet, settings.overrides, snapshot.mono_s)
    load = peak.LoadNow(verdict.low_kw - fleet_kw, verdict.power_kw - fleet_kw, first.total_kw)
    rule = rule_of(settings, snapshot.mono_s, clock)
    ruled, plan = _plan(state, clock, verdict.trusted, load, room, settings, rule, cycle_s)
    if not verdict.trusted:
        available = np.zeros(table.size)
    import_kw = verdict.power_kw if verdict.trusted else settings.limits.static_building_kw + max(fleet_kw, 0.0)
    load_kw = protection.site_load_kw(import_kw, seen.told_kw)
    protected, permit, alerts = protection.step(state.protection, snapshot, load_kw, table, settings.protection)
    planned = None if settings.guidance is None else planned_kw(settings.guidance, snapshot.mono_s, table.size)
    turns, wish = dispatch.wishes(
        state.turns, plan, first, need, table, settings.limits, available, snapshot.mono_s, planned
    )
    guarded, setpoint, reason, codes = guard.clamp(
        wish.power_kw, wish.reason, wish.rank, snapshot, verdict, need, table, settings.limits, state.guard,
        settings.guard, settings.need, cycle_s, permit, seen,
    )  # fmt: skip
    told = (*_interval_events(state.demand, closed, rule), *_shaving_events(state.turns, turns))
    after = State(clock, ruled, watched, guarded, turns, believed, snapshot.mono_s, notes, protected)
    decision = Decision(
        setpoint_kw=setpoint,
        reason=reason,
        wish_kw=wish.power_kw,
        lease_s=settings.guard.lease_s,
        state="estop" if guarded.estop else "ok" if verdict.trusted and permit.in_service else "idle",
        events=(*verdict.events, *alerts, *codes, *told),
        uncontrolled_kw=load.high_kw,
        allow_kw=plan.allow_kw,
        discharge_wanted_kw=wish.discharge_kw,
        available_kw=room.power_kw,
        fixed_kw=first.total_kw,
        missing_kw=wish.missing_kw,
        closed=tuple((item.end_s, item.average_kw) for item in closed),
    )
    return after, decision


def _fleet_kw(told_kw: Floats, fleet: FleetSample, settings: Settings) -> float:
    """Sum of the told power (n,), kW, while it can still be true: after its lease a silent row gives nothing and charges its
    fallback."""
    rules = settings.guard
    if np.count_nonzero(fleet.age_s > min(rules.lease_s, rules.charge_lease_s)):
        told_kw = np.where((told_kw < 0.0) & (fleet.age_s > rules.lease_s), 0.0, told_kw)
        fallen = (told_kw > 0.0) & (fleet.age_s > rules.charge_lease_s)
        told_kw = np.where(fallen, np.minimum(told_kw, settings.table.fallback_kw), told_kw)
    sum_kw = float(told_kw.sum())
    return sum_kw if math.isfinite(sum_kw) else float(np.where(np.isnan(told_kw), 0.0, told_kw).sum())


def _count(
    state: State, watched: meter.MeterState, snapshot: Snapshot, settings: Settings
) -> tuple[demand_clock.DemandState, tuple[demand_clock.Closed, ...]]:
    """Advance the demand clock by a good new sample; the clock bounds what was missed."""
    if watched.at_s <= state.meter.at_s or not watched.recent_kw:
        return state.demand, ()
    sample = snapshot.meter
    at_s = snapshot.now_s - (snapshot.mono_s - watched.at_s)
    register = sample.energy_import_kwh if sample is not None else None
    return demand_clock.advance(
        state.demand, settings.interval, at_s, watched.recent_kw[-1],
        gap_s=max(5.0, 2.5 * settings.cycle_s), register_kwh=register, period_start_s=snapshot.period_start_s,
    )  # fmt: skip


def _available(fleet: FleetSample, need: needs.Needs, settings: Settings) -> tuple[Floats, peak.FleetRoom]:
    """What each row could give now, kW >= 0, and the fleet's sum: a wish's upper bound; the guard has the last word."""
    table, rules = settings.table, settings.need
    may = fleet.connected & fleet.may_discharge & ~fleet.fault & (fleet.capacity_kwh > 0.0)
    if not np.count_nonzero(may):
        return np.zeros(table.size), peak.FleetRoom(0.0, 0.0)
    reserve_s = rules.give_reserve_s + 4.0 * settings.cycle_s
    left_enough = table.storage | (fleet.left_s > reserve_s)
    may = may & (fleet.age_s <= settings.guard.silent_s) & (need.spare_s > reserve_s) & left_enough
    _, lowest = needs.lowest_soc(table, fleet, rules)
    limit = np.minimum(np.fmax(fleet.discharge_limit_kw, 0.0), table.discharge_kw)
    above = fleet.soc - lowest
    near = np.minimum(np.fmax(above / settings.guard.near_floor_soc, 0.0), 1.0)
    power = np.where(may, limit * near, 0.0)
    power = np.where(power >= table.least_kw, power, 0.0)
    ready = power > 0.0
    if not np.count_nonzero(ready):
        return power, peak.FleetRoom(0.0, 0.0)
    energy = float((above * fleet.capacity_kwh * table.efficiency).sum(where=ready))
    return power, peak.FleetRoom(float(power.sum()), energy)


def _plan(
    state: State,
    clock: demand_clock.DemandState,
    trusted: bool,
    load: peak.LoadNow,
    room: peak.FleetRoom,
    settings: Settings,
    rule: peak.PeakSettings,
    cycle_s: float,
) -> tuple[peak.PeakState, peak.PeakPlan]:
    """The peak rule; without a trusted meter nothing is given, and charging has what the worst-case building leaves."""
    if not trusted:
        held_kw = peak.held_kw(rule, clock)
        room_kw = math.inf if rule.mode == "off" else max(0.0, held_kw - settings.limits.static_building_kw)
        return state.peak, peak.PeakPlan(0.0, room_kw, held_kw, 0.0)
    return peak.step(state.peak, clock, settings.interval, load, room, cycle_s, rule)


def rule_of(settings: Settings, mono_s: float, demand: DemandState) -> PeakSettings:
    """The peak rule at a monotonic instant: with the plan's target while there is one, which counts what is billed anyway. What
    people set as the limit stays the most that a plan may ask for, but for what drivers need."""
    asked = settings.guidance
    target_kw = limit_kw(asked, mono_s, math.nan)
    if asked is None or math.isnan(target_kw):
        return settings.peak
    needed_kw = asked.needed_kw if 0.0 < asked.needed_kw < math.inf else 0.0
    most_kw = peak.held_kw(settings.peak, demand) + needed_kw
    return structs.replace(settings.peak, limit_kw=min(target_kw, most_kw), lifted=False)


def _interval_events(
    before: demand_clock.DemandState, closed: tuple[demand_clock.Closed, ...], rule: peak.PeakSettings
) -> tuple[str, ...]:
    """An interval that ended above what was billed anyway is a failed shave and a new peak."""
    limit_kw = peak.held_kw(rule, before)
    if rule.mode != "off" and any(item.average_kw > limit_kw * 1.001 for item in closed):
        return ("failed_shave", "new_peak")
    return ()


def _shaving_events(before: dispatch.TurnState, after: dispatch.TurnState) -> tuple[str, ...]:
    was, now = np.count_nonzero(before.giving) > 0, np.count_nonzero(after.giving) > 0
    if was == now:
        return ()
    return ("shaving_started",) if now else ("shaving_ended",)


def clear_estop(state: State) -> State:
    """A person cleared the emergency stop."""
    return structs.replace(state, guard=structs.replace(state.guard, estop=False))


def watch(state: State, snapshot: Snapshot, settings: Settings) -> tuple[State, bool]:
    """Look after the grid between two cycles. True: a cycle must be run now on this very snapshot, and the state is as it was."""
    sample = snapshot.meter
    known = sample is not None and sample.quality is Quality.GOOD
    import_kw = sample.power_kw if sample is not None and known else math.nan
    load_kw = protection.site_load_kw(import_kw, guard.known_kw(snapshot.fleet, settings.table))
    protected, permit, events = protection.step(
        state.protection, snapshot, load_kw, settings.table, settings.protection
    )
    if events or protection.is_tighter(permit, state.protection.permit) or (snapshot.estop and not state.guard.estop):
        return state, True
    return structs.replace(state, protection=protected), False
