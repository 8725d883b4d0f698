"""From what a site knows to a plan's problem, and from the plan to what the fast controller is told."""

from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control import peak, site
from gridtide.control.demand_clock import DemandState
from gridtide.control.guidance import Guidance
from gridtide.control.needs import NeedSettings
from gridtide.control.peak import PeakSettings
from gridtide.model.demand import DemandInterval
from gridtide.model.fleet import SiteLimits
from gridtide.plan import foresight
from gridtide.plan.forecast import Forecast, Method
from gridtide.plan.foresight import ForesightSettings, Here, Known, Problem
from gridtide.plan.optimise import Plan, optimise
from gridtide.plan.registers import Peaks, rates
from tests.unit.builders import HOUR_S, evse_table, fleet_sample, site_settings
from tests.unit.test_plan_registers import MONDAY_S, tariff

NOW_S = MONDAY_S + 8 * HOUR_S


def forecast(load_kw: Any = 100.0, spread_kw: float = 20.0) -> Forecast:
    """Quarter hours from now: the middle and a band of +- `spread_kw` at 5 and 95 %."""
    middle = np.broadcast_to(np.asarray(load_kw, dtype=float), (120,)).copy()
    levels = np.array([0.05, 0.5, 0.95])
    bands = middle[:, None] + spread_kw * np.array([-1.0, 0.0, 1.0])
    return Forecast(
        NOW_S + 900.0 * np.arange(120, dtype=np.float64), 900.0, levels, middle, bands, Method.FULL, NOW_S, NOW_S
    )


def known(fleet: dict[str, Any] | None = None, table: dict[str, Any] | None = None, **more: Any) -> Known:
    """Three bays at 08:00 of a Monday."""
    here = Here(
        table=evse_table(3, **(table or {})), limits=SiteLimits(transformer_kw=500.0, import_margin_kw=10.0),
        need=NeedSettings(), interval=DemandInterval(), tariff=tariff(),
    )  # fmt: skip
    values: dict[str, Any] = {
        "here": here, "now_s": NOW_S, "fleet": fleet_sample(3, **(fleet or {})),
        "rates": rates(here.tariff, MONDAY_S, 900.0, 4 * 50), "begun_kwh": 0.0, "peaks": Peaks(), "later_kw": {},
        "load": forecast(), "expected": (),
    }  # fmt: skip
    return Known(**(values | more))


def planned(facts: Known, look: ForesightSettings | None = None) -> tuple[Problem, Plan]:
    asked = foresight.problem(facts, look or ForesightSettings())
    return asked, optimise(asked.horizon, asked.vehicles)[0]


def told(facts: Known, at_s: float = NOW_S) -> Guidance:
    found = foresight.guidance(foresight.aims(*planned(facts), facts, at_s, 500.0), at_s, 0.0)
    assert found is not None
    return found


def test_a_vehicle_is_planned_to_leave_before_the_fast_controller_would_take_over() -> None:
    stay = foresight.stays_of(known().here, fleet_sample(3, left_s=2 * HOUR_S), [1], NOW_S)[0]
    assert stay.departs_s == NOW_S + 2 * HOUR_S - NeedSettings().reserve_s
    assert (stay.energy_kwh, stay.required_kwh, stay.least_kwh) == pytest.approx((42.0, 36.0, 24.0))


def test_of_a_vehicle_that_tells_no_charge_the_energy_to_be_delivered_counts_and_nothing_is_taken() -> None:
    stay = foresight.stays_of(known().here, fleet_sample(3, soc=np.nan, need_kwh=10.0), [0], NOW_S)[0]
    assert (stay.energy_kwh, stay.required_kwh, stay.discharge_kw) == pytest.approx((0.0, 9.5, 0.0))
    unknown = foresight.stays_of(known().here, fleet_sample(3, soc=np.nan, need_kwh=np.nan), [0], NOW_S)[0]
    assert unknown.required_kwh == 0.0


def test_a_need_above_the_knee_is_planned_with_the_taper() -> None:
    """95 % of 60 kWh from 70 % at 22 kW: 6 kWh straight, then slower; two hours are enough, one is not."""
    enough, short = (
        planned(known(fleet={"need_soc": 0.95, "left_s": hours * HOUR_S + 900.0}))[1].shortfalls for hours in (2.0, 0.9)
    )
    assert enough == ()
    assert {item.reason for item in short} == {"stay_too_short"}
    full_kw = 22.0 * 0.95
    straight_h, taper_h = 6.0 / full_kw, 12.0 / full_kw * np.log(0.2 / 0.05)
    assert (0.95 - 0.7) * 60.0 / full_kw < 0.9 < straight_h + taper_h < 2.0


