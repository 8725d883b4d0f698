"""`gridtide explain EVSE`: why one vehicle does what it does, or did at a past moment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.log_reading import STORE, StoreFile, instant, reading, time_of_day, told_instant
from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url, kw, plain

if TYPE_CHECKING:
    from gridtide.model.view import VehicleView
    from gridtide.run.replay import Past


def explain(
    evse: Annotated[str, typer.Argument(help="The EVSE, as `gridtide status` names it.")],
    as_json: AsJson = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
    at: Annotated[
        str | None, typer.Option(help="A past moment, as 2026-03-02T10:00:00Z: told from the store's log of decisions.")
    ] = None,
    store: StoreFile = STORE,
) -> None:
    """Why one EVSE charges, gives, waits or rests; with --at why it did so then."""
    if at is not None:
        _explain_past(evse, at, store, as_json)
        return
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told

    with told():
        vehicle = SiteClient(url, token_file).explain(evse)
    if as_json:
        from msgspec import json

        typer.echo(json.format(json.encode(vehicle), indent=1).decode())
        return
    for line in _lines(vehicle):
        typer.echo(plain(line))


def _lines(vehicle: "VehicleView") -> list[str]:
    soc = "unknown" if vehicle.soc is None else f"{vehicle.soc * 100:.0f} %"
    target = "" if vehicle.target_soc is None else f", {vehicle.target_soc * 100:.0f} % needed at departure"
    lines = [
        f"{vehicle.evse_id} ({vehicle.bay}, {vehicle.name}): {vehicle.state}",
        vehicle.detail or vehicle.reason,
        f"Power {kw(vehicle.power_kw)}, setpoint {kw(vehicle.setpoint_kw)}; "
        f"may charge {kw(vehicle.max_charge_kw)} and give {kw(vehicle.max_discharge_kw)}.",
        f"Charge {soc}{target}; used between {vehicle.window_low_soc * 100:.0f} and {vehicle.window_high_soc * 100:.0f} %, "
        f"never below {vehicle.floor_soc * 100:.0f} %.",
    ]
    if vehicle.override is not None:
        lines.append(f"By hand: {vehicle.override}.")
    if vehicle.silent_s is not None:
        lines.append(f"Silent for {vehicle.silent_s:.0f} s.")
    return lines


def _explain_past(evse: str, at: str, store: Path, as_json: bool) -> None:
    from msgspec import json

    with reading(store) as reader:
        from gridtide.run.replay import past

        when = instant(at, "--at")
        try:
            found = past(reader, evse, when.timestamp(), lambda at_s: time_of_day(at_s, when.tzinfo))
        except KeyError:
            raise ValueError(f"EVSE is {evse!r}: there was none of that name") from None
        if found is None:
            raise ValueError(f"--at is {at}: no decision of that moment is stored")
        if as_json:
            typer.echo(json.format(json.encode(found), indent=1).decode())
            return
        for line in _past_lines(found, told_instant(found.at_s, when.tzinfo)):
            typer.echo(plain(line))


def _past_lines(found: "Past", when: str) -> list[str]:
    soc = "unknown" if found.soc is None else f"{found.soc * 100:.0f} %"
    return [
        f"{found.evse} at {when} (cycle {found.cycle}): {found.state}",
        found.words,
        f"Power {kw(found.power_kw)}, setpoint {kw(found.setpoint_kw)}, wished {kw(found.wish_kw)} ({found.reason}).",
        f"Charge {soc}. Site {kw(found.site_kw)}, building {kw(found.building_kw)}, limit {kw(found.limit_kw)}.",
        f"Inputs: {', '.join(found.inputs)}.",
    ]
