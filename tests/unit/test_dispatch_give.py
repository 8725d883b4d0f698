"""Who gives, and who goes on giving when what is wanted trembles."""

import numpy as np
import pytest

from gridtide.control import dispatch, needs
from gridtide.control.dispatch import TurnState
from gridtide.control.needs import NeedSettings
from gridtide.control.peak import PeakPlan
from gridtide.model.fleet import SiteLimits
from tests.unit.builders import evse_table, fleet_sample

TABLE = evse_table(4, discharge_kw=10.0, least_kw=0.5)


def given(turns: TurnState, wanted_kw: float) -> tuple[TurnState, list[float]]:
    """One cycle in which so much is wanted of four vehicles that could give 10 kW each."""
    fleet = fleet_sample(4)
    need = needs.assess(TABLE, fleet, NeedSettings(), 0.5)
    first = dispatch.fixed(need, fleet, (), 0.0)
    plan = PeakPlan(wanted_kw, 0.0, 300.0, 0.0)
    turns, wish = dispatch.wishes(
        turns, plan, first, need, TABLE, SiteLimits(transformer_kw=500.0), np.full(4, 10.0), 0.0
    )
    return turns, wish.power_kw.tolist()


def test_as_few_as_can_carry_it_begin() -> None:
    _, power = given(dispatch.fresh(4), 29.5)
    assert sum(kw < 0.0 for kw in power) == 3
    assert sum(power) == pytest.approx(-29.5)


def test_nobody_is_switched_when_what_is_wanted_trembles() -> None:
    turns, _ = given(dispatch.fresh(4), 31.0)
    for wanted_kw in (29.5, 31.0, 29.0, 30.5, 28.0):
        turns, power = given(turns, wanted_kw)
        assert sum(kw < 0.0 for kw in power) == 4
        assert sum(power) == pytest.approx(-wanted_kw)


def test_who_is_not_needed_any_more_ends() -> None:
    turns, _ = given(dispatch.fresh(4), 31.0)
    turns, power = given(turns, 20.0)
    assert sum(kw < 0.0 for kw in power) == 3, "the third stays until the others could carry a tenth more"
    _, power = given(turns, 5.0)
    assert sum(kw < 0.0 for kw in power) == 1
    assert sum(power) == pytest.approx(-5.0)
