"""DS9, I6: how often contactors close and power turns round, per EVSE and day, and what that still allows.

Counted is what the station's meter shows, not what was asked for. When a day's budget is used, the vehicle keeps its mode: one
that charges or rests is not called upon to give any more; one that gives goes on. Charging is never held back by wear.
"""

import numpy as np
from msgspec import Struct

from gridtide.model.fleet import Bools, Floats, Ints

DAY_S = 86_400.0


class WearSettings(Struct, frozen=True, kw_only=True):
    """A day's budget of one EVSE. Without current a contactor is good for a million closings: 200 a day are 13 years."""

    operations_per_day: int = 200
    """Closings: power begins to flow."""
    turns_per_day: int = 200
    """Changes between charging and giving."""
    on_kw: float = 0.5
    off_kw: float = 0.2


class WearState(Struct, frozen=True, eq=False):
    """Per row, (n,): what was used of the running day."""

    flowing: Bools
    direction: Floats
    """-1, 0 or +1: the last direction of power."""
    operations: Ints
    turns: Ints
    used_up: Bools
    day_left_s: float
    """Time until the day of this count is over."""


def fresh(size: int) -> WearState:
    """A new day."""
    zero, none = np.zeros(size), np.zeros(size, dtype=np.int64)
    return WearState(zero > 1.0, zero, none, none, zero > 1.0, DAY_S)


def step(state: WearState, power_kw: Floats, dt_s: float, settings: WearSettings) -> tuple[WearState, Bools]:
    """State after this cycle and the rows that may not begin to give; `power_kw` (n,) is nan where unknown."""
    size_kw = np.abs(power_kw)
    is_on = size_kw > settings.on_kw
    left_s = state.day_left_s - dt_s
    new_day = not left_s > 0.0
    operations, turns = (0 * state.operations, 0 * state.turns) if new_day else (state.operations, state.turns)
    flowing, direction = state.flowing, state.direction
    if np.count_nonzero(is_on) or np.count_nonzero(flowing):
        # Between the two thresholds, and where nothing is known, it is as it was.
        flowing = np.where(state.flowing, ~(size_kw < settings.off_kw), is_on)
        direction = np.where(is_on, np.sign(power_kw), state.direction)
        began, turned = flowing & ~state.flowing, direction != state.direction
        if np.count_nonzero(began):
            operations = operations + began
        if np.count_nonzero(turned):
            turns = turns + (turned & (state.direction != 0.0))
    used_up = (operations >= settings.operations_per_day) | (turns >= settings.turns_per_day)
    gives = flowing & (direction < 0.0)
    after = WearState(flowing, direction, operations, turns, used_up, DAY_S if new_day else left_s)
    return after, used_up & ~gives
