"""Periodic event streams (2.1): a periodic monitor's values, many to a message that is never answered (type 6)."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.monitoring import Monitor, Monitoring

KEPT_VALUES = 1_000
DEFAULT_INTERVAL_S = 60


class Stream(Struct):
    """A stream that the CSMS accepted, or will."""

    id: int
    monitor: Monitor
    interval_s: int
    values: int
    open: bool = False
    kept: list[tuple[float, str]] = []
    sent_s: float = 0.0
    next_s: float = 0.0


class Streams:
    """The station's streams."""

    def __init__(self, core: Core, model: DeviceModel, monitoring: Monitoring) -> None:
        self._core, self._model = core, model
        self.streams: dict[int, Stream] = {}
        self.send: Callable[[str, Fields], bool] = lambda _action, _fields: False
        """Sends an unanswered message; False while there is no accepted link."""
        monitoring.opened, monitoring.closed = self.open, self.close

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        if self._core.version == "2.0.1":
            return {}
        return {"AdjustPeriodicEventStream": self.adjust, "GetPeriodicEventStream": self.get}

    def open(self, monitor: Monitor, params: Any) -> None:
        """Ask for a stream; its values flow once the CSMS accepts (N11)."""
        now_s = self._core.clock.monotonic()
        stream = Stream(
            self._core.number(), monitor, params.interval or DEFAULT_INTERVAL_S, params.values or 0,
            kept=[], sent_s=now_s, next_s=now_s + max(monitor.value, 1.0),
        )  # fmt: skip
        self.streams[stream.id] = stream
        data = {"id": stream.id, "variableMonitoringId": monitor.id, "params": _params(stream)}
        self._core.say(
            "OpenPeriodicEventStream", {"constantStreamData": data}, lambda answer: self._opened(stream, answer)
        )

    def _opened(self, stream: Stream, answer: Any) -> None:
        if answer is not None and answer.status == "Accepted":
            stream.open = True
            return
        # Without a stream the monitor tells by NotifyEvent.
        stream.monitor.streamed = False
        self.streams.pop(stream.id, None)

    def close(self, monitor_id: int) -> None:
        """Its monitor is gone."""
        for stream in [s for s in self.streams.values() if s.monitor.id == monitor_id]:
            del self.streams[stream.id]
            self._core.say("ClosePeriodicEventStream", {"id": stream.id})

    def adjust(self, message: Any) -> Fields:
        """N14."""
        stream = self.streams.get(message.id)
        if stream is None or not stream.open:
            return status("Rejected", "UnknownStream")
        if message.params.interval is not None:
            stream.interval_s = max(1, message.params.interval)
        if message.params.values is not None:
            stream.values = message.params.values
        return status("Accepted")

    def get(self, _message: Any) -> Fields:
        """N13."""
        told = [
            {"id": s.id, "variableMonitoringId": s.monitor.id, "params": _params(s)}
            for s in self.streams.values() if s.open
        ]  # fmt: skip
        return {"constantStreamData": told} if told else {}

    def tick(self) -> None:
        """Sample what is due; send what is full or old enough."""
        now_s, wall_s = self._core.clock.monotonic(), self._core.now().timestamp()
        for stream in self.streams.values():
            if not stream.open:
                continue
            if now_s >= stream.next_s:
                stream.next_s = now_s + max(stream.monitor.value, 1.0)
                stream.kept.append((wall_s, self._model.read(stream.monitor.key)))
                del stream.kept[:-KEPT_VALUES]
            full = 0 < stream.values <= len(stream.kept)
            if stream.kept and (full or now_s - stream.sent_s >= stream.interval_s):
                self._flush(stream, now_s)

    def _flush(self, stream: Stream, now_s: float) -> None:
        """Send; without a link the values wait, and `pending` counts them in the next message."""
        most = stream.values or len(stream.kept)
        batch, rest = stream.kept[:most], stream.kept[most:]
        base_s = batch[0][0]
        fields: Fields = {
            "id": stream.id, "pending": len(rest), "basetime": datetime.fromtimestamp(base_s, UTC),
            "data": [{"t": round(at_s - base_s, 3), "v": value} for at_s, value in batch],
        }  # fmt: skip
        if self.send("NotifyPeriodicEventStream", fields):
            stream.kept, stream.sent_s = rest, now_s


def _params(stream: Stream) -> Fields:
    told: Fields = {"interval": stream.interval_s}
    return told | ({"values": stream.values} if stream.values else {})
