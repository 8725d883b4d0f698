"""The routes about stations, tokens and drivers over a real site in virtual time: what they do, what they refuse, whom they let."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar import Litestar

from gridtide.app.web.auth import Access
from gridtide.app.web.driver import driver_routes
from gridtide.app.web.failures import FAILURES
from gridtide.app.web.people import AccessFile
from gridtide.app.web.roles import ROLES, Role
from gridtide.app.web.server import create_app
from gridtide.app.web.stations import station_routes
from gridtide.market.charges import Schedule, UseStep, time_of_use
from gridtide.market.tariff import Tariff
from gridtide.model.fleet import EvseTable
from gridtide.run.credentials import Credentials
from gridtide.run.csms.charge_profiles import ChargeProfile, ChargeProfiles, Conflict
from gridtide.run.csms.driver_links import WISH_EVERY_S, WISHES_AT_ONCE
from gridtide.run.csms.registry import StationEntry, TokenEntry
from gridtide.run.fleet_view import FleetDesk
from gridtide.run.login_guard import LoginGuard
from gridtide.run.store import StoreError, TransactionEvent
from gridtide.run.view import Site, Viewer
from tests.day.wire_site import START_S, WireSite, on_wire, stay, world
from tests.live.fake_port import from_peer

TOKEN = "t" * 43
HOST = "http://127.0.0.1:8080"
V1 = "/api/v1"
ENERGY, DEMAND = time_of_use([Schedule("year", (1, 1), (12, 31), 127, (UseStep(0, 0.10),), 10.0)])
TARIFF = Tariff(name="flat", currency="EUR", timezone="Europe/Berlin", energy=ENERGY, demand=(DEMAND,))
CARD = "card-car-0--600"
SETS = ("charge_only", "refused", "underneath", "synced", "bidirectional")


async def _at_once(act: Callable[..., Any], *words: Any) -> Any:
    """Virtual time has no threads."""
    return act(*words)


class Face:
    """Two bays, a vehicle at the first, and the API over them."""

    def __init__(self, port: int = 8080, people: AccessFile | None = None) -> None:
        self.wire = WireSite(world(2, arrivals=[stay(0, -600.0, 8 * 3600.0, 0.7, 0.75)], blocks_kw=(170.0,) * 8))
        self.guard = LoginGuard(self.wire.clock)
        self.credentials = Credentials()
        here = Site(
            name="Harbour", timezone="Europe/Berlin", tariff=TARIFF, wear_per_kwh=0.05, bay_names=("Bay 1", "Bay 2"),
            stations=2,
        )  # fmt: skip
        self.viewer = Viewer(here, self.wire.site, lambda _row: "Van")
        self.desk = FleetDesk(
            self.wire.site,
            self.viewer,
            self.credentials,
            guard=lambda: self.guard,
            timezone="Europe/Berlin",
            in_thread=_at_once,
        )
        access = Access(TOKEN, port, lambda: 0.0, people=people)
        more = [station_routes(self.desk), *driver_routes(self.desk, lambda: 0.0)]
        self.app: Litestar = create_app(self.viewer, access, more)
        self.client = self.as_("Bearer " + TOKEN)

    def as_(self, authorization: str | None, peer: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client on its own connection."""
        transport = httpx.ASGITransport(from_peer(self.app, (peer, 9)))  # type: ignore[arg-type]
        headers = {"Authorization": authorization} if authorization else {}
        return httpx.AsyncClient(transport=transport, base_url=HOST, headers=headers)

    async def ask(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        """JSON of a request that must end with `status`."""
        reply = await self.client.request(method, V1 + path, **more)
        assert reply.status_code == status, f"{reply.status_code}: {reply.text}"
        return reply.json() if status == 200 else reply.json()["detail"]


def on_face(scenario: Callable[[Face], Awaitable[None]], **more: Any) -> None:
    """Run it after ten seconds of the site's life."""

    async def run() -> None:
        face = Face(**more)
        face.wire.start()
        await face.wire.after(6.0)
        await scenario(face)
        await face.wire.stop()

    on_wire(run)


# --- stations -------------------------------------------------------------------------------------------------------
def test_stations_say_why_a_car_can_or_cannot_discharge() -> None:
    async def scenario(face: Face) -> None:
        one, two = await face.ask("GET", "/stations")
        assert (one["identity"], one["link"], one["version"]) == ("bay-1", "online", "2.1")
        evse = one["evses"][0]
        assert (evse["may_discharge"], evse["why_not"], evse["status"]) == (True, [], "Occupied")
        assert evse["soc"] == pytest.approx(0.7, abs=0.02)
        assert two["evses"][0]["why_not"] == ["No vehicle is in a transaction here."]
        face.wire.board.soc[0] = float("nan")
        (why,) = (await face.ask("GET", "/stations/bay-1"))["station"]["evses"][0]["why_not"]
        assert "unknown" in why
        await face.wire.site.estop("test")
        why = (await face.ask("GET", "/stations"))[1]["evses"][0]["why_not"]
        assert why == ["The emergency stop is pressed.", "No vehicle is in a transaction here."]

    on_face(scenario)


WHY: list[tuple[str, Callable[[Face], None], str]] = [
    ("charge only", lambda face: face.wire.csms.stations["bay-1"].charge_only.add(0), "driver does not want"),
    ("refused", lambda face: face.wire.csms.stations["bay-1"].refused.add(0), "rejected a discharge"),
    ("underneath", lambda face: face.wire.csms.stations["bay-1"].underneath.clear(), "profile underneath"),
    ("synced", lambda face: face.wire.csms.stations["bay-1"].synced.clear(), "has not spoken"),
    ("negotiated", lambda face: face.wire.csms.stations["bay-1"].bidirectional.clear(), "not agreed to bidirectional"),
    ("clock", lambda face: setattr(face.wire.csms.stations["bay-1"], "skew_s", 60.0), "clock is off by 60 s"),
    ("fault", lambda face: face.wire.board.fault.__setitem__(0, True), "reports a fault"),
    ("floor", lambda face: face.wire.board.soc.__setitem__(0, 0.3), "not above the 40%"),
    ("offline", lambda face: setattr(face.wire.csms.stations["bay-1"], "conversation", None), "offline"),
    (
        "version",
        lambda face: setattr(face.wire.csms.stations["bay-1"], "version", "2.0.1"),
        "does not go with OCPP 2.0.1",
    ),
]


def test_every_reason_against_a_discharge_is_told() -> None:
    """One that is missing here would let people believe that nothing is in the way."""

    async def scenario(face: Face) -> None:
        for name, spoil, said in WHY:
            station, board = face.wire.csms.stations["bay-1"], face.wire.board
            sets = {field: set(getattr(station, field)) for field in SETS}
            kept = (station.skew_s, station.conversation, station.version, float(board.soc[0]), bool(board.fault[0]))
            spoil(face)
            told = " ".join(face.desk.stations()[0].evses[0].why_not)
            assert said in told, name
            for field, before in sets.items():
                setattr(station, field, before)
            station.skew_s, station.conversation, station.version, board.soc[0], board.fault[0] = kept
            assert face.desk.stations()[0].evses[0].may_discharge, name

    on_face(scenario)


def test_stations_come_in_the_order_people_count() -> None:
    async def scenario(face: Face) -> None:
        for name in ("bay-10", "bay-9", "annex"):
            await face.ask("POST", "/stations", json={"identity": name})
        found = [row["identity"] for row in await face.ask("GET", "/stations")]
        assert found == ["annex", "bay-1", "bay-2", "bay-9", "bay-10"]

    on_face(scenario)


def test_register_tells_the_password_once_and_change_keeps_it() -> None:
    async def scenario(face: Face) -> None:
        left_over = face.credentials.issue("new-1")
        entry = {"identity": "new-1", "name": "Yard", "evses": [{"id": 1, "charge_kw": 22}, {"id": 2}]}
        issued = await face.ask("POST", "/stations", json=entry)
        assert face.credentials.accepts("new-1", issued["password"])
        assert not face.credentials.accepts("new-1", left_over)
        found = await face.ask("GET", "/stations/new-1")
        assert found["station"]["link"] == "offline"
        assert [evse["evse"] for evse in found["station"]["evses"]] == [1, 2]
        assert "not part of the steered fleet" in " ".join(found["station"]["evses"][0]["why_not"])
        for path in ("/stations", "/stations/new-1", "/audit?limit=100"):
            assert issued["password"] not in json.dumps(await face.ask("GET", path))
        changed = await face.ask("PUT", "/stations/new-1", json={**entry, "name": "Gate"})
        assert changed == {"identity": "new-1", "password": None}
        assert face.credentials.accepts("new-1", issued["password"])
        assert "there is such a station" in await face.ask("POST", "/stations", 400, json=entry)
        assert "identity is" in await face.ask("PUT", "/stations/other", 400, json=entry)
        await face.ask("DELETE", "/stations/new-1")
        assert not face.credentials.known("new-1")
        assert "no station" in await face.ask("GET", "/stations/new-1", 404)
        assert "no station" in await face.ask("DELETE", "/stations/new-1", 404)

    on_face(scenario)


BAD_STATIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "identity"),
    ({"identity": "a/b"}, "identity"),
    ({"identity": "a", "evses": []}, "evses"),
    ({"identity": "a", "evses": [{"id": 1}, {"id": 1}]}, "evses"),
    ({"identity": "a", "security_profile": 0}, "security_profile"),
    ({"identity": "a", "security_profile": 3}, "serial"),
    ({"identity": "a", "password": "mine"}, "password"),
]


