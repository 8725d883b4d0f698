"""The guard: the only way to a setpoint. Everything before it is an untrusted wish.

Pure and total: any float in any field (NaN, infinite, out of range) gives a finite setpoint. Every step can only bring a
setpoint nearer to zero, so their order changes the reason, never the safety; and losing a piece of evidence never allows more.
Invariants I1-I7, I15 and I18 of the safety case are properties of this file.
"""

import math

import numpy as np
from msgspec import Struct

from gridtide.control.meter import Verdict
from gridtide.control.needs import Needs, NeedSettings, lowest_soc
from gridtide.model.decision import GridPermit, Reason, Reasons, Snapshot
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats, Ints, SiteLimits
from gridtide.model.thermal import DERATE_FROM_C, derate

WATT_KW = 0.001
"""Setpoints are cut to whole watts."""
MOST_KW = 1e6
"""No wish counts beyond this, so that no sum overflows."""
OPEN = GridPermit()
"""Neither grid protection nor a transformer's model bounds anything."""


class GuardSettings(Struct, frozen=True, kw_only=True):
    """Limits that no wish can cross."""

    near_floor_soc: float = 0.03
    """Discharge scales down linearly over this stretch above the lowest usable charge."""
    silent_s: float = 2.0
    """A station that said nothing for this long gives nothing."""
    follow_s: float = 0.5
    """A report that came so soon after a new setpoint may be of the time before it."""
    lease_s: float = 5.0
    """A discharge setpoint ends by itself after this time."""
    charge_lease_s: float = 60.0
    """A charging limit ends by itself after this time; the station then goes on at its fallback."""
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
    away: Bools
    """No vehicle has stood there since: the next one's first direction is taken up anew."""
    moved_s: Floats
    """Monotonic instant of the last setpoint that was another than the one before."""
    estop: bool = False
    reverse_until_s: float = -math.inf


def fresh(size: int) -> GuardState:
    """State before the first cycle: nothing flows."""
    zero = np.zeros(size)
    never = np.full(size, -math.inf)
    return GuardState(zero, zero, never, np.zeros(size, dtype=np.bool_), never)


@np.errstate(all="ignore")  # rubbish in one row may overflow on its way to "not a number", which allows nothing
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
    permit: GridPermit = OPEN,
    seen: "Seen | None" = None,
) -> tuple[GuardState, Floats, Reasons, tuple[str, ...]]:
    """Allowed setpoints, kW (n,), the reason of each, and event codes.

    `rank` orders rows when a limit forces a cut: lower keeps its power longer. `cycle_s` is the time since the last decision;
    `permit` what grid protection and transformers leave; `seen` what `look` found in this very snapshot, if that was asked before.
    """
    now, fleet = snapshot.mono_s, snapshot.fleet
    unsure = look(fleet, table, settings) if seen is None else seen
    finite = np.isfinite(wish_kw)
    cut = _Cut(np.where(finite, wish_kw, 0.0).clip(-MOST_KW, MOST_KW), wish_reason.copy())
    cut.reason[~finite] = Reason.NOT_FINITE
    if cut.has_power:
        _charge_bounds(cut, fleet, needs, table)
        _discharge_bounds(cut, fleet, needs, table, settings, need_settings, cycle_s)
    _grid_bounds(cut, table, permit)
    cut.zero(unsure.silent & fleet.connected, Reason.SILENT)
    cut.zero(fleet.fault, Reason.FAULT)
    cut.zero(~fleet.connected, Reason.NO_VEHICLE)
    reverse_until, events = _reverse(snapshot, verdict, limits, state, settings)
    full = crowded = False
    if cut.has_power:  # nothing is left to be bound otherwise
        queue = _Queue(rank)
        _hold_and_ramp(cut, now, table, state, cycle_s)
        _quantise(cut, table)
        whole = cut.power_kw
        full = _import_bounds(cut, snapshot, verdict, table, limits, permit, unsure, queue)
        crowded = _circuit_bounds(cut, table, limits, permit, unsure, queue)
        if cut.power_kw is not whole:  # before the export bound, which counts on the charging that is left
            _quantise(cut, table)
            whole = cut.power_kw
        _export_bound(cut, verdict, limits, unsure, _most_kw(snapshot, unsure, state, settings), queue)
        cut.zero_discharge(now < reverse_until, Reason.REVERSE_POWER)
        if cut.power_kw is not whole:
            _quantise(cut, table)
    estop = state.estop or snapshot.estop
    if estop:
        cut.zero(np.ones_like(fleet.connected), Reason.ESTOP)
    setpoint = np.trunc((cut.power_kw * 1000.0).round(6)) / 1000.0 + 0.0 if cut.has_power else np.zeros(table.size)
    after = _remember(state, setpoint, fleet.connected, now, estop, reverse_until)
    codes = (
        (("estop",) if estop and not state.estop else ())
        + events
        + (("max_capacity_reached",) if full or crowded else ())
    )
    return after, setpoint, cut.reason, codes


