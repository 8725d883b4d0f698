"""Block B: the device model of an emulated station: variables read, written and reported."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_table import Attribute, Key, Variable, table
from gridtide.wire.ocpp.errors import RemoteProtocolError

ITEMS_PER_REPORT = 20
ITEMS_PER_MESSAGE = 100
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,9})?")
_SUMMARY = ("AvailabilityState", "Problem", "Available")
OnWrite = Callable[[str], str | None]
"""Acts on a new value; returns the reason code of a refusal, or None."""


class DeviceModel:
    """The shared table, and what differs from it here."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rows = table(core.version)
        setup = core.setup
        self._set: dict[tuple[Key, Attribute], str] = {}
        self._live: dict[tuple[Key, Attribute], Callable[[], str]] = {}
        self._on_write: dict[Key, OnWrite] = {}
        self._after_boot: dict[tuple[Key, Attribute], str] = {}
        self.fix("ChargingStation", "Model", setup.model)
        self.fix("ChargingStation", "VendorName", setup.vendor)
        self.fix("ChargingStation", "SerialNumber", core.serial)
        self.fix("SecurityCtrlr", "Identity", core.identity)
        self.fix("SecurityCtrlr", "OrganizationName", setup.organisation)
        self.fix("SecurityCtrlr", "SecurityProfile", str(setup.security_profile))
        self.fix("SampledDataCtrlr", "TxUpdatedInterval", str(max(setup.update_s, setup.least_interval_s)))
        self._set[Key("Connector", "ConnectorType", 1, 1), "Actual"] = setup.connector
        self.live("ClockCtrlr", "DateTime", lambda: core.now().isoformat())

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {
            "GetVariables": self.get_variables,
            "SetVariables": self.set_variables,
            "GetBaseReport": self.get_base_report,
            "GetReport": self.get_report,
        }

    # --- for the other blocks ---------------------------------------------------------------------------------------
    def value(self, component: str, variable: str, instance: str = "") -> str:
        """The actual value of a controller's variable; `KeyError` if there is none."""
        return self.read(Key(component, variable, instance=instance))

    def is_on(self, component: str, variable: str = "Enabled") -> bool:
        """Whether a flag is set; a flag this version lacks is not."""
        key = Key(component, variable)
        return key in self._rows and self.read(key) == "true"

    def number(self, component: str, variable: str, instance: str = "") -> int:
        """An integer variable."""
        return int(self.value(component, variable, instance))

    def fix(self, component: str, variable: str, value: str, instance: str = "") -> None:
        """Set an actual value from inside, whatever its mutability."""
        self._set[Key(component, variable, instance=instance), "Actual"] = value

    def live(
        self, component: str, variable: str, read: Callable[[], str], evse_id: int = 0, connector_id: int = 0,
        attribute: Attribute = "Actual",
    ) -> None:  # fmt: skip
        """The variable's value is whatever `read` gives."""
        self._live[Key(component, variable, evse_id, connector_id), attribute] = read

    def on_write(self, component: str, variable: str, act: OnWrite) -> None:
        """`act` sees every new value before it is taken."""
        self._on_write[Key(component, variable)] = act

    def read(self, key: Key, attribute: Attribute = "Actual") -> str:
        """The value of an attribute; `KeyError` if the variable has none of that kind."""
        live = self._live.get((key, attribute))
        if live is not None:
            return live()
        told = self._set.get((key, attribute))
        if told is not None:
            return told
        return self._rows[key].value if attribute == "Actual" else dict(self._rows[key].attributes)[attribute]

    def variable(self, key: Key) -> Variable | None:
        """The description of a variable."""
        return self._rows.get(key)

    def has_component(self, key: Key) -> bool:
        """Whether the component of `key` exists."""
        where = (key.component, key.evse_id, key.connector_id)
        return any((row.component, row.evse_id, row.connector_id) == where for row in self._rows)

    def booted(self) -> None:
        """Values that waited for a reboot take effect."""
        self._set |= self._after_boot
        self._after_boot.clear()

    # --- requests ---------------------------------------------------------------------------------------------------
    def get_variables(self, message: Any) -> Fields:
        """B06."""
        _bound(message.getVariableData)
        return {"getVariableResult": [self._got(item) for item in message.getVariableData]}

    def _got(self, item: Any) -> Fields:
        key, attribute = key_of(item.component, item.variable), item.attributeType or "Actual"
        found: Fields = {"component": item.component, "variable": item.variable}
        if item.attributeType is not None:
            found["attributeType"] = item.attributeType
        row = self._rows.get(key)
        if row is None:
            return found | {"attributeStatus": self._unknown(key)}
        if attribute not in _attributes(row):
            return found | {"attributeStatus": "NotSupportedAttributeType"}
        if row.writes == "WriteOnly":
            return found | {"attributeStatus": "Rejected", "attributeStatusInfo": {"reasonCode": "WriteOnly"}}
        return found | {"attributeStatus": "Accepted", "attributeValue": self.read(key, attribute)[:2500]}

    def set_variables(self, message: Any) -> Fields:
        """B05."""
        _bound(message.setVariableData)
        return {"setVariableResult": [self._wrote(item) for item in message.setVariableData]}

    def _wrote(self, item: Any) -> Fields:
        key, attribute = key_of(item.component, item.variable), item.attributeType or "Actual"
        done: Fields = {"component": item.component, "variable": item.variable}
        if item.attributeType is not None:
            done["attributeType"] = item.attributeType
        row = self._rows.get(key)
        if row is None:
            return done | {"attributeStatus": self._unknown(key)}
        if attribute not in _attributes(row):
            return done | {"attributeStatus": "NotSupportedAttributeType"}
        fault = self._fault(key, attribute, row, item.attributeValue)
        if fault is not None:
            return done | {"attributeStatus": "Rejected", "attributeStatusInfo": {"reasonCode": fault}}
        if row.reboots:
            self._after_boot[key, attribute] = item.attributeValue
            return done | {"attributeStatus": "RebootRequired"}
        self._set[key, attribute] = item.attributeValue
        return done | {"attributeStatus": "Accepted"}

    def _fault(self, key: Key, attribute: Attribute, row: Variable, value: str) -> str | None:
        """Why a value is not taken, or None; whoever listens has then acted on it."""
        if (row.writes == "ReadOnly" and attribute == "Actual") or attribute == "Target":
            return "ReadOnly"
        fault = _value_fault(row, value)
        if fault is None and attribute in ("MinSet", "MaxSet"):
            other = float(self.read(key, "MaxSet" if attribute == "MinSet" else "MinSet"))
            crossed = float(value) > other if attribute == "MinSet" else float(value) < other
            fault = "OutOfRange" if crossed else None
        if fault is None and key == Key("SampledDataCtrlr", "TxUpdatedInterval"):
            fault = "TooSmall" if 0 < int(value) < self._core.setup.least_interval_s else None
        act = self._on_write.get(key)
        return act(value) if fault is None and act is not None else fault

    def _unknown(self, key: Key) -> str:
        return "UnknownVariable" if self.has_component(key) else "UnknownComponent"

    def get_base_report(self, message: Any) -> Fields:
        """B07."""
        wanted = message.reportBase
        keys = [
            key for key, row in self._rows.items()
            if wanted == "FullInventory"
            or (wanted == "ConfigurationInventory" and row.writes != "ReadOnly")
            or (wanted == "SummaryInventory" and key.variable in _SUMMARY)
        ]  # fmt: skip
        return self._report(message.requestId, keys)

    def get_report(self, message: Any) -> Fields:
        """B08: components and variables, criteria, or both."""
        keys: Iterable[Key] = self._rows
        if message.componentVariable is not None:
            _bound(message.componentVariable)
            keys = [key for key in keys if any(matches(key, item) for item in message.componentVariable)]
        if message.componentCriteria is not None:
            keys = [key for key in keys if any(self._meets(key, criterion) for criterion in message.componentCriteria)]
        return self._report(message.requestId, list(keys))

    def _meets(self, key: Key, criterion: str) -> bool:
        """Whether the component's flag of that name is true; one without such a flag meets it (B08.FR.09), but no problem."""
        flag = Key(key.component, criterion, key.evse_id, key.connector_id)
        return self.read(flag) == "true" if flag in self._rows else criterion != "Problem"

    def _report(self, request_id: int, keys: list[Key]) -> Fields:
        if not keys:
            return status("EmptyResultSet")
        self._core.soon(lambda: self._tell(request_id, keys))
        return status("Accepted")

    def _tell(self, request_id: int, keys: list[Key]) -> None:
        at = self._core.now()
        parts = [keys[i : i + ITEMS_PER_REPORT] for i in range(0, len(keys), ITEMS_PER_REPORT)]
        for number, part in enumerate(parts):
            self._core.say(
                "NotifyReport",
                {"requestId": request_id, "generatedAt": at, "seqNo": number, "tbc": number + 1 < len(parts),
                 "reportData": [self._row(key) for key in part]},
                asked=True,
            )  # fmt: skip

    def _row(self, key: Key) -> Fields:
        row = self._rows[key]
        attributes: list[Fields] = []
        for kind in _attributes(row):
            writes = "ReadWrite" if kind in ("MinSet", "MaxSet") else row.writes if kind == "Actual" else "ReadOnly"
            shown: Fields = {} if row.writes == "WriteOnly" else {"value": self.read(key, kind)[:2500]}
            attributes.append({"type": kind, "mutability": writes, "persistent": True, **shown})
        what: Fields = {"dataType": row.kind, "supportsMonitoring": row.watched}
        told = {"unit": row.unit, "minLimit": row.low, "maxLimit": row.high, "valuesList": ",".join(row.options)}
        what |= {name: value for name, value in told.items() if value not in (None, "")}
        return {**names_of(key), "variableAttribute": attributes, "variableCharacteristics": what}


