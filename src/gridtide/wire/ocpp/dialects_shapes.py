"""The shapes in which a setpoint travels: charging profiles of both versions, and dynamic updates.

Watts and wire signs: + charging, - discharging; a discharge is a lease with `duration` and `validTo`, on 2.1 also invalid
as soon as the station is offline.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.structs import WireStruct

LEASE_STACK_LEVEL: Final = 9
UNDERLAY_STACK_LEVEL: Final = 0


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


def v21_call(setpoint: Setpoint) -> WireCall:
    """SetChargingProfile in the shape of 2.1: a limit, or a CentralSetpoint that discharges."""
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


def dynamic_calls(setpoint: Setpoint) -> tuple[WireCall, ...]:
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


def v201_call(setpoint: Setpoint) -> WireCall:
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


def v21_underlay(evse_id: int, profile_id: int, limit_kw: float) -> WireCall:
    """The 2.1 profile underneath every lease: ChargingOnly, Relative, without end."""
    period = v21.ChargingSchedulePeriodType(startPeriod=0, operationMode="ChargingOnly", limit=_watts(limit_kw))
    schedule = v21.ChargingScheduleType(id=1, chargingRateUnit="W", chargingSchedulePeriod=(period,))
    profile = v21.ChargingProfileType(
        id=profile_id,
        stackLevel=UNDERLAY_STACK_LEVEL,
        chargingProfilePurpose="TxDefaultProfile",
        chargingProfileKind="Relative",
        chargingSchedule=(schedule,),
    )
    return WireCall("SetChargingProfile", v21.SetChargingProfileRequest(evseId=evse_id, chargingProfile=profile))


def v201_underlay(evse_id: int, profile_id: int, limit_kw: float) -> WireCall:
    """The 2.0.1 profile underneath every lease: a limit, Relative, without end."""
    period = v201.ChargingSchedulePeriodType(startPeriod=0, limit=_watts(limit_kw))
    schedule = v201.ChargingScheduleType(id=1, chargingRateUnit="W", chargingSchedulePeriod=(period,))
    profile = v201.ChargingProfileType(
        id=profile_id,
        stackLevel=UNDERLAY_STACK_LEVEL,
        chargingProfilePurpose="TxDefaultProfile",
        chargingProfileKind="Relative",
        chargingSchedule=(schedule,),
    )
    return WireCall("SetChargingProfile", v201.SetChargingProfileRequest(evseId=evse_id, chargingProfile=profile))
