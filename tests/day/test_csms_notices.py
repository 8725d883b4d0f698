"""What stations tell once: security events, firmware, limits, reservations, payments; and what is refused of it."""

import asyncio
from typing import Any

import numpy as np
import pytest

from gridtide.model.decision import Decision
from gridtide.run.csms.data_transfer import DataTransfers, VendorAnswer
from gridtide.run.csms.desk import Desk
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.offers import Offers
from gridtide.run.csms.security_events import CRITICAL_201, SecurityEvents
from gridtide.run.store import MemoryStore
from gridtide.wire.ocpp.actions import Version
from tests.day.csms_kit import Answering, Kit
from tests.day.wire_site import on_wire

ACCEPTED = {"status": "Accepted"}
BOTH: tuple[Version, ...] = ("2.0.1", "2.1")


# --- A: security events -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("kind", [*sorted(CRITICAL_201), "InvalidMessages", "SomethingOfAVendor"])
def test_every_security_event_is_kept_and_told(version: Version, kind: str) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station()
        told = {"type": kind, "timestamp": kit.stamp(), "techInfo": "x" * 255}
        assert await raw.ask("SecurityEventNotification", **told) == {}
        (entry,) = kit.journal("security")
        assert entry["event"]["type"] == kind
        assert entry["isCritical"] == (version == "2.1" or kind in CRITICAL_201)
        assert kit.codes() == ["security"]
        assert ("(critical)" in kit.texts()) == entry["isCritical"]
        assert kit.board.fault[0] == (kind == "TamperDetectionActivated")
        assert not kit.board.fault[1]

    on_wire(scenario)


def test_tampering_stops_even_when_the_store_fails() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        kit.store._fails = lambda _number: True  # type: ignore[attr-defined]
        told = {"type": "TamperDetectionActivated", "timestamp": kit.stamp()}
        frame = await raw.call("SecurityEventNotification", told)
        assert (frame[0], frame[2]) == (4, "InternalError"), "not acknowledged: the station tells again"
        assert kit.board.fault[0]

    on_wire(scenario)


# --- L, N: firmware, logs ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("action", "status", "code"),
    [
        ("FirmwareStatusNotification", "Downloading", None),
        ("FirmwareStatusNotification", "Installed", "Firmware is installed (request 5)."),
        ("FirmwareStatusNotification", "InvalidSignature", "Firmware update: InvalidSignature (request 5)."),
        ("FirmwareStatusNotification", "InstallVerificationFailed", "InstallVerificationFailed"),
        ("PublishFirmwareStatusNotification", "Published", None),
        ("PublishFirmwareStatusNotification", "InvalidChecksum", "Firmware publication: InvalidChecksum"),
        ("LogStatusNotification", "Uploaded", None),
        ("LogStatusNotification", "PermissionDenied", "Log upload: PermissionDenied"),
    ],
)
def test_updates_and_uploads_are_kept_and_failures_told(action: str, status: str, code: str | None) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        more = {"location": ["ftp://name:password@host/file"]} if action.startswith("Publish") else {}
        assert await raw.ask(action, status=status, requestId=5, **more) == {}
        kind = "log" if action.startswith("Log") else "firmware"
        (latest,) = kit.records(kind).values()
        assert latest == {"status": status, "requestId": 5}
        assert kit.journal(kind)[0]["status"] == status
        assert "password" not in str(kit.journal(kind))
        assert (code in kit.texts()) if code else (kit.events == [])

    on_wire(scenario)


# --- K: limits, schedules, priority -----------------------------------------------------------------------------------
@pytest.mark.parametrize("version", BOTH)
def test_external_limits_come_and_go(version: Version) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station()
        for evse in ({}, {"evseId": 1}):
            limit = {"chargingLimitSource": "EMS", "isGridCritical": True}
            assert await raw.ask("NotifyChargingLimit", chargingLimit=limit, **evse) == {}
        others = ["SO", "x/EMS"] if version == "2.1" else ["SO", "CSO"]
        for source in others:
            await raw.ask("NotifyChargingLimit", chargingLimit={"chargingLimitSource": source})
        assert set(kit.records("charging_limit")) == {"0/EMS", "1/EMS", *(f"0/{one}" for one in others)}
        assert "EMS limits EVSE 1, critical for the grid." in kit.texts()
        assert await raw.ask("ClearedChargingLimit", chargingLimitSource="EMS", evseId=1) == {}
        assert set(kit.records("charging_limit")) == {"0/EMS", *(f"0/{one}" for one in others)}
        await raw.ask("ClearedChargingLimit", chargingLimitSource="EMS")
        assert set(kit.records("charging_limit")) == {f"0/{one}" for one in others}

    on_wire(scenario)


