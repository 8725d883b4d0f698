"""The study as one self-contained page for three sheets of A4: no scripts, no links, every text escaped."""

from html import escape

from gridtide.app.report import (
    figures_bill,
    figures_load,
    figures_power,
    figures_soc,
    figures_wear,
    findings,
    layout,
    words,
)
from gridtide.app.report.facts import Facts, Part, facts, merged
from gridtide.app.report.page import document, sheet
from gridtide.model.study import StudyResult


def render_html(result: StudyResult) -> str:
    """The report of a study on three sheets of A4: finding, key figures, bill, eight drawings, how it was reckoned."""
    known = facts(result)
    subject = f"Study, {known.period.label}, {words.count(result.vehicles, 'vehicle', 'vehicles')}"
    notes = " ".join(_sentence(s) for s in result.assumptions if s.strip()) or "No assumptions were recorded."
    bodies = _first_sheet(known), _second_sheet(known), _third_sheet(known, notes)
    sheets = [sheet(result.site, subject, body, n, len(bodies)) for n, body in enumerate(bodies, start=1)]
    return document(f"{result.site}, {known.period.label} · gridtide study", sheets)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":")) else text + "."


def _key_figures(known: Facts) -> str:
    cells = ""
    for name, value, unit, note in findings.key_figures(known):
        shown = escape(value) + (f"<i> {escape(unit)}</i>" if unit else "")
        cells += f'<div><dt>{escape(name)}</dt><dd>{shown}</dd><dd class="note">{escape(note)}</dd></div>'
    return f'<dl class="three">{cells}</dl>'


def _first_sheet(known: Facts) -> str:
    parts = merged(known.parts, findings.energy_note(known))
    noted = sum(bool(findings.part_note(known, part)) for part in parts)
    caption = findings.waterfall_caption(known, figures_bill.is_cut(known))
    title, lead = findings.title(known), findings.lead(known)
    height, tight = layout.first_sheet(title, lead, noted, len(parts) - noted, caption)
    drawing = _figure(1, "Where the difference comes from", figures_bill.waterfall(known, height), caption, "gives")
    heading = f'<section class="lead"><h1>{escape(title)}</h1><p>{escape(lead)}</p></section>'
    return heading + _key_figures(known) + _bill_table(known, parts, tight) + drawing


def _bill_table(known: Facts, parts: tuple[Part, ...], tight: bool) -> str:
    rows = ""
    for part in parts:
        note = escape(findings.part_note(known, part))
        amounts = known.amount(part.before), known.amount(part.after), known.change(part.change)
        cells = "".join(f"<td>{escape(amount)}</td>" for amount in amounts)
        rows += f"<tr><td>{escape(part.label)}{f'<small>{note}</small>' if note else ''}</td>{cells}</tr>"
    result = known.result
    totals = known.amount(result.bill_without), known.amount(result.bill_with), known.change(-known.saved)
    rows += '<tr class="tot"><td>Total</td>' + "".join(f"<td>{escape(t)}</td>" for t in totals) + "</tr>"
    rounded = ", rounded" if known.decimals == 0 else ""
    head = escape(f"{words.symbol(result.currency)}, {known.period.label}{rounded}")
    columns = f"<tr><th>{head}</th><th>Before</th><th>After</th><th>Difference</th></tr>"
    return (
        f'<section class="billrow{" tight" if tight else ""}"><h2>The bill, before and after</h2>'
        f"<table><thead>{columns}</thead><tbody>{rows}</tbody></table></section>"
    )


def _second_sheet(known: Facts) -> str:
    hours = figures_power.hours_above(known)
    captions = (
        findings.staircase_caption(known, figures_power.hidden_dots(known)),
        findings.duration_caption(known, *hours),
        findings.soc_caption(known, len(figures_soc.chosen_departures(known))),
        findings.shares_caption(known),
    )
    tall, half = layout.second_sheet(captions)
    peak = f"The peak is made in a few {known.interval}s" if hours[0] else "The peak, day by day"
    highest, name = figures_power.duration(known, half)
    return (
        _figure(2, peak, figures_power.staircase(known, tall), captions[0], "first gives")
        + f'<div class="two">{_figure(3, name, highest, captions[1])}'
        + _figure(4, "Charge through the day", figures_soc.charge(known, half), captions[2])
        + "</div>"
        + _figure(5, "What the bill is made of", figures_bill.shares(known), captions[3])
    )


def _third_sheet(known: Facts, notes: str) -> str:
    captions = (
        findings.load_caption(known, figures_load.load_curves(known)),
        findings.wear_caption(known, figures_wear.known_wear(known)),
        findings.cycles_caption(figures_wear.known_cycles(known)),
    )
    tall, half, style = layout.third_sheet(captions, notes)
    return (
        _figure(6, "How long each power is drawn", figures_load.load_duration(known, tall), captions[0], "first gives")
        + f'<div class="two">{_figure(7, "What giving costs in wear", figures_wear.wear_costs(known, half), captions[1])}'
        + _figure(8, "How deep batteries are cycled", figures_wear.cycle_depths(known, half), captions[2])
        + "</div>"
        + f'<section class="notes {style.css}"><h3>How this was reckoned</h3><p>{escape(notes)}</p></section>'
    )


def _figure(n: int, name: str, drawing: str, caption: str, css: str = "") -> str:
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{css}"><h3><b>{n}</b> {escape(name)}</h3>{drawing}{said}</figure>'
