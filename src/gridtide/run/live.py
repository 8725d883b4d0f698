"""A site on real sockets: stations connect over OCPP, the meter answers over Modbus TCP, the loop runs. `run` and `demo` alike."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from gridtide.control import site as control
from gridtide.run import memory
from gridtide.run.assembly import SITE_METER, OcppListener, ids, socket_stations
from gridtide.run.clock import Clock, ScaledClock, WallClock
from gridtide.run.credentials import Credentials
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.operate import CALLS_AT_ONCE, CheckUrl
from gridtide.run.csms.registry import Registry, StationEntry
from gridtide.run.csms.service import Csms
from gridtide.run.csms.station import DriverDefault, Provision
from gridtide.run.doors import RegistryDoors, TlsVersion
from gridtide.run.emulator.site import EmulatedSite
from gridtide.run.lifelines import Lifelines
from gridtide.run.modbus import ModbusMeterClient, ModbusMeterServer
from gridtide.run.ocpp_server import Listen
from gridtide.run.pki import Pki
from gridtide.run.site import SiteService
from gridtide.run.steady_clock import SteadyClock, keep_time
from gridtide.run.store import SqliteStore, Store
from gridtide.run.store_watch import StoreWatch
from gridtide.run.systemd import Notifier, Supervision
from gridtide.run.tls import StationTls
from gridtide.run.warmup import Past
from gridtide.run.watchdog import STALL_S, Watchdog
from gridtide.twin.plant import World
from gridtide.wire.modbus.registers import RegisterMap
from gridtide.wire.ocpp.actions import Version

log = structlog.get_logger(__name__)
CANCEL_TRIES, CANCEL_S = 3, 0.5
"""Wishes to end that a task gets, and real seconds between two."""
CLOSE_S = 5.0
"""Real seconds that one part may take to close ..."""
STOP_S, LEAST_CLOSE_S = 3.5, 0.2
"""... and all together from the wish to stop on; the last ones have at least this each."""
RAMP_STEPS, RAMP_STEP_S = 4, 0.25
"""In how many steps every discharge goes down to zero before the program ends."""
BEAT_S = 0.1
HEALTHY_S, LOST_S = 3.0, 10.0
"""Real seconds without a control cycle after which the supervisor's watchdog is fed no more, and after which the site ends."""
Period = Callable[[float], tuple[float, float]]
Job = Callable[[], Coroutine[Any, Any, Any]]
DRAIN_S, DRAIN_STEP_S = 1.5, 0.02
"""Real seconds that the last setpoints have to leave, and between two looks."""


class Address(Struct, frozen=True):
    """Where something listens or is found."""

    host: str
    port: int