def test_a_vehicles_schedule_is_kept_for_an_evse_of_the_station_alone() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        schedule = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 5000.0}]}
        told = {"timeBase": kit.stamp(), "chargingSchedule": schedule}
        assert (await raw.ask("NotifyEVChargingSchedule", evseId=9, **told))["status"] == "Rejected"
        assert (await raw.ask("NotifyEVChargingSchedule", evseId=1, **told))["status"] == "Accepted"
        assert set(kit.records("ev_schedule")) == {"1"}

    on_wire(scenario)


def test_what_a_transaction_may_transfer_ends_its_discharge() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(NotifyAllowedEnergyTransfer=ACCEPTED, AFRRSignal=ACCEPTED)
        await raw.tell("Started", 0, soc=70.0)
        await raw.needs()
        await asyncio.sleep(0.5)
        assert kit.board.may_discharge[0]
        await kit.operate("NotifyAllowedEnergyTransfer", transactionId="tx-1", allowedEnergyTransfer=["DC"])
        assert not kit.board.may_discharge[0]
        assert kit.journal("energy_transfer")[0]["status"] == "Accepted"
        await kit.operate("AFRRSignal", timestamp=kit.stamp(), signal=40)
        assert kit.journal("afrr")[0]["signal"] == 40
        assert await raw.ask("NotifyPriorityCharging", transactionId="tx-1", activated=True) == {}
        assert kit.journal("priority")[0]["activated"] is True

    on_wire(scenario)


async def giving(kit: Kit, power_kw: float) -> Answering:
    """A station that was sent a setpoint."""
    raw = await kit.station(UpdateDynamicSchedule=ACCEPTED)
    await raw.tell("Started", 0, soc=70.0)
    await raw.needs()
    await asyncio.sleep(0.5)
    wanted = np.array([power_kw, 0.0])
    zero = np.zeros(2, dtype=np.uint8)
    kit.csms.apply(Decision(setpoint_kw=wanted, reason=zero, wish_kw=wanted, lease_s=5.0, state="ok"))
    await asyncio.sleep(0.1)
    return raw


@pytest.mark.parametrize("power_kw", [-7.0, 5.5, 0.0])
def test_a_pulled_update_is_the_controllers_setpoint_while_its_lease_runs(power_kw: float) -> None:
    async def scenario() -> None:
        kit = Kit(dialect="v21_dynamic")
        raw = await giving(kit, power_kw)
        told = await raw.ask("PullDynamicScheduleUpdate", chargingProfileId=1001)
        assert told == {"status": "Accepted", "scheduleUpdate": {"setpoint": power_kw * 1000.0}}
        for number in (1, 1000, 1002, 71):
            assert await raw.ask("PullDynamicScheduleUpdate", chargingProfileId=number) == {"status": "Rejected"}
        await kit.clock.sleep(5.1)
        again = await raw.ask("PullDynamicScheduleUpdate", chargingProfileId=1001)
        assert again["status"] == ("Rejected" if power_kw < 0.0 else "Accepted"), "a discharge ends with its lease"

    on_wire(scenario)


def test_no_update_is_pulled_where_the_profile_is_not_dynamic_or_may_not_discharge() -> None:
    async def scenario() -> None:
        kit = Kit(dialect="v21_setpoint")
        raw = await giving(kit, -7.0)
        assert await raw.ask("PullDynamicScheduleUpdate", chargingProfileId=1001) == {"status": "Rejected"}
        kit.ticks.cancel()

    async def forbidden() -> None:
        kit = Kit(dialect="v21_dynamic")
        raw = await giving(kit, -7.0)
        kit.board.may_discharge[0] = False
        assert await raw.ask("PullDynamicScheduleUpdate", chargingProfileId=1001) == {"status": "Rejected"}

    on_wire(scenario)
    on_wire(forbidden)


