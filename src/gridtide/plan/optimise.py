"""The planner: what every vehicle should draw or give over the hours ahead, what peak to hold, and how good that provably is.

Few vehicles: one exact linear programme (`exact`). Many: every vehicle's own best plan against common prices, mixed with a
certified gap (`fleet`). One objective holds energy, demand over the billing period, wear, ageing, missed needs, limits and
promises. Nothing makes a plan impossible: what cannot be met is left out and listed.

The charging taper is part of the exact programme. For a large fleet it is a bound per step at the planned charge, planned
again up to `taper_rounds` times; the gap is then certified against the problem without taper, so the taper's own cost shows in
it.
"""

from collections.abc import Callable

import numpy as np
from msgspec import Struct, structs

from gridtide.plan.coupling import KINDS, Coupling, admissible, couple
from gridtide.plan.exact import Basis, solve_exact
from gridtide.plan.fleet import FleetSettings, solve_fleet
from gridtide.plan.horizon import Floats, Horizon, Vehicles, check
from gridtide.plan.memory import Memory, basis_for, points_for, remember
from gridtide.plan.result import Costs, Flow, Shortfall, follow, peaks, price_of, shortfalls
from gridtide.plan.store import Stores, prepare, tapered_kw

_TAPER_KWH = 0.01
_TINY = 1e-9


class Settings(Struct, frozen=True, kw_only=True):
    """How plans are made."""

    exact_below: int = 150
    """Fewer vehicles than this are planned exactly."""
    fleet: FleetSettings = FleetSettings()
    taper_rounds: int = 4
    """How often a large fleet's plan is made again with the taper at its own charge."""


class Plan(Struct, frozen=True, eq=False, kw_only=True):
    """A plan and what is known of it. + is charging and import."""

    keys: tuple[str, ...]
    power_kw: Floats
    """(N, T): AC power of each vehicle."""
    energy_kwh: Floats
    """(N, T): in the battery at the end of each step."""
    site_kw: Floats
    """(T,): net power of the site with the median load."""
    site_high_kw: Floats
    """(T,): with the high load."""
    windows: tuple[str, ...]
    peak_kw: Floats
    """(W,): peak target of each demand window: what the plan holds with the high load, not below what is billed anyway."""
    value_per_kw: Floats
    """(W,): what one more kW of peak would save elsewhere: the value of the next kW."""
    room_value_per_kw: Floats
    """(T,): what a kW less of load would save in each step: peaks and import cap together."""
    costs: Costs
    bound: float
    """No plan costs less."""
    gap: float
    """(cost - bound) / |cost|: certified."""
    shortfalls: tuple[Shortfall, ...]
    method: str
    """`exact` or `fleet`."""
    rounds: int
    """Rounds of the master programme; 0 for an exact plan."""
    cpu_s: float | None = None
    """Told by `Planner` where it has a timer."""


class _Problem(Struct, frozen=True, eq=False):
    horizon: Horizon
    vehicles: Vehicles
    stores: Stores
    coupling: Coupling


class _Solved(Struct, frozen=True, eq=False, kw_only=True):
    flow: Flow
    costs: Costs
    coupling: Coupling
    """Whose rows `dual` and `points` are for."""
    dual: Floats
    bound: float
    points: Floats
    basis: Basis | None
    rounds: int
    method: str


def optimise(
    horizon: Horizon, vehicles: Vehicles, settings: Settings | None = None, memory: Memory | None = None
) -> tuple[Plan, Memory]:
    """The plan of a problem, and what the next one can start from. Same arguments, same plan.

    Raises `HorizonError` for columns that are no problem at all; never for one that cannot be met.
    """
    check(horizon, vehicles)
    settings = settings or Settings()
    problem = _problem(horizon, vehicles)
    solved = _solve(problem, problem, settings, memory)
    if solved.method == "fleet" and (vehicles.knee_soc < 1.0).any():
        solved = _taper(problem, solved, settings)
    left = remember(horizon, vehicles, solved.coupling, solved.points, solved.basis)
    return _plan(problem, solved), left


def _problem(horizon: Horizon, vehicles: Vehicles) -> _Problem:
    stores = prepare(horizon, vehicles)
    return _Problem(horizon, vehicles, stores, couple(horizon, vehicles, stores))


