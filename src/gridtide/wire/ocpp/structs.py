"""Base of all OCPP payload types, and the one open object of the protocol (customData)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
VENDOR_ID_MAX_CHARS: Final = 255

Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
Timestamp: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
JsonValue: TypeAlias = Any


class WireStruct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """An OCPP object: wire names kept, an absent optional field is `None`, unknown fields are refused."""


class CustomData:
    """The extension object of OCPP: `vendorId` (at most 255 characters) plus any other keys, kept as read."""

    __slots__ = ("_members", "vendor_id")

    def __init__(self, vendor_id: str, members: Mapping[str, JsonValue] | None = None) -> None:
        """Hold `vendor_id` and the further `members`; raises ValueError where the schema would refuse them."""
        if not isinstance(vendor_id, str):
            raise ValueError(f"Expected `str`, got `{type(vendor_id).__name__}` - at vendorId")
        if len(vendor_id) > VENDOR_ID_MAX_CHARS:
            raise ValueError(f"Expected `str` of length <= {VENDOR_ID_MAX_CHARS} - at vendorId")
        self.vendor_id = vendor_id
        self._members = dict(members or {})
        check_open_value(self._members)

    @classmethod
    def from_wire(cls, value: object) -> CustomData:
        """Build from a decoded JSON object; raises ValueError in msgspec's wording."""
        if not isinstance(value, dict):
            raise ValueError(f"Expected `object`, got `{type(value).__name__}`")
        if "vendorId" not in value:
            raise ValueError("Object missing required field `vendorId`")
        return cls(value["vendorId"], {key: member for key, member in value.items() if key != "vendorId"})

    def to_wire(self) -> dict[str, JsonValue]:
        """The JSON object, vendorId first."""
        return {"vendorId": self.vendor_id, **self._members}

    def __getitem__(self, key: str) -> JsonValue:
        """A vendor's own member; raises KeyError."""
        return self._members[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CustomData) and self.to_wire() == other.to_wire()

    def __hash__(self) -> int:
        return hash((self.vendor_id, tuple(sorted(self._members))))

    def __repr__(self) -> str:
        return f"CustomData({self.vendor_id!r}, {self._members!r})"


def check_open_value(value: JsonValue) -> None:
    """Refuse integers beyond int64 anywhere inside an untyped JSON value (ValueError); a store would fail on them."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
        elif isinstance(item, int) and not INT64_MIN <= item <= INT64_MAX:
            raise ValueError("Integer value out of range")


def dec_hook(kind: type, value: object) -> object:
    """msgspec decoder hook for the types of this module."""
    if kind is CustomData:
        return CustomData.from_wire(value)
    raise TypeError(f"no decoder for {kind.__name__}")


def enc_hook(value: object) -> object:
    """msgspec encoder hook for the types of this module."""
    if isinstance(value, CustomData):
        return value.to_wire()
    raise TypeError(f"no encoder for {type(value).__name__}")
