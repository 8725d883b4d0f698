"""`gridtide simulate --seeds`: the same study with many seeds, over processes or a dask cluster, and how far its figures spread."""

import os
import sys
import time
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from msgspec import Struct

from gridtide.app.commands.exits import fail
from gridtide.model.many import ManyResult, SeedFigures, spreads
from gridtide.run.many import Job, Pool, SeedFailedError, dask_cluster, processes, run_seed, run_seeds

if TYPE_CHECKING:
    from gridtide.app.config import SiteConfig
    from gridtide.app.export import Target
    from gridtide.app.toml_lines import KeyPath

MOST_SEEDS = 100_000
_ROWS_SHOWN = 30


class Many(Struct, frozen=True):
    """How many seeds, and where they run: `workers` processes (0: as many as this program may use), or a dask scheduler."""

    seeds: int
    workers: int
    dask: str | None


def asked(seeds: int | None, seed: int | None, html: Path | None, workers: int | None, dask: str | None) -> Many | None:
    """What the options of many seeds ask for, if they do. Raises `ValueError` where they do not go together."""
    if seeds is None:
        if workers is not None or dask is not None:
            raise ValueError("--processes and --dask are for many seeds: give --seeds, too")
        return None
    if not 1 <= seeds <= MOST_SEEDS:
        raise ValueError(f"--seeds is {seeds}: give 1 to {MOST_SEEDS}")
    if seed is not None or html is not None:
        raise ValueError(f"--seeds plays seeds 1 to {seeds} and has no page: leave out --seed and --html")
    if workers is not None and (dask is not None or workers < 1):
        raise ValueError("--processes: give 1 or more, and not together with --dask")
    return Many(seeds, workers or 0, dask)


def simulate_many(
    site: Path, chosen: "dict[KeyPath, object]", many: Many, as_json: bool, target: "Target | None"
) -> None:
    """Play the seeds, and tell and export what they found."""
    from gridtide.app.config import load_site
    from gridtide.app.scenario import study_inputs

    began_s = time.perf_counter()
    config = load_site(site, chosen)
    inputs = study_inputs(config)  # told here, once, what is wrong with files
    try:
        found = _play(site, chosen, config, many, quiet=as_json and not sys.stderr.isatty())
    except SeedFailedError as error:
        fail(f"{site}: the study could not be finished: {error}")
    peak = inputs.settings.peak
    result = ManyResult(
        site=inputs.site, timezone=inputs.timezone, currency=inputs.tariff.currency, start_s=inputs.start_s,
        end_s=inputs.end_s, mode=peak.mode, limit_kw=peak.limit_kw, spreads=spreads(found), seeds=found,
        elapsed_s=time.perf_counter() - began_s,
    )  # fmt: skip
    _show(result, as_json, target)


def _play(
    site: Path, chosen: "dict[KeyPath, object]", config: "SiteConfig", many: Many, *, quiet: bool
) -> list[SeedFigures]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with _pool(many) as pool, Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(f"{config.site.name}, {config.study.days} days, seeds", total=many.seeds)
        # A cluster's hosts need not have the site's files: they are sent what the study is about.
        job_of = partial(_sent if many.dask is not None else _read_there, site.absolute(), chosen)
        return run_seeds(job_of, range(1, many.seeds + 1), pool, lambda done: bar.update(task, completed=done))


def _pool(many: Many) -> AbstractContextManager[Pool]:
    if many.dask is not None:
        return dask_cluster(many.dask)
    return processes(min(many.workers or len(os.sched_getaffinity(0)), many.seeds))


def _sent(site: Path, chosen: "dict[KeyPath, object]", seed: int) -> Job:
    from gridtide.app.config import load_site
    from gridtide.app.scenario import study_inputs

    return partial(run_seed, seed, study_inputs(load_site(site, {**chosen, ("study", "seed"): seed})))


def _read_there(site: Path, chosen: "dict[KeyPath, object]", seed: int) -> Job:
    return partial(_seed_of_files, site, chosen, seed)


def _seed_of_files(site: Path, chosen: "dict[KeyPath, object]", seed: int) -> SeedFigures:
    """One seed's study from the site's files."""
    job = _sent(site, chosen, seed)
    return job()


def _show(result: ManyResult, as_json: bool, target: "Target | None") -> None:
    written: tuple[Path, ...] = ()
    if target is not None:
        from gridtide.app.export import export, many_tables

        written = export(many_tables(result), target)
    if as_json:
        from msgspec import json

        typer.echo(json.format(json.encode(result), indent=1).decode())
        return
    from rich.console import Console

    from gridtide.app.report.terminal_many import print_many

    with suppress(BrokenPipeError):
        print_many(result, Console(), _ROWS_SHOWN)
    for path in written:
        typer.echo(f"Written: {path}")
