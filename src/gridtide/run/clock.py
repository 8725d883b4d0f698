"""Time as a port: what control measures by (monotonic) and what people and tariffs read (wall).

Everything else in `run` asks a `Clock`; nobody else reads the machine's time. Three ways to keep it: the machine's own,
a faster or slower one for the demo, and a virtual one that lives on the loop.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol

MIN_SPEED = 0.1
"""Slowest site time per real time a `ScaledClock` runs at."""
_REAL_RESOLUTION_S = 1e-9
"""A remainder of real time too short for any timer; a sleeper that close has arrived."""


class Clock(Protocol):
    """Site time: leases, ramps and timeouts use the monotonic side, tariffs and records the wall side."""

    def monotonic(self) -> float:
        """Seconds that never jump back; only differences mean something."""

    def wall(self) -> float:
        """UTC epoch seconds."""

    async def sleep(self, duration_s: float) -> None:
        """Wait `duration_s` of site time; 0 or less only gives way to others. `ValueError` if not finite."""

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until `monotonic()` has reached `monotonic_s`; a past instant only gives way to others."""


class WallClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    def wall(self) -> float:
        """UTC epoch seconds of the machine."""
        return time.time()

    async def sleep(self, duration_s: float) -> None:
        """Wait `duration_s`; `ValueError` if not finite."""
        await self.sleep_until(time.monotonic() + _finite(duration_s, "duration_s"))

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until the monotonic clock has reached `monotonic_s`."""
        left_s = _finite(monotonic_s, "monotonic_s") - time.monotonic()
        await asyncio.sleep(max(left_s, 0.0))
        # A loop with millisecond timers may wake too early.
        while (left_s := monotonic_s - time.monotonic()) > 0.0:
            await asyncio.sleep(left_s)


class LoopClock:
    """The running loop's own time; on a `SimLoop` this is virtual time."""

    def __init__(self, loop_time: Callable[[], float], start_wall_s: float) -> None:
        """`loop_time`: the running loop's `time`; `start_wall_s`: UTC epoch seconds at its zero."""
        self._loop_time = loop_time
        self._start_wall_s = _finite(start_wall_s, "start_wall_s")

    def monotonic(self) -> float:
        """The loop's time, seconds."""
        return self._loop_time()

    def wall(self) -> float:
        """UTC epoch seconds: start plus the loop's time."""
        return self._start_wall_s + self._loop_time()

    async def sleep(self, duration_s: float) -> None:
        """Wait `duration_s` of the loop's time; `ValueError` if not finite."""
        await self.sleep_until(self._loop_time() + _finite(duration_s, "duration_s"))

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until the loop's time has reached `monotonic_s`."""
        if self._loop_time() >= _finite(monotonic_s, "monotonic_s"):
            await asyncio.sleep(0)
        while self._loop_time() < monotonic_s:
            # Not asyncio.sleep: now + (target - now) may round to an instant just before the target.
            await _timer(monotonic_s)


class ScaledClock:
    """Site time that runs `speed` times as fast as real time, for the demo; the speed may change at any moment."""

    def __init__(self, speed: float, start_wall_s: float, real_time: Callable[[], float] = time.monotonic) -> None:
        """`speed`: site seconds per real second, at least 0.1; `start_wall_s`: UTC epoch seconds at monotonic zero;
        `real_time`: monotonic real seconds, at the pace of the loop's timers. `ValueError` if not finite.
        """
        self._speed = _speed(speed)
        self._start_wall_s = _finite(start_wall_s, "start_wall_s")
        self._real_time = real_time
        self._anchor_real_s = real_time()
        self._anchor_s = 0.0
        self._latest_s = 0.0
        self._sleepers: dict[asyncio.Future[None], None] = {}

    @property
    def speed(self) -> float:
        """Site seconds per real second."""
        return self._speed

    def set_speed(self, speed: float) -> None:
        """Go on from the present instant at another speed (0.1 at least); sleepers work out their rest anew.

        `ValueError` if `speed` is not finite.
        """
        new = _speed(speed)
        self._anchor_s = self.monotonic()
        self._anchor_real_s = self._real_time()
        self._speed = new
        for sleeper in self._sleepers:
            _wake(sleeper)

    def monotonic(self) -> float:
        """Site seconds since the clock was made; never jumps back, whatever the speed did."""
        site_s = self._anchor_s + (self._real_time() - self._anchor_real_s) * self._speed
        self._latest_s = max(self._latest_s, site_s)
        return self._latest_s

    def wall(self) -> float:
        """UTC epoch seconds of the site."""
        return self._start_wall_s + self.monotonic()

    async def sleep(self, duration_s: float) -> None:
        """Wait `duration_s` of site time; `ValueError` if not finite."""
        await self.sleep_until(self.monotonic() + _finite(duration_s, "duration_s"))

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until site time has reached `monotonic_s`, through every change of speed."""
        if self.monotonic() >= _finite(monotonic_s, "monotonic_s"):
            await asyncio.sleep(0)
        while (left_real_s := (monotonic_s - self.monotonic()) / self._speed) > _REAL_RESOLUTION_S:
            loop = asyncio.get_running_loop()
            sleeper = loop.create_future()
            self._sleepers[sleeper] = None
            timer = loop.call_later(left_real_s, _wake, sleeper)
            try:
                await sleeper
            finally:
                timer.cancel()
                del self._sleepers[sleeper]
        # Rounding may leave the last nanosecond: whoever slept until an instant must not read an earlier one.
        self._latest_s = max(self._latest_s, monotonic_s)


async def _timer(when_s: float) -> None:
    """Wait for the running loop's time `when_s`."""
    loop = asyncio.get_running_loop()
    arrival: asyncio.Future[None] = loop.create_future()
    timer = loop.call_at(when_s, _wake, arrival)
    try:
        await arrival
    finally:
        timer.cancel()


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _finite(value_s: float, name: str) -> float:
    if not math.isfinite(value_s):
        raise ValueError(f"{name} is {value_s}: give a finite number of seconds")
    return value_s


def _speed(speed: float) -> float:
    if not math.isfinite(speed):
        raise ValueError(f"speed is {speed}: give a finite number, {MIN_SPEED} or more")
    return max(speed, MIN_SPEED)
