"""The plan over HTTP: told to whoever may read, and a clear word where there is none."""

import json
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from gridtide.app.commands.status import plan_lines
from gridtide.app.web.auth import Access
from gridtide.app.web.plan import plan_routes
from gridtide.app.web.server import create_app
from gridtide.model.plan_view import PlanView
from tests.live.fake_port import from_peer
from tests.live.plan_fixture import MISSED, FakeDesk, PlannedPort, sample_plan
from tests.unit.test_web_api import TOKEN, V1

NOW_S = sample_plan().made_s + 60.0
LOCAL, ELSEWHERE = ("127.0.0.1", 9), ("192.0.2.7", 9)


class Site:
    """A server with or without foresight, asked from a peer."""

    def __init__(self, plan: PlanView | None, *, enabled: bool = True, peer: tuple[str, int] = LOCAL) -> None:
        self.port = PlannedPort(lambda: NOW_S, plan)
        routes = plan_routes(FakeDesk(self.port) if enabled else None)
        self.app = create_app(self.port, Access(TOKEN, 8080, lambda: 0.0), [routes])
        self.client = TestClient(from_peer(self.app, peer), base_url="http://127.0.0.1:8080")

    def ask(self) -> Any:
        """The answer to a read without a token."""
        with self.client:
            return self.client.get(V1 + "/plan")


@pytest.fixture(params=[(), MISSED], ids=["all met", "something missed"])
def plan(request: pytest.FixtureRequest) -> PlanView:
    return sample_plan(request.param)


def test_the_plan_as_it_is(plan: PlanView) -> None:
    answer = Site(plan).ask()
    assert answer.status_code == 200
    assert msgspec.json.decode(answer.content, type=PlanView) == plan


def test_a_site_that_does_not_plan_says_how_it_would() -> None:
    answer = Site(None, enabled=False).ask()
    assert answer.status_code == 404
    assert "set enabled = true under [planner]" in answer.json()["detail"]


def test_before_the_first_plan_one_is_told_to_ask_again() -> None:
    answer = Site(None).ask()
    assert answer.status_code == 503
    assert "first plan is not made yet" in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) > 0


def test_whoever_is_elsewhere_signs_in_first() -> None:
    assert Site(sample_plan(), peer=ELSEWHERE).ask().status_code == 401


def test_it_is_in_the_published_description_with_its_refusals() -> None:
    site = Site(sample_plan())
    with site.client:
        paths = json.loads(site.client.get("/schema/openapi.json").content)["paths"]
    operation = paths[V1 + "/plan"]["get"]
    assert operation["x-role"] == "viewer"
    assert {"200", "401", "404", "503"} <= set(operation["responses"])


# --- gridtide status ------------------------------------------------------------------------------------------------
def test_status_tells_target_worth_and_what_is_missed() -> None:
    plan = sample_plan(MISSED)
    first, *items = plan_lines(PlannedPort(lambda: NOW_S, plan).view(), plan)
    assert first == "Plan of Tue 14:17: holds 444.0 kW; one kW more would save € 11.90; misses 2:"
    assert items == [f"  - {item.words}." for item in MISSED]


def test_status_of_a_calm_plan_and_of_none() -> None:
    calm = sample_plan(untargeted_h=2.0)
    (said,) = plan_lines(PlannedPort(lambda: NOW_S, calm).view(), calm)
    assert "no peak counts now" in said
    assert said.endswith("; all that is asked can be met.")
    (waits,) = plan_lines(PlannedPort(lambda: NOW_S, None).view(), None)
    assert waits == "Plan: the first one is being made; the site holds its own 450.0 kW."
    bare = msgspec.structs.replace(PlannedPort(lambda: NOW_S, None).view(), plan=None)
    assert plan_lines(bare, None) == []