class _Cut:
    """Setpoints under way: every change moves towards zero and leaves its reason."""

    __slots__ = ("power_kw", "reason")

    def __init__(self, power_kw: Floats, reason: Reasons) -> None:
        self.power_kw = power_kw
        self.reason = reason

    @property
    def has_power(self) -> bool:
        """Whether any row would charge or give."""
        return bool(np.count_nonzero(self.power_kw))

    def bind(self, power_kw: Floats, reason: Reason) -> None:
        """Take over `power_kw` where it is nearer to zero."""
        nearer = np.abs(power_kw) < np.abs(self.power_kw) - 1e-9
        if np.count_nonzero(nearer):
            self.power_kw = np.where(nearer, power_kw, self.power_kw)
            self.reason[nearer] = reason

    def ceiling(self, up_kw: Floats, reason: Reason) -> None:
        """Charge at most `up_kw`; NaN allows nothing."""
        self.bind(np.minimum(self.power_kw, np.fmax(up_kw, 0.0)), reason)

    def floor(self, down_kw: Floats, reason: Reason) -> None:
        """Discharge at most `down_kw` (magnitude); NaN allows nothing."""
        self.bind(np.maximum(self.power_kw, -np.fmax(down_kw, 0.0)), reason)

    def zero(self, rows: Bools, reason: Reason) -> None:
        """Nothing flows in `rows`, and that is the reason even where nothing was wished."""
        if np.count_nonzero(rows):
            self.power_kw = np.where(rows, 0.0, self.power_kw)
            self.reason[rows] = reason

    def zero_discharge(self, when: bool, reason: Reason) -> None:
        """No discharge at all."""
        if when:
            self.bind(np.maximum(self.power_kw, 0.0), reason)


class _Queue:
    """Rows in the order in which a limit spares them; sorted when the first limit binds."""

    __slots__ = ("_rank", "_rows")

    def __init__(self, rank: Floats) -> None:
        self._rank = rank
        self._rows: Ints | None = None

    @property
    def rows(self) -> Ints:
        """(n,) row numbers, the first to be spared first; a rank that is not a number comes last."""
        if self._rows is None:
            self._rows = np.argsort(np.where(np.isfinite(self._rank), self._rank, np.inf), kind="stable")
        return self._rows


def _charge_bounds(cut: _Cut, fleet: FleetSample, needs: Needs, table: EvseTable) -> None:
    cut.ceiling(np.minimum(needs.charge_kw, table.charge_kw), Reason.RATING)
    if np.count_nonzero(fleet.temperature_c > DERATE_FROM_C):
        cool = np.where(np.isnan(fleet.temperature_c), 1.0, derate(fleet.temperature_c))
        cut.ceiling(table.charge_kw * cool, Reason.WARM)
        cut.floor(table.discharge_kw * cool, Reason.WARM)
    full = fleet.soc >= 1.0
    if np.count_nonzero(full):
        cut.ceiling(np.where(full, 0.0, np.inf), Reason.REACHED)


