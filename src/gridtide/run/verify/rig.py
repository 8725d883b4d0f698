"""One site under verification: the real controller, management system, sessions and store, an emulated plant, and levers."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

import numpy as np
import structlog
from msgspec import structs

from gridtide.model.fleet import Floats
from gridtide.run.assembly import SITE_METER, Controller, controller, ids
from gridtide.run.csms.service import Csms
from gridtide.run.emulator.site import EmulatedSite
from gridtide.run.emulator.station import Dial, EmulatedStation
from gridtide.run.modbus import MemoryMeter
from gridtide.run.net import Link, LinkFaults, MemoryLink, memory_link
from gridtide.run.simloop import Trace
from gridtide.run.site import SiteService
from gridtide.run.steady_clock import SteadyClock, keep_time
from gridtide.run.store import MemoryStore, StoreError
from gridtide.run.verify.case import START_S, Case
from gridtide.twin import plant as twin
from gridtide.twin.building import Building
from gridtide.wire.modbus.server import Fault
from gridtide.wire.ocpp.actions import Version

log = structlog.get_logger(__name__)
TICK_S: Final = 0.1
"""The plant advances, and the invariants are checked, so often."""
REPORT_S: Final = 1.0
LONGEST_PAUSE_S: Final = 16.0
"""Of a station between two tries to come back: full service within a minute allows no more."""
DRAIN_S: Final = 1.5
"""What a stopping controller waits for its last messages."""
OFFSET_S: Final = 2.0**-20
"""The loop decides this long after the plant's tick: after everything that happens at the tick's own instant."""


class SimClock:
    """Virtual time from `START_S`; the wall side can be stepped, the monotonic side cannot."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.step_s = 0.0

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return START_S + self._loop.time()

    def wall(self) -> float:
        """UTC epoch seconds as this clock believes."""
        return START_S + self._loop.time() + self.step_s

    async def sleep(self, duration_s: float) -> None:
        """Wait `duration_s`."""
        await self.sleep_until(self.monotonic() + duration_s)

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until `monotonic()` has reached `monotonic_s`."""
        loop_s = monotonic_s - START_S
        if self._loop.time() >= loop_s:
            await asyncio.sleep(0)
            return
        arrival: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_at(loop_s, _wake, arrival)
        try:
            await arrival
        finally:
            timer.cancel()


class Rig:
    """Everything of one seed; made on the running virtual loop."""

    def __init__(self, case: Case, on_tick: Callable[["Rig"], None], trace: Trace | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.case, self.trace, self._on_tick = case, trace or Trace(), on_tick
        self.true_clock, self.clock = SimClock(loop), SimClock(loop)
        """The world's time, and that of the controller's machine."""
        self.store_broken = False
        self.store = MemoryStore(lambda _number: self.store_broken)
        self.noise: dict[int, LinkFaults] = {}
        """Links that are worse than on a good day, by row."""
        self.unreachable: set[int] = set()
        """Stations that cannot dial."""
        self.links: dict[int, tuple[MemoryLink, MemoryLink]] = {}
        """The present link of each station: its end, ours."""
        self._serving: set[asyncio.Task[None]] = set()
        self._tasks: dict[str, asyncio.Future[None]] = {}
        self._dials = 0
        here, plant = case.here, twin.start(case.here, START_S)
        self.stations = {row: self._station(row, version) for row, version in enumerate(case.versions)}
        self.emulated = EmulatedSite(
            here, plant, self.stations, self.true_clock, period_s=TICK_S, report_s=REPORT_S, spread=True
        )
        self.meter = MemoryMeter(self.emulated.meter, SITE_METER, self.true_clock)
        self.parts: Controller | None = None
        self.estop_pressed = False
        self.surge_kw = 0.0
        """Load that was thrown on last, kW."""
        self._thrown_kw = 0.0
        self._acts: set[asyncio.Task[None]] = set()

    # --- life -------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Set everything going."""
        self.start_controller()
        self._tasks["plant"] = asyncio.ensure_future(self._run_plant())
        for row, station in self.stations.items():
            self._tasks[f"station-{row}"] = asyncio.ensure_future(station.run())

    def start_controller(self) -> None:
        """A controller process begins, on the store that is there."""
        case, clock = self.case, SteadyClock(self.clock)
        self.parts = controller(
            case.here.table, case.settings, self.store, clock, self.meter, versions=case.versions,
            period=lambda _now_s: (START_S - 86_400.0, START_S + 30 * 86_400.0), tick_offset_s=OFFSET_S, trace=self.trace,
        )  # fmt: skip
        self._tasks["csms"] = asyncio.ensure_future(self.parts.csms.tick_forever())
        site = self.parts.site
        self._tasks["site"] = asyncio.ensure_future(site.run())
        self._tasks["clock"] = asyncio.ensure_future(keep_time(clock, lambda: site.is_quiet, site.note))

    def kill_controller(self) -> None:
        """The controller process ends without a word (kill -9): its sockets are closed by the system."""
        for name in ("csms", "site", "clock"):
            task = self._tasks.pop(name, None)
            if task is not None:
                task.cancel()
        for serving in self._serving:
            serving.cancel()
        self.parts = None
        for near, _ in self.links.values():
            near.drop()

    def stop_controller(self) -> None:
        """The controller process ends in an orderly way (SIGTERM): every setpoint to zero, then what is under way leaves."""
        stopping = self.parts
        task = self._tasks.pop("site", None)
        if stopping is None or task is None:
            return
        task.cancel()
        stopping.site.stop_all()

        async def drain() -> None:
            await self.true_clock.sleep(DRAIN_S)
            if self.parts is stopping:
                self.kill_controller()

        self._act(drain())

    def _act(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)

    async def pass_time(self, until_s: float) -> None:
        """Let time pass until `until_s` from the start; the first part that failed is raised."""
        until = asyncio.ensure_future(self.true_clock.sleep_until(START_S + until_s))
        while not until.done():
            await asyncio.wait([until, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
            for task in tuple(self._tasks.values()):
                if task.done() and not task.cancelled():
                    task.result()
                    raise RuntimeError(f"a part that should run for ever ended: {task}")

    async def _run_plant(self) -> None:
        tick = 0
        while True:
            tick += 1
            await self.true_clock.sleep_until(START_S + tick * TICK_S)
            self.emulated.beat()
            self._on_tick(self)

    def soon(self, act: Callable[[SiteService], Coroutine[Any, Any, object]]) -> None:
        """A person does something, and again until it has worked."""

        async def insist() -> None:
            while True:
                try:
                    if self.site is not None:
                        await act(self.site)
                        return
                except (StoreError, ValueError) as error:
                    log.debug("person_tries_again", error=str(error))
                await self.true_clock.sleep(1.0)

        self._act(insist())

    async def acknowledge(self, site: SiteService) -> None:
        """A person has looked at every alarm."""
        for event in site.store.events():
            if not event.seen and event.severity == "alarm":
                await site.mark_seen(event.id, "verification")

    # --- what there is ----------------------------------------------------------------------------------------------
    @property
    def at_s(self) -> float:
        """True time from the start, s."""
        return self.true_clock.monotonic() - START_S

    @property
    def site(self) -> SiteService | None:
        """The living site loop."""
        return None if self.parts is None else self.parts.site

    @property
    def csms(self) -> Csms | None:
        """The living management system."""
        return None if self.parts is None else self.parts.csms

    @property
    def power_kw(self) -> Floats:
        """Ground truth: mean power of each row over the last tick, kW."""
        sample = self.emulated.sample
        return np.zeros(self.case.here.table.size) if sample is None else sample.power_kw

    # --- levers -----------------------------------------------------------------------------------------------------
    def break_meter(self, kind: str, kw: float = 0.0, delay_s: float = 0.0) -> None:
        """A fault of the site meter from now on; `none` repairs it."""
        self.meter.fault = Fault(kind=kind, kw=kw, delay_s=delay_s)  # type: ignore[arg-type]

    def throw_load(self, kw: float) -> None:
        """A load of the building goes on (or off, below zero) and stays."""
        self._thrown_kw += kw
        building = _with_load(self.case.here.building, self._thrown_kw)
        self.emulated.here = structs.replace(self.emulated.here, building=building)

    def pull(self, row: int) -> None:
        """The vehicle at `row` is unplugged without a word before."""
        self.emulated.plant = twin.unplug(self.emulated.plant, row)
        self.stations[row].unplug()

    def heat(self, row: int, heat_c: float) -> None:
        """The heat sink at `row` is this hot now."""
        state = self.emulated.plant.evse
        heats = state.heat_c.copy()
        heats[row] = heat_c
        self.emulated.plant = structs.replace(self.emulated.plant, evse=structs.replace(state, heat_c=heats))

    def blackhole(self, row: int, *, on: bool) -> None:
        """The link at `row` swallows everything, both ways (half-open)."""
        for end in self.links.get(row, ()):
            end.blackhole = on

    def worsen(self, row: int, faults: LinkFaults | None) -> None:
        """The link at `row`, and those dialled later, do this to messages; None: as on a good day."""
        if faults is None:
            self.noise.pop(row, None)
        else:
            self.noise[row] = faults
        for end in self.links.get(row, ()):
            end.faults = faults or self.case.noise

    # --- stations ---------------------------------------------------------------------------------------------------
    def _station(self, row: int, version: Version) -> EmulatedStation:
        luck = random.Random(f"{self.case.seed}/station/{row}")
        table = self.case.here.table
        station = EmulatedStation(
            table.ids[row], version, self._dial(row, version), self.true_clock, ids(f"s{row}-"), luck,
            float(table.fallback_kw[row]),
        )  # fmt: skip
        station.longest_pause_s = LONGEST_PAUSE_S
        return station

    def _dial(self, row: int, version: Version) -> Dial:
        async def connect() -> Link:
            parts = self.parts
            if parts is None or row in self.unreachable:
                raise ConnectionRefusedError("nobody listens")
            self._dials += 1
            what = self.noise.get(row, self.case.noise)
            near, far = memory_link(
                self.true_clock, what.latency_s, jitter_s=what.jitter_s, loss=what.loss, duplicate=what.duplicate,
                seed=hash_of(self.case.seed, row, self._dials),
            )  # fmt: skip
            self.links[row] = (near, far)
            serving = asyncio.ensure_future(parts.csms.serve(self.case.here.table.ids[row], version, far))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
            return near

        return connect

    async def close(self) -> None:
        """End everything; the plant stays to be looked at."""
        tasks: list[asyncio.Future[None]] = [*self._tasks.values(), *self._serving, *self._acts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def hash_of(*numbers: int) -> int:
    """One seed of several numbers, the same in every process."""
    return random.Random("/".join(map(str, numbers))).getrandbits(31)


def _with_load(building: Building, kw: float) -> Building:
    """The building with `kw` more; a tenth of what it draws by itself never goes off."""
    power = np.diff(building.cumulated_kws)
    power = np.maximum(power + kw, 0.1 * power)
    return Building(building.start_s, np.concatenate([[0.0], np.cumsum(power)]))


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)
