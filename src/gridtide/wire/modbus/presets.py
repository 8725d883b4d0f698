"""Register maps of common meters and inverters; addresses are public facts, counted from 0 as on the wire.

Sources, and what is not verified (no preset was tried on the device itself):

- SunSpec 201-204, 211-214, 701: the SunSpec Alliance's published model definitions (`model_201.json` and so on). Where
  a model starts differs by device: give `address` (of the model's ID register). The sign of a meter's W is not
  fixed by the models 20x and 21x; taken as + import here, check it at commissioning.
- Eastron SDM630: "SDM630 Modbus Protocol" (Eastron), input registers; agrees with two independent drivers.
  Energies and their direction agree, the sign of the total power follows the wiring: check it at commissioning.
- Carlo Gavazzi EM330/EM340/ET330/ET340: "EM300 Series and ET300 Series Communication Protocol", version 2, as given by
  two independent summaries. Least significant word first, at most 50 registers a read. The export counter
  (0x4E) exists in the bidirectional measuring mode only. Overflow pattern 7FFFFFFFh from a driver; not verified.
- Schneider Electric iEM3000 series: user manual DOCA0005, as given by an independent driver.
- Schneider Electric PM5000 series: public register list; the same addresses as the iEM3000; the list itself was not
  at hand, so they are not verified.
- Janitza UMG 96RM/96-PA/604/605/509/512: "Modbus address list and formulary", the common block from 19000 on;
  voltages, currents, total power and both energies agree with an independent driver; another takes 19060 and 19062
  for the energies. Powers per phase (19020) and frequency (19050) not verified.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from gridtide.wire.modbus.registers import Kind, Register, RegisterMap

SUNSPEC_ADDRESS = 40070
"""ID register of the first model behind SunSpec's marker at 40000 and a common model (1) of 66 registers."""
NAN_INT: Mapping[str, int] = {
    "int16": 0x8000,
    "uint16": 0xFFFF,
    "int32": 0x8000_0000,
    "uint32": 0xFFFF_FFFF,
    "int64": 0x8000_0000_0000_0000,
    "uint64": 0xFFFF_FFFF_FFFF_FFFF,
}
"""SunSpec's "not implemented" by type; an accumulator (acc32) says it with 0."""


class _Point(NamedTuple):
    """One value of a SunSpec model: offset from the ID register, device unit, scale factor, sign."""

    name: str
    offset: int
    kind: Kind
    unit: str
    factor: str | None = None
    sign: int = 1


_METER_INT = (
    _Point("current_l1_a", 3, "int16", "A", "a_sf"),
    _Point("current_l2_a", 4, "int16", "A", "a_sf"),
    _Point("current_l3_a", 5, "int16", "A", "a_sf"),
    _Point("a_sf", 6, "int16", "sf"),
    _Point("voltage_l1_v", 8, "int16", "V", "v_sf"),
    _Point("voltage_l2_v", 9, "int16", "V", "v_sf"),
    _Point("voltage_l3_v", 10, "int16", "V", "v_sf"),
    _Point("v_sf", 15, "int16", "sf"),
    _Point("frequency_hz", 16, "int16", "Hz", "hz_sf"),
    _Point("hz_sf", 17, "int16", "sf"),
    _Point("power_kw", 18, "int16", "W", "w_sf"),
    _Point("power_l1_kw", 19, "int16", "W", "w_sf"),
    _Point("power_l2_kw", 20, "int16", "W", "w_sf"),
    _Point("power_l3_kw", 21, "int16", "W", "w_sf"),
    _Point("w_sf", 22, "int16", "sf"),
    _Point("reactive_kvar", 28, "int16", "var", "var_sf"),
    _Point("var_sf", 32, "int16", "sf"),
    _Point("export_kwh", 38, "uint32", "Wh", "wh_sf"),
    _Point("import_kwh", 46, "uint32", "Wh", "wh_sf"),
    _Point("wh_sf", 54, "int16", "sf"),
)
_METER_FLOAT = (
    _Point("current_l1_a", 4, "float32", "A"),
    _Point("current_l2_a", 6, "float32", "A"),
    _Point("current_l3_a", 8, "float32", "A"),
    _Point("voltage_l1_v", 12, "float32", "V"),
    _Point("voltage_l2_v", 14, "float32", "V"),
    _Point("voltage_l3_v", 16, "float32", "V"),
    _Point("frequency_hz", 26, "float32", "Hz"),
    _Point("power_kw", 28, "float32", "W"),
    _Point("power_l1_kw", 30, "float32", "W"),
    _Point("power_l2_kw", 32, "float32", "W"),
    _Point("power_l3_kw", 34, "float32", "W"),
    _Point("reactive_kvar", 44, "float32", "var"),
    _Point("export_kwh", 60, "float32", "Wh"),
    _Point("import_kwh", 68, "float32", "Wh"),
)
_DER_AC = (
    _Point("power_kw", 10, "int16", "W", "w_sf", -1),
    _Point("reactive_kvar", 12, "int16", "var", "var_sf", -1),
    _Point("current_a", 14, "int16", "A", "a_sf"),
    _Point("voltage_ll_v", 15, "uint16", "V", "v_sf"),
    _Point("voltage_ln_v", 16, "uint16", "V", "v_sf"),
    _Point("frequency_hz", 17, "uint32", "Hz", "hz_sf"),
    _Point("export_kwh", 19, "uint64", "Wh", "wh_sf"),
    _Point("import_kwh", 23, "uint64", "Wh", "wh_sf"),
    _Point("ambient_c", 35, "int16", "°C", "tmp_sf"),
    _Point("cabinet_c", 36, "int16", "°C", "tmp_sf"),
    _Point("heat_sink_c", 37, "int16", "°C", "tmp_sf"),
    _Point("switch_c", 39, "int16", "°C", "tmp_sf"),
    _Point("a_sf", 113, "int16", "sf"),
    _Point("v_sf", 114, "int16", "sf"),
    _Point("hz_sf", 115, "int16", "sf"),
    _Point("w_sf", 116, "int16", "sf"),
    _Point("var_sf", 119, "int16", "sf"),
    _Point("wh_sf", 120, "int16", "sf"),
    _Point("tmp_sf", 122, "int16", "sf"),
)
_EXPONENTS = {"a_sf": -1, "v_sf": -1, "hz_sf": -2, "w_sf": 2, "var_sf": 2, "wh_sf": 2, "tmp_sf": -1}
_PHASES = {201: ("l1",), 202: ("l1", "l2"), 203: ("l1", "l2", "l3"), 204: ("l1", "l2", "l3")}
_PHASES |= {model + 10: phases for model, phases in _PHASES.items()}
SUNSPEC_MODELS = (*sorted(_PHASES), 701)