def test_a_bad_registration_names_its_field() -> None:
    async def scenario(face: Face) -> None:
        for entry, field in BAD_STATIONS:
            assert field in await face.ask("POST", "/stations", 400, json=entry), entry
        assert "a" not in face.wire.csms.stations

    on_face(scenario)


def test_who_knocked_is_listed_and_accepted() -> None:
    async def scenario(face: Face) -> None:
        face.guard.failed("stranger", "10.0.0.9", "10.0.0.9:5", "unknown station")
        (knock,) = await face.ask("GET", "/knocked")
        assert (knock["identity"], knock["peer"], knock["count"]) == ("stranger", "10.0.0.9:5", 1)
        assert "has not knocked" in await face.ask("POST", "/knocked/nobody/accept", 404, json={})
        issued = await face.ask("POST", "/knocked/stranger/accept", json={"name": "Gate"})
        assert face.credentials.accepts("stranger", issued["password"])
        assert await face.ask("GET", "/knocked") == []
        assert face.wire.csms.registry.stations["stranger"].name == "Gate"

    on_face(scenario)


def test_mode_takes_discharge_away_at_once() -> None:
    async def scenario(face: Face) -> None:
        await face.wire.csms.registry.put_station(StationEntry(identity="bay-1"), "test", face.wire.clock.wall())
        await face.ask("POST", "/stations/bay-1/mode", json={"mode": "charge-only"})
        row = (await face.ask("GET", "/stations/bay-1"))["station"]
        assert row["mode"] == "charge-only"
        assert "charge only" in row["evses"][0]["why_not"][0]
        assert not face.wire.board.may_discharge[0]
        await face.ask("POST", "/stations/bay-1/mode", json={"mode": "bidirectional"})
        await face.wire.after(3.0)
        assert face.wire.board.may_discharge[0]
        assert "mode" in await face.ask("POST", "/stations/bay-1/mode", 400, json={"mode": "off"})

    on_face(scenario)


