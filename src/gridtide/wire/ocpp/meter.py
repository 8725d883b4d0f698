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
_TO_KILO: Final = {"W": 1e-3, "kW": 1.0, "Wh": 1e-3, "kWh": 1.0}
_POWER_UNITS: Final = ("W", "kW")
_ENERGY_UNITS: Final = ("Wh", "kWh")
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
    energy_import_kwh: float | None = None
    energy_export_kwh: float | None = None
    temperature_c: float | None = None


def read_meter_values(meter_values: Sequence[MeterValue]) -> MeterReading:
    """The reading in a `meterValue` list: later timestamps win, value by value.

    Only values at the outlet count for power and energy. Per-phase values are summed when no total is given. Unknown
    units and impossible values (non-finite, SoC outside 0..100 %) are left out. Raises ValueError on an empty list.
    """
    if not meter_values:
        raise ValueError("meterValue is empty: send at least one")
    ordered = sorted(meter_values, key=lambda value: value.timestamp)
    reading = MeterReading(t_s=ordered[-1].timestamp.timestamp())
    for meter_value in ordered:
        found = _reading_of(meter_value.sampledValue)
        reading = msgspec.structs.replace(reading, **{key: item for key, item in found.items() if item is not None})
    return reading


def meter_values(reading: MeterReading, version: Version) -> tuple[MeterValue, ...]:
    """A `meterValue` list that tells `reading`: export as a positive magnitude, SoC in percent, W and Wh."""
    samples = _samples(reading)
    at = datetime.fromtimestamp(reading.t_s, UTC)
    if version == "2.1":
        return (v21.MeterValueType(timestamp=at, sampledValue=tuple(_v21_sample(*s) for s in samples)),)
    return (v201.MeterValueType(timestamp=at, sampledValue=tuple(_v201_sample(*s) for s in samples)),)


def _reading_of(samples: Iterable[SampledValue]) -> dict[str, float | None]:
    items = [sample for sample in samples if math.isfinite(sample.value)]
    import_kw = _total(items, "Power.Active.Import", _POWER_UNITS)
    export_kw = _total(items, "Power.Active.Export", _POWER_UNITS)
    is_told = import_kw is not None or export_kw is not None
    return {
        "power_kw": (import_kw or 0.0) - (export_kw or 0.0) if is_told else None,
        "soc": _soc(items),
        "energy_import_kwh": _total(items, DEFAULT_MEASURAND, _ENERGY_UNITS),
        "energy_export_kwh": _total(items, "Energy.Active.Export.Register", _ENERGY_UNITS),
        "temperature_c": next((_scaled(s) for s in items if _unit(s) in _CELSIUS_UNITS), None),
    }


def _unit(sample: SampledValue) -> str:
    """The unit; left out it is Wh for energy, and by the measurand's nature W or Percent."""
    unit = sample.unitOfMeasure.unit if sample.unitOfMeasure else None
    if unit is not None:
        return unit
    measurand = sample.measurand or DEFAULT_MEASURAND
    if measurand.startswith("Power"):
        return "W"
    return "Percent" if measurand == "SoC" else "Wh"


def _scaled(sample: SampledValue) -> float | None:
    exponent = (sample.unitOfMeasure.multiplier if sample.unitOfMeasure else None) or 0
    return sample.value * 10.0**exponent if abs(exponent) <= _MAX_EXPONENT else None


def _total(samples: list[SampledValue], measurand: str, units: tuple[str, ...]) -> float | None:
    """Overall value in kilo-units, or the sum of L1..L3, or None."""
    phases: dict[str, float] = {}
    for sample in samples:
        value, unit = _scaled(sample), _unit(sample)
        is_wanted = (sample.measurand or DEFAULT_MEASURAND) == measurand and sample.location in (None, "Outlet")
        if not is_wanted or value is None or unit not in units:
            continue
        if sample.phase is None:
            return value * _TO_KILO[unit]
        if sample.phase in _LINE_PHASES:
            phases[sample.phase] = value * _TO_KILO[unit]
    return sum(phases.values()) if phases else None


def _soc(samples: list[SampledValue]) -> float | None:
    for sample in samples:
        percent = _scaled(sample) if sample.measurand == "SoC" else None
        if percent is not None and 0.0 <= percent <= 100.0 and _unit(sample) in ("Percent", "%"):
            return percent / 100.0
    return None


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
