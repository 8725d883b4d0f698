"""Vehicles that are still to come: what came at these hours on like days, joined to a few stays.

Of each hour of arrival and each kind of stay (short, long) one row stands for the mean number of vehicles that came, with their
mean need, battery and length of stay. Only stays that ended by now are used.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct, structs

from gridtide.plan.forecast_calendar import DAY_S, Calendar, local_index, moments
from gridtide.plan.horizon import Bools, Floats
from gridtide.plan.stays import Stay

HOUR_S = 3600
_SPARE_DAYS = 14
"""A stay may end that long after it began and still find its place."""
LEAST_COUNT = 0.1
"""Fewer vehicles an hour than this are not planned for."""


class ExpectSettings(Struct, frozen=True):
    """Which days count."""

    calendar: Calendar = Calendar()
    days: int = 28
    """How far back."""
    long_s: float = 4.0 * 3600.0
    """A stay at least this long is a long one."""
    give_share: float = 0.5
    """Share of the vehicles' discharging power that is counted on before they are there."""


class History(Struct, frozen=True, eq=False):
    """Stays that ended, as columns (n,)."""

    arrived_s: Floats
    hour: Floats
    """Hours since 1970-01-01 00:00 local."""
    columns: Floats
    """(n, 7): stay s, charge kW, discharge kW, efficiency, capacity, energy on arrival, required."""
    least_kwh: Floats
    since_s: float
    """From when on stays were recorded, UTC epoch s."""


def history(stays: Sequence[Stay], since_s: float, settings: ExpectSettings) -> History:
    """The columns of past stays."""
    arrived = np.array([stay.arrived_s for stay in stays], dtype=np.float64)
    columns = [
        (s.departs_s - s.arrived_s, s.charge_kw, s.discharge_kw, s.efficiency, s.capacity_kwh, s.energy_kwh, s.required_kwh)
        for s in stays
    ]  # fmt: skip
    return History(
        arrived, local_index(settings.calendar, HOUR_S, arrived).astype(np.float64),
        np.array(columns, dtype=np.float64).reshape(-1, 7), np.array([s.least_kwh for s in stays], dtype=np.float64), since_s,
    )  # fmt: skip


def added(past: History, stays: Sequence[Stay], settings: ExpectSettings) -> History:
    """The history with stays that ended since; what is too old to be looked at is dropped."""
    new = history(stays, past.since_s, settings)
    newest_s = float(new.arrived_s.max(initial=-np.inf))
    kept = past.arrived_s >= newest_s - (settings.days + _SPARE_DAYS) * DAY_S
    arrived, hour, columns, least = (
        np.concatenate([getattr(past, name)[kept], getattr(new, name)])
        for name in ("arrived_s", "hour", "columns", "least_kwh")
    )
    return History(arrived, hour, columns, least, past.since_s)


def expected(past: History, now_s: float, until_s: float, settings: ExpectSettings) -> list[Stay]:
    """Stays that are likely to begin from `now_s` to `until_s` (UTC epoch s), earliest first."""
    return still_to_come(by_hour(past, now_s, until_s, settings), now_s)


def still_to_come(coming: Sequence[Stay], now_s: float) -> list[Stay]:
    """Of stays by hour those that have not begun: of the running hour the share that is left of it, and each in the middle of the
    time in which it may begin."""
    found = []
    for stay in coming:
        ends_s = stay.arrived_s + HOUR_S
        if ends_s <= now_s:
            continue
        left_s = min(ends_s - now_s, HOUR_S)
        share, later_s = left_s / HOUR_S, ends_s - 0.5 * left_s - stay.arrived_s
        found.append(
            structs.replace(
                stay, arrived_s=stay.arrived_s + later_s, departs_s=stay.departs_s + later_s,
                charge_kw=stay.charge_kw * share, discharge_kw=stay.discharge_kw * share,
                capacity_kwh=stay.capacity_kwh * share, energy_kwh=stay.energy_kwh * share,
                required_kwh=stay.required_kwh * share, least_kwh=stay.least_kwh * share,
            )
        )  # fmt: skip
    return found


def by_hour(past: History, now_s: float, until_s: float, settings: ExpectSettings) -> list[Stay]:
    """The stays that are likely to begin in each whole hour from the running one on, as if all came when it begins."""
    first_s = max(past.since_s, now_s - settings.days * DAY_S)
    if past.arrived_s.size == 0 or now_s - first_s < DAY_S:
        return []
    ended = past.arrived_s + past.columns[:, 0] <= now_s
    used = ended & (past.arrived_s >= first_s)
    hours_s = np.arange(math.floor(now_s / HOUR_S) * HOUR_S, until_s, HOUR_S)
    at = moments(settings.calendar, HOUR_S, local_index(settings.calendar, HOUR_S, hours_s))
    was = moments(settings.calendar, HOUR_S, past.hour.astype(np.int64))
    # The running hour is not over: it is no example of itself.
    over_s = np.arange(first_s, math.floor(now_s / HOUR_S) * HOUR_S, HOUR_S)
    whole = moments(settings.calendar, HOUR_S, local_index(settings.calendar, HOUR_S, over_s))
    found = []
    for hour_s, group, slot in zip(hours_s.tolist(), at.group.tolist(), at.slot.tolist(), strict=True):
        days = int(((whole.group == group) & (whole.slot == slot)).sum())
        alike = used & (was.group == group) & (was.slot == slot)
        if days and alike.any():
            found += _of_hour(past, alike, hour_s, 1.0 / days, settings)
    return found


def _of_hour(past: History, alike: Bools, begin_s: float, weight: float, settings: ExpectSettings) -> list[Stay]:
    """The rows of one hour: the mean of the short stays and of the long ones, each times their mean number."""
    long = past.columns[:, 0] >= settings.long_s
    found = []
    for name, kind in (("short", ~long), ("long", long)):
        rows = np.flatnonzero(alike & kind)
        count = rows.size * weight
        if count < LEAST_COUNT:
            continue
        stay_s, charge, discharge, efficiency, capacity, energy, required = past.columns[rows].mean(axis=0).tolist()
        least = float(past.least_kwh[rows].mean())
        found.append(
            Stay(
                key=f"expected {math.floor(begin_s / HOUR_S)} {name}", arrived_s=begin_s, departs_s=begin_s + stay_s,
                charge_kw=charge * count, discharge_kw=discharge * count * settings.give_share, efficiency=efficiency,
                capacity_kwh=capacity * count, energy_kwh=energy * count, required_kwh=required * count,
                least_kwh=least * count,
            )
        )  # fmt: skip
    return found
