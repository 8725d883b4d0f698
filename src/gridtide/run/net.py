"""Message links as a port: whole messages in, whole messages out, and a close that says why.

`Link` is what the OCPP sessions speak through. `memory_link` is its in-memory pair for tests, the day scenarios and the
demo, with the faults a network has; a WebSocket adapter is the real one.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from gridtide.run.clock import Clock

NORMAL_CLOSURE = 1000
ABNORMAL_CLOSURE = 1006
"""WebSocket close codes, RFC 6455 section 7.4.1."""


class LinkClosed(ConnectionError):
    """The link is closed; retry with a new one if the code allows."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"link closed: {code} {reason}".rstrip())
        self.code = code
        """WebSocket close code; 1006 if the link broke without a word."""
        self.reason = reason


class Link(Protocol):
    """One message-oriented connection; one reader, any number of writers."""

    @property
    def closed(self) -> bool:
        """No more can be sent: this end closed, or the other end's close has arrived."""

    async def receive(self) -> bytes:
        """The next message, in order; `LinkClosed` once closed and everything sent before is read."""

    async def listen(self, on_message: Callable[[bytes], None]) -> LinkClosed:
        """Hand over every message, in order, until the link closes; returns how it ended. What `on_message` raises is raised."""

    async def send(self, data: bytes) -> None:
        """Send one message, waiting while the other end is slow; `LinkClosed` if closed."""

    def put(self, data: bytes) -> bool:
        """Send one message at once; False, and nothing is sent, while the other end is slow or when the link is closed."""

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close this end and tell the other; a second close does nothing."""

    def drop(self) -> None:
        """Cut the link without a word, whatever is under way."""


class LinkFaults(msgspec.Struct, frozen=True, kw_only=True):
    """What an in-memory link does to messages, both ways alike."""

    latency_s: float = 0.0
    """Site seconds from send to receive."""
    jitter_s: float = 0.0
    """Up to this much more, drawn evenly; messages stay in order."""
    loss: float = 0.0
    """Share of messages that vanish, 0..1."""
    duplicate: float = 0.0
    """Share of messages that arrive twice, 0..1."""


class _Parcel(msgspec.Struct, frozen=True):
    """A message under way, or the other end's close."""

    due_s: float
    data: bytes
    close: LinkClosed | None = None


