"""Random tariffs in URDB's shape and load years, the same for a seed on every machine: cases for `tools.pysam_bills`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridtide.market.bill import Bill, bill
from gridtide.market.tariff_formats import parse_tariff

Floats = NDArray[np.float64]

START_S = datetime(2018, 1, 1, tzinfo=UTC).timestamp()
"""A Monday: PySAM's year begins with one, has 365 days and no daylight saving."""
STEP_S = 900.0
STEPS = 35_040
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class Case:
    """A URDB rate, a load year, and what URDB does not hold."""

    seed: int
    rate: dict[str, Any]
    generation_kw: float
    """Highest generation; 0: none."""
    prior_peaks_kw: tuple[float, ...]
    """Of last year's January to December, for the look-back."""
    surplus_per_kwh: float


def load_of(case: Case) -> Floats:
    """Load, kW, (35040,): a base, a working day, a season, noise, and a few spikes."""
    source = random.Random(f"load {case.seed}")
    base, day, season = source.uniform(5, 300), source.uniform(0, 400), source.uniform(0, 0.5)
    hour = np.arange(STEPS) % 96 / 4.0
    weekday = np.arange(STEPS) // 96 % 7 < 5
    shape = np.exp(-(((hour - 13.0) / 4.0) ** 2)) * np.where(weekday, 1.0, 0.3)
    year = 1.0 + season * np.cos(2.0 * np.pi * (np.arange(STEPS) / STEPS - source.random()))
    noise = np.array([source.random() for _ in range(STEPS)])
    load_kw = (base + day * shape) * year * (0.8 + 0.4 * noise)
    for _ in range(20):
        load_kw[source.randrange(STEPS)] *= source.uniform(1.0, 1.8)
    return np.round(load_kw, 1)


def generation_of(case: Case) -> Floats:
    """Generation, kW, (35040,): a sun with clouds."""
    source = random.Random(f"sun {case.seed}")
    hour = np.arange(STEPS) % 96 / 4.0
    clouds = np.repeat([source.uniform(0.2, 1.0) for _ in range(365)], 96)
    season = 0.6 - 0.4 * np.cos(2.0 * np.pi * np.arange(STEPS) / STEPS)
    sun = np.maximum(np.sin((hour - 6.0) / 12.0 * np.pi), 0.0)
    return np.asarray(np.round(case.generation_kw * sun * season * clouds, 1))


def monthly(values: Floats, of: str = "max") -> list[float]:
    """Highest, or sum, of each month of a year (35040,)."""
    edges = np.concatenate([[0], np.cumsum(_DAYS) * 96])
    return [float(getattr(values[a:b], of)()) for a, b in pairwise(edges)]


def bill_of_case(case: Case) -> Bill:
    """Our own bill of a case."""
    tariff = parse_tariff(case.rate, timezone="UTC")
    if tariff.notes:
        raise ValueError(f"the importer left something out: {tariff.notes}")
    tariff = msgspec.structs.replace(tariff, surplus_per_kwh=case.surplus_per_kwh)
    generation_kw = generation_of(case)
    start_s = START_S + STEP_S * np.arange(STEPS, dtype=np.float64)
    net_kw = load_of(case) - generation_kw
    return bill(tariff, start_s, net_kw, STEP_S, case.prior_peaks_kw, generation_kw=generation_kw)


def random_case(seed: int) -> Case:
    """The tariff and load year of a seed."""
    source = random.Random(f"tariff {seed}")
    rules = source.choice(
        ["Net Billing Instantaneous", "Net Billing Instantaneous", "Net Metering", "Buy All Sell All"]
    )
    generation_kw = source.choice([0.0, 50.0, 300.0, 800.0])
    alone = rules == "Net Metering" and generation_kw > 0.0
    rate: dict[str, Any] = {"name": f"random {seed}", "dgrules": rules}
    rate |= _energy(source, 1 if alone else source.randint(1, 4), sells=rules != "Net Metering")
    ratcheted = source.random() < 0.3
    if ratcheted or source.random() < 0.7:
        rate |= _demand(source, 1 if ratcheted else source.randint(1, 3))
    if ratcheted or source.random() < 0.7:
        rate |= _flat(source)
    rate |= _charges(source)
    case = Case(seed, rate, generation_kw, (), round(source.uniform(0.0, 0.08), 4) if alone else 0.0)
    return _ratcheted(source, case) if ratcheted else case


def _tiers(source: random.Random, count: int, bounds: list[float], high: float, **more: Any) -> list[dict[str, Any]]:
    tiers: list[dict[str, Any]] = []
    for k in range(count):
        tier: dict[str, Any] = {"rate": round(source.uniform(0.0, high), 5)} | more
        if source.random() < 0.5:
            tier["adj"] = round(source.uniform(-0.1, 0.2) * high, 5)
        if k + 1 < count:
            tier["max"] = bounds[k]
        tiers.append(tier)
    return tiers


