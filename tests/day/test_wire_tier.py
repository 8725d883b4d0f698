"""The wire tier decides what the fast tier decides, and what happens on the plant when a part of it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

from gridtide.control import guard, site
from gridtide.model.decision import Decision, Reason, Snapshot
from gridtide.run import fast
from gridtide.run.clock import Clock
from gridtide.run.csms import Csms
from gridtide.run.evidence import EvidenceBoard
from gridtide.run.modbus import MemoryMeter
from gridtide.run.site import SiteService
from gridtide.run.store import MemoryStore, SqliteStore, TransactionEvent
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.wire.modbus.registers import Register, RegisterMap
from tests.day.raw_station import RawStation, started
from tests.day.wire_site import (
    BUSY_S,
    CYCLE_S,
    OFFSET_S,
    START_S,
    WireSite,
    on_wire,
    period,
    settings,
    stay,
    stays,
    table,
    world,
)

HALF_BEAT_S = CYCLE_S / 2.0
"""Scenarios look at the plant between its beats."""
NOTHING_KW = 1e-9


# --- (a) both tiers decide the same -----------------------------------------------------------------------------------
def comings_and_goings() -> list[Arrival]:
    """Six bays; one vehicle leaves and another comes to its bay, and one bay fills, all while the site shaves."""
    return [
        *(item for item in stays(6) if item.row < 4),
        stay(4, 0.0, BUSY_S + 400.0, 0.75, 0.6),
        stay(4, BUSY_S + 410.0, 9_000.0, 0.5, 0.55),
        stay(5, BUSY_S + 300.3, 9_000.0, 0.8, 0.6),
    ]


async def both_tiers(start_s: float, settle_s: float, length_s: float) -> tuple[WireSite, fast.Run, list[Decision]]:
    """Run the wire tier; from the common state after `settle_s`, run the fast tier over the same `length_s`."""
    wire = WireSite(world(arrivals=comings_and_goings()), start_s=START_S + start_s)
    wire.start()
    await wire.after(settle_s + HALF_BEAT_S)
    assert wire.csms.online == 6
    plant, state, decision = wire.emulated.plant, wire.site.state, wire.decision
    wire.trace.setpoints.clear()
    await wire.after(length_s)
    await wire.stop()
    decisions: list[Decision] = []

    def keep(_snapshot: Snapshot, made: Decision, _state: site.State) -> None:
        decisions.append(made)

    # The site's loop looks at the plant a microsecond after its beat: so does the fast loop, or its demand clock would differ.
    begin_s = plant.at_s + OFFSET_S
    run = fast.controlled(
        wire.here, settings(wire.here), begin_s, begin_s + length_s, CYCLE_S, state=state, on_step=keep,
        plant=twin.command(wire.here, plant, decision.setpoint_kw), period_start=lambda now_s: period(now_s)[0],
    )  # fmt: skip
    return wire, run, decisions


@pytest.mark.parametrize(
    ("start_s", "length_s"),
    [(BUSY_S - 60.0, 600.0), (BUSY_S + 1_200.0, 1_200.0)],
    ids=["busiest ten minutes", "from shaving to charging"],
)
def test_both_tiers_give_the_same_setpoints(start_s: float, length_s: float) -> None:
    wire, run, decisions = on_wire(lambda: both_tiers(start_s, 60.0, length_s))
    assert len(decisions) == len(wire.trace.setpoints) == length_s / CYCLE_S
    found = np.array([setpoint for _, setpoint in wire.trace.setpoints])
    wanted = np.array([decision.setpoint_kw for decision in decisions])
    assert np.abs(found - wanted).max() <= 0.001 + NOTHING_KW
    assert found.sum(axis=1).min() < -30.0, "nothing was shaved"
    assert np.abs(wire.emulated.plant.batteries.soc - run.plant.batteries.soc).max() < 1e-6
    assert wire.emulated.plant.next_arrival == run.plant.next_arrival


# --- (b) one seed, one history ----------------------------------------------------------------------------------------
def digest(world_seed: int, loop_seed: int) -> tuple[str, int]:
    async def history() -> tuple[str, int]:
        wire = WireSite(world(4, seed=world_seed, model="measured_v2g"), start_s=START_S + BUSY_S)
        wire.start()
        await wire.after(240.0)
        await wire.stop()
        return wire.trace.hexdigest(), wire.trace.count

    return on_wire(history, loop_seed)


def test_one_seed_is_one_history() -> None:
    first, count = digest(1, 1)
    assert count > 400
    assert digest(1, 1) == (first, count)
    assert digest(2, 1)[0] != first


# --- (c) the meter fails in the middle of a shave ---------------------------------------------------------------------
async def shaving() -> WireSite:
    """A site that has been shaving for a while, seen between two beats."""
    wire = WireSite(world(), start_s=START_S + BUSY_S)
    wire.start()
    await wire.after(HALF_BEAT_S)
    return await wire.until_giving(12.0)


def giving_kw(wire: WireSite) -> float:
    """Discharge that really flows."""
    return float(-np.minimum(wire.power_kw, 0.0).sum())


@pytest.mark.parametrize(
    ("kind", "code"), [("silent", "meter_stale"), ("nan", "meter_invalid"), ("disconnect", "meter_stale")]
)
def test_a_lost_meter_ends_every_discharge_within_2_s(kind: str, code: str) -> None:
    async def scenario() -> None:
        wire = await shaving()
        wire.break_meter(kind)
        await wire.after(0.5)
        assert giving_kw(wire) > 12.0
        # The plant steps in half seconds and takes a setpoint from its last beat on: it must be at rest one beat early.
        await wire.after(2.0 - 0.5 - CYCLE_S)
        assert giving_kw(wire) == 0.0
        assert code in wire.codes
        for _ in range(20):
            await wire.after(1.0)
            assert giving_kw(wire) == 0.0
        assert wire.decision.state == "idle"
        assert np.isfinite(wire.decision.setpoint_kw).all()
        wire.break_meter("none")
        await wire.after(5.0)
        assert wire.decision.state == "ok"
        await wire.until_giving(12.0, within_s=120.0)
        await wire.stop()

    on_wire(scenario)


def test_a_frozen_meter_is_found_once_the_fleet_has_moved() -> None:
    async def scenario() -> None:
        wire = WireSite(world(), start_s=START_S + BUSY_S)
        wire.start()
        await wire.after(HALF_BEAT_S)
        await wire.until_giving(1.0)
        wire.break_meter("frozen")
        await wire.after(12.0 - CYCLE_S)
        assert "meter_frozen" in wire.codes
        assert giving_kw(wire) == 0.0
        await wire.stop()

    on_wire(scenario)


def test_a_flipped_meter_ends_discharge_and_is_found() -> None:
    async def scenario() -> None:
        wire = await shaving()
        wire.break_meter("sign_flip")
        await wire.after(2.0 - CYCLE_S)
        assert giving_kw(wire) == 0.0
        for _ in range(60):
            await wire.after(1.0)
            assert giving_kw(wire) == 0.0
        wire.break_meter("none")
        found = "meter_sign" in wire.codes
        await wire.after(60.0)
        assert not found or giving_kw(wire) == 0.0, "a sign fault is latched until a person acknowledges it"
        await wire.stop()

    on_wire(scenario)


def spiked(kw: float) -> float:
    """Discharge decided in the one cycle whose sample is off by `kw`."""

    async def scenario() -> float:
        wire = await shaving()
        wire.break_meter("spike", kw)
        await wire.after(CYCLE_S)
        wire.break_meter("none")
        await wire.stop()
        return float(-wire.decision.setpoint_kw.sum())

    return on_wire(scenario)


def test_a_spike_never_gives_more_and_gives_less_at_once() -> None:
    calm, up, down = spiked(0.0), spiked(150.0), spiked(-185.0)
    assert calm > 12.0
    assert up <= calm + 1.0
    assert down < 0.5 * calm


# --- (d) the controller dies in the middle of a shave -----------------------------------------------------------------
def test_a_dead_csms_ends_every_discharge_by_its_lease() -> None:
    async def scenario() -> None:
        wire = await shaving()
        wire.kill_csms()
        await wire.after(1.0)
        assert giving_kw(wire) > 12.0, "the lease still holds"
        await wire.after(4.0)
        assert giving_kw(wire) == 0.0
        for _ in range(30):
            await wire.after(1.0)
            assert giving_kw(wire) == 0.0
        await wire.stop()

    on_wire(scenario)


def test_dropped_links_end_discharge_and_nothing_resumes_by_itself() -> None:
    async def scenario() -> None:
        wire = await shaving()
        for link in wire.links.values():
            link.drop()
        await wire.after(CYCLE_S)
        assert wire.csms.online == 0
        assert not wire.board.may_discharge.any()
        assert giving_kw(wire) == 0.0
        await wire.after(5.0)
        assert wire.csms.online == 6
        assert wire.board.may_discharge.all(), "every station came back into step"
        await wire.until_giving(12.0, within_s=30.0)
        assert wire.codes["station_timeout"] == 6
        assert wire.codes["station_back"] == 6
        await wire.stop()

    on_wire(scenario)


def test_a_vehicle_that_left_while_its_station_was_offline_is_gone() -> None:
    async def scenario() -> None:
        leaving = stay(0, -600.0, BUSY_S + 10.0, 0.7, 0.6)
        wire = WireSite(world(2, arrivals=[leaving, stays(2)[1]]), start_s=START_S + BUSY_S)
        wire.start()
        await wire.after(8.0 + HALF_BEAT_S)
        wire.links[0].drop()
        wire.stations[0]._dial = _after(wire.clock, 6.0, wire.stations[0]._dial)
        await wire.after(5.0)
        assert wire.board.connected[0], "nobody could have told"
        await wire.after(5.0)
        assert wire.csms.online == 2
        assert not wire.board.connected[0]
        assert wire.board.connected[1]
        assert [item.station_id for item in wire.store.open_transactions()] == ["bay-2"]
        await wire.stop()

    on_wire(scenario)


def _after[T](clock: Clock, pause_s: float, act: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    async def later() -> T:
        await clock.sleep(pause_s)
        return await act()

    return later
