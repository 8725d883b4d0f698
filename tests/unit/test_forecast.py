"""The load forecast: cold start, holidays, weather, daylight saving, gaps, drift and the way back, skill on the package's load."""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from gridtide.app.data import load_profile
from gridtide.plan.forecast import Forecast, LoadModel, LoadSettings, Method, fit, new_model, predict, update
from gridtide.plan.forecast_bands import ENOUGH, empty_pool, put, quantile_errors, widened
from gridtide.plan.forecast_calendar import HOLIDAY, Calendar, local_index, moments
from gridtide.plan.forecast_drift import Drift, counted, finding
from gridtide.plan.forecast_score import Series, compare, pinball
from tools.forecast_skill import easter, rhineland

HOUR_S = 3_600.0
DAY_S = 86_400.0
MONDAY_S = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
HOURLY = LoadSettings(step_s=3_600)
BERLIN = ZoneInfo("Europe/Berlin")
Floats = NDArray[np.float64]


def starts(days: float, first_s: float = MONDAY_S) -> Floats:
    return first_s + HOUR_S * np.arange(round(days * 24), dtype=np.float64)


def week(at_s: Floats) -> Floats:
    """100 kW at work from 08:00 to 18:00 UTC on working days, 20 kW otherwise."""
    hour, day = at_s / HOUR_S % 24, np.floor((at_s - MONDAY_S) / DAY_S) % 7
    return np.where((day < 5) & (hour >= 8) & (hour < 18), 100.0, 20.0)


def noisy(at_s: Floats, seed: int = 1) -> Floats:
    return np.asarray(week(at_s) * np.random.default_rng(seed).lognormal(0.0, 0.05, len(at_s)))


def ahead(model: LoadModel, days: float = 1.0, **more: Any) -> Forecast:
    assert model.known_until_s is not None
    made = predict(model, model.known_until_s, days * DAY_S, **more)
    assert made is not None
    return made


def widest(made: Forecast) -> float:
    return float((made.quantiles_kw[:, -1] - made.quantiles_kw[:, 0]).max())


def test_from_nothing_to_the_whole() -> None:
    """No history: no forecast; hours: the last value; days: yesterday; from a week on all of it; the band narrows."""
    assert predict(new_model(HOURLY), MONDAY_S, DAY_S) is None
    at_s = starts(60)
    load = noisy(at_s)
    made = {hours: ahead(fit(HOURLY, at_s[:hours], load[:hours])) for hours in (3, 30, 9 * 24, 60 * 24)}
    assert [found.method for found in made.values()] == [
        Method.PERSISTENCE,
        Method.DAY_BEFORE,
        Method.FULL,
        Method.FULL,
    ]
    assert (made[3].middle_kw == load[2]).all()
    assert widest(made[3]) > 0.5 * load[2]
    np.testing.assert_array_equal(made[30].middle_kw, load[6:30])
    truth = week(made[60 * 24].starts_s)
    assert np.abs(made[60 * 24].median_kw - truth).max() < 12.0
    assert widest(made[60 * 24]) < 40.0


def test_days_ahead_know_the_weekend() -> None:
    at_s = starts(39)  # ends on a Thursday night
    made = ahead(fit(HOURLY, at_s, noisy(at_s)), days=5)
    assert np.abs(made.median_kw - week(made.starts_s)).max() < 20.0
    assert made.at_level(0.95).shape == (120,)
    assert (made.at_level(0.95) == made.quantiles_kw[:, -1]).all()


def test_a_holiday_is_known_beforehand() -> None:
    at_s = starts(42)
    load = noisy(at_s)
    holiday = frozenset([datetime.fromtimestamp(at_s[-1] + HOUR_S, UTC).date()])
    usual, rest = (
        ahead(fit(replace(HOURLY, calendar=Calendar("UTC", days)), at_s, load)) for days in (frozenset(), holiday)
    )
    noon = 12
    assert usual.median_kw[noon] > 80.0
    assert rest.median_kw[noon] < 40.0


