"""EVSE models: how a charger follows its setpoint. `fast` for safety figures, `measured_v2g` as measured on a real V2G charger.

A new setpoint takes effect after the dead time, then power ramps. A step is cut into pieces of constant (mean) power, so that
energy does not depend on the step's length.
"""

import numpy as np
from msgspec import Struct, structs

from gridtide.model.fleet import Bools, Floats
from gridtide.model.thermal import DERATE_FROM_C, DERATE_TO_ZERO_C
from gridtide.twin.battery import Batteries, flow

HYSTERESIS_K = 5.0
"""Derating ends this far below where it begins."""


class EvseModel(Struct, frozen=True):
    """How one kind of charger behaves."""

    dead_s: float
    ramp_kw_per_s: float
    standby_kw: float = 0.0
    """Drawn while a vehicle is plugged in; never reaches the battery."""
    heat_c_per_kw: float = 30.0
    """Heat-sink rise over ambient per kW of loss, steady."""
    heat_tau_s: float = 900.0


MODELS: dict[str, EvseModel] = {
    "fast": EvseModel(dead_s=0.05, ramp_kw_per_s=1000.0),
    "measured_v2g": EvseModel(dead_s=4.0, ramp_kw_per_s=3.3, standby_kw=0.02),
}
"""`fast`: full transition within 0.1 s. `measured_v2g`: 4 s dead time and 3.3 kW/s, measured on a commercial V2G charger."""


class EvseState(Struct, frozen=True, eq=False):
    """Per row, (n,)."""

    power_kw: Floats
    """AC power of the power stage now, before the battery's taper."""
    target_kw: Floats
    """What it ramps to."""
    pending_kw: Floats
    """The newest setpoint."""
    wait_s: Floats
    """Time until `pending_kw` takes effect; 0 when nothing is pending."""
    heat_c: Floats
    """Heat-sink temperature."""
    cooling: Bools
    """Derating until the heat sink is back below where it began (hysteresis)."""
    closings: Floats
    """Contactor closings."""
    starts: Floats
    """Changes from not giving to giving."""
    welded: Bools
    """Told to open, but the contactor has welded: what flowed goes on, whatever is asked."""


class Columns(Struct, frozen=True, eq=False):
    """The models as columns, (n,), and each row's conversion."""

    dead_s: Floats
    ramp_kw_per_s: Floats
    standby_kw: Floats
    heat_c_per_kw: Floats
    heat_tau_s: Floats
    efficiency: Floats


def columns(models: list[EvseModel], efficiency: Floats) -> Columns:
    """Columns of a list of models, one a row."""
    values = np.array([[m.dead_s, m.ramp_kw_per_s, m.standby_kw, m.heat_c_per_kw, m.heat_tau_s] for m in models])
    values = values.reshape(len(models), 5).T
    return Columns(values[0], values[1], values[2], values[3], values[4], efficiency)


def fresh(size: int, ambient_c: float) -> EvseState:
    """Nothing flows, everything cool."""
    zero = np.zeros(size)
    return EvseState(zero, zero, zero, zero, np.full(size, ambient_c), zero > 1.0, zero, zero, zero > 1.0)


def command(state: EvseState, setpoint_kw: Floats, models: Columns) -> EvseState:
    """A setpoint arrives: it takes effect after the dead time; a newer one replaces it without starting the wait anew."""
    if np.count_nonzero(state.welded):
        setpoint_kw = np.where(state.welded, state.pending_kw, setpoint_kw)
    new = setpoint_kw != state.pending_kw
    if not np.count_nonzero(new):
        return state
    waiting = state.wait_s > 0.0
    wait = np.where(new & ~waiting, models.dead_s, state.wait_s)
    return structs.replace(state, pending_kw=setpoint_kw, wait_s=wait)


def open_contactors(state: EvseState, is_open: Bools, welds: Bools) -> EvseState:
    """Contactors that are told to be open, (n,): no power at once, except where the contacts weld (`welds`) under power."""
    welded = is_open & welds & (state.power_kw != 0.0)
    if not is_open.any() and not state.welded.any():
        return state
    power = np.where(is_open & ~welded, 0.0, state.power_kw)
    return structs.replace(
        state, power_kw=power, welded=welded,
        target_kw=np.where(is_open, power, state.target_kw), pending_kw=np.where(is_open, power, state.pending_kw),
        wait_s=np.where(is_open, 0.0, state.wait_s),
    )  # fmt: skip


class StepResult(Struct, frozen=True, eq=False):
    """What one step did, (n,)."""

    state: EvseState
    energy_kwh: Floats
    ac_in_kwh: Floats
    ac_out_kwh: Floats
    loss_kwh: Floats
    standby_kwh: Floats


