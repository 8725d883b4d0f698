"""What a meter read gave: values with their quality, or an error as a value."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

Quality: TypeAlias = Literal["good", "partial", "unusable"]
"""`good`: every register gave a number; `partial`: some did not, the power did; `unusable`: no power."""
ErrorKind: TypeAlias = Literal[
    "exception", "timeout", "short", "garbled", "wrong_unit", "wrong_transaction", "disconnected"
]

POWER = "power_kw"
"""Name of the register that control looks at."""
EXCEPTION_NAMES: Mapping[int, str] = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge, still working",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not answer",
}
"""Modbus Application Protocol V1.1b3, section 7."""


class MeterReading(Struct, frozen=True):
    """One whole read of a register map."""

    values: Mapping[str, float | None]
    """By register name, kW, kWh, V, A, Hz, °C; + is import; None: the meter gave no usable number."""
    quality: Quality
    at_s: float
    """Wall instant of the last answer, UTC epoch seconds."""
    monotonic_s: float
    """The same on the monotonic side; ages are reckoned from here."""
    round_trip_s: float
    """From the first request to the last answer."""

    @property
    def power_kw(self) -> float | None:
        """Power at the meter, + import."""
        return self.values.get(POWER)

    def flag(self, name: str) -> bool | None:
        """The coil or discrete input `name` (`estop`, `load_shed`); None when not read."""
        value = self.values.get(name)
        return None if value is None else value != 0.0


class MeterReadError(Struct, frozen=True):
    """Why a read gave nothing. Nothing of the same read is used."""

    kind: ErrorKind
    text: str
    code: int | None = None
    """Modbus exception code, if the device answered with one."""


def quality_of(values: Mapping[str, float | None]) -> Quality:
    """How much of a read is usable; a map without a power register is good when nothing is missing."""
    if all(value is not None for value in values.values()):
        return "good"
    return "partial" if values.get(POWER) is not None else "unusable"


def exception_error(code: int) -> MeterReadError:
    """The error value of a Modbus exception answer."""
    return MeterReadError("exception", f"exception {code}: {EXCEPTION_NAMES.get(code, 'not a known code')}", code)
