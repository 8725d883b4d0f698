"""Outer frames of OCPP-J: one JSON array a message, payload kept raw until its type is known.

Types: 2 CALL, 3 CALLRESULT, 4 CALLERROR, 5 CALLRESULTERROR (2.1), 6 SEND (2.1). Every defect becomes a
`RemoteProtocolError` that names the answer it deserves; nothing else is raised, whatever the bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec

from gridtide.wire.ocpp.errors import NO_ID, Answer, ErrorCode, RemoteProtocolError, error_code_of
from gridtide.wire.ocpp.structs import check_open_value

MAX_FRAME_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
ID_MAX_CHARS: Final = 36
ECHO_MAX_CHARS: Final = 255

MessageId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX_CHARS)]


class Call(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """A request that will be answered."""

    id: MessageId
    action: str
    payload: msgspec.Raw


class CallResult(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """The answer to a `Call`."""

    id: MessageId
    payload: msgspec.Raw


class CallError(msgspec.Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """The refusal of a `Call`; never answered."""

    id: MessageId
    code: str
    description: str
    details: dict[str, Any]


class CallResultError(msgspec.Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """The refusal of a `CallResult` (2.1); never answered."""

    id: MessageId
    code: str
    description: str
    details: dict[str, Any]


class Send(msgspec.Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True):
    """A message without answer (2.1)."""

    id: MessageId
    action: str
    payload: msgspec.Raw


Frame: TypeAlias = Call | CallResult | CallError | CallResultError | Send

_WITH_DETAILS: Final = (CallError, CallResultError)
_decoder: Final = msgspec.json.Decoder(Frame)
_parts_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])
_type_decoder: Final = msgspec.json.Decoder(int)
_id_decoder: Final = msgspec.json.Decoder(MessageId)
_encoder: Final = msgspec.json.Encoder()
_ANSWERS: Final[dict[int, Answer]] = {2: "call_error", 3: "call_result_error", 4: "none", 5: "none", 6: "none"}
_TYPE_NAMES: Final = {2: "CALL", 3: "CALLRESULT", 4: "CALLERROR", 5: "CALLRESULTERROR", 6: "SEND"}
_LENGTHS: Final = {2: 4, 3: 3, 4: 5, 5: 5, 6: 4}
_PARENTHESES: Final = bytes.maketrans(b"[{]}", b"(())")
_OPEN_BRACE: Final = ord("{")
_NO_BRACKET: Final = bytes(set(range(256)) - set(b"[]{}"))


def nesting_exceeds(data: bytes, max_depth: int) -> bool:
    """Whether brackets outside strings nest deeper than `max_depth` (or do not balance); linear per level, no recursion.

    Strings are cut out by splitting at quotes after escaped ones are gone; each pass then removes one level of leaves.
    """
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(data.split(b'"')[::2]).translate(_PARENTHESES, _NO_BRACKET)
    too_deep = b"(" * (max_depth + 1)
    for _ in range(max_depth):
        if not brackets:
            return False
        if too_deep in brackets:
            return True
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def parse_frame(data: bytes, *, is_text: bool = True, max_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """The frame in `data`.

    Raises RemoteProtocolError: with id "-1" and RpcFrameworkError when there is no readable array or id, else with
    the id and the code of the defect.
    """
    _check_bytes(data, is_text, max_bytes)
    try:
        frame: Frame = _decoder.decode(data)
        if isinstance(frame, _WITH_DETAILS):
            check_open_value(frame.details)
        elif memoryview(frame.payload)[0] != _OPEN_BRACE:
            raise _defect(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _defect(data) from None
    return frame


def _check_bytes(data: bytes, is_text: bool, max_bytes: int) -> None:
    if not is_text:
        raise RemoteProtocolError("RpcFrameworkError", "binary frame")
    if len(data) > max_bytes:
        raise RemoteProtocolError("RpcFrameworkError", f"frame of {len(data)} bytes exceeds {max_bytes}")
    if not data.isascii():
        try:
            str(data, "utf-8")
        except UnicodeDecodeError:
            raise RemoteProtocolError("RpcFrameworkError", "not valid UTF-8") from None
    # So few brackets cannot nest deeper; this is the usual message.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and nesting_exceeds(data, MAX_DEPTH):
        raise RemoteProtocolError("RpcFrameworkError", f"nested deeper than {MAX_DEPTH} or unbalanced")


def _defect(data: bytes) -> RemoteProtocolError:
    """Name what is wrong with a frame that does not decode; slow path, so it may parse again."""
    try:
        parts = _parts_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return RemoteProtocolError("RpcFrameworkError", "not a JSON array")
    try:
        message_id = _id_decoder.decode(parts[1])
    except (IndexError, msgspec.MsgspecError, ValueError):
        message_id = NO_ID
    try:
        kind = _type_decoder.decode(parts[0])
    except (IndexError, msgspec.MsgspecError, ValueError):
        kind = 0
    answer = _ANSWERS.get(kind, "call_error")
    if message_id == NO_ID:
        return RemoteProtocolError("RpcFrameworkError", "no readable message id", NO_ID, _without_id(answer))
    if kind not in _LENGTHS:
        return RemoteProtocolError("MessageTypeNotSupported", "unknown message type", message_id)
    code, description = _body_defect(kind, parts)
    return RemoteProtocolError(code, description, message_id, answer, kind)


def _without_id(answer: Answer) -> Answer:
    """A broken CALLRESULT without id has no open call to refuse: the framework error stands for it."""
    return "call_error" if answer == "call_result_error" else answer


def _body_defect(kind: int, parts: list[msgspec.Raw]) -> tuple[ErrorCode, str]:
    name, length = _TYPE_NAMES[kind], _LENGTHS[kind]
    if len(parts) < length:
        return "OccurrenceConstraintViolation", f"{name} has {len(parts)} elements, needs {length}"
    if len(parts) > length:
        return "FormatViolation", f"{name} has {len(parts)} elements, needs {length}"
    return "TypeConstraintViolation", f"an element of {name} has the wrong JSON type"


def encode_call(message_id: str, action: str, payload: bytes) -> bytes:
    """CALL frame around an encoded payload."""
    return _encoder.encode((2, message_id, action, msgspec.Raw(payload)))


def encode_result(message_id: str, payload: bytes) -> bytes:
    """CALLRESULT frame around an encoded payload."""
    return _encoder.encode((3, message_id, msgspec.Raw(payload)))


def encode_error(message_id: str, code: ErrorCode, description: str) -> bytes:
    """CALLERROR frame; the description is cut to 255 characters."""
    return _encoder.encode((4, message_id, code, description[:ECHO_MAX_CHARS], {}))


def encode_result_error(message_id: str, code: ErrorCode, description: str) -> bytes:
    """CALLRESULTERROR frame (2.1); the description is cut to 255 characters."""
    return _encoder.encode((5, message_id, code, description[:ECHO_MAX_CHARS], {}))


def encode_send(message_id: str, action: str, payload: bytes) -> bytes:
    """SEND frame (2.1) around an encoded payload."""
    return _encoder.encode((6, message_id, action, msgspec.Raw(payload)))


def error_code(frame: CallError | CallResultError) -> str:
    """The error code of a peer's refusal, in the spelling of 2.x."""
    return error_code_of(frame.code)
