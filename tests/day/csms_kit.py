"""A CSMS with two stations over raw frames, and what it keeps: for tests of the message blocks."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gridtide.run.assembly import ids, provisions
from gridtide.run.csms.certificates import Certificates
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.registry import EvseEntry, Registry, StationEntry
from gridtide.run.csms.reports import Reports
from gridtide.run.csms.service import Csms
from gridtide.run.store import MemoryStore, Store
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.events import SendReceived
from tests.day.raw_station import RawStation
from tests.day.wire_site import START_S, EpochClock, table

OPERATOR = "Gridtide Tests"


class Answering(RawStation):
    """Answers calls of the CSMS from `replies` by action, else as any raw station does."""

    replies: Mapping[str, Any] = {}
    identity = ""

    def _answer(self, action: str, payload: Any) -> Any:  # type: ignore[override]
        told = self.replies.get(action)
        if told is None:
            return RawStation._answer(action, payload)
        return told(payload) if callable(told) else told

    async def call(self, action: str, payload: Any, message_id: str | None = None) -> list[Any]:
        """As any raw station's; an answer that does not come fails the test instead of letting time run for ever."""
        return await asyncio.wait_for(super().call(action, payload, message_id), 120.0)

    async def ask(self, action: str, /, **fields: Any) -> Any:
        """Send a call and return the payload of its answer; raises where it was refused."""
        frame = await self.call(action, fields)
        assert frame[0] == 3, frame
        return frame[2]


class Kit:
    """Stations bay-1 and bay-2 of two rows; every event told is kept."""

    def __init__(self, version: Version = "2.1", store: Store | None = None, dialect: str = "v21_setpoint") -> None:
        self.version = version
        self.clock = EpochClock(asyncio.get_running_loop(), START_S)
        self.store = store or MemoryStore()
        self.table = table(2)
        self.board = EvidenceBoard(self.table)
        entries = [
            StationEntry(identity=f"bay-{n}", serial=f"SN-{n}", evses=(EvseEntry(id=1),), from_file=True)
            for n in (1, 2)
        ]
        made = [msgspec.structs.replace(item, dialect=dialect) for item in provisions(self.table, (version,) * 2)]
        self.csms = Csms(
            self.table, made, self.board, self.store, self.clock, ids("c"), lease_s=5.0,
            registry=Registry(self.store, entries),
        )  # fmt: skip
        self.events: list[tuple[str, str, str]] = []
        self.csms.tell(lambda code, source, text: self.events.append((code, source, text)))
        self.ticks = asyncio.ensure_future(self.csms.tick_forever())

    @property
    def reports(self) -> Reports:
        return self.csms.reports

    @property
    def certificates(self) -> Certificates:
        return self.csms._intake.certificates

    async def station(self, identity: str = "bay-1", **replies: Any) -> Answering:
        """A station that booted."""
        raw = Answering(self.csms, self.clock, identity, self.version)
        raw.identity = identity
        raw.replies = replies
        await raw.boot()
        await asyncio.sleep(0.1)
        return raw

    async def operate(self, action: str, /, identity: str = "bay-1", **payload: Any) -> Any:
        """A person's call; what its answer told is kept when this returns."""
        outcome = await self.csms.operator.call(identity, action, payload, "test")
        await self.reports.effects.idle()
        return outcome

    def stream(self, identity: str = "bay-1", **fields: Any) -> None:
        """NotifyPeriodicEventStream, a message nobody answers."""
        payload = codec.decode("2.1", "NotifyPeriodicEventStream", "request", msgspec.json.encode(fields))
        message = SendReceived(
            id="s", action="NotifyPeriodicEventStream", payload=payload, received_at_s=self.clock.monotonic()
        )
        self.reports.take_stream(self.csms.stations[identity], message)

    def records(self, kind: str, identity: str = "bay-1") -> dict[str, Any]:
        """Records of a kind as plain values by key."""
        return {item.key: msgspec.json.decode(item.value_json) for item in self.store.records(identity, kind)}

    def journal(self, kind: str, identity: str = "bay-1", limit: int = 10_000) -> list[Any]:
        """Journal of a kind as plain values, newest first."""
        return [msgspec.json.decode(item.value_json) for item in self.store.journal(identity, kind, limit)]

    def codes(self) -> list[str]:
        """Codes told so far."""
        return [code for code, _, _ in self.events]

    def texts(self) -> str:
        """All that was told, as one text."""
        return "\n".join(text for _, _, text in self.events)

    def stamp(self, after_s: float = 0.0) -> str:
        """An instant on the wire."""
        return datetime.fromtimestamp(self.clock.wall() + after_s, UTC).isoformat()


def variable(name: str, value: str, component: str = "Bay", **more: Any) -> dict[str, Any]:
    """ReportDataType of one variable with an actual value."""
    return {
        "component": {"name": component},
        "variable": {"name": name},
        "variableAttribute": [{"value": value, "mutability": "ReadWrite"}],
        **more,
    }
