"""Who charges and who gives: from the site's target to a wish per row, in bands of priority.

Driver's energy first, then manual overrides, then the peak target, then charging with the room that is left. Scarce charging
power rotates with the hold time, because an AC EVSE takes nothing or at least its least current.
"""

import math

import numpy as np
from msgspec import Struct

from gridtide.control.allocate import share
from gridtide.control.needs import Needs
from gridtide.control.peak import PeakPlan
from gridtide.model.decision import Reason, Reasons
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats, SiteLimits


class Override(Struct, frozen=True):
    """A person's wish for one row, with an end."""

    row: int
    mode: str
    """`charge`, `hold` or `power`."""
    power_kw: float
    until_s: float
    """Monotonic instant at which it ends."""


class TurnState(Struct, frozen=True, eq=False):
    """Whose turn it is when charging power is scarce, (n,)."""

    on: Bools
    since_s: Floats
    """When the row's turn, or its wait, began."""
    giving: Bools


class Wishes(Struct, frozen=True, eq=False):
    """Per row, (n,): wished power, why, and the order in which a cut would spare them."""

    power_kw: Floats
    reason: Reasons
    rank: Floats
    discharge_kw: float
    """Discharge wanted of the fleet, with the must-charge on top."""
    missing_kw: float
    """Discharge wanted and not to be had."""


_RESTING, _WAITS_FOR_ROOM = np.uint8(Reason.RESTING), np.uint8(Reason.WAITS_FOR_ROOM)


def fresh(size: int) -> TurnState:
    """Nobody has had a turn."""
    no = np.zeros(size, dtype=np.bool_)
    return TurnState(no, np.full(size, -np.inf), no)


class Fixed(Struct, frozen=True, eq=False):
    """Wishes that rank above the peak target, (n,)."""

    power_kw: Floats
    reason: Reasons
    taken: Bools

    @property
    def total_kw(self) -> float:
        """Their sum, kW."""
        return float(self.power_kw.sum()) if np.count_nonzero(self.taken) else 0.0


def fixed(needs: Needs, fleet: FleetSample, overrides: tuple[Override, ...], now_s: float) -> Fixed:
    """Drivers who must charge now, then manual overrides that have not ended."""
    power, taken = np.zeros(needs.must.size), needs.must.copy()
    reason = np.where(needs.wants, _WAITS_FOR_ROOM, _RESTING)
    reached = fleet.connected & ~needs.wants
    if np.count_nonzero(reached):
        reason[reached & np.isfinite(fleet.need_soc)] = Reason.REACHED
    if np.count_nonzero(taken):
        power = np.where(taken, needs.charge_kw, 0.0)
        reason[taken] = Reason.DRIVER_FIRST
    for item in overrides:
        if now_s < item.until_s and not taken[item.row]:
            power[item.row] = _manual_kw(
                item, float(needs.charge_kw[item.row]), float(fleet.discharge_limit_kw[item.row])
            )
            reason[item.row] = Reason.MANUAL
            taken[item.row] = True
    return Fixed(power, reason, taken)


def _manual_kw(item: Override, charge_kw: float, discharge_kw: float) -> float:
    """What the row can follow: more would be asked of the others, or of the limit."""
    if item.mode == "charge":
        return charge_kw
    if item.mode == "hold" or not math.isfinite(item.power_kw):
        return 0.0
    return min(max(item.power_kw, -max(0.0, discharge_kw)), charge_kw)


def wishes(
    turns: TurnState,
    plan: PeakPlan,
    first: Fixed,
    needs: Needs,
    table: EvseTable,
    limits: SiteLimits,
    available_kw: Floats,
    now_s: float,
    planned_kw: Floats | None = None,
) -> tuple[TurnState, Wishes]:
    """One cycle's wishes; `available_kw` (n,) is what each row could give, `planned_kw` (n,) what a plan asks (nan: nothing)."""
    power, reason, fixed_kw = first.power_kw, first.reason, first.total_kw
    wanted = max(plan.discharge_kw, fixed_kw - plan.charge_room_kw if fixed_kw > 0.0 else 0.0, 0.0)
    giving = np.zeros(table.size, dtype=np.bool_)
    missing, turn_on = 0.0, giving
    if wanted > 0.0:
        given, missing = _give(wanted, turns, needs, table, np.where(first.taken, 0.0, available_kw))
        giving = given > 0.0
        power = np.where(giving, -given, power)
        reason[giving] = Reason.SHAVING
    else:
        asked = _asked(planned_kw, first, needs, available_kw)
        room = plan.charge_room_kw - fixed_kw + asked.given_kw
        if np.count_nonzero(asked.wants):
            charged, turn_on = _charge(room, turns, needs, table, asked.wants, asked.most_kw, limits, now_s)
            charges = charged > 0.0
            power = np.where(charges, charged, power)
            reason[charges] = Reason.CHARGING
            if room > 0.0:
                reason[asked.wants & (charged <= 0.0)] = Reason.WAITS_TURN
        if asked.plan is not None:
            power = _as_planned(asked.plan, needs, power, reason)
    since, changes = turns.since_s, turn_on != turns.on
    if np.count_nonzero(changes):
        since = np.where(changes, now_s, since)
    rank = np.minimum(needs.spare_s, 1e8)
    if np.count_nonzero(needs.must):
        rank[needs.must] = -1e9
    return TurnState(turn_on, since, giving), Wishes(power, reason, rank, wanted, missing)


