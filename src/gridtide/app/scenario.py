"""From a site file and its data to what a study runs on."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import structs

from gridtide.app.config import SiteConfig
from gridtide.app.data import load_profile, load_sessions, load_tariff, series, series_before, sessions_between
from gridtide.app.problems import ConfigError, ConfigErrors, Problem
from gridtide.market.bill import unbilled
from gridtide.market.tariff import Tariff
from gridtide.model.fleet import EvseTable
from gridtide.plan.foresight import ForesightSettings
from gridtide.plan.stays import Stay
from gridtide.run.planning import Past
from gridtide.run.study import StudyInputs
from gridtide.twin import arrivals, building, evse, plant

T = TypeVar("T")


def period_s(config: SiteConfig) -> tuple[float, float]:
    """Start and end of the study, UTC epoch s: local midnights, so that a day of 23 or 25 hours is one day."""
    zone = ZoneInfo(config.site.timezone)
    first = config.study.start
    last = first + timedelta(days=config.study.days)
    start = datetime(first.year, first.month, first.day, tzinfo=zone)
    return start.timestamp(), datetime(last.year, last.month, last.day, tzinfo=zone).timestamp()


def building_of(config: SiteConfig, start_s: float, end_s: float) -> building.Building:
    """The building's load over a period, with its texture. Raises `ConfigError`."""
    zone, load = ZoneInfo(config.site.timezone), config.load
    profile = load_profile(config.path(load.file), zone, load.scale)
    return building.textured(
        series(profile, start_s, end_s, zone, load.align), config.study.seed, load.texture, load.bursts_per_h
    )


def pv_of(config: SiteConfig, start_s: float, end_s: float) -> building.Building | None:
    """Generation over a period, if there is any. Raises `ConfigError`."""
    if config.pv is None:
        return None
    zone = ZoneInfo(config.site.timezone)
    profile = load_profile(config.path(config.pv.file), zone, config.pv.scale, lowest_kw=0.0)
    flat = series(profile, start_s, end_s, zone, config.pv.align)
    return building.textured(flat, config.study.seed, 0.0, 0.0)


def storage_of(config: SiteConfig) -> tuple[plant.StationaryBattery, ...]:
    """The stationary battery as the plant's last row."""
    if config.battery is None:
        return ()
    return (plant.StationaryBattery(len(config.bays()), config.battery.capacity_kwh, config.battery.start_soc),)


def models_of(config: SiteConfig) -> list[evse.EvseModel]:
    """How each row of the table behaves."""
    names = [station.model for _, station in config.bays()]
    return [evse.MODELS[name] for name in names + ([config.battery.model] if config.battery else [])]


def arrivals_of(
    config: SiteConfig, table: EvseTable, start_s: float, end_s: float
) -> tuple[list[arrivals.Arrival], list[arrivals.SessionRecord]]:
    """Vehicles that come, and sessions for which there is no bay. Raises `ConfigError`."""
    source = config.path(config.sessions.file)
    records = load_sessions(source, ZoneInfo(config.site.timezone))
    inside = sessions_between(records, start_s, end_s)
    if config.sessions.departure == "recorded":
        inside = [structs.replace(record, told_departs_s=None) for record in inside]
    if not inside:
        zone = ZoneInfo(config.site.timezone)
        first, last = (f"{datetime.fromtimestamp(f(r.arrived_s for r in records), zone):%Y-%m-%d}" for f in (min, max))
        text = f"has sessions from {first} to {last} and none in the study: change study.start or study.days"
        raise ConfigError(source, [Problem(0, "", "", text)])
    bays = config.bays()
    gives = [station.discharge_kw > 0.0 and station.dialect != "refuse" for _, station in bays]
    rows = slice(0, len(bays))
    return arrivals.assign(
        inside, table.charge_kw[rows].tolist(), table.efficiency[rows].tolist(), gives, config.study.seed
    )


def look_of(config: SiteConfig) -> ForesightSettings:
    """How the site plans ahead."""
    return ForesightSettings(
        reach_h=config.planner.reach_h, high_level=config.planner.load_level, wear_per_kwh=config.vehicles.wear_per_kwh
    )


def past_of(config: SiteConfig, table: EvseTable, start_s: float, end_s: float) -> Past:
    """What the data holds of the days before a study: the load as the meter would have seen it without vehicles, and sessions."""
    zone, days = ZoneInfo(config.site.timezone), config.planner.history_days
    profile = load_profile(config.path(config.load.file), zone, config.load.scale)
    starts, load = series_before(profile, start_s, end_s, days, zone, config.load.align)
    if config.pv is not None:
        sun = load_profile(config.path(config.pv.file), zone, config.pv.scale, lowest_kw=0.0)
        at, generated = series_before(sun, start_s, end_s, days, zone, config.pv.align)
        starts, here, there = np.intersect1d(starts, at, return_indices=True)
        load = load[here] - generated[there]
    stays, since_s = _past_stays(config, table, start_s - days * 86_400.0, start_s)
    return Past(load_starts_s=starts, load_kw=load, stays=stays, stays_since_s=since_s)