def _energy(source: random.Random, periods: int, sells: bool) -> dict[str, Any]:
    count = source.choice([1, 1, 2, 3, 4])
    unit = source.choice(["kWh", "kWh", "kWh/kW", "kWh daily", "kWh/kW daily"])
    scale = {"kWh": 60_000.0, "kWh/kW": 300.0, "kWh daily": 2_000.0, "kWh/kW daily": 10.0}[unit]
    bounds = sorted(round(source.uniform(0.02, 1.0) * scale, 2) for _ in range(count))
    structure = [_tiers(source, count, bounds, 0.4, unit=unit) for _ in range(periods)]
    if source.random() < 0.15:
        structure = _blocks(source, periods)
    for tiers in structure:
        for tier in tiers if sells else []:
            tier["sell"] = round(source.uniform(0.0, 0.12), 5)
    return {"energyratestructure": structure} | _schedules(source, "energy", periods)


def _blocks(source: random.Random, periods: int) -> list[list[dict[str, Any]]]:
    """Hours-use blocks: a bound per kW, inside it steps in kWh; then a second block without steps."""
    first, second = round(source.uniform(50, 200), 1), round(source.uniform(210, 400), 1)
    steps = sorted(round(source.uniform(1_000, 40_000), 1) for _ in range(2))
    frame = [
        ("kWh/kW", first),
        ("kWh", steps[0]),
        ("kWh", steps[1]),
        ("kWh", 1e38),
        ("kWh/kW", second),
        ("kWh/kW", 1e38),
    ]
    return [
        [{"rate": round(source.uniform(0.02, 0.3), 5), "unit": unit, "max": bound} for unit, bound in frame[:-1]]
        + [{"rate": round(source.uniform(0.02, 0.3), 5), "unit": "kWh/kW"}]
        for _ in range(periods)
    ]


def _schedules(source: random.Random, kind: str, periods: int) -> dict[str, Any]:
    """Two 12 x 24 tables: up to three seasons, each with its own day and weekend."""
    seasons = [(_day(source, periods), _day(source, periods)) for _ in range(source.randint(1, 3))]
    of_month = [source.randrange(len(seasons)) for _ in range(12)]
    return {
        f"{kind}weekdayschedule": [list(seasons[k][0]) for k in of_month],
        f"{kind}weekendschedule": [list(seasons[k][1]) for k in of_month],
    }


def _day(source: random.Random, periods: int) -> list[int]:
    edges = sorted(source.sample(range(1, 24), source.randint(0, 4)))
    day: list[int] = []
    for begin, end in pairwise([0, *edges, 24]):
        day += [source.randrange(periods)] * (end - begin)
    return day


def _demand(source: random.Random, periods: int) -> dict[str, Any]:
    count = source.choice([1, 1, 2])
    bounds = [round(source.uniform(20, 500), 1)]  # PySAM wants the same in every period
    structure = [_tiers(source, count, bounds, 15.0) for _ in range(periods)]
    return {"demandratestructure": structure, "demandrateunit": "kW"} | _schedules(source, "demand", periods)


def _flat(source: random.Random) -> dict[str, Any]:
    periods = source.randint(1, 3)
    structure = []
    for _ in range(periods):
        count = source.randint(1, 3)
        structure.append(_tiers(source, count, sorted(round(source.uniform(20, 500), 1) for _ in range(2)), 18.0))
    months = [source.randrange(periods) for _ in range(12)]
    return {"flatdemandstructure": structure, "flatdemandmonths": months, "flatdemandunit": "kW"}


def _charges(source: random.Random) -> dict[str, Any]:
    """Fixed and one kind of minimum: PySAM leaves monthly minima out when it weighs the annual one, we count them."""
    charges: dict[str, Any] = {}
    if source.random() < 0.8:
        charges |= {"fixedchargefirstmeter": round(source.uniform(5, 500), 2)}
        charges |= {"fixedchargeunits": source.choice(["$/month", "$/month", "$/year"])}
    chance = source.random()
    if chance < 0.3:
        charges |= {"mincharge": round(source.uniform(50, 20_000), 2), "minchargeunits": "$/month"}
    elif chance < 0.5:
        charges |= {"mincharge": round(source.uniform(1_000, 300_000), 2), "minchargeunits": "$/year"}
    return charges


def _ratcheted(source: random.Random, case: Case) -> Case:
    """A look-back, with last year's peaks rising to December.

    PySAM looks one month further back into last year than into this one; rising peaks, of which December's does not bind in
    the month where only PySAM still sees it, make no difference between the two readings. With two meters there are none: PySAM
    bills last year's peaks of the load to the generation's meter, too.
    """
    two_meters = case.rate["dgrules"] == "Buy All Sell All"
    share, months = round(source.uniform(0.4, 0.95), 2), source.randint(1, 11)
    highest = 0.0 if two_meters else max(monthly(load_of(case) - generation_of(case))[months], 0.0) / share
    peaks = sorted(round(source.uniform(0.5, 1.0) * highest - 0.1, 1) for _ in range(12))
    rate = case.rate | {"lookbackpercent": share, "lookbackrange": months, "lookbackmonths": [True] * 12}
    return Case(case.seed, rate, case.generation_kw, tuple(max(p, 0.0) for p in peaks), case.surplus_per_kwh)
