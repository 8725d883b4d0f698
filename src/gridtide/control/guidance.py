"""What a plan asks of the fast controller: a peak to hold and each vehicle's power, until it is replaced or its time is over.

A plan is a wish like any other: drivers who must leave, wishes by hand and the peak target go before it, the guard has the last
word, and without one the controller goes on by itself.
"""

import math

import numpy as np
from msgspec import Struct

from gridtide.model.fleet import Floats


class Guidance(Struct, frozen=True, eq=False, kw_only=True):
    """One step of a plan."""

    limit_kw: float
    """Peak target of the running interval; nan or 0: the settings' own."""
    needed_kw: float = 0.0
    """By how much it may lie above the limit that people set: without it drivers would leave short, or a higher peak come later."""
    power_kw: Floats
    """(n,): planned power of each row, + charging; nan where nothing is planned."""
    until_s: float
    """Monotonic instant at which it ends."""


def planned_kw(guidance: Guidance | None, now_s: float, size: int) -> Floats:
    """(n,): what is planned of each row now, kW; nan where nothing is."""
    if not _holds(guidance, now_s) or guidance is None or guidance.power_kw.shape != (size,):
        return np.full(size, np.nan)
    return np.where(np.isfinite(guidance.power_kw), guidance.power_kw, np.nan)


def limit_kw(guidance: Guidance | None, now_s: float, own_kw: float) -> float:
    """The peak target: the plan's while it holds, else `own_kw`."""
    if guidance is None or not _holds(guidance, now_s) or not 0.0 < guidance.limit_kw < math.inf:
        return own_kw
    return guidance.limit_kw


def _holds(guidance: Guidance | None, now_s: float) -> bool:
    return guidance is not None and now_s < guidance.until_s