class _Planned(Struct, frozen=True, eq=False):
    """What a plan asks, (n,)."""

    power_kw: Floats
    """nan: nothing is planned."""
    give_kw: Floats
    """Discharge, magnitude, as far as the row can."""


class _Asked(Struct, frozen=True, eq=False):
    """What is asked of rows without a wish that ranks higher, (n,)."""

    wants: Bools
    """Charge if there is room ..."""
    most_kw: Floats
    """... with so much at most."""
    plan: _Planned | None = None

    @property
    def given_kw(self) -> float:
        """Sum of what is given as planned, kW."""
        return 0.0 if self.plan is None else float(self.plan.give_kw.sum())


def _asked(planned_kw: Floats | None, first: Fixed, needs: Needs, available_kw: Floats) -> _Asked:
    """By the drivers' needs, and by the plan where there is one."""
    if planned_kw is None:
        return _Asked(needs.wants & ~first.taken & (needs.charge_kw > 0.0), needs.charge_kw)
    planned = np.where(first.taken, np.nan, planned_kw)
    given = np.where(planned < 0.0, np.minimum(-planned, available_kw), 0.0)
    up = np.where(np.isnan(planned), needs.charge_kw, planned.clip(0.0, needs.charge_kw))
    # A plan may charge beyond the need, so that there is something to give later.
    wants = np.where(np.isnan(planned), needs.wants, planned > 0.0) & ~first.taken & (up > 0.0)
    return _Asked(wants, up, _Planned(planned, given))


def _as_planned(plan: _Planned, needs: Needs, power_kw: Floats, reason: Reasons) -> Floats:
    """Wishes with what is given as planned; `reason` is told of everything that follows the plan."""
    gives = plan.give_kw > 0.0
    reason[gives | ((reason == Reason.CHARGING) & np.isfinite(plan.power_kw))] = Reason.PLANNED
    reason[needs.wants & (plan.power_kw <= 0.0) & ~gives] = Reason.WAITS_FOR_HOUR
    return np.where(gives, -plan.give_kw, power_kw)


def _give(
    wanted_kw: float, turns: TurnState, needs: Needs, table: EvseTable, available_kw: Floats
) -> tuple[Floats, float]:
    """As few rows as can carry it: those already giving first, then the most spare time; shared by power and spare time."""
    spare_h = np.minimum(needs.spare_s, 86_400.0) / 3600.0
    order = np.lexsort((-available_kw, -spare_h, ~turns.giving, ~table.storage))
    before = np.cumsum(available_kw[order]) - available_kw[order]
    chosen = np.zeros(table.size, dtype=np.bool_)
    chosen[order] = (before < wanted_kw) & (available_kw[order] > 0.0)
    up = np.where(chosen, available_kw, 0.0)
    weight = np.maximum(available_kw, 1e-6) * np.clip(spare_h, 0.25, 24.0)
    lo = np.minimum(np.where(chosen, table.least_kw, 0.0), up)
    found = share(wanted_kw, weight, lo, up)
    return found.power_kw, max(0.0, found.missing_kw)


def _charge(
    room_kw: float,
    turns: TurnState,
    needs: Needs,
    table: EvseTable,
    wants: Bools,
    most_kw: Floats,
    limits: SiteLimits,
    now_s: float,
) -> tuple[Floats, Bools]:
    """Share the room, at most `most_kw` (n,) each: everyone at least the least current if it suffices, else in turns of the
    hold time."""
    none = np.zeros(table.size)
    if room_kw <= 0.0 or not wants.any():
        return none, np.zeros(table.size, dtype=np.bool_)
    up = np.where(wants, most_kw, 0.0)
    if float(up.sum()) <= room_kw and not limits.group_kw:
        return up, wants
    least = np.where(wants, np.minimum(table.least_kw, up), 0.0)
    chosen = wants
    if float(least.sum()) > room_kw:
        in_turn = turns.on & (now_s - turns.since_s < table.hold_s)
        waited = np.where(turns.on, 0.0, now_s - turns.since_s)
        urgent = needs.spare_s < 3600.0
        order = np.lexsort((needs.spare_s, -np.minimum(waited, 1e7), ~in_turn, ~urgent, ~wants))
        fits = np.cumsum(least[order]) <= room_kw
        chosen = np.zeros(table.size, dtype=np.bool_)
        chosen[order] = fits & wants[order]
    up, least = np.where(chosen, up, 0.0), np.where(chosen, least, 0.0)
    weight = np.maximum(most_kw, 1e-6) / np.clip(needs.spare_s / 3600.0, 0.1, 24.0)
    group = table.group if limits.group_kw else None
    return share(room_kw, weight, least, up, group, limits.group_kw).power_kw, chosen
