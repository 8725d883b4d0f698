"""Invariants of the load forecast: nothing from the future, quantiles in order, weeks alike, scale kept, models never changed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from gridtide.plan.forecast import (
    LEADS_S,
    Forecast,
    LoadModel,
    LoadSettings,
    Method,
    fit,
    new_model,
    predict,
    update,
)
from gridtide.plan.forecast_calendar import moments
from gridtide.plan.forecast_features import known

HOUR_S = 3_600
DAY_S = 86_400.0
MONDAY_S = 1_767_571_200.0  # 2026-01-05 00:00 UTC
HOURLY = LoadSettings(step_s=HOUR_S)
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Floats = NDArray[np.float64]


def starts(days: float) -> Floats:
    return MONDAY_S + HOUR_S * np.arange(round(days * 24), dtype=np.float64)


def office(at_s: Floats, seed: int, noise: float = 0.1) -> Floats:
    """A working week with noise, kW."""
    rng = np.random.default_rng(seed)
    hour, day = at_s / HOUR_S % 24, np.floor((at_s - MONDAY_S) / DAY_S) % 7
    work = (day < 5) * np.exp(-(((hour - 13) / 4) ** 2))
    return np.asarray((40.0 + 160.0 * work) * rng.lognormal(0.0, noise, len(at_s)))


def same(a: Forecast | None, b: Forecast | None) -> bool:
    assert a is not None
    assert b is not None
    return a.method == b.method and np.array_equal(a.quantiles_kw, b.quantiles_kw)


def ahead(model: LoadModel, horizon_s: float = 2 * DAY_S, **more: Any) -> Forecast:
    assert model.known_until_s is not None
    made = predict(model, model.known_until_s, horizon_s, **more)
    assert made is not None
    return made


@FEW
@given(seed=st.integers(0, 99), days=st.integers(1, 20), other=st.floats(0.0, 1e4))
def test_the_future_does_not_count(seed: int, days: int, other: float) -> None:
    """Walked through two series that part at one instant, every forecast made until then is the same, and none after need be."""
    at_s = starts(days + 2)
    load = office(at_s, seed)
    changed = np.where(at_s >= at_s[0] + days * DAY_S, other, load)
    one, two = new_model(HOURLY), new_model(HOURLY)
    for first in range(0, days * 24, 12):
        part = slice(first, first + 12)
        one, two = update(one, at_s[part], load[part]), update(two, at_s[part], changed[part])
        assert same(ahead(one), ahead(two))
    rest = slice(days * 24, None)
    one, two = update(one, at_s[rest], load[rest]), update(two, at_s[rest], changed[rest])
    assert not same(ahead(one), ahead(two))


@FEW
@given(seed=st.integers(0, 99), late=st.integers(1, 10_000))
def test_a_model_that_knows_more_is_refused(seed: int, late: int) -> None:
    at_s = starts(2)
    model = fit(HOURLY, at_s, office(at_s, seed))
    assert model.known_until_s == at_s[-1] + HOUR_S
    with pytest.raises(ValueError, match="after now"):
        predict(model, at_s[-1] + HOUR_S - late, DAY_S)


@FEW
@given(
    seed=st.integers(0, 99),
    hours=st.integers(15 * 24, 28 * 24),
    lead=st.sampled_from([s // HOUR_S for s in LEADS_S if s >= HOUR_S]),
)
def test_training_sees_what_the_forecast_saw(seed: int, hours: int, lead: int) -> None:
    """What is known of a target when it arrives, for a lead, is what was known at that origin: nothing learned in between."""
    at_s = starts(29)
    load = office(at_s, seed)
    early, late = (fit(HOURLY, at_s[:n], load[:n]) for n in (hours - lead + 1, hours))
    target = moments(HOURLY.calendar, HOUR_S, np.array([round(at_s[0]) // HOUR_S + hours]))
    early.memory.scale[0] = late.memory.scale[0]
    nothing = np.full((1, 3), np.nan)
    then, now = (known(model.memory, target, np.array([lead]), nothing) for model in (early, late))
    for name in ("rows", "profile", "latest", "same_slot", "last_week", "sound"):
        np.testing.assert_array_equal(getattr(then, name), getattr(now, name), err_msg=name)


@FEW
@given(
    seed=st.integers(0, 99), days=st.floats(0.1, 16.0), holes=st.floats(0.0, 0.9), level=st.floats(0.0, 1e6),
    method=st.sampled_from([None, *Method]), horizon_h=st.integers(1, 14 * 24),
)  # fmt: skip
def test_quantiles_are_finite_in_order_and_not_below_the_lowest(
    seed: int, days: float, holes: float, level: float, method: Method | None, horizon_h: int
) -> None:
    rng = np.random.default_rng(seed)
    at_s = starts(days)
    load = level * rng.lognormal(0.0, 2.0, len(at_s))
    broken = np.where(rng.random(len(at_s)) < holes, rng.choice([np.nan, np.inf, -np.inf], len(at_s)), load)
    temperature = np.where(rng.random(len(at_s)) < 0.5, np.nan, rng.normal(10.0, 10.0, len(at_s)))
    order = np.sort(rng.integers(0, len(at_s), len(at_s)))  # some twice, some left out
    model = fit(HOURLY, at_s[order], broken[order], temperature[order])
    now_s = at_s[-1] + HOUR_S * rng.uniform(1.0, 60.0)
    made = predict(model, now_s, horizon_h * HOUR_S, method=method)
    if made is None:
        assert not np.isfinite(broken[order]).any()
        return
    assert made.quantiles_kw.shape == (horizon_h, 7)
    assert np.isfinite(made.quantiles_kw).all()
    assert np.isfinite(made.middle_kw).all()
    assert (made.quantiles_kw >= 0.0).all()
    assert (np.diff(made.quantiles_kw, axis=1) >= 0.0).all()
    assert made.known_until_s <= made.made_s


@FEW
@given(seed=st.integers(0, 99), days=st.integers(1, 20), weeks=st.integers(-900, 900))
def test_a_shift_by_whole_weeks_changes_nothing(seed: int, days: int, weeks: int) -> None:
    at_s = starts(days)
    load = office(at_s, seed)
    assert same(ahead(fit(HOURLY, at_s, load)), ahead(fit(HOURLY, at_s + weeks * 7 * DAY_S, load)))


@FEW
@given(seed=st.integers(0, 99), days=st.integers(1, 20), power=st.integers(-12, 12))
def test_the_unit_does_not_matter(seed: int, days: int, power: int) -> None:
    at_s = starts(days)
    load, factor = office(at_s, seed), 2.0**power
    one, two = ahead(fit(HOURLY, at_s, load)), ahead(fit(HOURLY, at_s, load * factor))
    np.testing.assert_allclose(two.quantiles_kw, one.quantiles_kw * factor, rtol=1e-9)


@FEW
@given(seed=st.integers(0, 99), days=st.integers(1, 20), cut=st.floats(0.0, 1.0))
def test_in_parts_or_at_once_and_no_model_is_changed(seed: int, days: int, cut: float) -> None:
    at_s = starts(days)
    load = office(at_s, seed)
    n = max(1, int(cut * len(at_s)))
    first = fit(HOURLY, at_s[:n], load[:n])
    before = ahead(first)
    second = update(first, at_s[n:], load[n:])
    assert same(before, ahead(first))
    assert same(ahead(second), ahead(fit(HOURLY, at_s, load)))


@FEW
@given(level=st.floats(1e-3, 1e5), days=st.integers(1, 20), step_s=st.sampled_from([HOUR_S, 1_800]))
def test_a_constant_load_stays_with_a_narrow_band(level: float, days: int, step_s: int) -> None:
    at_s = MONDAY_S + step_s * np.arange(days * DAY_S / step_s)
    made = ahead(fit(replace(HOURLY, step_s=step_s), at_s, np.full(len(at_s), level)), horizon_s=DAY_S)
    np.testing.assert_allclose(made.median_kw, level, rtol=1e-6)
    width = made.quantiles_kw[:, -1] - made.quantiles_kw[:, 0]
    if days >= 15 and days % 7 < 5:  # a working day is ahead; of Saturdays and Sundays there were too few
        assert width.max() <= 1e-6 * level
    else:
        assert width.max() <= 2.0 * level


@FEW
@given(seed=st.integers(0, 99), extra=st.integers(1, 400))
def test_samples_seen_already_change_nothing_but_the_count(seed: int, extra: int) -> None:
    at_s = starts(20)
    load = office(at_s, seed)
    model = fit(HOURLY, at_s, load)
    again = update(model, at_s[-extra:], load[-extra:] * 5.0)
    assert same(ahead(model), ahead(again))
    assert again.refused == extra