def key_of(component: Any, variable: Any) -> Key:
    """The key of a component and variable as named on the wire."""
    evse = component.evse
    name = component.name if component.instance is None else f"{component.name}:{component.instance}"
    evse_id, connector_id = (evse.id, evse.connectorId or 0) if evse is not None else (0, 0)
    return Key(name, variable.name, evse_id, connector_id, variable.instance or "")


def names_of(key: Key) -> Fields:
    """Component and variable as on the wire."""
    component: Fields = {"name": key.component}
    if key.evse_id:
        component["evse"] = {"id": key.evse_id} | ({"connectorId": key.connector_id} if key.connector_id else {})
    variable = {"name": key.variable} | ({"instance": key.instance} if key.instance else {})
    return {"component": component, "variable": variable}


def matches(key: Key, wanted: Any) -> bool:
    """Whether a ComponentVariable asks for `key`; what it leaves open matches everything."""
    component, variable = wanted.component, wanted.variable
    if component.name != key.component or component.instance is not None:
        return False
    if component.evse is not None and (component.evse.id, component.evse.connectorId or key.connector_id) != (
        key.evse_id, key.connector_id,
    ):  # fmt: skip
        return False
    return variable is None or (variable.name == key.variable and variable.instance in (None, key.instance))


def _attributes(row: Variable) -> tuple[Attribute, ...]:
    return ("Actual", *(kind for kind, _ in row.attributes))


def _bound(items: Any) -> None:
    if len(items) > ITEMS_PER_MESSAGE:
        raise RemoteProtocolError(
            "OccurrenceConstraintViolation", f"more than {ITEMS_PER_MESSAGE} items in one message"
        )


def _value_fault(row: Variable, value: str) -> str | None:
    """Why a text is no value of the variable, or None."""
    try:
        if row.kind in ("integer", "decimal"):
            if not (_INTEGER if row.kind == "integer" else _DECIMAL).fullmatch(value):
                return "InvalidValue"
            inside = (row.low is None or float(value) >= row.low) and (row.high is None or float(value) <= row.high)
            return None if inside else "OutOfRange"
        if row.kind == "dateTime":
            return None if datetime.fromisoformat(value).tzinfo is not None else "InvalidValue"
    except ValueError:
        return "InvalidValue"
    if row.kind == "boolean":
        return None if value in ("true", "false") else "InvalidValue"
    if row.kind == "string":
        return None if (row.low or 0) <= len(value) <= (row.high or 2500) else "InvalidValue"
    chosen = [value] if row.kind == "OptionList" else [part for part in value.split(",") if part]
    good = len(set(chosen)) == len(chosen) and all(part in row.options for part in chosen)
    return None if good else "InvalidValue"
