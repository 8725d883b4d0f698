"""What `demo` and `run` share: the web server beside a live site, signals, the address printed for a person, the end."""

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from msgspec import Struct

from gridtide.app.config import SiteConfig
from gridtide.app.web.auth import Access, load_token
from gridtide.app.web.server import create_app, listen, serve
from gridtide.market.tariff import Tariff
from gridtide.run.live import LiveSite
from gridtide.run.station import DriverDefault
from gridtide.run.view import Site, Viewer


class Face(Struct, frozen=True, kw_only=True):
    """Where people find the site."""

    host: str
    port: int
    home: Path
    """Folder of the token file and of the store."""
    allow_remote: bool = False
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


async def run_with_page(live: LiveSite, viewer: Viewer, face: Face, say: Callable[[str], None]) -> None:
    """Serve page and API beside the site until a signal or `exit_after_s`; then everything ends in order."""
    listener = listen(face.host, face.port, allow_remote=face.allow_remote)
    port = int(listener.getsockname()[1])
    token_file = face.home / "token"
    access = Access(load_token(token_file), port, time.monotonic)
    app, started, stop = create_app(viewer, access), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if face.exit_after_s is not None:
        loop.call_later(face.exit_after_s, stop.set)
    web = asyncio.ensure_future(serve(app, listener, started=started))
    site = asyncio.ensure_future(live.run(stop))
    await asyncio.wait([asyncio.ensure_future(started.wait()), web, site], return_when=asyncio.FIRST_COMPLETED)
    base = f"http://{face.host}:{port}"
    say(f"Page:        {base}")
    say(f"Operator:    {base}/login?token={access.issue_login(life_s=None)}   (once; lets this browser change things)")
    say(f"Token file:  {token_file}   (used by gridtide set-peak, status, explain, estop)")
    try:
        await asyncio.wait([web, site], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        await site
    finally:
        web.cancel()
        await asyncio.gather(web, return_exceptions=True)