def test_a_call_reaches_the_station_and_bad_ones_do_not() -> None:
    async def scenario(face: Face) -> None:
        wish = {"action": "TriggerMessage", "payload": {"requestedMessage": "Heartbeat"}, "timeout_s": 5}
        done = await face.ask("POST", "/stations/bay-1/call", json=wish)
        assert done["status"] in ("answered", "error")
        assert "Nonsense" in await face.ask("POST", "/stations/bay-1/call", 400, json={"action": "Nonsense"})
        secret = {
            "component": {"name": "SecurityCtrlr"},
            "variable": {"name": "BasicAuthPassword"},
            "attributeValue": "x" * 20,
        }
        told = await face.ask(
            "POST",
            "/stations/bay-1/call",
            400,
            json={"action": "SetVariables", "payload": {"setVariableData": [secret]}},
        )
        assert "gridtide stations rotate" in told
        await face.ask("POST", "/stations", json={"identity": "far"})
        assert "not connected" in await face.ask("POST", "/stations/far/call", 409, json=wish)
        assert "no station" in await face.ask("POST", "/stations/none/call", 404, json=wish)

    on_face(scenario)


def test_rotation_keeps_the_old_password_until_the_new_one_is_used() -> None:
    async def scenario(face: Face) -> None:
        old = face.credentials.issue("bay-1")
        sent: list[Any] = []
        live = face.wire.csms.stations["bay-1"].conversation
        assert live is not None
        real = live.call

        async def watched(action: str, payload: Any, **how: Any) -> Any:
            sent.append(msgspec.to_builtins(payload))
            return await real(action, payload, **how)

        live.call = watched  # type: ignore[method-assign]
        done = await face.ask("POST", "/stations/bay-1/rotate-password")
        new = sent[0]["setVariableData"][0]["attributeValue"]
        assert done["status"] in ("accepted", "rejected")
        assert face.credentials.accepts("bay-1", old)
        assert face.credentials.accepts("bay-1", new) == (done["status"] == "accepted")
        assert new not in json.dumps([done, await face.ask("GET", "/stations/bay-1")])
        audit = b"".join(entry.detail_json for entry in face.wire.store.audit(50))
        assert new.encode() not in audit
        assert [e.detail_json for e in face.wire.store.audit(50) if e.action == "station.rotate"] == [
            b'{"station":"bay-1"}'
        ]
        assert b"bay-1" in audit
        assert "no password" in await face.ask("POST", "/stations/bay-2/rotate-password", 400)

    on_face(scenario)


def test_clear_faults_is_idempotent_and_says_what() -> None:
    async def scenario(face: Face) -> None:
        site, station = face.wire.site, face.wire.csms.stations["bay-1"]
        meter = msgspec.structs.replace(site.state.meter, sign_fault=True)
        site.state = msgspec.structs.replace(site.state, meter=meter)
        station.tampered.add(0)
        face.wire.board.fault[0] = True
        first = await face.ask("POST", "/faults/clear")
        assert (first["meter_sign"], first["tampered"]) == (True, ["bay-1"])
        assert not face.wire.board.fault[0]
        assert not site.state.meter.sign_fault
        assert face.wire.store.settings()["meter_sign"] == b"false", "it must not come back with a restart"
        again = await face.ask("POST", "/faults/clear")
        assert (again["meter_sign"], again["tampered"]) == (False, [])
        assert "Nothing was latched" in again["words"]

    on_face(scenario)


def test_clear_faults_leaves_the_emergency_stop() -> None:
    async def scenario(face: Face) -> None:
        await face.wire.site.estop("test")
        assert "emergency stop is still pressed" in (await face.ask("POST", "/faults/clear"))["words"]
        assert face.wire.site.state.guard.estop

    on_face(scenario)


def test_test_discharge_answers_with_figures() -> None:
    async def scenario(face: Face) -> None:
        face.wire.board.need_soc[0] = 0.5
        done = await face.ask("POST", "/stations/bay-1/test-discharge", json={"rate_kw": 6, "duration_s": 10})
        assert done["figures"]["verdict"] == "pass", done["words"]
        assert done["figures"]["control_path_ms"] <= 100.0
        for wish in (
            {"rate_kw": 0, "duration_s": 10},
            {"rate_kw": 6, "duration_s": 1e9},
            {"rate_kw": 900, "duration_s": 9},
        ):
            assert await face.ask("POST", "/stations/bay-1/test-discharge", 400, json=wish)

    on_face(scenario)


