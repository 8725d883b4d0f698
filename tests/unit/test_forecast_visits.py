"""Presence, arriving need, and what one vehicle will do."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from gridtide.app.data import load_sessions
from gridtide.plan.forecast import LoadSettings, Method
from gridtide.plan.forecast_calendar import Calendar
from gridtide.plan.forecast_departures import VisitModel, VisitSettings, add_visits, no_visits, one_visit
from gridtide.plan.forecast_score import Series, compare
from gridtide.plan.forecast_visit_score import score_visits
from gridtide.plan.forecast_visits import (
    Visit,
    arriving_need_series,
    connected_series,
    new_site,
    predict_site,
    update_connected,
    update_need,
)

HOUR_S = 3_600.0
DAY_S = 86_400.0
MONDAY_S = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
PACIFIC = ZoneInfo("America/Los_Angeles")
Floats = NDArray[np.float64]


def hours(count: int, first_s: float = MONDAY_S) -> Floats:
    return first_s + HOUR_S * np.arange(count, dtype=np.float64)


def commuters(days: int, seed: int = 1) -> list[Visit]:
    """Ten drivers on working days from about eight to about five; the eleventh comes at eight too and leaves at noon."""
    rng = np.random.default_rng(seed)
    found = []
    for day in range(days):
        start_s = MONDAY_S + day * DAY_S
        if day % 7 >= 5:
            continue
        for driver in range(10):
            arrives, leaves = start_s + HOUR_S * rng.normal(8.0, 0.3), start_s + HOUR_S * rng.normal(17.0, 0.5)
            found.append(Visit(arrives, leaves, float(rng.uniform(8.0, 20.0)), f"driver {driver}"))
        found.append(Visit(start_s + 8 * HOUR_S, start_s + HOUR_S * rng.normal(12.0, 0.2), 40.0, "half day"))
    return found


def test_vehicles_connected_are_means_over_the_step() -> None:
    visits = [
        Visit(MONDAY_S + 900.0, MONDAY_S + 2 * HOUR_S),
        Visit(MONDAY_S - DAY_S, MONDAY_S + 1_800.0),
        Visit(MONDAY_S + 2.5 * HOUR_S, float("inf")),
        Visit(MONDAY_S + 60.0, MONDAY_S + 60.0),
    ]
    np.testing.assert_allclose(connected_series(visits, hours(4), HOUR_S), [0.75 + 0.5, 1.0, 0.5, 1.0])
    assert connected_series([], hours(2), HOUR_S).tolist() == [0.0, 0.0]
    assert connected_series(visits, hours(0), HOUR_S).size == 0


def test_need_arrives_with_the_vehicle() -> None:
    visits = [Visit(MONDAY_S + at, MONDAY_S + DAY_S, kwh) for at, kwh in ((0.0, 5.0), (1_700.0, 7.0), (4_000.0, 9.0))]
    visits.append(Visit(MONDAY_S - 1.0, MONDAY_S + DAY_S, 100.0))
    starts = MONDAY_S + 1_800.0 * np.arange(4, dtype=np.float64)
    assert arriving_need_series(visits, starts, 1_800.0).tolist() == [24.0, 0.0, 18.0, 0.0]


def test_impossible_visits_are_refused() -> None:
    for visit in (Visit(float("nan"), 1.0), Visit(2.0, 1.0), Visit(0.0, float("nan"))):
        with pytest.raises(ValueError, match="leave it out"):
            connected_series([visit], hours(2), HOUR_S)
    with pytest.raises(ValueError, match="at least one"):
        new_site(0)


def test_a_car_park_ahead() -> None:
    visits, at_s = commuters(42), hours(38 * 24)  # the next day is a Thursday
    model = new_site(12, LoadSettings(step_s=3_600))
    assert predict_site(model, at_s[-1] + HOUR_S, DAY_S) is None
    model = update_connected(model, at_s, connected_series(visits, at_s, HOUR_S))
    early = predict_site(model, at_s[-1] + HOUR_S, DAY_S)
    assert early is not None
    assert early.need_kwh is None
    model = update_need(model, at_s[:-24], arriving_need_series(visits, at_s[:-24], HOUR_S))
    found = predict_site(model, at_s[-1] + HOUR_S, 3 * DAY_S)
    assert found is not None
    assert found.need_kwh is not None
    assert found.expected_need_kwh is not None
    assert found.expected_connected[14] == pytest.approx(10.0, abs=1.0)
    assert found.connected[60, -1] < 2.0  # Saturday noon
    assert (found.connected >= 0.0).all()
    assert (found.connected <= 12.0).all()
    np.testing.assert_allclose(found.free, 12.0 - found.connected[:, ::-1])
    assert found.expected_need_kwh[:24].sum() == pytest.approx(11 * 16.2, rel=0.2)
    assert (np.diff(found.need_kwh, axis=1) >= 0.0).all()


def test_more_vehicles_than_bays_are_not_forecast() -> None:
    at_s = hours(30 * 24)
    model = update_connected(
        new_site(5, LoadSettings(step_s=3_600)), at_s, connected_series(commuters(30), at_s, HOUR_S)
    )
    found = predict_site(model, at_s[-1] + HOUR_S, 4 * DAY_S)
    assert found is not None
    assert found.connected.max() == 5.0
    assert found.expected_connected.max() <= 5.0
    assert found.free.min() == 0.0


def learned(days: int = 42, settings: VisitSettings | None = None) -> VisitModel:
    return add_visits(no_visits(settings), commuters(days))


def test_departure_by_time_of_arrival_and_by_driver() -> None:
    model = learned()
    now_s = MONDAY_S + 42 * DAY_S + 8 * HOUR_S
    anybody = one_visit(model, now_s, now_s)
    assert anybody is not None
    assert anybody.departs_s[3] == pytest.approx(now_s + 9 * HOUR_S, abs=1_200.0)
    assert anybody.alike > 50.0
    half_day = one_visit(model, now_s, now_s, driver="half day")
    assert half_day is not None
    assert half_day.departs_s[3] == pytest.approx(now_s + 4 * HOUR_S, abs=1_200.0)
    assert half_day.need_kwh[3] == 40.0
    assert anybody.need_kwh[3] < 20.0
    stranger = one_visit(model, now_s, now_s, driver="nobody knows")
    assert stranger is not None
    np.testing.assert_array_equal(stranger.departs_s, anybody.departs_s)


def test_few_own_visits_count_little() -> None:
    """Shrinkage: one visit of one's own moves the low level, not the median."""
    odd = Visit(MONDAY_S + 39 * DAY_S + 8 * HOUR_S, MONDAY_S + 39 * DAY_S + 9 * HOUR_S, 5.0, "new")
    now_s = MONDAY_S + 42 * DAY_S + 8 * HOUR_S
    once = one_visit(add_visits(learned(), [odd]), now_s, now_s, driver="new")
    odds = [
        replace(odd, arrived_s=odd.arrived_s - d * DAY_S, departs_s=odd.departs_s - d * DAY_S)
        for d in (0, 1, 2, 3, 7, 8, 9)
    ]
    often = one_visit(add_visits(learned(), odds), now_s, now_s, driver="new")
    assert once is not None
    assert often is not None
    assert once.departs_s[3] > now_s + 8 * HOUR_S
    assert once.departs_s[0] < now_s + 2 * HOUR_S
    assert often.departs_s[3] < now_s + 2 * HOUR_S


