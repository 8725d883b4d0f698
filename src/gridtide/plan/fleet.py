"""Large fleets: common prices, every vehicle's own best plan at those prices, and a master programme that mixes the plans.

First prices come from the exact programme of a small sample. Sweeps (Gauss-Seidel over the augmented Lagrangian) bring plan
and prices near the optimum; then Dantzig-Wolfe decomposition with stabilised prices: each round asks the vehicles at three
prices between the best so far and the newest. Every answer gives one column per block of vehicles and one lower bound that
holds for any plan. It ends when the mixed plan is within the tolerance of the best bound: the gap is certified, whatever the
prices were. Deterministic: no clock, no randomness, fixed rounds. Plans of sweeps are kept until the end (8 NT bytes each,
some 8 MB for 10,000 vehicles and a day).
"""

import numpy as np
from msgspec import Struct, structs

from gridtide.plan.coupling import Coupling, admissible, lower_bound, tolls
from gridtide.plan.exact import solve_exact
from gridtide.plan.horizon import Floats, Horizon, Ints
from gridtide.plan.master import Master
from gridtide.plan.store import Answer, Fleet, Pull, Stores, solve, sums, sweep
from gridtide.plan.store_numpy import connected

_BETWEEN = (0.3, 0.6, 0.9)
_FIRST_SWEEPS = 6
"""Sweeps before the first master programme: some milliseconds each, and they bring prices and plan near the optimum."""
_ROUND_SWEEPS = 2
_FAR = 0.08
"""A gap after two rounds that only a larger sample closes soon."""
_ASKED_FROM = 3
"""First sweep after which the mean of the moved prices is asked for a bound."""
_SOFTNESS = (1.0, 2.0)
"""How far the totals may wander from the limits in a sweep, by turns; prices move at the pace of the last."""
_BATCHES = 32
"""Parts of a sweep: more of them make it no better, and the NumPy form slower."""
_MORE_SAMPLE = {4: 4, 8: 8}
"""Rounds after which the prices of a larger sample are asked, by how many times: then it is the bound that lags."""
_GOLDEN = 0.6180339887498949
"""Vehicles are swept in an order that mixes likes: multiples of the golden ratio, no randomness."""


class FleetSettings(Struct, frozen=True, kw_only=True):
    """How a large fleet is solved."""

    tolerance: float = 0.002
    """Certified relative gap at which to stop."""
    rounds: int = 40
    """Most rounds; then the plan comes with the gap it has."""
    blocks: int = 16
    """Least number of sums of plans that are mixed by themselves."""
    sample: int = 30
    """Vehicles in the programme that gives first prices."""


class Mixed(Struct, frozen=True, eq=False, kw_only=True):
    """The mixed plan, its bound and the prices it stands on."""

    power_kw: Floats
    """(N, T)."""
    objective: float
    """Of the master programme."""
    bound: float
    rounds: int
    dual: Floats
    """(R,): prices of the best bound."""
    points: Floats
    """(P, R): prices whose answers are in the mix: the next plan starts from them."""


