"""Whatever the problem: a plan that the batteries can follow, a bound that holds, and nothing missed in silence."""

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gridtide.plan import exact
from gridtide.plan.coupling import admissible, couple, lower_bound, tolls
from gridtide.plan.exact import solve_exact
from gridtide.plan.fleet import FleetSettings
from gridtide.plan.horizon import Horizon, Vehicles
from gridtide.plan.optimise import Plan, Settings, optimise
from gridtide.plan.store import prepare, solve
from tests.unit.plan_builders import random_problem, whole_lp

KINDS = ("plain", "negative", "groups", "reserve", "tight", "limited")
FLEET = Settings(exact_below=0, fleet=FleetSettings(tolerance=1e-3, rounds=12))


def check_physics(h: Horizon, v: Vehicles, plan: Plan) -> None:
    """Powers and energies within their bounds, and energy follows power through the losses."""
    power = plan.power_kw
    step = np.arange(h.steps)
    there = (step >= v.first[:, None]) & (step <= v.last[:, None])
    assert np.isfinite(power).all()
    assert (power[~there] == 0.0).all()
    assert (power <= v.charge_kw[:, None] + 1e-9).all()
    assert (power >= -v.discharge_kw[:, None] - 1e-9).all()
    if v.charge_limit_kw is not None:
        assert (power <= np.maximum(v.charge_limit_kw, 0.0) + 1e-9).all()
    moved = (
        np.where(power > 0.0, power * v.charge_efficiency[:, None], power / v.discharge_efficiency[:, None]) * h.hours
    )
    energy = v.energy_kwh[:, None] + np.cumsum(moved, axis=1)
    np.testing.assert_allclose(plan.energy_kwh, energy, atol=1e-9)
    assert (energy >= np.minimum(v.least_kwh, v.energy_kwh)[:, None] - 1e-6).all()
    assert (energy <= np.maximum(v.capacity_kwh, v.energy_kwh)[:, None] + 1e-6).all()


def check_told(h: Horizon, v: Vehicles, plan: Plan) -> None:
    """Every need and limit is met or listed, with the right amount."""
    listed = {s.who: s for s in plan.shortfalls if s.what == "energy"}
    for i, key in enumerate(v.keys):
        missing = v.required_kwh[i] - plan.energy_kwh[i, -1] if v.first[i] <= v.last[i] else 0.0
        assert (key in listed) == (missing > 1e-3)
        if key in listed:
            assert listed[key].missing == pytest.approx(missing)
    reserve = h.reserve
    down = reserve.down_kw if reserve else 0.0
    up = reserve.up_kw if reserve else 0.0
    fleet = plan.power_kw.sum(axis=0)
    cases = [
        ("import_cap", "site", fleet + h.load_high_kw + down - h.import_cap_kw),
        ("export", "site", h.floor_kw + up - fleet - h.load_low_kw),
    ]
    for j in range(h.group_cap_kw.size):
        mine = plan.power_kw[v.group == j].sum(axis=0)
        cases.append(("group_import", f"group {j}", mine - h.group_cap_kw[j]))
        cases.append(("group_export", f"group {j}", -mine - h.group_export_kw[j]))
    for what, who, over in cases:
        found = [s for s in plan.shortfalls if s.what == what and s.who == who]
        hit = np.zeros(h.steps, dtype=np.bool_)
        for s in found:
            assert s.missing == pytest.approx(over[s.step : s.step + s.steps].max())
            hit[s.step : s.step + s.steps] = True
        # A limit that no vehicle could touch is not the plan's to list.
        assert (hit | (over <= 2e-4) | ~_touched(v, h.steps, what))[over > -np.inf].all()


def _touched(v: Vehicles, steps: int, what: str) -> np.ndarray:
    step = np.arange(steps)
    there = (step >= v.first[:, None]) & (step <= v.last[:, None])
    rated = v.discharge_kw if "export" in what else v.charge_kw
    return np.asarray((there * rated[:, None]).sum(axis=0) > 0.0)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 8), steps=st.integers(2, 14))
def test_exact_and_fleet_against_the_whole_programme(kind: str, seed: int, size: int, steps: int) -> None:
    h, v = random_problem(seed, size, steps, kind)
    if kind == "limited":
        limit = np.random.default_rng(seed).uniform(0.0, 12.0, (size, steps))
        v = structs.replace(v, charge_limit_kw=limit)
    optimum = whole_lp(h, v)
    slack = 1e-6 * max(1.0, abs(optimum))
    for chosen in (Settings(), FLEET):
        plan, _ = optimise(h, v, chosen)
        check_physics(h, v, plan)
        check_told(h, v, plan)
        assert plan.bound <= optimum + slack
        assert plan.costs.total >= optimum - slack
        if chosen is not FLEET:
            assert plan.bound == pytest.approx(optimum, abs=slack)
            assert kind == "negative" or plan.costs.total == pytest.approx(optimum, abs=slack)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 12), steps=st.integers(2, 24))
def test_a_programme_that_starts_from_its_own_basis_is_solved_already(
    kind: str, seed: int, size: int, steps: int
) -> None:
    h, v = random_problem(seed, size, steps, kind)
    stores = prepare(h, v)
    coupling = couple(h, v, stores)
    iterations = []
    run = exact.run_to_optimum

    def counted(solver: highspy.Highs) -> None:
        run(solver)
        iterations.append(solver.getInfo().simplex_iteration_count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "run_to_optimum", counted)
        first = solve_exact(stores, coupling, hull=False)
        again = solve_exact(stores, coupling, hull=False, start=first.basis)
    assert first.basis is not None
    assert iterations[1] == 0
    assert again.objective == pytest.approx(first.objective, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS[:-1])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.0, 1e-3, 1e-2, 1.0]))
def test_every_price_gives_a_bound(kind: str, seed: int, scale: float) -> None:
    h, v = random_problem(seed, 4, 8, kind)
    stores = prepare(h, v)
    coupling = couple(h, v, stores)
    optimum = whole_lp(h, v)
    rng = np.random.default_rng(seed)
    best = solve_exact(stores, coupling).dual
    off = scale * rng.uniform(-1.0, 1.0, coupling.size) * (rng.random(coupling.size) < 0.1)
    dual = admissible(coupling, best * rng.choice([1.0, 1.0, 1.0, 3.0], coupling.size) + off)
    answer = solve(stores, tolls(coupling, h, dual))
    assert lower_bound(coupling, dual, answer.value) <= optimum + 1e-6 * max(1.0, abs(optimum))


@pytest.mark.parametrize("kind", ["plain", "groups", "tight", "negative"])
def test_a_large_fleet_reaches_its_tolerance(kind: str) -> None:
    h, v = random_problem(3, 160, 24, kind)
    plan, _ = optimise(h, v, Settings(fleet=FleetSettings(tolerance=0.002)))
    exact, _ = optimise(h, v, Settings(exact_below=1_000))
    assert (plan.method, exact.method) == ("fleet", "exact")
    assert plan.gap <= 0.002
    assert plan.bound <= exact.bound + 1e-6 * abs(exact.bound)
    assert exact.bound <= plan.costs.total + 1e-6 * abs(exact.bound)
    check_physics(h, v, plan)
    check_told(h, v, plan)
