"""The exact plan of one store against prices, vectorised over vehicles: the form without numba.

The same answers as `kernel`, by other means: every piece of a vehicle's cost-to-go has a place of its own, sorted beforehand,
and a step lifts and clips a table of cumulated lengths.
"""

import numpy as np
from msgspec import Struct

from gridtide.plan.horizon import Bools, Floats, Ints

_BLOCK_ROWS = 256
"""Vehicles worked on at once, so that their tables stay in the cache."""


def connected(first: Ints, last: Ints, steps: int) -> Bools:
    """(N, T): whether a vehicle is there."""
    step = np.arange(steps)
    return np.asarray((step >= first[:, None]) & (step <= last[:, None]))


def solve(
    rows: Ints, block: Ints, first: Ints, last: Ints, table: Floats, limit_kw: Floats, hours: Floats,
    price: Floats, price_row: Ints, hold_up: Floats, hold_down: Floats, chord: bool, share: Floats,
    value: Floats, own_cost: Floats, profile_kw: Floats, stored_up: Floats, stored_down: Floats, power_kw: Floats,
) -> int:  # fmt: skip
    """`kernel.solve`, vectorised over vehicles."""
    negative = 0
    for begin in range(0, rows.size, _BLOCK_ROWS):
        some = rows[begin : begin + _BLOCK_ROWS]
        some = some[first[some] <= last[some]]
        if some.size == 0:
            continue
        batch = _Batch(table[some], limit_kw[some], connected(first[some], last[some], hours.size), hours)
        slopes = _slopes(batch, price[price_row[some]], hold_up, hold_down, chord)
        negative += slopes.negative
        worth, up_to, down_to = _backward(batch, slopes, chord)
        value[some] = worth
        if chord:
            continue
        plan_kw, energy, cost = _forward(batch, up_to, down_to)
        if not slopes.negative:
            pays = (plan_kw * slopes.price * hours).sum(axis=1) + ((slopes.held - batch.calendar) * energy).sum(axis=1)
            value[some] = cost + pays
        own_cost += np.bincount(block[some], weights=cost, minlength=own_cost.size)
        member = np.zeros((profile_kw.shape[0], some.size))
        member[block[some], np.arange(some.size)] = 1.0
        profile_kw += member @ plan_kw
        if stored_up.size:
            stored_up += member @ (energy * table[some, 3:4])
            stored_down += member @ (energy / table[some, 2:3])
        if power_kw.size:
            power_kw[some] += share[some, None] * plan_kw
    return negative


class _Batch:
    """Columns of a batch of connected vehicles, (n, 1), and their tables per step, (n, T)."""

    def __init__(self, table: Floats, limit_kw: Floats, there: Bools, hours: Floats) -> None:
        names = [
            "charge",
            "discharge",
            "eta_c",
            "eta_d",
            "capacity",
            "least",
            "energy",
            "required",
            "need",
            "left",
            "wear",
        ]
        self.column = {name: table[:, k : k + 1] for k, name in enumerate(names)}
        self.there, self.hours = there, hours
        self.charge_kw = np.where(there, np.minimum(limit_kw, table[:, 0:1]), 0.0)
        self.into = self.charge_kw * hours * table[:, 2:3]
        self.out = np.where(there, table[:, 1:2] * hours / table[:, 3:4], 0.0)
        self.calendar = np.where(there, table[:, 11:12] * hours, 0.0)


class _Slopes(Struct, frozen=True, eq=False, kw_only=True):
    """Slopes of the pieces that each step inserts, (n, T), and prices they come from."""

    charge: Floats
    discharge: Floats
    held: Floats
    price: Floats
    negative: int


def _slopes(batch: _Batch, price: Floats, hold_up: Floats, hold_down: Floats, chord: bool) -> _Slopes:
    col = batch.column
    charge, discharge = -price / col["eta_c"], -(price - col["wear"]) * col["eta_d"]
    crossed = (discharge < charge) & batch.there
    hit = crossed & (batch.into > 0.0) & (batch.out > 0.0)
    if chord:
        both = -(price * batch.charge_kw + (price - col["wear"]) * col["discharge"]) * batch.hours
        charge = np.where(hit, both / np.where(hit, batch.into + batch.out, 1.0), charge)
    charge = np.where(crossed & (batch.into <= 0.0), discharge, charge)
    held = batch.calendar + np.where(batch.there, hold_up * col["eta_d"] + hold_down / col["eta_c"], 0.0)
    return _Slopes(
        charge=charge, discharge=np.where(crossed, charge, discharge), held=held, price=price, negative=int(hit.sum())
    )


