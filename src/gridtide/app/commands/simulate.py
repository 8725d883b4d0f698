"""`gridtide simulate`: a billing period of a site in the fast tier, as a report in the terminal, JSON or a page."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.exits import fail

if TYPE_CHECKING:
    from gridtide.app.commands.simulate_many import Many
    from gridtide.app.config import SiteConfig
    from gridtide.app.export import Target
    from gridtide.app.toml_lines import KeyPath
    from gridtide.model.study import StudyResult


def simulate(
    site: Annotated[Path, typer.Argument(help="The site file (TOML), as examples/office.toml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page of three printable sheets to this file.")] = None,
    load: Annotated[Path | None, typer.Option(help="Building load, CSV: time,power_kw.")] = None,
    sessions: Annotated[Path | None, typer.Option(help="Sessions, CSV: arrival,departure,energy_kwh.")] = None,
    tariff: Annotated[Path | None, typer.Option(help="Tariff, TOML or JSON.")] = None,
    start: Annotated[str | None, typer.Option(help="First day, as 2019-05-01.")] = None,
    days: Annotated[int | None, typer.Option(help="Number of days.")] = None,
    step: Annotated[int | None, typer.Option(help="Seconds between decisions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of battery sizes and charge at arrival.")] = None,
    mode: Annotated[str | None, typer.Option(help="budget, threshold or off.")] = None,
    limit: Annotated[float | None, typer.Option(help="Peak limit, kW.")] = None,
    plan: Annotated[bool | None, typer.Option("--plan/--no-plan", help="Plan ahead ([planner] enabled).")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write tables to this folder, or to out-*.csv, out-*.parquet.")
    ] = None,
    export_format: Annotated[str | None, typer.Option(help="csv or parquet.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Play seeds 1 to this, and tell how far the figures spread.")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Processes for --seeds; all cores unless told.")] = None,
    dask: Annotated[str | None, typer.Option(help="Play --seeds on this dask scheduler, as tls://host:8786.")] = None,
) -> None:
    """Play a month of a site: what it would have cost with and without the fleet's control."""
    from gridtide.app.commands.told import told

    files = {("load", "file"): load, ("sessions", "file"): sessions, ("tariff", "file"): tariff}
    chosen: dict[KeyPath, object] = {
        ("study", "start"): start, ("study", "days"): days, ("study", "step_s"): step, ("study", "seed"): seed,
        ("peak", "mode"): mode, ("peak", "limit_kw"): limit, ("planner", "enabled"): plan,
        **{key: str(path.absolute()) if path else None for key, path in files.items()},
    }  # fmt: skip
    chosen = {key: value for key, value in chosen.items() if value is not None}
    with told():
        many, target = _many(seeds, seed, html, processes, dask), _target(export, export_format)
        if many is not None:
            from gridtide.app.commands.simulate_many import simulate_many

            simulate_many(site, chosen, many, as_json, target)
        else:
            _simulate(site, chosen, as_json, html, target)


def _many(
    seeds: int | None, seed: int | None, html: Path | None, processes: int | None, dask: str | None
) -> "Many | None":
    if seeds is None and processes is None and dask is None:
        return None
    from gridtide.app.commands.simulate_many import asked

    return asked(seeds, seed, html, processes, dask)


def _target(path: Path | None, chosen: str | None) -> "Target | None":
    if path is None:
        if chosen is not None:
            raise ValueError("--export-format is for an export: give --export, too")
        return None
    from gridtide.app.export import target_of

    return target_of(path, chosen)


def _simulate(
    site: Path, chosen: "dict[KeyPath, object]", as_json: bool, html: Path | None, target: "Target | None"
) -> None:
    from gridtide.app.config import load_site

    config = load_site(site, chosen)
    try:
        result = _run(config, quiet=as_json and not sys.stderr.isatty())
    except (ArithmeticError, MemoryError) as error:
        fail(f"{site}: the study could not be finished: {error}")
    _show(result, as_json, _written(result, html, target))


def _written(result: "StudyResult", html: Path | None, target: "Target | None") -> list[str]:
    """Write the page and the tables, each whole or not at all; what was written, in words."""
    from gridtide.app.export import export, study_tables, write_text
    from gridtide.app.report.html import render_html

    said = []
    if html is not None:
        write_text(html, render_html(result))
        said.append(f"Page: {html}")
    if target is not None:
        said += [f"Written: {path}" for path in export(study_tables(result), target)]
    return said


def _run(config: "SiteConfig", quiet: bool) -> "StudyResult":
    """The study, with a progress bar on stderr that goes away when it is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gridtide.app.scenario import study_inputs
    from gridtide.run.study import study

    inputs = study_inputs(config)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task(f"{config.site.name}, {config.study.days} days", total=1.0)
        return study(inputs, lambda share: bar.update(task, completed=share))


def _show(result: "StudyResult", as_json: bool, written: list[str]) -> None:
    if as_json:
        from msgspec import json

        typer.echo(json.format(json.encode(result), indent=1).decode())
        return
    from rich.console import Console

    from gridtide.app.report.terminal import print_report

    with suppress(BrokenPipeError):
        print_report(result, Console())
    if written:
        typer.echo("\n" + "\n".join(written))
