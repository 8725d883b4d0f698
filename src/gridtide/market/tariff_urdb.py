"""Tariffs of the U.S. Utility Rate Database (OpenEI URDB), JSON of its API versions 3 to 8 or of its bulk download.

What is billed: energy by period and tier (`adj` adds to `rate`, `max` is a cumulative bound, units kWh and kWh/kW, daily too),
demand by period and flat (kW, hp; kVA as kW at power factor 1), demand window, ratchet and look-back, coincident demand,
reactive power, fixed and minimum charges, the metering scheme. Holidays and the time zone are not in URDB: `holidays`,
`timezone`, `currency`, `interval_kind`, `sub_interval_s`, `tax_per_kwh`, `tax_fraction` and `free_kvar_per_kw` may be written
beside `name`. A field that is not read and not empty is told in the tariff's `notes`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gridtide.market.charges import (
    WEEKDAYS,
    WEEKENDS,
    Calendar,
    CoincidentCharge,
    DemandCharge,
    DemandTier,
    EnergyCharge,
    EnergyTier,
    Metering,
    Plan,
    PlanStep,
    Ratchet,
    TierUnit,
    constant_calendar,
)
from gridtide.market.tariff import Tariff
from gridtide.market.tariff_reader import DAYS_IN_MONTH, Reader, is_number

_BULK = {
    "energyratestrux": "energyratestructure", "energyweekdaysched": "energyweekdayschedule",
    "energyweekendsched": "energyweekendschedule", "demandratestrux": "demandratestructure",
    "demandweekdaysched": "demandweekdayschedule", "demandweekendsched": "demandweekendschedule",
    "flatdemandstrux": "flatdemandstructure", "coincidentratestrux": "coincidentratestructure",
    "coincidentsched": "coincidentrateschedule", "ratename": "name", "utilityname": "utility", "effectivedate": "startdate",
}  # fmt: skip
"""Names of the bulk download, in lower case."""
_MARKS = {
    "energyratestructure",
    "demandratestructure",
    "flatdemandstructure",
    "energyratestrux",
    "energyweekdayschedule",
}
_OWN = {
    "timezone", "currency", "holidays", "interval_kind", "sub_interval_s", "tax_per_kwh", "tax_fraction", "free_kvar_per_kw",
}  # fmt: skip
_BILLED = {
    "energyratestructure", "energyweekdayschedule", "energyweekendschedule", "demandratestructure", "demandweekdayschedule",
    "demandweekendschedule", "demandrateunit", "demandunits", "demandwindow", "demandratchetpercentage",
    "demandreactivepowercharge", "flatdemandstructure", "flatdemandmonths", "flatdemandunit", "flatdemandunits",
    "lookbackmonths", "lookbackpercent", "lookbackrange", "coincidentratestructure", "coincidentrateschedule",
    "coincidentrateunit", "fixedchargefirstmeter", "fixedchargeunits", "minmonthlycharge", "annualmincharge", "mincharge",
    "minchargeunits", "usenetmetering", "dgrules",
}  # fmt: skip
_HEAD = {
    "label", "_id", "utility", "name", "eiaid", "sector", "servicetype", "startdate", "enddate", "supersedes", "uri", "source",
    "sourceparent", "sourcereference", "approved", "is_default", "isdefault", "country", "revisions",
    "voltagecategory", "phasewiring",
    "revisioncount", "revision", "latest_update", "version",
}  # fmt: skip
_UNITS: dict[str, TierUnit] = {
    "kwh": "kwh", "kwh/kw": "kwh_per_kw", "kwh daily": "kwh_per_day", "kwh/kw daily": "kwh_per_kw_per_day",
}  # fmt: skip
_RULES: dict[str, Metering] = {
    "net metering": "net_metering", "net billing instantaneous": "net_billing", "net billing hourly": "net_billing",
    "buy all sell all": "buy_all_sell_all",
}  # fmt: skip
_KW_PER_HP = 0.745_699_872
_PERIODS = 1000
_TIERS_NAME = ("energyratetiers", "demandratetiers", "flatdemandtiers", "coincidentratetiers")


def is_urdb(raw: Mapping[str, Any]) -> bool:
    """Whether a document looks like a URDB rate or an answer of its API."""
    return any(str(key).lower() in _MARKS for key in raw) or isinstance(raw.get("items"), list)


def from_urdb(raw: Mapping[str, Any], timezone: str | None = None, currency: str | None = None) -> Tariff:
    """A tariff from URDB JSON, decoded. Raises `TariffError` with every problem found.

    `timezone` and `currency` (USD) fill in what URDB does not say.
    """
    reader = Reader()
    table = _one(reader, raw)
    names = _OWN | _BILLED | _HEAD
    reader.notes += [_unread(key, value) for key, value in table.items() if key not in names and _says(value)]
    demand = [*_demand(reader, table), *_flat(reader, table)]
    window = table.get("demandwindow") or 15
    fixed, fixed_per_day = _per_month(reader, table, "fixedchargefirstmeter", "fixedchargeunits")
    minimum, annual = _minimum(reader, table)
    own = reader.number
    return reader.finish(
        {
            "name": _name(reader, table),
            "currency": reader.currency({"currency": currency or "USD", **_given(table, "currency")}, ""),
            "timezone": _zone(reader, table, timezone),
            "energy": _energy(reader, table),
            "demand": tuple(demand),
            "coincident": _coincident(reader, table),
            "ratchet": _ratchet(reader, table),
            "metering": _metering(reader, table),
            "fixed_per_month": fixed,
            "fixed_per_day": fixed_per_day,
            "minimum_per_month": minimum,
            "minimum_per_year": annual,
            "reactive_per_kvar": _charged(reader, table, "demandreactivepowercharge"),
            "free_kvar_per_kw": own(table, "free_kvar_per_kw", "", 0.0),
            "tax_per_kwh": own(table, "tax_per_kwh", "", 0.0),
            "tax_fraction": own(table, "tax_fraction", "", 0.0, high=10.0),
            "holidays": reader.holidays(table),
            "interval_s": 60 * reader.minutes({"demandwindow": window}, "demandwindow", "", 15),
            "interval_kind": reader.choice(table, "interval_kind", "", ("block", "rolling"), "block"),
            "sub_interval_s": reader.seconds(table, "sub_interval_s", "", 300),
            "source": _source(table),
        }
    )  # fmt: skip


def _one(reader: Reader, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The one rate of a document, its keys in lower case and by their names of the API."""
    items = raw.get("items")
    if isinstance(items, list):
        if len(items) != 1 or not isinstance(items[0], Mapping):
            reader.tell("items", items, "give one rate: take a single item out of the list")
            return {}
        raw = {**items[0], **{key: raw[key] for key in _OWN if key in raw}}
    found: dict[str, Any] = {}
    for key, value in raw.items():
        low = str(key).lower()
        found[_BULK.get(low, low)] = value
    return found


