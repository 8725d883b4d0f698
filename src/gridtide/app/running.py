"""What `demo` and `run` share: the web server beside a live site, signals, the address printed for a person, the end."""

import asyncio
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from gridtide.app.commands.site_options import SITE_URL
from gridtide.app.config import SiteConfig, station_ids
from gridtide.app.home import default_home
from gridtide.app.metrics import SiteMetrics, metrics_routes
from gridtide.app.web.auth import Access, is_loopback, load_token
from gridtide.app.web.driver import driver_routes
from gridtide.app.web.limit import limit_routes
from gridtide.app.web.people import FILE as ACCESS_FILE
from gridtide.app.web.people import AccessFile
from gridtide.app.web.plan import plan_routes
from gridtide.app.web.server import create_app, listen, serve, tls_context
from gridtide.app.web.stations import station_routes
from gridtide.market.tariff import Tariff
from gridtide.run.allowed_urls import CSMS_SCHEMES, FILE_SCHEMES, check_url
from gridtide.run.csms.operate import CheckUrl
from gridtide.run.csms.registry import EvseEntry, Registry, StationEntry, TokenEntry, read_template
from gridtide.run.csms.station import DriverDefault
from gridtide.run.fleet_view import FleetDesk
from gridtide.run.garbage import collect_forever, keep_pauses_short
from gridtide.run.live import LiveSite
from gridtide.run.store import Store
from gridtide.run.systemd import Supervision
from gridtide.run.view import Site, Viewer

END_S = 5.0
"""Real seconds from the first signal until the process has ended, one way or the other."""
BACKLOG = 128
"""Connections that wait while the site opens."""
LIMIT_SHOWN = "500kW"
"""An example, as in the documentation."""


class Face(Struct, frozen=True, kw_only=True):
    """Where people find the site."""

    host: str
    port: int
    home: Path
    """Folder of the token file and of the store."""
    allow_remote: bool = False
    names: tuple[str, ...] = ()
    """Further names of the site that a browser may use (Host)."""
    exit_after_s: float | None = None
    address: str = ""
    """Address of the page as drivers' phones reach it."""
    tls: tuple[Path, Path] | None = None
    """Certificate chain and key of the page, PEM files."""
    stall_exit_s: float | None = None
    """The process ends when its loop stands still for so long; None: never."""


def no_battery(config: SiteConfig) -> None:
    """A stationary battery can be studied, but no inverter is driven live yet. Raises ValueError."""
    if config.battery is not None:
        raise ValueError(
            "[battery]: a stationary battery works in `gridtide simulate`; live sites cannot drive one yet: remove it"
        )


def registry_of(config: SiteConfig, store: Store) -> Registry:
    """Stations and tokens of the site file, and what people registered beside them."""
    stations = [
        StationEntry(
            identity=name, name=station.name, security_profile=station.security_profile, tls_min=station.tls_min,
            serial=_serial(station.serial, number, station.count), dialect=station.dialect,
            template=read_template(station.template),
            discharge_opt_in=station.dialect.startswith("v201"), from_file=True,
            evses=(EvseEntry(id=1, charge_kw=station.charge_kw, discharge_kw=station.discharge_kw),),
        )
        for station in config.stations for number, name in enumerate(station_ids(station), 1)
    ]  # fmt: skip
    tokens = [
        TokenEntry(
            id_token=item.id_token, departure=item.departure, energy_kwh=item.energy_kwh, minimum_soc=item.minimum_soc,
            may_discharge=item.may_discharge,
        )
        for item in config.drivers.token
    ]  # fmt: skip
    return Registry(store, stations, tokens, accepts_unknown=config.drivers.accept_unknown)


def url_check(hosts: tuple[str, ...]) -> CheckUrl:
    """The rule for addresses that stations are sent to: files from `hosts` alone, other systems by WebSocket alone."""

    def check(address: str, field: str) -> None:
        schemes = CSMS_SCHEMES if field.endswith("ocppCsmsUrl") else FILE_SCHEMES
        check_url(address, hosts, schemes=schemes, field=field)

    return check


def _serial(serial: str, number: int, count: int | None) -> str:
    return serial if not serial or count is None else f"{serial}-{number}"


def driver_defaults(config: SiteConfig, registry: Registry) -> Callable[[str, float], DriverDefault | None]:
    """What a driver is assumed to need, as a function of token and instant: the token's own words, else `[drivers]`."""
    zone, common = ZoneInfo(config.site.timezone), config.drivers

    def default(token: str, now_s: float) -> DriverDefault | None:
        mine = registry.token(token)
        departure = mine.departure if mine is not None and mine.departure is not None else common.departure
        energy = mine.energy_kwh if mine is not None and mine.energy_kwh is not None else common.energy_kwh
        minimum = mine.minimum_soc if mine is not None and mine.minimum_soc is not None else common.minimum_soc
        hour, minute = (int(part) for part in departure.split(":"))
        now = datetime.fromtimestamp(now_s, zone)
        leaves = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        if leaves <= now:
            leaves = (now.replace(tzinfo=None) + timedelta(days=1)).replace(
                hour=hour, minute=minute, second=0, microsecond=0, tzinfo=zone
            )
        return DriverDefault(leaves.timestamp(), energy, minimum)

    return default


