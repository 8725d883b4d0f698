"""Foresight beside a live loop: plans come from a worker thread and reach the loop as wishes; their failure ends nothing."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control import site
from gridtide.control.demand_clock import DemandState
from gridtide.model.decision import Decision, Snapshot
from gridtide.plan.forecast import predict
from gridtide.plan.forecast_drift import DriftFinding
from gridtide.plan.foresight import ForesightSettings
from gridtide.run import fast, planner_desk
from gridtide.run.planner_desk import PlannerDesk
from gridtide.run.planning import Planning
from gridtide.run.store import MemoryStore
from gridtide.run.study import StudyInputs
from tests.day.test_planning import office

INPUTS = office(days=1)


class Service:
    """What the desk sees of a site's service."""

    def __init__(self, inputs: StudyInputs) -> None:
        self.inputs, self.settings = inputs, inputs.settings
        self.state = site.fresh(inputs.settings)
        self.snapshot: Snapshot | None = None
        self.now_s = inputs.start_s
        self.watchers: list[Callable[..., None]] = []
        self.notes: list[tuple[str, str, str]] = []
        self.clock = SimpleNamespace(wall=lambda: self.now_s, monotonic=lambda: self.now_s, sleep=self._sleep)

    async def _sleep(self, _: float) -> None:
        await asyncio.sleep(0.002)

    def note(self, code: str, source: str, text: str) -> None:
        self.notes.append((code, source, text))

    def cycle(self, snapshot: Snapshot, decision: Decision, state: site.State) -> None:
        """One cycle of the loop, as the site's service tells its watchers of it."""
        self.snapshot, self.state, self.now_s = snapshot, state, snapshot.now_s
        for watcher in self.watchers:
            watcher(state, self.settings, snapshot, decision, state)

    @property
    def codes(self) -> list[str]:
        return [code for code, _, _ in self.notes]


def cycles(inputs: StudyInputs, hours: float) -> list[tuple[Snapshot, Decision, site.State]]:
    found: list[tuple[Snapshot, Decision, site.State]] = []
    fast.controlled(
        inputs.world, inputs.settings, inputs.start_s, inputs.start_s + hours * 3600.0, inputs.step_s,
        period_start=lambda _: inputs.start_s, on_step=lambda *told: found.append(told),
    )  # fmt: skip
    return found


SEEN = cycles(INPUTS, 11.0)


async def desk_of(service: Service, store: MemoryStore | None = None) -> tuple[PlannerDesk, "asyncio.Task[None]"]:
    desk = PlannerDesk(service, store or MemoryStore(), INPUTS.tariff, ForesightSettings(), lambda at_s: f"{at_s:.0f}")  # type: ignore[arg-type]
    task = asyncio.ensure_future(desk.run())
    while not service.watchers:
        await asyncio.sleep(0.005)
    return desk, task


async def until(true: Callable[[], Any], task: "asyncio.Task[None]") -> None:
    for _ in range(4_000):
        if true():
            return
        assert not task.done(), task.exception()
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come")


async def played(service: Service, task: "asyncio.Task[None]") -> None:
    """A night and a morning, every cycle with time for a plan."""
    for told in SEEN:
        service.cycle(*told)
        await asyncio.sleep(0.002)
    assert not task.done()


def test_plans_reach_the_loop_as_wishes() -> None:
    async def story() -> None:
        service = Service(INPUTS)
        desk, task = await desk_of(service)
        assert desk.view() is None
        await played(service, task)
        await until(lambda: desk.planning.in_force, task)
        service.cycle(*SEEN[-1])
        view = desk.view()
        assert view is not None
        assert {vehicle.bay for vehicle in view.vehicles} <= set(INPUTS.settings.table.ids)
        assert len(view.vehicles) > 10
        assert view.target_kw is not None
        guidance = service.settings.guidance
        assert guidance is not None
        assert 0.0 < guidance.limit_kw < 800.0
        task.cancel()

    asyncio.run(story())


