"""What a plan reads of a tariff: prices and registers by slot, steps that never hide a change, peaks that are billed anyway."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.market.tariff import Tariff, prices
from gridtide.market.tariff_formats import parse_tariff
from gridtide.plan.registers import Peaks, next_midnight_s, noted, rates, registers_at, steps_from, windows

MONDAY_S = 1_559_520_000.0
"""2019-06-03 00:00 UTC."""
HOUR_S = 3600.0
ON_PEAK = [[0] * 12 + [1] * 6 + [0] * 6] * 12


def tariff(**fields: Any) -> Tariff:
    """Energy 0.10, from noon to six 0.30; demand in these hours at 9 per kW, at all hours at 15 per kW."""
    whole: dict[str, Any] = {
        "name": "case", "energyratestructure": [[{"rate": 0.10}], [{"rate": 0.30}]], "energyweekdayschedule": ON_PEAK,
        "energyweekendschedule": [[0] * 24] * 12, "demandratestructure": [[{"rate": 0.0}], [{"rate": 9.0}]],
        "demandweekdayschedule": ON_PEAK, "demandweekendschedule": [[0] * 24] * 12,
        "flatdemandstructure": [[{"rate": 15.0}]], "flatdemandmonths": [0] * 12,
    }  # fmt: skip
    return parse_tariff(whole | fields, timezone="UTC")


def test_each_priced_peak_is_a_register_of_its_own_with_its_hours() -> None:
    found = rates(tariff(), MONDAY_S, 900.0, 96)
    hours = {item.price_per_kw: np.flatnonzero(item.mask) / 4.0 for item in found.counts}
    assert sorted(hours) == [9.0, 15.0]
    assert hours[15.0].size == 96
    assert hours[9.0][[0, -1]].tolist() == [12.0, 17.75]


def test_prices_are_those_of_the_tariff_with_its_taxes() -> None:
    import msgspec

    taxed = msgspec.structs.replace(tariff(), tax_per_kwh=0.02, tax_fraction=0.5)
    found = rates(taxed, MONDAY_S, 900.0, 96)
    assert found.import_price == pytest.approx(prices(taxed, found.starts_s) * 1.5 + 0.02)


@given(now=st.floats(0.0, 86_399.0), fine=st.integers(0, 20), reach_h=st.floats(1.0, 40.0))
def test_steps_cover_the_time_ahead_and_hide_no_change_of_price_or_register(
    now: float, fine: int, reach_h: float
) -> None:
    at = rates(tariff(), MONDAY_S, 900.0, 4 * 66)
    now_s = MONDAY_S + now
    starts, hours, slots = steps_from(at, now_s, fine, now_s + reach_h * HOUR_S)
    ends = starts + hours * HOUR_S
    assert starts[0] == now_s
    assert (hours > 0.0).all()
    assert ends[:-1] == pytest.approx(starts[1:])
    assert ends[-1] >= now_s + reach_h * HOUR_S - 1e-6
    for a, b, slot in zip(starts, ends, slots, strict=True):
        inside = (at.starts_s >= a - 900.0 + 1e-6) & (at.starts_s < b - 1e-6)
        assert set(at.import_price[inside]) == {at.import_price[slot]}
        for item in at.counts:
            assert set(item.mask[inside]) == {item.mask[slot]}
    assert (hours[1 : fine + 1] <= 0.25 + 1e-9).all()


def test_what_is_billed_anyway_is_free_and_the_ratchet_lifts_only_what_it_is_for() -> None:
    case = tariff()
    at = rates(case, MONDAY_S, 900.0, 96)
    peaks = noted(case, noted(case, Peaks(floor_kw=100.0), MONDAY_S + 13 * HOUR_S, 250.0), MONDAY_S, 300.0)
    found = {r[1].price_per_kw[0]: r[1].from_kw[0] for r in windows(at, np.arange(96), peaks)}
    assert found == {9.0: 250.0, 15.0: 300.0}
    fresh = {r[1].price_per_kw[0]: r[1].from_kw[0] for r in windows(at, np.arange(96), Peaks(floor_kw=100.0))}
    assert fresh == {9.0: 100.0, 15.0: 100.0}


def test_tomorrow_has_a_window_of_its_own() -> None:
    case = tariff()
    at = rates(case, MONDAY_S, 900.0, 192)
    found = windows(at, np.arange(192), Peaks(), {}, next_midnight_s(case, MONDAY_S))
    flat = [item for register, item in found if item.price_per_kw[0] == 15.0]
    assert [int(item.mask.sum()) for item in flat] == [96, 96]
    assert not (flat[0].mask & flat[1].mask).any()


def test_a_charge_by_the_day_begins_anew_at_midnight() -> None:
    from msgspec import structs

    case = tariff()
    daily = structs.replace(case, demand=tuple(structs.replace(item, per="day") for item in case.demand))
    keys = {register for at_s in (MONDAY_S, MONDAY_S + 24 * HOUR_S) for register, _ in registers_at(daily, at_s)}
    assert len({day for _, day, _ in keys}) == 2
    peaks = noted(daily, Peaks(), MONDAY_S, 300.0)
    found = windows(rates(daily, MONDAY_S + 24 * HOUR_S, 900.0, 40), np.arange(40), peaks)
    assert all(item.from_kw[0] == 0.0 for _, item in found)


def test_of_a_charge_that_bills_only_the_dearest_period_every_priced_hour_counts_at_the_dearest_price() -> None:
    from msgspec import structs

    case = tariff()
    charge = next(item for item in case.demand if len(item.periods) > 1)
    tiers = (structs.replace(charge.periods[0][0], price_per_kw=4.0),), charge.periods[1]
    dearest = structs.replace(case, demand=(structs.replace(charge, periods=tiers, combine="dearest"),))
    found = rates(dearest, MONDAY_S, 900.0, 96).counts
    assert [(item.price_per_kw, int(item.mask.sum())) for item in found] == [(9.0, 96)]


def test_the_clock_change_makes_a_day_of_25_hours() -> None:
    berlin = parse_tariff({"name": "b", "energyratestructure": [[{"rate": 0.1}]]}, timezone="Europe/Berlin")
    before_s = 1_572_120_000.0  # 2019-10-26 20:00 UTC: 22:00 in Berlin
    first = next_midnight_s(berlin, before_s)
    assert next_midnight_s(berlin, first) - first == 25 * HOUR_S
