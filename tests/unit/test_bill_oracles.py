"""Bills worked out by hand and by other engines, to the cent (B1 to B7), and a set of PySAM's."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gridtide.market.bill import YearToDate, demand_averages
from gridtide.market.charges import Floats, Ratchet, UsageRegime
from gridtide.market.tariff import Tariff
from gridtide.market.what_if import Change, above_cap, what_if
from tests.unit.bill_cases import at_s, billed, hour_of, hours, span, urdb
from tools.pysam_bills import difference
from tools.pysam_cases import Case, random_case

STORED = json.loads((Path(__file__).parents[1] / "cases" / "pysam_bills.json").read_text())
EVENING = hours((16, 21))
B1 = urdb(
    energyratestructure=[[{"rate": 0.10}], [{"rate": 0.30}]],
    energyweekdayschedule=[EVENING] * 12,
    energyweekendschedule=[[0] * 24] * 12,
    demandratestructure=[[{"rate": 0.0}], [{"rate": 12.0}]],
    demandweekdayschedule=[EVENING] * 12,
    demandweekendschedule=[[0] * 24] * 12,
    flatdemandstructure=[[{"rate": 8.0}]],
    fixedchargefirstmeter=50.0,
    fixedchargeunits="$/month",
)


def b1_load(start_s: Floats) -> Floats:
    """100 kW, on working days 250 kW from 9 to 17 h. 1 January 2018 is a Monday."""
    working = (start_s // 86_400 + 3) % 7 < 5
    hour = hour_of(start_s)
    return np.where(working & (hour >= 9) & (hour < 17), 250.0, 100.0)


def test_b1_time_of_use_energy_and_demand() -> None:
    start_s = span((2018, 1, 1), (2018, 4, 1))
    kw = b1_load(start_s)
    kw[start_s == at_s(2018, 1, 15, 12)] = 400.0
    january, february, march = billed(B1, start_s, kw).months
    assert (round(january.import_kwh, 6), round(january.energy, 2)) == (87_087.5 + 14_950.0, 13_193.75)
    assert round(january.demand, 2) == 3_000.00 + 3_200.00
    assert [round(m.total, 2) for m in (january, february, march)] == [19_443.75, 16_770.00, 17_990.00]


def test_b2_ratchet() -> None:
    start_s = span((2018, 1, 1), (2019, 1, 1))
    kw = np.full(start_s.shape, 100.0)
    kw[start_s == at_s(2018, 7, 16, 15)] = 400.0
    tariff = urdb(flatdemandstructure=[[{"rate": 10.0}]], lookbackpercent=0.8, lookbackrange=11)
    assert tariff.ratchet == Ratchet((0.8,) * 12, 11)
    found = billed(tariff, start_s, kw, earlier_peaks_kw=[100.0] * 12)
    assert [round(m.demand, 2) for m in found.months] == [1_000.0] * 6 + [4_000.0] + [3_200.0] * 5


def test_b3_tiers_of_demand_and_energy() -> None:
    tariff = urdb(
        energyratestructure=[[{"rate": 0.10, "max": 50_000}, {"rate": 0.08}]],
        flatdemandstructure=[[{"rate": 5.0, "max": 200}, {"rate": 9.0}]],
    )
    found = billed(tariff, span((2018, 1, 1), (2018, 2, 1)), 300.0)
    assert (round(found.demand, 2), round(found.energy, 2)) == (1_900.00, 18_856.00)


@pytest.mark.parametrize(
    ("rules", "total"),
    [("Net Metering", 4_960.0), ("Net Billing Instantaneous", 6_355.0), ("Buy All Sell All", 6_820.0)],
)
def test_b4_metering_schemes(rules: str, total: float) -> None:
    tariff = urdb(energyratestructure=[[{"rate": 0.20, "sell": 0.05}]], dgrules=rules)
    start_s = span((2018, 1, 1), (2018, 2, 1))
    hour = hour_of(start_s)
    generation_kw = np.where((hour >= 17) & (hour < 19), 200.0, 0.0)
    assert round(billed(tariff, start_s, 50.0 - generation_kw, generation_kw=generation_kw).total, 2) == total


def test_b5_a_spike_within_a_block() -> None:
    start_s = span((2018, 1, 1), (2018, 1, 1, 1), 300.0)
    kw = np.full(12, 300.0)
    kw[4] = 600.0
    assert demand_averages(B1, start_s, kw, 300.0)[1].max() == 400.0


def test_b6_energy_above_a_cap() -> None:
    hour = np.arange(96) / 4.0
    found = above_cap(np.round(300.0 + 200.0 * np.exp(-(((hour - 14.0) / 2.0) ** 2)), 1), 900.0, 450.0)
    assert (found.peak_kw, found.intervals, round(found.energy_kwh, 1), found.saved_kw) == (500.0, 9, 69.7, 50.0)


MALCHOW = UsageRegime(34.29, 0.0680, 148.82, 0.0222)


def malchow() -> Tariff:
    return msgspec.structs.replace(urdb(), regime=MALCHOW)


def malchow_load(peak_kw: float, start_s: Floats) -> Floats:
    """500 MWh a year with one quarter hour at the peak."""
    kw = np.full(start_s.shape, (500_000.0 - peak_kw / 4.0) / (start_s.size - 1) * 4.0)
    kw[1_000] = peak_kw
    return kw


@pytest.mark.parametrize(
    ("peak_kw", "total", "regime", "use_h"),
    [(250.0, 42_572.50, "below", 2_000.0), (200.0, 40_864.00, "above", 2_500.0), (180.0, 37_887.60, "above", 2_777.8)],
)
def test_b7_german_regime(peak_kw: float, total: float, regime: str, use_h: float) -> None:
    start_s = span((2025, 1, 1), (2026, 1, 1))
    found = billed(malchow(), start_s, malchow_load(peak_kw, start_s))
    assert round(found.total, 2) == total
    year = found.years[0]
    assert (year.regime, round(year.hours_of_use, 1)) == (regime, use_h)


def test_the_value_of_a_kilowatt_jumps_where_the_regime_turns() -> None:
    start_s = span((2025, 1, 1), (2026, 1, 1))

    def cut(from_kw: float, less_kw: float) -> tuple[float, bool]:
        """Less in the peak's quarter hour, the same energy elsewhere."""
        peak_s, quiet_s = float(start_s[1_000]), float(start_s[2_000])
        changes = [Change(peak_s, peak_s + 900.0, less_kw=less_kw), Change(quiet_s, quiet_s + 900.0, less_kw=-less_kw)]
        found = what_if(malchow(), start_s, malchow_load(from_kw, start_s), 900.0, changes)
        return found.saved, found.regime_changed

    saved, changed = cut(250.0, 50.0)
    assert (round(saved, 2), changed) == (1_708.50, True)
    saved, changed = cut(200.0, 20.0)
    assert (round(saved, 2), changed) == (2_976.40, False)
    saved, changed = cut(201.0, 1.0)
    assert changed
    assert saved == pytest.approx(34.29 * 201 + 0.068 * 500_000 - 40_864.0)


