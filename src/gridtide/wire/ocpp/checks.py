"""Rules that a request of ours must satisfy beyond its schema, before it is sent. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from gridtide.wire.ocpp.der import der_problems
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.problems import Problem, not_finite, problem
from gridtide.wire.ocpp.profile_rules import ProfileLimits, is_discharging, period_discharges, profile_problems
from gridtide.wire.ocpp.structs import WireStruct

Mutability: TypeAlias = Literal["ReadOnly", "WriteOnly", "ReadWrite"]
VariableKey: TypeAlias = tuple[str, str]
"""Component name, variable name."""

KNOWN_MUTABILITY: Final[Mapping[VariableKey, Mutability]] = {
    ("SecurityCtrlr", "BasicAuthPassword"): "WriteOnly",
    ("SecurityCtrlr", "CertificateEntries"): "ReadOnly",
    ("SecurityCtrlr", "SecurityProfile"): "ReadOnly",
    ("SecurityCtrlr", "Identity"): "ReadWrite",
    ("OCPPCommCtrlr", "ActiveNetworkProfile"): "ReadOnly",
    ("LocalAuthListCtrlr", "Entries"): "ReadOnly",
    ("SmartChargingCtrlr", "Entries"): "ReadOnly",
    ("SmartChargingCtrlr", "ProfileStackLevel"): "ReadOnly",
    ("SmartChargingCtrlr", "PeriodsPerSchedule"): "ReadOnly",
    ("SmartChargingCtrlr", "RateUnit"): "ReadOnly",
    ("DeviceDataCtrlr", "ItemsPerMessage"): "ReadOnly",
    ("DeviceDataCtrlr", "BytesPerMessage"): "ReadOnly",
}
"""What the standard fixes; a station's own report goes before it."""

PASSWORD_CHARS: Final = (16, 40)
DEFAULT_SIGNALS: Final = (-100, 100)
"""AFRRSignal in percent, where the station's curve is not known."""

_BIDIRECTIONAL: Final = "BPT"
"""Part of the name of every energy transfer mode that can discharge."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the station a request goes to."""

    now: datetime
    profile_limits: ProfileLimits = ProfileLimits()
    mutability: Mapping[VariableKey, Mutability] = {}
    signal_curve: tuple[int, ...] | None = None
    """Signals of the v2xSignalWattCurve in force; None: not known."""
    allows_discharge: bool = True
    """False for a station that must not discharge, whatever a request says (dialect `refuse`)."""


def request_problems(action: str, payload: WireStruct, context: Context) -> tuple[Problem, ...]:
    """Why `payload` must not be sent as `action`; empty when nothing speaks against it. Never raises on odd values."""
    rule = _RULES.get(action)
    found = tuple(rule(payload, context)) if rule is not None else ()
    return found if action in _NUMBERS_CHECKED else (*found, *not_finite(payload))


def _set_profile(request: Any, context: Context) -> Iterator[Problem]:
    yield from _profile(request.chargingProfile, request.evseId, context, is_for_start=False)


def _remote_start(request: Any, context: Context) -> Iterator[Problem]:
    if request.evseId is not None and request.evseId <= 0:
        yield problem("evseId", request.evseId, "a transaction starts at one EVSE: 1 or more (F01)")
    if not request.idToken.idToken and request.idToken.type != "NoAuthorization":
        yield problem("idToken.idToken", "empty", "only type NoAuthorization has an empty token")
    if request.chargingProfile is not None:
        yield from _profile(request.chargingProfile, request.evseId or 1, context, is_for_start=True)
    yield from not_finite(request.idToken, "idToken")


def _profile(profile: Any, evse_id: int, context: Context, *, is_for_start: bool) -> Iterator[Problem]:
    yield from profile_problems(profile, evse_id, context.now, context.profile_limits, is_for_start=is_for_start)
    if not context.allows_discharge and is_discharging(profile):
        yield problem("chargingProfile", "discharging", "this station must not discharge: set its dialect")


