"""Two written forms of a tariff, already decoded to a dict: our TOML layout and the ACN `schedule` JSON layout.

Every problem is collected and told at once. The layouts are described in docs/formats.md, section "Tariff".
"""

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast
from zoneinfo import ZoneInfo

from gridtide.market.tariff import (
    ALL_DAYS,
    WEEKDAYS,
    WEEKENDS,
    IntervalKind,
    MonthDay,
    Schedule,
    Tariff,
    TariffError,
    UseStep,
    find_schedule,
)
from gridtide.model.bounds import unbounded

_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ACN_MASKS = {"ALL": ALL_DAYS, "WEEKDAYS": WEEKDAYS, "WEEKENDS": WEEKENDS}
_SECONDS_PER_HOUR = 3600
_TOML_KEYS = frozenset(
    {"name", "currency", "timezone", "fixed_per_month", "tax_per_kwh", "export_credit_per_kwh", "demand", "season"}
)
_DEMAND_KEYS = frozenset({"interval_min", "kind", "sub_interval_min", "ratchet_fraction", "ratchet_months"})
_SEASON_KEYS = frozenset({"name", "from", "to", "demand_price_per_kw", "price"})
_PRICE_KEYS = frozenset({"days", "steps"})


class _Reader:
    """Reads fields of untrusted tables and notes what is wrong with them instead of stopping."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def tell(self, field: str, value: object, cure: str) -> None:
        self.problems.append(f"{field} = {_shown(value)}: {cure}")

    def text(self, table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
        value = table.get(key, default)
        if isinstance(value, str) and value.strip():
            return value.strip()
        self.tell(where + key, value, "give a text")
        return ""

    def currency(self, table: Mapping[str, Any], where: str) -> str:
        value = table.get("currency")
        if isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value):
            return value
        self.tell(where + "currency", value, 'give the three letters, as "EUR"')
        return ""

    def number(
        self,
        table: Mapping[str, Any],
        key: str,
        where: str,
        default: float | None = None,
        low: float = 0.0,
        high: float = 1e9,
    ) -> float:
        value = table.get(key, default)
        if _is_number(value) and low <= value <= high:
            return float(value)
        self.tell(where + key, value, f"give a number from {low:g} to {high:g}")
        return low

    def minutes(self, table: Mapping[str, Any], key: str, where: str, default: int) -> int:
        value = table.get(key, default)
        if _is_number(value) and 1 <= value <= 60 and 60 % value == 0:
            return int(value)
        self.tell(where + key, value, "give whole minutes that divide an hour, as 15")
        return default

    def tables(self, table: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
        value = table.get(key)
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            return cast(list[Mapping[str, Any]], value)
        self.tell(where + key, value, "give at least one table")
        return []

    def month_day(self, table: Mapping[str, Any], key: str, where: str) -> MonthDay:
        value = table.get(key)
        match = re.fullmatch(r"(\d{1,2})-(\d{1,2})", value) if isinstance(value, str) and value.isascii() else None
        if match:
            month, day = int(match[1]), int(match[2])
            if 1 <= month <= 12 and 1 <= day <= _DAYS_IN_MONTH[month - 1]:
                return month, day
        self.tell(where + key, value, 'give month-day, as "09-30"')
        return 1, 1

    def unknown(self, table: Mapping[str, Any], known: frozenset[str], where: str) -> None:
        for key in table:
            if key not in known:
                self.tell(f"{where}{key}", table[key], f"is not known here; known are {', '.join(sorted(known))}")

    def steps(self, pairs: list[tuple[int, float]], where: str, value: object) -> tuple[UseStep, ...]:
        """Checked steps: rising clock times that start at midnight."""
        clocks = [clock_s for clock_s, _ in pairs]
        if not pairs or clocks[0] != 0:
            self.tell(where, value, "let the first step start at midnight")
        if any(later <= earlier for earlier, later in pairwise(clocks)):
            self.tell(where, value, "let each step start later than the one before")
        return tuple(UseStep(clock_s, price) for clock_s, price in pairs)

    def finish(self, tariff_of: Mapping[str, Any], schedules: tuple[Schedule, ...]) -> Tariff:
        """The tariff, or `TariffError` with all that was noted."""
        self._check_zone(tariff_of["timezone"])
        interval_s, sub_s = tariff_of["interval_s"], tariff_of["sub_interval_s"]
        if tariff_of["interval_kind"] == "rolling" and (sub_s > interval_s or interval_s % sub_s):
            self.tell("sub-interval", f"{sub_s} s", f"give one that divides the interval of {interval_s} s")
        if not self.problems:
            self._check_cover(schedules)
        if self.problems:
            raise TariffError(tuple(self.problems))
        return Tariff(schedules=schedules, **tariff_of)

    def _check_zone(self, timezone: str) -> None:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError, RecursionError):
            self.tell("timezone", timezone, 'give an IANA name, as "Europe/Berlin"')

    def _check_cover(self, schedules: tuple[Schedule, ...]) -> None:
        for month, days in enumerate(_DAYS_IN_MONTH, start=1):
            for day in range(1, days + 1):
                bare = [n for k, n in enumerate(_DAY_NAMES) if find_schedule(schedules, (month, day), k) is None]
                if bare:
                    when = f"{month:02d}-{day:02d} ({', '.join(bare)})"
                    self.tell("schedules", f"no price on {when}", "widen a season or its days until every day has one")
                    return


def parse_tariff(raw: object, timezone: str | None = None, currency: str | None = None) -> Tariff:
    """A tariff from a decoded document: the ACN layout if it has `schedule`, our TOML layout otherwise.

    `timezone` and `currency` fill in what the ACN layout does not say (Pacific time and USD when not given).
    Raises `TariffError` with every problem found.
    """
    if text := unbounded(raw):
        raise TariffError((f"tariff = (the file): it {text}",))
    if not isinstance(raw, Mapping):
        raise TariffError((f"tariff = {_shown(raw)}: give a table of named fields",))
    if "schedule" in raw:
        return from_acn(raw, timezone or "America/Los_Angeles", currency or "USD")
    return from_toml(raw)


def from_toml(raw: Mapping[str, Any]) -> Tariff:
    """A tariff from our TOML layout, decoded. Raises `TariffError` with every problem found."""
    reader = _Reader()
    reader.unknown(raw, _TOML_KEYS, "")
    demand = raw.get("demand", {})
    if not isinstance(demand, Mapping):
        reader.tell("demand", demand, "give a table [demand]")
        demand = {}
    reader.unknown(demand, _DEMAND_KEYS, "demand.")
    head = _head(reader, raw, str(raw.get("timezone", "")), "")
    head["interval_s"] = 60 * reader.minutes(demand, "interval_min", "demand.", 15)
    head["interval_kind"] = _kind(reader, demand.get("kind", "block"), "demand.kind")
    head["sub_interval_s"] = 60 * reader.minutes(demand, "sub_interval_min", "demand.", 5)
    head |= _ratchet(reader, demand, "demand.")
    schedules: list[Schedule] = []
    for i, season in enumerate(reader.tables(raw, "season", "")):
        schedules += _toml_season(reader, season, f"season {i + 1}: ")
    return reader.finish(head, tuple(schedules))


def _toml_season(reader: _Reader, season: Mapping[str, Any], where: str) -> list[Schedule]:
    reader.unknown(season, _SEASON_KEYS, where)
    name = reader.text(season, "name", where, default="all year")
    whole_year = "from" not in season and "to" not in season
    first = (1, 1) if whole_year else reader.month_day(season, "from", where)
    last = (12, 31) if whole_year else reader.month_day(season, "to", where)
    demand = reader.number(season, "demand_price_per_kw", where, default=0.0)
    found = []
    for k, price in enumerate(reader.tables(season, "price", where)):
        place = f"{where}price {k + 1}: "
        reader.unknown(price, _PRICE_KEYS, place)
        mask = _days(reader, price.get("days", "all"), place + "days")
        steps = _toml_steps(reader, price.get("steps"), place + "steps")
        found.append(Schedule(name, first, last, mask, steps, demand))
    return found


def _toml_steps(reader: _Reader, value: object, where: str) -> tuple[UseStep, ...]:
    """`[["00:00", 0.142], ["08:30", 0.268]]`, or one number for the whole day."""
    if _is_number(value):
        value = [["00:00", value]]
    if not isinstance(value, list):
        reader.tell(where, value, 'give one price, or pairs as [["00:00", 0.142], ["08:30", 0.268]]')
        return ()
    pairs = []
    for item in value:
        clock_s = _clock_s(item[0]) if isinstance(item, list) and len(item) == 2 else None
        if clock_s is None or not _is_number(item[1]) or abs(item[1]) > 1e6:
            reader.tell(where, item, 'give a clock time and a price, as ["08:30", 0.268]')
            continue
        pairs.append((clock_s, float(item[1])))
    return reader.steps(pairs, where, value)


def from_acn(raw: Mapping[str, Any], timezone: str, currency: str) -> Tariff:
    """A tariff from the ACN `schedule` layout (acnportal), decoded. Raises `TariffError` with every problem found.

    Our own fields (`timezone`, `currency`, `interval_s` and so on) may stand beside `name`; other fields are ignored.
    """
    reader = _Reader()
    head = _head(reader, {"currency": currency, **raw}, str(raw.get("timezone", timezone)), "")
    for key, default in (("interval_s", 900), ("sub_interval_s", 300)):
        seconds = raw.get(key, default)
        if not (_is_number(seconds) and 60 <= seconds <= 3600 and _SECONDS_PER_HOUR % seconds == 0):
            reader.tell(key, seconds, "give whole seconds that divide an hour, as 900")
            seconds = default
        head[key] = int(seconds)
    head["interval_kind"] = _kind(reader, raw.get("interval_kind", "block"), "interval_kind")
    head |= _ratchet(reader, raw, "")
    entries = reader.tables(raw, "schedule", "")
    return reader.finish(head, tuple(_acn_entry(reader, e, f"schedule {i + 1}: ") for i, e in enumerate(entries)))


def _acn_entry(reader: _Reader, entry: Mapping[str, Any], where: str) -> Schedule:
    mask = entry.get("dow_mask", "ALL")
    if not isinstance(mask, str) or mask.upper() not in _ACN_MASKS:
        reader.tell(where + "dow_mask", mask, f"give one of {', '.join(_ACN_MASKS)}")
        mask = "ALL"
    return Schedule(
        name=reader.text(entry, "id", where, default="unnamed"),
        first_day=reader.month_day(entry, "effective_start", where),
        last_day=reader.month_day(entry, "effective_end", where),
        weekdays=_ACN_MASKS[mask.upper()],
        steps=_acn_steps(reader, entry, where),
        demand_price_per_kw=reader.number(entry, "demand_charge", where, default=0.0),
    )


def _acn_steps(reader: _Reader, entry: Mapping[str, Any], where: str) -> tuple[UseStep, ...]:
    times, price = entry.get("times"), entry.get("tariffs")
    if not isinstance(times, list) or not all(_is_number(t) and 0 <= t < 24 for t in times):
        reader.tell(where + "times", times, "give local hours from 0 to below 24, as [0, 8.5, 21.5]")
        return ()
    if not isinstance(price, list) or len(price) != len(times):
        reader.tell(where + "tariffs", price, f"give {len(times)} prices per kWh, one for each of times")
        return ()
    if not all(_is_number(p) and abs(p) <= 1e6 for p in price):
        reader.tell(where + "tariffs", price, "give finite prices per kWh")
        return ()
    pairs = [(round(t * 60) * 60, float(p)) for t, p in zip(times, price, strict=True)]
    return reader.steps(pairs, where + "times", times)


def _head(reader: _Reader, raw: Mapping[str, Any], timezone: str, where: str) -> dict[str, Any]:
    return {
        "name": reader.text(raw, "name", where),
        "currency": reader.currency(raw, where),
        "timezone": timezone,
        "fixed_per_month": reader.number(raw, "fixed_per_month", where, default=0.0),
        "tax_per_kwh": reader.number(raw, "tax_per_kwh", where, default=0.0),
        "export_credit_per_kwh": reader.number(raw, "export_credit_per_kwh", where, default=0.0, low=-1e3, high=1e3),
    }


def _ratchet(reader: _Reader, raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    months = reader.number(raw, "ratchet_months", where, default=11, low=1, high=120)
    return {
        "ratchet_fraction": reader.number(raw, "ratchet_fraction", where, default=0.0, high=1.0),
        "ratchet_months": int(months),
    }


def _kind(reader: _Reader, value: object, where: str) -> IntervalKind:
    if value == "block" or value == "rolling":
        return value
    reader.tell(where, value, 'give "block" or "rolling"')
    return "block"


def _days(reader: _Reader, value: object, where: str) -> int:
    """Weekday mask of "all", "Mon-Fri", "Sat,Sun" or "Fri-Mon"."""
    mask = 0
    for part in value.lower().split(",") if isinstance(value, str) else ():
        first, _, last = (piece.strip() for piece in part.partition("-"))
        if first == "all" and not last:
            mask |= ALL_DAYS
        elif first in _DAY_NAMES and (last or first) in _DAY_NAMES:
            start, end = _DAY_NAMES.index(first), _DAY_NAMES.index(last or first)
            for k in range((end - start) % 7 + 1):
                mask |= 1 << (start + k) % 7
        else:
            mask = 0
            break
    if not mask:
        reader.tell(where, value, 'give "all", or days as "Mon-Fri" or "Sat,Sun"')
    return mask


def _clock_s(value: object) -> int | None:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", value) if isinstance(value, str) and value.isascii() else None
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        return None
    return int(match[1]) * _SECONDS_PER_HOUR + int(match[2]) * 60


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    if value is None:
        return "(missing)"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
