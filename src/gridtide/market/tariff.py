"""What energy and demand cost, when: time of use by season and weekday in the tariff's local time.

A tariff is a list of schedules. On a local day the schedule with the most specific weekday mask applies; among equals
the one listed first. Instants are UTC epoch seconds; clock times are local, so a day of 23 or 25 hours is priced as it
is lived.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.model.view import PriceStep

Floats = NDArray[np.float64]
MonthDay = tuple[int, int]
IntervalKind = Literal["block", "rolling"]

ALL_DAYS = 0b1111111
WEEKDAYS = 0b0011111
WEEKENDS = 0b1100000
DAY_S = 86_400
_SLOT_S = 900


class TariffError(ValueError):
    """A tariff that cannot be used; `problems` names every field, its value and the cure."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class UseStep(Struct, frozen=True):
    """From this local clock time on, energy has this price."""

    clock_s: int
    """Seconds after local midnight, 0 up to 86,399."""
    price_per_kwh: float


class Schedule(Struct, frozen=True):
    """Prices of one season on certain weekdays."""

    name: str
    first_day: MonthDay
    """(month, day), included; a season whose first day is after its last wraps the year's end."""
    last_day: MonthDay
    """(month, day), included."""
    weekdays: int
    """Bit mask, Monday is bit 0."""
    steps: tuple[UseStep, ...]
    """Rising clock times, the first at midnight."""
    demand_price_per_kw: float
    """Per kW of the month's highest interval average."""


class Tariff(Struct, frozen=True):
    """An electricity tariff. Prices in `currency`, per kWh, kW or month."""

    name: str
    currency: str
    """ISO 4217 code."""
    timezone: str
    """IANA name; seasons, clock times and billing months are local to it."""
    schedules: tuple[Schedule, ...]
    fixed_per_month: float = 0.0
    tax_per_kwh: float = 0.0
    """On imported energy."""
    export_credit_per_kwh: float = 0.0
    interval_s: int = 900
    """Length of the interval whose average is billed."""
    interval_kind: IntervalKind = "block"
    """`block`: aligned to the local clock; `rolling`: a window that moves by `sub_interval_s`."""
    sub_interval_s: int = 300
    ratchet_fraction: float = 0.0
    """Billed demand is at least this fraction of the highest in the `ratchet_months` before; 0: no ratchet."""
    ratchet_months: int = 11


def schedule_for(tariff: Tariff, day: date) -> Schedule:
    """The schedule in force on a local day.

    Raises `TariffError` where none covers the day; a tariff that was parsed covers every day.
    """
    found = find_schedule(tariff.schedules, (day.month, day.day), day.weekday())
    if found is None:
        raise TariffError((f"schedules: none covers {day:%a %d %b}: widen a season or its days",))
    return found


def find_schedule(schedules: tuple[Schedule, ...], month_day: MonthDay, weekday: int) -> Schedule | None:
    """The schedule with the fewest weekdays that covers a day (Monday is 0), the first listed among equals, or None."""
    covering = [s for s in schedules if s.weekdays >> weekday & 1 and _in_season(s, month_day)]
    return min(covering, key=lambda s: s.weekdays.bit_count(), default=None)


def _in_season(schedule: Schedule, month_day: MonthDay) -> bool:
    first, last = schedule.first_day, schedule.last_day
    if first <= last:
        return first <= month_day <= last
    return month_day >= first or month_day <= last


def price_per_kwh(tariff: Tariff, t_s: float) -> float:
    """Energy price at an instant, per kWh, without taxes."""
    local = _local(tariff, t_s)
    clock_s = local.hour * 3600 + local.minute * 60 + local.second
    steps = schedule_for(tariff, local.date()).steps
    return next(step.price_per_kwh for step in reversed(steps) if step.clock_s <= clock_s)


def demand_price_per_kw(tariff: Tariff, t_s: float) -> float:
    """Price of a kW of billed demand in the season of an instant, per kW and month."""
    return schedule_for(tariff, _local(tariff, t_s).date()).demand_price_per_kw


