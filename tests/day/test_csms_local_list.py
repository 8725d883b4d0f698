"""The local list of a station: whole at first, by differences after, whole again where versions differ."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from gridtide.run.csms import local_list, tokens
from gridtide.run.csms.registry import TokenEntry
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.actions import Version
from tests.day.csms_kit import Answering, Kit, variable
from tests.day.wire_site import on_wire
from tests.wire.ocpp_samples import validator

BOTH: tuple[Version, ...] = ("2.0.1", "2.1")


class ListKeeper:
    """A station's side of the list, after D01: versions rise, a full list replaces."""

    def __init__(self, status: str | None = None) -> None:
        self.version, self.tokens, self.calls, self.status = 0, dict[str, str](), list[Any](), status

    def send(self, payload: Any) -> Any:
        self.calls.append(payload)
        items = payload.get("localAuthorizationList", ())
        if self.status is not None:
            return {"status": self.status}
        if payload["updateType"] == "Full":
            self.tokens.clear()
        elif payload["versionNumber"] <= self.version:
            return {"status": "VersionMismatch"}
        for item in items:
            if "idTokenInfo" in item:
                self.tokens[item["idToken"]["idToken"]] = item["idTokenInfo"]["status"]
            else:
                del self.tokens[item["idToken"]["idToken"]]
        self.version = payload["versionNumber"]
        return {"status": "Accepted"}

    def replies(self) -> dict[str, Any]:
        return {"SendLocalList": self.send, "GetLocalListVersion": lambda _p: {"versionNumber": self.version}}


async def register(kit: Kit, *names: str, **more: Any) -> None:
    for name in names:
        await kit.csms.registry.put_token(TokenEntry(id_token=name, **more), "test", kit.clock.wall())


async def push(kit: Kit) -> bool:
    done = await kit.reports.push_local_list(kit.csms.stations["bay-1"])
    await kit.reports.effects.idle()
    return done


async def keeper(kit: Kit, status: str | None = None) -> tuple[ListKeeper, Answering]:
    held = ListKeeper(status)
    return held, await kit.station(**held.replies())


@pytest.mark.parametrize("version", BOTH)
def test_first_all_then_what_changed(version: Version) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        held, _ = await keeper(kit)
        await register(kit, "a", "b")
        await register(kit, "c", status="Blocked")
        assert await push(kit)
        assert held.tokens == {"a": "Accepted", "b": "Accepted", "c": "Blocked"}
        assert [call["updateType"] for call in held.calls] == ["Full"]
        assert await push(kit)
        assert len(held.calls) == 1, "nothing changed"
        await register(kit, "b", status="Blocked")
        await kit.csms.registry.remove_token("a", "ISO14443", "test", kit.clock.wall())
        assert await push(kit)
        assert held.tokens == {"b": "Blocked", "c": "Blocked"}
        assert held.calls[-1]["updateType"] == "Differential"
        assert len(held.calls[-1]["localAuthorizationList"]) == 2
        assert kit.reports.local_lists.version("bay-1") == held.version == 2
        for call in held.calls:
            assert not list(validator((version, "SendLocalList", "request")).iter_errors(call))

    on_wire(scenario)


def test_long_lists_go_in_parts_of_what_the_station_takes() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, raw = await keeper(kit)
        await register(kit, *(f"card-{number}" for number in range(120)))
        assert await push(kit)
        assert [len(call["localAuthorizationList"]) for call in held.calls] == [50, 50, 20]
        assert [call["versionNumber"] for call in held.calls] == [1, 2, 3]
        assert len(held.tokens) == 120
        told = {"requestId": 1, "seqNo": 0, "generatedAt": kit.stamp()}
        items = [variable("ItemsPerMessage", "7", "LocalAuthListCtrlr")]
        await raw.ask("NotifyReport", **told, reportData=items)
        calls = kit.reports.local_list_calls(kit.csms.stations["bay-1"], is_full=True)
        assert max(len(payload["localAuthorizationList"]) for _, payload in calls) == 7

    on_wire(scenario)