def _update_schedule(request: v21.UpdateDynamicScheduleRequest, context: Context) -> Iterator[Problem]:
    update = request.scheduleUpdate
    names = [name for name in update.__struct_fields__ if name != "customData"]
    if all(getattr(update, name) is None for name in names):
        yield problem("scheduleUpdate", "empty", "give a limit, dischargeLimit or setpoint")
    for name, sign in (("limit", -1.0), ("dischargeLimit", 1.0)):
        for phase in ("", "_L2", "_L3"):
            value = getattr(update, name + phase)
            if value is not None and value * sign > 0.0:
                cure = "0 or more" if name == "limit" else "0 or less"
                yield problem(f"scheduleUpdate.{name}{phase}", value, cure)
    setpoints = [value for value in (update.setpoint, update.setpoint_L2, update.setpoint_L3) if value is not None]
    if any(value < 0.0 for value in setpoints) and any(value > 0.0 for value in setpoints):
        yield problem("scheduleUpdate.setpoint", setpoints, "the phases must not differ in sign")
    if not context.allows_discharge and period_discharges(update):
        yield problem("scheduleUpdate", "discharging", "this station must not discharge: set its dialect")


def _set_der(request: v21.SetDERControlRequest, context: Context) -> Iterator[Problem]:
    yield from der_problems(request, context.now)


def _clear_der(request: v21.ClearDERControlRequest, _context: Context) -> Iterator[Problem]:
    if request.controlId is not None and request.controlType is not None:
        yield problem("controlType", request.controlType, "leave it out where controlId names the control")


def _allowed_transfer(request: v21.NotifyAllowedEnergyTransferRequest, context: Context) -> Iterator[Problem]:
    modes = request.allowedEnergyTransfer
    if not request.transactionId:
        yield problem("transactionId", "empty", "name the running transaction")
    if len(set(modes)) != len(modes):
        yield problem("allowedEnergyTransfer", list(modes), "name every mode once")
    giving = [mode for mode in modes if _BIDIRECTIONAL in mode]
    if giving and not context.allows_discharge:
        yield problem("allowedEnergyTransfer", giving, "this station must not discharge: leave the BPT modes out")


def _afrr(request: v21.AFRRSignalRequest, context: Context) -> Iterator[Problem]:
    curve = context.signal_curve
    if curve == ():
        yield problem("signal", request.signal, "no v2xSignalWattCurve is in force: send the profile first (Q07)")
        return
    low, high = (min(curve), max(curve)) if curve else DEFAULT_SIGNALS
    if not low <= request.signal <= high:
        yield problem("signal", request.signal, f"the curve holds {low} to {high}")


def _reserve(request: Any, context: Context) -> Iterator[Problem]:
    if request.expiryDateTime <= context.now:
        yield problem("expiryDateTime", request.expiryDateTime, "a reservation ends in the future")
    if request.evseId is not None and request.evseId <= 0:
        yield problem("evseId", request.evseId, "name an EVSE, 1 or more, or leave it out")
    if not request.idToken.idToken:
        yield problem("idToken.idToken", "empty", "a reservation is for somebody")


def _set_variables(request: Any, context: Context) -> Iterator[Problem]:
    for index, item in enumerate(request.setVariableData):
        place, key = f"setVariableData[{index}]", (item.component.name, item.variable.name)
        if (item.attributeType or "Actual") == "Actual" and _mutability(key, context) == "ReadOnly":
            yield problem(f"{place}.variable", key[1], "it is read-only")
        low, high = PASSWORD_CHARS
        # The value is a secret: the problem tells its length alone.
        if key == ("SecurityCtrlr", "BasicAuthPassword") and not low <= len(item.attributeValue) <= high:
            length = f"{len(item.attributeValue)} characters"
            yield problem(f"{place}.attributeValue", length, f"a password has {low} to {high}")


def _get_variables(request: Any, context: Context) -> Iterator[Problem]:
    for index, item in enumerate(request.getVariableData):
        key = (item.component.name, item.variable.name)
        if (item.attributeType or "Actual") == "Actual" and _mutability(key, context) == "WriteOnly":
            yield problem(f"getVariableData[{index}].variable", key[1], "it can only be written (A01.FR.12)")


def _mutability(key: VariableKey, context: Context) -> Mutability:
    return context.mutability.get(key) or KNOWN_MUTABILITY.get(key, "ReadWrite")


