"""Guard cases from a seed, with a hidden truth behind the evidence, and the checker of invariants I1-I7 that reads that truth."""

from typing import Any

import numpy as np
from msgspec import Struct, structs

from gridtide.control import guard, needs
from gridtide.control.guard import GuardSettings, GuardState
from gridtide.control.meter import Verdict
from gridtide.control.needs import NeedSettings
from gridtide.model.decision import GridPermit, Reason, Reasons, Snapshot
from gridtide.model.fleet import EvseTable, FleetSample, Floats, SiteLimits
from tests.unit.builders import evse_table, fleet_sample

NOW_S = 10_000.0
GUARD, NEED = GuardSettings(), NeedSettings()
TINY_KW = 1e-6


class Case(Struct, frozen=True, eq=False, kw_only=True):
    """One call of the guard and what is really the case."""

    table: EvseTable
    limits: SiteLimits
    snapshot: Snapshot
    verdict: Verdict
    wish_kw: Floats
    rank: Floats
    state: GuardState
    cycle_s: float
    truth_kw: Floats
    """(n,) what each row really takes or gives."""
    building_kw: float
    permit: GridPermit = GridPermit()

    def clamp(self) -> tuple[GuardState, Floats, Reasons, tuple[str, ...]]:
        """Ask the guard."""
        need = needs.assess(self.table, self.snapshot.fleet, NEED, self.cycle_s)
        reason = np.full(self.table.size, Reason.SHAVING, dtype=np.uint8)
        return guard.clamp(
            self.wish_kw, reason, self.rank, self.snapshot, self.verdict, need, self.table, self.limits, self.state,
            GUARD, NEED, self.cycle_s, self.permit,
        )  # fmt: skip

    def with_fleet(self, **changes: Any) -> "Case":
        """The same case with other evidence of the fleet."""
        fleet = structs.replace(self.snapshot.fleet, **changes)
        return structs.replace(self, snapshot=structs.replace(self.snapshot, fleet=fleet))


def case(seed: int, rows: int | None = None) -> Case:
    """A random case with consistent evidence: some rows silent, unknown, faulty, unplugged, nearly empty or about to leave.

    1 to 6 rows, or `rows` of them behind limits that are as much wider.
    """
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 7))
    size, wide = (size, 1.0) if rows is None else (rows, rows / 4.0)
    table = _table(rng, size)
    odds = rng.choice([0.03, 0.3])
    connected = rng.random(size) > odds
    truth = np.where(connected, rng.uniform(-1.0, 1.0, size), 0.0)
    truth = np.where(rng.random(size) < 0.3, 0.0, truth * np.where(truth > 0.0, table.charge_kw, table.discharge_kw))
    building_kw = float(rng.choice([5.0, 60.0, 400.0]) * rng.random()) * wide
    fleet = _fleet(rng, table, connected, truth, odds)
    power_kw = building_kw + float(truth.sum())
    low_kw = power_kw - float(rng.choice([0.0, 50.0]) * rng.random()) * wide
    verdict = Verdict(bool(rng.random() > 0.1), power_kw, low_kw)
    snapshot = Snapshot(
        mono_s=NOW_S, now_s=NOW_S, meter=None, fleet=fleet, estop=bool(rng.random() < 0.03),
        load_shed_kw=float(rng.uniform(0.0, 300.0)) * wide if rng.random() < 0.15 else None,
    )  # fmt: skip
    groups = int(rng.integers(0, 3))
    limits = SiteLimits(
        transformer_kw=float(rng.choice([50.0, 150.0, 600.0])) * wide, import_margin_kw=10.0,
        export_kw=float(rng.choice([0.0, 0.0, 40.0])) * wide, static_building_kw=100.0 * wide,
        group_kw=tuple(float(cap) * wide for cap in rng.uniform(5.0, 80.0, groups)),
        phase_a=float(rng.choice([0.0, 32.0, 100.0])) * wide,
    )  # fmt: skip
    sign = rng.choice([-1.0, 0.0, 1.0], size)
    state = GuardState(
        sign * rng.uniform(0.0, 22.0, size), sign, NOW_S - rng.choice([1.0, 40.0, 1e5], size),
        np.random.default_rng([seed, 2]).random(size) < 0.2, np.full(size, -np.inf),
        reverse_until_s=NOW_S + 5.0 if rng.random() < 0.05 else -np.inf,
    )  # fmt: skip
    fleet, state = _asked_lately(np.random.default_rng([seed, 3]), table, fleet, truth, state)
    snapshot = structs.replace(snapshot, fleet=fleet)
    return Case(
        table=table, limits=limits, snapshot=snapshot, verdict=verdict, wish_kw=rng.uniform(-30.0, 30.0, size),
        rank=rng.uniform(0.0, 9.0, size), state=state, cycle_s=float(rng.choice([0.1, 0.5, 60.0])), truth_kw=truth,
        building_kw=building_kw, permit=_permit(np.random.default_rng([seed, 1]), groups),
    )  # fmt: skip


