"""Meter values: signs, units, multipliers, phases, and values that must not count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.meter import MeterReading, meter_values, read_meter_values

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sample(value: float, measurand: Any = None, unit: str | None = None, **options: Any) -> v21.SampledValueType:
    multiplier = options.pop("multiplier", None)
    of = v21.UnitOfMeasureType(unit=unit, multiplier=multiplier) if unit or multiplier else None
    return v21.SampledValueType(value=value, measurand=measurand, unitOfMeasure=of, **options)


def read(*samples: v21.SampledValueType) -> MeterReading:
    return read_meter_values([v21.MeterValueType(timestamp=NOON, sampledValue=samples)])


@pytest.mark.parametrize(
    ("samples", "power_kw"),
    [
        ([sample(5000.0, "Power.Active.Export", "W")], -5.0),
        ([sample(5000.0, "Power.Active.Import", "W")], 5.0),
        ([sample(5.0, "Power.Active.Import", "kW")], 5.0),
        ([sample(5.0, "Power.Active.Export", "W", multiplier=3)], -5.0),
        ([sample(5000.0, "Power.Active.Export")], -5.0),
        ([sample(7000.0, "Power.Active.Import", "W"), sample(0.0, "Power.Active.Export", "W")], 7.0),
        ([sample(0.0, "Power.Active.Import", "W"), sample(7000.0, "Power.Active.Export", "W")], -7.0),
        ([sample(1000.0, "Power.Active.Import", "W", phase=p) for p in ("L1", "L2", "L3")], 3.0),
        (
            [sample(1000.0, "Power.Active.Import", "W", phase="L1"), sample(2500.0, "Power.Active.Import", "W")],
            2.5,
        ),
        ([sample(9000.0, "Power.Active.Import", "W", location="Inlet")], None),
        ([sample(9000.0, "Power.Active.Import", "VA")], None),
        ([sample(9000.0, "Power.Active.Import", "W", multiplier=400)], None),
        ([sample(float("inf"), "Power.Active.Import", "W")], None),
        ([sample(9000.0, "Power.Offered", "W")], None),
    ],
)
def test_power(samples: list[v21.SampledValueType], power_kw: float | None) -> None:
    assert read(*samples).power_kw == power_kw


def test_energy_soc_and_temperature() -> None:
    reading = read(
        sample(12500.0),
        sample(3.5, "Energy.Active.Export.Register", "kWh"),
        sample(55.0, "SoC", "Percent", location="EV"),
        sample(41.5, "Voltage", "Celsius"),
    )
    assert reading.energy_import_kwh == 12.5
    assert reading.energy_export_kwh == 3.5
    assert reading.soc == pytest.approx(0.55)
    assert reading.temperature_c == 41.5
    assert reading.power_kw is None
    assert reading.t_s == NOON.timestamp()


@pytest.mark.parametrize("percent", [-0.1, 100.1, 1e9])
def test_an_impossible_soc_does_not_count(percent: float) -> None:
    reading = read(sample(percent, "SoC", "Percent"))
    assert reading.soc is None
    assert reading.soc_is_impossible


def test_a_possible_soc_beside_an_impossible_one_counts() -> None:
    reading = read(sample(120.0, "SoC", "Percent"), sample(50.0, "SoC", "Percent"))
    assert reading.soc == pytest.approx(0.5)
    assert not reading.soc_is_impossible


def test_later_values_win_value_by_value() -> None:
    early = v21.MeterValueType(
        timestamp=NOON, sampledValue=(sample(1.0, "Power.Active.Import", "kW"), sample(50.0, "SoC", "Percent"))
    )
    late = v21.MeterValueType(
        timestamp=NOON + timedelta(seconds=10), sampledValue=(sample(2.0, "Power.Active.Export", "kW"),)
    )
    for order in ([early, late], [late, early]):
        reading = read_meter_values(order)
        assert (reading.power_kw, reading.soc, reading.t_s) == (-2.0, 0.5, NOON.timestamp() + 10.0)


@pytest.mark.parametrize("phases", [("L1",), ("L1", "L2", "L3"), ()])
def test_what_grows_beyond_every_number_does_not_count(phases: tuple[str, ...]) -> None:
    huge: list[dict[str, Any]] = [{"phase": phase} for phase in phases] or [{}]
    reading = read(*(sample(1.7e308, "Power.Active.Import", "kW", multiplier=1, **options) for options in huge))
    assert reading.power_kw is None
    if len(phases) > 1:
        assert read(*(sample(1.7e308, "Power.Active.Import", "kW", **options) for options in huge)).power_kw is None


def test_newer_magnitudes_replace_both_older_ones() -> None:
    older = v21.MeterValueType(timestamp=NOON, sampledValue=(sample(7000.0, "Power.Active.Import", "W"), sample(3.0)))
    newer = v21.MeterValueType(
        timestamp=NOON + timedelta(seconds=1), sampledValue=(sample(2000.0, "Power.Active.Export", "W"),)
    )
    for told in ([older, newer], [newer, older]):
        reading = read_meter_values(told)
        assert (reading.power_kw, reading.energy_import_kwh) == (-2.0, 0.003)


def test_the_first_of_equal_samples_counts() -> None:
    assert read(sample(1.0, "Voltage", "V"), sample(2.0, "Voltage", "V")).voltage_v == 1.0
    assert read(sample(float("nan"), "Voltage", "V"), sample(2.0, "Voltage", "V")).voltage_v == 2.0


def test_nothing_to_read_or_to_tell() -> None:
    with pytest.raises(ValueError, match="meterValue"):
        read_meter_values([])
    with pytest.raises(ValueError, match="tells nothing"):
        meter_values(MeterReading(t_s=0.0), "2.1")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["2.0.1", "2.1"]),
    st.floats(-1000.0, 1000.0),
    st.none() | st.floats(0.0, 1.0),
    st.none() | st.floats(0.0, 1e6),
    st.none() | st.floats(0.0, 1e6),
)
def test_what_is_told_is_read(
    version: Version, power_kw: float, soc: float | None, bought_kwh: float | None, sold_kwh: float | None
) -> None:
    told = MeterReading(
        t_s=NOON.timestamp(), power_kw=power_kw, soc=soc, energy_import_kwh=bought_kwh, energy_export_kwh=sold_kwh
    )
    values = meter_values(told, version)
    assert isinstance(values[0], v21.MeterValueType if version == "2.1" else v201.MeterValueType)
    assert all(item.value >= 0.0 for item in values[0].sampledValue)
    reading = read_meter_values(values)
    for name in ("t_s", "power_kw", "soc", "energy_import_kwh", "energy_export_kwh", "temperature_c"):
        expected = getattr(told, name)
        assert getattr(reading, name) == (None if expected is None else pytest.approx(expected, abs=1e-9))