class MemoryLink:
    """One end of an in-memory pair. Messages wait at the receiver with their due instant: without latency no timer."""

    def __init__(self, clock: Clock, faults: LinkFaults, luck: random.Random, queue_limit: int) -> None:
        self.blackhole = False
        """What this end sends vanishes without a word, its close too; the other direction is untouched."""
        self.faults = faults
        """What this end does to what it sends; may be changed at any moment."""
        self._clock = clock
        self._luck = luck
        self._queue_limit = queue_limit
        self._peer: MemoryLink = self
        self._inbox: deque[_Parcel] = deque()
        self._last_due_s = -math.inf
        self._arrival = asyncio.Event()
        self._room = asyncio.Event()
        self._reading = False
        self._sleeper: asyncio.Task[None] | None = None
        self._ended: LinkClosed | None = None

    @property
    def closed(self) -> bool:
        """This end closed, or the other end's close has arrived."""
        return self._end() is not None

    async def receive(self) -> bytes:
        """The next message, in order; `LinkClosed` once closed and everything sent before is read.

        `RuntimeError` if somebody else is already receiving here.
        """
        if self._reading:
            raise RuntimeError("two readers on one link: messages would be split between them")
        self._reading = True
        try:
            return await self._next()
        finally:
            self._reading = False

    async def listen(self, on_message: Callable[[bytes], None]) -> LinkClosed:
        """Hand over every message, in order, until the link closes; returns how it ended."""
        while True:
            try:
                data = await self.receive()
            except LinkClosed as ended:
                return ended
            on_message(data)

    async def send(self, data: bytes) -> None:
        """Send one message; waits while the other end has too many unread, `LinkClosed` if closed."""
        while not self.put(data):
            end = self._end()
            if end is not None:
                raise LinkClosed(end.code, end.reason)
            self._peer._room.clear()
            await self._peer._room.wait()

    def put(self, data: bytes) -> bool:
        """Send one message at once; False while the other end has too many unread, or when the link is closed."""
        if self._end() is not None or not (self.blackhole or len(self._peer._inbox) < self._queue_limit):
            return False
        if self.blackhole or self._luck.random() < self.faults.loss:
            return True
        copies = 2 if self._luck.random() < self.faults.duplicate else 1
        for _ in range(copies):
            self._peer._put(_Parcel(self._due_s(), bytes(data)))
        return True

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close this end and tell the other, after what was sent before; a second close does nothing."""
        if self._ended is not None:
            return
        self._finish(LinkClosed(code, reason))
        if not self.blackhole:
            self._peer._put(_Parcel(self._due_s(), b"", LinkClosed(code, reason)))

    def drop(self) -> None:
        """Cut the cord: both ends are closed at once with 1006, what was under way is lost."""
        for end in (self, self._peer):
            if end._ended is None:
                end._finish(LinkClosed(ABNORMAL_CLOSURE, "connection lost"))

    def _end(self) -> LinkClosed | None:
        if self._ended is not None:
            return self._ended
        last = self._inbox[-1] if self._inbox else None
        if last is not None and last.close is not None and self._clock.monotonic() >= last.due_s:
            return last.close
        return None

    async def _next(self) -> bytes:
        while (end := self._ended) is None:
            if not self._inbox:
                self._arrival.clear()
                await self._arrival.wait()
                continue
            head = self._inbox[0]
            if self._clock.monotonic() < head.due_s:
                await self._wait_until(head.due_s)
                continue
            if head.close is not None:
                self._finish(head.close)
                continue
            self._inbox.popleft()
            self._room.set()
            return head.data
        raise LinkClosed(end.code, end.reason)

    async def _wait_until(self, due_s: float) -> None:
        """Until the head is due, or the link ends at this side."""
        sleeper = asyncio.create_task(_arrive(self._clock, due_s))
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sleeper.add_done_callback(lambda _: _wake(arrived))
        self._sleeper = sleeper
        try:
            await arrived
        finally:
            self._sleeper = None
            sleeper.cancel()
        if not sleeper.cancelled():
            sleeper.result()

    def _put(self, parcel: _Parcel) -> None:
        if self._ended is None:
            self._inbox.append(parcel)
            self._arrival.set()

    def _finish(self, end: LinkClosed) -> None:
        self._ended = end
        self._inbox.clear()
        if self._sleeper is not None:
            self._sleeper.cancel()
        self._arrival.set()
        self._room.set()
        self._peer._room.set()

    def _due_s(self) -> float:
        delay_s = self.faults.latency_s
        if self.faults.jitter_s:
            delay_s += self._luck.uniform(0.0, self.faults.jitter_s)
        self._last_due_s = max(self._last_due_s, self._clock.monotonic() + delay_s)
        return self._last_due_s


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _arrive(clock: Clock, due_s: float) -> None:
    await clock.sleep_until(due_s)


def memory_link(
    clock: Clock,
    latency_s: float = 0.0,
    *,
    jitter_s: float = 0.0,
    loss: float = 0.0,
    duplicate: float = 0.0,
    seed: int = 0,
    queue_limit: int = 1024,
) -> tuple[MemoryLink, MemoryLink]:
    """Both ends of an in-memory link on `clock`, with seeded faults (see `LinkFaults`).

    `queue_limit`: unread messages at an end before the other end's `send` waits. `ValueError` on a value out of range.
    """
    for name, value in (("latency_s", latency_s), ("jitter_s", jitter_s)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} is {value}: give a finite number of seconds, 0 or more")
    for name, value in (("loss", loss), ("duplicate", duplicate)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}: give a share between 0 and 1")
    if queue_limit < 1:
        raise ValueError(f"queue_limit is {queue_limit}: give 1 or more")
    faults = LinkFaults(latency_s=latency_s, jitter_s=jitter_s, loss=loss, duplicate=duplicate)
    luck = random.Random(seed)
    near, far = (MemoryLink(clock, faults, random.Random(luck.random()), queue_limit) for _ in range(2))
    near._peer, far._peer = far, near
    return near, far