def _given(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: table[key]} if key in table else {}


def _unread(key: str, value: object) -> str:
    """What a note says of a field that is not read; of a text its beginning, for a price may stand in it."""
    return f"{key} is not read" + (f': "{" ".join(value.split())[:80]}"' if isinstance(value, str) else "")


def _says(value: object) -> bool:
    """Whether a field holds anything; 0, false and lists of them do not."""
    if isinstance(value, list):
        return any(_says(item) for item in value)
    return bool(value)


def _charged(reader: Reader, table: Mapping[str, Any], key: str) -> float:
    return reader.number(table, key, "") if _says(table.get(key)) else 0.0


def _name(reader: Reader, table: Mapping[str, Any]) -> str:
    utility = table.get("utility")
    name = reader.text(table, "name", "")
    return f"{utility.strip()} {name}" if isinstance(utility, str) and utility.strip() else name


def _zone(reader: Reader, table: Mapping[str, Any], timezone: str | None) -> str:
    zone = table.get("timezone", timezone)
    if isinstance(zone, str):
        return zone
    reader.tell("timezone", zone, 'URDB does not say it: write it beside name, as "timezone": "America/Denver"')
    return "UTC"


def _source(table: Mapping[str, Any]) -> str:
    label = table.get("label", table.get("_id"))
    since = table.get("startdate")
    if isinstance(since, Mapping):
        since = since.get("$date")
        since = float(since) / 1000 if is_number(since) else since  # type: ignore[arg-type]
    if is_number(since) and 0 <= float(since) < 4e9:  # type: ignore[arg-type]
        since = datetime.fromtimestamp(float(since), UTC).date().isoformat()  # type: ignore[arg-type]
    parts = [f"URDB {label}" if label else "URDB", f"from {since}" if since else "", table.get("source")]
    return ", ".join(str(part)[:200] for part in parts if part)


