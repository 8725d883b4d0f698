"""The guard: the only way to a setpoint. Everything before it is an untrusted wish.

Pure and total: any float in any field (NaN, infinite, out of range) gives a finite setpoint. Every step can only bring a
setpoint nearer to zero, so their order changes the reason, never the safety; and losing a piece of evidence never allows more.
Invariants I1-I7, I15 and I18 of the safety case are properties of this file.
"""

import math

import numpy as np
from msgspec import Struct

from gridtide.control.meter import Verdict
from gridtide.control.needs import Needs, NeedSettings
from gridtide.model.decision import Reason, Reasons, Snapshot
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats, SiteLimits
from gridtide.model.thermal import derate


class GuardSettings(Struct, frozen=True, kw_only=True):
    """Limits that no wish can cross."""

    near_floor_soc: float = 0.03
    """Discharge scales down linearly over this stretch above the lowest usable charge."""
    silent_s: float = 2.0
    """A station that said nothing for this long gives nothing."""
    lease_s: float = 5.0
    """A discharge setpoint ends by itself after this time."""
    reverse_tolerance_kw: float = 0.5
    reverse_hold_s: float = 10.0
    """After reverse power no discharge for this long."""


class GuardState(Struct, frozen=True, eq=False):
    """What the guard remembers per row, (n,)."""

    setpoint_kw: Floats
    direction: Floats
    """-1, 0 or +1: the last direction that was not zero."""
    turned_s: Floats
    """Monotonic instant at which that direction was taken up."""
    estop: bool = False
    reverse_until_s: float = -math.inf


def fresh(size: int) -> GuardState:
    """State before the first cycle: nothing flows."""
    zero = np.zeros(size)
    return GuardState(zero, zero, np.full(size, -math.inf))


def clamp(
    wish_kw: Floats,
    wish_reason: Reasons,
    rank: Floats,
    snapshot: Snapshot,
    verdict: Verdict,
    needs: Needs,
    table: EvseTable,
    limits: SiteLimits,
    state: GuardState,
    settings: GuardSettings,
    need_settings: NeedSettings,
    cycle_s: float,
) -> tuple[GuardState, Floats, Reasons, tuple[str, ...]]:
    """Allowed setpoints, kW (n,), the reason of each, and event codes.

    `rank` orders rows when a limit forces a cut: lower keeps its power longer. `cycle_s` is the time since the last decision.
    """
    now = snapshot.mono_s
    cut = _Cut(np.where(np.isfinite(wish_kw), wish_kw, 0.0), wish_reason.copy())
    cut.reason[~np.isfinite(wish_kw)] = Reason.NOT_FINITE
    fleet = snapshot.fleet
    silent = ~(fleet.age_s <= settings.silent_s) & fleet.connected
    _charge_bounds(cut, fleet, needs, table)
    _discharge_bounds(cut, fleet, needs, table, settings, need_settings, cycle_s)
    cut.zero(silent, Reason.SILENT)
    cut.zero(fleet.fault, Reason.FAULT)
    cut.zero(~fleet.connected, Reason.NO_VEHICLE)
    _hold_and_ramp(cut, now, table, state, cycle_s)
    _quantise(cut, table)
    order = np.argsort(np.where(np.isfinite(rank), rank, np.inf), kind="stable")
    full = _import_bounds(cut, snapshot, verdict, table, limits, silent, order)
    reverse_until, events = _reverse(snapshot, verdict, limits, state, settings)
    _export_bound(cut, snapshot, verdict, limits, silent, table, order)
    cut.zero_discharge(now < reverse_until, Reason.REVERSE_POWER)
    _quantise(cut, table)
    estop = state.estop or snapshot.estop
    if estop:
        cut.zero(np.ones_like(fleet.connected), Reason.ESTOP)
    setpoint = np.trunc(np.round(cut.power_kw * 1000.0, 6)) / 1000.0 + 0.0
    after = _remember(state, setpoint, now, estop, reverse_until)
    codes = (("estop",) if estop and not state.estop else ()) + events + (("max_capacity_reached",) if full else ())
    return after, setpoint, cut.reason, codes


