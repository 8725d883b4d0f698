"""Block R: controls of a distributed energy resource: defaults and scheduled ones, which of them holds, and its effect."""

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.device_table import LONGEST_S
from gridtide.wire.ocpp.der import BODIES, BODY_OF, UNSCHEDULED

NOMINAL_HZ = 50.0
PARTS = 8
MAX_CONTROLS = 48


class Control(Struct):
    """One accepted control."""

    id: str
    kind: str
    is_default: bool
    body: Any
    superseded: bool = False
    active: bool = False

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """Start and end of a scheduled control."""
        start, duration = getattr(self.body, "startTime", None), getattr(self.body, "duration", None)
        return None if start is None or duration is None else (start, start + timedelta(seconds=duration))


class DerControls:
    """The controls of the EVSE."""

    def __init__(self, core: Core, model: DeviceModel) -> None:
        self._core, self._model = core, model
        self.held: dict[str, Control] = {}

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {"SetDERControl": self.set, "GetDERControl": self.get, "ClearDERControl": self.clear}

    def set(self, message: Any) -> Fields:
        """R04: exactly the body of its type; a default has no times, a scheduled one has both."""
        if not self._model.is_on("DCDERCtrlr"):
            return status("NotSupported", "NotEnabled")
        present = [name for name in BODIES if getattr(message, name) is not None]
        if present != [BODY_OF[message.controlType]]:
            return status("Rejected", "BodyMismatch")
        new = Control(message.controlId, message.controlType, message.isDefault, getattr(message, present[0]))
        fault = self._fault(new)
        if fault is not None:
            return status("Rejected", fault)
        beaten = self._supersede(new)
        self.held[new.id] = new
        return status("Accepted") | ({"supersededIds": beaten} if beaten else {})

    def _fault(self, new: Control) -> str | None:
        times = [getattr(new.body, name, None) for name in ("startTime", "duration")]
        if new.is_default and any(time is not None for time in times):
            return "InvalidValue"
        if not new.is_default and (BODY_OF[new.kind] in UNSCHEDULED or None in times):
            return "MissingParam"
        if times[1] is not None and not 0.0 < times[1] <= LONGEST_S:
            return "InvalidValue"
        if new.span is not None and new.span[1] <= self._core.now():
            return "InvalidValue"
        other = self.held.get(new.id)
        if other is not None and (other.kind, other.is_default) != (new.kind, new.is_default):
            return "DuplicateId"
        return "TooManyElements" if other is None and len(self.held) >= MAX_CONTROLS else None

    def _supersede(self, new: Control) -> list[str]:
        """A control of the same type, kind and time yields to one of the same or higher priority (a lower number)."""
        beaten = []
        for other in self.held.values():
            if other.id == new.id or (other.kind, other.is_default) != (new.kind, new.is_default):
                continue
            if not _overlap(new.span, other.span):
                continue
            if new.body.priority <= other.body.priority:
                if not other.superseded:
                    beaten.append(other.id)
                other.superseded = True
            else:
                new.superseded = True
        return beaten[:24]

    def clear(self, message: Any) -> Fields:
        """R04: by id, by type, or all defaults or all scheduled ones."""
        gone = [c for c in self.held.values() if c.is_default == message.isDefault and _means(c, message)]
        if not gone:
            return status("NotFound")
        for control in gone:
            del self.held[control.id]
            if control.active:
                self._core.soon(lambda told=control.id: self._told(told, False, []))  # type: ignore[misc]
        self._restore()
        return status("Accepted")

    def _restore(self) -> None:
        """Who was superseded only by what is gone holds again."""
        for one in self.held.values():
            one.superseded = any(
                (other.kind, other.is_default) == (one.kind, one.is_default) and _overlap(one.span, other.span)
                and other.body.priority < one.body.priority
                for other in self.held.values() if other.id != one.id
            )  # fmt: skip

    def get(self, message: Any) -> Fields:
        """R04: reported in parts, each of one type's list."""
        found = [c for c in self.held.values() if message.isDefault in (None, c.is_default) and _means(c, message)]
        if not found:
            return status("NotFound")
        self._core.soon(lambda: self._report(message.requestId, found))
        return status("Accepted")

    def _report(self, request_id: int, found: list[Control]) -> None:
        parts = [found[i : i + PARTS] for i in range(0, len(found), PARTS)]
        for number, part in enumerate(parts):
            told: Fields = {"requestId": request_id, "tbc": number + 1 < len(parts)}
            for control in part:
                told.setdefault(BODY_OF[control.kind], []).append(_row(control))
            self._core.say("ReportDERControl", told, asked=True)

    def tick(self) -> None:
        """Scheduled controls begin and end (R05)."""
        now = self._core.now()
        for control in [c for c in self.held.values() if c.span is not None]:
            start, end = control.span or (now, now)
            if now >= end:
                del self.held[control.id]
                if control.active:
                    self._told(control.id, False, [])
                self._restore()
            elif now >= start and not control.active and not control.superseded:
                control.active = True
                beaten = [c.id for c in self.held.values() if c.kind == control.kind and c.is_default]
                self._told(control.id, True, beaten)

    def _told(self, control_id: str, started: bool, beaten: list[str]) -> None:
        fields: Fields = {"controlId": control_id, "started": started, "timestamp": self._core.now()}
        self._core.say("NotifyDERStartStop", fields | ({"supersededIds": beaten} if beaten else {}))

    def alarm(self, kind: str, fault: str | None = None, *, ended: bool = False) -> None:
        """NotifyDERAlarm: a control's limit was reached, or that is over."""
        fields: Fields = {"controlType": kind, "timestamp": self._core.now(), "alarmEnded": ended}
        self._core.say("NotifyDERAlarm", fields | ({} if fault is None else {"gridEventFault": fault}))

    def in_force(self, kind: str) -> Any | None:
        """The body of the control of a type that holds now: a running scheduled one before the default."""
        mine = [c for c in self.held.values() if c.kind == kind and not c.superseded and (c.is_default or c.active)]
        return min(mine, key=lambda c: (c.is_default, c.body.priority)).body if mine else None

    def shaped_kw(self, kw: float, frequency_hz: float | None) -> float:
        """`kw` as the controls in force leave it: droop on frequency, and the discharge limit."""
        if not self.held:
            return kw
        setup = self._core.setup
        droop = self.in_force("FreqDroop")
        if droop is not None and frequency_hz is not None:
            over = max(0.0, frequency_hz - droop.overFreq) / (NOMINAL_HZ * max(droop.overDroop, 1e-6))
            under = max(0.0, droop.underFreq - frequency_hz) / (NOMINAL_HZ * max(droop.underDroop, 1e-6))
            kw += (over - under) * setup.discharge_kw
        limit = self.in_force("LimitMaxDischarge")
        share = None if limit is None else limit.pctMaxDischargePower
        floor_kw = -setup.discharge_kw * (1.0 if share is None else min(max(share, 0.0), 100.0) / 100.0)
        return min(max(kw, floor_kw), setup.charge_kw)


def _overlap(one: tuple[datetime, datetime] | None, other: tuple[datetime, datetime] | None) -> bool:
    return one is None or other is None or (one[0] < other[1] and other[0] < one[1])


def _means(control: Control, wanted: Any) -> bool:
    return wanted.controlId in (None, control.id) and wanted.controlType in (None, control.kind)


def _row(control: Control) -> Fields:
    name = BODY_OF[control.kind]
    shown = "fixedPF" if name.startswith("fixedPF") else name
    row: Fields = {"id": control.id, shown: control.body}
    if name not in UNSCHEDULED:
        row |= {"isDefault": control.is_default, "isSuperseded": control.superseded}
    return row | ({"curveType": control.kind} if name == "curve" else {})
