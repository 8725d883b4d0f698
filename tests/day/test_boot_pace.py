"""After a power cut not everybody is accepted at once, and everybody is soon; heartbeats are spread."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.run.csms.boot_pace import RETRY_FIRST_S, RETRY_LAST_S, SPREAD_S, BootPace, heartbeat_s
from tests.day.csms_kit import Answering, Kit
from tests.day.raw_station import BOOT
from tests.day.wire_site import on_wire


@given(st.text(max_size=48))
def test_intervals_are_near_what_they_should_be(identity: str) -> None:
    assert 270 <= heartbeat_s(identity) <= 330
    assert heartbeat_s(identity) == heartbeat_s(identity)


def test_intervals_are_spread() -> None:
    names = [f"bay-{number}" for number in range(2_000)]
    told = [heartbeat_s(name) for name in names]
    assert max(told.count(value) for value in set(told)) < 100, "no second in which everybody comes"


@pytest.mark.parametrize(("count", "within_s"), [(600, 10), (10_000, 62), (60_000, 250)])
def test_everybody_is_accepted_soon_after_all_booted_at_once(count: int, within_s: int) -> None:
    pace, now_s, due = BootPace(), 0, {0: [f"bay-{number}" for number in range(count)]}
    accepted = 0
    while due:
        for name in due.pop(now_s, []):
            if pace.admits(float(now_s)):
                accepted += 1
            else:
                wait_s = pace.retry_s(name)
                assert RETRY_FIRST_S <= wait_s <= RETRY_LAST_S
                due.setdefault(now_s + wait_s, []).append(name)
        now_s += 1
    assert accepted == count
    assert now_s <= within_s


@given(st.lists(st.floats(0.0, 3.0), max_size=60), st.integers(1, 5))
def test_never_more_than_the_budget(waits_s: list[float], per_s: int) -> None:
    pace, now_s, taken = BootPace(per_s), 1_000.0, list[float]()
    for wait_s in waits_s:
        now_s += wait_s
        if pace.admits(now_s):
            taken.append(now_s)
    for at_s in taken:
        assert sum(at_s <= other_s < at_s + 1.0 for other_s in taken) <= 2 * per_s
    assert BootPace(per_s).admits(now_s)


def test_who_has_to_wait_is_pending_and_accepted_later() -> None:
    async def scenario() -> None:
        kit = Kit()
        kit.csms._intake.boot_pace = pace = BootPace(1)
        await kit.station("bay-1")
        late = Answering(kit.csms, kit.clock, "bay-2", "2.1")
        answer = (await late.call("BootNotification", BOOT))[2]
        assert (answer["status"], answer["interval"]) == ("Pending", pace.retry_s("bay-2"))
        assert answer["interval"] <= RETRY_FIRST_S + SPREAD_S + 2.0
        station = kit.csms.stations["bay-2"]
        assert station.accepted is None
        await asyncio.sleep(1.0)
        assert late.heard == [], "nothing is prepared for it"
        assert (await late.call("Heartbeat", {}))[0] == 4
        await asyncio.sleep(answer["interval"])
        answer = (await late.call("BootNotification", BOOT))[2]
        assert (answer["status"], answer["interval"]) == ("Accepted", heartbeat_s("bay-2"))
        assert station.accepted is not None
        await asyncio.sleep(1.0)
        assert "SetChargingProfile" in [action for action, _ in late.heard]

    on_wire(scenario)