def _backward(batch: _Batch, slopes: _Slopes, chord: bool) -> tuple[Floats, Floats, Floats]:
    """Values (only with `chord`) and thresholds. Pieces have fixed places, sorted by slope less what holding has added since.

    `cum[:, k]` is the energy above the least one at the right end of place k; a step lifts all places from its piece on, then
    both ends are cut by clipping.
    """
    col, steps = batch.column, batch.hours.size
    shift = np.cumsum(slopes.held[:, ::-1], axis=1)[:, ::-1]
    keys = np.concatenate([slopes.charge - shift, slopes.discharge - shift, -col["need"], -col["left"]], axis=1)
    order = np.argsort(keys, axis=1, kind="stable")
    ranked = np.take_along_axis(keys, order, axis=1)
    place = np.empty_like(order)
    number = np.arange(order.shape[1])
    np.put_along_axis(place, order, np.broadcast_to(number, order.shape), axis=1)
    opens = np.concatenate([np.ones((order.shape[0], 1), dtype=np.bool_), np.diff(ranked, axis=1) > 0.0], axis=1)
    left = np.take_along_axis(np.maximum.accumulate(np.where(opens, number, 0), axis=1), place, axis=1)
    room = col["capacity"] - col["least"]
    short = np.maximum(col["required"] - col["least"], 0.0)
    cum = np.where(number >= place[:, 2 * steps : 2 * steps + 1], np.minimum(short, room), 0.0)
    cum += np.where(number >= place[:, 2 * steps + 1 :], np.maximum(room - short, 0.0), 0.0)
    base = ((col["need"] - col["left"]) * short - col["left"] * col["least"])[:, 0]
    up_to, down_to = np.zeros_like(batch.into), np.zeros_like(batch.into)
    row = np.arange(order.shape[0])
    for t in range(steps - 1, -1, -1):
        into, out = batch.into[:, t : t + 1], batch.out[:, t : t + 1]
        for key, found in ((t, up_to), (steps + t, down_to)):
            at = left[:, key]
            found[:, t] = col["least"][:, 0] + np.where(at > 0, cum[row, at - 1], 0.0)
        cum += (number >= place[:, t : t + 1]) * into
        cum += (number >= place[:, steps + t : steps + t + 1]) * out
        if chord:
            cut = np.diff(np.minimum(cum, into), axis=1, prepend=0.0)
            base += slopes.held[:, t] * col["least"][:, 0] + slopes.price[:, t] * batch.charge_kw[:, t] * batch.hours[t]
            base += ((ranked + shift[:, t : t + 1]) * cut).sum(axis=1)
        cum -= into
        np.clip(cum, 0.0, room, out=cum)
    reached = np.diff(np.minimum(cum, col["energy"] - col["least"]), axis=1, prepend=0.0)
    return base + ((ranked + shift[:, :1]) * reached).sum(axis=1), up_to, down_to


def _forward(batch: _Batch, up_to: Floats, down_to: Floats) -> tuple[Floats, Floats, Floats]:
    """Power and energy (n, T) and own cost (n,) of following the thresholds."""
    col = {name: column[:, 0] for name, column in batch.column.items()}
    plan_kw, energy = np.zeros_like(up_to), np.zeros_like(up_to)
    e = col["energy"].copy()
    for t in range(batch.hours.size):
        target = np.minimum(np.maximum(e, up_to[:, t]), down_to[:, t])
        x = np.where(batch.there[:, t], np.minimum(np.maximum(target - e, -batch.out[:, t]), batch.into[:, t]), 0.0)
        e += x
        plan_kw[:, t] = np.where(x > 0.0, x / col["eta_c"], x * col["eta_d"]) / batch.hours[t]
        energy[:, t] = np.where(batch.there[:, t], e, 0.0)
    wear = col["wear"] * (np.maximum(-plan_kw, 0.0) * batch.hours).sum(axis=1)
    missed = (col["need"] - col["left"]) * np.maximum(col["required"] - e, 0.0)
    return plan_kw, energy, wear + (batch.calendar * energy).sum(axis=1) - col["left"] * e + missed


def sums(
    block: Ints, first: Ints, last: Ints, table: Floats, power_kw: Floats, energy_kwh: Floats,
    profile_kw: Floats, stored_up: Floats, stored_down: Floats,
) -> None:  # fmt: skip
    """`kernel.block_sums`."""
    order = np.argsort(block, kind="stable")
    starts = np.searchsorted(block[order], np.arange(profile_kw.shape[0]))
    profile_kw += np.add.reduceat(power_kw[order], starts)
    if stored_up.size:
        there = connected(first, last, power_kw.shape[1])[order]
        stored_up += np.add.reduceat((energy_kwh[order] * table[order, 3:4]) * there, starts)
        stored_down += np.add.reduceat((energy_kwh[order] / table[order, 2:3]) * there, starts)


def sweep(
    batch: int, first: Ints, last: Ints, table: Floats, limit_kw: Floats, hours: Floats, import_price: Floats,
    price_row: Ints, begins: Ints, order: Ints, coef: Floats, rhs: Floats, dual: Floats, stiffness: Floats, most: Floats,
    totals: Floats, power_kw: Floats, energy_kwh: Floats, own_cost: Floats,
) -> None:  # fmt: skip
    """`kernel.sweep`, vectorised over the vehicles of a batch."""
    steps, groups = hours.size, totals.shape[0] - 3
    of_row = np.empty(order.size, dtype=np.int64)
    of_row[order] = np.repeat(np.arange(totals.size), np.diff(begins))
    for start in range(0, first.size, batch):
        some = np.arange(start, min(start + batch, first.size))
        some = some[first[some] <= last[some]]
        violation = coef * totals.ravel()[of_row] - rhs
        weight = coef * np.minimum(np.maximum(dual + stiffness * violation, 0.0), most)
        toll = np.bincount(of_row, weights=weight, minlength=totals.size).reshape(totals.shape)
        own = np.where(price_row[some, None] > 0, toll[price_row[some]], 0.0)
        group = _Batch(table[some], limit_kw[some], connected(first[some], last[some], steps), hours)
        slopes = _slopes(group, import_price + (toll[0] + own) / hours, toll[groups + 1], toll[groups + 2], chord=False)
        _, up_to, down_to = _backward(group, slopes, chord=False)
        plan_kw, energy, own_cost[some] = _forward(group, up_to, down_to)
        change, held = plan_kw - power_kw[some], energy - energy_kwh[some]
        if groups:
            np.add.at(totals, price_row[some], np.where(price_row[some, None] > 0, change, 0.0))
        totals[0] += change.sum(axis=0)
        totals[groups + 1] += (held * table[some, 3:4]).sum(axis=0)
        totals[groups + 2] += (held / table[some, 2:3]).sum(axis=0)
        power_kw[some], energy_kwh[some] = plan_kw, energy
