"""The report's sentences, each made from the figures: what was found, and what to see in every drawing."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gridtide.app.report import words
from gridtide.app.report.facts import Facts, Part, finite, merged, short_departures
from gridtide.market.wear import PACK_PRICE_PER_KWH
from gridtide.model.study import CycleBin

_ALL_OF_IT = 0.995
_MOST_OF_IT = 0.5


def title(facts: Facts) -> str:
    """The finding in one sentence, as honest when nothing was saved as when much was."""
    when, saved = facts.period.when, facts.saved_shown
    if facts.result.vehicles <= 0 or facts.result.sessions <= 0:
        return f"No vehicle came {when}, so there was nothing to save."
    short = facts.result.drivers_short
    but = f", but {words.count(short, 'driver', 'drivers')} would have left short" if short > 0 else ""
    if saved == 0:
        return f"The fleet would have saved nothing {when}{but or _peak_clause(facts)}."
    if saved < 0:
        cost = facts.money(-facts.saved)
        also = f", and {words.count(short, 'driver', 'drivers')} would have left short" if short > 0 else ""
        return f"The fleet would have cost {cost} {when} instead of saving{also}."
    return f"The fleet would have saved {facts.money(facts.saved)} {when}{but or _source_clause(facts)}."


def _peak_clause(facts: Facts) -> str:
    change_kw = _peak_change_kw(facts)
    if change_kw == 0:
        return ": the peak stays as it was"
    return ", though the peak falls" if change_kw < 0 else ", and the peak rises"


def _source_clause(facts: Facts) -> str:
    demand = -sum(p.change for p in facts.parts if p.key == "demand")
    if demand >= facts.saved * _ALL_OF_IT:
        return ", all of it through a lower peak"
    if demand >= facts.saved * _MOST_OF_IT:
        return ", most of it through a lower peak"
    energy = -sum(p.change for p in facts.parts if p.key in ("energy_building", "energy_vehicles"))
    return ", most of it through cheaper hours" if energy >= facts.saved * _MOST_OF_IT else ""


def _peak_change_kw(facts: Facts) -> float:
    """With less without, as printed: whole kW unless the peaks are small."""
    before, after = facts.result.peak_kw_without, facts.result.peak_kw_with
    if not math.isfinite(before - after):
        return 0.0
    decimals = 0 if abs(before) >= 10 else 1
    return round(after, decimals) - round(before, decimals)


def lead(facts: Facts) -> str:
    """What the fleet does instead, what that does to the peak, and whether drivers were served."""
    return " ".join(s for s in (_what_changes(facts), _peak_sentence(facts), _trouble_sentence(facts)) if s)


def _what_changes(facts: Facts) -> str:
    result = facts.result
    if result.vehicles <= 0 or result.sessions <= 0:
        return "The bill is the building’s alone."
    who = words.count(result.vehicles, "vehicle", "vehicles")
    one = result.vehicles == 1
    does = f"{'charges' if one else 'charge'} when the building is quiet"
    if round(finite(result.discharged_kwh), 1) > 0:
        does += f" and {'gives' if one else 'give'} power back when it is busy"
    return f"Instead of charging on arrival, {who} {does}."


def _peak_sentence(facts: Facts) -> str:
    result = facts.result
    before, after = words.quantity(result.peak_kw_without), words.with_unit(result.peak_kw_with, "kW")
    change_kw = _peak_change_kw(facts)
    if change_kw == 0:
        peak = f"The highest {facts.interval} stays at {after}"
    else:
        peak = f"The highest {facts.interval} {'falls' if change_kw < 0 else 'rises'} from {before} to {after}"
    if result.sessions <= 0:
        return f"{peak}."
    total = words.number(result.sessions)
    return f"{peak}; {words.number(facts.met)} of {total} departures leave with the charge they could have had."


def _trouble_sentence(facts: Facts) -> str:
    over = facts.result.intervals_over
    if over <= 0:
        return ""
    limit = words.with_unit(facts.result.limit_kw, "kW")
    return f"{words.capital(words.count(over, facts.interval, facts.interval + 's'))} ended above the limit of {limit}."


def key_figures(facts: Facts) -> list[tuple[str, str, str, str]]:
    """Four of (name, value, unit, note)."""
    result = facts.result
    share = abs(facts.saved) / abs(result.bill_without) if result.bill_without else 0.0
    change_kw = _peak_change_kw(facts)
    peak = (
        f"{words.with_unit(abs(change_kw), 'kW')} {'lower' if change_kw < 0 else 'higher'}"
        if change_kw
        else "as before"
    )
    saved = ("Extra cost" if facts.saved_shown < 0 else "Saved", facts.money(abs(facts.saved_shown)), "")
    missed = f"{words.number(result.drivers_short)} missed" if result.drivers_short > 0 else "none missed"
    wear = f"{facts.money(result.wear_cost)} of battery wear"
    return [
        (*saved, f"{words.percent(share)} of the bill"),
        ("Peak", words.quantity(result.peak_kw_with), "kW", peak),
        ("Departures met", words.number(facts.met), f"of {words.number(result.sessions)}", missed),
        ("Given back", words.quantity(result.discharged_kwh), "kWh", wear),
    ]


def energy_note(facts: Facts) -> str:
    """Under the energy line: the range of its prices."""
    low, high = facts.result.energy_price_range
    currency = facts.result.currency
    if round(low, 4) == round(high, 4):
        return f"{words.unit_price(low, currency)} per{words.NBSP}kWh"
    dear = words.unit_price(high, currency).removeprefix(words.symbol(currency) + words.NBSP)
    return f"by time of use, {words.unit_price(low, currency)} to {dear} per{words.NBSP}kWh"


def part_note(facts: Facts, part: Part) -> str:
    """Under a line of the bill: the study's own note, or how the line is reckoned."""
    result = facts.result
    if part.note:
        return part.note
    if part.key == "demand" and result.demand_price_per_kw > 0:
        price = words.unit_price(result.demand_price_per_kw, result.currency)
        both = f"{words.quantity(result.peak_kw_without)} and {words.with_unit(result.peak_kw_with, 'kW')}"
        return f"highest {facts.interval} at {price} per{words.NBSP}kW: {both}"
    if part.key == "wear":
        given = words.with_unit(result.discharged_kwh, "kWh")
        return f"{given} given at {words.unit_price(result.wear_per_kwh, result.currency)}"
    return ""


