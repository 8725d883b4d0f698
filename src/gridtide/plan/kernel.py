"""The exact plan of one store against prices, one vehicle after another: the form that numba compiles.

Plain Python over arrays, so it also runs uncompiled (slowly); `store` chooses between its compiled form and the NumPy form.
Imported only by `store.warm_up`, because importing numba is slow. The method is a backward dynamic programme whose cost-to-go
V_t(e) stays convex and piecewise linear: it is kept as its value at the least energy and a list of (slope, length) with rising
slopes, in which a step inserts one piece for charging and one for discharging ("slope merge").
"""

import importlib
import importlib.util
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
F = TypeVar("F")


def _numba_extending() -> Any:
    return importlib.import_module("numba.extending") if importlib.util.find_spec("numba") else None


_extending = _numba_extending()


def inlined(function: F) -> F:
    """Lets compiled functions call this one; it stays plain Python for others."""
    if _extending is None:
        return function
    found: F = _extending.register_jitable(function)
    return found


CHARGE, DISCHARGE, ETA_C, ETA_D, CAPACITY, LEAST, ENERGY, REQUIRED, NEED, LEFT, WEAR, CALENDAR = range(12)
"""The columns of the vehicles' table."""


@inlined
def _end(row: Floats, head: int, slope: Floats, length: Floats) -> tuple[float, int]:
    """The cost-to-go after the last step: (value at the least energy, tail)."""
    tail = head
    short = max(row[REQUIRED] - row[LEAST], 0.0)
    room = row[CAPACITY] - row[LEAST]
    if short > 0.0:
        slope[tail] = -row[NEED]
        length[tail] = min(short, room)
        tail += 1
    if room > short:
        slope[tail] = -row[LEFT]
        length[tail] = room - short
        tail += 1
    return (row[NEED] - row[LEFT]) * short - row[LEFT] * row[LEAST], tail


@inlined
def _below(bound: float, at: int, tail: int, level: float, slope: Floats, length: Floats) -> tuple[int, float]:
    """First piece from `at` on whose slope is not below `bound`, and the energy there."""
    while at < tail and slope[at] < bound:
        level += length[at]
        at += 1
    return at, level


@inlined
def _insert(
    into: float, key_c: float, at_c: int, out: float, key_d: float, at_d: int,
    head: int, tail: int, slope: Floats, length: Floats,
) -> tuple[int, int]:  # fmt: skip
    """Charging's piece before position `at_c` (moving the left side), discharging's before `at_d` (moving the right side)."""
    if into > 0.0:
        for k in range(head, at_c):
            slope[k - 1] = slope[k]
            length[k - 1] = length[k]
        head -= 1
        slope[at_c - 1] = key_c
        length[at_c - 1] = into
    if out > 0.0:
        for k in range(tail, at_d, -1):
            slope[k] = slope[k - 1]
            length[k] = length[k - 1]
        tail += 1
        slope[at_d] = key_d
        length[at_d] = out
    return head, tail


@inlined
def _truncate(
    into: float, out: float, shift: float, head: int, tail: int, slope: Floats, length: Floats
) -> tuple[float, int, int]:
    """Cut `into` off the left end and `out` off the right one: (value lost on the left, head, tail)."""
    lost = 0.0
    while into > 0.0 and head < tail:
        piece = min(into, length[head])
        lost += (slope[head] + shift) * piece
        length[head] -= piece
        into -= piece
        if length[head] <= 0.0:
            head += 1
    while out > 0.0 and head < tail:
        piece = min(out, length[tail - 1])
        length[tail - 1] -= piece
        out -= piece
        if length[tail - 1] <= 0.0:
            tail -= 1
    return lost, head, tail


