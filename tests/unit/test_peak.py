"""The peak rule on single blocks and on a day: harmless bursts stay untouched, debts are paid back, charging makes no peak."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from gridtide.control import demand_clock, peak
from gridtide.control.demand_clock import DemandState
from gridtide.control.peak import FleetRoom, LoadNow, PeakSettings, PeakState
from gridtide.model.demand import DemandInterval

BLOCK = DemandInterval()
PLENTY = FleetRoom(110.0, 1000.0)


class Played(Struct, frozen=True, eq=False):
    """What a load left behind under the rule, second by second."""

    blocks_kw: list[float]
    discharge_kw: np.ndarray
    charge_kw: np.ndarray

    @property
    def spent_kwh(self) -> float:
        """Energy the fleet gave."""
        return float(self.discharge_kw.sum()) / 3600.0


def play(
    load_kw: np.ndarray,
    rule: PeakSettings,
    fleet: FleetRoom = PLENTY,
    *,
    interval: DemandInterval = BLOCK,
    hungry_kw: float = 0.0,
) -> Played:
    """An ideal fleet follows the rule at 1 s and charges with all the room it is given, up to `hungry_kw`."""
    state, clock = PeakState(), demand_clock.advance(DemandState(), interval, 0.0, float(load_kw[0]))[0]
    blocks: list[float] = []
    given, taken = np.zeros(load_kw.size), np.zeros(load_kw.size)
    for k, load in enumerate(load_kw):
        state, plan = peak.step(state, clock, interval, LoadNow(float(load), float(load)), fleet, 1.0, rule)
        given[k] = min(plan.discharge_kw, fleet.power_kw)
        taken[k] = min(plan.charge_room_kw, hungry_kw)
        assert given[k] == 0.0 or taken[k] == 0.0
        clock, closed = demand_clock.advance(clock, interval, k + 1.0, float(load) - given[k] + taken[k])
        blocks += [item.average_kw for item in closed]
    return Played(blocks, given, taken)


def burst(base_kw: float, high_kw: float, length_s: int, at_s: int = 300) -> np.ndarray:
    """Two quiet blocks, then one with a burst, then a quiet one."""
    load = np.full(3600, base_kw)
    load[1800 + at_s : 1800 + at_s + length_s] = high_kw
    return load


@pytest.mark.parametrize("at_s", [0, 300, 600, 840])
def test_a_burst_the_block_can_absorb_costs_nothing(at_s: int) -> None:
    played = play(burst(470.0, 620.0, 60, at_s), PeakSettings())
    assert played.blocks_kw[2] == pytest.approx(480.0, abs=1.0)
    assert played.spent_kwh < 0.2  # a threshold rule at limit - 50 spends 11.5 kWh here


def test_a_burst_above_the_fleet_is_paid_back_within_the_block() -> None:
    load = burst(455.0, 800.0, 180)
    assert play(load, PeakSettings(mode="off")).blocks_kw[2] == pytest.approx(524.0)
    held = play(load, PeakSettings())
    assert held.blocks_kw[2] <= 500.0
    after = held.discharge_kw[1800 + 480 : 2700]
    assert after.max() > 0.0  # goes on giving after the burst is over


def test_without_margins_the_bare_budget_ends_at_the_limit() -> None:
    bare = PeakSettings(margin=0.0, early_margin=0.0, reserve_s=0.0, sigmas=0.0, burst_s=0.0)
    assert play(burst(455.0, 800.0, 180), bare).blocks_kw[2] == pytest.approx(500.0, abs=0.5)


def test_the_threshold_at_the_limit_loses_that_block() -> None:
    lost = play(burst(455.0, 800.0, 180), PeakSettings(mode="threshold", buffer_kw=0.0))
    assert lost.blocks_kw[2] == pytest.approx(502.0, abs=0.1)


@pytest.mark.parametrize(
    ("load_kw", "discharge_kw", "room_kw"),
    [(400.0, 0.0, 50.0), (450.0, 0.0, 0.0), (451.0, 1.0, 0.0), (700.0, 250.0, 0.0)],
)
def test_threshold_gives_what_exceeds_limit_less_buffer(load_kw: float, discharge_kw: float, room_kw: float) -> None:
    rule = PeakSettings(mode="threshold", limit_kw=500.0, buffer_kw=50.0)
    _, plan = peak.step(PeakState(), DemandState(), BLOCK, LoadNow(load_kw, load_kw), PLENTY, 0.5, rule)
    assert (plan.discharge_kw, plan.charge_room_kw) == (discharge_kw, room_kw)


def test_threshold_is_asymmetric_about_a_spike() -> None:
    rule = PeakSettings(mode="threshold")
    _, plan = peak.step(PeakState(), DemandState(), BLOCK, LoadNow(low_kw=440.0, high_kw=600.0), PLENTY, 0.5, rule)
    assert (plan.discharge_kw, plan.charge_room_kw) == (0.0, 0.0)


def test_off_asks_nothing_and_allows_everything() -> None:
    _, plan = peak.step(PeakState(), DemandState(), BLOCK, LoadNow(900.0, 900.0), PLENTY, 0.5, PeakSettings(mode="off"))
    assert (plan.discharge_kw, plan.charge_room_kw) == (0.0, math.inf)


def late_in_the_block(energy_share: float, t_s: float = 700.0, limit_kw: float = 500.0) -> DemandState:
    """A clock `t_s` into a block that used this share of the whole budget."""
    return DemandState(at_s=t_s, power_kw=500.0, sub_start_s=0.0, energy_kws=energy_share * limit_kw * 900.0)


@pytest.mark.parametrize(("load_kw", "starts"), [(440.0, False), (449.9, False), (450.1, True), (480.0, True)])
def test_the_buffer_gates_the_start(load_kw: float, starts: bool) -> None:
    clock = late_in_the_block(0.97)  # 27 kWh less 3 % left for 200 s: heading far above the limit
    _, plan = peak.step(
        PeakState(mean_kw=load_kw), clock, BLOCK, LoadNow(load_kw, load_kw), PLENTY, 0.5, PeakSettings()
    )
    assert (plan.discharge_kw > 0.0) is starts


def test_what_has_begun_goes_on_below_the_gate() -> None:
    state = PeakState(mean_kw=430.0, active=True)
    after, plan = peak.step(state, late_in_the_block(0.97), BLOCK, LoadNow(430.0, 430.0), PLENTY, 0.5, PeakSettings())
    assert plan.discharge_kw > 0.0
    assert after.active
    done, plan = peak.step(after, late_in_the_block(0.2), BLOCK, LoadNow(430.0, 430.0), PLENTY, 0.5, PeakSettings())
    assert plan.discharge_kw == 0.0
    assert not done.active


def test_the_limit_is_the_peak_that_is_billed_anyway() -> None:
    clock = DemandState(at_s=10.0, sub_start_s=0.0, peak_kw=530.0, past_peaks_kw=(700.0,))
    rule = PeakSettings(ratchet=0.8)
    assert peak.step(PeakState(), clock, BLOCK, LoadNow(1.0, 1.0), PLENTY, 0.5, rule)[1].limit_kw == pytest.approx(
        560.0
    )
    assert peak.step(PeakState(), clock, BLOCK, LoadNow(1.0, 1.0), PLENTY, 0.5, PeakSettings())[1].limit_kw == 530.0


@pytest.mark.parametrize("interval", [BLOCK, DemandInterval(900.0, 3)], ids=["block", "rolling"])
@pytest.mark.parametrize("mode", ["budget", "threshold"])
def test_all_recharging_at_once_makes_no_new_peak(interval: DemandInterval, mode: str) -> None:
    load = np.concatenate([np.full(1800, 560.0), np.full(3600, 300.0), np.full(1800, 480.0)])
    played = play(load, PeakSettings(mode=mode), interval=interval, hungry_kw=2000.0)  # type: ignore[arg-type]
    assert max(played.blocks_kw) <= 500.0 + 1e-6
    assert played.charge_kw.max() > 100.0  # and it did recharge


def test_a_new_level_of_the_load_is_no_endless_burst() -> None:
    load = np.concatenate([np.full(1300, 200.0), np.full(2300, 600.0), np.full(1800, 300.0)])
    played = play(load, PeakSettings())
    assert max(played.blocks_kw) <= 500.0
    assert played.discharge_kw[3600 + 300 :].max() == 0.0  # and the way down is seen as well


def test_with_little_energy_left_no_insurance_is_bought() -> None:
    learned = PeakState(mean_kw=470.0, variance=1.0, height_kw=150.0, height_var=100.0)
    clock = late_in_the_block(0.866, t_s=780.0)
    load = LoadNow(470.0, 470.0)
    _, rich = peak.step(learned, clock, BLOCK, load, FleetRoom(60.0, 500.0), 0.5, PeakSettings())
    _, poor = peak.step(learned, clock, BLOCK, load, FleetRoom(60.0, 1.0), 0.5, PeakSettings())
    assert poor.discharge_kw < rich.discharge_kw


LOADS = st.floats(-300.0, 3000.0)


@given(
    st.lists(LOADS, min_size=1, max_size=60), st.floats(0.0, 500.0), st.floats(0.0, 1000.0),
    st.sampled_from(["budget", "threshold"]), st.sampled_from([0.5, 1.0, 60.0]), st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_every_plan_is_finite_and_not_negative(
    loads: list[float], power_kw: float, energy_kwh: float, mode: str, dt_s: float, sub_intervals: int
) -> None:
    interval, rule = DemandInterval(900.0, sub_intervals), PeakSettings(mode=mode)  # type: ignore[arg-type]
    state, clock = PeakState(), demand_clock.advance(DemandState(), interval, 880.0, 0.0)[0]
    for k, load in enumerate(loads):
        clock, _ = demand_clock.advance(clock, interval, 880.0 + (k + 1) * dt_s, load)
        state, plan = peak.step(
            state, clock, interval, LoadNow(load, load), FleetRoom(power_kw, energy_kwh), dt_s, rule
        )
        assert 0.0 <= plan.discharge_kw < math.inf
        assert 0.0 <= plan.charge_room_kw < math.inf
        assert math.isfinite(plan.allow_kw)
        assert math.isfinite(state.mean_kw)
        assert state.variance >= 0.0
        assert state.height_var >= 0.0
