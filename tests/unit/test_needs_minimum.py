"""A driver's minimum charge is reached first and never used."""

import numpy as np

from gridtide.control.needs import NeedSettings, assess, lowest_soc
from tests.unit.builders import evse_table, fleet_sample


def test_below_the_minimum_charging_does_not_wait() -> None:
    table = evse_table(4)
    fleet = fleet_sample(4, soc=[0.3, 0.5, 0.3, np.nan], minimum_soc=[0.4, 0.4, np.nan, 0.4], need_soc=np.nan)
    need = assess(table, fleet, NeedSettings(), 0.5)
    assert need.must.tolist() == [True, False, False, False]
    assert need.missing_kwh[0] > 0.0
    assert need.missing_kwh[1:].tolist() == [0.0, 0.0, 0.0]


def test_the_minimum_lifts_floor_and_window() -> None:
    fleet = fleet_sample(3, minimum_soc=[np.nan, 0.3, 0.6])
    floor, window = lowest_soc(evse_table(3), fleet, NeedSettings())
    assert floor.tolist() == [0.2, 0.3, 0.6]
    assert window.tolist() == [0.4, 0.4, 0.6]
