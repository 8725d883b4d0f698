"""Our own tariff layout, TOML.

name = "Town works"            # needed, as are currency and timezone
currency = "EUR"
timezone = "Europe/Berlin"
source = "price sheet of 2026-01-01"
fixed_per_month = 45.0         # and fixed_per_day, minimum_per_month, minimum_per_year
tax_per_kwh = 0.04             # on imported energy; tax_fraction = 0.19 on everything else
export_credit_per_kwh = 0.06   # where a rate's tier says no sell_per_kwh
metering = "net_billing"       # or "net_metering" (surplus_per_kwh paid in December) or "buy_all_sell_all"
reactive_per_kvar = 1.2        # per month, beyond free_kvar_per_kw for each kW of the peak
holidays = ["12-25", "2026-04-06"]

[demand]                       # how the billed peak is measured
interval_min = 15
kind = "block"                 # or "rolling", which moves by sub_interval_min
ratchet_fraction = 0.8         # of the highest of ratchet_months before; minimum_kw

[[season]]                     # every day of the year needs a price
from = "05-01"
to = "10-31"
demand_price_per_kw = 12.0     # on the month's highest interval
[[season.price]]
days = "Mon-Fri"
steps = [["00:00", 0.10], ["16:00", "peak"], ["21:00", 0.10]]   # a price, or a rate's name

[[rate]]                       # energy in tiers of the month's total
name = "peak"
tiers = [{ price_per_kwh = 0.30, up_to = 5000, unit = "kwh", sell_per_kwh = 0.05 }, { price_per_kwh = 0.25 }]

[[demand_charge]]              # on the highest interval within some hours; all hours without `hours`
name = "evening"
from = "06-01"
to = "09-30"
days = "Mon-Fri"
hours = ["16:00", "21:00"]
per = "month"                  # or "day"
tiers = [{ price_per_kw = 5.0, up_to_kw = 200 }, { price_per_kw = 9.0 }]

[regime]                       # German Leistungspreis, per year: hours = 2500 unless said otherwise
below_per_kw = 34.29
below_per_kwh = 0.068
above_per_kw = 148.82
above_per_kwh = 0.0222
"""

from collections.abc import Mapping
from typing import Any

from gridtide.market.charges import (
    Calendar,
    DemandCharge,
    DemandTier,
    EnergyCharge,
    EnergyTier,
    Per,
    Plan,
    PlanStep,
    Ratchet,
    TierSplit,
    TierUnit,
    UsageRegime,
    constant_calendar,
)
from gridtide.market.tariff import Tariff
from gridtide.market.tariff_reader import PRICE_LIMIT, Reader, clock_s, is_number

_NUMBERS = (
    "fixed_per_month", "fixed_per_day", "minimum_per_month", "minimum_per_year", "tax_per_kwh", "surplus_per_kwh",
    "reactive_per_kvar", "free_kvar_per_kw",
)  # fmt: skip
_KEYS = frozenset(_NUMBERS) | {
    "name", "currency", "timezone", "source", "export_credit_per_kwh", "tax_fraction", "metering", "tier_split", "holidays",
    "demand", "season", "rate", "demand_charge", "regime",
}  # fmt: skip
_DEMAND_KEYS = frozenset(
    {"interval_min", "kind", "sub_interval_min", "ratchet_fraction", "ratchet_months", "minimum_kw"}
)
_SEASON_KEYS = frozenset({"name", "from", "to", "demand_price_per_kw", "price"})
_PRICE_KEYS = frozenset({"days", "steps"})
_RATE_KEYS = frozenset({"name", "tiers"})
_TIER_KEYS = frozenset({"price_per_kwh", "up_to", "unit", "sell_per_kwh"})
_CHARGE_KEYS = frozenset({"name", "from", "to", "days", "hours", "per", "ratcheted", "tiers"})
_DEMAND_TIER_KEYS = frozenset({"price_per_kw", "up_to_kw"})
_REGIME_KEYS = frozenset({"hours", "below_per_kw", "below_per_kwh", "above_per_kw", "above_per_kwh"})
_UNITS: tuple[TierUnit, ...] = ("kwh", "kwh_per_kw", "kwh_per_day", "kwh_per_kw_per_day")
_PERS: tuple[Per, ...] = ("month", "day")
_SPLITS: tuple[TierSplit, ...] = ("in_order", "pro_rata")
_DAY_END_S = 86_400


