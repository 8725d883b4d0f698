"""A hung and a hostile station delay nobody else; a stop overtakes; the newest setpoint wins; people's calls have a limit."""

import asyncio
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from gridtide.model.decision import Decision
from gridtide.run.assembly import ids, provisions
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.operate import TooManyCalls
from gridtide.run.csms.service import Csms
from gridtide.run.csms.turns import WAITING_PER_TURN
from gridtide.run.net import LinkClosed
from gridtide.run.store import MemoryStore
from tests.day.raw_station import RawStation
from tests.day.wire_site import START_S, V21, EpochClock, on_wire, table

HUNG, HOSTILE = 0, 1
SIZE = 6
BIG = b'[2,"big","DataTransfer",{"vendorId":"v","data":"' + b"x" * (256 * 1024) + b'"}]'


class Fleet:
    """Six stations with a transaction each, told what to do by hand."""

    def __init__(self, size: int = SIZE, limit: int = 200, latency_s: float = 0.0) -> None:
        self.clock = EpochClock(asyncio.get_running_loop(), START_S)
        self.table, self.store = table(size), MemoryStore()
        self.board = EvidenceBoard(self.table)
        self.events: list[tuple[str, str, str]] = []
        self.csms = Csms(
            self.table, provisions(self.table, V21 * size), self.board, self.store, self.clock, ids("c"), lease_s=5.0,
            concurrency_limit=limit,
        )  # fmt: skip
        self.csms.tell(lambda *told: self.events.append(told))
        self.latency_s = latency_s
        self.ticks = asyncio.ensure_future(self.csms.tick_forever())
        self.stations: list[RawStation] = []

    async def begin(self) -> "Fleet":
        """All boot, are prepared, and begin a transaction."""
        for name in self.table.ids:
            raw = Timed(self.csms, self.clock, name)
            await raw.boot()
            await raw.tell("Started", 0, f"tx-{name}")
            self.stations.append(raw)
        await self.clock.sleep(2.0)
        for one in self.stations:
            one.heard.clear()
        return self

    def apply(self, *power_kw: float) -> float:
        """Hand out setpoints (one for all, or one each); when."""
        wanted = np.array(power_kw * self.table.size if len(power_kw) == 1 else power_kw)
        reason = np.zeros(self.table.size, dtype=np.uint8)
        self.csms.apply(Decision(setpoint_kw=wanted, reason=reason, wish_kw=wanted, lease_s=5.0, state="ok"))
        return self.clock.monotonic()

    def told(self, code: str) -> list[tuple[str, str]]:
        return [(source, text) for told, source, text in self.events if told == code]


class Timed(RawStation):
    """Notes when it heard what; answers `after_s` later."""

    after_s = 0.0
    reads = True

    async def _read(self) -> None:
        self.when: list[tuple[float, str]] = []
        while True:
            while not self.reads:
                await self._clock.sleep(0.1)
            try:
                frame = msgspec.json.decode(await self.link.receive())
            except LinkClosed:
                return
            if frame[0] == 2:
                self.heard.append((frame[2], frame[3]))
                self.when.append((self._clock.monotonic(), frame[2]))
                if self.answers:
                    self.last = asyncio.ensure_future(self._later(frame))
            elif (waiting := self._open.pop(frame[1], None)) is not None:
                waiting.set_result(frame)

    async def _later(self, frame: list[Any]) -> None:
        if self.after_s:
            await self._clock.sleep(self.after_s)
        if not self.link.closed:
            await self.link.send(msgspec.json.encode([3, frame[1], self._answer(frame[2], frame[3])]))


def limit_kw(payload: dict[str, Any]) -> float:
    """Setpoint in a SetChargingProfile, kW."""
    (period,) = payload["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"]
    return float(period.get("setpoint", period.get("limit"))) / 1e3


