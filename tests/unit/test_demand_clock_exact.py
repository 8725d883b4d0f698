"""The demand clock to the last digit: borders, what is stored, and every figure that the planner and the page read from it."""

import pytest
from msgspec import structs

from gridtide.control import demand_clock
from gridtide.control.demand_clock import NEVER_S, Closed, DemandState, advance
from gridtide.model.demand import DemandInterval

BLOCK = DemandInterval()
ROLLING = DemandInterval(900.0, 3)
DAY_S = 86_400.0


def running(**changes: float | tuple[float, ...] | None) -> DemandState:
    """100 s into the block that began at 9000 s, at 200 kW, with the period begun at 0."""
    state = DemandState(
        at_s=9100.0, power_kw=200.0, sub_start_s=9000.0, energy_kws=20_000.0, register_kwh=50.0, period_start_s=0.0,
        peak_kw=150.0,
    )  # fmt: skip
    return structs.replace(state, **changes)


def test_the_first_sample_counts_from_the_border_within_one_gap() -> None:
    state, closed = advance(DemandState(), BLOCK, 9005.0, 40.0, register_kwh=7.0, period_start_s=100.0)
    assert closed == ()
    assert state == DemandState(
        at_s=9005.0, power_kw=40.0, sub_start_s=9000.0, energy_kws=200.0, register_kwh=7.0, period_start_s=100.0
    )
    assert advance(DemandState(), BLOCK, 9005.5, 40.0)[0].energy_kws == 0.0  # later it is not known what ran before
    assert advance(DemandState(), BLOCK, 9012.0, 40.0, gap_s=12.0)[0].energy_kws == 480.0
    assert advance(DemandState(), BLOCK, 9002.0, -40.0)[0].energy_kws == 0.0
    assert advance(DemandState(), BLOCK, 9002.0, 0.5)[0].energy_kws == 1.0


def test_every_sample_is_kept_whole() -> None:
    after, closed = advance(running(), BLOCK, 9103.0, 80.0, register_kwh=51.0, period_start_s=0.0)
    assert closed == ()
    assert after == running(at_s=9103.0, power_kw=80.0, energy_kws=20_240.0, register_kwh=51.0)


@pytest.mark.parametrize("register", [float("nan"), float("inf"), None])
def test_a_register_that_is_no_number_is_not_kept(register: float | None) -> None:
    assert advance(running(), BLOCK, 9103.0, 80.0, register_kwh=register)[0].register_kwh is None


def test_a_gap_begins_just_beyond_five_seconds() -> None:
    at_the_gap = advance(running(), BLOCK, 9105.0, 80.0)[0]
    assert at_the_gap.energy_kws == 20_000.0 + 5.0 * 80.0
    beyond = advance(running(), BLOCK, 9105.5, 80.0)[0]
    assert beyond.energy_kws == 20_000.0 + 5.5 * 200.0
    filled = advance(running(), BLOCK, 9105.5, 80.0, register_kwh=50.25)[0]
    assert filled.energy_kws == 20_000.0 + 0.25 * 3600.0
    still = advance(running(), BLOCK, 9105.5, 80.0, register_kwh=50.0)[0]
    assert still.energy_kws == 20_000.0  # a register that stood still: nothing was drawn
    first = advance(running(register_kwh=None), BLOCK, 9105.5, 80.0, register_kwh=50.25)[0]
    assert first.energy_kws == 20_000.0 + 5.5 * 200.0
    within = advance(running(), BLOCK, 9105.0, 80.0, register_kwh=50.25)[0]
    assert within.energy_kws == 20_000.0 + 5.0 * 80.0


def test_little_imports_count_and_exports_do_not() -> None:
    assert advance(running(), BLOCK, 9102.0, 0.5)[0].energy_kws == 20_001.0
    assert advance(running(), BLOCK, 9102.0, -0.5)[0].energy_kws == 20_000.0


def test_the_same_instant_counts_once() -> None:
    assert advance(running(), BLOCK, 9100.0, 999.0) == (running(), ())
    assert advance(running(), BLOCK, 9100.5, 80.0)[0].energy_kws == 20_040.0


def test_a_step_back_of_a_whole_interval_begins_anew() -> None:
    assert advance(running(), BLOCK, 8200.5, 80.0) == (running(), ())
    back, closed = advance(running(past_kws=(1.0,)), BLOCK, 8200.0, 80.0, register_kwh=9.0, period_start_s=50.0)
    assert closed == ()
    assert back == DemandState(
        at_s=8200.0, power_kw=80.0, sub_start_s=8100.0, energy_kws=0.0, past_kws=(), register_kwh=9.0,
        period_start_s=0.0, peak_kw=150.0,
    )  # fmt: skip


def test_a_leap_of_more_than_a_month_begins_anew_and_keeps_the_old_period_open() -> None:
    month_s = 31 * DAY_S
    counted, closed = advance(running(), BLOCK, 9100.0 + month_s, 80.0)
    assert len(closed) == 31 * 96
    assert counted.power_kw == 80.0
    leapt, closed = advance(running(past_peaks_kw=(9.0,)), BLOCK, 9100.0 + month_s + 0.5, 80.0, period_start_s=5000.0)
    assert closed == ()
    assert (leapt.period_start_s, leapt.peak_kw, leapt.past_peaks_kw) == (0.0, 150.0, (9.0,))


