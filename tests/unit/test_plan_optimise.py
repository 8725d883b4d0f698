"""What the planner does with the cases a site meets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from gridtide.plan import store
from gridtide.plan.coupling import effective_prices
from gridtide.plan.fleet import FleetSettings
from gridtide.plan.horizon import HorizonError, Reserve, demand_window
from gridtide.plan.optimise import Planner, Settings, optimise
from gridtide.plan.result import follow
from tests.unit.plan_builders import flat, horizon, random_problem, vehicles, whole_lp

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _numpy_form() -> None:
    store.cool_down()


@pytest.mark.parametrize("size", [1, 10, 50])
def test_a_night_of_vehicles_at_a_site_of_6_kw_each(size: int) -> None:
    rng = np.random.default_rng(size)
    arrives = rng.integers(60, 80, size) - 60
    eta = np.sqrt(0.9)
    v = vehicles(
        size, 96, first=arrives, last=55, charge_kw=11.0, discharge_kw=11.0, charge_efficiency=eta, discharge_efficiency=eta,
        capacity_kwh=60.0, least_kwh=10.0, energy_kwh=rng.uniform(10.0, 40.0, size), required_kwh=45.0, wear_price_per_kwh=0.0,
    )  # fmt: skip
    price = 0.2 + 0.1 * np.sin(np.arange(96) / 7.0) + 0.01 * rng.standard_normal(96)
    h = horizon(
        96, price, hours=0.25, import_cap_kw=6.0 * size, floor_kw=0.0, load_kw=0.5 * size, demand=(flat(96, 0.5),)
    )
    plan, _ = optimise(h, v)
    assert plan.method == "exact"
    assert plan.costs.total == pytest.approx(whole_lp(h, v), rel=1e-7)
    assert plan.gap == pytest.approx(0.0, abs=1e-7)
    assert plan.shortfalls == ()
    assert (plan.energy_kwh[:, -1] >= 45.0 - 1e-6).all()
    assert (plan.site_kw <= 6.0 * size + 1e-6).all()


def test_nobody_there_is_a_plan() -> None:
    h = horizon(4, 0.2, load_kw=50.0, demand=(flat(4, 2.0, 40.0),))
    for v in (vehicles(0, 4), vehicles(2, 4, first=3, last=1)):
        for chosen in (Settings(), Settings(exact_below=0)):
            plan, _ = optimise(h, v, chosen)
            assert plan.power_kw.shape == (v.size, 4)
            assert plan.costs.total == pytest.approx(4 * 50.0 * 0.2 + 2.0 * 10.0)
            assert plan.peak_kw == pytest.approx([50.0])
            assert plan.gap == pytest.approx(0.0, abs=1e-9)


def test_a_peak_that_is_billed_anyway_is_used_up_first() -> None:
    v = vehicles(1, 4, discharge_kw=0.0, required_kwh=38.0, capacity_kwh=60.0)
    price = np.array([0.1, 0.3, 0.3, 0.3])
    dear = horizon(4, price, load_kw=10.0, demand=(flat(4, 5.0, 10.0),))
    free = horizon(4, price, load_kw=10.0, demand=(flat(4, 5.0, 20.0),))
    assert optimise(dear, v)[0].peak_kw == pytest.approx([10.0 + 18.0 / 0.95 / 4.0])
    assert optimise(free, v)[0].peak_kw == pytest.approx([20.0])
    assert optimise(free, v)[0].power_kw[0, 0] == pytest.approx(10.0)


def test_two_registers_are_tracked_side_by_side() -> None:
    late = np.array([False, False, True, True])
    windows = (flat(4, 1.0), demand_window("late", late, 3.0))
    v = vehicles(1, 4, discharge_kw=0.0, required_kwh=38.0, capacity_kwh=60.0)
    plan, _ = optimise(horizon(4, 0.2, load_kw=10.0, demand=windows), v)
    assert plan.windows == ("flat", "late")
    assert plan.power_kw[0] == pytest.approx([18.0 / 0.95 / 2.0] * 2 + [0.0] * 2)
    assert plan.peak_kw == pytest.approx([10.0 + 9.0 / 0.95, 10.0])
    assert plan.costs.demand == pytest.approx(1.0 * (10.0 + 9.0 / 0.95) + 3.0 * 10.0)


def test_the_rest_of_the_period_makes_a_kw_of_today_cheaper() -> None:
    later = (80.0, 100.0, 100.0, 140.0)
    window = demand_window("flat", np.ones(3, dtype=np.bool_), 12.0, 60.0, later)

    def cost(peak_kw: float) -> float:
        widths = np.clip(peak_kw - window.from_kw, 0.0, np.append(np.diff(window.from_kw), np.inf))
        return float(widths @ window.price_per_kw)

    for peak_kw in (50.0, 60.0, 79.0, 90.0, 100.0, 120.0, 200.0):
        expected = 12.0 * np.mean([max(peak_kw, 60.0, x) - max(60.0, x) for x in later])
        assert cost(peak_kw) == pytest.approx(expected), peak_kw
    assert demand_window("last day", window.mask, 12.0, 60.0).price_per_kw == pytest.approx([12.0])
    # A ratchet above every later day: nothing below it counts.
    assert demand_window("ratchet", window.mask, 12.0, 150.0, later).from_kw == pytest.approx([150.0])


def test_the_energy_of_a_begun_interval_counts() -> None:
    v = vehicles(1, 2, discharge_kw=0.0, required_kwh=23.8, capacity_kwh=60.0)
    h = horizon(2, 0.2, hours=np.array([0.25, 1.0]), load_kw=20.0, demand=(flat(2, 9.0),), begun_h=0.75, begun_kwh=9.0)
    plan, _ = optimise(h, v)
    # 9 kWh in 45 min leave (24 - 9) kWh for the last quarter at a peak of 24 kW: the vehicle charges there first.
    assert plan.power_kw[0, 0] == pytest.approx(10.0)
    assert plan.peak_kw == pytest.approx([20.0 + (4.0 - 2.5)])
    assert plan.costs.total == pytest.approx(whole_lp(h, v))


def test_peaks_are_held_against_the_high_load_and_energy_is_paid_for_the_median() -> None:
    h = horizon(2, 0.2, load_kw=10.0, load_high_kw=np.array([14.0, 10.0]), demand=(flat(2, 1.0),))
    v = vehicles(1, 2, discharge_kw=0.0, required_kwh=26.0)
    plan, _ = optimise(h, v)
    asked = 6.0 / 0.95
    assert plan.power_kw[0] == pytest.approx([(asked - 4.0) / 2.0, (asked + 4.0) / 2.0])
    assert plan.peak_kw == pytest.approx([14.0 + (asked - 4.0) / 2.0])
    assert plan.costs.energy == pytest.approx(0.2 * (20.0 + asked))
    assert plan.site_high_kw - plan.site_kw == pytest.approx([4.0, 0.0])


def test_the_value_of_the_next_kw() -> None:
    v = vehicles(1, 2, discharge_kw=0.0, required_kwh=26.0)
    price, asked = np.array([0.1, 0.3]), 6.0 / 0.95
    # Dear demand: both hours at the peak, worth its price; the cheap hour's room is worth 0.2 more than the dear one's.
    plan, _ = optimise(horizon(2, price, load_kw=10.0, demand=(flat(2, 0.5),)), v)
    assert plan.power_kw[0] == pytest.approx([asked / 2.0, asked / 2.0])
    assert plan.value_per_kw == pytest.approx([0.5])
    assert plan.room_value_per_kw == pytest.approx([0.35, 0.15])
    # Cheap demand: all in the cheap hour.
    plan, _ = optimise(horizon(2, price, load_kw=10.0, demand=(flat(2, 0.1),)), v)
    assert plan.power_kw[0] == pytest.approx([asked, 0.0])
    assert plan.value_per_kw == pytest.approx([0.1])
    # At a peak that is billed anyway a kW more would move a kWh to the cheap hour: worth 0.2, below its price.
    plan, _ = optimise(horizon(2, price, load_kw=10.0, demand=(flat(2, 0.5, 14.0),)), v)
    assert plan.peak_kw == pytest.approx([14.0])
    assert plan.value_per_kw == pytest.approx([0.2])


SHORT = [
    ("stay_too_short", {"required_kwh": 39.0, "last": 0}, {}, 39.0 - 29.5),
    ("battery_too_small", {"required_kwh": 45.0}, {}, 5.0),
    ("site_limit", {"required_kwh": 39.0}, {"import_cap_kw": 15.0, "load_kw": 12.0}, 19.0 - 4 * 3.0 * 0.95),
    ("group_limit", {"required_kwh": 39.0, "group": 0}, {"group_cap_kw": np.array([4.0])}, 19.0 - 4 * 4.0 * 0.95),
    ("too_dear", {"required_kwh": 39.0, "need_price_per_kwh": 0.1}, {}, 19.0),
]


@pytest.mark.parametrize(("reason", "columns", "fields", "missing"), SHORT)
@pytest.mark.parametrize("exact_below", [150, 0])
def test_a_need_that_cannot_be_met_is_planned_as_far_as_it_goes(
    reason: str, columns: dict[str, float], fields: dict[str, object], missing: float, exact_below: int
) -> None:
    v = vehicles(1, 4, **({"discharge_kw": 0.0} | columns))
    plan, _ = optimise(horizon(4, 0.2, **fields), v, Settings(exact_below=exact_below))
    (found,) = plan.shortfalls
    assert (found.what, found.who, found.step, found.reason) == ("energy", "ev-0", int(v.last[0]), reason)
    assert found.missing == pytest.approx(missing, rel=2e-3)
    assert plan.costs.missed_need == pytest.approx(
        v.need_price_per_kwh[0] * (min(v.required_kwh[0], 40.0) - plan.energy_kwh[0, -1])
    )


def test_a_load_beyond_the_limit_is_met_as_far_as_the_vehicles_go() -> None:
    h = horizon(4, 0.2, load_kw=np.array([50.0, 80.0, 70.0, 50.0]), import_cap_kw=60.0)
    plan, _ = optimise(h, vehicles(1, 4, need_price_per_kwh=1.0))
    (over,) = [s for s in plan.shortfalls if s.what == "import_cap"]
    assert (over.who, over.step, over.steps, over.reason) == ("site", 1, 1, "load_alone")
    assert over.missing == pytest.approx(10.0)
    assert plan.power_kw[0, 1:3] == pytest.approx([-10.0, -10.0], abs=0.2)


def test_a_vehicle_below_its_least_charge_is_a_start_and_not_an_error() -> None:
    v = vehicles(1, 3, energy_kwh=5.0, least_kwh=8.0, required_kwh=8.0)
    plan, _ = optimise(horizon(3, np.array([0.2, 0.9, 0.1])), v)
    assert plan.shortfalls == ()
    assert (plan.energy_kwh[0] >= 5.0 - 1e-9).all()
    assert plan.energy_kwh[0, -1] >= 8.0 - 1e-9


def test_no_export_where_none_is_allowed() -> None:
    h = horizon(2, np.array([0.9, 0.1]), load_kw=4.0, floor_kw=1.0)
    plan, _ = optimise(h, vehicles(1, 2))
    assert plan.site_kw[0] == pytest.approx(1.0)
    cheap_sale = horizon(2, np.array([0.9, 0.1]), load_kw=4.0, export_price=np.array([0.1, 0.0]))
    assert optimise(cheap_sale, vehicles(1, 2))[0].site_kw[0] == pytest.approx(0.0)


def test_export_that_earns_more_than_import_costs_is_priced_as_the_building_stands() -> None:
    h = horizon(2, np.array([-0.1, 0.2]), load_kw=np.array([5.0, 5.0]), export_price=np.array([0.08, 0.08]))
    plan, _ = optimise(h, vehicles(1, 2))
    assert plan.power_kw[0, 0] > 0.0
    assert plan.gap == pytest.approx(0.0, abs=1e-9)


def test_a_price_that_is_not_convex_is_priced_as_the_building_stands() -> None:
    h = horizon(4, np.array([-0.1, -0.1, 0.3, 0.3]), load_kw=np.array([5.0, -5.0, 5.0, -5.0]), export_price=0.08)
    found = effective_prices(h)
    assert found.import_price == pytest.approx([-0.1, 0.08, 0.3, 0.3])
    assert found.export_price == pytest.approx([-0.1, 0.08, 0.08, 0.08])


def test_discharge_gives_way_where_a_full_battery_would_bring_the_site_below_its_floor() -> None:
    h = horizon(2, 0.2, load_kw=4.0, floor_kw=1.0)
    v = vehicles(2, 2, energy_kwh=np.array([38.0, 30.0]), required_kwh=8.0)
    wish = np.array([[5.0, 5.0], [-8.0, -8.0]])
    flow = follow(h, v, store.prepare(h, v), wish)
    into = 2.0 / 0.95
    assert flow.power_kw[0] == pytest.approx([into, 0.0])
    assert flow.power_kw[1] == pytest.approx([-into - 3.0, -3.0])
    assert flow.energy_kwh[1, -1] == pytest.approx(30.0 - (into + 6.0) / 0.95)


def test_more_rounds_never_loosen_the_bound() -> None:
    h, v = random_problem(8, 60, 24, "tight")
    few = FleetSettings(tolerance=0.0, sample=6)
    plans = [optimise(h, v, Settings(exact_below=0, fleet=structs.replace(few, rounds=k)))[0] for k in (0, 1, 2, 4, 8)]
    bounds, costs = [p.bound for p in plans], [p.costs.total for p in plans]
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0]
    assert costs[-1] < costs[0]
    assert [p.rounds for p in plans] == [1, 2, 3, 5, 9]


def test_both_directions_at_once_never_come_out_of_negative_prices() -> None:
    price = np.array([-0.5, -0.4, -0.5, 0.1])
    v = vehicles(3, 4, energy_kwh=np.array([39.0, 30.0, 12.0]), required_kwh=10.0)
    h = horizon(4, price, load_kw=30.0, floor_kw=-100.0)
    plan, _ = optimise(h, v)
    assert plan.bound == pytest.approx(whole_lp(h, v))
    assert plan.bound <= plan.costs.total + 1e-9
    assert plan.gap < 0.05


def test_a_reserve_is_held_in_power_and_energy() -> None:
    one = np.ones(3)
    reserve = Reserve(up_kw=8.0 * one, down_kw=6.0 * one, endurance_h=1.5, penalty_per_kw_h=5.0)
    v = vehicles(2, 3, required_kwh=9.0, wear_price_per_kwh=0.0)
    price = np.array([0.9, 0.2, 0.9])
    plan, _ = optimise(horizon(3, price, reserve=reserve), v)
    free, _ = optimise(horizon(3, price), v)
    assert plan.shortfalls == ()
    held_kwh = ((plan.energy_kwh - 8.0) * 0.95).sum(axis=0)
    assert (held_kwh >= 8.0 * 1.5 - 1e-6).all()
    assert ((free.energy_kwh - 8.0) * 0.95).sum(axis=0)[-1] < 8.0 * 1.5
    assert (20.0 + plan.power_kw.sum(axis=0) >= 8.0 - 1e-6).all()
    assert (20.0 - plan.power_kw.sum(axis=0) >= 6.0 - 1e-6).all()
    assert plan.costs.total > free.costs.total


def test_a_promise_that_is_too_large_is_listed() -> None:
    reserve = Reserve(up_kw=np.full(2, 50.0), down_kw=np.zeros(2), endurance_h=0.25, penalty_per_kw_h=5.0)
    plan, _ = optimise(horizon(2, 0.2, reserve=reserve), vehicles(2, 2))
    found = [s for s in plan.shortfalls if s.what == "reserve_up"]
    assert [s.reason for s in found] == ["fleet_power"]
    assert plan.costs.missed_reserve > 0.0


def test_a_called_reserve_stays_within_the_connection() -> None:
    reserve = Reserve(up_kw=np.full(2, 5.0), down_kw=np.full(2, 4.0), endurance_h=0.25, penalty_per_kw_h=5.0)
    h = horizon(2, np.array([0.1, 0.9]), load_kw=20.0, import_cap_kw=30.0, floor_kw=0.0, reserve=reserve)
    full, _ = optimise(h, vehicles(3, 2, required_kwh=38.0))
    empty, _ = optimise(h, vehicles(3, 2, required_kwh=8.0))
    assert full.site_kw == pytest.approx([26.0, 26.0])
    assert empty.site_kw == pytest.approx([5.0, 5.0])


def test_the_taper_is_planned_for() -> None:
    price = np.array([0.3] * 6 + [0.1] * 2)
    v = vehicles(1, 8, discharge_kw=0.0, energy_kwh=20.0, required_kwh=38.0, knee_soc=0.6, taper_kw=9.5)
    h = horizon(8, price)
    naive, _ = optimise(h, structs.replace(v, knee_soc=np.ones(1)))
    assert naive.power_kw[0, 6:].sum() == pytest.approx(18.0 / 0.95)
    aware, _ = optimise(h, v)
    assert aware.shortfalls == ()
    assert aware.gap == pytest.approx(0.0, abs=1e-4)
    assert aware.costs.energy < 0.3 * 18.0 / 0.95 - 0.9
    begin = np.concatenate([[20.0], aware.energy_kwh[0, :-1]])
    assert (aware.power_kw <= store.tapered_kw(v, h.hours, begin[None, :]) + 1e-9).all()


def test_a_large_fleet_plans_again_for_the_taper() -> None:
    price = np.array([0.3] * 6 + [0.1] * 2)
    rng = np.random.default_rng(2)
    v = vehicles(30, 8, discharge_kw=0.0, energy_kwh=rng.uniform(15.0, 25.0, 30), required_kwh=36.0, knee_soc=0.6)
    h = horizon(8, price, demand=(flat(8, 0.01),))
    missing = []
    for rounds in (0, 3):
        plan, _ = optimise(h, v, Settings(exact_below=0, taper_rounds=rounds))
        missing.append(sum(s.missing for s in plan.shortfalls))
        exact, _ = optimise(h, v)
        assert plan.bound <= exact.bound + 1e-6
        assert plan.costs.total >= exact.bound - 1e-6
    assert exact.shortfalls == ()
    assert missing[0] > 30.0
    assert missing[1] < 0.1 * missing[0]


def test_ageing_keeps_a_battery_low_until_it_is_needed() -> None:
    v = vehicles(1, 6, discharge_kw=0.0, required_kwh=38.0, calendar_price_per_kwh_h=1e-3)
    plan, _ = optimise(horizon(6, 0.2), v)
    assert plan.power_kw[0] == pytest.approx([0.0] * 4 + [18.0 / 0.95 - 10.0, 10.0])
    assert plan.costs.calendar == pytest.approx(1e-3 * plan.energy_kwh.sum())


def test_a_stay_that_goes_on_keeps_what_is_worth_more_later() -> None:
    h = horizon(2, np.array([0.1, 0.2]))
    v = vehicles(1, 2, required_kwh=0.0, left_value_per_kwh=0.5)
    assert optimise(h, v)[0].energy_kwh[0, -1] == pytest.approx(39.0)
    assert optimise(h, structs.replace(v, left_value_per_kwh=np.zeros(1)))[0].energy_kwh[0, -1] == pytest.approx(8.0)


def test_the_same_question_has_the_same_plan() -> None:
    h, v = random_problem(5, 30, 24, "groups")
    for chosen in (Settings(), Settings(exact_below=0, fleet=FleetSettings(rounds=3))):
        first, second = (optimise(h, v, chosen)[0] for _ in range(2))
        np.testing.assert_array_equal(first.power_kw, second.power_kw)
        planner = Planner(chosen)
        once = planner.plan(h, v)
        np.testing.assert_array_equal(once.power_kw, first.power_kw)
        again = planner.plan(structs.replace(h, load_kw=h.load_kw.copy()), v)
        assert again is once
        planner.plan(other := structs.replace(h, import_price=h.import_price[::-1].copy()), v)
        planner.plan(other := structs.replace(other, load_kw=h.load_kw * 1.2, load_high_kw=h.load_high_kw * 1.2), v)
        if not chosen.exact_below:
            assert not np.array_equal(planner.plan(h, v).power_kw, first.power_kw)
            planner.plan(other, v)
        planner.forget()
        np.testing.assert_array_equal(planner.plan(h, v).power_kw, first.power_kw)


@pytest.mark.parametrize("exact_below", [150, 0])
def test_a_plan_that_starts_from_the_last_one_is_as_good(exact_below: int) -> None:
    h, v = random_problem(11, 40, 24, "groups")
    h = structs.replace(h, hours=np.full(24, 0.25))
    chosen = Settings(exact_below=exact_below, fleet=FleetSettings(tolerance=2e-3))
    planner = Planner(chosen, timer=iter(range(100)).__next__)
    first = planner.plan(h, v)
    assert first.cpu_s == 1
    keep = np.arange(3, 40)
    there = v.first == 0
    columns = {n: getattr(v, n)[keep] for n in v.__struct_fields__ if n not in ("keys", "charge_limit_kw")}
    columns |= {"first": np.maximum(v.first - 1, 0)[keep], "last": (v.last - 1)[keep]}
    columns["energy_kwh"] = np.where(there, first.energy_kwh[:, 0], v.energy_kwh)[keep]
    later = structs.replace(v, keys=tuple(v.keys[k] for k in keep), **columns)
    moved = structs.replace(
        h, start_s=h.start_s + 900.0, load_kw=np.roll(h.load_kw, -1), import_price=np.roll(h.import_price, -1)
    )
    warm, cold = planner.plan(moved, later), optimise(moved, later, chosen)[0]
    assert warm.gap <= chosen.fleet.tolerance
    assert warm.costs.total <= cold.costs.total + 2e-3 * abs(cold.costs.total)
    assert warm.bound <= cold.costs.total + 1e-6 * abs(cold.costs.total)
    if exact_below:
        assert warm.costs.total == pytest.approx(cold.costs.total, rel=1e-6)
    # After a year nothing of the last plan fits.
    year = structs.replace(moved, start_s=h.start_s + 3.2e7)
    np.testing.assert_array_equal(planner.plan(year, later).power_kw, optimise(year, later, chosen)[0].power_kw)


def test_vehicles_come_and_go_between_plans() -> None:
    h = horizon(6, np.array([0.3, 0.1, 0.2, 0.3, 0.1, 0.4]), load_kw=20.0, demand=(flat(6, 0.3),))
    full = vehicles(3, 6, required_kwh=30.0)
    some = structs.replace(vehicles(1, 6, required_kwh=35.0, group=-1), keys=("ev-9",))
    for chosen in (Settings(), Settings(exact_below=0)):
        planner = Planner(chosen)
        for fleet in (vehicles(0, 6), full, some, vehicles(0, 6), full):
            plan = planner.plan(h, fleet)
            assert plan.shortfalls == ()
            assert plan.gap <= 0.002
            assert plan.costs.total == pytest.approx(whole_lp(h, fleet), rel=0.002)


def test_what_is_no_problem_at_all_is_named_column_by_column() -> None:
    h, v = horizon(3, 0.2), vehicles(2, 3)
    with pytest.raises(HorizonError) as refused:
        optimise(structs.replace(h, load_kw=np.zeros(4)), structs.replace(v, charge_kw=np.zeros(3)))
    assert [p.split()[0] for p in refused.value.problems] == ["load_kw", "charge_kw"]
    nan_reserve = Reserve(up_kw=np.full(3, np.nan), down_kw=np.zeros(3), endurance_h=1.0, penalty_per_kw_h=1.0)
    bad = [
        (h, {"charge_kw": np.array([1.0, np.nan])}, "charge_kw"), (h, {"discharge_kw": np.array([1.0, -1.0])}, "discharge_kw"),
        (h, {"charge_efficiency": np.array([0.0, 1.0])}, "charge_efficiency"), (h, {"last": np.array([2, 3])}, "first, last"),
        (h, {"group": np.array([0, -1])}, "group"), (h, {"least_kwh": np.full(2, 41.0)}, "least_kwh"),
        (h, {"knee_soc": np.array([0.0, 1.0])}, "knee_soc"), (h, {"taper_kw": np.array([-1.0, 1.0])}, "taper_kw"),
        (h, {"left_value_per_kwh": np.full(2, 11.0)}, "left_value_per_kwh"),
        (structs.replace(h, hours=np.array([1.0, 0.0, 1.0])), {}, "hours"),
        (structs.replace(h, import_price=np.array([1.0, np.inf, 1.0])), {}, "import_price"),
        (structs.replace(h, demand=(structs.replace(flat(3, 1.0), price_per_kw=np.array([-1.0])),)), {}, "demand flat"),
        (structs.replace(h, begun_kwh=np.nan), {}, "begun_kwh"),
        (structs.replace(h, reserve=nan_reserve), {}, "reserve"),
    ]  # fmt: skip
    for site, columns, name in bad:
        with pytest.raises(HorizonError, match=f"^{name}"):
            optimise(site, structs.replace(v, **columns))


def test_planning_imports_neither_numba_nor_another_solver() -> None:
    code = (
        "import sys, numpy as np\nfrom tests.unit.plan_builders import random_problem\n"
        "from gridtide.plan.optimise import optimise, Settings\n"
        "optimise(*random_problem(1, 20, 12), Settings(exact_below=0))\n"
        "print([m for m in ('numba', 'scipy', 'cvxpy', 'pyomo', 'ortools') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