# --- charge profiles ------------------------------------------------------------------------------------------------
def profile(**more: Any) -> dict[str, Any]:
    usual = {
        "transaction_id": "p1", "station": "bay-1", "duration_s": 120.0,
        "schedule": [{"after_s": 0, "power_kw": 5.0}, {"after_s": 60, "power_kw": -5.0}],
    }  # fmt: skip
    return {**usual, **more}


def test_a_profile_becomes_overrides_step_by_step() -> None:
    async def scenario(face: Face) -> None:
        face.wire.board.need_soc[0] = 0.5
        job = asyncio.ensure_future(face.desk.run())
        done = await face.ask("POST", "/charge-profile", json=profile())
        assert (done["state"], done["power_kw"], done["repeated"]) == ("running", 5.0, False)
        await face.wire.after(20.0)
        assert face.wire.power_kw[0] == pytest.approx(5.0, abs=0.5)
        await face.wire.after(60.0)
        assert face.wire.power_kw[0] == pytest.approx(-5.0, abs=0.5)
        await face.wire.after(60.0)
        assert face.wire.power_kw[0] > -0.5
        assert face.wire.site.settings.overrides == ()
        assert (await face.ask("GET", "/charge-profile"))[0]["state"] == "ended"
        job.cancel()

    on_face(scenario)


def test_the_same_profile_twice_has_one_effect_and_another_body_is_refused() -> None:
    async def scenario(face: Face) -> None:
        first = await face.ask("POST", "/charge-profile", json=profile())
        overrides = face.wire.site.settings.overrides
        entries = len(face.wire.store.audit(1_000))
        again = await face.ask("POST", "/charge-profile", json=profile())
        assert again == {**first, "repeated": True}
        assert face.wire.site.settings.overrides == overrides
        assert len(face.wire.store.audit(1_000)) == entries
        told = await face.ask("POST", "/charge-profile", 409, json=profile(duration_s=121.0))
        assert "transaction_id is 'p1'" in told

    on_face(scenario)


def test_one_command_that_comes_five_times_at_once_has_one_effect() -> None:
    async def scenario(face: Face) -> None:
        told = await asyncio.gather(*(face.ask("POST", "/charge-profile", json=profile()) for _ in range(5)))
        assert sorted(one["repeated"] for one in told) == [False, True, True, True, True]
        assert len(face.wire.site.settings.overrides) == 1
        assert sum(e.action == "override" for e in face.wire.store.audit(100)) == 1

    on_face(scenario)


def test_a_profile_that_cannot_be_stored_has_no_effect() -> None:
    async def scenario(face: Face) -> None:
        async def full(*_: Any) -> None:
            raise StoreError("disk full")

        real = face.wire.store.put_entry
        face.wire.store.put_entry = full  # type: ignore[method-assign,assignment]
        assert "nothing was changed" in await face.ask("POST", "/charge-profile", 503, json=profile())
        assert face.wire.site.settings.overrides == ()
        face.wire.store.put_entry = real  # type: ignore[method-assign]
        assert not (await face.ask("POST", "/charge-profile", json=profile()))["repeated"]

    on_face(scenario)


def test_a_profile_is_known_after_a_restart_and_goes_on_for_its_vehicle_only() -> None:
    async def scenario(face: Face) -> None:
        await face.ask("POST", "/charge-profile", json=profile())
        site = face.wire.site
        site.settings = msgspec.structs.replace(site.settings, overrides=())
        again = ChargeProfiles(site)
        assert (await again.command(msgspec.convert(profile(), ChargeProfile), "x")).repeated
        await again.tick()
        assert [o.power_kw for o in site.settings.overrides] == [5.0]
        with pytest.raises(Conflict):
            await again.command(msgspec.convert(profile(evse=2), ChargeProfile), "x")
        site.settings = msgspec.structs.replace(site.settings, overrides=())
        face.wire.csms.stations["bay-1"].transactions[0] = "somebody else"
        other = ChargeProfiles(site)
        await other.tick()
        assert other.status("p1").words == "Its vehicle left."
        assert site.settings.overrides == ()

    on_face(scenario)


def test_a_persons_override_ends_a_profile() -> None:
    async def scenario(face: Face) -> None:
        job = asyncio.ensure_future(face.desk.run())
        await face.ask("POST", "/charge-profile", json=profile())
        await face.wire.site.override(0, "hold", 0.0, 5.0, "manager")
        await face.wire.after(3.0)
        assert "by hand" in (await face.ask("GET", "/charge-profile"))[0]["words"]
        assert [o.mode for o in face.wire.site.settings.overrides] == ["hold"]
        job.cancel()

    on_face(scenario)


def test_stop_points_and_cancelling() -> None:
    async def scenario(face: Face) -> None:
        job = asyncio.ensure_future(face.desk.run())
        done = await face.ask("POST", "/charge-profile", json=profile(stop_charge_soc=0.6))
        assert done["power_kw"] == 0.0
        ended = await face.ask("DELETE", "/charge-profile?transaction_id=p1")
        assert (ended["state"], ended["words"]) == ("ended", "Cancelled by api.")
        assert face.wire.site.settings.overrides == ()
        assert await face.ask("DELETE", "/charge-profile?transaction_id=p1") == ended
        await face.ask("DELETE", "/charge-profile?transaction_id=p9", 404)
        job.cancel()

    on_face(scenario)


