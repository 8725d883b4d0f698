"""Pacing of live streams: the newest value at most so often, and an end for readers who stop reading."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class SlowReader(ConnectionError):
    """The other end has not read for too long; drop it, it may come back."""


class Streams:
    """The open live streams of one server: bounded in number, ended together."""

    def __init__(self, limit: int = 32) -> None:
        self.closing = asyncio.Event()
        """Set once; every stream ends at its next turn."""
        self._limit, self._open = limit, 0

    @property
    def full(self) -> bool:
        """No further stream may be opened now."""
        return self._open >= self._limit

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts as open meanwhile."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


async def paced(read: Callable[[], T], period_s: float, closing: asyncio.Event) -> AsyncIterator[T]:
    """`read()` now and then every `period_s` until `closing` is set; a value that is the same object is left out.

    The value is read when the consumer asks: one that is slow gets the newest, never a queue of old ones.
    """
    last: T | None = None
    while not closing.is_set():
        value = read()
        if value is not last:
            last = value
            yield value
        try:
            await asyncio.wait_for(closing.wait(), period_s)
        except TimeoutError:
            continue


class Deadline(Generic[T]):
    """A `send` that gives up on a reader: SlowReader when one message takes longer than `limit_s`, and ever after."""

    def __init__(self, send: Callable[[T], Awaitable[None]], limit_s: float) -> None:
        self._send, self._limit_s = send, limit_s
        self.expired = False
        """One message has taken too long."""

    async def __call__(self, message: T) -> None:
        if not self.expired:
            try:
                async with asyncio.timeout(self._limit_s):
                    await self._send(message)
            except TimeoutError:
                self.expired = True
        if self.expired:
            raise SlowReader(f"nothing was read for {self._limit_s:g} s")
