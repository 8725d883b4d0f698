"""Charging profiles as a station reads them: the power in force at an instant.

The reverse of `dialects`, for emulated stations. Rules: per purpose the valid profile with the highest stack level;
PriorityCharging while it is switched on, else TxProfile, else TxDefaultProfile; the external constraints narrow that, local
generation adds to it, and the station's maximum bounds all (K01).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import msgspec

from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.operation_modes import (
    Period,
    ProfilePower,
    Surroundings,
    Values,
    period_power_kw,
    with_setpoint,
)

ChargingProfile: TypeAlias = v21.ChargingProfileType | v201.ChargingProfileType
Schedule: TypeAlias = v21.ChargingScheduleType | v201.ChargingScheduleType

LONGEST_S: Final = 10 * 365 * 86_400
"""Ten years: what is said to last longer lasts so long, and every sum with an instant stays one."""
RECURRENCE: Final = {"Daily": timedelta(days=1), "Weekly": timedelta(days=7)}
_VALUES: Final = tuple(
    f"{name}{phase}"
    for name in ("limit", "dischargeLimit", "setpoint", "setpointReactive")
    for phase in ("", "_L2", "_L3")
)


class InstalledProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile a station accepted."""

    profile: ChargingProfile
    evse_id: int
    """0: all EVSEs of the station."""
    installed_at: datetime
    update: v21.ChargingScheduleUpdateType | None = None
    """Last UpdateDynamicSchedule for this profile."""
    source: str = "CSO"
    """Who set it (chargingLimitSource)."""
    selected: int = 0
    """Which of its schedules the vehicle chose; the first unless it tells another."""

    @property
    def schedule(self) -> Schedule:
        """The schedule in use."""
        schedules = self.profile.chargingSchedule
        return schedules[self.selected] if self.selected < len(schedules) else schedules[0]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The situation at one EVSE."""

    now: datetime
    evse_id: int
    transaction_id: str | None = None
    started_at: datetime | None = None
    offline_since: datetime | None = None
    """When the station noticed that it lost the CSMS; None while connected."""
    is_priority: bool = False
    """Priority charging is switched on (K21)."""
    around: Surroundings = Surroundings()


def profile_power_kw(installed: Iterable[InstalledProfile], running: Running) -> ProfilePower:
    """The power in force at `running.now` from the installed profiles; without any: charging is unlimited."""
    mine = [item for item in installed if item.evse_id in (0, running.evse_id)]
    active = _highest(mine, "PriorityCharging", running) if running.is_priority else None
    active = active or _highest(mine, "TxProfile", running) or _highest(mine, "TxDefaultProfile", running)
    power = _power_of(*active, running) if active else ProfilePower(lower_kw=0.0, upper_kw=None)
    outer = _highest(mine, "ChargingStationExternalConstraints", running)
    if outer is not None:
        power = _narrowed(power, *outer, running)
    generation = _highest(mine, "LocalGeneration", running)
    if generation is not None:
        power = _raised(power, _power_of(*generation, running))
    most = _highest(mine, "ChargingStationMaxProfile", running)
    return power if most is None else _narrowed(power, *most, running)


def survivors(installed: Iterable[InstalledProfile], running: Running) -> list[InstalledProfile]:
    """The profiles that stay installed: those past `validTo`, of another transaction of this EVSE, or invalid for good
    after being offline (Q11/Q12: nothing resumes by itself) are gone."""
    return [item for item in installed if not _is_dead(item, running)]


def starts_of(item: InstalledProfile, running: Running, until: datetime) -> list[datetime]:
    """Instants in (about) [running.now, until] at which the schedule of `item` begins; the running one included."""
    first = _start_of(item, item.schedule, running)
    if first is None:
        return []
    cycle = RECURRENCE.get(item.profile.recurrencyKind or "")
    if item.profile.chargingProfileKind != "Recurring" or cycle is None:
        return [first]
    starts = []
    while first <= until:
        starts.append(first)
        first += cycle
    return starts


def offline_end(profile: ChargingProfile, running: Running) -> datetime | None:
    """When `profile` stops to hold because the station is offline (maxOfflineDuration); None: never."""
    if running.offline_since is None or not isinstance(profile, v21.ChargingProfileType):
        return None
    if profile.maxOfflineDuration is None:
        return None
    return running.offline_since + timedelta(seconds=min(profile.maxOfflineDuration, LONGEST_S))


def next_change(installed: Iterable[InstalledProfile], running: Running) -> timedelta | None:
    """After what time from `running.now` the passing of time may first change `survivors` or `profile_power_kw`; None: never."""
    left: list[timedelta] = []
    for item in installed:
        profile, schedule = item.profile, item.schedule
        bounds = (profile.validFrom, profile.validTo, offline_end(profile, running))
        left += [bound - running.now for bound in bounds if bound is not None]
        start = _start_of(item, schedule, running)
        if start is None:
            continue
        steps_s = [0, schedule.duration or 0, *(period.startPeriod for period in schedule.chargingSchedulePeriod)]
        steps = [timedelta(seconds=min(step_s, LONGEST_S)) for step_s in steps_s]
        again = RECURRENCE.get(profile.recurrencyKind or "", timedelta(0))
        left += [start - running.now + step for step in (*steps, again)]
    return min((wait for wait in left if wait > timedelta(0)), default=None)


def _is_dead(item: InstalledProfile, running: Running) -> bool:
    profile = item.profile
    if profile.validTo is not None and running.now >= profile.validTo:
        return True
    is_mine = profile.chargingProfilePurpose == "TxProfile" and item.evse_id == running.evse_id
    if is_mine and profile.transactionId != running.transaction_id:
        return True
    is_final = isinstance(profile, v21.ChargingProfileType) and profile.invalidAfterOfflineDuration is True
    return is_final and _is_offline_too_long(profile, running)


def _is_offline_too_long(profile: ChargingProfile, running: Running) -> bool:
    end = offline_end(profile, running)
    return end is not None and running.now >= end


def _is_valid(item: InstalledProfile, running: Running) -> bool:
    profile = item.profile
    if profile.validFrom is not None and running.now < profile.validFrom:
        return False
    if profile.validTo is not None and running.now >= profile.validTo:
        return False
    if profile.chargingProfilePurpose == "TxProfile" and (
        running.transaction_id is None or profile.transactionId != running.transaction_id
    ):
        return False
    return not _is_offline_too_long(profile, running)


def _highest(items: list[InstalledProfile], purpose: str, running: Running) -> tuple[InstalledProfile, Period] | None:
    """The valid profile of a purpose with the highest stack level that has a period now."""
    best: tuple[InstalledProfile, Period] | None = None
    for item in items:
        if item.profile.chargingProfilePurpose != purpose or not _is_valid(item, running):
            continue
        if best is not None and best[0].profile.stackLevel >= item.profile.stackLevel:
            continue
        period = _period_now(item, running)
        best = best if period is None else (item, period)
    return best


def _start_of(item: InstalledProfile, schedule: Schedule, running: Running) -> datetime | None:
    kind = item.profile.chargingProfileKind
    if kind == "Relative":
        return running.started_at or item.installed_at
    if kind == "Dynamic":
        return item.installed_at
    start = schedule.startSchedule
    cycle = RECURRENCE.get(item.profile.recurrencyKind or "")
    if kind == "Recurring" and start is not None and cycle is not None and running.now >= start:
        return start + cycle * ((running.now - start) // cycle)
    return start


def _period_now(item: InstalledProfile, running: Running) -> Period | None:
    schedule = item.schedule
    start = _start_of(item, schedule, running)
    if start is None or running.now < start:
        return None
    elapsed_s = (running.now - start).total_seconds()
    if schedule.duration is not None and elapsed_s >= schedule.duration:
        return None
    best: Period | None = None
    for period in schedule.chargingSchedulePeriod:
        if period.startPeriod <= elapsed_s and (best is None or period.startPeriod > best.startPeriod):
            best = period
    return best


def _power_of(item: InstalledProfile, period: Period, running: Running) -> ProfilePower:
    schedule = item.schedule
    values: Values = {name: getattr(period, name, None) for name in _VALUES}
    if item.update is not None:
        changed = {name: getattr(item.update, name) for name in values}
        values |= {name: value for name, value in changed.items() if value is not None}
    power = period_power_kw(period, values, schedule.chargingRateUnit == "W", running.around)
    power = msgspec.structs.replace(power, profile_id=item.profile.id)
    at_soc = getattr(schedule, "limitAtSoC", None)
    if at_soc is not None and running.around.soc is not None and running.around.soc * 100.0 >= at_soc.soc:
        limit_kw = at_soc.limit / 1000.0
        return _within(power, None, min(limit_kw, limit_kw if power.upper_kw is None else power.upper_kw))
    return power


def _within(power: ProfilePower, lower_kw: float | None, upper_kw: float | None) -> ProfilePower:
    """`power` with other bounds, its setpoint moved inside them; None keeps the lower bound."""
    lower = power.lower_kw if lower_kw is None else lower_kw
    bounded = msgspec.structs.replace(power, lower_kw=lower, upper_kw=upper_kw)
    return bounded if power.setpoint_kw is None else with_setpoint(bounded, power.setpoint_kw)


def _narrowed(power: ProfilePower, item: InstalledProfile, period: Period, running: Running) -> ProfilePower:
    """`power` under a station-wide bound; a bound of 0 stops charging, it never makes a discharge.

    A bound on discharge holds only where the period states one.
    """
    bound = _power_of(item, period, running)
    uppers = [upper for upper in (power.upper_kw, bound.upper_kw) if upper is not None]
    states = getattr(period, "dischargeLimit", None) is not None
    return _within(power, max(power.lower_kw, bound.lower_kw) if states else None, min(uppers, default=None))


def _raised(power: ProfilePower, generation: ProfilePower) -> ProfilePower:
    """`power` with what local generation gives on top of the charging bound; setpoints stay."""
    if power.upper_kw is None or generation.upper_kw is None:
        return power
    return _within(power, None, power.upper_kw + max(generation.upper_kw, 0.0))