def test_part_of_a_year_is_billed_in_proportion() -> None:
    """A month at the same use as the year: a twelfth of the demand price by days, the regime of the year's hours."""
    start_s = span((2025, 6, 1), (2025, 7, 1))
    found = billed(malchow(), start_s, 100.0)
    assert found.years[0].regime == "above"
    assert found.years[0].hours_of_use == pytest.approx(8_760.0)
    assert found.demand == pytest.approx(148.82 * 100.0 * 30 / 365)
    so_far = YearToDate(import_kwh=100.0 * 151 * 24, peak_kw=150.0, covered_s=151 * 86_400.0)
    added = billed(malchow(), start_s, 100.0, year_to_date=so_far)
    assert added.demand == pytest.approx(148.82 * 150.0 * 30 / 365)
    assert added.energy == pytest.approx(0.0222 * 72_000.0)


@pytest.mark.parametrize("stored", STORED["cases"], ids=lambda item: str(item["seed"]))
def test_bills_equal_pysam(stored: dict[str, Any]) -> None:
    """Computed once by NREL PySAM with `tools.pysam_bills --store`; `make pysam` compares 500."""
    case = Case(**{f.name: stored[f.name] for f in fields(Case)})
    assert difference(case, stored["bills"]) <= 0.01


def test_the_stored_cases_are_those_of_the_generator_and_cover_every_scheme() -> None:
    assert STORED["pysam"] == "7.1.1.post1"
    for stored in STORED["cases"]:
        made = random_case(stored["seed"])
        assert made.rate == stored["rate"]
        assert list(made.prior_peaks_kw) == stored["prior_peaks_kw"]
    rates = [stored["rate"] for stored in STORED["cases"]]
    assert {rate["dgrules"] for rate in rates} == {"Net Billing Instantaneous", "Net Metering", "Buy All Sell All"}
    units = {tier["unit"] for rate in rates for tiers in rate["energyratestructure"] for tier in tiers}
    assert units == {"kWh", "kWh/kW", "kWh daily", "kWh/kW daily"}
    assert any("lookbackpercent" in rate for rate in rates)
    assert {rate.get("minchargeunits") for rate in rates} == {None, "$/month", "$/year"}


def test_a_difference_from_pysam_is_seen() -> None:
    stored = STORED["cases"][2]
    case = Case(**{f.name: stored[f.name] for f in fields(Case)})
    spoilt = [*stored["bills"][:5], stored["bills"][5] + 0.02, *stored["bills"][6:]]
    assert difference(case, spoilt) > 0.01
    assert math.isinf(difference(case, [math.nan] * 12))
