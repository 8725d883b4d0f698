"""The variables of an emulated station: the standard's components as far as the emulator acts on them (B05-B08)."""

from functools import cache
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.operation_modes import NEEDED

Attribute: TypeAlias = Literal["Actual", "Target", "MinSet", "MaxSet"]
Mutability: TypeAlias = Literal["ReadOnly", "WriteOnly", "ReadWrite"]
DataType: TypeAlias = Literal[
    "string", "decimal", "integer", "dateTime", "boolean", "OptionList", "SequenceList", "MemberList"
]


class Key(Struct, frozen=True, order=True):
    """Where a variable stands; empty and 0 mean none."""

    component: str
    variable: str
    evse_id: int = 0
    connector_id: int = 0
    instance: str = ""
    """Instance of the variable."""


class Variable(Struct, frozen=True, kw_only=True):
    """One variable: how it begins, what it accepts."""

    value: str
    kind: DataType = "string"
    writes: Mutability = "ReadOnly"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    reboots: bool = False
    """A new value takes effect with the next boot."""
    watched: bool = False
    """Monitors are supported."""
    attributes: tuple[tuple[Attribute, str], ...] = ()
    """Further attributes besides Actual, with their first value; MinSet and MaxSet are writable."""


LONGEST_S: Final = 10 * 365 * 86_400
"""Ten years: no interval is longer, and every sum with an instant stays one."""


def _flag(value: bool, writes: Mutability = "ReadWrite") -> Variable:
    return Variable(value="true" if value else "false", kind="boolean", writes=writes)


def _count(
    value: int, low: int = 0, high: int = LONGEST_S, unit: str = "", writes: Mutability = "ReadWrite"
) -> Variable:
    return Variable(value=str(value), kind="integer", writes=writes, unit=unit, low=low, high=high)


def _list(value: str, options: str, kind: DataType = "MemberList", writes: Mutability = "ReadWrite") -> Variable:
    return Variable(value=value, kind=kind, writes=writes, options=tuple(options.split(",")))


def _told(value: str, kind: DataType = "string", unit: str = "", *, watched: bool = False) -> Variable:
    return Variable(value=value, kind=kind, unit=unit, watched=watched)


STATES: Final = "Available,Occupied,Reserved,Unavailable,Faulted"
MODES: Final = ",".join(sorted(NEEDED))
_MEASURANDS: Final = (
    "Power.Active.Import,Power.Active.Export,SoC,Energy.Active.Import.Register,Energy.Active.Export.Register"
)
_POINTS: Final = "ParkingBayOccupancy,EVConnected,Authorized,PowerPathClosed,EnergyTransfer,DataSigned"

_HARDWARE: Final[dict[tuple[str, str], Variable]] = {
    ("ChargingStation", "AvailabilityState"): Variable(
        value="Available", kind="OptionList", options=tuple(STATES.split(",")), watched=True
    ),
    ("ChargingStation", "Available"): _flag(True, "ReadOnly"),
    ("ChargingStation", "Problem"): Variable(value="false", kind="boolean", watched=True),
    ("ChargingStation", "Model"): _told("Twin"),
    ("ChargingStation", "VendorName"): _told("gridtide"),
    ("ChargingStation", "SerialNumber"): _told(""),
    ("ChargingStation", "SupplyPhases"): _told("3", "integer"),
    ("FirmwareCtrlr", "FirmwareVersion"): _told("1.0.0"),
    ("TemperatureSensor", "Temperature"): Variable(
        value="25", kind="decimal", unit="Celsius", watched=True, attributes=(("MinSet", "-30"), ("MaxSet", "85"))
    ),
}

_EVSE: Final[dict[tuple[str, str], Variable]] = {
    ("EVSE", "AvailabilityState"): Variable(
        value="Available", kind="OptionList", options=tuple(STATES.split(",")), watched=True
    ),
    ("EVSE", "Available"): _flag(True, "ReadOnly"),
    ("EVSE", "SupplyPhases"): _told("3", "integer"),
    ("EVSE", "Power"): Variable(value="0", kind="decimal", unit="W", watched=True, attributes=(("Target", "0"),)),
    ("ConnectedEV", "StateOfCharge"): _told("0", "decimal", "Percent", watched=True),
}

