"""Numbers, money, dates and intervals as a facility manager reads them; what is not finite is shown as a dash."""

import math
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from msgspec import Struct

NBSP = "\u00a0"
"""Keeps a number and its unit together."""
GROUP = "\u202f"
"""Narrow no-break space between thousands."""
MINUS = "\u2212"
DASH = "\u2013"
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£"}
_SMALL_NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_INTERVALS = {900.0: "quarter hour", 1800.0: "half hour", 3600.0: "hour", 300.0: "five minutes"}


def number(value: float, decimals: int = 0) -> str:
    """A plain number with grouped thousands and a true minus sign."""
    if not math.isfinite(value):
        return DASH
    rounded = round(value, decimals)
    sign = MINUS if rounded < 0 else ""
    return sign + f"{abs(rounded):,.{decimals}f}".replace(",", GROUP)


def signed(value: float, decimals: int = 0) -> str:
    """A difference: "+ 65", "− 1 094", "0"."""
    shown = number(abs(value), decimals)
    if not math.isfinite(value) or round(value, decimals) == 0:
        return shown
    return f"{'+' if value > 0 else MINUS}{NBSP}{shown}"


def quantity(value: float) -> str:
    """A measured quantity with two to three significant digits."""
    return number(value, 0 if not math.isfinite(value) or abs(value) >= 9.95 or value == 0 else 1)


def with_unit(value: float, unit: str) -> str:
    """A quantity and its unit, never parted by a line break."""
    return f"{quantity(value)}{NBSP}{unit}"


def percent(fraction: float) -> str:
    """A share: "2.3 %", "15 %"."""
    decimals = 1 if 0.0005 <= abs(fraction) < 0.0995 else 0
    return f"{number(fraction * 100, decimals)}{NBSP}%"


def symbol(currency: str) -> str:
    """The sign of a currency, or its code."""
    return _SYMBOLS.get(currency, currency)


def money(value: float, currency: str, decimals: int = 0) -> str:
    """An amount with its currency: "€ 984"."""
    return f"{symbol(currency)}{NBSP}{number(value, decimals)}"


def unit_price(value: float, currency: str) -> str:
    """A price per unit: two decimals from 1 up, three or four below."""
    if not math.isfinite(value) or abs(value) >= 1:
        return money(value, currency, 2)
    return money(value, currency, 3 if round(value, 3) == round(value, 4) else 4)


def count(n: int, one: str, many: str) -> str:
    """A count in words up to twelve: "one vehicle", "twelve vehicles", "14 vehicles"."""
    shown = _SMALL_NUMBERS[n] if 0 <= n < len(_SMALL_NUMBERS) else number(n)
    return f"{shown}{NBSP}{one if n == 1 else many}"


def listed(items: list[str]) -> str:
    """ "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def plain(text: str) -> str:
    """Without the no-break spaces that only a typeset page needs."""
    return text.replace(NBSP, " ").replace(GROUP, " ")


def interval_name(interval_s: float) -> str:
    """What the billed interval is called: "quarter hour"."""
    return _INTERVALS.get(interval_s, f"{quantity(interval_s / 60)}-minute interval")


def zone_of(timezone: str) -> tzinfo:
    """The named zone; UTC where the name is not known here."""
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        return UTC


def local_day(t_s: float, zone: tzinfo) -> date:
    """Local calendar day of an instant."""
    return datetime.fromtimestamp(t_s, zone).date()


def day_month(day: date) -> str:
    """ "24 June"."""
    return f"{day.day}{NBSP}{MONTHS[day.month - 1]}"


class Period(Struct, frozen=True):
    """The study's period in words."""

    label: str
    """ "June 2026"."""
    when: str
    """ "in June"."""
    name: str
    """ "June"."""


def period(start_s: float, end_s: float, zone: tzinfo) -> Period:
    """Words for the local days from `start_s` up to `end_s` (excluded)."""
    first, last = local_day(start_s, zone), local_day(max(end_s - 1.0, start_s), zone)
    begins_month, ends_month = first.day == 1, (last + timedelta(days=1)).day == 1
    if begins_month and ends_month and (first.year, first.month) == (last.year, last.month):
        name = MONTHS[first.month - 1]
        return Period(f"{name} {first.year}", f"in {name}", name)
    if begins_month and ends_month and first.month == 1 and last.month == 12 and first.year == last.year:
        return Period(str(first.year), f"in {first.year}", str(first.year))
    if first == last:
        return Period(f"{day_month(first)} {first.year}", f"on {day_month(first)}", day_month(first))
    year = f" {first.year}" if first.year != last.year else ""
    span = f"{day_month(first)}{year} to {day_month(last)}"
    return Period(f"{span} {last.year}", f"from {span}", span)
