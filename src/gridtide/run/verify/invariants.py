"""The invariants of the safety case, checked on the twin's ground truth at every tick."""

import math
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from msgspec import Struct

from gridtide.model.decision import Decision, Reason
from gridtide.model.fleet import Bools, EvseTable, Floats
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
CHARGE_LEASE_S: Final = 62.0
"""A charging limit of the controller ends after this time."""
TAKE_STEP_S: Final = 10.0
SENT_KW: Final = 0.01
"""Setpoints are sent in watts."""
WISHED_KW: Final = 0.002
"""Setpoints are decided in whole watts."""
REGISTER_KWH: Final = 0.001
ROUND: Final = 10
"""Ticks between two looks at one station's registers, at least."""


def _set_of(reasons: Iterable[Reason]) -> Bools:
    """Codes as a table to look up in."""
    table = np.zeros(256, dtype=np.bool_)
    table[[int(reason) for reason in reasons]] = True
    return table


KNOWN: Final = _set_of(Reason)
STILL: Final = _set_of((
    Reason.RESTING, Reason.WAITS_FOR_ROOM, Reason.WAITS_TURN, Reason.WAITS_FOR_HOUR, Reason.REACHED, Reason.NO_VEHICLE,
    Reason.SILENT, Reason.FAULT, Reason.ESTOP,
))  # fmt: skip
"""Reasons for which nothing flows."""
BOUNDS: Final = _set_of(item for item in Reason if item >= Reason.NO_VEHICLE or item is Reason.REACHED)
"""Reasons that cut a wish."""


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


