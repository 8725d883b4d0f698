"""`gridtide simulate`: a billing period of a site in the fast tier, as a report in the terminal, JSON or a page."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.exits import fail

if TYPE_CHECKING:
    from gridtide.app.config import SiteConfig
    from gridtide.app.toml_lines import KeyPath
    from gridtide.model.study import StudyResult


def simulate(
    site: Annotated[Path, typer.Argument(help="The site file (TOML), as examples/office.toml.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page of two printable sheets to this file.")] = None,
    load: Annotated[Path | None, typer.Option(help="Building load, CSV: time,power_kw.")] = None,
    sessions: Annotated[Path | None, typer.Option(help="Sessions, CSV: arrival,departure,energy_kwh.")] = None,
    tariff: Annotated[Path | None, typer.Option(help="Tariff, TOML or JSON.")] = None,
    start: Annotated[str | None, typer.Option(help="First day, as 2019-05-01.")] = None,
    days: Annotated[int | None, typer.Option(help="Number of days.")] = None,
    step: Annotated[int | None, typer.Option(help="Seconds between decisions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of battery sizes and charge at arrival.")] = None,
    mode: Annotated[str | None, typer.Option(help="budget, threshold or off.")] = None,
    limit: Annotated[float | None, typer.Option(help="Peak limit, kW.")] = None,
) -> None:
    """Play a month of a site: what it would have cost with and without the fleet's control."""
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site

    files = {("load", "file"): load, ("sessions", "file"): sessions, ("tariff", "file"): tariff}
    chosen: dict[KeyPath, object] = {
        ("study", "start"): start, ("study", "days"): days, ("study", "step_s"): step, ("study", "seed"): seed,
        ("peak", "mode"): mode, ("peak", "limit_kw"): limit,
        **{key: str(path.absolute()) if path else None for key, path in files.items()},
    }  # fmt: skip
    with told():
        config = load_site(site, {key: value for key, value in chosen.items() if value is not None})
        try:
            result = _run(config, quiet=as_json and not sys.stderr.isatty())
        except (ArithmeticError, MemoryError) as error:
            fail(f"{site}: the study could not be finished: {error}")
        _show(result, as_json, html)


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


def _show(result: "StudyResult", as_json: bool, html: Path | None) -> None:
    if html is not None:
        from gridtide.app.report.html import render_html

        html.write_text(render_html(result), encoding="utf-8")
    if as_json:
        from msgspec import json

        typer.echo(json.format(json.encode(result), indent=1).decode())
        return
    from rich.console import Console

    from gridtide.app.report.terminal import print_report

    with suppress(BrokenPipeError):
        print_report(result, Console())
    if html is not None:
        typer.echo(f"\nPage: {html}")
