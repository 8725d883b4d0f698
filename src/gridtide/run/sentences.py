"""The sentence at the top of the page, and the muted line beneath it. It never says more than is known."""

import math
from collections.abc import Callable, Sequence

from gridtide.model.view import SiteState, VehicleView

NBSP = "\u00a0"
_NUMBERS = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve"]
WORDS: dict[SiteState, str] = {
    "fine": "Below the limit",
    "using": "Using the fleet",
    "over": "Over the limit",
    "safe": "Fail-safe",
    "estop": "Emergency stop",
    "waiting": "Starting",
}


def count(number: int, noun: str) -> str:
    """`Four vehicles`, `One vehicle`, `13 vehicles`."""
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} {noun}{'' if number == 1 else 's'}"


def kw(value: float) -> str:
    """A power with its unit, never parted."""
    return f"{abs(value):.0f}{NBSP}kW"


def sentence(
    state: SiteState,
    limit_kw: float,
    projected_kw: float,
    vehicles: Sequence[VehicleView],
    meter_age_s: float,
    *,
    trouble: str = "",
) -> str:
    """What is going on and what is done about it. `trouble`: why the site is fail-safe, as "the meter's value is frozen";
    without it the meter's age is told."""
    giving = [v for v in vehicles if v.state == "giving"]
    charging = [v for v in vehicles if v.state == "charging"]
    given_kw = -sum(v.power_kw or 0.0 for v in giving)
    if state == "waiting":
        return "Waiting for the first reading of the meter."
    if state == "estop":
        return "Emergency stop: nothing charges and nothing is given."
    if state == "safe" and trouble:
        return f"No discharge: {trouble.rstrip('.')}."
    if state == "safe":
        age = f"{meter_age_s:.0f}{NBSP}s" if math.isfinite(meter_age_s) else "some time"
        return f"No discharge: the meter cannot be trusted, last good reading {age} ago."
    who = _verb(len(giving), "giving")
    if state == "over":
        tail = f" {who} {kw(given_kw)}." if giving else ""
        return f"This interval is heading for {kw(projected_kw)}, {kw(projected_kw - limit_kw)} over the limit.{tail}"
    if giving:
        return f"Holding {kw(limit_kw)}: {who[0].lower()}{who[1:]} {kw(given_kw)}."
    below = f"{kw(limit_kw - projected_kw)} below the limit"
    if charging:
        taken = sum(v.power_kw or 0.0 for v in charging)
        tail = _verb(len(charging), "charging")
        return f"{below}: {tail[0].lower()}{tail[1:]} with {kw(taken)}."
    return f"{below}: the vehicles rest."


def _verb(number: int, doing: str) -> str:
    return f"{count(number, 'vehicle')} {'is' if number == 1 else 'are'} {doing}"


def subline(
    vehicles: Sequence[VehicleView],
    clock: Callable[[float], str],
    *,
    now_s: float | None = None,
    day: Callable[[float], str] | None = None,
) -> str:
    """Departures and troubles in one muted line; a silent vehicle is not on track, nor is one that should have left.

    `clock` and `day` give an instant's local time of day and weekday; without `now_s` nothing is overdue or on another day.
    """
    here = [v for v in vehicles if v.state != "empty"]
    if not here:
        return "No vehicle is plugged in."
    silent = [v for v in here if v.state == "silent"]
    heard = [v for v in here if v.state != "silent"]
    overdue = [v for v in heard if now_s is not None and v.departs_s is not None and v.departs_s < now_s]
    due = [v for v in heard if v not in overdue]
    fine = [v for v in due if v.departs_s is not None and v.departure in ("met", "on_track")]
    risky = [v for v in due if v.departure == "at_risk"]
    untold = [v for v in due if v.departs_s is None and v not in risky]
    when = _When(clock, now_s, day)
    parts = [_on_track(fine, when), _overdue(overdue, when)]
    parts.append(f"{risky[0].bay} may leave short{_others(len(risky))}." if risky else "")
    parts += [_silent(silent), _untold(len(untold), len(here))]
    return " ".join(part for part in parts if part) or _plugged(len(here)) + "."


class _When:
    """Instants in words: the weekday stands before the time unless it is today."""

    def __init__(self, clock: Callable[[float], str], now_s: float | None, day: Callable[[float], str] | None) -> None:
        self._clock, self._now_s, self._day = clock, now_s, day

    def __call__(self, at_s: float) -> str:
        if self._now_s is None or self._day is None:
            return self._clock(at_s)
        other_day = self._day(at_s) != self._day(self._now_s) or abs(at_s - self._now_s) > 86_400.0
        return f"{self._day(at_s)} {self._clock(at_s)}" if other_day else self._clock(at_s)


def _on_track(fine: Sequence[VehicleView], when: _When) -> str:
    if not fine:
        return ""
    first = min(fine, key=_departs_s)
    verb = "is" if len(fine) == 1 else "are"
    return f"{count(len(fine), 'departure')} {verb} on track; {first.bay} leaves first, at {when(_departs_s(first))}."


def _overdue(overdue: Sequence[VehicleView], when: _When) -> str:
    if not overdue:
        return ""
    first = min(overdue, key=_departs_s)
    return f"{first.bay} is overdue since {when(_departs_s(first))}{_others(len(overdue))}."


def _silent(silent: Sequence[VehicleView]) -> str:
    if not silent:
        return ""
    age_s = silent[0].silent_s or 0.0
    how = f"{age_s:.0f}{NBSP}s" if age_s < 120 else f"{age_s / 60:.0f}{NBSP}min"
    return f"{silent[0].bay} has been silent for {how}{_others(len(silent))}."


def _untold(number: int, here: int) -> str:
    """Vehicles whose driver told no departure, of all that are `here`."""
    if not number:
        return ""
    if number == here:
        return f"{_plugged(number)}; {'its departure is' if number == 1 else 'their departures are'} not told."
    what = "The departure of" if number == 1 else "The departures of"
    return f"{what} {count(number, 'vehicle').lower()} {'is' if number == 1 else 'are'} not told."


def _plugged(number: int) -> str:
    return f"{count(number, 'vehicle')} {'is' if number == 1 else 'are'} plugged in"


def _departs_s(vehicle: VehicleView) -> float:
    return math.inf if vehicle.departs_s is None else vehicle.departs_s


def _others(total: int) -> str:
    return "" if total < 2 else f", and {count(total - 1, 'other').lower()}"
