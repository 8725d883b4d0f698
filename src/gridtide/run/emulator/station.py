"""One emulated charging station: a real OCPP station towards any CSMS, with the twin as its power electronics.

It obeys charging profiles exactly as installed: stack levels, leases that expire, the default underneath. Transaction events are
kept while the CSMS is away and sent in order afterwards, marked offline.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from gridtide.run.clock import Clock
from gridtide.run.conversation import Answer, Conversation
from gridtide.run.net import Link, LinkClosed
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallAnswered, CallReceived
from gridtide.wire.ocpp.meter import MeterReading, meter_values
from gridtide.wire.ocpp.profiles import InstalledProfile, Running, profile_power_kw, survivors
from gridtide.wire.ocpp.session import Session
from gridtide.wire.ocpp.structs import WireStruct

log = structlog.get_logger(__name__)
Dial = Callable[[], Awaitable[Link]]
UPDATE_S = 60.0
"""Interval of TransactionEvent(Updated); meter values go out more often."""


class Car(Struct, frozen=True, kw_only=True):
    """What a vehicle tells its station at plug-in."""

    token: str
    capacity_kwh: float
    soc: float
    target_soc: float
    departs_s: float
    """UTC epoch seconds."""
    bidirectional: bool
    charge_kw: float
    discharge_kw: float
    tells: bool = True
    """False: the vehicle tells nothing (no ISO 15118); the driver's defaults must do."""


class _Stay(Struct, frozen=True):
    transaction_id: str
    car: Car
    started_at: datetime


