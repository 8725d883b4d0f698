"""Typed register maps: what a meter's 16-bit words mean in kW, kWh, V, A, Hz and °C, with our sign.

A map that exists is sound: `RegisterMap` collects every problem and refuses to be made. Nothing non-finite leaves
`decode`; a value that is missing, marked "not available" by the device or read in part is `None`, never 0.
"""

import itertools
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bit"]
Table: TypeAlias = Literal["holding", "input", "coil", "discrete"]
Order: TypeAlias = Literal["big", "little"]
Words: TypeAlias = Mapping["ReadBlock", Sequence[int]]

FORMATS: Mapping[str, str] = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
UNITS: Mapping[str, tuple[str, float]] = {
    "W": ("_kw", 1e-3),
    "kW": ("_kw", 1.0),
    "MW": ("_kw", 1e3),
    "var": ("_kvar", 1e-3),
    "kvar": ("_kvar", 1.0),
    "VA": ("_kva", 1e-3),
    "kVA": ("_kva", 1.0),
    "Wh": ("_kwh", 1e-3),
    "kWh": ("_kwh", 1.0),
    "MWh": ("_kwh", 1e3),
    "V": ("_v", 1.0),
    "kV": ("_v", 1e3),
    "A": ("_a", 1.0),
    "mA": ("_a", 1e-3),
    "Hz": ("_hz", 1.0),
    "mHz": ("_hz", 1e-3),
    "°C": ("_c", 1.0),
    "": ("", 1.0),
    "sf": ("", 1.0),
}
"""Device unit -> (suffix our name must carry, factor to our unit). `sf`: a SunSpec scale factor, power of ten."""

MAX_REGISTERS = 125
"""Most 16-bit registers one read may ask for (Modbus Application Protocol V1.1b3, 6.3)."""
MAX_BITS = 2000
"""Most coils or discrete inputs one read may ask for (same, 6.1)."""
MAX_EXPONENT = 10
"""Scale factors beyond ±10 are not valid SunSpec and make the value unavailable."""
BIT_TABLES = ("coil", "discrete")


class RegisterMapError(ValueError):
    """A register map is not sound; `problems` tells every one of them with field, value and cure."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Hold all `problems`."""
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Register(Struct, frozen=True):
    """One value of a device: where it stands and how it becomes one of ours.

    value = (raw * scale * 10**scale_register + offset) in `unit`, turned to our unit and multiplied by `sign`.
    """

    name: str
    """Ours, with the unit's suffix: `power_kw`, `voltage_l1_v`, `import_kwh`, `estop`."""
    address: int
    """Protocol address, counted from 0 (register "40001" of a manual is holding register 0)."""
    kind: Kind
    table: Table = "holding"
    unit: str = ""
    """The device's unit, a key of `UNITS`."""
    scale: float = 1.0
    offset: float = 0.0
    sign: int = 1
    """+1 or -1, so that + is import (charging)."""
    word_order: Order = "big"
    """`big`: the first register holds the most significant word."""
    byte_order: Order = "big"
    not_available: tuple[int, ...] = ()
    """Bit patterns (unsigned, most significant word first) by which the device says "no value"."""
    scale_register: str | None = None
    """Name of the register with this value's power of ten."""

    @property
    def width(self) -> int:
        """How many registers (or bits of a bit table) the value takes."""
        return 1 if self.kind == "bit" else struct.calcsize(FORMATS[self.kind]) // 2

    @property
    def end(self) -> int:
        """Address just behind the value."""
        return self.address + self.width


class ReadBlock(Struct, frozen=True):
    """One read request: `count` registers or bits from `address` on."""

    table: Table
    address: int
    count: int

    def covers(self, register: Register) -> bool:
        """Whether the whole value lies in the block."""
        return (
            self.table == register.table
            and self.address <= register.address
            and register.end <= self.address + self.count
        )


class RegisterMap(Struct, frozen=True):
    """What one device (unit id) holds. Raises `RegisterMapError` with every problem when it is not sound."""

    name: str
    unit_id: int
    registers: tuple[Register, ...]
    max_gap: int = 0
    """Unmapped registers a read may span; 0 where the device refuses unmapped addresses."""
    max_count: int = MAX_REGISTERS
    """Most registers the device answers at once."""
    exponents: Mapping[str, int] = {}
    """Scale factors an emulated meter answers with, by register name; 0 if absent. Real devices are asked."""
    source: str = ""
    """Manual the addresses come from, and what of it is not verified."""

    def __post_init__(self) -> None:
        """Refuse to be made unsound."""
        problems = map_problems(self)
        if problems:
            raise RegisterMapError(problems)

    def register(self, name: str) -> Register:
        """The register called `name`; `KeyError` if there is none."""
        for register in self.registers:
            if register.name == name:
                return register
        raise KeyError(name)


class Image(Struct, frozen=True):
    """A device's memory at one instant."""

    words: Mapping[tuple[Table, int], int]

    def read(self, table: Table, address: int, count: int) -> list[int] | None:
        """`count` words from `address` on, unmapped ones between mapped ones as 0; None if an end is not mapped."""
        if (table, address) not in self.words or (table, address + count - 1) not in self.words:
            return None
        return [self.words.get((table, address + i), 0) for i in range(count)]