def _discharge_bounds(
    cut: _Cut,
    fleet: FleetSample,
    needs: Needs,
    table: EvseTable,
    settings: GuardSettings,
    need_settings: NeedSettings,
    cycle_s: float,
) -> None:
    if not np.count_nonzero(cut.power_kw < 0.0):
        return
    limit = np.where(fleet.discharge_limit_kw >= 0.0, np.minimum(fleet.discharge_limit_kw, table.discharge_kw), 0.0)
    cut.floor(limit, Reason.RATING)
    may = fleet.may_discharge & (table.discharge_kw > 0.0)
    cut.floor(np.where(may, np.inf, 0.0), Reason.CHARGE_ONLY)
    known = (fleet.soc >= 0.0) & (fleet.soc <= 1.0) & (fleet.capacity_kwh > 0.0) & np.isfinite(fleet.capacity_kwh)
    cut.floor(np.where(known, np.inf, 0.0), Reason.SOC_UNKNOWN)
    floor_soc, lowest = lowest_soc(table, fleet, need_settings)
    above = fleet.soc - lowest
    cut.floor(np.where(fleet.soc > floor_soc, np.inf, 0.0), Reason.FLOOR)
    cut.floor(np.where(above > 0.0, np.inf, 0.0), Reason.WINDOW)
    cut.floor(table.discharge_kw * (above / settings.near_floor_soc).clip(0.0, 1.0), Reason.NEAR_FLOOR)
    step_kwh = np.where(known, above * fleet.capacity_kwh * table.efficiency, 0.0)
    cut.floor(step_kwh * 3600.0 / max(cycle_s, 1e-3), Reason.NEAR_FLOOR)
    # One more cycle of giving costs its own time and the time to win the energy back.
    refill_s = _refill_s(fleet, needs, table, need_settings, cycle_s) + 2.0 * cycle_s
    reachable = needs.spare_s - refill_s > need_settings.give_reserve_s
    reachable &= np.isfinite(needs.spare_s) | ~needs.wants
    reachable &= _ready_after_giving(fleet, table, refill_s + need_settings.give_reserve_s, cycle_s)
    cut.floor(np.where(reachable | table.storage, np.inf, 0.0), Reason.DEPARTURE)


def _refill_s(
    fleet: FleetSample, needs: Needs, table: EvseTable, need_settings: NeedSettings, cycle_s: float
) -> Floats:
    """Time to win back one cycle of giving, at the slowest rate of the taper on the way to the driver's need, s (n,)."""
    to_full = np.where(fleet.need_soc >= 0.0, 1.0 - np.minimum(fleet.need_soc, 0.995), 1.0)
    slowest = np.clip(to_full / max(1.0 - need_settings.knee_soc, 1e-9), 0.0, 1.0)
    return cycle_s * table.discharge_kw / np.maximum(needs.charge_kw * table.efficiency**2 * slowest, 1e-6)


def _ready_after_giving(fleet: FleetSample, table: EvseTable, needed_s: Floats, cycle_s: float) -> Bools:
    """Whether the driver's need stays reachable although it is not missing yet: a short stay may not give at all."""
    left = np.where(np.isfinite(fleet.left_s), fleet.left_s, -np.inf)  # an unknown departure may be now
    wanted = np.where(fleet.need_soc >= 0.0, fleet.need_soc, 0.0)
    cushion_kwh = table.discharge_kw / table.efficiency * 2.0 * cycle_s / 3600.0
    plenty = (fleet.soc - wanted) * np.where(fleet.capacity_kwh > 0.0, fleet.capacity_kwh, 0.0) > cushion_kwh
    return np.asarray((fleet.need_soc < 0.0) | np.isnan(fleet.need_soc) | (left > needed_s) | plenty)


