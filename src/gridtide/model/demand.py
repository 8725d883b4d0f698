"""The billed demand interval: how a utility cuts time and averages import."""

import math

from msgspec import Struct


class DemandInterval(Struct, frozen=True):
    """Clock-aligned block (`sub_intervals` = 1) or rolling window that moves by one sub-interval.

    Sources: Flanders capacity tariff (fixed 15 min); CIM `DemandKind.rollingBlock` (k sub-intervals).
    """

    length_s: float = 900.0
    """Length of the billed interval, s."""
    sub_intervals: int = 1
    """Sub-intervals per interval; 1 means block, 3 means 3 x 5 min rolling."""
    anchor_s: float = 0.0
    """Offset of the borders from the UTC epoch, s (only zones with odd offsets need it)."""

    @property
    def sub_s(self) -> float:
        """Length of one sub-interval, s."""
        return self.length_s / self.sub_intervals

    @property
    def rolling(self) -> bool:
        """Whether a new demand value appears more than once per interval length."""
        return self.sub_intervals > 1

    def sub_start_s(self, at_s: float) -> float:
        """Start of the sub-interval that holds the instant `at_s` (UTC epoch s)."""
        return self.anchor_s + math.floor((at_s - self.anchor_s) / self.sub_s) * self.sub_s
