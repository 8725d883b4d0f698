"""Calls of the peer: open ones, and a bounded memory of given answers so that a repeat has no second effect."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal, TypeAlias

import msgspec

from gridtide.wire.ocpp.frames import Call

MAX_CACHE_BYTES: Final = 1024 * 1024
Seen: TypeAlias = Literal["new", "open", "answered", "other_payload"]


class _Entry(msgspec.Struct, gc=False):
    action: str
    digest: int
    received_at_s: float
    frame: bytes = b""


def payload_digest(action: str, raw: bytes) -> int:
    """Digest of action and payload bytes as received, for this process only.

    Python's keyed hash is enough: whoever could make two messages of one connection collide, against a key it does not
    know, would be given its own earlier answer.
    """
    return hash((action, raw))


class AnswerCache:
    """Open calls and answers by message id, for one connection; at most `max_ids` answers, `max_age_s` old, 1 MiB."""

    def __init__(self, max_ids: int, max_age_s: float) -> None:
        """An empty cache."""
        self._max_ids: Final = max_ids
        self._max_age_s: Final = max_age_s
        self._open: dict[str, _Entry] = {}
        self._answered: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        self._oldest_until_s = 0.0
        """Until when the oldest answer is kept; not later than that where the oldest has gone."""

    @property
    def open_count(self) -> int:
        """Calls of the peer that wait for our answer."""
        return len(self._open)

    def look_up(self, call: Call, raw: bytes, now_s: float) -> Seen:
        """What is known of this id and payload `raw` at `now_s`."""
        if now_s >= self._oldest_until_s:
            self._forget(now_s)
        entry = self._open.get(call.id) or self._answered.get(call.id)
        if entry is None:
            return "new"
        if entry.digest != payload_digest(call.action, raw):
            return "other_payload"
        return "answered" if entry.frame else "open"

    def open(self, call: Call, raw: bytes, now_s: float) -> None:
        """Note that `call` with payload `raw` will be answered later."""
        self._open[call.id] = _Entry(call.action, payload_digest(call.action, raw), now_s)

    def open_action(self, message_id: str) -> str | None:
        """Action of an open call, or None when there is none with this id."""
        entry = self._open.get(message_id)
        return entry.action if entry else None

    def close(self, message_id: str, frame: bytes) -> None:
        """Keep the answer `frame` of an open call; raises KeyError when it is not open."""
        entry, answered = self._open.pop(message_id), self._answered
        entry.frame = frame
        if not answered:
            self._oldest_until_s = entry.received_at_s + self._max_age_s
        answered[message_id] = entry
        self._bytes += len(frame)
        while len(answered) > self._max_ids or (self._bytes > MAX_CACHE_BYTES and len(answered) > 1):
            self._bytes -= len(answered.popitem(last=False)[1].frame)

    def answer_of(self, message_id: str) -> bytes:
        """The answer given before, byte for byte; raises KeyError."""
        return self._answered[message_id].frame

    def was_answered(self, message_id: str) -> bool:
        """Whether an answer under this id is still remembered."""
        return message_id in self._answered

    def clear(self) -> None:
        """Forget everything: ids of one connection mean nothing on the next."""
        self._open.clear()
        self._answered.clear()
        self._bytes = 0

    def _forget(self, now_s: float) -> None:
        while self._answered:
            oldest = next(iter(self._answered.values()))
            if now_s - oldest.received_at_s < self._max_age_s:
                self._oldest_until_s = oldest.received_at_s + self._max_age_s
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, entry = self._answered.popitem(last=False)
        self._bytes -= len(entry.frame)