def test_the_newest_profile_of_an_evse_wins() -> None:
    async def scenario(face: Face) -> None:
        await face.ask("POST", "/charge-profile", json=profile())
        schedule = [{"after_s": 0, "power_kw": 3.0}]
        await face.ask("POST", "/charge-profile", json=profile(transaction_id="p2", schedule=schedule))
        new, old = await face.ask("GET", "/charge-profile")
        assert (new["state"], old["state"], old["words"]) == ("running", "ended", "Replaced by p2.")
        assert [o.power_kw for o in face.wire.site.settings.overrides] == [3.0]

    on_face(scenario)


def test_a_station_that_refuses_answers_discharge_denied() -> None:
    async def scenario(face: Face) -> None:
        station = face.wire.csms.stations["bay-1"]
        station.provision = msgspec.structs.replace(station.provision, dialect="refuse")
        assert (await face.ask("POST", "/charge-profile", 422, json=profile())).startswith("discharge denied")
        assert face.wire.site.settings.overrides == ()
        charging = profile(schedule=[{"after_s": 0, "power_kw": 5.0}])
        assert (await face.ask("POST", "/charge-profile", json=charging))["state"] == "running"
        await face.wire.after(1.0)
        assert "discharge_denied" in face.wire.codes

    on_face(scenario)


BAD_PROFILES: list[tuple[dict[str, Any], int, str]] = [
    ({"transaction_id": ""}, 400, "transaction_id"),
    ({"station": "none"}, 404, "none"),
    ({"evse": 9}, 404, "EVSE 9"),
    ({"schedule": []}, 400, "schedule"),
    ({"schedule": [{"after_s": 5, "power_kw": 1}]}, 400, "schedule[0].after_s"),
    ({"schedule": [{"after_s": 0, "power_kw": 1}, {"after_s": 0, "power_kw": 2}]}, 400, "schedule[1].after_s"),
    ({"schedule": [{"after_s": 0, "power_kw": 11.5}]}, 400, "schedule[0].power_kw"),
    ({"max_discharge_kw": 4.0}, 400, "schedule[1].power_kw"),
    ({"duration_s": 60.0}, 400, "duration_s"),
    ({"starts_at_s": START_S - 900.0}, 400, "starts_at_s"),
    ({"starts_at_s": 4e9}, 400, "starts_at_s"),
    ({"stop_charge_soc": 80}, 400, "stop_charge_soc"),
    ({"power": 1}, 400, "power"),
]


def test_a_bad_profile_names_its_field() -> None:
    async def scenario(face: Face) -> None:
        for change, status, field in BAD_PROFILES:
            assert field in await face.ask("POST", "/charge-profile", status, json=profile(**change)), change
        assert face.wire.site.settings.overrides == ()
        assert await face.ask("GET", "/charge-profile") == []

    on_face(scenario)


@settings(max_examples=10, deadline=None)
@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([2.0, -3.0, 5.0]), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_any_order_of_repetitions_and_restarts_has_the_effect_of_the_first_of_each(
    moves: list[tuple[str, float, bool]],
) -> None:
    """I9: whatever is repeated, in whatever order, over restarts: each id has the effect of its first body, once."""

    async def scenario(face: Face) -> None:
        profiles, first = ChargeProfiles(face.wire.site), dict[str, float]()
        for key, kw, restarts in moves:
            if restarts:
                profiles = ChargeProfiles(face.wire.site)
            wish = ChargeProfile(
                transaction_id=key, station="bay-1", duration_s=600.0,
                schedule=msgspec.convert([{"after_s": 0, "power_kw": kw}], ChargeProfile.__annotations__["schedule"]),
            )  # fmt: skip
            before = face.wire.site.settings.overrides
            try:
                told = await profiles.command(wish, "x")
            except Conflict:
                assert first[key] != kw
                assert face.wire.site.settings.overrides == before
                continue
            assert told.repeated == (key in first)
            if told.repeated:
                assert first[key] == kw
                assert face.wire.site.settings.overrides == before
            first.setdefault(key, kw)
        kept = {entry.key: entry for entry in face.wire.store.registry("charge_profile")}
        assert kept.keys() == first.keys()
        newest = list(first)[-1]
        await profiles.tick()
        assert [o.power_kw for o in face.wire.site.settings.overrides] == [first[newest]]

    on_face(scenario)


# --- tokens and transactions ----------------------------------------------------------------------------------------
def test_tokens_come_and_go() -> None:
    async def scenario(face: Face) -> None:
        entry = {"id_token": "AA/1", "name": "Ann", "departure": "17:30", "minimum_soc": 0.5, "may_discharge": False}
        await face.ask("POST", "/tokens", json=entry)
        (found,) = await face.ask("GET", "/tokens")
        assert (found["id_token"], found["departure"], found["may_discharge"]) == ("AA/1", "17:30", False)
        for bad, field in (({"id_token": ""}, "id_token"), ({"id_token": "b", "departure": "25:00"}, "departure"),
                           ({"id_token": "b", "expires_s": 7.0}, "expires_s")):  # fmt: skip
            assert field in await face.ask("POST", "/tokens", 400, json=bad)
        await face.ask("DELETE", "/tokens", params={"id_token": "aa/1"})
        assert await face.ask("GET", "/tokens") == []
        await face.ask("DELETE", "/tokens", 404, params={"id_token": "aa/1"})

    on_face(scenario)


