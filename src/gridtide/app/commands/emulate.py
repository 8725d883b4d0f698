"""`gridtide emulate`: a meter or charging stations for any system under test, on this machine's loopback or elsewhere."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

emulate = typer.Typer(help="Emulate a meter or charging stations.", no_args_is_help=True)
LOAD_START = "2019-05-06T11:00"


@emulate.command()
def meter(
    load: Annotated[str, typer.Option(help="Building load (CSV), or builtin:load.")] = "builtin:load",
    start: Annotated[str, typer.Option(help="Local time in the data at which the meter begins.")] = LOAD_START,
    timezone: Annotated[str, typer.Option(help="Time zone of the data.")] = "America/Los_Angeles",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 5020,
    preset: Annotated[str, typer.Option(help="Register map: a preset's name, or gridtide_site.")] = "gridtide_site",
    exit_after: Annotated[float | None, typer.Option(help="End after this many seconds.")] = None,
) -> None:
    """A Modbus TCP meter that plays a building's load, with sub-minute texture, in real time."""
    from gridtide.app.commands.told import told

    with told():
        asyncio.run(_meter(load, start, timezone, host, port, preset, exit_after))


async def _meter(
    load: str, start: str, timezone: str, host: str, port: int, preset: str, exit_after: float | None
) -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from gridtide.app.data import load_profile, series
    from gridtide.run.assembly import SITE_METER
    from gridtide.run.clock import WallClock
    from gridtide.run.modbus import ModbusMeterServer
    from gridtide.twin.building import textured
    from gridtide.wire.modbus.presets import PRESETS

    if preset != SITE_METER.name and preset not in PRESETS:
        raise ValueError(f"--preset is {preset!r}: give {SITE_METER.name} or one of {', '.join(sorted(PRESETS))}")
    zone = ZoneInfo(timezone)
    begin_s = datetime.fromisoformat(start).replace(tzinfo=zone).timestamp()
    begin_s -= begin_s % 900.0
    building = textured(series(load_profile(load, zone), begin_s, begin_s + 86_400.0, zone, "weekday"), 1)
    clock = WallClock()
    began_s = clock.monotonic()

    def registers() -> dict[str, float]:
        at_s = begin_s + (clock.monotonic() - began_s) % 86_399.0
        energy_kwh = building.mean_kw(begin_s, at_s + 0.5) * (at_s + 0.5 - begin_s) / 3600.0
        return {"power_kw": round(building.mean_kw(at_s, at_s + 0.5), 3), "import_kwh": energy_kwh}

    device = SITE_METER if preset == SITE_METER.name else PRESETS[preset](1)
    server = ModbusMeterServer(device, registers, host=host, port=port)
    await server.start()
    typer.echo(f"Emulated meter {device.name} on {host}:{server.port}. Stop with Ctrl-C.")
    await _until_stopped(exit_after)
    await server.close()


@emulate.command()
def station(
    csms: Annotated[str, typer.Option(help="Address of the system under test.")] = "ws://127.0.0.1:9000/ocpp",
    passwords: Annotated[Path, typer.Option(help="File with one `identity password` a line (mode 0600).")] = Path(
        "station-passwords.txt"
    ),
    version: Annotated[str, typer.Option(help="OCPP version: 2.1 or 2.0.1.")] = "2.1",
    charge_kw: Annotated[float, typer.Option(help="Rated charging power, kW.")] = 11.0,
    discharge_kw: Annotated[float, typer.Option(help="Rated discharging power, kW.")] = 11.0,
    model: Annotated[str, typer.Option(help="How it follows a setpoint: fast or measured_v2g.")] = "measured_v2g",
    soc: Annotated[float, typer.Option(help="Charge of the vehicles at arrival, 0..1.")] = 0.6,
    target_soc: Annotated[float, typer.Option(help="Charge their drivers want, 0..1.")] = 0.7,
    stay_h: Annotated[float, typer.Option(help="How long they stay, hours.")] = 8.0,
    exit_after: Annotated[float | None, typer.Option(help="End after this many seconds.")] = None,
) -> None:
    """One station per line of the password file, each with a vehicle plugged in and honest physics behind it."""
    from gridtide.app.commands.told import told

    with told():
        asyncio.run(
            _stations(csms, passwords, version, charge_kw, discharge_kw, model, soc, target_soc, stay_h, exit_after)
        )


async def _stations(
    csms: str,
    passwords: Path,
    version: str,
    charge_kw: float,
    discharge_kw: float,
    model: str,
    soc: float,
    target_soc: float,
    stay_h: float,
    exit_after: float | None,
) -> None:
    from gridtide.run.assembly import VERSIONS, socket_stations
    from gridtide.run.clock import WallClock
    from gridtide.run.credentials import read_secret
    from gridtide.run.emulated_site import EmulatedSite, idle_site
    from gridtide.twin.evse import MODELS

    if f"ocpp{version}" not in VERSIONS or model not in MODELS:
        raise ValueError(
            f"--version must be 2.1 or 2.0.1 (is {version}), --model one of {', '.join(MODELS)} (is {model})"
        )
    secrets = dict(line.split(maxsplit=1) for line in read_secret(passwords).decode().splitlines() if line.strip())
    clock = WallClock()
    world, plant = idle_site(
        tuple(secrets), charge_kw, discharge_kw, MODELS[model], clock.wall(), soc, target_soc, stay_h * 3600.0
    )
    spoken = VERSIONS[f"ocpp{version}"]
    stations = socket_stations(world.table, (spoken,) * len(secrets), secrets, csms, clock, range(len(secrets)))
    site = EmulatedSite(world, plant, stations, clock)
    typer.echo(f"{len(secrets)} emulated stations dial {csms} on OCPP {version}. Stop with Ctrl-C.")
    jobs = [asyncio.ensure_future(job) for job in (site.run(), *(item.run() for item in stations.values()))]
    await _until_stopped(exit_after)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)


async def _until_stopped(exit_after: float | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if exit_after is not None:
        loop.call_later(exit_after, stop.set)
    await stop.wait()
