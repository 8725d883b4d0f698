"""What a charging profile of ours must satisfy before it is sent, whether it can discharge, and when that ends for certain.

The sender's side of the rules (`profile_checks` is the station's): all findings at once, with cures, and the demands of a
discharge lease. Sources: OCPP 2.0.1/2.1 use case K01 (FR numbers at the rules), operation modes of block Q. Sign: +
charging, - discharging.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.operation_modes import ALLOWED, NEEDED
from gridtide.wire.ocpp.problems import Problem, not_finite, problem

ChargingProfile: TypeAlias = v21.ChargingProfileType | v201.ChargingProfileType
Schedule: TypeAlias = v21.ChargingScheduleType | v201.ChargingScheduleType
Period: TypeAlias = v21.ChargingSchedulePeriodType | v201.ChargingSchedulePeriodType
Steered: TypeAlias = Period | v21.ChargingScheduleUpdateType

FREE_MODES: Final = frozenset({"ExternalSetpoint", "ExternalLimits", "LocalLoadBalancing"})
"""Modes in which somebody else than the CSMS chooses the power: a discharge unless dischargeLimit forbids it."""
POWER_FIELDS: Final = tuple(sorted(frozenset().union(*ALLOWED.values())))
_PHASES: Final = ("", "_L2", "_L3")


class ProfileLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a station reported of itself (SmartChargingCtrlr), and what we allow."""

    max_stack_level: int | None = None
    """`ProfileStackLevel`."""
    max_periods: int | None = None
    """`PeriodsPerSchedule`."""
    max_lease_s: float | None = None
    """Longest discharge without renewal; None: any that ends."""


def is_discharging(profile: ChargingProfile) -> bool:
    """Whether any part of the profile may make a vehicle discharge (a NaN counts as one that may)."""
    return any(_may_give(profile, period) for schedule in schedules_of(profile) for period in periods_of(schedule))


def _may_give(profile: ChargingProfile, period: Period) -> bool:
    """As it stands, or by an UpdateDynamicSchedule that nothing in the profile bounds."""
    mode = getattr(period, "operationMode", None)
    is_open = profile.chargingProfileKind == "Dynamic" and mode in ("CentralSetpoint", "CentralFrequency")
    return period_discharges(period) or (is_open and getattr(period, "dischargeLimit", None) is None)


def period_discharges(period: Steered) -> bool:
    """Whether this period, or dynamic update, may make a vehicle discharge."""
    numbers = [
        value
        for name in ("limit", "dischargeLimit", "setpoint")
        for phase in _PHASES
        if (value := getattr(period, name + phase, None)) is not None
    ]
    if any(not value >= 0.0 for value in numbers):
        return True
    if not isinstance(period, v21.ChargingSchedulePeriodType):
        return False
    if period.operationMode in FREE_MODES and period.dischargeLimit is None:
        return True
    added = [point.power for point in period.v2xFreqWattCurve or ()]
    added += [point.power for point in period.v2xSignalWattCurve or ()]
    base = period.setpoint or 0.0 if period.v2xBaseline is None else period.v2xBaseline
    return any(not base + power >= 0.0 for power in (*added, 0.0))


def lease_end_s(profile: ChargingProfile, now: datetime) -> float:
    """Seconds from `now` until no part of the profile discharges any more, whoever is alive by then.

    0 when it never discharges from `now` on, infinite when nothing ends it. The station's clock is taken as right.
    """
    ends = [_schedule_end_s(profile, schedule, now) for schedule in schedules_of(profile)]
    end_s = max((end for end in ends if end is not None), default=0.0)
    if profile.validTo is not None:
        end_s = min(end_s, (profile.validTo - now).total_seconds())
    return max(end_s, 0.0)


def _schedule_end_s(profile: ChargingProfile, schedule: Schedule, now: datetime) -> float | None:
    """When the last discharging period of a schedule is over, from now; None without one."""
    giving = [period.startPeriod for period in periods_of(schedule) if _may_give(profile, period)]
    if not giving:
        return None
    later = [period.startPeriod for period in periods_of(schedule) if period.startPeriod > max(giving)]
    after_s = float(min(later, default=math.inf))
    if schedule.duration is not None:
        after_s = min(after_s, float(schedule.duration))
    return _latest_start_s(profile, schedule, now) + after_s


def _latest_start_s(profile: ChargingProfile, schedule: Schedule, now: datetime) -> float:
    """The latest instant at which the schedule can begin, from now; infinite where it begins with something to come."""
    kind = profile.chargingProfileKind
    if kind == "Absolute" and schedule.startSchedule is not None:
        return (schedule.startSchedule - now).total_seconds()
    if kind == "Dynamic" or (kind == "Relative" and profile.chargingProfilePurpose == "TxProfile"):
        return 0.0
    return math.inf


def schedules_of(profile: ChargingProfile) -> tuple[Schedule, ...]:
    """The schedules of a profile of either version."""
    return tuple(profile.chargingSchedule)


def periods_of(schedule: Schedule) -> tuple[Period, ...]:
    """The periods of a schedule of either version."""
    return tuple(schedule.chargingSchedulePeriod)


