"""The demand clock against the oracle cases of the reference, block and rolling, with gaps, restarts and period ends."""

import math
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.control import demand_clock
from gridtide.control.demand_clock import DemandState, advance, allow_kw, projected_kw
from gridtide.model.demand import DemandInterval

BLOCK = DemandInterval()
ROLLING = DemandInterval(900.0, 3)


def run(
    samples: list[tuple[float, float]],
    interval: DemandInterval = BLOCK,
    state: DemandState | None = None,
    **more: float,
) -> tuple[DemandState, list[demand_clock.Closed]]:
    """Feed (instant, mean power since the last sample) pairs; returns the state and all intervals that ended."""
    state, closed = state or DemandState(), list[demand_clock.Closed]()
    for at_s, power_kw in samples:
        state, ended = advance(state, interval, at_s, power_kw, **more)
        closed += ended
    return state, closed


def second_by_second(until_s: int, load: "list[float] | float") -> list[tuple[float, float]]:
    """One sample a second from 0; the sample at s is the mean of the second before."""
    powers = load if isinstance(load, list) else [load] * until_s
    return [(0.0, 0.0)] + [(float(s + 1), powers[s]) for s in range(until_s)]


def test_allow_follows_the_oracle() -> None:
    state, _ = run(second_by_second(600, 480.0))  # 80 kWh in 600 s
    assert state.energy_kws / 3600.0 == pytest.approx(80.0)
    assert allow_kw(state, BLOCK, 500.0) == pytest.approx(540.0)
    assert allow_kw(state, BLOCK, 500.0 * 0.95) == pytest.approx(465.0)


@pytest.mark.parametrize(
    ("base_kw", "burst_kw", "burst_s", "average_kw"),
    [(470.0, 620.0, 60, 480.0), (455.0, 800.0, 180, 524.0)],
)
def test_bursts_average_as_the_oracle_says(base_kw: float, burst_kw: float, burst_s: int, average_kw: float) -> None:
    load = [base_kw] * 400 + [burst_kw] * burst_s + [base_kw] * (500 - burst_s)
    _, closed = run(second_by_second(900, load))
    assert [c.end_s for c in closed] == [900.0]
    assert closed[0].average_kw == pytest.approx(average_kw)


def test_a_sample_across_the_border_is_split_at_it() -> None:
    state, closed = run([(0.0, 0.0), (898.0, 100.0), (902.0, 600.0)], gap_s=1000.0)
    assert closed[0].average_kw == pytest.approx((898.0 * 100.0 + 2.0 * 600.0) / 900.0)
    assert state.energy_kws == pytest.approx(1200.0)


def test_export_counts_as_zero_import() -> None:
    _, closed = run(second_by_second(900, [200.0] * 450 + [-200.0] * 450))
    assert closed[0].average_kw == pytest.approx(100.0)


def test_rolling_closes_a_window_each_sub_interval_once_full() -> None:
    load = [100.0] * 300 + [400.0] * 300 + [700.0] * 300 + [1000.0] * 300
    state, closed = run(second_by_second(1200, load), ROLLING)
    assert [c.end_s for c in closed] == [900.0, 1200.0]
    assert [c.average_kw for c in closed] == pytest.approx([400.0, 700.0])
    assert state.peak_kw == pytest.approx(700.0)


def test_rolling_allow_is_the_least_of_all_windows_that_hold_now() -> None:
    state, _ = run(second_by_second(700, [700.0] * 300 + [300.0] * 300 + [300.0] * 100), ROLLING)
    # Ending at 900: (450000 - 700*300 - 300*400)/200; at 1200: (450000 - 300*400)/500; at 1500: (450000 - 300*100)/800.
    assert allow_kw(state, ROLLING, 500.0) == pytest.approx(min(600.0, 660.0, 525.0))


def test_a_gap_is_filled_from_the_register() -> None:
    state, _ = advance(DemandState(), BLOCK, 0.0, 100.0, register_kwh=1000.0)
    state, _ = advance(state, BLOCK, 600.0, 100.0, register_kwh=1050.0)
    assert state.energy_kws == pytest.approx(50.0 * 3600.0)


