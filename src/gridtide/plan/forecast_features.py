"""What is known at the origin of a forecast about the steps ahead: calendar profiles, last week, the drift of the last hours.

Every value carries the time at which it became known, so that training sees for each lead exactly what a forecast over that lead
would have seen, never what was learned in between.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.plan.forecast_calendar import GROUPS, HOLIDAY, KINDS, WEEK_DAYS, Floats, Ints, Moments

FEATURES = 16
"""Profile of the same kind of day, of the group of days, of the group around that time of day; last week; surprise at that time of
the last two days; surprise of the last step, hour, six hours and day; the latter two in proportion to the profile; constant;
heating, cooling, occupancy."""
EXTRAS = 3
"""Heating, cooling, occupancy: outside influences, used where they are given."""
_RING_WEEKS = 3
_SUNDAY = 6
_GROUP_DAYS = 0.5
"""Days of one kind that weigh as much as its group in the profile that surprise is measured from."""
_SHIFTS = (-2, -1, 1, 2)
"""Steps around a time of day."""
_EDGE_C = (15.0, 20.0)
"""Outdoor temperatures below which buildings heat and above which they cool."""


class Memory(Struct, eq=False):
    """Arrays of what was learned, all bounded; a copy is taken before it is changed."""

    at: Ints
    """(r,) step that each place of the rings holds, -1 if none."""
    kind: Ints
    """(r,) kind of that day."""
    load: Floats
    """(r,) load."""
    surprise: Floats
    """(r,) load less the profile known before."""
    deviation: Floats
    """(r, 4) surprise smoothed over a step, an hour, six hours and a day."""
    group_then: Floats
    """(r, groups) group profile at that step's slot once the step was learned."""
    kind_profile: Floats
    """(kinds, slots) mean of days of one kind, recent days weighing more; NaN if never seen."""
    group_profile: Floats
    """(groups, slots)"""
    extra_profile: Floats
    """(groups, slots, extras) usual outside influences; NaN if never seen."""
    kind_days: Ints
    """(kinds, slots) how many days are in the mean."""
    group_days: Ints
    scale: Floats
    """(1,) usual size of the load; everything is learned in its units."""

    def copy(self) -> "Memory":
        return Memory(*(np.copy(getattr(self, name)) for name in self.__struct_fields__))


class Known(Struct, frozen=True, eq=False):
    """What the origin knows about n targets."""

    rows: Floats
    """(n, FEATURES) in units of the scale."""
    profile: Floats
    """(n,) profile value."""
    latest: Floats
    """(n,) load at the origin."""
    same_slot: Floats
    """(n,) load at the same step of the latest day, the profile if missing."""
    last_week: Floats
    """(n,) load at the same step of the latest same weekday, the profile if missing."""
    sound: NDArray[np.bool_]
    """(n,) whether the origin itself was measured."""


def empty_memory(per_day: int) -> Memory:
    """Memory that knows nothing, for `per_day` steps a day."""
    size = _RING_WEEKS * WEEK_DAYS * per_day
    unknown = np.full(size, np.nan)
    return Memory(
        at=np.full(size, -1, dtype=np.int64),
        kind=np.zeros(size, dtype=np.int64),
        load=unknown,
        surprise=unknown.copy(),
        deviation=np.zeros((size, 4)),
        group_then=np.full((size, GROUPS), np.nan),
        kind_profile=np.full((KINDS, per_day), np.nan),
        group_profile=np.full((GROUPS, per_day), np.nan),
        extra_profile=np.full((GROUPS, per_day, EXTRAS), np.nan),
        kind_days=np.zeros((KINDS, per_day), dtype=np.int64),
        group_days=np.zeros((GROUPS, per_day), dtype=np.int64),
        scale=np.zeros(1),
    )


