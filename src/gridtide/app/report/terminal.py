"""A study in the terminal: the finding, a table before and after, and each day's highest interval as blocks."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gridtide.app.report import findings, words
from gridtide.app.report.facts import Day, Facts, facts, finite, merged
from gridtide.model.study import StudyResult

_ROWS = 10
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_AXIS_COLUMNS = 8
_MOST_COLUMNS = 72


def print_report(result: StudyResult, console: Console) -> None:
    """Write the study's finding, its bill and its days to a console; nothing depends on colour."""
    known = facts(result)
    console.print()
    console.print(Text(words.plain(findings.title(known)), style="bold"))
    console.print(Text(words.plain(findings.lead(known))))
    console.print()
    for name, value, unit, note in findings.key_figures(known):
        shown = f"  {name:<16}{' '.join(part for part in (value, unit) if part):<16}{note}"
        console.print(Text(words.plain(shown), overflow="fold"))
    console.print(_bill_table(known))
    width = min(console.width, _MOST_COLUMNS + _AXIS_COLUMNS)
    for row in staircase_lines(known, width):
        console.print(Text(row), no_wrap=True, overflow="crop")


def _bill_table(known: Facts) -> Table:
    symbol = words.symbol(known.result.currency)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column(Text(f"  {symbol}, {words.plain(known.period.label)}"), overflow="fold")
    for name in ("before", "after", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for part in merged(known.parts, ""):
        amounts = known.amount(part.before), known.amount(part.after), known.change(part.change)
        table.add_row(Text(f"  {part.label}"), *(Text(words.plain(a)) for a in amounts))
    result = known.result
    totals = known.amount(result.bill_without), known.amount(result.bill_with), known.change(-known.saved)
    table.add_section()
    table.add_row(Text("  Total", style="bold"), *(Text(words.plain(t), style="bold") for t in totals))
    return table


def staircase_lines(known: Facts, width: int) -> list[str]:
    """Each day's highest interval as blocks from zero: with the fleet, above it what it takes away, and the limit."""
    title = f"  Highest {known.interval} of each day, kW:  █ with the fleet  ░ without  ╌ limit"
    if not known.days:
        return [title[:width], "  no metered intervals"]
    days = _grouped(known.days, max(width - _AXIS_COLUMNS, 1))
    limit_kw = finite(known.result.limit_kw)
    top = max(*(max(d.without_kw, d.with_kw) for d in days), 1.0)
    top = max(top, limit_kw) if limit_kw < 1.5 * top else top
    step = top / _ROWS
    gap = " " if len(days) * 2 <= width - _AXIS_COLUMNS else ""
    rows = [title[:width]]
    for k in range(_ROWS - 1, -1, -1):
        held = k * step < limit_kw <= (k + 1) * step
        cells = (gap if not held else gap.replace(" ", "╌")).join(_cell(day, k * step, step, held) for day in days)
        label = words.plain(words.quantity(limit_kw if held else (k + 1) * step))
        rows.append(f"{label:>6} {'╌' if held else '│'}{cells}"[:width])
    first, last = words.plain(words.day_month(days[0].day)), words.plain(words.day_month(known.days[-1].day))
    rows.append(f"{0:>6} └ {first if len(known.days) == 1 else f'{first} to {last}'}"[:width])
    return rows


def _cell(day: Day, floor: float, step: float, held: bool) -> str:
    """One character: the block with the fleet, the rest without it, else the limit's dash or nothing."""
    eighths = round((day.with_kw - floor) / step * 8)
    if eighths >= 1:
        return _EIGHTHS[min(eighths, 8)]
    if (day.without_kw - floor) / step >= 0.5:
        return "░"
    return "╌" if held else " "


def _grouped(days: tuple[Day, ...], columns: int) -> list[Day]:
    """At most `columns` days; where there are more, each stands for the highest of several."""
    size = -(-len(days) // columns)
    groups = [days[i : i + size] for i in range(0, len(days), size)]
    return [
        Day(
            day=group[0].day,
            without_kw=max(d.without_kw for d in group),
            with_kw=max(d.with_kw for d in group),
            peak_without_kw=group[-1].peak_without_kw,
            peak_with_kw=group[-1].peak_with_kw,
        )
        for group in groups
    ]
