"""The lowest peak that any control with perfect foresight could have held: a linear programme over recorded stays.

It uses the same vehicles, needs, shaving window and losses as the controller, knows building load and departures beforehand, and
ignores dead time, ramps and least currents: a bound, not a rival. Time is cut where no vehicle is connected, and a stretch whose
peak is already known to stay below the bound is not solved at all.
"""

import highspy
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Stay(Struct, frozen=True):
    """One vehicle's stay; powers kW at the AC side (magnitudes), energies kWh in the battery."""

    arrived_s: float
    departs_s: float
    charge_kw: float
    discharge_kw: float
    start_kwh: float
    need_kwh: float
    """Battery energy needed at departure."""
    low_kwh: float
    """Shaving never goes below; a vehicle that comes with less is not discharged."""
    high_kwh: float
    efficiency: float


class _Columns(Struct, frozen=True, eq=False):
    """One entry per stay and step."""

    stay: Ints
    step: Ints
    hours: Floats
    first: NDArray[np.bool_]
    last: NDArray[np.bool_]


def lowest_peak_kw(
    stays: list[Stay],
    start_s: float,
    interval_s: float,
    building_kw: Floats,
    reached_kw: Floats,
    sub_intervals: int = 1,
) -> float:
    """Lowest possible highest window mean, kW.

    `building_kw` (m,) are means per (sub-)interval of `interval_s` from `start_s`; `reached_kw` (m,) is what some real control
    reached there (an upper bound that lets most of the time go unsolved); a window is `sub_intervals` of them.
    """
    steps = len(building_kw)
    busy = np.zeros(steps, dtype=np.bool_)
    for stay in stays:
        a, b = _span(stay, start_s, interval_s, steps)
        busy[a:b] = True
    kernel = np.ones(sub_intervals) / sub_intervals
    calm = np.convolve(building_kw, kernel, "valid")
    idle = np.convolve(busy, kernel, "valid") == 0.0
    best = float(calm[idle].max()) if idle.any() else -np.inf
    pieces = _pieces(busy, sub_intervals)
    reached = [
        float(np.convolve(reached_kw[a:b], kernel, "valid").max()) if b - a >= sub_intervals else -np.inf
        for a, b in pieces
    ]
    for index in np.argsort(reached)[::-1]:
        if reached[index] <= best:
            break
        a, b = pieces[index]
        begin_s, end_s = start_s + a * interval_s, start_s + b * interval_s
        inside = [s for s in stays if s.departs_s > begin_s and s.arrived_s < end_s]
        best = max(best, _solve(inside, begin_s, interval_s, building_kw[a:b], sub_intervals))
    return best


