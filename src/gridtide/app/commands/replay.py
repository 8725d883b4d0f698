"""`gridtide replay`: a stored period decided again by this program, compared bit for bit."""

from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.exits import FAILED
from gridtide.app.commands.log_reading import STORE, From, StoreFile, To, period, reading, told_instant
from gridtide.app.commands.site_options import AsJson

if TYPE_CHECKING:
    from collections.abc import Callable

    from gridtide.control.site import Settings
    from gridtide.run.replay import Difference, Report


def replay(
    from_: From,
    to: To,
    store: StoreFile = STORE,
    site: Annotated[
        Path | None, typer.Option(help="Decide with the settings of this site file instead of the stored ones.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide a stored period again and compare every setpoint, bit for bit. Exit code 1 on a difference."""
    with reading(store) as reader:
        from gridtide.run.replay import replay as run_again

        begin_s, end_s, zone = period(from_, to)
        report = run_again(reader, begin_s, end_s, settings=None if site is None else _settings_of(site))
        if report.cycles == 0:
            raise ValueError(f"no cycle is stored between {from_} and {to}")
    if as_json:
        from msgspec import json, structs

        typer.echo(json.format(json.encode({"same": report.same, **structs.asdict(report)}), indent=1).decode())
    else:
        for line in _lines(report, zone):
            typer.echo(line)
    if not report.same:
        raise typer.Exit(FAILED)


def _settings_of(site: Path) -> "Callable[[Settings], Settings]":
    """The site file's settings; overrides of people and the cycle's length stay as they were."""
    from msgspec import structs

    from gridtide.app.config import load_site

    config = load_site(site)

    def settings(stored: "Settings") -> "Settings":
        return structs.replace(config.settings(stored.cycle_s), overrides=stored.overrides)

    return settings


def _lines(report: "Report", zone: tzinfo | None) -> list[str]:
    lines = [
        f"{report.cycles} cycles in {report.blocks} blocks, {report.equal} decided as stored, "
        f"{report.cycles - report.equal} otherwise."
    ]
    if report.restarts:
        lines.append(f"The program was started {report.restarts} times in between; each start is replayed by itself.")
    if report.missing_blocks:
        lines.append(f"{report.missing_blocks} blocks in between were not stored.")
    if report.broken_checkpoints:
        lines.append(f"{report.broken_checkpoints} blocks do not begin as the replay of the block before ended.")
    for other in report.other_code:
        lines.append(
            f"Stored by gridtide {other.version} (code {other.code_sha256[:12]}, NumPy {other.numpy}): not this program, "
            "so a difference may be meant."
        )
    lines.append(f"Settings in force: {', '.join(digest[:12] for digest in report.settings_sha256)}.")
    if report.first_difference is not None:
        lines += _difference(report.first_difference, zone)
    return lines


def _difference(first: "Difference", zone: tzinfo | None) -> list[str]:
    where = f"First difference: cycle {first.cycle} at {told_instant(first.at_s, zone)}"
    if not first.evse:
        return [f"{where}: events {list(first.stored_events)} stored, {list(first.replayed_events)} now."]
    return [
        f"{where}, {first.evse}: {first.stored_kw!r} kW ({first.stored_reason}) stored, "
        f"{first.replayed_kw!r} kW ({first.replayed_reason}) now.",
        "Inputs: " + ", ".join(f"{name}={value}" for name, value in first.inputs.items()),
    ]
