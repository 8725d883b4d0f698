"""Stays as rows of a plan, and the stays that are to be expected from those of the past."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gridtide.plan.expected import ExpectSettings, by_hour, expected, history, still_to_come
from gridtide.plan.stays import Early, Stay, vehicles

DAY_S = 86_400.0
MONDAY_S = 1_559_520_000.0
BASE = Stay(
    key="a", arrived_s=0.0, departs_s=3_600.0, charge_kw=10.0, discharge_kw=10.0, efficiency=0.9, capacity_kwh=40.0,
    energy_kwh=10.0, required_kwh=20.0, least_kwh=8.0,
)  # fmt: skip
STARTS = 900.0 * np.arange(8, dtype=np.float64)
HOURS = np.full(8, 0.25)


@given(arrived=st.floats(-4_000.0, 9_000.0), stay=st.floats(1.0, 12_000.0), setup=st.sampled_from([0.0, 30.0, 600.0]))
def test_a_stay_has_the_energy_that_full_power_gives_while_it_lasts(arrived: float, stay: float, setup: float) -> None:
    rows = vehicles(
        [structs.replace(BASE, arrived_s=arrived, departs_s=arrived + stay, setup_s=setup)], STARTS, HOURS, 0.06
    )
    assert rows.charge_limit_kw is not None
    begin, end = max(arrived + setup, 0.0), min(arrived + stay, 7_200.0)
    assert float((rows.charge_limit_kw[0] * HOURS).sum()) == pytest.approx(
        10.0 * max(end - begin, 0.0) / 3600.0, abs=1e-9
    )
    busy = np.flatnonzero(rows.charge_limit_kw[0])
    if busy.size:
        assert (rows.first[0], rows.last[0]) == (busy[0], busy[-1])
    else:
        assert rows.last[0] <= rows.first[0]


def test_a_stay_beyond_the_last_step_owes_what_could_not_be_added_later() -> None:
    rows = vehicles([structs.replace(BASE, departs_s=7_200.0 + 1_800.0)], STARTS, HOURS, 0.06)
    assert rows.required_kwh[0] == pytest.approx(20.0 - 10.0 * 0.9 * 0.5)
    for_ever = vehicles([structs.replace(BASE, departs_s=math.inf)], STARTS, HOURS, 0.06)
    assert for_ever.required_kwh[0] == 0.0


def test_a_need_beyond_the_battery_stays_a_need_and_no_stays_are_no_rows() -> None:
    assert vehicles([structs.replace(BASE, required_kwh=50.0)], STARTS, HOURS, 0.06).required_kwh[0] == 50.0
    assert vehicles([], STARTS, HOURS, 0.06).size == 0


@given(
    stay_s=st.floats(60.0, 20_000.0),
    need_kwh=st.floats(0.0, 30.0),
    kept_h=st.floats(0.05, 3.0),
    knee=st.sampled_from([1.0, 0.8]),
)
def test_the_hours_before_a_departure_are_kept_only_as_far_as_the_need_fits_without_them(
    stay_s: float, need_kwh: float, kept_h: float, knee: float
) -> None:
    starts = 900.0 * np.arange(24, dtype=np.float64)
    hours = np.full(24, 0.25)
    stay = structs.replace(BASE, departs_s=stay_s, required_kwh=10.0 + need_kwh, knee_soc=knee)
    free, kept = (
        vehicles([stay], starts, hours, 0.06, early).charge_limit_kw for early in (Early(), Early(kept_h=kept_h))
    )
    assert free is not None
    assert kept is not None
    most, left = (float((limit[0] * hours).sum()) for limit in (free, kept))
    assert left >= min(need_kwh / 0.9, most) - 1e-9
    before = starts + 900.0 <= stay_s - 3600.0 * kept_h
    assert np.array_equal(kept[0][before], free[0][before])
    if knee < 1.0:  # the taper takes that time
        assert left == most
    elif stay_s > 7_200.0 and need_kwh < 5.0:
        assert left < most


def test_of_equal_plans_those_with_the_least_time_go_first() -> None:
    stays = [structs.replace(BASE, departs_s=departs_s) for departs_s in (7_200.0, 36_000.0, math.inf)]
    price = vehicles(stays, STARTS, HOURS, 0.06, Early(hurry_per_kwh_h=0.001)).calendar_price_per_kwh_h
    assert 0.0 <= price[0] < price[1] < price[2] <= 0.001
    assert (vehicles(stays, STARTS, HOURS, 0.06).calendar_price_per_kwh_h == 0.0).all()


def week(days: range, need_kwh: float = 10.0) -> list[Stay]:
    """Two long stays each working day at 8:30 and a short one at 17:10."""
    found = []
    for day in days:
        if day % 7 < 5:
            at_s = MONDAY_S + day * DAY_S
            for k, (hour, stay_h) in enumerate(((8.5, 8.0), (8.6, 9.0), (17.2, 1.0))):
                begin = at_s + hour * 3600.0
                found.append(
                    structs.replace(
                        BASE, key=f"{day}-{k}", arrived_s=begin, departs_s=begin + stay_h * 3600.0, required_kwh=10.0 + need_kwh
                    )
                )  # fmt: skip
    return found


def test_expected_stays_are_the_mean_of_like_days() -> None:
    past = history(week(range(14)), MONDAY_S, ExpectSettings())
    monday_s = MONDAY_S + 14 * DAY_S
    found = expected(past, monday_s, monday_s + DAY_S, ExpectSettings())
    assert [(stay.arrived_s - monday_s) / 3600.0 for stay in found] == [8.5, 17.5]  # the middle of their hours
    assert sum(stay.required_kwh - stay.energy_kwh for stay in found) == pytest.approx(30.0)
    assert [stay.charge_kw for stay in found] == pytest.approx([20.0, 10.0])
    assert found[0].departs_s - found[0].arrived_s == pytest.approx(8.5 * 3600.0)


def test_nobody_is_expected_on_a_day_of_a_kind_on_which_nobody_came() -> None:
    past = history(week(range(12)), MONDAY_S, ExpectSettings())
    saturday_s = MONDAY_S + 12 * DAY_S
    assert expected(past, saturday_s, saturday_s + DAY_S, ExpectSettings()) == []


def test_the_rest_of_a_running_hour_holds_its_share() -> None:
    past = history(week(range(14)), MONDAY_S, ExpectSettings())
    now_s = MONDAY_S + 14 * DAY_S + 8.75 * 3600.0
    found = expected(past, now_s, now_s + 3_600.0, ExpectSettings())
    assert found[0].arrived_s == now_s + 450.0
    assert found[0].departs_s - found[0].arrived_s == pytest.approx(8.5 * 3600.0)
    assert found[0].charge_kw == pytest.approx(20.0 * 0.25)


@given(minutes=st.floats(0.0, 60.0))
def test_those_still_to_come_get_fewer_as_the_hour_goes_by(minutes: float) -> None:
    """Whoever came is connected and planned as such: expecting the whole hour to its end would count them twice."""
    hour_s = MONDAY_S + 14 * DAY_S + 8 * 3600.0
    coming = by_hour(history(week(range(14)), MONDAY_S, ExpectSettings()), hour_s, hour_s + 3600.0, ExpectSettings())
    left = still_to_come(coming, hour_s + 60.0 * minutes)
    share = 1.0 - minutes / 60.0
    for name in ("charge_kw", "discharge_kw", "capacity_kwh", "energy_kwh", "required_kwh", "least_kwh"):
        whole, rest = (sum(getattr(stay, name) for stay in stays) for stays in (coming, left))
        assert rest == pytest.approx(share * whole, abs=1e-6)
    assert all(hour_s + 60.0 * minutes <= stay.arrived_s <= hour_s + 3600.0 for stay in left)
    assert still_to_come(coming, hour_s + 3600.0) == []


def test_stays_that_have_not_ended_are_not_known() -> None:
    now_s = MONDAY_S + 8 * DAY_S + 12 * 3600.0
    whole, ended = week(range(20)), [stay for stay in week(range(20)) if stay.departs_s <= now_s]
    settings = ExpectSettings()
    a = expected(history(whole, MONDAY_S, settings), now_s, now_s + DAY_S, settings)
    assert a == expected(history(ended, MONDAY_S, settings), now_s, now_s + DAY_S, settings)
    assert a


def test_without_a_day_of_records_nobody_is_expected() -> None:
    assert expected(history([], math.inf, ExpectSettings()), MONDAY_S, MONDAY_S + DAY_S, ExpectSettings()) == []
