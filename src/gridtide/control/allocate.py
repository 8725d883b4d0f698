"""Exact weighted water-filling: share a power target over rows within their bounds and their groups' caps.

    p_i = clip(theta_i w_i, lo_i, up_i),  sum p_i = S,  theta_i = min(theta, level of the groups that hold i)

f(theta) = sum clip(theta w, lo, up) is non-decreasing and piecewise linear, so theta is found by Newton steps inside a bracket.
Groups over their cap are solved inside at the cap and the rest is refilled; groups of one layer are disjoint. All arrays are
magnitudes of one direction, (n,).
"""

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Share(Struct, frozen=True, eq=False):
    """A target shared out."""

    power_kw: Floats
    missing_kw: float
    """What the target could not place (> 0) or what the lower bounds force above it (< 0)."""
    capped: NDArray[np.bool_]
    """Rows held back by their group's cap."""


def fill(target_kw: float, weight: Floats, lo: Floats, up: Floats) -> Floats:
    """Water-filling without groups; a target outside [sum lo, sum up] gives the nearer bound."""
    if target_kw >= float(up.sum()):
        return up.copy()
    if target_kw <= float(lo.sum()):
        return lo.copy()
    theta = _level(target_kw, weight, lo, up)
    return np.minimum(np.maximum(theta * weight, lo), up)


def _level(target_kw: float, weight: Floats, lo: Floats, up: Floats) -> float:
    """The water level; `target_kw` lies strictly inside the bounds."""
    low, high = 0.0, float(np.max(up / weight))
    theta = target_kw / float(weight.sum())
    for _ in range(60):
        raw = theta * weight
        over, under = raw > up, raw < lo
        held = np.where(over, up, np.where(under, lo, 0.0))
        free = float(weight.sum(where=~(over | under)))
        gap = target_kw - float(held.sum()) - theta * free
        if abs(gap) <= 1e-12 * max(1.0, abs(target_kw)):
            break
        if gap > 0.0:
            low = theta
        else:
            high = theta
        step = theta + gap / free if free > 0.0 else math.inf
        theta = step if low < step < high else 0.5 * (low + high)
    return theta


def share(
    target_kw: float,
    weight: Floats,
    lo: Floats,
    up: Floats,
    group: Ints | None = None,
    group_kw: tuple[float, ...] | Floats = (),
) -> Share:
    """Share `target_kw` by `weight` > 0 within [lo, up]; `group` (n,) indexes `group_kw`, -1 is no group.

    A group's cap yields to the sum of its lower bounds. At most one round per group.
    """
    caps = np.asarray(group_kw, dtype=np.float64)
    power = fill(target_kw, weight, lo, up)
    capped = np.zeros(weight.shape, dtype=np.bool_)
    if group is None or caps.size == 0:
        return Share(power, target_kw - float(power.sum()), capped)
    slot = np.where(group < 0, caps.size, group)
    order, starts = _by_group(slot, caps.size)
    for _ in range(caps.size):
        sums = np.bincount(slot, weights=power, minlength=caps.size + 1)[: caps.size]
        over = np.flatnonzero(sums > caps + 1e-12 * np.maximum(1.0, caps))
        if over.size == 0:
            break
        for g in over:
            rows = order[starts[g] : starts[g + 1]]
            power[rows] = fill(float(caps[g]), weight[rows], lo[rows], up[rows])
            capped[rows] = True
        rest = ~capped
        power[rest] = fill(target_kw - float(power[capped].sum()), weight[rest], lo[rest], up[rest])
    held = capped & (power < up)
    return Share(power, target_kw - float(power.sum()), held)


def _by_group(slot: Ints, groups: int) -> tuple[Ints, Ints]:
    """Row indices sorted by group, and where each group starts."""
    small = slot.astype(np.uint16) if groups < 65_535 else slot
    order = np.argsort(small, kind="stable")
    counts = np.bincount(slot, minlength=groups + 1)
    return order, np.concatenate([[0], np.cumsum(counts)])
