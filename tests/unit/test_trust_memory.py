"""What of the contactors outlives a restart: latched welds and the day's use."""

import asyncio

import numpy as np
from msgspec import structs

from gridtide.control import grid_protection, shadow, site
from gridtide.control.grid_profiles import profile_of
from gridtide.control.grid_protection import GridSettings
from gridtide.control.protection import ProtectionSettings
from gridtide.control.shadow import Carried
from gridtide.model.decision import GridSample
from gridtide.run import memory
from gridtide.run.memory import Restored
from gridtide.run.store import MemoryStore
from tests.unit.builders import evse_table, site_settings


def restored(store: MemoryStore, size: int = 3) -> Restored:
    settings = site_settings(evse_table(size))
    return memory.restore(store, settings, site.fresh(settings), Carried(), shadow.fresh(size), damaged=False)


def test_a_latched_weld_is_latched_after_a_restart_and_said() -> None:
    store = MemoryStore()
    asyncio.run(store.put_setting(memory.welded_key("bay-2"), b"true", "meter", 1_772_445_600.0))
    asyncio.run(store.put_setting(memory.welded_key("bay-3"), b"false", "alice", 1_772_445_600.0))
    found = restored(store)
    assert found.state.trust.open.welded.tolist() == [False, True, False]
    assert any("bay-2" in note for note in found.notes)


def test_the_days_use_goes_on_after_a_restart_and_begins_afresh_for_another_fleet() -> None:
    store, settings = MemoryStore(), site_settings(evse_table(3))
    state = site.fresh(settings)
    used = structs.replace(
        state.trust.wear, operations=np.array([4, 0, 9]), turns=np.array([1, 0, 2]), day_left_s=600.0
    )
    memory.save(store, Carried(), shadow.fresh(3), settings, used)
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
    memory.save(store, Carried(), shadow.fresh(3), settings, state.trust.wear, "voltage above 1.2")
    found = memory.restore(store, settings, state, Carried(), shadow.fresh(3), False)
    assert found.state.protection.grid.tripped == "voltage above 1.2"
    assert any("voltage above 1.2" in note for note in found.notes)
    good = GridSample(at_s=1.0, voltages_v=(230.0,) * 3, frequency_hz=50.0)
    assert not grid_protection.step(found.state.protection.grid, good, 1.0, watched)[1].in_service
    assert restored(store).state.protection.grid.tripped == "", "a site that does not watch the grid any more"
    memory.save(store, Carried(), shadow.fresh(3), settings, state.trust.wear)
    assert memory.restore(store, settings, state, Carried(), shadow.fresh(3), False).state.protection.grid.tripped == ""