def test_a_holiday_last_week_is_no_model_for_this_week() -> None:
    tuesday_s = MONDAY_S + DAY_S
    at_s = starts(41, tuesday_s)  # ends on a Sunday night; the Monday before was a holiday
    rest_s = tuesday_s + 34 * DAY_S
    load = np.where((at_s >= rest_s) & (at_s < rest_s + DAY_S), 20.0, noisy(at_s))
    listed = frozenset([datetime.fromtimestamp(rest_s, UTC).date()])
    made = ahead(fit(replace(HOURLY, calendar=Calendar("UTC", listed)), at_s, load))
    assert datetime.fromtimestamp(made.starts_s[0], UTC).weekday() == 0
    assert made.median_kw[12] > 95.0


def test_temperature_and_occupancy_count_where_given() -> None:
    rng = np.random.default_rng(3)
    at_s = starts(71)
    cold = 5.0 + 8.0 * np.repeat(rng.normal(size=71), 24)
    people = np.repeat(rng.uniform(0.0, 1.0, 71), 24)
    load = noisy(at_s) + 6.0 * np.maximum(15.0 - cold, 0.0) + 80.0 * people
    past, day = slice(None, 70 * 24), slice(70 * 24, None)
    blind = ahead(fit(HOURLY, at_s[past], load[past]))
    seeing = ahead(
        fit(HOURLY, at_s[past], load[past], cold[past], people[past]), temperature_c=cold[day], occupancy=people[day]
    )
    blind_mae, mae = (float(np.abs(made.middle_kw - load[day]).mean()) for made in (blind, seeing))
    assert mae < 0.5 * blind_mae
    holes = np.full(24, np.nan)
    without = ahead(fit(HOURLY, at_s[past], load[past], cold[past], people[past]), temperature_c=holes, occupancy=holes)
    assert np.isfinite(without.quantiles_kw).all()


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 29, 23), (10, 25, 25)])
def test_the_clock_changes_and_work_begins_at_eight(month: int, day: int, hours: int) -> None:
    """The day after a change of the clock work begins at eight on the clock, not 24 h after the last time."""
    settings = LoadSettings(Calendar("Europe/Berlin"), step_s=3_600)
    change_s = datetime(2026, month, day, tzinfo=BERLIN).timestamp()
    at_s = change_s + HOUR_S * np.arange(-35 * 24, hours, dtype=np.float64)
    local = np.array([datetime.fromtimestamp(at, BERLIN).hour for at in at_s])
    load = np.where((local >= 8) & (local < 18), 100.0, 20.0)
    model = fit(settings, at_s, load)
    assert model.refused == 0
    made = ahead(model)
    np.testing.assert_allclose(
        made.median_kw, np.where((np.arange(24) >= 8) & (np.arange(24) < 18), 100.0, 20.0), atol=8.0
    )
    hourly = fit(settings, at_s[: 35 * 24], load[: 35 * 24])
    for n in range(35 * 24, len(at_s)):  # at every hour of the day of the change, the one that runs twice among them
        hourly = update(hourly, at_s[n : n + 1], load[n : n + 1])
        assert np.isfinite(ahead(hourly).quantiles_kw).all()


def test_the_repeated_hour_counts_once_in_the_profile_and_as_the_latest_value() -> None:
    settings = LoadSettings(Calendar("Europe/Berlin"), step_s=3_600)
    end_s = datetime(2026, 10, 25, 0, 0, tzinfo=UTC).timestamp()  # 02:00 summer time begins
    at_s = end_s + HOUR_S * np.arange(-5, 2, dtype=np.float64)
    model = fit(settings, at_s, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 60.0]))
    assert model.steps == 7
    assert model.memory.kind_days.sum() == 6
    assert (ahead(model).middle_kw == 60.0).all()
    gap = fit(settings, np.delete(at_s, 5), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 60.0]))
    assert (ahead(gap).middle_kw == 60.0).all()


def test_a_repeated_hour_whose_first_run_is_a_gap() -> None:
    """A quarter hour of the first run is missing and comes in the second only: it is the latest value, and finite."""
    settings = LoadSettings(Calendar("Europe/Berlin"))
    first_s = datetime(2026, 10, 25, 0, 0, tzinfo=UTC).timestamp()
    model = fit(settings, np.array([first_s - 900, first_s + 900, first_s + 3_600]), np.array([1.0, 2.0, 7.0]))
    assert model.newest_index == model.highest_index - 1
    assert (ahead(model).middle_kw == 7.0).all()