# --- H: reservations --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", BOTH)
def test_reservations_are_kept_until_they_are_over(version: Version) -> None:
    token = {"idToken": "card", "type": "ISO14443"}

    async def scenario() -> None:
        kit = Kit(version)
        replies: dict[str, Any] = {"ReserveNow": ACCEPTED, "CancelReservation": ACCEPTED}
        raw = await kit.station(**replies)
        for number, after_s in ((1, 60.0), (2, 600.0), (3, 600.0), (4, 600.0)):
            await kit.operate("ReserveNow", id=number, expiryDateTime=kit.stamp(after_s), idToken=token, evseId=1)
        raw.replies = {**replies, "ReserveNow": {"status": "Occupied"}}
        await kit.operate("ReserveNow", id=5, expiryDateTime=kit.stamp(600.0), idToken=token)
        assert [item.id for item in kit.reports.reservations("bay-1")] == [1, 2, 3, 4]
        assert await raw.ask("ReservationStatusUpdate", reservationId=2, reservationUpdateStatus="Removed") == {}
        await kit.operate("CancelReservation", reservationId=3)
        await kit.clock.sleep(120.0)
        assert [item.id for item in kit.reports.reservations("bay-1")] == [4], "1 is over, 2 and 3 were ended"
        await raw.ask("ReservationStatusUpdate", reservationId=77, reservationUpdateStatus="Expired")
        assert kit.journal("reservation")[0] == {"reservationId": 77, "ended": "Expired", "isKnown": False}
        assert kit.journal("reservation")[1]["isKnown"] is True

    on_wire(scenario)


def test_what_is_known_of_a_tokens_holder_can_be_erased() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(ReserveNow=ACCEPTED)
        for number, name in ((1, "card"), (2, "other")):
            token = {"idToken": name, "type": "ISO14443"}
            await kit.operate("ReserveNow", id=number, expiryDateTime=kit.stamp(600.0), idToken=token)
        told = {"requestId": 7, "seqNo": 0, "generatedAt": kit.stamp(), "data": "somebody's name"}
        assert await raw.ask("NotifyCustomerInformation", **told) == {}
        assert await kit.reports.erase_token("bay-1", "card") == 2
        assert [item.id for item in kit.reports.reservations("bay-1")] == [2]
        assert kit.records("customer_information") == {}

    on_wire(scenario)


# --- I, S, P: payments, swaps, vendors --------------------------------------------------------------------------------
def test_vat_numbers_are_rejected_while_nobody_can_judge_them() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        told = await raw.ask("VatNumberValidation", vatNumber="XX1", evseId=1)
        assert (told["vatNumber"], told["status"], told["evseId"]) == ("XX1", "Rejected", 1)
        assert told["statusInfo"]["reasonCode"] == "NoValidator"

    on_wire(scenario)


class Bench:
    """Blocks at a desk of their own, called directly."""

    def __init__(self, kit: Kit) -> None:
        self.desk: Desk = kit.csms._intake.desk
        self.effects = Effects(self.desk)
        self.station = kit.csms.stations["bay-1"]


def test_a_connected_judge_and_a_registered_vendor_are_asked() -> None:
    from gridtide.wire.ocpp.generated import v21

    async def scenario() -> None:
        kit = Kit()
        await kit.station()
        bench = Bench(kit)
        offers, vendors = Offers(bench.desk, bench.effects), DataTransfers(bench.desk, bench.effects)
        offers.judge_vat = lambda number: "Accepted" if number == "GOOD" else "Rejected"
        for number, verdict in (("GOOD", "Accepted"), ("BAD", "Rejected")):
            message = v21.VatNumberValidationRequest(vatNumber=number)
            answer: Any = await offers._vat(bench.station, message, None)  # type: ignore[arg-type]
            assert answer.status == verdict
        vendors.vendors["org.example"] = lambda station, name, data: VendorAnswer("Accepted", [station, name, data])
        mine = v21.DataTransferRequest(vendorId="org.example", messageId="m", data={"a": 1})
        answer = await vendors._heard(bench.station, mine, None)  # type: ignore[arg-type]
        assert (answer.status, answer.data) == ("Accepted", ["bay-1", "m", {"a": 1}])
        other = v21.DataTransferRequest(vendorId="org.other", messageId="m")
        answer = await vendors._heard(bench.station, other, None)  # type: ignore[arg-type]
        assert answer.status == "UnknownVendorId"
        assert len(kit.journal("vendor_data")) == 1

    on_wire(scenario)


