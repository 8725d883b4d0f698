"""The parts of a bill, one at a time, against sums made by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from gridtide.market.charges import CoincidentCharge, DemandTier, EnergyTier, Holiday, Ratchet, constant_calendar
from gridtide.market.tariff import Tariff, period_at, prices, sell_prices
from gridtide.market.tiers import demand_cost, demand_that_costs, energy_bounds_kwh
from gridtide.market.what_if import Change, what_if
from tests.unit.bill_cases import at_s, billed, hours, span, urdb

JANUARY = span((2018, 1, 1), (2018, 2, 1))
WEEK = span((2018, 1, 1), (2018, 1, 8))


def changed(tariff: Tariff, **fields: Any) -> Tariff:
    return msgspec.structs.replace(tariff, **fields)


def test_adj_adds_to_rate_in_energy_and_demand() -> None:
    tariff = urdb(
        energyratestructure=[[{"rate": 0.10, "adj": 0.02}]], flatdemandstructure=[[{"rate": 5.0, "adj": -1.0}]]
    )
    found = billed(tariff, JANUARY, 10.0)
    assert (round(found.energy, 2), round(found.demand, 2)) == (round(7_440 * 0.12, 2), 40.00)


@pytest.mark.parametrize(
    ("unit", "bound", "kwh_at_low_price"),
    [
        ("kWh", 3_000.0, 3_000.0),
        ("kWh daily", 100.0, 3_100.0),
        ("kWh/kW", 200.0, 4_000.0),
        ("kWh/kW daily", 5.0, 3_100.0),
    ],
)
def test_tier_bounds_by_unit(unit: str, bound: float, kwh_at_low_price: float) -> None:
    """20 kW at most, 10 kW else, 31 days: 7 442.5 kWh."""
    kw = np.full(JANUARY.shape, 10.0)
    kw[500] = 20.0
    tariff = urdb(energyratestructure=[[{"rate": 0.10, "max": bound, "unit": unit}, {"rate": 0.30, "unit": unit}]])
    expected = kwh_at_low_price * 0.10 + (7_442.5 - kwh_at_low_price) * 0.30
    assert billed(tariff, JANUARY, kw).energy == pytest.approx(expected, abs=1e-6)


def test_steps_within_a_block_of_hours_use() -> None:
    """First 200 kWh/kW in steps of 1 000 kWh and the rest, then 400 kWh/kW, then all else; 10 kW."""
    tiers = [
        EnergyTier(9.0, 200.0, "kwh_per_kw"), EnergyTier(0.3, 1_000.0), EnergyTier(0.2, 1e38),
        EnergyTier(0.1, 400.0, "kwh_per_kw"), EnergyTier(0.05, unit="kwh_per_kw"),
    ]  # fmt: skip
    assert energy_bounds_kwh(tiers, 10.0, 31).tolist() == [0.0, 1_000.0, 2_000.0, 4_000.0, np.inf]
    assert energy_bounds_kwh(tiers, 3.0, 31).tolist() == [0.0, 600.0, 600.0, 1_200.0, np.inf]


def test_tiers_are_filled_in_the_order_in_which_energy_came_or_pro_rata() -> None:
    """100 kWh in period 0, then 100 kWh in period 1; the bound of both is 100 kWh."""
    night = urdb(
        energyratestructure=[[{"rate": 0.1, "max": 100}, {"rate": 0.5}], [{"rate": 0.2, "max": 100}, {"rate": 0.6}]],
        energyweekdayschedule=[hours((12, 24))] * 12,
    )
    start_s = span((2018, 1, 1), (2018, 1, 2))
    kw = 100.0 / 12.0
    assert billed(night, start_s, kw).energy == pytest.approx(100 * 0.1 + 100 * 0.6)
    shared = changed(night, energy=msgspec.structs.replace(night.energy, tier_split="pro_rata"))
    assert billed(shared, start_s, kw).energy == pytest.approx(50 * 0.1 + 50 * 0.5 + 50 * 0.2 + 50 * 0.6)


def test_demand_of_each_day() -> None:
    tariff = urdb(flatdemandstructure=[[{"rate": 0.5, "unit": "kW daily"}]])
    kw = np.full(WEEK.shape, 10.0)
    kw[100] = 50.0
    assert billed(tariff, WEEK, kw).demand == pytest.approx(0.5 * (6 * 10 + 50))


def test_demand_in_horse_power() -> None:
    tariff = urdb(flatdemandstructure=[[{"rate": 7.45699872}]], flatdemandunit="hp")
    assert billed(tariff, WEEK, 30.0).demand == pytest.approx(300.0)


def test_ratchet_by_the_month_that_is_billed() -> None:
    share = [0.0, 0.5, *[0.0] * 10]
    tariff = urdb(flatdemandstructure=[[{"rate": 10.0}]], demandratchetpercentage=share)
    start_s = span((2018, 1, 1), (2018, 4, 1))
    kw = np.where(start_s < at_s(2018, 2, 1), 100.0, 10.0)
    assert [m.billed_kw for m in billed(tariff, start_s, kw).months] == [100.0, 50.0, 10.0]


def test_look_back_counts_the_fraction_of_the_month_of_the_peak() -> None:
    months = [True, *[False] * 11]
    tariff = urdb(flatdemandstructure=[[{"rate": 1.0}]], lookbackpercent=0.8, lookbackmonths=months, lookbackrange=2)
    start_s = span((2018, 1, 1), (2018, 5, 1))
    kw = np.where(start_s < at_s(2018, 2, 1), 100.0, np.where(start_s < at_s(2018, 3, 1), 90.0, 10.0))
    assert [m.billed_kw for m in billed(tariff, start_s, kw).months] == [100.0, 90.0, 80.0, 10.0]


def test_minimum_demand_is_billed_at_least() -> None:
    tariff = changed(urdb(flatdemandstructure=[[{"rate": 2.0}]]), ratchet=Ratchet((0.0,) * 12, minimum_kw=25.0))
    assert billed(tariff, WEEK, 10.0).demand == 50.0


def test_minimum_charges() -> None:
    monthly = changed(urdb(energyratestructure=[[{"rate": 0.10}]]), minimum_per_month=1_000.0, fixed_per_month=100.0)
    found = billed(monthly, JANUARY, 10.0)
    assert (found.minimum, found.total) == pytest.approx((1_000.0 - 744.0 - 100.0, 1_000.0))
    annual = changed(monthly, minimum_per_month=0.0, minimum_per_year=20_000.0)
    found = billed(annual, span((2018, 1, 1), (2019, 1, 1)), 10.0)
    assert found.total == pytest.approx(20_000.0)
    assert found.years[0].minimum == pytest.approx(20_000.0 - 8_760.0 - 1_200.0)
    assert billed(annual, JANUARY, 10.0).minimum == pytest.approx(20_000.0 * 31 / 365 - 844.0), "a share of the year"


def test_fixed_charges_by_month_day_and_year() -> None:
    for unit, price in (("$/month", 31.0), ("$/day", 1.0), ("$/year", 372.0)):
        tariff = urdb(fixedchargefirstmeter=price, fixedchargeunits=unit)
        assert billed(tariff, JANUARY, 1.0).fixed == pytest.approx(31.0)


def test_reactive_power_beyond_what_is_free() -> None:
    tariff = changed(urdb(demandreactivepowercharge=2.0), free_kvar_per_kw=0.5)
    kvar = np.full(WEEK.shape, -10.0)
    kvar[7] = 80.0
    found = billed(tariff, WEEK, 100.0, reactive_kvar=kvar)
    assert found.reactive == pytest.approx(2.0 * (80.0 - 50.0))
    assert found.unbilled == ()
    assert "reactive" in billed(tariff, WEEK, 100.0).unbilled[0]


def test_coincident_demand() -> None:
    tariff = changed(urdb(), coincident=CoincidentCharge(constant_calendar(), (4.0,)))
    kw = np.full(WEEK.shape, 10.0)
    kw[at_s(2018, 1, 3, 17, 15) == WEEK] = 70.0
    peak_s = [at_s(2018, 1, 3, 17, 20), at_s(2018, 2, 3)]
    assert billed(tariff, WEEK, kw, coincident_s=peak_s).coincident == pytest.approx(280.0)
    assert "coincident" in billed(tariff, WEEK, kw).unbilled[0]


def test_net_metering_carries_the_surplus_and_pays_it_in_december() -> None:
    tariff = changed(urdb(energyratestructure=[[{"rate": 0.20}]], dgrules="Net Metering"), surplus_per_kwh=0.04)
    start_s = span((2018, 10, 1), (2019, 2, 1))
    month = np.array(
        [int(t >= at_s(2018, 11, 1)) + int(t >= at_s(2018, 12, 1)) + int(t >= at_s(2019, 1, 1)) for t in start_s]
    )
    kw = np.array([-10.0, 5.0, -5.0, 1.0])[month]
    october, november, december, january = billed(tariff, start_s, kw).months
    assert (october.energy, november.energy) == (0.0, 0.0)
    left_kwh = 7_440.0 - 3_600.0 + 3_720.0
    assert december.export_credit == pytest.approx(left_kwh * 0.04)
    assert january.energy == pytest.approx(744.0 * 0.20), "what was paid out is not carried on"


def test_a_holiday_is_a_sunday() -> None:
    tariff = urdb(
        energyratestructure=[[{"rate": 0.1}], [{"rate": 0.3}]],
        energyweekdayschedule=[[1] * 24] * 12,
        energyweekendschedule=[[0] * 24] * 12,
        holidays=["01-01", "2018-01-03"],
    )
    assert tariff.holidays == (Holiday(1, 1), Holiday(1, 3, 2018))
    days = [prices(tariff, np.array([at_s(2018, 1, d, 12)]))[0] for d in range(1, 8)]
    assert days == [0.1, 0.3, 0.1, 0.3, 0.3, 0.1, 0.1]
    assert period_at(tariff.energy.calendar, tariff, at_s(2019, 1, 3)) == 1
    assert billed(tariff, WEEK, 10.0).energy == pytest.approx(240 * (4 * 0.1 + 3 * 0.3))


def test_taxes_on_energy_and_on_everything() -> None:
    tariff = changed(
        urdb(energyratestructure=[[{"rate": 0.1}]]), tax_per_kwh=0.02, tax_fraction=0.19, fixed_per_month=50.0
    )
    assert billed(tariff, WEEK, 10.0).taxes == pytest.approx(1_680 * 0.02 + 0.19 * (168.0 + 50.0))


def test_what_export_is_worth() -> None:
    at = np.array([at_s(2018, 1, 1, 12)])
    sold = [[{"rate": 0.2, "sell": 0.05}]]
    assert sell_prices(urdb(energyratestructure=sold), at).tolist() == [0.05]
    assert sell_prices(urdb(energyratestructure=sold, usenetmetering=True), at).tolist() == [0.2]


def test_demand_tiers_and_their_inverse() -> None:
    tiers = [DemandTier(5.0, 200.0), DemandTier(9.0)]
    assert [demand_cost(tiers, kw) for kw in (0.0, 100.0, 200.0, 300.0)] == [0.0, 500.0, 1_000.0, 1_900.0]
    assert [demand_that_costs(tiers, cost) for cost in (500.0, 1_000.0, 1_900.0)] == [100.0, 200.0, 300.0]
    assert demand_that_costs([DemandTier(0.0)], 1.0) == np.inf


def test_what_if_saves_power_and_energy() -> None:
    tariff = urdb(energyratestructure=[[{"rate": 0.1}]], flatdemandstructure=[[{"rate": 10.0}]])
    kw = np.full(WEEK.shape, 100.0)
    kw[40] = 150.0
    peak_s = float(WEEK[40])
    found = what_if(tariff, WEEK, kw, 900.0, [Change(peak_s, peak_s + 900.0, less_kw=30.0)])
    assert (found.saved_demand, found.saved_energy) == pytest.approx((300.0, 0.75))
    found = what_if(tariff, WEEK, kw, 900.0, [Change(at_s(2018, 1, 2), at_s(2018, 1, 3), less_kwh=48.0)])
    assert (found.saved_demand, found.saved_energy) == pytest.approx((0.0, 4.8))
    with pytest.raises(ValueError, match="no sample"):
        what_if(tariff, WEEK, kw, 900.0, [Change(0.0, 900.0, less_kw=1.0)])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"generation_kw": np.ones(3)}, "one finite value for each"),
        ({"generation_kw": np.full(WEEK.shape, -1.0)}, "positive number"),
        ({"reactive_kvar": np.full(WEEK.shape, np.nan)}, "finite"),
        ({}, "generation meter"),
    ],
)
def test_side_series_that_cannot_be_billed(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        billed(urdb(dgrules="Buy All Sell All"), WEEK, -5.0, **more)
