"""The `[meter]` table of a configuration (already parsed TOML) to a register map; every problem told at once."""

import math
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from gridtide.model.bounds import unbounded
from gridtide.wire.modbus.presets import PRESETS, SUNSPEC_ADDRESS, SUNSPEC_MODELS, sunspec
from gridtide.wire.modbus.registers import Register, RegisterMap, RegisterMapError

MAP_FIELDS = ("preset", "address", "unit_id", "name", "max_gap", "max_count", "sign", "register")
"""Fields of `[meter]` that make the map; others (host, port, ...) belong to the caller."""
_TEXT = ("name", "kind", "table", "unit", "word_order", "byte_order", "scale_register")
_NUMBER = ("scale", "offset")
_WHOLE = ("address", "sign")
_NEEDED = ("name", "address", "kind")


def map_from_table(table: Mapping[str, object]) -> RegisterMap:
    """Register map of a `[meter]` table: `preset`, own `[[meter.register]]` rows, or both (rows are added).

    `sign = -1` turns power and reactive power of a meter that is wired or counts the other way round. Raises
    `RegisterMapError` with every problem.
    """
    if text := unbounded(table):
        raise RegisterMapError([f"meter {text}"])
    problems: list[str] = []
    known = _preset(table, problems)
    rows = table.get("register", [])
    registers: list[Register] = []
    if not isinstance(rows, list):
        problems.append(f"meter.register is {rows!r}: give [[meter.register]] tables")
    else:
        registers = [found for i, row in enumerate(rows) if (found := _register(row, i, problems)) is not None]
    if known is None and not registers and not problems:
        problems.append(f"meter: neither preset nor register: give preset (one of {', '.join(PRESETS)}) or rows")
    name = table.get("name", known.name if known else "meter")
    if not isinstance(name, str):
        problems.append(f"meter.name is {name!r}: give a text")
    unit_id = _whole(table, "unit_id", 1, problems)
    max_gap = _whole(table, "max_gap", known.max_gap if known else 0, problems)
    max_count = _whole(table, "max_count", known.max_count if known else 125, problems)
    sign = _whole(table, "sign", 1, problems)
    if sign not in (1, -1):
        problems.append(f"meter.sign is {sign}: 1 or -1")
    if problems:
        raise RegisterMapError(problems)
    return RegisterMap(
        name=str(name),
        unit_id=unit_id,
        registers=tuple(_signed(register, sign) for register in (*(known.registers if known else ()), *registers)),
        max_gap=max_gap,
        max_count=max_count,
        exponents=known.exponents if known else {},
        source=known.source if known else "",
    )


def _preset(table: Mapping[str, object], problems: list[str]) -> RegisterMap | None:
    name = table.get("preset")
    if name is None:
        return None
    if not isinstance(name, str) or name not in PRESETS:
        problems.append(f"meter.preset is {name!r}: one of {', '.join(PRESETS)}")
        return None
    model = int(name.removeprefix("sunspec_")) if name.startswith("sunspec_") else None
    if model not in SUNSPEC_MODELS:
        if "address" in table:
            problems.append("meter.address: only SunSpec presets can be moved, leave it out")
        return PRESETS[name](1)
    address = _whole(table, "address", SUNSPEC_ADDRESS, problems)
    if not 0 <= address <= 65000:
        problems.append(f"meter.address is {address}: address of the model's ID register, 0 to 65000")
        return None
    return sunspec(model, address=address)


def _signed(register: Register, sign: int) -> Register:
    if register.name.endswith(("_kw", "_kvar")):
        return replace(register, sign=register.sign * sign)
    return register


def _register(row: object, index: int, problems: list[str]) -> Register | None:
    """One row; None if it cannot be made, its problems added."""
    where = f"meter.register[{index}]"
    if not isinstance(row, Mapping):
        problems.append(f"{where} is {row!r}: give a table")
        return None
    before = len(problems)
    fields: dict[str, Any] = {}
    for key, value in row.items():
        if key in _TEXT:
            _take(fields, key, value, isinstance(value, str), f"{where}: {key} is {value!r}: give a text", problems)
        elif key in _WHOLE:
            fits = isinstance(value, int) and not isinstance(value, bool)
            _take(fields, key, value, fits, f"{where}: {key} is {value!r}: give a whole number", problems)
        elif key in _NUMBER:
            fits = isinstance(value, int | float) and not isinstance(value, bool) and _fits_float(value)
            _take(fields, key, value, fits, f"{where}: {key} is {value!r}: give a finite number", problems)
        elif key == "not_available":
            patterns = value if isinstance(value, list) else [value]
            fits = all(isinstance(pattern, int) and not isinstance(pattern, bool) for pattern in patterns)
            text = f"{where}: not_available is {value!r}: give whole numbers, such as 0x8000"
            _take(fields, key, tuple(patterns), fits, text, problems)
        else:
            problems.append(f"{where}: {key} is not known: correct or remove it")
    problems += [f"{where}: {key} is missing: give it" for key in _NEEDED if key not in row]
    return Register(**fields) if len(problems) == before else None


def _take(fields: dict[str, Any], key: str, value: object, fits: bool, text: str, problems: list[str]) -> None:
    if fits:
        fields[key] = value
    else:
        problems.append(text)


def _fits_float(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _whole(table: Mapping[str, object], key: str, default: int, problems: list[str]) -> int:
    value = table.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    problems.append(f"meter.{key} is {value!r}: give a whole number")
    return default
