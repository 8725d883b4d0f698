"""A site whose clock runs faster than real time slows down rather than overrun a cycle, and recovers slowly."""

from collections import deque

from gridtide.run.clock import Clock, ScaledClock
from gridtide.run.csms.station import OnEvent

OVERRUN_SHARE = 0.8
"""A cycle is tight when it uses more of its period than this."""
EASY_SHARE, EASY_CYCLES = 0.3, 60
"""After so many easy cycles the clock goes a tenth faster again."""
TIGHT_CYCLES = 3
"""So many tight cycles of the last twenty are too many; one that takes twice its period is one too many."""


class SpeedKeeper:
    """Watches how much of its period each cycle takes."""

    def __init__(self, clock: Clock, note: OnEvent) -> None:
        self._clock, self._note = clock, note
        self.wanted = clock.speed if isinstance(clock, ScaledClock) else 1.0
        """Site seconds per real second, as asked for."""
        self._easy = 0
        self._tight: deque[bool] = deque(maxlen=20)

    def used(self, share: float) -> None:
        """A cycle took this share of its period."""
        clock = self._clock
        if not isinstance(clock, ScaledClock):
            return
        self._tight.append(share > OVERRUN_SHARE)
        if share > OVERRUN_SHARE:
            self._easy = 0
            if clock.speed > 1.0 and (share > 2.0 or sum(self._tight) >= TIGHT_CYCLES):
                self._tight.clear()
                clock.set_speed(max(1.0, clock.speed * 0.8))
                self._note("speed_reduced", "site", f"Now {clock.speed:.1f} times real time.")
        elif share < EASY_SHARE and clock.speed < self.wanted:
            self._easy += 1
            if self._easy >= EASY_CYCLES:
                self._easy = 0
                clock.set_speed(min(self.wanted, clock.speed * 1.1))
