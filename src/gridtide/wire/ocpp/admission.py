"""Which messages of the peer a session takes: limits and switches, and the decoded payload of what passes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import TABLES, Version, may_send
from gridtide.wire.ocpp.boot import BootGate
from gridtide.wire.ocpp.errors import Answer, RemoteProtocolError
from gridtide.wire.ocpp.frames import MAX_FRAME_BYTES, Call, CallResult, Send
from gridtide.wire.ocpp.structs import WireStruct


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a session."""

    queue_limit: int = 64
    """Unsent calls of ours."""
    control_timeout_s: float = 2.0
    """Time limit of calls that steer power."""
    other_timeout_s: float = 30.0
    stop_wait_s: float = 1.0
    """How long a waiting stop lets the call in flight go on."""
    cache_ids: int = 256
    cache_age_s: float = 600.0
    open_calls: int = 16
    """Calls of the peer that may wait for our answer at once."""
    malformed_limit: int = 10
    malformed_window_s: float = 60.0
    max_frame_bytes: int = MAX_FRAME_BYTES
    handled: frozenset[str] | None = None
    """Actions answered at all; None: all of the version. Others get NotImplemented."""
    switched_off: frozenset[str] = frozenset()
    """Known actions that the operator switched off: NotSupported."""
    overrides: Mapping[str, Version] = {}
    """Action -> version whose request type this peer speaks instead of its own (dialect `v201_hybrid`); answers keep theirs."""

    def shape_to_send(self, version: Version, action: str, payload: WireStruct) -> Version:
        """The version whose type a request of ours has; the connection's own unless an override admits the other."""
        other = self.overrides.get(action, version)
        return other if other != version and type(payload) is codec.payload_type(other, action, "request") else version


def admitted_payload(
    frame: Call | Send, raw: bytes, version: Version, settings: SessionSettings, gate: BootGate | None, now_s: float
) -> WireStruct:
    """The decoded payload of a message that version, direction, settings and boot state allow; `raw` is its JSON.

    `gate` is the station's boot gate when we are the CSMS, None when we are the station. Raises RemoteProtocolError.
    """
    action, message_id = frame.action, frame.id
    pair = TABLES[version].get(action)
    is_handled = settings.handled is None or action in settings.handled
    if pair is None or not is_handled or not may_send("csms" if gate is None else "station", action):
        raise RemoteProtocolError("NotImplemented", f"{action[:64]} is not implemented here", message_id)
    if action in settings.switched_off:
        raise RemoteProtocolError("NotSupported", f"{action} is switched off", message_id)
    if (pair[1] is None) != isinstance(frame, Send):
        description = f"{action} does not travel in this message type"
        raise RemoteProtocolError("MessageTypeNotSupported", description, message_id)
    reason = gate.refusal(action, now_s) if gate else None
    if reason is not None:
        raise RemoteProtocolError("SecurityError", reason, message_id)
    return decode_payload(settings.overrides.get(action, version), action, "request", frame, raw)


def decode_payload(
    version: Version, action: str, direction: codec.Direction, frame: Call | CallResult | Send, raw: bytes
) -> WireStruct:
    """`codec.decode` of the payload `raw`, with the frame's id and the right kind of answer; raises RemoteProtocolError."""
    try:
        return codec.decode(version, action, direction, raw)
    except RemoteProtocolError as defect:
        answer: Answer = "call_error" if isinstance(frame, Call) else "none"
        if isinstance(frame, CallResult):
            answer = "call_result_error"
        raise RemoteProtocolError(defect.code, defect.description, frame.id, answer) from None