def _past_stays(config: SiteConfig, table: EvseTable, from_s: float, start_s: float) -> tuple[tuple[Stay, ...], float]:
    """Sessions that ended before the study, with batteries drawn as the study's are, and since when they are recorded."""
    records = load_sessions(config.path(config.sessions.file), ZoneInfo(config.site.timezone))
    ended = [record for record in records if record.arrived_s >= from_s and record.departs_s <= start_s]
    if not ended:
        return (), math.inf
    bays, car = config.bays(), config.vehicles
    gives = [station.discharge_kw > 0.0 and station.dialect != "refuse" for _, station in bays]
    rows = slice(0, len(bays))
    placed, _ = arrivals.assign(
        ended, table.charge_kw[rows].tolist(), table.efficiency[rows].tolist(), gives, config.study.seed
    )
    stays = tuple(
        Stay(
            key=item.session_id, arrived_s=item.arrived_s, departs_s=item.departs_s,
            charge_kw=float(table.charge_kw[item.row]),
            discharge_kw=float(table.discharge_kw[item.row]) if item.may_discharge else 0.0,
            efficiency=float(table.efficiency[item.row]),
            capacity_kwh=max(car.window_high_soc, item.target_soc, item.soc) * item.capacity_kwh,
            energy_kwh=item.soc * item.capacity_kwh, required_kwh=item.target_soc * item.capacity_kwh,
            least_kwh=max(car.window_low_soc, car.floor_soc) * item.capacity_kwh,
        )
        for item in placed
    )  # fmt: skip
    return stays, min(record.arrived_s for record in ended)


def tariff_of(config: SiteConfig) -> Tariff:
    """The tariff, checked against `[demand]`: what is billed must be what is held. Raises `ConfigError`."""
    tariff = load_tariff(config.path(config.tariff.file), config.site.timezone)
    sub_intervals = tariff.interval_s // tariff.sub_interval_s if tariff.interval_kind == "rolling" else 1
    asked = config.demand.interval_s, config.demand.sub_intervals
    if asked != (tariff.interval_s, sub_intervals):
        text = (
            f"the tariff bills intervals of {tariff.interval_s} s in {sub_intervals} part(s), [demand] says {asked[0]} s in "
            f"{asked[1]}: set demand.interval_s = {tariff.interval_s} and demand.sub_intervals = {sub_intervals}"
        )
        raise ConfigError(config.source, [Problem(0, "demand", "", text)])
    return tariff


def study_inputs(config: SiteConfig) -> StudyInputs:
    """Everything a study needs, read and checked. Raises `ConfigError`; problems of several files are told together."""
    errors: list[ConfigError] = []
    start_s, end_s = period_s(config)
    table = config.table()
    tariff = _tried(errors, lambda: tariff_of(config))
    came = _tried(errors, lambda: arrivals_of(config, table, start_s, end_s))
    load = _tried(errors, lambda: building_of(config, start_s, end_s))
    pv = _tried(errors, lambda: pv_of(config, start_s, end_s))
    if tariff is None or came is None or load is None or errors:
        raise errors[0] if len(errors) == 1 else ConfigErrors(errors)
    placed, turned_away = came
    step_s = float(config.study.step_s)
    settings = config.settings(step_s)
    if pv is not None:
        generation_kw = max(config.grid.generation_kw, pv.highest_kw)
        settings = structs.replace(settings, meter=structs.replace(settings.meter, generation_kw=generation_kw))
    return StudyInputs(
        site=config.site.name, timezone=config.site.timezone,
        world=plant.world(table, models_of(config), load, placed, pv),
        settings=settings, tariff=tariff, start_s=start_s, end_s=end_s, step_s=step_s,
        wear_per_kwh=config.vehicles.wear_per_kwh, storage=storage_of(config),
        assumptions=tuple(_assumptions(config, tariff, len(turned_away))),
        past=past_of(config, table, start_s, end_s), look=look_of(config), planned=config.planner.enabled,
    )  # fmt: skip


def _tried(errors: list[ConfigError], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except ConfigError as error:
        errors.append(error)
        return None


def _assumptions(config: SiteConfig, tariff: Tariff, turned_away: int) -> list[str]:
    """Sentences on what was assumed, for the report."""
    study, car = config.study, config.vehicles
    moved = ", moved by whole weeks where it is of another year" if config.load.align == "weekday" else ""
    known = "are known, as recorded" if config.sessions.departure == "recorded" else "are what drivers said beforehand"
    sizes = ", ".join(f"{size:g}" for size in arrivals.CAPACITIES_KWH)
    said = [
        f"The control that runs on site decided every {study.step_s} s, without knowing the load or who would come",
        f"Departures of connected vehicles {known}",
        f"{_source('Building load', config.load.file)}{moved}",
        f"{_source('Sessions', config.sessions.file)}; each needs what it took then, or what full power over the stay gives",
        f"Batteries ({sizes} kWh) and charge at arrival are not in the data and were drawn (seed {study.seed})",
        "Before: the same vehicles charge at once at full power",
        f"Clairvoyant: the lowest peak with load and stays known beforehand, from {car.window_low_soc:.0%} to "
        f"{car.window_high_soc:.0%} of the batteries; no control can go below",
        f"Tariff: {tariff.name}; wear at {car.wear_per_kwh:g} {tariff.currency} per discharged kWh",
    ]
    if config.planner.enabled:
        said.append(
            "Planned ahead as vehicles came and left, and hourly: which peak to hold and when to charge, from "
            f"{config.planner.history_days} days of load and sessions before the study and what was seen since"
        )
    said += [
        f"Of the tariff: {text}"
        for text in (*tariff.notes, *unbilled(tariff, has_reactive=False, has_coincident=False))
    ]
    if tariff.metering == "buy_all_sell_all":
        said.append("Load and generation are not told apart: what the site exports counts as generation")
    if turned_away:
        said.append(f"{turned_away} sessions found every bay taken and are not in the figures")
    return said


def _source(what: str, file: str) -> str:
    return f"{what}: {_BUILTIN_NAMES.get(file, Path(file).name)}"


_BUILTIN_NAMES = {
    "builtin:load": "15-minute means of a metal works, 2010",
    "builtin:sessions": "a university garage in California, 2019 (ACN-Data)",
}