def profile_problems(
    profile: ChargingProfile,
    evse_id: int,
    now: datetime,
    limits: ProfileLimits | None = None,
    *,
    is_for_start: bool = False,
) -> tuple[Problem, ...]:
    """Why a station would refuse `profile` at `evse_id` (0: the station), or why it would be unsafe there.

    `is_for_start`: inside RequestStartTransaction, where a TxProfile has no transaction id yet (K05).
    """
    bounds = limits or ProfileLimits()
    found = [*_purpose_problems(profile, evse_id, is_for_start=is_for_start)]
    found += _validity_problems(profile, now)
    found += _level_problems(profile, bounds)
    for index, schedule in enumerate(schedules_of(profile)):
        place = f"chargingProfile.chargingSchedule[{index}]"
        found += _schedule_problems(profile, schedule, place, bounds)
        for number, period in enumerate(periods_of(schedule)):
            found += _period_problems(profile, schedule, period, f"{place}.chargingSchedulePeriod[{number}]")
    found += _lease_problems(profile, now, bounds)
    return (*found, *not_finite(profile, "chargingProfile"))


def _purpose_problems(profile: ChargingProfile, evse_id: int, *, is_for_start: bool) -> Iterator[Problem]:
    purpose, field = profile.chargingProfilePurpose, "chargingProfile.transactionId"
    if purpose == "TxProfile":
        if not profile.transactionId and not is_for_start:
            yield problem(field, profile.transactionId, "a TxProfile names its transaction (K01.FR.03)")
        if evse_id <= 0:
            yield problem("evseId", evse_id, "a TxProfile belongs to one EVSE (K01.FR.16)")
    elif profile.transactionId is not None:
        yield problem(field, profile.transactionId, "only a TxProfile names a transaction")
    if evse_id < 0:
        yield problem("evseId", evse_id, "give 0 for the station or an EVSE")
    if purpose == "ChargingStationExternalConstraints":
        place = "chargingProfile.chargingProfilePurpose"
        yield problem(place, purpose, "it is the station's own; use ChargingStationMaxProfile (K01.FR.22)")
    if purpose == "ChargingStationMaxProfile":
        if evse_id != 0:
            yield problem("evseId", evse_id, "a ChargingStationMaxProfile holds for EVSE 0 (K01.FR.38)")
        if profile.chargingProfileKind == "Relative":
            yield problem("chargingProfile.chargingProfileKind", "Relative", "a station's maximum starts with nothing")
    if is_for_start and purpose != "TxProfile":
        yield problem("chargingProfile.chargingProfilePurpose", purpose, "a remote start takes a TxProfile (F01.FR.09)")


def _validity_problems(profile: ChargingProfile, now: datetime) -> Iterator[Problem]:
    if profile.validTo is not None and profile.validTo <= now:
        yield problem("chargingProfile.validTo", profile.validTo, "the profile would be invalid at once")
    if profile.validFrom is not None and profile.validTo is not None and profile.validFrom >= profile.validTo:
        yield problem("chargingProfile.validFrom", profile.validFrom, "must lie before validTo")
    if (profile.chargingProfileKind == "Recurring") != (profile.recurrencyKind is not None):
        cure = "a Recurring profile is Daily or Weekly, any other has none"
        yield problem("chargingProfile.recurrencyKind", profile.recurrencyKind, cure)
    if len(profile.chargingSchedule) > 1 and profile.chargingProfilePurpose != "TxProfile":
        yield problem("chargingProfile.chargingSchedule", len(profile.chargingSchedule), "only a TxProfile has several")
    if isinstance(profile, v21.ChargingProfileType):
        for name in ("maxOfflineDuration", "dynUpdateInterval"):
            value = getattr(profile, name)
            if value is not None and value < 0:
                yield problem(f"chargingProfile.{name}", value, "give 0 s or more")


def _level_problems(profile: ChargingProfile, limits: ProfileLimits) -> Iterator[Problem]:
    level = profile.stackLevel
    if level < 0:
        yield problem("chargingProfile.stackLevel", level, "give 0 or more")
    if limits.max_stack_level is not None and level > limits.max_stack_level:
        yield problem("chargingProfile.stackLevel", level, f"the station takes 0 to {limits.max_stack_level}")


