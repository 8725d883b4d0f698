"""Monitors of every station and what they tell: NotifyMonitoringReport, NotifyEvent and the answers about monitors (block N)."""

from typing import Any, Final

import msgspec

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.hidden import HIDDEN, is_secret
from gridtide.run.csms.keeping import as_json, check_transaction, tell, without_none
from gridtide.run.csms.parts import PartBook
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

MONITOR, EVENT = "monitor", "event"
"""Kind of the records of monitors, and of the journal of events."""
ALARM_SEVERITY: Final = 3
"""Danger, hardware failure, system failure, critical: told to people (N07)."""
SEVERITIES: Final = ("danger", "hardware failure", "system failure", "critical")
MAX_EVENTS: Final = 100
"""Events one message may hold."""
TEXT_KEPT: Final = 255
EVENTS_BYTES: Final = 262_144


class Monitoring:
    """Answers NotifyMonitoringReport and NotifyEvent; takes the answers to SetVariableMonitoring and its kin."""

    def __init__(self, desk: Desk, effects: Effects, book: PartBook) -> None:
        self._desk, self._book = desk, book
        self._severities: dict[str, dict[int, int]] = {}
        self.actions: dict[str, Act] = {
            "NotifyMonitoringReport": effects.act(self._report),
            "NotifyEvent": effects.act(self._event),
        }
        self.requests = {"GetMonitoringReport": self._asked}
        self.answers = {
            "GetMonitoringReport": self._answered,
            "SetVariableMonitoring": self._set,
            "ClearVariableMonitoring": self._cleared,
        }

    # --- monitors ---------------------------------------------------------------------------------------------------
    async def _report(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        rows = {
            str(monitor.id): as_json(
                {
                    "component": item.component,
                    "variable": item.variable,
                    "type": monitor.type,
                    "value": monitor.value,
                    "severity": monitor.severity,
                    "transaction": monitor.transaction,
                    "notification": getattr(monitor, "eventNotificationType", None),
                }
            )
            for item in message.monitor or ()
            for monitor in item.variableMonitoring
        }
        await self._book.take(station, "NotifyMonitoringReport", message, MONITOR, rows)
        self._severities.pop(station.provision.identity, None)
        return reply(station, "NotifyMonitoringReport")

    def _asked(self, station: Station, request: Any) -> None:
        is_whole = request.componentVariable is None and request.monitoringCriteria is None
        self._book.expect(station, "NotifyMonitoringReport", request.requestId, is_whole=is_whole)

    async def _answered(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            await self._book.cancel(station, "NotifyMonitoringReport", request.requestId)

    async def _set(self, station: Station, request: Any, answer: Any) -> None:
        rows: dict[str, bytes] = {}
        # Results come in the order of the request where the station keeps it; each names its own variable all the same.
        for item, wanted in zip(answer.setMonitoringResult, request.setMonitoringData, strict=False):
            if item.status != "Accepted" or item.id is None:
                continue
            is_same = item.type == wanted.type and item.variable == wanted.variable
            told = {
                "component": item.component,
                "variable": item.variable,
                "type": item.type,
                "value": wanted.value if is_same else None,
                "severity": item.severity,
                "transaction": wanted.transaction if is_same else None,
                "notification": "CustomMonitor",
            }
            rows[str(item.id)] = as_json(without_none(told))
        if rows:
            name = station.provision.identity
            await self._desk.store.put_records(name, MONITOR, rows, self._desk.clock.wall())
            self._severities.pop(name, None)

    async def _cleared(self, station: Station, _request: Any, answer: Any) -> None:
        gone = tuple(str(item.id) for item in answer.clearMonitoringResult if item.status != "Rejected")
        await self._desk.store.remove_records(station.provision.identity, MONITOR, gone)
        self._severities.pop(station.provision.identity, None)

    def _severity(self, station: Station, item: Any) -> int | None:
        """2.1 tells it; on 2.0.1 the monitor it comes from knows it."""
        told: int | None = getattr(item, "severity", None)
        if told is not None or item.variableMonitoringId is None:
            return told
        name = station.provision.identity
        if name not in self._severities:
            known = ((record.key, msgspec.json.decode(record.value_json)) for record in self._monitors(name))
            self._severities[name] = {int(key): int(value["severity"]) for key, value in known}
        return self._severities[name].get(item.variableMonitoringId)

    def _monitors(self, identity: str) -> Any:
        return self._desk.store.records(identity, MONITOR)

    # --- events -----------------------------------------------------------------------------------------------------
    async def _event(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        events = message.eventData
        if len(events) > MAX_EVENTS:
            raise RemoteProtocolError("OccurrenceConstraintViolation", f"give at most {MAX_EVENTS} events a message")
        for item in events:
            check_transaction(self._desk, station, item.transactionId)
        kept = [_kept(item, self._severity(station, item)) for item in events]
        entry = {"generatedAt": message.generatedAt, "seqNo": message.seqNo, "tbc": bool(message.tbc), "events": kept}
        data = as_json(entry, EVENTS_BYTES)
        await self._desk.store.add_journal(station.provision.identity, EVENT, self._desk.clock.wall(), data)
        self._raise(station, kept)
        return reply(station, "NotifyEvent")

    def _raise(self, station: Station, events: list[dict[str, Any]]) -> None:
        """The worst of a message is told, once."""
        loud = [item for item in events if 0 <= item.get("severity", 9) <= ALARM_SEVERITY and not item.get("cleared")]
        if not loud:
            return
        worst = min(loud, key=lambda item: int(item["severity"]))
        more = f", and {len(loud) - 1} more" if len(loud) > 1 else ""
        details = worst.get("techInfo") or worst["actualValue"] or "no details"
        what = f"{worst['component'].name} {worst['variable'].name}"
        tell(self._desk, station, "station_event", f"{what}: {details} ({SEVERITIES[worst['severity']]}){more}.")


def _kept(item: Any, severity: int | None) -> dict[str, Any]:
    """What is kept of an event: everything but the vendor's own additions, texts cut."""
    return without_none(
        {
            "eventId": item.eventId,
            "timestamp": item.timestamp,
            "trigger": item.trigger,
            "cause": item.cause,
            "actualValue": HIDDEN if is_secret(item.variable.name) else item.actualValue[:TEXT_KEPT],
            "techCode": item.techCode,
            "techInfo": None if item.techInfo is None else item.techInfo[:TEXT_KEPT],
            "cleared": item.cleared,
            "transactionId": item.transactionId,
            "variableMonitoringId": item.variableMonitoringId,
            "notification": item.eventNotificationType,
            "severity": severity,
            "component": msgspec.structs.replace(item.component, customData=None),
            "variable": msgspec.structs.replace(item.variable, customData=None),
        }
    )
