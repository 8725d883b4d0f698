"""The past of a demo: the billing period so far, run in the fast tier, so that the page opens on a site with a history."""

from collections.abc import Callable

from msgspec import Struct, structs

from gridtide.control import needs, shadow
from gridtide.control import site as control
from gridtide.control.shadow import Carried, ShadowState
from gridtide.model.decision import Decision, Snapshot
from gridtide.run import fast
from gridtide.run.history import History
from gridtide.twin.plant import Plant, StationaryBattery, World

COARSE_STEP_S = 300.0
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
    """Run from `start_s` to `until_s`: coarse at first, the last hour and a quarter in 5 s steps."""
    size = here.table.size
    recorder = _Recorder(settings, size)
    coarse_steps = max(0, int((until_s - FINE_SPAN_S - start_s) // COARSE_STEP_S))
    fine_s = start_s + coarse_steps * COARSE_STEP_S
    begin = control.fresh(settings)
    plant: Plant | None = None
    for begin_s, end_s, step_s in ((start_s, fine_s, COARSE_STEP_S), (fine_s, until_s, FINE_STEP_S)):
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
