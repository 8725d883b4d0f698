"""Tariffs: both written forms, prices by local time, and problems told all at once."""

import json
import tomllib
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from gridtide.market.tariff import (
    Tariff,
    TariffError,
    billing_period,
    demand_price_per_kw,
    price_per_kwh,
    price_steps,
    prices,
)
from gridtide.market.tariff_formats import parse_tariff

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tariffs"
TOWN = """
name = "Town works"
currency = "EUR"
timezone = "Europe/Berlin"
fixed_per_month = 45.0
tax_per_kwh = 0.04
export_credit_per_kwh = 0.06

[demand]
ratchet_fraction = 0.8

[[season]]
name = "summer"
from = "05-01"
to = "10-31"
demand_price_per_kw = 12.0
[[season.price]]
days = "Mon-Fri"
steps = [["00:00", 0.10], ["08:00", 0.20], ["20:00", 0.10]]
[[season.price]]
steps = 0.08

[[season]]
name = "winter"
from = "11-01"
to = "04-30"
demand_price_per_kw = 9.0
[[season.price]]
steps = [["00:00", 0.11], ["02:30", 0.21], ["07:00", 0.31]]
"""


def at_s(zone: str, *when: int) -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[misc,arg-type]


def berlin_s(*when: int) -> float:
    return at_s("Europe/Berlin", *when)


@pytest.fixture(scope="module")
def town() -> Tariff:
    return parse_tariff(tomllib.loads(TOWN))


@pytest.fixture(scope="module")
def a10() -> Tariff:
    packaged = resources.files("gridtide") / "data" / "tariff_pge_a10_2019.json"
    return parse_tariff(json.loads(packaged.read_text()))


@pytest.mark.parametrize(
    ("when", "price", "demand"),
    [
        ((2026, 6, 1, 7, 59, 59), 0.10, 12.0),  # Monday
        ((2026, 6, 1, 8), 0.20, 12.0),
        ((2026, 6, 1, 20), 0.10, 12.0),
        ((2026, 6, 6, 12), 0.08, 12.0),  # Saturday: "all" is less specific than Mon-Fri, which does not cover it
        ((2026, 10, 31, 23, 59), 0.08, 12.0),
        ((2026, 11, 1, 0), 0.11, 9.0),
        ((2026, 12, 31, 23), 0.31, 9.0),
        ((2027, 1, 1, 1), 0.11, 9.0),
        ((2028, 2, 29, 12), 0.31, 9.0),
    ],
)
def test_price_follows_season_weekday_and_local_clock(
    town: Tariff, when: tuple[int, ...], price: float, demand: float
) -> None:
    assert price_per_kwh(town, berlin_s(*when)) == price
    assert demand_price_per_kw(town, berlin_s(*when)) == demand


def test_days_of_23_and_25_hours_are_priced_as_lived(town: Tariff) -> None:
    spring = price_steps(town, date(2026, 3, 29))  # 02:00 becomes 03:00, so the 02:30 step starts with the change
    assert [(step.start_s - berlin_s(2026, 3, 29)) / 3600 for step in spring] == [0.0, 2.0, 6.0]
    autumn = price_steps(town, date(2027, 10, 31))
    assert autumn[-1].start_s == berlin_s(2027, 10, 31)  # a Sunday in summer's prices: one step
    winter_zone = parse_tariff(tomllib.loads(TOWN.replace('to = "10-31"', 'to = "09-30"').replace("11-01", "10-01")))
    steps = price_steps(winter_zone, date(2026, 10, 25))
    hours = [(step.start_s - berlin_s(2026, 10, 25)) / 3600 for step in steps]
    assert hours == [0.0, 2.5, 3.0, 3.5, 8.0], "02:00 to 03:00 is lived twice, with its prices"


def test_vector_and_scalar_prices_agree_over_a_year(town: Tariff, a10: Tariff) -> None:
    t_s = np.arange(berlin_s(2026, 1, 1), berlin_s(2027, 1, 1), 7 * 1700.0)
    for tariff in (town, a10):
        assert prices(tariff, t_s).tolist() == [price_per_kwh(tariff, float(t)) for t in t_s]
    assert prices(town, np.empty(0)).shape == (0,)
    assert prices(town, t_s[:6].reshape(2, 3)).shape == (2, 3)


def test_steps_of_a_day_are_the_prices_of_its_instants(town: Tariff) -> None:
    steps = price_steps(town, date(2026, 6, 1))
    assert [(s.start_s, s.price_per_kwh) for s in steps] == [
        (berlin_s(2026, 6, 1), 0.10),
        (berlin_s(2026, 6, 1, 8), 0.20),
        (berlin_s(2026, 6, 1, 20), 0.10),
    ]


def test_billing_period_is_the_local_calendar_month(town: Tariff) -> None:
    assert billing_period(town, berlin_s(2026, 3, 31, 23, 59)) == (berlin_s(2026, 3, 1), berlin_s(2026, 4, 1))
    start_s, end_s = billing_period(town, datetime(2026, 12, 31, 23, 30, tzinfo=UTC).timestamp())
    assert (start_s, end_s) == (berlin_s(2027, 1, 1), berlin_s(2027, 2, 1))


