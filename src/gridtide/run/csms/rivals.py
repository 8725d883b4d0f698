"""Second connections under the name of a station that is alive: refused each time, and an alarm when they go on."""

from collections import deque
from typing import Final

WINDOW_S: Final = 3_600.0
ALARM_AT: Final = 3
"""Refusals within the window that raise the alarm."""


class RivalWatch:
    """Of one station. An alarm is told once and holds until the window has passed without a refusal."""

    def __init__(self) -> None:
        self._refused_s: deque[float] = deque(maxlen=ALARM_AT)
        self._is_told = False

    def refused(self, now_s: float) -> bool:
        """A second connection was refused at monotonic `now_s`; whether people must be alarmed now."""
        if self._refused_s and now_s - self._refused_s[-1] >= WINDOW_S:
            self._is_told = False
        self._refused_s.append(now_s)
        if self._is_told or len(self._refused_s) < ALARM_AT or now_s - self._refused_s[0] >= WINDOW_S:
            return False
        self._is_told = True
        return True
