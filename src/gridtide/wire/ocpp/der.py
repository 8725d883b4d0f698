"""DER control (block R, 2.1): which body each of the 22 control types carries, and what that body must satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.problems import Problem, problem

Body: TypeAlias = Literal[
    "curve",
    "enterService",
    "fixedPFAbsorb",
    "fixedPFInject",
    "fixedVar",
    "freqDroop",
    "gradient",
    "limitMaxDischarge",
]

BODIES: Final[tuple[Body, ...]] = get_args(Body)
_OWN_BODY: Final[dict[str, Body]] = {
    "EnterService": "enterService",
    "FixedPFAbsorb": "fixedPFAbsorb",
    "FixedPFInject": "fixedPFInject",
    "FixedVar": "fixedVar",
    "FreqDroop": "freqDroop",
    "Gradients": "gradient",
    "LimitMaxDischarge": "limitMaxDischarge",
}
BODY_OF: Final[dict[str, Body]] = {kind: _OWN_BODY.get(kind, "curve") for kind in get_args(v21.DERControlEnumType)}
"""Control type -> the one field of SetDERControl that holds its settings."""

UNSCHEDULED: Final = frozenset({"enterService", "gradient"})
"""Bodies without startTime and duration: they are defaults by nature."""

_VAR_UNITS: Final = frozenset({"PctMaxVar", "PctMaxW", "PctVarAvail", "Not_Applicable"})
_NOT_NEGATIVE: Final = ("delay", "randomDelay", "rampRate", "responseTime", "gradient", "softGradient", "duration")


def der_problems(request: v21.SetDERControlRequest, now: datetime) -> tuple[Problem, ...]:
    """Why a station must refuse this control: body and type do not match, or the body contradicts itself."""
    return tuple(_set_problems(request, now))


def _set_problems(request: v21.SetDERControlRequest, now: datetime) -> Iterator[Problem]:
    wanted = BODY_OF[request.controlType]
    if not request.controlId:
        yield problem("controlId", "empty", "give every control an id, e.g. a UUID")
    for name in BODIES:
        body = getattr(request, name)
        if name == wanted and body is None:
            yield problem(name, None, f"{request.controlType} carries its settings there")
        elif name != wanted and body is not None:
            yield problem(name, "present", f"{request.controlType} takes {wanted} alone")
        elif name == wanted:
            yield from _schedule_problems(name, body, now, is_default=request.isDefault)
            yield from _body_problems(name, body)


def _schedule_problems(name: Body, body: object, now: datetime, *, is_default: bool) -> Iterator[Problem]:
    """A default control holds always; a scheduled one says when it begins and how long it lasts."""
    if name in UNSCHEDULED:
        if not is_default:
            yield problem("isDefault", "false", f"{name} has no times, so it can only be a default")
        return
    start, duration = getattr(body, "startTime", None), getattr(body, "duration", None)
    for field, value in (("startTime", start), ("duration", duration)):
        if is_default and value is not None:
            yield problem(f"{name}.{field}", value, "leave it out: a default control has no times")
        elif not is_default and value is None:
            yield problem(f"{name}.{field}", None, "a control that is no default needs it")
    if duration is not None and not duration > 0.0:
        yield problem(f"{name}.duration", duration, "give more than 0 s")
    elif start is not None and duration is not None and start.timestamp() + duration <= now.timestamp():
        yield problem(f"{name}.startTime", start, "the control would have ended already")


def _body_problems(name: Body, body: object) -> Iterator[Problem]:
    for field in _NOT_NEGATIVE:
        value = getattr(body, field, None)
        if field != "duration" and value is not None and not value >= 0.0:
            yield problem(f"{name}.{field}", value, "give 0 or more")
    match body:
        case v21.DERCurveType():
            yield from _curve_problems(name, body)
        case v21.FixedPFType():
            if not 0.0 <= body.displacement <= 1.0:
                yield problem(f"{name}.displacement", body.displacement, "a power factor lies in 0..1")
        case v21.FixedVarType():
            yield from _fixed_var_problems(body)
        case v21.FreqDroopType():
            yield from _droop_problems(body)
        case v21.EnterServiceType():
            yield from _window_problems(body)
        case v21.LimitMaxDischargeType():
            yield from _discharge_problems(body)


def _curve_problems(name: str, curve: v21.DERCurveType) -> Iterator[Problem]:
    for field in ("hysteresisDelay", "hysteresisGradient"):
        value = getattr(curve.hysteresis, field, None)
        if value is not None and not value >= 0.0:
            yield problem(f"{name}.hysteresis.{field}", value, "give 0 or more")
    points = [(point.x, point.y) for point in curve.curveData]
    if len(set(points)) != len(points):
        yield problem(f"{name}.curveData", points, "a point stands there twice")
    mean = curve.voltageParams
    if mean is not None and mean.hv10MinMeanValue is not None and mean.hv10MinMeanTripDelay is None:
        yield problem(f"{name}.voltageParams.hv10MinMeanTripDelay", None, "hv10MinMeanValue needs its delay")


def _fixed_var_problems(body: v21.FixedVarType) -> Iterator[Problem]:
    if not -100.0 <= body.setpoint <= 100.0:
        yield problem("fixedVar.setpoint", body.setpoint, "a percentage lies in -100..100")
    if body.unit not in _VAR_UNITS:
        yield problem("fixedVar.unit", body.unit, f"use one of {', '.join(sorted(_VAR_UNITS))}")


def _droop_problems(body: v21.FreqDroopType) -> Iterator[Problem]:
    if not body.underFreq < body.overFreq:
        yield problem("freqDroop.underFreq", body.underFreq, f"must lie below overFreq {body.overFreq}")
    for field in ("overDroop", "underDroop"):
        if not getattr(body, field) > 0.0:
            yield problem(f"freqDroop.{field}", getattr(body, field), "a droop is more than 0")


def _window_problems(body: v21.EnterServiceType) -> Iterator[Problem]:
    for low, high in (("lowVoltage", "highVoltage"), ("lowFreq", "highFreq")):
        if not getattr(body, low) < getattr(body, high):
            yield problem(f"enterService.{low}", getattr(body, low), f"must lie below {high} {getattr(body, high)}")


def _discharge_problems(body: v21.LimitMaxDischargeType) -> Iterator[Problem]:
    share = body.pctMaxDischargePower
    if share is None and body.powerMonitoringMustTrip is None:
        yield problem("limitMaxDischarge.pctMaxDischargePower", None, "give a percentage or powerMonitoringMustTrip")
    if share is not None and not 0.0 <= share <= 100.0:
        yield problem("limitMaxDischarge.pctMaxDischargePower", share, "a percentage lies in 0..100")
    if body.powerMonitoringMustTrip is not None:
        yield from _curve_problems("limitMaxDischarge.powerMonitoringMustTrip", body.powerMonitoringMustTrip)
