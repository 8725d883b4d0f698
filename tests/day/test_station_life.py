"""Stations that reconnect, refuse, stay silent or outlive a restart of the controller; raw frames in virtual time."""

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest

from gridtide.model.decision import Decision
from gridtide.run.csms.preparation import SETTLED_S
from gridtide.run.store import MemoryStore
from gridtide.wire.ocpp.outgoing import Priority, QueueFull
from tests.day.raw_station import RawStation, event
from tests.day.test_wire_tier import Ward
from tests.day.wire_site import on_wire

TOKEN = {"idToken": "card", "type": "ISO14443"}


class Moody(RawStation):
    """Answers as told: `status` by action, or by `discharge` for a discharging profile."""

    def __init__(self, ward: Ward, **status: str) -> None:
        self.status = status
        super().__init__(ward.csms, ward.clock)

    def _answer(self, action: str, payload: Any) -> Any:  # type: ignore[override]
        if action == "SetChargingProfile":
            profile = payload["chargingProfile"]
            purpose = "discharge" if power_w(profile) < 0.0 else profile["chargingProfilePurpose"]
            return {"status": self.status.get(purpose, "Accepted")}
        answer = RawStation._answer(action, payload)
        if action == "SetVariables" and "SetVariables" in self.status:
            answer["setVariableResult"][0]["attributeStatus"] = self.status["SetVariables"]
        return answer

    @property
    def powers_w(self) -> list[float]:
        """What each lease so far asks for, W."""
        profiles = [payload["chargingProfile"] for action, payload in self.heard if action == "SetChargingProfile"]
        return [power_w(item) for item in profiles if item["chargingProfilePurpose"] == "TxProfile"]

    def count(self, action: str) -> int:
        return sum(heard == action for heard, _ in self.heard)


def power_w(profile: dict[str, Any]) -> float:
    period = profile["chargingSchedule"][0]["chargingSchedulePeriod"][0]
    return float(period.get("setpoint", period.get("limit")))


class Told(Ward):
    """A ward that keeps what people are told."""

    def __init__(self, store: Any = None, **how: Any) -> None:
        super().__init__(store, **how)
        self.events: list[tuple[str, str]] = []
        self.csms.tell(lambda code, _source, text: self.events.append((code, text)))

    def count(self, code: str) -> int:
        return sum(told == code for told, _ in self.events)

    def apply(self, power_kw: float) -> None:
        wanted = np.array([power_kw])
        zero = np.zeros(1, dtype=np.uint8)
        self.csms.apply(Decision(setpoint_kw=wanted, reason=zero, wish_kw=wanted, lease_s=5.0, state="ok"))

    async def cycles(self, power_kw: float, count: int) -> None:
        for _ in range(count):
            self.apply(power_kw)
            await self.clock.sleep(0.5)

    async def giving(self, **status: str) -> Moody:
        """A station whose vehicle may discharge as far as is known."""
        raw = Moody(self, **status)
        await raw.boot()
        await raw.tell("Started", 0, soc=70.0)
        await raw.needs()
        await self.clock.sleep(0.5)
        return raw


# --- connections ------------------------------------------------------------------------------------------------------
def test_a_station_that_reconnects_need_not_boot_again() -> None:
    async def scenario() -> None:
        ward = Told()
        first = await ward.giving()
        assert ward.board.may_discharge[0]
        first.link.drop()
        await ward.clock.sleep(1.0)
        assert not ward.board.may_discharge[0]
        again = Moody(ward)
        await ward.clock.sleep(1.0)
        assert again.count("SetChargingProfile") == 1, "the profile underneath"
        assert not ward.board.may_discharge[0], "its transaction has not spoken"
        assert (await again.tell("Updated", 1, soc=60.0))[0] == 3
        assert ward.board.may_discharge[0]
        assert ward.count("station_back") == 1

    on_wire(scenario)


def test_an_unknown_station_is_refused_and_asked_to_boot() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = Moody(ward)
        assert (await raw.tell("Started", 0))[0] == 4
        await ward.clock.sleep(1.5)
        assert raw.heard == []
        await ward.clock.sleep(1.0)
        assert raw.heard == [("TriggerMessage", {"requestedMessage": "BootNotification"})]

    on_wire(scenario)


def test_a_restart_forgets_neither_the_needs_nor_who_had_booted() -> None:
    async def scenario() -> None:
        old = Told()
        raw = await old.giving()
        await raw.tell("Updated", 1, idToken=TOKEN)
        await old.clock.sleep(10.0)
        raw.link.drop()
        stored = old.store.get_state("needs/bay-1")
        assert stored is not None
        assert b"NaN" not in stored
        assert b"nfinity" not in stored
        ward = Told(old.store)
        assert ward.csms.stations["bay-1"].tokens == {0: "card"}
        for name in ("need_soc", "capacity_kwh", "departs_s", "charge_limit_kw", "discharge_limit_kw"):
            assert getattr(ward.board, name)[0] == pytest.approx(getattr(old.board, name)[0], abs=0.6), name
        back = Moody(ward)
        await ward.clock.sleep(1.0)
        assert not ward.board.may_discharge[0]
        await back.tell("Updated", 2, soc=60.0)
        assert ward.board.may_discharge[0]
        assert ward.board.need_soc[0] == 0.5
        await back.tell("Ended", 3)
        assert ward.store.get_state("needs/bay-1") == b""

    on_wire(scenario)