def test_gaps_doubles_and_rubbish() -> None:
    at_s = starts(42)
    load = noisy(at_s)
    whole = fit(HOURLY, at_s, load)
    holed = load.copy()
    holed[35 * 24 : 38 * 24] = np.nan
    holed[5], holed[6] = np.inf, -1e12
    twice = np.repeat(at_s, 2)
    model = fit(HOURLY, twice, np.repeat(holed, 2))
    assert model.refused == 42 * 24 + 72 + 2
    made = ahead(model)
    assert np.abs(made.median_kw - ahead(whole).median_kw).max() < 20.0
    lost = fit(HOURLY, at_s[: 35 * 24], load[: 35 * 24])
    old = predict(lost, at_s[-1] + HOUR_S, DAY_S)  # nothing for a week
    assert old is not None
    assert old.made_s - old.known_until_s == 7 * DAY_S
    assert np.abs(old.median_kw - week(old.starts_s)).max() < 25.0


def broken_weather(days: int) -> tuple[Floats, Floats, Floats]:
    """A load that follows the weather, and a sensor that shows nonsense in days 40 to 50."""
    rng = np.random.default_rng(4)
    at_s = starts(days)
    warm = 2.0 + 4.0 * np.repeat(rng.normal(size=days), 24)
    load = noisy(at_s, 5) + 6.0 * np.maximum(15.0 - warm, 0.0)
    day = np.arange(len(at_s)) // 24
    shown = np.where((day >= 40) & (day < 50), warm - 60.0 * (day % 2), warm)
    return at_s, load, shown


def test_drift_is_told_a_simpler_way_stands_in_and_the_forecast_comes_back() -> None:
    at_s, load, shown = broken_weather(75)
    model = new_model(replace(HOURLY, forget_days=1_000.0))
    told: list[int] = []
    for day in range(75):
        part = slice(24 * day, 24 * day + 24)
        model = update(model, at_s[part], load[part], shown[part])
        wrong = model.finding
        if wrong is not None and day >= 40:
            told.append(day)
            assert model.method in (Method.LAST_WEEK, Method.PERSISTENCE)
            assert wrong.since_s <= at_s[part][-1] + HOUR_S
            assert wrong.forecast_error > 0.0
    assert told
    assert 40 <= told[0] <= 44
    assert told[-1] < 70
    assert model.method is Method.FULL


def test_sum_of_errors_alarms_after_days_and_trusts_again() -> None:
    drift = Drift()
    hour = 1.0 / 24.0

    def spend(drift: Drift, days: float, errors: tuple[float, float, float]) -> Drift:
        for k in range(round(days * 24)):
            drift = counted(drift, errors, 100.0, hour, float(k))
        return drift

    drift = spend(drift, 10.0, (5.0, 10.0, 20.0))
    assert finding(drift) is None
    assert finding(spend(drift, 1.5, (15.0, 10.0, 20.0))) is None  # half as bad again: a day and a half is too short
    drift = spend(drift, 3.0, (15.0, 10.0, 20.0))
    found = finding(drift)
    assert found is not None
    assert found.instead == "last_week"
    assert found.forecast_error > found.last_week_error
    assert finding(spend(drift, 0.5, (8.0, 10.0, 20.0))) is not None
    assert finding(spend(drift, 20.0, (8.0, 10.0, 20.0))) is None
    changed = finding(spend(drift, 3.0, (30.0, 20.0, 8.0)))
    assert changed is not None
    assert changed.instead == "persistence"


def test_errors_below_a_hundredth_of_the_load_do_not_alarm() -> None:
    drift = Drift()
    for k in range(24 * 30):
        drift = counted(drift, (0.01, 0.0, 0.0), 100.0, 1.0 / 24.0, float(k))
    assert finding(drift) is None


