"""Who may discharge, and whose word holds, when messages come late, early, offline or not at all."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from gridtide.model.decision import Decision
from gridtide.run.csms.registry import Registry, StationEntry, TokenEntry
from gridtide.run.csms.station import DriverDefault, Provision
from gridtide.run.store import MemoryStore, StoreError
from gridtide.wire.ocpp.dialects_vendor import DataTransferTemplate
from gridtide.wire.ocpp.errors import LocalProtocolError
from tests.day.raw_station import RawStation, event
from tests.day.test_csms_core import WithoutV2x, told_with
from tests.day.test_station_life import Told
from tests.day.wire_site import START_S, on_wire

CARD = {"idToken": "Card-1", "type": "ISO14443"}


def stops(raw: RawStation) -> list[Any]:
    return [payload for action, payload in raw.heard if action == "RequestStopTransaction"]


# --- the card's word ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("entry", [TokenEntry(id_token="Card-1", may_discharge=False), None])
def test_a_card_counts_also_when_its_transaction_began_offline(entry: TokenEntry | None) -> None:
    async def scenario() -> None:
        ward = await told_with(*([entry] if entry is not None else []))
        raw = await ward.station()
        await raw.tell("Started", 0, idToken=CARD, offline=True)
        await raw.tell("Updated", 1, soc=70.0)
        await raw.needs()
        await ward.clock.sleep(0.5)
        assert not ward.board.may_discharge[0]
        assert bool(stops(raw)) is (entry is None)

    on_wire(scenario)


def test_a_vehicle_whose_stop_is_rejected_gives_nothing_and_is_asked_again() -> None:
    async def scenario() -> None:
        ward = await told_with(TokenEntry(id_token="Card-1", status="Blocked"))
        raw = await ward.station()
        await raw.tell("Started", 0, idToken=CARD, soc=70.0)
        await raw.needs()
        await ward.clock.sleep(1.0)
        assert not ward.board.may_discharge[0]
        assert len(stops(raw)) == 1
        await ward.clock.sleep(65.0)
        assert len(stops(raw)) == 3
        await raw.tell("Ended", 1)
        await ward.clock.sleep(65.0)
        assert len(stops(raw)) == 3

    on_wire(scenario)


@pytest.mark.parametrize("change", [{"status": "Blocked"}, {"may_discharge": False}])
def test_a_card_that_changes_during_the_stay_counts_at_once(change: dict[str, Any]) -> None:
    async def scenario() -> None:
        ward = await told_with(TokenEntry(id_token="Card-1"))
        raw = await ward.station()
        await raw.tell("Started", 0, idToken=CARD, soc=70.0)
        await raw.needs()
        await ward.clock.sleep(0.5)
        assert ward.board.may_discharge[0]
        await ward.csms.registry.put_token(TokenEntry(id_token="Card-1", **change), "ann", START_S)
        assert not ward.board.may_discharge[0]

    on_wire(scenario)


def test_a_drivers_word_outlasts_the_next_message_with_a_card() -> None:
    async def scenario() -> None:
        def default(_token: str, _now_s: float) -> DriverDefault:
            return DriverDefault(START_S + 36_000.0, 5.0, 0.2)

        ward = await told_with(TokenEntry(id_token="Card-1"), driver_default=default)
        raw = await ward.station()
        await raw.tell("Started", 0, idToken=CARD, soc=70.0)
        ward.csms.set_wish(0, minimum_soc=0.8, energy_kwh=30.0)
        await raw.tell("Updated", 1, idToken=CARD)
        assert ward.board.minimum_soc[0] == 0.8
        assert ward.board.asked_kwh[0] == 30.0

    on_wire(scenario)


def test_an_unwanted_card_is_stopped_at_a_station_nobody_steers() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        registry = Registry(store, accepts_unknown=False)
        ward = Told(store, registry=registry)
        await registry.put_station(StationEntry(identity="later"), "ann", START_S)
        raw = await RawStation(ward.csms, ward.clock, "later").boot()
        await raw.tell("Started", 0, "tx-9", idToken=CARD)
        await ward.clock.sleep(0.5)
        assert stops(raw) == [{"transactionId": "tx-9"}]

    on_wire(scenario)


# --- what was negotiated ------------------------------------------------------------------------------------------------
def test_a_vehicle_that_goes_back_to_charging_only_gives_no_more() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        assert ward.board.may_discharge[0]
        await raw.needs("DC")
        assert not ward.board.may_discharge[0]

    on_wire(scenario)


def test_needs_told_before_the_transaction_hold_for_it_and_for_no_other() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        await raw.needs()
        await raw.tell("Started", 0, soc=70.0)
        await ward.clock.sleep(0.5)
        assert ward.board.may_discharge[0]
        assert ward.board.capacity_kwh[0] == 60.0
        await raw.tell("Ended", 1)
        await raw.tell("Started", 0, "tx-2", soc=70.0)
        assert not ward.board.may_discharge[0]
        assert np.isnan(ward.board.capacity_kwh[0])

    on_wire(scenario)


def test_a_station_without_v2x_stays_so_over_transactions_and_registry_changes() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await WithoutV2x(ward.csms, ward.clock).boot()
        await ward.clock.sleep(1.0)
        await raw.tell("Started", 0, soc=70.0)
        await raw.needs()
        await ward.clock.sleep(1.0)
        ward.csms._registry_changed("bay-1")
        assert not ward.board.may_discharge[0]

    on_wire(scenario)


def test_charge_only_still_sends_the_vendors_zero() -> None:
    template = DataTransferTemplate(vendor_id="v", data='{"w": "$power_w", "s": "$lease_s"}')

    async def scenario() -> None:
        ward = Told()
        station = ward.csms.stations["bay-1"]
        mine = Provision(identity="bay-1", rows={1: 0}, dialect="data_transfer", template=template)
        ward.csms._provisions["bay-1"] = station.provision = mine
        raw = await ward.giving()
        with pytest.raises(ValueError, match="steers this station"):
            await ward.csms.operator.call("bay-1", "DataTransfer", {"vendorId": "V", "data": {"w": -7000}}, "ann")
        ward.csms.registry.modes["bay-1"] = "charge-only"
        ward.csms._registry_changed("bay-1")
        assert not ward.board.may_discharge[0]
        zero = np.zeros(1)
        ward.csms.apply(
            Decision(setpoint_kw=zero, reason=np.zeros(1, dtype=np.uint8), wish_kw=zero, lease_s=5.0, state="ok")
        )
        await ward.clock.sleep(1.0)
        assert [payload["data"]["w"] for action, payload in raw.heard if action == "DataTransfer"] == [0]

    on_wire(scenario)


# --- late and old -------------------------------------------------------------------------------------------------------
def old_values(ward: Told, age_s: float) -> dict[str, Any]:
    made = event(ward.clock, "Updated", 0, soc=99.0)["meterValue"]
    made[0]["timestamp"] = datetime.fromtimestamp(ward.clock.wall() - age_s, UTC).isoformat()
    return {"evseId": 1, "meterValue": made}


def test_meter_values_neither_sync_a_transaction_nor_count_when_old() -> None:
    async def scenario() -> None:
        ward = Told()
        first = await ward.giving()
        first.link.drop()
        await ward.clock.sleep(1.0)
        raw = RawStation(ward.csms, ward.clock)
        await ward.clock.sleep(1.0)
        await raw.call("MeterValues", old_values(ward, 7200.0))
        assert ward.board.soc[0] == 0.7
        await raw.call("MeterValues", old_values(ward, 0.0))
        assert ward.board.soc[0] == 0.99
        assert not ward.board.may_discharge[0], "they name no transaction"
        await raw.tell("Updated", 1)
        assert ward.board.may_discharge[0]

    on_wire(scenario)


def test_an_ended_transaction_stays_ended_over_a_restart() -> None:
    async def scenario() -> None:
        old = Told()
        raw = await old.giving()
        await raw.tell("Ended", 3)
        raw.link.drop()
        ward = Told(old.store)
        back = await ward.station()
        await back.tell("Updated", 2, soc=66.0)
        assert not ward.board.connected[0]
        assert ward.csms.stations["bay-1"].transactions == {}

    on_wire(scenario)


def test_an_older_transaction_does_not_take_the_bay_from_the_present_one() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        late = event(ward.clock, "Updated", 5, "tx-a", soc=11.0)
        await ward.clock.sleep(60.0)
        await raw.tell("Started", 0, "tx-b", soc=70.0)
        await raw.call("TransactionEvent", late)
        assert ward.csms.stations["bay-1"].transactions == {0: "tx-b"}
        assert ward.board.soc[0] == 0.7

    on_wire(scenario)


def test_an_old_status_ends_nothing_and_a_new_one_says_so() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        stamp = event(ward.clock, "Updated", 0)["timestamp"]
        free = {"timestamp": stamp, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
        await ward.clock.sleep(60.0)
        await raw.tell("Started", 0)
        await raw.call("StatusNotification", free)
        assert ward.board.connected[0]
        await raw.call("StatusNotification", free | {"timestamp": event(ward.clock, "Updated", 0)["timestamp"]})
        assert not ward.board.connected[0]
        assert ward.count("transaction_incomplete") == 1

    on_wire(scenario)


# --- trouble of ours ----------------------------------------------------------------------------------------------------
def test_a_store_that_cannot_be_read_ends_no_station_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        await raw.tell("Started", 0)
        await raw.tell("Updated", 3)

        def fail(*_: object) -> None:
            raise StoreError("gone")

        monkeypatch.setattr(ward.store, "transaction_head", fail)
        await ward.clock.sleep(70.0)
        assert not ward.ticks.done()

    on_wire(scenario)


def test_a_full_queue_parts_no_record_from_its_effect() -> None:
    async def scenario() -> None:
        ward = await told_with()
        raw = await ward.station()
        live = ward.csms.stations["bay-1"].conversation
        assert live is not None

        def full(*_words: object, **_how: object) -> None:
            raise LocalProtocolError("full")

        live.post = full  # type: ignore[method-assign]
        assert (await raw.tell("Started", 0, idToken=CARD))[0] == 3
        assert (await raw.tell("Updated", 5))[0] == 3
        assert (await raw.tell("Ended", 6))[0] == 3
        assert not ward.board.connected[0]

    on_wire(scenario)