class _Cut:
    """Setpoints under way: every change moves towards zero and leaves its reason."""

    __slots__ = ("power_kw", "reason")

    def __init__(self, power_kw: Floats, reason: Reasons) -> None:
        self.power_kw = power_kw
        self.reason = reason

    def bind(self, power_kw: Floats, reason: Reason) -> None:
        """Take over `power_kw` where it is nearer to zero."""
        nearer = np.abs(power_kw) < np.abs(self.power_kw) - 1e-9
        if nearer.any():
            self.power_kw = np.where(nearer, power_kw, self.power_kw)
            self.reason[nearer] = reason

    def ceiling(self, up_kw: Floats, reason: Reason) -> None:
        """Charge at most `up_kw`; NaN allows nothing."""
        self.bind(np.minimum(self.power_kw, np.where(up_kw > 0.0, up_kw, 0.0)), reason)

    def floor(self, down_kw: Floats, reason: Reason) -> None:
        """Discharge at most `down_kw` (magnitude); NaN allows nothing."""
        self.bind(np.maximum(self.power_kw, -np.where(down_kw > 0.0, down_kw, 0.0)), reason)

    def zero(self, rows: Bools, reason: Reason) -> None:
        """Nothing flows in `rows`, and that is the reason even where nothing was wished."""
        if rows.any():
            self.power_kw = np.where(rows, 0.0, self.power_kw)
            self.reason[rows] = reason

    def zero_discharge(self, when: bool, reason: Reason) -> None:
        """No discharge at all."""
        if when:
            self.bind(np.maximum(self.power_kw, 0.0), reason)


def _charge_bounds(cut: _Cut, fleet: FleetSample, needs: Needs, table: EvseTable) -> None:
    cut.ceiling(needs.charge_kw, Reason.RATING)
    cool = np.where(np.isnan(fleet.temperature_c), 1.0, derate(fleet.temperature_c))
    if bool((cool < 1.0).any()):
        cut.ceiling(table.charge_kw * cool, Reason.WARM)
        cut.floor(table.discharge_kw * cool, Reason.WARM)
    cut.ceiling(np.where(fleet.soc >= 1.0, 0.0, table.charge_kw), Reason.REACHED)


def _discharge_bounds(
    cut: _Cut,
    fleet: FleetSample,
    needs: Needs,
    table: EvseTable,
    settings: GuardSettings,
    need_settings: NeedSettings,
    cycle_s: float,
) -> None:
    if not bool((cut.power_kw < 0.0).any()):
        return
    limit = np.where(fleet.discharge_limit_kw >= 0.0, np.minimum(fleet.discharge_limit_kw, table.discharge_kw), 0.0)
    cut.floor(limit, Reason.RATING)
    may = fleet.may_discharge & (table.discharge_kw > 0.0)
    cut.floor(np.where(may, np.inf, 0.0), Reason.CHARGE_ONLY)
    known = (fleet.soc >= 0.0) & (fleet.soc <= 1.0) & (fleet.capacity_kwh > 0.0)
    cut.floor(np.where(known, np.inf, 0.0), Reason.SOC_UNKNOWN)
    lowest = np.where(
        table.storage, need_settings.floor_soc, max(need_settings.window_low_soc, need_settings.floor_soc)
    )
    above = fleet.soc - lowest
    cut.floor(np.where(fleet.soc > need_settings.floor_soc, np.inf, 0.0), Reason.FLOOR)
    cut.floor(np.where(above > 0.0, np.inf, 0.0), Reason.WINDOW)
    cut.floor(table.discharge_kw * np.clip(above / settings.near_floor_soc, 0.0, 1.0), Reason.NEAR_FLOOR)
    step_kwh = np.where(known, above * fleet.capacity_kwh * table.efficiency, 0.0)
    cut.floor(step_kwh * 3600.0 / max(cycle_s, 1e-3), Reason.NEAR_FLOOR)
    # One more cycle of giving costs its own time and the time to win the energy back.
    spare = needs.spare_s - 3.0 * cycle_s
    reachable = (spare > need_settings.give_reserve_s) & (np.isfinite(needs.spare_s) | ~needs.wants)
    cut.floor(np.where(reachable | table.storage, np.inf, 0.0), Reason.DEPARTURE)
    ready = _ready_after_giving(fleet, needs, table, need_settings, cycle_s)
    cut.floor(np.where(ready | table.storage, np.inf, 0.0), Reason.DEPARTURE)


