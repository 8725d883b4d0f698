"""How fast stations are accepted after a failure of power or network, and how their heartbeats are spread."""

from hashlib import sha256
from typing import Final

HEARTBEAT_S: Final = 300.0
JITTER: Final = 0.1
"""Share by which intervals differ from station to station, so that no two moments see all of them."""
BOOTS_PER_S: Final = 2_000.0
"""Boots accepted a second, and at once; each makes us send profiles and settings."""
RETRY_FIRST_S, RETRY_LAST_S = 2.0, 60.0
"""A station that has to wait boots again within this time, earlier while few wait."""
SPREAD_S: Final = 5.0
"""Those who wait are spread over this time, and as long as accepting them takes."""


class BootPace:
    """Accepts so many boots a second; the rest is told to come again, each at its own time."""

    def __init__(self, per_s: float = BOOTS_PER_S) -> None:
        self.per_s, self._left, self._at_s = per_s, per_s, 0.0
        self._waiting = 0.0

    def admits(self, now_s: float) -> bool:
        """Whether a station that boots at monotonic `now_s` is accepted; counts it if so."""
        could = max(0.0, now_s - self._at_s) * self.per_s
        self._left, self._waiting = min(self.per_s, self._left + could), max(0.0, self._waiting - could)
        self._at_s = now_s
        if self._left < 1.0:
            self._waiting += 1.0
            return False
        self._left -= 1.0
        return True

    def retry_s(self, identity: str) -> int:
        """After how many seconds a station that was not accepted just now boots again."""
        spread_s = min(SPREAD_S + self._waiting / self.per_s, RETRY_LAST_S - RETRY_FIRST_S)
        return round(RETRY_FIRST_S + spread_s * _share("retry", identity))


def heartbeat_s(identity: str) -> int:
    """Heartbeat interval of a station, s: always the same, and another one for each."""
    return round(HEARTBEAT_S * (1.0 + JITTER * (2.0 * _share("heartbeat", identity) - 1.0)))


def _share(what: str, identity: str) -> float:
    """0 to 1, evenly over identities: chance without randomness, so that a run can be repeated."""
    return int.from_bytes(sha256(f"{what}/{identity}".encode()).digest()[:4]) / 2.0**32
