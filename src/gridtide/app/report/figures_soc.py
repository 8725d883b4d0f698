"""Figure of charge through the day (4): the fleet's bands, the window, the floor, and every departure on its stem."""

import math
from datetime import datetime

from gridtide.app.report import svg
from gridtide.app.report.facts import Facts, short_departures
from gridtide.app.report.figures_power import empty
from gridtide.model.study import Departure, SocFan

_WIDTH = 332.0
_LEFT, _RIGHT = 30.0, 330.0
_MOST_STEMS = 400
_HOURS = 24.0


def charge(facts: Facts, height: float) -> str:
    """Figure 4: the bands, the window, the floor, and the chosen departures."""
    fan, departures = facts.result.soc_fan, facts.result.departures
    if not fan.hour and not departures:
        return empty(_WIDTH, "no vehicle was connected")
    chosen = chosen_departures(facts)
    at_hour = [(_hour(facts, d), d) for d in chosen]
    first, last = _hours_shown(fan, [hour for hour, _ in at_hour])
    x, y = svg.Scale(first, last, _LEFT, _RIGHT), svg.Scale(0.0, 1.0, height - 24, 24)
    drawn = _ground(facts, x, y) + _bands(fan, x, y)
    drawn += [shape for hour, d in at_hour for shape in _stem(hour, d, x, y, d.soc < d.target_soc - 0.005)]
    drawn += _words(facts, y) + _hour_ticks(first, last, x, height - 8)
    return svg.figure_svg(_WIDTH, height, "State of charge through the day, with departures", drawn)


def chosen_departures(facts: Facts) -> list[Departure]:
    """The departures that are drawn: at most about 400, evenly chosen, and those that left with less."""
    departures = facts.result.departures
    stride = math.ceil(len(departures) / _MOST_STEMS) or 1
    short = {id(d) for d in short_departures(facts.result)[:_MOST_STEMS]}
    return [d for i, d in enumerate(departures) if i % stride == 0 or id(d) in short]


def _hour(facts: Facts, departure: Departure) -> float:
    local = datetime.fromtimestamp(departure.departed_s, facts.zone)
    return local.hour + local.minute / 60


def _hours_shown(fan: SocFan, departures: list[float]) -> tuple[float, float]:
    hours = [*(h for h in fan.hour if math.isfinite(h)), *departures]
    first, last = math.floor(min(hours, default=0.0)), math.ceil(max(hours, default=_HOURS))
    return max(float(first), 0.0), min(max(float(last), first + 2.0), max(_HOURS, first + 2.0))


def _ground(facts: Facts, x: svg.Scale, y: svg.Scale) -> list[str]:
    """The window as a pale field between hairlines, the floor, and the scale."""
    low, high = facts.result.window_soc
    drawn = [svg.text(_LEFT - 6, y.at(k / 5) + 4, f"{k * 20}", anchor="end") for k in range(6)]
    drawn.append(svg.text(0, 8, "%"))
    drawn.append(svg.rect(_LEFT, y.at(high), x.at_high - _LEFT, y.at(low) - y.at(high), "field"))
    drawn += [svg.line(_LEFT, y.at(edge), x.at_high, y.at(edge), "g") for edge in (low, high)]
    drawn.append(svg.line(_LEFT, y.at(0), x.at_high, y.at(0), "axis"))
    drawn.append(svg.line(_LEFT, y.at(facts.result.floor_soc), x.at_high, y.at(facts.result.floor_soc), "lim"))
    return drawn


def _words(facts: Facts, y: svg.Scale) -> list[str]:
    low, floor = y.at(facts.result.window_soc[0]), y.at(facts.result.floor_soc)
    close = abs(low - floor) < 24
    return [
        svg.text(_LEFT + 5, low - 6, "window the fleet may use", "halo"),
        svg.text(_LEFT + 5, floor + 15 if close and floor + 15 < y.at_low else floor - 6, "floor", "red halo"),
    ]


def _bands(fan: SocFan, x: svg.Scale, y: svg.Scale) -> list[str]:
    rows = [
        row
        for row in zip(fan.hour, fan.q05, fan.q25, fan.q50, fan.q75, fan.q95, strict=True)
        if all(map(math.isfinite, row))
    ]
    rows.sort()

    def curve(k: int) -> list[svg.Point]:
        return [(x.at(row[0]), y.at(min(max(row[k], 0.0), 1.0))) for row in rows]

    if len(rows) < 2:
        return []
    outer, inner = [*curve(5), *reversed(curve(1))], [*curve(4), *reversed(curve(2))]
    return [svg.path(outer, "f1", True), svg.path(inner, "f2", True), svg.path(curve(3), "fm")]


def _stem(hour: float, departure: Departure, x: svg.Scale, y: svg.Scale, short: bool) -> list[str]:
    at, asked, had = x.at(hour), y.at(departure.target_soc), y.at(departure.soc)
    stem = svg.line(at, asked, at, had, "stick bads" if short else "stick")
    return [stem, svg.circle(at, had, 2.2 if short else 1.3, "dbad" if short else "dok")]


def _hour_ticks(first: float, last: float, x: svg.Scale, baseline: float) -> list[str]:
    step = next(s for s in (1, 2, 3, 4, 6) if (last - first) / s <= 8 or s == 6)
    marks = svg.ticks(first, last, step)
    anchors = ["end" if x.at(h) > x.at_high - 8 else "middle" for h in marks]
    return [svg.text(x.at(h), baseline, f"{int(h):02d}", anchor=a) for h, a in zip(marks, anchors, strict=True)]
