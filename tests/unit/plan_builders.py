"""Problems for the planner with plain defaults, and the same problem written once more as one dense linear programme."""

from typing import Any

import highspy
import numpy as np

from gridtide.plan.horizon import DemandWindow, Horizon, Reserve, Vehicles, demand_window

Floats = np.ndarray
_INTS = ("first", "last", "group")


def vehicles(size: int, steps: int, **columns: Any) -> Vehicles:
    """10 kW both ways, 95 % one way, 8..40 kWh, connected all the time with 20 kWh and in need of 20, unless told otherwise."""
    values: dict[str, Any] = {
        "first": 0, "last": steps - 1, "charge_kw": 10.0, "discharge_kw": 10.0, "charge_efficiency": 0.95,
        "discharge_efficiency": 0.95,
        "capacity_kwh": 40.0, "least_kwh": 8.0, "energy_kwh": 20.0, "required_kwh": 20.0, "need_price_per_kwh": 10.0,
        "left_value_per_kwh": 0.0, "wear_price_per_kwh": 0.02, "calendar_price_per_kwh_h": 0.0, "group": -1, "knee_soc": 1.0,
        "taper_kw": 9.5,
    }  # fmt: skip
    limit = columns.pop("charge_limit_kw", None)
    assert columns.keys() <= values.keys(), f"no such columns: {sorted(columns)}"
    found: dict[str, Any] = {
        name: np.array(np.broadcast_to(np.asarray(value, dtype=np.int64 if name in _INTS else np.float64), (size,)))
        for name, value in (values | columns).items()
    }
    return Vehicles(keys=tuple(f"ev-{k}" for k in range(size)), charge_limit_kw=limit, **found)


def horizon(steps: int, price: Any = 0.2, **fields: Any) -> Horizon:
    """Hourly steps of an empty building without limits; export earns what import costs; all quantiles are the median."""
    one = np.ones(steps)
    load = one * fields.pop("load_kw", 0.0)
    values: dict[str, Any] = {
        "hours": 1.0, "load_high_kw": load, "load_low_kw": load, "import_price": price, "export_price": price,
        "import_cap_kw": np.inf, "floor_kw": -np.inf,
    }  # fmt: skip
    columns = {name: one * fields.pop(name, value) for name, value in values.items()}
    return Horizon(start_s=fields.pop("start_s", 0.0), load_kw=load, **columns, **fields)


def flat(steps: int, price_per_kw: float, billed_kw: float = 0.0) -> DemandWindow:
    """One register over all steps."""
    return demand_window("flat", np.ones(steps, dtype=np.bool_), price_per_kw, billed_kw)


