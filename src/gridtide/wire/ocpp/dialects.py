"""Discharge dialects: how a signed setpoint in kW goes out to one station.

A discharge is a lease: a schedule of `duration` = lease with `validTo` at its end, on 2.1 also invalid as soon as the
station is offline. Underneath lies a TxDefaultProfile without expiry that never discharges; no lease goes out before it
was accepted. Watts, wire signs and profile shapes stay in this file.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.structs import WireStruct

Dialect: TypeAlias = Literal["refuse", "v21_setpoint", "v21_dynamic", "v201_negative_limit"]
Denial: TypeAlias = Literal[
    "discharge denied by dialect",
    "discharge not authorised",
    "dialect does not fit the OCPP version",
    "no transaction",
    "station clock is off",
]

LEASE_STACK_LEVEL: Final = 9
UNDERLAY_STACK_LEVEL: Final = 0
_VERSION_OF: Final[dict[Dialect, Version]] = {
    "v21_setpoint": "2.1",
    "v21_dynamic": "2.1",
    "v201_negative_limit": "2.0.1",
}


class StationDialect(msgspec.Struct, frozen=True, kw_only=True):
    """What is agreed with one station."""

    version: Version
    dialect: Dialect = "refuse"
    is_discharge_authorised: bool = False
    """BPT in allowedEnergyTransfer (2.1), or the operator's recorded opt-in (2.0.1)."""
    is_underlay_accepted: bool = False
    """The TxDefaultProfile underneath was answered with Accepted on this connection."""
    underlay_profile_id: int = 1
    underlay_kw: float = 0.0
    """Charging limit that holds when no lease does; >= 0."""
    skew_s: float = 0.0
    """Station clock minus ours, from message timestamps."""


class Setpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One setpoint for one EVSE. Power: + charging, - discharging."""

    power_kw: float
    lease_s: int
    now: datetime
    """Aware instant at which the lease starts."""
    evse_id: int
    profile_id: int
    transaction_id: str | None = None
    charge_bound_kw: float | None = None
    """`v21_dynamic`: largest charging power the profile admits (>= 0); None: `power_kw` itself bounds it."""
    discharge_bound_kw: float | None = None
    """`v21_dynamic`: lowest power the profile admits (<= 0); None: `power_kw` itself bounds it."""
    renews_lease: bool = True
    """`v21_dynamic`: False sends only UpdateDynamicSchedule within the running lease."""


class WireCall(msgspec.Struct, frozen=True):
    """A call to send."""

    action: str
    payload: WireStruct


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that carry a setpoint, in order; `denial` says why a discharge was turned into none."""

    calls: tuple[WireCall, ...]
    denial: Denial | None = None


def translate(setpoint: Setpoint, station: StationDialect) -> Translation:
    """The calls that bring `setpoint` to a station.

    A discharge that is denied yields no calls and the reason; one without an accepted underlay yields the underlay
    alone (send the setpoint again when it is accepted). Zero and charging go out in every dialect. Raises
    LocalProtocolError on a non-finite power, a lease below 1 s or a naive instant.
    """
    _check(setpoint)
    if setpoint.power_kw < 0.0:
        denial = _denial(setpoint, station)
        if denial is not None:
            return Translation(calls=(), denial=denial)
        if not station.is_underlay_accepted:
            return Translation(calls=(underlay_call(station, setpoint.evse_id),))
    if _may_go_dynamic(setpoint, station):
        return Translation(calls=_dynamic_calls(setpoint))
    if station.version == "2.1":
        return Translation(calls=(_v21_call(setpoint),))
    return Translation(calls=(_v201_call(setpoint),))


