"""Controls of distributed energy resources (block R, 2.1): which are in force at a station, and its alarms."""

from typing import Any, Final

import msgspec

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json, tell, without_none
from gridtide.run.csms.parts import PartBook
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

DER_CONTROL, DER_STATE, DER_ALARM = "der_control", "der_state", "der_alarm"
"""Kinds: controls by id as reported or accepted; which of them run; the journal of alarms and of starts and stops."""
CONTROL_BYTES: Final = 32_768
BODIES: Final = (
    *("curve", "enterService", "fixedPFAbsorb", "fixedPFInject"),
    *("fixedVar", "freqDroop", "gradient", "limitMaxDischarge"),
)
MAX_STATES: Final = 200
"""Control ids whose state is kept; stations that name more are heard in the journal only."""


class DerControls:
    """Answers ReportDERControl, NotifyDERAlarm and NotifyDERStartStop; takes the answers about DER controls."""

    def __init__(self, desk: Desk, effects: Effects, book: PartBook) -> None:
        self._desk, self._book = desk, book
        self.actions: dict[str, Act] = {
            "ReportDERControl": effects.act(self._report),
            "NotifyDERAlarm": effects.act(self._alarm),
            "NotifyDERStartStop": effects.act(self._start_stop),
        }
        self.requests = {"GetDERControl": self._asked}
        self.answers = {
            "GetDERControl": self._answered,
            "SetDERControl": self._set,
            "ClearDERControl": self._cleared,
        }

    # --- controls ---------------------------------------------------------------------------------------------------
    async def _report(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        rows: dict[str, bytes] = {}
        for body in BODIES:
            for item in getattr(message, body) or ():
                kind = item.curveType if body == "curve" else _type_of(body)
                if item.id:
                    rows[item.id] = as_json({"controlType": kind, "told": item}, CONTROL_BYTES)
        await self._book.take(station, "ReportDERControl", message, DER_CONTROL, rows)
        return reply(station, "ReportDERControl")

    def _asked(self, station: Station, request: Any) -> None:
        is_whole = request.isDefault is None and request.controlType is None and request.controlId is None
        self._book.expect(station, "ReportDERControl", request.requestId, is_whole=is_whole)

    async def _answered(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            await self._book.cancel(station, "ReportDERControl", request.requestId)

    async def _set(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status == "Accepted" and request.controlId:
            data = as_json({"controlType": request.controlType, "sent": request}, CONTROL_BYTES)
            rows = {request.controlId: data}
            name = station.provision.identity
            await self._desk.store.put_records(name, DER_CONTROL, rows, self._desk.clock.wall())

    async def _cleared(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status not in ("Accepted", "NotFound"):
            return
        gone = tuple(key for key, value in self._known(station).items() if _is_meant(key, value, request))
        await self._desk.store.remove_records(station.provision.identity, DER_CONTROL, gone)

    def _known(self, station: Station) -> dict[str, Any]:
        records = self._desk.store.records(station.provision.identity, DER_CONTROL)
        return {record.key: msgspec.json.decode(record.value_json) for record in records}

    # --- what stations tell of them ---------------------------------------------------------------------------------
    async def _alarm(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        known = any(value["controlType"] == message.controlType for value in self._known(station).values())
        await self._journal(station, {"alarm": message, "isKnown": known})
        if not message.alarmEnded:
            what = message.gridEventFault or message.extraInfo or "no details"
            unknown = "" if known else " It names a control that was not set from here."
            tell(self._desk, station, "der_alarm", f"{message.controlType}: {what}.{unknown}")
        return reply(station, "NotifyDERAlarm")

    async def _start_stop(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        is_known = message.controlId in self._known(station)
        name, now_s = station.provision.identity, self._desk.clock.wall()
        states = {record.key for record in self._desk.store.records(name, DER_STATE)}
        if message.controlId in states or (message.controlId and len(states) < MAX_STATES):
            state = without_none({"started": message.started, "at": message.timestamp, "isKnown": is_known})
            await self._desk.store.put_records(name, DER_STATE, {message.controlId: as_json(state)}, now_s)
        await self._journal(station, {"startStop": message, "isKnown": is_known})
        return reply(station, "NotifyDERStartStop")

    async def _journal(self, station: Station, entry: dict[str, Any]) -> None:
        name, now_s = station.provision.identity, self._desk.clock.wall()
        await self._desk.store.add_journal(name, DER_ALARM, now_s, as_json(entry))


def _type_of(body: str) -> str:
    """DERControlEnumType of a body's field."""
    return "Gradients" if body == "gradient" else body[0].upper() + body[1:]


def _is_meant(key: str, value: Any, request: Any) -> bool:
    """Whether a ClearDERControl request names the control: by id, by type, or all defaults or all scheduled ones."""
    if request.controlId is not None:
        return key == str(request.controlId)
    if request.controlType is not None and value["controlType"] != request.controlType:
        return False
    told = value.get("told") or value.get("sent") or {}
    return bool(told.get("isDefault", request.isDefault) == request.isDefault)
