"""The user's own data: load and PV profiles, charging sessions, the tariff. Formats: docs/formats.md."""

import json
import tomllib
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct

from gridtide.app.files import read_text
from gridtide.app.problems import ConfigError, Problem
from gridtide.app.rows import Row, Rows
from gridtide.market.tariff import Tariff, TariffError
from gridtide.market.tariff_formats import parse_tariff
from gridtide.model.fleet import Floats
from gridtide.twin.arrivals import SessionRecord
from gridtide.twin.building import LoadSeries

Align = Literal["weekday", "none"]
_YEAR = timedelta(weeks=52)
_QUARTER_S = 900.0
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (a naive axis on purpose: wall clocks)
_HIGHEST_KW = 50_000.0
_LONGEST_STAY_S = 60 * 86_400.0


class Profile(Struct, frozen=True, eq=False):
    """Mean powers at regular starts. `first_s` counts on the UTC axis, or on the wall clock's own where there is no offset."""

    source: str
    first_s: float
    interval_s: float
    power_kw: Floats
    wall: bool
    """Starts are clock times without gaps or doubles: a day in spring has all 24 hours."""

    @property
    def end_s(self) -> float:
        """End of the last interval, on the same axis."""
        return self.first_s + self.interval_s * len(self.power_kw)


def load_profile(source: str, zone: ZoneInfo, scale: float = 1.0, lowest_kw: float = -_HIGHEST_KW) -> Profile:
    """A profile from CSV (`time,power_kw`). Raises `ConfigError` with every bad row."""
    rows = Rows(source, read_text(source), ("time", "power_kw"))
    stamps: list[tuple[int, datetime]] = []
    powers: list[float] = []
    low, high = sorted((lowest_kw / scale, _HIGHEST_KW / scale))
    for row in rows:
        at = rows.instant(row, "time")
        power = rows.number(row, "power_kw", low, high, "kW" if scale == 1.0 else f"1/{scale:g} kW")
        if at is not None:
            stamps.append((row.line, at))
            powers.append(power * scale)
    if len(stamps) < 2 and not rows.problems:
        rows.tell(1, "time", None, "give at least two rows")
    first_s, interval_s, wall = _axis(rows, stamps, zone) if len(stamps) >= 2 else (0.0, 900.0, False)
    rows.finish()
    return Profile(source, first_s, interval_s, np.array(powers), wall)


def _axis(rows: Rows, stamps: list[tuple[int, datetime]], zone: ZoneInfo) -> tuple[float, float, bool]:
    """Start, step and kind of a regular axis; irregular rows are noted."""
    zoned = [at.tzinfo is not None for _, at in stamps]
    if any(zoned) and not all(zoned):
        odd = next(line for (line, at), z in zip(stamps, zoned, strict=True) if z != zoned[0])
        rows.tell(odd, "time", None, "some times have an offset and some have none: give all of them alike")
        return 0.0, 900.0, False
    if all(zoned):
        seconds = [at.timestamp() for _, at in stamps]
    else:
        seconds = [(at - _EPOCH).total_seconds() for _, at in stamps]
        if not _regular(seconds):
            lived = _lived(stamps, zone)
            if _regular(lived):
                return lived[0], lived[1] - lived[0], False
    return _checked(rows, stamps, seconds, not all(zoned))


def _lived(stamps: list[tuple[int, datetime]], zone: ZoneInfo) -> list[float]:
    """UTC seconds of local times as a meter records them: where clocks go back, the hour's second run follows the first."""
    out: list[float] = []
    for _, at in stamps:
        first = at.replace(tzinfo=zone).timestamp()
        out.append(first if not out or first > out[-1] else at.replace(tzinfo=zone, fold=1).timestamp())
    return out


def _regular(seconds: list[float]) -> bool:
    steps = np.diff(seconds)
    return bool(steps[0] > 0 and (np.abs(steps - steps[0]) < 1e-3).all())


