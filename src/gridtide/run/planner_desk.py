"""Foresight of a live site: it watches the loop, plans in a worker thread, and tells the loop what the plan asks for.

A plan is a wish: when the planner fails, or is late, the fast controller goes on by the site's own limit.
"""

import asyncio
from collections.abc import Callable

import numpy as np
import structlog
from msgspec import structs

from gridtide.control import site as control
from gridtide.control.guidance import Guidance
from gridtide.market.tariff import Tariff
from gridtide.model.decision import Decision, Snapshot
from gridtide.model.plan_view import PlanView
from gridtide.plan.foresight import ForesightSettings
from gridtide.run.plan_view import plan_view
from gridtide.run.planning import NOTHING, Planning, make_ready
from gridtide.run.site import SiteService
from gridtide.run.store import Store

log = structlog.get_logger(__name__)
LOOK_S = 1.0
RETRY_S = 60.0
"""Pause after a plan that failed."""
PAST_DAYS = 42
_DAY_S, _QUARTER_S = 86_400.0, 900.0


class PlannerDesk:
    """Owns a site's foresight. `run` is a loop of the site; the site's service is told through its settings."""

    def __init__(
        self, service: SiteService, store: Store, tariff: Tariff, look: ForesightSettings, local: Callable[[float], str]
    ) -> None:
        self._service, self._store, self._tariff, self._look, self._local = service, store, tariff, look, local
        self.planning = Planning(tariff, service.settings, NOTHING, look)
        self._retry_s = -np.inf
        self._drifted = False
        self._missed: frozenset[tuple[str, str]] = frozenset()

    async def run(self) -> None:
        """Learn what the store remembers, then watch and plan for as long as the site lives."""
        await asyncio.to_thread(make_ready, self._service.settings.table.size)
        await self._recall(self._service.clock.wall())
        self._service.watchers.append(self._cycle)
        while True:
            await self._service.clock.sleep(LOOK_S)
            await self._look_around()

    def view(self) -> PlanView | None:
        """The plan in force; None before the first."""
        held = self.planning.in_force
        if held is None:
            return None
        return plan_view(held, self._service.settings.table.ids, self._service.clock.wall(), self._local)

    def _cycle(
        self,
        _before: control.State,
        _settings: control.Settings,
        snapshot: Snapshot,
        decision: Decision,
        _after: control.State,
    ) -> None:
        """After each cycle: what was seen is learned, and the next cycle is told what the plan asks for."""
        self.planning.ask_for(self._service.settings.peak.limit_kw)
        self.planning.note(snapshot, decision)
        self._tell(self.planning.advice(snapshot.now_s, snapshot.mono_s))

    def _tell(self, advice: Guidance | None) -> None:
        if advice is not None or self._service.settings.guidance is not None:
            self._service.settings = structs.replace(self._service.settings, guidance=advice)

    async def _look_around(self) -> None:
        service, planning = self._service, self.planning
        snapshot, now_s = service.snapshot, service.clock.wall()
        if snapshot is None or service.clock.monotonic() < self._retry_s or not planning.due(now_s):
            return
        question = planning.question(snapshot, service.state)
        if question is None:
            return
        try:
            answer = await asyncio.to_thread(planning.answer, question)
        except Exception as error:  # a defect of the planner must not end the site: it goes on without foresight
            log.exception("plan_failed")
            self._retry_s = service.clock.monotonic() + RETRY_S
            service.note("plan_failed", "planner", f"{type(error).__name__}: {error}"[:300])
            return
        planning.accept(answer)
        self._tell_findings()

    def _tell_findings(self) -> None:
        """What the plan cannot meet, once each time it is new, and a forecast that is given up."""
        found = self.view()
        if found is None:
            return
        missed = frozenset((item.what, item.who) for item in found.missed)
        for item in found.missed:
            if (item.what, item.who) not in self._missed:
                self._service.note("plan_short", item.who, f"{item.words}.")
        self._missed = missed
        wrong = self.planning.drift
        if wrong is not None and not self._drifted:
            text = f"Its mean error is {wrong.forecast_error:.1f} kW, that of last week's load {wrong.last_week_error:.1f} kW."
            self._service.note("forecast_drift", "planner", text)
        self._drifted = wrong is not None

    async def _recall(self, now_s: float) -> None:
        """Learn the load of the last days from the store's telemetry, a day at a time: the loop's cycles go between."""
        for day in range(PAST_DAYS, 0, -1):
            from_s = np.floor((now_s - day * _DAY_S) / _QUARTER_S) * _QUARTER_S
            rows = np.array(self._store.telemetry("building_kw", from_s, from_s + _DAY_S - 1e-3), dtype=np.float64)
            if rows.size:
                slot, of = np.unique(np.floor(rows[:, 0] / _QUARTER_S), return_inverse=True)
                mean_kw = np.bincount(of, weights=rows[:, 1]) / np.bincount(of)
                await asyncio.to_thread(self.planning.recall, slot * _QUARTER_S, mean_kw)
            await asyncio.sleep(0.0)
