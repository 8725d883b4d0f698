"""FT26: whether the charge a vehicle tells can be true. Its own energy is counted beside it, by the station's meter.

A vehicle that tells a charge which its energy cannot explain is believed the lower of the two and gives nothing until it leaves.
"""

import numpy as np
from msgspec import Struct

from gridtide.model import losses
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats

EDGE_SOC = 0.001
"""So far beyond 0 or 1 is rounding."""
OTHER_DEPARTURE_S = 1.0
OTHER_SOC = 0.005
BUDGET_SOC = 0.02
"""Most energy, as a share of the capacity, for which what is told may still catch up: two steps of a whole percent."""


class SocSettings(Struct, frozen=True, kw_only=True):
    """When a told charge is in doubt."""

    tolerance: float = 0.05
    """Told charge may differ by so much from the counted one."""
    drift: float = 0.2
    """Share of the energy by which capacity and efficiency may be wrong: so far the count follows what is told."""
    confirm_s: float = 3.0
    """In doubt for so long, the vehicle gives nothing until it leaves; in doubt, it gives nothing at once."""
    idle_kw: float = 0.5
    """Less is station and vehicle themselves and reaches no battery."""


class SocState(Struct, frozen=True, eq=False):
    """Per row, (n,)."""

    own: Floats
    """Counted charge; nan without a vehicle or before its first word."""
    told: Floats
    budget: Floats
    """Energy, as a share of the capacity, that the count may still use to follow what is told."""
    capacity_kwh: Floats
    departs_s: Floats
    blind_s: Floats
    """Time without metered power: by what may have flowed meanwhile the count follows the next charge told."""
    doubt_s: Floats
    """Instant at which the present doubt began; inf none."""
    fault: Bools


def fresh(size: int) -> SocState:
    """Nobody is plugged in."""
    none, zero = np.full(size, np.nan), np.zeros(size)
    return SocState(none, none, zero, none, none, zero, np.full(size, np.inf), zero > 1.0)


def step(
    state: SocState,
    fleet: FleetSample,
    power_kw: Floats,
    came: Bools,
    other: Bools,
    table: EvseTable,
    now_s: float,
    dt_s: float,
    settings: SocSettings,
) -> tuple[SocState, Floats, Bools]:
    """State, charge to be believed (n,) and rows in doubt, latched ones included.

    `power_kw` (n,) is nan where it is not known now; `came`: rows whose vehicle was not there a cycle ago; `other`: see
    `others`.
    """
    told, here = fleet.soc, fleet.connected
    if np.count_nonzero(state.blind_s):
        # Many vehicles tell 0 until they know: after a time without power it is no word yet.
        told = np.where((state.blind_s > 0.0) & (told == 0.0) & ~came, np.nan, told)
    possible = (told >= -EDGE_SOC) & (told <= 1.0 + EDGE_SOC)
    anew = came | other
    unseen, blind_s = _unseen(state, fleet, power_kw, possible, anew, table, dt_s, settings)
    own, budget = _counted(state, fleet, power_kw, possible, table, dt_s, settings)
    back = (blind_s <= 0.0) & (unseen > 0.0) & possible
    if np.count_nonzero(back):
        own = np.where(back, own + (told - own).clip(-unseen, unseen), own)
        unseen = np.where(back, 0.0, unseen)
    begins = here & (anew | np.isnan(own))
    if np.count_nonzero(begins):
        # Many vehicles tell 0 until they know.
        own = np.where(begins, np.where(possible & (told > 0.0), told.clip(0.0, 1.0), np.nan), own)
        budget = np.where(anew, 0.0, budget)
    wrong, odd = here & (np.abs(told - own) > settings.tolerance + unseen), here & ~possible
    if np.count_nonzero(odd):
        wrong |= odd & ~np.isnan(told)
    doubt_s, fault, doubtful, believed = np.full(told.size, np.inf), wrong, wrong, told
    if np.count_nonzero(wrong) or np.count_nonzero(state.fault):
        doubt_s = np.where(wrong, np.minimum(state.doubt_s, now_s), np.inf)
        fault = (state.fault & ~came | wrong & (now_s - doubt_s >= settings.confirm_s)) & here
        doubtful = wrong | fault
        lower = np.fmin(np.where(possible, told, np.nan), own).clip(0.0, 1.0)
        believed = np.where(doubtful, lower, told)
    after = SocState(
        np.where(here, own, np.nan), np.where(possible, told, state.told), budget,
        fleet.capacity_kwh, _departs_s(fleet, now_s), blind_s, doubt_s, fault,
    )  # fmt: skip
    return after, believed, doubtful