def test_a_period_that_began_before_the_first_sample_is_simply_taken() -> None:
    state, _ = advance(DemandState(), BLOCK, 9000.0, 40.0)
    assert state.period_start_s == NEVER_S
    state, _ = advance(state, BLOCK, 9900.0, 40.0, gap_s=900.0, period_start_s=9900.0)
    assert (state.period_start_s, state.peak_kw, state.past_peaks_kw) == (9900.0, 0.0, ())


def test_an_interval_ends_exactly_at_its_border() -> None:
    before, closed = advance(running(), BLOCK, 9899.5, 100.0, gap_s=900.0)
    assert closed == ()
    at_border, closed = advance(before, BLOCK, 9900.0, 100.0, register_kwh=60.0)
    assert closed == (Closed(9900.0, (20_000.0 + 800.0 * 100.0) / 900.0),)
    assert at_border == DemandState(
        at_s=9900.0, power_kw=100.0, sub_start_s=9900.0, energy_kws=0.0, register_kwh=60.0, period_start_s=0.0,
        peak_kw=150.0,
    )  # fmt: skip


def test_a_new_period_begins_with_the_interval_that_ends_at_its_border() -> None:
    known = running(peak_kw=500.0)
    late, _ = advance(known, BLOCK, 9900.0, 100.0, gap_s=900.0, period_start_s=9900.5)
    assert (late.period_start_s, late.peak_kw) == (0.0, 500.0)
    now, _ = advance(known, BLOCK, 9900.0, 100.0, gap_s=900.0, period_start_s=9900.0)
    assert (now.period_start_s, now.peak_kw, now.past_peaks_kw) == (9900.0, 0.0, (500.0,))
    same, _ = advance(known, BLOCK, 9900.0, 100.0, gap_s=900.0, period_start_s=0.0)
    assert (same.period_start_s, same.peak_kw, same.past_peaks_kw) == (0.0, 500.0, ())


def test_twelve_earlier_peaks_are_kept() -> None:
    peaks = tuple(float(kw) for kw in range(1, 13))
    state = running(peak_kw=500.0, past_peaks_kw=peaks)
    after, _ = advance(state, BLOCK, 9900.0, 100.0, gap_s=900.0, period_start_s=9900.0)
    assert after.past_peaks_kw == (*peaks[1:], 500.0)
    assert demand_clock.floor_kw(after, 0.5) == 250.0
    assert demand_clock.floor_kw(DemandState(peak_kw=0.25), 0.5) == 0.25


def rolling(**changes: float | tuple[float, ...]) -> DemandState:
    """100 s into the third of three sub-intervals."""
    state = DemandState(
        at_s=9700.0, power_kw=200.0, sub_start_s=9600.0, energy_kws=20_000.0, past_kws=(30_000.0, 45_000.0)
    )
    return structs.replace(state, **changes)


def test_a_rolling_window_keeps_the_sub_intervals_it_needs() -> None:
    after, closed = advance(rolling(), ROLLING, 9900.0, 100.0, gap_s=900.0)
    assert closed == (Closed(9900.0, (30_000.0 + 45_000.0 + 20_000.0 + 200.0 * 100.0) / 900.0),)
    assert after.past_kws == (45_000.0, 40_000.0)


def test_a_block_keeps_nothing_of_the_past() -> None:
    after, _ = advance(running(), BLOCK, 9900.0, 100.0, gap_s=900.0)
    assert after.past_kws == ()


def test_the_windows_that_contain_now() -> None:
    assert demand_clock.windows(rolling(), ROLLING) == [(95_000.0, 200.0), (65_000.0, 500.0), (20_000.0, 800.0)]
    assert demand_clock.windows(running(), BLOCK) == [(20_000.0, 800.0)]
    assert demand_clock.window_energy_kws(rolling(), ROLLING) == 95_000.0
    assert demand_clock.window_energy_kws(rolling(past_kws=(1.0, 30_000.0, 45_000.0)), ROLLING) == 95_000.0
    assert demand_clock.window_energy_kws(running(past_kws=(5.0,)), BLOCK) == 20_000.0
    assert demand_clock.left_s(rolling(), ROLLING) == 200.0


def test_the_allowed_power_of_the_last_moment_is_spread_over_one_cycle() -> None:
    late = running(at_s=9899.75, energy_kws=449_000.0)
    assert demand_clock.allow_kw(late, BLOCK, 500.0) == 2000.0  # half a second is the usual cycle
    assert demand_clock.allow_kw(late, BLOCK, 500.0, cycle_s=2.0) == 500.0
    assert demand_clock.allow_kw(late, BLOCK, 500.0, cycle_s=0.125) == 4000.0


def test_the_projection_takes_the_power_to_the_end_of_the_window() -> None:
    assert demand_clock.projected_kw(rolling(), ROLLING, 100.0) == (95_000.0 + 200.0 * 100.0) / 900.0
    assert demand_clock.projected_kw(rolling(), ROLLING, 0.5) == (95_000.0 + 100.0) / 900.0
    assert demand_clock.projected_kw(rolling(), ROLLING, -50.0) == 95_000.0 / 900.0
    assert demand_clock.projected_kw(running(), BLOCK, 100.0) == 100_000.0 / 900.0
    assert demand_clock.projected_kw(running(at_s=9899.5), BLOCK, 100.0) == (20_000.0 + 50.0) / 900.0
    late = running(at_s=9901.0)
    assert demand_clock.projected_kw(late, BLOCK, 100.0) == 20_000.0 / 900.0