class LiveSite:
    """Owns what must be started and stopped together."""

    def __init__(
        self, service: SiteService, csms: Csms, listener: OcppListener, store: Store, credentials: Credentials
    ) -> None:
        self.service, self.csms, self.listener, self.store = service, csms, listener, store
        self.credentials = credentials
        self.emulated: EmulatedSite | None = None
        self.meter_client: ModbusMeterClient | None = None
        self.meter_server: ModbusMeterServer | None = None
        self.watchdog = Watchdog()
        self.notifier = Notifier(Supervision())
        self._stop_by_s: float | None = None
        self._jobs: list[Job] = [csms.tick_forever]
        self._closed = False

    def add(self, *jobs: Job) -> None:
        """Further loops that live as long as the site; called (and awaited) when it runs."""
        self._jobs = [*jobs, *self._jobs]

    def supervise(self, exit_after_s: float | None, supervision: Supervision) -> None:
        """Before `run`: end the process when its loop stands still for `exit_after_s`, and tell the supervisor how it goes."""
        self.watchdog, self.notifier = Watchdog(exit_after_s=exit_after_s), Notifier(supervision)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; the first loop that fails ends all, and its error is raised. Closes the site."""
        self.watchdog.start()
        self.service.stalled, self.service.applied = self.watchdog.took, Lifelines(self.csms, self.watchdog).look
        beats = asyncio.ensure_future(self._beat_forever())
        loop = asyncio.ensure_future(self.service.run())
        tasks = [asyncio.ensure_future(job()) for job in self._jobs]
        stopper = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait([beats, loop, *tasks, stopper], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopper}:
                task.result()
        finally:
            self._stop_by_s = asyncio.get_running_loop().time() + STOP_S
            self.notifier.stopping()
            try:
                # The loop ends first, so that no decision follows the last zero; stations and their links live on.
                await _cancel(stopper, loop)
                try:
                    if stop.is_set():
                        await self._ramp_down()
                finally:
                    self.service.stop_all()
                await self._drain()
            finally:
                try:
                    await _cancel(*tasks)
                    await self.close()
                finally:
                    await _cancel(beats)
                    self.watchdog.stop()

    async def _beat_forever(self) -> None:
        """Tell the watchdog that the loop runs, and the supervisor that the site controls. Raises RuntimeError when it does not."""
        now = asyncio.get_running_loop().time
        cycles, moved_s, beat_s, fed_s, is_ready = 0, now(), now(), -math.inf, False
        feed_s = self.notifier.supervision.feed_s
        while True:
            await asyncio.sleep(BEAT_S)
            self.watchdog.beat()
            # A pause of the whole program is no pause of the cycles alone.
            has_paused, beat_s = now() - beat_s > STALL_S, now()
            if self.service.cycles != cycles or has_paused:
                cycles, moved_s = self.service.cycles, now()
            if cycles and not is_ready:
                self.notifier.ready()
                is_ready = True
            idle_s = now() - moved_s
            if idle_s > self._slow() * LOST_S and self._stop_by_s is None:
                raise RuntimeError(f"no control cycle for {idle_s:.0f} s")
            if feed_s is not None and now() - fed_s >= feed_s and idle_s <= self._slow() * HEALTHY_S:
                fed_s = now()
                self.notifier.alive(self._status())

    def _slow(self) -> float:
        """Real time per site time, where the site's clock is slower than real time; else 1."""
        clock = self.service.clock
        return max(1.0, 1.0 / clock.speed) if isinstance(clock, ScaledClock) else 1.0

    def _status(self) -> str:
        state = self.service.decision.state if self.service.decision is not None else "waiting"
        return f"{state}; {self.csms.online} stations connected"

    async def _ramp_down(self) -> None:
        """Every discharge goes down in steps; charging is left as it is until the zero that follows."""
        for step in range(RAMP_STEPS - 1, 0, -1):
            if not self.service.lessen(step / RAMP_STEPS):
                return
            await asyncio.sleep(RAMP_STEP_S)

    async def _drain(self) -> None:
        """Let the last setpoints leave; at most `DRAIN_S` of real time, whatever the site's clock says."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + DRAIN_S
        while True:
            # The writers run in this pause, also after the last call has left its queue.
            await asyncio.sleep(DRAIN_STEP_S)
            talking = [item.conversation for item in self.csms.stations.values() if item.conversation is not None]
            for conversation in talking:
                conversation.tick()
            if loop.time() >= ends_s or not any(item.session.waiting_calls for item in talking):
                break
        await asyncio.sleep(DRAIN_STEP_S)

    async def close(self) -> None:
        """Discharge ends, sockets close, the store is flushed: each of them even when one before it fails. A second close
        does nothing."""
        if self._closed:
            return
        self._closed = True
        async with AsyncExitStack() as last_first:
            last_first.push_async_callback(self._bounded, self.store.close, "store")
            if self.meter_client is not None:
                last_first.push_async_callback(self._bounded, self.meter_client.close, "meter client")
            if self.meter_server is not None:
                last_first.push_async_callback(self._bounded, self.meter_server.close, "emulated meter")
            last_first.push_async_callback(self._bounded, self.listener.server.close, "stations' listener")
            last_first.push_async_callback(self._bounded, self.service.close, "site")

    async def _bounded(self, close: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """One close, `CLOSE_S` of real time at most, and less when time runs out: what hangs is told and left, so that the others
        are closed too."""
        left_s = CLOSE_S
        if self._stop_by_s is not None:
            left_s = max(min(CLOSE_S, self._stop_by_s - asyncio.get_running_loop().time()), LEAST_CLOSE_S)
        try:
            async with asyncio.timeout(left_s):
                await close()
        except TimeoutError:
            log.error("close_does_not_end", what=name)


async def _cancel(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel until all have ended: a library in between may take one cancellation for an error of its own and go on."""
    pending = {task for task in tasks if not task.done()}
    for _ in range(CANCEL_TRIES):
        for task in pending:
            task.cancel()
        if not pending:
            break
        _, pending = await asyncio.wait(pending, timeout=CANCEL_S)
    for task in pending:
        log.error("task_does_not_end", task=repr(task))
    # Whatever they ended with has been told by `run` already.
    await asyncio.gather(*(task for task in tasks if task.done()), return_exceptions=True)


class StationSide(Struct, frozen=True):
    """Where stations connect."""

    plain: Address
    """Security profile 1."""
    plain_anywhere: bool = False
    """Whether `plain` may be an address that other machines reach: only in a trusted network."""
    tls: Address | None = None
    """Security profiles 2 and 3."""
    pki: Path | None = None
    """Folder of the certificates, as `gridtide pki init` makes it."""
    conformance: bool = False
    """Also TLS 1.2 with the two suites that have no forward secrecy: for a test."""


