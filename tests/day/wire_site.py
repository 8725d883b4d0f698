"""A small site on the wire tier in virtual time: real sessions, codecs and store over in-memory links, for the day tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import numpy as np

from gridtide.control import site
from gridtide.control.peak import PeakSettings
from gridtide.model.decision import Decision
from gridtide.model.fleet import EvseTable, Floats, SiteLimits
from gridtide.run import assembly
from gridtide.run.clock import LoopClock
from gridtide.run.emulator.station import EmulatedStation
from gridtide.run.modbus import MemoryMeter
from gridtide.run.net import Link, MemoryLink
from gridtide.run.simloop import Trace, run_sim
from gridtide.run.store import MemoryStore, Store
from gridtide.twin import evse
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import LoadSeries, textured
from gridtide.twin.plant import Plant, World
from gridtide.wire.modbus.registers import RegisterMap
from gridtide.wire.modbus.server import Fault
from gridtide.wire.ocpp.actions import Version

T = TypeVar("T")
START_S = 1_772_445_600.0
"""2026-03-02 10:00 UTC, the border of a demand interval."""
V21: tuple[Version, ...] = ("2.1",)
CYCLE_S = 0.5
OFFSET_S = 2.0**-20
"""The loop decides this long after the plant's beat: after everything that happens at the beat's own instant."""
FOLLOWING = PeakSettings(mode="threshold", limit_kw=220.0, buffer_kw=20.0)
"""Gives what exceeds 200 kW: steady and foreseeable."""
BUDGET = PeakSettings(limit_kw=200.0)
"""The default rule, with a limit it has to work for."""
BLOCKS_KW = (170.0, 225.0, 210.0, 150.0, 190.0, 160.0, 140.0, 140.0)
"""The building by quarter hours from `START_S`; the second one is the busiest."""
BUSY_S = 900.0


class EpochClock(LoopClock):
    """Virtual time whose monotonic side counts from the epoch too, so that states fit the fast tier's instants."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_s: float) -> None:
        super().__init__(loop.time, start_s)
        self._start_s = start_s

    def monotonic(self) -> float:
        return self.wall()

    async def sleep_until(self, monotonic_s: float) -> None:
        await super().sleep_until(monotonic_s - self._start_s)

    async def sleep(self, duration_s: float) -> None:
        await self.sleep_until(self.monotonic() + duration_s)


def table(size: int) -> EvseTable:
    """Bidirectional 11 kW EVSEs that follow at once; a silent one is to be reserved 4 kW."""

    def full(value: float) -> Floats:
        return np.full(size, value)

    return EvseTable(
        ids=tuple(f"bay-{number}" for number in range(1, size + 1)), charge_kw=full(11.0), discharge_kw=full(11.0),
        least_kw=full(0.5), step_kw=full(0.0), ramp_kw_per_s=full(11.0), hold_s=full(60.0), efficiency=full(0.94),
        fallback_kw=full(4.0), phase_share=np.full((size, 3), 1.0 / 3.0), group=np.full(size, -1),
        storage=np.zeros(size, dtype=np.bool_),
    )  # fmt: skip


def stay(
    row: int, arrives_s: float, leaves_s: float, soc: float = 0.7, target_soc: float = 0.6, kwh: float = 60.0
) -> Arrival:
    """A bidirectional vehicle at `row`; instants in seconds from `START_S`."""
    came, goes = START_S + arrives_s, START_S + leaves_s
    need = max(0.0, target_soc - soc) * kwh / 0.94
    return Arrival(f"car-{row}-{arrives_s:.0f}", row, came, goes, goes, kwh, soc, target_soc, need, True)


def stays(size: int) -> list[Arrival]:
    """One vehicle a bay from the start, some of which still want charge."""
    return [
        stay(row, -600.0 * (row + 1), 4 * 3600.0 + 600.0 * row, 0.62 + 0.03 * row, 0.55 + 0.05 * (row % 4))
        for row in range(size)
    ]


def world(
    size: int = 6, seed: int = 1, model: str = "fast", arrivals: list[Arrival] | None = None,
    blocks_kw: Sequence[float] = BLOCKS_KW,
) -> World:  # fmt: skip
    """The building of `blocks_kw` with texture, and vehicles."""
    building = textured(LoadSeries(START_S, 900.0, np.array(blocks_kw)), seed)
    return twin.world(table(size), [evse.MODELS[model]] * size, building, stays(size) if arrivals is None else arrivals)


def settings(here: World, rule: PeakSettings = FOLLOWING, transformer_kw: float = 400.0) -> site.Settings:
    """A connection and the rule that holds its peak."""
    return site.Settings(
        table=here.table, limits=SiteLimits(transformer_kw=transformer_kw, static_building_kw=300.0),
        peak=rule, cycle_s=CYCLE_S,
    )  # fmt: skip


def period(_now_s: float) -> tuple[float, float]:
    """The billing period around everything here."""
    return START_S - 86_400.0, START_S + 30 * 86_400.0