def test_energy_taken_before_a_restart_still_counts() -> None:
    async def register(ward: Ward, raw: RawStation, value_wh: float) -> None:
        sample = {"measurand": "Energy.Active.Import.Register", "value": value_wh}
        stamp = event(ward.clock, "Updated", 0)["timestamp"]
        values = [{"timestamp": stamp, "sampledValue": [sample]}]
        await raw.call("MeterValues", {"evseId": 1, "meterValue": values})

    async def scenario() -> None:
        old = Told()
        raw = await old.giving()
        await register(old, raw, 50_000.0)
        raw.link.drop()
        ward = Told(old.store)
        await register(ward, Moody(ward), 53_000.0)
        assert ward.board.taken_kwh[0] == pytest.approx(3.0)

    on_wire(scenario)


def test_needs_of_another_transaction_or_unreadable_ones_are_left_out() -> None:
    async def scenario() -> None:
        old = Told()
        await old.giving()
        stored = old.store.get_state("needs/bay-1") or b""
        for data in (stored.replace(b"tx-1", b"tx-0"), b"{", b"[]", b'{"transaction_id":1}'):
            old.store.put_state("needs/bay-1", data)
            assert np.isnan(Told(old.store).board.need_soc[0])

    on_wire(scenario)


# --- refusals ---------------------------------------------------------------------------------------------------------
def test_a_refused_discharge_is_told_once_and_not_tried_again_before_a_new_transaction() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving(discharge="Rejected")
        ward.apply(-5.0)
        await ward.clock.sleep(0.5)
        assert raw.powers_w == [-5000.0]
        await raw.needs()
        await raw.tell("Updated", 1, soc=60.0)
        assert not ward.board.may_discharge[0], "the plan would count on it again"
        await ward.cycles(-5.0, 6)
        assert raw.powers_w == [-5000.0]
        assert ward.count("discharge_denied") == 1
        await raw.tell("Ended", 2)
        await raw.tell("Started", 0, "tx-2", soc=60.0)
        await raw.needs()
        assert ward.board.may_discharge[0]

    on_wire(scenario)


def test_a_dialect_of_the_other_version_never_may_discharge() -> None:
    async def scenario() -> None:
        ward = Told()
        station = ward.csms.stations["bay-1"]
        station.provision = msgspec.structs.replace(
            station.provision, dialect="v201_negative_limit", discharge_opt_in=True
        )
        await ward.giving()
        assert 0 in station.underneath
        assert 0 in station.synced
        assert not ward.board.may_discharge[0]

    on_wire(scenario)


def test_a_refused_setpoint_is_repeated_slowly_and_told_once() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving(TxProfile="Rejected")
        await ward.cycles(4.0, 12)
        assert 2 <= len(raw.powers_w) <= 4
        assert ward.count("vehicle_not_following") == 1

    on_wire(scenario)


def test_an_unanswered_setpoint_is_told_once() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        raw.answers = False
        await ward.cycles(4.0, 200)
        assert 2 <= len(raw.powers_w) <= 50
        assert ward.count("vehicle_not_following") == 1

    on_wire(scenario)


def test_every_setpoint_that_ends_power_goes_first() -> None:
    async def scenario() -> None:
        ward = Told()
        await ward.giving()
        live = ward.csms.stations["bay-1"].conversation
        assert live is not None
        seen: list[Priority] = []
        post = live.post

        def note(*args: Any, **how: Any) -> None:
            seen.append(how["priority"])
            post(*args, **how)

        live.post = note  # type: ignore[method-assign]
        for power_kw in (4.0, 0.0, -3.0, 2.0, 3.0):
            await ward.cycles(power_kw, 1)
        ward.csms.stations["bay-1"].sent.pop(0)
        await ward.cycles(0.0, 1)
        usual, stop = Priority.CONTROL, Priority.STOP
        assert seen == [usual, stop, usual, stop, usual, stop]

    on_wire(scenario)


def test_a_refused_profile_underneath_is_told_once() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving(TxDefaultProfile="Rejected")
        await raw.boot()
        await ward.clock.sleep(10.0)
        assert not ward.board.may_discharge[0]
        assert ward.count("discharge_denied") == 1

    on_wire(scenario)


def test_an_unanswered_profile_underneath_is_sent_again_and_told_of_once() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = Moody(ward)
        raw.answers = False
        await raw.boot()
        for _ in range(300):
            await ward.clock.sleep(1.0)
        assert 9 <= raw.count("SetChargingProfile") <= 12, "about every 30 s"
        assert ward.count("discharge_denied") == 1
        raw.answers = True
        for _ in range(60):
            await ward.clock.sleep(1.0)
        count = raw.count("SetChargingProfile")
        for _ in range(120):
            await ward.clock.sleep(1.0)
        assert raw.count("SetChargingProfile") == count, "once it has answered, it is not asked again"

    on_wire(scenario)


