"""Figures of power: the demand staircase (2) and the highest hours (3)."""

import math

import numpy as np
from numpy.typing import NDArray

from gridtide.app.report import svg, words
from gridtide.app.report.facts import Day, Facts

Powers = NDArray[np.float64]

_WIDTH = 680.0
_LEFT, _RIGHT = 36.0, 538.0
_HOURS_SHOWN = 80.0
_LABEL_LINE = 16.0
_HALF = 332.0
_TEN_DAYS = 10
_SIX_WEEKS = 45
_QUARTER = 100


def staircase(facts: Facts, height: float) -> str:
    """Figure 2: each day's highest interval and the period's peak so far."""
    days = facts.days
    if not days:
        return empty(_WIDTH, "no metered intervals")
    low, high, step = _power_range(days)
    y = svg.Scale(low, high, height - 34, 24)
    x = svg.Scale(0, len(days), _LEFT, _RIGHT)
    foot = height - 26
    drawn = [*svg.power_axis(y, step, _LEFT, _RIGHT, "kW"), svg.line(_LEFT, foot, _RIGHT, foot, "axis")]
    limit_kw = facts.result.limit_kw
    if low < limit_kw < high:
        drawn.append(svg.line(_LEFT, y.at(limit_kw), _RIGHT, y.at(limit_kw), "lim"))
    radius = 2.2 if len(days) <= _SIX_WEEKS else 1.2
    for css, values in (("bad", [d.without_kw for d in days]), ("std", [d.with_kw for d in days])):
        seen = [(i, v) for i, v in enumerate(values) if v >= low]
        drawn += [svg.circle(x.at(i + 0.5), y.at(v), radius, css) for i, v in seen]
    drawn.append(svg.path(_steps([d.peak_without_kw for d in days], x, y), "ba"))
    drawn.append(svg.path(_steps([d.peak_with_kw for d in days], x, y), "st"))
    drawn += _day_ticks(days, x, foot) + _staircase_labels(facts, y, low, high)
    return svg.figure_svg(_WIDTH, height, f"Running peak of {facts.period.name}, before and after", drawn)


def hidden_dots(facts: Facts) -> int:
    """How many dots of figure 2 lie below its cut axis."""
    low = _power_range(facts.days)[0] if facts.days else 0.0
    return sum(v < low for d in facts.days for v in (d.without_kw, d.with_kw))


def _power_range(days: tuple[Day, ...]) -> tuple[float, float, float]:
    """The axis: from the quieter of the days that matter up to the peak."""
    highest = [v for d in days for v in (d.without_kw, d.with_kw)]
    first = min(days[0].peak_with_kw, days[0].peak_without_kw)
    usual = float(np.percentile(highest, 30))
    top = max(highest)
    low = min(max(first, top * 0.4), usual, top - 0.05 * abs(top))
    return svg.nice_range(max(low, 0.0) if min(highest) >= 0 else low, top, 4)


def _steps(values: list[float], x: svg.Scale, y: svg.Scale) -> list[svg.Point]:
    points = [(x.at(0), y.at(max(values[0], y.low)))]
    for i, value in enumerate(values):
        level = y.at(max(value, y.low))
        if level != points[-1][1]:
            points += [(x.at(i + 0.5), points[-1][1]), (x.at(i + 0.5), level)]
    return [*points, (x.at(len(values)), points[-1][1])]


def _day_ticks(days: tuple[Day, ...], x: svg.Scale, foot: float) -> list[str]:
    n = len(days)
    if n > _QUARTER:
        marked = [(i, words.MONTHS[d.day.month - 1][:3]) for i, d in enumerate(days) if d.day.day == 1]
        marked = marked[:: math.ceil(len(marked) / 12) or 1]
    else:
        stride = 1 if n <= 5 else 2 if n <= _TEN_DAYS else 7 if n <= _SIX_WEEKS else 14
        marked = [(i, words.day_month(d.day)) for i, d in enumerate(days) if i % stride == 0]
    drawn = []
    for i, said in marked:
        at = x.at(i)
        drawn.append(svg.line(at, foot, at, foot + 4, "tick"))
        drawn.append(svg.text(at, foot + 18, said, anchor="start" if i == 0 else "middle"))
    return drawn


def _staircase_labels(facts: Facts, y: svg.Scale, low: float, high: float) -> list[str]:
    """Names at the lines' ends, kept apart, and a bracket between the lines."""
    last, limit_kw = facts.days[-1], facts.result.limit_kw
    when = f" in {words.MONTHS[last.day.month - 1]}" if facts.several_months else ""
    ends = y.at(last.peak_without_kw), y.at(last.peak_with_kw)
    labels = [
        (ends[0], ["charge on arrival", words.with_unit(last.peak_without_kw, "kW") + when], ("t13", "t13 ink")),
        (ends[1], ["gridtide", words.with_unit(last.peak_with_kw, "kW") + when], ("t13 ink b", "t13 ink b")),
    ]
    if low < limit_kw < high:
        labels.append((y.at(limit_kw), [f"limit {words.with_unit(limit_kw, 'kW')}"], ("t13 red", "t13 red")))
    labels.sort(key=lambda item: item[0])
    sizes = [_LABEL_LINE * len(said) for _, said, _ in labels]
    centres = svg.spread([at for at, _, _ in labels], sizes, 10.0, y.at_low + 30, 3.0)
    drawn = []
    for (_, said, css), size, centre in zip(labels, sizes, centres, strict=True):
        top = centre - size / 2
        drawn += [svg.text(554, top + 12 + k * _LABEL_LINE, s, css[k]) for k, s in enumerate(said)]
    if abs(ends[0] - ends[1]) > 4:
        drawn.append(svg.path([(542, ends[0]), (546, ends[0]), (546, ends[1]), (542, ends[1])], "win"))
    return drawn


