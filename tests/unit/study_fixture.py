"""A synthetic but realistic study: an office in June with twelve vehicles, hot afternoons, and a limit that is held."""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from gridtide.model.study import BillLine, CycleBin, Departure, IntervalSeries, SocFan, StudyResult

ZONE = ZoneInfo("Europe/Amsterdam")
BEGIN = datetime(2026, 6, 1, tzinfo=ZONE)
DAYS = 30
_HELD_KW = 447.0


def sample_study(**changes: Any) -> StudyResult:
    """The study, with any of its fields replaced."""
    series = sample_series(DAYS)
    study = StudyResult(
        site="Harbour Office",
        timezone="Europe/Amsterdam",
        currency="EUR",
        start_s=BEGIN.timestamp(),
        end_s=(BEGIN + timedelta(days=DAYS)).timestamp(),
        step_s=1.0,
        vehicles=12,
        sessions=264,
        mode="budget",
        limit_kw=450.0,
        buffer_kw=5.0,
        interval_s=900.0,
        peak_kw_building=max(series.building_kw),
        peak_kw_without=max(series.without_kw),
        peak_kw_with=max(series.with_kw),
        peak_kw_clairvoyant=443.0,
        reduction_of_clairvoyant=0.96,
        bill_without=43_130.19,
        bill_with=42_146.31,
        discharged_kwh=567.0,
        charged_kwh=4_120.0,
        drivers_short=0,
        energy_residual_kwh=0.0001,
        failed_shaves=0,
        intervals_over=0,
        starts=181,
        wear_cost=35.15,
        wear_per_kwh=0.062,
        demand_price_per_kw=11.90,
        energy_price_range=(0.142, 0.268),
        bill=[
            BillLine("energy_building", "", 30_219.40, 30_219.40),
            BillLine("energy_vehicles", "", 581.30, 646.00),
            BillLine("demand", "", 6_413.20, 5_319.30),
            BillLine("fixed", "", 0.0, 0.0),
            BillLine("taxes", "€ 0.0382 per kWh", 5_916.29, 5_926.46),
            BillLine("wear", "", 0.0, 35.15),
        ],
        series=series,
        soc_fan=sample_fan(),
        departures=sample_departures(),
        window_soc=(0.4, 0.8),
        floor_soc=0.2,
        assumptions=[
            "The same control that runs on site, driven by June’s metered building load.",
            "Vehicles: 60 kWh, 11 kW, 92 % each way, window 40 to 80 %.",
            "Limit held: 450 kW, the lowest that keeps every promise the fleet can make.",
            "Before: each vehicle charges at full power from arrival.",
        ],
        wear_range=[("NCA cell", 0.85), ("LFP cell", 8.08), ("NMC cell", 22.54)],
        cycles=[CycleBin(0.0, 0.1, 11.0, 21.4), CycleBin(0.1, 0.4, 52.0, 56.0), CycleBin(0.4, 1.0, 0.0, 0.0)],
    )
    return msgspec.structs.replace(study, **changes)


def sample_series(days: int) -> IntervalSeries:
    """Quarter hours of an office: hot weeks towards the end of the month, quiet weekends."""
    rng = np.random.default_rng(6)
    hour = np.arange(24 * 4 * days) / 4 % 24
    day = np.arange(24 * 4 * days) // 96
    work = (day % 7 < 5) * np.exp(-(((hour - 13.5) / 4.2) ** 4))
    heat = rng.uniform(0.0, 70.0, days)[day] + 1.6 * day
    building = 110 + work * (255 + heat * np.exp(-(((hour - 15) / 2.5) ** 2))) + rng.normal(0, 7, hour.size)
    arrivals = work * 95 * np.exp(-(((hour - 9.5) / 3.5) ** 2)) + work * 55 * np.exp(-(((hour - 14.8) / 1.8) ** 2))
    without = building + arrivals
    spread = (day % 7 < 5) * 38 * np.exp(-(((hour - 11.5) / 5) ** 4))
    with_ = np.minimum(building + spread, np.maximum(_HELD_KW - rng.uniform(0, 6, hour.size), building - 75))
    with_[int(np.argmax(with_))] = _HELD_KW
    start_s = BEGIN.timestamp() + 900.0 * np.arange(hour.size)
    return IntervalSeries(start_s.tolist(), building.tolist(), without.tolist(), with_.tolist())


def sample_fan() -> SocFan:
    """Charge by hour of day of vehicles that come at eight and leave about five."""
    hour = np.arange(7.5, 19.01, 0.25)
    middle = 0.60 + 0.19 * (1 - np.exp(-(hour - 7.5) / 1.6)) - 0.04 * np.exp(-(((hour - 15.5) / 1.5) ** 2))
    bands = [np.clip(middle + off, 0.0, 0.82).tolist() for off in (-0.17, -0.07, 0.0, 0.045, 0.09)]
    return SocFan(hour.tolist(), *bands)


def sample_departures() -> list[Departure]:
    """264 departures, twelve on each of 22 working days, all with what was asked for."""
    rng = np.random.default_rng(7)
    found = []
    for day in (d for d in range(DAYS) if d % 7 < 5):
        for bay in range(12):
            arrived = BEGIN + timedelta(days=day, hours=float(rng.normal(8.2, 0.6)))
            departed = BEGIN + timedelta(days=day, hours=float(np.clip(rng.normal(17, 1.0), 14, 19.8)))
            target = float(np.clip(rng.normal(0.66, 0.07), 0.5, 0.78))
            got = float(rng.uniform(8, 24))
            soc = min(target + float(rng.uniform(0.0, 0.14)), 0.82)
            found.append(
                Departure(f"Bay {bay + 1}", arrived.timestamp(), departed.timestamp(), got, got + 0.1, target, soc)
            )
    return found
