"""Block N, monitoring: monitors on variables, and the events they raise."""

import math
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel, key_of, matches, names_of
from gridtide.run.emulator.device_table import Key

MAX_SEVERITY = 9
MAX_MONITORS = 100
MONITORS_PER_REPORT = 20
_THRESHOLDS = ("UpperThreshold", "LowerThreshold")
_PERIODIC = ("Periodic", "PeriodicClockAligned")
_CRITERION_OF = {
    **dict.fromkeys(_THRESHOLDS, "ThresholdMonitoring"),
    **dict.fromkeys(("Delta", "TargetDelta", "TargetDeltaRelative"), "DeltaMonitoring"),
    **dict.fromkeys(_PERIODIC, "PeriodicMonitoring"),
}
_HEAT = Key("TemperatureSensor", "Temperature")


class Monitor(Struct):
    """One monitor and what it saw last."""

    id: int
    key: Key
    kind: str
    value: float
    severity: int
    transaction: bool = False
    origin: str = "CustomMonitor"
    alarmed: bool = False
    last: str | None = None
    due: float = 0.0
    streamed: bool = False
    """A periodic event stream carries its values instead of NotifyEvent."""


class Monitoring:
    """The monitors; id 1 is hard-wired, id 2 preconfigured."""

    def __init__(self, core: Core, model: DeviceModel) -> None:
        self._core, self._model = core, model
        self.monitors: dict[int, Monitor] = {}
        self.level = MAX_SEVERITY
        self.in_transaction: Callable[[], str | None] = lambda: None
        """The running transaction's id."""
        self.opened: Callable[[Monitor, Any], None] = lambda _monitor, _params: None
        self.closed: Callable[[int], None] = lambda _id: None
        self._install_base()

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {
            "SetVariableMonitoring": self.set,
            "ClearVariableMonitoring": self.clear,
            "SetMonitoringBase": self.set_base,
            "SetMonitoringLevel": self.set_level,
            "GetMonitoringReport": self.get_report,
        }

    def _install_base(self) -> None:
        self.monitors[1] = Monitor(1, _HEAT, "UpperThreshold", 85.0, 1, origin="HardWiredMonitor")
        self.monitors[2] = Monitor(2, _HEAT, "UpperThreshold", 80.0, 3, origin="PreconfiguredMonitor")

    # --- requests ---------------------------------------------------------------------------------------------------
    def set(self, message: Any) -> Fields:
        """N04."""
        return {"setMonitoringResult": [self._put(item) for item in message.setMonitoringData]}

    def _put(self, item: Any) -> Fields:
        key = key_of(item.component, item.variable)
        told: Fields = {
            "type": item.type, "severity": item.severity, "component": item.component, "variable": item.variable
        }  # fmt: skip
        fault = self._fault(key, item)
        if fault is not None:
            return told | {"status": fault}
        name = item.id if item.id is not None else max(self.monitors, default=0) + 1
        monitor = Monitor(name, key, item.type, item.value, item.severity, bool(item.transaction))
        monitor.due = self._next(monitor)
        monitor.last = self._read(monitor)
        params = getattr(item, "periodicEventStream", None)
        if params is not None and item.type in _PERIODIC:
            monitor.streamed = True
            self._core.soon(lambda: self.opened(monitor, params))
        self.monitors[name] = monitor
        return told | {"status": "Accepted", "id": name}

    def _fault(self, key: Key, item: Any) -> str | None:
        row = self._model.variable(key)
        if row is None:
            return "UnknownVariable" if self._model.has_component(key) else "UnknownComponent"
        if not self._model.is_on("MonitoringCtrlr") or not 0 <= item.severity <= MAX_SEVERITY or item.value < 0.0:
            return "Rejected"
        numeric = row.kind in ("integer", "decimal")
        targets = item.type.startswith("TargetDelta") and "Target" not in dict(row.attributes)
        if not row.watched or targets or (item.type in _THRESHOLDS and not numeric):
            return "UnsupportedMonitorType"
        known = self.monitors.get(item.id) if item.id is not None else None
        if item.id is not None and (known is None or known.key != key or known.origin == "HardWiredMonitor"):
            return "Rejected"
        same = (m for m in self.monitors.values() if (m.key, m.kind, m.severity) == (key, item.type, item.severity))
        if any(m.id != item.id for m in same):
            return "Duplicate"
        return "Rejected" if known is None and len(self.monitors) >= MAX_MONITORS else None

    def clear(self, message: Any) -> Fields:
        """N06."""
        return {"clearMonitoringResult": [{"id": name, "status": self._clear(name)} for name in message.id]}

    def _clear(self, name: int) -> str:
        monitor = self.monitors.get(name)
        if monitor is None:
            return "NotFound"
        if monitor.origin == "HardWiredMonitor":
            return "Rejected"
        del self.monitors[name]
        self.closed(name)
        return "Accepted"

    def set_base(self, message: Any) -> Fields:
        """N05."""
        wanted = message.monitoringBase
        if wanted != "All":
            for name in [m.id for m in self.monitors.values() if m.origin == "CustomMonitor"]:
                self._clear(name)
        if wanted != "HardWiredOnly":
            kept, self.monitors = self.monitors, {}
            self._install_base()
            self.monitors |= {m.id: m for m in kept.values() if m.origin == "CustomMonitor"}
        else:
            self.monitors = {m.id: m for m in self.monitors.values() if m.origin == "HardWiredMonitor"}
        self._model.fix("MonitoringCtrlr", "MonitoringBase", wanted)
        return status("Accepted")

    def set_level(self, message: Any) -> Fields:
        """N03: less severe events (a higher number) are not told."""
        if not 0 <= message.severity <= MAX_SEVERITY:
            return status("Rejected", "OutOfRange")
        self.level = message.severity
        self._model.fix("MonitoringCtrlr", "MonitoringLevel", str(message.severity))
        return status("Accepted")

    def get_report(self, message: Any) -> Fields:
        """N02."""
        wanted, criteria = message.componentVariable, message.monitoringCriteria
        found = [
            m for m in self.monitors.values()
            if (wanted is None or any(matches(m.key, item) for item in wanted))
            and (criteria is None or _CRITERION_OF[m.kind] in criteria)
        ]  # fmt: skip
        if not found:
            return status("EmptyResultSet")
        self._core.soon(lambda: self._report(message.requestId, found))
        return status("Accepted")

    def _report(self, request_id: int, found: list[Monitor]) -> None:
        parts = [found[i : i + MONITORS_PER_REPORT] for i in range(0, len(found), MONITORS_PER_REPORT)]
        for number, part in enumerate(parts):
            self._core.say(
                "NotifyMonitoringReport",
                {"requestId": request_id, "seqNo": number, "generatedAt": self._core.now(),
                 "tbc": number + 1 < len(parts), "monitor": [self._row(m) for m in part]},
                asked=True,
            )  # fmt: skip

    def _row(self, monitor: Monitor) -> Fields:
        told: Fields = {
            "id": monitor.id, "transaction": monitor.transaction, "value": monitor.value, "type": monitor.kind,
            "severity": monitor.severity,
        }  # fmt: skip
        if self._core.version == "2.1":
            told["eventNotificationType"] = monitor.origin
        return {**names_of(monitor.key), "variableMonitoring": [told]}

    # --- events -----------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Look at every monitored variable (N07, N08)."""
        events = [event for m in self.monitors.values() if (event := self._look(m)) is not None]
        for number, event in enumerate(events):
            more = {"tbc": True} if number + 1 < len(events) else {}
            fields = {"generatedAt": self._core.now(), "seqNo": number, "eventData": [event], **more}
            self._core.say("NotifyEvent", fields)

    def _look(self, monitor: Monitor) -> Fields | None:
        if monitor.transaction and self.in_transaction() is None:
            return None
        value = self._read(monitor)
        if monitor.kind in _PERIODIC:
            if self._clock(monitor) < monitor.due or monitor.streamed:
                return None
            monitor.due = self._next(monitor)
            return self._event(monitor, value, "Periodic")
        if monitor.kind in _THRESHOLDS:
            high = monitor.kind == "UpperThreshold"
            beyond = float(value) > monitor.value if high else float(value) < monitor.value
            if beyond == monitor.alarmed:
                return None
            monitor.alarmed = beyond
            return self._event(monitor, value, "Alerting", {"cleared": not beyond})
        if not self._moved(monitor, value):
            return None
        monitor.last = value
        return self._event(monitor, value, "Delta")

    def _moved(self, monitor: Monitor, value: str) -> bool:
        row = self._model.variable(monitor.key)
        if row is None or row.kind not in ("integer", "decimal"):
            return value != monitor.last
        if monitor.kind == "Delta":
            return abs(float(value) - float(monitor.last or 0.0)) >= max(monitor.value, 1e-9)
        target = float(self._model.read(monitor.key, "Target"))
        allowed = monitor.value * (abs(target) if monitor.kind == "TargetDeltaRelative" else 1.0)
        strays = abs(float(value) - target) > allowed
        turned, monitor.alarmed = strays != monitor.alarmed, strays
        return turned

    def _event(self, monitor: Monitor, value: str, trigger: str, more: Fields | None = None) -> Fields | None:
        if monitor.severity > self.level:
            return None
        told: Fields = {
            "eventId": self._core.number(), "timestamp": self._core.now(), "trigger": trigger, "actualValue": value,
            "eventNotificationType": monitor.origin, "variableMonitoringId": monitor.id, **names_of(monitor.key),
        }  # fmt: skip
        transaction = self.in_transaction()
        told |= {} if transaction is None else {"transactionId": transaction}
        if self._core.version == "2.1":
            told["severity"] = monitor.severity
        return told | (more or {})

    def _read(self, monitor: Monitor) -> str:
        return self._model.read(monitor.key)

    def _clock(self, monitor: Monitor) -> float:
        clock = self._core.clock
        return clock.wall() if monitor.kind == "PeriodicClockAligned" else clock.monotonic()

    def _next(self, monitor: Monitor) -> float:
        now_s, every_s = self._clock(monitor), max(monitor.value, 1.0)
        if monitor.kind == "PeriodicClockAligned":
            return (math.floor(now_s / every_s) + 1.0) * every_s
        return now_s + every_s