def _checked(
    rows: Rows, stamps: list[tuple[int, datetime]], seconds: list[float], wall: bool
) -> tuple[float, float, bool]:
    steps = np.diff(seconds)
    usual = float(np.median(steps))
    if not (60.0 <= usual <= 3600.0 and 3600.0 % usual == 0.0):
        rows.tell(stamps[1][0], "time", None, f"rows are {usual:g} s apart: give 1 to 60 minutes that divide an hour")
        return 0.0, 900.0, wall
    for k in np.flatnonzero(np.abs(steps - usual) >= 1e-3):
        line, at = stamps[k + 1]
        rows.tell(
            line, "time", at.isoformat(), f"is {steps[k]:g} s after the row before; the others are {usual:g} s apart"
        )
    return seconds[0], usual, wall


def series(profile: Profile, start_s: float, end_s: float, zone: ZoneInfo, align: Align) -> LoadSeries:
    """The profile over a study from `start_s` to `end_s` (UTC epoch s).

    `weekday`: where the data is of another time it is moved by whole weeks, to the same season and weekday, on the local clock;
    what then lies beyond an end comes from 52 weeks away. Raises `ConfigError` where the data does not reach.
    """
    starts, index, _ = _study(profile, start_s, end_s, zone, align)
    if not _covered(profile, index):
        raise ConfigError(profile.source, [Problem(0, "", "", _reach(profile, start_s, end_s, zone, align))])
    return LoadSeries(float(starts[0]), profile.interval_s, profile.power_kw[index])


def series_before(
    profile: Profile, start_s: float, end_s: float, days: int, zone: ZoneInfo, align: Align
) -> tuple[Floats, Floats]:
    """Starts (UTC epoch s) and means, kW, of the quarter hours of up to `days` days before a study, as far as the data reaches.

    Moved as the study's own data is; what the study itself will use is left out, so that nothing is known beforehand.
    """
    _, used, shift = _study(profile, start_s, end_s, zone, align)
    step = min(profile.interval_s, _QUARTER_S)
    starts = np.arange(np.floor(start_s / _QUARTER_S) * _QUARTER_S - days * 86_400.0, start_s - step / 2.0, step)
    index = _index(profile, _on_axis(profile, starts, zone, shift))
    index = _within(profile, index) if shift else index
    fresh = (index >= 0) & (index < len(profile.power_kw)) & ~np.isin(index, used)
    quarter = np.floor(starts / _QUARTER_S) * _QUARTER_S
    power = np.where(fresh, profile.power_kw[np.where(fresh, index, 0)], np.nan)
    at, of = np.unique(quarter, return_inverse=True)
    mean = np.bincount(of, weights=power) / np.bincount(of)
    return at[np.isfinite(mean)], mean[np.isfinite(mean)]


def _study(
    profile: Profile, start_s: float, end_s: float, zone: ZoneInfo, align: Align
) -> "tuple[Floats, np.ndarray[tuple[int], np.dtype[np.int64]], timedelta]":
    """Starts of a study's intervals, their places in the profile, and by how much the profile is moved."""
    step = profile.interval_s
    starts = np.arange(np.floor(start_s / step) * step, end_s, step)
    shift = timedelta(0)
    index = _index(profile, _on_axis(profile, starts, zone, shift))
    if align == "weekday" and not _covered(profile, index):
        shift = _whole_weeks(profile, datetime.fromtimestamp(start_s, zone).date(), zone)
        index = _within(profile, _index(profile, _on_axis(profile, starts, zone, shift)))
    return starts, index, shift


