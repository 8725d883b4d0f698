"""One state machine and one on-loss rule per link: when it counts as lost, what holds then, what brings it back. Pure.

The meter's own machine is `control.meter`; what a silent station means is `control.guard`. Here are the rules of all links in one
table, the machine they share, and the one link that has a limit of its own: the grid operator's.
"""

import math
from typing import Literal

from msgspec import Struct, structs

HIGHEST_KW = 100_000.0
LONGEST_S = 30 * 86_400.0
"""No limit of the operator is given for longer; one that shall hold on has no duration."""


class LinkRule(Struct, frozen=True, kw_only=True):
    """When a link is lost and when it is back."""

    name: str
    lost_after_s: float
    """Silence after which it is lost; infinite: never."""
    on_loss: str
    """What holds then, for people."""
    back: str
    """What brings it back, for people."""
    good: int = 1
    """Signs of life in a row that bring it back ..."""
    good_for_s: float = 0.0
    """... and the time they must span."""
    gap_s: float = math.inf
    """Silence that breaks such a row."""


class LinkState(Struct, frozen=True):
    """What is remembered of a link. One that was never heard is lost."""

    heard_s: float = -math.inf
    """Monotonic instant of the last sign of life."""
    is_lost: bool = True
    since_s: float = -math.inf
    """Monotonic instant since which it is lost, or alive."""
    good: int = 0
    """Signs of life in a row while it was lost."""
    good_since_s: float = math.inf


def hear(state: LinkState, rule: LinkRule, now_s: float, *, is_proof: bool = False) -> LinkState:
    """A sign of life; `is_proof` brings the link back at once, whatever its rule waits for."""
    state = look(state, rule, now_s)
    if not state.is_lost:
        return structs.replace(state, heard_s=now_s)
    is_first = state.good == 0 or now_s - state.heard_s > rule.gap_s
    good, since_s = (1, now_s) if is_first else (state.good + 1, state.good_since_s)
    if is_proof or (good >= rule.good and now_s - since_s >= rule.good_for_s):
        return LinkState(heard_s=now_s, is_lost=False, since_s=now_s)
    return structs.replace(state, heard_s=now_s, good=good, good_since_s=since_s)


def look(state: LinkState, rule: LinkRule, now_s: float) -> LinkState:
    """The state at `now_s`: silence loses the link, and breaks a row that would have brought it back."""
    silent_s = now_s - state.heard_s
    if not state.is_lost and silent_s > rule.lost_after_s:
        return LinkState(heard_s=state.heard_s, is_lost=True, since_s=now_s)
    if state.is_lost and state.good and silent_s > rule.gap_s:
        return structs.replace(state, good=0, good_since_s=math.inf)
    return state


# --- the grid operator's limit ----------------------------------------------------------------------------------------
class OperatorRule(Struct, frozen=True, kw_only=True):
    """`[operator_limit]`: what holds when the operator's system is silent."""

    failsafe_kw: float
    """Import while the link is lost, kW."""
    failsafe_export_kw: float | None = None
    """Export while the link is lost, kW; None: the connection's own limit."""
    lost_after_s: float = 120.0
    failsafe_s: float = 7200.0
    """Least time that the failsafe limit holds while nothing is heard."""
    after_failsafe: Literal["hold", "lift"] = "hold"
    """What follows that time while still nothing is heard: the failsafe limit holds on, or it is lifted and people are told."""
    return_s: float = 120.0
    """Time of unbroken heartbeat that brings the link back without a new limit."""

    def link(self) -> LinkRule:
        """The rule of the link itself."""
        return LinkRule(
            name="Operator", lost_after_s=self.lost_after_s,
            on_loss=f"failsafe limit of {self.failsafe_kw:g} kW",
            back=f"a heartbeat with a new limit, or {self.return_s:g} s of heartbeat",
            good=2, good_for_s=self.return_s, gap_s=self.lost_after_s / 2.0,
        )  # fmt: skip


class OperatorLimit(Struct, frozen=True, kw_only=True):
    """A limit as the operator gave it. None is no limit in that direction."""

    import_kw: float | None = None
    export_kw: float | None = None
    ends_s: float = math.inf
    """Monotonic instant at which it ends by itself; infinite: it holds until the next one."""
    source: str = ""


