"""Meter values: OCPP's positive import and export magnitudes to one signed power, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import msgspec

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.generated import v21, v201

ToldMeasurand: TypeAlias = Literal[
    "Power.Active.Import",
    "Power.Active.Export",
    "SoC",
    "Energy.Active.Import.Register",
    "Energy.Active.Export.Register",
]
ToldSample: TypeAlias = tuple[ToldMeasurand, float, str]
MeterValue: TypeAlias = v21.MeterValueType | v201.MeterValueType
SampledValue: TypeAlias = v21.SampledValueType | v201.SampledValueType

DEFAULT_MEASURAND: Final = "Energy.Active.Import.Register"
_POWER: Final = {"W": 1e-3, "kW": 1.0}
_ENERGY: Final = {"Wh": 1e-3, "kWh": 1.0}
_UNITS: Final[dict[str, dict[str, float]]] = {
    "Power.Active.Import": _POWER,
    "Power.Active.Export": _POWER,
    DEFAULT_MEASURAND: _ENERGY,
    "Energy.Active.Export.Register": _ENERGY,
    "SoC": {"Percent": 0.01, "%": 0.01},
    "Voltage": {"V": 1.0},
    "Current.Import": {"A": 1.0},
    "Current.Export": {"A": 1.0},
    "Frequency": {"Hz": 1.0},
}
"""What is read, in which units, as factors to ours; the first unit is meant where none is told."""
_FACTORS: Final[dict[tuple[str, str | None], float]] = {
    (measurand, unit): factor
    for measurand, units in _UNITS.items()
    for unit, factor in [(None, next(iter(units.values()))), *units.items()]
}
_PAIRS: Final = (("Power.Active.Import", "Power.Active.Export"), ("Current.Import", "Current.Export"))
_HEAT: Final = "Temperature"
"""Whatever is told in degrees: 2.0.1 has no measurand for it."""
_ANYWHERE: Final = ("SoC", _HEAT)
"""Measured in the vehicle or the cabinet, and not by phase."""
_IMPOSSIBLE: Final = "SoC outside 0..100 %"
_MEANS: Final = ("Voltage", "Current.Import", "Current.Export", "Frequency")
"""Where phases are told, their mean is taken; power and energy are summed."""
_CELSIUS_UNITS: Final = ("Celsius", "Celcius", "degC")
_LINE_PHASES: Final = ("L1", "L2", "L3", "L1-N", "L2-N", "L3-N")
_MAX_EXPONENT: Final = 12


class MeterReading(msgspec.Struct, frozen=True, kw_only=True):
    """The newest readings in a message; None: not told. Power: + charging, - discharging."""

    t_s: float
    """UTC epoch seconds of the newest meter value."""
    power_kw: float | None = None
    soc: float | None = None
    """0..1."""
    soc_is_impossible: bool = False
    """A charge below 0 or above 100 % was told, and none that can be."""
    energy_import_kwh: float | None = None
    energy_export_kwh: float | None = None
    temperature_c: float | None = None
    voltage_v: float | None = None
    """Mean of the phases told."""
    current_a: float | None = None
    """Mean of the phases told; + charging, - discharging."""
    frequency_hz: float | None = None


def read_meter_values(meter_values: Sequence[MeterValue]) -> MeterReading:
    """The reading in a `meterValue` list: later timestamps win, value by value.

    Only values at the outlet count for power and energy. Per-phase values are summed when no total is given. Unknown
    units and impossible values (non-finite, SoC outside 0..100 %) are left out. Raises ValueError on an empty list.
    """
    if not meter_values:
        raise ValueError("meterValue is empty: send at least one")
    if len(meter_values) == 1:
        (only,) = meter_values
        return _reading(only.timestamp, _told(only.sampledValue))
    ordered, told = sorted(meter_values, key=lambda value: value.timestamp), dict[str, float]()
    for meter_value in ordered:
        newer = _told(meter_value.sampledValue)
        for pair in _PAIRS:
            # The two magnitudes of one signed value belong together: a newer one replaces both.
            if pair[0] in newer or pair[1] in newer:
                told.pop(pair[0], None)
                told.pop(pair[1], None)
        told.update(newer)
    return _reading(ordered[-1].timestamp, told)


def meter_values(reading: MeterReading, version: Version) -> tuple[MeterValue, ...]:
    """A `meterValue` list that tells `reading`: export as a positive magnitude, SoC in percent, W and Wh."""
    samples = _samples(reading)
    at = datetime.fromtimestamp(reading.t_s, UTC)
    if version == "2.1":
        return (v21.MeterValueType(timestamp=at, sampledValue=tuple(_v21_sample(*s) for s in samples)),)
    return (v201.MeterValueType(timestamp=at, sampledValue=tuple(_v201_sample(*s) for s in samples)),)


def _reading(at: datetime, told: dict[str, float]) -> MeterReading:
    get = told.get
    return MeterReading(
        t_s=at.timestamp(),
        power_kw=_signed(get("Power.Active.Import"), get("Power.Active.Export")),
        soc=get("SoC"),
        soc_is_impossible=_IMPOSSIBLE in told and "SoC" not in told,
        energy_import_kwh=get(DEFAULT_MEASURAND),
        energy_export_kwh=get("Energy.Active.Export.Register"),
        temperature_c=get(_HEAT),
        voltage_v=get("Voltage"),
        current_a=_signed(get("Current.Import"), get("Current.Export")),
        frequency_hz=get("Frequency"),
    )


def _signed(inward: float | None, outward: float | None) -> float | None:
    if outward is None:
        return inward
    return (inward or 0.0) - outward


def _told(samples: Iterable[SampledValue]) -> dict[str, float]:
    """Values by measurand in our units; the first of each counts. Left out is what is not wanted, not possible or in a unit
    nobody knows. A unit left out is the measurand's own: W, Wh, Percent, V, A, Hz."""
    whole: dict[str, float] = {}
    phases: dict[str, dict[str, float]] = {}
    for sample in samples:
        value, of, unit = sample.value, sample.unitOfMeasure, None
        measurand: str = sample.measurand or DEFAULT_MEASURAND
        if of is not None:
            unit = of.unit
            if of.multiplier:
                value *= 10.0**of.multiplier if abs(of.multiplier) <= _MAX_EXPONENT else math.nan
        factor = _FACTORS.get((measurand, unit))
        if factor is None:
            if unit not in _CELSIUS_UNITS:
                continue
            measurand = _HEAT
        else:
            value *= factor
        if not math.isfinite(value) or measurand in whole:
            continue
        if measurand in _ANYWHERE:
            if measurand == _HEAT or 0.0 <= value <= 1.0:
                whole[measurand] = value
            else:
                whole[_IMPOSSIBLE] = value
        elif sample.location is not None and sample.location != "Outlet":
            continue
        elif sample.phase is None:
            whole[measurand] = value
        elif sample.phase in _LINE_PHASES:
            phases.setdefault(measurand, {})[sample.phase] = value
    for measurand, parts in phases.items():
        total = sum(parts.values())
        if not math.isfinite(total):
            continue
        whole.setdefault(measurand, total / len(parts) if measurand in _MEANS else total)
    return whole


