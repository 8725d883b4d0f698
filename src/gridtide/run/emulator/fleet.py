"""A fleet of emulated stations with vehicles in one process: connects at a ramp, obeys what it is told, counts."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from gridtide.model.fleet import EvseTable, Floats
from gridtide.run.clock import Clock
from gridtide.run.emulator.dialling import Access, Profile, client_context, reach
from gridtide.run.emulator.site import EmulatedSite
from gridtide.run.emulator.station import Dial, EmulatedStation, Setup
from gridtide.run.net import Link
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import CAPACITIES_KWH, Arrival
from gridtide.twin.building import Building
from gridtide.twin.evse import MODELS
from gridtide.twin.plant import Plant, World
from gridtide.wire.ocpp.actions import Version

EFFICIENCY = 0.94
VISITS = 20
"""Vehicles a bay sees at most."""
GAP_S = 60.0
"""Between two vehicles."""
FAULTS = ("silent", "refuses_discharge", "ignores_setpoints", "malformed", "drops", "duplicates", "late", "skew")
LATE_S, SKEW_S = 5.0, 60.0
"""What the faults `late` and `skew` mean."""


class FleetPlan(Struct, frozen=True, kw_only=True):
    """What to emulate, and against whom."""

    csms: str
    version: Version
    profile: Profile
    identities: tuple[str, ...]
    passwords: dict[str, str] = {}
    ca: str | None = None
    certificates: str | None = None
    """Folder with SERIAL.crt and SERIAL.key; the serial number is the identity."""
    ramp_per_s: float = 50.0
    period_s: float = 1.0
    """Step of the plant: setpoints and leases are followed this finely."""
    tick_s: float = 5.0
    """How often a station looks at its timers and meter."""
    meter_s: int = 60
    """TxUpdatedInterval, and the shortest one accepted."""
    charge_kw: float = 11.0
    discharge_kw: float = 11.0
    fallback_kw: float = 0.0
    model: str = "measured_v2g"
    soc: float = 0.5
    target_soc: float = 0.8
    stay_s: float = 8 * 3600.0
    faults: dict[str, float] = {}
    """Share of the stations by fault."""
    seed: int = 1


class Count(Struct, frozen=True):
    """A fleet at an instant."""

    stations: int = 0
    connected: int = 0
    accepted: int = 0
    transactions: int = 0
    power_kw: float = 0.0
    errors: int = 0
    """Connections refused or lost, and frames the other side got wrong, so far."""

    def plus(self, other: "Count") -> "Count":
        """Both together."""
        return Count(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class Fleet:
    """Stations and plant of a plan."""

    def __init__(self, plan: FleetPlan, clock: Clock) -> None:
        """Raises what a TLS file raises; opens no connection."""
        self._plan, self._clock = plan, clock
        self._refused = 0
        self._shared: ssl.SSLContext | None = None
        if plan.profile == 2:
            self._shared = client_context(Access(2, ca=_path(plan.ca)))
        luck = random.Random(plan.seed)
        world, plant = fleet_world(plan, clock.wall(), luck)
        self.stations = {row: self._station(row, name, luck) for row, name in enumerate(plan.identities)}
        self.site = EmulatedSite(
            world, plant, self.stations, clock, period_s=plan.period_s, report_s=plan.tick_s, spread=True
        )  # fmt: skip

    def _station(self, row: int, name: str, luck: random.Random) -> EmulatedStation:
        plan = self._plan
        setup = Setup(
            serial=name[:25], charge_kw=plan.charge_kw, discharge_kw=plan.discharge_kw, fallback_kw=plan.fallback_kw,
            standard=True, update_s=plan.meter_s, least_interval_s=plan.meter_s,
            security_profile=plan.profile,
        )  # fmt: skip
        numbers = iter(range(1, 2**62))
        station = EmulatedStation(
            name, plan.version, _away, self._clock, lambda: f"{row}-{next(numbers)}", random.Random(luck.random()),
            setup=setup,
        )  # fmt: skip
        station.use(self._dial(name, station))
        for fault, share in plan.faults.items():
            if luck.random() < share:
                spoil(station, fault)
        return station

    def _dial(self, name: str, station: EmulatedStation) -> Dial:
        """Connects as told at the start, or as the CSMS told since: another address, another password."""
        plan = self._plan
        folder = _path(plan.certificates)
        own: list[ssl.SSLContext | None] = []

        async def connect() -> Link:
            network = station.blocks.network
            told = network.active
            url = plan.csms if told is None else told.ocppCsmsUrl
            access = Access(
                plan.profile, network.password or plan.passwords.get(name), _path(plan.ca),
                None if folder is None else folder / f"{name}.crt", None if folder is None else folder / f"{name}.key",
            )  # fmt: skip
            if plan.profile == 3 and not own:
                own.append(client_context(access))
            try:
                return await reach(url, name, plan.version, access, own[0] if own else self._shared)
            except OSError:
                self._refused += 1
                raise

        return connect

    async def run(self) -> None:
        """Run until cancelled; raises what the first loop fails with."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.site.run())
            began_s = self._clock.monotonic()
            for row, station in self.stations.items():
                await self._clock.sleep_until(began_s + row / self._plan.ramp_per_s)
                group.create_task(station.run())

    def count(self) -> Count:
        """Where the fleet stands."""
        stations = self.stations.values()
        sample = self.site.sample
        return Count(
            stations=len(self.stations), connected=sum(s.core.linked for s in stations),
            accepted=sum(s.connected for s in stations),
            transactions=sum(s.transaction_id is not None for s in stations),
            power_kw=0.0 if sample is None else round(float(sample.power_kw.sum()), 3),
            errors=self._refused + sum(s.errors for s in stations),
        )  # fmt: skip


