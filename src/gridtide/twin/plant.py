"""The whole plant: building, PV, chargers, vehicles and stationary battery, advanced exactly from event to event."""

from typing import Any

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from gridtide.model.fleet import EvseTable, FleetSample, Floats, Ints
from gridtide.twin import evse, grid
from gridtide.twin.arrivals import KNEE_SOC, Arrival
from gridtide.twin.battery import Batteries
from gridtide.twin.building import Building
from gridtide.twin.grid import Grid, Stage


class StationaryBattery(Struct, frozen=True):
    """A battery that is always there; it is a row of the fleet like a vehicle."""

    row: int
    capacity_kwh: float
    soc: float = 0.5


class World(Struct, frozen=True, eq=False, kw_only=True):
    """What does not change during a run."""

    table: EvseTable
    models: evse.Columns
    building: Building
    pv: Building | None = None
    """Generation, kW >= 0: it lowers the import."""
    arrivals: tuple[Arrival, ...] = ()
    """In order of arrival."""
    departures: tuple[int, ...] = ()
    """Indices into `arrivals` in order of departure."""
    ambient_c: float = 25.0
    grid: Grid = Grid()


class Ledger(Struct, frozen=True):
    """Energies since the start, kWh."""

    ac_in_kwh: float = 0.0
    ac_out_kwh: float = 0.0
    loss_kwh: float = 0.0
    standby_kwh: float = 0.0
    stored_kwh: float = 0.0
    building_kwh: float = 0.0
    import_kwh: float = 0.0
    worst_residual_kwh: float = 0.0
    """Largest |in - out - stored - losses| of a step."""


class Plant(Struct, frozen=True, eq=False):
    """The plant's state at `at_s` (UTC epoch s)."""

    at_s: float
    evse: evse.EvseState
    batteries: Batteries
    occupant: Ints
    """(n,) index into `World.arrivals`; -1 is nobody."""
    taken_kwh: Floats
    """(n,) net AC energy since plug-in."""
    need_soc: Floats
    """(n,) what the driver asked for; nan nobody."""
    told_departs_s: Floats
    """(n,) departure as told; inf nobody."""
    may_discharge: NDArray[np.bool_]
    next_arrival: int = 0
    next_departure: int = 0
    ledger: Ledger = Ledger()
    stage: Stage = Stage()
    """The wired part of the EVSE stages: open, nothing flows whatever is asked."""


class Left(Struct, frozen=True):
    """A vehicle that left."""

    arrival: int
    soc: float
    ac_kwh: float


class Sample(Struct, frozen=True, eq=False):
    """Means over one advance: the meter, the building alone, each row."""

    grid_kw: float
    building_kw: float
    """Building less PV."""
    power_kw: Floats
    left: tuple[Left, ...]
    arrived: tuple[int, ...]


def world(
    table: EvseTable,
    models: list[evse.EvseModel],
    building: Building,
    arrivals: list[Arrival],
    pv: Building | None = None,
    ambient_c: float = 25.0,
) -> World:
    """Assemble a world; arrivals may come in any order."""
    ordered = tuple(sorted(arrivals, key=lambda item: (item.arrived_s, item.row)))
    leaving = tuple(sorted(range(len(ordered)), key=lambda i: (ordered[i].departs_s, ordered[i].row)))
    return World(
        table=table, models=evse.columns(models, table.efficiency), building=building, pv=pv,
        arrivals=ordered, departures=leaving, ambient_c=ambient_c,
    )  # fmt: skip


def start(here: World, at_s: float, storage: tuple[StationaryBattery, ...] = ()) -> Plant:
    """The plant at `at_s`: vehicles whose stay began earlier and lasts are plugged in as they arrived."""
    size = here.table.size
    zero = np.zeros(size)
    batteries = Batteries(zero, zero, zero, zero, np.full(size, KNEE_SOC), np.full(size, 0.05), np.full(size, 0.05))
    plant = Plant(
        at_s,
        evse.fresh(size, here.ambient_c),
        batteries,
        np.full(size, -1),
        zero,
        np.full(size, np.nan),
        np.full(size, np.inf),
        here.table.storage,
    )
    for item in storage:
        plant = _plug(here, plant, item.row, item.capacity_kwh, item.soc)
    return _events(here, plant)[0]


def command(here: World, plant: Plant, setpoint_kw: Floats) -> Plant:
    """Setpoints reach the chargers; an open stage takes none."""
    if plant.stage.is_open:
        return plant
    return structs.replace(plant, evse=evse.command(plant.evse, setpoint_kw, here.models))


