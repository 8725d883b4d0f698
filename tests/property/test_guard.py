"""The guard's invariants over random sites with a hidden truth, over spoilt numbers, over time, and with planted defects."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gridtide.control import guard, needs, site
from gridtide.control.meter import Verdict
from gridtide.model import losses, taper
from gridtide.model.decision import MeterSample, Quality, Reason, Snapshot
from gridtide.model.fleet import FleetSample, SiteLimits
from tests.property import guard_cases
from tests.property.guard_cases import Case, case, violations
from tests.unit.builders import LeapingSite, evse_table, fleet_sample, site_settings

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # rubbish overflows on its way to "allows nothing"

SEEDS = st.integers(0, 2**40)
NASTY = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1e308, 5e-324, 1e9, -1e9, -1.0])
FLEET_NUMBERS = tuple(n for n in FleetSample.__struct_fields__ if n not in ("connected", "fault", "may_discharge"))
LIMIT_NUMBERS = ("transformer_kw", "import_margin_kw", "export_kw", "static_building_kw", "phase_a", "phase_v")
PERMIT_NUMBERS = ("charge_share", "discharge_share", "import_kw")
TABLE_NUMBERS = (
    "charge_kw",
    "discharge_kw",
    "least_kw",
    "step_kw",
    "ramp_kw_per_s",
    "hold_s",
    "efficiency",
    "fallback_kw",
)
BAD_POWERS = (math.nan, math.inf, -math.inf, 1e9, -1e9, 1e308)


@given(SEEDS)
@settings(max_examples=1500, deadline=None)
def test_no_invariant_breaks(seed: int) -> None:
    here = case(seed)
    _, setpoint, reason, _ = here.clamp()
    assert violations(here, setpoint, reason) == []


def spoilt(values: np.ndarray, row: int, value: float) -> np.ndarray:
    """A copy with one value replaced."""
    changed = values.copy()
    changed[row % changed.shape[0]] = value
    return changed


@given(SEEDS, st.lists(st.tuples(st.sampled_from(FLEET_NUMBERS), st.integers(0, 6), NASTY), min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_spoilt_evidence_breaks_no_invariant(seed: int, spoils: list[tuple[str, int, float]]) -> None:
    here = case(seed)
    for name, row, value in spoils:
        if name == "power_kw":
            value = value if value in BAD_POWERS else math.nan
            row = int(np.argmax(here.snapshot.fleet.connected))  # of an empty bay nothing is unknown
            if not here.snapshot.fleet.connected[row]:
                continue
        if name == "age_s" and not 0.0 <= value <= 2.0:
            value = math.nan  # silent since a moment: what the truth behind it says holds in any case
        elif name == "age_s":
            continue
        here = here.with_fleet(**{name: spoilt(getattr(here.snapshot.fleet, name), row, value)})
    _, setpoint, reason, _ = here.clamp()
    assert violations(here, setpoint, reason) == []


@given(SEEDS, st.data())
@settings(max_examples=400, deadline=None)
def test_total_on_any_number_anywhere(seed: int, data: st.DataObject) -> None:
    here, row = case(seed), data.draw(st.integers(0, 6))
    for part in data.draw(
        st.lists(st.sampled_from(["wish", "rank", "table", "limits", "verdict", "time", "fleet", "permit"]), max_size=4)
    ):
        here = _spoil(here, part, row, data.draw(NASTY | st.floats()), data)
    after, setpoint, reason, _ = here.clamp()
    assert np.all(np.isfinite(setpoint))
    assert np.all(np.abs(setpoint) <= np.abs(np.nan_to_num(here.wish_kw)) + 1e-6)
    assert reason.shape == setpoint.shape
    assert np.all(np.isfinite(after.setpoint_kw))
    if here.snapshot.estop:
        assert not setpoint.any()


def _spoil(here: Case, part: str, row: int, value: float, data: st.DataObject) -> Case:
    if part == "wish":
        return structs.replace(here, wish_kw=spoilt(here.wish_kw, row, value))
    if part == "rank":
        return structs.replace(here, rank=spoilt(here.rank, row, value))
    if part == "table":
        name = data.draw(st.sampled_from(TABLE_NUMBERS))
        column = spoilt(getattr(here.table, name), row, value)
        return structs.replace(here, table=structs.replace(here.table, **{name: column}))
    if part == "limits":
        changes: dict[str, Any] = {data.draw(st.sampled_from(LIMIT_NUMBERS)): value}
        return structs.replace(here, limits=structs.replace(here.limits, **changes))
    if part == "verdict":
        return structs.replace(here, verdict=Verdict(True, value, data.draw(NASTY)))
    if part == "time":
        shed = data.draw(st.none() | NASTY)
        return structs.replace(here, snapshot=structs.replace(here.snapshot, mono_s=value, load_shed_kw=shed))
    if part == "permit":
        bad: dict[str, Any] = dict.fromkeys(data.draw(st.sets(st.sampled_from(PERMIT_NUMBERS))), value)
        return structs.replace(here, permit=structs.replace(here.permit, group_kw=(value,), **bad))
    name = data.draw(st.sampled_from(FLEET_NUMBERS))
    return here.with_fleet(**{name: spoilt(getattr(here.snapshot.fleet, name), row, value)})


Defect = tuple[str, str, Callable[..., Any]]


def _pass_through(*_: Any) -> None:
    return None


DEFECTS: list[tuple[str, str, Any]] = [
    ("I1 export", "_export_bound", _pass_through),
    ("I2 import", "_import_bounds", lambda *_: False),
    ("I2 group", "_circuit_bounds", _pass_through),
    ("I2 phase", "_circuit_bounds", _pass_through),
    ("I2 phase, giving", "_circuit_bounds", _pass_through),
    ("I3 floor", "_discharge_bounds", _pass_through),
    ("I3 departure", "_discharge_bounds", _pass_through),
    ("I4 authority", "_discharge_bounds", _pass_through),
    ("vehicle limit", "_discharge_bounds", _pass_through),
    ("rating", "_charge_bounds", _pass_through),
    ("I5 ramp", "_hold_and_ramp", _pass_through),
    ("I6 hold", "_hold_and_ramp", _pass_through),
    ("least", "_quantise", _pass_through),
    ("step", "_quantise", _pass_through),
    ("I7 freshness", "_export_bound", _pass_through),
    ("grid trip", "_grid_bounds", _pass_through),
    ("grid share", "_grid_bounds", _pass_through),
    ("I2 import", "_lower", lambda one_kw, _: one_kw),
    ("I2 group, hot", "_lower", lambda one_kw, _: one_kw),
]


def broken_over(seeds: range) -> set[str]:
    """Names of all invariants that break over these cases."""
    found: set[str] = set()
    for seed in seeds:
        here = case(seed)
        _, setpoint, reason, _ = here.clamp()
        found.update(violations(here, setpoint, reason))
    return found


@pytest.mark.parametrize(("name", "bound", "planted"), DEFECTS)
def test_a_planted_defect_is_caught(name: str, bound: str, planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_over(range(60)) == set()
    monkeypatch.setattr(guard, bound, planted)
    assert any(name in broken_over(range(first, first + 50)) for first in range(0, 1000, 50))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("I7 freshness", Reason.SILENT), ("fault", Reason.FAULT), ("E-stop", Reason.ESTOP), ("reverse", None)],
)
def test_a_planted_gap_in_the_kernel_is_caught(
    name: str, reason: Reason | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero, kept = guard._Cut.zero, guard._Cut.zero_discharge
    monkeypatch.setattr(guard._Cut, "zero", lambda cut, rows, why: None if why is reason else zero(cut, rows, why))
    if reason is None:
        monkeypatch.setattr(
            guard._Cut,
            "zero_discharge",
            lambda cut, when, why: kept(cut, when and why is not Reason.REVERSE_POWER, why),
        )
    assert name in broken_over(range(400))


@given(SEEDS, st.sampled_from(PERMIT_NUMBERS))
@settings(max_examples=200, deadline=None)
def test_a_permit_that_is_not_a_number_permits_nothing(seed: int, name: str) -> None:
    here = case(seed)
    spoils: dict[str, Any] = {name: math.nan}
    power = structs.replace(here, permit=structs.replace(here.permit, **spoils)).clamp()[1]
    assert not np.any(power < 0.0 if name == "discharge_share" else power > 0.0)


LOSSES: list[tuple[str, Any]] = [
    ("soc", np.nan), ("capacity_kwh", np.nan), ("age_s", np.inf), ("age_s", np.nan), ("power_kw", np.nan),
    ("may_discharge", False), ("connected", False), ("discharge_limit_kw", np.nan), ("left_s", np.inf), ("left_s", np.nan),
]  # fmt: skip


@given(SEEDS, st.sampled_from(LOSSES), st.integers(0, 6))
@settings(max_examples=500, deadline=None)
def test_losing_evidence_never_gives_more(seed: int, loss: tuple[str, Any], row: int) -> None:
    """I15. `need_soc` is a wish, not evidence; "not measured" is a legal temperature: both stay out."""
    here = case(seed)
    row %= here.table.size
    before = here.clamp()[1]
    blind = here.with_fleet(**{loss[0]: spoilt(getattr(here.snapshot.fleet, loss[0]), row, loss[1])})
    after = blind.clamp()[1]
    assert -min(after[row], 0.0) <= -min(before[row], 0.0) + 1e-6
    smooth = not here.table.least_kw.any()  # with a least current another row may take over more than was lost
    if smooth:
        assert np.maximum(-after, 0.0).sum() <= np.maximum(-before, 0.0).sum() + 0.001 * here.table.size


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_losing_the_meter_ends_every_discharge(seed: int) -> None:
    here = case(seed)
    lost = structs.replace(here, verdict=structs.replace(here.verdict, trusted=False))
    assert np.all(lost.clamp()[1] >= 0.0)


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_the_same_twice_is_the_same_once(seed: int) -> None:
    """I9b: no call leaves a trace, and no input is written to."""
    here = case(seed)
    wish, soc = here.wish_kw.copy(), here.snapshot.fleet.soc.copy()
    one, two = here.clamp(), here.clamp()
    assert np.array_equal(one[1], two[1])
    assert np.array_equal(one[2], two[2])
    assert one[3] == two[3]
    assert np.array_equal(here.wish_kw, wish)
    assert np.array_equal(here.snapshot.fleet.soc, soc, equal_nan=True)


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_an_emergency_stop_latches(seed: int, cycles: int) -> None:
    here = case(seed)
    here = structs.replace(here, snapshot=structs.replace(here.snapshot, estop=True))
    state, setpoint, reason, _ = here.clamp()
    assert not setpoint.any()
    assert set(reason) == {Reason.ESTOP}
    for _ in range(cycles):
        here = structs.replace(here, state=state, snapshot=structs.replace(here.snapshot, estop=False))
        state, setpoint, _, events = here.clamp()
        assert not setpoint.any()
        assert "estop" not in events


@given(
    soc=st.floats(0.42, 1.0), need=st.floats(0.2, 0.99), hours=st.floats(0.0, 4.0), capacity=st.sampled_from([24.0, 60.0]),
    efficiency=st.sampled_from([0.9, 1.0]), rate_kw=st.sampled_from([3.7, 11.0, 22.0]), dt_s=st.sampled_from([30.0, 60.0]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_greedy_wish_never_costs_a_driver_the_departure(
    soc: float, need: float, hours: float, capacity: float, efficiency: float, rate_kw: float, dt_s: float
) -> None:
    """I3: give whenever the guard lets it; once it does not, full power still reaches what was reachable at the start."""
    table = evse_table(1, charge_kw=rate_kw, discharge_kw=22.0, efficiency=efficiency)
    left_s, gave = hours * 3600.0, False
    state, rules = guard.fresh(1), needs.NeedSettings()
    goal = min(need, 0.995)
    while left_s > 0.0:
        fleet = fleet_sample(1, soc=soc, need_soc=need, left_s=left_s, capacity_kwh=capacity)
        need_now = needs.assess(table, fleet, rules, dt_s)
        snap = Snapshot(mono_s=-left_s, now_s=0.0, meter=None, fleet=fleet)
        state, setpoint, _, _ = guard.clamp(
            np.array([-22.0]), np.zeros(1, dtype=np.uint8), np.zeros(1), snap, Verdict(True, 500.0, 500.0), need_now, table,
            SiteLimits(transformer_kw=1e3), state, guard.GuardSettings(), rules, dt_s,
        )  # fmt: skip
        if setpoint[0] < 0.0:
            gave = True
            soc += float(losses.battery_kw(setpoint, table.efficiency)[0]) * dt_s / 3600.0 / capacity
        else:
            full = np.array([rate_kw * efficiency])
            room = np.array([1.0 - soc])
            added = taper.energy_kwh(full, np.array([dt_s / 3600.0]), room, np.array([0.2]), np.array([capacity]), full)
            soc += float(added[0]) / capacity
        assert soc >= rules.window_low_soc - 1e-9
        left_s -= dt_s
        if gave and soc >= goal and setpoint[0] >= 0.0 and left_s < 2700.0:
            break  # ready, and the guard has stopped for good
    if gave:
        assert soc >= goal - 1e-6


@given(st.lists(st.integers(0, 9), min_size=3, max_size=3), st.floats(11.0, 45.0))
@example([9, 4, 0], 12.0)
@settings(max_examples=50, deadline=None)
def test_old_reports_bring_no_discharge_back(phases: list[int], load_kw: float) -> None:
    """I1: a load is thrown off while vehicles give. They follow within 0.1 s and report once a second, in any phase of the cycle:
    the margin is there with the next cycle, and stays."""
    table, limits, rules = evse_table(3, ramp_kw_per_s=11.0), SiteLimits(transformer_kw=1e3), needs.NeedSettings()
    state, power, told, heard_s = guard.fresh(3), np.zeros(3), np.zeros(3), np.zeros(3)
    wish, rest = np.full(3, -11.0), np.zeros(3, dtype=np.uint8)
    for tick in range(120):
        now_s, building_kw = 0.1 * tick, 85.0 if tick < 60 else load_kw
        reports = np.array(phases) == tick % 10
        told, heard_s = np.where(reports, power, told), np.where(reports, now_s, heard_s)
        power = state.setpoint_kw
        import_kw = building_kw + float(power.sum())
        assert tick < 60 + 6 or import_kw >= limits.import_margin_kw - 1e-6
        if tick % 5 == 0:
            fleet = fleet_sample(3, power_kw=told, age_s=now_s - heard_s)
            snap = Snapshot(mono_s=now_s, now_s=now_s, meter=None, fleet=fleet)
            state, _, _, _ = guard.clamp(
                wish, rest, np.arange(3.0), snap, Verdict(True, import_kw, import_kw), needs.assess(table, fleet, rules, 0.5),
                table, limits, state, guard.GuardSettings(), rules, 0.5,
            )  # fmt: skip


@given(st.lists(st.tuples(st.floats(-30.0, 30.0), st.sampled_from([0.2, 0.5, 5.0])), min_size=2, max_size=40), SEEDS)
@settings(max_examples=100, deadline=None)
def test_ramp_and_hold_over_time(wishes: list[tuple[float, float]], seed: int) -> None:
    """I5 and I6 as a trace: moves away from zero within the ramp, changes of direction spaced by the hold time."""
    rng = np.random.default_rng(seed)
    table = evse_table(1, ramp_kw_per_s=float(rng.choice([1.0, 5.0])), hold_s=float(rng.choice([0.0, 8.0])))
    fleet = fleet_sample(1)
    state, now_s, last_kw, turned = guard.fresh(1), 0.0, 0.0, list[tuple[float, float]]()
    for wish, dt_s in wishes:
        now_s += dt_s
        snap = Snapshot(mono_s=now_s, now_s=now_s, meter=None, fleet=fleet)
        need = needs.assess(table, fleet, needs.NeedSettings(), dt_s)
        state, setpoint, _, _ = guard.clamp(
            np.array([wish]), np.zeros(1, dtype=np.uint8), np.zeros(1), snap, Verdict(True, 500.0, 500.0), need, table,
            SiteLimits(transformer_kw=1e3), state, guard.GuardSettings(), needs.NeedSettings(), dt_s,
        )  # fmt: skip
        power = float(setpoint[0])
        same_way = abs(last_kw) if power * last_kw > 0.0 else 0.0
        assert abs(power) <= same_way + float(table.ramp_kw_per_s[0]) * dt_s + 1e-6
        if power != 0.0 and (not turned or turned[-1][1] * power < 0.0):
            assert not turned or now_s - turned[-1][0] >= table.hold_s[0] - 1e-9
            turned.append((now_s, power))
        last_kw = power


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(), st.sampled_from(Quality), NASTY | st.floats(0.0, 1.0), st.booleans(),
            st.sampled_from(FLEET_NUMBERS), NASTY | st.floats(), NASTY | st.floats(0.0, 900.0),
        ),
        min_size=1, max_size=8,
    )
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_the_whole_cycle_is_total_and_recovers(rows: list[Any]) -> None:
    """Any rubbish for some cycles: always finite, never a discharge without belief; and good input is followed again after it."""
    here = LeapingSite(site_settings()).believed()
    good = here.fleet
    for power, quality, error_rate, estop, name, value, clock in rows:
        here.after(seconds=0.5)
        sample = None if power is None else MeterSample(here.mono_s, power, quality, clock)
        here.fleet = structs.replace(good, **{name: spoilt(getattr(good, name), 1, value)})
        leap = clock if abs(clock) < 1e6 or not math.isfinite(clock) else 0.0
        told = here.decide(None, meter=sample, meter_error_rate=error_rate, now_s=here.mono_s + leap, estop=estop)
        assert np.all(np.isfinite(told.setpoint_kw))
        assert told.state == "ok" or np.all(told.setpoint_kw >= 0.0)
    here.fleet = good
    here.state = site.clear_estop(here.state)
    here.state = structs.replace(here.state, meter=structs.replace(here.state.meter, sign_fault=False))
    for k in range(60):
        here.after(seconds=0.5)
        told = here.decide(700.0 + 0.1 * k)
    assert told.state == "ok"
    assert math.isfinite(told.allow_kw)
    assert math.isfinite(told.uncontrolled_kw)
    assert np.isfinite(here.state.peak.mean_kw)


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_what_was_seen_before_and_what_is_seen_now_decide_alike(seed: int) -> None:
    here = case(seed)
    need = needs.assess(here.table, here.snapshot.fleet, guard_cases.NEED, here.cycle_s)
    reason = np.full(here.table.size, Reason.SHAVING, dtype=np.uint8)
    seen = guard.look(here.snapshot.fleet, here.table, guard_cases.GUARD)
    _, setpoint, told, codes = guard.clamp(
        here.wish_kw, reason, here.rank, here.snapshot, here.verdict, need, here.table, here.limits, here.state,
        guard_cases.GUARD, guard_cases.NEED, here.cycle_s, here.permit, seen,
    )  # fmt: skip
    _, own_setpoint, own_told, own_codes = here.clamp()
    np.testing.assert_array_equal(setpoint, own_setpoint)
    np.testing.assert_array_equal(told, own_told)
    assert codes == own_codes


@given(
    st.lists(st.tuples(NASTY | st.floats(-1e6, 1e6), NASTY | st.floats(0.0, 50.0), NASTY), min_size=1, max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_what_is_in_whole_steps_stays_as_it_is(rows: list[tuple[float, float, float]]) -> None:
    """To the last bit: a second time is left out where nothing was cut in between."""
    power, step_kw, least_kw = (np.array(column) for column in zip(*rows, strict=True))
    cut = guard._Cut(np.where(np.isfinite(power), power, 0.0).clip(-1e6, 1e6), np.zeros(power.size, dtype=np.uint8))
    table = evse_table(power.size, step_kw=step_kw, least_kw=least_kw)
    guard._quantise(cut, table)
    once = cut.power_kw
    guard._quantise(cut, table)
    np.testing.assert_array_equal(cut.power_kw, once)