def test_who_is_still_there_after_noon_is_no_half_day() -> None:
    model = learned()
    came_s = MONDAY_S + 42 * DAY_S + 8 * HOUR_S
    found = one_visit(model, came_s, came_s + 6 * HOUR_S, driver="half day")
    assert found is not None
    assert found.departs_s[0] >= came_s + 6 * HOUR_S
    assert found.departs_s[3] == pytest.approx(came_s + 9 * HOUR_S, abs=1_800.0)
    forgotten = one_visit(model, came_s, came_s + 40 * HOUR_S)
    assert forgotten is not None
    assert (forgotten.departs_s > came_s + 40 * HOUR_S).all()
    assert forgotten.alike == 0.0
    assert np.isfinite(forgotten.departs_s).all()


def test_summer_time_does_not_move_the_departure() -> None:
    """Local clock: visits of winter foretell those of summer at the same time of day."""
    zone = ZoneInfo("Europe/Berlin")
    winter = [
        Visit(
            datetime(2026, 3, day, 8, tzinfo=zone).timestamp(), datetime(2026, 3, day, 17, tzinfo=zone).timestamp(), 9.0
        )
        for day in range(2, 28)
        if datetime(2026, 3, day, tzinfo=zone).weekday() < 5
    ]
    night = [Visit(v.arrived_s - HOUR_S, v.arrived_s, 1.0) for v in winter]  # 07:00 to 08:00
    settings = VisitSettings(Calendar("Europe/Berlin"), width_s=600.0)
    came_s = datetime(2026, 3, 30, 8, tzinfo=zone).timestamp()
    found = one_visit(add_visits(no_visits(settings), winter + night), came_s, came_s)
    assert found is not None
    assert found.departs_s[3] == datetime(2026, 3, 30, 17, tzinfo=zone).timestamp()


def test_what_is_no_ended_visit_is_left_out() -> None:
    bad = [
        Visit(0.0, float("inf"), 1.0),
        Visit(float("nan"), 1.0, 1.0),
        Visit(2.0, 1.0, 1.0),
        Visit(0.0, 1.0, float("nan")),
        Visit(0.0, 1.0, -1.0),
    ]
    model = add_visits(no_visits(), bad)
    assert model.refused == 5
    assert one_visit(model, 10.0, 10.0) is None
    with pytest.raises(ValueError, match="in this order"):
        one_visit(model, 10.0, 9.0)


def test_sessions_of_the_package() -> None:
    """July at Caltech (a month that served for the settings): better than last week, and than all visits alike."""
    records = load_sessions("builtin:sessions", PACIFIC)
    visits = [Visit(r.arrived_s, r.departs_s, r.delivered_kwh) for r in records]
    from_s, until_s = (datetime(2019, month, 1, tzinfo=PACIFIC).timestamp() for month in (7, 8))
    calendar = Calendar("America/Los_Angeles")
    score = score_visits(VisitSettings(calendar), visits, from_s, until_s)
    assert score.stay_pinball_h < 0.9 * score.rival_stay_pinball_h
    assert score.need_pinball_kwh < score.rival_need_pinball_kwh
    assert abs(score.stay_within - 0.9) < 0.05
    assert score.early < 0.08
    at_s = np.arange(visits[0].arrived_s // HOUR_S * HOUR_S, until_s, HOUR_S)
    series = Series(at_s, connected_series(visits, at_s, HOUR_S))
    settings = LoadSettings(calendar, step_s=3_600)
    found = compare(settings, series, from_s, until_s, (1.0, 6.0, 24.0), every_s=7 * HOUR_S)
    assert (found.skill(found.last_week) > 0.1).all()
    assert (found.skill(found.persistence) > 0.1).all()
    assert Method.FULL > Method.LAST_WEEK
    with pytest.raises(ValueError, match="longer span"):
        score_visits(VisitSettings(calendar), visits, until_s + 400 * DAY_S, until_s + 500 * DAY_S)
