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
    state: SiteState, limit_kw: float, projected_kw: float, vehicles: Sequence[VehicleView], meter_age_s: float
) -> str:
    """What is going on and what is done about it."""
    giving = [v for v in vehicles if v.state == "giving"]
    charging = [v for v in vehicles if v.state == "charging"]
    given_kw = -sum(v.power_kw or 0.0 for v in giving)
    if state == "waiting":
        return "Waiting for the first reading of the meter."
    if state == "estop":
        return "Emergency stop: nothing charges and nothing is given."
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


def subline(vehicles: Sequence[VehicleView], clock: Callable[[float], str]) -> str:
    """Departures and troubles in one muted line; a silent vehicle is not on track."""
    parts = []
    fine = [
        v for v in vehicles if v.departs_s is not None and v.departure in ("met", "on_track") and v.state != "silent"
    ]
    risky = [v for v in vehicles if v.departure == "at_risk"]
    if fine:
        first = min(fine, key=lambda v: v.departs_s or math.inf)
        verb = "is" if len(fine) == 1 else "are"
        text = f"{count(len(fine), 'departure')} {verb} on track; {first.bay} leaves first, at {clock(first.departs_s or 0.0)}."
        parts.append(text)
    if risky:
        parts.append(f"{risky[0].bay} may leave short{_others(len(risky))}.")
    silent = [v for v in vehicles if v.state == "silent"]
    if silent:
        age = silent[0].silent_s or 0.0
        how = f"{age:.0f}{NBSP}s" if age < 120 else f"{age / 60:.0f}{NBSP}min"
        parts.append(f"{silent[0].bay} has been silent for {how}{_others(len(silent))}.")
    return " ".join(parts) or "No vehicle is plugged in."


def _others(total: int) -> str:
    return "" if total < 2 else f", and {count(total - 1, 'other').lower()}"
