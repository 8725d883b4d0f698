"""`gridtide run SITE.toml`: a real site. Stations connect to us, the meter is read over Modbus TCP."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

if TYPE_CHECKING:
    from gridtide.app.config import SiteConfig
    from gridtide.app.running import Face


def run(
    site: Annotated[Path, typer.Argument(help="The site file.")],
    exit_after: Annotated[float | None, typer.Option(help="End after this many seconds (for scripts).")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder for the token and the stations' passwords.")] = None,
) -> None:
    """Run a site until stopped. On its first start each station gets a password, in a file only you can read."""
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site
    from gridtide.app.home import default_home
    from gridtide.app.running import Face

    with told():
        config = load_site(site)
        folder = home or default_home()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        host, _, port = config.server.web.rpartition(":")
        face = Face(host=host, port=int(port), home=folder, exit_after_s=exit_after)
        asyncio.run(_run(config, face))


async def _run(config: "SiteConfig", face: "Face") -> None:
    from gridtide.app.running import driver_defaults, no_battery, run_with_page, viewer_of
    from gridtide.app.scenario import tariff_of
    from gridtide.market.tariff import billing_period
    from gridtide.run.assembly import provisions
    from gridtide.run.clock import WallClock
    from gridtide.run.credentials import Credentials
    from gridtide.run.live import Address, open_site

    no_battery(config)
    if config.meter is None or config.register_map is None:
        raise ValueError(
            f"{config.source}: [meter] is missing: give host, port and preset of the meter at the connection"
        )
    tariff, bays = tariff_of(config), config.bays()
    passwords_file = _provision(config, face)
    stations = [
        structs.replace(item, dialect=station.dialect, discharge_opt_in=station.dialect == "v201_negative_limit")
        for item, (_, station) in zip(
            provisions(config.table(), tuple(station.ocpp for _, station in bays)), bays, strict=True
        )
    ]
    host, _, port = config.server.ocpp.rpartition(":")
    store = Path(config.path(config.store.path))
    live = await open_site(
        config.settings(0.5), stations, Credentials.load(passwords_file), WallClock(),
        period=lambda at_s: billing_period(tariff, at_s), store_path=store, ocpp=Address(host, int(port)),
        meter=Address(config.meter.host, config.meter.port), registers=config.register_map,
        driver_default=driver_defaults(config),
    )  # fmt: skip
    typer.echo(
        f"{config.site.name}: {len(bays)} stations may connect to ws://{host}:{live.listener.server.port}/ocpp/<id>"
    )
    await run_with_page(live, viewer_of(config, tariff, live), face, typer.echo)


def _provision(config: "SiteConfig", face: "Face") -> Path:
    """Hashes of the stations' passwords; new ones are issued and written once to a file for the installer."""
    from gridtide.run.credentials import provision, read_secret, write_secret

    hashes = face.home / "stations.json"
    chosen = {}
    for name, station in config.bays():
        if station.password_file:
            chosen[name] = read_secret(Path(config.path(station.password_file))).decode().strip()
    issued = provision(hashes, [name for name, _ in config.bays()], chosen)
    if issued:
        told = face.home / "station-passwords.txt"
        kept = told.read_bytes() if told.exists() else b""
        write_secret(told, kept + "".join(f"{name} {password}\n" for name, password in issued.items()).encode())
        typer.echo(
            f"{len(issued)} station passwords were issued: {told} (enter them at the stations, then delete the file)"
        )
    return hashes
