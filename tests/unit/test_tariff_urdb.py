"""URDB rates: what is read, what is told, and what cannot be used; and the real tariffs of the fixtures."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from gridtide.market.bill import bill
from gridtide.market.tariff import Tariff, TariffError, demand_price_per_kw, price_per_kwh
from gridtide.market.tariff_formats import parse_tariff
from tests.unit.bill_cases import hours, urdb

REAL = Path(__file__).parents[1] / "cases" / "tariffs"
SCHEDULE = [hours((16, 21))] * 12
RATE: dict[str, Any] = {
    "label": "abc",
    "utility": "Town",
    "name": "rate",
    "startdate": 1727740800,
    "enddate": None,
    "approved": True,
    "energyratestructure": [[{"rate": 0.1, "unit": "kWh"}], [{"rate": 0.3, "adj": 0.01, "unit": "kWh"}]],
    "energyweekdayschedule": SCHEDULE,
    "energyweekendschedule": [[0] * 24] * 12,
    "timezone": "America/Denver",
}


def real(name: str) -> Tariff:
    text = (REAL / name).read_text()
    return parse_tariff(json.loads(text) if name.endswith("json") else tomllib.loads(text))


def at_s(zone: str, *when: int) -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[misc,arg-type]


def problems_of(**change: Any) -> str:
    with pytest.raises(TariffError) as caught:
        parse_tariff({**RATE, **change})
    return " / ".join(caught.value.problems)


def test_head_and_prices() -> None:
    tariff = parse_tariff(RATE)
    assert (tariff.name, tariff.currency, tariff.source) == ("Town rate", "USD", "URDB abc, from 2024-10-01")
    assert tariff.notes == ()
    assert price_per_kwh(tariff, at_s("America/Denver", 2026, 6, 1, 16)) == pytest.approx(0.31)
    assert price_per_kwh(tariff, at_s("America/Denver", 2026, 6, 6, 16)) == pytest.approx(0.1), "a Saturday"
    assert price_per_kwh(tariff, at_s("America/Denver", 2026, 6, 1, 21)) == pytest.approx(0.1)


def test_the_answer_of_the_api_is_unpacked() -> None:
    rate = {key: value for key, value in RATE.items() if key != "timezone"}
    assert parse_tariff({"items": [rate], "timezone": "UTC"}).timezone == "UTC"
    with pytest.raises(TariffError, match="single item"):
        parse_tariff({"items": [RATE, RATE]})


def test_the_bulk_download_is_the_same_rate() -> None:
    bulk = {
        "_id": {"$oid": "abc"},
        "utilityName": "Town",
        "rateName": "rate",
        "effectiveDate": {"$date": 1727740800000},
        "energyRateStrux": [{"energyRateTiers": [{"rate": 0.1}]}, {"energyRateTiers": [{"rate": 0.3, "adj": 0.01}]}],
        "energyWeekdaySched": SCHEDULE,
        "energyWeekendSched": [[0] * 24] * 12,
        "flatDemandStrux": [{"flatDemandTiers": [{"rate": 7.0, "max": 50}, {"rate": 8.0}]}],
        "flatDemandMonths": [0] * 12,
        "fixedChargeFirstMeter": 12.0,
        "fixedChargeUnits": "$/month",
        "timezone": "America/Denver",
    }
    tariff = parse_tariff(bulk)
    assert tariff.energy == parse_tariff(RATE).energy
    assert (tariff.name, tariff.fixed_per_month, tariff.notes) == ("Town rate", 12.0, ())
    assert [tier.price_per_kw for tier in tariff.demand[0].periods[0]] == [7.0, 8.0]


def test_what_is_not_read_is_told_and_what_is_empty_is_not() -> None:
    tariff = parse_tariff(
        {
            **RATE,
            "peakkwcapacitymax": 500,
            "energycomments": "see rider 7",
            "description": "Minimum charge\nof $1000.00.",
            "fuelAdjustmentsMonthly": [0.0] * 12,
            "voltageMinimum": 0,
            "demandattrs": [],
            "energyratestructure": [[{"rate": 0.1, "rider": 2, "max": 500}], [{"rate": 0.3}]],
            "demandratestructure": [[{"rate": 3.0, "unit": "kVA"}]],
            "coincidentratestructure": [[{"rate": 2.0, "max": 5}, {"rate": 3.0}]],
            "dgrules": "Feed-in",
            "demandratchetpercentage": [0.5] * 12,
            "lookbackpercent": 0.8,
        }
    )
    told = " / ".join(tariff.notes)
    for words in (
        "peakkwcapacitymax is not read", "energycomments is not read", "Minimum charge of $1000.00.",
        "[0].rider is not read", "max = 500", "kVA is billed as kW",
        "only its first tier", "dgrules = Feed-in", "demandratchetpercentage is not billed",
    ):  # fmt: skip
        assert words in told, words
    for words in ("fuel", "voltage", "attrs"):
        assert words not in told


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timezone": None}, "America/Denver"),
        ({"name": ""}, "give a text"),
        ({"energyratestructure": [[]]}, "list of tiers"),
        ({"energyratestructure": [[{"unit": "kWh"}], [{"rate": 1}]]}, "rate = (missing): give a price"),
        ({"energyratestructure": [[{"rate": "0.1"}], [{"rate": 1}]]}, "give a number"),
        ({"energyratestructure": [[{"rate": 0.1, "unit": "therm"}], [{"rate": 1}]]}, "kWh/kW daily"),
        ({"energyratestructure": [[{"rate": 0.1}, {"rate": 0.2}], [{"rate": 1}]]}, "max = (missing)"),
        ({"energyweekdayschedule": None, "energyweekendschedule": None}, "more than one period"),
        ({"energyweekdayschedule": [[2] * 24] * 12}, "from 0 to 1"),
        ({"energyweekdayschedule": [[0] * 23] * 12}, "12 rows of 24"),
        ({"flatdemandstructure": [[{"rate": 1}]], "flatdemandmonths": [1] * 12}, "from 0 to 0"),
        ({"demandratestructure": [[{"rate": 1}]], "demandrateunit": "MW"}, "kVA"),
        ({"fixedchargefirstmeter": 3, "fixedchargeunits": "$/week"}, "$/day"),
        ({"demandwindow": 7}, "divide an hour"),
        ({"lookbackpercent": 0.8, "lookbackmonths": [1]}, "12 times true"),
        ({"demandratchetpercentage": [2]}, "12 shares"),
        ({"demandreactivepowercharge": -1}, "from 0"),
        ({"holidays": ["2026-13-01"]}, "every year"),
    ],
)
def test_problems(change: dict[str, Any], words: str) -> None:
    assert words in problems_of(**change)


def test_demand_window_rolling_and_percent() -> None:
    tariff = parse_tariff(
        {**RATE, "demandwindow": 30, "interval_kind": "rolling", "lookbackpercent": 80, "lookbackrange": 6}
    )
    assert (tariff.interval_s, tariff.interval_kind) == (1800, "rolling")
    assert tariff.ratchet is not None
    assert (tariff.ratchet.fractions[0], tariff.ratchet.months) == (0.8, 6)


def test_the_site_says_where_a_urdb_rate_holds_but_not_an_acn_one() -> None:
    rate = {key: value for key, value in RATE.items() if key != "timezone"}
    assert parse_tariff(rate, site_timezone="America/Chicago").timezone == "America/Chicago"
    assert parse_tariff(RATE, site_timezone="America/Chicago").timezone == "America/Denver"
    acn = json.loads((REAL / "sce_tou_ev_4_march_2019.json").read_text())
    assert parse_tariff(acn, site_timezone="America/Chicago").timezone == "America/Los_Angeles"


def test_pge_bev_2_s() -> None:
    tariff, zone = real("pge_bev_2_s_2024.json"), "America/Los_Angeles"
    assert tariff.source.startswith("URDB 6757525f259975f54b0eccbf, from 2024-10-01")
    assert tariff.notes == ()
    assert [price_per_kwh(tariff, at_s(zone, 2025, 3, 3, h)) for h in (8, 9, 14, 16, 21)] == [
        0.18081, 0.15754, 0.18081, 0.39404, 0.18081,
    ]  # fmt: skip
    start_s = np.arange(at_s(zone, 2025, 3, 1), at_s(zone, 2025, 4, 1), 900.0)
    assert start_s.size == 31 * 96 - 4, "a day of 92 quarter hours"
    found = bill(tariff, start_s, np.full(start_s.shape, 100.0), 900.0)
    assert (round(found.demand, 2), round(found.fixed, 2)) == (191.00, 447.44)
    assert round(found.energy, 2) == round(100 * (31 * 5 * 0.15754 + 31 * 5 * 0.39404 + (31 * 14 - 1) * 0.18081), 2)


@pytest.mark.parametrize(("peak_kw", "total"), [(250.0, 42_572.50), (200.0, 40_864.00), (180.0, 37_887.60)])
def test_malchow_as_it_is_written(peak_kw: float, total: float) -> None:
    tariff = real("malchow_ns_2025.toml")
    start_s = np.arange(at_s("Europe/Berlin", 2025, 1, 1), at_s("Europe/Berlin", 2026, 1, 1), 900.0)
    kw = np.full(start_s.shape, (500_000.0 - peak_kw / 4.0) / (start_s.size - 1) * 4.0)
    kw[700] = peak_kw
    assert round(bill(tariff, start_s, kw, 900.0).total, 2) == total


def test_the_other_real_tariffs() -> None:
    monthly = real("malchow_ns_monthly_2025.toml")
    assert demand_price_per_kw(monthly, at_s("Europe/Berlin", 2025, 5, 1)) == 24.80
    passau = real("passau_ns_2022.toml").regime
    assert passau is not None
    assert (passau.below_per_kw, passau.above_per_kwh, passau.hours) == (36.73, 0.0272, 2500.0)
    zone = "America/Los_Angeles"
    ev4, ev8 = real("sce_tou_ev_4_march_2019.json"), real("sce_tou_ev_8_june_2019.json")
    assert price_per_kwh(ev4, at_s(zone, 2019, 7, 1, 12)) == 0.26668
    assert demand_price_per_kw(ev4, at_s(zone, 2019, 7, 1, 12)) == 15.51
    assert price_per_kwh(ev8, at_s(zone, 2019, 7, 6, 17)) == 0.25563, "a weekend"
    assert price_per_kwh(ev8, at_s(zone, 2020, 1, 6, 9)) == 0.07724, "winter wraps the year"
    assert demand_price_per_kw(ev8, at_s(zone, 2020, 1, 6, 9)) == 0.0
    assert all(real(path.name).source for path in REAL.glob("*.[jt]*")), "each names its source"


def test_urdb_helper_of_the_tests_reads_without_notes() -> None:
    assert urdb(flatdemandstructure=[[{"rate": 1.0}]]).notes == ()
