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
Bools = NDArray[np.bool_]


class Share(Struct, frozen=True, eq=False):
    """A target shared out."""

    power_kw: Floats
    missing_kw: float
    """What the target could not place (> 0) or what the lower bounds force above it (< 0)."""
    capped: Bools
    """Rows held back by their group's cap."""


def fill(target_kw: float, weight: Floats, lo: Floats, up: Floats) -> Floats:
    """Water-filling without groups; a target outside [sum lo, sum up] gives the nearer bound."""
    if target_kw >= float(up.sum()):
        return up.copy()
    if target_kw <= float(lo.sum()):
        return lo.copy()
    return _poured(target_kw, weight, lo, up)


def _poured(target_kw: float, weight: Floats, lo: Floats, up: Floats) -> Floats:
    """Power at the water level; `target_kw` lies strictly inside the bounds."""
    low, high = 0.0, math.inf
    theta = target_kw / float(weight.sum())
    raw, power = np.empty_like(weight), np.empty_like(weight)
    for _ in range(60):
        np.multiply(weight, theta, out=raw)
        np.minimum(np.maximum(raw, lo, out=power), up, out=power)
        gap = target_kw - float(power.sum())
        if abs(gap) <= 1e-12 * max(1.0, abs(target_kw)):
            break
        if gap > 0.0:
            low = theta
        else:
            high = theta
        free = float(np.multiply(weight, power == raw, out=raw).sum())
        step = theta + gap / free if free > 0.0 else math.inf
        if not low < step < high:
            high = high if high < math.inf else float(np.max(up / weight))
            step = 0.5 * (low + high)
        theta = step
    return power


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
    if group is None or caps.size == 0:
        return Share(power, target_kw - float(power.sum()), np.zeros(weight.shape, dtype=np.bool_))
    slot = np.where(group < 0, caps.size, group)
    sums: Floats = np.bincount(slot, weights=power, minlength=caps.size + 1).astype(np.float64)
    if not _over(sums[:-1], caps).any():
        return Share(power, target_kw - float(power.sum()), np.zeros(weight.shape, dtype=np.bool_))
    order, starts = _by_group(slot, caps.size)
    sorted_kw, closed = _share_sorted(target_kw, weight[order], lo[order], up[order], starts, caps, sums)
    power[order] = sorted_kw
    held = closed[slot] & (power < up)
    return Share(power, target_kw - float(power.sum()), held)


def _over(sums: Floats, caps: Floats) -> Bools:
    """Groups above their cap."""
    return sums > caps + 1e-12 * np.maximum(1.0, caps)


def _share_sorted(
    target_kw: float, weight: Floats, lo: Floats, up: Floats, starts: Ints, caps: Floats, sums: Floats
) -> tuple[Floats, Bools]:
    """Power of rows sorted by group (the last group has no cap), and which groups ended at their cap; `sums` is the first fill's.

    Groups are slices of the sorted columns, so that neither solving one nor gathering the open ones needs an index per row.
    """
    power = np.empty_like(weight)
    spans = [slice(a, b) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]
    closed = np.zeros(caps.size + 1, dtype=np.bool_)
    sizes, placed_kw = np.diff(starts), 0.0
    for _ in range(caps.size + 1):
        over = np.flatnonzero(_over(sums[:-1], caps) & ~closed[:-1])
        if over.size == 0:
            break
        for g in over.tolist():
            rows = spans[g]
            power[rows] = fill(float(caps[g]), weight[rows], lo[rows], up[rows])
            placed_kw += float(power[rows].sum())
        closed[over] = True
        still = np.flatnonzero(~closed & (sizes > 0))
        if still.size == 0:
            break
        columns = [np.concatenate([column[spans[g]] for g in still.tolist()]) for column in (weight, lo, up)]
        rest_kw = fill(target_kw - placed_kw, *columns)
        ends = np.cumsum(sizes[still])
        sums = np.zeros(closed.size)
        sums[still] = np.add.reduceat(rest_kw, ends - sizes[still])
    open_rows = np.repeat(~closed, sizes)
    if open_rows.any():
        power[open_rows] = rest_kw
    return power, closed


def _by_group(slot: Ints, groups: int) -> tuple[Ints, Ints]:
    """Row indices sorted by group, and where each group starts."""
    small = slot.astype(np.uint16) if groups < 65_535 else slot
    order = np.argsort(small, kind="stable")
    counts = np.bincount(slot, minlength=groups + 1)
    return order, np.concatenate([[0], np.cumsum(counts)])
