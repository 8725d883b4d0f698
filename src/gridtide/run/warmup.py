"""The past of a demo: the billing period so far, run in the fast tier, so that the page opens on a site with a history."""

from collections.abc import Callable

import numpy as np
from msgspec import Struct, structs

from gridtide.control import needs, shadow
from gridtide.control import site as control
from gridtide.control.shadow import Carried, ShadowState
from gridtide.model.decision import Decision, Snapshot
from gridtide.run import fast
from gridtide.run.history import History
from gridtide.twin.plant import Plant, StationaryBattery, World

IDLE_STEP_S = 300.0
"""Step of hours in which building and vehicles together stay far below the limit."""
BUSY_STEP_S = 60.0
FAR_BELOW = 0.95
FINE_STEP_S = 5.0
FINE_SPAN_S = 4_500.0


class Past(Struct, frozen=True, eq=False):
    """Everything a site service and an emulated plant continue from."""

    plant: Plant
    state: control.State
    carried: Carried
    shadow_state: ShadowState
    history: History


def warm_up(
    here: World,
    settings: control.Settings,
    start_s: float,
    until_s: float,
    period: Callable[[float], tuple[float, float]],
    storage: tuple[StationaryBattery, ...] = (),
) -> Past:
    """Run from `start_s` to `until_s`: idle hours coarsely, busy ones by the minute, the last hour and more in 5 s steps."""
    size = here.table.size
    recorder = _Recorder(settings, size)
    begin = control.fresh(settings)
    plant: Plant | None = None
    for begin_s, end_s, step_s in _segments(here, settings.peak.limit_kw, start_s, until_s):
        if end_s - begin_s < step_s:
            continue
        paced = structs.replace(settings, cycle_s=step_s, meter=structs.replace(settings.meter, stale_s=3.0 * step_s))
        recorder.pace(paced)
        run = fast.controlled(
            here, paced, begin_s, end_s, step_s, storage=storage, period_start=lambda at: period(at)[0],
            state=begin, on_step=recorder, plant=plant,
        )  # fmt: skip
        begin, plant = run.state or begin, run.plant
    fresh = control.fresh(settings)
    state = structs.replace(fresh, demand=begin.demand, peak=begin.peak)
    if plant is None:
        raise ValueError("the demo's start leaves no time for its past: start it at least 5 minutes into the period")
    return Past(plant, state, recorder.carried, recorder.shadow_state, recorder.history)


def _segments(here: World, limit_kw: float, start_s: float, until_s: float) -> list[tuple[float, float, float]]:
    """(begin, end, step) of stretches of whole hours, alike ones joined; the last one fine."""
    hours = max(0, int((until_s - FINE_SPAN_S - start_s) // 3600.0))
    highest_kw = np.array([_highest_kw(here, start_s + hour * 3600.0) for hour in range(hours + 1)])
    for stay in here.arrivals:
        first = int(max(0.0, (stay.arrived_s - start_s) // 3600.0))
        last = int(max(0.0, (stay.departs_s - start_s) // 3600.0))
        highest_kw[first : last + 1] += here.table.charge_kw[stay.row]
    found: list[tuple[float, float, float]] = []
    for hour in range(hours):
        step_s = BUSY_STEP_S if highest_kw[hour] > FAR_BELOW * limit_kw else IDLE_STEP_S
        begin_s = start_s + hour * 3600.0
        if found and found[-1][2] == step_s:
            found[-1] = (found[-1][0], begin_s + 3600.0, step_s)
        else:
            found.append((begin_s, begin_s + 3600.0, step_s))
    return [*found, (start_s + hours * 3600.0, until_s, FINE_STEP_S)]


def _highest_kw(here: World, hour_s: float) -> float:
    """Highest quarter-hour mean of the building in one hour."""
    return max(here.building.mean_kw(hour_s + q * 900.0, hour_s + (q + 1) * 900.0) for q in range(4))


class _Recorder:
    """Follows a fast run with the clocks of comparison and the page's history."""

    def __init__(self, settings: control.Settings, size: int) -> None:
        self._settings = settings
        self.carried = Carried()
        self.shadow_state = shadow.fresh(size)
        self.history = History(size)

    def pace(self, settings: control.Settings) -> None:
        """The step length changed."""
        self._settings = settings

    def __call__(self, snapshot: Snapshot, decision: Decision, state: control.State) -> None:
        settings = self._settings
        if snapshot.meter is None:
            return
        power_kw, dt_s = snapshot.meter.power_kw, settings.cycle_s
        need = needs.assess(settings.table, snapshot.fleet, settings.need, dt_s)
        self.shadow_state, self.carried = shadow.compare(
            self.shadow_state, self.carried, state.demand, power_kw, snapshot.fleet, need, settings.table,
            settings.interval, snapshot.period_start_s, dt_s,
        )  # fmt: skip
        self.history.add(snapshot.now_s, power_kw, decision.uncontrolled_kw)
        self.history.vehicles(snapshot.now_s, snapshot.fleet)
        self.history.close(decision.closed, settings.interval.length_s)
