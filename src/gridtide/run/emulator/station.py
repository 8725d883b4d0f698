"""One emulated charging station: a real OCPP station towards any CSMS, with the twin as its power electronics.

It answers every request of both versions from real state (one class a block, see `blocks`), obeys charging profiles exactly as
installed, and keeps what it owes the CSMS while that is away. This module is its link, its boot and its power side.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import structlog

from gridtide.run.clock import Clock
from gridtide.run.conversation import Answer, Conversation
from gridtide.run.emulator.blocks import Blocks
from gridtide.run.emulator.core import Core, Faults, Fields, Setup
from gridtide.run.emulator.device_table import LONGEST_S
from gridtide.run.emulator.mischief import Mischief
from gridtide.run.emulator.power_stage import PowerStage
from gridtide.run.emulator.vehicle import Car
from gridtide.run.net import Link, LinkClosed
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.errors import LocalProtocolError, RemoteProtocolError
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.meter import MeterReading, meter_values
from gridtide.wire.ocpp.session import Session
from gridtide.wire.ocpp.structs import WireStruct

__all__ = ["Car", "Dial", "EmulatedStation", "Faults", "Setup"]
log = structlog.get_logger(__name__)
Dial = Callable[[], Awaitable[Link]]
FLUSH_S = 0.5
"""Before a reboot the station tells what it still can."""


class EmulatedStation:
    """A station with one EVSE, numbered 1, and one connector."""

    def __init__(
        self,
        identity: str,
        version: Version,
        dial: Dial,
        clock: Clock,
        new_id: Callable[[], str],
        luck: random.Random,
        fallback_kw: float = 0.0,
        setup: Setup | None = None,
    ) -> None:
        """`fallback_kw` is the power without any profile; `setup`, where given, tells that and all else instead."""
        self.identity, self.version = identity, version
        self._dial, self._clock, self._luck = dial, clock, luck
        self.core = Core(identity, version, clock, new_id, luck, setup or Setup(fallback_kw=fallback_kw))
        self.core.hang_up = self.drop_link
        self.blocks = Blocks(self.core)
        self.stage = PowerStage(self.core, self.blocks)
        self.blocks.firmware.restart = self.blocks.network.restart = self.restart
        self.blocks.streams.send = self._send
        self.blocks.remote.triggers |= {
            "BootNotification": self._boot_again, "Heartbeat": self._heartbeat, "MeterValues": self._tell_meter
        }  # fmt: skip
        self._conversation: Conversation | None = None
        self._link: Link | None = None
        self._closing: asyncio.Future[None] | None = None
        self._answered = True
        self._mischief = Mischief(self.core, self.drop_link, self._write)
        self._mishaps = 0
        self.longest_pause_s = 60.0
        """Between two tries to reach the CSMS."""

    @property
    def faults(self) -> Faults:
        """What goes wrong here; settable at any moment."""
        return self.core.faults

    @property
    def silent(self) -> bool:
        """Fault: keeps the link but says nothing."""
        return self.core.faults.silent

    @silent.setter
    def silent(self, value: bool) -> None:
        self.core.faults.silent = value

    @property
    def connected(self) -> bool:
        """Whether the CSMS has accepted this station on a living link."""
        return self._conversation is not None and self._conversation.session.boot_state == "accepted"

    @property
    def errors(self) -> int:
        """Messages refused, frames of the CSMS that broke the protocol, and links lost, so far."""
        live = self._conversation
        return self._mishaps + (0 if live is None else live.violations)

    @property
    def transaction_id(self) -> str | None:
        """The running transaction."""
        now = self.blocks.transactions.now
        return None if now is None else now.id

    # --- the power side ---------------------------------------------------------------------------------------------
    def power_wish_kw(self) -> float:
        """What is asked of the power stage now, kW."""
        return self.stage.wish_kw()

    @property
    def is_open(self) -> bool:
        """Whether its contactor is told to be open: nothing is charged or given."""
        return self.blocks.transactions.now is None

    def plug(self, car: Car) -> None:
        """A vehicle arrives."""
        if self.blocks.remote.awaits:
            self.blocks.transactions.arrive(car)
            self.blocks.remote.go()
        else:
            self.blocks.transactions.plug(car)
        self._flush()

    def unplug(self) -> None:
        """The vehicle leaves: the transaction ends."""
        self.blocks.transactions.unplug()
        self._flush()

    def tamper(self) -> None:
        """Somebody opened the case."""
        self.stage.tamper()
        self._flush()

    def break_down(self, *, active: bool = True) -> None:
        """A hardware fault begins or ends."""
        self.blocks.availability.fault(active=active)
        self._flush()

    def report(self, power_kw: float, soc: float, energy_in_kwh: float, energy_out_kwh: float, heat_c: float) -> None:
        """Tell the meter; a report that the last one still blocks is left out, the next one is newer."""
        transactions, faults = self.blocks.transactions, self.core.faults
        soc = min(max(soc + faults.soc_offset, 0.0), 1.0) if faults.soc_stuck is None else faults.soc_stuck
        power_kw, heat_c = power_kw * faults.power_scale, heat_c + faults.extra_heat_c
        energy_in_kwh, energy_out_kwh = (kwh * faults.energy_register_scale for kwh in (energy_in_kwh, energy_out_kwh))
        self.stage.heat_c = heat_c
        if transactions.car is None:
            return
        self.blocks.book.sense(soc)
        reading = MeterReading(
            t_s=self._clock.wall() + self.core.faults.skew_s, power_kw=power_kw, soc=soc, energy_import_kwh=energy_in_kwh,
            energy_export_kwh=energy_out_kwh, temperature_c=heat_c,
        )  # fmt: skip
        transactions.meter(reading)
        self._flush()
        if transactions.aligned() or not self.core.setup.standard:
            self._tell_meter()

    def _tell_meter(self) -> bool:
        reading = self.blocks.transactions.reading
        if reading is None:
            reading = MeterReading(t_s=self.core.now().timestamp(), power_kw=0.0)
        if not self._answered:
            return False
        kind = codec.payload_type(self.version, "MeterValues", "request")
        values = meter_values(reading, self.version)
        self._answered = not self._post("MeterValues", kind(evseId=1, meterValue=values), self._report_answered)
        return True

    def _report_answered(self, _outcome: object) -> None:
        self._answered = True

    # --- the link ---------------------------------------------------------------------------------------------------
    def use(self, dial: Dial) -> None:
        """Reach the CSMS by `dial` from the next connection on."""
        self._dial = dial

    async def run(self) -> None:
        """Connect, boot, serve; again after a jittered pause whenever the link ends."""
        pause_s = 1.0
        while True:
            try:
                link = await self._dial()
            except (OSError, LinkClosed) as error:
                self.blocks.network.unreached += 1
                log.info("emulated_station_cannot_connect", station=self.identity, error=str(error))
                await self._clock.sleep(pause_s * self._luck.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2.0, self.longest_pause_s)
                continue
            pause_s, self.blocks.network.unreached = 1.0, 0
            await self._serve(link)
            self.core.offline_since = self.core.now()
            await self._clock.sleep(self._luck.uniform(0.5, 1.5))

    async def _serve(self, link: Link) -> None:
        session = Session("station", self.version, self._mischief.fresh_id)
        conversation = Conversation(session, link, self._clock, self._on_call)
        self._conversation, self._link, self._answered = conversation, link, True
        self.core.linked = True
        greeter = asyncio.ensure_future(self._greet(conversation))
        try:
            await conversation.run()
        finally:
            greeter.cancel()
            self._mishaps += 1 + conversation.violations
            self._conversation = self._link = None
            self.core.connected = self.core.linked = False
            self.core.outbox.link_ended()

    async def _greet(self, conversation: Conversation) -> None:
        while not self.core.connected:
            outcome = await conversation.call("BootNotification", self._boot())
            self._note_boot(outcome)
            if not self.core.connected:
                interval_s = float(min(getattr(getattr(outcome, "payload", None), "interval", 10) or 10, LONGEST_S))
                await self._clock.sleep(interval_s)
        while True:
            await self._clock.sleep(float(self.blocks.model.number("OCPPCommCtrlr", "HeartbeatInterval")))
            self._heartbeat()

    def _boot(self) -> WireStruct:
        setup = self.core.setup
        about: Fields = {"model": setup.model, "vendorName": setup.vendor}
        if setup.standard:
            about |= {"serialNumber": self.core.serial, "firmwareVersion": self.blocks.firmware.version}
        return self.core.make("BootNotification", {"reason": self.core.boot_reason, "chargingStation": about})

    def _boot_again(self) -> bool:
        """The CSMS asks for a BootNotification before it accepted one."""
        return self._post("BootNotification", self._boot(), self._note_boot)

    def _note_boot(self, outcome: Any) -> None:
        payload: Any = getattr(outcome, "payload", None)
        if payload is None or payload.status != "Accepted" or self.core.connected:
            return
        core, blocks = self.core, self.blocks
        if payload.interval > 0:
            blocks.model.fix("OCPPCommCtrlr", "HeartbeatInterval", str(min(payload.interval, LONGEST_S)))
        resumed, self.stage.is_off = self.stage.is_off, False
        core.offline_since, core.connected, core.boot_reason = None, True, "PowerUp"
        if core.setup.standard and resumed:
            core.security_event("ResetOrReboot")
        blocks.availability.tell(always=True)
        self._resume(resumed)
        self._flush()

    def _resume(self, resumed: bool) -> None:
        """Back in touch: what runs is told again; after a reboot a vehicle that still stands there begins anew."""
        transactions = self.blocks.transactions
        if transactions.now is not None:
            transactions.tell("Updated", "TxResumed" if resumed and self.version == "2.1" else "ChargingStateChanged")
            transactions.tell_needs()
        elif resumed and transactions.car is not None:
            transactions.plug(transactions.car)
        elif transactions.again and transactions.car is not None:
            transactions.present(transactions.car.token)

    def restart(self, reason: str) -> None:
        """Reboot: the link goes, power is off until the CSMS has accepted the station again; what was owed is kept."""
        self.core.boot_reason, self.stage.is_off = reason, True
        self.blocks.model.booted()
        self.core.later(FLUSH_S, self.drop_link)

    def drop_link(self) -> None:
        """End the link; the station dials again by itself."""
        if self._conversation is not None:
            self._closing = asyncio.ensure_future(self._conversation.hang_up(1001, "going away"))

    def tick(self) -> None:
        """Let the session notice what timed out and the blocks what is due; what is still unsent goes out."""
        if self._conversation is not None:
            self._conversation.tick()
        self.blocks.tick()
        self._mischief.tick()
        self._flush()

    def _write(self, data: bytes) -> None:
        if self._link is not None:
            self._closing = asyncio.ensure_future(_send_quietly(self._link, data))

    # --- messages ---------------------------------------------------------------------------------------------------
    def _heartbeat(self) -> bool:
        return self._post("Heartbeat", self.core.make("Heartbeat", {}), lambda _outcome: None)

    def _flush(self) -> None:
        """Send the oldest owed messages; the next ones follow their answers."""
        while (live := self._conversation) is not None and not self.core.faults.silent:
            if live.session.boot_state not in ("accepted", "pending"):
                return
            found = self.core.outbox.next(self._clock.monotonic(), accepted=self.core.connected)
            if found is None:
                return
            owed, place = found
            if not self._post(owed.action, owed.payload, partial(self._delivered, place)):
                self.core.outbox.link_ended()
                return

    def _delivered(self, place: int, outcome: object) -> None:
        if getattr(outcome, "reason", "") in ("call_error", "invalid_answer"):
            self._mishaps += 1
            outbox, number = self.core.outbox, self.blocks.model.number
            outbox.attempts = number("OCPPCommCtrlr", "MessageAttempts", "TransactionEvent")
            outbox.pause_s = float(number("OCPPCommCtrlr", "MessageAttemptInterval", "TransactionEvent"))
        if self.core.outbox.settle(place, outcome, self._clock.monotonic()):
            self._flush()

    def _post(self, action: str, payload: WireStruct, done: Callable[[Any], None]) -> bool:
        """Call the CSMS; False if nobody can be called now."""
        live = self._conversation
        usable = live is not None and (self.core.connected or live.session.boot_state == "pending")
        if live is None or not usable or self.core.faults.silent:
            return False
        try:
            live.post(action, payload, done)
        except LocalProtocolError as error:
            log.info("emulated_station_cannot_send", station=self.identity, action=action, error=str(error))
            return False
        return True

    def _send(self, action: str, fields: Fields) -> bool:
        """Send an unanswered message."""
        live = self._conversation
        if live is None or not self.core.connected or self.core.faults.silent:
            return False
        live.session.send(action, self.core.make(action, fields))
        live.tick()
        return True

    def _on_call(self, call: CallReceived) -> Answer:
        faults = self.core.faults
        if faults.silent:
            return _never()
        if self._conversation is not None and self._conversation.session.boot_state == "rejected":
            raise RemoteProtocolError("SecurityError", "this station is not accepted")
        return self._answer_late(call, faults.late_s) if faults.late_s > 0.0 else self._answer(call)

    async def _answer_late(self, call: CallReceived, late_s: float) -> WireStruct:
        await self._clock.sleep(late_s)
        return self._answer(call)

    def _answer(self, call: CallReceived) -> WireStruct:
        fields = self.blocks.answer(call.action, call.payload)
        if fields is None:
            raise RemoteProtocolError("NotSupported", f"{call.action} is not emulated")
        self.core.soon(self._flush)
        return msgspec.convert(fields, codec.payload_type(self.version, call.action, "response"))


async def _send_quietly(link: Link, data: bytes) -> None:
    """Send bytes past the session; a link that ends meanwhile is no matter."""
    try:
        await link.send(data)
    except LinkClosed as ended:
        log.debug("ocpp_link_ended", code=ended.code)


async def _never() -> WireStruct:
    """A silent station: the answer does not come."""
    await asyncio.Event().wait()
    raise AssertionError("a silent station never answers")  # pragma: no cover - the event is never set
