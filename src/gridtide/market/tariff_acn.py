"""Tariffs in the ACN `schedule` layout (JSON of the acnportal package): seasons, day masks, hours and prices."""

from collections.abc import Mapping
from typing import Any

from gridtide.market.charges import ALL_DAYS, WEEKDAYS, WEEKENDS, Schedule, UseStep, flat_ratchet, time_of_use
from gridtide.market.tariff import Tariff
from gridtide.market.tariff_reader import PRICE_LIMIT, Reader, is_number

_MASKS = {"ALL": ALL_DAYS, "WEEKDAYS": WEEKDAYS, "WEEKENDS": WEEKENDS}
_OWN = {"fixed_per_month", "tax_per_kwh", "tax_fraction", "export_credit_per_kwh", "ratchet_fraction", "ratchet_months"}
_KNOWN = _OWN | {
    "name", "currency", "timezone", "interval_s", "sub_interval_s", "interval_kind", "holidays", "schedule", "effective", "link",
}  # fmt: skip
_ENTRY_KEYS = {"id", "effective_start", "effective_end", "dow_mask", "times", "tariffs", "demand_charge"}


def from_acn(raw: Mapping[str, Any], timezone: str, currency: str) -> Tariff:
    """A tariff from the ACN layout, decoded. Raises `TariffError` with every problem found.

    Where two entries cover a day the one with the most specific mask wins, then the first listed. Days are `9-30` or `09-30`;
    a winter may wrap the year. Our own fields (`timezone`, `currency`, `interval_s`, `holidays` and so on) may stand beside
    `name`; any other is told in the tariff's `notes`.
    """
    reader = Reader()
    entries = [
        _entry(reader, e, f"schedule {i + 1}: ") for i, e in enumerate(reader.tables(raw, "schedule", ""))
    ]  # fmt: skip
    reader.notes += [f"{key} is not read" for key in raw if key not in _KNOWN]
    credit = reader.number(raw, "export_credit_per_kwh", "", default=0.0, low=-1e3, high=1e3)
    energy, demand = time_of_use(entries, credit)
    months = int(reader.number(raw, "ratchet_months", "", default=11, low=1, high=120))
    return reader.finish(
        {
            "name": reader.text(raw, "name", ""),
            "currency": reader.currency({"currency": currency, **raw}, ""),
            "timezone": str(raw.get("timezone", timezone)),
            "energy": energy,
            "demand": (demand,),
            "ratchet": flat_ratchet(reader.number(raw, "ratchet_fraction", "", default=0.0, high=1.0), months),
            "fixed_per_month": reader.number(raw, "fixed_per_month", "", default=0.0),
            "tax_per_kwh": reader.number(raw, "tax_per_kwh", "", default=0.0),
            "tax_fraction": reader.number(raw, "tax_fraction", "", default=0.0, high=10.0),
            "holidays": reader.holidays(raw),
            "interval_s": reader.seconds(raw, "interval_s", "", 900),
            "sub_interval_s": reader.seconds(raw, "sub_interval_s", "", 300),
            "interval_kind": reader.choice(raw, "interval_kind", "", ("block", "rolling"), "block"),
            "source": " ".join(str(raw[key])[:200] for key in ("effective", "link") if raw.get(key)),
        }
    )


def _entry(reader: Reader, entry: Mapping[str, Any], where: str) -> Schedule:
    mask = entry.get("dow_mask", "ALL")
    if not isinstance(mask, str) or mask.upper() not in _MASKS:
        reader.tell(where + "dow_mask", mask, f"give one of {', '.join(_MASKS)}")
        mask = "ALL"
    reader.notes += [f"{where}{key} is not read" for key in entry if key not in _ENTRY_KEYS]
    return Schedule(
        name=reader.text(entry, "id", where, default="unnamed"),
        first_day=reader.month_day(entry, "effective_start", where),
        last_day=reader.month_day(entry, "effective_end", where),
        weekdays=_MASKS[mask.upper()],
        steps=_steps(reader, entry, where),
        demand_price_per_kw=reader.number(entry, "demand_charge", where, default=0.0),
    )


def _steps(reader: Reader, entry: Mapping[str, Any], where: str) -> tuple[UseStep, ...]:
    times, price = entry.get("times"), entry.get("tariffs")
    if not isinstance(times, list) or not all(is_number(t) and 0 <= t < 24 for t in times):
        reader.tell(where + "times", times, "give local hours from 0 to below 24, as [0, 8.5, 21.5]")
        return ()
    if not isinstance(price, list) or len(price) != len(times):
        reader.tell(where + "tariffs", price, f"give {len(times)} prices per kWh, one for each of times")
        return ()
    if not all(is_number(p) and abs(p) <= PRICE_LIMIT for p in price):
        reader.tell(where + "tariffs", price, "give finite prices per kWh")
        return ()
    clocks_s = [round(t * 60) * 60 for t in times]
    reader.rising(clocks_s, where + "times", times)
    return tuple(UseStep(clock, float(p)) for clock, p in zip(clocks_s, price, strict=True))
