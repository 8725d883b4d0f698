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
    fleet_kw = float(np.nansum(_believed_kw(fleet, settings)))
    watched, verdict = meter.watch(
        state.meter, snapshot.meter, snapshot.mono_s, fleet_kw, float(table.charge_kw.sum()),
        snapshot.meter_error_rate, settings.meter, guard.given_kw(fleet, table, settings.guard),
    )  # fmt: skip
    clock, closed = _count(state, watched, snapshot, settings)
    need = needs.assess(table, fleet, settings.need, cycle_s)
    available, room = _available(fleet, need, settings)
    first = dispatch.fixed(need, fleet, settings.overrides, snapshot.mono_s)
    load = peak.LoadNow(verdict.low_kw - fleet_kw, verdict.power_kw - fleet_kw, first.total_kw)
    rule = _rule(settings, snapshot.mono_s)
    ruled, plan = _plan(state, clock, verdict.trusted, load, room, settings, rule, cycle_s)
    if not verdict.trusted:
        available = np.zeros(table.size)
    import_kw = verdict.power_kw if verdict.trusted else settings.limits.static_building_kw + max(fleet_kw, 0.0)
    load_kw = protection.site_load_kw(import_kw, fleet, table)
    protected, permit, alerts = protection.step(state.protection, snapshot, load_kw, table, settings.protection)
    planned = planned_kw(settings.guidance, snapshot.mono_s, table.size)
    turns, wish = dispatch.wishes(
        state.turns, plan, first, need, table, settings.limits, available, snapshot.mono_s, planned
    )
    guarded, setpoint, reason, codes = guard.clamp(
        wish.power_kw, wish.reason, wish.rank, snapshot, verdict, need, table, settings.limits, state.guard,
        settings.guard, settings.need, cycle_s, permit,
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


def _believed_kw(fleet: FleetSample, settings: Settings) -> Floats:
    """Reported power, kW (n,), while it can still be true: after its lease a silent row gives nothing and charges its fallback."""
    power, table = guard.known_kw(fleet, settings.table), settings.table
    over = (power < 0.0) & (fleet.age_s > settings.guard.lease_s)
    power = np.where(over, 0.0, power)
    fallen = (power > 0.0) & (fleet.age_s > settings.guard.charge_lease_s)
    return np.where(fallen, np.minimum(power, table.fallback_kw), power)


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
    _, lowest = needs.lowest_soc(table, fleet, rules)
    limit = np.minimum(np.where(fleet.discharge_limit_kw >= 0.0, fleet.discharge_limit_kw, 0.0), table.discharge_kw)
    above = np.where(fleet.capacity_kwh > 0.0, np.where(np.isnan(fleet.soc), 0.0, fleet.soc) - lowest, 0.0)
    reserve_s = rules.give_reserve_s + 4.0 * settings.cycle_s
    left_enough = table.storage | (np.where(np.isnan(fleet.left_s), 0.0, fleet.left_s) > reserve_s)
    online = fleet.connected & ~fleet.fault & (fleet.age_s <= settings.guard.silent_s)
    may = online & fleet.may_discharge & (need.spare_s > reserve_s) & left_enough
    power = np.where(may, limit * (above / settings.guard.near_floor_soc).clip(0.0, 1.0), 0.0)
    power = np.where(power >= table.least_kw, power, 0.0)
    ready = power > 0.0
    energy = (
        float((above * np.nan_to_num(fleet.capacity_kwh) * table.efficiency).sum(where=ready)) if ready.any() else 0.0
    )
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
        held_kw = max(rule.limit_kw, demand_clock.floor_kw(clock, rule.ratchet))
        room_kw = math.inf if rule.mode == "off" else max(0.0, held_kw - settings.limits.static_building_kw)
        return state.peak, peak.PeakPlan(0.0, room_kw, held_kw, 0.0)
    return peak.step(state.peak, clock, settings.interval, load, room, cycle_s, rule)


def _rule(settings: Settings, now_s: float) -> PeakSettings:
    """The peak rule with the plan's target, while there is one."""
    own_kw = settings.peak.limit_kw
    target_kw = limit_kw(settings.guidance, now_s, own_kw)
    return settings.peak if target_kw == own_kw else structs.replace(settings.peak, limit_kw=target_kw)


def _interval_events(
    before: demand_clock.DemandState, closed: tuple[demand_clock.Closed, ...], rule: peak.PeakSettings
) -> tuple[str, ...]:
    """An interval that ended above what was billed anyway is a failed shave and a new peak."""
    limit_kw = max(rule.limit_kw, demand_clock.floor_kw(before, rule.ratchet))
    if rule.mode != "off" and any(item.average_kw > limit_kw * 1.001 for item in closed):
        return ("failed_shave", "new_peak")
    return ()


def _shaving_events(before: dispatch.TurnState, after: dispatch.TurnState) -> tuple[str, ...]:
    was, now = bool(before.giving.any()), bool(after.giving.any())
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
    load_kw = protection.site_load_kw(import_kw, snapshot.fleet, settings.table)
    protected, permit, events = protection.step(
        state.protection, snapshot, load_kw, settings.table, settings.protection
    )
    if events or protection.is_tighter(permit, state.protection.permit) or (snapshot.estop and not state.guard.estop):
        return state, True
    return structs.replace(state, protection=protected), False
