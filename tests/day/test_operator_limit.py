"""The grid operator's limit on the wire tier: it binds what really flows, and the site's memory keeps it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient
from msgspec import structs

from gridtide.app.web.auth import Access
from gridtide.app.web.limit import limit_routes
from gridtide.app.web.server import create_app
from gridtide.control.links import OperatorRule
from gridtide.control.peak import PeakSettings
from gridtide.model.decision import Reason
from gridtide.run.operator_limit import STATE, OperatorDesk
from gridtide.run.store import MemoryStore, StoreError
from gridtide.run.view import Site, Viewer
from tests.day.wire_site import WireSite, on_wire, stay, world
from tests.live.fake_port import FakePort, from_peer
from tests.unit.test_station_routes import TARIFF

RULE = OperatorRule(failsafe_kw=205.0)
CALM_KW = (190.0,) * 8
CAR_KW = 11.0
SLACK_KW = 8.0
"""The building moves while the guard looks at a sample: its texture's noise over one cycle."""
TOKEN = "t" * 43


def site(store: MemoryStore | None = None, rule: OperatorRule | None = RULE) -> WireSite:
    """Four vehicles that charge at full power beside a calm building."""
    hungry = [stay(row, -60.0, 4 * 3600.0, 0.3, 0.9) for row in range(4)]
    here = WireSite(
        world(4, arrivals=hungry, blocks_kw=CALM_KW), store=store, rule=PeakSettings(mode="off", limit_kw=400.0)
    )
    here.site.settings = structs.replace(here.site.settings, operator=rule)
    here.site.operator = OperatorDesk(rule, here.store, here.clock, here.site.note)
    here.start()
    return here


async def says(here: WireSite, limit_kw: float | None = None, **more: Any) -> None:
    words = {"export_kw": None, "duration_s": None, "lifts": False} | more
    await here.site.operator.hear(limit_kw, words["export_kw"], words["duration_s"], "dso", "api", lifts=words["lifts"])


async def beating(here: WireSite, seconds: float) -> None:
    """Time under a heartbeat."""
    for _ in range(round(seconds / 20.0)):
        await here.after(20.0)
        await says(here)


def import_kw(here: WireSite) -> float:
    assert here.emulated.sample is not None
    return here.emulated.sample.grid_kw


def test_an_import_limit_binds_what_flows_and_not_only_what_is_told() -> None:
    async def scenario() -> None:
        here = site()
        await says(here, 400.0)
        await beating(here, 60.0)
        assert here.power_kw.sum() > 3.5 * CAR_KW
        await says(here, 215.0)
        await here.after(3.0)
        worst = 0.0
        for _ in range(60):
            await here.after(1.0)
            await says(here)
            worst = max(worst, import_kw(here))
        assert worst <= 215.0 + SLACK_KW
        assert 5.0 < here.power_kw.sum() < 3.0 * CAR_KW
        assert Reason.LOAD_SHED in here.decision.reason
        await says(here, 0.0)
        await here.after(3.0)
        assert here.power_kw.sum() == 0.0
        await says(here, lifts=True)
        await beating(here, 60.0)
        assert here.power_kw.sum() > 3.5 * CAR_KW

    on_wire(scenario)


def test_the_failsafe_limit_holds_before_the_first_word_and_after_the_last() -> None:
    async def scenario() -> None:
        here = site()
        await here.after(60.0)
        assert import_kw(here) <= 205.0 + SLACK_KW
        await says(here, 400.0)
        await beating(here, 60.0)
        assert here.power_kw.sum() > 3.5 * CAR_KW
        await here.after(118.0)
        assert here.power_kw.sum() > 3.5 * CAR_KW
        await here.after(6.0)
        assert here.codes["operator_limit_lost"] == 1
        for _ in range(30):
            assert import_kw(here) <= 205.0 + SLACK_KW
            await here.after(1.0)

    on_wire(scenario)


def test_a_limit_of_export_binds_only_downwards() -> None:
    async def scenario() -> None:
        here = site()
        here.site.settings = structs.replace(
            here.site.settings, limits=structs.replace(here.site.settings.limits, export_kw=50.0)
        )
        for export_kw, holds_kw in ((20.0, 20.0), (80.0, 50.0), (0.0, 0.0)):
            await says(here, export_kw=export_kw)
            assert here.site._settings_under(here.site.operator.bound).limits.export_kw == holds_kw

    on_wire(scenario)


def test_a_restart_keeps_the_context() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        first = site(store)
        await says(first, 300.0, duration_s=600.0)
        await first.after(60.0)
        await says(first)
        await first.after(10.0)
        await first.stop()
        second = site(store)
        view = second.site.operator.view(second.clock.monotonic())
        assert (view.state, view.limit_kw, view.source) == ("ok", 300.0, "dso")
        assert view.left_s == pytest.approx(530.0, abs=11.0)
        assert view.heard_s is not None
        # The silence before the restart counts: nobody gets another 120 s.
        await second.after(119.0 - view.heard_s)
        assert second.site.operator.bound.import_kw == 300.0
        await second.after(12.0)
        assert second.site.operator.bound.import_kw == 205.0
        await second.stop()
        third = site(store)
        assert third.site.operator.bound.import_kw == 205.0
        assert third.site.operator.view(third.clock.monotonic()).state == "lost"
        await third.stop()

    on_wire(scenario)