def map_problems(device: RegisterMap) -> list[str]:
    """Every reason why the map cannot be used, in words for the person who wrote it."""
    where = device.name or "register map"
    problems = []
    if not 0 <= device.unit_id <= 255:
        problems.append(f"{where}: unit_id is {device.unit_id}: give 0 to 255")
    if not 4 <= device.max_count <= MAX_REGISTERS:
        problems.append(f"{where}: max_count is {device.max_count}: give 4 to {MAX_REGISTERS}")
    if not 0 <= device.max_gap <= MAX_REGISTERS:
        problems.append(f"{where}: max_gap is {device.max_gap}: give 0 to {MAX_REGISTERS}")
    if not device.registers:
        problems.append(f"{where}: no register: give at least one")
    sound = [register for register in device.registers if register.kind in (*FORMATS, "bit")]
    for register in device.registers:
        problems += [f"{where}, {register.name or '(no name)'}: {text}" for text in _register_problems(register)]
    problems += [f"{where}, {text}" for text in _scale_problems(device)]
    problems += [f"{where}: {text}" for text in _name_and_place_problems(sound)]
    return problems


def _register_problems(register: Register) -> list[str]:
    problems = []
    if not register.name.isidentifier():
        problems.append(f"name is {register.name!r}: letters, digits and underscores")
    if register.kind not in (*FORMATS, "bit"):
        return [*problems, f"kind is {register.kind!r}: one of {', '.join(FORMATS)}, bit"]
    if register.table not in ("holding", "input", *BIT_TABLES):
        problems.append(f"table is {register.table!r}: one of holding, input, coil, discrete")
    elif (register.table in BIT_TABLES) != (register.kind == "bit"):
        problems.append(f"kind is {register.kind} in table {register.table}: coils and discrete inputs are bits")
    if register.address < 0 or register.end > 65536:
        problems.append(f"address is {register.address}: 0 to {65536 - register.width}, counted from 0")
    if register.unit not in UNITS:
        problems.append(f"unit is {register.unit!r}: one of {', '.join(unit for unit in UNITS if unit)}")
    elif not register.name.endswith(UNITS[register.unit][0]):
        problems.append(f"unit {register.unit} needs a name that ends with {UNITS[register.unit][0]}")
    if not math.isfinite(register.scale) or register.scale == 0.0:
        problems.append(f"scale is {register.scale}: a finite number other than 0")
    if not math.isfinite(register.offset):
        problems.append(f"offset is {register.offset}: a finite number")
    if register.sign not in (1, -1):
        problems.append(f"sign is {register.sign}: 1 or -1")
    problems += [
        f"{field} is {order!r}: big or little"
        for field, order in (("word_order", register.word_order), ("byte_order", register.byte_order))
        if order not in ("big", "little")
    ]
    bits = 1 if register.kind == "bit" else 16 * register.width
    if any(not 0 <= pattern < 1 << bits for pattern in register.not_available):
        problems.append(f"not_available is {register.not_available}: unsigned patterns of {bits} bits")
    return problems


def _scale_problems(device: RegisterMap) -> list[str]:
    """Problems of scale factors: missing ones, wrong kinds, exponents that nobody has."""
    factors = {register.name: register for register in device.registers if register.unit == "sf"}
    problems = [
        f"{register.name}: scale_register is {register.scale_register!r}: no register of unit sf has that name"
        for register in device.registers
        if register.scale_register is not None and register.scale_register not in factors
    ]
    problems += [f"{name}: a scale factor is int16" for name, factor in factors.items() if factor.kind != "int16"]
    problems += [
        f"exponents: {name} is {exponent}: a register of unit sf, -{MAX_EXPONENT} to {MAX_EXPONENT}"
        for name, exponent in device.exponents.items()
        if name not in factors or abs(exponent) > MAX_EXPONENT
    ]
    return problems


def _name_and_place_problems(registers: Sequence[Register]) -> list[str]:
    """Names given twice and values that overlap."""
    problems = []
    names: set[str] = set()
    for register in registers:
        if register.name in names:
            problems.append(f"name {register.name!r} is given twice: rename one")
        names.add(register.name)
    placed = sorted(registers, key=_place)
    for first, second in itertools.pairwise(placed):
        if first.table == second.table and second.address < first.end:
            problems.append(f"{first.name} and {second.name} overlap at {second.table} {second.address}: correct one")
    return problems


def _place(register: Register) -> tuple[str, int]:
    return register.table, register.address


def plan_reads(device: RegisterMap) -> tuple[ReadBlock, ...]:
    """The fewest reads in address order that never split a value, span at most `max_gap` and `max_count`."""
    blocks: list[ReadBlock] = []
    for register in sorted(device.registers, key=_place):
        limit = MAX_BITS if register.table in BIT_TABLES else device.max_count
        last = blocks[-1] if blocks else None
        if (
            last is not None
            and last.table == register.table
            and register.address - (last.address + last.count) <= device.max_gap
            and register.end - last.address <= limit
        ):
            blocks[-1] = ReadBlock(last.table, last.address, register.end - last.address)
        else:
            blocks.append(ReadBlock(register.table, register.address, register.width))
    return tuple(blocks)


