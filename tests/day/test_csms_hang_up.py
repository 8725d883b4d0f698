"""A station registered otherwise while it is connected: it is sent away exactly where its way in is another one now."""

from typing import Any

import pytest
from msgspec import structs

from gridtide.run.csms.registry import EvseEntry, Registry, StationEntry
from gridtide.run.net import LinkClosed
from tests.day.csms_kit import Kit
from tests.day.raw_station import RawStation
from tests.day.wire_site import START_S, on_wire

ENTRY = StationEntry(identity="later", serial="SN-9", security_profile=2, evses=(EvseEntry(id=1),))


async def connected(kit: Kit) -> RawStation:
    """A station that people registered and that came in."""
    await registry(kit).put_station(ENTRY, "ann", START_S)
    return await RawStation(kit.csms, kit.clock, "later").boot()


def registry(kit: Kit) -> Registry:
    return kit.csms.registry


async def ended(raw: RawStation) -> LinkClosed:
    """How the link ended."""
    try:
        while True:
            await raw.link.receive()
    except LinkClosed as how:
        return how


@pytest.mark.parametrize(
    "change",
    [{"enabled": False}, {"security_profile": 3}, {"security_profile": 1}, {"serial": "SN-10"}, {"tls_min": "1.2"}],
)
def test_another_way_in_ends_the_connection_with_4403(change: dict[str, Any]) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await connected(kit)
        await registry(kit).put_station(structs.replace(ENTRY, **change), "ann", START_S)
        await kit.clock.sleep(1.0)
        assert raw.link.closed
        how = await ended(raw)
        assert (how.code, how.reason) == (4403, "registered otherwise")
        assert kit.csms.stations["later"].conversation is None
        # What fits the new registration is served again.
        assert await RawStation(kit.csms, kit.clock, "later").boot()

    on_wire(scenario)


@pytest.mark.parametrize(
    "change", [{"name": "At the gate"}, {"evses": (EvseEntry(id=1, charge_kw=22.0),)}, {"discharge_opt_in": True}, {}]
)
def test_any_other_change_leaves_it_connected(change: dict[str, Any]) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await connected(kit)
        await registry(kit).put_station(structs.replace(ENTRY, **change), "ann", START_S)
        await registry(kit).set_mode("later", "charge-only", "ann", START_S)
        await kit.clock.sleep(1.0)
        assert not raw.link.closed
        assert (await raw.call("Heartbeat", {}))[0] == 3

    on_wire(scenario)


def test_a_removed_station_is_sent_away_and_not_served_again() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw, other = await connected(kit), await kit.station()
        await registry(kit).remove_station("later", "ann", START_S)
        await kit.clock.sleep(1.0)
        assert (await ended(raw)).code == 4404
        assert not other.link.closed, "nobody else is touched"
        again = RawStation(kit.csms, kit.clock, "later")
        await kit.clock.sleep(1.0)
        assert (await ended(again)).code == 4404

    on_wire(scenario)
