"""Periodic event streams (N, 2.1): stations send values without being answered; they become telemetry, within bounds."""

import math
from typing import Any, Final

import msgspec

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived, SendReceived
from gridtide.wire.ocpp.structs import WireStruct

STREAM: Final = "stream"
"""Kind of the records, by the stream's id; its values are the telemetry series `stream/<station>/<id>`."""
MAX_STREAMS: Final = 16
"""Open streams of one station."""
VALUES_PER_S: Final = 50.0
BURST: Final = 500.0
"""Values a station may send at once after a silence; what is beyond is counted and dropped."""
OFF_S: Final = 86_400.0
"""Values further than that from now have no place in telemetry."""


class _Budget(msgspec.Struct):
    left: float
    at_s: float


class Streams:
    """Answers OpenPeriodicEventStream and ClosePeriodicEventStream; takes the values."""

    def __init__(self, desk: Desk, effects: Effects) -> None:
        self._desk = desk
        self._open: dict[str, set[int]] = {}
        self._budgets: dict[str, _Budget] = {}
        self.dropped = 0
        """Values that were not kept: of no open stream, not a number, too many, or from another day."""
        self.actions: dict[str, Act] = {
            "OpenPeriodicEventStream": effects.act(self._opened),
            "ClosePeriodicEventStream": effects.act(self._closed),
        }
        self.requests: dict[str, Any] = {}
        self.answers = {"AdjustPeriodicEventStream": self._adjusted, "GetPeriodicEventStream": self._told}

    # --- open and closed --------------------------------------------------------------------------------------------
    async def _opened(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        data, streams = message.constantStreamData, self._streams(station)
        if data.id not in streams and len(streams) >= MAX_STREAMS:
            reason = {"reasonCode": "TooManyStreams", "additionalInfo": f"at most {MAX_STREAMS} streams are open"}
            return reply(station, "OpenPeriodicEventStream", status="Rejected", statusInfo=reason)
        name = station.provision.identity
        await self._desk.store.put_records(name, STREAM, {str(data.id): as_json(data)}, self._desk.clock.wall())
        streams.add(data.id)
        return reply(station, "OpenPeriodicEventStream", status="Accepted")

    async def _closed(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        self._streams(station).discard(message.id)
        await self._desk.store.remove_records(station.provision.identity, STREAM, (str(message.id),))
        return reply(station, "ClosePeriodicEventStream")

    async def _adjusted(self, station: Station, request: Any, answer: Any) -> None:
        name, key = station.provision.identity, str(request.id)
        known = {record.key: record.value_json for record in self._desk.store.records(name, STREAM)}
        if answer.status == "Accepted" and key in known:
            stream = {**msgspec.json.decode(known[key]), "params": request.params}
            await self._desk.store.put_records(name, STREAM, {key: as_json(stream)}, self._desk.clock.wall())

    async def _told(self, station: Station, _request: Any, answer: Any) -> None:
        """The station knows best which streams are open; of too many the first count."""
        told = (answer.constantStreamData or ())[:MAX_STREAMS]
        rows, name = {str(item.id): as_json(item) for item in told}, station.provision.identity
        await self._desk.store.put_records(name, STREAM, rows, self._desk.clock.wall(), is_whole=True)
        self._open[name] = {item.id for item in told}

    def _streams(self, station: Station) -> set[int]:
        name = station.provision.identity
        if name not in self._open:
            self._open[name] = {int(record.key) for record in self._desk.store.records(name, STREAM)}
        return self._open[name]

    # --- values -----------------------------------------------------------------------------------------------------
    def take(self, station: Station, message: SendReceived) -> None:
        """Values of an open stream become telemetry."""
        told: Any = message.payload
        name, values = station.provision.identity, told.data
        if told.id not in self._streams(station):
            self.dropped += len(values)
            return
        room = self._room(name, len(values))
        base_s, now_s = told.basetime.timestamp(), self._desk.clock.wall()
        # The newest come last in a message.
        for item in values[len(values) - room :]:
            value, at_s = _number(item.v), base_s + item.t
            if value is None or abs(at_s - now_s) > OFF_S:
                self.dropped += 1
            else:
                self._desk.store.put_telemetry(at_s, {f"stream/{name}/{told.id}": value})
        self.dropped += len(values) - room

    def _room(self, name: str, wanted: int) -> int:
        now_s = self._desk.clock.monotonic()
        budget = self._budgets.setdefault(name, _Budget(BURST, now_s))
        budget.left = min(BURST, budget.left + (now_s - budget.at_s) * VALUES_PER_S)
        budget.at_s = now_s
        given = min(wanted, int(budget.left))
        budget.left -= given
        return given


def _number(text: str) -> float | None:
    """A decimal or a boolean as a finite number, else None."""
    named = {"true": 1.0, "false": 0.0}.get(text.strip().lower())
    if named is not None:
        return named
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