def _unseen(
    state: SocState,
    fleet: FleetSample,
    power_kw: Floats,
    possible: Bools,
    anew: Bools,
    table: EvseTable,
    dt_s: float,
    settings: SocSettings,
) -> tuple[Floats, Floats]:
    """Most charge that may have come or gone unseen since the power was last known, as a share of the capacity, inf where that is
    not known; and the time without metered power that no told charge has ended yet, s; both (n,)."""
    seen = np.isfinite(power_kw) | ~fleet.connected
    before_s = np.where(anew, 0.0, state.blind_s)
    blind_s = np.where(seen, np.where(possible | ~fleet.connected, 0.0, before_s), before_s + dt_s)
    if np.count_nonzero(blind_s) + np.count_nonzero(before_s) == 0:
        return blind_s, blind_s
    most_kw = (1.0 + settings.drift) * np.maximum(table.charge_kw, table.discharge_kw / table.efficiency)
    dark_h = np.where(seen & (before_s <= 0.0), 0.0, before_s + dt_s) / 3600.0
    most = np.where(dark_h > 0.0, most_kw * dark_h / np.where(fleet.capacity_kwh > 0.0, fleet.capacity_kwh, 0.0), 0.0)
    return most, blind_s


def _counted(
    state: SocState,
    fleet: FleetSample,
    power_kw: Floats,
    possible: Bools,
    table: EvseTable,
    dt_s: float,
    settings: SocSettings,
) -> tuple[Floats, Floats]:
    """The charge by the metered energy, and the energy by which it may still follow what is told, (n,)."""
    own, budget = state.own.clip(0.0, 1.0), state.budget
    flowing = (np.abs(power_kw) > settings.idle_kw) & (fleet.capacity_kwh > 0.0) & np.isfinite(fleet.capacity_kwh)
    if np.count_nonzero(flowing):
        into_kw = losses.battery_kw(np.where(flowing, power_kw, 0.0), table.efficiency)
        moved = into_kw * (dt_s / 3600.0) / np.where(flowing, fleet.capacity_kwh, 1.0)
        moved = np.where(np.isfinite(moved), moved, 0.0)
        own, budget = (state.own + moved).clip(0.0, 1.0), np.minimum(budget + np.abs(moved), BUDGET_SOC)
    went = np.abs(fleet.soc - state.told)
    if np.count_nonzero(went > 0.0):
        share = np.fmax(np.minimum(went, budget), 0.0)
        pull = settings.drift * share
        own = own + np.where(possible, (fleet.soc - own).clip(-pull, pull), 0.0)
        budget = budget - share
    return own, budget


def _departs_s(fleet: FleetSample, now_s: float) -> Floats:
    return np.fmin(now_s + fleet.left_s, np.inf)


def others(state: SocState, fleet: FleetSample, now_s: float) -> Bools:
    """Rows where one vehicle seems to have followed another without a gap, or the first word of its battery came: counts
    begin anew there, but what was latched stays."""
    departs_s = _departs_s(fleet, now_s)
    found: Bools = fleet.connected & (fleet.capacity_kwh != state.capacity_kwh)
    if np.count_nonzero(found):
        found &= ~(np.isnan(fleet.capacity_kwh) & np.isnan(state.capacity_kwh))
    leaves_other = fleet.connected & ~(np.abs(departs_s - state.departs_s) <= OTHER_DEPARTURE_S)
    if np.count_nonzero(leaves_other):
        leaves_other &= departs_s != state.departs_s
        found |= leaves_other & (np.abs(fleet.soc - state.told) > OTHER_SOC)
    return found