def test_long_reads_leave_the_loop() -> None:
    async def scenario(face: Face) -> None:
        apart = list[str]()

        async def in_thread(act: Callable[..., Any], *words: Any) -> Any:
            apart.append(act.__name__)
            return act(*words)

        face.desk._in_thread = in_thread
        await face.wire.after(30.0)
        (row,) = await face.ask("GET", "/transactions")
        await face.ask("GET", "/sessions")
        named = {"station": row["station"], "transaction_id": row["transaction_id"]}
        told = await face.ask("GET", "/transaction", params=named)
        assert told["transaction"]["started_s"] == row["started_s"]
        assert told["transaction"]["events"] == len(told["events"])
        assert apart == ["transaction_rows", "export", "transaction_detail"]

    on_face(scenario)


def test_transactions_sessions_erasure_and_forgetting() -> None:
    async def scenario(face: Face) -> None:
        await face.wire.after(30.0)
        (head,) = await face.ask("GET", "/transactions")
        assert (head["station"], head["ended"], head["missing_events"]) == ("bay-1", False, 0)
        one = await face.ask(
            "GET", "/transaction", params={"station": "bay-1", "transaction_id": head["transaction_id"]}
        )
        assert one["events"][0]["kind"] == "Started"
        assert CARD in json.dumps(one["events"])
        await face.ask("GET", "/transaction", 404, params={"station": "bay-1", "transaction_id": "x"})
        (session,) = await face.ask("GET", "/sessions")
        assert session["id_token"] == CARD
        assert await face.ask("GET", "/sessions", params={"format": "cdr"}) == []
        csv = await face.client.get(V1 + "/sessions?format=csv")
        assert csv.headers["content-type"].startswith("text/csv")
        assert csv.text.splitlines()[1].count(CARD) == 1
        assert "format" in await face.ask("GET", "/sessions?format=xml", 400)
        assert "before" in await face.ask("GET", "/transactions", 400, params={"start_s": 2e9, "end_s": 1e9})

        assert (await face.ask("POST", "/tokens/erase", json={"id_token": CARD}))["changed"] >= 1
        assert CARD not in json.dumps(await face.ask("GET", "/sessions"))
        old = TransactionEvent(
            station_id="old", transaction_id="o", seq_no=0, event_type="Started", at_s=START_S - 9e5, evse_id=1,
            payload_json=b"{}",
        )  # fmt: skip
        await face.wire.store.add_transaction_event(old)
        await face.wire.store.add_transaction_event(msgspec.structs.replace(old, seq_no=1, event_type="Ended"))
        assert "before_s" in await face.ask("POST", "/forget", 400, json={"before_s": 4e9})
        assert await face.ask("POST", "/forget", json={"before_s": START_S - 1e5}) == {"changed": 1}
        assert await face.ask("POST", "/forget", json={"before_s": START_S - 1e5}) == {"changed": 0}

    on_face(scenario)


# --- drivers --------------------------------------------------------------------------------------------------------
def secret_of(given: dict[str, str]) -> str:
    path, _, secret = given["path"].partition("#")
    assert path == "/driver"
    return secret


async def by_driver(face: Face, method: str, secret: str, status: int = 200, **more: Any) -> Any:
    client = face.as_(None, peer="10.1.1.1")
    headers = {"X-Driver-Link": secret, "Origin": HOST}
    reply = await client.request(method, V1 + "/driver", headers=headers, **more)
    assert reply.status_code == status, reply.text
    return reply.json()


def test_a_drivers_link_shows_the_stay_and_takes_wishes() -> None:
    async def scenario(face: Face) -> None:
        await face.wire.csms.registry.put_token(TokenEntry(id_token=CARD), "t", face.wire.clock.wall())
        given = await face.ask("POST", "/tokens/link", json={"id_token": CARD})
        secret = secret_of(given)
        kept = json.dumps([str(entry) for entry in face.wire.store.registry("driver_link")])
        assert secret not in kept + str(face.wire.store.audit(100))
        view = await by_driver(face, "GET", secret)
        assert (view["connected"], view["bay"], view["battery_used"]) == (True, "Bay 1", True)
        assert view["reason"]
        leaves_s = face.wire.clock.wall() + 7_200.0
        wish = {"departs_at_s": leaves_s, "energy_kwh": 6, "minimum_soc": 0.5, "may_discharge": False}
        view = await by_driver(face, "POST", secret, json=wish)
        assert (view["minimum_soc"], view["battery_used"]) == (0.5, False)
        board = face.wire.board
        assert board.departs_s[0] == pytest.approx(leaves_s, abs=1.0)
        assert board.need_soc[0] == pytest.approx(0.7 + 6 * 0.94 / 60, abs=0.02)
        assert not board.may_discharge[0]
        assert any(e.actor == "driver" for e in face.wire.store.audit(20))
        assert "departs_at_s" in (await by_driver(face, "POST", secret, 400, json={"departs_at_s": 5.0}))["detail"]
        assert "minimum_soc" in (await by_driver(face, "POST", secret, 400, json={"minimum_soc": 50}))["detail"]

    on_face(scenario)


