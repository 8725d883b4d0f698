"""The grid as it really is: voltage and frequency by a script of steps, ramps and outages; and what is wired against an island.

Ground truth, apart from what any controller sees. The wired part of every emulated EVSE stage opens by itself when the grid is lost
and closes again only after the grid was good for long enough; no setpoint goes past it.
"""

import math
from bisect import bisect_right

from msgspec import Struct

DEAD_PU, DEAD_HZ = 0.1, 10.0
"""Below either there is no grid to feed."""


class GridEvent(Struct, frozen=True):
    """From `at_s` on voltage and frequency move to new values, linearly within `over_s` (0: a step). None stays."""

    at_s: float
    frequency_hz: float | None = None
    voltage_pu: float | None = None
    over_s: float = 0.0


class GridTruth(Struct, frozen=True):
    """One instant."""

    frequency_hz: float
    voltage_pu: float

    @property
    def is_dead(self) -> bool:
        """No grid is there."""
        return self.frequency_hz < DEAD_HZ or self.voltage_pu < DEAD_PU


class Grid(Struct, frozen=True, kw_only=True):
    """A script over time; without events the grid stays at its nominal values. Instants are UTC epoch s."""

    nominal_hz: float = 50.0
    nominal_v: float = 230.0
    """Phase to neutral."""
    events: tuple[GridEvent, ...] = ()
    """In order of time; one that begins while another moves takes over from where that one is."""
    cease_s: float = 1.0
    """The wired part opens this long after the grid is lost; IEEE 1547-2018 allows 2 s."""
    return_s: float = 300.0
    """It closes after so much good grid."""
    good_pu: tuple[float, float] = (0.85, 1.1)
    good_hz: tuple[float, float] = (-0.5, 0.5)
    """Around nominal."""

    def truth(self, at_s: float) -> GridTruth:
        """Voltage and frequency at an instant."""
        hz, pu = self.nominal_hz, 1.0
        for number, event in enumerate(self.events):
            if event.at_s > at_s:
                break
            follows = self.events[number + 1 : number + 2]
            until_s = min(at_s, follows[0].at_s) if follows else at_s
            share = 1.0 if event.over_s <= 0.0 else min((until_s - event.at_s) / event.over_s, 1.0)
            hz += share * ((event.frequency_hz if event.frequency_hz is not None else hz) - hz)
            pu += share * ((event.voltage_pu if event.voltage_pu is not None else pu) - pu)
        return GridTruth(hz, pu)

    def next_change_s(self, after_s: float) -> float:
        """The next instant at which an event begins; inf without one."""
        if not self.events:
            return math.inf
        starts = [event.at_s for event in self.events]
        place = bisect_right(starts, after_s)
        return starts[place] if place < len(starts) else math.inf

    def is_good(self, truth: GridTruth) -> bool:
        """Whether the wired part may count this instant towards its return."""
        low_pu, high_pu = self.good_pu
        low_hz, high_hz = self.good_hz
        return low_pu <= truth.voltage_pu <= high_pu and low_hz <= truth.frequency_hz - self.nominal_hz <= high_hz


def outage(at_s: float, until_s: float, grid: Grid) -> tuple[GridEvent, ...]:
    """The grid is gone from `at_s` and back at nominal at `until_s`."""
    return GridEvent(at_s, 0.0, 0.0), GridEvent(until_s, grid.nominal_hz, 1.0)


class Stage(Struct, frozen=True):
    """The wired part of the EVSE stages: open or closed, and since when the grid has been as it is."""

    is_open: bool = False
    dead_since_s: float = math.inf
    good_since_s: float = -math.inf
    openings: int = 0


def wired(stage: Stage, grid: Grid, at_s: float) -> Stage:
    """The wired part at `at_s`; called in order of time, at least at every change it waits for (`deadline_s`)."""
    truth = grid.truth(at_s)
    dead = min(stage.dead_since_s, at_s) if truth.is_dead else math.inf
    good = min(stage.good_since_s, at_s) if grid.is_good(truth) else math.inf
    if not stage.is_open and at_s - dead >= grid.cease_s - 1e-9:
        return Stage(True, dead, good, stage.openings + 1)
    if stage.is_open and at_s - good >= grid.return_s - 1e-9:
        return Stage(False, dead, good, stage.openings)
    return Stage(stage.is_open, dead, good, stage.openings)


def deadline_s(stage: Stage, grid: Grid) -> float:
    """The next instant at which the wired part may act; inf when it waits for nothing."""
    if stage.is_open:
        return stage.good_since_s + grid.return_s
    return stage.dead_since_s + grid.cease_s