def test_payments_and_swaps_are_kept() -> None:
    battery = {"evseId": 1, "serialNumber": "b", "soC": 50.0, "soH": 90.0}

    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        settled = {"pspRef": "p", "status": "Settled", "settlementAmount": 1.5, "settlementTime": kit.stamp()}
        assert await raw.ask("NotifySettlement", **settled) == {}
        assert await raw.ask("NotifyWebPaymentStarted", evseId=1, timeout=60) == {}
        token = {"idToken": "card", "type": "ISO14443"}
        swap = {"eventType": "BatteryIn", "requestId": 1, "idToken": token, "batteryData": [battery]}
        assert await raw.ask("BatterySwap", **swap) == {}
        assert kit.journal("settlement")[0]["settlementAmount"] == 1.5
        assert kit.journal("battery_swap")[0]["batteryData"] == [battery]
        assert kit.journal("web_payment")[0]["timeout"] == 60

    on_wire(scenario)


# --- when storing fails -----------------------------------------------------------------------------------------------
def test_nothing_is_acknowledged_that_is_not_committed() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        kit = Kit(store=store)
        raw = await kit.station()
        store._fails = lambda _number: True
        told = {"requestId": 7, "seqNo": 0, "generatedAt": kit.stamp()}
        for action, payload in (
            ("NotifyReport", told),
            ("FirmwareStatusNotification", {"status": "Installed"}),
            ("NotifyCustomerInformation", {**told, "data": "x"}),
        ):
            frame = await raw.call(action, payload)
            assert (frame[0], frame[2]) == (4, "InternalError"), action
        assert "store_failed" in kit.codes()
        assert "firmware_installed" not in kit.codes()
        assert "installed" not in kit.texts()
        store._fails = lambda _number: False
        assert await raw.ask("NotifyCustomerInformation", **told, data="x") == {}
        assert kit.records("customer_information") == {"7/000000": "x"}

    on_wire(scenario)


def test_messages_that_wait_for_a_slow_store_are_bounded_and_security_has_a_reserve() -> None:
    class Slow(MemoryStore):
        gate: asyncio.Event | None = None

        async def add_journal(self, *args: Any) -> int:
            assert self.gate is not None
            await self.gate.wait()
            return await super().add_journal(*args)

    async def scenario() -> None:
        from gridtide.run.csms import effects

        store = Slow()
        store.gate = asyncio.Event()
        kit = Kit(store=store)
        await kit.station()
        bench = Bench(kit)
        offers, security = Offers(bench.desk, bench.effects), SecurityEvents(bench.desk, bench.effects)
        pay, alarm = offers.actions["NotifyWebPaymentStarted"], security.actions["SecurityEventNotification"]
        from gridtide.wire.ocpp.generated import v21

        message = v21.NotifyWebPaymentStartedRequest(evseId=1, timeout=1)
        urgent = v21.SecurityEventNotificationRequest(type="InvalidMessages", timestamp=bench.desk.now())
        waiting = [pay(bench.station, message, None) for _ in range(effects.WAITING)]  # type: ignore[arg-type]
        with pytest.raises(Exception, match="too many messages wait"):
            pay(bench.station, message, None)  # type: ignore[arg-type]
        waiting.append(alarm(bench.station, urgent, None))  # type: ignore[arg-type]
        store.gate.set()
        await asyncio.gather(*waiting)  # type: ignore[arg-type]
        assert len(kit.journal("web_payment")) == effects.WAITING
        assert len(kit.journal("security")) == 1

    on_wire(scenario)
