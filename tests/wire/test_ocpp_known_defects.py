"""Defects of the PyPI package `ocpp` 2.1.0 that our RPC layer must not have, one test each."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gridtide.wire.ocpp.events import CallAnswered, CallFailed, CallReceived, Event
from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.outgoing import Priority
from gridtide.wire.ocpp.session import Session

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def new_session() -> Session:
    counter = itertools.count(1)
    return Session("csms", "2.1", lambda: f"c{next(counter)}", boot_state="accepted")


def sent(session: Session) -> list[Any]:
    return [json.loads(frame) for frame in session.bytes_to_send()]


def assert_alive(session: Session, now_s: float = 1.0) -> None:
    """A good call still gets through and is answered."""
    events = session.receive(b'[2,"alive","Heartbeat",{}]', now_s)
    assert [type(event) for event in events] == [CallReceived]


HOSTILE = {
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets in the payload": b'[2,"i","Heartbeat",' + b"[" * 100_000,
    "integer of 5,000 digits as type": b"[" + b"9" * 5000 + b',"i","Heartbeat",{}]',
    "integer of 5,000 digits inside": b'[2,"i","Reset",{"evseId":' + b"9" * 5000 + b"}]",
    "action as a list": b'[2,"i",["Heartbeat"],{}]',
    "action as an object": b'[2,"i",{"Heartbeat":1},{}]',
    "NaN": b'[2,"i","MeterValues",{"evseId":NaN}]',
    "1e400": b'[2,"i","NotifySettlement",{"pspRef":"p","status":"Settled","settlementAmount":1e400,'
    b'"settlementTime":"2026-01-01T00:00:00Z"}]',
    "null message id": b'[2,null,"Heartbeat",{}]',
    "2.0 as message type": b'[2.0,"i","Heartbeat",{}]',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_frame_is_answered_and_the_session_lives(name: str) -> None:
    session = new_session()
    events = session.receive(HOSTILE[name], 0.0)
    assert not any(isinstance(event, CallReceived) for event in events)
    assert [frame[0] for frame in sent(session)] == [4]
    assert_alive(session)


def test_same_message_id_has_one_effect() -> None:
    session = new_session()
    frame = b'[2,"i","Heartbeat",{}]'
    first = session.receive(frame, 0.0)
    session.answer("i", v21.HeartbeatResponse(currentTime=NOON), 0.0)
    answers = session.bytes_to_send()
    again = session.receive(frame, 1.0)
    assert [type(event) for event in first] == [CallReceived]
    assert not any(isinstance(event, CallReceived) for event in again)
    assert session.bytes_to_send() == answers


def test_unsolicited_results_are_dropped_not_queued() -> None:
    session = new_session()
    for number in range(20_000):
        session.receive(f'[3,"u{number}",{{"status":"Accepted"}}]'.encode(), 0.0)
    assert session.dropped_answers == 20_000
    assert session.bytes_to_send() == []
    message_id = session.call("ClearCache", v21.ClearCacheRequest(), 0.0)
    events = session.receive(f'[3,"{message_id}",{{"status":"Accepted"}}]'.encode(), 0.1)
    assert [type(event) for event in events] == [CallAnswered]


def test_a_stuck_call_does_not_hold_back_a_stop() -> None:
    session = new_session()
    session.call("GetBaseReport", v21.GetBaseReportRequest(requestId=1, reportBase="FullInventory"), 0.0)
    session.bytes_to_send()
    stop = v21.RequestStopTransactionRequest(transactionId="t")
    session.call("RequestStopTransaction", stop, 5.0, priority=Priority.STOP)
    assert session.bytes_to_send() == []
    events: list[Event] = session.tick(6.0)
    assert [event.reason for event in events if isinstance(event, CallFailed)] == ["overtaken"]
    assert [frame[2] for frame in sent(session)] == ["RequestStopTransaction"]