def sunspec(model: int, *, address: int = SUNSPEC_ADDRESS, unit_id: int = 1) -> RegisterMap:
    """Map of SunSpec meter model 201-204 or 211-214, or of DER AC measurement 701, at `address` (its ID register).

    701 counts generation as positive, so power and reactive power change their sign. `ValueError` on other models.
    """
    if model not in SUNSPEC_MODELS:
        raise ValueError(f"SunSpec model {model} has no preset: give one of {', '.join(map(str, SUNSPEC_MODELS))}")
    points: tuple[_Point, ...] = _DER_AC if model == 701 else _METER_INT if model < 210 else _METER_FLOAT
    absent = {"l1", "l2", "l3"} - set(_PHASES.get(model, ("l1", "l2", "l3")))
    points = tuple(point for point in points if not any(f"_{phase}_" in point.name for phase in absent))
    return RegisterMap(
        name=f"sunspec_{model}",
        unit_id=unit_id,
        registers=tuple(_sunspec_register(point, address, model) for point in points),
        max_gap=125,
        exponents={point.name: _EXPONENTS[point.name] for point in points if point.unit == "sf"},
        source=f"SunSpec Alliance model definition {model}",
    )


def _sunspec_register(point: _Point, address: int, model: int) -> Register:
    patterns: tuple[int, ...] = ()
    if point.kind in NAN_INT:
        accumulator = model < 210 and point.unit == "Wh"
        patterns = (0,) if accumulator else (NAN_INT[point.kind],)
    return Register(
        name=point.name,
        address=address + point.offset,
        kind=point.kind,
        unit=point.unit,
        sign=point.sign,
        not_available=patterns,
        scale_register=point.factor,
    )


def eastron_sdm630(unit_id: int = 1) -> RegisterMap:
    """Eastron SDM630-Modbus, three phases; every value a float32 in the input registers."""
    rows = [
        *_phases("voltage_{}_v", 0x0000, 2, "V"),
        *_phases("current_{}_a", 0x0006, 2, "A"),
        *_phases("power_{}_kw", 0x000C, 2, "W"),
        ("power_kw", 0x0034, "W"),
        ("reactive_kvar", 0x003C, "var"),
        ("frequency_hz", 0x0046, "Hz"),
        ("import_kwh", 0x0048, "kWh"),
        ("export_kwh", 0x004A, "kWh"),
    ]
    registers = tuple(Register(name, at, "float32", table="input", unit=unit) for name, at, unit in rows)
    return RegisterMap(
        "eastron_sdm630", unit_id, registers, max_gap=40, max_count=80, source="SDM630 Modbus Protocol (Eastron)"
    )


