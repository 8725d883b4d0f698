"""Which OCPP actions exist per version, who may send them, and which of them control power."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.structs import WireStruct

Version: TypeAlias = Literal["2.0.1", "2.1"]
Role: TypeAlias = Literal["csms", "station"]
Subprotocol: TypeAlias = Literal["ocpp2.1", "ocpp2.0.1"]

TABLES: Final[dict[Version, dict[str, tuple[type[WireStruct], type[WireStruct] | None]]]] = {
    "2.0.1": v201.ACTIONS,
    "2.1": v21.ACTIONS,
}
FROM_BOTH: Final = frozenset({"DataTransfer", "NotifyWebPaymentStarted"})
"""Both directions; NotifyWebPaymentStarted because the schemas do not tell its direction."""

FROM_STATION: Final = frozenset(
    {
        "Authorize",
        "BatterySwap",
        "BootNotification",
        "ClearedChargingLimit",
        "ClosePeriodicEventStream",
        "FirmwareStatusNotification",
        "Get15118EVCertificate",
        "GetCertificateChainStatus",
        "GetCertificateStatus",
        "Heartbeat",
        "LogStatusNotification",
        "MeterValues",
        "NotifyChargingLimit",
        "NotifyCustomerInformation",
        "NotifyDERAlarm",
        "NotifyDERStartStop",
        "NotifyDisplayMessages",
        "NotifyEVChargingNeeds",
        "NotifyEVChargingSchedule",
        "NotifyEvent",
        "NotifyMonitoringReport",
        "NotifyPeriodicEventStream",
        "NotifyPriorityCharging",
        "NotifyReport",
        "NotifySettlement",
        "OpenPeriodicEventStream",
        "PublishFirmwareStatusNotification",
        "PullDynamicScheduleUpdate",
        "ReportChargingProfiles",
        "ReportDERControl",
        "ReservationStatusUpdate",
        "SecurityEventNotification",
        "SignCertificate",
        "StatusNotification",
        "TransactionEvent",
        "VatNumberValidation",
    }
)
"""Actions a station sends; all others but `FROM_BOTH` are sent by the CSMS."""

CONTROL_ACTIONS: Final = frozenset(
    {
        "AFRRSignal",
        "ChangeAvailability",
        "ClearChargingProfile",
        "ClearDERControl",
        "NotifyAllowedEnergyTransfer",
        "RequestStartTransaction",
        "RequestStopTransaction",
        "SetChargingProfile",
        "SetDERControl",
        "UpdateDynamicSchedule",
        "UsePriorityCharging",
    }
)
"""Actions that steer power; they get the short time limit."""

REPORTS_ASKED_BY: Final[dict[str, str]] = {
    "CustomerInformation": "NotifyCustomerInformation",
    "GetBaseReport": "NotifyReport",
    "GetChargingProfiles": "ReportChargingProfiles",
    "GetDERControl": "ReportDERControl",
    "GetDisplayMessages": "NotifyDisplayMessages",
    "GetLog": "LogStatusNotification",
    "GetMonitoringReport": "NotifyMonitoringReport",
    "GetReport": "NotifyReport",
    "PublishFirmware": "PublishFirmwareStatusNotification",
    "UpdateFirmware": "FirmwareStatusNotification",
}
"""CSMS request -> station message it asks for (allowed while the station is Pending)."""

TRIGGERED_ACTIONS: Final[dict[str, str]] = {
    "SignChargingStationCertificate": "SignCertificate",
    "SignCombinedCertificate": "SignCertificate",
    "SignV2G20Certificate": "SignCertificate",
    "SignV2GCertificate": "SignCertificate",
}
"""TriggerMessage.requestedMessage -> action, where the two differ."""

_SUBPROTOCOLS: Final[tuple[Subprotocol, ...]] = ("ocpp2.1", "ocpp2.0.1")
_IDENTITY: Final = re.compile(r"[A-Za-z0-9*+=:|@._-]{1,48}")


def choose_subprotocol(offered: Iterable[str]) -> Subprotocol | None:
    """The newest version both sides speak, or None when there is none (the connection is then refused)."""
    names = {name.strip() for name in offered}
    return next((known for known in _SUBPROTOCOLS if known in names), None)


def identity_of(path: str) -> str | None:
    """Station identity: last segment of the URL path, percent-decoded; None unless it fits the identity pattern."""
    segment = path.split("?", 1)[0].rsplit("/", 1)[-1]
    try:
        identity = unquote_to_bytes(segment).decode("ascii")
    except UnicodeError:
        return None
    return identity if _IDENTITY.fullmatch(identity) else None


def may_send(role: Role, action: str) -> bool:
    """Whether a peer in `role` may send `action` (known actions only)."""
    return action in FROM_BOTH or (action in FROM_STATION) == (role == "station")
