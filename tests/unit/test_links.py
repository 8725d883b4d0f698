"""Links and their on-loss rules: every scenario of the operator's limit that was seen failing in the field."""

import math

import pytest

from gridtide.control import links
from gridtide.control.links import Bound, LinkRule, LinkState, OperatorRule, OperatorState

RULE = OperatorRule(failsafe_kw=150.0, failsafe_export_kw=0.0)
FAILSAFE = Bound(150.0, 0.0)
HOUR_S = 3600.0


class Operator:
    """A link under way, second by second; `codes` is all that was told."""

    def __init__(self, rule: OperatorRule = RULE, state: OperatorState | None = None) -> None:
        self.rule, self.now_s, self.codes = rule, 1000.0, list[str]()
        self.state = links.begin(state or OperatorState(), self.now_s)

    def says(
        self, limit_kw: float | None = None, duration_s: float | None = None, export_kw: float | None = None
    ) -> "Operator":
        """A message: a heartbeat alone without a limit."""
        has_limit = limit_kw is not None or export_kw is not None
        limit = links.limit_of(limit_kw, export_kw, duration_s, "test", self.now_s) if has_limit else None
        self.state, codes = links.operator_heard(self.state, self.rule, self.now_s, limit)
        self.codes += codes
        return self

    def passes(self, seconds: float, heartbeat_s: float | None = None) -> "Operator":
        """Time, in cycles of half a second, with heartbeats alone or without."""
        ends_s = self.now_s + seconds
        beat_s = self.now_s
        while self.now_s < ends_s:
            self.now_s += 0.5
            self.state, codes = links.operator_look(self.state, self.rule, self.now_s)
            self.codes += codes
            if heartbeat_s is not None and self.now_s - beat_s >= heartbeat_s:
                beat_s = self.now_s
                self.says()
        return self

    @property
    def bound(self) -> Bound:
        return links.bound(self.state, self.rule)


def test_never_heard_is_lost_and_the_failsafe_limit_holds() -> None:
    assert Operator().bound == FAILSAFE
    assert Operator().passes(10.0).bound == FAILSAFE


def test_a_limit_holds_while_the_heartbeat_goes_on() -> None:
    operator = Operator().says(300.0)
    assert operator.bound == Bound(300.0)
    assert operator.passes(HOUR_S, heartbeat_s=60.0).bound == Bound(300.0)


def test_heartbeat_lost() -> None:
    operator = Operator().says(300.0)
    assert operator.passes(120.0).bound == Bound(300.0)
    assert operator.passes(0.5).bound == FAILSAFE
    assert operator.codes.count("operator_limit_lost") == 1


def test_dead_tcp_never_leaves_the_last_setpoint_in_force() -> None:
    """Whatever the last limit was, above or below: it does not outlive the heartbeat."""
    for last_kw in (500.0, 20.0):
        assert Operator().says(last_kw).passes(121.0).bound == FAILSAFE


def test_lost_and_returning_with_a_new_limit_is_back_at_once() -> None:
    operator = Operator().says(300.0).passes(200.0)
    assert operator.says(280.0).bound == Bound(280.0)
    assert operator.codes[-2:] == ["operator_limit_back", "operator_limit"]


def test_lost_and_returning_by_heartbeat_alone_takes_its_time() -> None:
    operator = Operator().says(300.0).passes(200.0).says()
    assert operator.bound == FAILSAFE
    assert operator.passes(110.0, heartbeat_s=10.0).bound == FAILSAFE
    assert operator.passes(11.0, heartbeat_s=10.0).bound == Bound(300.0)


def test_a_heartbeat_with_gaps_does_not_bring_the_link_back() -> None:
    operator = Operator().says(300.0).passes(200.0)
    for _ in range(6):
        assert operator.says().passes(61.0).bound == FAILSAFE


def test_the_failsafe_state_is_left_without_a_restart() -> None:
    operator = Operator().passes(3.0 * HOUR_S)
    assert operator.says(200.0).bound == Bound(200.0)
    assert operator.passes(121.0).bound == FAILSAFE
    assert operator.says(220.0).bound == Bound(220.0)


