"""The codec's verdict on a payload equals jsonschema's; nothing but RemoteProtocolError comes out."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.errors import ERROR_CODES, RemoteProtocolError
from gridtide.wire.ocpp.structs import CustomData
from tests.wire.ocpp_samples import Message, all_messages, places, sample, validator, with_value, without

MESSAGES = all_messages()
WRONG_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.0,
    1.5,
    -0.001,
    101,
    10**6,
    "",
    "x",
    "Accepted",
    "2026-13-01T00:00:00Z",
    "2026-01-01T00:00:00",
    "2026-01-01T00:00:00Z",
    "é" * 21,
    "y" * 6000,
    [],
    [0],
    {},
    {"vendorId": "v", "n": None},
    {"unknown": 1},
]


def accepts(message: Message, payload: Any) -> bool:
    """Our verdict; any other exception than RemoteProtocolError fails the test."""
    return defect_of(message, json.dumps(payload).encode()) is None


def defect_of(message: Message, data: bytes) -> RemoteProtocolError | None:
    try:
        codec.decode(*message, data)
    except RemoteProtocolError as defect:
        return defect
    return None


@settings(max_examples=2000, deadline=None)
@given(st.data())
def test_verdict_equals_jsonschema(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(MESSAGES))
    payload = sample(message, data.draw(st.sampled_from(["minimal", "maximal"])))
    for _ in range(data.draw(st.integers(0, 2))):
        paths = [path for path in places(payload) if path]
        if not paths:
            break
        path = data.draw(st.sampled_from(paths))
        if data.draw(st.booleans()):
            payload = with_value(payload, path, data.draw(st.sampled_from(WRONG_VALUES)))
        else:
            payload = without(payload, path)
    assert accepts(message, payload) == validator(message).is_valid(payload)


CHANGES_EACH = 24


@pytest.mark.parametrize(("version", "count"), [("2.0.1", 128), ("2.1", 181)])
def test_the_verdict_on_every_one_of_the_309_types_equals_jsonschema(version: Version, count: int) -> None:
    mine = [message for message in MESSAGES if message[0] == version]
    assert len(mine) == count
    source = random.Random(309)
    for message in mine:
        verdicts = {True: 0, False: 0}
        for number in range(CHANGES_EACH):
            payload = changed(source, sample(message, "minimal" if number % 3 else "maximal"), number)
            verdict = validator(message).is_valid(payload)
            assert accepts(message, payload) == verdict, (message, payload)
            verdicts[verdict] += 1
        assert verdicts[True], message
        assert verdicts[False], message


def changed(source: random.Random, payload: Any, number: int) -> Any:
    """The payload as it is, with an unknown field, or with one value replaced or removed."""
    if number == 0:
        return payload
    if number == 1:
        return {**payload, "notInTheSchema": 1}
    paths = [path for path in places(payload) if path]
    if not paths:
        return {**payload, "customData": source.choice(WRONG_VALUES)}
    path = source.choice(paths)
    return without(payload, path) if number % 4 == 0 else with_value(payload, path, source.choice(WRONG_VALUES))


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (("2.1", "Reset", "request"), {"type": "Immediate", "evseId": 2**63}),
        (("2.1", "Heartbeat", "response"), {"currentTime": "1999-12-31T23:59:59Z"}),
        (("2.1", "Heartbeat", "response"), {"currentTime": "2100-01-01T00:00:00Z"}),
        (("2.1", "Heartbeat", "request"), {"customData": {"vendorId": "v", "n": 2**64}}),
    ],
)
def test_where_we_are_stricter_on_purpose(message: Message, payload: Any) -> None:
    assert validator(message).is_valid(payload)
    assert not accepts(message, payload)


@pytest.mark.parametrize("stamp", ["2026-01-01 00:00:00Z", "2026-01-01T00:00:00+0530"])
def test_where_we_are_more_lenient_on_purpose(stamp: str) -> None:
    message: Message = ("2.1", "Heartbeat", "response")
    assert not validator(message).is_valid({"currentTime": stamp})
    assert accepts(message, {"currentTime": stamp})


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MESSAGES), st.text(min_size=1, max_size=20), st.sampled_from(WRONG_VALUES))
def test_unknown_fields_get_the_schemas_verdict(message: Message, name: str, value: Any) -> None:
    payload = {**sample(message, "minimal"), name: value}
    assert accepts(message, payload) == validator(message).is_valid(payload)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
def test_any_bytes_give_a_payload_or_a_remote_error(message: Message, data: bytes) -> None:
    defect = defect_of(message, data)
    assert defect is None or (defect.code in ERROR_CODES and len(defect.description) <= 255)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key != "vendorId"), JSON_VALUES, max_size=4))
def test_custom_data_keeps_what_it_does_not_know(members: dict[str, Any]) -> None:
    payload = {"customData": {"vendorId": "v", **members}}
    value = codec.decode("2.1", "Heartbeat", "request", json.dumps(payload).encode())
    assert getattr(value, "customData") == CustomData("v", members)  # noqa: B009
    assert json.loads(codec.encode("2.1", "Heartbeat", "request", value)) == payload


@settings(max_examples=50, deadline=None)
@given(st.integers(min_value=2**63) | st.integers(max_value=-(2**63) - 1))
def test_integers_beyond_int64_are_refused(number: int) -> None:
    assert not accepts(("2.1", "Reset", "request"), {"type": "Immediate", "evseId": abs(number)})
    assert not accepts(("2.1", "Heartbeat", "request"), {"customData": {"vendorId": "v", "n": [number]}})
    assert not accepts(("2.1", "DataTransfer", "request"), {"vendorId": "v", "data": {"n": number}})


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_integral_floats_are_integers_and_only_they(number: float) -> None:
    fits = number.is_integer() and 0 <= number < 2**63
    assert accepts(("2.1", "Reset", "request"), {"type": "Immediate", "evseId": number}) == fits
    assert math.isfinite(number)
