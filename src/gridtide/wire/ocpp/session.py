"""One OCPP connection, sans-IO: bytes in, events out, bytes to send; time is an argument.

Rules: one call in flight per direction; answers count by id only; a repeated call is answered byte for byte without a
second effect; nothing but BootNotification before Accepted; ten unreadable frames in a minute end the connection.
The owner answers calls by id whenever it is ready, so no handler ever blocks the reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import CONTROL_ACTIONS, TABLES, Role, Version, may_send
from gridtide.wire.ocpp.admission import SessionSettings, admitted_payload, decode_payload
from gridtide.wire.ocpp.answers import AnswerCache
from gridtide.wire.ocpp.boot import BOOT, BootGate, BootState
from gridtide.wire.ocpp.errors import (
    NO_ID,
    ErrorCode,
    LocalProtocolError,
    RemoteProtocolError,
)
from gridtide.wire.ocpp.events import (
    AnswerRefused,
    CallAnswered,
    CallFailed,
    CallReceived,
    CloseWanted,
    Event,
    FailureReason,
    FrameDropped,
    ProtocolViolation,
    SendReceived,
)
from gridtide.wire.ocpp.frames import (
    ID_MAX_CHARS,
    Call,
    CallError,
    CallResult,
    CallResultError,
    Send,
    encode_call,
    encode_error,
    encode_result,
    encode_result_error,
    encode_send,
    error_code,
    parse_frame,
)
from gridtide.wire.ocpp.outgoing import OutgoingCall, OutgoingCalls, Priority
from gridtide.wire.ocpp.structs import WireStruct

CLOSE_PROTOCOL_ERROR: Final = 1002
OUR_FAILURE: Final = "the request could not be processed"


class Session:
    """One connection of a CSMS or a station; see the module's rules."""

    def __init__(
        self,
        role: Role,
        version: Version,
        new_id: Callable[[], str],
        settings: SessionSettings | None = None,
        boot_state: BootState = "unbooted",
    ) -> None:
        """A fresh session of ours in `role`; `new_id` yields unique message ids of 1-36 characters."""
        self.role: Final = role
        self.version: Final = version
        self._new_id: Final = new_id
        self._settings: Final = settings or SessionSettings()
        self._boot: Final = BootGate(boot_state)
        self._gate: Final = self._boot if role == "csms" else None
        self._calls: Final = OutgoingCalls(self._settings.queue_limit, self._settings.stop_wait_s)
        self._answers: Final = AnswerCache(self._settings.cache_ids, self._settings.cache_age_s)
        self._malformed_at_s: deque[float] = deque(maxlen=self._settings.malformed_limit)
        self._outbox: list[bytes] = []
        self._events: list[Event] = []
        self._closed = False
        self.dropped_answers = 0
        """Unsolicited, repeated and late answers so far."""

    @property
    def boot_state(self) -> BootState:
        """Registration state of the station at the other end (csms) or of ourselves (station)."""
        return self._boot.state

    @property
    def waiting_calls(self) -> int:
        """Unsent calls."""
        return len(self._calls)

    # --- our own messages -------------------------------------------------------------------------------------------
    def call(
        self,
        action: str,
        payload: WireStruct,
        now_s: float,
        *,
        timeout_s: float | None = None,
        priority: Priority | None = None,
        replace_key: Hashable = None,
        expires_at_s: float | None = None,
    ) -> str:
        """Queue a call and return its message id; the outcome comes as CallAnswered or CallFailed.

        `timeout_s` counts from sending (default by action); an unsent call fails at `expires_at_s`. Raises
        LocalProtocolError (QueueFull when nothing less urgent can give way).
        """
        self._check_ours(action)
        shape = self._settings.shape_to_send(self.version, action, payload)
        frame_payload = codec.encode(shape, action, "request", payload)
        is_control = action in CONTROL_ACTIONS
        message_id, before = self._fresh_id(), self._calls.in_flight
        call = OutgoingCall(
            id=message_id,
            action=action,
            frame=encode_call(message_id, action, frame_payload),
            priority=(Priority.CONTROL if is_control else Priority.NORMAL) if priority is None else priority,
            timeout_s=(self._settings.control_timeout_s if is_control else self._settings.other_timeout_s)
            if timeout_s is None
            else timeout_s,
            replace_key=replace_key,
            expires_at_s=expires_at_s,
            behind="" if before is None else before.action,
        )
        self._events += self._calls.add(call, now_s)
        self._boot.note_request(action, payload)
        self._pump(now_s)
        return message_id

    def withdraw(self, is_meant: Callable[[Hashable], bool], priority: Priority) -> list[Event]:
        """Give up unsent calls whose `replace_key` is meant, but for those more urgent than `priority`; hands out events."""
        self._events += self._calls.withdraw(is_meant, priority)
        return self._take_events()

    def send(self, action: str, payload: WireStruct) -> str:
        """Send an unanswered message (type 6, 2.1 only) and return its id; raises LocalProtocolError."""
        self._check_ours(action, is_send=True)
        message_id = self._fresh_id()
        self._outbox.append(
            encode_send(message_id, action, codec.encode(self.version, action, "request", payload)),
        )
        return message_id

    def answer(self, message_id: str, payload: WireStruct, now_s: float) -> None:
        """Answer an open call. An invalid payload is our bug: the peer gets InternalError, LocalProtocolError is raised."""
        action = self._open_action(message_id)
        try:
            data = codec.encode(self.version, action, "response", payload)
        except LocalProtocolError:
            self.refuse(message_id, "InternalError", OUR_FAILURE)
            raise
        self._reply(message_id, encode_result(message_id, data))
        if action == BOOT:
            self._boot.note_boot_answer(payload, now_s)
            self._pump(now_s)

    def refuse(self, message_id: str, code: ErrorCode, description: str) -> None:
        """Answer an open call with an error; the text must hold no exception text or secret."""
        self._open_action(message_id)
        self._reply(message_id, encode_error(message_id, code, description))

    @property
    def has_to_send(self) -> bool:
        """Whether `bytes_to_send` would hand out anything."""
        return bool(self._outbox)

    def bytes_to_send(self) -> list[bytes]:
        """Frames to write, oldest first; each is handed out once."""
        frames, self._outbox = self._outbox, []
        return frames

    # --- time and end -----------------------------------------------------------------------------------------------
    def tick(self, now_s: float) -> list[Event]:
        """Let time pass: ends waits that are due, sends what may go next, hands out events."""
        if self.is_idle:
            return []
        self._events += self._calls.expire(now_s)
        self._pump(now_s)
        return self._take_events()

    @property
    def is_idle(self) -> bool:
        """No call of ours is in flight or waits, and no event: `tick` has nothing to do, however much time passes."""
        return self._calls.is_idle and not self._events

    def next_deadline_s(self) -> float | None:
        """When `tick` has something to do; -inf when events are waiting already, None when never."""
        return float("-inf") if self._events else self._calls.next_deadline_s()

    def close(self) -> list[Event]:
        """The socket ended: every call of ours fails now; a later socket never answers it."""
        self._closed = True
        self._events += self._calls.fail_all()
        self._answers.clear()
        self._outbox.clear()
        return self._take_events()

    # --- the peer's messages ----------------------------------------------------------------------------------------
    def receive(self, data: bytes, now_s: float, *, is_text: bool = True) -> list[Event]:
        """Take one WebSocket message; never raises on the peer's account, whatever the bytes."""
        if self._closed:
            raise LocalProtocolError("the session is closed")
        if not self._calls.is_idle:
            self._events += self._calls.expire(now_s)
        try:
            frame = parse_frame(data, is_text=is_text, max_bytes=self._settings.max_frame_bytes)
            match frame:
                case Call():
                    self._on_call(frame, now_s)
                case CallResult():
                    self._on_result(frame, now_s)
                case CallError():
                    self._on_error(frame)
                case CallResultError():
                    self._on_result_error(frame)
                case Send():
                    self._on_send(frame, now_s)
        except RemoteProtocolError as defect:
            self._on_defect(defect, now_s)
        self._pump(now_s)
        return self._take_events()

    def _on_call(self, frame: Call, now_s: float) -> None:
        raw = bytes(frame.payload)
        seen = self._answers.look_up(frame, raw, now_s)
        if seen == "other_payload":
            raise RemoteProtocolError(
                "OccurrenceConstraintViolation", "message id was used for another message", frame.id
            )
        if seen == "answered":
            self._outbox.append(self._answers.answer_of(frame.id))
            self._events.append(FrameDropped(id=frame.id, reason="duplicate_answered"))
            return
        if seen == "open":
            self._events.append(FrameDropped(id=frame.id, reason="duplicate_open"))
            return
        payload = admitted_payload(frame, raw, self.version, self._settings, self._gate, now_s)
        if self._answers.open_count >= self._settings.open_calls:
            raise RemoteProtocolError("GenericError", "too many calls are open", frame.id)
        self._answers.open(frame, raw, now_s)
        self._events.append(
            CallReceived(id=frame.id, action=frame.action, payload=payload, received_at_s=now_s, raw=raw),
        )

    def _on_result(self, frame: CallResult, now_s: float) -> None:
        call = self._calls.settle(frame.id)
        if call is None:
            self._drop_answer(frame.id)
            return
        try:
            payload = decode_payload(self.version, call.action, "response", frame, bytes(frame.payload))
        except RemoteProtocolError as defect:
            self._fail(call, "invalid_answer", defect.code, defect.description)
            raise
        if self.role == "station" and call.action == BOOT:
            self._boot.note_boot_answer(payload, now_s)
        sent_at_s = self._calls.sent_at_s
        self._events.append(
            CallAnswered(id=call.id, action=call.action, payload=payload, sent_at_s=sent_at_s, behind=call.behind)
        )

    def _on_error(self, frame: CallError) -> None:
        call = self._calls.settle(frame.id)
        if call is None:
            self._drop_answer(frame.id)
            return
        self._fail(call, "call_error", error_code(frame)[:64], frame.description[:255])

    def _on_result_error(self, frame: CallResultError) -> None:
        if self.version == "2.0.1":
            raise RemoteProtocolError("MessageTypeNotSupported", "message type 5 is 2.1 only", frame.id, "none")
        if not self._answers.was_answered(frame.id):
            self._drop_answer(frame.id)
            return
        self._events.append(
            AnswerRefused(id=frame.id, code=error_code(frame)[:64], description=frame.description[:255])
        )

    def _on_send(self, frame: Send, now_s: float) -> None:
        if self.version == "2.0.1":
            raise RemoteProtocolError("MessageTypeNotSupported", "message type 6 is 2.1 only", frame.id)
        try:
            payload = admitted_payload(frame, bytes(frame.payload), self.version, self._settings, self._gate, now_s)
        except RemoteProtocolError as defect:
            raise RemoteProtocolError(defect.code, defect.description, frame.id, "none") from None
        self._events.append(SendReceived(id=frame.id, action=frame.action, payload=payload, received_at_s=now_s))

    def _on_defect(self, defect: RemoteProtocolError, now_s: float) -> None:
        """Answer a defect as the protocol allows, fail the call it belongs to, count unreadable frames."""
        is_stray = False
        if defect.message_type in (3, 4):
            call = self._calls.settle(defect.message_id)
            is_stray = call is None
            if call is not None:
                self._fail(call, "invalid_answer", defect.code, defect.description)
        if is_stray:
            self._drop_answer(defect.message_id)
        elif defect.answer == "call_error":
            self._outbox.append(encode_error(defect.message_id, defect.code, defect.description))
        elif defect.answer == "call_result_error" and self.version != "2.0.1":
            self._outbox.append(encode_result_error(defect.message_id, defect.code, defect.description))
        self._events.append(
            ProtocolViolation(code=defect.code, description=defect.description, message_id=defect.message_id),
        )
        if defect.message_id == NO_ID:
            self._count_malformed(now_s)

    def _count_malformed(self, now_s: float) -> None:
        times = self._malformed_at_s
        times.append(now_s)
        if len(times) == self._settings.malformed_limit and now_s - times[0] <= self._settings.malformed_window_s:
            times.clear()
            self._events.append(CloseWanted(close_code=CLOSE_PROTOCOL_ERROR, reason="too many unreadable frames"))

    # --- small parts ------------------------------------------------------------------------------------------------
    def _drop_answer(self, message_id: str) -> None:
        self.dropped_answers += 1
        self._events.append(FrameDropped(id=message_id, reason="unsolicited"))

    def _fail(self, call: OutgoingCall, reason: FailureReason, code: str, description: str) -> None:
        self._events.append(
            CallFailed(id=call.id, action=call.action, reason=reason, code=code, description=description),
        )

    def _open_action(self, message_id: str) -> str:
        action = self._answers.open_action(message_id)
        if action is None:
            raise LocalProtocolError(f"no open call {message_id}")
        return action

    def _reply(self, message_id: str, frame: bytes) -> None:
        self._answers.close(message_id, frame)
        self._outbox.append(frame)

    def _check_ours(self, action: str, *, is_send: bool = False) -> None:
        pair = TABLES[self.version].get(action)
        if self._closed:
            raise LocalProtocolError("the session is closed")
        if pair is None or not may_send(self.role, action) or (pair[1] is None) != is_send:
            raise LocalProtocolError(f"a {self.role} does not send {action} this way on OCPP {self.version}")

    def _fresh_id(self) -> str:
        message_id = self._new_id()
        if not 1 <= len(message_id) <= ID_MAX_CHARS or message_id == NO_ID:
            raise LocalProtocolError(f"unusable message id {message_id!r}")
        return message_id

    def _pump(self, now_s: float) -> None:
        if not self._calls.is_idle and (call := self._calls.send_next(now_s, self._may_go)) is not None:
            self._outbox.append(call.frame)

    def _may_go(self, call: OutgoingCall) -> bool:
        """A rejected station hears nothing but a stop (B03)."""
        return self.role == "station" or self._boot.state != "rejected" or call.priority is Priority.STOP

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
