"""Figure of load duration (6): how long each power is drawn, over the whole period."""

import math

import numpy as np
from numpy.typing import NDArray

from gridtide.app.report import svg, words
from gridtide.app.report.facts import Facts
from gridtide.app.report.figures_power import crossed, empty

Powers = NDArray[np.float64]

_WIDTH = 680.0
_LEFT, _RIGHT = 36.0, 676.0
_FIRST_DRAWN, _DRAWN = 40, 500
"""Of a long study so many of the highest intervals and so many evenly chosen ones are drawn."""
_CUT_FROM = 0.5
"""The axis starts above zero only where the least power is more than this share of the highest."""
_NAMES = {"without": "charge on arrival", "with": "gridtide", "building": "building alone"}
_LABEL_CSS = {"without": "t13 clear", "with": "t13 ink b clear", "building": "t13 clear"}
_CURVE_CSS = {"building": "bu", "without": "ba", "with": "st"}


def load_curves(facts: Facts) -> dict[str, Powers]:
    """Interval averages from the highest down, kW, by name; empty where the series say nothing."""
    series = facts.result.series
    named = {"building": series.building_kw, "without": series.without_kw, "with": series.with_kw}
    found = {name: np.sort(np.array([v for v in kw if math.isfinite(v)]))[::-1] for name, kw in named.items()}
    size = min(len(kw) for kw in found.values())
    return {name: kw[:size] for name, kw in found.items()} if size else {}


def load_duration(facts: Facts, height: float) -> str:
    """Figure 6: the three sorted curves, what the fleet takes off, and where it puts it."""
    curves = load_curves(facts)
    if not curves:
        return empty(_WIDTH, "no metered intervals")
    size = len(curves["with"])
    hours = size * facts.result.interval_s / 3600.0
    y, step = _power_scale(curves, height)
    x = svg.Scale(0.0, hours, _LEFT, _RIGHT)
    kept = np.unique(np.r_[np.arange(min(size, _FIRST_DRAWN)), np.linspace(0, size - 1, _DRAWN).round().astype(int)])
    at = [x.at(0.0 if k == 0 else (k + 1) * hours / size) for k in kept]
    points = {name: [(px, y.at(float(kw[k]))) for px, k in zip(at, kept, strict=True)] for name, kw in curves.items()}
    drawn = svg.power_axis(y, step, _LEFT, _RIGHT, "kW")
    drawn += _areas(points["without"], points["with"])
    limit_kw = facts.result.limit_kw
    limit_at = y.at(limit_kw) if y.low < limit_kw < y.high else None
    if limit_at is not None:
        drawn.append(svg.line(_LEFT, limit_at, _RIGHT, limit_at, "lim"))
    drawn += [svg.path(points[name], css) for name, css in _CURVE_CSS.items()]
    drawn += _labels(facts, curves, points, limit_at) + _hour_ticks(hours, x, height - 24)
    return svg.figure_svg(_WIDTH, height, "Load duration over the whole period, before and after", drawn)


def _power_scale(curves: dict[str, Powers], height: float) -> tuple[svg.Scale, float]:
    least, most = (pick(float(pick(kw)) for kw in curves.values()) for pick in (min, max))
    floor = 0.0 if 0.0 <= least < _CUT_FROM * most else least
    low, high, step = svg.nice_range(floor, most, 5)
    return svg.Scale(low, high, height - 34, 24), step


def _areas(before: list[svg.Point], after: list[svg.Point]) -> list[str]:
    """Between the curves: amber where the fleet takes off, teal where it adds."""
    drawn = []
    for css, sign in (("aout", 1.0), ("f2", -1.0)):
        above: list[svg.Point] = []
        below: list[svg.Point] = []
        for (px, py), (_, qy) in zip(before, after, strict=True):
            apart = (qy - py) * sign > 0.0  # a higher power has a smaller y
            above.append((px, py if apart else qy))
            below.append((px, qy))
        drawn.append(svg.path([*above, *reversed(below)], css, True))
    return drawn


def _labels(
    facts: Facts, curves: dict[str, Powers], points: dict[str, list[svg.Point]], limit_at: float | None
) -> list[str]:
    """Each curve's name and peak where no line runs: above its own, the building's below; the limit's name at its end."""
    lines, drawn = list(points.values()), []
    if limit_at is not None:
        lines.append([(_LEFT + k, limit_at) for k in range(round(_RIGHT - _LEFT))])
        said = f"limit {words.with_unit(facts.result.limit_kw, 'kW')}"
        drawn.append(svg.text(_RIGHT, limit_at - 6.0, said, "t13 red clear", "end"))
    for name, css in _LABEL_CSS.items():
        said = f"{_NAMES[name]} {words.with_unit(float(curves[name][0]), 'kW')}"
        wide = svg.text_width(said)
        if name == "building":
            spots = [(px - wide - 4.0, py + 16.0) for px, py in points[name] if px - wide > _LEFT + 8.0]
        else:
            spots = [(px + 10.0, py - 5.0) for px, py in points[name] if py > 30.0 and px + wide + 10.0 < _RIGHT]
        free = [spot for spot in spots if not crossed(lines, spot, wide)]
        for left, base in (free or spots)[:1]:
            drawn.append(svg.text(left, base, said, css))
            lines.append([(left + k, base - 5.0) for k in range(round(wide))])
    return drawn


def _hour_ticks(hours: float, x: svg.Scale, foot: float) -> list[str]:
    drawn = [svg.line(x.at_low, foot, x.at_high, foot, "axis")]
    marks = svg.ticks(0.0, hours, svg.nice_step(hours, 6))
    for mark in marks:
        at, last = x.at(mark), mark == marks[-1]
        drawn.append(svg.line(at, foot, at, foot + 4, "tick"))
        anchor = "end" if last and at > x.at_high - 12 else "middle"
        drawn.append(svg.text(at, foot + 18, f"{mark:g}{' h' if last else ''}", anchor=anchor))
    return drawn
