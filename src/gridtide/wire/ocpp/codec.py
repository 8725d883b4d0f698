"""Payloads to typed Structs and back, with OCPP's own error codes.

A payload is decoded once by (version, action, direction). Differences from the JSON schema, all deliberate: integers stay
within int64, numbers are finite, instants lie in the years 2000-2099. RFC 3339 variants with a space for the `T` or
`+0530` for `+05:30` are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal, TypeAlias, get_args, get_type_hints

import msgspec

from gridtide.wire.ocpp.actions import TABLES, Version
from gridtide.wire.ocpp.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from gridtide.wire.ocpp.structs import INT64_MAX, CustomData, WireStruct, check_open_value, dec_hook, enc_hook

Direction: TypeAlias = Literal["request", "response"]
YEAR_MIN: Final = 2000
YEAR_MAX: Final = 2099

_encoder: Final = msgspec.json.Encoder(enc_hook=enc_hook)
_plain: Final = msgspec.json.Decoder()
_last_proved: Final[dict[type[WireStruct], bytes]] = {}
"""The last valid encoding of each type: a memo, one entry a type."""
_FLOAT_FOR_INT: Final = re.compile(r"Expected `int( \| null)?`, got `float`")
_CODES: Final[tuple[tuple[re.Pattern[str], ErrorCode], ...]] = (
    (re.compile(r"Object missing required field"), "OccurrenceConstraintViolation"),
    (re.compile(r"Expected `array` of length >="), "OccurrenceConstraintViolation"),
    (re.compile(r"Expected `\w+` (of length|[<>]=)"), "PropertyConstraintViolation"),
    (re.compile(r"Invalid enum value|.*out of range"), "PropertyConstraintViolation"),
    (re.compile(r"Invalid RFC3339|Expected `datetime` with a timezone|Expected `"), "TypeConstraintViolation"),
)


@cache
def payload_type(version: Version, action: str, direction: Direction) -> type[WireStruct]:
    """The Struct of a payload; raises RemoteProtocolError(NotImplemented) for an action the version lacks."""
    pair = TABLES[version].get(action)
    kind = None if pair is None else pair[0 if direction == "request" else 1]
    if kind is None:
        raise RemoteProtocolError("NotImplemented", f"{action[:64]} {direction} is not part of OCPP {version}")
    return kind


def decode(version: Version, action: str, direction: Direction, payload: bytes | msgspec.Raw) -> WireStruct:
    """The typed payload; raises RemoteProtocolError with the code of the first defect (and no message id)."""
    kind = payload_type(version, action, direction)
    data = payload if isinstance(payload, bytes) else bytes(payload)
    try:
        decoder, check_years = _reader(kind)
        try:
            value = decoder.decode(data)
        except msgspec.ValidationError as defect:
            if not _FLOAT_FOR_INT.match(str(defect)):
                raise
            value = decoder.decode(_encoder.encode(_with_integers(_plain.decode(data))))
        if check_years is not None:
            check_years(value)
        if b"null" in data:
            _refuse_null(_plain.decode(data), open_data=action == "DataTransfer")
        if action == "DataTransfer":
            check_open_value(getattr(value, "data", None))
    except (msgspec.MsgspecError, ValueError, RecursionError) as defect:
        text = str(defect).replace(" | null`", "`")
        raise RemoteProtocolError(_code_of(text), f"{action}: {text}") from None
    return value


def encode(version: Version, action: str, direction: Direction, payload: WireStruct) -> bytes:
    """The payload as JSON, proved valid by decoding it again; raises LocalProtocolError when it is not.

    The second look matters: a non-finite float would travel as `null`, and Structs do not check their own bounds. Bytes
    equal to the last proved ones of their type need none: most answers of a CSMS are empty or alike.
    """
    kind = payload_type(version, action, direction)
    if type(payload) is not kind:
        raise LocalProtocolError(f"{action} {direction} needs {kind.__name__}, not {type(payload).__name__}")
    try:
        data = _encoder.encode(payload)
        if _last_proved.get(kind) != data:
            decode(version, action, direction, data)
            _last_proved[kind] = data
    except (RemoteProtocolError, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as defect:
        raise LocalProtocolError(f"{action} {direction} breaks the schema: {defect}") from None
    return data


@cache
def _reader(kind: type[WireStruct]) -> tuple[msgspec.json.Decoder[WireStruct], Callable[[Any], None] | None]:
    """Decoder of a payload type, and the check of its instants if it can hold any."""
    return msgspec.json.Decoder(kind, dec_hook=dec_hook), _year_check(kind)


def _with_integers(value: Any) -> Any:
    """The JSON value with every integral float as an integer (draft-06 counts 1.0 as an integer)."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= INT64_MAX:
        return int(value)
    if isinstance(value, dict):
        return {key: _with_integers(item) for key, item in value.items()}
    return [_with_integers(item) for item in value] if isinstance(value, list) else value


def _refuse_null(value: Any, *, open_data: bool) -> None:
    """Raise ValueError on an explicit null; only inside customData, and as DataTransfer's data, the schema allows it."""
    if value is None:
        raise ValueError("Expected `value`, got `null`")
    if isinstance(value, list):
        for item in value:
            _refuse_null(item, open_data=False)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not (key == "customData" and item is not None) and not (open_data and key == "data"):
                _refuse_null(item, open_data=False)


def _code_of(text: str) -> ErrorCode:
    return next((code for pattern, code in _CODES if pattern.match(text)), "FormatViolation")


def _check_year(instant: datetime) -> None:
    if not YEAR_MIN <= instant.year <= YEAR_MAX:
        raise ValueError(f"Timestamp out of range: year {instant.year}, allowed {YEAR_MIN}-{YEAR_MAX}")


@cache
def _year_check(kind: Any) -> Callable[[Any], None] | None:
    """A check of all instants inside a value of annotated type `kind`, or None when it can hold none."""
    if kind is datetime:
        return _check_year
    if isinstance(kind, type) and issubclass(kind, WireStruct):
        hints = get_type_hints(kind)
        checks = [(name, check) for name, hint in hints.items() if (check := _year_check(hint)) is not None]
        return _struct_check(tuple(checks)) if checks else None
    if kind is CustomData:
        return None
    inner = next((check for part in get_args(kind) if (check := _year_check(part)) is not None), None)
    is_array = getattr(kind, "__origin__", None) is tuple
    return _array_check(inner) if inner is not None and is_array else inner


def _struct_check(checks: tuple[tuple[str, Callable[[Any], None]], ...]) -> Callable[[Any], None]:
    instants = tuple(name for name, check in checks if check is _check_year)
    others = tuple((name, check) for name, check in checks if check is not _check_year)

    def check_fields(value: Any) -> None:
        for name in instants:
            instant = getattr(value, name)
            if instant is not None and not YEAR_MIN <= instant.year <= YEAR_MAX:
                _check_year(instant)
        for name, check in others:
            if (member := getattr(value, name)) is not None:
                check(member)

    return check_fields


def _array_check(check: Callable[[Any], None]) -> Callable[[Any], None]:
    def check_items(value: Any) -> None:
        for item in value:
            check(item)

    return check_items