def step(state: EvseState, batteries: Batteries, models: Columns, ambient_c: float, dt_s: float) -> StepResult:
    """Advance all rows by `dt_s`."""
    plugged = batteries.capacity_kwh > 0.0
    pieces, power, target, wait = _pieces(state, models, plugged, dt_s)
    is_derated = bool(np.count_nonzero(state.cooling))
    energy = batteries.energy_kwh
    ac_in = ac_out = loss = np.zeros(energy.size)
    for mean_kw, hours in pieces:
        ac_kw = mean_kw * _derated(state) if is_derated else mean_kw
        moved = flow(batteries, energy, ac_kw, hours, models.efficiency)
        energy = energy + moved.into_kwh
        ac_in, ac_out, loss = ac_in + moved.ac_in_kwh, ac_out + moved.ac_out_kwh, loss + moved.loss_kwh
    standby = np.where(plugged, models.standby_kw * (dt_s / 3600.0), 0.0)
    heat, cooling = _heat(state, loss / (dt_s / 3600.0), models, ambient_c, dt_s)
    closings, starts = state.closings, state.starts
    if np.count_nonzero(power):
        closings = closings + ((power != 0.0) & (state.power_kw == 0.0))
        starts = starts + ((power < 0.0) & ~(state.power_kw < 0.0))
    after = EvseState(power, target, state.pending_kw, wait, heat, cooling, closings, starts, state.welded)
    return StepResult(after, energy, ac_in + standby, ac_out, loss, standby)


def _pieces(
    state: EvseState, models: Columns, plugged: Bools, dt_s: float
) -> tuple[list[tuple[Floats, Floats]], Floats, Floats, Floats]:
    """Cut the step into (mean power, hours) pieces: before and after the pending setpoint, each a ramp split at zero and a flat.

    Where nothing flows and nothing is asked there are none.
    """
    if not any(np.count_nonzero(kw) for kw in (state.power_kw, state.target_kw, state.pending_kw)):
        return [], state.power_kw, state.target_kw, np.zeros(state.wait_s.size)
    target = np.where(plugged, state.target_kw, 0.0)
    power = np.where(plugged, state.power_kw, 0.0)
    pending = np.where(plugged, state.pending_kw, 0.0)
    waiting = pending != target
    if not np.count_nonzero(waiting | (power != target)):
        return [(power, np.full(power.size, dt_s / 3600.0))], power, target, np.zeros(power.size)
    first_s = np.where(waiting, np.minimum(state.wait_s, dt_s), dt_s)
    pieces: list[tuple[Floats, Floats]] = []
    power = _ramp(pieces, power, target, models.ramp_kw_per_s, first_s)
    wait = np.where(waiting, state.wait_s - first_s, 0.0)
    target = np.where(wait <= 0.0, pending, target)
    rest_s = dt_s - first_s
    if np.count_nonzero(rest_s > 0.0):
        power = _ramp(pieces, power, target, models.ramp_kw_per_s, rest_s)
    return pieces, power, target, np.maximum(wait, 0.0)


def _ramp(
    pieces: list[tuple[Floats, Floats]], start_kw: Floats, goal_kw: Floats, ramp: Floats, span_s: Floats
) -> Floats:
    """Append the pieces of a ramp from `start_kw` towards `goal_kw` within `span_s`; returns the power at its end."""
    crossing = start_kw * goal_kw < 0.0
    goals = (np.where(crossing, 0.0, goal_kw), goal_kw) if np.count_nonzero(crossing) else (goal_kw,)
    left, power = span_s, start_kw
    for goal in goals:
        if not np.count_nonzero(goal != power):
            continue
        need_s = np.abs(goal - power) / ramp
        use_s = np.minimum(need_s, left)
        reached = power + np.sign(goal - power) * ramp * use_s
        reached = np.where(need_s <= left, goal, reached)
        if np.count_nonzero(use_s > 0.0):
            pieces.append((0.5 * (power + reached), use_s / 3600.0))
        power, left = reached, left - use_s
    if np.count_nonzero(left > 0.0):
        pieces.append((power, left / 3600.0))
    return power


def _derated(state: EvseState) -> Floats:
    """Share of power left, (n,): once derating began it falls to zero at 85 degC and is back at 1 only at 70 degC."""
    released_c = DERATE_FROM_C - HYSTERESIS_K
    share = np.clip((DERATE_TO_ZERO_C - state.heat_c) / (DERATE_TO_ZERO_C - released_c), 0.0, 1.0)
    return np.where(state.cooling, share, 1.0)


def _heat(state: EvseState, loss_kw: Floats, models: Columns, ambient_c: float, dt_s: float) -> tuple[Floats, Bools]:
    """First-order heat sink in closed form; derating begins at 75 degC and ends 5 K below."""
    steady = ambient_c + models.heat_c_per_kw * loss_kw
    heat = steady + (state.heat_c - steady) * np.exp(-dt_s / models.heat_tau_s)
    cooling = heat > DERATE_FROM_C
    if np.count_nonzero(state.cooling):
        cooling |= state.cooling & (heat > DERATE_FROM_C - HYSTERESIS_K)
    return heat, cooling
