"""What must survive a restart of the controller, and what must not be kept: tampering, erased persons, old records."""

import asyncio
import json

import msgspec
import pytest

from gridtide.run.retention import DAY_S, forget_daily, forget_old
from gridtide.run.store import EventType, MemoryStore, TransactionEvent
from tests.day.csms_kit import Kit
from tests.day.raw_station import event
from tests.day.wire_site import START_S, on_wire

CARD = {"idToken": "Card-7", "type": "ISO14443"}
TAMPER = {"type": "TamperDetectionActivated"}


def test_tampering_survives_a_restart_until_somebody_clears_it() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        await raw.ask("SecurityEventNotification", timestamp=kit.stamp(), **TAMPER)
        again = Kit(store=kit.store)
        assert list(again.board.fault) == [True, False]
        raw = await again.station()
        status = {"timestamp": again.stamp(), "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
        await raw.ask("StatusNotification", **status)
        assert again.board.fault[0], "no status message clears it"
        assert again.csms.clear_faults() == ("bay-1",)
        third = Kit(store=kit.store)
        assert not third.board.fault.any()
        assert third.csms.clear_faults() == ()

    on_wire(scenario)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_token_erased_during_its_own_stay_does_not_come_back(restarts: bool) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        await raw.call("TransactionEvent", event(kit.clock, "Started", 0, soc=70.0, idToken=CARD))
        swap = {"batteryData": [{"evseId": 1, "serialNumber": "B", "soC": 50.0, "soH": 90.0}], "eventType": "BatteryIn"}
        await raw.ask("BatterySwap", requestId=1, idToken=CARD, **swap)
        kit.csms.erase_token("card-7")
        await kit.store.erase_token("card-7", "test", kit.clock.wall())
        if restarts:
            raw.link.drop()
            kit = Kit(store=kit.store)
            raw = await kit.station()
        with_more = {**CARD, "idToken": "CARD-7", "additionalInfo": [{"additionalIdToken": "Ann", "type": "name"}]}
        await raw.call("TransactionEvent", event(kit.clock, "Updated", 1, idToken=with_more))
        await raw.ask("BatterySwap", requestId=2, idToken=CARD, **swap)
        await raw.call("TransactionEvent", event(kit.clock, "Ended", 2, idToken={**CARD, "idToken": "other"}))
        await kit.reports.effects.idle()
        events = kit.store.transaction_events("bay-1", "tx-1")
        told = [json.loads(item.payload_json)["idToken"] for item in events]
        assert [token["idToken"] for token in told] == ["erased", "erased", "other"], "another's stays"
        everything = json.dumps([told, kit.journal("battery_swap"), kit.csms.stations["bay-1"].tokens]).lower()
        assert len(kit.journal("battery_swap")) == 2
        assert "card-7" not in everything
        assert "ann" not in everything
        assert b"card-7" not in (kit.store.get_state("needs/bay-1") or b"").lower()
        assert b"card-7" not in (kit.store.get_state("erased_tokens") or b"").lower()

    on_wire(scenario)


def test_of_people_an_audited_call_holds_a_digest_alone() -> None:
    async def scenario() -> None:
        kit = Kit()
        await kit.station(RequestStartTransaction={"status": "Rejected"})
        await kit.operate("RequestStartTransaction", idToken=CARD, remoteStartId=1, evseId=1)
        (entry,) = [item for item in kit.store.audit() if item.action == "ocpp.call"]
        assert b"Card-7" not in entry.detail_json
        detail = msgspec.json.decode(entry.detail_json)
        assert len(detail["payload"]["idToken"]["idToken"]["sha256"]) == 64
        assert detail["payload"]["remoteStartId"] == 1

    on_wire(scenario)


async def aged(store: MemoryStore, transaction: str, at_s: float, *, ended: bool) -> None:
    kinds: tuple[EventType, ...] = ("Started", "Ended") if ended else ("Started",)
    for seq_no, kind in enumerate(kinds):
        made = TransactionEvent(
            station_id="bay-1", transaction_id=transaction, seq_no=seq_no, event_type=kind, at_s=at_s, evse_id=1,
            payload_json=b"{}",
        )  # fmt: skip
        await store.add_transaction_event(made)
    store.put_telemetry(at_s, {"pcc_kw": 1.0})


def test_what_is_older_than_its_time_goes_and_that_is_audited() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        for days in (5, 50):
            await aged(store, f"ended-{days}", START_S - days * DAY_S, ended=True)
            await aged(store, f"open-{days}", START_S - days * DAY_S - 1.0, ended=False)
        assert await forget_old(store, START_S, 0, 0) == (0, 0)
        assert store.audit() == ()
        assert await forget_old(store, START_S, 30, 9_999_999) == (1, 0)
        assert store.transaction_events("bay-1", "ended-50") == []
        assert store.transaction_events("bay-1", "open-50") != [], "what goes on is kept"
        assert store.transaction_events("bay-1", "ended-5") != []
        assert (await forget_old(store, START_S, 30, 30))[1] == 2
        assert len(store.telemetry("pcc_kw", 0.0, START_S)) == 2
        assert [entry.action for entry in store.audit()] == ["store.forget"] * 2

    on_wire(scenario)


def test_it_is_done_every_day() -> None:
    async def scenario() -> None:
        kit = Kit()
        store = kit.store
        assert isinstance(store, MemoryStore)
        job = asyncio.ensure_future(forget_daily(store, kit.clock, 1, 1))
        await aged(store, "one", START_S, ended=True)
        await kit.clock.sleep(0.5 * DAY_S)
        assert store.transaction_events("bay-1", "one") != []
        await kit.clock.sleep(2.0 * DAY_S)
        assert store.transaction_events("bay-1", "one") == []
        assert not job.done()

    on_wire(scenario)
