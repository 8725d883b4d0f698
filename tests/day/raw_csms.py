"""A CSMS made of a real session over an in-memory link: asks an emulated station anything, and hears all it says."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gridtide.run.assembly import ids
from gridtide.run.conversation import Conversation
from gridtide.run.emulator.station import Car, EmulatedStation, Setup
from gridtide.run.net import Link, MemoryLink, memory_link
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.events import CallAnswered, CallFailed, CallReceived
from gridtide.wire.ocpp.session import Session
from gridtide.wire.ocpp.structs import WireStruct, enc_hook
from tests.day.wire_site import START_S, EpochClock, on_wire

STANDARD = Setup(standard=True, charge_kw=11.0, discharge_kw=11.0, fallback_kw=4.0, update_s=60)
TOKEN = {"idToken": "card-1", "type": "ISO14443"}
TICK_S = 0.5


class RawCsms:
    """One CSMS and one station, ticking; `heard` holds (action, fields) of every call of the station."""

    def __init__(self, version: Version = "2.1", setup: Setup = STANDARD) -> None:
        self.clock = EpochClock(asyncio.get_running_loop(), START_S)
        self.version: Version = version
        self.heard: list[tuple[str, Any]] = []
        self.streamed: list[Any] = []
        self.answers: dict[str, Callable[[Any], dict[str, Any]]] = {}
        """Answers other than the good ones, by action."""
        self.link: MemoryLink | None = None
        self.conversation: Conversation | None = None
        self.reachable = True
        self.station = EmulatedStation(
            "bay-1", version, self._dial, self.clock, ids("s"), random.Random(1), setup=setup
        )
        self._served: list[asyncio.Future[Any]] = []
        self._tasks = [asyncio.ensure_future(self.station.run()), asyncio.ensure_future(self._tick())]

    async def _dial(self) -> Link:
        if not self.reachable:
            raise ConnectionRefusedError("the CSMS is away")
        ours, self.link = memory_link(self.clock)
        session = Session("csms", self.version, ids("c"))
        self.conversation = Conversation(session, self.link, self.clock, self._on_call)
        self._served.append(asyncio.ensure_future(self.conversation.run()))
        return ours

    def _on_call(self, call: CallReceived) -> WireStruct:
        fields = as_fields(call.payload)
        self.heard.append((call.action, fields))
        made = self.answers.get(call.action, _good)(fields)
        answer = {**friendly(call.action, fields), **made} if call.action not in self.answers else made
        return msgspec.convert(answer, codec.payload_type(self.version, call.action, "response"))

    async def _tick(self) -> None:
        while True:
            await self.clock.sleep(TICK_S)
            if self.conversation is not None:
                self.conversation.tick()
            self.station.tick()

    async def ask(self, action: str, fields: dict[str, Any] | None = None) -> Any:
        """The station's answer as fields; CALLERRORs come as {"error": code}."""
        assert self.conversation is not None
        request = msgspec.convert(fields or {}, codec.payload_type(self.version, action, "request"))
        outcome = await self.conversation.call(action, request)
        if isinstance(outcome, CallFailed):
            return {"error": outcome.code or outcome.reason}
        assert isinstance(outcome, CallAnswered)
        await self.after(0.0)
        return as_fields(outcome.payload)

    async def status(self, action: str, fields: dict[str, Any] | None = None) -> str:
        """The status in the station's answer."""
        return str((await self.ask(action, fields))["status"])

    async def after(self, seconds: float) -> "RawCsms":
        """Let time pass; a loop that failed is raised."""
        await self.clock.sleep(seconds)
        for _ in range(8):
            await asyncio.sleep(0)
        for task in self._tasks:
            if task.done():
                task.result()
        return self

    def all(self, action: str) -> list[Any]:
        """What the station said with `action`."""
        return [fields for name, fields in self.heard if name == action]

    def events(self) -> list[tuple[str, str]]:
        """Kind and trigger of every transaction event."""
        return [(item["eventType"], item["triggerReason"]) for item in self.all("TransactionEvent")]

    def now(self, seconds: float = 0.0) -> str:
        """An instant from now, as on the wire."""
        return (datetime.fromtimestamp(self.clock.wall(), UTC) + timedelta(seconds=seconds)).isoformat()

    async def stop(self) -> None:
        """End both sides."""
        for task in (*self._tasks, *self._served):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._served, return_exceptions=True)

    async def charging(self, token: str = "card-1", **car: Any) -> str:
        """Plug a vehicle in; the transaction's id."""
        self.station.plug(vehicle(self.clock.wall(), token, **car))
        await self.after(0.1)
        assert self.station.transaction_id is not None
        return self.station.transaction_id

    def meter(self, power_kw: float = 0.0, soc: float = 0.5, taken_kwh: float = 0.0, heat_c: float = 30.0) -> None:
        """The plant reports to the station."""
        self.station.report(power_kw, soc, max(taken_kwh, 0.0), max(-taken_kwh, 0.0), heat_c)


def vehicle(now_s: float, token: str = "card-1", **changed: Any) -> Car:
    """A bidirectional 60 kWh vehicle that stays eight hours."""
    told: dict[str, Any] = {
        "token": token, "capacity_kwh": 60.0, "soc": 0.5, "target_soc": 0.8, "departs_s": now_s + 8 * 3600.0,
        "bidirectional": True, "charge_kw": 11.0, "discharge_kw": 11.0,
    }  # fmt: skip
    return Car(**(told | changed))


def as_fields(payload: WireStruct) -> Any:
    """A payload as it travels."""
    return msgspec.json.decode(msgspec.json.encode(payload, enc_hook=enc_hook))


def _good(_fields: Any) -> dict[str, Any]:
    return {}


def friendly(action: str, fields: Any) -> dict[str, Any]:
    """What a friendly CSMS answers."""
    at = datetime.fromtimestamp(START_S, UTC)
    accepted: dict[str, Any] = {"status": "Accepted"}
    known: dict[str, dict[str, Any]] = {
        "BootNotification": {**accepted, "currentTime": at, "interval": 300},
        "Heartbeat": {"currentTime": at},
        "Authorize": {"idTokenInfo": accepted},
        "Get15118EVCertificate": {**accepted, "exiResponse": "exi"},
        "VatNumberValidation": {**accepted, "vatNumber": fields.get("vatNumber", "")},
        "GetCertificateChainStatus": {
            "certificateStatus": [
                {
                    "certificateHashData": item["certificateHashData"],
                    "source": "OCSP",
                    "status": "Good",
                    "nextUpdate": at,
                }
                for item in fields.get("certificateStatusRequests", ())
            ]
        },
    }
    plain = (
        "DataTransfer", "GetCertificateStatus", "NotifyEVChargingNeeds", "NotifyEVChargingSchedule",
        "OpenPeriodicEventStream", "PullDynamicScheduleUpdate", "SignCertificate",
    )  # fmt: skip
    return known.get(action, accepted if action in plain else {})


def with_csms(
    scenario: Callable[[RawCsms], Awaitable[None]], version: Version = "2.1", setup: Setup = STANDARD, seed: int = 1
) -> None:
    """Run a scenario with a connected station in virtual time."""

    async def run() -> None:
        here = RawCsms(version, setup)
        await here.after(1.0)
        assert here.station.connected
        await scenario(here)
        await here.stop()

    on_wire(run, seed)


Scenario = Callable[[RawCsms], Coroutine[Any, Any, None]]
