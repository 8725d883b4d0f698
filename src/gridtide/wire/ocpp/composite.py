"""Composite schedules: what the installed profiles will ask of an EVSE over a span, as one list of periods (K08)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.operation_modes import DEFAULT_PHASES, PHASE_VOLTAGE_V, ProfilePower
from gridtide.wire.ocpp.profiles import LONGEST_S, InstalledProfile, Running, offline_end, profile_power_kw, starts_of

MAX_SPAN_S: Final = 8 * 86_400
"""A longer span is cut: recurring profiles have no end."""
MAX_PERIODS: Final = 1024
RateUnit = Literal["W", "A"]


class Slice(msgspec.Struct, frozen=True):
    """One stretch of a composite schedule."""

    offset_s: int
    power: ProfilePower


class Composite(msgspec.Struct, frozen=True):
    """Slices from `start` on, the first at 0; the last one lasts to `duration_s`."""

    start: datetime
    duration_s: int
    slices: tuple[Slice, ...]


def composite(installed: Sequence[InstalledProfile], running: Running, duration_s: int) -> Composite:
    """The power in force at every whole second from now to now + `duration_s`, as stretches that differ.

    The situation (transaction, signal, charge) is taken to stay as it is; what time changes is followed. A span that needs
    more than 1024 stretches, or is longer than 8 days, comes out shorter. `ValueError` if `duration_s` is below 1.
    """
    if duration_s < 1:
        raise ValueError(f"duration_s is {duration_s}: give a span of 1 s or more")
    start = running.now
    span_s = min(duration_s, MAX_SPAN_S)
    slices: list[Slice] = []
    for offset_s in _breaks(installed, running, span_s):
        at = msgspec.structs.replace(running, now=start + timedelta(seconds=offset_s))
        power = profile_power_kw(installed, at)
        if slices and msgspec.structs.replace(slices[-1].power, profile_id=power.profile_id) == power:
            continue
        if len(slices) == MAX_PERIODS:
            return Composite(start, offset_s, tuple(slices))
        slices.append(Slice(offset_s, power))
    return Composite(start, span_s, tuple(slices))


def _breaks(installed: Sequence[InstalledProfile], running: Running, span_s: int) -> list[int]:
    """Whole seconds from now at which a profile begins, changes or ends, 0 first."""
    until = running.now + timedelta(seconds=span_s)
    offsets = {0}

    def note(instant: datetime | None) -> None:
        if instant is not None and running.now < instant < until:
            offsets.add(math.ceil((instant - running.now).total_seconds()))

    for item in installed:
        schedule = item.schedule
        note(item.profile.validFrom)
        note(item.profile.validTo)
        note(offline_end(item.profile, running))
        for start in starts_of(item, running, until):
            note(start)
            for period in schedule.chargingSchedulePeriod:
                note(start + timedelta(seconds=min(period.startPeriod, LONGEST_S)))
            if schedule.duration is not None:
                note(start + timedelta(seconds=min(schedule.duration, LONGEST_S)))
    return sorted(offset for offset in offsets if offset < span_s)


def composite_fields(
    found: Composite, version: Version, evse_id: int, unit: RateUnit, free_kw: float
) -> dict[str, Any]:
    """A CompositeScheduleType as fields; `free_kw` is what the EVSE takes where no profile limits it.

    2.0.1 has one number: a setpoint, also a negative one, or the limit.
    """
    per_kw = 1000.0 if unit == "W" else 1000.0 / PHASE_VOLTAGE_V / DEFAULT_PHASES

    def wire(kw: float) -> float:
        return round(kw * per_kw, 3) + 0.0

    def period(item: Slice) -> dict[str, Any]:
        power = item.power
        upper_kw = free_kw if power.upper_kw is None else power.upper_kw
        told: dict[str, Any] = {"startPeriod": item.offset_s}
        if version == "2.0.1":
            return told | {"limit": wire(upper_kw if power.setpoint_kw is None else power.setpoint_kw)}
        if power.setpoint_kw is None:
            return told | {"limit": wire(upper_kw), "operationMode": "ChargingOnly"}
        told |= {"operationMode": "CentralSetpoint", "setpoint": wire(power.setpoint_kw)}
        return told | {
            "limit": wire(max(upper_kw, power.setpoint_kw)),
            "dischargeLimit": wire(min(power.lower_kw, 0.0)),
        }

    return {
        "evseId": evse_id, "duration": found.duration_s, "scheduleStart": found.start, "chargingRateUnit": unit,
        "chargingSchedulePeriod": [period(item) for item in found.slices],
    }  # fmt: skip
