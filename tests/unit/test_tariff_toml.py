"""Our own layout: tiers by named rates, demand charges within hours, the German regime."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from gridtide.market import tariff_toml
from gridtide.market.tariff import Tariff, TariffError, demand_price_per_kw, period_at, price_per_kwh
from gridtide.market.tariff_formats import parse_tariff
from tests.unit.bill_cases import billed, span
from tests.unit.test_tariff import berlin_s


def documented() -> dict[str, Any]:
    """The example of the module, which covers the year with a second season."""
    text = (tariff_toml.__doc__ or "").split("\n\n", 1)[1]
    raw = tomllib.loads("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    raw["season"] += [{"from": "11-01", "to": "04-30", "price": [{"steps": 0.08}]}]
    raw["season"][0]["price"] += [{"steps": 0.07}]
    return raw


def small(**fields: Any) -> Tariff:
    raw = {"name": "n", "currency": "EUR", "timezone": "UTC", "season": [{"price": [{"steps": 0.1}]}]}
    return parse_tariff(raw | fields)


def test_the_documented_example() -> None:
    tariff = parse_tariff(documented())
    evening = berlin_s(2026, 6, 1, 17)
    assert price_per_kwh(tariff, evening) == pytest.approx(0.30 + 0.0222), (
        "the lesser of the regime's prices comes on top"
    )
    assert [tier.up_to for tier in tariff.energy.periods[0]] == [5_000.0, float("inf")]
    assert [tier.sell_per_kwh for tier in tariff.energy.periods[0]] == [0.05, 0.06]
    assert demand_price_per_kw(tariff, evening) == pytest.approx(12.0 + 5.0 + 34.29 / 12)
    assert demand_price_per_kw(tariff, berlin_s(2026, 6, 1, 21)) == pytest.approx(12.0 + 34.29 / 12)
    assert (tariff.regime is not None, tariff.ratchet is not None, len(tariff.holidays)) == (True, True, 2)


@pytest.mark.parametrize(
    ("hours", "inside"),
    [
        (["16:00", "21:00"], {16, 17, 18, 19, 20}),
        (["22:00", "03:00"], {22, 23, 0, 1, 2}),
        (["00:00", "02:00"], {0, 1}),
        (["22:00", "24:00"], {22, 23}),
        (["22:00", "00:00"], {22, 23}),
        (["00:00", "24:00"], set(range(24))),
    ],
)
def test_hours_of_a_demand_charge(hours: list[str], inside: set[int]) -> None:
    tariff = small(demand_charge=[{"hours": hours, "tiers": [{"price_per_kw": 1.0}]}])
    calendar = tariff.demand[0].calendar
    assert {h for h in range(24) if period_at(calendar, tariff, 3_600.0 * h)} == inside


def test_days_and_season_of_a_demand_charge() -> None:
    charge = {
        "days": "Mon-Fri",
        "from": "06-01",
        "to": "09-30",
        "tiers": [{"price_per_kw": 2.0}],
        "per": "day",
        "ratcheted": False,
    }
    tariff = small(demand_charge=[charge])
    june, winter = span((2026, 6, 1), (2026, 6, 8)), span((2026, 1, 5), (2026, 1, 12))
    assert billed(tariff, june, 10.0).demand == pytest.approx(5 * 20.0)
    assert billed(tariff, winter, 10.0).demand == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"rate": [{"name": "peak", "tiers": [{"price_per_kwh": 1, "up_to": 5}]}]},
            "leave out the bound of the last tier",
        ),
        ({"rate": [{"name": "peak", "tiers": [{"price_per_kwh": 1}, {"price_per_kwh": 2}]}]}, "up_to = (missing)"),
        ({"rate": [{"name": "peak", "tiers": [{"price_per_kwh": 1, "unit": "MWh"}]}]}, "kwh_per_kw"),
        ({"rate": [{"name": "peak"}]}, "at least one table"),
        ({"rate": 3}, "list of tables"),
        (
            {"season": [{"price": [{"steps": "peek"}]}], "rate": [{"name": "peak", "tiers": [{"price_per_kwh": 1}]}]},
            "(peak)",
        ),
        ({"season": [{"price": [{"steps": "peak"}]}]}, "clock time and a price"),
        ({"demand_charge": [{"tiers": [{"price_per_kw": -1}]}]}, "from 0"),
        ({"demand_charge": [{"tiers": [{"price_per_kw": 1}], "hours": ["9:00"]}]}, "two clock times"),
        ({"demand_charge": [{"tiers": [{"price_per_kw": 1}], "per": "week"}]}, "month, day"),
        ({"demand_charge": [{"tiers": [{"price_per_kw": 1}], "ratcheted": 1}]}, "true or false"),
        ({"regime": {"below_per_kw": 1}}, "regime.above_per_kw = (missing)"),
        ({"regime": 5}, "[regime]"),
        ({"metering": "net"}, "buy_all_sell_all"),
        ({"holidays": "12-25"}, "list of days"),
        ({"holidays": ["25.12."]}, "every year"),
        ({"tax_fraction": 19}, "to 10"),
        ({"tier_split": "fair"}, "pro_rata"),
        ({"source": 5}, "give a text"),
    ],
)
def test_problems(change: dict[str, Any], words: str) -> None:
    with pytest.raises(TariffError) as caught:
        small(**change)
    assert words in " / ".join(caught.value.problems)
