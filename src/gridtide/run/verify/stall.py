"""A controller whose loop stands still: from its clock, its meter and its links nothing reaches it, and nothing of it gets out.

In virtual time no thread can be stalled honestly. So everything a loop can wait for is held back, and let in at once, in order,
when the loop goes on. The thread that watches a real loop is left out: leases end by themselves.
"""

import asyncio
from collections.abc import Callable

from gridtide.run.net import Link, LinkClosed
from gridtide.run.verify.case import START_S


class Gate:
    """Shut while the loop stands still."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._held: list[Callable[[], object]] = []

    @property
    def is_shut(self) -> bool:
        """The loop stands still."""
        return not self._open.is_set()

    def shut(self) -> None:
        """The loop stands still from now on."""
        self._open.clear()

    def open(self) -> None:
        """The loop goes on; what it was about to do happens now."""
        self._open.set()
        held, self._held = self._held, []
        for act in held:
            act()

    async def passed(self) -> None:
        """Wait until the loop goes on."""
        await self._open.wait()

    def do(self, act: Callable[[], object]) -> None:
        """Do it now, or when the loop goes on."""
        if self.is_shut:
            self._held.append(act)
        else:
            act()

    def forget(self) -> None:
        """The process has ended: what it was about to do never happens."""
        self._held.clear()
        self._open.set()


class GatedLink:
    """A controller's end of a link behind its gate."""

    def __init__(self, link: Link, gate: Gate) -> None:
        self._link, self._gate = link, gate

    @property
    def closed(self) -> bool:
        """As the link."""
        return self._link.closed

    async def receive(self) -> bytes:
        """The next message, once the loop goes on."""
        try:
            return await self._link.receive()
        finally:
            await self._gate.passed()

    async def listen(self, on_message: Callable[[bytes], None]) -> LinkClosed:
        """Hand over every message until the link closes, while the loop goes on."""
        while True:
            try:
                data = await self.receive()
            except LinkClosed as ended:
                return ended
            on_message(data)

    async def send(self, data: bytes) -> None:
        """Send once the loop goes on."""
        await self._gate.passed()
        await self._link.send(data)

    def put(self, data: bytes) -> bool:
        """Send at once, or when the loop goes on."""
        if self._gate.is_shut:
            self._gate.do(lambda: self._link.put(data))
            return True
        return self._link.put(data)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close once the loop goes on."""
        await self._gate.passed()
        await self._link.close(code, reason)

    def drop(self) -> None:
        """Cut the link: the system does it, whatever the loop does."""
        self._link.drop()


class SimClock:
    """Virtual time from `START_S`; the wall side can be stepped, the monotonic side cannot."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gate: Gate | None = None) -> None:
        """`gate`: nobody wakes up while it is shut."""
        self._loop, self._gate = loop, gate
        self.step_s = 0.0

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return START_S + self._loop.time()

    def wall(self) -> float:
        """UTC epoch seconds as this clock believes."""
        return START_S + self._loop.time() + self.step_s

    async def sleep(self, duration_s: float) -> None:
        """Wait `duration_s`."""
        await self.sleep_until(self.monotonic() + duration_s)

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until `monotonic()` has reached `monotonic_s`."""
        loop_s = monotonic_s - START_S
        if self._loop.time() >= loop_s:
            await asyncio.sleep(0)
            await self._pass()
            return
        arrival: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_at(loop_s, _wake, arrival)
        try:
            await arrival
        finally:
            timer.cancel()
        await self._pass()

    async def _pass(self) -> None:
        if self._gate is not None and self._gate.is_shut:
            await self._gate.passed()


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)
