"""What a rig notes of a run for the checks: true meter samples, messages of the stations, and events they were told are kept."""

from collections.abc import Callable
from typing import Any
from zlib import crc32

from msgspec import Struct

from gridtide.run.emulator.outbox import Outbox, Owed
from gridtide.run.modbus import MemoryMeter
from gridtide.run.net import Link, LinkClosed
from gridtide.wire.modbus.reading import MeterReadError, MeterReading
from gridtide.wire.ocpp.events import CallAnswered


class NotedMeter(MemoryMeter):
    """A meter that notes when it was really read."""

    read_s = float("-inf")
    """Monotonic instant at which the last read that gave a power was begun, s."""
    told_kwh: float | None = None
    """Import register as that read showed it; None: the meter was faulty, what it shows is no truth."""

    async def read(self) -> MeterReading | MeterReadError:
        """As `MemoryMeter`."""
        began_s, is_sound = self._clock.monotonic(), self.fault.kind == "none"
        found = await super().read()
        if isinstance(found, MeterReading) and found.power_kw is not None:
            self.read_s = began_s
            self.told_kwh = found.values.get("import_kwh") if is_sound else None
        return found


class Messages(Struct):
    """A running checksum of every message that stations send and receive: histories that differ in one message differ here."""

    crc: int = 0


class NotedLink:
    """A station's end of a link; every message that it sends or receives is noted."""

    def __init__(self, link: Link, row: int, said: Messages) -> None:
        self._link, self._row, self._said = link, row, said

    @property
    def closed(self) -> bool:
        """As the link."""
        return self._link.closed

    async def receive(self) -> bytes:
        """As the link."""
        data = await self._link.receive()
        self._note(data)
        return data

    async def listen(self, on_message: Callable[[bytes], None]) -> LinkClosed:
        """As the link."""
        row, said = self._row, self._said

        def hear(data: bytes) -> None:
            said.crc = crc32(data, said.crc ^ row)
            on_message(data)

        return await self._link.listen(hear)

    async def send(self, data: bytes) -> None:
        """As the link."""
        self._note(data)
        await self._link.send(data)

    def put(self, data: bytes) -> bool:
        """As the link."""
        is_sent = self._link.put(data)
        if is_sent:
            self._note(data)
        return is_sent

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """As the link."""
        await self._link.close(code, reason)

    def drop(self) -> None:
        """As the link."""
        self._link.drop()

    def _note(self, data: bytes) -> None:
        self._said.crc = crc32(data, self._said.crc ^ self._row)


class Event(Struct, frozen=True, order=True):
    """One transaction event as its station names it."""

    station: str
    transaction: str
    number: int
    kind: str


class NotedOutbox(Outbox):
    """What a station owes; transaction events that it queued, and those the management system said are kept, are noted."""

    __slots__ = ("_clock_s", "_doubtful", "_station", "_twice", "acknowledged", "queued")

    def __init__(self, station: str, clock_s: Callable[[], float], twice: Callable[[], bool]) -> None:
        """`twice`: whether the station now uses message ids twice; then an answer may be to another message."""
        super().__init__()
        self._station, self._clock_s, self._twice = station, clock_s, twice
        self._doubtful = False
        self.queued: set[Event] = set()
        self.acknowledged: list[tuple[float, Event]] = []
        """With the instant, s of `clock_s`."""

    def put(self, action: str, payload: Any, done: Callable[[Any], None] | None = None, *, asked: bool = False) -> None:
        """As `Outbox`."""
        if action == "TransactionEvent":
            self.queued.add(self._event(payload))
        super().put(action, payload, done, asked=asked)

    def next(self, now_s: float, *, accepted: bool) -> tuple[Owed, int] | None:
        """As `Outbox`."""
        found = super().next(now_s, accepted=accepted)
        if found is not None and found[0].action == "TransactionEvent":
            self._doubtful = self._twice()
        return found

    def settle(self, place: int, outcome: Any, now_s: float) -> bool:
        """As `Outbox`."""
        owed = self._under_way[place]
        is_event = owed is not None and owed.action == "TransactionEvent"
        if owed is not None and is_event and isinstance(outcome, CallAnswered) and not self._doubtful:
            self.acknowledged.append((self._clock_s(), self._event(owed.payload)))
        return super().settle(place, outcome, now_s)

    def _event(self, payload: Any) -> Event:
        return Event(
            self._station, str(payload.transactionInfo.transactionId), int(payload.seqNo), str(payload.eventType)
        )