def underlay_call(station: StationDialect, evse_id: int) -> WireCall:
    """SetChargingProfile with the TxDefaultProfile underneath every lease: limit >= 0, no expiry, lowest level.

    Relative, hence independent of any clock. Raises LocalProtocolError on a negative or non-finite limit.
    """
    if not (math.isfinite(station.underlay_kw) and station.underlay_kw >= 0.0):
        raise LocalProtocolError(f"underlay_kw is {station.underlay_kw}: give a charging limit of 0 kW or more")
    limit_w = _watts(station.underlay_kw)
    if station.version == "2.1":
        period = v21.ChargingSchedulePeriodType(startPeriod=0, operationMode="ChargingOnly", limit=limit_w)
        schedule = v21.ChargingScheduleType(id=1, chargingRateUnit="W", chargingSchedulePeriod=(period,))
        profile = v21.ChargingProfileType(
            id=station.underlay_profile_id,
            stackLevel=UNDERLAY_STACK_LEVEL,
            chargingProfilePurpose="TxDefaultProfile",
            chargingProfileKind="Relative",
            chargingSchedule=(schedule,),
        )
        return WireCall("SetChargingProfile", v21.SetChargingProfileRequest(evseId=evse_id, chargingProfile=profile))
    old_period = v201.ChargingSchedulePeriodType(startPeriod=0, limit=limit_w)
    old_schedule = v201.ChargingScheduleType(id=1, chargingRateUnit="W", chargingSchedulePeriod=(old_period,))
    old_profile = v201.ChargingProfileType(
        id=station.underlay_profile_id,
        stackLevel=UNDERLAY_STACK_LEVEL,
        chargingProfilePurpose="TxDefaultProfile",
        chargingProfileKind="Relative",
        chargingSchedule=(old_schedule,),
    )
    return WireCall("SetChargingProfile", v201.SetChargingProfileRequest(evseId=evse_id, chargingProfile=old_profile))


def _check(setpoint: Setpoint) -> None:
    numbers = (setpoint.power_kw, setpoint.charge_bound_kw or 0.0, setpoint.discharge_bound_kw or 0.0)
    if not all(math.isfinite(number) for number in numbers):
        raise LocalProtocolError(f"setpoint {numbers} kW is not finite")
    if setpoint.lease_s < 1:
        raise LocalProtocolError(f"lease_s is {setpoint.lease_s}: a lease lasts at least 1 s")
    if setpoint.now.tzinfo is None:
        raise LocalProtocolError("now has no time zone")


def _denial(setpoint: Setpoint, station: StationDialect) -> Denial | None:
    if station.dialect == "refuse":
        return "discharge denied by dialect"
    if _VERSION_OF[station.dialect] != station.version:
        return "dialect does not fit the OCPP version"
    if not station.is_discharge_authorised:
        return "discharge not authorised"
    if setpoint.transaction_id is None:
        return "no transaction"
    if not abs(station.skew_s) <= setpoint.lease_s / 2.0:
        return "station clock is off"
    return None


def _may_go_dynamic(setpoint: Setpoint, station: StationDialect) -> bool:
    """A Dynamic profile is two-sided, so it needs all that a discharge needs, also while it charges."""
    is_dynamic = station.dialect == "v21_dynamic" and station.is_underlay_accepted
    return is_dynamic and _denial(setpoint, station) is None


def _watts(power_kw: float) -> float:
    """kW to W on the wire, to the milliwatt, without a negative zero."""
    return round(power_kw * 1000.0, 3) + 0.0


def _lease_end(setpoint: Setpoint) -> datetime:
    return setpoint.now + timedelta(seconds=setpoint.lease_s)


def _purpose(setpoint: Setpoint) -> Literal["TxProfile", "TxDefaultProfile"]:
    """A charging limit without a transaction can only be a default profile; it expires all the same."""
    return "TxProfile" if setpoint.transaction_id is not None else "TxDefaultProfile"