def _local_list(request: Any, _context: Context) -> Iterator[Problem]:
    """D01: a version above 0, no token twice; a full update removes nobody by leaving idTokenInfo out."""
    if request.versionNumber <= 0:
        yield problem("versionNumber", request.versionNumber, "give more than 0; 0 means that there is no list")
    entries = request.localAuthorizationList or ()
    keys = [(item.idToken.idToken.casefold(), item.idToken.type) for item in entries]
    if len(set(keys)) != len(keys):
        yield problem("localAuthorizationList", f"{len(keys)} entries", "name every token once")
    if request.updateType == "Differential" and not entries:
        yield problem("localAuthorizationList", None, "a differential update without entries changes nothing")
    for index, item in enumerate(entries):
        if request.updateType == "Full" and item.idTokenInfo is None:
            field = f"localAuthorizationList[{index}].idTokenInfo"
            yield problem(field, None, "a full list tells the status of every token (D01.FR.17)")


def _composite(request: Any, _context: Context) -> Iterator[Problem]:
    if request.duration <= 0:
        yield problem("duration", request.duration, "give more than 0 s")
    if request.evseId < 0:
        yield problem("evseId", request.evseId, "give 0 for the station or an EVSE")


def _clear_profile(request: Any, _context: Context) -> Iterator[Problem]:
    criteria = request.chargingProfileCriteria
    if request.chargingProfileId is None and criteria is None:
        yield problem("chargingProfileId", None, "give an id or criteria (K10.FR.02)")


def _availability(request: Any, _context: Context) -> Iterator[Problem]:
    evse = request.evse
    if evse is not None and evse.id <= 0:
        yield problem("evse.id", evse.id, "name an EVSE, 1 or more, or leave evse out for the station")


def _trigger(request: Any, _context: Context) -> Iterator[Problem]:
    evse = request.evse
    if request.requestedMessage == "StatusNotification" and (evse is None or evse.connectorId is None):
        yield problem("evse.connectorId", None, "StatusNotification needs EVSE and connector (F06.FR.13)")


def _customer(
    request: v21.CustomerInformationRequest | v201.CustomerInformationRequest, _c: Context
) -> Iterator[Problem]:
    named = [request.idToken, request.customerIdentifier, request.customerCertificate]
    if sum(item is not None for item in named) != 1:
        yield problem(
            "idToken", f"{sum(item is not None for item in named)} identifiers", "name exactly one (N09.FR.09)"
        )
    if not (request.report or request.clear):
        yield problem("report", "false", "ask for a report, a clear, or both")


def _log(request: Any, _context: Context) -> Iterator[Problem]:
    oldest, latest = request.log.oldestTimestamp, request.log.latestTimestamp
    if oldest is not None and latest is not None and oldest >= latest:
        yield problem("log.oldestTimestamp", oldest, "must lie before latestTimestamp")


def _firmware(request: Any, _context: Context) -> Iterator[Problem]:
    firmware = request.firmware
    for name in ("signingCertificate", "signature"):
        if getattr(firmware, name) is None:
            yield problem(f"firmware.{name}", None, "unsigned firmware is not sent (L01)")
    install = firmware.installDateTime
    if install is not None and install < firmware.retrieveDateTime:
        yield problem("firmware.installDateTime", install, "comes after retrieveDateTime")


_RULES: Final[dict[str, Callable[[Any, Context], Iterator[Problem]]]] = {
    "AFRRSignal": _afrr,
    "ChangeAvailability": _availability,
    "ClearChargingProfile": _clear_profile,
    "ClearDERControl": _clear_der,
    "CustomerInformation": _customer,
    "GetCompositeSchedule": _composite,
    "GetLog": _log,
    "GetVariables": _get_variables,
    "NotifyAllowedEnergyTransfer": _allowed_transfer,
    "RequestStartTransaction": _remote_start,
    "ReserveNow": _reserve,
    "SendLocalList": _local_list,
    "SetChargingProfile": _set_profile,
    "SetDERControl": _set_der,
    "SetVariables": _set_variables,
    "TriggerMessage": _trigger,
    "UpdateDynamicSchedule": _update_schedule,
    "UpdateFirmware": _firmware,
}
_NUMBERS_CHECKED: Final = frozenset({"RequestStartTransaction", "SetChargingProfile"})
"""Actions whose rule looks for non-finite numbers already."""