def _structure(reader: Reader, table: Mapping[str, Any], key: str) -> list[list[Mapping[str, Any]]]:
    """`[[tier, ...], ...]` by period; the bulk download wraps each period in an object."""
    value = table.get(key) or []
    periods = [_unwrapped(item) for item in value] if isinstance(value, list) else [None]
    whole = all(
        isinstance(tiers, list) and tiers and all(isinstance(tier, Mapping) for tier in tiers) for tiers in periods
    )
    if not whole or len(periods) > _PERIODS:
        reader.tell(key, value, 'give a list of periods, each a list of tiers, as [[{"rate": 0.1}]]')
        return []
    return [list(tiers) for tiers in periods if tiers]


def _unwrapped(item: object) -> Any:
    if isinstance(item, Mapping):
        return next((value for key, value in item.items() if str(key).lower() in _TIERS_NAME), None)
    return item


def _tiers(
    reader: Reader, listed: Sequence[Mapping[str, Any]], where: str, known: set[str]
) -> Iterator[tuple[float, float, Mapping[str, Any]]]:
    """(rate + adj, cumulative bound, tier) of each tier; the last has no bound."""
    for k, tier in enumerate(listed):
        place = f"{where}[{k}]."
        reader.notes += [
            f"{place}{key} is not read"
            for key in tier
            if key not in known | {"rate", "adj", "max"} and _says(tier[key])
        ]
        if "rate" not in tier and "adj" not in tier:
            reader.tell(place + "rate", None, "give a price")
        price = reader.price(tier, "rate", place, 0.0) + reader.price(tier, "adj", place, 0.0)
        if k + 1 < len(listed):
            yield price, reader.number(tier, "max", place, high=1e38), tier
            continue
        if is_number(tier.get("max")) and tier["max"] < 1e9:
            reader.notes.append(f"{place}max = {tier['max']:g} is the last tier's: it takes what is beyond, too")
        yield price, float("inf"), tier


def _schedules(reader: Reader, table: Mapping[str, Any], weekday: str, weekend: str, periods: int) -> Calendar:
    """A calendar of two 12 x 24 tables of period numbers; the second is the first where it is missing."""
    if not table.get(weekday) and not table.get(weekend):
        if periods > 1:
            reader.tell(weekday, table.get(weekday), "give 12 rows of 24 period numbers: there is more than one period")
        return constant_calendar()
    plans: list[Plan] = []
    for key, mask in ((weekday, WEEKDAYS), (weekend, WEEKENDS)):
        rows = table.get(key) or table.get(weekday) or table.get(weekend)
        good = isinstance(rows, list) and len(rows) == 12 and all(_is_day(row, periods) for row in rows)
        if not good:
            reader.tell(key, rows, f"give 12 rows of 24 whole numbers from 0 to {max(periods - 1, 0)}")
            return constant_calendar()
        plans += [_month_plan(k, mask, row) for k, row in enumerate(rows)]  # type: ignore[arg-type]
    return tuple(plans)


