"""`gridtide run SITE.toml`: a real site. Stations connect to us, the meter is read over Modbus TCP."""

import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

if TYPE_CHECKING:
    from gridtide.app.config import SiteConfig
    from gridtide.app.running import Face
    from gridtide.market.tariff import Tariff
    from gridtide.run.live import LiveSite, StationSide


def run(
    site: Annotated[Path, typer.Argument(help="The site file.")],
    exit_after: Annotated[
        float | None, typer.Option(help="End after this many seconds (for scripts).", min=0.0)
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Folder for the token and the stations' passwords.")] = None,
    log_format: Annotated[
        str | None,
        typer.Option(help="text, or json: one JSON object a line.", show_default="log.format of the site file"),
    ] = None,
) -> None:
    """Run a site until stopped. On its first start each station gets a password, in a file only you can read."""
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site
    from gridtide.app.home import default_home
    from gridtide.app.running import Face

    with told():
        config = load_site(site, {} if log_format is None else {("log", "format"): log_format})
        folder = home or default_home()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        host, _, port = config.server.web.rpartition(":")
        face = Face(
            host=host, port=int(port), home=folder, exit_after_s=exit_after, allow_remote=config.server.allow_remote,
            names=config.server.names, tls=_tls(config), address=config.server.address,
            stall_exit_s=config.watchdog.exit_after_s,
        )  # fmt: skip
    from gridtide.app.logs import configure

    configure(logging.getLevelNamesMapping()[config.log.level.upper()], config.log.format)
    from gridtide.run.loops import run_program

    run_program(_run(config, face))


async def _run(config: "SiteConfig", face: "Face") -> None:
    """Bind the page, take the store, open the site, serve both; what was opened is closed whatever happens."""
    from gridtide.app.commands.told import told, told_running
    from gridtide.app.observing import notify_settings, observe, plan_ahead
    from gridtide.app.running import bind_page, no_battery, run_with_page, viewer_of
    from gridtide.app.scenario import tariff_of
    from gridtide.app.web.server import tls_context
    from gridtide.run.store.file import held_by_site

    async with AsyncExitStack() as opened:
        with told():
            no_battery(config)
            if face.tls is not None:
                tls_context(*face.tls)  # a bad certificate or key is told before anything is opened
            tariff, notify = tariff_of(config), notify_settings(config)
            listener = opened.enter_context(bind_page(face, config.source))
            opened.enter_context(held_by_site(Path(config.path(config.store.path))))
            live = await _open(config, tariff, face)
            _back_up(config, live, opened)
            opened.push_async_callback(live.close)
            viewer = viewer_of(config, tariff, live)
            metrics = observe(config, live, viewer, notify)
            viewer.plan = plan_ahead(config, live, tariff)
        with told_running():
            await run_with_page(live, viewer, face, listener, typer.echo, metrics)


async def _open(config: "SiteConfig", tariff: "Tariff", face: "Face") -> "LiveSite":
    from gridtide.app.running import driver_defaults, registry_of, url_check
    from gridtide.market.tariff import billing_period
    from gridtide.run.assembly import provisions
    from gridtide.run.clock import WallClock
    from gridtide.run.credentials import Credentials
    from gridtide.run.csms.registry import read_template
    from gridtide.run.live import Address, open_site
    from gridtide.run.retention import forget_daily
    from gridtide.run.steady_clock import SteadyClock

    if config.meter is None or config.register_map is None:
        raise ValueError(
            f"{config.source}: [meter] is missing: give host, port and preset of the meter at the connection"
        )
    bays = config.bays()
    passwords_file = _provision(config, face)
    stations = [
        structs.replace(
            item,
            dialect=station.dialect,
            discharge_opt_in=station.dialect.startswith("v201"),
            template=read_template(station.template),
        )
        for item, (_, station) in zip(
            provisions(config.table(), tuple(station.ocpp for _, station in bays)), bays, strict=True
        )
    ]
    host = config.server.ocpp.rpartition(":")[0]
    live = await open_site(
        config.live_settings(0.5), stations, Credentials.load(passwords_file), SteadyClock(WallClock()),
        period=lambda at_s: billing_period(tariff, at_s), store_path=Path(config.path(config.store.path)),
        ocpp=_station_side(config), meter=Address(config.meter.host, config.meter.port),
        registers=config.register_map, registry=lambda store: registry_of(config, store),
        driver_default=lambda registered: driver_defaults(config, registered), check_url=url_check(config.server.files),
        concurrency_limit=config.server.concurrency_limit, backups=_backups(config),
    )  # fmt: skip
    keep = config.store
    live.add(
        lambda: forget_daily(live.store, live.service.clock, keep.keep_transactions_days, keep.keep_telemetry_days)
    )
    ways = " and ".join(ways_of(config, f"{host}:{live.listener.server.port}"))
    typer.echo(f"{config.site.name}: {len(bays)} stations may connect to {ways}")
    return live


def _back_up(config: "SiteConfig", live: "LiveSite", opened: AsyncExitStack) -> None:
    """Copies of the store while it runs, and one when it is closed."""
    from gridtide.run.store_watch import back_up_forever, back_up_once

    own, clock, note = config.store, live.service.clock, live.service.note
    if not own.backup_minutes:
        return
    store, folder = Path(config.path(own.path)), _backups(config)
    live.add(lambda: back_up_forever(store, folder, clock, note, own.backup_minutes * 60.0, own.keep_backups))
    # Called after `live.close`: the log is folded in by then.
    opened.push_async_callback(back_up_once, store, folder, clock, _say, own.keep_backups)


def _backups(config: "SiteConfig") -> Path:
    own = config.store
    return Path(config.path(own.backup_folder)) if own.backup_folder else Path(config.path(own.path)).parent


def _say(_code: str, _source: str, text: str) -> None:
    typer.echo(f"The store was not copied: {text}", err=True)


def ways_of(config: "SiteConfig", plain: str) -> list[str]:
    """Addresses by which stations come in; `plain` is host and port of the one without TLS."""
    ways = [f"ws://{plain}/ocpp/<id>"]
    if config.server.ocpp_tls is not None:
        ways.append(f"wss://{config.server.ocpp_tls}/ocpp/<id> (security profiles 2 and 3)")
    return ways


def _tls(config: "SiteConfig") -> tuple[Path, Path] | None:
    cert, key = config.server.tls_cert, config.server.tls_key
    return (Path(config.path(cert)), Path(config.path(key))) if cert is not None and key is not None else None


def _station_side(config: "SiteConfig") -> "StationSide":
    from gridtide.run.live import Address, StationSide

    def address(text: str) -> Address:
        host, _, port = text.rpartition(":")
        return Address(host, int(port))

    own = config.server
    tls = address(own.ocpp_tls) if own.ocpp_tls is not None else None
    return StationSide(address(own.ocpp), own.profile1, tls, Path(config.path(own.pki)), own.tls_conformance)


def _provision(config: "SiteConfig", face: "Face") -> Path:
    """Hashes of the stations' passwords; new ones are issued and written once to a file for the installer."""
    from gridtide.run.credentials import provision, read_secret, write_secret

    hashes = face.home / "stations.json"
    chosen = {}
    for name, station in config.bays():
        if station.password_file:
            chosen[name] = read_secret(Path(config.path(station.password_file))).decode().strip()
    # A station of security profile 3 shows its certificate and needs none.
    issued = provision(hashes, [name for name, station in config.bays() if station.security_profile < 3], chosen)
    if issued:
        told = face.home / "station-passwords.txt"
        kept = told.read_bytes() if told.exists() else b""
        write_secret(told, kept + "".join(f"{name} {password}\n" for name, password in issued.items()).encode())
        typer.echo(
            f"{len(issued)} station passwords were issued: {told} (enter them at the stations, then delete the file)"
        )
    return hashes
