"""A vehicle that is asked to give and gives nothing: nobody may count on it. OCPP 2.0.1 cannot say whether a vehicle is able to.

Judged by the station's meter alone. After a minute without effect the vehicle rests for half an hour, others give instead, and then
it is tried again: a cold battery gets warm.
"""

import numpy as np
from msgspec import Struct

from gridtide.model.fleet import Bools, Floats


class FollowSettings(Struct, frozen=True, kw_only=True):
    """How long nothing may happen."""

    patience_s: float = 60.0
    rest_s: float = 1800.0
    nothing_kw: float = 0.2
    """Less than this is no discharge."""


class FollowState(Struct, frozen=True, eq=False):
    """Per row, (n,)."""

    in_vain_s: Floats
    """So long it was asked to give since it last gave; time in which its power is not known does not count."""
    rest_s: Floats
    """So long it is still left alone."""


def fresh(size: int) -> FollowState:
    """Everybody is believed to be able."""
    return FollowState(np.zeros(size), np.zeros(size))


def step(
    state: FollowState, asked_kw: Floats, power_kw: Floats, came: Bools, dt_s: float, settings: FollowSettings
) -> tuple[FollowState, Bools]:
    """State after this cycle and the rows that are left alone; `asked_kw` (n,) was sent last, `power_kw` (n,) is nan if unknown.

    One look proves little however long ago the one before it was: a gap counts as half the patience at most.
    """
    asked = asked_kw < -settings.nothing_kw
    if not any(np.count_nonzero(some) for some in (asked, state.in_vain_s, state.rest_s)):
        return state, asked
    in_vain_s = state.in_vain_s + min(dt_s, settings.patience_s / 2.0) * (asked & (power_kw > -settings.nothing_kw))
    in_vain_s = np.where(came | (power_kw <= -settings.nothing_kw), 0.0, in_vain_s)
    gives_up = in_vain_s > settings.patience_s
    rest_s = np.where(gives_up, settings.rest_s, np.where(came, 0.0, np.maximum(state.rest_s - dt_s, 0.0)))
    return FollowState(np.where(gives_up, 0.0, in_vain_s), rest_s), rest_s > 0.0