def test_a_station_of_another_version_gets_all_of_it() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, _ = await keeper(kit)
        await register(kit, "a")
        await push(kit)
        held.version = 40
        await register(kit, "b")
        assert await push(kit)
        assert [call["updateType"] for call in held.calls] == ["Full", "Differential", "Full"]
        assert held.tokens == {"a": "Accepted", "b": "Accepted"}
        assert held.version == kit.reports.local_lists.version("bay-1") == 41

    on_wire(scenario)


def test_a_version_told_by_the_way_makes_the_next_push_fit() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, _ = await keeper(kit)
        await register(kit, "a")
        await push(kit)
        held.version, held.tokens = 0, {}
        await kit.operate("GetLocalListVersion")
        assert await push(kit)
        assert held.tokens == {"a": "Accepted"}

    on_wire(scenario)


def test_changed_tokens_reach_stations_that_keep_a_list_and_no_others() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, _ = await keeper(kit)
        other = await kit.station("bay-2")
        await register(kit, "a")
        await push(kit)
        await register(kit, "b")
        await kit.reports.tokens_changed(kit.csms.stations.values())
        assert held.tokens == {"a": "Accepted", "b": "Accepted"}
        assert "SendLocalList" not in [action for action, _ in other.heard]

    on_wire(scenario)


def test_a_station_that_fails_is_told_of_and_one_that_is_away_is_not_pushed() -> None:
    async def scenario() -> None:
        kit = Kit()
        await register(kit, "a")
        assert not await push(kit)
        held, _ = await keeper(kit, "Failed")
        assert not await push(kit)
        assert len(held.calls) == 2, "once by plan, once whole"
        assert "did not take the local list: Failed" in kit.texts()
        assert kit.reports.local_lists.version("bay-1") == 0

    on_wire(scenario)


def test_a_version_that_leaves_no_room_begins_anew() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, _ = await keeper(kit)
        await register(kit, "a")
        held.version = 2**63 - 1
        await kit.operate("GetLocalListVersion")
        assert await push(kit)
        assert (held.version, held.tokens) == (1, {"a": "Accepted"})

    on_wire(scenario)


def test_a_token_the_version_cannot_name_is_left_out() -> None:
    async def scenario() -> None:
        kit = Kit("2.0.1")
        held, _ = await keeper(kit)
        await register(kit, "a")
        await register(kit, "v", type="VIN")
        assert await push(kit)
        assert held.tokens == {"a": "Accepted"}

    on_wire(scenario)


def test_an_empty_registry_empties_the_list() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, _ = await keeper(kit)
        held.tokens, held.version = {"old": "Accepted"}, 5
        await kit.operate("GetLocalListVersion")
        held_calls = kit.reports.local_list_calls(kit.csms.stations["bay-1"], is_full=True)
        assert held_calls == [("SendLocalList", {"versionNumber": 6, "updateType": "Full"})]
        assert local_list.PART == 50

    on_wire(scenario)


# --- changes that meet nobody, or a push under way --------------------------------------------------------------------
@pytest.mark.parametrize("boots", [True, False])
def test_a_change_while_a_station_is_away_is_brought_when_it_comes_back(boots: bool) -> None:
    async def scenario() -> None:
        kit = Kit()
        held, raw = await keeper(kit)
        other = await kit.station("bay-2")
        await register(kit, "a")
        await push(kit)
        await raw.link.close(1000, "")
        await other.link.close(1000, "")
        await asyncio.sleep(1.0)
        await register(kit, "b")
        await asyncio.sleep(5.0)
        assert held.tokens == {"a": "Accepted"}
        for stays_s in (3.0, local_list.CATCH_UP_S + 1.0):
            # The first connection ends before it is the lists' turn, which must not be the end of it.
            back, others = (Answering(kit.csms, kit.clock, name, "2.1") for name in ("bay-1", "bay-2"))
            back.replies = held.replies()
            if boots:
                await back.boot()
            await others.boot()
            await asyncio.sleep(stays_s)
            assert held.tokens == {"a": "Accepted"} | ({"b": "Accepted"} if stays_s > 10.0 else {})
            if stays_s < 10.0:
                await back.link.close(1000, "")
                await others.link.close(1000, "")
                await asyncio.sleep(1.0)
        assert len(held.calls) == 2
        assert "SendLocalList" not in [action for action, _ in others.heard], "it keeps no list of ours"

    on_wire(scenario)


