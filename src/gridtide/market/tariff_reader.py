"""Reads fields of untrusted tariff documents and notes every problem: field, value and cure."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

import numpy as np

from gridtide.market.charges import ALL_DAYS, Calendar, Holiday, MonthDay, TariffError
from gridtide.market.tariff import Tariff

T = TypeVar("T", bound=str)

DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
PRICE_LIMIT = 1e6
_DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SECONDS_PER_HOUR = 3600
_YEAR = [(month, day) for month, days in enumerate(DAYS_IN_MONTH, start=1) for day in range(1, days + 1)]


class Reader:
    """Reads fields of untrusted tables and notes what is wrong with them instead of stopping."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []

    def tell(self, field: str, value: object, cure: str) -> None:
        """Note a problem."""
        self.problems.append(f"{field} = {shown(value)}: {cure}")

    def text(self, table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
        """A text that is not empty."""
        value = table.get(key, default)
        if isinstance(value, str) and (value.strip() or value == default):
            return value.strip()
        self.tell(where + key, value, "give a text")
        return ""

    def currency(self, table: Mapping[str, Any], where: str) -> str:
        """Three capital letters."""
        value = table.get("currency")
        if isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value):
            return value
        self.tell(where + "currency", value, 'give the three letters, as "EUR"')
        return ""

    def choice(self, table: Mapping[str, Any], key: str, where: str, known: Sequence[T], default: T) -> T:
        """One of some words."""
        value = table.get(key, default)
        if isinstance(value, str) and value in known:
            return cast(T, value)
        self.tell(where + key, value, f"give one of {', '.join(known)}")
        return default

    def number(
        self,
        table: Mapping[str, Any],
        key: str,
        where: str,
        default: float | None = None,
        low: float = 0.0,
        high: float = 1e9,
    ) -> float:
        """A finite number within bounds."""
        value = table.get(key, default)
        if is_number(value) and low <= value <= high:
            return float(value)
        self.tell(where + key, value, f"give a number from {low:g} to {high:g}")
        return low

    def price(self, table: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
        """A number that may be negative."""
        return self.number(table, key, where, default, -PRICE_LIMIT, PRICE_LIMIT)

    def flag(self, table: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
        """True or false."""
        value = table.get(key, default)
        if isinstance(value, bool):
            return value
        self.tell(where + key, value, "give true or false")
        return default

    def minutes(self, table: Mapping[str, Any], key: str, where: str, default: int) -> int:
        """Whole minutes that divide an hour."""
        value = table.get(key, default)
        if is_number(value) and 1 <= value <= 60 and 60 % value == 0:
            return int(value)
        self.tell(where + key, value, "give whole minutes that divide an hour, as 15")
        return default

    def seconds(self, table: Mapping[str, Any], key: str, where: str, default: int) -> int:
        """Whole seconds that divide an hour."""
        value = table.get(key, default)
        if is_number(value) and 60 <= value <= _SECONDS_PER_HOUR and _SECONDS_PER_HOUR % value == 0:
            return int(value)
        self.tell(where + key, value, "give whole seconds that divide an hour, as 900")
        return default

    def table(self, table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
        """A table, empty where there is none."""
        value = table.get(key, {})
        if isinstance(value, Mapping):
            return value
        self.tell(where + key, value, f"give a table [{key}]")
        return {}

    def tables(self, table: Mapping[str, Any], key: str, where: str, needed: bool = True) -> list[Mapping[str, Any]]:
        """A list of tables."""
        value = table.get(key, None if needed else [])
        listed = isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
        if listed and (value or not needed):
            return cast(list[Mapping[str, Any]], value)
        self.tell(where + key, value, "give at least one table" if needed else "give a list of tables")
        return []

    def month_day(self, table: Mapping[str, Any], key: str, where: str) -> MonthDay:
        """`09-30`."""
        found = _month_day(table.get(key))
        if found is None:
            self.tell(where + key, table.get(key), 'give month-day, as "09-30"')
        return found or (1, 1)

    def season(self, table: Mapping[str, Any], where: str) -> tuple[MonthDay, MonthDay]:
        """First and last day of `from` and `to`; the whole year without both."""
        if "from" not in table and "to" not in table:
            return (1, 1), (12, 31)
        return self.month_day(table, "from", where), self.month_day(table, "to", where)

    def days(self, value: object, where: str) -> int:
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
            self.tell(where, value, 'give "all", or days as "Mon-Fri" or "Sat,Sun"')
        return mask

    def holidays(self, table: Mapping[str, Any]) -> tuple[Holiday, ...]:
        """Days as `"12-25"` (every year) or `"2026-04-06"`."""
        value = table.get("holidays", [])
        if not isinstance(value, list):
            self.tell("holidays", value, 'give a list of days, as ["12-25", "2026-04-06"]')
            return ()
        found = []
        for item in value:
            year, _, rest = item.partition("-") if isinstance(item, str) and len(item) == 10 else ("0", "", item)
            month_day = _month_day(rest)
            if month_day is None or not (year.isascii() and year.isdigit()):
                self.tell("holidays", item, 'give a day, as "12-25" for every year or "2026-04-06"')
            else:
                found.append(Holiday(*month_day, int(year)))
        return tuple(found)

    def unknown(self, table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
        """Note every key that is not known."""
        for key in table:
            if key not in known:
                self.tell(f"{where}{key}", table[key], f"is not known here; known are {', '.join(sorted(known))}")

    def rising(self, clocks_s: Sequence[int], where: str, value: object) -> None:
        """Note clock times that do not start at midnight and rise."""
        if not clocks_s or clocks_s[0] != 0:
            self.tell(where, value, "let the first step start at midnight")
        if any(later <= earlier for earlier, later in pairwise(clocks_s)):
            self.tell(where, value, "let each step start later than the one before")

    def finish(self, fields: Mapping[str, Any]) -> Tariff:
        """The tariff, or `TariffError` with all that was noted."""
        self._check_zone(fields["timezone"])
        interval_s, sub_s = fields["interval_s"], fields["sub_interval_s"]
        if fields["interval_kind"] == "rolling" and (sub_s > interval_s or interval_s % sub_s):
            self.tell("sub-interval", f"{sub_s} s", f"give one that divides the interval of {interval_s} s")
        if not self.problems:
            self._check_cover(fields["energy"].calendar)
        if self.problems:
            raise TariffError(tuple(self.problems))
        return Tariff(**fields, notes=tuple(self.notes))

    def _check_zone(self, timezone: str) -> None:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError, RecursionError):
            self.tell("timezone", timezone, 'give an IANA name, as "Europe/Berlin"')

    def _check_cover(self, calendar: Calendar) -> None:
        covered = np.zeros((len(_YEAR), 7), dtype=bool)
        for plan in calendar:
            first, last = _YEAR.index(plan.first_day), _YEAR.index(plan.last_day)
            days = np.arange(first, last + 1 if first <= last else last + 1 + len(_YEAR)) % len(_YEAR)
            for weekday in range(7):
                covered[days, weekday] |= bool(plan.weekdays >> weekday & 1)
        if not covered.all():
            row = int(np.argmin(covered.all(axis=1)))
            bare = ", ".join(name for name, there in zip(_DAY_NAMES, covered[row], strict=True) if not there)
            when = f"{_YEAR[row][0]:02d}-{_YEAR[row][1]:02d} ({bare})"
            self.tell("schedules", f"no price on {when}", "widen a season or its days until every day has one")


def _month_day(value: object) -> MonthDay | None:
    match = re.fullmatch(r"(\d{1,2})-(\d{1,2})", value) if isinstance(value, str) and value.isascii() else None
    if match:
        month, day = int(match[1]), int(match[2])
        if 1 <= month <= 12 and 1 <= day <= DAYS_IN_MONTH[month - 1]:
            return month, day
    return None


def clock_s(value: object) -> int | None:
    """Seconds after midnight of `"08:30"`, or None."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", value) if isinstance(value, str) and value.isascii() else None
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        return None
    return int(match[1]) * _SECONDS_PER_HOUR + int(match[2]) * 60


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown(value: object) -> str:
    """A value as it is told back, cut where it is long."""
    if value is None:
        return "(missing)"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