class _Periods:
    """The energy periods of a document: named rates first, then each plain price once."""

    def __init__(self, rates: Mapping[str, tuple[EnergyTier, ...]], credit: float) -> None:
        self.listed = list(rates.values())
        self.names = list(rates)
        self._credit = credit

    def number(self, price: object) -> int | None:
        """The period of a plain price or a rate's name; None for neither."""
        if isinstance(price, str):
            return self.names.index(price) if price in self.names else None
        if not is_number(price) or abs(float(price)) > PRICE_LIMIT:  # type: ignore[arg-type]
            return None
        tiers = (EnergyTier(float(price), sell_per_kwh=self._credit),)  # type: ignore[arg-type]
        if tiers not in self.listed:
            self.listed.append(tiers)
        return self.listed.index(tiers)


def from_toml(raw: Mapping[str, Any]) -> Tariff:
    """A tariff from our TOML layout, decoded. Raises `TariffError` with every problem found."""
    reader = Reader()
    reader.unknown(raw, _KEYS, "")
    demand = reader.table(raw, "demand", "")
    reader.unknown(demand, _DEMAND_KEYS, "demand.")
    credit = reader.number(raw, "export_credit_per_kwh", "", default=0.0, low=-1e3, high=1e3)
    rates = reader.tables(raw, "rate", "", needed=False)
    found = _Periods(dict(_rate(reader, r, f"rate {i + 1}: ", credit) for i, r in enumerate(rates)), credit)
    calendar, flat = _seasons(reader, raw, found)
    split: TierSplit = reader.choice(raw, "tier_split", "", _SPLITS, "in_order")
    written = reader.tables(raw, "demand_charge", "", needed=False)
    charges = [_charge(reader, c, f"demand_charge {i + 1}: ") for i, c in enumerate(written)]
    return reader.finish(
        {key: reader.number(raw, key, "", default=0.0) for key in _NUMBERS}
        | {
            "name": reader.text(raw, "name", ""),
            "currency": reader.currency(raw, ""),
            "timezone": str(raw.get("timezone", "")),
            "source": reader.text(raw, "source", "", default=""),
            "tax_fraction": reader.number(raw, "tax_fraction", "", default=0.0, high=10.0),
            "metering": reader.choice(raw, "metering", "", ("net_billing", "net_metering", "buy_all_sell_all"), "net_billing"),
            "holidays": reader.holidays(raw),
            "energy": EnergyCharge(calendar, tuple(found.listed), split),
            "demand": (*([flat] if flat is not None else []), *charges),
            "regime": _regime(reader, raw) if "regime" in raw else None,
            "ratchet": _ratchet(reader, demand),
            "interval_s": 60 * reader.minutes(demand, "interval_min", "demand.", 15),
            "interval_kind": reader.choice(demand, "kind", "demand.", ("block", "rolling"), "block"),
            "sub_interval_s": 60 * reader.minutes(demand, "sub_interval_min", "demand.", 5),
        }
    )  # fmt: skip


def _seasons(reader: Reader, raw: Mapping[str, Any], found: _Periods) -> tuple[Calendar, DemandCharge | None]:
    """The energy calendar, and the demand charge of the seasons where one has a price."""
    calendar: list[Plan] = []
    prices: list[float] = []
    of_plan: list[int] = []
    for i, season in enumerate(reader.tables(raw, "season", "")):
        where = f"season {i + 1}: "
        reader.unknown(season, _SEASON_KEYS, where)
        price = reader.number(season, "demand_price_per_kw", where, default=0.0)
        if price not in prices:
            prices.append(price)
        plans = _season(reader, season, where, found)
        calendar += plans
        of_plan += [prices.index(price)] * len(plans)
    flat = tuple(
        Plan(plan.name, plan.first_day, plan.last_day, plan.weekdays, (PlanStep(0, period),))
        for plan, period in zip(calendar, of_plan, strict=True)
    )
    demand = DemandCharge("demand", flat, tuple((DemandTier(price),) for price in prices), combine="dearest")
    return tuple(calendar), demand if any(prices) else None


def _season(reader: Reader, season: Mapping[str, Any], where: str, found: _Periods) -> list[Plan]:
    name = reader.text(season, "name", where, default="all year")
    first, last = reader.season(season, where)
    plans = []
    for k, price in enumerate(reader.tables(season, "price", where)):
        place = f"{where}price {k + 1}: "
        reader.unknown(price, _PRICE_KEYS, place)
        mask = reader.days(price.get("days", "all"), place + "days")
        plans.append(Plan(name, first, last, mask, _steps(reader, price.get("steps"), place + "steps", found)))
    return plans