def _is_day(row: object, periods: int) -> bool:
    return isinstance(row, list) and len(row) == 24 and all(_is_period(p, periods) for p in row)


def _is_period(value: object, periods: int) -> bool:
    return is_number(value) and value in range(periods)


def _month_plan(month: int, mask: int, row: Sequence[float]) -> Plan:
    steps = [PlanStep(h * 3600, int(p)) for h, p in enumerate(row) if h == 0 or p != row[h - 1]]
    return Plan(f"month {month + 1}", (month + 1, 1), (month + 1, DAYS_IN_MONTH[month]), mask, tuple(steps))


def _energy(reader: Reader, table: Mapping[str, Any]) -> EnergyCharge:
    key = "energyratestructure"
    periods = []
    for i, listed in enumerate(_structure(reader, table, key)):
        tiers = []
        for price, bound, tier in _tiers(reader, listed, f"{key}[{i}]", {"unit", "sell"}):
            unit = _UNITS.get(str(tier.get("unit") or "kWh").lower())
            if unit is None:
                reader.tell(f"{key}[{i}].unit", tier["unit"], "give kWh, kWh/kW, kWh daily or kWh/kW daily")
            sell = reader.price(tier, "sell", f"{key}[{i}].", 0.0)
            tiers.append(EnergyTier(price, bound, unit or "kwh", sell))
        periods.append(tuple(tiers))
    calendar = _schedules(reader, table, "energyweekdayschedule", "energyweekendschedule", len(periods))
    return EnergyCharge(calendar, tuple(periods) or ((EnergyTier(0.0),),))


def _demand(reader: Reader, table: Mapping[str, Any]) -> list[DemandCharge]:
    periods = _structure(reader, table, "demandratestructure")
    if not periods:
        return []
    calendar = _schedules(reader, table, "demandweekdayschedule", "demandweekendschedule", len(periods))
    unit = table.get("demandrateunit") or table.get("demandunits")
    return [_charge(reader, "time-of-use demand", "demandratestructure", periods, calendar, unit)]


def _flat(reader: Reader, table: Mapping[str, Any]) -> list[DemandCharge]:
    periods = _structure(reader, table, "flatdemandstructure")
    if not periods:
        return []
    months = table.get("flatdemandmonths") or [0] * 12
    if not (isinstance(months, list) and len(months) == 12 and all(_is_period(m, len(periods)) for m in months)):
        reader.tell("flatdemandmonths", months, f"give 12 whole numbers from 0 to {len(periods) - 1}")
        return []
    calendar = tuple(
        Plan(f"month {k + 1}", (k + 1, 1), (k + 1, DAYS_IN_MONTH[k]), WEEKDAYS | WEEKENDS, (PlanStep(0, int(period)),))
        for k, period in enumerate(months)
    )
    unit = table.get("flatdemandunit") or table.get("flatdemandunits")
    return [_charge(reader, "flat demand", "flatdemandstructure", periods, calendar, unit)]


def _charge(
    reader: Reader, name: str, key: str, listed: list[list[Mapping[str, Any]]], calendar: Calendar, unit: object
) -> DemandCharge:
    told = {str(tier["unit"]).lower() for tiers in listed for tier in tiers if tier.get("unit")}
    words = str(unit or next(iter(sorted(told)), "kW")).lower().split()
    if len(told) > 1 or words[:1] not in (["kw"], ["hp"], ["kva"]) or words[1:] not in ([], ["daily"]):
        reader.tell(f"{key} unit", sorted(told) or unit, 'give one of kW, hp, kVA, each also with "daily"')
        words = ["kw"]
    if words[0] == "kva":
        reader.notes.append(f"{key}: kVA is billed as kW, at power factor 1")
    kw = _KW_PER_HP if words[0] == "hp" else 1.0
    periods = tuple(
        tuple(DemandTier(price / kw, bound * kw) for price, bound, _ in _tiers(reader, tiers, f"{key}[{i}]", {"unit"}))
        for i, tiers in enumerate(listed)
    )
    return DemandCharge(name, calendar, periods, per="day" if words[1:] else "month")