def advance(here: World, plant: Plant, until_s: float) -> tuple[Plant, Sample]:
    """Advance to `until_s`; plugging and unplugging split the way."""
    began_s, before = plant.at_s, plant.ledger
    moved: Floats = np.zeros(here.table.size)
    left: list[Left] = []
    arrived: list[int] = []
    while plant.at_s < until_s:
        stop_s = min(until_s, _next_event_s(here, plant))
        if stop_s > plant.at_s:
            plant, net_kwh = _span(here, plant, stop_s)
            moved = moved + net_kwh
        plant = _wired(here, plant)
        plant, gone, came = _events(here, plant)
        left += gone
        arrived += came
    hours = (until_s - began_s) / 3600.0
    grid = (plant.ledger.import_kwh - before.import_kwh) / hours
    building = (plant.ledger.building_kwh - before.building_kwh) / hours
    return plant, Sample(grid, building, moved / hours, tuple(left), tuple(arrived))


def _next_event_s(here: World, plant: Plant) -> float:
    arrival = here.arrivals[plant.next_arrival].arrived_s if plant.next_arrival < len(here.arrivals) else np.inf
    leaving = np.inf
    if plant.next_departure < len(here.departures):
        leaving = here.arrivals[here.departures[plant.next_departure]].departs_s
    wired = min(here.grid.next_change_s(plant.at_s), grid.deadline_s(plant.stage, here.grid))
    return float(min(arrival, leaving, wired if wired > plant.at_s else np.inf))


def _wired(here: World, plant: Plant) -> Plant:
    """What is wired against an island acts by itself; its contactor opening means zero power at once."""
    stage = grid.wired(plant.stage, here.grid, plant.at_s)
    if stage != plant.stage:
        plant = structs.replace(plant, stage=stage)
    return _cut_off(plant) if stage.is_open else plant


def _cut_off(plant: Plant) -> Plant:
    zero = np.zeros_like(plant.evse.power_kw)
    return structs.replace(
        plant, evse=structs.replace(plant.evse, power_kw=zero, target_kw=zero, pending_kw=zero, wait_s=zero)
    )


def _span(here: World, plant: Plant, until_s: float) -> tuple[Plant, Floats]:
    """One stretch without events."""
    dt_s = until_s - plant.at_s
    done = evse.step(plant.evse, plant.batteries, here.models, here.ambient_c, dt_s)
    net_kwh = done.ac_in_kwh - done.ac_out_kwh
    building = here.building.mean_kw(plant.at_s, until_s)
    if here.pv is not None:
        building -= here.pv.mean_kw(plant.at_s, until_s)
    if here.grid.truth(plant.at_s).is_dead:
        building = 0.0  # dark: no load, and PV has nothing to follow
    building_kwh = building * dt_s / 3600.0
    stored = _total(done.energy_kwh - plant.batteries.energy_kwh)
    ac_in, ac_out = _total(done.ac_in_kwh), _total(done.ac_out_kwh)
    loss, standby = _total(done.loss_kwh), _total(done.standby_kwh)
    old = plant.ledger
    ledger = Ledger(
        old.ac_in_kwh + ac_in, old.ac_out_kwh + ac_out, old.loss_kwh + loss, old.standby_kwh + standby,
        old.stored_kwh + stored, old.building_kwh + building_kwh, old.import_kwh + building_kwh + ac_in - ac_out,
        max(old.worst_residual_kwh, abs(ac_in - ac_out - stored - loss - standby)),
    )  # fmt: skip
    batteries = structs.replace(plant.batteries, energy_kwh=done.energy_kwh)
    after = structs.replace(
        plant, at_s=until_s, evse=done.state, batteries=batteries, taken_kwh=plant.taken_kwh + net_kwh, ledger=ledger
    )
    return after, net_kwh


def _total(values: Floats) -> float:
    """The sum; most rows rest most of the time, and to see that is quicker than to add them up."""
    return float(values.sum()) if np.count_nonzero(values) else 0.0


def _events(here: World, plant: Plant) -> tuple[Plant, list[Left], list[int]]:
    """Everything that happens at this instant: who leaves goes before who comes."""
    left: list[Left] = []
    came: list[int] = []
    now = plant.at_s
    while plant.next_departure < len(here.departures):
        index = here.departures[plant.next_departure]
        if here.arrivals[index].departs_s > now:
            break
        plant = structs.replace(plant, next_departure=plant.next_departure + 1)
        row = here.arrivals[index].row
        if plant.occupant[row] == index:
            left.append(Left(index, float(plant.batteries.soc[row]), float(plant.taken_kwh[row])))
            plant = unplug(plant, row)
    while plant.next_arrival < len(here.arrivals) and here.arrivals[plant.next_arrival].arrived_s <= now:
        index = plant.next_arrival
        item = here.arrivals[index]
        plant = structs.replace(plant, next_arrival=index + 1)
        if item.departs_s > now:
            plant = _plug(here, plant, item.row, item.capacity_kwh, item.soc, index)
            came.append(index)
    return plant, left, came