def _asked_lately(
    rng: np.random.Generator, table: EvseTable, fleet: FleetSample, truth: Floats, state: GuardState
) -> tuple[FleetSample, GuardState]:
    """In some cases rows do what was asked of them a moment ago: give less, or charge more, than they reported before."""
    rows = (
        fleet.connected & (fleet.age_s <= GUARD.silent_s) & (fleet.power_kw == truth) & (rng.random(truth.size) < 0.5)
    )
    if rng.random() < 0.7:
        return fleet, state
    before = truth - rng.random(truth.size) * (truth + table.discharge_kw)
    since_s = rng.random(truth.size) * (fleet.age_s + GUARD.follow_s)
    asked = structs.replace(
        state, setpoint_kw=np.where(rows, truth, state.setpoint_kw), moved_s=np.where(rows, NOW_S - since_s, state.moved_s),
        direction=np.where(rows & (truth != 0.0), np.sign(truth), state.direction),
    )  # fmt: skip
    return structs.replace(fleet, power_kw=np.where(rows, before, fleet.power_kw)), asked


def _permit(rng: np.random.Generator, groups: int) -> GridPermit:
    """Mostly nothing; else out of service, a share of the ratings, or a hot transformer."""
    if rng.random() < 0.75:
        return GridPermit()
    share = (0.0, 0.4, 1.0)
    return GridPermit(
        in_service=bool(rng.random() > 0.2), charge_share=float(rng.choice(share)), discharge_share=float(rng.choice(share)),
        import_kw=float(rng.choice([np.inf, 0.0, 80.0, 300.0])),
        group_kw=tuple(float(cap) for cap in rng.uniform(0.0, 60.0, int(rng.integers(0, groups + 1)))),
    )  # fmt: skip


def _table(rng: np.random.Generator, size: int) -> EvseTable:
    alternating = rng.random(size) < 0.5
    single = rng.random(size) < 0.4
    phase = np.where(single[:, None], np.eye(3)[rng.integers(0, 3, size)], 1.0 / 3.0)
    return evse_table(
        size,
        charge_kw=rng.choice([3.7, 11.0, 22.0], size),
        discharge_kw=rng.choice([0.0, 7.0, 22.0], size),
        least_kw=np.where(alternating, 1.38, 0.0),
        step_kw=np.where(alternating, 0.23, 0.0),
        ramp_kw_per_s=rng.choice([0.5, 3.3, 1000.0], size),
        hold_s=rng.choice([0.0, 30.0], size),
        efficiency=rng.choice([0.9, 1.0], size),
        fallback_kw=rng.choice([0.0, 1.38, 3.7], size),
        phase_share=phase,
        group=rng.integers(-1, 2, size),
        storage=rng.random(size) < 0.1,
    )