class _Reach:
    """The most that was decided of each row, either way, while it can still be in force."""

    def __init__(self, rows: int) -> None:
        self._give = np.zeros((int(LEASE_S) + 2, rows))
        self._take = np.zeros((int(CHARGE_LEASE_S / TAKE_STEP_S) + 2, rows))
        self._give_at = self._take_at = -1
        self.low_kw, self.high_kw = np.zeros(rows), np.zeros(rows)

    def take(self, setpoint_kw: Floats, at_s: float) -> None:
        """A decision; instants only rise."""
        self._give_at = _turn(self._give, self._give_at, int(at_s))
        self._take_at = _turn(self._take, self._take_at, int(at_s // TAKE_STEP_S))
        give, take = self._give[self._give_at % len(self._give)], self._take[self._take_at % len(self._take)]
        np.minimum(give, setpoint_kw, out=give)
        np.maximum(take, setpoint_kw, out=take)
        self.low_kw, self.high_kw = self._give.min(axis=0), self._take.max(axis=0)


def _turn(ring: Floats, at: int, now: int) -> int:
    """Forget what is a whole turn old."""
    for place in range(max(at + 1, now - len(ring) + 1), now + 1):
        ring[place % len(ring)] = 0.0
    return now


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
        self._reach = _Reach(rows)
        self._metered_kwh = math.nan
        """Import of the plant's own books at the last tick; nan before the first."""
        self._told_kwh = -math.inf
        self._read_s = -math.inf
        self._ticks = 0
        self._checks: tuple[Callable[[Rig, float, Floats], None], ...] = (
            self._export, self._import, self._floor, self._authority, self._controller, self._reached, self._hold, self._energy,
            self._registers,
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
        # In the dark there is no import; who gives then is asked about by the fault itself (I8).
        is_dark = rig.emulated.here.grid.truth(rig.true_clock.wall()).is_dead
        gives = not is_dark and bool((power < -NOTHING_KW).any())
        self._below_s = self._below_s + TICK_S if gives and grid < floor - 0.5 else 0.0
        short_kw = max(0.0, -limits.export_kw - grid) if gives else 0.0
        self._below_kwh = self._below_kwh + short_kw * TICK_S / 3600.0 if short_kw > 0.0 else 0.0
        if self._below_s > WINDOW_S + TICK_S / 2 or self._below_kwh > WINDOW_KWH:
            self.fail("I1", at_s, f"{grid:.1f} kW import while vehicles give {-power[power < 0.0].sum():.1f} kW")

    def _import(self, rig: Rig, at_s: float, power: Floats) -> None:
        """I2: what vehicles charge and the building fit the connection; discharge earns no credit."""
        sample, most = rig.emulated.sample, rig.most_kw
        if sample is None:
            return
        charging = float(power[power > NOTHING_KW].sum())
        load = sample.building_kw + rig.welded_kw + charging
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
        # Where nobody stands the need is nan, and none.
        missing_kwh = np.fmax(plant.need_soc - soc, 0.0) * plant.batteries.capacity_kwh
        needs = gives & (missing_kwh > 0.05)
        if not needs.any():
            return
        hours = missing_kwh / (table.charge_kw * table.efficiency)
        left_h = (plant.told_departs_s - rig.true_clock.wall()) / 3600.0
        for row in np.flatnonzero(needs & (hours > left_h)):
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
            setpoint = np.nan_to_num(setpoint, posinf=0.0, neginf=0.0)
        self._reasons(site.decision, at_s, table)
        if self._setpoint is not None and site.snapshot.mono_s - self._decided_s < 1.0:
            # Towards zero is towards safety: beyond it, and away from it, the ramp holds.
            near = np.where(setpoint * self._setpoint > 0.0, np.abs(self._setpoint), 0.0)
            moved = np.abs(setpoint) - near
            allowed = table.ramp_kw_per_s * (site.snapshot.mono_s - self._decided_s) + 0.01
            if rig.case.settings.protection.is_fast:
                # Between two looks there may have been two decisions, and each may add the least power.
                allowed = allowed + table.least_kw
            for row in np.flatnonzero(moved > allowed):
                self.fail("I5", at_s, f"{table.ids[row]} moves by {moved[row]:.2f} kW in one cycle")
        age_s = site.snapshot.mono_s - min(site.state.meter.at_s, rig.meter.read_s)
        if (setpoint < 0.0).any() and not age_s <= FRESH_S:
            self.fail("I7", at_s, f"a discharge rests on a meter sample {age_s:.1f} s old")
        self._setpoint, self._decided_s = setpoint.copy(), site.snapshot.mono_s
        self._reach.take(setpoint, at_s)

    def _reached(self, rig: Rig, at_s: float, _power: Floats) -> None:
        """I5: what reaches a power stage was decided within its lease, and no more than that, either way."""
        stage, low, high = rig.emulated.plant.evse.pending_kw, self._reach.low_kw, self._reach.high_kw
        beyond = (stage < low - SENT_KW) | (stage > np.maximum(high, rig.case.here.table.fallback_kw) + SENT_KW)
        for row in np.flatnonzero(beyond) if beyond.any() else ():
            if not (rig.stations[int(row)].faults.ignores_setpoints or rig.emulated.plant.evse.welded[row]):
                what = f"{low[row]:.2f} to {high[row]:.2f} kW decided, the vehicle is asked for {stage[row]:.2f} kW"
                self.fail("I5", at_s, f"{rig.case.here.table.ids[row]}: {what}")

    def _reasons(self, decision: Decision, at_s: float, table: EvseTable) -> None:
        """I20: each setpoint has a reason that explains it: of a flow what it is for, of less than was wished what cut it."""
        setpoint, wish, reason = decision.setpoint_kw, decision.wish_kw, decision.reason
        cut = np.abs(np.nan_to_num(wish) - setpoint) > WISHED_KW
        wrong = ~KNOWN[reason] | ((setpoint != 0.0) & STILL[reason]) | (cut & ~BOUNDS[reason])
        for row in np.flatnonzero(wrong):
            what = f"{setpoint[row]:.3f} kW where {wish[row]:.3f} kW were wished, for reason {int(reason[row])}"
            self.fail("I20", at_s, f"{table.ids[row]}: {what}")

    def _hold(self, rig: Rig, at_s: float, power: Floats) -> None:
        """I6: the controller takes a vehicle from charging to giving, and back, no sooner than its hold time allows. What a
        station does by itself (its fallback, when a lease has ended) moves towards safety and does not count."""
        decision = rig.site.decision if rig.site is not None else None
        wanted = np.zeros(power.size) if decision is None else np.sign(decision.setpoint_kw)
        sign = np.sign(np.where(np.abs(power) > 2 * NOTHING_KW, power, 0.0))
        sign = np.where((rig.emulated.plant.occupant < 0) | (sign != wanted), 0.0, sign)
        turned = (sign != 0.0) & (sign != self._sign)
        hold_s = rig.case.here.table.hold_s
        for row in np.flatnonzero(turned & (at_s - self._turned_s < hold_s - LEASE_S) & (self._sign != 0.0)):
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

    def _registers(self, rig: Rig, at_s: float, _power: Floats) -> None:
        """I11: what the site meter and the stations tell is what flowed, and the meter's register does not run back."""
        meter, imported_kwh = rig.meter, max(rig.emulated.plant.ledger.import_kwh, 0.0)
        if meter.read_s > self._read_s and meter.told_kwh is not None:
            # It was read right after the last tick.
            if abs(meter.told_kwh - self._metered_kwh) > REGISTER_KWH + 1e-4 * self._metered_kwh:
                self.fail("I11", at_s, f"the meter tells {meter.told_kwh:.3f} kWh of {self._metered_kwh:.3f} kWh")
            # Who gives into a lost grid for the moments until it is seen, gives to nobody: the emulated register counts it back.
            imports_only = rig.case.settings.limits.export_kw == 0.0 and not rig.emulated.here.grid.events
            if imports_only and meter.told_kwh < self._told_kwh - REGISTER_KWH:
                self.fail("I11", at_s, f"the meter's register runs back to {meter.told_kwh:.3f} kWh")
            self._told_kwh = meter.told_kwh
        self._read_s, self._metered_kwh = meter.read_s, imported_kwh
        self._ticks += 1
        row = self._ticks % max(rig.case.here.table.size, ROUND)
        if row < rig.case.here.table.size:
            self._station_register(rig, at_s, row)

    def _station_register(self, rig: Rig, at_s: float, row: int) -> None:
        """A station's registers, in less out, against what its vehicle took; it reads them once a second."""
        station, plant, table = rig.stations[row], rig.emulated.plant, rig.case.here.table
        reading = station.blocks.transactions.reading
        if plant.occupant[row] < 0 or reading is None or reading.energy_import_kwh is None:
            return
        if station.faults.energy_register_scale != 1.0 or plant.evse.welded[row]:
            return
        told_kwh, took_kwh = reading.energy_import_kwh - (reading.energy_export_kwh or 0.0), float(plant.taken_kwh[row])
        moved_kwh = 2.0 * max(table.charge_kw[row], table.discharge_kw[row]) / 3600.0
        if abs(told_kwh - took_kwh) > moved_kwh + 0.005 * abs(took_kwh):
            self.fail("I11", at_s, f"{table.ids[row]} tells {told_kwh:.4f} kWh, its vehicle took {took_kwh:.4f} kWh")

    def _count(self, rig: Rig, at_s: float, _power: Floats) -> None:
        sample, block = rig.emulated.sample, int(at_s // BLOCK_S)
        if sample is not None:
            with_kwh, without_kwh = self.blocks_kwh.get(block, (0.0, 0.0))
            hours = TICK_S / 3600.0
            self.blocks_kwh[block] = (with_kwh + sample.grid_kw * hours, without_kwh + sample.building_kw * hours)
