"""Frequency, a lost grid and a full transformer on the wire tier: time to safe on the plant's ground truth (FT23, FT24, FT30)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control.grid_profiles import profile_of
from gridtide.control.grid_protection import GridSettings
from gridtide.control.peak import PeakSettings
from gridtide.control.protection import ProtectionSettings
from gridtide.control.transformer import Transformer
from gridtide.model.decision import Reason
from gridtide.run.modbus import MemoryMeter
from gridtide.run.store import MemoryStore
from gridtide.twin import plant as twin
from gridtide.twin import transformer as truth
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import Building
from gridtide.twin.grid import Grid, GridEvent, outage
from gridtide.wire.modbus.registers import Register, RegisterMap
from tests.day.wire_site import FOLLOWING, START_S, WireSite, on_wire, stay, stays, world

GRID_METER = RegisterMap(
    "site_and_grid", 1,
    (
        Register("power_kw", 0, "int32", unit="W"), Register("import_kwh", 2, "float64", unit="kWh"),
        Register("frequency_hz", 6, "float32", unit="Hz"), Register("voltage_l1_v", 8, "float32", unit="V"),
        Register("voltage_l2_v", 10, "float32", unit="V"), Register("voltage_l3_v", 12, "float32", unit="V"),
        Register("relay_trip", 0, "bit", table="coil"), Register("load_shed", 1, "bit", table="coil"),
    ),
)  # fmt: skip
FAULT_S = START_S + 960.0
"""Inside the busy quarter hour: the vehicles give by then."""
BEAT_S = 0.05
PHASES_S = [0.0, 0.13, 0.26, 0.49]
"""When within a cycle of 0.5 s the fault begins."""
OFF = PeakSettings(mode="off", limit_kw=220.0)


class GridSite(WireSite):
    """A site whose meter tells voltage and frequency; the plant moves every 50 ms."""

    def __init__(
        self, grid: Grid, profile: str = "default", *, unit: Transformer | None = None, start_s: float = FAULT_S - 40.0,
        arrivals: list[Arrival] | None = None, rule: PeakSettings = FOLLOWING, store: MemoryStore | None = None,
        groups: tuple[Transformer | None, ...] = (),
        steady_kw: float | None = None,
    ) -> None:  # fmt: skip
        here = structs.replace(world(6, arrivals=stays(6) if arrivals is None else arrivals), grid=grid)
        if steady_kw is not None:
            load_kw = np.random.default_rng(1).normal(steady_kw, 0.3, 7_200)
            here = structs.replace(here, building=Building(START_S, np.concatenate([[0.0], np.cumsum(load_kw)])))
        plant = twin.start(here, start_s)
        super().__init__(here, start_s=start_s, plant=plant, rule=rule, store=store)
        watched = GridSettings(profile=profile_of(profile, grid.nominal_hz), nominal_v=grid.nominal_v)
        rules = ProtectionSettings(grid=watched, site=unit, groups=groups)
        self.site.settings = structs.replace(self.site.settings, protection=rules)
        self.coils = {"relay_trip": 0.0, "load_shed": 0.0}
        self.site._meter = MemoryMeter(self._values, GRID_METER, self.clock)
        self.emulated._period_s, self.emulated._report_every = BEAT_S, round(0.5 / BEAT_S)

    def _values(self) -> Mapping[str, float | None]:
        return {**self.emulated.meter(), **self.coils}

    def start(self) -> None:
        super().start()
        self._spawn("watch", self.site.watch_grid())

    @property
    def grid_kw(self) -> float:
        """Ground truth at the connection."""
        assert self.emulated.sample is not None
        return self.emulated.sample.grid_kw + self.emulated.extra_kw

    async def until(self, at_s: float) -> "GridSite":
        await self.after(at_s - self.clock.wall())
        return self

    async def watch(self, until_s: float) -> list[tuple[float, np.ndarray, float]]:
        """(instant, power stages, connection) every 50 ms until then."""
        seen = []
        while self.clock.wall() < until_s - 1e-6:
            await self.after(BEAT_S)
            seen.append((self.clock.wall(), self.power_kw.copy(), self.grid_kw))
        return seen

    def decided_zero_after_s(self, fault_s: float) -> float:
        """From the fault to the first decision after it in which nothing flows."""
        return min(at_s for at_s, power in self.trace.setpoints if at_s >= fault_s and not power.any()) - fault_s


def time_to_zero_s(seen: list[tuple[float, np.ndarray, float]], fault_s: float) -> float:
    """From the fault to the first moment from which on nothing flows."""
    flowing = [at_s for at_s, power, _ in seen if np.abs(power).max() > 1e-3]
    return max([fault_s, *flowing]) + BEAT_S - fault_s


@pytest.mark.parametrize("hz", [49.3, 50.7])
@pytest.mark.parametrize("phase_s", PHASES_S)
def test_ft23_the_strict_profile_leaves_within_half_a_second(hz: float, phase_s: float) -> None:
    async def scenario() -> None:
        fault_s = FAULT_S + phase_s
        here = GridSite(Grid(events=(GridEvent(fault_s, hz), GridEvent(fault_s + 3.0, 50.0))), "strict")
        here.start()
        await here.until(fault_s - 0.01)
        assert here.power_kw.sum() < -10.0
        seen = await here.watch(fault_s + 5.0)
        assert time_to_zero_s(seen, fault_s) <= 0.5
        assert here.decided_zero_after_s(fault_s) <= 0.2 + 1e-3
        assert set(here.decision.reason) == {Reason.GRID}
        assert here.codes["grid_trip"] == 1
        assert here.emulated.plant.stage.openings == 0  # the software did it

    on_wire(scenario)


@pytest.mark.parametrize(("hz", "gives", "charges"), [(49.4, True, False), (50.6, False, True), (49.6, True, True)])
def test_ft23_the_default_profile_stays_and_stops_only_what_does_harm(hz: float, gives: bool, charges: bool) -> None:
    async def scenario() -> None:
        here = GridSite(
            Grid(events=(GridEvent(FAULT_S, hz),)), arrivals=[*stays(5), stay(5, -600.0, 7_200.0, 0.2, 0.9)]
        )
        here.start()
        await here.until(FAULT_S - 20.0)
        await here.site.override(5, "charge", 0.0, 60.0, "test")
        await here.until(FAULT_S - 0.01)
        assert (here.power_kw[:5].sum() < -10.0, here.power_kw[5] > 5.0) == (True, True)
        seen = await here.watch(FAULT_S + 20.0)
        late = [power for at_s, power, _ in seen if at_s > FAULT_S + 0.5]
        assert {bool(power[:5].sum() < -10.0) for power in late} == {gives}
        assert {bool(power[5] > 5.0) for power in late} == {charges}
        assert ("grid_alarm" in here.codes) is (not (gives and charges))
        assert "grid_trip" not in here.codes

    on_wire(scenario)


@pytest.mark.parametrize("phase_s", PHASES_S)
def test_ft24_a_lost_grid_is_left_by_the_software_within_half_a_second(phase_s: float) -> None:
    """The wired part is set to its slowest; nothing flows again before 300 s of good grid."""

    async def scenario() -> None:
        fault_s = FAULT_S + phase_s
        grid = Grid(cease_s=2.0)
        here = GridSite(structs.replace(grid, events=outage(fault_s, fault_s + 20.0, grid)))
        here.start()
        await here.until(fault_s - 0.01)
        assert here.power_kw.sum() < -10.0
        seen = await here.watch(fault_s + 5.0)
        assert time_to_zero_s(seen, fault_s) <= 0.5
        assert here.decided_zero_after_s(fault_s) <= 0.1 + 1e-3

    on_wire(scenario)


def test_ft24_nothing_flows_before_five_minutes_of_good_grid_and_then_it_rises() -> None:
    """One excursion inside every trip level starts the wait anew."""

    async def scenario() -> None:
        events = (GridEvent(FAULT_S, 0.0, 0.0), GridEvent(FAULT_S + 5.0, 50.0, 1.0),
                  GridEvent(FAULT_S + 100.0, 50.3), GridEvent(FAULT_S + 101.0, 50.0))  # fmt: skip
        here = GridSite(Grid(events=events))
        here.start()
        await here.until(FAULT_S + 1.0)
        seen = await here.watch(FAULT_S + 400.0)
        assert all(np.abs(power).max() == 0.0 for _, power, _ in seen)
        assert not any(power.any() for at_s, power in here.trace.setpoints if at_s > FAULT_S + 0.2)
        await here.until(FAULT_S + 402.0)
        assert here.codes["grid_returned"] == 1
        assert 0.0 < here.site.state.protection.permit.discharge_share < 0.01

    on_wire(scenario)


def test_ft24_without_any_software_the_wired_part_opens_within_two_seconds() -> None:
    """Controller killed and lease still running: the stage itself ceases, and a controller that comes back does not close it."""

    async def scenario() -> None:
        grid = Grid(cease_s=2.0)
        here = GridSite(structs.replace(grid, events=outage(FAULT_S, FAULT_S + 5.0, grid)))
        here.start()
        await here.until(FAULT_S - 0.5)
        assert here.power_kw.sum() < -10.0
        here._tasks.pop("watch").cancel()
        here.kill_csms()
        seen = await here.watch(FAULT_S + 200.0)
        assert time_to_zero_s(seen, FAULT_S) <= 2.0 + BEAT_S
        assert here.emulated.plant.stage.openings == 1
        assert here.emulated.plant.stage.is_open
        for station in here.stations.values():
            station.power_wish_kw = lambda: -10.0  # type: ignore[method-assign]
        seen = await here.watch(FAULT_S + 304.0)
        assert all(np.abs(power).max() == 0.0 for _, power, _ in seen)

    on_wire(scenario)


def test_a_trip_holds_over_a_restart_of_the_controller() -> None:
    async def scenario() -> None:
        store, grid = MemoryStore(), Grid()
        script = structs.replace(grid, events=outage(FAULT_S, FAULT_S + 2.0, grid))
        here = GridSite(script, store=store)
        here.start()
        await here.until(FAULT_S + 10.0)
        await here.stop()
        assert store.settings()["grid_trip"] == b"true"
        again = GridSite(script, store=store, start_s=here.clock.wall())
        again.start()
        await again.after(299.0)
        assert not any(power.any() for _, power in again.trace.setpoints)
        await again.after(10.0)
        assert again.codes["grid_returned"] == 1
        assert store.settings()["grid_trip"] == b"false"
        await again.stop()

    on_wire(scenario)


def test_ps11_a_wired_relay_that_tripped_is_latched_and_not_overridden() -> None:
    async def scenario() -> None:
        here = GridSite(Grid())
        here.start()
        await here.until(FAULT_S + 0.03)
        assert here.power_kw.sum() < -10.0
        here.coils["relay_trip"] = 1.0
        began_s = here.clock.wall()
        seen = await here.watch(began_s + 5.0)
        assert time_to_zero_s(seen, began_s) <= 0.3
        assert here.codes["relay_trip"] == 1
        with pytest.raises(ValueError, match="reset the wired protection"):
            await here.site.clear_estop("operator")
        here.coils["relay_trip"] = 0.0
        await here.after(30.0)
        assert np.abs(here.power_kw).max() == 0.0  # latched
        await here.site.clear_estop("operator")
        await here.after(60.0)
        assert here.power_kw.sum() < -10.0

    on_wire(scenario)


def hungry() -> list[Arrival]:
    """Six vehicles that want to charge for hours."""
    return [stay(row, -600.0, 5 * 3_600.0, 0.15, 0.95, 80.0) for row in range(6)]


UNIT = Transformer(rating_kva=300.0, power_factor=1.0)


def overloaded(
    unit: Transformer, extra_kw: float, for_s: float
) -> tuple[GridSite, list[tuple[float, np.ndarray, float]]]:
    """Six vehicles charge beside 225 kW of building; then `extra_kw` come on top."""
    found: list[Any] = []

    async def scenario() -> None:
        here = GridSite(Grid(), unit=unit, arrivals=hungry(), rule=OFF, steady_kw=225.0)
        here.start()
        await here.until(FAULT_S + 0.03)
        assert here.power_kw.sum() > 60.0
        here.emulated.extra_kw = extra_kw
        found.append(await here.watch(here.clock.wall() + for_s))
        found.append(here)

    on_wire(scenario)
    return found[1], found[0]


def test_ft30_far_above_the_rating_is_cut_with_the_next_tick() -> None:
    here, seen = overloaded(UNIT, 100.0, 30.0)
    over = [at_s for at_s, _, kw in seen if kw > 300.0 + 1.0]
    building_kw = [kw - power.sum() for _, power, kw in seen]
    assert min(building_kw) > 300.0  # the building alone is too much: nothing is left for vehicles
    zero_s = next(at_s for at_s, power in here.trace.setpoints if at_s > seen[0][0] - BEAT_S and not power.any())
    assert zero_s - (seen[0][0] - BEAT_S) <= 0.1 + 1e-3
    assert all(power.sum() == 0.0 for at_s, power, _ in seen if at_s > seen[0][0] + 0.3)
    assert all((power >= 0.0).all() for _, power, _ in seen)  # not "repaired" by discharging into it
    assert len(over) == len(seen)
    assert here.codes["transformer_overload"] == 1
    assert "max_capacity_reached" in here.codes
    assert set(here.decision.reason) == {Reason.TRANSFORMER}


def test_ft30_a_little_above_the_rating_is_cut_within_a_minute() -> None:
    """The plant's own transformer counts how long and how far it was over its rating."""
    _, seen = overloaded(UNIT, 25.0, 240.0)
    model = truth.TransformerModel(rating_kva=300.0)
    heat, last_s = truth.steady(model, 0.8), seen[0][0] - BEAT_S
    for at_s, _, kw in seen:
        heat, last_s = truth.advance(heat, model, kw, 20.0, at_s - last_s), at_s
    assert heat.most_share <= 1.1
    assert 55.0 < heat.longest_over_s <= 60.5  # tolerated, and not for longer
    settled = [kw for at_s, _, kw in seen if at_s > seen[0][0] + 65.0]
    assert max(settled) <= 300.0 + 2.0  # the building's own noise between two cycles
    assert np.mean(settled) <= 300.0 + 0.05
    assert all((power >= 0.0).all() for _, power, _ in seen)
    assert min(power.sum() for at_s, power, _ in seen) > 20.0  # the rest goes on charging
    assert heat.hot_spot_c(20.0) < 98.0