def test_no_silent_unlimited_after_two_hours() -> None:
    operator = Operator().says(300.0).passes(121.0)
    assert operator.passes(5.0 * HOUR_S).bound == FAILSAFE
    assert "operator_limit_lifted" not in operator.codes


def test_the_failsafe_limit_is_lifted_only_where_asked_not_before_its_time_and_told() -> None:
    operator = Operator(OperatorRule(failsafe_kw=150.0, after_failsafe="lift")).says(300.0).passes(121.0)
    assert operator.passes(2.0 * HOUR_S - 10.0).bound == Bound(150.0)
    assert operator.passes(10.0).bound == Bound()
    assert operator.codes.count("operator_limit_lifted") == 1
    # A heartbeat alone does not bring an old word back at once, a new limit does.
    assert operator.says().bound == Bound()
    assert operator.says(100.0).bound == Bound(100.0)


def test_a_limit_without_duration_does_not_expire() -> None:
    operator = Operator().says(300.0).passes(30 * HOUR_S, heartbeat_s=50.0)
    assert operator.bound == Bound(300.0)
    assert "operator_limit_ended" not in operator.codes


def test_a_limit_with_a_duration_ends_with_it() -> None:
    operator = Operator().says(300.0, duration_s=600.0)
    assert operator.passes(599.0, heartbeat_s=30.0).bound == Bound(300.0)
    assert operator.passes(1.0, heartbeat_s=30.0).bound == Bound()
    assert operator.codes.count("operator_limit_ended") == 1


def test_a_gap_of_four_seconds_has_no_effect() -> None:
    operator = Operator().says(300.0)
    bounds = set[float | None]()
    for _ in range(20):
        for _ in range(8):
            bounds.add(operator.passes(0.5).bound.import_kw)
        operator.says(300.0)
    assert bounds == {300.0}


@pytest.mark.parametrize("power_kw", [-0.1, -1e9, math.nan, math.inf, -math.inf, 1e6])
def test_what_is_no_limit_is_refused(power_kw: float) -> None:
    operator = Operator().says(300.0)
    for name in ("limit_kw", "export_kw"):
        with pytest.raises(ValueError, match=name):
            links.limit_of(
                **{"limit_kw": None, "export_kw": None, name: power_kw}, duration_s=None, source="", now_s=0.0
            )
    assert operator.bound == Bound(300.0)


@pytest.mark.parametrize("duration_s", [0.0, -5.0, math.nan, math.inf, 1e9])
def test_a_duration_that_cannot_be_meant_is_refused(duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration_s"):
        links.limit_of(100.0, None, duration_s, "", 0.0)


def test_a_duration_needs_a_limit_and_zero_is_one() -> None:
    with pytest.raises(ValueError, match="without a limit"):
        links.limit_of(None, None, 60.0, "", 0.0)
    assert Operator().says(0.0).bound == Bound(0.0)


def test_export_is_a_limit_of_its_own() -> None:
    assert Operator().says(export_kw=5.0).bound == Bound(None, 5.0)


def test_three_signs_of_life_in_a_row_bring_a_link_back() -> None:
    rule = LinkRule(name="meter", lost_after_s=1.0, on_loss="", back="", good=3, gap_s=1.0)
    state = LinkState()
    for at_s, is_lost in ((0.0, True), (0.5, True), (2.0, True), (2.5, True), (3.0, False), (4.0, False), (5.1, True)):
        state = links.hear(state, rule, at_s)
        assert state.is_lost is is_lost, at_s


@pytest.mark.parametrize(
    ("first", "second", "least"),
    [(None, None, None), (5.0, None, 5.0), (None, 7.0, 7.0), (5.0, 7.0, 5.0), (7.0, 5.0, 5.0), (-3.0, 5.0, -3.0)],
)
def test_the_stricter_limit_counts(first: float | None, second: float | None, least: float | None) -> None:
    assert links.least_kw(first, second) == least
    assert math.isnan(links.least_kw(math.nan, 5.0) or 0.0)
