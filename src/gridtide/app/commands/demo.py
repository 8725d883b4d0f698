"""`gridtide demo`: the whole product on one machine, over real loopback Modbus and OCPP sockets."""

import asyncio
import shutil
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from msgspec import structs

if TYPE_CHECKING:
    from gridtide.app.config import SiteConfig
    from gridtide.app.running import Face

START = "2019-05-29T10:26"
"""Local time at which the demo opens: a few minutes before the vehicles are needed."""
SPEED = 15.0


def demo(
    speed: Annotated[float, typer.Option(help="Demo seconds per real second.", min=0.1, max=200.0)] = SPEED,
    start: Annotated[str, typer.Option(help="Local date and time at which the demo opens.")] = START,
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)] = 8080,
    ocpp_port: Annotated[int, typer.Option(help="Port for the stations; 0 takes a free one.", min=0, max=65535)] = 9000,
    meter_port: Annotated[
        int, typer.Option(help="Port of the emulated meter; 0 takes a free one.", min=0, max=65535)
    ] = 5020,
    exit_after: Annotated[float | None, typer.Option(help="End after this many real seconds (for scripts).")] = None,
    site: Annotated[Path | None, typer.Option(help="Site file in place of the built-in one.")] = None,
    load: Annotated[str | None, typer.Option(help="Your building's load (CSV).")] = None,
    sessions: Annotated[str | None, typer.Option(help="Your charging sessions (CSV).")] = None,
    tariff: Annotated[str | None, typer.Option(help="Your tariff (TOML or JSON).")] = None,
    limit: Annotated[float | None, typer.Option(help="Peak limit, kW.")] = None,
    model: Annotated[str | None, typer.Option(help="Charger model for all bays: fast or measured_v2g.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder for token and store.")] = None,
) -> None:
    """Show a real building's peak being shaved by emulated vehicles, live in the browser. Nothing leaves this machine."""
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site
    from gridtide.app.home import default_home
    from gridtide.app.running import Face

    files = {"load": load, "sessions": sessions, "tariff": tariff}
    overrides: dict[tuple[str | int, ...], object] = {
        (key, "file"): str(Path(value).absolute()) if not value.startswith("builtin:") else value
        for key, value in files.items()
        if value is not None
    }
    if limit is not None:
        overrides["peak", "limit_kw"] = limit
    with told(), resources.as_file(resources.files("gridtide.data") / "demo.toml") as builtin:
        config = load_site(site or builtin, overrides)
        begin = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(config.site.timezone))
        folder = home or default_home()
        shutil.rmtree(folder / "demo", ignore_errors=True)
        (folder / "demo").mkdir(mode=0o700, parents=True)
        port, ocpp_port, meter_port = (_free(wanted) for wanted in (port, ocpp_port, meter_port))
        face = Face(host="127.0.0.1", port=port, home=folder, exit_after_s=exit_after)
        asyncio.run(_demo(config, begin.timestamp(), speed, face, ocpp_port, meter_port, model))


def _free(port: int) -> int:
    """The port itself if it can be had, a free one for 0; raises OSError before any time is spent."""
    from gridtide.app.web.server import listen

    with listen("127.0.0.1", port) as probe:
        return int(probe.getsockname()[1])


async def _demo(
    config: "SiteConfig", begin_s: float, speed: float, face: "Face", ocpp_port: int, meter_port: int, model: str | None
) -> None:
    """Build the past, open the sockets, put the emulated plant behind them, show the page."""
    from rich.console import Console

    from gridtide.app.running import no_battery, run_with_page, viewer_of
    from gridtide.app.scenario import study_inputs
    from gridtide.market.tariff import billing_period
    from gridtide.run.assembly import SITE_METER, provisions
    from gridtide.run.clock import ScaledClock
    from gridtide.run.credentials import Credentials
    from gridtide.run.live import Address, emulate_plant, open_site
    from gridtide.run.warmup import warm_up
    from gridtide.twin import evse

    console = Console()
    with console.status("Living the month up to now ..."):
        inputs = study_inputs(config)
        world = inputs.world
        if model is not None:
            world = structs.replace(
                world, models=evse.columns([evse.MODELS[model]] * world.table.size, world.table.efficiency)
            )
        if not inputs.start_s + 600.0 < begin_s < inputs.end_s - 600.0:
            raise ValueError(
                f"--start lies outside the data ({config.study.start} and {config.study.days} days): choose another"
            )
        no_battery(config)
        settings = config.settings(0.5)

        def period(at_s: float) -> tuple[float, float]:
            return billing_period(inputs.tariff, at_s)

        past = warm_up(world, settings, inputs.start_s, begin_s, period, inputs.storage)
    bays = config.bays()
    versions = tuple(station.ocpp for _, station in bays)
    credentials = Credentials()
    passwords = {name: credentials.issue(name) for name, _ in bays}
    clock = ScaledClock(speed, past.plant.at_s)
    stations = [
        structs.replace(item, dialect=station.dialect)
        for item, (_, station) in zip(provisions(world.table, versions), bays, strict=True)
    ]
    live = await open_site(
        settings, stations, credentials, clock, period=period, store_path=face.home / "demo" / "gridtide.db",
        ocpp=Address("127.0.0.1", ocpp_port), meter=Address("127.0.0.1", meter_port), registers=SITE_METER, past=past,
    )  # fmt: skip
    await emulate_plant(live, world, past, versions, passwords, clock, Address("127.0.0.1", meter_port))
    viewer = viewer_of(config, inputs.tariff, live)
    typer.echo(f"gridtide demo: {config.site.name}, {len(bays)} bays, {speed:g} times real time. Stop with Ctrl-C.")
    await run_with_page(live, viewer, face, typer.echo)