def test_a10_of_the_package(a10: Tariff) -> None:
    def pacific_s(*when: int) -> float:
        return at_s("America/Los_Angeles", *when)

    assert (a10.currency, a10.timezone, a10.interval_s) == ("USD", "America/Los_Angeles", 900)
    assert price_per_kwh(a10, pacific_s(2019, 7, 1, 8, 29)) == 0.14903
    assert price_per_kwh(a10, pacific_s(2019, 7, 1, 8, 30)) == 0.1771
    assert price_per_kwh(a10, pacific_s(2019, 7, 1, 12)) == 0.23223
    assert price_per_kwh(a10, pacific_s(2019, 7, 6, 12)) == 0.14903
    assert price_per_kwh(a10, pacific_s(2020, 1, 4, 12)) == 0.1477, "both winter masks are ALL: the first listed holds"
    assert demand_price_per_kw(a10, pacific_s(2019, 4, 30, 23, 59)) == 11.66
    assert demand_price_per_kw(a10, pacific_s(2019, 5, 1)) == 19.99


def test_all_five_reference_files_parse() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"the reference tariffs are not at {SHARED.name}: no ../shared beside the checkout")
    files = sorted(SHARED.glob("*.json"))
    names = [parse_tariff(json.loads(f.read_text()), "America/Los_Angeles", "USD").name for f in files]
    assert names == ["PGE A-10 TOU", "SCE TOU-EV-4", "SCE TOU-EV-4-TOU-Periods-Shifted", "SCE TOU-EV-8", "SCE TOU-EV-8"]


def problems_of(raw: Any) -> tuple[str, ...]:
    with pytest.raises(TariffError) as caught:
        parse_tariff(raw)
    return caught.value.problems


def test_every_problem_is_told_at_once_with_field_value_and_cure() -> None:
    raw = tomllib.loads(TOWN)
    raw |= {"timezone": "Europe/Berlim", "tax_per_kwh": -1, "fixed_per_mouth": 3}
    raw["demand"]["ratchet_fraction"] = 80
    raw["season"][0]["to"] = "13-31"
    raw["season"][1]["price"][0]["steps"][1][0] = "25:00"
    told = problems_of(raw)
    assert len(told) == 6
    for field, value, cure in [
        ("timezone", "Berlim", "IANA"),
        ("tax_per_kwh", "-1", "from 0"),
        ("fixed_per_mouth", "3", "known are"),
        ("demand.ratchet_fraction", "80", "to 1"),
        ("season 1: to", "13-31", "month-day"),
        ("season 2: price 1: steps", "25:00", "clock time"),
    ]:
        assert any(field in line and value in line and cure in line for line in told), (field, told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["season"].pop(), "no price on 01-01"),
        (lambda raw: raw["season"][0]["price"].pop(), "(sat, sun)"),
        (lambda raw: raw.update(season=[]), "at least one table"),
        (lambda raw: raw["demand"].update(kind="rolling", sub_interval_min=10), "divides the interval"),
        (lambda raw: raw["demand"].update(interval_min=7), "divide an hour"),
        (lambda raw: raw.update(demand=3), "[demand]"),
        (lambda raw: raw.update(currency="euro"), "three letters"),
        (lambda raw: raw["season"][0]["price"][0].update(days="Mon-Fry"), "Sat,Sun"),
        (lambda raw: raw["season"][0]["price"][1].update(steps=float("nan")), "give one price"),
        (lambda raw: raw["season"][0]["price"][0]["steps"].reverse(), "later than"),
        (lambda raw: raw["season"][0]["price"][0]["steps"].pop(0), "midnight"),
    ],
)
def test_toml_problems(change: Any, words: str) -> None:
    raw = tomllib.loads(TOWN)
    change(raw)
    assert words in " / ".join(problems_of(raw))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dow_mask", "WORKDAYS", "WEEKENDS"),
        ("times", [0, 24], "below 24"),
        ("times", [8.5, 12], "midnight"),
        ("tariffs", [0.1], "2 prices"),
        ("tariffs", [0.1, float("inf")], "finite"),
        ("demand_charge", "12", "number"),
        ("effective_end", "9/30", "09-30"),
    ],
)
def test_acn_problems(key: str, value: object, words: str) -> None:
    entry = {
        "id": "x",
        "effective_start": "1-1",
        "effective_end": "12-31",
        "dow_mask": "ALL",
        "times": [0, 8],
        "tariffs": [0.1, 0.2],
        "demand_charge": 3,
    }
    assert demand_price_per_kw(parse_tariff({"name": "n", "schedule": [entry]}), 0.0) == 3.0
    assert words in " / ".join(problems_of({"name": "n", "schedule": [entry | {key: value}]}))


def test_the_documented_example_parses() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    example = text.split("## Tariff", 1)[1].split("```toml", 1)[1].split("```", 1)[0]
    tariff = parse_tariff(tomllib.loads(example))
    assert tariff.energy.calendar[0].weekdays == 0b11111
    assert demand_price_per_kw(tariff, berlin_s(2026, 6, 3)) == 11.90