def test_a_link_fills_the_audit_only_with_changes_and_only_so_often() -> None:
    async def scenario(face: Face) -> None:
        await face.wire.after(5.0)
        secret = secret_of(await face.ask("POST", "/stations/bay-1/link", json={}))

        def audited() -> int:
            return [entry.action for entry in face.wire.store.audit(200)].count("driver.wish")

        wish = {
            "departs_at_s": face.wire.clock.wall() + 7_200.0,
            "energy_kwh": 6,
            "minimum_soc": 0.5,
            "may_discharge": False,
        }
        for _ in range(2 * WISHES_AT_ONCE):
            await by_driver(face, "POST", secret, json=wish)
            await by_driver(face, "POST", secret, json={})
        assert audited() == 1
        changes = (
            {"minimum_soc": 0.4},
            {"may_discharge": True},
            {"energy_kwh": 7},
            {"departs_at_s": wish["departs_at_s"] + 60.0},
        )
        for number, change in enumerate(changes, start=2):
            await by_driver(face, "POST", secret, json=change)
            assert audited() == number
        for number in range(WISHES_AT_ONCE - 5):
            await by_driver(face, "POST", secret, json={"minimum_soc": 0.1 + number / 1000})
        refused = await by_driver(face, "POST", secret, 429, json={"minimum_soc": 0.9})
        assert "too often" in refused["detail"]
        assert face.wire.board.minimum_soc[0] < 0.9
        assert audited() == WISHES_AT_ONCE
        await face.wire.after(WISH_EVERY_S)
        await by_driver(face, "POST", secret, json={"minimum_soc": 0.6})
        await by_driver(face, "POST", secret, 429, json={"minimum_soc": 0.7})

    on_face(scenario)


def test_a_card_that_must_not_discharge_stays_so() -> None:
    async def scenario(face: Face) -> None:
        entry = TokenEntry(id_token=CARD, may_discharge=False)
        await face.wire.csms.registry.put_token(entry, "t", face.wire.clock.wall())
        secret = secret_of(await face.ask("POST", "/tokens/link", json={"id_token": CARD}))
        assert "may_discharge" in (await by_driver(face, "POST", secret, 400, json={"may_discharge": True}))["detail"]

    on_face(scenario)


def test_a_bays_link_ends_with_its_stay() -> None:
    async def scenario(face: Face) -> None:
        assert "no vehicle" in await face.ask("POST", "/stations/bay-2/link", 400, json={})
        secret = secret_of(await face.ask("POST", "/stations/bay-1/link", json={"evse": 1}))
        assert (await by_driver(face, "GET", secret))["connected"]
        face.wire.csms.stations["bay-1"].transactions[0] = "the next one"
        await by_driver(face, "GET", secret, 404)
        await by_driver(face, "POST", secret, 404, json={"may_discharge": False})

    on_face(scenario)


def test_a_removed_or_blocked_card_has_no_link() -> None:
    async def scenario(face: Face) -> None:
        registry, now_s = face.wire.csms.registry, face.wire.clock.wall()
        await registry.put_token(TokenEntry(id_token=CARD), "t", now_s)
        secret = secret_of(await face.ask("POST", "/tokens/link", json={"id_token": CARD}))
        await registry.put_token(TokenEntry(id_token=CARD, status="Blocked"), "t", now_s)
        await by_driver(face, "GET", secret, 404)
        await registry.put_token(TokenEntry(id_token=CARD), "t", now_s)
        await by_driver(face, "GET", secret)
        await face.ask("DELETE", "/tokens", params={"id_token": CARD})
        await by_driver(face, "GET", secret, 404)
        await face.ask("POST", "/tokens/link", 404, json={"id_token": CARD})

    on_face(scenario)


def test_wrong_links_are_counted_and_a_right_one_still_passes() -> None:
    async def scenario(face: Face) -> None:
        secret = secret_of(await face.ask("POST", "/stations/bay-1/link", json={}))
        for _ in range(int(FAILURES)):
            await by_driver(face, "GET", "w" * 43, 404)
        assert "Too many" in (await by_driver(face, "GET", "w" * 43, 429))["detail"]
        assert (await by_driver(face, "GET", secret))["connected"]

    on_face(scenario)


def test_a_drivers_write_from_a_foreign_page_is_refused() -> None:
    async def scenario(face: Face) -> None:
        secret = secret_of(await face.ask("POST", "/stations/bay-1/link", json={}))
        client = face.as_(None)
        for origin in ("http://evil.example", None):
            headers = {"X-Driver-Link": secret} | ({"Origin": origin} if origin else {})
            reply = await client.post(V1 + "/driver", headers=headers, json={"may_discharge": False})
            assert reply.status_code == 403

    on_face(scenario)


def test_a_station_is_moved_and_given_the_cards() -> None:
    async def scenario(face: Face) -> None:
        registry = face.wire.csms.registry
        await face.ask("POST", "/stations", json={"identity": "new-1", "security_profile": 2})
        path = "/stations/new-1/security-profile"
        assert "never goes back" in await face.ask("POST", path, 400, json={"security_profile": 1})
        assert "serial" in await face.ask("POST", path, 400, json={"security_profile": 3})
        assert registry.moves == {}
        await face.ask("PUT", "/stations/new-1", json={"identity": "new-1", "security_profile": 2, "serial": "SN-1"})
        await face.ask("POST", path, json={"security_profile": 3})
        assert registry.moves == {"new-1": 3}
        await face.ask("POST", "/stations/nobody/security-profile", 404, json={"security_profile": 2})
        await face.ask("POST", "/tokens", json={"id_token": "card-1"})
        assert await face.ask("POST", "/stations/bay-1/local-list") == {"changed": True}
        assert [entry.action for entry in face.wire.store.audit(50)].count("station.local_list") == 1
        await face.ask("POST", "/stations/nobody/local-list", 404)

    on_face(scenario)