@pytest.mark.parametrize("column", [{"may_discharge": False}, {"discharge_limit_kw": 0.0}])
def test_who_may_not_give_is_not_planned_to(column: dict[str, Any]) -> None:
    assert foresight.stays_of(known().here, fleet_sample(3, **column), [0], NOW_S)[0].discharge_kw == 0.0


def test_silent_and_faulty_rows_are_not_planned() -> None:
    facts = known(fleet={"age_s": [0.0, 100.0, 0.0], "fault": [False, False, True]})
    asked, _ = planned(facts)
    assert asked.rows == (0,)
    assert np.isnan(told(facts).power_kw).tolist() == [False, True, True]


def test_a_drivers_own_minimum_is_kept() -> None:
    stay = foresight.stays_of(known().here, fleet_sample(3, minimum_soc=0.55), [0], NOW_S)[0]
    assert stay.least_kwh == pytest.approx(33.0)


def test_charging_waits_for_the_cheap_hours_of_the_stay() -> None:
    """Plugged in at noon until midnight: 0.30 until six, 0.10 afterwards."""
    noon_s = MONDAY_S + 12 * HOUR_S
    facts = known(
        peaks=Peaks(dict.fromkeys(foresight.problem(known(), ForesightSettings()).registers, 400.0)),
        fleet={"soc": 0.5, "need_soc": 0.7, "left_s": 12 * HOUR_S}, now_s=noon_s, load=structs.replace(
            forecast(), starts_s=noon_s + 900.0 * np.arange(120, dtype=np.float64))
    )  # fmt: skip
    asked, plan = planned(facts)
    dear = asked.horizon.import_price > 0.2
    assert float(np.maximum(plan.power_kw[:, dear], 0.0).sum()) == 0.0
    assert plan.energy_kwh[:, -1] == pytest.approx(42.0, abs=0.01)
    assert plan.shortfalls == ()


def test_the_peak_is_planned_for_the_high_load_and_never_below_what_is_billed() -> None:
    asked, plan = planned(known(fleet={"soc": 0.6, "may_discharge": False}))
    assert float(plan.peak_kw.min()) == pytest.approx(asked.horizon.load_high_kw.max(), abs=0.01)
    billed = Peaks(dict.fromkeys(asked.registers, 300.0))
    assert float(planned(known(peaks=billed))[1].peak_kw.min()) == pytest.approx(300.0)


def test_a_running_interval_counts_what_was_drawn_in_it() -> None:
    facts = known(now_s=NOW_S + 600.0, begun_kwh=30.0)
    horizon = planned(facts)[0].horizon
    assert (horizon.begun_h, horizon.begun_kwh, horizon.hours[0]) == pytest.approx((1 / 6, 30.0, 1 / 12))


def test_giving_in_the_hours_of_a_peak_is_left_to_the_fast_controller() -> None:
    """A quarter hour of 200 kW among 100 kW: the plan shaves it, and what the controller is told is the peak."""
    load = np.full(120, 100.0)
    load[4] = 200.0
    facts = known(load=forecast(load, spread_kw=0.0))
    _, plan = planned(facts)
    assert float(plan.power_kw[:, 4].sum()) < -30.0
    found = told(facts, NOW_S + 4 * 900.0 + 1.0)
    assert (found.power_kw == 0.0).all()
    assert found.limit_kw == pytest.approx(200.0 - 3 * 22.0)
    assert found.until_s == pytest.approx(899.0)


def test_giving_for_the_price_is_told() -> None:
    """Demand is billed anyway: a full battery gives at 0.50 and is filled again at 0.10."""
    free = Peaks(dict.fromkeys(foresight.problem(known(), ForesightSettings()).registers, 400.0))
    dear = tariff(energyratestructure=[[{"rate": 0.10}], [{"rate": 0.50}]])
    noon_s = MONDAY_S + 12 * HOUR_S
    base = known(fleet={"soc": 0.8, "need_soc": 0.7, "left_s": 11 * HOUR_S}, peaks=free, now_s=noon_s)
    facts = structs.replace(
        base, here=structs.replace(base.here, tariff=dear), rates=rates(dear, MONDAY_S, 900.0, 200),
        load=structs.replace(forecast(), starts_s=noon_s + 900.0 * np.arange(120, dtype=np.float64)),
    )  # fmt: skip
    _, plan = planned(facts)
    assert float(np.minimum(plan.power_kw, 0.0).sum()) < -10.0
    step = int(np.flatnonzero(plan.power_kw.sum(axis=0) < -1.0)[0])
    asked, _ = planned(facts)
    assert float(told(facts, float(asked.starts_s[step]) + 1.0).power_kw.sum()) < -1.0