@inlined
def _backward(
    row: Floats, first: int, last: int, limit_kw: Floats, hours: Floats, price: Floats, hold_up: Floats, hold_down: Floats,
    chord: bool, slope: Floats, length: Floats, up_to: Floats, down_to: Floats,
) -> tuple[float, int]:  # fmt: skip
    """Cost-to-go at the first step and the thresholds of all: (value, vehicle-steps with a negative price that matters)."""
    head = 2 * hours.shape[0] + 4
    base, tail = _end(row, head, slope, length)
    shift, negative = 0.0, 0
    least = row[LEAST]
    for t in range(last, first - 1, -1):
        h, p = hours[t], price[t]
        held = row[CALENDAR] * h + hold_up[t] * row[ETA_D] + hold_down[t] / row[ETA_C]
        shift += held
        base += held * least
        charge_kw = min(limit_kw[t], row[CHARGE])
        into, out = charge_kw * h * row[ETA_C], row[DISCHARGE] * h / row[ETA_D]
        slope_c, slope_d = -p / row[ETA_C], -(p - row[WEAR]) * row[ETA_D]
        if slope_d < slope_c:
            if into > 0.0 and out > 0.0:
                negative += 1
                if chord:
                    slope_c = -(p * charge_kw + (p - row[WEAR]) * row[DISCHARGE]) * h / (into + out)
            elif into <= 0.0:
                slope_c = slope_d
            slope_d = slope_c
        key_c, key_d = slope_c - shift, slope_d - shift
        at_c, up_to[t] = _below(key_c, head, tail, least, slope, length)
        at_d, down_to[t] = _below(key_d, at_c, tail, up_to[t], slope, length)
        base += p * charge_kw * h
        head, tail = _insert(into, key_c, at_c, out, key_d, at_d, head, tail, slope, length)
        lost, head, tail = _truncate(into, out, shift, head, tail, slope, length)
        base += lost
    rest = row[ENERGY] - least
    while head < tail and rest > 0.0:
        piece = min(rest, length[head])
        base += (slope[head] + shift) * piece
        rest -= piece
        head += 1
    return base, negative


@inlined
def _forward(
    row: Floats, first: int, last: int, limit_kw: Floats, hours: Floats, up_to: Floats, down_to: Floats,
    plan_kw: Floats, energy_kwh: Floats,
) -> float:  # fmt: skip
    """Follow the thresholds from the energy at hand; writes power and energy per step, returns the vehicle's own cost."""
    e, cost = row[ENERGY], 0.0
    for t in range(first, last + 1):
        h = hours[t]
        into = min(limit_kw[t], row[CHARGE]) * h * row[ETA_C]
        out = row[DISCHARGE] * h / row[ETA_D]
        x = min(max(min(max(e, up_to[t]), down_to[t]) - e, -out), into)
        e += x
        if x > 0.0:
            plan_kw[t] = x / (row[ETA_C] * h)
        else:
            plan_kw[t] = x * row[ETA_D] / h
            cost -= row[WEAR] * plan_kw[t] * h
        cost += row[CALENDAR] * h * e
        energy_kwh[t] = e
    return float(cost - row[LEFT] * e + (row[NEED] - row[LEFT]) * max(row[REQUIRED] - e, 0.0))


def solve(
    rows: Ints, block: Ints, first: Ints, last: Ints, table: Floats, limit_kw: Floats, hours: Floats,
    price: Floats, price_row: Ints, hold_up: Floats, hold_down: Floats, chord: bool, share: Floats,
    value: Floats, own_cost: Floats, profile_kw: Floats, stored_up: Floats, stored_down: Floats, power_kw: Floats,
) -> int:  # fmt: skip
    """Solve `rows`; what it reads and writes is told at `store.Answer`. Returns the vehicle-steps with a negative price that
    matters."""
    steps = hours.shape[0]
    slope, length = np.empty(4 * steps + 8), np.empty(4 * steps + 8)
    up_to, down_to = np.empty(steps), np.empty(steps)
    plan_kw, energy_kwh = np.empty(steps), np.empty(steps)
    negative = 0
    for index in range(rows.shape[0]):
        i = rows[index]
        if first[i] > last[i]:
            value[i] = 0.0
            continue
        row, limit = table[i], limit_kw[i]
        value[i], hit = _backward(
            row,
            first[i],
            last[i],
            limit,
            hours,
            price[price_row[i]],
            hold_up,
            hold_down,
            chord,
            slope,
            length,
            up_to,
            down_to,
        )
        negative += hit
        if chord:
            continue
        b = block[i]
        own_cost[b] += _forward(row, first[i], last[i], limit, hours, up_to, down_to, plan_kw, energy_kwh)
        for t in range(first[i], last[i] + 1):
            profile_kw[b, t] += plan_kw[t]
        if stored_up.shape[0] > 0:
            for t in range(first[i], last[i] + 1):
                stored_up[b, t] += energy_kwh[t] * row[ETA_D]
                stored_down[b, t] += energy_kwh[t] / row[ETA_C]
        if power_kw.shape[0] > 0:
            for t in range(first[i], last[i] + 1):
                power_kw[i, t] += share[i] * plan_kw[t]
    return negative