def price_steps(tariff: Tariff, day: date) -> tuple[PriceStep, ...]:
    """Energy prices of one local day, per kWh: each holds from its UTC instant to the next one's or the day's end."""
    zone = ZoneInfo(tariff.timezone)
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    next_day = day + timedelta(days=1)
    next_midnight = datetime(next_day.year, next_day.month, next_day.day, tzinfo=zone)
    minutes_s = np.arange(midnight.timestamp(), next_midnight.timestamp(), 60.0)
    price = prices(tariff, minutes_s)
    first = np.flatnonzero(np.diff(price, prepend=np.nan) != 0.0)
    return tuple(PriceStep(float(minutes_s[i]), float(price[i])) for i in first)


def prices(tariff: Tariff, t_s: Floats) -> Floats:
    """Energy price at each instant of `t_s` (any shape, UTC epoch s), per kWh, without taxes."""
    return _by_local_day(tariff, t_s, _energy_of_day)


def demand_prices(tariff: Tariff, t_s: Floats) -> Floats:
    """Demand price at each instant of `t_s` (any shape, UTC epoch s), per kW and month."""
    return _by_local_day(tariff, t_s, _demand_of_day)


def _energy_of_day(schedule: Schedule, clock_s: Floats) -> Floats:
    starts_s = np.array([step.clock_s for step in schedule.steps], dtype=float)
    price = np.array([step.price_per_kwh for step in schedule.steps])
    return price[np.searchsorted(starts_s, clock_s, side="right") - 1]


def _demand_of_day(schedule: Schedule, clock_s: Floats) -> Floats:
    return np.full(clock_s.shape, schedule.demand_price_per_kw)


def _by_local_day(tariff: Tariff, t_s: Floats, of_day: Callable[[Schedule, Floats], Floats]) -> Floats:
    """Apply a schedule's prices to each group of instants that fall on one (month, day, weekday) kind of day."""
    flat = np.asarray(t_s, dtype=float).ravel()
    local_s = flat + utc_offsets_s(tariff.timezone, flat)
    day_number = np.floor(local_s / DAY_S).astype(np.int64)
    clock_s = local_s - day_number * float(DAY_S)
    days, of_row = np.unique(day_number, return_inverse=True)
    schedules = [schedule_for(tariff, date(1970, 1, 1) + timedelta(days=int(d))) for d in days]
    number = {id(s): k for k, s in enumerate(tariff.schedules)}
    kind = np.array([number[id(s)] for s in schedules], dtype=np.int64)[of_row] if days.size else of_row
    out = np.empty(flat.shape)
    for k, schedule in enumerate(tariff.schedules):
        rows = kind == k
        out[rows] = of_day(schedule, clock_s[rows])
    return out.reshape(np.shape(t_s))


def utc_offsets_s(timezone: str, t_s: Floats) -> Floats:
    """Offset of local time from UTC at each instant of `t_s` (1-D, UTC epoch s), seconds, east positive.

    The zone is asked once a UTC day; only days whose two ends differ are asked every quarter hour, where zones change.
    """
    zone = ZoneInfo(timezone)
    day_number = np.floor(t_s / DAY_S).astype(np.int64)
    days, of_row = np.unique(day_number, return_inverse=True)
    at_start = np.array([_offset_s(zone, int(d) * DAY_S) for d in days], dtype=float)
    at_end = np.array([_offset_s(zone, (int(d) + 1) * DAY_S) for d in days], dtype=float)
    out: Floats = at_start[of_row] if days.size else np.zeros(t_s.shape)
    changing = np.flatnonzero((at_start != at_end)[of_row]) if days.size else np.array([], dtype=np.int64)
    slots, of_slot = np.unique(np.floor(t_s[changing] / _SLOT_S).astype(np.int64), return_inverse=True)
    if slots.size:
        out[changing] = np.array([_offset_s(zone, int(s) * _SLOT_S) for s in slots])[of_slot]
    return out


def _offset_s(zone: ZoneInfo, t_s: int) -> float:
    offset = datetime.fromtimestamp(t_s, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def billing_period(tariff: Tariff, t_s: float) -> tuple[float, float]:
    """Start and end of the billing month that holds an instant, UTC epoch s: a calendar month of local time."""
    local = _local(tariff, t_s)
    zone = ZoneInfo(tariff.timezone)
    start = datetime(local.year, local.month, 1, tzinfo=zone)
    over, month = divmod(local.month, 12)
    end = datetime(local.year + over, month + 1, 1, tzinfo=zone)
    return start.timestamp(), end.timestamp()


def _local(tariff: Tariff, t_s: float) -> datetime:
    return datetime.fromtimestamp(t_s, ZoneInfo(tariff.timezone))