def _ready_after_giving(
    fleet: FleetSample, needs: Needs, table: EvseTable, need_settings: NeedSettings, cycle_s: float
) -> Bools:
    """Whether the driver's need stays reachable although it is not missing yet: a short stay may not give at all."""
    refill_s = cycle_s * table.discharge_kw / np.maximum(needs.charge_kw * table.efficiency**2, 1e-6)
    left = np.where(np.isnan(fleet.left_s), -np.inf, fleet.left_s)
    needed = np.where(fleet.need_soc >= 0.0, refill_s + 2.0 * cycle_s + need_settings.give_reserve_s, -np.inf)
    spare_charge = fleet.soc - np.where(fleet.need_soc >= 0.0, fleet.need_soc, 0.0)
    cushion_kwh = table.discharge_kw / table.efficiency * 2.0 * cycle_s / 3600.0
    plenty = spare_charge * np.where(fleet.capacity_kwh > 0.0, fleet.capacity_kwh, 0.0) > cushion_kwh
    return np.asarray((left > needed) | plenty)


def _hold_and_ramp(cut: _Cut, now_s: float, table: EvseTable, state: GuardState, cycle_s: float) -> None:
    sign = np.sign(cut.power_kw)
    turning = (sign != 0.0) & (sign == -state.direction) & (now_s - state.turned_s < table.hold_s)
    cut.bind(np.where(turning, 0.0, cut.power_kw), Reason.HOLD)
    before = np.where(np.sign(state.setpoint_kw) == sign, np.abs(state.setpoint_kw), 0.0)
    reach = before + np.maximum(table.ramp_kw_per_s * cycle_s, table.least_kw)
    cut.bind(sign * np.minimum(np.abs(cut.power_kw), reach), Reason.RAMP)


def _quantise(cut: _Cut, table: EvseTable) -> None:
    """AC reality: nothing, or at least the least current, in the station's step; rounded towards zero."""
    size = np.abs(cut.power_kw)
    stepped = np.where(
        table.step_kw > 0.0, np.floor(size / np.where(table.step_kw > 0.0, table.step_kw, 1.0) + 1e-9), 0.0
    )
    size = np.where(table.step_kw > 0.0, stepped * table.step_kw, size)
    too_little = (size < table.least_kw - 1e-9) & (cut.power_kw != 0.0)
    cut.power_kw = np.sign(cut.power_kw) * np.where(too_little, 0.0, size)
    cut.reason[too_little & (cut.reason < Reason.NO_VEHICLE)] = Reason.LEAST_CURRENT


def _import_bounds(
    cut: _Cut,
    snapshot: Snapshot,
    verdict: Verdict,
    table: EvseTable,
    limits: SiteLimits,
    silent: Bools,
    order: np.ndarray,
) -> bool:
    """Transformer, load shedding, groups and phases; discharge earns no credit. True when charging was cut."""
    charging = np.maximum(cut.power_kw, 0.0)
    reserved = float(table.fallback_kw.sum(where=silent))
    uncontrolled = limits.static_building_kw
    if verdict.trusted:
        uncontrolled = verdict.power_kw - float(_known(snapshot.fleet.power_kw).sum())
    cap = limits.transformer_kw
    reason = Reason.TRANSFORMER if verdict.trusted else Reason.METER
    if snapshot.load_shed_kw is not None:
        cap, reason = min(cap, max(snapshot.load_shed_kw, 0.0) if snapshot.load_shed_kw >= 0 else 0.0), Reason.LOAD_SHED
    room = cap - uncontrolled - reserved
    before = float(charging.sum())
    charging = _fit(charging, np.ones(table.size), room, order)
    full = float(charging.sum()) < before - 1e-6
    cut.bind(np.where(cut.power_kw > 0.0, charging, cut.power_kw), reason)
    for g, cap_kw in enumerate(limits.group_kw):
        member = (table.group == g).astype(np.float64)
        held = float((table.fallback_kw * member).sum(where=silent))
        charging = _fit(charging, member, cap_kw - held, order)
    cut.bind(np.where(cut.power_kw > 0.0, charging, cut.power_kw), Reason.GROUP)
    if limits.phase_a > 0.0:
        for phase in range(3):
            share = table.phase_share[:, phase]
            held = float((table.fallback_kw * share).sum(where=silent))
            charging = _fit(charging, share, limits.phase_a * limits.phase_v / 1000.0 - held, order)
        cut.bind(np.where(cut.power_kw > 0.0, charging, cut.power_kw), Reason.PHASE)
    return full


