"""A site on real sockets: stations connect over OCPP, the meter answers over Modbus TCP, the loop runs. `run` and `demo` alike."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from gridtide.control import site as control
from gridtide.run.assembly import SITE_METER, OcppListener, ids, socket_stations
from gridtide.run.clock import Clock
from gridtide.run.credentials import Credentials
from gridtide.run.csms import Csms
from gridtide.run.emulated_site import EmulatedSite
from gridtide.run.evidence import EvidenceBoard
from gridtide.run.modbus import ModbusMeterClient, ModbusMeterServer
from gridtide.run.site import Meter, SiteService
from gridtide.run.station import DriverDefault, Provision
from gridtide.run.store import SqliteStore, Store
from gridtide.run.warmup import Past
from gridtide.twin.plant import World
from gridtide.wire.modbus.registers import RegisterMap
from gridtide.wire.ocpp.actions import Version

log = structlog.get_logger(__name__)
Period = Callable[[float], tuple[float, float]]


class Address(Struct, frozen=True):
    """Where something listens or is found."""

    host: str
    port: int


class LiveSite:
    """Owns what must be started and stopped together."""

    def __init__(self, service: SiteService, csms: Csms, listener: OcppListener, store: Store) -> None:
        self.service, self.csms, self.listener, self.store = service, csms, listener, store
        self.emulated: EmulatedSite | None = None
        self.meter_server: ModbusMeterServer | None = None
        self._jobs: list[Coroutine[Any, Any, Any]] = [csms.tick_forever(), service.run()]

    def add(self, *jobs: Coroutine[Any, Any, Any]) -> None:
        """Further loops that live as long as the site."""
        self._jobs = [*jobs, *self._jobs]

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; the first loop that fails ends all, and its error is raised."""
        tasks = [asyncio.ensure_future(job) for job in self._jobs]
        stopper = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopper], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopper}:
                task.result()
        finally:
            stopper.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Discharge ends, sockets close, the store is flushed."""
        await self.service.close()
        await self.listener.server.close()
        if self.meter_server is not None:
            await self.meter_server.close()
        await self.store.close()


async def open_site(
    settings: control.Settings,
    stations: Iterable[Provision],
    credentials: Credentials,
    clock: Clock,
    *,
    period: Period,
    store_path: Path,
    ocpp: Address,
    meter: Address,
    registers: RegisterMap,
    past: Past | None = None,
    driver_default: Callable[[str, float], DriverDefault | None] = lambda _token, _now: None,
) -> LiveSite:
    """Open store and sockets of a site; raises OSError when an address is taken."""
    store = SqliteStore.open(store_path, clock.wall())
    board = EvidenceBoard(settings.table)
    csms = Csms(
        settings.table, list(stations), board, store, clock, ids("c"), lease_s=settings.guard.lease_s,
        driver_default=driver_default,
    )  # fmt: skip
    client: Meter = ModbusMeterClient(meter.host, meter.port, registers, clock, random.Random(1))
    begin = {} if past is None else {
        "state": past.state, "carried": past.carried, "shadow_state": past.shadow_state, "history": past.history
    }  # fmt: skip
    service = SiteService(settings, board, csms, client, store, clock, period=period, **begin)  # type: ignore[arg-type]
    listener = OcppListener(csms, credentials, service.note, ocpp.host, ocpp.port)
    await listener.server.start()
    return LiveSite(service, csms, listener, store)


async def emulate_plant(
    live: LiveSite,
    here: World,
    past: Past,
    versions: tuple[Version, ...],
    passwords: dict[str, str],
    clock: Clock,
    meter: Address,
) -> None:
    """Put an emulated plant behind a live site: its stations dial the site's own CSMS, its meter serves Modbus TCP."""
    url = f"ws://127.0.0.1:{live.listener.server.port}/ocpp"
    stations = socket_stations(here.table, versions, passwords, url, clock, range(len(versions)))
    plant = EmulatedSite(here, past.plant, stations, clock, period_s=live.service.settings.cycle_s, report_s=1.0)
    plant.beat()
    server = ModbusMeterServer(SITE_METER, plant.meter, host=meter.host, port=meter.port)
    await server.start()
    live.emulated, live.meter_server = plant, server
    live.add(plant.run(), *(station.run() for station in stations.values()))