_CONNECTOR: Final[dict[tuple[str, str], Variable]] = {
    ("Connector", "AvailabilityState"): Variable(
        value="Available", kind="OptionList", options=tuple(STATES.split(",")), watched=True
    ),
    ("Connector", "Available"): _flag(True, "ReadOnly"),
    ("Connector", "ConnectorType"): _told("cCCS2"),
    ("Connector", "SupplyPhases"): _told("3", "integer"),
}

_CONTROLLERS: Final[dict[tuple[str, str], Variable]] = {
    ("OCPPCommCtrlr", "HeartbeatInterval"): _count(300, 1, unit="s"),
    ("OCPPCommCtrlr", "MessageTimeout"): _count(30, 1, 300, "s"),
    ("OCPPCommCtrlr", "WebSocketPingInterval"): _count(0, unit="s"),
    ("OCPPCommCtrlr", "OfflineThreshold"): _count(60, unit="s"),
    ("OCPPCommCtrlr", "MessageAttempts"): _count(3, 1, 20),
    ("OCPPCommCtrlr", "MessageAttemptInterval"): _count(10, 1, 3600, "s"),
    ("OCPPCommCtrlr", "NetworkProfileConnectionAttempts"): _count(3, 1, 100),
    ("OCPPCommCtrlr", "ResetRetries"): _count(1, 0, 10),
    ("OCPPCommCtrlr", "UnlockOnEVSideDisconnect"): _flag(True),
    ("OCPPCommCtrlr", "FileTransferProtocols"): _list("HTTPS", "HTTP,HTTPS,FTP,FTPS,SFTP", writes="ReadOnly"),
    ("OCPPCommCtrlr", "NetworkConfigurationPriority"): Variable(
        value="0", kind="SequenceList", writes="ReadWrite", options=("0", "1", "2", "3"), reboots=True
    ),
    ("SecurityCtrlr", "BasicAuthPassword"): Variable(value="", writes="WriteOnly", low=16, high=40),
    ("SecurityCtrlr", "Identity"): Variable(value="", writes="ReadWrite", high=48, reboots=True),
    ("SecurityCtrlr", "OrganizationName"): Variable(value="gridtide", writes="ReadWrite", high=64),
    ("SecurityCtrlr", "SecurityProfile"): _told("1", "integer"),
    ("SecurityCtrlr", "CertificateEntries"): _told("0", "integer"),
    ("SecurityCtrlr", "CertSigningWaitMinimum"): _count(300, 250, unit="s"),
    ("SecurityCtrlr", "CertSigningRepeatTimes"): _count(3, 0, 10),
    ("SecurityCtrlr", "AdditionalRootCertificateCheck"): _flag(False, "ReadOnly"),
    ("SampledDataCtrlr", "Enabled"): _flag(True),
    ("SampledDataCtrlr", "TxUpdatedInterval"): _count(60, 0, unit="s"),
    ("SampledDataCtrlr", "TxUpdatedMeasurands"): _list(_MEASURANDS, _MEASURANDS),
    ("SampledDataCtrlr", "TxStartedMeasurands"): _list(_MEASURANDS, _MEASURANDS),
    ("SampledDataCtrlr", "TxEndedMeasurands"): _list(_MEASURANDS, _MEASURANDS),
    ("SampledDataCtrlr", "TxEndedInterval"): _count(0, unit="s"),
    ("AlignedDataCtrlr", "Interval"): _count(0, unit="s"),
    ("AlignedDataCtrlr", "Measurands"): _list(_MEASURANDS, _MEASURANDS),
    ("AlignedDataCtrlr", "TxEndedInterval"): _count(0, unit="s"),
    ("AlignedDataCtrlr", "TxEndedMeasurands"): _list(_MEASURANDS, _MEASURANDS),
    ("TxCtrlr", "EVConnectionTimeOut"): _count(60, 1, unit="s"),
    ("TxCtrlr", "StopTxOnInvalidId"): _flag(True),
    ("TxCtrlr", "StopTxOnEVSideDisconnect"): _flag(True, "ReadOnly"),
    ("TxCtrlr", "MaxEnergyOnInvalidId"): _count(0, unit="Wh"),
    ("TxCtrlr", "TxStartPoint"): _list("PowerPathClosed", _POINTS, writes="ReadOnly"),
    ("TxCtrlr", "TxStopPoint"): _list("EVConnected,Authorized", _POINTS, writes="ReadOnly"),
    ("AuthCtrlr", "Enabled"): _flag(True, "ReadOnly"),
    ("AuthCtrlr", "AuthorizeRemoteStart"): _flag(False),
    ("AuthCtrlr", "LocalAuthorizeOffline"): _flag(True),
    ("AuthCtrlr", "LocalPreAuthorize"): _flag(True),
    ("AuthCtrlr", "OfflineTxForUnknownIdEnabled"): _flag(False),
    ("AuthCtrlr", "DisableRemoteAuthorization"): _flag(False),
    ("AuthCtrlr", "MasterPassGroupId"): Variable(value="", writes="ReadWrite", high=36),
    ("AuthCacheCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("AuthCacheCtrlr", "Enabled"): _flag(True),
    ("AuthCacheCtrlr", "LifeTime"): _count(86_400, 1, unit="s"),
    ("LocalAuthListCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("LocalAuthListCtrlr", "Enabled"): _flag(True),
    ("LocalAuthListCtrlr", "Entries"): _told("0", "integer"),
    ("LocalAuthListCtrlr", "ItemsPerMessage"): _count(100, writes="ReadOnly"),
    ("LocalAuthListCtrlr", "BytesPerMessage"): _count(65_536, writes="ReadOnly"),
    ("SmartChargingCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("SmartChargingCtrlr", "Enabled"): _flag(True),
    ("SmartChargingCtrlr", "Entries"): _told("0", "integer"),
    ("SmartChargingCtrlr", "ProfileStackLevel"): _count(10, writes="ReadOnly"),
    ("SmartChargingCtrlr", "RateUnit"): _list("W,A", "W,A", writes="ReadOnly"),
    ("SmartChargingCtrlr", "PeriodsPerSchedule"): _count(1024, writes="ReadOnly"),
    ("SmartChargingCtrlr", "Phases3to1"): _flag(False, "ReadOnly"),
    ("SmartChargingCtrlr", "LimitChangeSignificance"): Variable(
        value="5", kind="decimal", writes="ReadWrite", unit="Percent", low=0, high=100
    ),
    ("SmartChargingCtrlr", "ExternalControlSignalsEnabled"): _flag(True),
    ("SmartChargingCtrlr", "NotifyChargingLimitWithSchedules"): _flag(True),
    ("TariffCostCtrlr", "Enabled"): _flag(True),
    ("TariffCostCtrlr", "Currency"): Variable(value="EUR", writes="ReadWrite", high=3),
    ("ReservationCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("ReservationCtrlr", "Enabled"): _flag(True),
    ("ReservationCtrlr", "NonEvseSpecific"): _flag(True, "ReadOnly"),
    ("DisplayMessageCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("DisplayMessageCtrlr", "Enabled"): _flag(True),
    ("DisplayMessageCtrlr", "DisplayMessages"): _told("0", "integer"),
    ("DisplayMessageCtrlr", "SupportedFormats"): _list("ASCII,UTF8", "ASCII,HTML,URI,UTF8", writes="ReadOnly"),
    ("DisplayMessageCtrlr", "SupportedPriorities"): _list(
        "AlwaysFront,InFront,NormalCycle", "AlwaysFront,InFront,NormalCycle", writes="ReadOnly"
    ),
    ("MonitoringCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("MonitoringCtrlr", "Enabled"): _flag(True),
    ("MonitoringCtrlr", "MonitoringBase"): _list("All", "All,FactoryDefault,HardWiredOnly", "OptionList", "ReadOnly"),
    ("MonitoringCtrlr", "MonitoringLevel"): _count(9, 0, 9, writes="ReadOnly"),
    ("DeviceDataCtrlr", "ValueSize"): _count(2500, writes="ReadOnly"),
    ("DeviceDataCtrlr", "ReportingValueSize"): _count(2500, writes="ReadOnly"),
    ("ClockCtrlr", "DateTime"): _told("", "dateTime"),
    ("ClockCtrlr", "TimeSource"): _list(
        "Heartbeat", "Heartbeat,NTP,GPS,RealTimeClock,MobileNetwork,RadioTimeTransmitter"
    ),
    ("ClockCtrlr", "TimeZone"): Variable(value="UTC", writes="ReadWrite", high=40),
    ("CustomizationCtrlr", "CustomImplementationEnabled"): _flag(True, "ReadOnly"),
    ("ISO15118Ctrlr", "Enabled"): _flag(True),
    ("ISO15118Ctrlr", "ContractValidationOffline"): _flag(False),
    ("ISO15118Ctrlr", "CentralContractValidationAllowed"): _flag(True),
    ("ISO15118Ctrlr", "SeccId"): Variable(value="", writes="ReadWrite", high=64),
    ("ISO15118Ctrlr", "V2GCertificateInstallationEnabled"): _flag(True),
}

_ONLY_21: Final[dict[tuple[str, str], Variable]] = {
    ("V2XChargingCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("V2XChargingCtrlr", "Enabled"): _flag(True),
    ("V2XChargingCtrlr", "SupportedOperationModes"): _list(MODES, MODES, writes="ReadOnly"),
    ("V2XChargingCtrlr", "SupportedEnergyTransferModes"): _list("DC,DC_BPT", "DC,DC_BPT", writes="ReadOnly"),
    ("ISO15118Ctrlr", "ServiceRenegotiationSupport"): _flag(True, "ReadOnly"),
    ("ISO15118Ctrlr", "ProtocolSupported"): _told("urn:iso:std:iso:15118:-20:DC,1,0"),
    ("DCDERCtrlr", "Available"): _flag(True, "ReadOnly"),
    ("DCDERCtrlr", "Enabled"): _flag(True),
    ("ACDERCtrlr", "Available"): _flag(False, "ReadOnly"),
    ("ACDERCtrlr", "Enabled"): _flag(False),
    ("SecurityCtrlr", "AllowSecurityProfileDowngrade"): _flag(False),
    ("PaymentCtrlr", "Enabled"): _flag(True),
}

_INSTANCES: Final[dict[tuple[str, str, str], Variable]] = {
    ("DeviceDataCtrlr", "ItemsPerMessage", "GetReport"): _count(100, writes="ReadOnly"),
    ("DeviceDataCtrlr", "ItemsPerMessage", "GetVariables"): _count(100, writes="ReadOnly"),
    ("DeviceDataCtrlr", "ItemsPerMessage", "SetVariables"): _count(100, writes="ReadOnly"),
    ("MonitoringCtrlr", "ItemsPerMessage", "SetVariableMonitoring"): _count(100, writes="ReadOnly"),
    ("MonitoringCtrlr", "ItemsPerMessage", "ClearVariableMonitoring"): _count(100, writes="ReadOnly"),
}
_PER_MESSAGE: Final = frozenset({("OCPPCommCtrlr", "MessageAttempts"), ("OCPPCommCtrlr", "MessageAttemptInterval")})


@cache
def table(version: Version) -> dict[Key, Variable]:
    """Every variable of a station of `version`, in reporting order."""
    rows = {Key(*name): item for name, item in _HARDWARE.items()}
    rows |= {Key(*name, 1): item for name, item in _EVSE.items()}
    rows |= {Key(*name, 1, 1): item for name, item in _CONNECTOR.items()}
    for name, item in _CONTROLLERS.items():
        # The standard names these per kind of message.
        rows[Key(*name, instance="TransactionEvent" if name in _PER_MESSAGE else "")] = item
    rows |= {Key(c, v, instance=instance): item for (c, v, instance), item in _INSTANCES.items()}
    return rows | ({Key(*name): item for name, item in _ONLY_21.items()} if version == "2.1" else {})
