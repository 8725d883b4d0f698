"""The restricted master programme of a large fleet: shares of each block's plans, the demand windows' peaks, and slacks.

Its columns come from the vehicles' answers, its rows from the coupling table: those of the site from the start, those of
groups once the mixed plan touches them. HiGHS keeps its basis from one solve to the next.
"""

import highspy
import numpy as np

from gridtide.plan.coupling import Coupling
from gridtide.plan.exact import run_to_optimum, silent_solver
from gridtide.plan.horizon import Floats, Ints
from gridtide.plan.store import Answer, Stores

_USED = 1e-7
_PRIMAL_SIMPLEX = 4
_VIOLATED_KW = 1e-4
_NEAR = 0.05
"""Rows this close to their limit (a share of it) come in together with those that are violated."""


class Master:
    """The programme and its columns."""

    def __init__(self, stores: Stores, coupling: Coupling) -> None:
        self.coupling, self.stores = coupling, stores
        self.steps, self.blocks = stores.hours.size, stores.blocks
        self.block_group = np.zeros(stores.blocks, dtype=np.int64)
        self.block_group[stores.block] = stores.price_row
        self.solver = silent_solver()
        # New columns leave a basis primal feasible: the primal simplex goes on from there.
        self.solver.setOptionValue("simplex_strategy", _PRIMAL_SIMPLEX)
        self.objective = np.inf
        self.column = np.zeros(0)
        """Values of the last solution."""
        self.profile = np.zeros((0, 3, self.steps))
        """Per share: power, stored up, stored down."""
        self.block = np.zeros(0, dtype=np.int64)
        """Per share: its block."""
        self.answer = np.zeros(0, dtype=np.int64)
        """Per share: the number of the answer it comes from."""
        self.share = np.zeros(0, dtype=np.int64)
        """Per share: its column."""
        self.place = np.full(coupling.size, -1)
        """Per coupling row: its row; -1 is not in yet."""
        self.first_segment = np.concatenate([[0], np.cumsum([p.size for p in coupling.window_price])]).astype(np.int64)
        self._begin()

    def _begin(self) -> None:
        """Convexity rows, the windows' columns and the rows of the site."""
        coupling, inf = self.coupling, highspy.kHighsInf
        lp = highspy.HighsLp()
        segments = int(self.first_segment[-1])
        lp.num_col_, lp.num_row_ = segments, self.blocks
        lp.col_cost_ = np.concatenate([np.zeros(0), *coupling.window_price])
        lp.col_lower_ = np.zeros(segments)
        lp.col_upper_ = np.concatenate([np.zeros(0), *(np.append(np.diff(f), inf) for f in coupling.window_from)])
        lp.row_lower_ = lp.row_upper_ = np.ones(self.blocks)
        lp.offset_ = coupling.base_cost
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.zeros(segments + 1, dtype=np.int32)
        self.solver.passModel(lp)
        self.columns, self.rows = segments, self.blocks
        self._enter(np.flatnonzero((coupling.profile == 0) | (coupling.profile > coupling.groups)))

    def _coefs(self, rows: Ints, shares: slice) -> Floats:
        """(rows, shares): what a unit of each share adds to each coupling row."""
        coupling = self.coupling
        profile, step = coupling.profile[rows], coupling.step[rows]
        part = np.where(profile <= coupling.groups, 0, profile - coupling.groups)
        value = self.profile[shares][:, part, step].T * coupling.coef[rows, None]
        whole = (profile == 0) | (part > 0)
        mine = (profile[:, None] == self.block_group[self.block[shares]]) | whole[:, None]
        return np.where(mine, value, 0.0)

    def _enter(self, rows: Ints) -> None:
        """Take coupling rows in, each with its window's columns or a slack of its own."""
        coupling = self.coupling
        window = coupling.window[rows]
        unit = self._coefs(rows, slice(None))
        index, value = [], []
        for k, w in enumerate(window.tolist()):
            used = np.flatnonzero(unit[k])
            segments = np.arange(self.first_segment[w], self.first_segment[w + 1]) if w >= 0 else used[:0]
            index.append(np.concatenate([segments, self.share[used]]))
            value.append(np.concatenate([np.full(segments.size, -1.0), unit[k, used]]))
        start_kw = np.array([f[0] for f in coupling.window_from] + [0.0])
        upper = coupling.rhs[rows] + start_kw[window]
        if rows.size:
            self.solver.addRows(rows.size, np.full(rows.size, -highspy.kHighsInf), upper, *_packed(index, value))
        self.place[rows] = self.rows + np.arange(rows.size)
        self.rows += rows.size
        own = rows[window < 0]
        self._add_columns(
            coupling.slack_price[own], [self.place[r : r + 1] for r in own], [np.full(1, -1.0)] * own.size
        )

    def _add_columns(self, cost: Floats, index: list[Ints], value: list[Floats]) -> None:
        """Columns in [0, inf)."""
        count = cost.size
        if count:
            self.solver.addCols(count, cost, np.zeros(count), np.full(count, highspy.kHighsInf), *_packed(index, value))
        self.columns += count

    def add(self, answer: Answer, number: int) -> None:
        """The answer `number` of the vehicles: one share per block."""
        count, old = self.blocks, self.block.size
        power = answer.profile_kw
        stored = [answer.stored_up, answer.stored_down] if answer.stored_up.size else [np.zeros_like(power)] * 2
        self.profile = np.concatenate([self.profile, np.stack([power, *stored], axis=1)])
        self.block = np.concatenate([self.block, np.arange(count)])
        self.answer = np.concatenate([self.answer, np.full(count, number)])
        self.share = np.concatenate([self.share, self.columns + np.arange(count)])
        rows = np.flatnonzero(self.place >= 0)
        unit = self._coefs(rows, slice(old, None))
        index, value = [], []
        for b in range(count):
            used = np.flatnonzero(unit[:, b])
            index.append(np.concatenate([[b], self.place[rows[used]]]))
            value.append(np.concatenate([[1.0], unit[used, b]]))
        price = self.coupling.prices.import_price * self.stores.hours
        self._add_columns(answer.own_cost + power @ price, index, value)

    def solve(self) -> Floats:
        """Optimum of the programme as it is: its prices (R,), 0 for rows that are not in."""
        run_to_optimum(self.solver)
        solution = self.solver.getSolution()
        self.column = np.asarray(solution.col_value)
        row_dual = np.asarray(solution.row_dual)
        self.objective = float(self.solver.getInfo().objective_function_value)
        return np.where(self.place >= 0, np.maximum(-row_dual[np.maximum(self.place, 0)], 0.0), 0.0)

    def activate(self) -> bool:
        """Take in the group rows that the mixed plan violates, and those near; whether any was violated."""
        coupling = self.coupling
        rows = np.flatnonzero(self.place < 0)
        if rows.size == 0:
            return False
        mixed = np.flatnonzero(self.column[self.share] > 0.0)
        weight = self.column[self.share[mixed]]
        by_group = np.zeros((coupling.groups + 1, self.steps))
        np.add.at(by_group, self.block_group[self.block[mixed]], self.profile[mixed, 0] * weight[:, None])
        value = coupling.coef[rows] * by_group[coupling.profile[rows], coupling.step[rows]]
        over = value - coupling.rhs[rows]
        if not (over > _VIOLATED_KW).any():
            return False
        self._enter(rows[over > -_NEAR * np.abs(coupling.rhs[rows])])
        return True

    def used(self) -> list[tuple[int, int, float]]:
        """(answer, block, share) of the mix; the shares of a block sum to 1."""
        value = self.column[self.share]
        share = np.where(value > _USED, value, 0.0)
        share /= np.bincount(self.block, weights=share, minlength=self.blocks)[self.block]
        k = np.flatnonzero(share)
        return list(zip(self.answer[k].tolist(), self.block[k].tolist(), share[k].tolist(), strict=True))


def _packed(index: list[Ints], value: list[Floats]) -> tuple[int, Ints, Ints, Floats]:
    """Vectors as HiGHS takes them: entries, begins, indices, values."""
    sizes = np.array([part.size for part in index])
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return int(sizes.sum()), begins.astype(np.int32), np.concatenate(index).astype(np.int32), np.concatenate(value)
