"""A plan steers charging, giving and the peak target; drivers, hands, the target and the guard go before it."""

import math
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control import guidance
from gridtide.control.dispatch import Override
from gridtide.control.guidance import Guidance
from gridtide.control.peak import PeakSettings
from gridtide.model.decision import Decision, Reason
from tests.unit.builders import LeapingSite, evse_table, fleet_sample, site_settings

NAN = math.nan
WANTING = {"soc": 0.5, "need_soc": 0.6}


def plan(*power_kw: float, limit_kw: float = 400.0, until_s: float = math.inf) -> Guidance:
    return Guidance(limit_kw=limit_kw, power_kw=np.array(power_kw), until_s=until_s)


def decided(
    asked: Guidance | None, meter_kw: float = 300.0, fleet: dict[str, Any] | None = None, **more: Any
) -> Decision:
    """A believed site of three bays, six minutes later; its own limit is 500 kW."""
    peak = PeakSettings(mode="threshold", limit_kw=500.0, buffer_kw=0.0)
    settings = site_settings(evse_table(3), peak=peak, guidance=asked, **more)
    here = LeapingSite(settings, fleet_sample(3, **(WANTING | (fleet or {})))).believed(meter_kw)
    return here.after(minutes=6).decide(meter_kw)


def reasons(decision: Decision) -> list[Reason]:
    return [Reason(code) for code in decision.reason]


def test_without_a_plan_everybody_charges_where_there_is_room() -> None:
    assert decided(None).setpoint_kw.tolist() == [22.0, 22.0, 22.0]


def test_each_charges_what_is_planned_of_it_and_who_has_no_plan_goes_by_itself() -> None:
    told = decided(plan(7.0, 0.0, NAN))
    assert told.setpoint_kw.tolist() == [7.0, 0.0, 22.0]
    assert reasons(told) == [Reason.PLANNED, Reason.WAITS_FOR_HOUR, Reason.CHARGING]


def test_a_plan_may_charge_beyond_the_need() -> None:
    told = decided(plan(7.0, NAN, NAN), fleet={"soc": 0.7})
    assert told.setpoint_kw.tolist() == [7.0, 0.0, 0.0]
    assert reasons(told) == [Reason.PLANNED, Reason.REACHED, Reason.REACHED]


def test_a_vehicle_gives_as_planned_and_makes_room_for_others() -> None:
    told = decided(plan(-10.0, 22.0, 22.0, limit_kw=330.0), fleet={"soc": [0.8, 0.5, 0.5]})
    assert told.setpoint_kw[0] == -10.0
    assert reasons(told)[0] is Reason.PLANNED
    assert told.setpoint_kw[1:].sum() == pytest.approx(40.0, abs=0.01)


def test_the_plans_peak_target_is_held_while_it_holds() -> None:
    assert decided(plan(NAN, NAN, NAN, limit_kw=320.0)).setpoint_kw.sum() == pytest.approx(20.0, abs=0.01)
    assert decided(plan(NAN, NAN, NAN, limit_kw=320.0, until_s=60.0)).setpoint_kw.sum() == 66.0
    for useless in (NAN, 0.0, -1.0, math.inf):
        assert decided(plan(NAN, NAN, NAN, limit_kw=useless)).setpoint_kw.sum() == 66.0


def test_above_the_target_vehicles_give_whatever_was_planned() -> None:
    told = decided(plan(22.0, 22.0, 22.0, limit_kw=290.0), fleet={"soc": 0.9})
    assert told.setpoint_kw.sum() == pytest.approx(-10.0, abs=0.01)
    assert Reason.SHAVING in reasons(told)


def test_drivers_and_hands_go_before_the_plan_and_the_guard_after_it() -> None:
    told = decided(plan(0.0, 0.0, -22.0), fleet={"left_s": [1_500.0, 3e4, 3e4], "soc": [0.5, 0.5, 0.3]},
                   overrides=(Override(1, "power", 5.0, math.inf),))  # fmt: skip
    assert told.setpoint_kw.tolist() == [22.0, 5.0, 0.0]
    assert reasons(told)[:2] == [Reason.DRIVER_FIRST, Reason.MANUAL]


@pytest.mark.parametrize("wrong", [NAN, math.inf, -math.inf])
def test_a_plan_that_is_no_number_is_no_plan(wrong: float) -> None:
    assert decided(plan(wrong, wrong, wrong)).setpoint_kw.tolist() == [22.0, 22.0, 22.0]


def test_a_plan_for_another_fleet_is_no_plan() -> None:
    assert decided(plan(1.0, 1.0)).setpoint_kw.tolist() == [22.0, 22.0, 22.0]
    assert np.isnan(guidance.planned_kw(plan(1.0, until_s=5.0), 5.0, 1)).all()
    assert guidance.planned_kw(plan(1.0, until_s=5.0), 4.0, 1).tolist() == [1.0]
    assert structs.replace(plan(1.0), limit_kw=7.0).limit_kw == guidance.limit_kw(plan(1.0, limit_kw=7.0), 0.0, 9.0)
