"""Quantiles from the errors that the forecast made: rolling, out of sample, by lead, group of days and time of day."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.plan.forecast_calendar import GROUPS, Floats, Ints

NEIGHBOURS = 2
"""Errors of this many steps before and after the time of day count too."""
ENOUGH = 20
"""Errors from which a band is the errors' alone; below, a wide prior is mixed in."""
_PRIOR_SPREAD = 0.5
"""Spread of the prior as a share of the load's usual size, at a day's lead or more."""


class ErrorPool(Struct, eq=False):
    """The latest errors; a copy is taken before it is changed."""

    errors: NDArray[np.float32]
    """(methods, leads, groups, slots, depth), NaN where none was made."""
    seen: Ints
    """(groups, slots) how many were put in."""

    def copy(self) -> "ErrorPool":
        return ErrorPool(self.errors.copy(), self.seen.copy())


def empty_pool(methods: int, leads: int, per_day: int, depth: int) -> ErrorPool:
    """A pool without errors."""
    shape = (methods, leads, GROUPS, per_day, depth)
    return ErrorPool(np.full(shape, np.nan, dtype=np.float32), np.zeros((GROUPS, per_day), dtype=np.int64))


def put(pool: ErrorPool, group: int, slot: int, errors: Floats) -> None:
    """Add the errors (methods, leads) of one measured step, in place; the oldest gives way."""
    pool.errors[:, :, group, slot, pool.seen[group, slot] % pool.errors.shape[-1]] = errors
    pool.seen[group, slot] += 1


def quantile_errors(
    pool: ErrorPool, method: int, lead: Ints, group: Ints, slot: Ints, levels: Floats
) -> tuple[Floats, Ints]:
    """Quantiles (n, q) of the errors of a method at lead number `lead` (n,), and how many errors stand behind each row (n,).

    Levels (q,) within 0..1. Positions follow Weibull, level * (m + 1), so that m errors of a steady process hold a level on
    average. Where there are none the row is NaN.
    """
    per_day = pool.errors.shape[3]
    around = (slot[:, None] + np.arange(-NEIGHBOURS, NEIGHBOURS + 1)) % per_day
    found = pool.errors[method, lead[:, None], group[:, None], around].reshape(len(slot), -1).astype(np.float64)
    found.sort(axis=1)
    count = np.isfinite(found).sum(axis=1)
    place = np.clip(levels * (count[:, None] + 1) - 1.0, 0.0, np.maximum(count[:, None] - 1, 0))
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count[:, None] - 1, 0))
    a, b = np.take_along_axis(found, low, axis=1), np.take_along_axis(found, high, axis=1)
    return a + (place - low) * (b - a), count


def widened(quantiles: Floats, count: Ints, days_ahead: Floats, scale: float, levels: Floats) -> Floats:
    """Error quantiles (n, q) with the share of a wide prior that few errors leave.

    The prior is logistic, its spread `_PRIOR_SPREAD` of `scale` at a day ahead and less, with the root of the lead, before.
    """
    spread = _PRIOR_SPREAD * scale * np.sqrt(np.clip(days_ahead, 0.0, 1.0))
    prior = spread[:, None] * np.log(levels / (1.0 - levels)) / np.log(19.0)
    share = np.maximum(1.0 - count / ENOUGH, 0.0)[:, None]
    return np.asarray(share * prior + (1.0 - share) * np.nan_to_num(quantiles))
