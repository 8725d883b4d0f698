"""A finding about a message we are about to send: which field, its value, and the cure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from gridtide.wire.ocpp.structs import CustomData


class Problem(msgspec.Struct, frozen=True):
    """One reason why a message must not go out."""

    field: str
    """Path inside the payload, e.g. `chargingProfile.chargingSchedule[0].duration`."""
    value: str
    cure: str

    def __str__(self) -> str:
        return f"{self.field} is {self.value}: {self.cure}"


def problem(field: str, value: object, cure: str) -> Problem:
    """A problem; an absent value reads `missing`, a long one is cut."""
    return Problem(field, "missing" if value is None else str(value)[:60], cure)


def not_finite(value: Any, field: str = "") -> Iterator[Problem]:
    """A problem for every NaN or infinite number anywhere inside a payload."""
    if isinstance(value, float) and not math.isfinite(value):
        yield problem(field, value, "give a finite number")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from not_finite(getattr(value, name), f"{field}.{name}" if field else name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from not_finite(item, f"{field}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from not_finite(item, f"{field}.{name}")
    elif isinstance(value, CustomData):
        yield from not_finite(value.to_wire(), field)
