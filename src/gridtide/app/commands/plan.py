"""`gridtide plan`: what the planner would make of one day, and what that day cannot give. Ends with 3 where something is missed."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.exits import fail
from gridtide.app.commands.site_options import DEGRADED, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gridtide.app.config import SiteConfig
    from gridtide.app.toml_lines import KeyPath
    from gridtide.model.plan_view import PlanStep, PlanView


def plan(
    site: Annotated[Path, typer.Argument(help="The site file (TOML), as examples/office.toml.")],
    day: Annotated[str | None, typer.Option(help="Local day, as 2019-05-08.", show_default="study.start")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole plan as JSON.")] = False,
    load: Annotated[Path | None, typer.Option(help="Building load, CSV: time,power_kw.")] = None,
    sessions: Annotated[Path | None, typer.Option(help="Sessions, CSV: arrival,departure,energy_kwh.")] = None,
    tariff: Annotated[Path | None, typer.Option(help="Tariff, TOML or JSON.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of battery sizes and charge at arrival.")] = None,
    transformer: Annotated[float | None, typer.Option(help="What the site's connection carries, kW.")] = None,
    history: Annotated[int | None, typer.Option(help="Days before that the forecast may know.")] = None,
) -> None:
    """Plan one day at its midnight: the load as forecast, the day's sessions as known. Nothing is steered.

    Ends with 3 where the day cannot give everything that is asked: the list says what is missed, by how much and why.
    """
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site

    files = {("load", "file"): load, ("sessions", "file"): sessions, ("tariff", "file"): tariff}
    chosen: dict[KeyPath, object] = {
        ("study", "start"): day, ("study", "days"): 1, ("study", "seed"): seed, ("grid", "transformer_kw"): transformer,
        ("planner", "history_days"): history,
        **{key: str(path.absolute()) if path else None for key, path in files.items()},
    }  # fmt: skip
    with told():
        config = load_site(site, _told(chosen, transformer, site))
        found, notes = _make(config)
        if as_json:
            from msgspec import json

            typer.echo(json.format(json.encode(found), indent=1).decode())
        else:
            from rich.console import Console

            with suppress(BrokenPipeError):
                print_plan(found, config.site.timezone, notes, Console(highlight=False, markup=False))
    if found.missed:
        raise typer.Exit(DEGRADED)


def _told(chosen: "dict[KeyPath, object]", transformer: float | None, site: Path) -> "dict[KeyPath, object]":
    """The overrides that were given. A plan knows no peak limit: one above `--transformer` is no obstacle."""
    from gridtide.app.config import load_site

    given = {key: value for key, value in chosen.items() if value is not None}
    if transformer is not None:
        own = load_site(site, {key: value for key, value in given.items() if key != ("grid", "transformer_kw")}).peak
        if 0.0 < transformer < own.limit_kw:
            given["peak", "limit_kw"] = transformer
            given["peak", "buffer_kw"] = min(own.buffer_kw, 0.5 * transformer)
    return given


def _make(config: "SiteConfig") -> "tuple[PlanView, list[str]]":
    """The plan of the study's first day, and what there is to say of it in sentences."""
    import time
    from zoneinfo import ZoneInfo

    from gridtide.app.commands.site_options import clock
    from gridtide.app.data import load_sessions, sessions_between
    from gridtide.app.scenario import study_inputs
    from gridtide.run.day_plan import day_plan

    inputs, zone = study_inputs(config), config.site.timezone
    records = sessions_between(
        load_sessions(config.path(config.sessions.file), ZoneInfo(zone)), inputs.start_s, inputs.end_s
    )
    asked = {record.session_id: record.delivered_kwh for record in records}
    try:
        found = day_plan(inputs, asked, lambda at_s: clock(at_s, zone, seconds=False)[4:], time.process_time)
    except ArithmeticError as error:
        fail(f"{config.source}: the day could not be planned: {error}")
    placed = len(inputs.world.arrivals)
    history = inputs.past.load_kw.size * 900.0 / 86_400.0
    notes = [
        f"{placed} sessions as recorded, the load as forecast from {history:.0f} days before; peaks are planned for its level "
        f"of {config.planner.load_level:.0%} (up to)."
    ]
    if len(records) > placed:
        notes.append(f"{len(records) - placed} sessions found every bay taken and are not in the plan.")
    return found, notes


def print_plan(found: "PlanView", timezone: str, notes: Sequence[str], console: "Console") -> None:
    """Write a day's plan to a console; nothing depends on colour."""
    from rich.padding import Padding
    from rich.text import Text

    from gridtide.app.report import words

    console.print()
    console.print(Text(sentence(found, timezone), style="bold"))
    console.print(_table(found, timezone))
    for item in found.missed:
        console.print(Padding(Text(f"- {plain(item.words)}."), (0, 0, 0, 2)))
    if found.missed:
        console.print()
    worth = words.plain(words.money(found.value_per_kw, found.currency, 2))
    told = [*notes, f"One kW more of peak would save {worth}."] if found.value_per_kw >= 0.005 else notes
    console.print(Padding(Text(" ".join(told)), (0, 0, 0, 2)))


def sentence(found: "PlanView", timezone: str) -> str:
    """The finding: the day, the peak it holds, and who would leave short."""
    from datetime import datetime

    from gridtide.app.report.words import zone_of

    at = datetime.fromtimestamp(found.made_s, zone_of(timezone))
    held = [step.target_kw for step in found.steps if step.target_kw is not None]
    begin = f"{at:%a} {at.day} {at:%b}: " + (f"holds {max(held):.0f} kW" if held else "no peak is billed")
    short = sum(item.what == "energy" for item in found.missed)
    parts = []
    if short:
        parts.append(f"{short} driver{'s' * (short != 1)} would leave short")
    if others := len(found.missed) - short:
        parts.append(f"{others} limit{'s' * (others != 1)} not held")
    return f"{begin}; {', '.join(parts) or 'every driver gets what is asked'}"


def _table(found: "PlanView", timezone: str) -> "Table":
    """The day by local hours: what is expected, what the vehicles do, what energy costs, which peak is held."""
    from itertools import groupby

    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from gridtide.app.commands.site_options import clock
    from gridtide.app.report import words

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("  from", no_wrap=True)
    price = f"{words.plain(words.symbol(found.currency))}/kWh"
    for name in ("load kW", "up to", "vehicles kW", price, "target kW"):
        table.add_column(name, justify="right", no_wrap=True)
    # An hour that the clock lives twice is two rows.
    for _, steps in groupby(found.steps, key=lambda step: step.start_s // 3600.0):
        row = tuple(steps)
        load, vehicles, cost = (_mean(row, name) for name in ("load_kw", "vehicles_kw", "price_per_kwh"))
        held = [step.target_kw for step in row if step.target_kw is not None]
        table.add_row(
            f"  {clock(row[0].start_s, timezone, seconds=False)[4:]}", f"{load:.0f}",
            f"{max(step.load_high_kw for step in row):.0f}", _signed(vehicles), f"{cost:.3f}",
            f"{max(held):.0f}" if held else "",
        )  # fmt: skip
    return table


def _mean(steps: "Sequence[PlanStep]", name: str) -> float:
    hours = sum(step.end_s - step.start_s for step in steps)
    total = sum(float(getattr(step, name)) * (step.end_s - step.start_s) for step in steps)
    return total / hours


def _signed(value_kw: float) -> str:
    """+ charges, - gives; nothing where it is nothing."""
    return "" if abs(value_kw) < 0.05 else f"{value_kw:+.1f}"