class Recorder(Trace):
    """A trace that also keeps every decision's setpoints: (instant, kW per row)."""

    def __init__(self) -> None:
        super().__init__()
        self.setpoints: list[tuple[float, Floats]] = []

    def record(self, t_s: float, actor: str, event: str, payload: bytes = b"") -> None:
        super().record(t_s, actor, event, payload)
        if event == "decision":
            self.setpoints.append((t_s, np.frombuffer(payload)))


class WireSite:
    """The parts of a site under way, and levers for faults."""

    def __init__(
        self,
        here: World,
        *,
        start_s: float = START_S,
        plant: Plant | None = None,
        rule: PeakSettings = FOLLOWING,
        transformer_kw: float = 400.0,
        versions: tuple[Version, ...] | None = None,
        store: Store | None = None,
        registers: RegisterMap | None = None,
    ) -> None:
        """Starts nothing yet; must be made on the running virtual loop."""
        self.here, self.store, self.trace = here, store or MemoryStore(), Recorder()
        self.clock = EpochClock(asyncio.get_running_loop(), start_s)
        self.parts = assembly.in_memory(
            here, plant or twin.start(here, start_s), settings(here, rule, transformer_kw), self.store, self.clock,
            versions=versions or here.table.size * V21, period=period, tick_offset_s=OFFSET_S, trace=self.trace,
        )  # fmt: skip
        assert self.parts.plant is not None
        self.emulated, self.site = self.parts.plant, self.parts.site
        self.csms, self.board = self.parts.csms, self.parts.board
        if registers is not None:
            self.site._meter = MemoryMeter(self.emulated.meter, registers, self.clock)
        self.links: dict[int, MemoryLink] = {}
        for row, station in self.stations.items():
            station._dial = self._watched(row, station._dial)
        self._tasks: dict[str, asyncio.Future[None]] = {}

    @property
    def stations(self) -> dict[int, EmulatedStation]:
        return self.emulated.stations

    @property
    def power_kw(self) -> Floats:
        """Ground truth: the power stages now, kW."""
        return self.emulated.plant.evse.power_kw

    @property
    def decision(self) -> Decision:
        assert self.site.decision is not None
        return self.site.decision

    @property
    def codes(self) -> dict[str, int]:
        """Events told so far: code -> count."""
        counted: dict[str, int] = {}
        for event in self.store.events(1_000):
            counted[event.code] = counted.get(event.code, 0) + event.count
        return counted

    def _watched(self, row: int, dial: Callable[[], Awaitable[Link]]) -> Callable[[], Awaitable[Link]]:
        async def connect() -> Link:
            link = await dial()
            assert isinstance(link, MemoryLink)
            self.links[row] = link
            return link

        return connect

    def start(self) -> None:
        """Set everything going: plant, stations, CSMS, site loop."""
        self._spawn("plant", self.emulated.run())
        self._spawn("csms", self.csms.tick_forever())
        self._spawn("site", self.site.run())
        for row, station in self.stations.items():
            self._spawn(f"station-{row}", station.run())

    def _spawn(self, name: str, work: Awaitable[None]) -> None:
        self._tasks[name] = asyncio.ensure_future(work)

    async def after(self, seconds: float) -> "WireSite":
        """Let virtual time pass; the first loop that failed is raised."""
        until = asyncio.ensure_future(self.clock.sleep(seconds))
        await asyncio.wait([until, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks.values():
            if task.done() and not task.cancelled():
                task.result()
        await until
        return self

    async def until_giving(self, least_kw: float = 10.0, within_s: float = 1_200.0) -> "WireSite":
        """Let time pass until the vehicles really give `least_kw`."""
        for _ in range(round(within_s / CYCLE_S)):
            if -self.power_kw.sum() >= least_kw:
                return self
            await self.after(CYCLE_S)
        raise AssertionError(f"nobody gives {least_kw} kW within {within_s} s: {self.power_kw}")

    def break_meter(self, kind: str, kw: float = 0.0) -> None:
        """A fault of the site meter from now on; `none` repairs it."""
        meter = self.site._meter
        assert isinstance(meter, MemoryMeter)
        meter.fault = Fault(kind=kind, kw=kw)  # type: ignore[arg-type]

    def kill_csms(self) -> None:
        """The controller dies without a word: no task of it runs on, no link is closed."""
        for name in ("csms", "site"):
            self._tasks.pop(name).cancel()
        for task in asyncio.all_tasks():
            if getattr(task.get_coro(), "__qualname__", "") == "Csms.serve":
                task.cancel()

    async def stop(self) -> None:
        """Cancel everything, site first; the plant stays to be looked at."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def on_wire(scenario: Callable[[], Awaitable[T]], seed: int = 1) -> T:
    """Run a scenario in virtual time."""

    async def run() -> T:
        return await scenario()

    return run_sim(run(), seed=seed)
