"""What a study's batteries went through: equivalent full cycles by the depth of the cycles that they are made of."""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from gridtide.market.rainflow import rainflow
from gridtide.model.study import CycleBin
from gridtide.run.fast import Run
from gridtide.twin.plant import World

DEPTHS = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Borders of the bins."""


def cycle_bins(here: World, without: Run, with_: Run) -> list[CycleBin]:
    """Cycles of all stays by rainflow counting (ASTM E1049-85), each stay for itself: a bay's next vehicle is another battery."""
    before, after = (_full_cycles(here, run) for run in (without, with_))
    return [CycleBin(low, high, before[low], after[low]) for low, high in pairwise(DEPTHS)]


def _full_cycles(here: World, run: Run) -> dict[float, float]:
    """Equivalent full cycles (a discharge and a charge of the whole battery is one) by the lower border of their bin."""
    found = dict.fromkeys(DEPTHS[:-1], 0.0)
    for history in _stays(here, run):
        for cycle in rainflow(history):
            low = max(border for border in DEPTHS[:-1] if border <= cycle.depth)
            found[low] += cycle.depth * cycle.count
    return found


def _stays(here: World, run: Run) -> Iterator[list[float]]:
    """Charge (0..1) of each stay: at arrival, at the samples of the fan, and at departure if it was seen."""
    ends = {item.arrival: item.soc for item in run.left}
    every_s = run.fan_every * run.step_s
    for number, came in enumerate(here.arrivals):
        first = max(math.ceil((came.arrived_s - run.start_s - run.step_s) / every_s), 0)
        last = max(math.ceil((came.departs_s - run.start_s - run.step_s) / every_s), 0)
        seen = run.soc[first:last, came.row].astype(np.float64)
        end = [ends[number]] if number in ends else []
        yield [came.soc, *seen[np.isfinite(seen)].tolist(), *end]
