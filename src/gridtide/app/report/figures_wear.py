"""Figures of wear: what the energy given costs by cell model (7), and how deep the batteries are cycled (8)."""

import math

from gridtide.app.report import svg, words
from gridtide.app.report.facts import Facts
from gridtide.app.report.figures_power import empty
from gridtide.model.study import CycleBin

_WIDTH = 332.0
_BAR = 12.0
_SMALL = 0.995


def known_wear(facts: Facts) -> list[tuple[str, float]]:
    """Cell models and costs that are finite, cheapest first."""
    return sorted((item for item in facts.result.wear_range if math.isfinite(item[1])), key=lambda item: item[1])


def known_cycles(facts: Facts) -> list[CycleBin]:
    """Bins whose numbers are finite, where anything was cycled at all."""
    bins = [b for b in facts.result.cycles if math.isfinite(b.without) and math.isfinite(b.with_)]
    return bins if any(b.without > 0.0 or b.with_ > 0.0 for b in bins) else []


def wear_costs(facts: Facts, height: float) -> str:
    """Figure 7: a bar for each cell model, and what the bill counts as a line through them."""
    costs = known_wear(facts)
    if not costs or costs[-1][1] <= 0.0:
        return empty(_WIDTH, "nothing was given, so nothing wears")
    booked = facts.result.wear_cost if math.isfinite(facts.result.wear_cost) else 0.0
    said = [cost_in_words(facts, cost) for _, cost in costs]
    room = _WIDTH - 12.0 - max(svg.text_width(text) for text in said)
    x = svg.Scale(0.0, max(costs[-1][1], booked), 0.0, room)
    row = (height - 24.0) / len(costs)
    drawn = []
    for k, ((name, cost), text) in enumerate(zip(costs, said, strict=True)):
        top = 24.0 + k * row + 16.0
        drawn.append(svg.text(0.0, top - 5.0, name, "ink"))
        drawn.append(svg.rect(0.0, top, max(x.at(cost), 1.5), _BAR, "s4"))
        drawn.append(svg.text(x.at(cost) + 6.0, top + _BAR - 2.0, text, "t13 ink b clear"))
    if booked > 0.0:
        at = x.at(booked)
        drawn.append(svg.line(at, 16.0, at, height, "book"))
        label = f"in the bill {cost_in_words(facts, booked)}"
        drawn.append(svg.text(max(at, svg.text_width(label, 11.0)), 11.0, label, anchor="end"))
    return svg.figure_svg(_WIDTH, height, "What the energy given costs in battery wear, by cell model", drawn)


def cost_in_words(facts: Facts, cost: float) -> str:
    """An amount of wear: whole money only where it is much."""
    return words.money(cost, facts.result.currency, 0 if abs(cost) >= 100.0 else 2)


def cycle_depths(facts: Facts, height: float) -> str:
    """Figure 8: equivalent full cycles by depth, before and after side by side."""
    bins = known_cycles(facts)
    if not bins:
        return empty(_WIDTH, "no battery was cycled")
    y = svg.Scale(0.0, max(max(b.without, b.with_) for b in bins), height - 38.0, 24.0)
    slot = _WIDTH / len(bins)
    bar = slot * 0.38
    drawn = [svg.text(0.0, 8.0, "full cycles"), svg.line(0.0, y.at_low, _WIDTH, y.at_low, "axis")]
    for k, item in enumerate(bins):
        middle = (k + 0.5) * slot
        for css, value, left in (("wt", item.without, middle - bar - 1.0), ("wt2", item.with_, middle + 1.0)):
            top = y.at(max(value, 0.0))
            drawn.append(svg.rect(left, top, bar, y.at_low - top, css))
            drawn.append(svg.text(left + bar / 2.0, top - 4.0, _cycles_in_words(value), "ink", "middle"))
        drawn.append(svg.text(middle, y.at_low + 17.0, _depth_in_words(item, last=k == len(bins) - 1), anchor="middle"))
    drawn.append(svg.text(_WIDTH, height - 4.0, "depth, % of the battery", anchor="end"))
    return svg.figure_svg(_WIDTH, height, "Equivalent full cycles by depth, before and after", drawn)


def _cycles_in_words(value: float) -> str:
    return words.number(value, 0 if value >= 99.5 or value == 0.0 else 1 if value >= _SMALL else 2)


def _depth_in_words(item: CycleBin, *, last: bool) -> str:
    low, high = round(item.low * 100), round(item.high * 100)
    if low <= 0:
        return f"under {high}"
    return f"over {low}" if last else f"{low}{words.DASH}{high}"
