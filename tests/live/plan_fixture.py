"""A site that plans ahead, for tests of the page: the page's fixture with a plan. Numbers are invented."""

import itertools
import math
from collections.abc import Callable

from msgspec import structs

from gridtide.model.plan_view import MISSED_REASONS, Missed, PlannedVehicle, PlanStep, PlanView
from gridtide.model.view import PlanGlance, SiteView
from tests.live.fake_port import FakePort
from tests.live.page_fixture import NOW_S, building_kw

MADE_S = NOW_S - 300.0
TARGET_KW = 444.0
_QUARTER_S, _HOUR_S = 900.0, 3600.0
MISSED = (
    Missed(
        "energy", "cs07/1", NOW_S + 3000.0, 0.25, 21.4, "kWh", "stay_too_short",
        f"cs07/1 misses 21.4 kWh at 15:12: {MISSED_REASONS['stay_too_short']}",
    ),
    Missed(
        "import_cap", "site", NOW_S + 7200.0, 1.5, 18.3, "kW", "load_alone",
        f"The site's import limit is exceeded by 18.3 kW from 16:15 to 17:45: {MISSED_REASONS['load_alone']}",
    ),
)  # fmt: skip


def _borders() -> list[float]:
    """As plans have them: the rest of the running quarter hour, eight whole ones, then hours."""
    first = math.ceil(MADE_S / _QUARTER_S) * _QUARTER_S
    quarters = [first + _QUARTER_S * k for k in range(9)]
    hours = [math.ceil((quarters[-1] + 1.0) / _HOUR_S) * _HOUR_S + _HOUR_S * k for k in range(22)]
    return [MADE_S, *quarters, *hours]


def _step(start_s: float, end_s: float) -> PlanStep:
    load_kw = sum(building_kw(start_s + (k + 0.5) / 12.0 * (end_s - start_s)) for k in range(12)) / 12.0
    room_kw = TARGET_KW - 1.03 * load_kw
    hour = ((start_s + 2.0 * _HOUR_S) // _HOUR_S) % 24
    night = hour < 6 or hour >= 22
    vehicles_kw = (
        room_kw if room_kw < 0.0 else min(60.0 if hour >= 22 else 20.0, room_kw) * (0.0 if 2 <= hour < 12 else 1.0)
    )
    return PlanStep(start_s, end_s, load_kw, 1.03 * load_kw, vehicles_kw, 0.18 if night else 0.27, TARGET_KW)


def sample_plan(missed: tuple[Missed, ...] = (), *, untargeted_h: float = 0.0) -> PlanView:
    """A plan of a day; in its first `untargeted_h` hours no peak counts."""
    borders = _borders()
    steps = [_step(a, b) for a, b in itertools.pairwise(borders)]
    free_s = MADE_S + untargeted_h * _HOUR_S
    steps = [structs.replace(s, target_kw=None) if s.start_s < free_s else s for s in steps]
    return PlanView(
        made_s=MADE_S, target_kw=steps[0].target_kw, value_per_kw=11.9, currency="EUR", method="exact", gap=0.0,
        cost=412.0, cpu_s=0.12, steps=tuple(steps), missed=missed,
        vehicles=(PlannedVehicle("cs07/1", -11.0, NOW_S + 3000.0, 52.0, 46.0, 46.0),),
    )  # fmt: skip


class PlannedPort(FakePort):
    """The fake site with foresight: `plan` None is a first plan that is still being made."""

    def __init__(self, now: Callable[[], float], plan: PlanView | None, age_s: float = 0.0) -> None:
        super().__init__(lambda: now() + age_s)
        self.plan = plan

    def view(self) -> SiteView:
        """The fixture, holding the plan's target."""
        view, plan = super().view(), self.plan
        if plan is None:
            return structs.replace(view, plan=PlanGlance(None, 0, self.limit_kw))
        glance = PlanGlance(plan.made_s, len(plan.missed), self.limit_kw)
        demand = structs.replace(view.demand, limit_kw=TARGET_KW)
        said = view.sentence.replace("450", f"{TARGET_KW:.0f}")
        return structs.replace(view, plan=glance, limit_kw=TARGET_KW, demand=demand, sentence=said)


class FakeDesk:
    """Foresight as the route asks it."""

    def __init__(self, port: PlannedPort) -> None:
        self._port = port

    def view(self) -> PlanView | None:
        """The port's plan."""
        return self._port.plan