@pytest.mark.parametrize("register", [None, 900.0, math.nan, math.inf], ids=["none", "reset", "nan", "inf"])
def test_a_gap_without_a_usable_register_is_bounded_by_the_higher_power(register: float | None) -> None:
    state, _ = advance(DemandState(), BLOCK, 0.0, 100.0, register_kwh=1000.0)
    after, _ = advance(state, BLOCK, 600.0, 350.0, register_kwh=register)
    assert after.energy_kws == pytest.approx(600.0 * 350.0)
    falling, _ = advance(state, BLOCK, 600.0, 20.0, register_kwh=register)
    assert falling.energy_kws == pytest.approx(600.0 * 100.0)


def test_a_short_span_takes_the_new_mean_not_the_bound() -> None:
    state, _ = run([(0.0, 500.0), (5.0, 100.0)])
    assert state.energy_kws == pytest.approx(500.0)


@pytest.mark.parametrize("interval", [BLOCK, ROLLING], ids=["block", "rolling"])
@pytest.mark.parametrize("cut", [0, 1, 317, 899, 900, 1250])
def test_a_restart_inside_an_interval_loses_nothing(interval: DemandInterval, cut: int) -> None:
    samples = second_by_second(2000, [300.0 + (s * 37) % 211 for s in range(2000)])
    straight, closed = run(samples, interval)
    first, before = run(samples[:cut], interval)
    stored = msgspec.json.decode(msgspec.json.encode(first), type=DemandState)
    assert stored == first
    resumed, after = run(samples[cut:], interval, stored)
    assert resumed == straight
    assert before + after == closed


def test_a_new_period_resets_the_peak_and_keeps_it_for_the_ratchet() -> None:
    state, _ = run([(0.0, 0.0), (900.0, 600.0)], gap_s=1000.0, period_start_s=0.0)
    assert demand_clock.floor_kw(state, 0.8) == pytest.approx(600.0)
    state, closed = run([(1800.0, 400.0), (2700.0, 300.0)], state=state, gap_s=1000.0, period_start_s=1800.0)
    assert [c.average_kw for c in closed] == [400.0, 300.0]
    assert state.past_peaks_kw == (600.0,)  # the interval that ends at the border belongs to the old period
    assert state.peak_kw == 300.0
    assert demand_clock.floor_kw(state, 0.0) == 300.0
    assert demand_clock.floor_kw(state, 0.8) == pytest.approx(480.0)


def test_the_ratchet_forgets_after_twelve_periods() -> None:
    state = DemandState()
    for month in range(15):
        power = 900.0 if month == 0 else 100.0
        state, _ = run([(900.0 * month, power), (900.0 * (month + 1), power)], state=state, gap_s=1e6,
                       period_start_s=900.0 * month)  # fmt: skip
    assert len(state.past_peaks_kw) == demand_clock.RATCHET_PERIODS
    assert 900.0 not in state.past_peaks_kw


