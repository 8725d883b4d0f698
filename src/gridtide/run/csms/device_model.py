"""The device model of every station: what NotifyReport, GetVariables and SetVariables tell of its variables (block B)."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import SECRET_VARIABLES, as_json, without_none
from gridtide.run.csms.parts import PartBook
from gridtide.run.csms.station import Station
from gridtide.run.store.rows import StationRecord
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

VARIABLE: Final = "variable"
"""Kind of its records."""


class DeviceModel:
    """Answers NotifyReport; takes the answers to GetVariables and SetVariables."""

    def __init__(self, desk: Desk, effects: Effects, book: PartBook) -> None:
        self._desk, self._book = desk, book
        self.actions: dict[str, Act] = {"NotifyReport": effects.act(self._report)}
        self.requests = {"GetBaseReport": self._asked_base, "GetReport": self._asked}
        self.answers = {
            "GetBaseReport": self._answered,
            "GetReport": self._answered,
            "GetVariables": self._got,
            "SetVariables": self._set,
        }

    def variables(self, identity: str) -> tuple[StationRecord, ...]:
        """A station's variables by key `component|instance|evse|connector|variable|instance`; see `as_record`."""
        return self._desk.store.records(identity, VARIABLE)

    async def _report(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        rows = {
            variable_key(item.component, item.variable): as_json(_record(item)) for item in message.reportData or ()
        }
        await self._book.take(station, "NotifyReport", message, VARIABLE, rows)
        return reply(station, "NotifyReport")

    def _asked_base(self, station: Station, request: Any) -> None:
        is_whole = request.reportBase == "FullInventory"
        self._book.expect(station, "NotifyReport", request.requestId, is_whole=is_whole)

    def _asked(self, station: Station, request: Any) -> None:
        self._book.expect(station, "NotifyReport", request.requestId, is_whole=False)

    async def _answered(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            await self._book.cancel(station, "NotifyReport", request.requestId)

    async def _got(self, station: Station, _request: Any, answer: Any) -> None:
        told = [
            (item.component, item.variable, item.attributeType, item.attributeValue)
            for item in answer.getVariableResult
            if item.attributeStatus == "Accepted"
        ]
        await self._take_values(station, told)

    async def _set(self, station: Station, request: Any, answer: Any) -> None:
        """What the station accepted is its value now; what needs a reboot is not yet."""
        wanted = {
            (variable_key(item.component, item.variable), item.attributeType or "Actual"): item.attributeValue
            for item in request.setVariableData
        }
        told = []
        for item in answer.setVariableResult:
            place = variable_key(item.component, item.variable), item.attributeType or "Actual"
            if item.attributeStatus == "Accepted" and place in wanted:
                told.append((item.component, item.variable, item.attributeType, wanted[place]))
        await self._take_values(station, told)

    async def _take_values(self, station: Station, told: Iterable[tuple[Any, Any, str | None, str | None]]) -> None:
        name = station.provision.identity
        known = {record.key: record.value_json for record in self._desk.store.records(name, VARIABLE)}
        rows: dict[str, bytes] = {}
        for component, variable, kind, value in told:
            if value is None or variable.name in SECRET_VARIABLES:
                continue
            key = variable_key(component, variable)
            before = rows.get(key) or known.get(key)
            record: dict[str, Any] = msgspec.json.decode(before) if before else {"attributes": []}
            _put_value(record["attributes"], str(kind or "Actual"), value)
            rows[key] = as_json(record)
        if rows:
            await self._desk.store.put_records(name, VARIABLE, rows, self._desk.clock.wall())


def variable_key(component: Any, variable: Any) -> str:
    """`component|instance|evse|connector|variable|instance`, empty where there is none; a bar in a name is escaped."""
    evse = component.evse
    parts = (
        component.name, component.instance, evse and evse.id, evse and evse.connectorId, variable.name, variable.instance
    )  # fmt: skip
    return "|".join("" if part is None else str(part).replace("%", "%25").replace("|", "%7C") for part in parts)


def _record(item: Any) -> dict[str, Any]:
    """Attributes with type, value and mutability, and the characteristics where told."""
    is_secret = item.variable.name in SECRET_VARIABLES
    attributes = [
        without_none(
            {
                "type": attribute.type or "Actual",
                "value": None if is_secret else attribute.value,
                "mutability": attribute.mutability or "ReadWrite",
                "persistent": attribute.persistent,
                "constant": attribute.constant,
            }
        )
        for attribute in item.variableAttribute
    ]
    return without_none({"attributes": attributes, "characteristics": item.variableCharacteristics})


def _put_value(attributes: list[dict[str, Any]], kind: str, value: str) -> None:
    for attribute in attributes:
        if attribute["type"] == kind:
            attribute["value"] = value
            return
    attributes.append({"type": kind, "value": value})
