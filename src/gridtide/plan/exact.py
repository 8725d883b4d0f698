"""The whole problem as one linear programme for HiGHS: exact, and the sampled fleet that gives first prices.

Columns [charge kW | discharge kW | energy kWh, each one per connected vehicle-step | missing kWh per vehicle | profile values
| steps of the demand windows' peaks | slacks]; rows [energy balance | need | definition of the profile values | coupling
rows]. Where charging and discharging at once would pay (negative prices), rows c/C + d/D <= 1, the convex hull of doing one or
the other, are added until none is missing; what then is left to a mixed step shows as a gap.
"""

import highspy
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gridtide.plan.coupling import Coupling
from gridtide.plan.horizon import Bools, Floats, Ints, Vehicles
from gridtide.plan.store import Stores, tapered_kw

_BASIC = int(highspy.HighsBasisStatus.kBasic)
_PRIMAL = 4
"""HiGHS's number for the primal simplex method."""
_STATUS = [highspy.HighsBasisStatus(k) for k in range(3)]
_BOTH_KW = 1e-6
_TAPER_KW = 1e-4
_CUT_ROUNDS = 20
_BEND = (0.0, 0.5)
"""Where the bend of the taper gets its first tangents: at the knee less these shares of a step's energy."""
_IPM_ABOVE = 150_000
"""Columns above which the interior point method is the faster one."""


class SolverError(ArithmeticError):
    """HiGHS ended without an optimum: a defect, since every row is soft."""


class Basis(Struct, frozen=True, eq=False, kw_only=True):
    """Where an optimum stands, laid out by vehicle and step so that it can be carried over to a problem that has moved on.

    Statuses are HiGHS's numbers: 0 lower bound, 1 basic, 2 upper bound.
    """

    entry: NDArray[np.int8]
    """(4, N, T): charge, discharge, energy, energy balance."""
    vehicle: NDArray[np.int8]
    """(2, N): missing energy, need."""
    row: NDArray[np.int8]
    """(2, R): slack (1 where it has none), row."""
    peak: NDArray[np.int8]
    """Segments of the windows' peaks."""
    bent: Bools
    """(N,): vehicles whose taper mattered."""


class Exact(Struct, frozen=True, eq=False, kw_only=True):
    """An optimum of the linear programme."""

    objective: float
    """Includes the building's energy."""
    charge_kw: Floats
    """(N, T)."""
    discharge_kw: Floats
    """(N, T)."""
    dual: Floats
    """(R,) >= 0: price of each coupling row."""
    basis: Basis | None
    """None where the solver ended without one."""


class _Programme(Struct, frozen=True, eq=False, kw_only=True):
    """A linear programme, its matrix by columns."""

    cost: Floats
    lower: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    start: NDArray[np.int32]
    index: NDArray[np.int32]
    value: Floats
    offset: float


class _Layout(Struct, frozen=True, eq=False, kw_only=True):
    """Where things are. `n` vehicle-steps in order of vehicles."""

    row: Ints
    step: Ints
    begins: Ints
    """First entry of each vehicle that is there."""
    ends: Ints
    """Last entry of each."""
    who: Ints
    """Those vehicles."""
    pair: Ints
    """Profile values in use, profile * T + step, rising."""
    segments: int
    n: int
    size: int

    @property
    def z(self) -> int:
        """First profile column."""
        return 3 * self.n + self.who.size

    @property
    def peaks(self) -> int:
        """First segment column."""
        return self.z + self.pair.size

    @property
    def slacks(self) -> int:
        """First slack column."""
        return self.peaks + self.segments


def silent_solver() -> highspy.Highs:
    """HiGHS with one thread and no output."""
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    return solver


def run_to_optimum(solver: highspy.Highs) -> None:
    """Solve; a start that misleads the solver is dropped once. Raises `SolverError` where there is no optimum even so."""
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        solver.clearSolver()
        solver.setOptionValue("solver", "choose")
        solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise SolverError(
            f"the plan's linear programme ended with {solver.getModelStatus()}: please report the site file"
        )


