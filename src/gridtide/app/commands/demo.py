"""`gridtide demo`: the whole product on one machine, over real loopback Modbus and OCPP sockets."""

import logging
from contextlib import AsyncExitStack, ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer
from msgspec import Struct, structs

if TYPE_CHECKING:
    from gridtide.app.config import SiteConfig
    from gridtide.app.running import Face
    from gridtide.run.live import LiveSite
    from gridtide.run.store import Store
    from gridtide.run.study import StudyInputs
    from gridtide.run.warmup import Past

START = "2019-05-29T10:26"
"""Local time at which the demo opens: a few minutes before the vehicles are needed."""
SPEED = 15.0
QUARTER_S = 900.0
REMEMBERED = 21 * 96
"""Quarter hours of load that the demo's store begins with: three weeks are learned in a second."""


def demo(
    speed: Annotated[float, typer.Option(help="Demo seconds per real second.", min=0.1, max=200.0)] = SPEED,
    start: Annotated[str, typer.Option(help="Local date and time at which the demo opens.")] = START,
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)] = 8080,
    ocpp_port: Annotated[int, typer.Option(help="Port for the stations; 0 takes a free one.", min=0, max=65535)] = 9000,
    meter_port: Annotated[
        int, typer.Option(help="Port of the emulated meter; 0 takes a free one.", min=0, max=65535)
    ] = 5020,
    exit_after: Annotated[
        float | None, typer.Option(help="End after this many real seconds (for scripts).", min=0.0)
    ] = None,
    site: Annotated[Path | None, typer.Option(help="Site file in place of the built-in one.")] = None,
    load: Annotated[str | None, typer.Option(help="Your building's load (CSV).")] = None,
    sessions: Annotated[str | None, typer.Option(help="Your charging sessions (CSV).")] = None,
    tariff: Annotated[str | None, typer.Option(help="Your tariff (TOML or JSON).")] = None,
    limit: Annotated[float | None, typer.Option(help="Peak limit, kW.")] = None,
    model: Annotated[str | None, typer.Option(help="Charger model for all bays: fast or measured_v2g.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder for token and store.")] = None,
) -> None:
    """Show a real building's peak being shaved by emulated vehicles, live in the browser. Nothing leaves this machine."""
    from gridtide.app.commands.options import instant_of, one_of
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site
    from gridtide.app.home import default_home
    from gridtide.app.running import Face, no_battery
    from gridtide.twin.evse import MODELS

    chosen = {"load": load, "sessions": sessions, "tariff": tariff}
    overrides: dict[tuple[str | int, ...], object] = {
        (key, "file"): str(Path(value).absolute()) if not value.startswith("builtin:") else value
        for key, value in chosen.items()
        if value is not None
    }
    if limit is not None:
        overrides["peak", "limit_kw"] = limit
    with told(), resources.as_file(resources.files("gridtide.data") / "demo.toml") as builtin:
        if model is not None:
            one_of(model, MODELS, "--model")
        config = load_site(site or builtin, overrides)
        no_battery(config)
        begin_s = instant_of(start, ZoneInfo(config.site.timezone))
        _distinct({"--port": port, "--ocpp-port": ocpp_port, "--meter-port": meter_port})
    wish = Wish(begin_s, speed, ocpp_port, meter_port, model)
    face = Face(host="127.0.0.1", port=port, home=home or default_home(), exit_after_s=exit_after)
    from gridtide.app.logs import configure

    configure(logging.WARNING)
    from gridtide.run.loops import run_program

    run_program(_demo(config, wish, face))


class Wish(Struct, frozen=True):
    """What was asked of a demo."""

    begin_s: float
    """UTC epoch seconds of the data at which it opens."""
    speed: float
    ocpp_port: int
    meter_port: int
    model: str | None


class Place(Struct, frozen=True):
    """Where and how fast the demo's site runs."""

    speed: float
    store: Path
    ocpp_port: int
    meter_port: int


def _distinct(ports: dict[str, int]) -> None:
    """Raises ValueError when two options name one port; 0 is a free one each."""
    seen: dict[int, str] = {}
    for option, port in ports.items():
        if port and port in seen:
            raise ValueError(f"{option} is {port}: that is {seen[port]} too; give another port")
        seen[port] = option


