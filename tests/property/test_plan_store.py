"""One vehicle against prices: exact, whichever form computes it."""

from collections.abc import Iterator

import numpy as np
import pytest

from gridtide.plan import kernel, store
from gridtide.plan.store_numpy import connected
from tests.unit.plan_builders import Floats, horizon, random_problem, vehicles, whole_lp

FORMS = ["numpy", "kernel", *(["numba"] if store.numba_there() else [])]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """The oracle in NumPy, as plain loops, and compiled where numba is installed."""
    store.cool_down()
    if request.param == "kernel":
        store._compiled.extend([kernel.solve, kernel.sweep, kernel.block_sums])
    if request.param == "numba":
        assert store.warm_up()
    yield request.param
    store.cool_down()


def answer(h: object, v: object, price: Floats) -> tuple[Floats, Floats]:
    """Values (N,) and plans (N, T)."""
    stores = store.prepare(h, v)  # type: ignore[arg-type]
    power = np.zeros(stores.limit_kw.shape)
    none = np.zeros(stores.hours.size)
    found = store.solve(stores, store.Tolls(price=np.atleast_2d(price), hold_up=none, hold_down=none), power_kw=power)
    return found.value, power


def test_the_published_case(form: str) -> None:
    price = np.array([0.30, 0.10, 0.20])
    value, power = answer(horizon(3, price), vehicles(1, 3), price)
    np.testing.assert_allclose(power[0], [-10.0, 10.0, 1.0803324099722990], atol=1e-9)
    np.testing.assert_allclose(value, [-1.583934], atol=5e-7)


@pytest.mark.parametrize("low", [0.02, -0.25])
def test_200_random_vehicles_cost_what_the_programme_says(form: str, low: float) -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        price = rng.uniform(low, 0.5, 8)
        _, v = random_problem(seed, 1, 8)
        h = horizon(8, price, hours=rng.choice([0.25, 1.0], 8))
        value, _ = answer(h, v, price)
        assert value[0] == pytest.approx(whole_lp(h, v), abs=1e-7), seed


def test_a_plan_costs_its_value_where_no_price_is_negative(form: str) -> None:
    for seed in range(40):
        h, v = random_problem(seed, 5, 12)
        value, power = answer(h, v, h.import_price)
        stores = store.prepare(h, v)
        there = connected(v.first, v.last, 12)
        moved = (
            np.where(power > 0.0, power * v.charge_efficiency[:, None], power / v.discharge_efficiency[:, None])
            * h.hours
        )
        energy = v.energy_kwh[:, None] + np.cumsum(moved, axis=1)
        least, most = stores.table[:, 5], stores.table[:, 4]
        assert (energy >= least[:, None] - 1e-9).all()
        assert (energy <= most[:, None] + 1e-9).all()
        assert (power[~there] == 0.0).all()
        short = np.maximum(stores.table[:, 7] - energy[:, -1], 0.0) * (v.need_price_per_kwh - v.left_value_per_kwh)
        held = v.calendar_price_per_kwh_h * (energy * there * h.hours).sum(axis=1)
        wear = v.wear_price_per_kwh * (np.maximum(-power, 0.0) * h.hours).sum(axis=1)
        cost = (
            (power * h.import_price * h.hours).sum(axis=1) + wear + held + short - v.left_value_per_kwh * energy[:, -1]
        )
        np.testing.assert_allclose(cost, value, atol=1e-9)


def test_all_forms_give_the_same_sums_and_sweeps() -> None:
    found = []
    for name in FORMS:
        store.cool_down()
        if name == "kernel":
            store._compiled.extend([kernel.solve, kernel.sweep, kernel.block_sums])
        if name == "numba":
            store.warm_up()
        h, v = random_problem(7, 40, 24, "groups")
        stores = store.prepare(h, v, np.arange(40) % 3)
        rng = np.random.default_rng(1)
        tolls = store.Tolls(
            price=rng.uniform(-0.1, 0.5, (3, 24)), hold_up=-rng.uniform(0, 0.01, 24), hold_down=rng.uniform(0, 0.01, 24)
        )
        power = np.zeros((40, 24))
        rows = np.arange(0, 40, 2)
        some = store.solve(stores, tolls, rows=rows, share=rng.uniform(0.0, 1.0, 40), power_kw=power, stored=True)
        fleet = store.Fleet(
            power_kw=np.zeros((40, 24)), energy_kwh=np.zeros((40, 24)), own_cost=np.zeros(40), totals=np.zeros((5, 24))
        )
        size = 5 * 24
        pull = store.Pull(
            begins=np.arange(size + 1), order=rng.permutation(size), coef=rng.choice([-1.0, 1.0], size),
            rhs=rng.uniform(0, 50, size),
            dual=rng.uniform(0, 0.02, size), stiffness=rng.uniform(0, 1e-3, size), most=np.full(size, 0.5),
        )  # fmt: skip
        for _ in range(2):
            store.sweep(stores, h.import_price, pull, fleet, 7)
        total = store.sums(stores, fleet, stored=True)
        found.append([
            some.value, some.own_cost, some.profile_kw, some.stored_up, some.stored_down, power, fleet.power_kw, fleet.totals,
            fleet.own_cost, total.own_cost, total.profile_kw, total.stored_up, total.stored_down,
        ])  # fmt: skip
    store.cool_down()
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)
    assert np.abs(found[0][6]).sum() > 1.0
    assert np.abs(found[0][3]).sum() > 1.0
