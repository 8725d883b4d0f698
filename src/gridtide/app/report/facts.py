"""What the report says in more than one place, reckoned once from a study: parts of the bill, days, hours, period."""

import math
from datetime import date, tzinfo

from msgspec import Struct

from gridtide.app.report import words
from gridtide.model.study import BILL_PARTS, BillLine, Departure, StudyResult

_NAMES = {
    "energy_building": "Energy, building",
    "energy_vehicles": "Energy, vehicles",
    "demand": "Demand",
    "fixed": "Standing charge",
    "taxes": "Taxes and levies",
    "wear": "Battery wear",
    "other": "Other",
}
_SHORT = {
    "energy_building": "Energy, building",
    "energy_vehicles": "Vehicles",
    "energy": "Energy",
    "demand": "Demand",
    "fixed": "Standing",
    "taxes": "Taxes",
    "wear": "Wear",
}
_BEGINNINGS = (
    ("energy_vehicles", "energy_vehicles"),
    ("vehicles", "energy_vehicles"),
    ("energy", "energy_building"),
    ("demand", "demand"),
    ("fixed", "fixed"),
    ("standing", "fixed"),
    ("tax", "taxes"),
    ("wear", "wear"),
    ("battery_wear", "wear"),
)
"""How a line that is not named by its key begins, and which part it then is."""
_SHORT_LETTERS = 13
_MET_SOC = 0.005
"""A departure within half a percent of what was asked for has it."""
_WHOLE_MONEY = 1000.0
_SMALL_SAVING = 10.0


class Part(Struct, frozen=True):
    """A part of the bill before and after; `key` is one of BILL_PARTS, "energy" (both of them), or "other"."""

    key: str
    label: str
    short: str
    note: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """After less before: negative is a saving."""
        return self.after - self.before


class Day(Struct, frozen=True):
    """A local day: its highest billed intervals, and its month's (so far, or the whole month's in a long study), kW."""

    day: date
    without_kw: float
    with_kw: float
    peak_without_kw: float
    peak_with_kw: float

    @property
    def peaks(self) -> tuple[float, float]:
        """The month's peak without and with the fleet, kW."""
        return self.peak_without_kw, self.peak_with_kw


class Facts(Struct, frozen=True):
    """A study and what was reckoned from it."""

    result: StudyResult
    zone: tzinfo
    period: words.Period
    interval: str
    parts: tuple[Part, ...]
    """As in the study, with what its lines do not explain as "other"."""
    days: tuple[Day, ...]
    decimals: int
    """Of every amount of money."""

    @property
    def several_months(self) -> bool:
        """Whether the days lie in more than one billing month."""
        return len({(d.day.year, d.day.month) for d in self.days}) > 1

    @property
    def saved(self) -> float:
        """Before less after: positive when the fleet pays."""
        return self.result.bill_without - self.result.bill_with

    @property
    def saved_shown(self) -> float:
        """The saving as it is printed."""
        return round(self.saved, self.decimals) + 0.0

    @property
    def met(self) -> int:
        """Sessions that left with what could be charged."""
        return max(self.result.sessions - self.result.drivers_short, 0)

    def money(self, value: float) -> str:
        """An amount as everywhere in this report."""
        return words.money(value, self.result.currency, self.decimals)

    def amount(self, value: float) -> str:
        """An amount without its currency."""
        return words.number(value, self.decimals)

    def change(self, value: float) -> str:
        """A difference with its sign, without its currency."""
        return words.signed(value, self.decimals)


def facts(result: StudyResult) -> Facts:
    """Everything the report needs, from a study."""
    zone = words.zone_of(result.timezone)
    bills = max(abs(finite(result.bill_without)), abs(finite(result.bill_with)))
    saved = abs(finite(result.bill_without - result.bill_with))
    return Facts(
        result=result,
        zone=zone,
        period=words.period(result.start_s, result.end_s, zone),
        interval=words.interval_name(result.interval_s),
        parts=_parts(result),
        days=_days(result, zone),
        decimals=0 if bills >= _WHOLE_MONEY and not 0.005 <= saved < _SMALL_SAVING else 2,
    )


def finite(value: float, otherwise: float = 0.0) -> float:
    """The value, or `otherwise` where it is not finite."""
    return value if math.isfinite(value) else otherwise


def short_departures(result: StudyResult) -> list[Departure]:
    """Departures that left with less than was asked for."""
    return [d for d in result.departures if d.soc < d.target_soc - _MET_SOC]


def merged(parts: tuple[Part, ...], note: str) -> tuple[Part, ...]:
    """The parts with both energies as one; parts that are nothing before and after are left out."""
    energies = [p for p in parts if p.key in ("energy_building", "energy_vehicles")]
    rest = [p for p in parts if p not in energies]
    if energies:
        before, after = math.fsum(p.before for p in energies), math.fsum(p.after for p in energies)
        rest.insert(0, Part("energy", "Energy", "Energy", note, before, after))
    return tuple(p for p in rest if p.before or p.after)


def _parts(result: StudyResult) -> tuple[Part, ...]:
    parts = [_part(line) for line in result.bill]
    before = finite(result.bill_without) - math.fsum(p.before for p in parts)
    after = finite(result.bill_with) - math.fsum(p.after for p in parts)
    if max(abs(before), abs(after)) >= 0.01:
        parts.append(Part("other", "Other", "Other", "not broken down", before, after))
    return tuple(parts)


def _part(line: BillLine) -> Part:
    asked = line.label.strip().lower().replace(",", "").replace(" ", "_")
    key = asked if asked in BILL_PARTS else next((k for word, k in _BEGINNINGS if asked.startswith(word)), "other")
    label = _NAMES[key] if asked == key else line.label
    short = _SHORT.get(key, line.label)
    shortened = short if len(short) <= _SHORT_LETTERS or key in _SHORT else short[: _SHORT_LETTERS - 1] + "…"
    return Part(key, label, shortened, line.note, finite(line.without), finite(line.with_))


def _days(result: StudyResult, zone: tzinfo) -> tuple[Day, ...]:
    highest: dict[date, tuple[float, float]] = {}
    series = result.series
    for start_s, without, with_ in zip(series.start_s, series.without_kw, series.with_kw, strict=True):
        if math.isfinite(without) and math.isfinite(with_):
            day = words.local_day(start_s, zone)
            known = highest.get(day, (without, with_))
            highest[day] = (max(known[0], without), max(known[1], with_))
    return _with_peaks(highest)


def _with_peaks(highest: dict[date, tuple[float, float]]) -> tuple[Day, ...]:
    """Days with their month's peak: so far where there is one month, as it was billed where there are several."""
    by_month: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for day, kw in highest.items():
        by_month.setdefault((day.year, day.month), []).append(kw)
    several = len(by_month) > 1
    peaks = {month: _highest(pairs) for month, pairs in by_month.items()}
    days: list[Day] = []
    for day, kw in sorted(highest.items()):
        peak = peaks[day.year, day.month] if several else _highest([kw, *((days[-1].peaks,) if days else ())])
        days.append(Day(day, *kw, *peak))
    return tuple(days)


def _highest(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
