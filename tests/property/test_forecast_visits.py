"""Invariants of presence and of single visits: bounds, order, nothing from the future, no dependence on the order of records."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gridtide.plan.forecast_departures import add_visits, no_visits, one_visit
from gridtide.plan.forecast_visits import Visit, arriving_need_series, connected_series

HOUR_S = 3_600.0
DAY_S = 86_400.0
START_S = 1_767_571_200.0
FEW = settings(max_examples=60, deadline=None)

visits = st.lists(
    st.builds(
        lambda day, hour, stay_h, need, driver: Visit(
            START_S + day * DAY_S + hour * HOUR_S, START_S + day * DAY_S + (hour + stay_h) * HOUR_S, need, driver
        ),
        day=st.integers(0, 60), hour=st.floats(0.0, 23.99), stay_h=st.floats(0.0, 90.0), need=st.floats(0.0, 100.0),
        driver=st.sampled_from(["", "a", "b"]),
    ),
    max_size=25,
)  # fmt: skip
times = st.tuples(st.floats(0.0, 80.0), st.floats(0.0, 5.0)).map(
    lambda pair: (START_S + pair[0] * DAY_S, START_S + (pair[0] + pair[1]) * DAY_S)
)


@FEW
@given(past=visits, when=times, driver=st.sampled_from(["", "a", "c"]))
def test_quantiles_are_in_order_finite_and_not_past(past: list[Visit], when: tuple[float, float], driver: str) -> None:
    arrived_s, now_s = when
    found = one_visit(add_visits(no_visits(), past), arrived_s, now_s, driver=driver)
    if found is None:
        assert not any(visit.departs_s <= now_s for visit in past)
        return
    for values in (found.departs_s, found.need_kwh):
        assert np.isfinite(values).all()
        assert (np.diff(values) >= 0.0).all()
    assert (found.departs_s >= now_s).all()
    assert (found.need_kwh >= 0.0).all()


@FEW
@given(past=visits, when=times, later_h=st.floats(0.01, 100.0), need=st.floats(0.0, 100.0))
def test_visits_that_end_later_do_not_count(
    past: list[Visit], when: tuple[float, float], later_h: float, need: float
) -> None:
    arrived_s, now_s = when
    ended = [visit for visit in past if visit.departs_s <= now_s]
    more = Visit(now_s - HOUR_S, now_s + later_h * HOUR_S, need, "a")
    one = one_visit(add_visits(no_visits(), ended), arrived_s, now_s, driver="a")
    two = one_visit(add_visits(no_visits(), [*past, more]), arrived_s, now_s, driver="a")
    if one is None or two is None:
        assert one is two
        return
    np.testing.assert_allclose(one.departs_s, two.departs_s, rtol=0.0, atol=1e-3)
    np.testing.assert_allclose(one.need_kwh, two.need_kwh)


@FEW
@given(past=visits, when=times, weeks=st.integers(-50, 50))
def test_whole_weeks_shift_the_departure_only(past: list[Visit], when: tuple[float, float], weeks: int) -> None:
    by_s = weeks * 7 * DAY_S
    moved = [replace(v, arrived_s=v.arrived_s + by_s, departs_s=v.departs_s + by_s) for v in past]
    one = one_visit(add_visits(no_visits(), past), *when)
    two = one_visit(add_visits(no_visits(), moved), when[0] + by_s, when[1] + by_s)
    if one is None or two is None:
        assert one is two
        return
    np.testing.assert_allclose(two.departs_s - by_s, one.departs_s, rtol=0.0, atol=1e-3)


@FEW
@given(past=visits, step_s=st.sampled_from([300.0, 900.0, 3_600.0]))
def test_time_connected_and_need_add_up(past: list[Visit], step_s: float) -> None:
    starts = np.arange(START_S, START_S + 70 * DAY_S, step_s)
    connected = connected_series(past, starts, step_s)
    assert (connected >= -1e-6).all()
    assert (connected <= len(past) + 1e-6).all()
    stays_s = sum(visit.departs_s - visit.arrived_s for visit in past)
    assert abs(connected.sum() * step_s - stays_s) < 1.0
    need_kwh = arriving_need_series(past, starts, step_s).sum() * step_s / HOUR_S
    assert abs(need_kwh - sum(visit.need_kwh for visit in past)) < 1e-6
