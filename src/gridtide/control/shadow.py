"""What would have happened without control: every vehicle charged at once at full power from the moment it plugged in.

A live site cannot be run twice; this shadow books, beside the real thing, the energy each vehicle asked for. It feeds a second
demand clock, and the difference of the two is what the fleet saved.
"""

import math

import numpy as np
from msgspec import Struct

from gridtide.control import demand_clock
from gridtide.control.demand_clock import DemandState
from gridtide.control.guard import known_kw
from gridtide.control.needs import Needs
from gridtide.model.demand import DemandInterval
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats


class Carried(Struct, frozen=True):
    """The three clocks of a period: the site as it is, the building alone, and all charged at once; plain numbers, storable."""

    site: DemandState = DemandState()
    building: DemandState = DemandState()
    at_once: DemandState = DemandState()
    discharged_kwh: float = 0.0


class ShadowState(Struct, frozen=True, eq=False):
    """Per row, (n,)."""

    left_kwh: Floats
    """AC energy the shadow still has to charge; nan until the need is known."""
    connected: Bools


def fresh(size: int) -> ShadowState:
    """Nobody is plugged in."""
    return ShadowState(np.full(size, np.nan), np.zeros(size, dtype=np.bool_))


def step(
    state: ShadowState, fleet: FleetSample, needs: Needs, table: EvseTable, dt_s: float
) -> tuple[ShadowState, float]:
    """Shadow charging power of this cycle, kW. A vehicle's need is taken once, when it is first known."""
    left = np.where(fleet.connected & ~table.storage, state.left_kwh, np.nan)
    told = np.isfinite(fleet.need_soc) & np.isfinite(fleet.soc) | np.isfinite(fleet.need_kwh)
    left = np.where(np.isnan(left) & fleet.connected & told & ~table.storage, needs.missing_kwh, left)
    known = np.where(np.isnan(left), 0.0, left)
    charged = np.minimum(known, table.charge_kw * dt_s / 3600.0)
    return ShadowState(left - charged, fleet.connected), float(charged.sum()) * 3600.0 / dt_s


def compare(
    state: ShadowState,
    carried: Carried,
    site: DemandState,
    power_kw: float,
    fleet: FleetSample,
    needs: Needs,
    table: EvseTable,
    interval: DemandInterval,
    period_start_s: float,
    dt_s: float,
) -> tuple[ShadowState, Carried]:
    """Advance the clocks of comparison to where the site's own clock is; `power_kw` is the metered import."""
    after, shadow_kw = step(state, fleet, needs, table, dt_s)
    known = known_kw(fleet, table)
    known = np.where(fleet.connected & ~np.isnan(known), known, 0.0)
    building_kw = power_kw - float(known.sum())
    given_kwh = -float(np.minimum(known, 0.0).sum()) * dt_s / 3600.0
    gap_s = max(5.0, 2.5 * dt_s)
    building, _ = demand_clock.advance(
        carried.building, interval, site.at_s, building_kw, gap_s=gap_s, period_start_s=period_start_s
    )
    at_once, _ = demand_clock.advance(
        carried.at_once, interval, site.at_s, building_kw + shadow_kw, gap_s=gap_s, period_start_s=period_start_s
    )
    given = (
        carried.discharged_kwh
        if period_start_s <= carried.site.period_start_s or not math.isfinite(period_start_s)
        else 0.0
    )
    return after, Carried(site, building, at_once, given + given_kwh)