def test_a_group_transformer_of_its_own_is_kept_too() -> None:
    async def scenario() -> None:
        here = GridSite(Grid(), arrivals=hungry(), rule=OFF, groups=(Transformer(rating_kva=30.0, power_factor=1.0),))
        table = structs.replace(here.site.settings.table, group=np.array([0, 0, 0, 0, -1, -1]))
        limits = structs.replace(here.site.settings.limits, group_kw=(60.0,))
        here.site.settings = structs.replace(here.site.settings, table=table, limits=limits)
        here.start()
        await here.until(FAULT_S)
        seen = await here.watch(FAULT_S + 20.0)
        assert all(29.0 < power[:4].sum() <= 30.001 for _, power, _ in seen)
        assert all(power[4:].sum() == pytest.approx(22.0) for _, power, _ in seen)
        assert "max_capacity_reached" in here.codes

    on_wire(scenario)


def test_a_load_shedding_goes_before_every_wish_and_names_its_source() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        here = GridSite(Grid(), arrivals=hungry(), rule=OFF, store=store)
        here.start()
        await here.until(FAULT_S)
        assert here.power_kw.sum() > 60.0
        await here.site.override(0, "charge", 0.0, 60.0, "remote")
        here.coils["load_shed"] = 1.0
        await here.after(1.5)
        assert here.power_kw.sum() == 0.0
        assert set(here.decision.reason) == {Reason.LOAD_SHED}
        here.coils["load_shed"] = 0.0
        await here.site.protection.shed(260.0, 30.0, "building-api")
        await here.after(5.0)
        assert here.power_kw.sum() > 0.0
        assert here.grid_kw < 262.0
        here.coils["load_shed"] = 1.0
        await here.after(1.5)
        assert here.power_kw.sum() == 0.0  # the lowest holds
        here.coils["load_shed"] = 0.0
        await here.after(1.5)
        sources = {event.source for event in store.events(100) if event.code == "load_shed"}
        assert sources == {"input load_shed", "building-api"}
        assert any(entry.actor == "building-api" for entry in store.audit(20))
        await here.stop()
        again = GridSite(Grid(), arrivals=hungry(), rule=OFF, store=store, start_s=here.clock.wall())
        assert again.site.protection.shed_kw(again.clock.monotonic()) == 260.0
        assert again.site.protection.shed_kw(again.clock.monotonic() + 1_790.0) is None
        again.site.protection._asked = None
        assert await again.site.protection.end_shed("operator") is False
        await again.site.protection.shed(100.0, None, "operator")
        assert await again.site.protection.end_shed("operator") is True
        assert again.site.protection.shed_kw(again.clock.monotonic()) is None
        for limit_kw, minutes in ((-1.0, None), (float("nan"), 5.0), (10.0, 0.0)):
            with pytest.raises(ValueError, match="give"):
                await again.site.protection.shed(limit_kw, minutes, "operator")

    on_wire(scenario)