def _grid_bounds(cut: _Cut, table: EvseTable, permit: GridPermit) -> None:
    """Grid protection: nothing out of service, nothing charging or discharging where it says so, a rise after a return."""
    if not permit.charge_share >= 1.0:
        cut.ceiling(table.charge_kw * permit.charge_share, Reason.GRID)
    if not permit.discharge_share >= 1.0:
        cut.floor(table.discharge_kw * permit.discharge_share, Reason.GRID)
    if not permit.in_service:
        cut.zero(np.ones(table.size, dtype=np.bool_), Reason.GRID)


def _lower(one_kw: float, other_kw: float) -> float:
    """The lower of two caps; NaN in either stays NaN, which allows nothing."""
    return one_kw if one_kw <= other_kw or math.isnan(one_kw) else other_kw


def _hold_and_ramp(cut: _Cut, now_s: float, table: EvseTable, state: GuardState, cycle_s: float) -> None:
    sign = np.sign(cut.power_kw)
    turning = (sign != 0.0) & (sign == -state.direction) & ~(now_s - state.turned_s >= table.hold_s)
    if np.count_nonzero(turning):
        cut.bind(np.where(turning, 0.0, cut.power_kw), Reason.HOLD)
    before = np.where(np.sign(state.setpoint_kw) == sign, np.abs(state.setpoint_kw), 0.0)
    ramp_kw = np.fmax(table.ramp_kw_per_s * cycle_s, 0.0)
    reach = before + np.maximum(ramp_kw, np.fmax(table.least_kw, 0.0))
    cut.bind(sign * np.minimum(np.abs(cut.power_kw), reach), Reason.RAMP)


def _quantise(cut: _Cut, table: EvseTable) -> None:
    """AC reality: nothing, or at least the least current, in the station's step; rounded towards zero."""
    size, flows, in_steps = np.abs(cut.power_kw), cut.power_kw != 0.0, table.step_kw > 0.0
    if np.count_nonzero(in_steps):
        stepped = np.floor(size / table.step_kw + 1e-9) * table.step_kw
        # A step that is too fine or too coarse to count with allows nothing.
        size = np.where(in_steps, np.where(stepped <= size + 1e-9, stepped, 0.0), size)
        cut.power_kw = np.copysign(size, cut.power_kw)
    too_little = (size < table.least_kw - 1e-9) & flows
    if np.count_nonzero(too_little):
        cut.power_kw = np.where(too_little, 0.0, cut.power_kw)
        cut.reason[too_little & (cut.reason < Reason.NO_VEHICLE)] = Reason.LEAST_CURRENT


class Seen(Struct, frozen=True, eq=False):
    """What is known of the rows' power, and how wrong it may be."""

    told_kw: Floats
    """(n,) reported power that can be true, however old; nan else."""
    silent: Bools
    """Stations that said nothing for too long, plugged in or not."""
    known_kw: Floats
    """(n,) reported power of rows that can be believed, else 0."""
    reserved_kw: Floats
    """(n,) charging to be reserved for silent stations."""
    hidden_give_kw: float
    """Discharge that may be going on unseen: it makes the load look smaller."""
    hidden_swing_kw: float
    """How far the import may fall without our doing, kW."""

    @property
    def given_kw(self) -> float:
        """The most that vehicles may be giving now, kW >= 0: what is told, and the rating of those that cannot be seen."""
        gives = self.known_kw < 0.0
        told_kw = float(np.where(gives, -self.known_kw, 0.0).sum()) if np.count_nonzero(gives) else 0.0
        return told_kw + self.hidden_give_kw


