"""Why a station refuses a charging profile: the rules of K01 and the operation-mode table of block Q, in the order told."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Final

import msgspec

from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.operation_modes import ALLOWED, NEEDED, Period
from gridtide.wire.ocpp.profiles import LONGEST_S, ChargingProfile, InstalledProfile, Schedule

MAX_STACK_LEVEL: Final = 10
MAX_PROFILES: Final = 32
_POWER_FIELDS: Final = (
    "limit", "dischargeLimit", "setpoint", "setpointReactive", "v2xBaseline", "v2xFreqWattCurve", "v2xSignalWattCurve",
)  # fmt: skip


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What a station checks a profile against."""

    evses: int = 1
    transactions: dict[int, str]
    """Transaction by EVSE."""
    installed: tuple[InstalledProfile, ...] = ()
    modes: frozenset[str] = frozenset(NEEDED)
    """Operation modes the station follows."""


def refusal(profile: ChargingProfile, evse_id: int, here: Situation) -> str | None:
    """The reason code (at most 20 characters) with which a CSMS's profile is rejected, or None when it is good."""
    return (
        _purpose_fault(profile, evse_id, here)
        or _kind_fault(profile)
        or next((fault for item in profile.chargingSchedule if (fault := _schedule_fault(profile, item, here))), None)
        or _stack_fault(profile, evse_id, here)
    )


def _purpose_fault(profile: ChargingProfile, evse_id: int, here: Situation) -> str | None:
    purpose = profile.chargingProfilePurpose
    if not 0 <= evse_id <= here.evses:
        return "UnknownEvse"
    if purpose == "ChargingStationExternalConstraints":
        return "InvalidProfile"  # K01.FR.22: set from outside, never by a CSMS
    if purpose == "ChargingStationMaxProfile" and evse_id != 0:
        return "InvalidProfile"
    if purpose == "TxProfile":
        if evse_id == 0 or profile.transactionId is None:
            return "MissingParam" if profile.transactionId is None else "InvalidProfile"
        return None if here.transactions.get(evse_id) == profile.transactionId else "TxNotFound"
    return "InvalidProfile" if profile.transactionId is not None else None


def _kind_fault(profile: ChargingProfile) -> str | None:
    kind, schedules = profile.chargingProfileKind, profile.chargingSchedule
    if kind == "Relative" and profile.chargingProfilePurpose == "ChargingStationMaxProfile":
        return "InvalidProfile"
    if (profile.recurrencyKind is None) == (kind == "Recurring"):
        return "InvalidProfile"
    if len(schedules) > 1 and profile.chargingProfilePurpose != "TxProfile":
        return "InvalidSchedule"
    if kind == "Dynamic" and (len(schedules) > 1 or len(schedules[0].chargingSchedulePeriod) > 1):
        return "InvalidSchedule"
    spans = [getattr(profile, name, None) for name in ("maxOfflineDuration", "dynUpdateInterval")]
    if any(span is not None and not 0 <= span <= LONGEST_S for span in spans):
        return "InvalidProfile"
    if profile.validFrom is not None and profile.validTo is not None and profile.validTo <= profile.validFrom:
        return "InvalidProfile"
    return None


def _schedule_fault(profile: ChargingProfile, schedule: Schedule, here: Situation) -> str | None:
    kind = profile.chargingProfileKind
    if kind in ("Absolute", "Recurring") and schedule.startSchedule is None:
        return "MissingParam"  # K01.FR.40
    if kind == "Relative" and schedule.startSchedule is not None:
        return "InvalidSchedule"  # K01.FR.41
    if schedule.duration is not None and not 0 < schedule.duration <= LONGEST_S:
        return "InvalidSchedule"
    periods: tuple[Period, ...] = tuple(schedule.chargingSchedulePeriod)
    if periods[-1].startPeriod > LONGEST_S:
        return "InvalidSchedule"
    if periods[0].startPeriod != 0 or any(b.startPeriod <= a.startPeriod for a, b in pairwise(periods)):
        return "InvalidSchedule"
    faults = (_period_fault(profile, period, schedule.chargingRateUnit == "W", here) for period in periods)
    return next((fault for fault in faults if fault), None)


def _period_fault(profile: ChargingProfile, period: Period, is_watts: bool, here: Situation) -> str | None:
    if not isinstance(period, v21.ChargingSchedulePeriodType):
        return None
    mode = period.operationMode or "ChargingOnly"
    if profile.chargingProfilePurpose == "PriorityCharging" and mode != "ChargingOnly":
        return "InvalidOperationMode"  # K01.FR.71
    if mode not in here.modes:
        return "UnsupportedMode"
    present = {name for name in _POWER_FIELDS if getattr(period, name) is not None}
    # A Dynamic profile may begin without values: its updates bring them.
    if profile.chargingProfileKind != "Dynamic" and not present >= NEEDED[mode]:
        return "MissingParam"
    if not present <= ALLOWED[mode]:
        return "InvalidSchedule"
    if mode == "LocalFrequency" and not is_watts:
        return "UnsupportedRateUnit"  # Q08.FR.05
    setpoints = [v for v in (period.setpoint, period.setpoint_L2, period.setpoint_L3) if v]
    if setpoints and min(setpoints) < 0.0 < max(setpoints):
        return "InvalidSchedule"
    return "InvalidSchedule" if period.phaseToUse is not None and (period.numberPhases or 3) != 1 else None


def _stack_fault(profile: ChargingProfile, evse_id: int, here: Situation) -> str | None:
    others = [item for item in here.installed if item.profile.id != profile.id]
    if profile.stackLevel > MAX_STACK_LEVEL:
        return "InvalidStackLevel"
    if any(_collides(profile, evse_id, item) for item in others):
        return "DuplicateProfile"
    return "TooManyProfiles" if len(others) >= MAX_PROFILES else None


def _collides(profile: ChargingProfile, evse_id: int, item: InstalledProfile) -> bool:
    """Same purpose, level and EVSE (0 is every one) while both are valid."""
    other = item.profile
    if (other.chargingProfilePurpose, other.stackLevel) != (profile.chargingProfilePurpose, profile.stackLevel):
        return False
    if item.source != "CSO" or not (item.evse_id == evse_id or 0 in (item.evse_id, evse_id)):
        return False
    return other.transactionId == profile.transactionId and _overlap(profile, other)


def _overlap(one: ChargingProfile, other: ChargingProfile) -> bool:
    return _before(one.validFrom, other.validTo) and _before(other.validFrom, one.validTo)


def _before(start: datetime | None, end: datetime | None) -> bool:
    return start is None or end is None or start < end


def discharges(profile: ChargingProfile) -> bool:
    """Whether any period asks for power out of the vehicle."""
    return any(_gives(period) for item in profile.chargingSchedule for period in item.chargingSchedulePeriod)


def _gives(period: Period) -> bool:
    if (period.limit or 0.0) < 0.0:
        return True
    names = ("setpoint", "setpoint_L2", "setpoint_L3", "v2xBaseline")
    curves = (getattr(period, "v2xFreqWattCurve", None), getattr(period, "v2xSignalWattCurve", None))
    lowest_w = min((point.power for curve in curves for point in curve or ()), default=0.0)
    return lowest_w < 0.0 or any((getattr(period, name, None) or 0.0) < 0.0 for name in names)