@pytest.mark.parametrize("day", ["2025-03-30", "2025-10-26"])
def test_daylight_saving_never_changes_an_interval(day: str) -> None:
    zone = ZoneInfo("Europe/Brussels")
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    begin_s, end_s = start.timestamp(), (start + timedelta(days=1)).timestamp()
    assert end_s - begin_s != 86_400.0
    steps = round((end_s - begin_s) / 60.0)
    _, closed = run([(begin_s + 60.0 * k, 240.0) for k in range(steps + 1)], gap_s=100.0)
    assert len(closed) == round((end_s - begin_s) / 900.0)
    assert {c.average_kw for c in closed} == {240.0}
    assert {c.end_s % 900.0 for c in closed} == {0.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_change_nothing(bad: float) -> None:
    state, _ = run([(0.0, 100.0), (1.0, 100.0)])
    assert advance(state, BLOCK, bad, 100.0) == (state, ())
    assert advance(state, BLOCK, 2.0, bad) == (state, ())
    assert advance(DemandState(), BLOCK, bad, 100.0) == (DemandState(), ())


def test_a_clock_that_steps_back_a_little_counts_nothing_twice() -> None:
    state, _ = run([(0.0, 100.0), (100.0, 100.0)], gap_s=200.0)
    assert advance(state, BLOCK, 99.0, 100.0) == (state, ())


@pytest.mark.parametrize("leap_s", [-7200.0, 40 * 86_400.0, 1e12])
def test_a_clock_that_was_set_anew_starts_a_new_interval_and_keeps_the_peak(leap_s: float) -> None:
    state, _ = run([(0.0, 400.0), (900.0, 400.0), (1000.0, 400.0)], gap_s=1000.0)
    moved, closed = advance(state, BLOCK, 1000.0 + leap_s, 300.0)
    assert closed == ()
    assert (moved.at_s, moved.peak_kw) == (1000.0 + leap_s, 400.0)
    assert moved.sub_start_s <= moved.at_s < moved.sub_start_s + BLOCK.sub_s
    assert advance(moved, BLOCK, moved.at_s + 1.0, 300.0)[0].energy_kws >= 300.0


def test_a_month_switched_off_still_closes_the_old_period() -> None:
    state, _ = run([(0.0, 400.0), (900.0, 400.0)], gap_s=1000.0, period_start_s=0.0)
    month_s = 40 * 86_400.0
    state, _ = run([(month_s, 100.0), (month_s + 900.0, 100.0), (month_s + 1800.0, 100.0)], state=state, gap_s=1000.0,
                   period_start_s=month_s - 9000.0)  # fmt: skip
    assert state.past_peaks_kw == (400.0,)
    assert state.peak_kw == pytest.approx(100.0)


POWERS = st.floats(-200.0, 900.0)


@given(st.lists(st.tuples(st.integers(1, 400), POWERS), min_size=1, max_size=30), st.data())
@settings(max_examples=60, deadline=None)
def test_energy_is_conserved_under_any_split(spans: list[tuple[int, float]], data: st.DataObject) -> None:
    coarse, fine, at_s = [(0.0, 0.0)], [(0.0, 0.0)], 0.0
    for span_s, power_kw in spans:
        cuts = sorted(data.draw(st.sets(st.integers(1, span_s), max_size=4)) - {span_s})
        fine += [(at_s + cut, power_kw) for cut in cuts]
        at_s += span_s
        coarse.append((at_s, power_kw))
        fine.append((at_s, power_kw))
    one, closed_one = run(coarse, gap_s=1e6)
    two, closed_two = run(fine, gap_s=1e6)
    assert [c.end_s for c in closed_one] == [c.end_s for c in closed_two]
    assert two.energy_kws == pytest.approx(one.energy_kws, abs=1e-6)
    total = sum(c.average_kw * 900.0 for c in closed_two) + two.energy_kws
    assert total == pytest.approx(sum(max(p, 0.0) * s for s, p in spans), abs=1e-5)


@given(st.lists(POWERS, min_size=1, max_size=40), st.sampled_from([BLOCK, ROLLING]), st.floats(100.0, 800.0))
@settings(max_examples=80, deadline=None)
def test_running_at_the_allowed_power_ends_exactly_at_the_limit(
    powers: list[float], interval: DemandInterval, limit_kw: float
) -> None:
    samples = [(0.0, 0.0)] + [(61.0 * (k + 1), power) for k, power in enumerate(powers)]
    state, _ = run(samples, interval, gap_s=100.0)
    allow = allow_kw(state, interval, limit_kw)
    windows = demand_clock.windows(state, interval)
    ends = [(energy + allow * left) / interval.length_s for energy, left in windows]
    assert max(ends) == pytest.approx(limit_kw, rel=1e-9)  # the tightest window ends at the limit, no other above it
    if not interval.rolling:
        assert projected_kw(state, interval, max(allow, 0.0)) >= limit_kw - 1e-6
