"""`gridtide verify --pairs`: every two faults that can happen together, on sites whose vehicles give."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from gridtide.app.commands.exits import FAILED, fail

if TYPE_CHECKING:
    from gridtide.run.verify.campaign import Outcome
    from gridtide.run.verify.pairs import Run, Site

SEEDS = 5
"""What `gridtide verify` takes by itself."""
LEAST_OF = 10
"""So many failing runs are looked at for the least that fails."""


def verify_pairs(seeds: int, first: int, evses: int, processes: int, every: int, *, as_json: bool) -> None:
    """Run the pairs and tell what was found. Exit code 1 on a violation."""
    from gridtide.run.verify import pairs

    if evses < 2:
        fail("--pairs: two faults need two stations, give --evses 2 or more")
    can, cannot = pairs.all_pairs()
    try:
        sites = pairs.giving_sites(first, seeds, evses)
    except ValueError as error:
        fail(f"--pairs: {error}; give --evses or --first")
    todo = pairs.runs(can[::every], sites, evses)
    ended = _play(todo, evses, processes or os.cpu_count() or 1, quiet=as_json)
    found = summary(ended, sites, evses)
    found |= {"pairs_that_can_be": len(can), "pairs_that_cannot": [f"{one.id}+{other.id}" for one, other in cannot]}
    if as_json:
        from msgspec import json

        typer.echo(json.encode(found).decode())
    else:
        _tell(found)
    if found["violations"]:
        raise typer.Exit(FAILED)


def _play(todo: Sequence["Run"], evses: int, processes: int, *, quiet: bool) -> list[tuple["Run", "Outcome"]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gridtide.run.verify.pairs import play

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    ended = []
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        disable=quiet and not sys.stderr.isatty(),
    ) as bar:  # fmt: skip
        task = bar.add_task("pairs of faults", total=len(todo))
        for run, outcome in play(todo, evses, processes):
            ended.append((run, outcome))
            bar.advance(task)
    return ended


def summary(ended: Sequence[tuple["Run", "Outcome"]], sites: Sequence["Site"], evses: int) -> dict[str, Any]:
    """What the runs showed, as figures; the first failing ones with the least that fails."""
    from gridtide.run.verify.campaign import smallest

    site_s = sum(outcome.duration_s for _, outcome in ended)
    cpu_s = sum(outcome.cpu_s for _, outcome in ended)
    failing = [(run, outcome) for run, outcome in ended if outcome.violations]
    violations = Counter(item.invariant for _, outcome in failing for item in outcome.violations)
    told = []
    for number, (run, outcome) in enumerate(failing):
        least = smallest(outcome, evses) if number < LEAST_OF else outcome
        told.append({
            "pair": "+".join(run.pair), "seed": run.seed, "violations": least.violations,
            "command": least.command,
            "alone": len(least.faults) < len(run.planned),
        })  # fmt: skip
    return {
        "pairs": len({run.pair for run, _ in ended}),
        "seeds": [site.seed for site in sites],
        "runs": len(ended),
        "evses": evses,
        "site_hours": round(site_s / 3600.0, 2),
        "runs_with_discharge": sum(outcome.gave_kwh > 0.0 for _, outcome in ended),
        "violations": sum(violations.values()),
        "violations_by_invariant": dict(sorted(violations.items())),
        "failing_pairs": sorted({"+".join(run.pair) for run, _ in failing}),
        "failing": told,
        "cpu_s": round(cpu_s, 1),
        "site_s_per_cpu_s": round(site_s / cpu_s, 1) if cpu_s else 0.0,
    }


def _tell(found: dict[str, Any]) -> None:
    typer.echo(
        f"{found['pairs']} of {found['pairs_that_can_be']} pairs of faults that can meet "
        f"({len(found['pairs_that_cannot'])} cannot), {len(found['seeds'])} sites each, "
        f"{found['site_hours']:g} h simulated, {found['runs_with_discharge']} of {found['runs']} runs with discharge: "
        f"{found['violations']} violations. {found['cpu_s']:g} s of CPU, "
        f"{found['site_s_per_cpu_s']:g} site seconds a CPU second."
    )
    for item in found["failing"]:
        first = item["violations"][0]
        typer.echo(f"  {item['pair']}, seed {item['seed']}, at {first.at_s:g} s: {first.invariant}: {first.what}")
        typer.echo(f"    {'one of them alone' if item['alone'] else 'again'}: {item['command']}")