def viewer_of(config: SiteConfig, tariff: Tariff, live: LiveSite) -> Viewer:
    """The page's port to a live site. Vehicles go by the name on their card."""
    bays = config.bays()
    names = tuple(station.name or name.replace("-", " ").capitalize() for name, station in bays)
    battery = ("Battery",) if config.battery is not None else ()
    site = Site(
        name=config.site.name, timezone=config.site.timezone, tariff=tariff, wear_per_kwh=config.vehicles.wear_per_kwh,
        bay_names=names + battery, stations=len(bays),
    )  # fmt: skip
    tokens = {row: station for station in live.csms.stations.values() for row in station.provision.rows.values()}

    def vehicle_name(row: int) -> str:
        station = tokens.get(row)
        return station.tokens.get(row, "").replace("-", " ").capitalize() if station is not None else ""

    return Viewer(site, live.service, vehicle_name)


def bind_page(face: Face, source: str = "") -> socket.socket:
    """The page's listening socket, held from now on: whoever comes second learns it before anything else is opened.

    Raises ValueError for an address others can reach unless that is allowed, OSError when it is taken.
    """
    if not face.allow_remote and face.host != "localhost" and not is_loopback(face.host):
        raise ValueError(
            f'{source}: server.web = "{face.host}:{face.port}": give 127.0.0.1, or set server.allow_remote = true to let '
            "other machines in (then list the names they use in server.names)"
        )
    listener = listen(face.host, face.port, allow_remote=face.allow_remote)
    try:
        # Bound alone is not enough: with SO_REUSEADDR two may bind one port until one of them listens.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


async def run_with_page(
    live: LiveSite,
    viewer: Viewer,
    face: Face,
    listener: socket.socket,
    say: Callable[[str], None],
    metrics: SiteMetrics | None = None,
) -> None:
    """Serve page, API and metrics beside the site until a signal or `exit_after_s`; then everything ends in order.

    What fails first, site or page, ends both, and its error is raised. `listener` is one of `bind_page`.
    """
    port = int(listener.getsockname()[1])
    tls = tls_context(*face.tls) if face.tls is not None else None
    people = AccessFile(face.home / ACCESS_FILE, lambda line: live.service.note("access_changed", "access", line))
    access = Access(
        load_token(face.home / "token"), port, time.monotonic, names=face.names, secure=tls is not None, people=people
    )
    keep_pauses_short()
    live.add(lambda: collect_forever(live.service.clock))
    desk = FleetDesk(
        live.service,
        viewer,
        live.credentials,
        guard=lambda: live.listener.guard,
        timezone=viewer.place[1],
        address=face.address,
    )
    live.add(desk.run)
    live.supervise(face.stall_exit_s, Supervision.of(os.environ, os.getpid()))
    faces = [station_routes(desk), *driver_routes(desk, time.monotonic), limit_routes(live.service)]
    faces += [plan_routes(viewer.plan), metrics_routes(metrics or SiteMetrics(live, viewer))]
    started, stop = asyncio.Event(), _stop_of(face.exit_after_s, lambda: live.watchdog.end_by(END_S))
    web = asyncio.ensure_future(serve(create_app(viewer, access, faces), listener, tls=tls, started=started))
    site = asyncio.ensure_future(live.run(stop))
    starting, stopping = asyncio.ensure_future(started.wait()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([starting, web, site, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            greet(face, port, access.issue_login(life_s=None), say)
        await asyncio.wait([web, site, stopping], return_when=asyncio.FIRST_COMPLETED)
        web_ended = web.done()
        stop.set()
        # The page takes its leave while the vehicles' power goes down.
        web.cancel()
        await site
        if web_ended:
            web.result()
            raise RuntimeError("the page's server ended by itself")
    finally:
        stop.set()
        starting.cancel()
        stopping.cancel()
        if not web.cancelling():  # a second wish would cut short the time its readers have
            web.cancel()
        await asyncio.gather(web, site, starting, stopping, return_exceptions=True)


def greet(face: Face, port: int, login: str, say: Callable[[str], None]) -> None:
    """Tell where the page is, how to sign in once, and which options the other commands need to find this site."""
    base = f"http{'s' if face.tls is not None else ''}://{face.host}:{port}"
    token_file = face.home / "token"
    options = "" if base == SITE_URL else f" --url {base}"
    if token_file.absolute() != default_home().absolute() / "token":
        options += f" --token-file {shlex.quote(str(token_file))}"
    say(f"Page:        {base}")
    say(f"Operator:    {base}/login?token={login}   (once; lets this browser change things)")
    say(f"Token file:  {token_file}   (used by gridtide set-peak, status, explain, estop)")
    say(f"Try:         gridtide set-peak --limit {LIMIT_SHOWN}{options}")
    say(f"             gridtide status{options}")


def _stop_of(exit_after_s: float | None, on_signal: Callable[[], None] = lambda: None) -> asyncio.Event:
    """Set by SIGINT and SIGTERM, or after so many seconds; a second signal ends the process at once, and leases end discharge."""
    stop, loop, signals = asyncio.Event(), asyncio.get_running_loop(), list[int]()

    def told(number: int) -> None:
        if signals:
            os._exit(128 + number)
        signals.append(number)
        on_signal()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told, number)
    if exit_after_s is not None:
        loop.call_later(exit_after_s, stop.set)
    return stop