def test_a_station_that_has_everything_is_not_told_again() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, raw = await keeper(kit)
        await register(kit, "a")
        await push(kit)
        await raw.boot()
        await asyncio.sleep(1.0)
        assert len(held.calls) == 1
        await kit.csms.registry.put_token(TokenEntry(id_token="a", name="other name"), "test", kit.clock.wall())
        await asyncio.sleep(5.0)
        assert len(held.calls) == 1, "nothing of it is in the list"

    on_wire(scenario)


def test_a_push_during_a_push_is_not_lost_and_many_become_one() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, raw = await keeper(kit)
        pushes, one_push = list[str](), kit.reports.local_lists._push

        async def counted(station: Station) -> bool:
            pushes.append(station.provision.identity)
            return await one_push(station)

        kit.reports.local_lists._push = counted  # type: ignore[method-assign]
        raw.answers = False
        await register(kit, "a")
        first = asyncio.ensure_future(push(kit))
        await asyncio.sleep(1.0)
        await register(kit, "b")
        more = [asyncio.ensure_future(push(kit)) for _ in range(5)]
        await asyncio.sleep(1.0)
        raw.answers = True
        assert not await first, "it did not answer"
        assert all(await asyncio.gather(*more))
        assert held.tokens == {"a": "Accepted", "b": "Accepted"}
        assert len(held.calls) == 1
        assert len(pushes) == 2

    on_wire(scenario)


def test_a_silent_station_delays_no_other() -> None:
    async def scenario() -> None:
        kit = Kit()
        held, _ = await keeper(kit)
        deaf = await kit.station("bay-2", **ListKeeper().replies())
        await register(kit, "a")
        for name in ("bay-1", "bay-2"):
            assert await kit.csms.push_local_list(name)
        deaf.answers = False
        await register(kit, "b")
        stations = sorted(kit.csms.stations.values(), key=lambda one: one.provision.identity, reverse=True)
        pushing = asyncio.ensure_future(kit.reports.tokens_changed(stations))
        await asyncio.sleep(1.0)
        assert held.tokens == {"a": "Accepted", "b": "Accepted"}
        assert not pushing.done()
        await pushing

    on_wire(scenario)


@pytest.mark.parametrize("version", BOTH)
def test_the_list_tells_group_and_expiry_and_is_made_once(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[int]()

    def counted(judged: Any) -> Any:
        found = tokens.local_list(judged)
        made.append(len(found))
        return found

    monkeypatch.setattr(local_list, "local_list", counted)

    async def scenario() -> None:
        kit = Kit(version)
        held, _ = await keeper(kit)
        await kit.station("bay-2", **ListKeeper().replies())
        ends_s = kit.clock.wall() + 100.0
        await register(kit, "a", group="fleet", expires_s=ends_s)
        for name in ("bay-1", "bay-2"):
            assert await kit.csms.push_local_list(name)
        (item,) = held.calls[0]["localAuthorizationList"]
        info = item["idTokenInfo"]
        assert info["groupIdToken"] == {"idToken": "fleet", "type": "Central"}
        assert datetime.fromisoformat(info["cacheExpiryDateTime"]).timestamp() == ends_s
        assert not list(validator((version, "SendLocalList", "request")).iter_errors(held.calls[0]))
        assert made == [1], "once for both stations"
        await asyncio.sleep(101.0)
        assert await push(kit)
        assert held.tokens == {"a": "Expired"}

    on_wire(scenario)
