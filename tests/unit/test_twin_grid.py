"""The plant's grid: scripts of voltage and frequency, and the wired protection against islands that no setpoint goes past."""

import math

import numpy as np
import pytest
from msgspec import structs

from gridtide.twin import grid as gridded
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import Building
from gridtide.twin.evse import MODELS
from gridtide.twin.grid import Grid, GridEvent, Stage, outage
from tests.unit.builders import evse_table


def test_steps_ramps_and_what_interrupts_them() -> None:
    script = Grid(
        events=(GridEvent(10.0, 49.0, over_s=10.0), GridEvent(15.0, voltage_pu=0.9), GridEvent(20.0, 50.0, 1.0))
    )
    assert [round(script.truth(t).frequency_hz, 6) for t in (0.0, 10.0, 12.0, 15.0, 19.0, 20.0)] == [
        50.0, 50.0, 49.8, 49.5, 49.5, 50.0,
    ]  # fmt: skip
    assert [script.truth(t).voltage_pu for t in (14.9, 15.0, 20.0)] == [1.0, 0.9, 1.0]
    assert [script.next_change_s(t) for t in (0.0, 10.0, 20.0)] == [10.0, 15.0, math.inf]


def world(grid: Grid) -> tuple[twin.World, twin.Plant]:
    """Two vehicles and a building of 50 kW."""
    stays = [Arrival(f"s{row}", row, 0.0, 9e3, 9e3, 60.0, 0.7, 0.5, 0.0, True) for row in range(2)]
    load = Building(0.0, np.arange(10_000.0) * 50.0)
    here = twin.world(evse_table(2), [MODELS["fast"]] * 2, load, stays)
    here = structs.replace(here, grid=grid)
    return here, twin.start(here, 0.0)


@pytest.mark.parametrize("cease_s", [0.5, 2.0])
@pytest.mark.parametrize("stride_s", [0.1, 0.7, 60.0])
def test_the_stage_opens_by_itself_and_stays_open_whatever_is_asked(cease_s: float, stride_s: float) -> None:
    """Nothing tells the plant to stop: the exact energy of the last moment shows when it did."""
    grid = Grid(cease_s=cease_s)
    here, plant = world(structs.replace(grid, events=outage(100.0, 160.0, grid)))
    powers = list[tuple[float, float]]()
    while plant.at_s < 520.0:
        plant = twin.command(here, plant, np.full(2, -10.0))
        plant, sample = twin.advance(here, plant, plant.at_s + stride_s)
        if 100.0 + cease_s + stride_s < plant.at_s < 459.9:
            assert not sample.power_kw.any()  # nor for a moment in between
        powers.append((plant.at_s, float(np.abs(plant.evse.power_kw).sum())))
    assert all(kw == 20.0 for at_s, kw in powers if 1.0 < at_s < 100.0)
    assert all(kw == 0.0 for at_s, kw in powers if 100.0 + cease_s < at_s < 459.9)
    assert powers[-1][1] == 20.0
    assert plant.stage.openings == 1
    again_s = next(at_s for at_s, kw in powers if at_s > 160.0 and kw > 0.0)
    assert 460.0 <= again_s <= 460.0 + 2.0 * stride_s + 0.2


def test_the_energy_given_into_the_island_ends_with_the_wired_part() -> None:
    grid = Grid(cease_s=2.0)
    here, plant = world(structs.replace(grid, events=outage(100.0, 1_000.0, grid)))
    plant = twin.command(here, plant, np.full(2, -10.0))
    plant, _ = twin.advance(here, plant, 100.0)
    before = plant.ledger
    plant, _ = twin.advance(here, plant, 200.0)
    assert (plant.ledger.ac_out_kwh - before.ac_out_kwh) * 3600.0 == pytest.approx(20.0 * 2.0, rel=1e-6)
    assert plant.ledger.building_kwh == pytest.approx(before.building_kwh)  # dark
    assert plant.ledger.worst_residual_kwh < 1e-9


def test_a_bad_moment_restarts_the_wait() -> None:
    grid = Grid(
        events=(GridEvent(10.0, 0.0, 0.0), GridEvent(20.0, 50.0, 1.0), GridEvent(200.0, 49.0), GridEvent(201.0, 50.0))
    )
    stage, closed_s = Stage(), math.inf
    for tick in range(1, 6_000):
        was = stage.is_open
        stage = gridded.wired(stage, grid, tick * 0.1)
        closed_s = tick * 0.1 if was and not stage.is_open else closed_s
    assert closed_s == pytest.approx(501.0, abs=0.11)