def _fit(power_kw: Floats, share: Floats, cap_kw: float, order: np.ndarray) -> Floats:
    """Keep rows in `order` until their `share` of the cap is used up; the rest is cut. A cap of NaN allows nothing."""
    if not cap_kw > 0.0:
        return np.where(share > 0.0, 0.0, power_kw)
    used = power_kw * share
    if float(used.sum()) <= cap_kw:
        return power_kw
    ahead = np.empty_like(used)
    ahead[order] = np.cumsum(used[order]) - used[order]
    left = np.maximum(cap_kw - ahead, 0.0)
    return np.where(share > 0.0, np.minimum(power_kw, left / np.where(share > 0.0, share, 1.0)), power_kw)


def _export_bound(
    cut: _Cut,
    snapshot: Snapshot,
    verdict: Verdict,
    limits: SiteLimits,
    silent: Bools,
    table: EvseTable,
    order: np.ndarray,
) -> None:
    """Planned import stays at the margin (or above the allowed export); without a trusted meter nothing is given."""
    if not verdict.trusted:
        cut.zero_discharge(True, Reason.METER)
        return
    giving = np.maximum(-cut.power_kw, 0.0)
    if not bool((giving > 0.0).any()):
        return
    known = _known(snapshot.fleet.power_kw)
    # A silent row may stop charging and start to give: both are withheld.
    withheld = float((table.fallback_kw + table.discharge_kw).sum(where=silent))
    charging = np.minimum(np.maximum(known, 0.0), np.maximum(cut.power_kw, 0.0))
    least = limits.import_margin_kw if limits.export_kw <= 0.0 else -limits.export_kw
    room = verdict.low_kw - float(known.sum()) + float(charging.sum()) - withheld - least
    cut.bind(
        np.where(giving > 0.0, -_fit(giving, np.ones(table.size), room, order), cut.power_kw), Reason.EXPORT_MARGIN
    )


def _reverse(
    snapshot: Snapshot, verdict: Verdict, limits: SiteLimits, state: GuardState, settings: GuardSettings
) -> tuple[float, tuple[str, ...]]:
    """Metered reverse power ends every discharge at once and for a while."""
    flowing = verdict.power_kw < -limits.export_kw - settings.reverse_tolerance_kw
    if not flowing:
        return state.reverse_until_s, ()
    raised = snapshot.mono_s >= state.reverse_until_s and bool((state.setpoint_kw < 0.0).any())
    return snapshot.mono_s + settings.reverse_hold_s, ("reverse_power",) if raised else ()


def _known(power_kw: Floats) -> Floats:
    return np.where(np.isfinite(power_kw), power_kw, 0.0)


def _remember(state: GuardState, setpoint_kw: Floats, now_s: float, estop: bool, reverse_until_s: float) -> GuardState:
    sign = np.sign(setpoint_kw)
    turned = (sign != 0.0) & (sign != state.direction)
    direction = np.where(sign != 0.0, sign, state.direction)
    return GuardState(setpoint_kw, direction, np.where(turned, now_s, state.turned_s), estop, reverse_until_s)
