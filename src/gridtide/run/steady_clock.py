"""The machine's clock without its jumps: what stations are told and intervals are counted by goes on evenly (FT13).

A schedule sent to a station begins and ends by this time, so a jump would end every discharge and every charging limit at once. A
jump (somebody sets the clock, a wrong time server, a pause of the machine) is told, and followed only when it has lasted, nobody
gives power, and the new time can be true.
"""

import math
from collections.abc import Callable

from gridtide.run.clock import Clock
from gridtide.run.csms.station import OnEvent

SMALL_S = 0.5
"""A difference up to this is followed at once."""
BELIEVE_S = 600.0
"""A jump that has lasted so long is followed as soon as nobody gives power."""
LOOK_S = 1.0
PLAUSIBLE_S = (1_577_836_800.0, 7_258_118_400.0)
"""2020 to 2200, UTC epoch s: no other time of a machine is believed."""


class SteadyClock:
    """`Clock` over another one, whose wall side it follows but for jumps."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._ahead_s = machine.wall() - machine.monotonic()
        self._since_s: float | None = None
        self._told_s = 0.0
        self._not_before_s = -math.inf
        self._is_guess = False

    def not_before(self, at_s: float) -> None:
        """It is later than UTC epoch s `at_s`, the time of what was stored last. Where the machine tells a time that cannot be,
        time goes on from there until it tells one that can. Where it tells less, either may be wrong: see `latest_s`."""
        if not _can_be(at_s):
            return
        self._not_before_s = at_s
        if not _can_be(self.wall()):
            self._ahead_s, self._is_guess = at_s - self._machine.monotonic(), True

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return self._machine.monotonic()

    def wall(self) -> float:
        """UTC epoch seconds."""
        return self._machine.monotonic() + self._ahead_s

    @property
    def latest_s(self) -> float:
        """UTC epoch s that it may be at most, for what must not be taken to be further away than it is."""
        return max(self.wall(), self._not_before_s)

    async def sleep(self, duration_s: float) -> None:
        """Wait `duration_s`; `ValueError` if not finite."""
        await self._machine.sleep(duration_s)

    async def sleep_until(self, monotonic_s: float) -> None:
        """Wait until the monotonic clock has reached `monotonic_s`."""
        await self._machine.sleep_until(monotonic_s)

    def follow(self, is_quiet: bool) -> str | None:
        """Look at the machine's clock, about once a second. `is_quiet`: nobody gives power. Returns words on a jump that is new,
        and on one that was followed."""
        now_s, machine_s = self._machine.monotonic(), self._machine.wall()
        jump_s = machine_s - self.wall()
        if math.isfinite(jump_s) and abs(jump_s) <= SMALL_S:
            self._ahead_s += jump_s
            self._since_s = None
            return None
        if self._since_s is None or not abs(jump_s - self._told_s) <= SMALL_S:
            self._since_s, self._told_s = now_s, jump_s
            return f"It jumped by {jump_s:+.0f} s. Control goes on by the time it had."
        is_wrong = self._is_guess or not _can_be(self.wall())
        if _can_be(machine_s) and (is_wrong or (is_quiet and now_s - self._since_s >= BELIEVE_S)):
            self._ahead_s += jump_s
            self._since_s, self._is_guess = None, False
            return f"Followed by {jump_s:+.0f} s."
        return None


def _can_be(at_s: float) -> bool:
    return PLAUSIBLE_S[0] <= at_s <= PLAUSIBLE_S[1]


def latest_s(clock: Clock) -> float:
    """UTC epoch s that it may be at most by `clock`."""
    return clock.latest_s if isinstance(clock, SteadyClock) else clock.wall()


async def keep_time(clock: SteadyClock, is_quiet: Callable[[], bool], tell: OnEvent) -> None:
    """Follow the machine for ever."""
    while True:
        await clock.sleep(LOOK_S)
        words = clock.follow(is_quiet())
        if words is not None:
            tell("clock_jumped", "site", words)
