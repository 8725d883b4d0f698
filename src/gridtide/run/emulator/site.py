"""An emulated site: the twin's plant on the clock, its meter, and a real OCPP station in front of every bay."""

import math
from collections.abc import Mapping

import numpy as np
from msgspec import structs

from gridtide.model.fleet import EvseTable, Floats
from gridtide.run.clock import Clock
from gridtide.run.emulator.meter import grid_values
from gridtide.run.emulator.station import Car, EmulatedStation
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import Building
from gridtide.twin.evse import EvseModel, open_contactors
from gridtide.twin.plant import Plant, Sample, World


class EmulatedSite:
    """Advances the plant every `period_s` of clock time; stations and meter read from it, setpoints reach it through them."""

    def __init__(
        self,
        here: World,
        plant: Plant,
        stations: dict[int, EmulatedStation],
        clock: Clock,
        *,
        period_s: float = 0.5,
        report_s: float = 1.0,
        spread: bool = False,
    ) -> None:
        """`spread`: each beat hears a part of the stations, so that a large fleet's reports come evenly."""
        self._spread = spread
        self.here, self.plant, self.stations = here, plant, stations
        self._clock, self._period_s, self._report_every = clock, period_s, max(1, round(report_s / period_s))
        self._beats = 0
        self.sample: Sample | None = None
        self.extra_kw = 0.0
        """Load thrown on or off by a test, kW."""
        self._net_kwh, size = np.array(plant.taken_kwh), plant.taken_kwh.size
        self._in_kwh, self._out_kwh = np.zeros(size), np.zeros(size)
        for row, station in stations.items():
            if plant.occupant[row] >= 0:
                station.plug(self.car(row))

    async def run(self) -> None:
        """Advance for ever, on the clock's grid."""
        start_s, grid = self._clock.monotonic(), 0
        while True:
            grid += 1
            await self._clock.sleep_until(start_s + grid * self._period_s)
            grid = max(grid, int((self._clock.monotonic() - start_s) / self._period_s))
            self.beat()

    def beat(self) -> None:
        """One advance up to the present instant, then the stations' reports."""
        now_s = self._clock.wall()
        if now_s <= self.plant.at_s:
            return
        self._beats += 1
        wishes = np.zeros(self.here.table.size)
        for row, station in self.stations.items():
            wishes[row] = station.power_wish_kw()
        self.plant = twin.command(self.here, self.plant, wishes)
        self._switch()
        self.plant, self.sample = twin.advance(self.here, self.plant, now_s)
        self._count()
        for left in self.sample.left:
            row = self.here.arrivals[left.arrival].row
            if row in self.stations:
                self.stations[row].unplug()
        for index in self.sample.arrived:
            row = self.here.arrivals[index].row
            if row in self.stations:
                self.stations[row].plug(self.car(row))
        if self._spread:
            self._report({row: s for row, s in self.stations.items() if (row - self._beats) % self._report_every == 0})
        elif self._beats % self._report_every == 0:
            self._report(self.stations)

    def _switch(self) -> None:
        """Each station's contactor follows its transaction; one that welds does not open."""
        is_open, welds = np.zeros((2, self.here.table.size), dtype=np.bool_)
        for row, station in self.stations.items():
            if station.is_open:
                is_open[row], welds[row] = True, station.faults.weld
        self.plant = structs.replace(self.plant, evse=open_contactors(self.plant.evse, is_open, welds))

    def _report(self, stations: Mapping[int, EmulatedStation]) -> None:
        if self.sample is None:
            return
        if not stations:
            return
        power_kw, soc, heat_c = twin.told(self.plant, self.sample.power_kw)
        for row, station in stations.items():
            station.tick()
            if self.plant.occupant[row] >= 0:
                station.report(
                    float(power_kw[row]), float(soc[row]), float(self._in_kwh[row]), float(self._out_kwh[row]),
                    float(heat_c[row]),
                )  # fmt: skip

    def _count(self) -> None:
        """The stations' registers: energy in and out, each of which only rises; they begin anew with a vehicle."""
        for index in self.sample.arrived if self.sample is not None else ():
            self.begin_anew(self.here.arrivals[index].row)
        moved_kwh = self.plant.taken_kwh - self._net_kwh
        self._in_kwh += np.maximum(moved_kwh, 0.0)
        self._out_kwh += np.maximum(-moved_kwh, 0.0)
        self._net_kwh = np.array(self.plant.taken_kwh)

    def begin_anew(self, row: int) -> None:
        """The registers at `row` stand at zero, as with every vehicle that comes."""
        self._net_kwh[row] = self._in_kwh[row] = self._out_kwh[row] = 0.0

    def meter(self) -> Mapping[str, float]:
        """The site meter's registers: power, import energy, and the grid's true voltage and frequency."""
        power_kw = self.sample.grid_kw if self.sample is not None else math.nan
        grid = self.here.grid
        truth = grid.truth(self._clock.wall())
        values = grid_values(truth.frequency_hz, truth.voltage_pu * grid.nominal_v)
        values["import_kwh"] = max(self.plant.ledger.import_kwh, 0.0)
        return values if math.isnan(power_kw) else {**values, "power_kw": round(power_kw + self.extra_kw, 3)}

    def car(self, row: int) -> Car:
        """What the vehicle at `row` tells its station."""
        item = self.here.arrivals[int(self.plant.occupant[row])]
        return Car(
            token=f"card-{item.session_id}", capacity_kwh=item.capacity_kwh, soc=float(self.plant.batteries.soc[row]),
            target_soc=item.target_soc, departs_s=item.told_departs_s, bidirectional=item.may_discharge,
            charge_kw=float(self.here.table.charge_kw[row]), discharge_kw=float(self.here.table.discharge_kw[row]),
        )  # fmt: skip


def idle_site(
    names: tuple[str, ...],
    charge_kw: float,
    discharge_kw: float,
    model: EvseModel,
    now_s: float,
    soc: float,
    target_soc: float,
    stay_s: float,
) -> tuple[World, Plant]:
    """A plant of alike chargers without a building, a vehicle at each, for systems under test. `now_s` is UTC epoch s."""
    size = len(names)

    def full(value: float) -> Floats:
        return np.full(size, value)

    table = EvseTable(
        ids=names, charge_kw=full(charge_kw), discharge_kw=full(discharge_kw), least_kw=full(0.5), step_kw=full(0.0),
        ramp_kw_per_s=full(charge_kw), hold_s=full(60.0), efficiency=full(0.94), fallback_kw=full(0.0),
        phase_share=np.full((size, 3), 1.0 / 3.0), group=np.full(size, -1), storage=np.zeros(size, dtype=np.bool_),
    )  # fmt: skip
    stays = [
        Arrival(f"emulated-{row}", row, now_s, now_s + stay_s, now_s + stay_s, 60.0, soc, target_soc,
                max(0.0, target_soc - soc) * 60.0 / 0.94, discharge_kw > 0.0)
        for row in range(size)
    ]  # fmt: skip
    here = twin.world(table, [model] * size, Building(now_s, np.zeros(3)), stays)
    return here, twin.start(here, now_s)
