"""`gridtide compare`: strategies side by side on one site, from no control to the lowest bill with hindsight."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.exits import fail

if TYPE_CHECKING:
    from rich.console import Console

    from gridtide.app.config import SiteConfig
    from gridtide.app.toml_lines import KeyPath
    from gridtide.model.comparison import Comparison

_WIDE = 100
_ALL = "none,threshold,budget,plan,clairvoyant"


def compare(
    site: Annotated[Path, typer.Argument(help="The site file (TOML), as examples/office.toml.")],
    strategies: Annotated[str, typer.Option(help="Which, with commas between.")] = _ALL,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
    series: Annotated[bool, typer.Option("--series", help="With --json: every billed interval, too.")] = False,
    load: Annotated[Path | None, typer.Option(help="Building load, CSV: time,power_kw.")] = None,
    sessions: Annotated[Path | None, typer.Option(help="Sessions, CSV: arrival,departure,energy_kwh.")] = None,
    tariff: Annotated[Path | None, typer.Option(help="Tariff, TOML or JSON.")] = None,
    start: Annotated[str | None, typer.Option(help="First day, as 2019-05-01.")] = None,
    days: Annotated[int | None, typer.Option(help="Number of days.")] = None,
    step: Annotated[int | None, typer.Option(help="Seconds between decisions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of battery sizes and charge at arrival.")] = None,
    limit: Annotated[float | None, typer.Option(help="Peak limit of threshold and budget, kW.")] = None,
    history: Annotated[int | None, typer.Option(help="Days before the study that the forecast may know.")] = None,
    processes: Annotated[int | None, typer.Option(help="Strategies played at a time; all cores unless told.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write tables to this folder, or to out-*.csv, out-*.parquet.")
    ] = None,
) -> None:
    """Play strategies side by side: what each would have cost, and how near it comes to perfect foresight."""
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site

    files = {("load", "file"): load, ("sessions", "file"): sessions, ("tariff", "file"): tariff}
    chosen: dict[KeyPath, object] = {
        ("study", "start"): start, ("study", "days"): days, ("study", "step_s"): step, ("study", "seed"): seed,
        ("peak", "limit_kw"): limit, ("planner", "history_days"): history,
        **{key: str(path.absolute()) if path else None for key, path in files.items()},
    }  # fmt: skip
    with told():
        names, target = _strategies(strategies), None
        if processes is not None and processes < 1:
            raise ValueError(f"--processes is {processes}: give at least 1")
        if export is not None:
            from gridtide.app.export import target_of

            target = target_of(export)
        config = load_site(site, {key: value for key, value in chosen.items() if value is not None})
        try:
            found = _run(config, names, processes, quiet=as_json and not sys.stderr.isatty())
        except (ArithmeticError, MemoryError) as error:
            fail(f"{site}: the comparison could not be finished: {error}")
        written: list[Path] = []
        if target is not None:
            from gridtide.app.export import comparison_tables
            from gridtide.app.export import export as write

            written = list(write(comparison_tables(found), target))
        _show(found, as_json, series, written)


def _strategies(text: str) -> list[str]:
    from gridtide.model.comparison import STRATEGIES

    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown or not names:
        said = f"--strategies: {unknown[0][:40]!r} is none" if unknown else "--strategies is empty"
        raise ValueError(f"{said}: give some of {', '.join(STRATEGIES)}")
    return names


def _run(config: "SiteConfig", names: list[str], processes: int | None, quiet: bool) -> "Comparison":
    """The comparison, with a progress bar on stderr that goes away when it is done."""
    import os

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gridtide.app.scenario import study_inputs
    from gridtide.run.compare import compare

    inputs = study_inputs(config)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task(f"{config.site.name}, {config.study.days} days", total=1.0)
        return compare(inputs, names, lambda share: bar.update(task, completed=share), processes or os.cpu_count() or 1)


def _show(found: "Comparison", as_json: bool, series: bool, written: list[Path]) -> None:
    if as_json:
        from msgspec import json, structs

        kept = found if series else structs.replace(found, interval_start_s=[], interval_kw={})
        typer.echo(json.format(json.encode(kept), indent=1).decode())
        return
    from rich.console import Console

    with suppress(BrokenPipeError):
        print_comparison(found, Console())
    if written:
        typer.echo("\n" + "\n".join(f"Written: {path}" for path in written))


def print_comparison(found: "Comparison", console: "Console") -> None:
    """Write the table of strategies to a console; nothing depends on colour."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from gridtide.app.report import words

    wide = console.width >= _WIDE
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"  {words.plain(words.symbol(found.currency))}", no_wrap=True)
    parts = ("energy", "demand", "wear") if wide else ()
    for name in ("peak kW", *parts, "bill", "saved", "share", "given kWh", "starts", "short"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.strategies:
        share = "" if row.share_of_possible is None else f"{row.share_of_possible:.1%}"
        starts = "" if row.strategy == "clairvoyant" else f"{row.starts:,}"
        money = (row.energy, row.demand, row.wear) if wide else ()
        table.add_row(
            f"  {row.strategy}", f"{row.peak_kw:.1f}", *(f"{part:,.0f}" for part in money), f"{row.bill:,.0f}",
            f"{row.saved:,.0f}", share, f"{row.discharged_kwh:,.0f}", starts, f"{row.drivers_short}",
        )  # fmt: skip
    console.print()
    console.print(Text(_sentence(found), style="bold"), highlight=False)
    console.print(table)
    said = (
        f"  {found.sessions} sessions at {found.vehicles} bays; the building alone reaches {found.peak_kw_building:.1f} kW. ",
        f"threshold and budget hold the site's {found.limit_kw:g} kW; plan knew {found.history_days:.0f} days of load and ",
        f"{found.history_sessions} sessions before. share: of what perfect foresight would save; short: drivers who left ",
        "with less than they needed.",
    )
    console.print(Text("".join(said)))


def _sentence(found: "Comparison") -> str:
    """The finding."""
    from gridtide.app.report import words

    best = max(
        (row for row in found.strategies if row.strategy not in ("none", "clairvoyant")), key=lambda row: row.saved,
        default=None,
    )  # fmt: skip
    if best is None:
        return f"{found.site}: what charging at once costs, and the least it could"
    money = words.plain(words.money(best.saved, found.currency))
    share = "" if best.share_of_possible is None else f", {best.share_of_possible:.0%} of what perfect foresight would"
    return f"{found.site}: {best.strategy} saves {money}{share}"
