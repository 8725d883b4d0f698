"""The fast tier: a plain loop of plant and controller, for studies, years and property tests.

Both the controlled run and the reference ("the same vehicles charged at once at full power") come from the same plant.
"""

from collections.abc import Callable

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from gridtide.control import site
from gridtide.model.decision import Decision, MeterSample, Snapshot
from gridtide.model.fleet import Floats
from gridtide.run.planning import Planning
from gridtide.twin import plant as twin
from gridtide.twin.plant import Left, Plant, StationaryBattery, World

Progress = Callable[[float], None]
_PERIOD_LOOK_S = 900.0


class Run(Struct, frozen=True, eq=False, kw_only=True):
    """What one run left behind. Series have one entry per step, (m,); fan rows are (m, n) taken every `fan_every` steps."""

    step_s: float
    start_s: float
    grid_kw: Floats
    building_kw: Floats
    left: tuple[Left, ...]
    plant: Plant
    events: dict[str, int]
    soc: NDArray[np.float32]
    fan_every: int
    state: site.State | None = None


class _Log:
    """Collects what a run leaves behind."""

    def __init__(self, steps: int, rows: int, step_s: float) -> None:
        self.grid, self.building = np.empty(steps), np.empty(steps)
        self.fan_every = max(1, round(900.0 / step_s))
        self.soc = np.full((steps // self.fan_every + 1, rows), np.nan, dtype=np.float32)
        self.left: list[Left] = []
        self.events: dict[str, int] = {}

    def add(self, k: int, sample: twin.Sample, plant: Plant, events: tuple[str, ...]) -> None:
        """Record step `k`."""
        self.grid[k], self.building[k] = sample.grid_kw, sample.building_kw
        self.left += sample.left
        for code in events:
            self.events[code] = self.events.get(code, 0) + 1
        if k % self.fan_every == 0:
            self.soc[k // self.fan_every] = plant.batteries.soc


def controlled(
    here: World,
    settings: site.Settings,
    start_s: float,
    end_s: float,
    step_s: float,
    *,
    storage: tuple[StationaryBattery, ...] = (),
    period_start: Callable[[float], float] = lambda _: 0.0,
    state: site.State | None = None,
    on_step: Callable[[Snapshot, Decision, site.State], None] | None = None,
    plant: Plant | None = None,
    decide_after_s: float = 0.0,
    progress: Progress | None = None,
    planning: Planning | None = None,
) -> Run:
    """Run plant and controller from `start_s` to `end_s` (UTC epoch s) in steps of `step_s`.

    The controller looks `decide_after_s` after each step's end, as the site's loop does after the plant's beat in the wire tier.
    With `planning` it follows a plan that is made anew as somebody comes or leaves, and at least hourly.
    """
    plant = plant or twin.start(here, start_s, storage)
    state = state or site.fresh(settings)
    steps = round((end_s - start_s) / step_s)
    log = _Log(steps, here.table.size, step_s)
    period_s = period_start(start_s)
    look = max(1, round(_PERIOD_LOOK_S / step_s))
    for k in range(steps):
        now_s = start_s + (k + 1) * step_s
        plant, sample = twin.advance(here, plant, now_s)
        if k % look == 0:
            period_s = period_start(now_s)
        if progress is not None and k % 900 == 0:
            progress(k / steps)
        seen_s = now_s + decide_after_s
        snapshot = observe(here, plant, sample, seen_s, seen_s, period_s)
        if planning is not None:
            settings = structs.replace(settings, guidance=planning.advise(snapshot, state))
        state, decision = site.step(state, snapshot, settings)
        if planning is not None:
            planning.note(snapshot, decision)
        plant = twin.command(here, plant, decision.setpoint_kw)
        log.add(k, sample, plant, decision.events)
        if on_step is not None:
            on_step(snapshot, decision, state)
    return Run(
        step_s=step_s, start_s=start_s, grid_kw=log.grid, building_kw=log.building, left=tuple(log.left), plant=plant,
        events=log.events, soc=log.soc, fan_every=log.fan_every, state=state,
    )  # fmt: skip


def observe(here: World, plant: Plant, sample: twin.Sample, now_s: float, mono_s: float, period_s: float) -> Snapshot:
    """What the controller sees of the plant: the meter in whole watts and each station's report."""
    return Snapshot(
        mono_s=mono_s,
        now_s=now_s,
        meter=MeterSample(mono_s, round(sample.grid_kw, 3)),
        fleet=twin.fleet_sample(here, plant, sample.power_kw),
        period_start_s=period_s,
    )


def charge_at_once(
    here: World,
    start_s: float,
    end_s: float,
    step_s: float,
    *,
    storage: tuple[StationaryBattery, ...] = (),
    progress: Progress | None = None,
) -> Run:
    """The reference: every vehicle charges at full power from arrival until it has what the driver needs."""
    plant = twin.start(here, start_s, storage)
    steps = round((end_s - start_s) / step_s)
    log = _Log(steps, here.table.size, step_s)
    full = here.table.charge_kw
    for k in range(steps):
        plant, sample = twin.advance(here, plant, start_s + (k + 1) * step_s)
        soc = plant.batteries.soc
        missing_kwh = np.where(plant.need_soc > soc, (plant.need_soc - soc) * plant.batteries.capacity_kwh, 0.0)
        wish = np.minimum(full, missing_kwh / here.table.efficiency * 3600.0 / step_s)
        plant = twin.command(here, plant, np.where(here.table.storage, 0.0, wish))
        log.add(k, sample, plant, ())
        if progress is not None and k % 900 == 0:
            progress(k / steps)
    return Run(
        step_s=step_s, start_s=start_s, grid_kw=log.grid, building_kw=log.building, left=tuple(log.left), plant=plant,
        events=log.events, soc=log.soc, fan_every=log.fan_every,
    )  # fmt: skip
