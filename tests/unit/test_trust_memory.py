"""What outlives a restart: latched welds, the day's use of the contactors, grid trips, hold times."""

import asyncio
import math

import numpy as np
import pytest
from msgspec import structs

from gridtide.control import grid_protection, shadow, site
from gridtide.control.dispatch import Override
from gridtide.control.grid_profiles import profile_of
from gridtide.control.grid_protection import GridSettings
from gridtide.control.protection import ProtectionSettings
from gridtide.control.shadow import Carried
from gridtide.control.wear import WearState
from gridtide.model.decision import GridSample, Reason
from gridtide.run import memory
from gridtide.run.clock import LoopClock
from gridtide.run.memory import Restored
from gridtide.run.steady_clock import SteadyClock
from gridtide.run.store import MemoryStore
from tests.unit.builders import LeapingSite, evse_table, fleet_sample, site_settings

WALL_S = 1_772_445_600.0
NOW_S = 50.0
"""The new process's clock at its start: another one than the old one's."""


def restored(store: MemoryStore, size: int = 3) -> Restored:
    settings = site_settings(evse_table(size))
    return memory.restore(
        store, settings, site.fresh(settings), Carried(), shadow.fresh(size), damaged=False, mono_s=NOW_S
    )


def with_trust(state: site.State, *, wear: WearState) -> site.State:
    return structs.replace(state, trust=structs.replace(state.trust, wear=wear))


def test_a_latched_weld_is_latched_after_a_restart_and_said() -> None:
    store = MemoryStore()
    asyncio.run(store.put_setting(memory.welded_key("bay-2"), b"true", "meter", WALL_S))
    asyncio.run(store.put_setting(memory.welded_key("bay-3"), b"false", "alice", WALL_S))
    found = restored(store)
    assert found.state.trust.open.welded.tolist() == [False, True, False]
    assert any("bay-2" in note for note in found.notes)


def test_the_days_use_goes_on_after_a_restart_and_begins_afresh_for_another_fleet() -> None:
    store, settings = MemoryStore(), site_settings(evse_table(3))
    state = site.fresh(settings)
    used = structs.replace(
        state.trust.wear, operations=np.array([4, 0, 9]), turns=np.array([1, 0, 2]), day_left_s=600.0
    )
    memory.save(store, Carried(), shadow.fresh(3), settings, with_trust(state, wear=used), WALL_S)
    again = restored(store).state.trust.wear
    assert again.operations.tolist() == [4, 0, 9]
    assert again.turns.tolist() == [1, 0, 2]
    assert again.day_left_s == 600.0
    assert restored(store, 2).state.trust.wear.operations.tolist() == [0, 0]


def test_a_trip_of_the_grid_protection_waits_for_good_values_again_after_a_restart() -> None:
    store, settings = MemoryStore(), site_settings(evse_table(3))
    watched = GridSettings(profile=profile_of("strict", 50.0))
    settings = structs.replace(settings, protection=ProtectionSettings(grid=watched))
    state = site.fresh(settings)
    grid = grid_protection.fresh(tripped="voltage above 1.2")
    tripped = structs.replace(state, protection=structs.replace(state.protection, grid=grid))
    memory.save(store, Carried(), shadow.fresh(3), settings, tripped, WALL_S)
    found = memory.restore(store, settings, state, Carried(), shadow.fresh(3), False, NOW_S)
    assert found.state.protection.grid.tripped == "voltage above 1.2"
    assert any("voltage above 1.2" in note for note in found.notes)
    good = GridSample(at_s=1.0, voltages_v=(230.0,) * 3, frequency_hz=50.0)
    assert not grid_protection.step(found.state.protection.grid, good, 1.0, watched)[1].in_service
    assert restored(store).state.protection.grid.tripped == "", "a site that does not watch the grid any more"
    memory.save(store, Carried(), shadow.fresh(3), settings, state, WALL_S)
    found = memory.restore(store, settings, state, Carried(), shadow.fresh(3), False, NOW_S)
    assert found.state.protection.grid.tripped == ""


def test_who_turned_a_moment_ago_may_not_turn_after_a_restart_until_its_hold_time_is_over() -> None:
    table = evse_table(3, hold_s=60.0)
    settings = site_settings(table)
    here = LeapingSite(settings, fleet_sample(3), start_s=1000.0).believed()
    here.settings = structs.replace(settings, overrides=(Override(0, "power", -10.0, math.inf),))
    here.after(seconds=0.5).decide(300.0)
    here.after(seconds=20.0).decide(300.0)
    store = MemoryStore()
    memory.save(store, Carried(), shadow.fresh(3), settings, here.state, WALL_S)
    found = memory.restore(store, settings, site.fresh(settings), Carried(), shadow.fresh(3), False, NOW_S)
    again = LeapingSite(
        structs.replace(settings, overrides=(Override(0, "power", 10.0, math.inf),)), fleet_sample(3), start_s=NOW_S
    )
    again.state = found.state
    again.believed()
    assert again.after(seconds=30.0).decide(300.0).setpoint_kw[0] == 0.0
    assert Reason(again.decide(300.0).reason[0]) is Reason.HOLD
    assert again.after(seconds=10.0).decide(300.0).setpoint_kw[0] > 0.0
    assert restored(store, 0).state.guard.direction.size == 0, "a fleet of another size"


def test_the_clock_knows_what_was_stored_last() -> None:
    store, settings = MemoryStore(), site_settings(evse_table(1))
    memory.save(store, Carried(), shadow.fresh(1), settings, site.fresh(settings), WALL_S)
    clock = SteadyClock(LoopClock(lambda: NOW_S, WALL_S - 3600.0))
    memory.set_right(clock, store)
    assert clock.latest_s == pytest.approx(WALL_S)
    store.put_state(memory.STATE, b"{not json")
    memory.set_right(clock, store)
    assert clock.latest_s == pytest.approx(WALL_S)
