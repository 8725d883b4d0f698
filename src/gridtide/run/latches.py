"""Latches that must outlive a restart and that a failing store has not taken yet: they hold meanwhile and are written again."""

from gridtide.run.clock import Clock
from gridtide.run.csms.station import OnEvent
from gridtide.run.store import Store, StoreError


class Latches:
    """What is owed to the store, by key."""

    def __init__(self, store: Store, clock: Clock, note: OnEvent) -> None:
        self._store, self._clock, self._note = store, clock, note
        self._owed: dict[str, str] = {}
        self._paying = False

    @property
    def is_due(self) -> bool:
        """Something is owed and nobody is writing it."""
        return bool(self._owed) and not self._paying

    def owe(self, key: str, actor: str) -> None:
        """The latch `key` holds since now, because of `actor`."""
        self._owed[key] = actor

    def lift(self, key: str) -> None:
        """It was cleared, and that is stored."""
        self._owed.pop(key, None)

    async def pay(self) -> None:
        """Write what is owed. A store that fails is told of; what is left is tried again."""
        self._paying = True
        try:
            for key, actor in list(self._owed.items()):
                await self._store.put_setting(key, b"true", actor, self._clock.wall())
                self._owed.pop(key, None)
        except StoreError:
            self._note("store_failed", "site", "A latch could not be stored yet; it holds and is tried again.")
        finally:
            self._paying = False