def known(memory: Memory, at: Moments, lead: Ints, extras: Floats) -> Known:
    """What a forecast made `lead` steps before each target knows about it.

    `extras` (n, EXTRAS) are outside influences at the targets, NaN where not given. Leads count from 1.
    """
    per_day = memory.kind_profile.shape[1]
    origin = at.index - lead
    a_day_back = at.index - per_day * -(-lead // per_day)
    a_week_back = at.index - WEEK_DAYS * per_day * -(-lead // (WEEK_DAYS * per_day))
    group = _group_value(memory, at, a_day_back)
    kind = _kind_value(memory, at, group)
    days = _days_of_kind(memory, at)
    profile = (days * kind + _GROUP_DAYS * group) / (days + _GROUP_DAYS)
    same_kind = memory.kind[a_week_back % len(memory.at)] == at.kind
    last_week = _recall(memory, memory.load, a_week_back)
    place = origin % len(memory.at)
    sound = memory.at[place] == origin
    latest = np.where(sound, memory.load[place], profile)
    deviation = np.where(sound[:, None], memory.deviation[place], 0.0)
    scale = memory.scale[0] if memory.scale[0] > 0.0 else 1.0
    same_slot_surprise = _or_zero(_recall(memory, memory.surprise, a_day_back))
    two_days_surprise = _or_zero(_recall(memory, memory.surprise, a_day_back - per_day))
    week_or_profile = np.where(same_kind & np.isfinite(last_week), last_week, kind)
    busy = _or_zero(profile) / scale
    around = _around(memory, at, lead, group)
    columns = [
        kind,
        group,
        around,
        week_or_profile,
        same_slot_surprise,
        two_days_surprise,
        *deviation.T,
        *(deviation.T[2:] * busy),
    ]
    rows = np.column_stack([*(column / scale for column in columns), np.ones(len(lead)), _unusual(memory, at, extras)])
    same_slot = _recall(memory, memory.load, a_day_back)
    return Known(
        rows=rows,
        profile=profile,
        latest=latest,
        same_slot=np.where(np.isfinite(same_slot), same_slot, latest),
        last_week=np.where(np.isfinite(last_week), last_week, np.where(np.isfinite(profile), profile, latest)),
        sound=sound,
    )


def _recall(memory: Memory, values: Floats, index: Ints) -> Floats:
    place = index % len(memory.at)
    return np.where(memory.at[place] == index, values[place], np.nan)


def _group_value(memory: Memory, at: Moments, a_day_back: Ints) -> Floats:
    """Group profile as it stood at the origin: that of the latest day whose same step was known then."""
    place = a_day_back % len(memory.at)
    then = np.where(memory.at[place] == a_day_back, memory.group_then[place, at.group], np.nan)
    now = memory.group_profile[at.group, at.slot]
    value = np.where(np.isfinite(then), then, now)
    is_known = np.isfinite(value)
    return value if is_known.all() else np.where(is_known, value, _any_day(memory)[at.slot])


def _any_day(memory: Memory) -> Floats:
    """(steps of a day,): mean of the groups' profiles, nan where none is known."""
    seen = np.isfinite(memory.group_profile)
    total, groups = np.where(seen, memory.group_profile, 0.0).sum(axis=0), seen.sum(axis=0)
    return np.where(groups > 0, total / np.maximum(groups, 1), np.nan)


def _or_zero(values: Floats) -> Floats:
    """What is not a number is 0."""
    return np.where(np.isnan(values), 0.0, values)


def _around(memory: Memory, at: Moments, lead: Ints, group: Floats) -> Floats:
    """Group profile averaged over the steps around the target's time of day."""
    per_day = memory.kind_profile.shape[1]
    total = group.copy()
    for shift in _SHIFTS:
        slot = (at.slot + shift) % per_day
        beside = Moments(at.index + shift, at.kind, at.group, slot)
        value = _group_value(memory, beside, beside.index - per_day * -(-(lead + shift) // per_day))
        total += np.where(np.isfinite(value), value, group)
    return np.asarray(total / (1 + len(_SHIFTS)))


def _kind_value(memory: Memory, at: Moments, group: Floats) -> Floats:
    """Profile of the kind of day; a holiday not seen yet is a Sunday, an unknown kind its group."""
    value = memory.kind_profile[_stand_in(memory, at), at.slot]
    return np.where(np.isfinite(value), value, group)


def _days_of_kind(memory: Memory, at: Moments) -> Ints:
    return memory.kind_days[_stand_in(memory, at), at.slot]


def _stand_in(memory: Memory, at: Moments) -> Ints:
    return np.where((at.kind == HOLIDAY) & (memory.kind_days[HOLIDAY, at.slot] == 0), _SUNDAY, at.kind)


def influences(temperature_c: Floats, occupancy: Floats) -> Floats:
    """(n, EXTRAS): degrees to heat, degrees to cool (both in 10 K), occupancy; NaN where not given."""
    heat = np.maximum(_EDGE_C[0] - temperature_c, 0.0) / 10.0
    cool = np.maximum(temperature_c - _EDGE_C[1], 0.0) / 10.0
    return np.column_stack([heat, cool, occupancy])


def _unusual(memory: Memory, at: Moments, extras: Floats) -> Floats:
    """Outside influences less what is usual at that time; 0 where either is not known."""
    return _or_zero(extras - memory.extra_profile[at.group, at.slot])


def absorb(
    memory: Memory, at: Moments, load: float, extras: Floats, usual: float, pace: tuple[float, float], spans: Floats
) -> None:
    """Learn one measured step (in place): profiles, rings, the smoothed surprise.

    `at` holds one moment, `usual` is the profile value known before, `pace` the weights of a new day in the profile of its kind and
    of its group, `spans` (4,) the steps over which surprise is smoothed.
    """
    kind, group, slot = int(at.kind[0]), int(at.group[0]), int(at.slot[0])
    place = int(at.index[0]) % len(memory.at)
    surprise = load - usual if np.isfinite(usual) else 0.0
    smoothed = _smoothed(memory, int(at.index[0]), surprise, spans)
    _blend(memory.kind_profile, memory.kind_days, kind, slot, load, pace[0])
    _blend(memory.group_profile, memory.group_days, group, slot, load, pace[1])
    before = memory.extra_profile[group, slot]
    fresh = np.where(np.isfinite(before), before + pace[1] * (extras - before), extras)
    memory.extra_profile[group, slot] = np.where(np.isfinite(extras), fresh, before)
    memory.at[place] = at.index[0]
    memory.kind[place] = kind
    memory.load[place] = load
    memory.surprise[place] = surprise
    memory.deviation[place] = smoothed
    memory.group_then[place] = memory.group_profile[:, slot]


def refresh(memory: Memory, at: Moments, load: float) -> None:
    """A step of the local clock that runs a second time (in place): only its latest value counts."""
    index, slot = int(at.index[0]), int(at.slot[0])
    place = index % len(memory.at)
    if memory.at[place] != index:  # its first run was a gap
        memory.at[place] = index
        memory.kind[place] = at.kind[0]
        memory.surprise[place] = 0.0
        memory.deviation[place] = 0.0
        memory.group_then[place] = memory.group_profile[:, slot]
    memory.load[place] = load


def _smoothed(memory: Memory, index: int, surprise: float, spans: Floats) -> Floats:
    """Exponential means; a gap forgets as the same number of steps would have, towards no surprise."""
    size = len(memory.at)
    newest = int(memory.at.max())
    before = memory.deviation[newest % size] if newest >= 0 else np.zeros(len(spans))
    keep = np.exp(-1.0 / spans)
    gap = min(max(index - newest - 1, 0), size)
    return np.asarray(before * keep ** (gap + 1) + (1.0 - keep) * surprise)


def _blend(profile: Floats, days: Ints, row: int, slot: int, load: float, pace: float) -> None:
    n = int(days[row, slot])
    before = float(profile[row, slot]) if n else load
    profile[row, slot] = before + max(pace, 1.0 / (n + 1)) * (load - before)
    days[row, slot] = n + 1