def solve_exact(
    stores: Stores, coupling: Coupling, weight: Floats | None = None, *, hull: bool = True, start: Basis | None = None,
    method: str | None = None, tapered: Vehicles | None = None,
) -> Exact:  # fmt: skip
    """The optimum; `weight` (N,) counts each vehicle so often. Without `hull` charging and discharging at once stays possible.

    `start` is a basis of a like problem; it saves time and changes nothing but which of several optima is found. `method` is
    `simplex` or `ipm`; by default what suits the size. `tapered` are the vehicles whose charging taper is to be held.
    """
    weight = np.ones(stores.first.size) if weight is None else weight
    layout = _layout(stores, coupling)
    lp = _programme(stores, coupling, layout, weight)
    solver = silent_solver()
    solver.setOptionValue("solver", method or ("ipm" if layout.size > _IPM_ABOVE else "simplex"))
    _pass(solver, lp)
    if start is not None:
        solver.setBasis(_to_highs(start, layout, coupling))
        solver.setOptionValue("simplex_strategy", _PRIMAL)  # the last plan still fits, it is no longer the cheapest
    added, bent = np.zeros(layout.n, dtype=np.bool_), np.zeros(stores.first.size, dtype=np.bool_)
    if start is not None and tapered is not None:
        bent |= start.bent
        _add_bends(solver, tapered, stores, layout, np.flatnonzero(bent))
    for _ in range(_CUT_ROUNDS):
        run_to_optimum(solver)
        solution = solver.getSolution()
        column = np.asarray(solution.col_value)
        objective, basic = float(solver.getInfo().objective_function_value), _basic(solver, lp)
        cut = hull and _add_hull(solver, stores, layout, column, added)
        cut |= tapered is not None and _add_taper(solver, tapered, stores, layout, column, bent)
        if not cut:
            break
    rows = np.asarray(solution.row_dual)[layout.n + layout.who.size + layout.pair.size :][: coupling.size]
    charge, discharge = np.zeros_like(stores.limit_kw), np.zeros_like(stores.limit_kw)
    charge[layout.row, layout.step] = column[: layout.n]
    discharge[layout.row, layout.step] = column[layout.n : 2 * layout.n]
    basis = None if basic is None else _basis(*basic, column, lp, layout, stores, coupling, bent)
    return Exact(
        objective=objective, charge_kw=charge, discharge_kw=discharge, dual=np.maximum(-rows, 0.0), basis=basis
    )


def _pass(solver: highspy.Highs, lp: _Programme) -> None:
    solver.passModel(
        lp.cost.size, lp.row_lower.size, lp.value.size, int(highspy.MatrixFormat.kColwise), int(highspy.ObjSense.kMinimize),
        lp.offset, lp.cost, lp.lower, lp.upper, lp.row_lower, lp.row_upper, lp.start, lp.index, lp.value,
        np.zeros(lp.cost.size, dtype=np.int32),
    )  # fmt: skip


def _basic(solver: highspy.Highs, lp: _Programme) -> tuple[Bools, Bools] | None:
    """Which columns and which rows (without those added later) are basic; None where the solver ended without a basis."""
    status, number = solver.getBasicVariables()  # type: ignore[attr-defined]
    if status != highspy.HighsStatus.kOk:
        return None
    col, row = np.zeros(lp.cost.size, dtype=np.bool_), np.zeros(lp.row_lower.size, dtype=np.bool_)
    col[number[number >= 0]] = True
    rows = -1 - number[number < 0]
    row[rows[rows < row.size]] = True
    return col, row


def _basis(
    basic_col: Bools, basic_row: Bools, column: Floats, lp: _Programme, at: _Layout, stores: Stores, coupling: Coupling,
    bent: Bools,
) -> Basis:  # fmt: skip
    col = np.where(column - lp.lower > lp.upper - column, np.int8(2), np.int8(0))
    col[basic_col] = _BASIC
    row = basic_row.astype(np.int8)  # the others rest at the one bound they have
    n, people = at.n, at.who.size
    entry = np.zeros((4, *stores.limit_kw.shape), dtype=np.int8)
    for k, part in enumerate((col[:n], col[n : 2 * n], col[2 * n : 3 * n], row[:n])):
        entry[k, at.row, at.step] = part
    vehicle = np.zeros((2, stores.first.size), dtype=np.int8)
    vehicle[0, at.who], vehicle[1, at.who] = col[3 * n : at.z], row[n : n + people]
    rows = np.full((2, coupling.size), _BASIC, dtype=np.int8)
    rows[0, coupling.window < 0] = col[at.slacks : at.size]
    rows[1] = row[n + people + at.pair.size :]
    return Basis(entry=entry, vehicle=vehicle, row=rows, peak=col[at.peaks : at.slacks], bent=bent)


