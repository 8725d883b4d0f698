"""Stations of the standard's habit (authorise first, tell every change) under our own management system."""

import random

import pytest

from gridtide.run.assembly import ids
from gridtide.run.emulator.station import EmulatedStation, Setup
from gridtide.wire.ocpp.actions import Version
from tests.day.wire_site import BUSY_S, START_S, WireSite, on_wire, world


def standard_site(version: Version) -> WireSite:
    """The busy site with stations that wait for their tokens."""
    wire = WireSite(world(), versions=(version,) * 6, start_s=START_S + BUSY_S)
    for row, old in tuple(wire.stations.items()):
        new = EmulatedStation(
            old.identity, version, old._dial, wire.clock, ids(f"s{row}-"), random.Random(row),
            setup=Setup(standard=True, fallback_kw=4.0),
        )  # fmt: skip
        wire.emulated.stations[row] = new
        new.plug(wire.emulated.car(row))
    wire.start()
    return wire


@pytest.mark.parametrize("version", ["2.1", "2.0.1"])
def test_standard_stations_shave_and_come_back(version: Version) -> None:
    async def scenario() -> None:
        wire = standard_site(version)
        await wire.until_giving(12.0, within_s=60.0)
        assert all(station.transaction_id for station in wire.stations.values())
        for link in wire.links.values():
            link.drop()
        await wire.after(6.0)
        # Not before the new session: by now every lease of the old one has ended.
        await wire.until_giving(12.0, within_s=60.0)
        assert wire.codes["station_back"] == 6
        starts = [wire.store.transaction_events(s.identity, s.transaction_id or "") for s in wire.stations.values()]
        assert all([event.seq_no for event in story] == list(range(len(story))) for story in starts)
        assert all(story[0].event_type == "Started" for story in starts)
        await wire.stop()

    on_wire(scenario)


def test_a_bay_taken_out_of_service_stops_at_its_end_and_serves_nobody() -> None:
    async def scenario() -> None:
        wire = standard_site("2.1")
        await wire.until_giving(12.0, within_s=60.0)
        station = wire.stations[0]
        station.break_down()
        await wire.after(2.0)
        assert wire.power_kw[0] == 0.0
        assert station.transaction_id is None
        assert wire.decision.setpoint_kw[0] == 0.0
        station.break_down(active=False)
        await wire.after(2.0)
        assert station.power_wish_kw() == 0.0, "the vehicle stands there, its transaction is over"
        await wire.stop()

    on_wire(scenario)
