"""The rules of a session, one test each."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from gridtide.wire.ocpp.actions import Role, Version, choose_subprotocol, identity_of
from gridtide.wire.ocpp.admission import SessionSettings
from gridtide.wire.ocpp.boot import BootState
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.events import (
    AnswerRefused,
    CallAnswered,
    CallFailed,
    CallReceived,
    CloseWanted,
    FrameDropped,
    ProtocolViolation,
    SendReceived,
)
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.outgoing import Priority, QueueFull
from gridtide.wire.ocpp.session import Session

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOOT = '[2,"%s","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v"}}]'
HEARTBEAT = b'[2,"h1","Heartbeat",{}]'
E = TypeVar("E")


def new_session(
    role: Role = "csms",
    version: Version = "2.1",
    boot_state: BootState = "accepted",
    settings: SessionSettings | None = None,
) -> Session:
    counter = itertools.count(1)
    return Session(role, version, lambda: f"c{next(counter)}", settings, boot_state)


def frames_of(session: Session) -> list[Any]:
    return [json.loads(frame) for frame in session.bytes_to_send()]


def only(events: list[Any], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def clear_cache(session: Session, now_s: float, **options: Any) -> str:
    return session.call("ClearCache", v21.ClearCacheRequest(), now_s, **options)


def setpoint(session: Session, power_w: float, now_s: float, **options: Any) -> str:
    update = v21.ChargingScheduleUpdateType(setpoint=power_w)
    request = v21.UpdateDynamicScheduleRequest(chargingProfileId=1, scheduleUpdate=update)
    return session.call("UpdateDynamicSchedule", request, now_s, **options)


def stop(session: Session, now_s: float, **options: Any) -> str:
    request = v21.RequestStopTransactionRequest(transactionId="t")
    return session.call("RequestStopTransaction", request, now_s, priority=Priority.STOP, **options)


def result(message_id: str, payload: str = '{"status":"Accepted"}') -> bytes:
    return f'[3,"{message_id}",{payload}]'.encode()


# --- opening ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["ocpp1.6", "ocpp2.0.1", "ocpp2.1"], "ocpp2.1"),
        (["ocpp2.0.1"], "ocpp2.0.1"),
        ([" ocpp2.0.1 ", "ocpp1.6"], "ocpp2.0.1"),
        (["ocpp1.6", "OCPP2.1"], None),
        ([], None),
    ],
)
def test_newest_common_subprotocol(offered: list[str], chosen: str | None) -> None:
    assert choose_subprotocol(offered) == chosen


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("/ocpp/CP-1", "CP-1"),
        ("/CP%2D1?x=1", "CP-1"),
        ("/a/DE*ABC*E1@x", "DE*ABC*E1@x"),
        ("/ocpp/" + "a" * 48, "a" * 48),
        ("/ocpp/" + "a" * 49, None),
        ("/ocpp/", None),
        ("/ocpp/..%2F..%2Fetc", None),
        ("/ocpp/a%00b", None),
        ("/ocpp/a%0A", None),
        ("/ocpp/%C3%A9", None),
        ("/ocpp/%ff", None),
        ("/ocpp/a b", None),
    ],
)
def test_identity_from_path(path: str, identity: str | None) -> None:
    assert identity_of(path) == identity


# --- our calls -------------------------------------------------------------------------------------------------------
def test_one_call_in_flight() -> None:
    session = new_session()
    first, second = clear_cache(session, 0.0), clear_cache(session, 0.0)
    assert [frame[1] for frame in frames_of(session)] == [first]
    events = session.receive(result(first), 0.5)
    assert [event.id for event in only(events, CallAnswered)] == [first]
    assert [frame[1] for frame in frames_of(session)] == [second]


def test_time_limits_by_kind_count_from_sending() -> None:
    session = new_session()
    setpoint(session, 1.0, 0.0)
    assert session.next_deadline_s() == 2.0
    clear_cache(session, 0.0)
    assert session.tick(1.9) == []
    assert [event.reason for event in only(session.tick(2.0), CallFailed)] == ["timed_out"]
    assert session.next_deadline_s() == 32.0


def test_late_answer_is_dropped_by_id() -> None:
    session = new_session()
    late = setpoint(session, 1.0, 0.0)
    current = clear_cache(session, 0.0)
    session.tick(2.0)
    events = session.receive(result(late), 2.5)
    assert only(events, CallAnswered) == []
    assert [event.id for event in only(events, FrameDropped)] == [late]
    assert [event.id for event in only(session.receive(result(current), 3.0), CallAnswered)] == [current]


def test_an_answer_after_its_time_limit_is_late_even_before_the_tick() -> None:
    session = new_session()
    late = setpoint(session, 1.0, 0.0)
    events = session.receive(result(late), 2.0)
    assert [type(event) for event in events] == [CallFailed, FrameDropped]


def test_newest_setpoint_replaces_an_unsent_one_in_its_place() -> None:
    session = new_session()
    first = clear_cache(session, 0.0)
    old = setpoint(session, -1000.0, 0.0, replace_key=("evse", 1))
    other = setpoint(session, -1.0, 0.0, replace_key=("evse", 2))
    new = setpoint(session, -5000.0, 0.0, replace_key=("evse", 1))
    assert [(event.id, event.reason, event.was_sent) for event in only(session.tick(0.0), CallFailed)] == [
        (old, "replaced", False)
    ]
    frames_of(session)
    session.receive(result(first), 0.1)
    assert frames_of(session)[0][3]["scheduleUpdate"]["setpoint"] == -5000.0
    session.receive(result(new), 0.2)
    assert [frame[1] for frame in frames_of(session)] == [other]


def test_a_sent_setpoint_is_not_replaced() -> None:
    session = new_session()
    sent = setpoint(session, -1.0, 0.0, replace_key="k")
    setpoint(session, -2.0, 0.0, replace_key="k")
    assert session.tick(0.0) == []
    assert [event.id for event in only(session.receive(result(sent), 0.1), CallAnswered)] == [sent]


def test_a_setpoint_never_replaces_an_unsent_stop() -> None:
    session = new_session()
    first = clear_cache(session, 0.0)
    halt = stop(session, 0.0, replace_key="k")
    setpoint(session, -2.0, 0.0, replace_key="k")
    frames_of(session)
    session.receive(result(first), 0.1)
    assert [frame[1] for frame in frames_of(session)] == [halt]


def test_a_stop_overtakes_and_ends_the_wait_after_a_second() -> None:
    session = new_session()
    dead = clear_cache(session, 0.0)
    for _ in range(3):
        setpoint(session, 1.0, 0.0)
    halt = stop(session, 1.0)
    frames_of(session)
    assert session.next_deadline_s() == 2.0
    assert [(e.id, e.reason) for e in only(session.tick(2.0), CallFailed)] == [(dead, "overtaken")]
    assert [frame[1] for frame in frames_of(session)] == [halt]
    assert only(session.receive(result(dead), 2.1), CallAnswered) == []


def test_a_setpoint_waits_three_seconds_for_an_unanswered_question() -> None:
    session = new_session()
    dead = clear_cache(session, 0.0)
    wanted = setpoint(session, 5.0, 10.0)
    frames_of(session)
    assert session.next_deadline_s() == 13.0
    assert [(e.id, e.reason) for e in only(session.tick(13.0), CallFailed)] == [(dead, "overtaken")]
    assert [frame[1] for frame in frames_of(session)] == [wanted]


def test_a_setpoint_does_not_shorten_the_wait_for_another() -> None:
    session = new_session()
    setpoint(session, 5.0, 0.0)
    setpoint(session, 6.0, 0.5)
    assert session.next_deadline_s() == 2.0


def test_the_newest_stop_takes_the_place_of_all_before_it() -> None:
    """A discharge that waits behind an older stop must not follow the newest one."""
    session = new_session()
    clear_cache(session, 0.0)
    stop(session, 0.0, replace_key="bay")
    setpoint(session, -7.0, 0.1, replace_key="bay")
    halt = stop(session, 0.2, replace_key="bay")
    frames_of(session)
    session.tick(1.2)
    session.receive(result(halt), 1.3)
    assert [frame[1] for frame in frames_of(session)] == [halt]
    assert session.waiting_calls == 0


def test_unsent_calls_are_withdrawn_by_key_but_no_stop_by_less() -> None:
    session = new_session()
    clear_cache(session, 0.0)
    stop(session, 0.0, replace_key=("bay", 1))
    gone = setpoint(session, -7.0, 0.0, replace_key=("bay", 2))
    setpoint(session, -7.0, 0.0, replace_key=("other", 2))
    events = session.withdraw(lambda key: key[0] == "bay", Priority.CONTROL)  # type: ignore[index]
    assert [(e.id, e.reason) for e in only(events, CallFailed)] == [(gone, "replaced")]
    assert session.waiting_calls == 2
    session.withdraw(lambda key: key[0] == "bay", Priority.STOP)  # type: ignore[index]
    assert session.waiting_calls == 1


def test_two_stops_behind_a_dead_call_leave_within_two_seconds() -> None:
    session = new_session()
    clear_cache(session, 0.0)
    first, second = stop(session, 0.0), stop(session, 0.0)
    session.tick(1.0)
    session.tick(2.0)
    assert [frame[1] for frame in frames_of(session)] == ["c1", first, second]


def test_full_queue_gives_up_its_least_urgent_call() -> None:
    session = new_session(settings=SessionSettings(queue_limit=2))
    clear_cache(session, 0.0)
    clear_cache(session, 0.0, priority=Priority.BACKGROUND)
    given_up = clear_cache(session, 0.0, priority=Priority.BACKGROUND)
    stop(session, 0.0)
    assert [(e.id, e.reason) for e in only(session.tick(0.0), CallFailed)] == [(given_up, "displaced")]
    with pytest.raises(QueueFull):
        clear_cache(session, 0.0, priority=Priority.BACKGROUND)
    assert session.waiting_calls == 2


def test_an_unsent_call_expires() -> None:
    session = new_session()
    clear_cache(session, 0.0)
    lease = setpoint(session, -1.0, 0.0, expires_at_s=2.5)
    assert session.next_deadline_s() == 2.5
    assert [(e.id, e.reason, e.was_sent) for e in only(session.tick(2.5), CallFailed)] == [(lease, "expired", False)]


def test_call_error_fails_the_call_with_its_code() -> None:
    session = new_session()
    message_id = clear_cache(session, 0.0)
    events = session.receive(f'[4,"{message_id}","OccurenceConstraintViolation","why",{{}}]'.encode(), 0.1)
    failure = only(events, CallFailed)[0]
    assert (failure.reason, failure.code, failure.description) == ("call_error", "OccurrenceConstraintViolation", "why")
    assert session.bytes_to_send()[1:] == []


@pytest.mark.parametrize(("version", "answered"), [("2.1", [5]), ("2.0.1", [])])
@pytest.mark.parametrize("payload", ['{"status":"Perhaps"}', "[]"])
def test_invalid_answer_fails_the_call(version: Version, answered: list[int], payload: str) -> None:
    session = new_session(version=version)
    request = v21.ClearCacheRequest() if version == "2.1" else v201.ClearCacheRequest()
    message_id = session.call("ClearCache", request, 0.0)
    session.bytes_to_send()
    events = session.receive(result(message_id, payload), 0.1)
    assert [event.reason for event in only(events, CallFailed)] == ["invalid_answer"]
    assert [frame[0] for frame in frames_of(session)] == answered


def test_a_broken_answer_to_nothing_is_dropped() -> None:
    session = new_session()
    session.receive(b'[3,"x",[]]', 0.0)
    assert session.bytes_to_send() == []
    assert session.dropped_answers == 1


def test_closing_fails_everything_and_a_later_session_answers_none() -> None:
    session = new_session()
    flying, waiting = clear_cache(session, 0.0), clear_cache(session, 0.0)
    failures = only(session.close(), CallFailed)
    assert [(e.id, e.reason, e.was_sent) for e in failures] == [
        (flying, "socket_ended", True),
        (waiting, "socket_ended", False),
    ]
    assert session.bytes_to_send() == []
    with pytest.raises(LocalProtocolError):
        session.receive(HEARTBEAT, 1.0)
    with pytest.raises(LocalProtocolError):
        clear_cache(session, 1.0)
    later = new_session()
    assert only(later.receive(result(flying), 1.0), CallAnswered) == []


def test_only_our_own_side_of_the_protocol_is_sent() -> None:
    session = new_session()
    with pytest.raises(LocalProtocolError):
        session.call("Heartbeat", v21.HeartbeatRequest(), 0.0)
    with pytest.raises(LocalProtocolError):
        session.call("Nope", v21.HeartbeatRequest(), 0.0)
    with pytest.raises(LocalProtocolError):
        session.send("ClearCache", v21.ClearCacheRequest())


def test_message_ids_must_fit() -> None:
    session = Session("csms", "2.1", lambda: "x" * 37)
    with pytest.raises(LocalProtocolError, match="message id"):
        clear_cache(session, 0.0)


# --- the peer's calls ------------------------------------------------------------------------------------------------
def test_answers_come_later_and_in_any_order() -> None:
    session = new_session()
    session.receive(b'[2,"a","Heartbeat",{}]', 0.0)
    session.receive(b'[2,"b","Heartbeat",{}]', 0.0)
    message_id = clear_cache(session, 0.0)
    events = session.receive(result(message_id), 0.1)
    assert only(events, CallAnswered)
    for name in ("b", "a"):
        session.answer(name, v21.HeartbeatResponse(currentTime=NOON), 0.2)
    assert [frame[:2] for frame in frames_of(session)] == [[2, message_id], [3, "b"], [3, "a"]]


def test_a_repeat_is_answered_byte_for_byte() -> None:
    session = new_session()
    assert only(session.receive(HEARTBEAT, 0.0), CallReceived)
    waiting = session.receive(HEARTBEAT, 0.1)
    assert [event.reason for event in only(waiting, FrameDropped)] == ["duplicate_open"]
    session.answer("h1", v21.HeartbeatResponse(currentTime=NOON), 0.2)
    answer = session.bytes_to_send()
    events = session.receive(HEARTBEAT, 599.0)
    assert [event.reason for event in only(events, FrameDropped)] == ["duplicate_answered"]
    assert session.bytes_to_send() == answer


def test_a_refusal_is_repeated_too() -> None:
    session = new_session()
    session.receive(HEARTBEAT, 0.0)
    session.refuse("h1", "InternalError", "the request could not be processed")
    answer = session.bytes_to_send()
    session.receive(HEARTBEAT, 1.0)
    assert session.bytes_to_send() == answer


def test_same_id_other_payload_is_refused_without_effect() -> None:
    session = new_session()
    session.receive(HEARTBEAT, 0.0)
    for frame in (b'[2,"h1","Heartbeat",{"customData":{"vendorId":"v"}}]', b'[2,"h1","StatusNotification",{}]'):
        events = session.receive(frame, 0.1)
        assert only(events, CallReceived) == []
        assert frames_of(session)[0][:3] == [4, "h1", "OccurrenceConstraintViolation"]


def test_the_cache_is_bounded_in_number_and_age() -> None:
    session = new_session(settings=SessionSettings(cache_ids=2, cache_age_s=600.0))
    for number in range(3):
        session.receive(f'[2,"n{number}","Heartbeat",{{}}]'.encode(), 0.0)
        session.answer(f"n{number}", v21.HeartbeatResponse(currentTime=NOON), 0.0)
    assert only(session.receive(b'[2,"n0","Heartbeat",{}]', 1.0), CallReceived)
    assert only(session.receive(b'[2,"n2","Heartbeat",{}]', 1.0), CallReceived) == []
    assert only(session.receive(b'[2,"n2","Heartbeat",{}]', 600.0), CallReceived)


def test_open_calls_of_the_peer_are_bounded() -> None:
    session = new_session(settings=SessionSettings(open_calls=2))
    for number in range(3):
        session.receive(f'[2,"n{number}","Heartbeat",{{}}]'.encode(), 0.0)
    assert [frame[:3] for frame in frames_of(session)] == [[4, "n2", "GenericError"]]


def test_an_invalid_answer_of_ours_becomes_an_internal_error() -> None:
    session = new_session()
    session.receive(HEARTBEAT, 0.0)
    with pytest.raises(LocalProtocolError):
        session.answer("h1", v21.ClearCacheRequest(), 0.0)
    assert frames_of(session)[0][:4] == [4, "h1", "InternalError", "the request could not be processed"]
    with pytest.raises(LocalProtocolError):
        session.refuse("h1", "InternalError", "twice")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b'[2,"i","Nope",{}]', "NotImplemented"),
        (b'[2,"i","ClearCache",{}]', "NotImplemented"),
        (b'[2,"i","MeterValues",{}]', "NotImplemented"),
        (b'[2,"i","DataTransfer",{"vendorId":"v"}]', "NotSupported"),
        (b'[2,"i","NotifyPeriodicEventStream",{}]', "MessageTypeNotSupported"),
        (b'[2,"i","Heartbeat",{"x":1}]', "FormatViolation"),
    ],
)
def test_messages_that_are_not_for_us(frame: bytes, code: str) -> None:
    handled = frozenset({"Heartbeat", "DataTransfer", "NotifyPeriodicEventStream"})
    settings = SessionSettings(handled=handled, switched_off=frozenset({"DataTransfer"}))
    session = new_session(settings=settings)
    events = session.receive(frame, 0.0)
    assert [event.code for event in only(events, ProtocolViolation)] == [code]
    assert frames_of(session)[0][:3] == [4, "i", code]


def test_ten_unreadable_frames_in_a_minute_end_the_connection() -> None:
    session = new_session()
    for number in range(9):
        assert only(session.receive(b"?", number * 6.0), CloseWanted) == []
    assert len(only(session.receive(b"\xff", 60.0, is_text=False), CloseWanted)) == 1
    assert [frame[:3] for frame in frames_of(session)] == [[4, "-1", "RpcFrameworkError"]] * 10


def test_slow_unreadable_frames_do_not() -> None:
    session = new_session()
    for number in range(100):
        assert only(session.receive(b"?", number * 7.0), CloseWanted) == []


def test_frames_with_a_readable_id_are_not_counted() -> None:
    session = new_session()
    for number in range(50):
        assert only(session.receive(f'[2,"i{number}","Nope",{{}}]'.encode(), 0.0), CloseWanted) == []


# --- message types 5 and 6 -------------------------------------------------------------------------------------------
STREAM = b'[6,"s","NotifyPeriodicEventStream",{"id":1,"pending":0,"basetime":"2026-01-01T00:00:00Z","data":[{"t":0,"v":"1"}]}]'


def test_send_is_taken_and_not_answered() -> None:
    session = new_session()
    events = session.receive(STREAM, 0.0)
    assert [event.action for event in only(events, SendReceived)] == ["NotifyPeriodicEventStream"]
    session.receive(STREAM.replace(b'"pending":0', b'"pending":"x"'), 0.0)
    session.receive(b'[6,"s","Heartbeat",{}]', 0.0)
    assert session.bytes_to_send() == []


def test_a_station_can_send() -> None:
    station = new_session("station")
    element = v21.StreamDataElementType(t=0.0, v="1")
    payload = v21.NotifyPeriodicEventStream(id=1, pending=0, basetime=NOON, data=(element,))
    station.send("NotifyPeriodicEventStream", payload)
    events = [event for frame in station.bytes_to_send() for event in new_session().receive(frame, 0.0)]
    assert [type(event) for event in events] == [SendReceived]


def test_types_5_and_6_do_not_exist_on_201() -> None:
    session = new_session(version="2.0.1")
    session.receive(STREAM, 0.0)
    assert frames_of(session)[0][:3] == [4, "s", "MessageTypeNotSupported"]
    session.receive(b'[5,"s","GenericError","",{}]', 0.0)
    assert session.bytes_to_send() == []


def test_a_refused_answer_of_ours_is_told_and_never_answered() -> None:
    session = new_session()
    session.receive(HEARTBEAT, 0.0)
    session.answer("h1", v21.HeartbeatResponse(currentTime=NOON), 0.0)
    session.bytes_to_send()
    events = session.receive(b'[5,"h1","FormatViolation","why",{}]', 0.1)
    assert [event.code for event in only(events, AnswerRefused)] == ["FormatViolation"]
    session.receive(b'[5,"other","FormatViolation","why",{}]', 0.1)
    assert session.bytes_to_send() == []


# --- boot gate -------------------------------------------------------------------------------------------------------
def boot(session: Session, name: str, status: Any, now_s: float, interval: int = 60) -> None:
    assert only(session.receive((BOOT % name).encode(), now_s), CallReceived)
    answer = v21.BootNotificationResponse(currentTime=NOON, interval=interval, status=status)
    session.answer(name, answer, now_s)
    session.bytes_to_send()


def test_nothing_but_boot_before_accepted() -> None:
    session = new_session(boot_state="unbooted")
    assert only(session.receive(HEARTBEAT, 0.0), CallReceived) == []
    assert frames_of(session)[0][:3] == [4, "h1", "SecurityError"]
    boot(session, "b", "Accepted", 1.0)
    assert session.boot_state == "accepted"
    assert only(session.receive(HEARTBEAT, 2.0), CallReceived)


def test_pending_allows_what_was_asked_for() -> None:
    session = new_session(boot_state="unbooted")
    boot(session, "b", "Pending", 0.0)
    report = b'[2,"r1","NotifyReport",{"requestId":1,"generatedAt":"2026-01-01T00:00:00Z","seqNo":0}]'
    assert only(session.receive(report, 1.0), CallReceived) == []
    request = v21.GetBaseReportRequest(requestId=1, reportBase="FullInventory")
    session.call("GetBaseReport", request, 1.0)
    assert only(session.receive(report.replace(b"r1", b"r2"), 2.0), CallReceived)
    session.receive(result("c1"), 2.0)
    session.call("TriggerMessage", v21.TriggerMessageRequest(requestedMessage="Heartbeat"), 2.0)
    assert only(session.receive(HEARTBEAT, 3.0), CallReceived)
    boot(session, "b2", "Accepted", 4.0)


def test_rejected_allows_nothing_before_the_interval() -> None:
    session = new_session(boot_state="unbooted")
    boot(session, "b", "Rejected", 0.0, interval=60)
    assert only(session.receive((BOOT % "b2").encode(), 59.0), CallReceived) == []
    assert frames_of(session)[0][2] == "SecurityError"
    clear_cache(session, 59.0)
    assert session.bytes_to_send() == []
    halt = stop(session, 59.0)
    assert [frame[1] for frame in frames_of(session)] == [halt]
    assert only(session.receive(HEARTBEAT, 61.0), CallReceived) == []
    session.receive(result(halt), 60.5)
    boot(session, "b3", "Accepted", 61.0)


def test_held_calls_go_when_the_station_is_accepted() -> None:
    session = new_session(boot_state="rejected")
    message_id = clear_cache(session, 0.0)
    assert session.bytes_to_send() == []
    session.receive((BOOT % "b").encode(), 1.0)
    answer = v21.BootNotificationResponse(currentTime=NOON, interval=60, status="Accepted")
    session.answer("b", answer, 1.0)
    assert [frame[:2] for frame in frames_of(session)] == [[3, "b"], [2, message_id]]


def test_a_station_learns_its_own_state() -> None:
    station = new_session("station", boot_state="unbooted")
    model = v21.ChargingStationType(model="m", vendorName="v")
    message_id = station.call(
        "BootNotification", v21.BootNotificationRequest(reason="PowerUp", chargingStation=model), 0.0
    )
    answer = '{"currentTime":"2026-01-01T00:00:00Z","interval":60,"status":"Accepted"}'
    station.receive(result(message_id, answer), 0.1)
    assert station.boot_state == "accepted"
    assert only(station.receive(b'[2,"x","ClearCache",{}]', 0.2), CallReceived)
    assert only(station.receive(HEARTBEAT, 0.2), CallReceived) == []