def sweep(
    batch: int, first: Ints, last: Ints, table: Floats, limit_kw: Floats, hours: Floats, import_price: Floats,
    price_row: Ints, begins: Ints, order: Ints, coef: Floats, rhs: Floats, dual: Floats, stiffness: Floats, most: Floats,
    totals: Floats, power_kw: Floats, energy_kwh: Floats, own: Floats,
) -> None:  # fmt: skip
    """Re-plan all vehicles batch after batch, each against the totals that the ones before left; see `store.sweep`."""
    steps, groups = hours.shape[0], totals.shape[0] - 3
    slope, length = np.empty(4 * steps + 8), np.empty(4 * steps + 8)
    up_to, down_to, price = np.empty(steps), np.empty(steps), np.empty(steps)
    plan_kw, energy = np.empty(steps), np.empty(steps)
    toll = np.zeros((groups + 3, steps))
    for start in range(0, first.shape[0], batch):
        for q in range(groups + 3):
            for t in range(steps):
                toll[q, t] = 0.0
                for k in range(begins[q * steps + t], begins[q * steps + t + 1]):
                    r = order[k]
                    multiplier = dual[r] + stiffness[r] * (coef[r] * totals[q, t] - rhs[r])
                    toll[q, t] += coef[r] * min(max(multiplier, 0.0), most[r])
        for i in range(start, min(start + batch, first.shape[0])):
            if first[i] > last[i]:
                continue
            g = price_row[i]
            for t in range(first[i], last[i] + 1):
                price[t] = import_price[t] + (toll[0, t] + (toll[g, t] if g > 0 else 0.0)) / hours[t]
            row, limit = table[i], limit_kw[i]
            up, down = toll[groups + 1], toll[groups + 2]
            _backward(row, first[i], last[i], limit, hours, price, up, down, False, slope, length, up_to, down_to)
            own[i] = _forward(row, first[i], last[i], limit, hours, up_to, down_to, plan_kw, energy)
            for t in range(first[i], last[i] + 1):
                change = plan_kw[t] - power_kw[i, t]
                totals[0, t] += change
                if g > 0:
                    totals[g, t] += change
                held = energy[t] - energy_kwh[i, t]
                totals[groups + 1, t] += held * row[ETA_D]
                totals[groups + 2, t] += held / row[ETA_C]
                power_kw[i, t] = plan_kw[t]
                energy_kwh[i, t] = energy[t]


def block_sums(
    block: Ints, first: Ints, last: Ints, table: Floats, power_kw: Floats, energy_kwh: Floats,
    profile_kw: Floats, stored_up: Floats, stored_down: Floats,
) -> None:  # fmt: skip
    """Sums of plans per block, added to the last three (stored ones only if not empty)."""
    for i in range(first.shape[0]):
        b = block[i]
        for t in range(first[i], last[i] + 1):
            profile_kw[b, t] += power_kw[i, t]
        if stored_up.shape[0] > 0:
            for t in range(first[i], last[i] + 1):
                stored_up[b, t] += energy_kwh[i, t] * table[i, ETA_D]
                stored_down[b, t] += energy_kwh[i, t] / table[i, ETA_C]
