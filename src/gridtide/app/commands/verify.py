"""`gridtide verify`: the full software on virtual time under random faults, every invariant checked at every tick."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridtide.app.commands.exits import FAILED, fail
from gridtide.app.commands.verify_pairs import SEEDS as PAIR_SEEDS
from gridtide.app.commands.verify_pairs import verify_pairs

if TYPE_CHECKING:
    from gridtide.run.verify.campaign import Outcome

SEEDS = 20
SHOWN = 20
MEASURED_S = 2700.0
"""Shorter runs hold no whole demand interval: the first and the last are not whole."""


def verify(
    seeds: Annotated[int | None, typer.Option(help="How many random sites: 20; with --pairs 5.", min=1)] = None,
    hours: Annotated[float, typer.Option(help="Simulated hours of each.", min=0.1)] = 1.0 / 3.0,
    first: Annotated[int, typer.Option(help="The first seed.")] = 1,
    evses: Annotated[int, typer.Option(help="Stations of each site.", min=1, max=200)] = 10,
    processes: Annotated[int, typer.Option(help="Processes; 0: one a core.", min=0)] = 0,
    seed: Annotated[int | None, typer.Option(help="One seed only, as a failing run names it.")] = None,
    duration: Annotated[float | None, typer.Option(help="With --seed: seconds.", min=100.0)] = None,
    faults: Annotated[
        str | None, typer.Option(help="With --seed: these faults, as FT01a@120+30,FT08a@130+20:2.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep failing runs as files in this folder.")] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Every two faults together, on short runs.")] = False,
    every: Annotated[int, typer.Option(help="With --pairs: a sample, every n-th pair only.", min=1)] = 1,
    catalogue: Annotated[bool, typer.Option("--catalogue", help="List the faults and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Show that the invariants hold under faults, or how they fail. Exit code 1 on a violation."""
    if catalogue:
        _catalogue(as_json)
        return
    if pairs:
        verify_pairs(seeds or PAIR_SEEDS, first, evses, processes, every, as_json=as_json)
        return
    outcomes = _one(seed, duration or hours * 3600.0, evses, faults) if seed is not None else _many(
        range(first, first + (seeds or SEEDS)), hours * 3600.0, evses, processes or os.cpu_count() or 1, quiet=as_json,
    )  # fmt: skip
    failing = [outcome for outcome in outcomes if outcome.violations]
    least = [_smallest(outcome, evses, quiet=as_json) for outcome in failing[:3]]
    if save is not None and failing:
        _keep(save, least)
    found = _summary(outcomes, evses)
    if as_json:
        from msgspec import json

        found["failing"] = [{"command": item.command, "violations": item.violations} for item in least]
        typer.echo(json.encode(found).decode())
    else:
        _tell(found, failing, least)
    if failing:
        raise typer.Exit(FAILED)


def _one(seed: int, duration_s: float, evses: int, faults: str | None) -> list["Outcome"]:
    from gridtide.run.verify import campaign
    from gridtide.run.verify.faults import read

    if faults is None:
        return list(campaign.run_seed(seed, duration_s, evses))
    try:
        planned = read(faults)
    except ValueError as error:
        fail(f"--faults: {error}")
    if any(item.row >= evses for item in planned):
        fail(f"--faults: there are {evses} rows, 0 to {evses - 1}; give --evses")
    return [campaign.run_case(seed, duration_s, evses, planned)]


def _many(seeds: range, duration_s: float, evses: int, processes: int, *, quiet: bool) -> list["Outcome"]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gridtide.run.verify.campaign import campaign

    outcomes: list[Outcome] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        disable=quiet and not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        task = bar.add_task(f"{len(seeds)} sites, {duration_s / 3600.0:.2g} h each", total=len(seeds))
        for pair in campaign(seeds, duration_s, evses, processes):
            outcomes += pair
            bar.advance(task)
    return outcomes


def _smallest(outcome: "Outcome", evses: int, *, quiet: bool) -> "Outcome":
    from gridtide.run.verify.campaign import smallest

    if not quiet:
        typer.echo(f"Looking for the least that fails of seed {outcome.seed} …", err=True)
    return smallest(outcome, evses)


def _keep(folder: Path, outcomes: Iterable["Outcome"]) -> None:
    from msgspec import json

    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        invariant = outcome.violations[0].invariant if outcome.violations else "none"
        path = folder / f"{invariant}-{outcome.seed}.json"
        path.write_bytes(json.format(json.encode({"command": outcome.command, "outcome": outcome}), indent=1))


def _summary(outcomes: list["Outcome"], evses: int) -> dict[str, Any]:
    from collections import Counter

    site_s = sum(outcome.duration_s for outcome in outcomes)
    cpu_s = sum(outcome.cpu_s for outcome in outcomes)
    violations = Counter(item.invariant for outcome in outcomes for item in outcome.violations)
    faults = Counter(item.id for outcome in outcomes for item in outcome.faults)
    times: dict[str, list[float]] = {}
    for outcome in outcomes:
        for timing in outcome.timings:
            times.setdefault(timing.id, []).append(timing.to_safe_s)
    ratios = [outcome.peak_ratio for outcome in outcomes if outcome.duration_s >= MEASURED_S]
    return {
        "seeds": len({outcome.seed for outcome in outcomes}),
        "site_hours": round(site_s / 3600.0, 2),
        "quiet_hours": round(sum(o.duration_s for o in outcomes if not o.faults) / 3600.0, 2),
        "evses": evses,
        "faults": sum(faults.values()),
        "faults_by_id": dict(sorted(faults.items())),
        "violations": sum(violations.values()),
        "violations_by_invariant": dict(sorted(violations.items())),
        "to_safe_s": {
            name: {"count": len(seen), "p50": _share(seen, 0.5), "p99_9": _share(seen, 0.999)}
            for name, seen in sorted(times.items())
        },
        "peak_ratio": _spread(ratios) if ratios else None,
        "given_kwh": round(sum(outcome.gave_kwh for outcome in outcomes), 1),
        "site_s_per_cpu_s": round(site_s / cpu_s, 1) if cpu_s else 0.0,
    }


def _spread(values: list[float]) -> dict[str, float]:
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "worst": 1.0}
    return {"runs": len(values), **{name: _share(values, share) for name, share in shares.items()}}


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _tell(found: dict[str, Any], failing: list["Outcome"], least: list["Outcome"]) -> None:
    typer.echo(
        f"{found['seeds']} sites of {found['evses']} stations, {found['site_hours']:g} h simulated "
        f"({found['quiet_hours']:g} h of them without a fault), {found['faults']} faults, {found['given_kwh']:g} kWh given: "
        f"{found['violations']} violations. {found['site_s_per_cpu_s']:g} site seconds a CPU second."
    )
    for outcome in failing[:SHOWN]:
        item = outcome.violations[0]
        typer.echo(f"  seed {outcome.seed} at {item.at_s:g} s: {item.invariant}: {item.what}")
    for outcome in least:
        typer.echo(f"Again: {outcome.command}")


def _catalogue(as_json: bool) -> None:
    from gridtide.run.verify.faults import CATALOGUE

    rows = [
        {"id": item.id, "name": item.name, "safe": item.safe, "t_f_s": item.t_f_s if item.t_f_s < 1e9 else None,
         "by_row": item.by_row}
        for item in CATALOGUE
    ]  # fmt: skip
    if as_json:
        from msgspec import json

        typer.echo(json.encode(rows).decode())
        return
    for row in rows:
        within = "-" if row["t_f_s"] is None else f"{row['t_f_s']:g} s"
        typer.echo(f"{row['id']:6} {row['name']:32} {row['safe']} within {within}")
