"""`gridtide emulate`: a meter or charging stations for any system under test, on this machine's loopback or elsewhere."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from gridtide.app.commands.emulate_stations import stations

emulate = typer.Typer(help="Emulate a meter or charging stations.", no_args_is_help=True)
emulate.command()(stations)
LOAD_START = "2019-05-06T11:00"


@emulate.command()
def meter(
    load: Annotated[str, typer.Option(help="Building load (CSV), or builtin:load.")] = "builtin:load",
    start: Annotated[str, typer.Option(help="Local time in the data at which the meter begins.")] = LOAD_START,
    timezone: Annotated[str, typer.Option(help="Time zone of the data.")] = "America/Los_Angeles",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 5020,
    preset: Annotated[str, typer.Option(help="Register map: a preset's name, or gridtide_site.")] = "gridtide_site",
    exit_after: Annotated[float | None, typer.Option(help="End after this many seconds.", min=0.0)] = None,
) -> None:
    """A Modbus TCP meter that plays a building's load, with sub-minute texture, in real time."""
    from gridtide.app.commands.told import told

    with told():
        from gridtide.app.logs import configure

        configure(logging.WARNING)
        asyncio.run(_meter(load, start, timezone, host, port, preset, exit_after))


async def _meter(
    load: str, start: str, timezone: str, host: str, port: int, preset: str, exit_after: float | None
) -> None:
    from gridtide.app.commands.options import instant_of, one_of, zone_of
    from gridtide.app.data import load_profile, series
    from gridtide.run.assembly import SITE_METER
    from gridtide.run.clock import WallClock
    from gridtide.run.emulator.meter import grid_values
    from gridtide.run.modbus import ModbusMeterServer
    from gridtide.twin.building import textured
    from gridtide.wire.modbus.presets import PRESETS

    one_of(preset, [SITE_METER.name, *sorted(PRESETS)], "--preset")
    zone = zone_of(timezone)
    begin_s = instant_of(start, zone)
    begin_s -= begin_s % 900.0
    building = textured(series(load_profile(load, zone), begin_s, begin_s + 86_400.0, zone, "weekday"), 1)
    clock = WallClock()
    began_s = clock.monotonic()

    def registers() -> dict[str, float]:
        at_s = begin_s + (clock.monotonic() - began_s) % 86_399.0
        energy_kwh = building.mean_kw(begin_s, at_s + 0.5) * (at_s + 0.5 - begin_s) / 3600.0
        power_kw = round(building.mean_kw(at_s, at_s + 0.5), 3)
        return {"power_kw": power_kw, "import_kwh": energy_kwh, **grid_values(50.0, 230.0)}

    device = SITE_METER if preset == SITE_METER.name else PRESETS[preset](1)
    server = ModbusMeterServer(device, registers, host=host, port=port)
    await server.start()
    typer.echo(f"Emulated meter {device.name} on {host}:{server.port}. Stop with Ctrl-C.")
    try:
        await _until_stopped(exit_after)
    finally:
        await server.close()


@emulate.command()
def station(
    csms: Annotated[str, typer.Option(help="Address of the system under test.")] = "ws://127.0.0.1:9000/ocpp",
    passwords: Annotated[Path, typer.Option(help="File with one `identity password` a line (mode 0600).")] = Path(
        "station-passwords.txt"
    ),
    version: Annotated[str, typer.Option(help="OCPP version: 2.1 or 2.0.1.")] = "2.1",
    charge_kw: Annotated[float, typer.Option(help="Rated charging power, kW.", min=0.1, max=1000.0)] = 11.0,
    discharge_kw: Annotated[float, typer.Option(help="Rated discharging power, kW.", min=0.0, max=1000.0)] = 11.0,
    model: Annotated[str, typer.Option(help="How it follows a setpoint: fast or measured_v2g.")] = "measured_v2g",
    soc: Annotated[float, typer.Option(help="Charge of the vehicles at arrival, 0..1.", min=0.0, max=1.0)] = 0.6,
    target_soc: Annotated[float, typer.Option(help="Charge their drivers want, 0..1.", min=0.0, max=1.0)] = 0.7,
    stay_h: Annotated[float, typer.Option(help="How long they stay, hours.", min=0.01, max=8760.0)] = 8.0,
    exit_after: Annotated[float | None, typer.Option(help="End after this many seconds.", min=0.0)] = None,
) -> None:
    """One station per line of the password file, each with a vehicle plugged in and honest physics behind it."""
    from gridtide.app.commands.told import told

    wish = Wish(charge_kw, discharge_kw, model, soc, target_soc, stay_h * 3600.0)
    with told():
        _check(csms, version, wish)
        secrets = read_passwords(passwords)
        from gridtide.app.logs import configure

        configure(logging.WARNING)
        asyncio.run(_stations(csms, secrets, version, wish, exit_after))