def test_hours_in_which_no_peak_counts_have_the_connection_as_their_target() -> None:
    on_peak = tariff(flatdemandstructure=[[{"rate": 0.0}]])
    base = known()
    facts = structs.replace(
        base, here=structs.replace(base.here, tariff=on_peak), rates=rates(on_peak, MONDAY_S, 900.0, 200)
    )
    assert told(facts).limit_kw == 500.0
    assert told(facts, MONDAY_S + 13 * HOUR_S).limit_kw < 200.0


def test_a_plan_ends_with_its_last_step_and_says_nothing_before_it_begins() -> None:
    facts = known()
    asked, plan = planned(facts)
    assert foresight.aims(asked, plan, facts, float(asked.starts_s[-1]) + 1.0, 500.0) is None
    assert foresight.aims(asked, plan, facts, NOW_S - 1.0, 500.0) is None


def test_by_day_it_looks_to_midnight_unless_somebody_stays_on() -> None:
    day, night = (
        foresight.problem(known(fleet={"left_s": hours * HOUR_S}), ForesightSettings()).starts_s[-1]
        for hours in (8, 20)
    )
    late = structs.replace(known(), now_s=MONDAY_S + 20 * HOUR_S)
    assert day == MONDAY_S + 24 * HOUR_S
    assert night >= NOW_S + 24 * HOUR_S
    assert foresight.problem(late, ForesightSettings()).starts_s[-1] >= late.now_s + 24 * HOUR_S


def test_a_stationary_battery_keeps_what_it_holds_for_the_cheapest_price() -> None:
    facts = known(fleet={"need_soc": np.nan, "left_s": np.inf, "soc": 0.6}, table={"storage": True})
    asked, _ = planned(facts)
    assert asked.vehicles.left_value_per_kwh == pytest.approx(np.full(3, 0.10 * 0.95))


def test_a_plans_target_counts_what_is_billed_so_that_an_earlier_peak_does_not_lift_it() -> None:
    """An off-peak peak of 400 kW is no licence for the on-peak hours, whose register stands lower."""
    settings = site_settings(evse_table(3), peak=PeakSettings(limit_kw=500.0))
    clock = DemandState(peak_kw=400.0)
    guided = structs.replace(settings, guidance=Guidance(limit_kw=250.0, power_kw=np.zeros(3), until_s=10.0))
    assert peak.held_kw(site.rule_of(guided, 5.0, clock), clock) == 250.0
    assert peak.held_kw(site.rule_of(guided, 11.0, clock), clock) == 500.0
    assert peak.held_kw(PeakSettings(limit_kw=300.0), clock) == 400.0


@pytest.mark.parametrize(
    ("needed_kw", "held_kw"),
    [(0.0, 200.0), (30.0, 230.0), (90.0, 250.0), (np.nan, 200.0), (np.inf, 200.0), (-50.0, 200.0)],
)
def test_a_plan_goes_above_the_limit_of_people_only_by_what_drivers_need(needed_kw: float, held_kw: float) -> None:
    settings = site_settings(evse_table(3), peak=PeakSettings(limit_kw=200.0))
    asked = Guidance(limit_kw=250.0, power_kw=np.zeros(3), until_s=10.0, needed_kw=needed_kw)
    guided = structs.replace(settings, guidance=asked)
    assert peak.held_kw(site.rule_of(guided, 5.0, DemandState()), DemandState()) == held_kw
    assert peak.held_kw(site.rule_of(guided, 11.0, DemandState()), DemandState()) == 200.0


def test_drivers_who_must_leave_lift_the_target_above_the_limit_of_people() -> None:
    leaves = {"soc": 0.2, "need_soc": 0.8, "left_s": 3.0 * HOUR_S}
    calm, busy = (told(known(fleet=leaves, own_limit_kw=own_kw)) for own_kw in (300.0, 120.0))
    assert calm.needed_kw == 0.0
    # 3 x 36 kWh within 2.75 h beside a high load of 110 kW
    assert busy.limit_kw == pytest.approx(120.0 + busy.needed_kw)
    assert 20.0 < busy.needed_kw < 60.0


def test_a_peak_of_tomorrow_does_not_lift_the_limit_of_people_today() -> None:
    """From midnight on the building alone is beyond the limit."""
    load = np.where(NOW_S + 900.0 * np.arange(120) < MONDAY_S + 24 * HOUR_S, 100.0, 400.0)
    stays_on = {"soc": 0.5, "need_soc": 0.6, "left_s": 23.0 * HOUR_S}
    found = told(known(fleet=stays_on, load=forecast(load), own_limit_kw=200.0))
    assert found.needed_kw == 0.0
    assert found.limit_kw <= 200.0 + 1e-6