def random_problem(seed: int, size: int, steps: int, kind: str = "plain") -> tuple[Horizon, Vehicles]:
    """Stays, prices and limits drawn at random; `kind` adds what is hard."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, max(1, steps // 2), size)
    last = np.minimum(first + rng.integers(1, steps, size), steps - 1)
    power, capacity = rng.choice([3.7, 7.4, 11.0, 22.0], size), rng.uniform(20.0, 100.0, size)
    energy = rng.uniform(0.05, 0.9, size) * capacity
    fleet = vehicles(
        size, steps, first=first, last=last, charge_kw=power, discharge_kw=power * rng.choice([0.0, 0.5, 1.0], size),
        charge_efficiency=rng.uniform(0.85, 1.0, size), discharge_efficiency=rng.uniform(0.85, 1.0, size), capacity_kwh=capacity,
        least_kwh=0.1 * capacity, energy_kwh=energy, required_kwh=rng.uniform(0.2, 1.0, size) * capacity,
        wear_price_per_kwh=rng.uniform(0.0, 0.05, size), calendar_price_per_kwh_h=rng.choice([0.0, 2e-4], size),
        left_value_per_kwh=np.where(last == steps - 1, rng.uniform(0.0, 0.2), 0.0),
        group=rng.integers(-1, 2, size) if kind == "groups" else -1,
    )  # fmt: skip
    price = rng.uniform(0.02, 0.5, steps) - (0.3 if kind == "negative" else 0.0)
    load = rng.uniform(1.0, 8.0) * size * rng.uniform(0.4, 1.0, steps)
    fields: dict[str, Any] = {}
    if kind == "groups":
        fields |= {
            "group_cap_kw": 0.4 * size * rng.uniform(3.0, 9.0, 2),
            "group_export_kw": 0.3 * size * rng.uniform(1.0, 9.0, 2),
        }
    if kind == "reserve":
        fields["reserve"] = Reserve(
            up_kw=rng.uniform(0.0, 4.0, steps) * size,
            down_kw=rng.uniform(0.0, 3.0, steps) * size,
            endurance_h=1.0,
            penalty_per_kw_h=0.4,
        )
    if kind == "tight":
        fields["import_cap_kw"] = load.max() * rng.uniform(0.7, 1.1, steps)
    evening = np.arange(steps) >= steps // 2
    windows = (
        flat(steps, rng.uniform(0.1, 2.0), load.max() * 0.5),
        demand_window("late", evening, 0.7, 0.0, (load.max() * 0.8, load.max())),
    )
    site = horizon(
        steps, price, load_kw=load, load_high_kw=load * 1.1, load_low_kw=load * 0.9, export_price=price - rng.uniform(0.0, 0.05),
        floor_kw=0.0 if kind == "plain" else -2.0 * size, hours=rng.choice([0.25, 0.5, 1.0], steps), demand=windows, **fields,
    )  # fmt: skip
    return site, fleet


class _Dense:
    """A dense programme that grows column by column and row by row."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.upper: list[float] = []
        self.rows: list[tuple[dict[int, float], float, float]] = []

    def var(self, cost: float, upper: float = np.inf) -> int:
        self.cost.append(cost)
        self.upper.append(upper)
        return len(self.cost) - 1

    def row(self, terms: dict[int, float], lower: float, upper: float) -> None:
        self.rows.append((terms, lower, upper))

    def optimum(self) -> float:
        solver = highspy.Highs()  # type: ignore[no-untyped-call]
        solver.setOptionValue("output_flag", False)
        for cost, upper in zip(self.cost, self.upper, strict=True):
            solver.addCol(cost, 0.0, upper, 0, np.zeros(0, dtype=np.int32), np.zeros(0))
        for terms, lower, upper in self.rows:
            index = np.fromiter(terms.keys(), dtype=np.int32)
            solver.addRow(lower, upper, index.size, index, np.fromiter(terms.values(), dtype=np.float64))
        solver.run()
        assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return float(solver.getInfo().objective_function_value)


