"""When the site meter is believed: each way of failing, the way back, and a month without a false alarm."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.control import meter
from gridtide.control.meter import MeterSettings, MeterState, Verdict
from gridtide.model.decision import MeterSample, Quality

RULES = MeterSettings()
RATED_KW = 200.0


class Watched:
    """A meter under watch, one reading every 0.5 s."""

    def __init__(self) -> None:
        self.state, self.now_s, self.events = MeterState(), 0.0, list[str]()

    def see(
        self,
        power_kw: float | None,
        fleet_kw: float = 0.0,
        *,
        quality: Quality = Quality.GOOD,
        error_rate: float = 0.0,
        after_s: float = 0.5,
        given_kw: float = 0.0,
        rules: MeterSettings = RULES,
    ) -> Verdict:
        """One cycle; None repeats no sample at all."""
        self.now_s += after_s
        sample = None if power_kw is None else MeterSample(self.now_s, power_kw, quality)
        self.state, verdict = meter.watch(
            self.state, sample, self.now_s, fleet_kw, RATED_KW, error_rate, rules, given_kw
        )
        self.events += verdict.events
        return verdict

    def believed(self) -> "Watched":
        """Three good, varying samples."""
        for power_kw in (300.0, 301.0, 302.0):
            self.see(power_kw)
        assert self.see(303.0).trusted
        assert self.events == []
        return self


def test_belief_takes_three_good_varying_samples() -> None:
    watched = Watched()
    assert [watched.see(power).trusted for power in (300.0, 300.0, 301.0, 301.0, 302.0)] == [False] * 4 + [True]


@pytest.mark.parametrize("quality", [Quality.LOST, None])
def test_a_silent_meter_is_stale_after_a_second(quality: Quality | None) -> None:
    watched = Watched().believed()
    seen = [watched.see(None) if quality is None else watched.see(300.0, quality=quality) for _ in range(4)]
    assert [v.trusted for v in seen] == [True, True, False, False]  # 0.5 s, 1.0 s, 1.5 s
    assert watched.events == ["meter_stale"]
    assert seen[-1].power_kw == 303.0  # the last good reading stays known


@pytest.mark.parametrize("power_kw", [math.nan, math.inf, -math.inf, 1e9, -1e9])
def test_an_impossible_value_is_as_lost(power_kw: float) -> None:
    watched = Watched().believed()
    seen = [watched.see(power_kw) for _ in range(4)]
    assert [v.trusted for v in seen] == [True, True, False, False]
    assert {v.power_kw for v in seen} == {303.0}
    assert watched.events == ["meter_invalid", "meter_stale"]


def test_an_answer_marked_invalid_is_told_and_one_marked_lost_is_not() -> None:
    watched = Watched().believed()
    watched.see(300.0, quality=Quality.INVALID)
    assert watched.events == ["meter_invalid"]


def test_a_sample_from_nowhere_in_time_is_refused() -> None:
    watched = Watched().believed()
    for at_s in (math.nan, math.inf):
        state, _ = meter.watch(watched.state, MeterSample(at_s, 1.0), watched.now_s, 0.0, RATED_KW, 0.0, RULES)
        assert state.recent_kw == watched.state.recent_kw


def test_a_sample_taken_before_the_last_is_refused() -> None:
    watched = Watched().believed()
    late = MeterSample(watched.now_s - 0.2, 999.0)
    state, verdict = meter.watch(watched.state, late, watched.now_s, 0.0, RATED_KW, 0.0, RULES)
    assert verdict.power_kw == 303.0
    assert state.at_s == watched.state.at_s


def test_it_comes_back_after_three_good_varying_samples() -> None:
    watched = Watched().believed()
    for _ in range(4):
        watched.see(None)
    assert [watched.see(power).trusted for power in (310.0, 310.0, 311.0, 312.0)] == [False, False, False, True]
    assert watched.events == ["meter_stale", "meter_back"]


def test_a_value_that_stands_while_the_fleet_moves_is_frozen() -> None:
    watched = Watched().believed()
    seen = [watched.see(303.0, fleet_kw=-20.0) for _ in range(24)]
    trusted_s = 0.5 * sum(v.trusted for v in seen)
    assert 9.0 <= trusted_s <= 10.0
    assert watched.events == ["meter_frozen"]
    assert [watched.see(power, -20.0).trusted for power in (290.0, 291.0, 292.0)] == [False, False, True]
    assert watched.events == ["meter_frozen", "meter_back"]


@pytest.mark.parametrize("fleet_kw", [0.0, -9.0, 9.0])
def test_a_value_that_stands_while_the_fleet_stands_is_believed(fleet_kw: float) -> None:
    watched = Watched().believed()
    assert all(watched.see(303.0, fleet_kw=fleet_kw).trusted for _ in range(200))


def test_a_swapped_current_transformer_is_found_in_three_steps_and_latched() -> None:
    watched = Watched().believed()
    fleet_kw, seen = 0.0, []
    for _ in range(3):
        fleet_kw -= 30.0
        seen.append(watched.see(303.0 - fleet_kw, fleet_kw))  # the meter rises when the fleet gives
    assert [v.trusted for v in seen] == [True, True, False]
    assert watched.events == ["meter_sign"]
    assert not any(watched.see(400.0 + k, fleet_kw).trusted for k in range(20))  # stays until a person corrects it
    watched.state = meter.acknowledge_sign(watched.state)
    assert watched.see(300.0, fleet_kw).trusted
    assert watched.events == ["meter_sign", "meter_back"]


def test_reverse_power_that_nobody_gives_is_a_wrong_sign_after_three_seconds() -> None:
    """Vehicles that only charge move too little for the test of steps."""
    watched = Watched().believed()
    assert sum(watched.see(-300.0 - k).trusted for k in range(20)) == 6
    assert watched.events == ["meter_sign"]
    assert not watched.see(300.0).trusted  # stays until a person corrects it
    watched.state = meter.acknowledge_sign(watched.state)
    assert watched.see(301.0).trusted
    assert sum(watched.see(-300.0 - k).trusted for k in range(20)) == 6  # and is found again if it was not corrected


@pytest.mark.parametrize(("given_kw", "generation_kw"), [(50.0, 0.0), (0.0, 50.0), (25.0, 25.0)])
def test_reverse_power_that_vehicles_or_generators_explain_is_believed(given_kw: float, generation_kw: float) -> None:
    rules = MeterSettings(generation_kw=generation_kw)
    watched = Watched().believed()
    assert all(watched.see(-50.0 - k / 100, given_kw=given_kw, rules=rules).trusted for k in range(50))
    assert sum(watched.see(-57.5 - k / 100, given_kw=given_kw, rules=rules).trusted for k in range(50)) <= 7


def test_a_vehicle_that_has_just_stopped_still_explains_reverse_power() -> None:
    watched = Watched().believed()
    watched.see(-30.0, given_kw=30.0)
    assert all(watched.see(-30.0 - k / 100).trusted for k in range(6))
    assert watched.see(5.0).trusted
    assert watched.events == []


def test_steps_that_agree_in_between_clear_the_strikes() -> None:
    watched = Watched().believed()
    fleet_kw, meter_kw = 0.0, 303.0
    for k in range(12):
        fleet_kw -= 30.0
        meter_kw += -30.0 if k % 3 == 2 else 30.0
        assert watched.see(meter_kw, fleet_kw).trusted


def test_a_single_spike_moves_only_what_may_fall() -> None:
    watched = Watched().believed()
    up = watched.see(900.0)
    assert (up.power_kw, up.low_kw) == (900.0, 303.0)
    down = watched.see(100.0)
    assert (down.power_kw, down.low_kw) == (100.0, 100.0)  # less import: at once
    watched.see(900.0)
    assert watched.see(901.0).low_kw == 900.0  # two samples are no spike


@pytest.mark.parametrize(("rate", "trusted"), [(0.0, True), (0.10, True), (0.11, False), (math.nan, False)])
def test_too_many_failed_reads_end_the_belief(rate: float, trusted: bool) -> None:
    watched = Watched().believed()
    assert watched.see(304.0, error_rate=rate).trusted is trusted
    assert watched.events == ([] if trusted else ["meter_errors"])
    assert watched.see(305.0).trusted is trusted  # the way back takes three samples


def noisy_building(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A month of minute means: days, slow drift, noise and bursts to 12 %."""
    minutes = np.arange(steps)
    level = 380.0 + 150.0 * np.clip(np.sin((minutes / 1440.0 - 0.3) * 2.0 * np.pi), -0.6, 1.0)
    drift = np.interp(minutes / 30.0, np.arange(steps // 30 + 2), rng.normal(0.0, 0.04, steps // 30 + 2))
    bursts = (rng.random(steps) < 0.04) * rng.uniform(0.03, 0.12, steps)
    return np.asarray(level * (1.0 + drift + rng.normal(0.0, 0.03, steps) + bursts))


def fleets(rng: np.random.Generator, building: np.ndarray) -> dict[str, np.ndarray]:
    """Fleets that follow the building with a lag, charge in blocks, or do both."""
    lagged = np.concatenate([[building[0]], building[:-1]])
    shaving = -np.clip(lagged - 450.0, 0.0, 110.0)
    charging = np.repeat(rng.choice([0.0, 22.0, 66.0, 150.0], building.size // 45 + 1), 45)[: building.size]
    return {"shaving": shaving, "charging": charging, "filling": np.clip(480.0 - lagged, -110.0, 90.0)}


@pytest.mark.parametrize("kind", ["shaving", "charging", "filling"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_month_of_a_noisy_building_raises_no_false_alarm(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    building = noisy_building(rng, 30 * 1440)
    fleet = fleets(rng, building)[kind]
    watched = Watched()
    for load, moved in zip(building, fleet, strict=True):
        watched.see(round(float(load + moved), 3), float(moved), after_s=60.0)
    assert watched.events == []


@given(st.lists(st.tuples(st.floats(), st.floats(), st.sampled_from(Quality), st.floats()), max_size=20))
@settings(max_examples=100, deadline=None)
def test_only_a_finite_reading_is_ever_trusted(rows: list[tuple[float, float, Quality, float]]) -> None:
    watched = Watched()
    for power_kw, fleet_kw, quality, error_rate in rows:
        verdict = watched.see(power_kw, fleet_kw, quality=quality, error_rate=error_rate)
        if verdict.trusted:
            assert math.isfinite(verdict.power_kw)
            assert math.isfinite(verdict.low_kw)
            assert verdict.low_kw <= verdict.power_kw
