"""What would have happened without control: every vehicle charged at once at full power from the moment it plugged in.

A live site cannot be run twice; this shadow books, beside the real thing, the energy each vehicle asked for. It feeds a second
demand clock, and the difference of the two is what the fleet saved.
"""

import numpy as np
from msgspec import Struct

from gridtide.control.needs import Needs
from gridtide.model.fleet import Bools, EvseTable, FleetSample, Floats


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