def look(fleet: FleetSample, table: EvseTable, settings: GuardSettings) -> Seen:
    """Silent rows and rows of unknown power."""
    silent = ~(fleet.age_s <= settings.silent_s)
    known = known_kw(fleet, table)
    unseen = silent | np.isnan(known)
    if not np.count_nonzero(unseen):
        return Seen(known, silent, known, np.zeros(table.size), 0.0, 0.0)
    blind = fleet.connected & unseen
    may_give = blind & ~(fleet.age_s > 2.0 * settings.lease_s)
    swing = np.where(blind, table.charge_kw + table.discharge_kw, np.where(silent, table.fallback_kw, 0.0))
    return Seen(
        known,
        silent,
        np.where(unseen, 0.0, known),
        np.where(silent, table.fallback_kw, 0.0),
        float(table.discharge_kw.sum(where=may_give)),
        float(swing.sum()),
    )


def known_kw(fleet: FleetSample, table: EvseTable) -> Floats:
    """Reported power, kW (n,); nan where it is not a number or beyond what the row can do (a tenth and 1 kW over its rating)."""
    low, high = -1.1 * table.discharge_kw - 1.0, 1.1 * table.charge_kw + 1.0
    plausible = (fleet.power_kw >= low) & (fleet.power_kw <= high)
    return np.where(plausible & np.isfinite(fleet.power_kw), fleet.power_kw, np.nan)


def _import_bounds(
    cut: _Cut,
    snapshot: Snapshot,
    verdict: Verdict,
    table: EvseTable,
    limits: SiteLimits,
    permit: GridPermit,
    unsure: Seen,
    queue: _Queue,
) -> bool:
    """Transformer and load shedding; discharge earns no credit. True when charging was cut."""
    charging = np.maximum(cut.power_kw, 0.0)
    uncontrolled = limits.static_building_kw
    if verdict.trusted:
        uncontrolled = verdict.power_kw - float(unsure.known_kw.sum()) + unsure.hidden_give_kw
    cap = _lower(limits.transformer_kw, permit.import_kw)
    reason = Reason.TRANSFORMER if verdict.trusted else Reason.METER
    if snapshot.load_shed_kw is not None:
        cap, reason = min(cap, max(snapshot.load_shed_kw, 0.0) if snapshot.load_shed_kw >= 0 else 0.0), Reason.LOAD_SHED
    room = cap - uncontrolled - float(unsure.reserved_kw.sum())
    before = float(charging.sum())
    fitting = _fit(charging, np.ones(table.size), room, queue)
    if fitting is charging:
        return False
    cut.bind(np.where(cut.power_kw > 0.0, fitting, cut.power_kw), reason)
    return float(fitting.sum()) < before - 1e-6


def _circuit_bounds(
    cut: _Cut, table: EvseTable, limits: SiteLimits, permit: GridPermit, unsure: Seen, queue: _Queue
) -> bool:
    """Import caps of groups; fuses of each phase, in both directions. True when a group's charging was cut."""
    if not limits.group_kw and limits.phase_a <= 0.0:
        return False
    charging, giving = np.maximum(cut.power_kw, 0.0), np.maximum(-cut.power_kw, 0.0)
    before = float(charging.sum())
    for g, limit_kw in enumerate(limits.group_kw):
        cap_kw = _lower(limit_kw, permit.group_kw[g]) if g < len(permit.group_kw) else limit_kw
        member = (table.group == g).astype(np.float64)
        charging = _fit(charging, member, cap_kw - float((unsure.reserved_kw * member).sum()), queue)
    full = float(charging.sum()) < before - 1e-6
    cut.bind(np.where(cut.power_kw > 0.0, charging, cut.power_kw), Reason.GROUP)
    if limits.phase_a <= 0.0:
        return full
    fuse_kw = limits.phase_a * limits.phase_v / 1000.0
    for phase in range(3):
        share = table.phase_share[:, phase]
        charging = _fit(charging, share, fuse_kw - float((unsure.reserved_kw * share).sum()), queue)
        giving = _fit(giving, share, fuse_kw, queue)
    cut.bind(np.where(cut.power_kw > 0.0, charging, -giving), Reason.PHASE)
    return full