class OperatorState(Struct, frozen=True):
    """What is remembered of the operator."""

    link: LinkState = LinkState()
    limit: OperatorLimit | None = None
    is_lifted: bool = False
    """The failsafe limit was lifted after its time, as the site file asks."""


class Bound(Struct, frozen=True):
    """What holds now, kW; None is no limit in that direction."""

    import_kw: float | None = None
    export_kw: float | None = None


def limit_of(
    limit_kw: float | None, export_kw: float | None, duration_s: float | None, source: str, now_s: float
) -> OperatorLimit:
    """The limit that a message gives. Raises ValueError for a power that is negative or no number, and for a bad duration."""
    for name, power_kw in (("limit_kw", limit_kw), ("export_kw", export_kw)):
        if power_kw is not None and not 0.0 <= power_kw <= HIGHEST_KW:
            raise ValueError(f"{name} is {power_kw}: give a power from 0 to {HIGHEST_KW:.0f} kW")
    if limit_kw is None and export_kw is None and duration_s is not None:
        raise ValueError("duration_s is given without a limit: give limit_kw or export_kw")
    if duration_s is not None and not 0.0 < duration_s <= LONGEST_S:
        raise ValueError(f"duration_s is {duration_s}: give seconds up to {LONGEST_S:.0f}, or leave it out to hold on")
    ends_s = math.inf if duration_s is None else now_s + duration_s
    return OperatorLimit(import_kw=limit_kw, export_kw=export_kw, ends_s=ends_s, source=source)


def begin(state: OperatorState, now_s: float) -> OperatorState:
    """The state at a start: a link never heard is lost from now on, so that its failsafe time counts."""
    if math.isfinite(state.link.since_s):
        return state
    return structs.replace(state, link=structs.replace(state.link, since_s=now_s))


def operator_heard(
    state: OperatorState, rule: OperatorRule, now_s: float, limit: OperatorLimit | None
) -> tuple[OperatorState, tuple[str, ...]]:
    """A message: a heartbeat alone (`limit` None), or one with a limit, which replaces the last. Returns event codes too."""
    state, codes = operator_look(state, rule, now_s)
    link = hear(state.link, rule.link(), now_s, is_proof=limit is not None)
    if state.link.is_lost and not link.is_lost:
        codes = (*codes, "operator_limit_back")
    is_lifted = state.is_lifted and link.is_lost
    after = OperatorState(link, state.limit if limit is None else limit, is_lifted)
    return after, (*codes, "operator_limit") if limit is not None else codes


def operator_look(state: OperatorState, rule: OperatorRule, now_s: float) -> tuple[OperatorState, tuple[str, ...]]:
    """The state at `now_s`, and the codes of what changed with time alone."""
    link, codes, limit = look(state.link, rule.link(), now_s), tuple[str, ...](), state.limit
    if link.is_lost and not state.link.is_lost:
        codes = ("operator_limit_lost",)
    if limit is not None and now_s >= limit.ends_s:
        limit, codes = None, (*codes, "operator_limit_ended")
    due = link.is_lost and rule.after_failsafe == "lift" and now_s - link.since_s >= rule.failsafe_s
    if due and not state.is_lifted:
        codes = (*codes, "operator_limit_lifted")
    return OperatorState(link, limit, due), codes


def bound(state: OperatorState, rule: OperatorRule) -> Bound:
    """What holds: the failsafe limit while the link is lost, whatever the last limit was; else that limit."""
    if state.link.is_lost:
        return Bound() if state.is_lifted else Bound(rule.failsafe_kw, rule.failsafe_export_kw)
    if state.limit is None:
        return Bound()
    return Bound(state.limit.import_kw, state.limit.export_kw)


def least_kw(first_kw: float | None, second_kw: float | None) -> float | None:
    """The stricter of two limits; None is none."""
    if first_kw is None or second_kw is None:
        return second_kw if first_kw is None else first_kw
    # A limit that is not a number stays what it is: the guard lets nothing through then.
    return min(first_kw, second_kw) if not math.isnan(first_kw) else first_kw
