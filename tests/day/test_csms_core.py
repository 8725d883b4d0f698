"""Tokens, ownership of transactions, the registry, and people's calls to stations; raw frames in virtual time."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from gridtide.run.csms.operate import CallOutcome, StationOffline
from gridtide.run.csms.registry import Registry, StationEntry, TokenEntry
from gridtide.run.csms.station import BELIEVED_S, DriverDefault
from gridtide.run.doors import RegistryDoors
from gridtide.run.store import MemoryStore
from tests.day.raw_station import RawStation, event
from tests.day.test_station_life import Told
from tests.day.wire_site import START_S, on_wire

CARD = {"idToken": "Card-1", "type": "ISO14443"}
LIMIT_W = {"startPeriod": 0, "limit": 5000.0, "operationMode": "ChargingOnly"}


class WithoutV2x(RawStation):
    """Reports that its V2X controller is off."""

    def _answer(self, action: str, payload: Any) -> Any:  # type: ignore[override]
        if action != "GetVariables":
            return RawStation._answer(action, payload)
        told = [
            {"attributeStatus": "Accepted", "attributeValue": "false", **item} for item in payload["getVariableData"]
        ]
        return {"getVariableResult": told}


async def told_with(*tokens: TokenEntry, accepts_unknown: bool = False, **how: Any) -> Told:
    """A ward whose registry holds `tokens`."""
    store = MemoryStore()
    registry = Registry(store, accepts_unknown=accepts_unknown)
    for token in tokens:
        await registry.put_token(token, "test", START_S)
    return Told(store, registry=registry, **how)


async def status_of(raw: RawStation, token: dict[str, str]) -> str:
    return str((await raw.call("Authorize", {"idToken": token}))[2]["idTokenInfo"]["status"])


# --- tokens -----------------------------------------------------------------------------------------------------------
def test_tokens_are_judged_as_registered() -> None:
    async def scenario() -> None:
        ward = await told_with(
            TokenEntry(id_token="Card-1"), TokenEntry(id_token="bad", status="Blocked"),
            TokenEntry(id_token="old", expires_s=START_S - 1.0), TokenEntry(id_token="new", expires_s=START_S + 9e5),
        )  # fmt: skip
        raw = await ward.station()
        found = {
            name: await status_of(raw, {"idToken": name, "type": "ISO14443"})
            for name in ("card-1", "CARD-1", "bad", "old", "new", "nobody")
        }
        assert found == {
            "card-1": "Accepted", "CARD-1": "Accepted", "bad": "Blocked", "old": "Expired", "new": "Accepted",
            "nobody": "Unknown",
        }  # fmt: skip
        assert await status_of(raw, {"idToken": "Card-1", "type": "Central"}) == "Unknown"
        assert await status_of(raw, {"idToken": "", "type": "NoAuthorization"}) == "Invalid"

    on_wire(scenario)


def test_unknown_tokens_charge_only_where_that_is_wanted() -> None:
    async def scenario() -> None:
        raw = await (await told_with(accepts_unknown=True)).station()
        assert await status_of(raw, CARD) == "Accepted"

    on_wire(scenario)


def test_a_token_that_must_not_charge_is_stopped() -> None:
    async def scenario() -> None:
        ward = await told_with()
        raw = await ward.station()
        answer = await raw.tell("Started", 0, idToken=CARD)
        assert answer[2]["idTokenInfo"]["status"] == "Unknown"
        await ward.clock.sleep(0.1)
        stops = [payload for action, payload in raw.heard if action == "RequestStopTransaction"]
        assert stops == [{"transactionId": "tx-1"}]

    on_wire(scenario)


def test_a_token_that_may_not_discharge_keeps_its_vehicle_from_it() -> None:
    async def scenario() -> None:
        ward = await told_with(TokenEntry(id_token="Card-1", may_discharge=False), TokenEntry(id_token="giver"))
        raw = await ward.station()
        for token, transaction, may in (("Card-1", "tx-1", False), ("giver", "tx-2", True)):
            modes = (await raw.call("Authorize", {"idToken": {"idToken": token, "type": "ISO14443"}}))[2]
            assert ("DC_BPT" in modes["allowedEnergyTransfer"]) is may
            await raw.tell("Started", 0, transaction, idToken={"idToken": token, "type": "ISO14443"}, soc=70.0)
            await raw.needs()
            await ward.clock.sleep(0.1)
            assert bool(ward.board.may_discharge[0]) is may
            await raw.tell("Ended", 1, transaction)

    on_wire(scenario)


def test_the_minimum_a_driver_wants_reaches_the_controller_and_outlives_a_restart() -> None:
    async def scenario() -> None:
        def default(_token: str, _now_s: float) -> DriverDefault:
            return DriverDefault(START_S + 9_000.0, 12.0, 0.55)

        old = await told_with(TokenEntry(id_token="Card-1"), driver_default=default)
        raw = await old.station()
        await raw.tell("Started", 0, idToken=CARD, soc=50.0)
        assert old.board.sample(old.clock.monotonic()).minimum_soc[0] == 0.55
        raw.link.drop()
        assert Told(old.store).board.minimum_soc[0] == 0.55
        await (await old.station()).tell("Ended", 1)
        assert np.isnan(old.board.minimum_soc[0])

    on_wire(scenario)


def test_stations_with_a_local_list_get_what_changes_and_others_hear_nothing() -> None:
    class Lister(RawStation):
        def _answer(self, action: str, payload: Any) -> Any:  # type: ignore[override]
            return {"status": "Accepted"} if action == "SendLocalList" else RawStation._answer(action, payload)

    async def scenario() -> None:
        ward = await told_with(TokenEntry(id_token="Card-1"))
        await ward.csms.registry.put_station(StationEntry(identity="other"), "ann", START_S)
        raw, other = Lister(ward.csms, ward.clock), RawStation(ward.csms, ward.clock, "other")
        await raw.boot()
        await other.boot()
        with pytest.raises(KeyError):
            await ward.csms.push_local_list("nobody")
        assert await ward.csms.push_local_list("bay-1")
        for number in range(3):
            await ward.csms.registry.put_token(TokenEntry(id_token=f"later-{number}"), "ann", START_S)
        await ward.csms.registry.remove_token("Card-1", "ISO14443", "ann", START_S)
        await ward.clock.sleep(5.0)
        sent = [payload for action, payload in raw.heard if action == "SendLocalList"]
        assert [(item["updateType"], item["versionNumber"]) for item in sent] == [("Full", 1), ("Differential", 2)]
        changed = {item["idToken"]["idToken"]: "idTokenInfo" in item for item in sent[1]["localAuthorizationList"]}
        assert changed == {"Card-1": False, "later-0": True, "later-1": True, "later-2": True}
        assert not any(action == "SendLocalList" for action, _ in other.heard)

    on_wire(scenario)


# --- whose transaction --------------------------------------------------------------------------------------------------
def test_at06_a_station_cannot_touch_the_transaction_of_another() -> None:
    async def scenario() -> None:
        ward = Told()
        await ward.csms.registry.put_station(StationEntry(identity="thief"), "test", START_S)
        raw = await ward.station()
        await raw.tell("Started", 0, "tx-7")
        thief = await RawStation(ward.csms, ward.clock, "thief").boot()
        for kind in ("Updated", "Ended"):
            answer = await thief.call("TransactionEvent", event(ward.clock, kind, 1, "tx-7"))
            assert answer[0] == 4
            assert answer[2] == "SecurityError"
        assert ward.board.connected[0]
        assert ward.count("security") == 1
        assert [item.station_id for item in ward.store.open_transactions()] == ["bay-1"]
        # Its own transaction may have the same number: it is another one.
        assert (await thief.call("TransactionEvent", event(ward.clock, "Started", 0, "tx-7")))[0] == 3
        assert (await thief.call("TransactionEvent", event(ward.clock, "Ended", 1, "tx-7")))[0] == 3
        assert ward.board.connected[0]

    on_wire(scenario)


def test_a_gap_is_asked_about_and_told_when_it_stays() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        await raw.tell("Started", 0)
        await raw.tell("Updated", 3)
        await ward.clock.sleep(1.0)
        asked = [payload for action, payload in raw.heard if action == "GetTransactionStatus"]
        assert asked == [{"transactionId": "tx-1"}]
        assert ward.count("transaction_incomplete") == 0
        await ward.clock.sleep(61.0)
        assert [text for code, text in ward.events if code == "transaction_incomplete"] == [
            "Transaction tx-1 misses 2 events; its energy counts only what was told."
        ]

    on_wire(scenario)


def test_a_gap_that_closes_is_not_told() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        await raw.tell("Started", 0)
        await raw.tell("Updated", 2)
        await raw.tell("Updated", 1)
        await ward.clock.sleep(70.0)
        assert ward.count("transaction_incomplete") == 0

    on_wire(scenario)


def test_an_event_after_the_end_changes_nothing() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        await raw.tell("Started", 0)
        await raw.tell("Ended", 1)
        await raw.tell("Started", 0, "tx-2")
        await raw.tell("Updated", 2, "tx-1", soc=11.0)
        assert ward.csms.stations["bay-1"].transactions == {0: "tx-2"}
        assert np.isnan(ward.board.soc[0])

    on_wire(scenario)


# --- the registry -------------------------------------------------------------------------------------------------------
def test_stations_come_and_go_while_the_site_runs() -> None:
    async def scenario() -> None:
        ward = Told()
        registry = ward.csms.registry
        stranger = RawStation(ward.csms, ward.clock, "later")
        await ward.clock.sleep(0.1)
        assert stranger.link.closed
        await registry.put_station(StationEntry(identity="later"), "ann", START_S)
        raw = await RawStation(ward.csms, ward.clock, "later").boot()
        await raw.tell("Started", 0, "tx-9")
        assert [item.station_id for item in ward.store.open_transactions()] == ["later"]
        assert set(Registry(ward.store).stations) == {"later"}
        await registry.remove_station("later", "ann", START_S)
        await ward.clock.sleep(0.1)
        assert raw.link.closed
        assert "later" not in ward.csms.stations
        audited = [(item.actor, item.action) for item in ward.store.audit()]
        assert audited == [("ann", "station.remove"), ("ann", "station.put")]

    on_wire(scenario)


def test_charge_only_takes_effect_at_once_and_stays_over_a_restart() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        assert ward.board.may_discharge[0]
        with pytest.raises(KeyError):
            await ward.csms.registry.set_mode("bay-9", "charge-only", "ann", START_S)
        registry = Registry(ward.store, [StationEntry(identity="bay-1", from_file=True)])
        ward.csms.registry.stations = registry.stations
        await ward.csms.registry.set_mode("bay-1", "charge-only", "ann", START_S)
        assert not ward.board.may_discharge[0]
        await raw.tell("Updated", 1, soc=60.0)
        assert not ward.board.may_discharge[0]
        assert not Told(ward.store).csms.stations["bay-1"].provision.may_discharge
        await ward.csms.registry.set_mode("bay-1", "bidirectional", "ann", START_S)
        assert ward.board.may_discharge[0]

    on_wire(scenario)


@pytest.mark.parametrize(
    ("entry", "cure"),
    [
        (StationEntry(identity="a", security_profile=3), "serial is missing"),
        (StationEntry(identity="a", serial="SN-1"), "station other has it"),
        (StationEntry(identity="a", dialect="data_transfer"), "template is missing"),
        (StationEntry(identity="file"), "the site file registers it"),
    ],
)
def test_a_wrong_station_is_refused_with_its_cure(entry: StationEntry, cure: str) -> None:
    store = MemoryStore()
    base = [
        StationEntry(identity="file", from_file=True),
        StationEntry(identity="other", serial="SN-1", from_file=True),
    ]
    with pytest.raises(ValueError, match=cure):
        asyncio.run(Registry(store, base).put_station(entry, "ann", START_S))
    assert store.registry("station") == ()
    assert store.audit() == ()


# --- people's calls -------------------------------------------------------------------------------------------------------
SCHEDULE = {"id": 1, "chargingRateUnit": "W", "startSchedule": "2026-03-02T10:00:00Z"}


def profile(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": 50, "stackLevel": 3, "chargingProfilePurpose": "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute", "chargingSchedule": [SCHEDULE | {"chargingSchedulePeriod": [LIMIT_W]}],
    }  # fmt: skip
    return {"evseId": 0, "chargingProfile": made | changes}


def test_a_call_reaches_the_station_and_is_audited() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        outcome = await ward.csms.operator.call("bay-1", "SetChargingProfile", profile(), "ann")
        assert isinstance(outcome, CallOutcome)
        assert (outcome.status, outcome.payload) == ("answered", {"status": "Accepted"})
        assert ("SetChargingProfile", profile()) in raw.heard
        entry = ward.store.audit(1)[0]
        assert (entry.actor, entry.action) == ("ann", "ocpp.call")
        assert msgspec.json.decode(entry.detail_json)["payload"] == profile()

    on_wire(scenario)


RELATIVE = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [LIMIT_W]}


def default_profile(purpose: str = "TxDefaultProfile") -> dict[str, Any]:
    made = profile(chargingProfilePurpose=purpose, chargingProfileKind="Relative", chargingSchedule=[RELATIVE])
    return made | {"evseId": 1}


GIVING = {"startPeriod": 0, "operationMode": "CentralSetpoint", "setpoint": -5000.0, "dischargeLimit": -5000.0}


@pytest.mark.parametrize(
    ("action", "payload", "cure"),
    [
        ("Heartbeat", {}, "knows no such request"),
        ("Nonsense", {}, "knows no such request"),
        ("NotifyPeriodicEventStream", {}, "knows no such request"),
        ("Reset", {}, "missing required field `type`"),
        ("Reset", {"type": "Never"}, "Invalid enum value"),
        ("SetChargingProfile", default_profile(), "is steered by the controller"),
        ("SetChargingProfile", default_profile("PriorityCharging"), "is steered by the controller"),
        ("SetChargingProfile", default_profile("LocalGeneration"), "is steered by the controller"),
        ("UsePriorityCharging", {"transactionId": "tx-1", "activate": True}, "is the controller's"),
        (
            "SetVariables",
            {"setVariableData": [{"attributeValue": "false", "component": {"name": "smartchargingctrlr"},
                                  "variable": {"name": "ENABLED"}}]},
            "must follow profiles",
        ),
        (
            "SetDERControl",
            {"isDefault": True, "controlId": "d", "controlType": "FreqDroop", "freqDroop": {
                "priority": 1, "overFreq": 50.2, "underFreq": 49.8, "overDroop": 5.0, "underDroop": 5.0,
                "responseTime": 1.0}},
            "charge-only",
        ),
        (
            "SetChargingProfile",
            profile(chargingSchedule=[SCHEDULE | {"chargingSchedulePeriod": [LIMIT_W | {"limit": -5000.0}]}]),
            "discharg",
        ),
        ("SetChargingProfile", profile(chargingSchedule=[SCHEDULE | {"chargingSchedulePeriod": [GIVING]}]), "discharg"),
        ("UpdateDynamicSchedule", {"chargingProfileId": 60, "scheduleUpdate": {"limit": 100.0}}, "are the controller's"),
        (
            "UpdateDynamicSchedule",
            {"chargingProfileId": 60, "scheduleUpdate": {"setpoint": -100.0}},
            "discharg",
        ),
        (
            "SetVariables",
            {"setVariableData": [{"attributeValue": "0123456789abcdef", "component": {"name": "SecurityCtrlr"},
                                  "variable": {"name": "BasicAuthPassword"}}]},
            "is a secret",
        ),
    ],
)  # fmt: skip
def test_what_must_not_be_sent_is_not(action: str, payload: dict[str, Any], cure: str) -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.station()
        await ward.clock.sleep(0.1)
        before = len(raw.heard)
        with pytest.raises(ValueError, match=cure):
            await ward.csms.operator.call("bay-1", action, payload, "ann")
        await ward.clock.sleep(0.1)
        assert len(raw.heard) == before
        assert ward.store.audit() == ()

    on_wire(scenario)


def test_clearing_profiles_ends_the_right_to_discharge_until_the_one_underneath_is_back() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        underlays = ward_underlays(raw)
        raw.answers = True
        await ward.csms.operator.call("bay-1", "ClearChargingProfile", {"chargingProfileCriteria": {}}, "ann")
        assert not ward.board.may_discharge[0]
        await ward.clock.sleep(0.5)
        assert ward_underlays(raw) == underlays + 1
        assert ward.board.may_discharge[0]

    on_wire(scenario)


def test_no_lease_is_stamped_by_a_clock_that_was_set_right_before_that_is_believed() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        ahead = datetime.fromtimestamp(ward.clock.wall() + 110.0, UTC).isoformat()
        await raw.tell("Updated", 1, timestamp=ahead)
        assert not ward.board.may_discharge[0]
        for second in range(int(BELIEVED_S)):
            await raw.tell("Updated", 2 + second)
            assert not ward.board.may_discharge[0], "its lease would begin two minutes later"
            await ward.cycles(-5.0, 2)
        assert min(raw.powers_w, default=0.0) >= 0.0
        await ward.clock.sleep(0.5)
        await raw.tell("Updated", 30)
        assert ward.board.may_discharge[0]
        ward.apply(-5.0)
        await ward.clock.sleep(0.1)
        _, payload = raw.heard[-1]
        begins = datetime.fromisoformat(payload["chargingProfile"]["chargingSchedule"][0]["startSchedule"])
        assert abs(begins.timestamp() - ward.clock.wall()) < 1.0

    on_wire(scenario)


def ward_underlays(raw: RawStation) -> int:
    profiles = [payload["chargingProfile"] for action, payload in raw.heard if action == "SetChargingProfile"]
    return sum(item["chargingProfilePurpose"] == "TxDefaultProfile" for item in profiles)


def test_calls_to_nobody_and_to_stations_that_are_away() -> None:
    async def scenario() -> None:
        ward = Told()
        with pytest.raises(KeyError):
            await ward.csms.operator.call("bay-7", "ClearCache", {}, "ann")
        with pytest.raises(StationOffline):
            await ward.csms.operator.call("bay-1", "ClearCache", {}, "ann")
        raw = await ward.station()
        raw.answers = False
        outcome = await ward.csms.operator.call("bay-1", "ClearCache", {}, "ann", timeout_s=2.0)
        assert (outcome.status, outcome.code) == ("failed", "timed_out")

    on_wire(scenario)


# --- a driver's own word ----------------------------------------------------------------------------------------------------
def test_a_drivers_word_holds_for_the_stay_and_ends_with_it() -> None:
    async def scenario() -> None:
        ward = Told()
        with pytest.raises(KeyError):
            ward.csms.set_wish(0, energy_kwh=5.0)
        raw = await ward.giving()
        ward.csms.set_wish(0, energy_kwh=6.0, minimum_soc=0.5, may_discharge=False, departs_at_s=START_S + 7200.0)
        board = ward.board
        assert not board.may_discharge[0]
        assert board.minimum_soc[0] == 0.5
        assert board.departs_s[0] - ward.clock.monotonic() == pytest.approx(7200.0, abs=5.0)
        assert board.need_soc[0] == pytest.approx(board.soc[0] + 6.0 * 0.94 / 60.0)
        await raw.tell("Ended", 9)
        await raw.tell("Started", 0, "tx-2", soc=70.0)
        await raw.needs()
        assert board.may_discharge[0]
        assert np.isnan(board.minimum_soc[0])

    on_wire(scenario)


def test_tampering_stays_until_somebody_clears_it() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        stamp = event(ward.clock, "Updated", 0)["timestamp"]
        await raw.call("SecurityEventNotification", {"type": "TamperDetectionActivated", "timestamp": stamp})
        assert ward.board.fault[0]
        assert ward.csms.clear_faults() == ("bay-1",)
        assert not ward.board.fault[0]
        assert ward.csms.clear_faults() == ()

    on_wire(scenario)


def test_a_station_that_reports_no_v2x_is_not_asked_to_discharge() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await WithoutV2x(ward.csms, ward.clock).boot()
        await raw.tell("Started", 0, soc=70.0)
        await raw.needs()
        await ward.clock.sleep(1.0)
        assert not ward.board.may_discharge[0]
        assert ward.count("discharge_denied") == 1

    on_wire(scenario)


# --- moving to another security profile (A05) ---------------------------------------------------------------------------------
def test_a_station_is_moved_to_another_security_profile_once_it_came_in_on_it() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        base = [StationEntry(identity="a", security_profile=2, serial="SN-1", from_file=True)]
        registry = Registry(store, base)
        doors = RegistryDoors(registry.stations, registry.moves)
        with pytest.raises(ValueError, match="never goes back to plain"):
            await registry.begin_move("a", 1, "ann", START_S, version="2.1", downgrade_allowed=True)
        assert not await registry.finish_move("a", 3, START_S)
        await registry.begin_move("a", 3, "ann", START_S, version="2.0.1")
        again = Registry(store, base)
        assert again.moves == {"a": 3}
        door = doors.door("a")
        assert door is not None
        assert (door.security_profile, door.next_profile) == (2, 3)
        assert not await registry.finish_move("a", 2, START_S), "it still comes in on the old one"
        assert await registry.finish_move("a", 3, START_S)
        door = doors.door("a")
        assert door is not None
        assert (door.security_profile, door.next_profile) == (3, None)
        assert Registry(store, base).stations["a"].security_profile == 3, "the file's value is of before the move"
        assert Registry(store, base).moves == {}
        with pytest.raises(ValueError, match="allows no downgrade"):
            await registry.begin_move("a", 2, "ann", START_S, version="2.0.1")

    on_wire(scenario)


def test_profile_3_needs_a_serial_number() -> None:
    registry = Registry(MemoryStore(), [StationEntry(identity="a", from_file=True)])
    with pytest.raises(ValueError, match="serial is missing"):
        asyncio.run(registry.begin_move("a", 3, "ann", START_S, version="2.1"))
    with pytest.raises(KeyError):
        asyncio.run(registry.begin_move("b", 2, "ann", START_S, version="2.1"))
