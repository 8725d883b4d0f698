"""Grid protection over random histories: never in service during a trip, never a trip inside ride-through, total on rubbish."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.control import grid_protection
from gridtide.control.grid_profiles import PROFILES, Profile, Trip
from gridtide.control.grid_protection import GridSettings, GridState
from gridtide.model.decision import GridSample

STEP_S = 0.1
NAMES = st.sampled_from(sorted(PROFILES))
NASTY = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e308, -1.0, 5e-324]) | st.floats()
STRETCH = st.tuples(
    st.floats(-4.0, 4.0) | st.sampled_from([0.0, -0.7, 0.7]),
    st.sampled_from([1.0, 0.0, 0.4, 0.7, 0.86, 0.95, 1.04, 1.08, 1.12, 1.22]),
    st.sampled_from([0.1, 0.3, 1.0, 2.5, 30.0, 310.0]),
)
"""Hz from nominal, per unit, seconds."""


class Seen:
    """What an observer who only knows the profile's table expects, sample by sample."""

    def __init__(self, profile: Profile) -> None:
        self.profile, self.since = profile, dict[Trip, float]()
        self.good_since_s = math.inf
        self.must_be_off = False

    def take(self, at_s: float, hz: float, pu: float) -> bool:
        """True when this very sample must trip."""
        trips = False
        for trip in self.profile.trips:
            value = pu if trip.quantity == "voltage" else hz
            if (value > trip.level) if trip.side == "over" else (value < trip.level):
                self.since.setdefault(trip, at_s)
                trips |= at_s - self.since[trip] >= trip.clearing_s - 1e-6
            else:
                self.since.pop(trip, None)
        trips |= hz < 10.0 or pu < 0.1
        window = self.profile
        good = window.enter_low_pu <= pu <= window.enter_high_pu and window.enter_low_hz <= hz <= window.enter_high_hz
        self.good_since_s = min(self.good_since_s, at_s) if good and not trips else math.inf
        if trips:
            self.must_be_off = True
        elif at_s - self.good_since_s >= self.profile.enter_delay_s - 1e-6:
            self.must_be_off = False
        return trips


def violations(name: tuple[str, float], story: list[tuple[float, float, float]]) -> set[str]:
    """What of the rules breaks over a history sampled every 100 ms."""
    profile, found = PROFILES[name], set[str]()
    rules, seen, state = GridSettings(profile=profile, nominal_v=1.0), Seen(profile), GridState()
    tick = 0
    for offset_hz, pu, seconds in story:
        hz = profile.nominal_hz + offset_hz
        for _ in range(round(seconds / STEP_S)):
            tick += 1
            at_s = tick * STEP_S
            trips = seen.take(at_s, hz, pu)
            state, verdict = grid_protection.step(state, GridSample(at_s, hz, (pu,)), at_s, rules)
            flows = verdict.may_charge or verdict.may_discharge
            if trips and (verdict.in_service or flows):
                found.add("in service during a trip")
            if seen.must_be_off and (verdict.in_service or flows):
                found.add("back too early")
            if not seen.must_be_off and not verdict.in_service:
                found.add("tripped inside ride-through, or did not return")
            if not (0.0 <= verdict.charge_share <= 1.0 and 0.0 <= verdict.discharge_share <= 1.0):
                found.add("share")
    return found


@given(NAMES, st.lists(STRETCH, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_trips_when_the_table_says_and_only_then(
    name: tuple[str, float], story: list[tuple[float, float, float]]
) -> None:
    assert violations(name, story) == set()


STORIES = [
    [(0.0, 1.0, 1.0), (0.0, 0.0, 0.3), (0.0, 1.0, 310.0)],
    [(0.0, 1.0, 1.0), (-4.0, 1.0, 0.5), (0.0, 1.0, 150.0), (-0.7, 1.0, 0.1), (0.0, 1.0, 310.0)],
    [(0.0, 1.0, 1.0), (0.0, 0.7, 1.0), (0.0, 1.0, 0.1), (0.0, 0.7, 20.5), (0.0, 1.0, 310.0)],
]


def _never_lost(_profile: Any, _since: Any, _at_s: float, _pu: float, _hz: float) -> str:
    return ""


def _too_soon(profile: Profile, since: tuple[float, ...], at_s: float, pu: float, hz: float) -> str:
    lost = hz < 10.0 or pu < 0.1
    return "too soon" if lost or any(at_s >= start_s for start_s in since) else ""


@pytest.mark.parametrize(
    ("what", "planted", "found"),
    [
        ("_cause", _never_lost, "in service during a trip"),
        ("_cause", _too_soon, "tripped inside ride-through, or did not return"),
        ("_is_outside", lambda *_: False, "in service during a trip"),
        ("TOLERANCE_S", 150.0, "back too early"),
    ],
)
def test_a_planted_defect_is_caught(what: str, planted: Any, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> set[str]:
        return {one for story in STORIES for one in violations(("ieee1547_2018", 60.0), story)}

    assert broken() == set()
    monkeypatch.setattr(grid_protection, what, planted)
    assert found in broken()


@given(NAMES, st.lists(st.tuples(NASTY, NASTY, st.lists(NASTY, max_size=3), NASTY), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_total_on_any_number(name: tuple[str, float], rows: list[tuple[float, float, list[float], float]]) -> None:
    """Rubbish never raises, never makes a share that is no share, and is never a reason to give while nothing is seen."""
    rules, state = GridSettings(profile=PROFILES[name], nominal_v=230.0), GridState()
    for at_s, hz, volts, now_s in rows:
        state, verdict = grid_protection.step(state, GridSample(at_s, hz, tuple(volts)), now_s, rules)
        assert 0.0 <= verdict.charge_share <= 1.0
        assert 0.0 <= verdict.discharge_share <= 1.0
        assert verdict.in_service or not verdict.may_charge
        if not now_s - state.seen_s <= rules.stale_s:
            assert not verdict.may_discharge