def carlo_gavazzi_em340(unit_id: int = 1) -> RegisterMap:
    """Carlo Gavazzi EM330/EM340/ET330/ET340, three phases; int32 with the least significant word first."""
    rows = [
        *((name, at, unit, 0.1) for name, at, unit in _phases("voltage_{}_v", 0x0000, 2, "V")),
        *((name, at, unit, 0.001) for name, at, unit in _phases("current_{}_a", 0x000C, 2, "A")),
        *((name, at, unit, 0.1) for name, at, unit in _phases("power_{}_kw", 0x0012, 2, "W")),
        ("power_kw", 0x0028, "W", 0.1),
        ("reactive_kvar", 0x002C, "var", 0.1),
        ("import_kwh", 0x0034, "kWh", 0.1),
        ("export_kwh", 0x004E, "kWh", 0.1),
    ]
    registers = [
        Register(name, at, "int32", "input", unit=unit, scale=scale, word_order="little", not_available=(0x7FFF_FFFF,))
        for name, at, unit, scale in rows
    ]
    registers.append(Register("frequency_hz", 0x0033, "uint16", "input", unit="Hz", scale=0.1, not_available=(0x7FFF,)))
    return RegisterMap(
        "carlo_gavazzi_em340",
        unit_id,
        tuple(registers),
        max_gap=16,
        max_count=50,
        source="EM300/ET300 Series Communication Protocol, version 2 (Carlo Gavazzi); overflow pattern not verified",
    )


def schneider_iem3000(unit_id: int = 1) -> RegisterMap:
    """Schneider Electric iEM3000 series (iEM3155, iEM3255 and others); floats, powers in kW, energies int64 in Wh."""
    rows = [
        *_phases("current_{}_a", 2999, 2, "A"),
        *_phases("voltage_{}_v", 3027, 2, "V"),
        *_phases("power_{}_kw", 3053, 2, "kW"),
        ("power_kw", 3059, "kW"),
        ("reactive_kvar", 3067, "kvar"),
        ("frequency_hz", 3109, "Hz"),
    ]
    missing = (NAN_INT["int64"],)
    registers = [Register(name, at, "float32", unit=unit) for name, at, unit in rows]
    registers.append(Register("import_kwh", 3203, "int64", unit="Wh", not_available=missing))
    registers.append(Register("export_kwh", 3207, "int64", unit="Wh", not_available=missing))
    return RegisterMap(
        "schneider_iem3000", unit_id, tuple(registers), source="user manual DOCA0005 (Schneider Electric)"
    )


def schneider_pm5000(unit_id: int = 1) -> RegisterMap:
    """Schneider Electric PM5000 series (PM5110, PM5350, PM5560 and others); the iEM3000's addresses, not verified."""
    source = "PM5000 public register list (Schneider Electric); not verified, taken as the iEM3000's"
    return replace(schneider_iem3000(unit_id), name="schneider_pm5000", source=source)


def janitza_umg(unit_id: int = 1) -> RegisterMap:
    """Janitza UMG 96RM, 96-PA, 604, 605, 509, 512: float32 in holding registers from 19000 on, energies in Wh."""
    rows = [
        *_phases("voltage_{}_v", 19000, 2, "V"),
        *_phases("current_{}_a", 19012, 2, "A"),
        *_phases("power_{}_kw", 19020, 2, "W"),
        ("power_kw", 19026, "W"),
        ("reactive_kvar", 19042, "var"),
        ("frequency_hz", 19050, "Hz"),
        ("import_kwh", 19068, "Wh"),
        ("export_kwh", 19076, "Wh"),
    ]
    registers = tuple(Register(name, at, "float32", unit=unit) for name, at, unit in rows)
    return RegisterMap(
        "janitza_umg",
        unit_id,
        registers,
        max_gap=20,
        source="Modbus address list and formulary (Janitza); powers per phase, frequency not verified",
    )


def _phases(pattern: str, address: int, step: int, unit: str) -> list[tuple[str, int, str]]:
    """The three phases' rows of one quantity."""
    return [(pattern.format(f"l{i + 1}"), address + i * step, unit) for i in range(3)]


PRESETS: Mapping[str, Callable[[int], RegisterMap]] = {
    **{f"sunspec_{model}": lambda unit_id, model=model: sunspec(model, unit_id=unit_id) for model in SUNSPEC_MODELS},  # type: ignore[misc]
    "eastron_sdm630": eastron_sdm630,
    "carlo_gavazzi_em340": carlo_gavazzi_em340,
    "schneider_iem3000": schneider_iem3000,
    "schneider_pm5000": schneider_pm5000,
    "janitza_umg": janitza_umg,
}
"""Preset name -> map for a unit id."""