def _schedule_problems(
    profile: ChargingProfile, schedule: Schedule, place: str, limits: ProfileLimits
) -> Iterator[Problem]:
    kind, periods = profile.chargingProfileKind, periods_of(schedule)
    if kind in ("Absolute", "Recurring") and schedule.startSchedule is None:
        yield problem(f"{place}.startSchedule", None, f"{kind} schedules have one (K01.FR.40)")
    if kind == "Relative" and schedule.startSchedule is not None:
        yield problem(f"{place}.startSchedule", schedule.startSchedule, "Relative schedules have none (K01.FR.41)")
    if kind == "Dynamic" and len(periods) > 1:
        yield problem(f"{place}.chargingSchedulePeriod", f"{len(periods)} periods", "a Dynamic profile has one")
    if schedule.duration is not None and schedule.duration <= 0:
        yield problem(f"{place}.duration", schedule.duration, "give more than 0 s")
    starts = [period.startPeriod for period in periods]
    if starts[:1] != [0]:
        yield problem(f"{place}.chargingSchedulePeriod[0].startPeriod", starts[:1], "the first is 0 (K01.FR.31)")
    for number, (earlier, later) in enumerate(pairwise(starts), 1):
        if later <= earlier:
            field = f"{place}.chargingSchedulePeriod[{number}].startPeriod"
            yield problem(field, later, f"periods ascend: more than {earlier} (K01.FR.35)")
    if limits.max_periods is not None and len(periods) > limits.max_periods:
        yield problem(f"{place}.chargingSchedulePeriod", len(periods), f"the station takes {limits.max_periods}")


def _period_problems(profile: ChargingProfile, schedule: Schedule, period: Period, place: str) -> Iterator[Problem]:
    if period.phaseToUse is not None and period.numberPhases != 1:
        yield problem(f"{place}.phaseToUse", period.phaseToUse, "only with numberPhases 1 (K01.FR.19)")
    if not isinstance(period, v21.ChargingSchedulePeriodType):
        return
    mode = period.operationMode or "ChargingOnly"
    yield from _mode_problems(mode, period, place, is_dynamic=profile.chargingProfileKind == "Dynamic")
    if mode == "LocalFrequency" and schedule.chargingRateUnit != "W":
        yield problem(f"{place}.operationMode", mode, "a frequency curve is in W (Q08.FR.05)")
    if profile.chargingProfilePurpose == "PriorityCharging" and mode != "ChargingOnly":
        yield problem(f"{place}.operationMode", mode, "PriorityCharging is ChargingOnly (K01.FR.71)")
    for name in ("limit", "dischargeLimit", "setpoint", "setpointReactive"):
        yield from _phase_problems(name, period, place)
    for field in ("v2xFreqWattCurve", "v2xSignalWattCurve"):
        keys = [getattr(point, "frequency", getattr(point, "signal", 0.0)) for point in getattr(period, field) or ()]
        if any(not later > earlier for earlier, later in pairwise(keys)):
            yield problem(f"{place}.{field}", keys, "points ascend")


def _mode_problems(
    mode: str, period: v21.ChargingSchedulePeriodType, place: str, *, is_dynamic: bool
) -> Iterator[Problem]:
    """A Dynamic profile may begin without values: its updates bring them."""
    for name in POWER_FIELDS:
        given = any(getattr(period, name + phase, None) is not None for phase in _PHASES)
        if name in NEEDED[mode] and not given and not is_dynamic:
            yield problem(f"{place}.{name}", None, f"{mode} needs it")
        elif given and name not in ALLOWED[mode]:
            yield problem(f"{place}.{name}", getattr(period, name), f"{mode} does not take it")


def _phase_problems(name: str, period: v21.ChargingSchedulePeriodType, place: str) -> Iterator[Problem]:
    """Sign and completeness of a value per phase: the plain field is L1 as soon as L2 or L3 is present."""
    values = [(phase, getattr(period, name + phase)) for phase in _PHASES]
    given = [(phase, value) for phase, value in values if value is not None]
    if given and values[0][1] is None:
        yield problem(f"{place}.{name}", None, f"it is the value of L1 where {name}{given[0][0]} is given")
    if name == "limit":
        bad = [(phase, value) for phase, value in given if value < 0.0]
        cure = "0 or more; a discharge is a negative setpoint with operationMode CentralSetpoint"
    elif name == "dischargeLimit":
        bad = [(phase, value) for phase, value in given if value > 0.0]
        cure = "0 or less"
    else:
        signs = {math.copysign(1.0, value) for _, value in given if value != 0.0}
        bad = given[1:2] if len(signs) > 1 else []
        cure = f"the phases of {name} must not differ in sign"
    for phase, value in bad:
        yield problem(f"{place}.{name}{phase}", value, cure)


def _lease_problems(profile: ChargingProfile, now: datetime, limits: ProfileLimits) -> Iterator[Problem]:
    """A discharge ends by itself: by duration or validTo, with its transaction, and on 2.1 also offline."""
    if not is_discharging(profile):
        return
    end_s, purpose = lease_end_s(profile, now), profile.chargingProfilePurpose
    if math.isinf(end_s):
        yield problem("chargingProfile.validTo", None, "a discharge ends by itself: give validTo or a duration")
    elif limits.max_lease_s is not None and end_s > limits.max_lease_s:
        yield problem("chargingProfile.validTo", f"{end_s:g} s away", f"a discharge lasts {limits.max_lease_s:g} s")
    if purpose != "TxProfile":
        yield problem("chargingProfile.chargingProfilePurpose", purpose, "a discharge is a TxProfile: it ends with it")
    if isinstance(profile, v21.ChargingProfileType) and profile.maxOfflineDuration is None:
        yield problem("chargingProfile.maxOfflineDuration", None, "without it the discharge goes on offline: give 0")