async def open_site(
    settings: control.Settings,
    stations: Iterable[Provision],
    credentials: Credentials,
    clock: Clock,
    *,
    period: Period,
    store_path: Path,
    backups: Path | None = None,
    ocpp: Address | StationSide,
    meter: Address,
    registers: RegisterMap,
    past: Past | None = None,
    registry: Callable[[Store], Registry] | None = None,
    driver_default: Callable[[Registry], Callable[[str, float], DriverDefault | None]] = lambda _registry: _nothing,
    check_url: CheckUrl = lambda _address, _field: None,
    concurrency_limit: int = CALLS_AT_ONCE,
) -> LiveSite:
    """Open store and sockets of a site; raises OSError when an address is taken, CredentialError for keys others can read and
    for plain WebSockets where they are not meant. What fails leaves nothing open. Without a `registry` the stations given are
    registered, for security profile 1."""
    side = StationSide(ocpp) if isinstance(ocpp, Address) else ocpp
    stations = list(stations)
    async with AsyncExitStack() as opened:
        store = SqliteStore.open(store_path, clock.wall(), backups=backups)
        opened.push_async_callback(store.close)
        memory.set_right(clock, store)
        board = EvidenceBoard(settings.table)
        registered = registry(store) if registry is not None else Registry(store, map(_entry, stations))
        csms = Csms(
            settings.table, stations, board, store, clock, ids("c"), lease_s=settings.guard.lease_s,
            driver_default=driver_default(registered), registry=registered, check_url=check_url,
            concurrency_limit=concurrency_limit,
        )  # fmt: skip
        client = ModbusMeterClient(meter.host, meter.port, registers, clock, random.Random(1))
        opened.push_async_callback(client.close)
        service = SiteService(settings, board, csms, client, store, clock, period=period, **_begin(past))
        opened.push_async_callback(service.close)
        listener = _listener(side, csms, credentials, service, registered, clock)
        await listener.server.start()
        opened.pop_all()
    live = LiveSite(service, csms, listener, store, credentials)
    live.meter_client = client
    # The disk knows no scaled time.
    live.add(StoreWatch(store, store_path, WallClock(), service.note, service.unstored).run)
    live.add(listener.watch.run)
    if settings.protection.is_fast:
        live.add(service.watch_grid)
    if isinstance(clock, SteadyClock):
        live.add(lambda: keep_time(clock, lambda: service.is_quiet, service.note))
    return live


def _listener(
    side: StationSide, csms: Csms, credentials: Credentials, service: SiteService, registered: Registry, clock: Clock
) -> OcppListener:
    """The stations' listener: plain for security profile 1, and TLS beside it where there are certificates."""
    pki = Pki(side.pki) if side.tls is not None and side.pki is not None else None
    more = []
    if side.tls is not None and pki is not None:
        tls = StationTls(pki.tls_settings(minimum=_lowest_tls(registered), conformance=side.conformance))
        _follow(registered, tls)
        more.append(Listen(side.tls.host, side.tls.port, tls))
        csms.sign_with(lambda csr, serial, _: asyncio.to_thread(pki.sign_csr, csr, serial, clock.wall()), pki.operator)
    return OcppListener(
        csms, credentials, service.note, side.plain.host, side.plain.port, more=more,
        door=RegistryDoors(registered.stations, registered.moves), identity_of_serial=registered.by_serial, clock=clock,
        profile1_addresses=frozenset({side.plain.host}) if side.plain_anywhere else frozenset(),
        expiries=pki.expiries if pki is not None else None,
    )  # fmt: skip


def _lowest_tls(registered: Registry) -> TlsVersion:
    return "1.2" if any(entry.tls_min == "1.2" for entry in registered.stations.values()) else "1.3"


def _follow(registered: Registry, tls: StationTls) -> None:
    """A station registered for TLS 1.2 while the site runs can connect at once; with the last one TLS 1.2 is gone."""
    before = registered.changed

    def changed(identity: str) -> None:
        before(identity)
        tls.set_minimum(_lowest_tls(registered))

    registered.changed = changed


def _entry(provision: Provision) -> StationEntry:
    return StationEntry(
        identity=provision.identity,
        dialect=provision.dialect,
        discharge_opt_in=provision.discharge_opt_in,
        from_file=True,
    )


def _nothing(_token: str, _now_s: float) -> DriverDefault | None:
    return None


def _begin(past: Past | None) -> dict[str, Any]:
    if past is None:
        return {}
    return {"state": past.state, "carried": past.carried, "shadow_state": past.shadow_state, "history": past.history}


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
    live.add(plant.run, *(station.run for station in stations.values()))