def _fleet(
    rng: np.random.Generator, table: EvseTable, connected: np.ndarray, truth: Floats, odds: float
) -> FleetSample:
    size = table.size

    def sometimes(value: Any, usual: Any) -> Any:
        return np.where(rng.random(size) < odds, value, usual)

    age = sometimes(rng.choice([3.0, 60.0, np.inf, np.nan], size), rng.uniform(0.0, 1.5, size))
    # A lease ends within 5 s: nobody gives who has been silent for longer; and a silent station's last report may be of any time.
    truth[:] = np.where((age > 10.0) & (truth < 0.0), 0.0, truth)
    truth[:] = np.where(~(age <= GUARD.silent_s) & ~connected, table.fallback_kw, truth)
    stale = rng.uniform(-1.0, 1.0, size) * np.minimum(table.charge_kw, table.discharge_kw)
    reported = np.where(age <= GUARD.silent_s, truth, stale)
    return fleet_sample(
        size,
        connected=connected,
        fault=sometimes(True, False),
        may_discharge=sometimes(False, True),
        age_s=age,
        power_kw=np.where(connected, sometimes(rng.choice([np.nan, 1e9, -np.inf], size), reported), reported),
        soc=sometimes(rng.choice([0.0, 0.2, 0.41, np.nan, 1.0], size), rng.uniform(0.15, 1.0, size)),
        capacity_kwh=sometimes(np.nan, rng.choice([24.0, 60.0], size)),
        need_soc=sometimes(np.nan, rng.uniform(0.3, 0.95, size)),
        minimum_soc=sometimes(np.nan, rng.uniform(0.1, 0.9, size)),
        left_s=sometimes(rng.choice([np.inf, np.nan, -60.0, 2750.0], size), rng.uniform(0.0, 40_000.0, size)),
        charge_limit_kw=sometimes(5.0, np.inf),
        discharge_limit_kw=sometimes(rng.choice([0.0, 3.0, np.nan], size), np.inf),
        temperature_c=sometimes(rng.choice([60.0, 80.0, 90.0], size), np.nan),
    )


def violations(case: Case, setpoint_kw: Floats, reason: Reasons) -> list[str]:
    """Names of the invariants that this answer breaks, read from the hidden truth."""
    found = [*_of_rows(case, setpoint_kw, reason)]
    charging, giving = np.maximum(setpoint_kw, 0.0), np.maximum(-setpoint_kw, 0.0)
    if case.verdict.trusted and giving.any() and _worst_import_kw(case, setpoint_kw) < _least_import_kw(case) - TINY_KW:
        found.append("I1 export")
    if charging.any() and _import_kw(case, charging) > _import_cap_kw(case) + TINY_KW:
        found.append("I2 import")
    quiet = ~(case.snapshot.fleet.age_s <= GUARD.silent_s)
    held = np.where(quiet, case.table.fallback_kw, 0.0)
    for g, cap_kw in enumerate(case.limits.group_kw):
        rows = case.table.group == g
        if charging[rows].any() and (charging + held)[rows].sum() > cap_kw + TINY_KW:
            found.append("I2 group")
        if g < len(case.permit.group_kw) and charging[rows].any():
            found += ["I2 group, hot"] * bool((charging + held)[rows].sum() > case.permit.group_kw[g] + TINY_KW)
    if case.limits.phase_a > 0.0:
        fuse_kw = case.limits.phase_a * case.limits.phase_v / 1000.0
        for phase in range(3):
            share = case.table.phase_share[:, phase]
            if (charging * share).any() and ((charging + held) * share).sum() > fuse_kw + TINY_KW:
                found.append("I2 phase")
            if (giving * share).sum() > fuse_kw + TINY_KW:
                found.append("I2 phase, giving")
    return found


