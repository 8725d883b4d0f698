"""Pacing of live streams: the newest value at most so often, and an end for readers who stop reading."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

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


def with_deadline(send: Callable[[T], Awaitable[None]], limit_s: float) -> Callable[[T], Awaitable[None]]:
    """`send` that raises SlowReader when one message takes longer than `limit_s`."""

    async def bounded(message: T) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await send(message)
        except TimeoutError:
            raise SlowReader(f"nothing was read for {limit_s:g} s") from None

    return bounded