def _fit(power_kw: Floats, share: Floats, cap_kw: float, queue: _Queue) -> Floats:
    """Keep rows in the queue's order until their `share` of the cap is used up; the rest is cut. NaN allows nothing.

    What fits as it is comes back itself.
    """
    if not cap_kw > 0.0:
        return np.where(share > 0.0, 0.0, power_kw)
    used = power_kw * share
    if float(used.sum()) <= cap_kw:
        return power_kw
    ahead, order = np.empty_like(used), queue.rows
    ahead[order] = np.cumsum(used[order]) - used[order]
    left = np.maximum(cap_kw - ahead, 0.0)
    return np.where(share > 0.0, np.minimum(power_kw, left / np.where(share > 0.0, share, 1.0)), power_kw)


def _most_kw(snapshot: Snapshot, unsure: Seen, state: GuardState, settings: GuardSettings) -> Floats:
    """Power of each row, kW (n,), where the meter's sample may be newer than its report: once it was asked for something else,
    nobody gives more than that, or charges less, until a report shows what it does."""
    shown = snapshot.fleet.age_s < snapshot.mono_s - state.moved_s - settings.follow_s
    return np.where(shown, unsure.known_kw, np.fmax(unsure.known_kw, state.setpoint_kw))


def _export_bound(cut: _Cut, verdict: Verdict, limits: SiteLimits, unsure: Seen, known: Floats, queue: _Queue) -> None:
    """Planned import stays at the margin (or above the allowed export); without a trusted meter nothing is given."""
    if not verdict.trusted:
        cut.zero_discharge(True, Reason.METER)
        return
    giving = np.maximum(-cut.power_kw, 0.0)
    if not np.count_nonzero(giving):
        return
    charging = np.minimum(np.maximum(known, 0.0), np.maximum(cut.power_kw - WATT_KW, 0.0))
    least = limits.import_margin_kw if limits.export_kw <= 0.0 else -limits.export_kw
    # A row that cannot be seen may stop charging and start to give: both are withheld.
    room = verdict.low_kw - float(known.sum()) + float(charging.sum()) - unsure.hidden_swing_kw - least
    cut.bind(
        np.where(giving > 0.0, -_fit(giving, np.ones_like(giving), room, queue), cut.power_kw), Reason.EXPORT_MARGIN
    )


def _reverse(
    snapshot: Snapshot, verdict: Verdict, limits: SiteLimits, state: GuardState, settings: GuardSettings
) -> tuple[float, tuple[str, ...]]:
    """Metered reverse power ends every discharge at once and for a while."""
    flowing = verdict.power_kw < -limits.export_kw - settings.reverse_tolerance_kw
    if not flowing:
        return state.reverse_until_s, ()
    raised = snapshot.mono_s >= state.reverse_until_s and bool(np.count_nonzero(state.setpoint_kw < 0.0))
    return snapshot.mono_s + settings.reverse_hold_s, ("reverse_power",) if raised else ()


def _remember(
    state: GuardState, setpoint_kw: Floats, connected: Bools, now_s: float, estop: bool, reverse_until_s: float
) -> GuardState:
    moved = setpoint_kw != state.setpoint_kw
    moved_s = np.where(moved, now_s, state.moved_s) if np.count_nonzero(moved) else state.moved_s
    if not np.count_nonzero(setpoint_kw):
        away = ~connected | state.away
        return GuardState(setpoint_kw, state.direction, state.turned_s, away, moved_s, estop, reverse_until_s)
    sign = np.sign(setpoint_kw)
    flows = sign != 0.0
    turned = flows & ((sign != state.direction) | state.away)
    direction = np.where(flows, sign, state.direction)
    away = ~connected | (state.away & ~flows)
    turned_s = np.where(turned, now_s, state.turned_s)
    return GuardState(setpoint_kw, direction, turned_s, away, moved_s, estop, reverse_until_s)