# --- roles ----------------------------------------------------------------------------------------------------------
ACTS: list[tuple[str, str, Role]] = [
    ("POST", "/stations", "admin"), ("PUT", "/stations/bay-1", "admin"), ("DELETE", "/stations/bay-1", "admin"),
    ("POST", "/stations/bay-1/rotate-password", "admin"), ("POST", "/stations/bay-1/mode", "operator"),
    ("POST", "/stations/bay-1/security-profile", "admin"), ("POST", "/stations/bay-1/local-list", "operator"),
    ("POST", "/stations/bay-1/call", "admin"), ("POST", "/stations/bay-1/test-discharge", "operator"),
    ("POST", "/stations/bay-1/link", "operator"), ("POST", "/knocked/x/accept", "admin"),
    ("POST", "/faults/clear", "operator"), ("POST", "/charge-profile", "operator"),
    ("DELETE", "/charge-profile?transaction_id=x", "operator"), ("POST", "/tokens", "admin"),
    ("DELETE", "/tokens?id_token=x", "admin"), ("POST", "/tokens/erase", "admin"), ("POST", "/tokens/link", "operator"),
    ("POST", "/forget", "admin"), ("GET", "/tokens", "operator"), ("GET", "/tokens/refused", "operator"),
    ("GET", "/transactions", "operator"),
    ("GET", "/transaction?station=a&transaction_id=b", "operator"), ("GET", "/sessions", "operator"),
    ("GET", "/knocked", "operator"), ("GET", "/stations/bay-1/journal", "operator"), ("GET", "/charge-profile", "operator"),
    ("GET", "/stations", "viewer"), ("GET", "/stations/bay-1", "viewer"), ("GET", "/stations/bay-1/profiles", "viewer"),
    ("GET", "/stations/bay-1/device-model", "viewer"),
]  # fmt: skip


def test_roles_of_every_route(tmp_path: Path) -> None:
    people = AccessFile(tmp_path / "access.json")
    order = ROLES
    tokens = {role: people.add_token(f"t-{role}", role, 0.0) for role in order}

    async def scenario(face: Face) -> None:
        for method, path, need in ACTS:
            for role in order:
                reply = await face.as_(f"Bearer {tokens[role]}").request(method, V1 + path, json={})
                allowed = order.index(role) >= order.index(need)
                assert (reply.status_code != 403) == allowed, (method, path, role, reply.text)
        routes = {
            (method, route.path) for route in face.app.routes for method in getattr(route, "methods", ())
            if route.path.startswith(("/api/v1/stations", "/api/v1/tokens", "/api/v1/knocked", "/api/v1/charge-profile"))
            and method != "OPTIONS"
        }  # fmt: skip
        assert len(routes) == sum(
            path.startswith(("/stations", "/tokens", "/knocked", "/charge-profile")) for _, path, _ in ACTS
        )

    on_face(scenario, people=people)


odd_values = (
    st.none() | st.booleans() | st.sampled_from([0, -1, 1e308, -1e308, 2**63, "", "bay-1", "\x00", "ü" * 300, [], {}])
)  # fmt: skip
odd_bodies = st.dictionaries(
    st.sampled_from(
        ["identity", "evses", "mode", "action", "payload", "timeout_s", "rate_kw", "duration_s", "evse", "transaction_id",
         "station", "schedule", "starts_at_s", "id_token", "type", "before_s", "departs_at_s", "expires_s"]
    ),
    odd_values | st.lists(odd_values, max_size=2), max_size=5,
)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.integers(0, len(ACTS)), odd_bodies, st.sampled_from(["bay-1", "%00", "%2e%2e", "a" * 60, "%ff"])),
        min_size=5, max_size=10,
    )
)  # fmt: skip
def test_no_body_breaks_a_route(asked: list[tuple[int, dict[str, Any], str]]) -> None:
    async def scenario(face: Face) -> None:
        given = await face.ask("POST", "/stations/bay-1/link", json={})
        for index, body, name in asked:
            if index == len(ACTS):
                headers = {"X-Driver-Link": secret_of(given), "Origin": HOST}
                reply = await face.client.post(V1 + "/driver", headers=headers, json=body)
            else:
                method, path, _ = ACTS[index]
                reply = await face.client.request(method, V1 + path.replace("bay-1", name), json=body)
            assert reply.status_code in (200, 400, 404, 409, 422), (index, body, name, reply.text)
            if reply.status_code != 200:
                assert list(reply.json()) == ["detail"]

    on_face(scenario)


def test_openapi_covers_the_routes() -> None:
    async def scenario(face: Face) -> None:
        schema = (await face.client.get("/schema/openapi.json")).json()
        paths = schema["paths"]
        for method, path, need in ACTS:
            plain = path.partition("?")[0].replace("/bay-1", "/{identity}").replace("/x/", "/{identity}/")
            assert paths[V1 + plain][method.lower()]["x-role"] == need, plain
        assert paths[V1 + "/driver"]["post"]["x-role"] == "anyone"

    on_face(scenario)


def test_the_table_of_the_fleet_is_what_the_tests_think() -> None:
    """Guards the fixtures: ids and rating are used in the words above."""
    here = world(2).table
    assert isinstance(here, EvseTable)
    assert here.ids == ("bay-1", "bay-2")
    assert here.charge_kw[0] == 11.0