def _covered(profile: Profile, index: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> bool:
    return bool(index.size == 0 or (index.min() >= 0 and index.max() < len(profile.power_kw)))


def _index(profile: Profile, seconds: Floats) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.floor((seconds - profile.first_s) / profile.interval_s + 1e-6).astype(np.int64)


def _within(
    profile: Profile, index: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    year = round(_YEAR.total_seconds() / profile.interval_s)
    index = np.where(index < 0, index + year, index)
    return np.where(index >= len(profile.power_kw), index - year, index)


def _on_axis(profile: Profile, starts: Floats, zone: ZoneInfo, shift: timedelta) -> Floats:
    """Instants (UTC epoch s), moved back by `shift` on the local clock, on the profile's axis."""
    if not profile.wall and not shift:
        return starts
    local = (datetime.fromtimestamp(float(at), zone) - shift for at in starts)
    return np.array([_wall_s(at) if profile.wall else at.timestamp() for at in local])


def _wall_s(at: datetime) -> float:
    return (at.replace(tzinfo=None) - _EPOCH).total_seconds()


def _whole_weeks(profile: Profile, start: date, zone: ZoneInfo) -> timedelta:
    """Weeks from the same season of the data to the study."""
    first = _EPOCH + timedelta(seconds=profile.first_s)
    if not profile.wall:
        first = datetime.fromtimestamp(profile.first_s, zone)
    year = first.year if (start.month, start.day) >= (first.month, first.day) else first.year + 1
    alike = date(year, start.month, min(start.day, 28) if start.month == 2 else start.day)
    return timedelta(weeks=round((start - alike).days / 7))


def _reach(profile: Profile, start_s: float, end_s: float, zone: ZoneInfo, align: Align) -> str:
    def day(at_s: float) -> str:
        known = _EPOCH + timedelta(seconds=at_s) if profile.wall else datetime.fromtimestamp(at_s, zone)
        return f"{known:%Y-%m-%d %H:%M}"

    asked = f"{datetime.fromtimestamp(start_s, zone):%Y-%m-%d} to {datetime.fromtimestamp(end_s, zone):%Y-%m-%d}"
    cure = (
        'change study.start and study.days, or set align = "weekday"'
        if align == "none"
        else "give more data or fewer days"
    )
    return f"has data from {day(profile.first_s)} to {day(profile.end_s)}, the study asks for {asked}: {cure}"


def load_sessions(source: str, zone: ZoneInfo) -> list[SessionRecord]:
    """Sessions from CSV, in the file's order; naive times are local to `zone`. Raises `ConfigError` with every bad row."""
    rows = Rows(source, read_text(source), ("arrival", "departure", "energy_kwh"), _OPTIONAL)
    found: list[SessionRecord] = []
    seen: set[str] = set()
    for row in rows:
        record = _session(rows, row, zone)
        if record is None:
            continue
        if record.session_id in seen:
            rows.tell(row.line, "session_id", record.session_id, "is there already: give each session its own")
        seen.add(record.session_id)
        found.append(record)
    if not found and not rows.problems:
        rows.tell(1, "", None, "no sessions: give at least one row")
    rows.finish()
    return found


_OPTIONAL = ("session_id", "station_id", "told_departure")


def _session(rows: Rows, row: Row, zone: ZoneInfo) -> SessionRecord | None:
    arrival, departure = rows.instant(row, "arrival"), rows.instant(row, "departure")
    energy = rows.number(row, "energy_kwh", 0.0, 1000.0, "kWh")
    told = rows.instant(row, "told_departure") if row.values.get("told_departure") else None
    if arrival is None or departure is None:
        return None
    arrived_s, departs_s = _utc_s(arrival, zone), _utc_s(departure, zone)
    if departs_s <= arrived_s:
        rows.tell(row.line, "departure", row.values["departure"], "give a time after the arrival")
    elif departs_s - arrived_s > _LONGEST_STAY_S:
        rows.tell(
            row.line, "departure", row.values["departure"], "more than 60 days after the arrival: give an earlier time"
        )
    name = row.values.get("session_id") or f"line-{row.line}"
    told_s = None if told is None else _utc_s(told, zone)
    return SessionRecord(name, arrived_s, departs_s, energy, row.values.get("station_id", ""), told_s)


def _utc_s(at: datetime, zone: ZoneInfo) -> float:
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).timestamp()


def sessions_between(records: Iterable[SessionRecord], start_s: float, end_s: float) -> list[SessionRecord]:
    """The sessions that begin within a study."""
    return [record for record in records if start_s <= record.arrived_s < end_s]


def load_tariff(source: str, timezone: str | None = None) -> Tariff:
    """A tariff from TOML or JSON; `timezone` is the site's, for URDB, which says none. Raises `ConfigError` with every problem."""
    text = read_text(source)
    try:
        raw: object = json.loads(text) if text.lstrip().startswith(("{", "[{")) else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 0)
        raise ConfigError(source, [Problem(line, "", "", f"is neither TOML nor JSON: {error}")]) from error
    try:
        return parse_tariff(raw, site_timezone=timezone)
    except TariffError as error:
        raise ConfigError(source, [Problem(0, "", "", text) for text in error.problems]) from error
