"""One site under verification: the real controller, management system, sessions and store, an emulated plant, and levers."""

import asyncio
import math
import random
from collections import Counter
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
from gridtide.run.net import Link, LinkFaults, MemoryLink, memory_link
from gridtide.run.simloop import Trace
from gridtide.run.site import SiteService
from gridtide.run.steady_clock import SteadyClock, keep_time
from gridtide.run.store import MemoryStore, StoreError
from gridtide.run.verify.case import START_S, Case
from gridtide.run.verify.notes import Messages, NotedLink, NotedMeter, NotedOutbox
from gridtide.run.verify.stall import Gate, GatedLink, SimClock
from gridtide.run.watchdog import Watchdog
from gridtide.twin import plant as twin
from gridtide.twin.building import Building
from gridtide.twin.grid import GridEvent
from gridtide.wire.modbus.registers import Register, RegisterMap
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
UNPLUGGED_S: Final = 3.0
"""A driver who plugs in anew takes so long."""
WATCHING_METER: Final = RegisterMap(
    "site_and_grid", 1,
    (
        Register("power_kw", 0, "int32", unit="W"), Register("import_kwh", 2, "float64", unit="kWh"),
        Register("frequency_hz", 6, "float32", unit="Hz"), Register("voltage_l1_v", 8, "float32", unit="V"),
        Register("voltage_l2_v", 10, "float32", unit="V"), Register("voltage_l3_v", 12, "float32", unit="V"),
        Register("ambient_c", 14, "float32", unit="°C"),
    ),
)  # fmt: skip
"""As `SITE_METER`, with voltage, frequency and the air at the transformer."""
OFFSET_S: Final = 2.0**-20
"""The loop decides this long after the plant's tick: after everything that happens at the tick's own instant."""


