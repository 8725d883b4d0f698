"""The emergency stop as a limit that each station keeps by itself: who gets it, when it is lifted, what is told."""

from typing import Any, ClassVar

import numpy as np
import pytest

from gridtide.model.decision import Decision
from gridtide.run.csms.stop_order import ORDERED, REFUSED_RETRY_S, STOP_PROFILE_ID
from gridtide.run.store import MemoryStore
from tests.day.test_station_life import Moody, Told
from tests.day.wire_site import WireSite, on_wire, stay, world


class Stopped(Told):
    """A ward whose decisions carry a state."""

    def decide(self, state: str) -> None:
        none = np.zeros(1)
        self.csms.apply(
            Decision(setpoint_kw=none, reason=none.astype(np.uint8), wish_kw=none, lease_s=5.0, state=state)
        )

    async def cycles_of(self, state: str, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.decide(state)
            await self.clock.sleep(0.5)


class Holding(Moody):
    """Clears what it is told to, or answers as `cleared` says."""

    cleared: ClassVar[dict[str, Any]] = {"status": "Accepted"}

    def _answer(self, action: str, payload: Any) -> Any:  # type: ignore[override]
        return self.cleared if action == "ClearChargingProfile" else super()._answer(action, payload)

    @property
    def orders(self) -> list[Any]:
        """Stop orders given and lifted, in order."""
        found: list[Any] = []
        for action, payload in self.heard:
            if action == "ClearChargingProfile":
                found.append(("lift", payload["chargingProfileId"]))
            elif action == "SetChargingProfile" and payload["chargingProfile"]["id"] == STOP_PROFILE_ID:
                found.append(("stop", payload["evseId"]))
        return found


STOP, LIFT = ("stop", 0), ("lift", STOP_PROFILE_ID)


async def ready(ward: Stopped, **status: str) -> Holding:
    raw = Holding(ward, **status)
    await raw.boot()
    await ward.clock.sleep(0.5)
    return raw


def test_a_stop_is_ordered_once_and_lifted_once() -> None:
    async def scenario() -> None:
        ward = Stopped()
        raw = await ready(ward)
        await ward.cycles_of("ok", 5.0)
        assert raw.orders == []
        await ward.cycles_of("estop", 100.0)
        assert raw.orders == [STOP]
        profile = next(p for a, p in raw.heard if a == "SetChargingProfile" and p["evseId"] == 0)["chargingProfile"]
        assert profile["chargingProfilePurpose"] == "ChargingStationMaxProfile"
        assert profile["chargingSchedule"][0]["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 0.0}]
        assert "validTo" not in profile
        assert "duration" not in profile["chargingSchedule"][0]
        await ward.cycles_of("ok", 100.0)
        assert raw.orders == [STOP, LIFT]
        assert not ward.store.get_state(ORDERED + "bay-1")
        assert ward.count("vehicle_not_following") == 0

    on_wire(scenario)


def test_who_was_away_is_stopped_and_let_go_when_it_is_back() -> None:
    async def scenario() -> None:
        ward = Stopped()
        raw = await ready(ward)
        await ward.cycles_of("estop", 2.0)
        raw.link.drop()
        await ward.clock.sleep(1.0)
        again = await ready(ward)
        await ward.cycles_of("estop", 2.0)
        assert set(again.orders) == {STOP}
        again.link.drop()
        await ward.clock.sleep(1.0)
        await ward.cycles_of("ok", 5.0)
        last = await ready(ward)
        await ward.cycles_of("ok", 2.0)
        assert set(last.orders) == {LIFT}
        last.link.drop()
        await ward.clock.sleep(1.0)
        free = await ready(ward)
        await ward.cycles_of("ok", 2.0)
        assert free.orders == [], "it has confirmed that it holds none"

    on_wire(scenario)


def test_after_a_restart_nobody_is_let_go_before_the_first_decision() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        ward = Stopped(store)
        raw = await ready(ward)
        await ward.cycles_of("estop", 2.0)
        raw.link.drop()
        ward.ticks.cancel()
        after = Stopped(store)
        again = await ready(after)
        await after.clock.sleep(5.0)
        assert again.orders == []
        await after.cycles_of("estop", 2.0)
        assert again.orders == [STOP]
        await after.cycles_of("ok", 2.0)
        assert again.orders == [STOP, LIFT]

    on_wire(scenario)


def test_a_station_that_does_not_answer_is_told_again_and_one_that_refuses_is_told_of() -> None:
    async def scenario() -> None:
        ward = Stopped()
        raw = await ready(ward, ChargingStationMaxProfile="Rejected")
        await ward.cycles_of("estop", REFUSED_RETRY_S + 20.0)
        assert raw.orders == [STOP, STOP]
        assert ward.count("vehicle_not_following") == 1
        raw.status = {}
        raw.answers = False
        await ward.cycles_of("estop", 130.0)
        raw.answers = True
        heard = len(raw.orders)
        assert heard >= 4
        await ward.cycles_of("estop", 100.0)
        assert heard <= len(raw.orders) <= heard + 2, "once it has answered it is left alone"

    on_wire(scenario)


@pytest.mark.parametrize(("answer", "lifts"), [({"status": "Unknown"}, 1), ({"status": 7}, 2)])
def test_a_station_that_does_not_lift_it_is_asked_again(
    answer: dict[str, Any], lifts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        ward = Stopped()
        raw = await ready(ward)
        await ward.cycles_of("estop", 2.0)
        monkeypatch.setattr(Holding, "cleared", answer)
        await ward.cycles_of("ok", REFUSED_RETRY_S + 5.0)
        assert raw.orders == [STOP, *[LIFT] * lifts]
        assert bool(ward.store.get_state(ORDERED + "bay-1")) is (lifts > 1)
        assert ward.count("vehicle_not_following") == lifts - 1
        monkeypatch.undo()
        await ward.cycles_of("ok", 2 * REFUSED_RETRY_S)
        assert not ward.store.get_state(ORDERED + "bay-1")

    on_wire(scenario)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_a_vehicle_that_is_not_known_of_stands_still_too(version: Any) -> None:
    async def scenario() -> None:
        here = WireSite(
            world(2, arrivals=[stay(row, -60.0, 8 * 3600.0, 0.4, 0.9) for row in (0, 1)]), versions=(version,) * 2
        )
        here.start()
        await here.after(20.0)
        # Its transaction is nobody's: no setpoint goes there, and it charges at its fallback.
        lost = here.csms.stations["bay-1"]
        take = here.csms._intake.transactions._effect
        here.csms._intake.transactions._effect = lambda station, *rest: station is not lost and take(station, *rest)  # type: ignore[method-assign]
        lost.forget_vehicle(0)
        await here.after(90.0)
        assert here.power_kw[0] > 0.5
        await here.site.estop("test")
        await here.after(3.0)
        assert (np.abs(here.power_kw) < 0.05).all()
        await here.after(120.0)
        assert (np.abs(here.power_kw) < 0.05).all(), "beyond every lease"
        await here.site.clear_estop("test")
        await here.after(30.0)
        assert here.power_kw[0] > 0.5

    on_wire(scenario)