def _coincident(reader: Reader, table: Mapping[str, Any]) -> CoincidentCharge | None:
    key = "coincidentratestructure"
    listed = _structure(reader, table, key)
    if not listed:
        return None
    prices = []
    for i, tiers in enumerate(listed):
        read = list(_tiers(reader, tiers, f"{key}[{i}]", {"unit"}))
        prices.append(read[0][0])
        if len(tiers) > 1:
            reader.notes.append(f"{key}[{i}]: only its first tier is billed")
    calendar = _schedules(reader, table, "coincidentrateschedule", "coincidentrateschedule", len(listed))
    return CoincidentCharge(calendar, tuple(prices))


def _ratchet(reader: Reader, table: Mapping[str, Any]) -> Ratchet | None:
    """The look-back, or the ratchet percentages. A share above 1 is read as per cent."""
    percent = table.get("lookbackpercent")
    monthly = table.get("demandratchetpercentage")
    if _says(percent):
        share = reader.number(table, "lookbackpercent", "", high=100.0)
        months = table.get("lookbackmonths") if _says(table.get("lookbackmonths")) else [True] * 12
        if not (isinstance(months, list) and len(months) == 12):
            reader.tell("lookbackmonths", months, "give 12 times true or false")
            return None
        if _says(monthly):
            reader.notes.append("demandratchetpercentage is not billed beside lookbackpercent")
        back = (
            int(reader.number(table, "lookbackrange", "", low=1, high=120)) if _says(table.get("lookbackrange")) else 11
        )
        return Ratchet(tuple(_share(share) if m else 0.0 for m in months), back)
    if not _says(monthly):
        return None
    if not (isinstance(monthly, list) and len(monthly) == 12 and all(is_number(m) and 0 <= m <= 100 for m in monthly)):
        reader.tell("demandratchetpercentage", monthly, "give 12 shares from 0 to 1")
        return None
    return Ratchet(tuple(_share(float(m)) for m in monthly), by="billed_month")


def _share(value: float) -> float:
    return value / 100.0 if value > 1.0 else value


def _metering(reader: Reader, table: Mapping[str, Any]) -> Metering:
    rules = table.get("dgrules")
    if not rules:
        return "net_metering" if table.get("usenetmetering") is True else "net_billing"
    found = _RULES.get(str(rules).lower())
    if found is None:
        reader.notes.append(f"dgrules = {str(rules)[:60]} is not known: billed as net billing")
    elif str(rules).lower() == "net billing hourly":
        reader.notes.append("dgrules: netted over the metered interval, not over the hour")
    return found or "net_billing"


def _per_month(reader: Reader, table: Mapping[str, Any], key: str, unit_key: str) -> tuple[float, float]:
    """(per month, per day) of a charge with its unit."""
    if not _says(table.get(key)):
        return 0.0, 0.0
    charge = reader.number(table, key, "")
    unit = str(table.get(unit_key) or "$/month").lower()
    if unit not in ("$/month", "$/day", "$/year"):
        reader.tell(unit_key, table.get(unit_key), "give $/month, $/day or $/year")
    if unit == "$/day":
        return 0.0, charge
    return charge / 12.0 if unit == "$/year" else charge, 0.0


def _minimum(reader: Reader, table: Mapping[str, Any]) -> tuple[float, float]:
    """(per month, per year). A minimum per day counts as 365/12 of it a month."""
    month, year = _charged(reader, table, "minmonthlycharge"), _charged(reader, table, "annualmincharge")
    if not _says(table.get("mincharge")):
        return month, year
    if str(table.get("minchargeunits")).lower() == "$/year":
        return month, max(year, reader.number(table, "mincharge", ""))
    per_month, per_day = _per_month(reader, table, "mincharge", "minchargeunits")
    return max(month, per_month, per_day * 365.0 / 12.0), year