async def _demo(config: "SiteConfig", wish: Wish, face: "Face") -> None:
    """Hold the ports, then the folder; open the site with its past, show the page. What was opened is closed."""
    from gridtide.app.commands.demo_home import fresh_store
    from gridtide.app.commands.told import told, told_running
    from gridtide.app.observing import plan_ahead
    from gridtide.app.running import bind_page, run_with_page, viewer_of

    async with AsyncExitStack() as opened:
        with told():
            listener = opened.enter_context(bind_page(face))
            with ExitStack() as held:
                ports = [_hold(held, port) for port in (wish.ocpp_port, wish.meter_port)]
                store = opened.enter_context(fresh_store(face.home))
                inputs, past = _past(config, wish)
            live = await _open(config, inputs, past, opened, Place(wish.speed, store, *ports))
            viewer = viewer_of(config, inputs.tariff, live)
            if config.planner.enabled:
                await _remember_load(live.store, inputs, past.plant.at_s)
            viewer.plan = plan_ahead(config, live, inputs.tariff)
        typer.echo(
            f"gridtide demo: {config.site.name}, {len(config.bays())} bays, {wish.speed:g} times real time."
            " Stop with Ctrl-C."
        )
        with told_running():
            await run_with_page(live, viewer, face, listener, typer.echo)


async def _remember_load(store: "Store", inputs: "StudyInputs", until_s: float) -> None:
    """Into the demo's fresh store what a real site's would hold by now: the building's load, for who plans ahead."""
    past, world = inputs.past, inputs.world
    load = dict(zip(past.load_starts_s.tolist(), past.load_kw.tolist(), strict=True))
    for quarter in range(int((until_s - inputs.start_s) // QUARTER_S)):
        start_s = inputs.start_s + quarter * QUARTER_S
        sun_kw = 0.0 if world.pv is None else world.pv.mean_kw(start_s, start_s + QUARTER_S)
        load[start_s] = world.building.mean_kw(start_s, start_s + QUARTER_S) - sun_kw
    for start_s, power_kw in sorted(load.items())[-REMEMBERED:]:
        store.put_telemetry(start_s, {"building_kw": power_kw})
    await store.flush()


def _hold(held: ExitStack, port: int) -> int:
    """The port itself, or a free one for 0, kept from others while the past is lived; raises OSError if it is taken."""
    from gridtide.app.web.server import listen

    claim = held.enter_context(listen("127.0.0.1", port))
    claim.listen(1)
    return int(claim.getsockname()[1])


def _past(config: "SiteConfig", wish: Wish) -> "tuple[StudyInputs, Past]":
    """The data, and the days of it before the demo opens. Raises ValueError when it would open outside of them."""
    from rich.console import Console

    from gridtide.app.scenario import study_inputs
    from gridtide.market.tariff import billing_period
    from gridtide.run.warmup import warm_up
    from gridtide.twin import evse

    with Console().status("Living the month up to now ..."):
        inputs = study_inputs(config)
        world = inputs.world
        if wish.model is not None:
            models = evse.columns([evse.MODELS[wish.model]] * world.table.size, world.table.efficiency)
            world = structs.replace(world, models=models)
            inputs = structs.replace(inputs, world=world)
        if not inputs.start_s + 600.0 < wish.begin_s < inputs.end_s - 600.0:
            raise ValueError(
                f"--start lies outside the data ({config.study.start} and {config.study.days} days): choose another"
            )
        past = warm_up(
            world, config.settings(0.5), inputs.start_s, wish.begin_s,
            lambda at_s: billing_period(inputs.tariff, at_s), inputs.storage,
        )  # fmt: skip
    return inputs, past


async def _open(
    config: "SiteConfig", inputs: "StudyInputs", past: "Past", opened: AsyncExitStack, place: Place
) -> "LiveSite":
    """The site on its sockets with the emulated plant behind it; `opened` closes it."""
    from gridtide.app.running import registry_of
    from gridtide.market.tariff import billing_period
    from gridtide.run.assembly import SITE_METER, provisions
    from gridtide.run.clock import ScaledClock
    from gridtide.run.credentials import Credentials
    from gridtide.run.live import Address, emulate_plant, open_site

    bays = config.bays()
    versions = tuple(station.ocpp for _, station in bays)
    credentials = Credentials()
    passwords = {name: credentials.issue(name) for name, _ in bays}
    clock, meter = ScaledClock(place.speed, past.plant.at_s), Address("127.0.0.1", place.meter_port)
    stations = [
        structs.replace(item, dialect=station.dialect)
        for item, (_, station) in zip(provisions(inputs.world.table, versions), bays, strict=True)
    ]
    live = await open_site(
        config.settings(0.5), stations, credentials, clock, period=lambda at_s: billing_period(inputs.tariff, at_s),
        store_path=place.store, ocpp=Address("127.0.0.1", place.ocpp_port), meter=meter, registers=SITE_METER, past=past,
        registry=lambda store: registry_of(config, store),
    )  # fmt: skip
    opened.push_async_callback(live.close)
    await emulate_plant(live, inputs.world, past, versions, passwords, clock, meter)
    return live
