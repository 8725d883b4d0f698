"""Random and malformed frames never raise anything but RemoteProtocolError, and never break a session."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp.errors import ERROR_CODES, RemoteProtocolError
from gridtide.wire.ocpp.frames import MAX_DEPTH, nesting_exceeds, parse_frame
from gridtide.wire.ocpp.session import Session

SEEDS: list[bytes] = [
    b'[2,"id-1","Heartbeat",{}]',
    b'[2,"id-2","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v"}}]',
    b'[3,"id-3",{"status":"Accepted"}]',
    b'[4,"id-4","GenericError","why",{}]',
    b'[5,"id-5","GenericError","why",{"a":[1,2]}]',
    b'[6,"id-6","NotifyPeriodicEventStream",{"id":1,"pending":0,"basetime":"2026-01-01T00:00:00Z","data":[]}]',
]
SPICES: list[bytes] = [
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"null",
    b"1e400",
    b"NaN",
    b"9" * 30,
    b"\xff",
    b"\xc3",
    b",",
    b"-",
]
HOSTILE: list[bytes] = [
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'[2,"i","A",' + b"[" * 200_000,
    b'[2,"i","A",{"n":' + b"9" * 5000 + b"}]",
    b"[" + b"9" * 5000 + b"]",
    b'[2,"i",{"a":1},{}]',
    b'[2,"i",["a"],{}]',
    b'[2,null,"A",{}]',
    b'[2.0,"i","A",{}]',
    b'[2,"i","A",{"x":NaN}]',
    b'[4,"i","A","",{"x":1e400}]',
    b'[4,"i","A","",{"x":' + b"9" * 40 + b"}]",
    b'[2,"\\ud800","A",{}]',
    b"\x00" * 1000,
    b" " * (256 * 1024 + 1),
    b'"' * 9999,
    b"\\" * 9999,
]


def mutated(source: random.Random) -> bytes:
    """A seed frame with a few bytes replaced, cut, or spiced."""
    data = bytearray(source.choice(SEEDS))
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(data) + 1)
        kind = source.randrange(3)
        if kind == 0 and place < len(data):
            data[place] = source.randrange(256)
        elif kind == 1:
            del data[place : place + source.randint(1, 6)]
        else:
            data[place:place] = source.choice(SPICES)
    return bytes(data)


def defect_of(data: bytes) -> RemoteProtocolError | None:
    try:
        parse_frame(data)
    except RemoteProtocolError as defect:
        return defect
    return None


def feed(session: Session, data: bytes, now_s: float) -> None:
    """Parse and receive one message; what comes back must be well-formed frames."""
    defect = defect_of(data)
    assert defect is None or defect.code in ERROR_CODES
    session.receive(data, now_s)
    for frame in session.bytes_to_send():
        parse_frame(frame)


def test_ten_thousand_malformed_frames() -> None:
    source = random.Random(7)
    counter = itertools.count()
    session = Session("csms", "2.1", lambda: f"own-{next(counter)}", boot_state="accepted")
    for data in HOSTILE:
        feed(session, data, 0.0)
    for step in range(10_000):
        feed(session, mutated(source), step * 0.1)
    session.receive(b'[2,"alive","Nope",{}]', 2000.0)
    assert json.loads(session.bytes_to_send()[-1])[:3] == [4, "alive", "NotImplemented"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    defect = defect_of(data)
    assert defect is None or defect.code in ERROR_CODES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{}é', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='k"\\[', max_size=3), inner, max_size=3)
    ),
    max_leaves=40,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(item) for item in value), default=0)
    return 0


@settings(max_examples=300, deadline=None)
@given(JSON, st.integers(0, 6))
def test_depth_scan_is_exact_and_ignores_strings(value: Any, max_depth: int) -> None:
    data = json.dumps(value, ensure_ascii=False).encode()
    assert nesting_exceeds(data, max_depth) == (depth_of(value) > max_depth)


def test_depth_limit_is_inclusive() -> None:
    inside = b'[2,"i","A",' + b'{"a":' * (MAX_DEPTH - 1) + b"1" + b"}" * (MAX_DEPTH - 1) + b"]"
    parse_frame(inside)
    outside = b'[2,"i","A",' + b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH + b"]"
    with pytest.raises(RemoteProtocolError, match="RpcFrameworkError"):
        parse_frame(outside)
