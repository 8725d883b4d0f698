"""The invariants of the safety case, checked on the twin's ground truth at every tick."""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from msgspec import Struct

from gridtide.model.fleet import Floats
from gridtide.run.verify.rig import TICK_S, Rig

NOTHING_KW: Final = 0.05
"""Power that is none: measuring and quantising."""
WINDOW_S: Final = 1.0
"""After a step of the load, import may be below its bound so long (I1)."""
WINDOW_KWH: Final = 0.05
OVERLOAD_S: Final = 60.0
OVERLOAD: Final = 1.10
"""The connection may carry so much for so long (I2)."""
REACTION_S: Final = 1.2
"""From a sample to the power stages: a poll, a cycle, a link, the stage."""
LEASE_S: Final = 5.2
FRESH_S: Final = 2.0
BLOCK_S: Final = 900.0


class Violation(Struct, frozen=True):
    """An invariant that did not hold."""

    at_s: float
    invariant: str
    what: str


class Excuses(Struct):
    """Until when an invariant cannot be asked for, s from the start; see `Fault.excuses`."""

    until_s: dict[str, float] = {}

    def ask(self, invariant: str, at_s: float) -> bool:
        """Whether `invariant` must hold at `at_s`."""
        return at_s > self.until_s.get(invariant, -math.inf)


