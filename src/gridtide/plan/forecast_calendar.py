"""Where an instant stands in the week: steps of the local clock, the kind of day, the slot of the day.

Times are cut on the local clock, so that a profile keeps its shape through daylight saving: the hour that is left out in spring is
a gap, the hour that runs twice in autumn falls on the same steps again.
"""

from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_S = 86_400
WEEK_DAYS = 7
HOLIDAY = 7
"""Kind of day after the seven weekdays (Monday is 0)."""
KINDS = 8
GROUPS = 3
"""Working day 0, Saturday 1, Sunday or holiday 2."""
_GROUP_OF_KIND = np.array([0, 0, 0, 0, 0, 1, 2, 2])
_OFFSET_HOLDS_S = 900
"""Zones change their offset on a quarter of an hour of UTC."""


class Calendar(Struct, frozen=True):
    """The local clock and its holidays."""

    timezone: str = "UTC"
    """IANA name."""
    holidays: frozenset[date] = frozenset()
    """Local dates on which work rests: public holidays, works holidays."""


class Moments(Struct, frozen=True, eq=False):
    """Calendar facts of n instants; each field has shape (n,)."""

    index: Ints
    """Steps of the local clock since 1970-01-01 00:00 local."""
    kind: Ints
    group: Ints
    slot: Ints
    """Step of the day, 0 at midnight."""


def moments(calendar: Calendar, step_s: int, index: Ints) -> Moments:
    """Facts of steps of the local clock."""
    per_day = DAY_S // step_s
    day, slot = np.divmod(index, per_day)
    kind = (day + 3) % WEEK_DAYS  # 1970-01-01 was a Thursday
    if calendar.holidays:
        kind = np.where(np.isin(day, _holiday_days(calendar.holidays)), HOLIDAY, kind)
    return Moments(index, kind, _GROUP_OF_KIND[kind], slot)


@lru_cache(maxsize=64)
def _holiday_days(holidays: frozenset[date]) -> Ints:
    return np.array(sorted(day.toordinal() for day in holidays), dtype=np.int64) - date(1970, 1, 1).toordinal()


def local_index(calendar: Calendar, step_s: int, at_s: Floats) -> Ints:
    """Step of the local clock that holds each instant (UTC epoch s)."""
    if calendar.timezone == "UTC":
        return np.floor(at_s / step_s).astype(np.int64)
    cells, where = np.unique(np.floor(at_s / _OFFSET_HOLDS_S).astype(np.int64), return_inverse=True)
    zone = ZoneInfo(calendar.timezone)
    offsets = np.array([_offset_s(zone, int(cell) * _OFFSET_HOLDS_S) for cell in cells], dtype=np.float64)
    return np.floor((at_s + offsets[where]) / step_s).astype(np.int64)


@lru_cache(maxsize=1 << 16)
def _offset_s(zone: ZoneInfo, at_s: int) -> float:
    offset = datetime.fromtimestamp(at_s, UTC).astimezone(zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0