def test_a_planner_that_fails_ends_nothing_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        service = Service(INPUTS)
        real = Planning.answer
        monkeypatch.setattr(Planning, "answer", lambda *_: 1 / 0)
        desk, task = await desk_of(service)
        await played(service, task)
        await until(lambda: "plan_failed" in service.codes, task)
        assert desk.view() is None
        assert service.settings.guidance is None
        failed = service.codes.count("plan_failed")
        assert failed <= len(SEEN) * INPUTS.step_s / planner_desk.RETRY_S + 1
        monkeypatch.setattr(Planning, "answer", real)
        later = structs.replace(SEEN[-1][0], now_s=SEEN[-1][0].now_s + 2 * planner_desk.RETRY_S)
        service.cycle(later, *SEEN[-1][1:])
        await until(lambda: desk.view() is not None, task)
        task.cancel()

    asyncio.run(story())


def test_a_driver_who_cannot_be_served_is_told_once() -> None:
    async def story() -> None:
        service = Service(INPUTS)
        _, task = await desk_of(service)
        await played(service, task)
        last = SEEN[-1][0]
        row = int(np.flatnonzero(last.fleet.connected)[0])
        soc, need, left = last.fleet.soc.copy(), last.fleet.need_soc.copy(), last.fleet.left_s.copy()
        soc[row], need[row], left[row] = 0.2, 1.0, 3600.0
        hard = structs.replace(last, fleet=structs.replace(last.fleet, soc=soc, need_soc=need, left_s=left))
        bay = INPUTS.settings.table.ids[row]
        for k in range(30):
            service.cycle(structs.replace(hard, now_s=hard.now_s + k), *SEEN[-1][1:])
            await asyncio.sleep(0.01)
        await until(lambda: "plan_short" in service.codes, task)
        said = [text for code, source, text in service.notes if code == "plan_short" and source == bay]
        assert len(said) == 1
        assert "full power from arrival to departure is not enough" in said[0]
        task.cancel()

    asyncio.run(story())


def test_a_limit_that_people_set_is_planned_for_at_once() -> None:
    async def story() -> None:
        service = Service(INPUTS)
        desk, task = await desk_of(service)
        await played(service, task)
        await until(lambda: desk.planning.in_force, task)
        before = desk.planning.in_force
        rule = structs.replace(service.settings.peak, limit_kw=350.0)
        service.settings = structs.replace(service.settings, peak=rule)
        service.cycle(*SEEN[-1])
        await until(lambda: desk.planning.in_force is not before, task)
        held = desk.planning.in_force
        assert held is not None
        own = next(window for window in held.asked.horizon.demand if window.name == "own limit")
        assert own.from_kw[0] >= 350.0
        service.cycle(*SEEN[-1])
        told = site.rule_of(service.settings, SEEN[-1][0].mono_s, DemandState())
        assert told.limit_kw <= 350.0
        task.cancel()

    asyncio.run(story())


def test_a_forecast_that_is_given_up_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        wrong = DriftFinding(0.0, 30.0, 10.0, 20.0, "last_week")
        monkeypatch.setattr(Planning, "drift", property(lambda _: wrong))
        service = Service(INPUTS)
        _, task = await desk_of(service)
        await played(service, task)
        await until(lambda: "forecast_drift" in service.codes, task)
        assert service.codes.count("forecast_drift") == 1
        task.cancel()

    asyncio.run(story())


def test_the_load_of_before_a_restart_is_remembered() -> None:
    async def story() -> None:
        store = MemoryStore()
        for k in range(2 * 96 * 3):
            at_s = INPUTS.start_s - 2 * 86_400.0 + 300.0 * k
            store.put_telemetry(at_s, {"building_kw": 100.0 + 10.0 * (k // 3 % 2)})
        service = Service(INPUTS)
        desk, task = await desk_of(service, store)
        known = predict(desk.planning._load, INPUTS.start_s, 3_600.0)
        assert known is not None
        assert known.known_until_s == INPUTS.start_s
        assert desk.planning._load.steps == 2 * 96
        task.cancel()

    asyncio.run(story())