def _v21_period(setpoint: Setpoint) -> v21.ChargingSchedulePeriodType:
    power_w = _watts(setpoint.power_kw)
    if power_w >= 0.0:
        return v21.ChargingSchedulePeriodType(startPeriod=0, operationMode="ChargingOnly", limit=power_w)
    return v21.ChargingSchedulePeriodType(
        startPeriod=0, operationMode="CentralSetpoint", setpoint=power_w, dischargeLimit=power_w, limit=0.0
    )


def _v21_call(setpoint: Setpoint) -> WireCall:
    schedule = v21.ChargingScheduleType(
        id=1,
        startSchedule=setpoint.now,
        duration=setpoint.lease_s,
        chargingRateUnit="W",
        chargingSchedulePeriod=(_v21_period(setpoint),),
    )
    return _v21_set(setpoint, "Absolute", schedule)


def _v21_set(setpoint: Setpoint, kind: Literal["Absolute", "Dynamic"], schedule: v21.ChargingScheduleType) -> WireCall:
    profile = v21.ChargingProfileType(
        id=setpoint.profile_id,
        stackLevel=LEASE_STACK_LEVEL,
        chargingProfilePurpose=_purpose(setpoint),
        chargingProfileKind=kind,
        transactionId=setpoint.transaction_id,
        validTo=_lease_end(setpoint),
        maxOfflineDuration=0,
        invalidAfterOfflineDuration=True,
        chargingSchedule=(schedule,),
    )
    request = v21.SetChargingProfileRequest(evseId=setpoint.evse_id, chargingProfile=profile)
    return WireCall("SetChargingProfile", request)


def _dynamic_calls(setpoint: Setpoint) -> tuple[WireCall, ...]:
    """A Dynamic profile that expires (UpdateDynamicSchedule carries no expiry), then the update itself."""
    power_w = _watts(setpoint.power_kw)
    discharge_w = min(power_w, _watts(setpoint.discharge_bound_kw or 0.0), 0.0)
    charge_w = max(power_w, _watts(setpoint.charge_bound_kw or 0.0), 0.0)
    update = v21.ChargingScheduleUpdateType(setpoint=power_w)
    if not setpoint.renews_lease and (setpoint.charge_bound_kw is None or setpoint.discharge_bound_kw is None):
        update = v21.ChargingScheduleUpdateType(setpoint=power_w, limit=charge_w, dischargeLimit=discharge_w)
    request = v21.UpdateDynamicScheduleRequest(chargingProfileId=setpoint.profile_id, scheduleUpdate=update)
    call = WireCall("UpdateDynamicSchedule", request)
    if not setpoint.renews_lease:
        return (call,)
    period = v21.ChargingSchedulePeriodType(
        startPeriod=0, operationMode="CentralSetpoint", setpoint=power_w, dischargeLimit=discharge_w, limit=charge_w
    )
    schedule = v21.ChargingScheduleType(
        id=1, duration=setpoint.lease_s, chargingRateUnit="W", chargingSchedulePeriod=(period,)
    )
    return (_v21_set(setpoint, "Dynamic", schedule), call)


def _v201_call(setpoint: Setpoint) -> WireCall:
    """2.0.1 has one number: a negative limit is the old form of a discharge, here and nowhere else."""
    period = v201.ChargingSchedulePeriodType(startPeriod=0, limit=_watts(setpoint.power_kw))
    schedule = v201.ChargingScheduleType(
        id=1,
        startSchedule=setpoint.now,
        duration=setpoint.lease_s,
        chargingRateUnit="W",
        chargingSchedulePeriod=(period,),
    )
    profile = v201.ChargingProfileType(
        id=setpoint.profile_id,
        stackLevel=LEASE_STACK_LEVEL,
        chargingProfilePurpose=_purpose(setpoint),
        chargingProfileKind="Absolute",
        transactionId=setpoint.transaction_id,
        validTo=_lease_end(setpoint),
        chargingSchedule=(schedule,),
    )
    request = v201.SetChargingProfileRequest(evseId=setpoint.evse_id, chargingProfile=profile)
    return WireCall("SetChargingProfile", request)