@pytest.mark.parametrize("rubbish", [b"{}", b"\xff", b'{"is_lost":0}'])
def test_a_memory_that_cannot_be_read_means_lost(rubbish: bytes) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        store.put_state(STATE, rubbish)
        assert site(store).site.operator.bound.import_kw == 205.0

    on_wire(scenario)


class Full(MemoryStore):
    """Takes no audit entry."""

    async def append_audit(self, at_s: float, actor: str, action: str, detail_json: bytes) -> int:
        raise StoreError("disk full")


def test_a_limit_that_cannot_be_recorded_holds_and_is_told() -> None:
    async def scenario() -> None:
        here = site(Full())
        await says(here, 210.0)
        assert here.site.operator.bound.import_kw == 210.0
        await here.after(1.0)
        assert here.codes["store_failed"] == 1

    on_wire(scenario)


def test_without_the_table_in_the_site_file_no_limit_is_taken() -> None:
    async def scenario() -> None:
        here = site(rule=None)
        with pytest.raises(ValueError, match=r"\[operator_limit\]"):
            await says(here, 210.0)
        await here.after(5.0)
        assert here.site.operator.view(here.clock.monotonic()).state == "off"
        assert here.site.operator.bound.import_kw is None

    on_wire(scenario)


def test_the_link_is_shown_beside_the_others() -> None:
    async def scenario() -> None:
        for rule, states in (
            (None, []),
            (RULE, [("lost", "205 kW"), ("ok", "180 kW"), ("ok", "no limit"), ("lost", "205 kW")]),
        ):
            here = site(rule=rule)
            await here.after(5.0)
            shown = []
            for _ in states:
                shown.append(_operator_link(here))
                await (says(here, 180.0) if len(shown) == 1 else says(here, lifts=True))
                await here.after(130.0 if len(shown) == 3 else 1.0)
            assert shown == states
            assert rule is not None or _operator_link(here) is None
            await here.stop()

    on_wire(scenario)


def _operator_link(here: WireSite) -> tuple[str, str] | None:
    place = Site(
        name="Yard", timezone="UTC", tariff=TARIFF, wear_per_kwh=0.06, bay_names=here.here.table.ids, stations=4
    )  # fmt: skip
    links = Viewer(place, here.site, lambda _row: "Van").view().links
    return next(((link.state, link.note) for link in links if link.name == "Operator"), None)


# --- the route --------------------------------------------------------------------------------------------------------
class HandClock:
    """A clock that stands still."""

    def monotonic(self) -> float:
        return 50.0

    def wall(self) -> float:
        return 1_772_445_600.0

    async def sleep(self, duration_s: float) -> None:
        raise NotImplementedError

    async def sleep_until(self, monotonic_s: float) -> None:
        raise NotImplementedError


class Limited:
    """A site as the routes see it."""

    def __init__(self) -> None:
        self.clock, self.store, self.told = HandClock(), MemoryStore(), list[str]()
        self.operator = OperatorDesk(RULE, self.store, self.clock, lambda code, _source, _text: self.told.append(code))


@pytest.fixture
def limited() -> Iterator[tuple[Limited, TestClient[Any]]]:
    here = Limited()
    app = create_app(FakePort(), Access(TOKEN, 8080, lambda: 0.0), [limit_routes(here)])
    with TestClient(from_peer(app, ("127.0.0.1", 50_000)), base_url="http://127.0.0.1:8080") as client:
        yield here, client


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_the_route_takes_a_limit_a_heartbeat_and_a_release(limited: tuple[Limited, TestClient[Any]]) -> None:
    here, client = limited
    for body, state, limit_kw in (
        ({"source": "dso"}, "lost", 205.0),
        ({"source": "dso", "limit_kw": 180.5, "duration_s": 900}, "ok", 180.5),
        ({"source": "dso"}, "ok", 180.5),
        ({"source": "dso", "release": True}, "ok", None),
    ):
        reply = client.put("/api/v1/limit", json=body, headers=BEARER)
        assert (reply.status_code, reply.json()["state"], reply.json()["limit_kw"]) == (200, state, limit_kw), body
    assert client.get("/api/v1/limit", headers=BEARER).json()["heard_s"] == 0.0
    entries = [json.loads(entry.detail_json) for entry in here.store.audit()]
    assert [entry["limit_kw"] for entry in entries] == [None, 180.5]


@pytest.mark.parametrize(
    "body",
    [
        {"source": "dso", "limit_kw": -1.0}, {"source": "dso", "export_kw": -1.0}, {"source": "dso", "duration_s": 5.0},
        {"source": "dso", "limit_kw": 5.0, "duration_s": -5.0}, {"source": "", "limit_kw": 5.0}, {"limit_kw": 5.0},
        {"source": "dso", "limit_kw": 5.0, "release": True}, {"source": "dso", "limit": 5.0},
    ],
)  # fmt: skip
def test_the_route_refuses_what_cannot_be_meant(body: dict[str, Any], limited: tuple[Limited, TestClient[Any]]) -> None:
    here, client = limited
    assert client.put("/api/v1/limit", json={"source": "dso", "limit_kw": 190.0}, headers=BEARER).status_code == 200
    assert client.put("/api/v1/limit", json=body, headers=BEARER).status_code == 400
    assert here.operator.bound.import_kw == 190.0


def test_the_route_is_no_door_for_strangers(limited: tuple[Limited, TestClient[Any]]) -> None:
    here, client = limited
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert (
            client.put("/api/v1/limit", json={"source": "dso", "limit_kw": 400.0}, headers=headers).status_code == 401
        )
    assert here.operator.bound.import_kw == 205.0
