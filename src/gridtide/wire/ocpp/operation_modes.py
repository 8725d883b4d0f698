"""Operation modes of a charging schedule period (OCPP 2.1, block Q): which fields each needs, and the power it asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

import msgspec

from gridtide.wire.ocpp.generated import v21, v201

Period: TypeAlias = v21.ChargingSchedulePeriodType | v201.ChargingSchedulePeriodType
Values: TypeAlias = dict[str, float | None]
"""limit, dischargeLimit, setpoint, setpointReactive and their _L2 and _L3 forms, as on the wire."""

DEFAULT_PHASES: Final = 3
PHASE_VOLTAGE_V: Final = 230.0
NEEDED: Final[dict[str, frozenset[str]]] = {
    "ChargingOnly": frozenset({"limit"}),
    "CentralSetpoint": frozenset({"setpoint"}),
    "CentralFrequency": frozenset({"setpoint"}),
    "LocalFrequency": frozenset({"v2xBaseline", "v2xFreqWattCurve"}),
    "ExternalSetpoint": frozenset(),
    "ExternalLimits": frozenset(),
    "LocalLoadBalancing": frozenset(),
    "Idle": frozenset(),
}
"""Fields a period must have."""
ALLOWED: Final[dict[str, frozenset[str]]] = {
    "ChargingOnly": NEEDED["ChargingOnly"],
    "CentralSetpoint": frozenset({"setpoint", "limit", "dischargeLimit", "setpointReactive"}),
    "CentralFrequency": frozenset({"setpoint", "limit", "dischargeLimit", "v2xSignalWattCurve", "v2xBaseline"}),
    "LocalFrequency": NEEDED["LocalFrequency"],
    "ExternalSetpoint": frozenset({"limit", "dischargeLimit"}),
    "ExternalLimits": frozenset(),
    "LocalLoadBalancing": frozenset(),
    "Idle": frozenset(),
}
"""Power fields a period may have."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a station knows besides its profiles; None: not known."""

    signal: int | None = None
    """Last AFRRSignal."""
    frequency_hz: float | None = None
    soc: float | None = None
    """0..1."""
    external_kw: float | None = None
    """Setpoint of a site's own energy management."""
    load_kw: float | None = None
    """Uncontrolled load at the local meter."""


class ProfilePower(msgspec.Struct, frozen=True, kw_only=True):
    """What the profiles ask for. Power: + charging, - discharging; None: not limited."""

    lower_kw: float
    """Lowest power allowed, <= 0; 0 unless a profile allows discharge."""
    upper_kw: float | None
    setpoint_kw: float | None = None
    """Power to follow, already inside the bounds; None: free within them."""
    profile_id: int | None = None
    mode: str = "ChargingOnly"
    """The operation mode in force."""
    reactive_kvar: float | None = None
    """+ inductive, - capacitive."""


def interpolated(points: Sequence[tuple[float, float]], at: float) -> float:
    """The value of a curve at `at`: straight between its points, flat beyond the outer ones. Points in any order."""
    ordered = sorted(points)
    if at <= ordered[0][0]:
        return ordered[0][1]
    for (x0, y0), (x1, y1) in pairwise(ordered):
        if at <= x1:
            return y1 if x1 == x0 else y0 + (y1 - y0) * ((at - x0) / (x1 - x0))
    return ordered[-1][1]


def period_power_kw(period: Period, values: Values, is_watts: bool, around: Surroundings) -> ProfilePower:
    """The power one period asks for; `values` are its power fields with any dynamic update applied."""
    scale = _scale(period, is_watts)
    limit_kw = _total_kw(values, "limit", scale)
    if limit_kw is not None and limit_kw < 0.0:
        # The old form of a discharge: one negative number.
        return ProfilePower(lower_kw=limit_kw, upper_kw=0.0, setpoint_kw=limit_kw, mode="CentralSetpoint")
    mode = getattr(period, "operationMode", None)
    setpoint_kw = _setpoint_kw(mode, period, values, scale, around)
    lower_kw = _total_kw(values, "dischargeLimit", scale)
    if lower_kw is None:
        lower_kw = min(setpoint_kw or 0.0, 0.0)
    told = mode or ("ChargingOnly" if setpoint_kw is None else "CentralSetpoint")
    reactive = _total_kw(values, "setpointReactive", scale)
    power = ProfilePower(lower_kw=lower_kw, upper_kw=limit_kw, mode=told, reactive_kvar=reactive)
    return power if setpoint_kw is None else with_setpoint(power, setpoint_kw)


def with_setpoint(power: ProfilePower, setpoint_kw: float) -> ProfilePower:
    """`power` that follows `setpoint_kw` inside its own bounds."""
    upper_kw = math.inf if power.upper_kw is None else power.upper_kw
    return msgspec.structs.replace(power, setpoint_kw=min(max(setpoint_kw, power.lower_kw), upper_kw))


def _setpoint_kw(
    mode: str | None, period: Period, values: Values, scale: tuple[float, float], around: Surroundings
) -> float | None:
    """The setpoint of a mode, before any bound; None: the mode leaves the power free."""
    if mode == "Idle":
        return 0.0
    if mode == "ExternalSetpoint":
        return around.external_kw or 0.0
    if mode == "LocalLoadBalancing":
        # The station holds the meter at zero: it gives what the building takes, and takes what it gives.
        return -(around.load_kw or 0.0)
    if mode in ("LocalFrequency", "CentralFrequency") and isinstance(period, v21.ChargingSchedulePeriodType):
        return _on_curve_kw(mode, period, _total_kw(values, "setpoint", scale), around)
    return None if mode in ("ChargingOnly", "ExternalLimits") else _total_kw(values, "setpoint", scale)


def _on_curve_kw(
    mode: str, period: v21.ChargingSchedulePeriodType, setpoint_kw: float | None, around: Surroundings
) -> float:
    base_kw = setpoint_kw if period.v2xBaseline is None else period.v2xBaseline / 1000.0
    added_w = 0.0
    if mode == "LocalFrequency" and period.v2xFreqWattCurve and around.frequency_hz is not None:
        added_w = interpolated([(p.frequency, p.power) for p in period.v2xFreqWattCurve], around.frequency_hz)
    if mode == "CentralFrequency" and period.v2xSignalWattCurve and around.signal is not None:
        added_w = interpolated([(p.signal, p.power) for p in period.v2xSignalWattCurve], around.signal)
    return (base_kw or 0.0) + added_w / 1000.0


def _scale(period: Period, is_watts: bool) -> tuple[float, float]:
    """Watts per wire unit: of a plain value, and of one that holds for a single phase."""
    if is_watts:
        return 1.0, 1.0
    return PHASE_VOLTAGE_V * (period.numberPhases or DEFAULT_PHASES), PHASE_VOLTAGE_V


def _total_kw(values: Values, name: str, scale: tuple[float, float]) -> float | None:
    """The sum of a value: plain, or L1 with L2 and L3 where those are told."""
    phases = [value for value in (values[f"{name}_L2"], values[f"{name}_L3"]) if value is not None]
    plain = values[name]
    if phases:
        return ((plain or 0.0) + sum(phases)) * scale[1] / 1000.0
    return None if plain is None else plain * scale[0] / 1000.0