def test_band_quantiles_are_those_of_the_errors() -> None:
    pool = empty_pool(1, 1, 24, 4)
    zero = np.zeros(1, dtype=np.int64)
    for error in (9.0, 1.0, 2.0, 3.0, 4.0):  # the first is pushed out
        put(pool, 0, 12, np.array([[error]]))
    found, count = quantile_errors(pool, 0, zero, zero, zero + 12, np.array([0.2, 0.5, 0.8, 0.99]))
    np.testing.assert_allclose(found, [[1.0, 2.5, 4.0, 4.0]])
    assert count.tolist() == [4]
    beside, _ = quantile_errors(pool, 0, zero, zero, zero + 14, np.array([0.5]))
    assert beside.tolist() == [[2.5]]
    _, none = quantile_errors(pool, 0, zero, zero, zero + 15, np.array([0.5]))
    assert none.tolist() == [0]


def test_few_errors_leave_a_wide_band() -> None:
    levels = np.array([0.05, 0.5, 0.95])
    nothing = np.full((3, 3), np.nan)
    wide = widened(nothing, np.array([0, 0, 0]), np.array([1.0, 0.25, 9.0]), 100.0, levels)
    np.testing.assert_allclose(wide, [[-50.0, 0.0, 50.0], [-25.0, 0.0, 25.0], [-50.0, 0.0, 50.0]])
    known = np.array([[-1.0, 0.0, 1.0]] * 2)
    mixed = widened(known, np.array([ENOUGH // 2, ENOUGH]), np.ones(2), 100.0, levels)
    np.testing.assert_allclose(mixed, [[-25.5, 0.0, 25.5], [-1.0, 0.0, 1.0]])


def test_calendar_facts() -> None:
    calendar = Calendar("Europe/Berlin", frozenset([date(2026, 5, 1)]))
    at_s = np.array([datetime(2026, 5, day, 13, 20, tzinfo=BERLIN).timestamp() for day in (1, 2, 3, 4)])
    at = moments(calendar, 900, local_index(calendar, 900, at_s))
    assert at.kind.tolist() == [HOLIDAY, 5, 6, 0]
    assert at.group.tolist() == [2, 1, 2, 0]
    assert at.slot.tolist() == [53] * 4


def test_pinball_loss() -> None:
    loss = pinball(np.array([10.0]), np.array([[8.0, 10.0, 14.0]]), np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(loss, [[0.2, 0.0, 0.4]])


def test_last_week_is_right_on_a_week_that_repeats_and_persistence_is_not() -> None:
    at_s = starts(35)
    found = compare(HOURLY, Series(at_s, week(at_s)), at_s[0] + 21 * DAY_S, at_s[-1] + HOUR_S, lead_h=(1.0, 6.0, 24.0))
    assert found.targets == 14 * 24 - 23
    assert (found.last_week.mae_kw == 0.0).all()
    assert (found.persistence.mae_kw > 3.0).all()
    assert (found.forecast.mae_kw < 0.25 * found.persistence.mae_kw).all()
    assert np.isnan(found.skill(found.last_week)).all()
    assert (found.skill(found.persistence, pinball=True) > 0.5).all()


def test_skill_on_the_load_of_the_package() -> None:
    """Four weeks of April (months that served for the settings): better than last week and persistence at every lead."""
    profile = load_profile("builtin:load", ZoneInfo("UTC"))
    first_s = profile.first_s
    power_kw = profile.power_kw.reshape(-1, 4).mean(axis=1)
    series = Series(first_s + HOUR_S * np.arange(len(power_kw), dtype=np.float64), power_kw)
    from_s, until_s = first_s + 96 * DAY_S, first_s + 124 * DAY_S
    leads = (1.0, 4.0, 12.0, 24.0)
    settings = replace(HOURLY, calendar=Calendar("UTC", rhineland(2010)))
    found = compare(settings, series, from_s, until_s, leads, every_s=5 * HOUR_S)
    assert (found.skill(found.last_week) > 0.15).all()
    assert (found.skill(found.last_week, pinball=True) > 0.2).all()
    assert (found.skill(found.persistence) > 0.15).all()
    assert (np.abs(found.forecast.within - 0.9) < 0.08).all()
    assert found.nominal == pytest.approx(0.9)


def test_known_later_is_a_longer_lead() -> None:
    at_s = starts(35)
    load = noisy(at_s)
    span = (at_s[0] + 28 * DAY_S, at_s[-1] + HOUR_S)
    now, late = (compare(HOURLY, Series(at_s, load), *span, lead_h=(1.0,), known_after_s=s) for s in (0.0, 5 * HOUR_S))
    assert late.persistence.mae_kw[0] > now.persistence.mae_kw[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"now_s": float("nan")}, "give an instant"),
        ({"horizon_s": 0.0}, "give an instant"),
        ({"horizon_s": 15 * DAY_S}, "give an instant"),
        ({"levels": (0.5, 0.4)}, "rising numbers"),
        ({"levels": (0.0, 0.4)}, "rising numbers"),
        ({"levels": ()}, "rising numbers"),
        ({"now_s": MONDAY_S}, "after now"),
        ({"temperature_c": np.zeros(3)}, "give one value a step"),
    ],
)
def test_what_cannot_be_forecast_is_refused(change: dict[str, Any], words: str) -> None:
    at_s = starts(2)
    model = fit(HOURLY, at_s, noisy(at_s))
    asked: dict[str, Any] = {"now_s": at_s[-1] + HOUR_S, "horizon_s": DAY_S, **change}
    with pytest.raises(ValueError, match=words):
        predict(model, **asked)


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="as many of each"):
        fit(HOURLY, np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="divide an hour"):
        LoadSettings(step_s=7)
    with pytest.raises(ValueError, match="no target"):
        compare(HOURLY, Series(starts(2), np.zeros(48)), MONDAY_S + 40 * DAY_S, MONDAY_S + 42 * DAY_S)


