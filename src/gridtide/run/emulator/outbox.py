"""The messages a station owes its CSMS, in order: what is lost with a link goes again, nothing is skipped or told twice (E04).

Transaction events and everything else stand in one queue. Answers to the CSMS's own wishes (reports) stand in a second one,
because they may go while the station is still pending (B02).
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct

from gridtide.wire.ocpp.structs import WireStruct

Done: TypeAlias = Callable[[Any], None]
"""Gets the payload of the answer, or None if there will be none."""
QUEUE_LIMIT = 1_000
ATTEMPTS = 3
"""How often a message is tried that the CSMS could not take (MessageAttempts, E13)."""
_LOST = ("socket_ended", "timed_out")
_ITS_FAULT = ("InternalError", "GenericError")


class Owed(Struct):
    """A message not yet answered."""

    action: str
    payload: WireStruct
    done: Done | None
    tries: int = 0
    retry_at_s: float = 0.0

    @property
    def transaction_id(self) -> str | None:
        """The transaction this event belongs to."""
        info: Any = getattr(self.payload, "transactionInfo", None)
        return None if info is None else str(info.transactionId)


class Outbox:
    """Two queues, and at most one message of each under way."""

    __slots__ = ("_queues", "_under_way", "attempts", "pause_s")

    def __init__(self) -> None:
        self._queues: tuple[deque[Owed], deque[Owed]] = (deque(), deque())
        self._under_way: list[Owed | None] = [None, None]
        self.attempts, self.pause_s = ATTEMPTS, 10.0

    def __len__(self) -> int:
        """Messages not yet answered."""
        return sum(len(queue) for queue in self._queues)

    def put(self, action: str, payload: WireStruct, done: Done | None = None, *, asked: bool = False) -> None:
        """Queue a message; a full queue gives up what matters least, never the start or end of a transaction."""
        queue = self._queues[asked]
        queue.append(Owed(action, payload, done))
        if len(queue) > QUEUE_LIMIT:
            del queue[_least(queue)]

    def owes(self, transaction_id: str | None = None) -> bool:
        """Whether a transaction event (of one transaction) still waits (E14)."""
        told = (item.transaction_id for item in self._queues[0])
        return any(one is not None and transaction_id in (None, one) for one in told)

    def next(self, now_s: float, *, accepted: bool) -> tuple[Owed, int] | None:
        """The next message that may go and its queue; it stays queued until `settle`. None: nothing may go now."""
        for place in (1, 0):
            queue = self._queues[place]
            if (place == 0 and not accepted) or self._under_way[place] or not queue or queue[0].retry_at_s > now_s:
                continue
            self._under_way[place] = queue[0]
            return queue[0], place
        return None

    def settle(self, place: int, outcome: Any, now_s: float) -> bool:
        """Take the outcome of the message under way; returns whether the queue may go on at once.

        Answered: it leaves the queue. Lost with its link: it stays. Refused because the CSMS failed: it is tried a few
        times with a growing pause; refused for good: it leaves, or it would block the rest for ever.
        """
        owed, self._under_way[place] = self._under_way[place], None
        if owed is None:
            return False
        why = getattr(outcome, "reason", None)
        if why in _LOST:
            return False
        owed.tries += 1
        if why == "call_error" and outcome.code in _ITS_FAULT and owed.tries < self.attempts:
            owed.retry_at_s = now_s + self.pause_s * owed.tries
            return False
        self._queues[place].popleft()
        if owed.done is not None:
            owed.done(getattr(outcome, "payload", None))
        return True

    def link_ended(self) -> None:
        """Nothing is under way any more."""
        self._under_way = [None, None]


def _least(queue: deque[Owed]) -> int:
    """Place of the message that matters least, never the first (it may be under way): no event at all, else an update."""
    for place, item in enumerate(queue):
        if place and item.transaction_id is None:
            return place
    updates = (p for p, item in enumerate(queue) if p and getattr(item.payload, "eventType", "") == "Updated")
    return next(updates, 1)
