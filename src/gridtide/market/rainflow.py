"""Cycles in a charge history by the rainflow method of ASTM E1049-85, section 5.4.4."""

import itertools
from collections.abc import Sequence

from msgspec import Struct


class Cycle(Struct, frozen=True):
    """A cycle: how deep (difference of charge), around which mean, and 1 for a full or 0.5 for a half one."""

    depth: float
    mean: float
    count: float


def reversals(values: Sequence[float]) -> list[float]:
    """First value, turning points, last value; runs of equal values count once."""
    found: list[float] = []
    for value in values:
        if found and value == found[-1]:
            continue
        if len(found) >= 2 and (found[-1] - found[-2]) * (value - found[-1]) > 0.0:
            found[-1] = value
        else:
            found.append(value)
    return found


def rainflow(values: Sequence[float]) -> tuple[Cycle, ...]:
    """The cycles of a history (n,), in the order in which they close; what never closes counts as halves at the end."""
    open_points: list[float] = []
    found: list[Cycle] = []
    for point in reversals(values):
        open_points.append(point)
        while len(open_points) >= 3:
            older, newer = abs(open_points[-2] - open_points[-3]), abs(open_points[-1] - open_points[-2])
            if newer < older:
                break
            first = len(open_points) == 3
            found.append(_cycle(open_points[-3], open_points[-2], 0.5 if first else 1.0))
            if first:
                del open_points[0]
            else:
                del open_points[-3:-1]
    found += [_cycle(a, b, 0.5) for a, b in itertools.pairwise(open_points)]
    return tuple(found)


def _cycle(a: float, b: float, count: float) -> Cycle:
    return Cycle(abs(b - a), (a + b) / 2.0, count)
