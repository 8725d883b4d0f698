"""What a target would have led to on a day that is over, without knowing the day beforehand.

Who is there charges as early as the target allows, shared by the time to spare; who must leave charges whatever the target says;
while the site is above it, vehicles with time and energy to spare give. That is how the fast controller lives with a target, and
why a low one may end in a higher peak: what it put off comes in the hours in which everybody leaves.
"""

from collections.abc import Sequence

import numpy as np

from gridtide.plan.horizon import Floats
from gridtide.plan.stays import Stay

_RESERVE_H = 0.25
"""Time that is kept before a departure: with less than this to spare a vehicle charges whatever the target says."""
_SPARE_H = 0.75
"""A vehicle gives only while it has this much time to spare."""
_SHORTEST_H, _LONGEST_H = 0.1, 24.0
_ROUNDS = 3
"""Of sharing what some could not take."""


def import_kw(starts_s: Floats, slot_s: float, load_kw: Floats, stays: Sequence[Stay], target_kw: Floats) -> Floats:
    """(J, S): the import in each slot (S,) of a day at each of the targets `target_kw` (J, S)."""
    hours, count = slot_s / 3600.0, len(stays)
    names = (
        "arrived_s",
        "departs_s",
        "charge_kw",
        "discharge_kw",
        "efficiency",
        "energy_kwh",
        "required_kwh",
        "least_kwh",
    )
    arrived, departs, charge, discharge, efficiency, energy, required, least = (
        np.array([getattr(stay, name) for stay in stays], dtype=np.float64).reshape(count) for name in names
    )
    held = np.repeat(energy[None, :], target_kw.shape[0], axis=0)
    imported = np.empty(target_kw.shape)
    for t, start_s in enumerate(starts_s.tolist()):
        there = np.clip((np.minimum(departs, start_s + slot_s) - np.maximum(arrived, start_s)) / slot_s, 0.0, 1.0)
        rows = np.flatnonzero(there)
        if not rows.size:
            imported[:, t] = load_kw[t]
            continue
        share, most = there[rows], charge[rows] * there[rows]
        missing = np.maximum(required[rows] - held[:, rows], 0.0) / efficiency[rows]
        spare = (departs[rows] - start_s) / 3600.0 - missing / np.maximum(charge[rows], 1e-6)
        up = np.minimum(most, missing / hours)
        must = (spare <= hours + _RESERVE_H) & (missing > 0.0)
        power = np.where(must, up, 0.0)
        room = target_kw[:, t] - load_kw[t] - power.sum(axis=1)
        power += _shared(np.maximum(room, 0.0), np.where(must, 0.0, up), most / np.clip(spare, _SHORTEST_H, _LONGEST_H))
        left = (held[:, rows] - least[rows]) * efficiency[rows] / hours
        able = np.where(must | (spare <= _SPARE_H), 0.0, np.clip(left, 0.0, discharge[rows] * share))
        gives = np.minimum(np.maximum(-room, 0.0), able.sum(axis=1))
        power -= able * (gives / np.maximum(able.sum(axis=1), 1e-9))[:, None]
        stored = np.where(power > 0.0, power * efficiency[rows], power / efficiency[rows])
        held[:, rows] += stored * hours
        imported[:, t] = load_kw[t] + power.sum(axis=1)
    return imported


def _shared(room_kw: Floats, up_kw: Floats, weight: Floats) -> Floats:
    """(J, n): the room (J,) shared by weight, at most `up_kw` each; what some could not take goes to the others."""
    power = np.zeros(up_kw.shape)
    for _ in range(_ROUNDS):
        left = room_kw - power.sum(axis=1)
        open_kw = up_kw - power
        weights = np.where(open_kw > 1e-9, weight, 0.0)
        total = np.maximum(weights.sum(axis=1), 1e-12)
        power += np.minimum(open_kw, weights * (left / total)[:, None])
    return power