def whole_lp(h: Horizon, v: Vehicles) -> float:
    """The least cost, from a programme without energy or profile columns: energies are sums of powers, import and export two
    columns.

    Charging and discharging at once is held to the hull c/C + d/D <= 1 in every step.
    """
    lp, steps = _Dense(), h.steps
    net: list[dict[int, float]] = [{} for _ in range(steps)]
    group: list[list[dict[int, float]]] = [[{} for _ in range(steps)] for _ in h.group_cap_kw]
    up_e: list[tuple[dict[int, float], float]] = [({}, 0.0) for _ in range(steps)]
    down_e: list[tuple[dict[int, float], float]] = [({}, 0.0) for _ in range(steps)]
    up_p, down_p = np.zeros(steps), np.zeros(steps)
    constant = 0.0
    for i in range(v.size):
        least, capacity = min(v.least_kwh[i], v.energy_kwh[i]), max(v.capacity_kwh[i], v.energy_kwh[i])
        eta_c, eta_d = v.charge_efficiency[i], v.discharge_efficiency[i]
        stored: dict[int, float] = {}
        start = v.energy_kwh[i]
        for t in range(v.first[i], v.last[i] + 1):
            most = v.charge_kw[i] if v.charge_limit_kw is None else min(v.charge_kw[i], v.charge_limit_kw[i, t])
            c, d = lp.var(0.0, most), lp.var(v.wear_price_per_kwh[i] * h.hours[t], v.discharge_kw[i])
            if most > 0.0 and v.discharge_kw[i] > 0.0:
                lp.row({c: 1.0 / most, d: 1.0 / v.discharge_kw[i]}, -np.inf, 1.0)
            net[t] |= {c: 1.0, d: -1.0}
            if v.group[i] >= 0:
                group[v.group[i]][t] |= {c: 1.0, d: -1.0}
            stored = stored | {c: eta_c * h.hours[t], d: -h.hours[t] / eta_d}
            lp.row(stored, least - start, capacity - start)
            for k, rate in stored.items():
                lp.cost[k] += v.calendar_price_per_kwh_h[i] * h.hours[t] * rate
            constant += v.calendar_price_per_kwh_h[i] * h.hours[t] * start
            up_p[t] += v.discharge_kw[i]
            down_p[t] += most
            up_e[t] = (up_e[t][0] | {k: eta_d * r for k, r in stored.items()}, up_e[t][1] + eta_d * (start - least))
            down_e[t] = (
                down_e[t][0] | {k: -r / eta_c for k, r in stored.items()},
                down_e[t][1] + (capacity - start) / eta_c,
            )
        if v.first[i] > v.last[i]:
            continue
        required = np.clip(v.required_kwh[i], least, capacity)
        short = lp.var(v.need_price_per_kwh[i] - v.left_value_per_kwh[i])
        lp.row(stored | {short: 1.0}, required - start, np.inf)
        for k, rate in stored.items():
            lp.cost[k] -= v.left_value_per_kwh[i] * rate
        constant -= v.left_value_per_kwh[i] * start
    _site_rows(lp, h, net, group)
    if h.reserve is not None:
        for t in range(steps):
            price, last = h.reserve.penalty_per_kw_h * h.hours[t], h.reserve.endurance_h
            up, down = h.reserve.up_kw[t], h.reserve.down_kw[t]
            lp.row(net[t] | {lp.var(price): 1.0}, up - up_p[t], np.inf)
            lp.row({k: -x for k, x in net[t].items()} | {lp.var(price): 1.0}, down - down_p[t], np.inf)
            for (terms, now), wanted in ((up_e[t], up), (down_e[t], down)):
                lp.row({k: x / last for k, x in terms.items()} | {lp.var(price): 1.0}, wanted - now / last, np.inf)
    return lp.optimum() + constant


def _site_rows(lp: _Dense, h: Horizon, net: list[dict[int, float]], group: list[list[dict[int, float]]]) -> None:
    inf, limit = np.inf, h.limit_price_per_kwh
    up = h.reserve.up_kw if h.reserve else np.zeros(h.steps)
    down = h.reserve.down_kw if h.reserve else np.zeros(h.steps)
    segments = []
    for w in h.demand:
        widths = np.append(np.diff(w.from_kw), inf)
        segments.append({lp.var(p, width): -1.0 for p, width in zip(w.price_per_kw, widths, strict=True)})
    for t in range(h.steps):
        dt = h.hours[t]
        bought, sold = lp.var(h.import_price[t] * dt), lp.var(-h.export_price[t] * dt)
        lp.row(net[t] | {bought: -1.0, sold: 1.0}, -h.load_kw[t], -h.load_kw[t])
        for w, parts in zip(h.demand, segments, strict=True):
            if w.mask[t]:
                share = h.hours[0] / (h.hours[0] + h.begun_h) if t == 0 else 1.0
                begun = h.begun_kwh / (h.hours[0] + h.begun_h) if t == 0 else 0.0
                lp.row(
                    {k: share * x for k, x in net[t].items()} | parts,
                    -inf,
                    w.from_kw[0] - share * h.load_high_kw[t] - begun,
                )
        if np.isfinite(h.import_cap_kw[t]):
            lp.row(net[t] | {lp.var(limit * dt): -1.0}, -inf, h.import_cap_kw[t] - down[t] - h.load_high_kw[t])
        if np.isfinite(h.floor_kw[t]):
            lp.row(net[t] | {lp.var(limit * dt): 1.0}, h.floor_kw[t] + up[t] - h.load_low_kw[t], inf)
        for j, cap in enumerate(h.group_cap_kw):
            lp.row(group[j][t] | {lp.var(limit * dt): -1.0}, -inf, cap)
            if h.group_export_kw.size:
                lp.row(group[j][t] | {lp.var(limit * dt): 1.0}, -h.group_export_kw[j], inf)