def decode(device: RegisterMap, words: Words) -> dict[str, float | None]:
    """Values by name in kW, kWh, V, A, Hz and °C with our sign; None where the device gave none.

    `words`: what each read answered, 0 to 65535 each (0 or 1 for bits). A block of another length than asked for is
    not used at all, so that half a value can never be taken for one. Never raises, never gives a non-finite number.
    """
    raw: dict[str, int | float] = {}
    for block, got in words.items():
        if len(got) != block.count:
            continue
        for register in device.registers:
            if block.covers(register):
                start = register.address - block.address
                value = _raw(register, got[start : start + register.width])
                if value is not None:
                    raw[register.name] = value
    return {register.name: _physical(register, raw) for register in device.registers if register.unit != "sf"}


def _raw(register: Register, words: Sequence[int]) -> int | float | None:
    """The number as the device wrote it, or None."""
    if any(not 0 <= word <= 0xFFFF for word in words):
        return None
    if register.kind == "bit":
        return None if words[0] in register.not_available else int(bool(words[0]))
    data = b"".join(word.to_bytes(2, register.byte_order) for word in _ordered(register, words))
    if register.not_available and int.from_bytes(data, "big") in register.not_available:
        return None
    value: int | float = struct.unpack(FORMATS[register.kind], data)[0]
    return value if math.isfinite(value) else None


def _ordered(register: Register, words: Sequence[int]) -> Sequence[int]:
    return words if register.word_order == "big" else words[::-1]


def _physical(register: Register, raw: Mapping[str, int | float]) -> float | None:
    value = raw.get(register.name)
    step = _step(register, raw)
    if value is None or step is None:
        return None
    physical = (value * step + register.offset) * UNITS[register.unit][1] * register.sign
    return physical + 0.0 if math.isfinite(physical) else None


def _step(register: Register, exponents: Mapping[str, int | float]) -> float | None:
    """Device units per raw unit, or None when its scale factor is missing or absurd."""
    if register.scale_register is None:
        return register.scale
    exponent = exponents.get(register.scale_register)
    if exponent is None or abs(exponent) > MAX_EXPONENT:
        return None
    return float(register.scale * 10.0**exponent)


def resolution(device: RegisterMap, name: str) -> float:
    """Smallest step of the value `name` in our unit as an emulated meter writes it; 0 for floats."""
    register = device.register(name)
    if register.kind in ("float32", "float64"):
        return 0.0
    step = _step(register, _exponents(device, {}))
    return 0.0 if step is None else abs(step) * UNITS[register.unit][1]


def encode(device: RegisterMap, values: Mapping[str, float | None]) -> Image:
    """A device's memory that holds `values` (our units and sign), for emulated meters.

    Missing, non-finite or too large values become the register's "not available" pattern or NaN; `ValueError` where a
    register has neither. Scale factors are `device.exponents` unless `values` names them.
    """
    exponents = _exponents(device, values)
    words: dict[tuple[Table, int], int] = {}
    for register in device.registers:
        value: float | None = exponents[register.name] if register.unit == "sf" else values.get(register.name)
        step = _step(register, exponents)
        data = None
        if value is not None and step is not None and math.isfinite(value):
            data = _packed(register, (value * register.sign / UNITS[register.unit][1] - register.offset) / step)
        if data is None:
            data = _nothing(register, value)
        if register.kind == "bit":
            words[register.table, register.address] = data[0]
            continue
        pairs = [int.from_bytes(data[i : i + 2], register.byte_order) for i in range(0, len(data), 2)]
        for i, word in enumerate(_ordered(register, pairs)):
            words[register.table, register.address + i] = word
    return Image(words)


def _exponents(device: RegisterMap, values: Mapping[str, float | None]) -> dict[str, int]:
    """Scale factors by name, as an emulated meter answers them."""
    names = [register.name for register in device.registers if register.unit == "sf"]
    return {name: int(values.get(name) or device.exponents.get(name, 0)) for name in names}


def _packed(register: Register, raw: float) -> bytes | None:
    """The number as the device writes it, or None if it does not fit or would read as "not available"."""
    if not math.isfinite(raw):
        return None
    if register.kind == "bit":
        return bytes([int(raw != 0.0)])
    try:
        if register.kind in ("float32", "float64"):
            data = struct.pack(FORMATS[register.kind], raw)
        else:
            data = struct.pack(FORMATS[register.kind], round(raw))
    except (OverflowError, struct.error):
        return None
    return None if int.from_bytes(data, "big") in register.not_available else data


def _nothing(register: Register, value: float | None) -> bytes:
    """How the device says "no value"; `ValueError` if it cannot."""
    if register.kind in ("float32", "float64"):
        return struct.pack(FORMATS[register.kind], math.nan)
    if register.not_available:
        return register.not_available[0].to_bytes(2 * register.width if register.kind != "bit" else 1, "big")
    raise ValueError(f"{register.name} is {value}: give a value that fits {register.kind}, or a not_available pattern")
