"""The emulated station's link: what is owed survives every cut, in order and once; and its faults."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtide.run.emulator.outbox import QUEUE_LIMIT, Outbox
from gridtide.wire.ocpp.generated import v21
from tests.day.raw_csms import STANDARD, RawCsms, vehicle, with_csms

Step = tuple[str, float]
STEPS = st.lists(
    st.tuples(st.sampled_from(["cut", "drop", "plug", "unplug", "meter", "reset", "fail"]), st.floats(0.0, 7.0)),
    max_size=25,
)  # fmt: skip


async def play(here: RawCsms, steps: list[Step]) -> None:
    """Cut the link, lose it for a while, let vehicles come and go, reset: in any order."""
    number = 0
    for what, seconds in steps:
        if what == "cut" and here.link is not None:
            here.link.drop()
        elif what == "drop" and here.link is not None:
            here.reachable = not here.reachable
            here.link.drop()
        elif what == "plug" and here.station.blocks.transactions.car is None:
            number += 1
            here.station.plug(vehicle(here.clock.wall(), f"card-{number}"))
        elif what == "unplug":
            here.station.unplug()
        elif what == "meter":
            here.meter(float(int(seconds) % 3) * 3.0)
        elif what == "reset" and here.station.transaction_id is not None:
            here.station.restart("RemoteReset")
        elif what == "fail":
            # For a moment the CSMS cannot store: it answers with an error.
            here.answers["TransactionEvent"] = _failing
        await here.after(seconds)
        here.answers.pop("TransactionEvent", None)
    here.reachable = True
    here.station.unplug()
    await here.after(300.0)


def _failing(_fields: Any) -> dict[str, Any]:
    raise RuntimeError("the store is away")


def told_once(heard: list[Any]) -> dict[str, list[Any]]:
    """Events by transaction as a CSMS keeps them: a repetition must be the very same."""
    kept: dict[tuple[str, int], Any] = {}
    for item in heard:
        key = (item["transactionInfo"]["transactionId"], item["seqNo"])
        assert kept.setdefault(key, item) == item, "the same number, another story"
    stories: dict[str, list[Any]] = {}
    for (name, _), item in kept.items():
        stories.setdefault(name, []).append(item)
    return stories


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_every_event_arrives_once_and_in_order_whatever_the_link_does(steps: list[Step]) -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.blocks.model.fix("AuthCtrlr", "OfflineTxForUnknownIdEnabled", "true")
        # However often the CSMS fails: it is never given up on.
        here.station.blocks.model.fix("OCPPCommCtrlr", "MessageAttempts", "99", "TransactionEvent")
        here.station.blocks.model.fix("OCPPCommCtrlr", "MessageAttemptInterval", "1", "TransactionEvent")
        here.station.core.outbox.attempts, here.station.core.outbox.pause_s = 99, 1.0
        await play(here, steps)
        assert here.station.connected
        assert not len(here.station.core.outbox)
        for name, story in told_once(here.all("TransactionEvent")).items():
            assert [item["seqNo"] for item in story] == list(range(len(story))), name
            assert [item["eventType"] for item in story][:: max(len(story) - 1, 1)] == ["Started", "Ended"], name
            stamps = [datetime.fromisoformat(item["timestamp"]) for item in story]
            assert stamps == sorted(stamps)

    with_csms(scenario)


def test_a_lost_answer_brings_the_same_event_again() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        assert here.link is not None
        here.link.blackhole = True
        here.station.unplug()
        await here.after(0.2)
        here.link.drop()
        await here.after(5.0)
        ended = [item for item in here.all("TransactionEvent") if item["eventType"] == "Ended"]
        assert len(ended) == 2
        assert ended[0] == ended[1]

    with_csms(scenario)


def test_a_csms_that_fails_hears_it_again_and_one_that_refuses_does_not() -> None:
    async def scenario(here: RawCsms) -> None:
        here.answers["TransactionEvent"] = _failing
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(5.0)
        assert len(here.all("TransactionEvent")) == 1
        await here.after(6.0)
        assert len(here.all("TransactionEvent")) == 2
        await here.after(60.0)
        assert len(here.all("TransactionEvent")) == 3, "MessageAttempts"
        assert not len(here.station.core.outbox)

    with_csms(scenario)


def test_a_full_queue_gives_up_updates_and_never_a_start_or_an_end() -> None:
    outbox = Outbox()

    def event(kind: str, number: int) -> v21.TransactionEventRequest:
        return v21.TransactionEventRequest(
            eventType=kind, timestamp=None, triggerReason="Trigger", seqNo=number,  # type: ignore[arg-type]
            transactionInfo=v21.TransactionType(transactionId="t"),
        )  # fmt: skip

    outbox.put("TransactionEvent", event("Started", 0))
    outbox.put("Heartbeat", v21.HeartbeatRequest())
    for number in range(1, QUEUE_LIMIT + 50):
        outbox.put("TransactionEvent", event("Updated", number))
    outbox.put("TransactionEvent", event("Ended", 9_999))
    assert len(outbox) == QUEUE_LIMIT
    kinds = [getattr(item.payload, "eventType", "none") for item in outbox._queues[0]]
    assert kinds[0] == "Started"
    assert kinds[-1] == "Ended"
    assert "none" not in kinds, "what is no event goes first"


def test_what_the_csms_asked_for_goes_before_it_has_accepted() -> None:
    outbox = Outbox()
    outbox.put("Heartbeat", v21.HeartbeatRequest())
    assert outbox.next(0.0, accepted=False) is None
    outbox.put("NotifyReport", v21.HeartbeatRequest(), asked=True)
    found = outbox.next(0.0, accepted=False)
    assert found is not None
    assert found[0].action == "NotifyReport"


# --- faults -----------------------------------------------------------------------------------------------------------
def test_a_silent_station_keeps_the_link_and_says_nothing() -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.silent = True
        here.heard.clear()
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(400.0)
        assert not here.heard
        assert await here.ask("ClearCache") == {"error": "timed_out"}
        here.station.silent = False
        await here.after(2.0)
        assert here.all("StatusNotification")

    with_csms(scenario)


def test_a_station_that_ignores_setpoints_accepts_and_does_as_it_likes() -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.faults.ignores_setpoints = True
        period = [{"startPeriod": 0, "limit": 1000.0}]
        told = {
            "id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Relative",
            "chargingSchedule": [{"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": period}],
        }  # fmt: skip
        assert await here.status("SetChargingProfile", {"evseId": 0, "chargingProfile": told}) == "Accepted"
        await here.charging()
        assert here.station.power_wish_kw() == 11.0
        here.station.faults.ignores_setpoints = False
        assert here.station.power_wish_kw() == 1.0

    with_csms(scenario)


def test_a_wrong_clock_shows_in_every_stamp() -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.faults.skew_s = 120.0
        await here.charging()
        assert here.all("TransactionEvent")[0]["timestamp"] > here.now(110.0).replace("+00:00", "Z")

    with_csms(scenario)


def test_a_late_station_answers_late() -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.faults.late_s = 4.0
        before_s = here.clock.monotonic()
        assert await here.status("ClearCache") == "Accepted"
        assert here.clock.monotonic() - before_s >= 4.0

    with_csms(scenario)


@pytest.mark.parametrize("fault", ["malformed", "drops", "duplicates"])
def test_a_mischievous_station_is_noticed(fault: str) -> None:
    async def scenario(here: RawCsms) -> None:
        assert here.conversation is not None
        first = here.conversation
        setattr(here.station.faults, fault, True)
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(70.0)
        if fault == "drops":
            assert here.conversation is not first
            assert here.station.errors >= 1
        else:
            assert first.violations >= 1
        assert here.station.connected

    with_csms(scenario, setup=STANDARD)


def test_refused_heartbeats_and_unknown_requests_do_not_end_a_station() -> None:
    async def scenario(here: RawCsms) -> None:
        assert here.link is not None
        await here.link.send(b'[2,"x1","NoSuchAction",{}]')
        await here.link.send(b'[2,"x2","Heartbeat",{}]')
        await here.link.send(b"{garbage")
        await here.after(1.0)
        assert here.station.errors == 3
        assert await here.status("ClearCache") == "Accepted"

    with_csms(scenario)
