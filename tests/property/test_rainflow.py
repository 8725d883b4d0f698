"""Invariants of counted cycles and of wear."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.market.rainflow import rainflow, reversals
from gridtide.market.wear import CELL_MODELS, Pack, calendar_cost_per_h, cycle_damage, wear_report

histories = st.lists(st.integers(0, 100).map(lambda x: x / 100.0), max_size=80)


@given(soc=histories)
def test_every_movement_is_counted_once(soc: list[float]) -> None:
    """A full cycle goes there and back; so counted depths add up to half of the way that the charge went."""
    moved = math.fsum(abs(b - a) for a, b in itertools.pairwise(soc))
    assert math.fsum(2.0 * c.depth * c.count for c in rainflow(soc)) == pytest.approx(moved, abs=1e-9)


@given(soc=histories)
def test_no_cycle_is_deeper_than_the_history_and_the_deepest_is_it(soc: list[float]) -> None:
    depths = [c.depth for c in rainflow(soc)]
    reach = max(soc, default=0.0) - min(soc, default=0.0)
    assert max(depths, default=0.0) == pytest.approx(reach, abs=1e-9)


@given(soc=histories)
def test_only_turning_points_count(soc: list[float]) -> None:
    doubled = [value for value in soc for _ in range(2)]
    assert rainflow(doubled) == rainflow(soc)
    assert rainflow(reversals(soc)) == rainflow(soc)


@given(soc=histories, more=histories)
def test_damage_never_falls_as_a_history_goes_on(soc: list[float], more: list[float]) -> None:
    assert cycle_damage(rainflow(soc + more)) >= cycle_damage(rainflow(soc)) - 1e-12


@given(soc=histories.filter(bool), step_h=st.floats(0.1, 24.0))
def test_the_range_holds_every_model(soc: list[float], step_h: float) -> None:
    report = wear_report(Pack(40.0, "NMC"), soc, step_h)
    assert all(report.low.total <= item.total <= report.high.total for item in report.models)
    assert report.low.total >= 0.0


@given(low=st.floats(0.0, 1.0), high=st.floats(0.0, 1.0))
def test_a_higher_charge_costs_more_where_the_table_says_so(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    for model in CELL_MODELS:
        costs = [calendar_cost_per_h(Pack(1.0), model, soc) for soc in (low, high)]
        assert (costs[1] >= costs[0] - 1e-15) if model.fade_80 > model.fade_50 else (costs[1] <= costs[0] + 1e-15)
