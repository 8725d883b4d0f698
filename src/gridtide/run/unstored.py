"""Events that the store did not take: people see them all the same, and the store gets them once it writes again."""

from collections import deque
from typing import Final

from msgspec import structs

from gridtide.run.store import Store, StoredEvent, StoreError

STUCK_S: Final = 1.25
"""A commit that takes longer than this counts as failing: it must be told 2 s after it began."""
MOST: Final = 200
"""Kinds of events that wait; the oldest make room."""


class Unstored:
    """Stores events; keeps in memory those that cannot be, each code and source once with a count."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.waiting: deque[StoredEvent] = deque(maxlen=MOST)
        """Oldest first."""
        self._under_way: list[StoredEvent] = []

    async def put(self, event: StoredEvent) -> None:
        """Store the event, or keep it. Raises nothing that the store raises for a failing disk."""
        self._under_way.append(event)
        try:
            await self._store.add_event(event)
        except StoreError:
            self._keep(event)
        finally:
            self._under_way.remove(event)

    def shown(self) -> list[StoredEvent]:
        """Newest first: what was refused and, while a commit does not end, what waits for it."""
        stuck = self._under_way if self._store.health().stuck_s > STUCK_S else []
        return [*self.waiting, *stuck[-MOST:]][::-1]

    async def retry(self) -> int:
        """Store what waits, until one is refused; how many went."""
        gone = 0
        while self.waiting:
            event = self.waiting.popleft()
            try:
                await self._store.add_event(event)
            except StoreError:
                self.waiting.appendleft(event)
                break
            gone += 1
        return gone

    def _keep(self, event: StoredEvent) -> None:
        known = next((one for one in self.waiting if (one.code, one.source) == (event.code, event.source)), None)
        if known is not None:
            self.waiting.remove(known)
            event = structs.replace(event, count=known.count + event.count)
        self.waiting.append(event)