def _to_highs(basis: Basis, at: _Layout, coupling: Coupling) -> highspy.HighsBasis:
    col = np.concatenate([
        *(basis.entry[k, at.row, at.step] for k in range(3)), basis.vehicle[0, at.who], np.full(at.pair.size, _BASIC),
        basis.peak if basis.peak.size == at.segments else np.zeros(at.segments), basis.row[0, coupling.window < 0],
    ])  # fmt: skip
    row = np.concatenate(
        [basis.entry[3, at.row, at.step], basis.vehicle[1, at.who], np.zeros(at.pair.size), basis.row[1]]
    )
    found = highspy.HighsBasis()
    # Alien: HiGHS completes what does not make a basis.
    found.valid, found.alien = True, True
    found.col_status = [_STATUS[k] for k in col.astype(np.int64).tolist()]
    found.row_status = [_STATUS[k] for k in row.astype(np.int64).tolist()]
    return found


def _layout(stores: Stores, coupling: Coupling) -> _Layout:
    who = np.flatnonzero(stores.first <= stores.last)
    counts = (stores.last - stores.first + 1)[who]
    ends = np.cumsum(counts) - 1
    begins = ends - counts + 1
    row = np.repeat(who, counts)
    n = row.size
    step = np.arange(n) - np.repeat(begins, counts) + stores.first[row]
    site = np.arange(stores.hours.size)
    pair = np.union1d(site, coupling.profile * stores.hours.size + coupling.step)
    segments = sum(price.size for price in coupling.window_price)
    own = int((coupling.window < 0).sum())
    size = 3 * n + who.size + pair.size + segments + own
    return _Layout(row=row, step=step, begins=begins, ends=ends, who=who, pair=pair, segments=segments, n=n, size=size)


def _programme(stores: Stores, coupling: Coupling, at: _Layout, weight: Floats) -> _Programme:
    previous = np.zeros(at.n)
    previous[at.begins] = stores.table[at.who, 6]
    inf, need = highspy.kHighsInf, stores.table[at.who, 7]
    # The peak of a window starts at `from_kw[0]`: its rows' limit moves by it.
    from_kw = np.array([f[0] for f in coupling.window_from] + [0.0])
    rhs = coupling.rhs + from_kw[coupling.window]
    cost, lower, upper = _columns(stores, coupling, at, weight)
    row, col, val = _entries(stores, coupling, at, weight)
    order = np.argsort(col, kind="stable")
    start = np.zeros(at.size + 1, dtype=np.int32)
    np.cumsum(np.bincount(col, minlength=at.size), out=start[1:])
    return _Programme(
        cost=cost, lower=lower, upper=upper,
        row_lower=np.concatenate([previous, need, np.zeros(at.pair.size), np.full(coupling.size, -inf)]),
        row_upper=np.concatenate([previous, np.full(at.who.size, inf), np.zeros(at.pair.size), rhs]),
        start=start, index=row[order].astype(np.int32), value=val[order], offset=coupling.base_cost,
    )  # fmt: skip


