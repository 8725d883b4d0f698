"""FT28 and AT13 on the wire: a contactor that welds when it is told to open, and registers that contradict the power."""

import numpy as np
import pytest

from gridtide.run.emulator.station import EmulatedStation
from gridtide.run.store import MemoryStore
from tests.day.test_trust import safe_after_s, shaving, story
from tests.day.wire_site import START_S, WireSite, on_wire, world


def stop(station: EmulatedStation) -> None:
    """The driver ends the transaction; the vehicle stays plugged in."""
    station.blocks.transactions.stop("StopAuthorized", "Local")
    station.tick()


@pytest.mark.parametrize("phase_s", [0.0, 0.25, 0.5, 0.75])
def test_ft28_a_welded_contactor_is_excluded_and_latched_within_a_second(phase_s: float) -> None:
    async def scene() -> tuple[WireSite, int, float, str]:
        w = await shaving()
        row = int(np.argmin(w.power_kw))
        await w.after(phase_s)
        w.stations[row].faults.weld = True
        stop(w.stations[row])
        latched_s = await safe_after_s(w, lambda: bool(w.site.state.trust.open.welded[row]), 5.0)
        await w.after(30.0)
        return w, row, latched_s, story(w, row)

    w, row, latched_s, said = on_wire(scene)
    assert w.power_kw[row] < -1.0, "ground truth: it still gives, whatever is asked"
    assert latched_s <= 1.0
    assert w.codes["contactor_welded"] == 1
    assert w.decision.setpoint_kw[row] == 0.0
    others_kw = w.power_kw.sum() - w.power_kw[row]
    assert w.emulated.sample is not None
    building_kw = w.emulated.sample.grid_kw - others_kw
    assert w.decision.uncontrolled_kw == pytest.approx(building_kw, abs=2.0), "its power counts as the building's"
    assert "welded" in said


def test_a_stop_that_opens_is_no_weld() -> None:
    async def scene() -> tuple[WireSite, int]:
        w = await shaving()
        row = int(np.argmin(w.power_kw))
        stop(w.stations[row])
        await w.after(0.6)
        assert w.power_kw[row] == 0.0
        return await w.after(60.0), row

    w, _ = on_wire(scene)
    assert "contactor_welded" not in w.codes
    assert not w.site.state.trust.open.welded.any()


def test_a_weld_outlives_a_restart_until_a_person_acknowledges_it_and_no_power_flows() -> None:
    async def first(store: MemoryStore) -> int:
        w = await shaving(store=store)
        row = int(np.argmin(w.power_kw))
        w.stations[row].faults.weld = True
        stop(w.stations[row])
        await w.after(12.0)
        event = next(item for item in store.events(200) if item.code == "contactor_welded")
        with pytest.raises(ValueError, match="still flows"):
            await w.site.mark_seen(event.id, "alice")
        await w.stop()
        return row

    async def second(store: MemoryStore, row: int) -> None:
        w = WireSite(world(blocks_kw=8 * (225.0,)), start_s=START_S + 1800.0, store=store)
        assert w.site.state.trust.open.welded[row]
        assert w.site.state.trust.wear.operations.sum() >= 1, "the day's use is kept"
        w.start()
        await w.until_giving()
        await w.after(20.0)
        assert w.power_kw[row] == 0.0, "another vehicle at that bay is not used"
        event = next(item for item in store.events(200) if item.code == "contactor_welded")
        await w.site.mark_seen(event.id, "alice")
        await w.after(1.0)
        assert not w.site.state.trust.open.welded.any()

    store = MemoryStore()
    row = on_wire(lambda: first(store))
    on_wire(lambda: second(store, row))


@pytest.mark.parametrize(
    ("lever", "scale", "within_s"), [("energy_register_scale", 10.0, 15.0), ("power_scale", 0.3, 300.0)]
)
def test_at13_a_register_that_contradicts_the_power_stops_that_vehicle(
    lever: str, scale: float, within_s: float
) -> None:
    async def scene() -> tuple[WireSite, int, float]:
        w = await shaving()
        row = int(np.argmin(w.power_kw))
        setattr(w.stations[row].faults, lever, scale)
        took_s = await safe_after_s(w, lambda: bool(w.site.state.trust.energy.fault[row]), within_s)
        await w.after(2.0)
        return w, row, took_s

    w, row, took_s = on_wire(scene)
    assert took_s <= within_s
    assert w.power_kw[row] >= -1e-6
    assert w.codes["energy_mismatch"] == 1
    assert -w.power_kw.sum() > 5.0, "the others go on"