def waterfall_caption(facts: Facts, cut: bool) -> str:
    """Figure 1: what brings the difference and what takes it back."""
    changed = [p for p in merged(facts.parts, "") if round(p.change, facts.decimals) != 0]
    gains = sorted((p for p in changed if p.change < 0), key=lambda p: p.change)
    losses = sorted((p for p in changed if p.change > 0), key=lambda p: -p.change)
    said = []
    if not changed:
        said.append("No part of the bill changes.")
    if gains:
        total = facts.money(-sum(p.change for p in gains))
        said.append(f"{words.capital(words.listed([_in_words(p) for p in gains]))} {_verb(gains, 'save')} {total}.")
    if losses:
        total = facts.money(sum(p.change for p in losses))
        takes = "take" if gains else "add"
        back = " back" if gains else ""
        said.append(
            f"{words.capital(words.listed([_in_words(p) for p in losses]))} {_verb(losses, takes)} {total}{back}."
        )
    if cut:
        said.append("The two outer columns are cut at the foot.")
    return " ".join(said)


def _in_words(part: Part) -> str:
    names = {
        "demand": "the lower peak" if part.change < 0 else "the higher peak",
        "energy": "energy",
        "taxes": "taxes",
        "wear": "battery wear",
        "fixed": "the standing charge",
        "other": "other lines" if part.label == "Other" else part.label,
    }
    return names.get(part.key, part.label[:1].lower() + part.label[1:])


def _verb(parts: list[Part], verb: str) -> str:
    one = len(parts) == 1 and not _in_words(parts[0]).endswith("taxes")
    return verb + "s" if one else verb


def staircase_caption(facts: Facts, hidden: int) -> str:
    """Figure 2: what a step costs and when the last one came."""
    if not facts.days:
        return ""
    price, currency = facts.result.demand_price_per_kw, facts.result.currency
    per_kw = f"{words.unit_price(price, currency)} per{words.NBSP}kW"
    billed = ", which is what is billed" * (price > 0)
    said = [f"Dots: each day’s highest {facts.interval}."]
    if facts.several_months:
        said.append(f"Lines: each month’s peak{f', billed at {per_kw}' * (price > 0)}.")
    else:
        said.append(f"Lines: the period’s peak so far{billed}.")
        last = _last_step(facts)
        when = f"; without the fleet the last one comes on {last}" if last else ""
        said += [f"A step up costs {per_kw} and stays{when}."] * (price > 0)
    if facts.result.peak_kw_clairvoyant > 0 and facts.result.sessions > 0:
        best = words.with_unit(facts.result.peak_kw_clairvoyant, "kW")
        said.append(f"With perfect foresight it could have been {best}.")
    if hidden:
        said.append(f"{words.capital(words.count(hidden, 'lower dot is', 'lower dots are'))} not drawn.")
    return " ".join(said)


def _last_step(facts: Facts) -> str:
    """The day of the last step up without the fleet, or nothing where there was none."""
    steps = [day.day for before, day in pairwise(facts.days) if day.peak_without_kw > before.peak_without_kw]
    return words.day_month(steps[-1]) if steps else ""


def duration_caption(facts: Facts, above: int, total: int) -> str:
    """Figure 3: how few hours are above what the fleet holds. `above`, `total`: counts of intervals."""
    if total == 0:
        return ""
    every = f"Every {facts.interval} of {facts.period.name}, sorted."
    if above == 0:
        return f"{every} The highest are no lower than before: the fleet carries nothing there."
    hours = words.number(above * facts.result.interval_s / 3600, 1)
    share = words.percent(above / total)
    kind = "Only" if above / total < 0.05 else "In all"
    return (
        f"{every} {kind} {hours} hours ({share}) lay above what the fleet can hold: the shaded part is all it carries."
    )


