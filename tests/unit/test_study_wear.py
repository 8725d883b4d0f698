"""Cycles of a study: each stay for itself, from arrival to departure, by how deep they are."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.model.study import CycleBin
from gridtide.run.fast import Run
from gridtide.run.study_wear import DEPTHS, cycle_bins
from gridtide.twin.plant import Left, World

NAN = float("nan")


def came(row: int, arrived_s: float, departs_s: float, soc: float) -> Any:
    return SimpleNamespace(row=row, arrived_s=arrived_s, departs_s=departs_s, soc=soc)


def played(soc: list[list[float]], left: tuple[Left, ...] = ()) -> Run:
    """A run in steps of 60 s whose fan was taken every second step: sample k is of the end of step 2 k."""
    fan = np.array(soc, dtype=np.float32)
    return cast(Run, SimpleNamespace(soc=fan, fan_every=2, step_s=60.0, start_s=0.0, left=left))


def here(*arrivals: Any) -> World:
    return cast(World, SimpleNamespace(arrivals=arrivals))


def shown(bins: list[CycleBin]) -> list[tuple[float, float]]:
    return [(round(b.without, 6), round(b.with_, 6)) for b in bins]


def test_a_stay_is_counted_from_arrival_to_departure() -> None:
    site = here(came(0, 30.0, 500.0, 0.25))
    left = (Left(0, 0.75, 10.0),)
    flat = played([[0.5], [0.5], [0.5], [0.5], [NAN]], left)
    dips = played([[0.5], [0.375], [0.5], [0.5], [NAN]], left)
    bins = cycle_bins(site, flat, dips)
    assert [(b.low, b.high) for b in bins] == list(pairwise(DEPTHS))
    # 0.25 to 0.75 is half a cycle of 0.5; the dip of 0.125 within it closes as a whole one.
    assert shown(bins) == [(0.0, 0.0), (0.0, 0.0), (0.0, 0.125), (0.0, 0.0), (0.25, 0.25)]


def test_the_next_vehicle_of_a_bay_is_another_battery() -> None:
    site = here(came(0, 0.0, 170.0, 0.5), came(0, 180.0, 420.0, 0.25))
    run = played([[0.75], [0.25], [0.25], [NAN]], (Left(0, 0.75, 1.0), Left(1, 0.25, 0.0)))
    assert shown(cycle_bins(site, run, run))[3] == (0.125, 0.125)
    assert sum(b.without for b in cycle_bins(site, run, run)) == pytest.approx(0.125)


def test_who_is_still_there_at_the_end_counts_so_far() -> None:
    site = here(came(1, 0.0, 9_999.0, 0.25))
    run = played([[NAN, 0.25], [NAN, 0.5], [NAN, 0.5]])
    assert sum(b.with_ for b in cycle_bins(site, run, run)) == pytest.approx(0.125)


def test_nobody_came() -> None:
    assert shown(cycle_bins(here(), played([[NAN]]), played([[NAN]]))) == [(0.0, 0.0)] * 5


@given(st.lists(st.integers(0, 64), min_size=1, max_size=30))
def test_full_cycles_are_half_of_all_that_was_moved(levels: list[int]) -> None:
    soc = [level / 64.0 for level in levels]
    run = played([[value] for value in soc])
    moved = float(np.abs(np.diff([0.5, *soc])).sum())
    bins = cycle_bins(here(came(0, 0.0, 1e9, 0.5)), run, run)
    assert sum(b.without for b in bins) == pytest.approx(moved / 2.0)
