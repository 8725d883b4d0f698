"""The shapes that a tariff is made of: charges by period and tier, and the local calendar that says which period holds.

They follow the U.S. Utility Rate Database (URDB): a calendar maps each local instant to a period, a period has tiers.
"""

from collections.abc import Iterable
from math import inf
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MonthDay = tuple[int, int]
IntervalKind = Literal["block", "rolling"]
Metering = Literal["net_billing", "net_metering", "buy_all_sell_all"]
Per = Literal["month", "day"]
Combine = Literal["sum", "dearest"]
TierSplit = Literal["in_order", "pro_rata"]
TierUnit = Literal["kwh", "kwh_per_kw", "kwh_per_day", "kwh_per_kw_per_day"]

ALL_DAYS = 0b1111111
WEEKDAYS = 0b0011111
WEEKENDS = 0b1100000


class TariffError(ValueError):
    """A tariff that cannot be used; `problems` names every field, its value and the cure."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class PlanStep(Struct, frozen=True):
    """From this local clock time on, this period holds."""

    clock_s: int
    """Seconds after local midnight, 0 up to 86,399."""
    period: int


class Plan(Struct, frozen=True):
    """The periods of certain weekdays in one season."""

    name: str
    first_day: MonthDay
    """(month, day), included; a season whose first day is after its last wraps the year's end."""
    last_day: MonthDay
    """(month, day), included."""
    weekdays: int
    """Bit mask, Monday is bit 0."""
    steps: tuple[PlanStep, ...]
    """Rising clock times, the first at midnight."""


Calendar = tuple[Plan, ...]


class EnergyTier(Struct, frozen=True):
    """Prices up to a cumulative bound of the month's energy. The last tier of a period has no bound."""

    price_per_kwh: float
    up_to: float = inf
    unit: TierUnit = "kwh"
    """Of `up_to`: per kW means times the month's billed demand, per day times the month's days."""
    sell_per_kwh: float = 0.0
    """Credit for exported energy, by the cumulative export."""


class EnergyCharge(Struct, frozen=True):
    """Energy by time of use and tier."""

    calendar: Calendar
    periods: tuple[tuple[EnergyTier, ...], ...]
    tier_split: TierSplit = "in_order"
    """How several periods share the tiers of a month's total energy: as it came, or each in proportion to its energy.
    Net metering is always `pro_rata`: nothing is known before the month is netted."""


class DemandTier(Struct, frozen=True):
    """Price of each kW up to a bound. The last tier has no bound."""

    price_per_kw: float
    up_to_kw: float = inf


class DemandCharge(Struct, frozen=True):
    """A charge on the highest interval average of each period."""

    name: str
    calendar: Calendar
    periods: tuple[tuple[DemandTier, ...], ...]
    combine: Combine = "sum"
    """`sum`: every period of the month is billed on its own peak; `dearest`: only the one that costs most."""
    per: Per = "month"
    """`day`: each local day is billed on its own peaks, without ratchet."""
    ratcheted: bool = True


class CoincidentCharge(Struct, frozen=True):
    """A charge on the average of the interval in which the utility had its own peak."""

    calendar: Calendar
    price_per_kw: tuple[float, ...]
    """By period."""


class Ratchet(Struct, frozen=True):
    """Billed demand is at least a fraction of earlier months' peaks."""

    fractions: tuple[float, ...]
    """For January to December, 0..1."""
    months: int = 11
    """How many months before are looked at."""
    by: Literal["peak_month", "billed_month"] = "peak_month"
    """Which month's fraction counts: that of the earlier peak, or that of the bill."""
    minimum_kw: float = 0.0


class UsageRegime(Struct, frozen=True):
    """German Leistungspreis: below a number of hours of use (annual energy over annual peak) one pair of prices, else another.

    Annual: a span shorter than a year is billed on that share of it, with its energy scaled to the year.
    """

    below_per_kw: float
    """Per kW and year of the year's highest interval average."""
    below_per_kwh: float
    above_per_kw: float
    above_per_kwh: float
    hours: float = 2500.0


class Holiday(Struct, frozen=True):
    """A day that is priced as a Sunday."""

    month: int
    day: int
    year: int = 0
    """0: every year."""


class UseStep(Struct, frozen=True):
    """From this local clock time on, energy has this price."""

    clock_s: int
    price_per_kwh: float


class Schedule(Struct, frozen=True):
    """Prices of one season on certain weekdays: the short way to write a tariff without tiers, see `time_of_use`."""

    name: str
    first_day: MonthDay
    last_day: MonthDay
    weekdays: int
    steps: tuple[UseStep, ...]
    demand_price_per_kw: float = 0.0
    """Per kW of the month's highest interval average; a month of two seasons is billed on the dearer of its two peaks."""


def time_of_use(schedules: Iterable[Schedule], export_credit_per_kwh: float = 0.0) -> tuple[EnergyCharge, DemandCharge]:
    """The energy and the demand charge of priced schedules."""
    listed = tuple(schedules)
    prices = tuple(dict.fromkeys(step.price_per_kwh for item in listed for step in item.steps))
    demand = tuple(dict.fromkeys(item.demand_price_per_kw for item in listed))
    energy = EnergyCharge(
        tuple(_plan(item, [(s.clock_s, prices.index(s.price_per_kwh)) for s in item.steps]) for item in listed),
        tuple((EnergyTier(price, sell_per_kwh=export_credit_per_kwh),) for price in prices),
    )
    flat = DemandCharge(
        "demand",
        tuple(_plan(item, [(0, demand.index(item.demand_price_per_kw))]) for item in listed),
        tuple((DemandTier(price),) for price in demand),
        combine="dearest",
    )
    return energy, flat


def _plan(item: Schedule, steps: Iterable[tuple[int, int]]) -> Plan:
    return Plan(item.name, item.first_day, item.last_day, item.weekdays, tuple(PlanStep(*step) for step in steps))


def constant_calendar(period: int = 0) -> Calendar:
    """One period all year."""
    return (Plan("all year", (1, 1), (12, 31), ALL_DAYS, (PlanStep(0, period),)),)


def flat_ratchet(fraction: float, months: int = 11) -> Ratchet | None:
    """The same fraction in every month; None for 0."""
    return Ratchet((fraction,) * 12, months) if fraction > 0.0 else None