def _samples(reading: MeterReading) -> list[ToldSample]:
    samples: list[ToldSample] = []
    if reading.power_kw is not None:
        samples.append(("Power.Active.Import", max(reading.power_kw, 0.0) * 1000.0, "W"))
        samples.append(("Power.Active.Export", max(-reading.power_kw, 0.0) * 1000.0, "W"))
    if reading.soc is not None:
        samples.append(("SoC", reading.soc * 100.0, "Percent"))
    if reading.energy_import_kwh is not None:
        samples.append(("Energy.Active.Import.Register", reading.energy_import_kwh * 1000.0, "Wh"))
    if reading.energy_export_kwh is not None:
        samples.append(("Energy.Active.Export.Register", reading.energy_export_kwh * 1000.0, "Wh"))
    if not samples:
        raise ValueError("the reading tells nothing: give power_kw, soc or an energy")
    return samples


def _v21_sample(measurand: ToldMeasurand, value: float, unit: str) -> v21.SampledValueType:
    of = v21.UnitOfMeasureType(unit=unit)
    return v21.SampledValueType(value=value, measurand=measurand, unitOfMeasure=of)


def _v201_sample(measurand: ToldMeasurand, value: float, unit: str) -> v201.SampledValueType:
    of = v201.UnitOfMeasureType(unit=unit)
    return v201.SampledValueType(value=value, measurand=measurand, unitOfMeasure=of)
