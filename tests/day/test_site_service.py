"""What must hold around the loop: latches, overrides, the clocks over a restart, a meter that never answers."""

import asyncio
import math
from typing import Any

import pytest
from msgspec import structs

from gridtide.control.peak import PeakSettings
from gridtide.model.demand import DemandInterval
from gridtide.run import memory
from gridtide.run.store import MemoryStore, StoreError
from gridtide.wire.modbus.server import Fault
from tests.day.wire_site import WireSite, on_wire, settings, stay, world


class Balky(MemoryStore):
    """Refuses settings while told to."""

    refuses = False

    async def put_setting(self, key: str, value_json: bytes, actor: str, at_s: float) -> None:
        if self.refuses:
            raise StoreError("disk full")
        await super().put_setting(key, value_json, actor, at_s)


def test_an_estop_that_cannot_be_stored_holds_and_is_stored_later() -> None:
    async def scenario() -> None:
        store = Balky()
        here = WireSite(world(2), store=store)
        here.start()
        await here.after(5.0)
        store.refuses = True
        await here.site.estop("test")
        await here.after(5.0)
        assert here.decision.state == "estop"
        assert store.settings().get("estop") != b"true"
        store.refuses = False
        await here.after(5.0)
        assert store.settings()["estop"] == b"true"
        assert "store_failed" in here.codes

    on_wire(scenario)


def test_a_press_while_it_is_being_cleared_wins() -> None:
    async def scenario() -> None:
        here = WireSite(world(2))
        here.start()
        await here.after(5.0)
        await here.site.estop("first")
        slow = here.store.put_setting

        async def put(*words: Any) -> None:
            await slow(*words)
            if words[1] == b"false":
                await here.site.estop("second")

        here.store.put_setting = put  # type: ignore[method-assign,assignment]
        with pytest.raises(ValueError, match="pressed again"):
            await here.site.clear_estop("first")
        await here.after(5.0)
        assert here.decision.state == "estop"
        assert here.store.settings()["estop"] == b"true"

    on_wire(scenario)


def test_two_overrides_at_once_are_both_kept_and_end_with_their_vehicle() -> None:
    async def scenario() -> None:
        here = WireSite(world(3))
        here.start()
        await here.after(5.0)
        await asyncio.gather(*(here.site.override(row, "hold", 0.0, 60.0, "test") for row in (0, 1)))
        assert {item.row for item in here.site.settings.overrides} == {0, 1}
        here.stations[0].unplug()
        await here.after(3.0)
        assert {item.row for item in here.site.settings.overrides} == {1}

    on_wire(scenario)


def test_a_meter_that_never_answers_is_told() -> None:
    async def scenario() -> None:
        here = WireSite(world(2))
        here.site._meter.fault = Fault("silent")  # type: ignore[attr-defined]
        here.start()
        await here.after(10.0)
        assert here.decision.state == "idle"
        assert here.codes["meter_stale"] == 1

    on_wire(scenario)


def test_without_a_meter_charging_has_what_the_worst_building_leaves_below_the_limit() -> None:
    async def scenario() -> None:
        hungry = [stay(row, -600.0, 4 * 3600.0, 0.3, 0.8) for row in range(6)]
        here = WireSite(world(6, arrivals=hungry), rule=PeakSettings(limit_kw=320.0))
        here.start()
        await here.after(10.0)
        assert here.decision.setpoint_kw.sum() > 40.0
        here.site._meter.fault = Fault("silent")  # type: ignore[attr-defined]
        await here.after(10.0)
        assert here.decision.state == "idle"
        assert 10.0 < here.decision.setpoint_kw.sum() <= 20.0 + 1e-6

    on_wire(scenario)


def test_after_a_change_of_the_billed_interval_only_the_peaks_are_kept() -> None:
    async def scenario() -> None:
        here = WireSite(world(2))
        here.start()
        await here.after(2_000.0)  # the running quarter hour begins where a half hour would
        peak_kw = here.site.state.demand.peak_kw
        assert peak_kw > 100.0
        longer = structs.replace(settings(here.here), interval=DemandInterval(1800.0))
        found = memory.restore(
            here.store, longer, structs.replace(here.site.state, demand=type(here.site.state.demand)()),
            here.site.carried, here.site.shadow, damaged=False, mono_s=0.0,
        )  # fmt: skip
        assert (found.state.demand.peak_kw, found.state.demand.energy_kws) == (peak_kw, 0.0)
        same = memory.restore(
            here.store, settings(here.here), structs.replace(here.site.state, demand=type(here.site.state.demand)()),
            here.site.carried, here.site.shadow, damaged=False, mono_s=0.0,
        )  # fmt: skip
        assert same.state.demand.energy_kws > 0.0
        assert math.isclose(same.state.demand.energy_kws, here.site.carried.site.energy_kws)

    on_wire(scenario)


def test_a_damaged_store_starts_latched_and_a_damaged_state_is_told() -> None:
    async def scenario() -> None:
        here = WireSite(world(2))
        here.store.put_state(memory.STATE, b"{not json")
        found = memory.restore(
            here.store, here.site.settings, here.site.state, here.site.carried, here.site.shadow, damaged=True, mono_s=0.0
        )  # fmt: skip
        assert found.state.guard.estop
        assert "begins afresh" in found.notes[0]

    on_wire(scenario)
