"""`gridtide telemetry`: powers of a running site, once or as they come."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url, clock, plain

if TYPE_CHECKING:
    from gridtide.model.view import SiteView


def telemetry(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: AsJson = False,
    count: Annotated[int | None, typer.Option(help="End after so many readings.", min=1)] = None,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """One line a reading: site, building, fleet and the interval's projection in kW; with --json also every vehicle."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told

    with told():
        client = SiteClient(url, token_file)
        views: Iterator[SiteView] = client.follow() if follow else iter((client.view(),))
        try:
            for view in islice(views, count):
                typer.echo(_json(view) if as_json else _line(view))
        except (KeyboardInterrupt, BrokenPipeError):
            raise typer.Exit(0) from None


def _line(view: "SiteView") -> str:
    power = view.power
    fleet_kw = None if power.site_kw is None or power.building_kw is None else power.site_kw - power.building_kw
    numbers = (
        ("site", power.site_kw), ("building", power.building_kw), ("fleet", fleet_kw),
        ("interval", view.demand.projected_kw), ("limit", view.limit_kw),
    )  # fmt: skip
    words = (f"{name} {'–' if value_kw is None else format(value_kw, '.1f'):>7}" for name, value_kw in numbers)
    return plain(f"{clock(view.now_s, view.timezone)}  {'  '.join(words)}  kW  {view.state}")


def _json(view: "SiteView") -> str:
    from msgspec import json

    row: dict[str, Any] = {
        "t_s": view.now_s,
        "state": view.state,
        "site_kw": view.power.site_kw,
        "building_kw": view.power.building_kw,
        "projected_kw": view.demand.projected_kw,
        "limit_kw": view.limit_kw,
        "vehicles": [
            {"evse_id": one.evse_id, "power_kw": one.power_kw, "setpoint_kw": one.setpoint_kw, "soc": one.soc}
            for one in view.vehicles
        ],
    }
    return json.encode(row).decode()
