"""Figures of money: where the difference comes from (1) and what the bill is made of (5)."""

from gridtide.app.report import svg
from gridtide.app.report.facts import Facts, Part, finite, merged

WIDTH = 680.0
_COLUMN_SHARE = 0.61
_CUT_FOOT_SHARE = 0.59
_NAME_SIZE = 11.0
_VALUE_SIZE = 12.5
_CSS = {
    "energy_building": "s1",
    "energy_vehicles": "s5",
    "demand": "s2",
    "fixed": "s6",
    "taxes": "s3",
    "wear": "s4",
    "other": "s6",
}


def waterfall(facts: Facts, height: float) -> str:
    """Figure 1: from the bill before to the bill after, one column a part."""
    changed, levels = _levels(facts)
    before, after = levels[0], finite(facts.result.bill_with)
    foot, cut = _foot([*levels, after])
    y = svg.Scale(foot, max([*levels, after, foot + 1e-9]), height - 34, 39)
    ground = y.at(max(foot, 0.0))
    slot = WIDTH / (len(changed) + 2)
    drawn = [svg.line(0, ground, WIDTH, ground, "axis")]
    drawn += _total_column(0, slot, y, before, ground, ("Before", facts.money(before), "wt"), cut)
    for i, part in enumerate(changed):
        drawn += _change_column(facts, part, (i + 1) * slot, slot, (y.at(levels[i]), y.at(levels[i + 1])), height)
    drawn += _total_column(WIDTH - slot, slot, y, after, ground, ("After", facts.money(after), "wt2"), cut)
    for i, level in enumerate(levels):
        edge = slot * (1 - _COLUMN_SHARE) / 2
        drawn.append(svg.line((i + 1) * slot - edge, y.at(level), (i + 1) * slot + edge, y.at(level), "conn"))
    return svg.figure_svg(WIDTH, height, "Bill before and after, by part", drawn)


def is_cut(facts: Facts) -> bool:
    """Whether the outer columns of figure 1 are cut at the foot."""
    return _foot([*_levels(facts)[1], finite(facts.result.bill_with)])[1]


def _levels(facts: Facts) -> tuple[list[Part], list[float]]:
    """The parts that change, savings first, and the bill before and after each of them."""
    changed = [p for p in merged(facts.parts, "") if round(p.change, facts.decimals) != 0]
    changed.sort(key=lambda part: (part.change > 0, -abs(part.change)))
    levels = [finite(facts.result.bill_without)]
    for part in changed:
        levels.append(levels[-1] + part.change)
    return changed, levels


def _foot(levels: list[float]) -> tuple[float, bool]:
    """Where the money axis starts, and whether that cuts the outer columns: so high that the changes can be seen."""
    low, high = min(levels), max(levels)
    foot = low - _CUT_FOOT_SHARE * (high - low)
    if low <= 0 or foot <= 0 or high - low < 0.005:
        return min(0.0, low), False
    return foot, True


def _column(x: float, slot: float) -> tuple[float, float, float]:
    width = slot * _COLUMN_SHARE
    return x + (slot - width) / 2, width, x + slot / 2


def _total_column(
    x: float, slot: float, y: svg.Scale, value: float, ground: float, said: tuple[str, str, str], cut: bool
) -> list[str]:
    left, width, middle = _column(x, slot)
    name, amount, css = said
    top = min(y.at(value), ground)
    drawn = [svg.rect(left, top, width, abs(ground - y.at(value)), css)]
    if cut:
        a, b = left - 2, left + width + 2
        drawn.append(svg.path([(a, ground - 9), (b, ground - 16), (b, ground - 12.5), (a, ground - 5.5)], "gap", True))
    drawn.append(svg.text(middle, top - 8, amount, "ink b t13", "middle"))
    return [*drawn, svg.text(middle, y.at_low + 20, name, "t13", "middle")]


def _change_column(
    facts: Facts, part: Part, x: float, slot: float, ends: tuple[float, float], height: float
) -> list[str]:
    left, width, middle = _column(x, slot)
    top, bottom = min(ends), max(ends)
    saves = part.change < 0
    under = saves and bottom + 18 < height - 34
    return [
        svg.rect(left, top, width, max(bottom - top, 1.5), "wg" if saves else "wb"),
        svg.text(
            middle,
            bottom + 17 if under else top - 8,
            facts.change(part.change),
            f"{'okk' if saves else 'outk'} t13",
            "middle",
        ),
        svg.text(middle, height - 14, part.short, "t13", "middle"),
    ]


def shares(facts: Facts, height: float = 118.0) -> str:
    """Figure 5: both bills as bars of their parts, to one scale."""
    parts = [p for p in facts.parts if p.before > 0 or p.after > 0]
    totals = facts.money(finite(facts.result.bill_without)), facts.money(finite(facts.result.bill_with))
    left = 64.0
    room = WIDTH - left - 12 - max(svg.text_width(total, 13.5) for total in totals)
    sums = sum(max(p.before, 0) for p in parts), sum(max(p.after, 0) for p in parts)
    scale = (room - 1.5 * len(parts)) / max(*sums, 1e-9)
    drawn = _bar("Before", 20, [(p, max(p.before, 0)) for p in parts], left, scale, facts, totals[0], True)
    drawn += _bar("After", 70, [(p, max(p.after, 0)) for p in parts], left, scale, facts, totals[1], False)
    return svg.figure_svg(WIDTH, height, "What the bill is made of, before and after", drawn)


def _bar(
    name: str,
    top: float,
    values: list[tuple[Part, float]],
    left: float,
    scale: float,
    facts: Facts,
    total: str,
    names_above: bool,
) -> list[str]:
    drawn = [svg.text(0, top + 16, name, "t13 ink")]
    above: list[tuple[float, str]] = []
    below: list[tuple[float, str]] = []
    x = left
    for part, value in values:
        width = value * scale
        if value <= 0:
            continue
        drawn.append(svg.rect(x, top, max(width, 1.5), 24, _CSS[part.key]))
        amount = facts.amount(value)
        inside = svg.text_width(amount, _VALUE_SIZE) + 14 <= width
        if inside:
            drawn.append(svg.text(x + 8, top + 16.5, amount, f"in{_CSS[part.key]} t13"))
        named = names_above and (inside or part.key == "energy_vehicles")
        if named:
            above.append((x + svg.text_width(part.short, _NAME_SIZE) / 2 if inside else x + width / 2, part.short))
        if not inside:
            below.append(
                (x + width / 2, amount if named or (part.before > 0 and not names_above) else f"{part.short} {amount}")
            )
        x += max(width, 1.5) + 1.5
    drawn += _row(above, top - 7, "start") + _row(below, top + 38, "middle")
    return [*drawn, svg.text(x + 8, top + 16.5, total, "t13 ink b")]


def _row(labels: list[tuple[float, str]], baseline: float, anchor: str) -> list[str]:
    sizes = [svg.text_width(said, _NAME_SIZE) for _, said in labels]
    centres = svg.spread([centre for centre, _ in labels], sizes, 64.0, WIDTH, 8.0)
    shift = [size / 2 if anchor == "start" else 0.0 for size in sizes]
    return [
        svg.text(centre - back, baseline, said, "", anchor)
        for centre, back, (_, said) in zip(centres, shift, labels, strict=True)
    ]