class EmulatedStation:
    """A station with one EVSE, numbered 1."""

    def __init__(
        self,
        identity: str,
        version: Version,
        dial: Dial,
        clock: Clock,
        new_id: Callable[[], str],
        luck: random.Random,
        fallback_kw: float = 0.0,
    ) -> None:
        self.identity, self.version = identity, version
        self._dial, self._clock, self._new_id, self._luck = dial, clock, new_id, luck
        self._fallback_kw = fallback_kw
        self._profiles: list[InstalledProfile] = []
        self._stay: _Stay | None = None
        self._seq = 0
        self._updated_s = 0.0
        self._conversation: Conversation | None = None
        self._offline_since: datetime | None = None
        self._outbox: deque[WireStruct] = deque(maxlen=1_000)
        self._sending = False
        self._reading: MeterReading | None = None
        self._answered = True
        self.silent = False
        """Fault: keeps the link but says nothing."""
        self.refuses_discharge = False
        """Fault: rejects every discharging profile."""
        self._actions: dict[str, Callable[[Any], WireStruct]] = {
            "SetChargingProfile": self._set_profile,
            "UpdateDynamicSchedule": self._update_dynamic,
            "ClearChargingProfile": self._clear_profile,
            "GetVariables": self._get_variables,
            "SetVariables": self._set_variables,
            "TriggerMessage": self._trigger,
            "RequestStartTransaction": self._request_start,
            "RequestStopTransaction": self._request_stop,
        }
        self.stop_requested = False

    @property
    def connected(self) -> bool:
        """Whether the CSMS has accepted this station on a living link."""
        return self._conversation is not None and self._conversation.session.boot_state == "accepted"

    # --- the power side ---------------------------------------------------------------------------------------------
    def power_wish_kw(self) -> float:
        """What the installed profiles ask of the power stage now, kW; without a vehicle nothing."""
        if self._stay is None or self.stop_requested:
            return 0.0
        running = Running(
            now=self._now(), evse_id=1, transaction_id=self._stay.transaction_id,
            started_at=self._stay.started_at, offline_since=self._offline_since,
        )  # fmt: skip
        self._profiles = survivors(self._profiles, running)
        power = profile_power_kw(self._profiles, running)
        if power.setpoint_kw is not None:
            return power.setpoint_kw
        # A charger without any profile waits for one: it never charges at full power by itself.
        return self._fallback_kw if power.upper_kw is None else power.upper_kw

    def plug(self, car: Car) -> None:
        """A vehicle arrives: status, authorisation, transaction, needs."""
        # The instant keeps transactions apart when a restart begins the ids anew.
        self._stay = _Stay(f"{self._new_id()}-{self._clock.wall():.0f}", car, self._now())
        self._reading = MeterReading(t_s=self._clock.wall(), power_kw=0.0, soc=round(car.soc, 4))
        self._seq, self.stop_requested, self._updated_s = 0, False, self._clock.monotonic()
        self._say("StatusNotification", self._status("Occupied"))
        self._say("Authorize", {"idToken": _token(car)})
        self._transaction("Started", "CablePluggedIn", car)
        if car.tells:
            self._say("NotifyEVChargingNeeds", self._needs(car))

    def unplug(self) -> None:
        """The vehicle leaves: the transaction ends."""
        if self._stay is None:
            return
        self._transaction("Ended", "EVCommunicationLost", None)
        self._stay, self._reading = None, None
        self._say("StatusNotification", self._status("Available"))

    def report(self, power_kw: float, soc: float, energy_in_kwh: float, energy_out_kwh: float, heat_c: float) -> None:
        """Tell the meter; a report that the last one still blocks is left out, the next one is newer."""
        if self._stay is None:
            return
        self._reading = MeterReading(
            t_s=self._clock.wall(), power_kw=power_kw, soc=soc, energy_import_kwh=energy_in_kwh,
            energy_export_kwh=energy_out_kwh, temperature_c=heat_c,
        )  # fmt: skip
        if self._clock.monotonic() - self._updated_s >= UPDATE_S:
            self._updated_s = self._clock.monotonic()
            self._transaction("Updated", "MeterValuePeriodic", None)
        if self.connected and self._answered and not self.silent and self._conversation is not None:
            kind = codec.payload_type(self.version, "MeterValues", "request")
            self._answered = False
            values = meter_values(self._reading, self.version)
            self._conversation.post("MeterValues", kind(evseId=1, meterValue=values), self._report_answered)

    def _report_answered(self, _outcome: object) -> None:
        self._answered = True

    # --- the link ---------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Connect, boot, serve; again after a jittered pause whenever the link ends."""
        pause_s = 1.0
        while True:
            try:
                link = await self._dial()
            except (OSError, LinkClosed) as error:
                log.info("emulated_station_cannot_connect", station=self.identity, error=str(error))
                await self._clock.sleep(pause_s * self._luck.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2.0, 60.0)
                continue
            pause_s = 1.0
            await self._serve(link)
            self._offline_since = self._now()
            await self._clock.sleep(self._luck.uniform(0.5, 1.5))

    async def _serve(self, link: Link) -> None:
        session = Session("station", self.version, self._new_id)
        conversation = Conversation(session, link, self._clock, self._on_call)
        self._conversation, self._answered = conversation, True
        greeter = asyncio.ensure_future(self._greet(conversation))
        try:
            await conversation.run()
        finally:
            greeter.cancel()
            self._conversation = None

    async def _greet(self, conversation: Conversation) -> None:
        boot = {"reason": "PowerUp", "chargingStation": {"model": "Twin", "vendorName": "gridtide"}}
        while True:
            outcome = await conversation.call("BootNotification", self._make("BootNotification", boot))
            if isinstance(outcome, CallAnswered) and getattr(outcome.payload, "status", "") == "Accepted":
                break
            await self._clock.sleep(float(getattr(getattr(outcome, "payload", None), "interval", 10) or 10))
        self._offline_since = None
        self._say("StatusNotification", self._status("Occupied" if self._stay else "Available"))
        if self._stay is not None:
            self._transaction("Updated", "ChargingStateChanged", None)
            if self._stay.car.tells:
                self._say("NotifyEVChargingNeeds", self._needs(self._stay.car))
        self._flush()
        while True:
            await self._clock.sleep(300.0)
            if not self.silent:
                conversation.post("Heartbeat", self._make("Heartbeat", {}), lambda _outcome: None)

    def tick(self) -> None:
        """Let the session notice what timed out; what is still unsent goes out."""
        if self._conversation is not None:
            self._conversation.tick()
            self._flush()

    # --- messages out -----------------------------------------------------------------------------------------------
    def _make(self, action: str, fields: dict[str, Any]) -> WireStruct:
        return msgspec.convert(fields, codec.payload_type(self.version, action, "request"))

    def _say(self, action: str, fields: dict[str, Any]) -> None:
        """Queue a message in order; what matters survives a lost link."""
        self._outbox.append(self._make(action, fields))
        self._flush()

    def _flush(self) -> None:
        """Send the oldest queued message; the next one follows its answer."""
        if self._sending or self.silent or not self._outbox or not self.connected or self._conversation is None:
            return
        payload = self._outbox[0]
        self._sending = True
        self._conversation.post(type(payload).__name__.removesuffix("Request"), payload, self._delivered)

    def _delivered(self, outcome: object) -> None:
        """An answered message leaves the queue; a refused one too, or it would block the rest for ever; a lost one stays."""
        self._sending = False
        lost = getattr(outcome, "reason", "") in ("socket_ended", "timed_out")
        if self._outbox and not lost:
            self._outbox.popleft()
        if not lost:
            self._flush()

    def _transaction(self, event: str, trigger: str, car: Car | None) -> None:
        stay = self._stay
        if stay is None:
            return
        fields: dict[str, Any] = {
            "eventType": event, "timestamp": self._now(), "triggerReason": trigger, "seqNo": self._seq,
            "transactionInfo": {"transactionId": stay.transaction_id}, "evse": {"id": 1, "connectorId": 1},
        }  # fmt: skip
        if car is not None:
            fields["idToken"] = _token(car)
        if not self.connected and event != "Started":
            fields["offline"] = True
        made = self._make("TransactionEvent", fields)
        if self._reading is not None:
            made = msgspec.structs.replace(made, meterValue=meter_values(self._reading, self.version))
        self._seq += 1
        self._outbox.append(made)
        self._flush()

    def _status(self, status: str) -> dict[str, Any]:
        return {"timestamp": self._now(), "connectorStatus": status, "evseId": 1, "connectorId": 1}

    def _needs(self, car: Car) -> dict[str, Any]:
        soc = self._reading.soc if self._reading is not None and self._reading.soc is not None else car.soc
        missing_wh = max(0.0, car.target_soc - soc) * car.capacity_kwh * 1000.0
        dc: dict[str, Any] = {
            "evMaxCurrent": 32, "evMaxVoltage": 500, "evMaxPower": round(car.charge_kw * 1000.0),
            "evEnergyCapacity": round(car.capacity_kwh * 1000.0), "energyAmount": round(missing_wh),
            "stateOfCharge": round(soc * 100.0),
        }  # fmt: skip
        needs: dict[str, Any] = {
            "requestedEnergyTransfer": "DC", "dcChargingParameters": dc,
            "departureTime": datetime.fromtimestamp(car.departs_s, UTC),
        }  # fmt: skip
        if self.version == "2.1":
            needs["requestedEnergyTransfer"] = "DC_BPT" if car.bidirectional else "DC"
            needs["v2xChargingParameters"] = {
                "maxChargePower": car.charge_kw * 1000.0, "maxDischargePower": car.discharge_kw * 1000.0,
                "targetSoC": round(car.target_soc * 100.0),
            }  # fmt: skip
        return {"evseId": 1, "chargingNeeds": needs}

    # --- messages in ------------------------------------------------------------------------------------------------
    def _on_call(self, call: CallReceived) -> Answer:
        act = self._actions.get(call.action)
        if self.silent:
            return _never()
        if act is None:
            raise RemoteProtocolError("NotSupported", f"{call.action} is not emulated")
        return act(call.payload)

    def _reply(self, action: str, fields: dict[str, Any]) -> WireStruct:
        return msgspec.convert(fields, codec.payload_type(self.version, action, "response"))

    def _set_profile(self, message: Any) -> WireStruct:
        profile = message.chargingProfile
        periods = [p for s in profile.chargingSchedule for p in s.chargingSchedulePeriod]
        gives = any((getattr(p, "setpoint", None) or 0.0) < 0.0 or (p.limit or 0.0) < 0.0 for p in periods)
        wrong_stay = profile.transactionId is not None and (
            self._stay is None or profile.transactionId != self._stay.transaction_id
        )
        if wrong_stay or (gives and self.refuses_discharge):
            return self._reply("SetChargingProfile", {"status": "Rejected"})
        item = InstalledProfile(profile=profile, evse_id=message.evseId, installed_at=self._now())
        self._profiles = [p for p in self._profiles if p.profile.id != profile.id]
        self._profiles.append(item)
        return self._reply("SetChargingProfile", {"status": "Accepted"})

    def _update_dynamic(self, message: Any) -> WireStruct:
        found = [p for p in self._profiles if p.profile.id == message.chargingProfileId]
        if not found:
            return self._reply("UpdateDynamicSchedule", {"status": "Rejected"})
        changed = msgspec.structs.replace(found[0], update=message.scheduleUpdate)
        self._profiles = [changed if p is found[0] else p for p in self._profiles]
        return self._reply("UpdateDynamicSchedule", {"status": "Accepted"})

    def _clear_profile(self, message: Any) -> WireStruct:
        kept = [p for p in self._profiles if message.chargingProfileId not in (None, p.profile.id)]
        status = "Accepted" if len(kept) < len(self._profiles) else "Unknown"
        self._profiles = kept
        return self._reply("ClearChargingProfile", {"status": status})

    def _get_variables(self, message: Any) -> WireStruct:
        known = {("V2XChargingCtrlr", "Available"): "true", ("V2XChargingCtrlr", "Enabled"): "true"}
        results = []
        for item in message.getVariableData:
            value = known.get((item.component.name, item.variable.name))
            result = {"component": {"name": item.component.name}, "variable": {"name": item.variable.name}}
            answer = {"attributeStatus": "UnknownVariable"} if value is None else {"attributeStatus": "Accepted"}
            results.append({**result, **answer, **({} if value is None else {"attributeValue": value})})
        return self._reply("GetVariables", {"getVariableResult": results})

    def _set_variables(self, message: Any) -> WireStruct:
        results = [
            {"attributeStatus": "Accepted" if item.component.name == "SampledDataCtrlr" else "UnknownComponent",
             "component": {"name": item.component.name}, "variable": {"name": item.variable.name}}
            for item in message.setVariableData
        ]  # fmt: skip
        return self._reply("SetVariables", {"setVariableResult": results})

    def _trigger(self, message: Any) -> WireStruct:
        known = message.requestedMessage in ("Heartbeat", "StatusNotification", "MeterValues")
        return self._reply("TriggerMessage", {"status": "Accepted" if known else "NotImplemented"})

    def _request_start(self, _message: Any) -> WireStruct:
        self.stop_requested = False
        return self._reply("RequestStartTransaction", {"status": "Accepted" if self._stay else "Rejected"})

    def _request_stop(self, message: Any) -> WireStruct:
        mine = self._stay is not None and self._stay.transaction_id == message.transactionId
        self.stop_requested = self.stop_requested or mine
        return self._reply("RequestStopTransaction", {"status": "Accepted" if mine else "Rejected"})

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)


def _token(car: Car) -> dict[str, Any]:
    return {"idToken": car.token, "type": "ISO14443"}


async def _never() -> WireStruct:
    """A silent station: the answer does not come."""
    await asyncio.Event().wait()
    raise AssertionError("a silent station never answers")  # pragma: no cover - the event is never set