async def flood(raw: RawStation, until: asyncio.Event) -> int:
    """Valid calls, unreadable bytes and frames beyond every limit, as fast as the link takes them."""
    count = 0
    while not until.is_set():
        count += 1
        kinds = (
            msgspec.json.encode([2, f"f-{count}", "Heartbeat", {}]),
            msgspec.json.encode([2, f"g-{count}", "NotifyEvent", {"seqNo": "x"}]),
            b"[" * 100_000, BIG, b"\xff\xfe", b"[3,\"nobody\",{}]",
        )  # fmt: skip
        try:
            await raw.link.send(kinds[count % (6 if count % 50 == 0 else 2)])
        except LinkClosed:
            return count
        if count % 20 == 0:
            await asyncio.sleep(0)
    return count


def test_a_hung_and_a_hostile_station_delay_no_other_setpoint() -> None:
    async def scenario() -> None:
        fleet = await Fleet().begin()
        hung, hostile, *good = fleet.stations
        assert isinstance(hung, Timed)
        hung.answers = hung.reads = False
        over = asyncio.Event()
        flooding = asyncio.ensure_future(flood(hostile, over))
        for round_ in range(1, 11):
            begun_s = fleet.apply(float(round_))
            # Virtual time stands still while anything is ready: whoever has not heard by now waits for somebody.
            await fleet.clock.sleep(0.02)
            for raw in good:
                assert isinstance(raw, Timed)
                assert limit_kw(raw.heard[-1][1]) == round_
                assert raw.when[-1] == (begun_s, "SetChargingProfile")
            if flooding.done():
                again = await Timed(fleet.csms, fleet.clock, "bay-2").boot()
                flooding = asyncio.ensure_future(flood(again, over))
            await fleet.clock.sleep(0.48)
        over.set()
        assert await flooding > 0
        assert all(
            [
                (await raw.tell("Updated", 1, f"tx-{name}"))[0] == 3
                for raw, name in zip(good, fleet.table.ids[2:], strict=True)
            ]
        )
        assert fleet.csms.stations["bay-1"].conversation is None or (
            fleet.csms.stations["bay-1"].conversation.session.waiting_calls < 10
        )
        late = {source for source, _ in fleet.told("latency_over_budget")}
        assert late <= {"bay-1", "bay-2"}

    on_wire(scenario)


def test_a_stop_overtakes_what_waits() -> None:
    async def scenario() -> None:
        fleet = await Fleet(1).begin()
        (raw,) = fleet.stations
        raw.answers = False
        fleet.apply(5.0)
        live = fleet.csms.stations["bay-1"].accepted
        assert live is not None
        calls = [
            asyncio.ensure_future(fleet.csms.operator.call("bay-1", "ClearCache", {}, "ann", 10.0)) for _ in range(5)
        ]
        await fleet.clock.sleep(0.1)
        assert [action for action, _ in raw.heard] == ["SetChargingProfile"], "one in flight, the others wait"
        fleet.apply(0.0)
        stopped_s = fleet.clock.monotonic()
        await fleet.clock.sleep(2.0)
        assert isinstance(raw, Timed)
        assert [action for action, _ in raw.heard] == ["SetChargingProfile"] * 2
        assert limit_kw(raw.heard[1][1]) == 0.0
        assert raw.when[1][0] - stopped_s < 1.3, "it does not wait for the time limit of what is in flight"
        for call in calls:
            call.cancel()

    on_wire(scenario)


def test_the_newest_setpoint_of_an_evse_wins() -> None:
    async def scenario() -> None:
        fleet = await Fleet(2).begin()
        slow, other = fleet.stations
        assert isinstance(slow, Timed)
        slow.after_s = 1.5
        for step in range(1, 9):
            fleet.apply(float(step))
            await fleet.clock.sleep(0.125)
        await fleet.clock.sleep(3.0)
        heard = [limit_kw(payload) for action, payload in slow.heard if action == "SetChargingProfile"]
        assert heard == [1.0, 8.0], "what is out of date is never sent"
        assert [limit_kw(payload) for _, payload in other.heard] == [float(step) for step in range(1, 9)]
        assert fleet.csms.stations["bay-1"].sent[0].power_kw == 8.0

    on_wire(scenario)