class Wish(Struct, frozen=True):
    """What the emulated stations and vehicles are like."""

    charge_kw: float
    discharge_kw: float
    model: str
    soc: float
    target_soc: float
    stay_s: float


def _check(csms: str, version: str, wish: Wish) -> None:
    """Raises ValueError on an option that cannot be meant."""
    from gridtide.app.commands.options import one_of
    from gridtide.twin.evse import MODELS

    one_of(version, ["2.1", "2.0.1"], "--version")
    one_of(wish.model, MODELS, "--model")
    check_csms(csms)


def check_csms(url: str) -> None:
    """Raises ValueError unless `url` can be dialled: ws or wss, a host, no query."""
    from urllib.parse import urlsplit

    cure = "give the address of the system under test, as ws://127.0.0.1:9000/ocpp"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url or parts.query or parts.fragment:
        raise ValueError(f"--csms is {url[:100]!r}: {cure}")


def read_passwords(path: Path) -> dict[str, str]:
    """Password by identity from a file of `identity password` lines; raises ValueError naming the line that is wrong.

    No message repeats what stands in the file.
    """
    from gridtide.run.credentials import read_secret

    form = "a line is an identity, a space and a password, as gridtide run writes to station-passwords.txt"
    try:
        text = read_secret(path).decode()
    except OSError as error:
        raise ValueError(f"--passwords is {path}: {error.strerror}; {form}") from None
    except UnicodeDecodeError:
        raise ValueError(f"--passwords is {path}: it is no text in UTF-8; {form}") from None
    secrets: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().split(maxsplit=1)
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"{path}:{number}: there is no password; {form}")
        if words[0] in secrets:
            raise ValueError(f"{path}:{number}: an identity stands there for the second time; remove one of its lines")
        secrets[words[0]] = words[1]
    if not secrets:
        raise ValueError(f"--passwords is {path}: it holds no station; {form}")
    return secrets


async def _stations(csms: str, secrets: dict[str, str], version: str, wish: Wish, exit_after: float | None) -> None:
    """Run the stations until stopped; raises what the first of their loops fails with."""
    from gridtide.run.assembly import VERSIONS, socket_stations
    from gridtide.run.clock import WallClock
    from gridtide.run.emulator.site import EmulatedSite, idle_site
    from gridtide.twin.evse import MODELS

    clock = WallClock()
    world, plant = idle_site(
        tuple(secrets), wish.charge_kw, wish.discharge_kw, MODELS[wish.model], clock.wall(), wish.soc, wish.target_soc,
        wish.stay_s,
    )  # fmt: skip
    spoken = (VERSIONS[f"ocpp{version}"],) * len(secrets)
    stations = socket_stations(world.table, spoken, secrets, csms, clock, range(len(secrets)))
    site = EmulatedSite(world, plant, stations, clock)
    number = f"{len(secrets)} emulated station{'s dial' if len(secrets) != 1 else ' dials'}"
    typer.echo(f"{number} {csms} on OCPP {version}. Stop with Ctrl-C.")
    jobs = [asyncio.ensure_future(job) for job in (site.run(), *(item.run() for item in stations.values()))]
    stopper = asyncio.ensure_future(_until_stopped(exit_after))
    try:
        done, _ = await asyncio.wait([*jobs, stopper], return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()
    finally:
        for job in (*jobs, stopper):
            job.cancel()
        await asyncio.gather(*jobs, stopper, return_exceptions=True)


async def _until_stopped(exit_after: float | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if exit_after is not None:
        loop.call_later(exit_after, stop.set)
    await stop.wait()
