"""A tariff, and what energy and demand cost when: lookups by the tariff's local time.

On a local day the plan with the most specific weekday mask applies; among equals the one listed first. Instants are UTC
epoch seconds; clock times are local, so a day of 23 or 25 hours is priced as it is lived. A holiday is a Sunday.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct

from gridtide.market.charges import (
    Calendar,
    CoincidentCharge,
    DemandCharge,
    EnergyCharge,
    Floats,
    Holiday,
    IntervalKind,
    Ints,
    Metering,
    MonthDay,
    Plan,
    Ratchet,
    TariffError,
    UsageRegime,
)
from gridtide.model.view import PriceStep

__all__ = [
    "Floats", "Tariff", "TariffError", "billing_period", "demand_price_per_kw", "demand_prices", "find_plan", "is_holiday",
    "local_time", "period_at", "periods", "plan_for", "price_per_kwh", "price_steps", "prices", "sell_prices", "utc_offsets_s",
]  # fmt: skip

DAY_S = 86_400
_SLOT_S = 900
_SUNDAY = 6


class Tariff(Struct, frozen=True, kw_only=True):
    """An electricity tariff. Prices in `currency`."""

    name: str
    currency: str
    """ISO 4217 code."""
    timezone: str
    """IANA name; seasons, clock times and billing months are local to it."""
    energy: EnergyCharge
    demand: tuple[DemandCharge, ...] = ()
    coincident: CoincidentCharge | None = None
    regime: UsageRegime | None = None
    ratchet: Ratchet | None = None
    metering: Metering = "net_billing"
    """`net_billing`: import at the price, export at the credit, netted within a sample; `net_metering`: each period's energy is
    netted over the month, the surplus carried on to December; `buy_all_sell_all`: load and generation have meters of their own."""
    surplus_per_kwh: float = 0.0
    """Net metering: paid for what is left of the surplus at the year's end."""
    fixed_per_month: float = 0.0
    fixed_per_day: float = 0.0
    minimum_per_month: float = 0.0
    minimum_per_year: float = 0.0
    reactive_per_kvar: float = 0.0
    """Per kvar and month of the highest interval average, beyond what is free."""
    free_kvar_per_kw: float = 0.0
    """kvar that are free for each kW of the month's peak."""
    tax_per_kwh: float = 0.0
    """On imported energy."""
    tax_fraction: float = 0.0
    """On everything else."""
    holidays: tuple[Holiday, ...] = ()
    interval_s: int = 900
    """Length of the interval whose average is billed."""
    interval_kind: IntervalKind = "block"
    """`block`: aligned to the local clock; `rolling`: a window that moves by `sub_interval_s`."""
    sub_interval_s: int = 300
    source: str = ""
    """Where the prices are from, and as of when."""
    notes: tuple[str, ...] = ()
    """What the written form held that is not billed, or not as written."""


def find_plan(calendar: Calendar, month_day: MonthDay, weekday: int) -> Plan | None:
    """The plan with the fewest weekdays that covers a day (Monday is 0), the first listed among equals, or None."""
    covering = [plan for plan in calendar if plan.weekdays >> weekday & 1 and _in_season(plan, month_day)]
    return min(covering, key=lambda plan: plan.weekdays.bit_count(), default=None)


def _in_season(plan: Plan, month_day: MonthDay) -> bool:
    first, last = plan.first_day, plan.last_day
    if first <= last:
        return first <= month_day <= last
    return month_day >= first or month_day <= last


def is_holiday(holidays: Sequence[Holiday], day: date) -> bool:
    """Whether a local day is on the tariff's own list."""
    return any(h.month == day.month and h.day == day.day and h.year in (0, day.year) for h in holidays)


def plan_for(calendar: Calendar, holidays: tuple[Holiday, ...], day: date) -> Plan:
    """The plan in force on a local day; a holiday counts as a Sunday.

    Raises `TariffError` where none covers the day; a tariff that was parsed covers every day.
    """
    weekday = _SUNDAY if is_holiday(holidays, day) else day.weekday()
    found = find_plan(calendar, (day.month, day.day), weekday)
    if found is None:
        raise TariffError((f"calendar: nothing covers {day:%a %d %b}: widen a season or its days",))
    return found