def spoil(station: EmulatedStation, fault: str) -> None:
    """Give a station one of FAULTS."""
    if fault == "late":
        station.faults.late_s = LATE_S
    elif fault == "skew":
        station.faults.skew_s = SKEW_S
    else:
        setattr(station.faults, fault, True)


def fleet_world(plan: FleetPlan, now_s: float, luck: random.Random) -> tuple[World, Plant]:
    """Alike chargers without a building; vehicles come to each bay soon after its station has connected, and again."""
    size = len(plan.identities)

    def full(value: float) -> Floats:
        return np.full(size, value)

    table = EvseTable(
        ids=plan.identities, charge_kw=full(plan.charge_kw), discharge_kw=full(plan.discharge_kw), least_kw=full(0.5),
        step_kw=full(0.0), ramp_kw_per_s=full(plan.charge_kw), hold_s=full(60.0), efficiency=full(EFFICIENCY),
        fallback_kw=full(plan.fallback_kw), phase_share=np.full((size, 3), 1.0 / 3.0), group=np.full(size, -1),
        storage=np.zeros(size, dtype=np.bool_),
    )  # fmt: skip
    arrivals = [item for row in range(size) for item in _visits(plan, row, now_s, luck)]
    here = twin.world(table, [MODELS[plan.model]] * size, Building(now_s, np.zeros(3)), arrivals)
    return here, twin.start(here, now_s)


def _visits(plan: FleetPlan, row: int, now_s: float, luck: random.Random) -> list[Arrival]:
    """Vehicles of one bay. Instants lie on the plant's grid: each separate one would cost the whole fleet a step."""
    visits: list[Arrival] = []
    at_s = now_s + row / plan.ramp_per_s + luck.uniform(1.0, 4.0)
    for number in range(VISITS):
        begins_s = now_s + round((at_s - now_s) / plan.period_s) * plan.period_s
        stay_s = max(plan.period_s, round(plan.stay_s * luck.uniform(0.7, 1.3) / plan.period_s) * plan.period_s)
        soc = min(max(plan.soc + luck.uniform(-0.2, 0.2), 0.05), 0.95)
        target, capacity = max(plan.target_soc, soc), luck.choice(CAPACITIES_KWH)
        visits.append(
            Arrival(
                f"{plan.identities[row]}-{number}"[-28:], row, begins_s, begins_s + stay_s, begins_s + stay_s, capacity,
                soc, target, (target - soc) * capacity / EFFICIENCY, plan.discharge_kw > 0.0,
            )
        )  # fmt: skip
        at_s = begins_s + stay_s + GAP_S
        if at_s > now_s + 7 * 86_400.0:
            break
    return visits


def shares(plan: FleetPlan, processes: int) -> list[FleetPlan]:
    """The plan cut for several processes: every one has its part of the stations and of the ramp."""
    parts = [plan.identities[number::processes] for number in range(processes)]
    return [
        msgspec.structs.replace(
            plan, identities=part, ramp_per_s=plan.ramp_per_s / processes, seed=plan.seed + number,
            passwords=_only(plan.passwords, part),
        )
        for number, part in enumerate(parts) if part
    ]  # fmt: skip


def _only(passwords: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: passwords[name] for name in names if name in passwords}


async def watched(
    fleet: Fleet, clock: Clock, tell: Callable[[Count], None], every_s: float, stop: asyncio.Event
) -> Count:
    """Run `fleet` until `stop`, telling how it stands; returns where it stood last."""
    running = asyncio.ensure_future(fleet.run())
    stopper = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            beat: Awaitable[None] = clock.sleep(every_s)
            waiting = asyncio.ensure_future(beat)
            await asyncio.wait([running, stopper, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if running.done():
                running.result()
            tell(fleet.count())
        return fleet.count()
    finally:
        running.cancel()
        stopper.cancel()
        await asyncio.gather(running, stopper, return_exceptions=True)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


async def _away() -> Link:
    """Nobody to dial yet."""
    raise ConnectionRefusedError("no address yet")
