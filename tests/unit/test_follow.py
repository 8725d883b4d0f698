"""Asked to give in vain: what counts, and what does not."""

import numpy as np

from gridtide.control import follow
from gridtide.control.follow import FollowSettings, FollowState

RULES = FollowSettings()
NO = np.zeros(1, dtype=np.bool_)


def asked_in_vain(dt_s: float, times: int, power_kw: float = 0.0) -> tuple[FollowState, bool]:
    """A row that is asked for 10 kW in so many cycles and has `power_kw`; whether it rests."""
    state, rests = follow.fresh(1), NO
    for _ in range(times):
        state, rests = follow.step(state, np.array([-10.0]), np.array([power_kw]), NO, dt_s, RULES)
    return state, bool(rests[0])


def test_after_a_minute_in_vain_it_rests_and_is_tried_again_after_half_an_hour() -> None:
    assert not asked_in_vain(0.5, 120)[1]
    state, rests = asked_in_vain(0.5, 121)
    assert rests
    waited_s = 0.0
    while rests:
        state, told = follow.step(state, np.zeros(1), np.zeros(1), NO, 0.5, RULES)
        rests, waited_s = bool(told[0]), waited_s + 0.5
    assert waited_s == RULES.rest_s


def test_one_long_gap_between_two_cycles_proves_nothing() -> None:
    assert not asked_in_vain(3600.0, 2)[1]
    assert asked_in_vain(3600.0, 3)[1]


def test_who_gives_or_cannot_be_seen_does_not_rest() -> None:
    assert not asked_in_vain(0.5, 1000, power_kw=-3.0)[1]
    assert not asked_in_vain(0.5, 1000, power_kw=float("nan"))[1]


def test_who_comes_anew_is_tried() -> None:
    state, _ = asked_in_vain(0.5, 121)
    state, rests = follow.step(state, np.array([-10.0]), np.zeros(1), ~NO, 0.5, RULES)
    assert not rests[0]
    assert state.in_vain_s[0] == 0.0