def test_behind_a_meter_that_sees_generation_the_load_may_be_negative() -> None:
    at_s = starts(30)
    sun = 150.0 * np.clip(np.sin((at_s / HOUR_S % 24 - 6) * np.pi / 12), 0.0, None)
    model = fit(replace(HOURLY, lowest_kw=-np.inf), at_s, noisy(at_s) - sun)
    assert ahead(model).median_kw.min() < -20.0
    assert ahead(fit(HOURLY, at_s, noisy(at_s) - sun)).median_kw.min() == 0.0


@pytest.mark.parametrize("day", [date(2010, 4, 4), date(2016, 3, 27), date(2019, 4, 21), date(2038, 4, 25)])
def test_easter(day: date) -> None:
    assert easter(day.year) == day


def test_targets_that_a_holiday_touches_are_told_apart() -> None:
    """Last week is wrong on the holiday and a week after it only: without these the rival makes no error, and there is no skill."""
    at_s = starts(42)
    rest_s = MONDAY_S + 30 * DAY_S
    load = np.where((at_s >= rest_s) & (at_s < rest_s + DAY_S), 20.0, week(at_s))
    listed = Calendar("UTC", frozenset([datetime.fromtimestamp(rest_s, UTC).date()]))
    found = compare(replace(HOURLY, calendar=listed), Series(at_s, load), rest_s - DAY_S, at_s[-1], lead_h=(1.0,))
    assert found.last_week.mae_kw[0] > 1.0
    assert found.skill(found.last_week)[0] > 0.3
    assert np.isnan(found.ordinary_skill).all()


def test_a_slot_never_seen_beside_leaves_the_weights_finite() -> None:
    """The first day lacks two hours, so that the hours beside have no neighbour on the second."""
    at_s = starts(30)
    load = noisy(at_s)
    load[5:7] = np.nan
    model = fit(HOURLY, at_s, load)
    assert np.isfinite(model.weights.theta).all()
    assert np.isfinite(model.weights.gram).all()
    assert not np.array_equal(model.weights.theta[0], model.weights.prior)


def test_the_first_saturday_does_not_widen_those_after() -> None:
    at_s = starts(26)  # ends on a Friday night; three Saturdays seen
    made = ahead(fit(HOURLY, at_s, noisy(at_s)))
    assert made.quantiles_kw[12, -1] < 40.0