# --- where the time goes ----------------------------------------------------------------------------------------------
def test_the_round_trip_is_measured_and_the_budget_told_with_its_reason() -> None:
    async def scenario() -> None:
        fleet = await Fleet(3).begin()
        quick, slow, behind = fleet.stations
        assert isinstance(slow, Timed)
        assert isinstance(behind, Timed)
        station = fleet.csms.stations
        fleet.apply(1.0)
        await fleet.clock.sleep(1.0)
        assert station["bay-1"].round_trip_s == 0.0
        assert fleet.told("latency_over_budget") == []
        slow.after_s, behind.after_s = 0.25, 0.08
        asking = asyncio.ensure_future(fleet.csms.operator.call("bay-3", "ClearCache", {}, "ann"))
        await fleet.clock.sleep(0.01)
        fleet.apply(2.0)
        await fleet.clock.sleep(1.0)
        await asking
        told = dict(fleet.told("latency_over_budget"))
        assert set(told) == {"bay-2", "bay-3"}
        assert "250 ms from decision to answer: 0 ms in the controller, 250 ms at the station" in told["bay-2"]
        assert "150 ms from decision to answer: 70 ms waiting behind ClearCache, 80 ms at the station" in told["bay-3"]
        assert station["bay-2"].last_round_trip_s == pytest.approx(0.25)
        assert station["bay-2"].round_trip_s == pytest.approx(0.05), "smoothed"
        assert station["bay-3"].last_round_trip_s == pytest.approx(0.08), "the queue is not the link's"
        quick.answers = False
        fleet.apply(3.0)
        await fleet.clock.sleep(30.0)
        assert any("No answer" in text for source, text in fleet.told("latency_over_budget") if source == "bay-1")
        before = station["bay-1"].round_trip_s
        assert before is not None
        assert before > 0.1
        quick.link.drop()
        await fleet.clock.sleep(1.0)
        assert station["bay-1"].round_trip_s is None, "of another connection nothing is known"

    on_wire(scenario)


# --- people's calls ---------------------------------------------------------------------------------------------------
def test_peoples_calls_wait_in_order_are_bounded_and_hold_no_setpoint_and_no_stop() -> None:
    async def scenario() -> None:
        most = 2 + 2 * WAITING_PER_TURN
        fleet = await Fleet(most + 2, limit=2).begin()
        idle, stopped = fleet.table.ids[-2:]
        for raw in fleet.stations:
            raw.answers = False
        calls = [
            asyncio.ensure_future(fleet.csms.operator.call(name, "ClearCache", {}, "ann", 60.0))
            for name in fleet.table.ids[:most]
        ]
        await fleet.clock.sleep(0.1)
        sent = Counter(action for raw in fleet.stations for action, _ in raw.heard)
        assert sent == {"ClearCache": 2}, "two at once"
        with pytest.raises(TooManyCalls, match="too many calls wait"):
            await fleet.csms.operator.call(idle, "ClearCache", {}, "ann")
        stop = asyncio.ensure_future(
            fleet.csms.operator.call(stopped, "RequestStopTransaction", {"transactionId": f"tx-{stopped}"}, "ann", 5.0)
        )
        await fleet.clock.sleep(0.1)
        fleet.apply(4.0)
        await fleet.clock.sleep(0.1)
        assert fleet.stations[-1].heard[0][0] == "RequestStopTransaction"
        told = [raw.heard[-1][0] for raw in fleet.stations]
        assert Counter(told) == {"SetChargingProfile": most - 1, "ClearCache": 2, "RequestStopTransaction": 1}
        for raw in fleet.stations:
            raw.answers = True
            raw.link.drop()
        await fleet.clock.sleep(120.0)
        outcomes = await asyncio.gather(*calls, stop, return_exceptions=True)
        assert not any(isinstance(one, TooManyCalls) for one in outcomes)
        assert fleet.csms.operator.turns.taken == 0

    on_wire(scenario)