def _of_rows(case: Case, p: Floats, reason: Reasons) -> list[str]:
    table, fleet, state = case.table, case.snapshot.fleet, case.state
    gives, flows = p < 0.0, p != 0.0
    with np.errstate(invalid="ignore"):
        low = np.fmax(np.where(table.storage, NEED.floor_soc, NEED.window_low_soc), fleet.minimum_soc)
        before = np.where(np.sign(p) == np.sign(state.setpoint_kw), np.abs(state.setpoint_kw), 0.0)
        reach = before + np.maximum(table.ramp_kw_per_s * case.cycle_s, table.least_kw)
        step = np.where(table.step_kw > 0.0, table.step_kw, 1.0)
        off_step = np.abs(p / step - np.round(p / step)) * step
        wrong = {
            "finite": ~np.isfinite(p),
            "wish": (np.abs(p) > np.abs(np.nan_to_num(case.wish_kw, nan=0.0)) + TINY_KW) | (p * case.wish_kw < 0.0),
            "rating": (p > table.charge_kw + TINY_KW) | (-p > table.discharge_kw + TINY_KW),
            "vehicle limit": gives & ~(-p <= np.nan_to_num(fleet.discharge_limit_kw, nan=0.0) + TINY_KW),
            "I3 floor": gives & ~(fleet.soc > low),
            "I3 departure": gives
            & ~table.storage
            & (fleet.left_s <= 2.0 * case.cycle_s)
            & (fleet.soc <= fleet.need_soc),
            "I4 authority": gives & ~(fleet.connected & fleet.may_discharge & ~fleet.fault),
            "fault": flows & fleet.fault,
            "I5 ramp": np.abs(p) > reach + TINY_KW,
            "I6 hold": flows & (np.sign(p) == -state.direction) & (NOW_S - state.turned_s < table.hold_s),
            "I7 freshness": (flows & ~(fleet.age_s <= GUARD.silent_s)) | (gives & (not case.verdict.trusted)),
            "E-stop": flows & (case.snapshot.estop or state.estop),
            "grid trip": flows & (not case.permit.in_service),
            "grid share": (p > table.charge_kw * case.permit.charge_share + TINY_KW)
            | (-p > table.discharge_kw * case.permit.discharge_share + TINY_KW),
            "reverse": gives & (state.reverse_until_s > NOW_S),
            "least": flows & (np.abs(p) < table.least_kw - 1e-3),
            "step": (table.step_kw > 0.0) & (off_step > 1.001e-3),
            "warm": flows & (fleet.temperature_c >= 85.0),
            "reason": (np.abs(p) < np.abs(np.nan_to_num(case.wish_kw)) - 0.01) & (reason == Reason.SHAVING) & ~flows,
        }
    return [name for name, rows in wrong.items() if bool(np.any(rows))]


def _worst_import_kw(case: Case, p: Floats) -> float:
    """Import once everybody gives as told, nobody charges more than now and silent rows give what they may."""
    fleet = case.snapshot.fleet
    silent = ~(fleet.age_s <= GUARD.silent_s)
    settled = np.where(p < 0.0, p, np.minimum(np.maximum(case.truth_kw, 0.0), p))
    unled = np.where(fleet.connected, np.minimum(case.truth_kw, 0.0), 0.0)
    lag = case.verdict.power_kw - case.verdict.low_kw  # the lower of the last readings counts
    return case.building_kw - lag + float(np.where(silent, unled, settled).sum())


def _least_import_kw(case: Case) -> float:
    return -case.limits.export_kw if case.limits.export_kw > 0.0 else case.limits.import_margin_kw


def _import_kw(case: Case, charging: Floats) -> float:
    """Import with nobody giving: the building, what is told to charge, and what silent rows take."""
    silent = ~(case.snapshot.fleet.age_s <= GUARD.silent_s)
    unled = np.maximum(np.maximum(case.truth_kw, 0.0), case.table.fallback_kw)
    building = case.building_kw if case.verdict.trusted else case.limits.static_building_kw
    if not case.verdict.trusted:
        unled = case.table.fallback_kw
    return building + float(np.where(silent, unled, charging).sum())


def _import_cap_kw(case: Case) -> float:
    shed = case.snapshot.load_shed_kw
    cap_kw = min(case.limits.transformer_kw, case.permit.import_kw)
    return cap_kw if shed is None else min(cap_kw, shed)