def blocks_of(stores: Stores, coupling: Coupling, least: int) -> Ints:
    """(N,): mixed blocks, each within one group where groups have rows. Alike vehicles are dealt out over the blocks."""
    bound_groups = np.unique(coupling.profile[(coupling.profile > 0) & (coupling.profile <= coupling.groups)])
    group = np.where(np.isin(stores.price_row, bound_groups), stores.price_row, 0)
    names, dense = np.unique(group, return_inverse=True)
    each = max(1, -(-least // names.size))
    order = _alike(stores, dense)
    number = np.empty(order.size, dtype=np.int64)
    sizes = np.bincount(dense)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    number[order] = (np.arange(order.size) - starts[dense[order]]) % each
    _, block = np.unique(dense * each + number, return_inverse=True)
    return np.asarray(block, dtype=np.int64)


def _alike(stores: Stores, group: Ints) -> Ints:
    """Vehicles ordered so that neighbours are alike: group, stay, power, need, capacity."""
    table = stores.table
    need = table[:, 7] - table[:, 6]
    order = np.lexsort(
        (table[:, 4], np.round(need / 8.0), table[:, 0], (stores.last - stores.first) // 8, stores.first // 8, group)
    )
    return np.asarray(order, dtype=np.int64)


def sampled_dual(stores: Stores, coupling: Coupling, sample: int) -> Floats:
    """(R,): prices of the rows in the programme of a sample, each vehicle standing for several."""
    bound = (coupling.profile > 0) & (coupling.profile <= coupling.groups)
    groups = np.unique(coupling.profile[bound])
    count = min(stores.first.size, max(sample, 3 * groups.size))
    group = np.where(np.isin(stores.price_row, groups), stores.price_row, 0)
    order = _alike(stores, group)
    chosen = order[((np.arange(count) + 0.5) * order.size / count).astype(np.int64)]
    # Every group's vehicles together stand for the whole group.
    total, drawn = (np.bincount(g, minlength=coupling.groups + 1) for g in (group, group[chosen]))
    weight = (total / np.maximum(drawn, 1))[group[chosen]]
    few = structs.replace(
        stores, first=stores.first[chosen], last=stores.last[chosen], table=stores.table[chosen],
        limit_kw=stores.limit_kw[chosen], price_row=stores.price_row[chosen], block=stores.block[chosen],
    )  # fmt: skip
    return solve_exact(few, coupling, weight, hull=False).dual


def solve_fleet(
    horizon: Horizon, stores: Stores, coupling: Coupling, settings: FleetSettings, points: Floats | None = None
) -> Mixed:
    """A plan within the tolerance of a certified bound, or the best after the last round; `points` (P, R) are prices to start
    from."""
    order = np.argsort((np.arange(stores.first.size) * _GOLDEN) % 1.0, kind="stable")
    stores = _dealt(stores, coupling, settings.blocks, order)
    warm = points is not None and len(points) > 0
    larger = _MORE_SAMPLE | ({2: 1} if warm else {})
    if points is None or not warm:
        points = sampled_dual(stores, coupling, settings.sample)[None, :]
    search = _Search(horizon, stores, coupling)
    for point in points:
        search.ask(point)
    search.sweep(_FIRST_SWEEPS)
    rounds = 0
    while True:
        newest = search.master.solve()
        while search.master.activate():
            newest = search.master.solve()
        rounds += 1
        objective = search.master.objective
        if objective - search.bound <= settings.tolerance * abs(objective) or rounds > settings.rounds:
            break
        far = objective - search.bound > _FAR * abs(objective)
        if rounds in larger or (rounds == 2 and far):
            search.start_over(sampled_dual(stores, coupling, settings.sample * larger.get(rounds, 4)))
        best = search.best
        for weight in _BETWEEN:
            search.ask(best + weight * (newest - best))
        search.sweep(_ROUND_SWEEPS)
    found = search.recover(rounds)
    power = np.empty_like(found.power_kw)
    power[order] = found.power_kw
    return structs.replace(found, power_kw=power)


def _dealt(stores: Stores, coupling: Coupling, least_blocks: int, order: Ints) -> Stores:
    """The vehicles in `order`, with their blocks."""
    block = blocks_of(stores, coupling, least_blocks)
    columns = {name: getattr(stores, name)[order] for name in ("first", "last", "table", "limit_kw", "price_row")}
    return structs.replace(stores, block=block[order], blocks=int(block.max()) + 1, **columns)


class _Search:
    """Prices asked so far, their bounds and columns, and the fleet that is swept."""

    def __init__(self, horizon: Horizon, stores: Stores, coupling: Coupling) -> None:
        self.horizon, self.stores, self.coupling = horizon, stores, coupling
        self.master = Master(stores, coupling)
        self.points: list[Floats] = []
        """Prices by number of the answer; empty for a sweep."""
        self.plans: dict[int, Floats] = {}
        """Plans of the sweeps, by number of the answer."""
        self.bound = -np.inf
        self.best = np.zeros(coupling.size)
        self.sweeper = _Sweeper(stores, coupling)
        self.moved: list[Floats] = []
        """Prices as the sweeps have moved them."""

    def ask(self, dual: Floats, *, column: bool = True) -> None:
        """The vehicles' answer at these prices: a bound, and a column per block if wanted."""
        dual = admissible(self.coupling, dual)
        answer = solve(self.stores, tolls(self.coupling, self.horizon, dual), stored=self.coupling.stored)
        bound = lower_bound(self.coupling, dual, answer.value)
        if bound > self.bound:
            self.bound, self.best = float(bound), dual
        if column:
            self.master.add(answer, len(self.points))
            self.points.append(dual)

    def start_over(self, dual: Floats) -> None:
        """Ask at new prices, and sweep from there if their bound is the best."""
        before = self.bound
        self.ask(dual)
        if self.bound > before:
            self.moved = [self.best]

    def sweep(self, count: int) -> None:
        """Passes over the fleet: each gives a column per block and moves the prices by the method of multipliers, from the best
        on. The mean of the later half of the moved prices is quieter than any of them, and is asked for a bound."""
        if not self.moved:
            self.moved.append(self.best)
        for k in range(count):
            answer, dual = self.sweeper.run(self.moved[-1], _SOFTNESS[k % len(_SOFTNESS)])
            self.master.add(answer, len(self.points))
            self.plans[len(self.points)] = self.sweeper.fleet.power_kw.copy()
            self.points.append(dual[:0])
            self.moved.append(admissible(self.coupling, dual))
            if len(self.moved) > _ASKED_FROM:
                self.ask(np.mean(self.moved[(len(self.moved) + 1) // 2 :], axis=0), column=False)

    def recover(self, rounds: int) -> Mixed:
        """The plans in the mix: those of the sweeps are at hand, the others are asked for again."""
        power = np.zeros_like(self.stores.limit_kw)
        used = self.master.used()
        numbers = sorted({p for p, _, _ in used})
        for number in numbers:
            share = np.zeros(self.stores.blocks)
            for p, block, weight in used:
                if p == number:
                    share[block] = weight
            of_vehicle = share[self.stores.block]
            rows = np.flatnonzero(of_vehicle > 0.0)
            if number in self.plans:
                power[rows] += of_vehicle[rows, None] * self.plans[number][rows]
                continue
            prices = tolls(self.coupling, self.horizon, self.points[number])
            solve(self.stores, prices, rows=rows, share=of_vehicle, power_kw=power)
        keep = [self.points[p] for p in numbers if p not in self.plans] or [self.best]
        return Mixed(
            power_kw=power, objective=self.master.objective, bound=self.bound, rounds=rounds, dual=self.best,
            points=np.array(keep).reshape(len(keep), self.coupling.size),
        )  # fmt: skip


class _Sweeper:
    """The fleet's plan while it is swept."""

    def __init__(self, stores: Stores, coupling: Coupling) -> None:
        self.stores, self.coupling = stores, coupling
        size, steps = stores.limit_kw.shape
        key = coupling.profile * steps + coupling.step
        self.order = np.argsort(key, kind="stable")
        self.begins = np.searchsorted(key[self.order], np.arange((coupling.groups + 3) * steps + 1))
        self.fleet = Fleet(
            power_kw=np.zeros((size, steps)),
            energy_kwh=np.zeros((size, steps)),
            own_cost=np.zeros(size),
            totals=np.zeros((coupling.groups + 3, steps)),
        )
        self.batch = max(1, -(-size // _BATCHES))
        self.stiffness = self._stiffness()
        self.most = np.where(coupling.window < 0, coupling.slack_price, np.inf)

    def _stiffness(self) -> Floats:
        """(R,): a violation by all that the vehicles could charge there moves the price by its mean."""
        stores, coupling = self.stores, self.coupling
        steps, groups = stores.hours.size, coupling.groups
        there = connected(stores.first, stores.last, steps)
        most = np.where(there, np.maximum(stores.limit_kw, stores.table[:, 1:2]), 0.0)
        scale = np.zeros((groups + 3, steps))
        np.add.at(scale, stores.price_row, most)
        scale[0] = most.sum(axis=0)
        scale[groups + 1 :] = (there * stores.table[:, 4:5]).sum(axis=0)
        own = np.maximum(scale[coupling.profile, coupling.step], 1e-6)
        price = np.abs(coupling.prices.import_price).mean() + 1e-6
        return np.asarray(price * stores.hours[coupling.step] / (own * np.abs(coupling.coef)))

    def run(self, dual: Floats, softness: float) -> tuple[Answer, Floats]:
        """One pass about these prices: the plan, and the prices (R,) moved by what it violates."""
        stores, coupling, fleet = self.stores, self.coupling, self.fleet
        stiffness = self.stiffness / softness
        rhs = coupling.rhs + self._peaks(self._value(), dual, stiffness)
        pull = Pull(
            begins=self.begins, order=self.order, coef=coupling.coef, rhs=rhs, dual=dual, stiffness=stiffness, most=self.most
        )  # fmt: skip
        sweep(stores, coupling.prices.import_price, pull, fleet, self.batch)
        value = self._value()
        slow = self.stiffness / _SOFTNESS[-1]
        moved = dual + slow * (value - self._peaks(value, dual, slow))
        return sums(stores, fleet, stored=coupling.stored), np.clip(moved, 0.0, self.most)

    def _value(self) -> Floats:
        """(R,): left side of each row less its limit, at the totals."""
        coupling = self.coupling
        return np.asarray(coupling.coef * self.fleet.totals[coupling.profile, coupling.step] - coupling.rhs)

    def _peaks(self, value: Floats, dual: Floats, stiffness: Floats) -> Floats:
        """(R,): the peak of each row's window that suits the totals: where the pull of its rows is worth the price of the next
        kW."""
        coupling = self.coupling
        found = np.zeros(coupling.size)
        for k, (from_kw, price) in enumerate(zip(coupling.window_from, coupling.window_price, strict=True)):
            rows = coupling.window == k
            low, high = float(from_kw[0]), max(float(coupling.window_most[k]), float(value[rows].max(initial=0.0)))
            for _ in range(40):
                middle = 0.5 * (low + high)
                pull = np.maximum(dual[rows] + stiffness[rows] * (value[rows] - middle), 0.0).sum()
                worth = price[np.searchsorted(from_kw, middle, side="right") - 1]
                low, high = (middle, high) if pull > worth else (low, middle)
            found[rows] = high
        return found
