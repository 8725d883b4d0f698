"""AT13: whether a station's energy register and its power tell the same story. One of the two is false where they do not."""

import numpy as np
from msgspec import Struct

from gridtide.model.fleet import Bools, EvseTable, Floats


class EnergySettings(Struct, frozen=True, kw_only=True):
    """When register and power contradict each other."""

    share: float = 0.05
    floor_kwh: float = 0.1
    """Resolution of a register."""
    lag_s: float = 2.0
    """Register and power may be of instants so far apart."""
    window_kwh: float = 5.0
    window_s: float = 1800.0
    """After so much energy or time without a contradiction the comparison begins anew: a few watts of the station's own, in one
    of the two only, must not add up over a night."""
    confirm_s: float = 10.0


class EnergyState(Struct, frozen=True, eq=False):
    """Per row, (n,), since the comparison began."""

    register_kwh: Floats
    """Net register at its beginning; nan none."""
    own_kwh: Floats
    """Net energy by the metered power."""
    through_kwh: Floats
    """The same without signs."""
    began_s: Floats
    """Instant of its beginning."""
    doubt_s: Floats
    """Instant at which the present contradiction began; inf none."""
    fault: Bools


def fresh(size: int) -> EnergyState:
    """Nothing is compared yet."""
    zero = np.zeros(size)
    return EnergyState(np.full(size, np.nan), zero, zero, zero, np.full(size, np.inf), zero > 1.0)


def step(
    state: EnergyState,
    register_kwh: Floats,
    power_kw: Floats,
    connected: Bools,
    came: Bools,
    other: Bools,
    table: EvseTable,
    now_s: float,
    dt_s: float,
    settings: EnergySettings,
) -> EnergyState:
    """Compare the net registers (import less export, (n,), nan not told) with the integral of `power_kw` (nan unknown).

    `came`, `other`: as in `soc_check.step`.
    """
    hours = dt_s / 3600.0
    own = state.own_kwh + np.where(np.isfinite(power_kw), power_kw, 0.0) * hours
    through = state.through_kwh + np.abs(own - state.own_kwh)
    gap = np.abs(register_kwh - state.register_kwh - own)
    rated = np.maximum(table.charge_kw, table.discharge_kw)
    allowed = settings.floor_kwh + settings.share * through + rated * settings.lag_s / 3600.0
    wrong = connected & ~(came | other) & (gap > allowed)
    doubt, fault = np.full(own.size, np.inf), wrong
    if np.count_nonzero(wrong) or np.count_nonzero(state.fault):
        doubt = np.where(wrong, np.minimum(state.doubt_s, now_s), np.inf)
        fault = (state.fault & ~came | wrong & (now_s - doubt >= settings.confirm_s)) & connected
    # What flowed unseen is in the register only.
    anew = came | other | np.isnan(power_kw) | np.isnan(state.register_kwh) | ~np.isfinite(register_kwh)
    anew |= ~wrong & ((through >= settings.window_kwh) | (now_s - state.began_s >= settings.window_s))
    if not np.count_nonzero(anew & connected):  # of an empty bay nothing counts until somebody came
        return EnergyState(state.register_kwh, own, through, state.began_s, doubt, fault)
    return EnergyState(
        np.where(anew, register_kwh, state.register_kwh), np.where(anew, 0.0, own), np.where(anew, 0.0, through),
        np.where(anew, now_s, state.began_s), np.where(anew, np.inf, doubt), fault,
    )  # fmt: skip