class Rig:
    """Everything of one seed; made on the running virtual loop."""

    def __init__(self, case: Case, on_tick: Callable[["Rig"], None], trace: Trace | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.case, self.trace, self._on_tick = case, trace or Trace(), on_tick
        self.gate = Gate()
        """Shut while the controller's loop stands still."""
        self.true_clock, self.clock = SimClock(loop), SimClock(loop, self.gate)
        """The world's time, and that of the controller's machine."""
        self.store_broken = False
        self.store = MemoryStore(lambda _number: self.store_broken)
        self.noise: dict[int, LinkFaults] = {}
        """Links that are worse than on a good day, by row."""
        self.unreachable: Counter[int] = Counter()
        """By how many faults each station cannot dial."""
        self.swallowed: set[int] = set()
        """Stations whose way to us swallows everything."""
        self.links: dict[int, tuple[MemoryLink, MemoryLink]] = {}
        """The present link of each station: its end, ours."""
        self._serving: set[asyncio.Task[None]] = set()
        self._tasks: dict[str, asyncio.Future[None]] = {}
        self._dials = 0
        self.said = Messages()
        """All that stations sent and received so far; in the trace at every tick."""
        self.outboxes: dict[str, NotedOutbox] = {}
        """What each station owes and was told is kept."""
        self.failures: list[str] = []
        """Errors of ours that ended something nobody waits for."""
        loop.set_exception_handler(self._fail)
        here, plant = case.here, twin.start(case.here, START_S)
        self.stations = {row: self._station(row, version) for row, version in enumerate(case.versions)}
        self.emulated = EmulatedSite(
            here, plant, self.stations, self.true_clock, period_s=TICK_S, report_s=REPORT_S, spread=True
        )
        self.ambient_c = here.ambient_c
        """Air at the transformer."""
        device = WATCHING_METER if case.settings.protection.is_fast else SITE_METER
        self.meter = NotedMeter(self._metered, device, SimClock(loop, self.gate))
        self.good_since_s = 0.0
        """The controller sees a good grid since then, true time from the start."""
        self.bad_seen_s = 0.0
        """For so long in all it could see that the grid is not good."""
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
        if case.settings.protection.is_fast:
            self._tasks["grid"] = asyncio.ensure_future(site.watch_grid())
        # The loop's own side of the watchdog; its thread has no place in virtual time.
        site.stalled = Watchdog(now=self.clock.monotonic).took

    def kill_controller(self) -> None:
        """The controller process ends without a word (kill -9): its sockets are closed by the system."""
        for name in ("csms", "site", "clock", "grid"):
            task = self._tasks.pop(name, None)
            if task is not None:
                task.cancel()
        for serving in self._serving:
            serving.cancel()
        self.parts = None
        self.gate.forget()
        for near, _ in self.links.values():
            near.drop()

    def stop_controller(self) -> None:
        """The controller process ends in an orderly way (SIGTERM): every setpoint to zero, then what is under way leaves."""
        stopping = self.parts
        task = self._tasks.pop("site", None)
        if stopping is None or task is None:
            return
        task.cancel()
        if (watch := self._tasks.pop("grid", None)) is not None:
            watch.cancel()
        stopping.site.stop_all()

        async def drain() -> None:
            await self.true_clock.sleep(DRAIN_S)
            if self.parts is stopping:
                self.kill_controller()

        self._act(drain())

    def _act(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._acts.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: "asyncio.Task[None]") -> None:
        self._serving.discard(task)
        self._acts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(f"{type(error).__name__}: {error}")

    def _fail(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop reports: a callback that failed, or a task whose error nobody looked at."""
        error = context.get("exception")
        self.failures.append(f"{context['message']}: {type(error).__name__}: {error}")

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
            self.trace.record(self.true_clock.monotonic(), "links", "messages", self.said.crc.to_bytes(4, "big"))
            self._look_at_grid()
            self._on_tick(self)

    def _look_at_grid(self) -> None:
        """Whether the controller can see voltage and frequency, and whether they are good; ground truth."""
        watched = self.case.settings.protection.grid
        if watched is None:
            return
        truth, rules = self.emulated.here.grid.truth(self.true_clock.wall()), watched.profile
        is_good = rules.enter_low_pu <= truth.voltage_pu <= rules.enter_high_pu
        is_good &= rules.enter_low_hz <= truth.frequency_hz <= rules.enter_high_hz
        seen = self.parts is not None and not self.gate.is_shut
        seen &= self.meter.fault.kind in ("none", "spike", "sign_flip")
        if not (is_good and seen):
            self.good_since_s = self.at_s
        if seen and not is_good:
            self.bad_seen_s += TICK_S

    def _metered(self) -> dict[str, float]:
        return {**self.emulated.meter(), "ambient_c": self.ambient_c}

    def soon(self, act: Callable[[SiteService], Coroutine[Any, Any, object]]) -> None:
        """A person does something, and again until it has worked."""

        async def insist() -> None:
            while True:
                await self.gate.passed()
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
        if site.state.meter.sign_fault and self.meter.fault.kind != "sign_flip":
            raise ValueError("the alarm is not in the list yet")

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
        """Ground truth: mean power of each row over the last tick, kW; what flows through a welded contactor is nobody's."""
        sample = self.emulated.sample
        if sample is None:
            return np.zeros(self.case.here.table.size)
        welded = self.emulated.plant.evse.welded
        return np.where(welded, 0.0, sample.power_kw) if welded.any() else sample.power_kw

    @property
    def welded_kw(self) -> float:
        """Ground truth: charging through welded contactors, kW: load that nobody can switch off."""
        sample, welded = self.emulated.sample, self.emulated.plant.evse.welded
        return 0.0 if sample is None or not welded.any() else float(sample.power_kw[welded].clip(min=0.0).sum())

    # --- levers -----------------------------------------------------------------------------------------------------
    def break_meter(self, kind: str, kw: float = 0.0, delay_s: float = 0.0) -> None:
        """A fault of the site meter from now on; `none` repairs it."""
        self.meter.fault = Fault(kind=kind, kw=kw, delay_s=delay_s)  # type: ignore[arg-type]

    @property
    def most_kw(self) -> float:
        """What the connection and its transformer carry."""
        settings = self.case.settings
        unit = settings.protection.site
        rated_kw = math.inf if unit is None else unit.rating_kva * unit.power_factor
        return min(settings.limits.transformer_kw, rated_kw)

    def highest_building_kw(self, within_s: float) -> float:
        """The most that the building will draw by itself, and by what was thrown on, within `within_s` from now."""
        building = self.emulated.here.building
        place = max(int(self.true_clock.wall() - building.start_s), 0)
        return float(np.diff(building.cumulated_kws[place : place + int(within_s) + 2]).max())

    def throw_load(self, kw: float) -> None:
        """A load of the building goes on (or off, below zero) and stays."""
        self._thrown_kw += kw
        building = _with_load(self.case.here.building, self._thrown_kw)
        self.emulated.here = structs.replace(self.emulated.here, building=building)

    def stall(self) -> None:
        """The controller's loop stands still."""
        if self.parts is not None:
            self.gate.shut()

    def go_on(self) -> None:
        """The controller's loop goes on."""
        self.gate.open()

    def move_grid(self, frequency_hz: float | None = None, voltage_pu: float | None = None) -> None:
        """Voltage and frequency of the grid are these from now on; None stays."""
        grid = self.emulated.here.grid
        event = GridEvent(self.emulated.plant.at_s, frequency_hz, voltage_pu)
        self.emulated.here = structs.replace(
            self.emulated.here, grid=structs.replace(grid, events=(*grid.events, event))
        )

    def end_transaction(self, row: int) -> None:
        """The driver at `row` ends the transaction; the vehicle stays plugged in."""
        station = self.stations[row]
        if station.transaction_id is not None:
            station.blocks.transactions.stop("StopAuthorized", "Local")
            station.tick()

    def plug_again(self, row: int) -> None:
        """The driver at `row` unplugs and plugs in anew a moment later, if the vehicle is there at all."""
        plant = self.emulated.plant
        index, soc = int(plant.occupant[row]), float(plant.batteries.soc[row])
        if index < 0:
            return
        self.pull(row)

        async def back() -> None:
            await self.true_clock.sleep(UNPLUGGED_S)
            item, now = self.emulated.here.arrivals[index], self.emulated.plant
            if now.occupant[row] < 0 and item.departs_s > now.at_s:
                self.emulated.plant = twin.plug(self.emulated.here, now, index, soc)
                self.emulated.begin_anew(row)
                self.stations[row].plug(self.emulated.car(row))

        self._act(back())

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
        """The link at `row` swallows everything, both ways (half-open), and nobody can dial anew."""
        (self.swallowed.add if on else self.swallowed.discard)(row)
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
        # Nothing is owed yet.
        station.core.outbox = self.outboxes[station.identity] = NotedOutbox(
            station.identity, lambda: self.at_s, lambda: station.faults.duplicates
        )
        return station

    def _dial(self, row: int, version: Version) -> Dial:
        async def connect() -> Link:
            parts = self.parts
            if parts is None or self.unreachable[row] or row in self.swallowed:
                raise ConnectionRefusedError("nobody listens")
            self._dials += 1
            what = self.noise.get(row, self.case.noise)
            near, far = memory_link(
                self.true_clock, what.latency_s, jitter_s=what.jitter_s, loss=what.loss, duplicate=what.duplicate,
                seed=hash_of(self.case.seed, row, self._dials),
            )  # fmt: skip
            self.links[row] = (near, far)
            serving = asyncio.ensure_future(self._serve(parts.csms, row, version, far))
            self._serving.add(serving)
            serving.add_done_callback(self._served)
            return NotedLink(near, row, self.said)

        return connect

    async def _serve(self, csms: Csms, row: int, version: Version, far: Link) -> None:
        await self.gate.passed()
        await csms.serve(self.case.here.table.ids[row], version, GatedLink(far, self.gate))

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