def _steps(reader: Reader, value: object, where: str, found: _Periods) -> tuple[PlanStep, ...]:
    """`[["00:00", 0.142], ["08:30", "peak"]]`, or one price for the whole day."""
    if is_number(value) or isinstance(value, str):
        value = [["00:00", value]]
    names = f" or a rate's name ({', '.join(found.names)})" if found.names else ""
    if not isinstance(value, list):
        reader.tell(where, value, f'give one price{names}, or pairs as [["00:00", 0.142], ["08:30", 0.268]]')
        return ()
    steps = []
    for item in value:
        pair = item if isinstance(item, list) and len(item) == 2 else [None, None]
        clock, period = clock_s(pair[0]), found.number(pair[1])
        if clock is None or period is None:
            reader.tell(where, item, f'give a clock time and a price{names}, as ["08:30", 0.268]')
        else:
            steps.append(PlanStep(clock, period))
    reader.rising([step.clock_s for step in steps], where, value)
    return tuple(steps)


def _rate(reader: Reader, rate: Mapping[str, Any], where: str, credit: float) -> tuple[str, tuple[EnergyTier, ...]]:
    reader.unknown(rate, _RATE_KEYS, where)
    tiers = []
    listed = reader.tables(rate, "tiers", where)
    for k, tier in enumerate(listed):
        place = f"{where}tier {k + 1}: "
        reader.unknown(tier, _TIER_KEYS, place)
        bound = _bound(reader, tier, "up_to", place, k + 1 == len(listed))
        unit = reader.choice(tier, "unit", place, _UNITS, "kwh")
        price, sell = reader.price(tier, "price_per_kwh", place), reader.price(tier, "sell_per_kwh", place, credit)
        tiers.append(EnergyTier(price, bound, unit, sell))
    return reader.text(rate, "name", where), tuple(tiers)


def _bound(reader: Reader, tier: Mapping[str, Any], key: str, where: str, last: bool) -> float:
    if last:
        if key in tier:
            reader.tell(where + key, tier[key], "leave out the bound of the last tier: it takes what is left")
        return float("inf")
    return reader.number(tier, key, where, low=0.0)


def _charge(reader: Reader, charge: Mapping[str, Any], where: str) -> DemandCharge:
    """A demand charge within some hours: period 1 there, period 0, which is free, elsewhere."""
    reader.unknown(charge, _CHARGE_KEYS, where)
    name = reader.text(charge, "name", where, default="demand")
    first, last = reader.season(charge, where)
    mask = reader.days(charge.get("days", "all"), where + "days")
    tiers = []
    listed = reader.tables(charge, "tiers", where)
    for k, tier in enumerate(listed):
        place = f"{where}tier {k + 1}: "
        reader.unknown(tier, _DEMAND_TIER_KEYS, place)
        bound = _bound(reader, tier, "up_to_kw", place, k + 1 == len(listed))
        tiers.append(DemandTier(reader.number(tier, "price_per_kw", place), bound))
    steps = _hours(reader, charge.get("hours", ["00:00", "24:00"]), where + "hours")
    calendar = (Plan(name, first, last, mask, steps), *constant_calendar())
    per: Per = reader.choice(charge, "per", where, _PERS, "month")
    ratcheted = reader.flag(charge, "ratcheted", where, True)
    return DemandCharge(name, calendar, ((DemandTier(0.0),), tuple(tiers)), per=per, ratcheted=ratcheted)


def _hours(reader: Reader, value: object, where: str) -> tuple[PlanStep, ...]:
    """Period 1 from the first to the second clock time, over midnight where the second is the earlier."""
    pair = value if isinstance(value, list) and len(value) == 2 else [None, None]
    start = clock_s(pair[0])
    end = _DAY_END_S if pair[1] == "24:00" else clock_s(pair[1])
    if start is None or end is None or start == end:
        reader.tell(where, value, 'give two clock times, as ["16:00", "21:00"]')
        return (PlanStep(0, 1),)
    over_midnight = start > end > 0
    steps = [] if start == 0 else [PlanStep(0, int(over_midnight))]
    inside = [PlanStep(start, 1)]
    after = [PlanStep(end, 0)] if 0 < end < _DAY_END_S else []
    return tuple(steps + after + inside if over_midnight else steps + inside + after)


def _ratchet(reader: Reader, demand: Mapping[str, Any]) -> Ratchet | None:
    fraction = reader.number(demand, "ratchet_fraction", "demand.", default=0.0, high=1.0)
    months = int(reader.number(demand, "ratchet_months", "demand.", default=11, low=1, high=120))
    minimum_kw = reader.number(demand, "minimum_kw", "demand.", default=0.0)
    return Ratchet((fraction,) * 12, months, minimum_kw=minimum_kw) if fraction or minimum_kw else None


def _regime(reader: Reader, raw: Mapping[str, Any]) -> UsageRegime:
    table = reader.table(raw, "regime", "")
    reader.unknown(table, _REGIME_KEYS, "regime.")
    values = {key: reader.number(table, key, "regime.", 2500.0 if key == "hours" else None) for key in _REGIME_KEYS}
    return UsageRegime(**values)
