"""What people see of a site that follows a plan: the limit of page, clock, sentence and metrics is the peak that is really held."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control import peak
from gridtide.control.guidance import Guidance
from gridtide.control.site import rule_of
from gridtide.model.view import SiteView
from gridtide.run.view import Site, Viewer
from tests.day.wire_site import BUDGET, BUSY_S, START_S, WireSite, on_wire, world
from tests.live.plan_fixture import MISSED, sample_plan
from tests.unit.test_station_routes import TARIFF

OWN_KW, TARGET_KW = BUDGET.limit_kw, 188.0


def viewer_of(wire: WireSite) -> Viewer:
    place = Site(
        name="Depot", timezone="Europe/Berlin", tariff=TARIFF, wear_per_kwh=0.05, bay_names=wire.here.table.ids, stations=6
    )  # fmt: skip
    return Viewer(place, wire.site, lambda _row: "Van")


def guided(wire: WireSite, limit_kw: float, seconds: float) -> None:
    """Tell the site what a plan would."""
    until_s = wire.site.clock.monotonic() + seconds
    advice = Guidance(limit_kw=limit_kw, power_kw=np.full(wire.here.table.size, np.nan), until_s=until_s)
    wire.site.settings = structs.replace(wire.site.settings, guidance=advice)


def held(wire: WireSite) -> float:
    """What the controller holds."""
    demand = wire.site.state.demand
    return peak.held_kw(rule_of(wire.site.settings, wire.site.clock.monotonic(), demand), demand)


def test_the_limit_people_see_is_the_one_that_is_held() -> None:
    seen: list[tuple[SiteView, float]] = []

    async def scenario() -> WireSite:
        wire = WireSite(world(6), rule=BUDGET, start_s=START_S + BUSY_S)
        viewer = viewer_of(wire)
        wire.start()
        await wire.after(60.0)
        seen.append((viewer.view(), held(wire)))
        guided(wire, TARGET_KW, 120.0)
        await wire.after(60.0)
        seen.append((viewer.view(), held(wire)))
        await wire.after(120.0)  # the step of the plan is over
        seen.append((viewer.view(), held(wire)))
        await wire.stop()
        return wire

    on_wire(scenario)
    (before, _), (during, _), (after, _) = seen
    assert [view.demand.limit_kw for view, _ in seen] == [kw for _, kw in seen] == [OWN_KW, TARGET_KW, OWN_KW]
    assert (before.limit_kw, during.limit_kw, after.limit_kw) == (OWN_KW, TARGET_KW, OWN_KW)
    assert during.demand.budget_kwh == pytest.approx(TARGET_KW / 4.0)
    assert "188" in during.sentence or "below the limit" in during.sentence


def test_a_plan_holds_no_more_than_people_set() -> None:
    async def scenario() -> SiteView:
        wire = WireSite(world(6), rule=BUDGET, start_s=START_S + BUSY_S)
        viewer = viewer_of(wire)
        wire.start()
        guided(wire, 300.0, 1e4)
        await wire.after(1000.0)
        view = viewer.view()
        await wire.stop()
        return view

    view = on_wire(scenario)
    assert view.demand.limit_kw == view.limit_kw == OWN_KW
    assert view.demand.period_peak_kw < OWN_KW * 1.01


def test_the_glance_follows_the_plan_in_force() -> None:
    async def scenario() -> list[SiteView]:
        wire = WireSite(world(2), rule=BUDGET)
        viewer = viewer_of(wire)
        wire.start()
        await wire.after(2.0)
        found = [viewer.view()]
        asked: list[float] = []
        desk: Any = SimpleNamespace(planning=SimpleNamespace(in_force=None), view=lambda: asked.append(0.0))
        viewer.plan = desk
        found.append(viewer.view())
        plan = sample_plan(MISSED)
        horizon = SimpleNamespace(horizon=SimpleNamespace(start_s=plan.made_s))
        desk.planning.in_force = SimpleNamespace(asked=horizon)

        def look() -> object:
            asked.append(1.0)
            return plan

        desk.view = look
        found += [viewer.view(), viewer.view()]
        assert asked == [1.0]  # reckoned once a plan
        await wire.stop()
        return found

    off, waits, first, second = on_wire(scenario)
    assert off.plan is None
    assert waits.plan is not None
    assert (waits.plan.made_s, waits.plan.missed, waits.plan.own_limit_kw) == (None, 0, OWN_KW)
    assert first.plan is not None
    assert (first.plan.made_s, first.plan.missed) == (sample_plan().made_s, 2)
    assert first.plan == second.plan