def _columns(stores: Stores, coupling: Coupling, at: _Layout, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Cost, lower and upper bound of every column."""
    table, hours = stores.table[at.row], stores.hours[at.step]
    times = weight[at.row]
    energy_cost = times * table[:, 11] * hours
    left = weight[at.who] * stores.table[at.who, 9]
    energy_cost[at.ends] -= left
    missing = weight[at.who] * (stores.table[at.who, 8] - stores.table[at.who, 9])
    steps = stores.hours.size
    profile_cost = np.where(at.pair < steps, (coupling.prices.import_price * stores.hours)[at.pair % steps], 0.0)
    widths = [np.append(np.diff(f), highspy.kHighsInf) for f in coupling.window_from]
    slack = coupling.slack_price[coupling.window < 0]
    inf = highspy.kHighsInf
    free = np.zeros(3 * at.n + at.who.size)
    free[2 * at.n : 3 * at.n] = table[:, 5]
    peaks = np.concatenate([np.zeros(0), *coupling.window_price])
    cost = [np.zeros(at.n), times * table[:, 10] * hours, energy_cost, missing, profile_cost, peaks, slack]
    lower = [free, np.full(at.pair.size, -inf), np.zeros(at.segments + slack.size)]
    upper = [
        stores.limit_kw[at.row, at.step], table[:, 1], table[:, 4], np.full(at.who.size + at.pair.size, inf),
        np.concatenate([np.zeros(0), *widths]), np.full(slack.size, inf),
    ]  # fmt: skip
    return np.concatenate(cost), np.concatenate(lower), np.concatenate(upper)


def _entries(stores: Stores, coupling: Coupling, at: _Layout, weight: Floats) -> tuple[Ints, Ints, Floats]:
    """The matrix as triples."""
    n, k = at.n, np.arange(at.n)
    table, hours, steps = stores.table[at.row], stores.hours[at.step], stores.hours.size
    later = np.ones(n, dtype=np.bool_)
    later[at.begins] = False
    who = np.arange(at.who.size)
    define = n + at.who.size
    bound = define + at.pair.size
    triples = [
        (k, k, -hours * table[:, 2]),
        (k, n + k, hours / table[:, 3]),
        (k, 2 * n + k, np.ones(n)),
        (k[later], 2 * n + k[later] - 1, np.full(int(later.sum()), -1.0)),
        (n + who, 2 * n + at.ends, np.ones(who.size)),
        (n + who, 3 * n + who, np.ones(who.size)),
        (define + np.arange(at.pair.size), at.z + np.arange(at.pair.size), np.full(at.pair.size, -1.0)),
    ]
    times = weight[at.row]
    power = [(0, times), (n, -times)]
    triples += _reads(at, np.zeros(n, dtype=np.int64), steps, power)
    triples += _reads(at, stores.price_row[at.row], steps, power, only=stores.price_row[at.row] > 0)
    if coupling.stored:
        for number, factor in ((1, table[:, 3]), (2, 1.0 / table[:, 2])):
            profile = np.full(n, coupling.groups + number)
            triples += _reads(at, profile, steps, [(2 * n, times * factor)])
    r = np.arange(coupling.size)
    z = at.z + np.searchsorted(at.pair, coupling.profile * steps + coupling.step)
    triples.append((bound + r, z, coupling.coef))
    first = np.concatenate([[0], np.cumsum([p.size for p in coupling.window_price])]).astype(np.int64)
    for w, price in enumerate(coupling.window_price):
        rows = np.flatnonzero(coupling.window == w)
        for s in range(price.size):
            triples.append((bound + rows, np.full(rows.size, at.peaks + first[w] + s), np.full(rows.size, -1.0)))
    own = np.flatnonzero(coupling.window < 0)
    triples.append((bound + own, at.slacks + np.arange(own.size), np.full(own.size, -1.0)))
    row, col, val = (np.concatenate(parts) for parts in zip(*triples, strict=True))
    return row, col, val


def _reads(
    at: _Layout, profile: Ints, steps: int, terms: list[tuple[int, Floats]], only: Bools | None = None
) -> list[tuple[Ints, Ints, Floats]]:
    """Entries of the vehicle-steps in the definitions of their profile's values; (first column, factor) per term."""
    pair = profile * steps + at.step
    place = np.minimum(np.searchsorted(at.pair, pair), at.pair.size - 1)
    used = at.pair[place] == pair
    k = np.flatnonzero(used if only is None else used & only)
    define = at.n + at.who.size
    return [(define + place[k], start + k, factor[k]) for start, factor in terms]


def _add_hull(solver: highspy.Highs, stores: Stores, at: _Layout, column: Floats, added: Bools) -> bool:
    """Rows c/C + d/D <= 1 where both are in use and the row is missing; whether any was."""
    charge, discharge = column[: at.n], column[at.n : 2 * at.n]
    most, give = stores.limit_kw[at.row, at.step], stores.table[at.row, 1]
    both = (charge > _BOTH_KW) & (discharge > _BOTH_KW) & ~added
    both &= charge / np.maximum(most, 1e-9) + discharge / np.maximum(give, 1e-9) > 1.0 + 1e-9
    k = np.flatnonzero(both)
    if k.size == 0:
        return False
    added[k] = True
    index = np.column_stack([k, at.n + k]).ravel().astype(np.int32)
    value = np.column_stack([1.0 / most[k], 1.0 / give[k]]).ravel()
    starts = (2 * np.arange(k.size)).astype(np.int32)
    solver.addRows(k.size, np.full(k.size, -highspy.kHighsInf), np.ones(k.size), 2 * k.size, starts, index, value)
    return True


def _add_taper(
    solver: highspy.Highs, vehicles: Vehicles, stores: Stores, at: _Layout, column: Floats, bent: Bools
) -> bool:
    """Tangents of the taper where the plan charges beyond it; whether it did anywhere.

    `bent` (N,): vehicles that had theirs before; changed in place.
    """
    before = np.concatenate([[0.0], column[2 * at.n : 3 * at.n - 1]])
    before[at.begins] = stores.table[at.who, 6]
    limit, _ = _tangent(vehicles, stores, at, before)
    k = np.flatnonzero(column[: at.n] > limit + _TAPER_KW)
    if k.size == 0:
        return False
    _add_tangents(solver, vehicles, stores, at, before, k)
    _add_bends(solver, vehicles, stores, at, np.setdiff1d(at.row[k], np.flatnonzero(bent)))
    bent[at.row[k]] = True
    return True


def _add_bends(solver: highspy.Highs, vehicles: Vehicles, stores: Stores, at: _Layout, who: Ints) -> None:
    """The taper's tangents for all steps of the vehicles `who`: above the knee it is a straight line in the energy,
    below, where only the end of a step tapers, it bends."""
    k = np.flatnonzero(np.isin(at.row, who))
    knee_kwh = (vehicles.knee_soc * vehicles.capacity_kwh)[at.row]
    step_kwh = vehicles.charge_kw[at.row] * vehicles.charge_efficiency[at.row] * stores.hours[at.step]
    for share in _BEND:
        _add_tangents(solver, vehicles, stores, at, np.maximum(knee_kwh - share * step_kwh, 0.0), k)


def _tangent(vehicles: Vehicles, stores: Stores, at: _Layout, energy_kwh: Floats) -> tuple[Floats, Floats]:
    """Charging limit at a vehicle-step that starts with `energy_kwh` (n,), and its slope (<= 0) per kWh."""
    delta = 1e-5 * stores.table[:, 4:5] + 1e-9
    table = np.zeros_like(stores.limit_kw)
    table[at.row, at.step] = energy_kwh
    limit, above = (tapered_kw(vehicles, stores.hours, e)[at.row, at.step] for e in (table, table + delta))
    return limit, np.minimum((above - limit) / delta[at.row, 0], 0.0)


def _add_tangents(
    solver: highspy.Highs, vehicles: Vehicles, stores: Stores, at: _Layout, energy_kwh: Floats, k: Ints
) -> None:
    """Rows charge - slope * energy before <= limit - slope * energy_kwh for the vehicle-steps `k`."""
    if k.size == 0:
        return
    limit, slope = _tangent(vehicles, stores, at, energy_kwh)
    start = np.zeros(at.n, dtype=np.bool_)
    start[at.begins] = True
    upper = (limit - slope * energy_kwh)[k]
    upper += np.where(start[k], slope[k] * stores.table[at.row[k], 6], 0.0)
    index = np.column_stack([k, 2 * at.n + np.maximum(k - 1, 0)]).ravel().astype(np.int32)
    value = np.column_stack([np.ones(k.size), np.where(start[k], 0.0, -slope[k])]).ravel()
    begins = (2 * np.arange(k.size)).astype(np.int32)
    solver.addRows(k.size, np.full(k.size, -highspy.kHighsInf), upper, 2 * k.size, begins, index, value)
