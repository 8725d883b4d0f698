"""Our own calls: one in flight, the rest in a short bounded queue in which a stop goes first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Final

import msgspec

from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.events import CallFailed, FailureReason


class Priority(IntEnum):
    """Urgency of a call, most urgent first."""

    STOP = 0
    CONTROL = 1
    NORMAL = 2
    BACKGROUND = 3


class QueueFull(LocalProtocolError):
    """The queue holds its maximum and nothing in it is less urgent than the new call."""


class OutgoingCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call of ours, encoded."""

    id: str
    action: str
    frame: bytes
    priority: Priority
    timeout_s: float
    replace_key: Hashable = None
    expires_at_s: float | None = None
    behind: str = ""
    """Action of the call in flight when this one was made."""


def failed(call: OutgoingCall, reason: FailureReason, *, was_sent: bool) -> CallFailed:
    """The event for a call that ends without an answer."""
    return CallFailed(id=call.id, action=call.action, reason=reason, was_sent=was_sent)


class OutgoingCalls:
    """Queue and in-flight slot. Rules:

    - at most one call is in flight; its wait ends at its time limit (`timed_out`);
    - a waiting STOP ends the wait for the call in flight after at most `stop_wait_s` (`overtaken`);
    - a waiting CONTROL does so after `control_wait_s`, for a call in flight that is less urgent;
    - a call replaces all unsent ones with the same key, in the first one's place, unless the older one is more urgent;
    - a full queue gives up its least urgent, newest call for a more urgent one.
    """

    def __init__(self, queue_limit: int, stop_wait_s: float, control_wait_s: float = 3.0) -> None:
        """An empty queue of at most `queue_limit` unsent calls."""
        self._queue_limit: Final = queue_limit
        self._stop_wait_s: Final = stop_wait_s
        self._control_wait_s: Final = control_wait_s
        self._queue: list[OutgoingCall] = []
        self.in_flight: OutgoingCall | None = None
        self.sent_at_s = 0.0
        """Instant at which the call in flight, or the last one that was, left."""
        self._deadline_s = 0.0
        self._overtaken = False

    def __len__(self) -> int:
        """Number of unsent calls."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Nothing is in flight and nothing waits: time and answers change nothing here."""
        return self.in_flight is None and not self._queue

    def add(self, call: OutgoingCall, now_s: float) -> list[CallFailed]:
        """Queue `call`; returns the calls that had to give way. Raises QueueFull."""
        failures = self._replace(call)
        if not failures:
            failures = self._displace(call)
            self._queue.append(call)
        self._queue.sort(key=lambda queued: queued.priority)
        self._hurry_for(call.priority, now_s)
        return failures

    def withdraw(self, is_meant: Callable[[Hashable], bool], priority: Priority) -> list[CallFailed]:
        """Give up the unsent calls whose key is meant, but for those more urgent than `priority`."""
        old = [
            q for q in self._queue if q.replace_key is not None and priority <= q.priority and is_meant(q.replace_key)
        ]
        for queued in old:
            self._queue.remove(queued)
        return [failed(queued, "replaced", was_sent=False) for queued in old]

    def send_next(self, now_s: float, admits: Callable[[OutgoingCall], bool]) -> OutgoingCall | None:
        """Move the most urgent admitted call into flight and return it; None when busy or nothing may go."""
        if self.in_flight is not None:
            return None
        call = next((queued for queued in self._queue if admits(queued)), None)
        if call is None:
            return None
        self._queue.remove(call)
        self.in_flight, self.sent_at_s = call, now_s
        self._deadline_s, self._overtaken = now_s + call.timeout_s, False
        if self._queue:
            self._hurry_for(self._queue[0].priority, now_s)
        return call

    def settle(self, message_id: str) -> OutgoingCall | None:
        """Take the call in flight if it has this id, else None: answers count by id only."""
        call = self.in_flight
        if call is None or call.id != message_id:
            return None
        self.in_flight = None
        return call

    def expire(self, now_s: float) -> list[CallFailed]:
        """End what is due at `now_s`: the wait in flight, and unsent calls past their `expires_at_s`."""
        failures = []
        if self.in_flight is not None and now_s >= self._deadline_s:
            failures.append(failed(self.in_flight, "overtaken" if self._overtaken else "timed_out", was_sent=True))
            self.in_flight = None
        stale = [c for c in self._queue if c.expires_at_s is not None and now_s >= c.expires_at_s]
        for call in stale:
            self._queue.remove(call)
            failures.append(failed(call, "expired", was_sent=False))
        return failures

    def fail_all(self) -> list[CallFailed]:
        """End everything because the socket ended."""
        failures = [failed(self.in_flight, "socket_ended", was_sent=True)] if self.in_flight else []
        failures += [failed(call, "socket_ended", was_sent=False) for call in self._queue]
        self.in_flight = None
        self._queue.clear()
        return failures

    def next_deadline_s(self) -> float | None:
        """When `expire` has something to do next, or None."""
        deadlines = [call.expires_at_s for call in self._queue if call.expires_at_s is not None]
        if self.in_flight is not None:
            deadlines.append(self._deadline_s)
        return min(deadlines, default=None)

    def _hurry_for(self, waiting: Priority, now_s: float) -> None:
        """Shorten the wait for the call in flight because of a more urgent one behind it."""
        if self.in_flight is None:
            return
        if waiting is Priority.STOP:
            ends_s = now_s + self._stop_wait_s
        elif waiting is Priority.CONTROL and self.in_flight.priority > Priority.CONTROL:
            ends_s = now_s + self._control_wait_s
        else:
            return
        if ends_s < self._deadline_s:
            self._deadline_s, self._overtaken = ends_s, True

    def _replace(self, call: OutgoingCall) -> list[CallFailed]:
        if call.replace_key is None:
            return []
        old = [q for q in self._queue if q.replace_key == call.replace_key and call.priority <= q.priority]
        if old:
            self._queue[self._queue.index(old[0])] = call
            # A less urgent one behind an older stop is older than this call too.
            for queued in old[1:]:
                self._queue.remove(queued)
        return [failed(queued, "replaced", was_sent=False) for queued in old]

    def _displace(self, call: OutgoingCall) -> list[CallFailed]:
        if len(self._queue) < self._queue_limit:
            return []
        if self._queue[-1].priority <= call.priority:
            raise QueueFull(f"{call.action}: {len(self._queue)} calls are waiting already")
        return [failed(self._queue.pop(), "displaced", was_sent=False)]