class Invariants:
    """Looks at a rig once a tick; keeps what it must remember between ticks, and every violation."""

    def __init__(self, rows: int) -> None:
        self.excuses = Excuses()
        self.violations: list[Violation] = []
        self.blocks_kwh: dict[int, tuple[float, float]] = {}
        """Import with and without the vehicles by demand interval, kWh (I12)."""
        self._below_s = self._over_s = self._below_kwh = 0.0
        self._over_step_s = 0.0
        self._wished_s = np.full(rows, -math.inf)
        """When the controller last wished a discharge of each row."""
        self._sign = np.zeros(rows)
        self._turned_s = np.full(rows, -math.inf)
        self._setpoint: Floats | None = None
        self._decided_s = -math.inf
        self._car = np.full(rows, -1)
        self._checks: tuple[Callable[[Rig, float, Floats], None], ...] = (
            self._export, self._import, self._floor, self._authority, self._controller, self._hold, self._energy
        )  # fmt: skip

    def look(self, rig: Rig) -> None:
        """Check one tick."""
        at_s, power = rig.at_s, rig.power_kw
        for check in self._checks:
            check(rig, at_s, power)
        self._count(rig, at_s, power)

    def fail(self, invariant: str, at_s: float, what: str) -> None:
        """Note a violation, unless a fault excuses it; each invariant once in ten seconds."""
        if not self.excuses.ask(invariant, at_s):
            return
        last = next((item for item in reversed(self.violations) if item.invariant == invariant), None)
        if last is None or at_s - last.at_s > 10.0:
            self.violations.append(Violation(round(at_s, 3), invariant, what))

    # --- one invariant each -----------------------------------------------------------------------------------------
    def _export(self, rig: Rig, at_s: float, power: Floats) -> None:
        """I1: while a vehicle gives, the site imports its margin, but for a moment after a step of the load."""
        limits, sample = rig.case.settings.limits, rig.emulated.sample
        grid = sample.grid_kw if sample is not None else math.inf
        floor = limits.import_margin_kw if limits.export_kw == 0.0 else -limits.export_kw
        gives = bool((power < -NOTHING_KW).any())
        self._below_s = self._below_s + TICK_S if gives and grid < floor - 0.5 else 0.0
        short_kw = max(0.0, -limits.export_kw - grid) if gives else 0.0
        self._below_kwh = self._below_kwh + short_kw * TICK_S / 3600.0 if short_kw > 0.0 else 0.0
        if self._below_s > WINDOW_S + TICK_S / 2 or self._below_kwh > WINDOW_KWH:
            self.fail("I1", at_s, f"{grid:.1f} kW import while vehicles give {-power[power < 0.0].sum():.1f} kW")

    def _import(self, rig: Rig, at_s: float, power: Floats) -> None:
        """I2: what vehicles charge and the building fit the connection; discharge earns no credit."""
        sample, most = rig.emulated.sample, rig.case.settings.limits.transformer_kw
        if sample is None:
            return
        charging = float(power[power > NOTHING_KW].sum())
        load = sample.building_kw + charging
        over = charging > NOTHING_KW and load > most + 0.5
        self._over_s = self._over_s + TICK_S if over else 0.0
        self._over_step_s = self._over_step_s + TICK_S if over and load > OVERLOAD * most + 0.5 else 0.0
        if self._over_s > OVERLOAD_S or self._over_step_s > REACTION_S:
            self.fail("I2", at_s, f"{load:.1f} kW on a connection of {most:g} kW, {charging:.1f} of it vehicles")

    def _floor(self, rig: Rig, at_s: float, power: Floats) -> None:
        """I3: nothing is taken below the floor, nor while the driver could no longer be served in time."""
        plant, table, need = rig.emulated.plant, rig.case.here.table, rig.case.settings.need
        gives = power < -NOTHING_KW
        if not gives.any():
            return
        soc = plant.batteries.soc
        for row in np.flatnonzero(gives & (soc < need.floor_soc - 1e-4)):
            self.fail("I3", at_s, f"{table.ids[row]} gives at {soc[row]:.4f}, the floor is {need.floor_soc}")
        missing_kwh = np.maximum(np.nan_to_num(plant.need_soc) - soc, 0.0) * plant.batteries.capacity_kwh
        hours = missing_kwh / (table.charge_kw * table.efficiency)
        left_h = (plant.told_departs_s - rig.true_clock.wall()) / 3600.0
        for row in np.flatnonzero(gives & (missing_kwh > 0.05) & (hours > left_h)):
            self.fail("I3", at_s, f"{table.ids[row]} gives, needs {hours[row]:.2f} h and leaves in {left_h[row]:.2f} h")

    def _authority(self, rig: Rig, at_s: float, power: Floats) -> None:
        """I4: only a vehicle that stands there and negotiated it gives, and only while a lease of the controller runs."""
        plant, table = rig.emulated.plant, rig.case.here.table
        decision = rig.site.decision if rig.site is not None else None
        if decision is not None:
            self._wished_s[decision.setpoint_kw < 0.0] = at_s
        gives = power < -NOTHING_KW
        # Over a whole tick: who was pulled within it gave before.
        settled = plant.occupant == self._car
        for row in np.flatnonzero(gives & settled & (~plant.may_discharge | (plant.occupant < 0))):
            self.fail("I4", at_s, f"{table.ids[row]} gives although nothing there may")
        for row in np.flatnonzero(gives & (at_s - self._wished_s > LEASE_S)):
            self.fail(
                "I4", at_s, f"{table.ids[row]} still gives {at_s - self._wished_s[row]:.1f} s after the last wish"
            )
        self._car = plant.occupant

    def _controller(self, rig: Rig, at_s: float, _power: Floats) -> None:
        """I5, I7, I18 on each new decision: the ramp, the age of what it rests on, and that every number is one."""
        site = rig.site
        if site is None or site.decision is None or site.snapshot is None or site.snapshot.mono_s <= self._decided_s:
            return
        setpoint, table = site.decision.setpoint_kw, rig.case.here.table
        if not np.isfinite(setpoint).all():
            self.fail("I18", at_s, f"setpoints {setpoint}")
        if self._setpoint is not None and site.snapshot.mono_s - self._decided_s < 1.0:
            # Towards zero is towards safety: beyond it, and away from it, the ramp holds.
            near = np.where(setpoint * self._setpoint > 0.0, np.abs(self._setpoint), 0.0)
            moved = np.abs(setpoint) - near
            allowed = table.ramp_kw_per_s * (site.snapshot.mono_s - self._decided_s) + 0.01
            for row in np.flatnonzero(moved > allowed):
                self.fail("I5", at_s, f"{table.ids[row]} moves by {moved[row]:.2f} kW in one cycle")
        age_s = site.snapshot.mono_s - site.state.meter.at_s
        if (setpoint < 0.0).any() and not age_s <= FRESH_S:
            self.fail("I7", at_s, f"a discharge rests on a meter sample {age_s:.1f} s old")
        self._setpoint, self._decided_s = setpoint.copy(), site.snapshot.mono_s

    def _hold(self, rig: Rig, at_s: float, power: Floats) -> None:
        """I6: the controller takes a vehicle from charging to giving, and back, no sooner than its hold time allows. What a
        station does by itself (its fallback, when a lease has ended) moves towards safety and does not count."""
        decision = rig.site.decision if rig.site is not None else None
        wanted = np.zeros(power.size) if decision is None else np.sign(decision.setpoint_kw)
        sign = np.sign(np.where(np.abs(power) > 2 * NOTHING_KW, power, 0.0))
        sign = np.where((rig.emulated.plant.occupant < 0) | (sign != wanted), 0.0, sign)
        turned = (sign != 0.0) & (sign != self._sign)
        hold_s = rig.case.here.table.hold_s
        for row in np.flatnonzero(
            turned & (sign < 0.0) & (at_s - self._turned_s < hold_s - LEASE_S) & (self._sign != 0.0)
        ):
            self.fail("I6", at_s, f"{rig.case.here.table.ids[row]} turns after {at_s - self._turned_s[row]:.1f} s")
        self._turned_s[turned] = at_s
        self._sign = np.where(sign != 0.0, sign, self._sign)
        self._sign[rig.emulated.plant.occupant < 0] = 0.0

    def _energy(self, rig: Rig, at_s: float, _power: Floats) -> None:
        """I11: the plant's energies add up, and the meter's register does not run back while nothing is exported."""
        ledger = rig.emulated.plant.ledger
        seen = ledger.building_kwh + ledger.ac_in_kwh - ledger.ac_out_kwh
        if abs(seen - ledger.import_kwh) > 0.005 * max(ledger.import_kwh, 1.0) or ledger.worst_residual_kwh > 1e-6:
            self.fail("I11", at_s, f"{seen:.3f} kWh used, {ledger.import_kwh:.3f} kWh metered")

    def _count(self, rig: Rig, at_s: float, _power: Floats) -> None:
        sample, block = rig.emulated.sample, int(at_s // BLOCK_S)
        if sample is not None:
            with_kwh, without_kwh = self.blocks_kwh.get(block, (0.0, 0.0))
            hours = TICK_S / 3600.0
            self.blocks_kwh[block] = (with_kwh + sample.grid_kw * hours, without_kwh + sample.building_kw * hours)
