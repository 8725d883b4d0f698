"""What one plan leaves for the next: prices and basis, found again by vehicle and instant in a problem that has moved on."""

import numpy as np
from msgspec import Struct

from gridtide.plan.coupling import Coupling
from gridtide.plan.exact import Basis
from gridtide.plan.horizon import Floats, Horizon, Ints, Vehicles

_ALIGN_S = 1.0
_GROUPS, _WINDOWS = 1 << 20, 1 << 8


class Memory(Struct, frozen=True, eq=False, kw_only=True):
    """A solved problem's prices (P, R) and basis with the keys of its rows, steps and vehicles."""

    starts_s: Floats
    """(T,): starts of the steps, UTC epoch s."""
    end_s: float
    keys: tuple[str, ...]
    row_key: Ints
    """(R,): what the row is, whatever its step."""
    row_step: Ints
    points: Floats
    basis: Basis | None


def remember(horizon: Horizon, vehicles: Vehicles, coupling: Coupling, points: Floats, basis: Basis | None) -> Memory:
    """The memory of a solved problem."""
    starts = starts_s(horizon)
    return Memory(
        starts_s=starts, end_s=float(starts[-1] + horizon.hours[-1] * 3600.0), keys=vehicles.keys,
        row_key=row_keys(coupling), row_step=coupling.step, points=points, basis=basis,
    )  # fmt: skip


def starts_s(horizon: Horizon) -> Floats:
    """(T,): starts of the steps, UTC epoch s."""
    return horizon.start_s + 3600.0 * np.concatenate([[0.0], np.cumsum(horizon.hours)[:-1]])


def row_keys(coupling: Coupling) -> Ints:
    """(R,): one number per kind, group and window."""
    profile = np.where(coupling.profile > coupling.groups, 0, coupling.profile)
    return (coupling.kind * _GROUPS + profile) * _WINDOWS + coupling.window + 1


def _steps(memory: Memory, horizon: Horizon) -> Ints:
    """(T,): the remembered step that each step starts in; -1 is none."""
    at = starts_s(horizon)
    old = np.searchsorted(memory.starts_s, at + _ALIGN_S, side="right") - 1
    return np.where((at >= memory.starts_s[0] - _ALIGN_S) & (at < memory.end_s - _ALIGN_S), old, -1)


def _rows(memory: Memory, coupling: Coupling, step: Ints) -> Ints:
    """(R,): the remembered row of each row; -1 is none."""
    if memory.row_key.size == 0:
        return np.full(coupling.size, -1)
    span = memory.starts_s.size
    old = memory.row_key * span + memory.row_step
    order = np.argsort(old, kind="stable")
    wanted = np.where(step[coupling.step] >= 0, row_keys(coupling) * span + step[coupling.step], -1)
    place = np.minimum(np.searchsorted(old[order], wanted), old.size - 1)
    return np.where(old[order[place]] == wanted, order[place], -1)


def points_for(memory: Memory, horizon: Horizon, coupling: Coupling) -> Floats | None:
    """(P, R): the remembered prices for the rows of a new problem; None where most of its steps are new."""
    step = _steps(memory, horizon)
    if (step >= 0).mean() < 0.5 or memory.points.size == 0:
        return None
    row = _rows(memory, coupling, step)
    return np.where(row >= 0, memory.points[:, np.maximum(row, 0)], 0.0)


def basis_for(memory: Memory, horizon: Horizon, vehicles: Vehicles, coupling: Coupling) -> Basis | None:
    """The remembered basis for a new problem; what is new rests (powers) or is basic (energies, slack rows)."""
    step = _steps(memory, horizon)
    if memory.basis is None or not memory.keys or (step >= 0).mean() < 0.5:
        return None
    place = {key: k for k, key in enumerate(memory.keys)}
    who = np.array([place.get(key, -1) for key in vehicles.keys], dtype=np.int64)
    default = np.array([0, 0, 1, 0], dtype=np.int8)
    known = (who >= 0)[:, None] & (step >= 0)[None, :]
    entry = np.empty((4, who.size, step.size), dtype=np.int8)
    for k in range(4):
        old = memory.basis.entry[k][np.maximum(who, 0)][:, np.maximum(step, 0)]
        entry[k] = np.where(known, old, default[k])
    vehicle = np.where(who >= 0, memory.basis.vehicle[:, np.maximum(who, 0)], np.array([[0], [1]], dtype=np.int8))
    row = _rows(memory, coupling, step)
    bent = (who >= 0) & memory.basis.bent[np.maximum(who, 0)]
    fresh = np.array([[0], [1]], dtype=np.int8)
    found = (
        np.where(row >= 0, memory.basis.row[:, np.maximum(row, 0)], fresh)
        if memory.basis.row.size
        else np.repeat(fresh, row.size, 1)
    )
    return Basis(
        entry=entry, vehicle=vehicle.astype(np.int8), row=found.astype(np.int8), peak=memory.basis.peak, bent=bent
    )
