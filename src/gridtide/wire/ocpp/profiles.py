"""Charging profiles as a station reads them: the power in force at an instant.

The reverse of `dialects`, for emulated stations. Rules: per purpose the valid profile with the highest stack level;
TxProfile over TxDefaultProfile; every other purpose only narrows the bounds (K01).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import msgspec

from gridtide.wire.ocpp.generated import v21, v201

ChargingProfile: TypeAlias = v21.ChargingProfileType | v201.ChargingProfileType
Schedule: TypeAlias = v21.ChargingScheduleType | v201.ChargingScheduleType
Period: TypeAlias = v21.ChargingSchedulePeriodType | v201.ChargingSchedulePeriodType

DEFAULT_PHASES: Final = 3
PHASE_VOLTAGE_V: Final = 230.0
_RECURRENCE: Final = {"Daily": timedelta(days=1), "Weekly": timedelta(days=7)}
_NARROWING: Final = (
    "ChargingStationMaxProfile",
    "ChargingStationExternalConstraints",
)


class InstalledProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile a station accepted."""

    profile: ChargingProfile
    evse_id: int
    """0: all EVSEs of the station."""
    installed_at: datetime
    update: v21.ChargingScheduleUpdateType | None = None
    """Last UpdateDynamicSchedule for this profile."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The situation at one EVSE."""

    now: datetime
    evse_id: int
    transaction_id: str | None = None
    started_at: datetime | None = None
    offline_since: datetime | None = None
    """When the station noticed that it lost the CSMS; None while connected."""


class ProfilePower(msgspec.Struct, frozen=True, kw_only=True):
    """What the profiles ask for. Power: + charging, - discharging; None: not limited."""

    lower_kw: float
    """Lowest power allowed, <= 0; 0 unless a profile allows discharge."""
    upper_kw: float | None
    setpoint_kw: float | None = None
    """Power to follow, already inside the bounds; None: free within them."""
    profile_id: int | None = None


def profile_power_kw(installed: Iterable[InstalledProfile], running: Running) -> ProfilePower:
    """The power in force at `running.now` from the installed profiles; without any: charging is unlimited."""
    mine = [item for item in installed if item.evse_id in (0, running.evse_id)]
    active = _highest(mine, "TxProfile", running) or _highest(mine, "TxDefaultProfile", running)
    power = _power_of(*active) if active else ProfilePower(lower_kw=0.0, upper_kw=None)
    for purpose in _NARROWING:
        bound = _highest(mine, purpose, running)
        if bound is not None:
            power = _narrowed(power, _power_of(*bound))
    return power


def survivors(installed: Iterable[InstalledProfile], running: Running) -> list[InstalledProfile]:
    """The profiles that stay installed: those past `validTo`, of another transaction of this EVSE, or invalid for good
    after being offline (Q11/Q12: nothing resumes by itself) are gone."""
    return [item for item in installed if not _is_dead(item, running)]


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
    if running.offline_since is None or not isinstance(profile, v21.ChargingProfileType):
        return False
    if profile.maxOfflineDuration is None:
        return False
    return running.now >= running.offline_since + timedelta(seconds=profile.maxOfflineDuration)


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
    cycle = _RECURRENCE.get(item.profile.recurrencyKind or "")
    if kind == "Recurring" and start is not None and cycle is not None and running.now >= start:
        return start + cycle * ((running.now - start) // cycle)
    return start


def _period_now(item: InstalledProfile, running: Running) -> Period | None:
    schedule: Schedule = item.profile.chargingSchedule[0]
    start = _start_of(item, schedule, running)
    if start is None or running.now < start:
        return None
    elapsed_s = (running.now - start).total_seconds()
    if schedule.duration is not None and elapsed_s >= schedule.duration:
        return None
    started: list[Period] = [p for p in schedule.chargingSchedulePeriod if p.startPeriod <= elapsed_s]
    return max(started, key=lambda period: period.startPeriod, default=None)


def _to_kw(value: float | None, item: InstalledProfile, period: Period) -> float | None:
    """A wire value in W, or in A per phase, as kW."""
    if value is None:
        return None
    if item.profile.chargingSchedule[0].chargingRateUnit == "W":
        return value / 1000.0
    return value * PHASE_VOLTAGE_V * (period.numberPhases or DEFAULT_PHASES) / 1000.0


def _power_of(item: InstalledProfile, period: Period) -> ProfilePower:
    values: dict[str, float | None] = {"limit": period.limit, "dischargeLimit": None, "setpoint": None}
    if isinstance(period, v21.ChargingSchedulePeriodType):
        values |= {"dischargeLimit": period.dischargeLimit, "setpoint": period.setpoint}
    if item.update is not None:
        changed = {name: getattr(item.update, name) for name in values}
        values |= {name: value for name, value in changed.items() if value is not None}
    limit_kw = _to_kw(values["limit"], item, period)
    setpoint_kw = _to_kw(values["setpoint"], item, period)
    lower_kw = _to_kw(values["dischargeLimit"], item, period)
    if limit_kw is not None and limit_kw < 0.0:
        return ProfilePower(lower_kw=limit_kw, upper_kw=0.0, setpoint_kw=limit_kw, profile_id=item.profile.id)
    if lower_kw is None:
        lower_kw = min(setpoint_kw or 0.0, 0.0)
    power = ProfilePower(lower_kw=lower_kw, upper_kw=limit_kw, profile_id=item.profile.id)
    return power if setpoint_kw is None else _with_setpoint(power, setpoint_kw)


def _with_setpoint(power: ProfilePower, setpoint_kw: float) -> ProfilePower:
    upper_kw = math.inf if power.upper_kw is None else power.upper_kw
    bounded_kw = min(max(setpoint_kw, power.lower_kw), upper_kw)
    return ProfilePower(
        lower_kw=power.lower_kw, upper_kw=power.upper_kw, setpoint_kw=bounded_kw, profile_id=power.profile_id
    )


def _narrowed(power: ProfilePower, bound: ProfilePower) -> ProfilePower:
    """`power` under a station-wide maximum; a bound of 0 stops charging, it never makes a discharge."""
    uppers = [upper for upper in (power.upper_kw, bound.upper_kw) if upper is not None]
    narrowed = ProfilePower(lower_kw=power.lower_kw, upper_kw=min(uppers, default=None), profile_id=power.profile_id)
    return narrowed if power.setpoint_kw is None else _with_setpoint(narrowed, power.setpoint_kw)
