"""Whether the fleet does what it is for while nothing is wrong (L1, L2): what is asked of a vehicle flows, and above the limit
somebody is asked. Judged on ground truth by who could give."""

import math
from typing import Final

import numpy as np
from msgspec import Struct

from gridtide.control import demand_clock
from gridtide.model.decision import Reason
from gridtide.model.fleet import Bools, Floats
from gridtide.model.thermal import derate
from gridtide.run.verify.invariants import BLOCK_S, NOTHING_KW, Invariants
from gridtide.run.verify.rig import Rig

EVERY_S: Final = 1.0
"""Between two looks."""
LAG_S: Final = 3.0
"""A vehicle gives what is asked of it within this time."""
LAG_SHARE: Final = 0.1
LAG_KW: Final = 0.3
"""It gives up to this much less: losses, the last setpoint still under way."""
MOVED_KW: Final = 1.0
"""A setpoint that moves by more is another one."""
IDLE_S: Final = 4.0
"""Above the limit somebody is asked within this time; by the budget rule once it takes a burst for the load's new level."""
OVER_KW: Final = 5.0
CHARGED_SOC: Final = 0.05
"""So far above what must be left, a vehicle gives its full power."""
SPARE_S: Final = 900.0
"""Beyond the time that a vehicle that gives keeps to spare."""


class Following(Struct):
    """Remembers since when what is asked does not flow."""

    followed_s: Floats
    """When each row last did what is asked of it, s from the start."""
    looked_s: float = -math.inf
    asked: Floats | None = None
    """What was last decided, kW (n,)."""
    held_s: float = -math.inf
    """When the site was last below its limit, or somebody gave, or nobody could."""

    def missing(self, rig: Rig, at_s: float, invariants: Invariants, *, is_quiet: bool) -> str:
        """What does not flow although it should, in words; call it at every tick at which all works.

        `is_quiet`: there was no fault at all, so that nothing but the site itself keeps anybody from giving.
        """
        self._note_moves(rig, at_s)
        gap_s = at_s - self.looked_s
        if gap_s < EVERY_S - 1e-6:
            return ""
        if gap_s > 2 * EVERY_S:
            self.followed_s = np.full_like(self.followed_s, at_s)
            self.held_s = at_s
        self.looked_s = at_s
        decision = rig.site.decision if rig.site is not None else None
        if decision is None:
            return ""
        able = _could_give(rig)
        asked, power = decision.setpoint_kw, rig.power_kw
        short = able & (asked < -LAG_KW) & (power > (1.0 - LAG_SHARE) * asked + LAG_KW)
        self.followed_s = np.where(short, self.followed_s, at_s)
        late = np.flatnonzero(at_s - self.followed_s > LAG_S)
        if late.size:
            row = int(late[0])
            return f"{rig.case.here.table.ids[row]} is asked for {asked[row]:.1f} kW and has {power[row]:.1f} kW"
        free = able & (decision.reason < Reason.NO_VEHICLE) & (is_quiet | (decision.available_kw > 1.0))
        gives = bool((power < -NOTHING_KW).any())
        if gives or not free.any() or not _is_over(rig, at_s, invariants):
            self.held_s = at_s
        rule = rig.case.settings.peak
        if at_s - self.held_s > IDLE_S + (2.0 * rule.reserve_s if rule.mode == "budget" else 0.0):
            names = ", ".join(rig.case.here.table.ids[row] for row in np.flatnonzero(free))
            return f"the site is above its limit, and nobody is asked although they could: {names}"
        return ""

    def _note_moves(self, rig: Rig, at_s: float) -> None:
        """Who is asked for something else has time again."""
        asked = rig.site.decision.setpoint_kw if rig.site is not None and rig.site.decision is not None else None
        if asked is not None and self.asked is not None and asked is not self.asked:
            self.followed_s = np.where(np.abs(asked - self.asked) > MOVED_KW, at_s, self.followed_s)
        self.asked = asked


def _could_give(rig: Rig) -> Bools:
    """Rows whose vehicle could give its full power for long: ground truth."""
    plant, need = rig.emulated.plant, rig.case.settings.need
    lowest = np.fmax(np.nan_to_num(plant.need_soc), max(need.window_low_soc, need.floor_soc))
    left_s = plant.told_departs_s - rig.true_clock.wall()
    able = (plant.occupant >= 0) & plant.may_discharge & (plant.batteries.soc > lowest + CHARGED_SOC)
    able &= (left_s > need.give_reserve_s + SPARE_S) & (derate(plant.evse.heat_c) >= 1.0) & ~plant.evse.cooling
    able &= ~plant.evse.welded
    stations = () if rig.csms is None else rig.csms.stations.values()
    able[[row for station in stations for row in station.refused]] = False
    return np.asarray(able)


def _is_over(rig: Rig, at_s: float, invariants: Invariants) -> bool:
    """Whether the site is above its limit now, and in this interval so far: any rule asks somebody then. A peak that is billed
    already is the limit: nothing is saved below it."""
    sample, rule, site = rig.emulated.sample, rig.case.settings.peak, rig.site
    if site is None:
        return False
    limit_kw = max(rule.limit_kw, demand_clock.floor_kw(site.state.demand, rule.ratchet))
    block = int(at_s // BLOCK_S)
    so_far_kwh, _ = invariants.blocks_kwh.get(block, (0.0, 0.0))
    hours = (at_s - block * BLOCK_S) / 3600.0
    if sample is None or rule.mode == "off" or rule.ratchet > 0.0 or hours <= 0.0:
        return False
    return sample.grid_kw > limit_kw + OVER_KW and so_far_kwh / hours > limit_kw