def test_a_station_that_will_not_report_every_second_is_told_of() -> None:
    async def scenario() -> None:
        ward = Told()
        await ward.giving(SetVariables="Rejected")
        assert ward.count("slow_reports") == 1
        calm = Told()
        await calm.giving()
        assert calm.count("slow_reports") == 0

    on_wire(scenario)


def test_a_free_bay_ends_the_stay_but_not_the_record() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        stamp = event(ward.clock, "Updated", 1)["timestamp"]
        status = {"timestamp": stamp, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
        await raw.tell("Updated", 1, evse={"id": 1, "connectorId": 2})
        await raw.call("StatusNotification", status)
        assert ward.board.connected[0], "the other connector is free"
        await raw.call("StatusNotification", {**status, "connectorId": 2})
        assert not ward.board.connected[0]
        assert not ward.board.may_discharge[0]
        assert [item.transaction_id for item in ward.store.open_transactions()] == ["tx-1"]

    on_wire(scenario)


# --- one row's failure ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [QueueFull("full"), ValueError("ours")], ids=["queue full", "a fault of ours"])
def test_one_rows_failure_keeps_no_other_from_its_setpoint(error: Exception) -> None:
    async def scenario() -> None:
        ward = Told()
        raw = await ward.giving()
        station = ward.csms.stations["bay-1"]
        station.provision = msgspec.structs.replace(station.provision, rows={2: 0, 1: 0})
        sender, send = ward.csms.sender, ward.csms.sender._send

        def failing(*args: Any) -> None:
            if args[2] == 2:
                raise error
            send(*args)

        sender._send = failing  # type: ignore[method-assign, assignment]
        for power_kw in (4.0, 5.0):
            if isinstance(error, QueueFull):
                ward.apply(power_kw)
            else:
                with pytest.raises(ValueError, match="ours"):
                    ward.apply(power_kw)
            await ward.clock.sleep(0.5)
        assert raw.powers_w == [4000.0, 5000.0]
        assert ward.count("vehicle_not_following") == isinstance(error, QueueFull)

    on_wire(scenario)


def test_a_station_that_comes_back_and_boots_is_prepared_once_and_the_profile_underneath_is_confirmed_anew() -> None:
    async def scenario() -> None:
        ward = Told()
        first = await RawStation(ward.csms, ward.clock).boot()
        await asyncio.sleep(1.0)
        await first.link.close(1000, "")
        await asyncio.sleep(1.0)
        back = RawStation(ward.csms, ward.clock)
        back.answers = False  # it boots before it has answered anything
        await back.boot()
        await asyncio.sleep(0.5)
        assert [action for action, _ in back.heard] == ["SetChargingProfile"]
        back.answers = True
        await asyncio.sleep(65.0)
        asked = [action for action, _ in back.heard]
        assert asked == ["SetChargingProfile", "SetChargingProfile", "SetVariables", "GetVariables"]
        assert 0 in ward.csms.stations["bay-1"].underneath

    on_wire(scenario)


# --- power where no transaction is (FT28) --------------------------------------------------------------------------------
def values(ward: Told, power_w: float) -> dict[str, Any]:
    """MeterValues of the bay."""
    stamp = event(ward.clock, "Updated", 0)["timestamp"]
    power = {"value": power_w, "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "W"}}
    return {"evseId": 1, "meterValue": [{"timestamp": stamp, "sampledValue": [power]}]}


def test_power_without_a_transaction_counts_once_what_was_queued_has_come() -> None:
    async def scenario() -> None:
        ward = Told()
        raw = Moody(ward)
        await raw.boot()
        await ward.clock.sleep(SETTLED_S - 5.0)
        await raw.call("MeterValues", values(ward, 5_000.0))
        assert np.isnan(ward.board.power_kw[0]), "a transaction may have begun while it was away"
        await ward.clock.sleep(10.0)
        await raw.call("MeterValues", values(ward, 5_000.0))
        assert ward.board.power_kw[0] == 5.0
        raw.link.drop()
        await ward.clock.sleep(1.0)
        again = Moody(ward)
        await again.boot()
        await again.call("MeterValues", values(ward, 6_000.0))
        assert ward.board.power_kw[0] == 5.0, "and again after every connection"

    on_wire(scenario)


def test_power_of_a_vehicle_whose_beginning_could_not_be_stored_is_none_of_a_welded_contactor() -> None:
    async def scenario() -> None:
        broken: list[bool] = []
        ward = Told(MemoryStore(lambda _number: bool(broken)))
        raw = Moody(ward)
        await raw.boot()
        broken.append(True)
        assert (await raw.tell("Started", 0))[0] == 4
        await ward.clock.sleep(SETTLED_S + 5.0)
        await raw.call("MeterValues", values(ward, 5_000.0))
        assert np.isnan(ward.board.power_kw[0])

    on_wire(scenario)
