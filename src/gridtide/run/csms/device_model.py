"""The device model of every station: what NotifyReport, GetVariables and SetVariables tell of its variables (block B)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.hidden import is_secret
from gridtide.run.csms.keeping import as_json, without_none
from gridtide.run.csms.parts import PartBook
from gridtide.run.csms.station import Station
from gridtide.run.store.rows import StationRecord
from gridtide.wire.ocpp.checks import KNOWN_MUTABILITY, Mutability, VariableKey
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.profile_rules import ProfileLimits
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
            if value is None or is_secret(variable.name):
                continue
            key = variable_key(component, variable)
            before = rows.get(key) or known.get(key)
            record: dict[str, Any] = msgspec.json.decode(before) if before else {"attributes": []}
            if _hides(record["attributes"], str(kind or "Actual")):
                continue
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


def rules_told(records: Iterable[StationRecord]) -> tuple[ProfileLimits, dict[VariableKey, Mutability]]:
    """What a station reported that binds our requests: limits of charging profiles, and which variables can be written or
    read, where all of that name are alike."""
    limits: dict[str, int] = {}
    found: dict[VariableKey, set[Mutability]] = {}
    for record in records:
        component, _, _, _, variable, _ = record.key.split("|")
        for attribute in msgspec.json.decode(record.value_json)["attributes"]:
            if attribute["type"] != "Actual":
                continue
            if "mutability" in attribute:
                found.setdefault((component, variable), set()).add(attribute["mutability"])
            value = str(attribute.get("value", ""))
            if component == "SmartChargingCtrlr" and value.isascii() and value.isdigit() and len(value) < 10:
                limits[variable] = min(int(value), limits.get(variable, int(value)))
    told = ProfileLimits(max_stack_level=limits.get("ProfileStackLevel"), max_periods=limits.get("PeriodsPerSchedule"))
    return told, {key: next(iter(kinds)) for key, kinds in found.items() if len(kinds) == 1}


def shown(key: str, value: Any) -> Any:
    """A record as people may see it: also what was stored before its name counted as secret stays hidden."""
    if not is_secret(key.split("|")[4]):
        return value
    told = [{name: item for name, item in attribute.items() if name != "value"} for attribute in value["attributes"]]
    return {**value, "attributes": told}


def _record(item: Any) -> dict[str, Any]:
    """Attributes with type, value and mutability, and the characteristics where told."""
    hides = is_secret(item.variable.name)
    attributes = [
        without_none(
            {
                "type": attribute.type or "Actual",
                "value": None if hides or attribute.mutability == "WriteOnly" else attribute.value,
                "mutability": attribute.mutability or "ReadWrite",
                "persistent": attribute.persistent,
                "constant": attribute.constant,
            }
        )
        for attribute in item.variableAttribute
    ]
    return without_none({"attributes": attributes, "characteristics": item.variableCharacteristics})


def is_write_only(key: VariableKey, told: Mapping[VariableKey, Mutability]) -> bool:
    """Whether nobody may read a variable: as the station reported (`rules_told`), else as the standard says."""
    return (told.get(key) or KNOWN_MUTABILITY.get(key)) == "WriteOnly"


def _hides(attributes: list[dict[str, Any]], kind: str) -> bool:
    """Whether the attribute of this kind is known to be write-only: then its value is a secret."""
    return any(item["type"] == kind and item.get("mutability") == "WriteOnly" for item in attributes)


def _put_value(attributes: list[dict[str, Any]], kind: str, value: str) -> None:
    for attribute in attributes:
        if attribute["type"] == kind:
            attribute["value"] = value
            return
    attributes.append({"type": kind, "value": value})
