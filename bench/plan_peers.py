"""The reference problem written for other tools, build and solve together; each says why it is absent where it is."""

import importlib
import importlib.util
from typing import Any

import numpy as np

from gridtide.plan.horizon import Horizon, Vehicles

KAPPA_WINDOW = 0


def missing(*modules: str) -> str:
    """Names of packages that are not installed, as a message; empty if all are, and then they are imported: set-up is not
    timed."""
    absent = [m for m in modules if importlib.util.find_spec(m.split(".")[0]) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    for module in modules:
        importlib.import_module(module)
    return ""


def _entries(vehicles: Vehicles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = vehicles.last - vehicles.first + 1
    row = np.repeat(np.arange(vehicles.size), count)
    begins = np.cumsum(count) - count
    return row, np.arange(row.size) - np.repeat(begins, count) + vehicles.first[row], begins


def cvxpy_highs(horizon: Horizon, vehicles: Vehicles) -> float:
    """Objective by cvxpy with HiGHS, vectorised."""
    cp: Any = importlib.import_module("cvxpy")
    sp: Any = importlib.import_module("scipy.sparse")

    row, step, begins = _entries(vehicles)
    n, steps, h = row.size, horizon.steps, float(horizon.hours[0])
    charge, discharge, energy = cp.Variable(n, nonneg=True), cp.Variable(n, nonneg=True), cp.Variable(n)
    peak = cp.Variable(nonneg=True)
    gather = sp.csr_matrix((np.ones(n), (step, np.arange(n))), shape=(steps, n))
    later = np.ones(n)
    later[begins] = 0.0
    shift = sp.diags(later[1:], -1, shape=(n, n), format="csr")
    start = np.zeros(n)
    start[begins] = vehicles.energy_kwh
    eta = vehicles.charge_efficiency[row]
    net = horizon.load_kw + gather @ (charge - discharge)
    ends = np.append(begins[1:], n) - 1
    rules = [
        energy == shift @ energy + start + h * (cp.multiply(eta, charge) - cp.multiply(1.0 / eta, discharge)),
        charge <= vehicles.charge_kw[row], discharge <= vehicles.discharge_kw[row], energy <= vehicles.capacity_kwh[row],
        energy >= vehicles.least_kwh[row], energy[ends] >= vehicles.required_kwh, net <= peak,
        peak <= float(horizon.import_cap_kw[0]), net >= horizon.floor_kw,
    ]  # fmt: skip
    wear = h * cp.sum(cp.multiply(vehicles.wear_price_per_kwh[row], discharge))
    cost = h * horizon.import_price @ net + wear + float(horizon.demand[KAPPA_WINDOW].price_per_kw[0]) * peak
    problem = cp.Problem(cp.Minimize(cost), rules)
    problem.solve(solver=cp.HIGHS, threads=1)
    found: float = problem.value
    return found


def pyomo_highs(horizon: Horizon, vehicles: Vehicles) -> float:
    """Objective by pyomo with HiGHS in the same process."""
    pyo: Any = importlib.import_module("pyomo.environ")

    row, step, begins = _entries(vehicles)
    h, first = float(horizon.hours[0]), set(begins.tolist())
    rows, steps = row.tolist(), step.tolist()
    model: Any = pyo.ConcreteModel()
    model.k, model.t = pyo.RangeSet(0, len(rows) - 1), pyo.RangeSet(0, horizon.steps - 1)
    v = {
        name: getattr(vehicles, name).tolist()
        for name in vehicles.__struct_fields__
        if name not in ("keys", "charge_limit_kw")
    }
    model.c = pyo.Var(model.k, bounds=lambda _, k: (0, v["charge_kw"][rows[k]]))
    model.d = pyo.Var(model.k, bounds=lambda _, k: (0, v["discharge_kw"][rows[k]]))
    ends = set((np.append(begins[1:], len(rows)) - 1).tolist())

    def least(k: int) -> float:
        i = rows[k]
        kwh: float = v["least_kwh"][i]
        return max(kwh, float(v["required_kwh"][i])) if k in ends else kwh

    model.e = pyo.Var(model.k, bounds=lambda _, k: (least(k), v["capacity_kwh"][rows[k]]))
    model.p = pyo.Var(bounds=(0, float(horizon.import_cap_kw[0])))
    model.net = pyo.Var(model.t, bounds=lambda _, t: (float(horizon.floor_kw[t]), None))
    at: list[list[int]] = [[] for _ in range(horizon.steps)]
    for k, t in enumerate(steps):
        at[t].append(k)

    def balance(m: Any, k: int) -> Any:
        i = rows[k]
        before = v["energy_kwh"][i] if k in first else m.e[k - 1]
        eta = v["charge_efficiency"][i]
        return m.e[k] == before + h * (eta * m.c[k] - m.d[k] / eta)

    model.balance = pyo.Constraint(model.k, rule=balance)
    model.site = pyo.Constraint(
        model.t, rule=lambda m, t: m.net[t] == float(horizon.load_kw[t]) + sum(m.c[k] - m.d[k] for k in at[t])
    )
    model.peak = pyo.Constraint(model.t, rule=lambda m, t: m.net[t] <= m.p)
    kappa = float(horizon.demand[KAPPA_WINDOW].price_per_kw[0])
    model.cost = pyo.Objective(
        expr=sum(h * float(horizon.import_price[t]) * model.net[t] for t in model.t)
        + sum(h * v["wear_price_per_kwh"][rows[k]] * model.d[k] for k in model.k) + kappa * model.p
    )  # fmt: skip
    solver = importlib.import_module("pyomo.contrib.appsi.solvers").Highs()
    solver.highs_options = {"threads": 1}
    solver.solve(model)
    found: float = pyo.value(model.cost)
    return found