def hours_above(facts: Facts) -> tuple[int, int]:
    """How many intervals without the fleet lie above the peak that it holds, of how many."""
    without, with_ = _sorted_powers(facts)
    total = min(without.size, with_.size)
    return (int((without > with_[0] + 1e-9).sum()), total) if total else (0, 0)


def _sorted_powers(facts: Facts) -> tuple[Powers, Powers]:
    """Interval averages without and with the fleet, each from the highest down, kW."""
    both = [
        np.array([v for v in kw if math.isfinite(v)])
        for kw in (facts.result.series.without_kw, facts.result.series.with_kw)
    ]
    return np.sort(both[0])[::-1], np.sort(both[1])[::-1]


def duration(facts: Facts, height: float) -> tuple[str, str]:
    """Figure 3 and its name: the highest hours, sorted, before and after."""
    without, with_ = _sorted_powers(facts)
    total = min(without.size, with_.size)
    if total == 0:
        return empty(_HALF, "no metered intervals"), "The highest hours"
    held_kw = float(with_[0])
    per_hour = 3600.0 / facts.result.interval_s
    shown = min(total, max(round(_HOURS_SHOWN * per_hour), 2))
    before, after = without[:shown], with_[:shown]
    hours = shown / per_hour
    low, high, step = svg.nice_range(float(min(before[-1], after[-1])), float(max(before[0], after[0])), 4)
    y = svg.Scale(low, high, height - 34, 24)
    x = svg.Scale(0, hours, 36, 322)
    at = [(i + (0.0 if i == 0 else 1.0)) / per_hour for i in range(shown)]
    curves = [[(x.at(t), y.at(float(v))) for t, v in zip(at, values, strict=True)] for values in (before, after)]
    lower = int(np.argmax(before <= after)) if (before <= after).any() else shown
    drawn = [*svg.power_axis(y, step, 36, 326, "kW")]
    if lower > 1:
        drawn.append(svg.path([*curves[0][:lower], *reversed(curves[1][:lower])], "aout", True))
    drawn += [svg.path(curves[0], "ba"), svg.path(curves[1], "st")]
    drawn += _hour_ticks(hours, x, height - 24) + _duration_labels(curves, y, held_kw)
    name = f"The {words.number(hours)} highest hours" if hours > 1 else "The highest hour"
    return svg.figure_svg(_HALF, height, f"Load duration, {name.lower()}", drawn), name


def _hour_ticks(hours: float, x: svg.Scale, foot: float) -> list[str]:
    marks = svg.ticks(0, hours, svg.nice_step(hours, 4))
    drawn = [svg.line(x.at_low, foot, x.at_high + 4, foot, "axis")]
    for t in marks:
        last = t == marks[-1]
        anchor = "end" if last and x.at(t) > x.at_high - 8 else "middle"
        drawn.append(
            svg.text(x.at(t) + (4 if anchor == "end" else 0), foot + 16, f"{t:g}{' h' if last else ''}", anchor=anchor)
        )
    return drawn


def _duration_labels(curves: list[list[svg.Point]], y: svg.Scale, held_kw: float) -> list[str]:
    """ "before" above and right of its curve, "after" below and left of its own, where neither curve runs through."""
    before, after = curves
    held = f"after {words.quantity(held_kw)}"
    wide, narrow = svg.text_width(held), svg.text_width("before")
    drawn = []
    above = [(px + 4, py - 5) for px, py in before if px > 0.12 * _HALF and px + narrow + 8 < _HALF and py > 40]
    below = [(max(px - wide, 42.0), py + 17) for px, py in after if px >= 44 + wide and py + 20 < y.at_low]
    for said, css, spots, width in (("before", "t13", above, narrow), (held, "t13 ink b", below, wide)):
        free = [spot for spot in spots if not crossed(curves, spot, width)]
        drawn += [svg.text(*spot, said, f"{css} clear") for spot in (free or spots)[:1]]
    return drawn


def crossed(curves: list[list[svg.Point]], spot: svg.Point, width: float) -> bool:
    """Whether a curve runs through a label whose baseline starts at `spot`."""
    left, base = spot
    return any(left - 3 < px < left + width + 3 and base - 13 < py < base + 4 for curve in curves for px, py in curve)


def empty(width: float, why: str) -> str:
    """A figure with nothing to draw says why."""
    return svg.figure_svg(width, 60, why, [svg.text(0, 32, words.capital(why) + ".", "t13")])
