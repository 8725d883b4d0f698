"""Turns: so many at once, the rest in the order of asking, and not without end."""

import asyncio
from collections import deque

WAITING_PER_TURN = 10
"""So many may wait for each turn there is."""


class TooManyWait(Exception):
    """The waiting room is full; try again later."""


class Turns:
    """Use `async with turns:` around what takes a turn."""

    def __init__(self, limit: int) -> None:
        """`limit` turns at once. Raises ValueError where it is not positive."""
        if limit < 1:
            raise ValueError(f"limit is {limit}: give 1 or more")
        self._limit = limit
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not item.done() for item in self._waiting)

    async def __aenter__(self) -> None:
        """Wait for a turn; raises TooManyWait."""
        if self.taken < self._limit and not self.waiting:
            self.taken += 1
            return
        if self.waiting >= WAITING_PER_TURN * self._limit:
            raise TooManyWait
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            # The turn may have been given in the very moment of the cancellation.
            if mine.done() and not mine.cancelled():
                self._pass_on()
            raise

    async def __aexit__(self, *_exc: object) -> None:
        """The turn goes to the next."""
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self.taken -= 1
