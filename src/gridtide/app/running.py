"""What `demo` and `run` share: the web server beside a live site, signals, the address printed for a person, the end."""

import asyncio
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
from gridtide.app.config import SiteConfig
from gridtide.app.home import default_home
from gridtide.app.web.auth import Access, is_loopback, load_token
from gridtide.app.web.server import create_app, listen, serve
from gridtide.market.tariff import Tariff
from gridtide.run.csms.station import DriverDefault
from gridtide.run.live import LiveSite
from gridtide.run.view import Site, Viewer

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


def no_battery(config: SiteConfig) -> None:
    """A stationary battery can be studied, but no inverter is driven live yet. Raises ValueError."""
    if config.battery is not None:
        raise ValueError(
            "[battery]: a stationary battery works in `gridtide simulate`; live sites cannot drive one yet: remove it"
        )


def driver_defaults(config: SiteConfig) -> Callable[[str, float], DriverDefault | None]:
    """`[drivers]` as a function of token and instant: the next departure at that clock time, and the energy wanted."""
    zone = ZoneInfo(config.site.timezone)
    own = {item.id_token: item for item in config.drivers.token}

    def default(token: str, now_s: float) -> DriverDefault | None:
        mine = own.get(token)
        departure = mine.departure if mine is not None and mine.departure is not None else config.drivers.departure
        energy = mine.energy_kwh if mine is not None and mine.energy_kwh is not None else config.drivers.energy_kwh
        hour, minute = (int(part) for part in departure.split(":"))
        now = datetime.fromtimestamp(now_s, zone)
        leaves = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        if leaves <= now:
            leaves = (now.replace(tzinfo=None) + timedelta(days=1)).replace(
                hour=hour, minute=minute, second=0, microsecond=0, tzinfo=zone
            )
        return DriverDefault(leaves.timestamp(), energy)

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
    live: LiveSite, viewer: Viewer, face: Face, listener: socket.socket, say: Callable[[str], None]
) -> None:
    """Serve page and API beside the site until a signal or `exit_after_s`; then everything ends in order.

    What fails first, site or page, ends both, and its error is raised. `listener` is one of `bind_page`.
    """
    port = int(listener.getsockname()[1])
    access = Access(load_token(face.home / "token"), port, time.monotonic, names=face.names)
    started, stop = asyncio.Event(), _stop_of(face.exit_after_s)
    web = asyncio.ensure_future(serve(create_app(viewer, access), listener, started=started))
    site = asyncio.ensure_future(live.run(stop))
    starting = asyncio.ensure_future(started.wait())
    try:
        await asyncio.wait([starting, web, site], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            greet(face, port, access.issue_login(life_s=None), say)
        await asyncio.wait([web, site], return_when=asyncio.FIRST_COMPLETED)
        web_ended = web.done()
        stop.set()
        await site
        if web_ended:
            web.result()
            raise RuntimeError("the page's server ended by itself")
    finally:
        stop.set()
        starting.cancel()
        web.cancel()
        await asyncio.gather(web, site, starting, return_exceptions=True)


def greet(face: Face, port: int, login: str, say: Callable[[str], None]) -> None:
    """Tell where the page is, how to sign in once, and which options the other commands need to find this site."""
    base = f"http://{face.host}:{port}"
    token_file = face.home / "token"
    options = "" if base == SITE_URL else f" --url {base}"
    if token_file.absolute() != default_home().absolute() / "token":
        options += f" --token-file {shlex.quote(str(token_file))}"
    say(f"Page:        {base}")
    say(f"Operator:    {base}/login?token={login}   (once; lets this browser change things)")
    say(f"Token file:  {token_file}   (used by gridtide set-peak, status, explain, estop)")
    say(f"Try:         gridtide set-peak --limit {LIMIT_SHOWN}{options}")
    say(f"             gridtide status{options}")


def _stop_of(exit_after_s: float | None) -> asyncio.Event:
    """Set by SIGINT and SIGTERM, or after so many seconds."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if exit_after_s is not None:
        loop.call_later(exit_after_s, stop.set)
    return stop
