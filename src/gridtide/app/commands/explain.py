"""`gridtide explain EVSE`: why one vehicle does what it does."""

from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url, kw, plain

if TYPE_CHECKING:
    from gridtide.model.view import VehicleView


def explain(
    evse: Annotated[str, typer.Argument(help="The EVSE, as `gridtide status` names it.")],
    as_json: AsJson = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Why one EVSE charges, gives, waits or rests."""
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
