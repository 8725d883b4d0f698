"""DataTransfer as a discharge dialect: the operator's template of a vendor's own message, checked once, filled in per setpoint.

The template's `data` is JSON text. A string in it that is nothing but a placeholder (`"$power_w"`) becomes the value itself,
a number; inside a longer string (`"evse-$evse_id"`) the value is written out. Whatever a station named its transaction, it
stays one JSON string: values never become JSON text. Sign on the wire: + charging, - discharging.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from string import Template
from typing import Any, Final, TypeAlias

import msgspec

from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.structs import VENDOR_ID_MAX_CHARS, JsonValue, check_open_value

POWER_PLACEHOLDERS: Final = frozenset({"power_w", "power_kw"})
PLACEHOLDERS: Final = POWER_PLACEHOLDERS | {"lease_s", "evse_id", "transaction_id"}
MESSAGE_ID_MAX_CHARS: Final = 50
DATA_MAX_CHARS: Final = 4096
_MAX_DEPTH: Final = 16

Values: TypeAlias = Mapping[str, float | int | str]


class DataTransferTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vendor's message that carries a setpoint; see the module for `data`."""

    vendor_id: str
    message_id: str | None = None
    data: str
    """JSON text with placeholders $power_w or $power_kw, $lease_s, and if wanted $evse_id and $transaction_id."""
    is_text: bool = False
    """Send the filled data as one JSON string instead of as an object."""


def template_problems(template: DataTransferTemplate) -> tuple[str, ...]:
    """What is wrong with a template, each with value and cure; none when it can be sent.

    A template without `$lease_s` is refused: a discharge that the vendor's message cannot end by itself would stay on
    when nobody is left to stop it.
    """
    found = []
    if not 1 <= len(template.vendor_id) <= VENDOR_ID_MAX_CHARS:
        found.append(f"vendor_id has {len(template.vendor_id)} characters: give 1 to {VENDOR_ID_MAX_CHARS}")
    if template.message_id is not None and not 1 <= len(template.message_id) <= MESSAGE_ID_MAX_CHARS:
        found.append(f"message_id has {len(template.message_id)} characters: give 1 to {MESSAGE_ID_MAX_CHARS}, or none")
    return (*found, *_data_problems(template.data))


def _data_problems(text: str) -> Iterator[str]:
    if len(text) > DATA_MAX_CHARS:
        yield f"data has {len(text)} characters: give at most {DATA_MAX_CHARS}"
        return
    try:
        value = _decoded(text)
    except ValueError as defect:
        yield f'data is not usable JSON ({defect}): quote placeholders, as in {{"power": "$power_w"}}'
        return
    names: set[str] = set()
    for string in _strings(value):
        template = Template(string)
        if not template.is_valid():
            yield f"data holds {string[:40]!r}: write $$ for a dollar sign that begins no placeholder"
        names |= set(template.get_identifiers())
    for name in sorted(names - PLACEHOLDERS):
        yield f"data names ${name[:40]}: use {', '.join('$' + known for known in sorted(PLACEHOLDERS))}"
    if not names & POWER_PLACEHOLDERS:
        yield "data has no power: put $power_w or $power_kw where it belongs"
    if "lease_s" not in names:
        yield "data has no $lease_s: a discharge must end by itself"
    if any(set(Template(key).get_identifiers()) for key in _keys(value)):
        yield "data has a placeholder in a key: only values are filled in"


def filled(
    template: DataTransferTemplate, *, power_kw: float, lease_s: int, evse_id: int, transaction_id: str | None
) -> JsonValue:
    """The template's data with a setpoint (kW, + charging, - discharging) in it.

    Raises LocalProtocolError on a template with problems or a non-finite power.
    """
    if problems := template_problems(template):
        raise LocalProtocolError(f"DataTransfer template: {problems[0]}")
    if not math.isfinite(power_kw):
        raise LocalProtocolError(f"power_kw is {power_kw}: not finite")
    values: Values = {
        "power_w": _plain(round(power_kw * 1000.0, 3)),
        "power_kw": _plain(round(power_kw, 6)),
        "lease_s": lease_s,
        "evse_id": evse_id,
        "transaction_id": transaction_id or "",
    }
    data = _fill(_decoded(template.data), values)
    return msgspec.json.encode(data).decode() if template.is_text else data


def _plain(number: float) -> float | int:
    """An integral number as an integer, so that no `-0.0` and no `7000.0` travels."""
    return int(number) if number.is_integer() else number


def _decoded(text: str) -> JsonValue:
    """The JSON value of the text; raises ValueError, also on depth and on integers beyond int64."""
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError) as defect:
        raise ValueError(str(defect)[:80]) from None
    check_open_value(value)
    if _depth(value) > _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH}")
    return value


def _depth(value: JsonValue) -> int:
    """How deep arrays and objects nest, without recursion."""
    level, depth = [value], 0
    while level := [item for holder in level for item in _members(holder)]:
        depth += 1
    return depth


def _members(value: JsonValue) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _strings(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in _members(value):
        yield from _strings(item)


def _keys(value: JsonValue) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for item in _members(value):
        yield from _keys(item)


def _fill(value: JsonValue, values: Values) -> JsonValue:
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if not isinstance(value, str):
        return value
    template = Template(value)
    names = template.get_identifiers()
    if len(names) == 1 and value in (f"${names[0]}", f"${{{names[0]}}}"):
        return values[names[0]]
    return template.substitute(values)