def _solve(true: _Problem, asked: _Problem, settings: Settings, memory: Memory | None) -> _Solved:
    """The plan of the problem `asked`, followed and priced in the `true` one."""
    horizon, vehicles, stores, coupling = asked.horizon, asked.vehicles, asked.stores, asked.coupling
    basis, rounds, method = None, 0, "exact"
    if vehicles.size < max(settings.exact_below, 1):
        start = basis_for(memory, horizon, vehicles, coupling) if memory else None
        tapered = vehicles if (vehicles.knee_soc < 1.0).any() else None
        exact = solve_exact(stores, coupling, start=start, tapered=tapered)
        power, bound, dual, basis = exact.charge_kw - exact.discharge_kw, exact.objective, exact.dual, exact.basis
        points = dual[None, :]
    else:
        method = "fleet"
        start_points = points_for(memory, horizon, coupling) if memory else None
        mixed = solve_fleet(horizon, stores, coupling, settings.fleet, start_points)
        power, bound, dual, points, rounds = mixed.power_kw, mixed.bound, mixed.dual, mixed.points, mixed.rounds
    flow = follow(true.horizon, true.vehicles, true.stores, power)
    return _Solved(
        flow=flow, costs=price_of(true.horizon, true.vehicles, true.stores, true.coupling, flow), coupling=coupling,
        dual=admissible(coupling, dual), bound=bound, points=points, basis=basis, rounds=rounds, method=method,
    )  # fmt: skip


def _taper(problem: _Problem, first: _Solved, settings: Settings) -> _Solved:
    """Plan again with charging limits at the charge that the last plan reached, and with what it missed asked for on top, so
    that it is charged earlier; the cheapest of all. The bound stays the first one's, which knows no taper: it holds whatever
    the limits were."""
    horizon, vehicles = problem.horizon, problem.vehicles
    best = last = first
    asked = vehicles
    for _ in range(settings.taper_rounds):
        missing = np.maximum(vehicles.required_kwh - last.flow.energy_kwh[:, -1], 0.0)
        if missing.max(initial=0.0) < _TAPER_KWH:
            break
        begin = np.concatenate([problem.stores.table[:, 6:7], last.flow.energy_kwh[:, :-1]], axis=1)
        limit = np.minimum(tapered_kw(vehicles, horizon.hours, begin), problem.stores.limit_kw)
        asked = structs.replace(asked, required_kwh=asked.required_kwh + missing, charge_limit_kw=limit)
        memory = remember(horizon, vehicles, last.coupling, last.points, None)
        last = _solve(problem, _problem(horizon, asked), settings, memory)
        if last.costs.total < best.costs.total:
            best = structs.replace(last, bound=first.bound)
    return best


def _plan(problem: _Problem, solved: _Solved) -> Plan:
    horizon, vehicles, coupling, flow = problem.horizon, problem.vehicles, solved.coupling, solved.flow
    fleet_kw, cost = flow.power_kw.sum(axis=0), solved.costs.total
    rows = np.isin(coupling.kind, [KINDS.index("peak"), KINDS.index("import_cap")])
    worth = (solved.dual * coupling.coef)[rows]
    room = np.bincount(coupling.step[rows], weights=worth, minlength=horizon.steps).astype(np.float64)
    return Plan(
        keys=vehicles.keys, power_kw=flow.power_kw, energy_kwh=flow.energy_kwh, site_kw=horizon.load_kw + fleet_kw,
        site_high_kw=horizon.load_high_kw + fleet_kw, windows=tuple(w.name for w in horizon.demand),
        peak_kw=peaks(horizon, fleet_kw),
        value_per_kw=np.array([solved.dual[coupling.window == k].sum() for k in range(len(horizon.demand))]),
        room_value_per_kw=room,
        costs=solved.costs, bound=solved.bound, gap=(cost - solved.bound) / max(abs(cost), _TINY),
        shortfalls=shortfalls(horizon, vehicles, problem.stores, problem.coupling, flow),
        method=solved.method, rounds=solved.rounds,
    )  # fmt: skip


class Planner:
    """Plans again and again: keeps what the last plan left, and answers the same question with the same plan."""

    def __init__(self, settings: Settings | None = None, timer: Callable[[], float] | None = None) -> None:
        """`timer` tells CPU seconds (`time.process_time`); without it plans say nothing of their time."""
        self._settings = settings or Settings()
        self._timer = timer
        self._memory: Memory | None = None
        self._last: tuple[Horizon, Vehicles, Plan] | None = None

    def plan(self, horizon: Horizon, vehicles: Vehicles) -> Plan:
        """The plan for these hours; starts from the last one. Raises as `optimise` does."""
        if self._last and _same(self._last[0], horizon) and _same(self._last[1], vehicles):
            return self._last[2]
        began = self._timer() if self._timer else 0.0
        plan, self._memory = optimise(horizon, vehicles, self._settings, self._memory)
        if self._timer:
            plan = structs.replace(plan, cpu_s=self._timer() - began)
        self._last = (horizon, vehicles, plan)
        return plan

    def forget(self) -> None:
        """Start the next plan from nothing."""
        self._memory, self._last = None, None


def _same(a: object, b: object) -> bool:
    """Whether two structs of arrays hold the same."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and np.array_equal(a, b)
    if isinstance(a, Struct):
        return type(a) is type(b) and all(_same(getattr(a, n), getattr(b, n)) for n in a.__struct_fields__)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b