def _plug(here: World, plant: Plant, row: int, capacity_kwh: float, soc: float, index: int = -1) -> Plant:
    """A battery at `row`: its own limits are the charger's, battery side."""
    old = plant.batteries
    efficiency = here.table.efficiency[row]
    batteries = structs.replace(
        old,
        capacity_kwh=_with(old.capacity_kwh, row, capacity_kwh),
        energy_kwh=_with(old.energy_kwh, row, soc * capacity_kwh),
        charge_kw=_with(old.charge_kw, row, float(here.table.charge_kw[row] * efficiency)),
        discharge_kw=_with(old.discharge_kw, row, float(here.table.discharge_kw[row] / efficiency)),
    )
    occupant = plant.occupant.copy()
    occupant[row] = index
    item = here.arrivals[index] if index >= 0 else None
    return structs.replace(
        plant,
        batteries=batteries,
        occupant=occupant,
        taken_kwh=_with(plant.taken_kwh, row, 0.0),
        need_soc=_with(plant.need_soc, row, item.target_soc if item else np.nan),
        told_departs_s=_with(plant.told_departs_s, row, item.told_departs_s if item else np.inf),
        may_discharge=_with(plant.may_discharge, row, item.may_discharge if item else True),
    )


def plug(here: World, plant: Plant, index: int, soc: float) -> Plant:
    """The vehicle of stay `index` is plugged in (again) at this charge; its bay must be empty."""
    item = here.arrivals[index]
    return _plug(here, plant, item.row, item.capacity_kwh, soc, index)


def unplug(plant: Plant, row: int) -> Plant:
    """Nobody stands at `row` any more: the contactor opens, power is zero at once."""
    old, charger = plant.batteries, plant.evse
    batteries = structs.replace(
        old, capacity_kwh=_with(old.capacity_kwh, row, 0.0), energy_kwh=_with(old.energy_kwh, row, 0.0)
    )
    stopped = structs.replace(
        charger,
        power_kw=_with(charger.power_kw, row, 0.0),
        target_kw=_with(charger.target_kw, row, 0.0),
        pending_kw=_with(charger.pending_kw, row, 0.0),
        wait_s=_with(charger.wait_s, row, 0.0),
    )
    occupant = plant.occupant.copy()
    occupant[row] = -1
    return structs.replace(
        plant,
        batteries=batteries,
        evse=stopped,
        occupant=occupant,
        need_soc=_with(plant.need_soc, row, np.nan),
        told_departs_s=_with(plant.told_departs_s, row, np.inf),
        may_discharge=_with(plant.may_discharge, row, False),
    )


def _with(values: NDArray[Any], row: int, value: float) -> NDArray[Any]:
    changed = values.copy()
    changed[row] = value
    return changed


def power_now_kw(here: World, plant: Plant) -> Floats:
    """Power of each row's stage at this instant, kW (n,), standby included; the taper is not."""
    standby = np.where(plant.batteries.capacity_kwh > 0.0, here.models.standby_kw, 0.0)
    return plant.evse.power_kw + standby


def told(plant: Plant, power_kw: Floats) -> tuple[Floats, Floats, Floats]:
    """As stations round it, (n,): power in whole watts (kW), charge in 0.01 % (0..1), heat-sink temperature in 0.1 degC."""
    return power_kw.round(3), plant.batteries.soc.round(4), plant.evse.heat_c.round(1)


def fleet_sample(here: World, plant: Plant, power_kw: Floats) -> FleetSample:
    """What stations report of this instant: power in whole watts, charge in 0.01 %, the driver's told need and departure."""
    size = here.table.size
    power_kw, soc, heat_c = told(plant, power_kw)
    plugged = plant.batteries.capacity_kwh > 0.0
    is_used, never = np.count_nonzero(plugged) > 0, np.full(size, np.nan)
    return FleetSample(
        connected=plugged,
        fault=np.zeros(size, dtype=np.bool_),
        may_discharge=plant.may_discharge,
        age_s=np.zeros(size),
        power_kw=power_kw,
        soc=soc,
        capacity_kwh=np.where(plugged, plant.batteries.capacity_kwh, np.nan) if is_used else never,
        need_soc=plant.need_soc,
        need_kwh=never,
        minimum_soc=never,
        left_s=plant.told_departs_s - plant.at_s,
        charge_limit_kw=here.table.charge_kw,
        discharge_limit_kw=here.table.discharge_kw,
        temperature_c=heat_c,
        register_kwh=np.where(plugged, plant.taken_kwh.round(3), np.nan) if is_used else never,
    )
