"""What a session tells its owner: frozen events, in the order things happened."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from gridtide.wire.ocpp.structs import WireStruct

FailureReason: TypeAlias = Literal[
    "timed_out", "overtaken", "call_error", "invalid_answer", "replaced", "displaced", "expired", "socket_ended"
]
DropReason: TypeAlias = Literal["unsolicited", "duplicate_open", "duplicate_answered"]


class CallReceived(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The peer asks; answer with `Session.answer` or `Session.refuse` under this id, whenever ready."""

    id: str
    action: str
    payload: WireStruct
    received_at_s: float
    raw: bytes = b""
    """The payload's JSON as received and found valid; for records, so that nobody encodes it again."""


class CallAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """Our call got a valid answer."""

    id: str
    action: str
    payload: WireStruct
    sent_at_s: float | None = None
    """Instant at which it left for the link, on the session's clock."""
    behind: str = ""
    """Action of the call that was in flight when it was queued; empty: none was."""


class CallFailed(msgspec.Struct, frozen=True, kw_only=True):
    """Our call will never be answered; `code` is the peer's error code for `call_error`."""

    id: str
    action: str
    reason: FailureReason
    code: str = ""
    description: str = ""
    was_sent: bool = True


class SendReceived(msgspec.Struct, frozen=True, kw_only=True):
    """An unanswered message (type 6, 2.1)."""

    id: str
    action: str
    payload: WireStruct
    received_at_s: float


class AnswerRefused(msgspec.Struct, frozen=True, kw_only=True):
    """The peer could not read our answer (CALLRESULTERROR, 2.1)."""

    id: str
    code: str
    description: str


class FrameDropped(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed frame without effect: an answer nobody waits for, or a repeated call (answered again if it was answered)."""

    id: str
    reason: DropReason


class ProtocolViolation(msgspec.Struct, frozen=True, kw_only=True):
    """The peer broke a rule; it has already been answered where the protocol allows an answer."""

    code: str
    description: str
    message_id: str


class CloseWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The connection should be closed with this WebSocket close code."""

    close_code: int
    reason: str


Event: TypeAlias = (
    CallReceived
    | CallAnswered
    | CallFailed
    | SendReceived
    | AnswerRefused
    | FrameDropped
    | ProtocolViolation
    | CloseWanted
)