def _pieces(busy: NDArray[np.bool_], sub_intervals: int) -> list[tuple[int, int]]:
    """Stretches with vehicles, widened by the window so that every window with a vehicle lies in one."""
    wide = np.convolve(busy, np.ones(2 * sub_intervals - 1), "same") > 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wide, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _span(stay: Stay, start_s: float, interval_s: float, steps: int) -> tuple[int, int]:
    a = int(max(0.0, (stay.arrived_s - start_s) // interval_s))
    b = int(min(steps, -(-(stay.departs_s - start_s) // interval_s)))
    return a, max(a, b)


def _columns(stays: list[Stay], start_s: float, interval_s: float, steps: int) -> _Columns:
    rows: list[tuple[int, int, float, bool, bool]] = []
    for i, stay in enumerate(stays):
        a, b = _span(stay, start_s, interval_s, steps)
        for t in range(a, b):
            begin = start_s + t * interval_s
            seconds = min(stay.departs_s, begin + interval_s) - max(stay.arrived_s, begin)
            rows.append((i, t, max(seconds, 0.0) / 3600.0, t == a, t == b - 1))
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return _Columns(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3] > 0, table[:, 4] > 0
    )


def _solve(stays: list[Stay], start_s: float, interval_s: float, building_kw: Floats, sub_intervals: int) -> float:
    """Minimise the peak P over columns [charge kWh | discharge kWh | energy kWh | P]; energies keep part-time steps exact."""
    steps = len(building_kw)
    cols = _columns(stays, start_s, interval_s, steps)
    n = cols.stay.size
    by = {name: np.array([getattr(s, name) for s in stays])[cols.stay] for name in Stay.__struct_fields__}
    need = np.minimum(by["need_kwh"], by["start_kwh"] + _reachable_kwh(cols, by, len(stays)))
    lower = np.minimum(by["start_kwh"], by["low_kwh"])
    lower = np.where(cols.last, np.maximum(lower, need - 1e-6), lower)
    upper = np.maximum(by["high_kwh"], np.maximum(by["start_kwh"], need))
    previous = np.where(cols.first, by["start_kwh"], 0.0)
    windows = steps - sub_intervals + 1
    hours = interval_s * sub_intervals / 3600.0
    solver = _silent()
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = 3 * n + 1, n + windows
    # A trace of cost on discharge keeps the plan from cycling for nothing.
    lp.col_cost_ = np.concatenate([np.zeros(n), np.full(n, 1e-7), np.zeros(n), [1.0]])
    lp.col_lower_ = np.concatenate([np.zeros(2 * n), lower, [-highspy.kHighsInf]])
    lp.col_upper_ = np.concatenate(
        [by["charge_kw"] * cols.hours, by["discharge_kw"] * cols.hours, upper, [highspy.kHighsInf]]
    )
    load_kwh = np.convolve(building_kw, np.ones(sub_intervals), "valid") * interval_s / 3600.0
    lp.row_lower_ = np.concatenate([previous, np.full(windows, -highspy.kHighsInf)])
    lp.row_upper_ = np.concatenate([previous, -load_kwh])
    _matrix(lp, cols, by["efficiency"], windows, sub_intervals, hours)
    solver.passModel(lp)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        msg = f"the clairvoyant programme ended with {solver.getModelStatus()}: please report the site file and the sessions"
        raise ArithmeticError(msg)
    return float(solver.getSolution().col_value[3 * n])


def _reachable_kwh(cols: _Columns, by: dict[str, Floats], stays: int) -> Floats:
    """Battery energy that full power over the whole stay would add, per column."""
    gain = np.bincount(cols.stay, weights=by["charge_kw"] * cols.hours * by["efficiency"], minlength=stays)
    return np.asarray(gain[cols.stay])


def _matrix(
    lp: highspy.HighsLp, cols: _Columns, efficiency: Floats, windows: int, sub_intervals: int, hours: float
) -> None:
    """Rows: energy balance per column (e_k - e_k-1 - eta c + d/eta), then one per window (sum c - d - P T <= -load)."""
    n = cols.stay.size
    k = np.arange(n)
    triples = [
        (k, k, -efficiency),
        (k, n + k, 1.0 / efficiency),
        (k, 2 * n + k, np.ones(n)),
        (k[~cols.first], 2 * n + k[~cols.first] - 1, -np.ones(int((~cols.first).sum()))),
        (n + np.arange(windows), np.full(windows, 3 * n), np.full(windows, -hours)),
    ]
    for offset in range(sub_intervals):
        window = cols.step - offset
        inside = (window >= 0) & (window < windows)
        triples.append((n + window[inside], k[inside], np.ones(int(inside.sum()))))
        triples.append((n + window[inside], n + k[inside], -np.ones(int(inside.sum()))))
    row = np.concatenate([t[0] for t in triples])
    col = np.concatenate([t[1] for t in triples])
    val = np.concatenate([t[2] for t in triples])
    order = np.lexsort((row, col))
    starts = np.concatenate([[0], np.cumsum(np.bincount(col, minlength=3 * n + 1))])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = starts
    lp.a_matrix_.index_ = row[order]
    lp.a_matrix_.value_ = val[order]


def _silent() -> highspy.Highs:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    return solver