def period_at(calendar: Calendar, tariff: Tariff, t_s: float) -> int:
    """The period in force at an instant."""
    local = local_time(tariff, t_s)
    clock_s = local.hour * 3600 + local.minute * 60 + local.second
    steps = plan_for(calendar, tariff.holidays, local.date()).steps
    return next(step.period for step in reversed(steps) if step.clock_s <= clock_s)


def periods(calendar: Calendar, tariff: Tariff, t_s: Floats) -> Ints:
    """The period in force at each instant of `t_s` (n,), UTC epoch s."""
    flat = np.asarray(t_s, dtype=float)
    local_s = flat + utc_offsets_s(tariff.timezone, flat)
    day_number = np.floor(local_s / DAY_S).astype(np.int64)
    clock_s = local_s - day_number * float(DAY_S)
    days, of_row = np.unique(day_number, return_inverse=True)
    plans = [plan_for(calendar, tariff.holidays, date(1970, 1, 1) + timedelta(days=int(d))) for d in days]
    number = {id(plan): k for k, plan in enumerate(calendar)}
    kind = np.array([number[id(plan)] for plan in plans], dtype=np.int64)[of_row] if days.size else of_row
    out = np.zeros(flat.shape, dtype=np.int64)
    for k, plan in enumerate(calendar):
        rows = kind == k
        starts_s = np.array([step.clock_s for step in plan.steps], dtype=float)
        of_step = np.array([step.period for step in plan.steps], dtype=np.int64)
        out[rows] = of_step[np.searchsorted(starts_s, clock_s[rows], side="right") - 1]
    return out


def price_per_kwh(tariff: Tariff, t_s: float) -> float:
    """Price of the first kWh of a month at an instant, without taxes."""
    return _energy_prices(tariff)[period_at(tariff.energy.calendar, tariff, t_s)]


def prices(tariff: Tariff, t_s: Floats) -> Floats:
    """Price of the first kWh of a month at each instant of `t_s` (any shape, UTC epoch s), without taxes."""
    found = periods(tariff.energy.calendar, tariff, np.ravel(t_s))
    return np.array(_energy_prices(tariff))[found].reshape(np.shape(t_s))


def sell_prices(tariff: Tariff, t_s: Floats) -> Floats:
    """What a kWh of export is worth at each instant of `t_s` (any shape): the credit, or the price under net metering."""
    if tariff.metering == "net_metering":
        return prices(tariff, t_s)
    found = periods(tariff.energy.calendar, tariff, np.ravel(t_s))
    return np.array([tiers[0].sell_per_kwh for tiers in tariff.energy.periods])[found].reshape(np.shape(t_s))


def demand_price_per_kw(tariff: Tariff, t_s: float) -> float:
    """Price of the first kW of a month's demand at an instant, per kW and month; of an annual regime the lesser, a twelfth."""
    return sum(_first_price(c, period_at(c.calendar, tariff, t_s)) for c in tariff.demand) + _regime_per_kw(tariff)


def demand_prices(tariff: Tariff, t_s: Floats) -> Floats:
    """`demand_price_per_kw` at each instant of `t_s` (any shape, UTC epoch s)."""
    out = np.full(np.size(t_s), _regime_per_kw(tariff))
    for charge in tariff.demand:
        by_period = np.array([_first_price(charge, k) for k in range(len(charge.periods))])
        out += by_period[periods(charge.calendar, tariff, np.ravel(t_s))]
    return out.reshape(np.shape(t_s))


def _energy_prices(tariff: Tariff) -> list[float]:
    regime = tariff.regime
    base = min(regime.below_per_kwh, regime.above_per_kwh) if regime else 0.0
    return [tiers[0].price_per_kwh + base for tiers in tariff.energy.periods]


def _first_price(charge: DemandCharge, period: int) -> float:
    return charge.periods[period][0].price_per_kw


def _regime_per_kw(tariff: Tariff) -> float:
    regime = tariff.regime
    return min(regime.below_per_kw, regime.above_per_kw) / 12.0 if regime else 0.0


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
    local = local_time(tariff, t_s)
    zone = ZoneInfo(tariff.timezone)
    start = datetime(local.year, local.month, 1, tzinfo=zone)
    over, month = divmod(local.month, 12)
    end = datetime(local.year + over, month + 1, 1, tzinfo=zone)
    return start.timestamp(), end.timestamp()


def local_time(tariff: Tariff, t_s: float) -> datetime:
    """The tariff's own clock at an instant."""
    return datetime.fromtimestamp(t_s, ZoneInfo(tariff.timezone))