def soc_caption(facts: Facts, drawn: int) -> str:
    """Figure 4: how to read the bands, and who left with less."""
    departures = facts.result.departures
    if not facts.result.soc_fan.hour and not departures:
        return ""
    short = len(short_departures(facts.result))
    said = (
        ["Half of the vehicles lie in the inner band, nine in ten in the outer."] if facts.result.soc_fan.hour else []
    )
    if departures:
        total = words.number(len(departures))
        kind = "Dots are departures" if drawn >= len(departures) else f"Dots are {drawn} of {total} departures"
        less = "none left with less" if short == 0 else f"{words.count(short, 'left', 'left')} with less (red)"
        said.append(f"{kind}, each on a stem from what its driver asked for: {less}.")
        could = facts.result.drivers_short
        if short and could < short:
            said.append(f"{words.capital(words.count(max(could, 0), 'of them', 'of them'))} had the time to charge it.")
    return " ".join(said)


def shares_caption(facts: Facts) -> str:
    """Figure 5: how much of the bill is demand, and what hardly moves."""
    demand = [p for p in facts.parts if p.key == "demand"]
    result = facts.result
    said = []
    if demand and result.bill_without > 0 and result.bill_with > 0:
        shares = sum(p.before for p in demand) / result.bill_without, sum(p.after for p in demand) / result.bill_with
        said.append(f"Demand is {words.percent(shares[0])} of the bill before and {words.percent(shares[1])} after.")
    energy = [p for p in merged(facts.parts, "") if p.key == "energy"]
    if energy and energy[0].before > 0:
        move = energy[0].change / energy[0].before
        moved = "hardly moves: drivers still need what they need" if abs(move) < 0.01 else _moves(move)
        said.append(f"Energy {moved}.")
    credits = [p for p in facts.parts if p.before < 0 or p.after < 0]
    if credits:
        names = words.listed([p.label for p in credits])
        said.append(f"What is taken off ({names}) is in the totals and not drawn.")
    return " ".join(said)


def _moves(fraction: float) -> str:
    return f"{'rises' if fraction > 0 else 'falls'} by {words.percent(abs(fraction))}"


def load_caption(facts: Facts, curves: dict[str, NDArray[np.float64]]) -> str:
    """Figure 6: what is taken off, where it goes, and how well the connection is used. `curves`: sorted powers by name, kW."""
    if not curves:
        return ""
    said = [f"Every {facts.interval} of {facts.period.name}, sorted from the highest down."]
    before, after = curves["without"], curves["with"]
    if (after < before - 1e-9).any() and (after > before + 1e-9).any():
        said.append("What the fleet takes off the highest (amber) it charges in quieter ones (teal).")
    peaks = float(before[0]), float(after[0])
    if min(*peaks, float(before.mean()), float(after.mean())) > 0.0:
        used = words.percent(float(before.mean()) / peaks[0]), words.percent(float(after.mean()) / peaks[1])
        said.append(
            f"The average is {used[0]} of the peak before and {used[1]} after: the higher, the better the connection is used."
        )
    return " ".join(said)


def wear_caption(facts: Facts, costs: list[tuple[str, float]]) -> str:
    """Figure 7: that wear is a range. `costs`: by cell model, cheapest first."""
    if not costs or costs[-1][1] <= 0.0:
        return ""
    low, high = costs[0][1], costs[-1][1]
    given = words.with_unit(facts.result.discharged_kwh, "kWh")
    price = words.money(PACK_PRICE_PER_KWH, facts.result.currency)
    said = [f"The {given} given, by cell model, for packs at {price} per{words.NBSP}kWh."]
    if low > 0.0 and high / low >= 2.0:
        said.append(f"Wear is no certain number: the cell alone changes it {words.number(high / low)}-fold.")
    if facts.result.wear_cost > high:
        said.append("The bill counts more than the dearest of them.")
    elif facts.result.wear_cost < low:
        said.append("The bill counts less than the cheapest of them.")
    return " ".join(said)


def cycles_caption(bins: list[CycleBin]) -> str:
    """Figure 8: what the drivers need anyway, and what the fleet adds."""
    before, after = math.fsum(b.without for b in bins), math.fsum(b.with_ for b in bins)
    if before <= 0.0 and after <= 0.0:
        return ""
    decimals = 0 if max(before, after) >= 99.5 else 1
    shown = [words.number(value, decimals) for value in (before, after)]
    said = ["Left before, right after; all batteries together, counted by rainflow in every stay."]
    if shown[0] == shown[1]:
        said.append(f"Drivers need {shown[0]} full cycles, and it stays at that.")
    elif before > 0.0:
        more = words.percent(abs(after / before - 1.0))
        said.append(
            f"Drivers need {shown[0]} full cycles; with the fleet it is {shown[1]}, {more} {'more' if after > before else 'less'}."
        )
    return " ".join(said)
