"""A station made of raw frames over an in-memory link: says exactly what a test wants, also what no good station would."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import msgspec

from gridtide.run.clock import Clock
from gridtide.run.csms.service import Csms
from gridtide.run.net import LinkClosed, MemoryLink, memory_link
from gridtide.wire.ocpp.actions import Version

BOOT = {"reason": "PowerUp", "chargingStation": {"model": "Raw", "vendorName": "tests"}}
ACCEPTED = {"SetChargingProfile", "TriggerMessage"}


class RawStation:
    """Connected and, after `boot`, accepted; answers every call of the CSMS with Accepted while `answers` is true."""

    def __init__(self, csms: Csms, clock: Clock, identity: str = "bay-1", version: Version = "2.1") -> None:
        self._clock, self._ids = clock, count(1)
        self.link: MemoryLink
        self.link, theirs = memory_link(clock)
        self.served = asyncio.ensure_future(csms.serve(identity, version, theirs))
        self.reader = asyncio.ensure_future(self._read())
        self.answers = True
        self.heard: list[tuple[str, Any]] = []
        """Calls of the CSMS: action and payload."""
        self._open: dict[str, asyncio.Future[list[Any]]] = {}

    async def _read(self) -> None:
        while True:
            try:
                frame = msgspec.json.decode(await self.link.receive())
            except LinkClosed:
                return
            if frame[0] == 2:
                self.heard.append((frame[2], frame[3]))
                if self.answers:
                    await self.link.send(msgspec.json.encode([3, frame[1], self._answer(frame[2], frame[3])]))
            elif (waiting := self._open.pop(frame[1], None)) is not None:
                waiting.set_result(frame)

    @staticmethod
    def _answer(action: str, payload: Any) -> Any:
        if action == "SetVariables":
            names = ("component", "variable")
            told = [{name: item[name] for name in names} for item in payload["setVariableData"]]
            return {"setVariableResult": [{"attributeStatus": "Accepted", **item} for item in told]}
        if action == "GetVariables":
            told = [{name: item[name] for name in ("component", "variable")} for item in payload["getVariableData"]]
            return {"getVariableResult": [{"attributeStatus": "UnknownComponent", **item} for item in told]}
        return {"status": "Accepted" if action in ACCEPTED else "Rejected"}

    async def call(self, action: str, payload: Any, message_id: str | None = None) -> list[Any]:
        """Send a call and return the whole answer frame."""
        name = message_id or f"raw-{next(self._ids)}"
        self._open[name] = asyncio.get_running_loop().create_future()
        await self.link.send(msgspec.json.encode([2, name, action, payload]))
        return await self._open[name]

    async def boot(self) -> "RawStation":
        """BootNotification, accepted."""
        assert (await self.call("BootNotification", BOOT))[2]["status"] == "Accepted"
        return self

    async def tell(self, kind: str, seq_no: int, transaction: str = "tx-1", **fields: Any) -> list[Any]:
        """A TransactionEvent; returns the answer frame."""
        return await self.call("TransactionEvent", event(self._clock, kind, seq_no, transaction, **fields))

    async def needs(self, transfer: str = "DC_BPT") -> list[Any]:
        """NotifyEVChargingNeeds of a 60 kWh vehicle that stays for eight hours and is content with 50 %."""
        dc = {
            "evMaxCurrent": 32,
            "evMaxVoltage": 500,
            "evMaxPower": 11_000,
            "evEnergyCapacity": 60_000,
            "stateOfCharge": 70,
        }
        leaves = datetime.fromtimestamp(self._clock.wall(), UTC) + timedelta(hours=8)
        wanted = {
            "requestedEnergyTransfer": transfer, "dcChargingParameters": dc, "departureTime": leaves.isoformat(),
            "v2xChargingParameters": {"maxChargePower": 11_000, "maxDischargePower": 11_000, "targetSoC": 50},
        }  # fmt: skip
        return await self.call("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": wanted})


def event(clock: Clock, kind: str, seq_no: int, transaction: str = "tx-1", **fields: Any) -> dict[str, Any]:
    """A TransactionEvent request; `soc` (percent) and `power_w` become meter values."""
    stamp = datetime.fromtimestamp(clock.wall(), UTC).isoformat()
    made: dict[str, Any] = {
        "eventType": kind, "timestamp": stamp, "triggerReason": "Trigger", "seqNo": seq_no,
        "transactionInfo": {"transactionId": transaction}, "evse": {"id": 1},
    }  # fmt: skip
    measured = {"SoC": fields.pop("soc", None), "Power.Active.Import": fields.pop("power_w", None)}
    samples = [{"measurand": name, "value": value} for name, value in measured.items() if value is not None]
    if samples:
        made["meterValue"] = [{"timestamp": stamp, "sampledValue": samples}]
    return made | fields
