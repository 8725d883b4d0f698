"""Every defect of a frame or payload gets the answer the protocol gives it."""

from __future__ import annotations

import json

import pytest

from gridtide.wire.ocpp import codec, frames
from gridtide.wire.ocpp.errors import LocalProtocolError, RemoteProtocolError, error_code_of
from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.structs import CustomData

FRAME_DEFECTS = [
    (b"", "-1", "RpcFrameworkError", "call_error"),
    (b"nonsense", "-1", "RpcFrameworkError", "call_error"),
    (b'{"a":1}', "-1", "RpcFrameworkError", "call_error"),
    (b"[]", "-1", "RpcFrameworkError", "call_error"),
    (b'[2,"a\xff","b",{}]', "-1", "RpcFrameworkError", "call_error"),
    (b'[2,"","b",{}]', "-1", "RpcFrameworkError", "call_error"),
    (b'[2,"' + b"i" * 37 + b'","b",{}]', "-1", "RpcFrameworkError", "call_error"),
    (b'[2,7,"b",{}]', "-1", "RpcFrameworkError", "call_error"),
    (b'[1,"i","b",{}]', "i", "MessageTypeNotSupported", "call_error"),
    (b'[7,"i"]', "i", "MessageTypeNotSupported", "call_error"),
    (b'["2","i","b",{}]', "i", "MessageTypeNotSupported", "call_error"),
    (b'[true,"i","b",{}]', "i", "MessageTypeNotSupported", "call_error"),
    (b'[2,"i","b"]', "i", "OccurrenceConstraintViolation", "call_error"),
    (b'[2,"i","b",{},1]', "i", "FormatViolation", "call_error"),
    (b'[2,"i","b",[]]', "i", "TypeConstraintViolation", "call_error"),
    (b'[2,"i","b",null]', "i", "TypeConstraintViolation", "call_error"),
    (b'[2,"i",5,{}]', "i", "TypeConstraintViolation", "call_error"),
    (b'[3,"i"]', "i", "OccurrenceConstraintViolation", "call_result_error"),
    (b'[3,"i",[]]', "i", "TypeConstraintViolation", "call_result_error"),
    (b'[4,"i","code"]', "i", "OccurrenceConstraintViolation", "none"),
    (b"[4]", "-1", "RpcFrameworkError", "none"),
    (b'[5,"i","code","d",[]]', "i", "TypeConstraintViolation", "none"),
    (b'[6,"i","b"]', "i", "OccurrenceConstraintViolation", "none"),
]


@pytest.mark.parametrize(("data", "message_id", "code", "answer"), FRAME_DEFECTS)
def test_frame_defect(data: bytes, message_id: str, code: str, answer: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        frames.parse_frame(data)
    assert (caught.value.message_id, caught.value.code, caught.value.answer) == (message_id, code, answer)


def test_binary_and_oversized_frames_are_refused() -> None:
    good = b'[2,"i","Heartbeat",{}]'
    with pytest.raises(RemoteProtocolError, match="binary"):
        frames.parse_frame(good, is_text=False)
    with pytest.raises(RemoteProtocolError, match="exceeds"):
        frames.parse_frame(good.ljust(256 * 1024 + 1))
    assert frames.parse_frame(good.ljust(256 * 1024))


def test_all_five_types_round_trip() -> None:
    encoded = [
        frames.encode_call("i", "Heartbeat", b"{}"),
        frames.encode_result("i", b'{"a":1}'),
        frames.encode_error("i", "NotImplemented", "d" * 300),
        frames.encode_result_error("i", "FormatViolation", "why"),
        frames.encode_send("i", "NotifyPeriodicEventStream", b"{}"),
    ]
    parsed = [frames.parse_frame(data) for data in encoded]
    kinds = [frames.Call, frames.CallResult, frames.CallError, frames.CallResultError, frames.Send]
    assert [type(frame) for frame in parsed] == kinds
    assert [json.loads(data)[0] for data in encoded] == [2, 3, 4, 5, 6]
    assert len(json.loads(encoded[2])[3]) == 255


def test_one_r_spelling_is_read() -> None:
    assert error_code_of("OccurenceConstraintViolation") == "OccurrenceConstraintViolation"


STATUS = '{"timestamp":"2026-01-01T00:00:00Z","connectorStatus":"Available","evseId":1,"connectorId":1}'
PAYLOAD_DEFECTS = [
    ("Nope", "{}", "NotImplemented"),
    ("Reset", "{}", "OccurrenceConstraintViolation"),
    ("MeterValues", '{"evseId":1,"meterValue":[]}', "OccurrenceConstraintViolation"),
    ("Reset", '{"type":5}', "TypeConstraintViolation"),
    ("Reset", '{"type":null}', "TypeConstraintViolation"),
    ("Reset", '{"type":"Immediate","evseId":null}', "TypeConstraintViolation"),
    ("Reset", '{"type":"Immediate","evseId":1.5}', "TypeConstraintViolation"),
    ("Heartbeat", "[]", "TypeConstraintViolation"),
    ("Heartbeat", '{"customData":{}}', "OccurrenceConstraintViolation"),
    ("Heartbeat", '{"customData":{"vendorId":"' + "v" * 256 + '"}}', "PropertyConstraintViolation"),
    ("Heartbeat", '{"customData":null}', "TypeConstraintViolation"),
    ("StatusNotification", STATUS.replace("Z", ""), "TypeConstraintViolation"),
    ("StatusNotification", STATUS.replace("2026-01", "2026-13"), "TypeConstraintViolation"),
    ("StatusNotification", STATUS.replace("2026", "222222017"), "TypeConstraintViolation"),
    ("StatusNotification", STATUS.replace("2026", "1999"), "PropertyConstraintViolation"),
    ("StatusNotification", STATUS.replace("2026", "2100"), "PropertyConstraintViolation"),
    ("Reset", '{"type":"Never"}', "PropertyConstraintViolation"),
    ("Reset", '{"type":"Immediate","evseId":-1}', "PropertyConstraintViolation"),
    ("Reset", '{"type":"Immediate","evseId":9223372036854775808}', "PropertyConstraintViolation"),
    ("AFRRSignal", '{"timestamp":"2026-01-01T00:00:00Z","signal":1e400}', "PropertyConstraintViolation"),
    (
        "UpdateDynamicSchedule",
        '{"chargingProfileId":1,"scheduleUpdate":{"dischargeLimit":1}}',
        "PropertyConstraintViolation",
    ),
    ("Reset", '{"type":"Immediate","extra":1}', "FormatViolation"),
    ("Reset", '{"type":"\\ud800"}', "FormatViolation"),
]


@pytest.mark.parametrize(("action", "payload", "code"), PAYLOAD_DEFECTS)
def test_payload_defect(action: str, payload: str, code: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        codec.decode("2.1", action, "request", payload.encode())
    assert caught.value.code == code


def test_years_2000_and_2099_are_inside() -> None:
    for year in ("2000", "2099"):
        codec.decode("2.1", "StatusNotification", "request", STATUS.replace("2026", year).encode())


def test_years_are_checked_deep_inside() -> None:
    deep = '{"evseId":1,"meterValue":[{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[{"value":1}]},%s]}'
    bad = deep % '{"timestamp":"3026-01-01T00:00:00Z","sampledValue":[{"value":1}]}'
    with pytest.raises(RemoteProtocolError, match="3026"):
        codec.decode("2.1", "MeterValues", "request", bad.encode())


def test_integral_float_is_an_integer() -> None:
    value = codec.decode("2.1", "Reset", "request", b'{"type":"Immediate","evseId":2.0}')
    assert value == v21.ResetRequest(type="Immediate", evseId=2)


def test_null_stays_legal_where_the_schema_is_open() -> None:
    codec.decode("2.1", "DataTransfer", "request", b'{"vendorId":"v","data":null}')
    codec.decode("2.1", "Heartbeat", "request", b'{"customData":{"vendorId":"v","x":null}}')
    codec.decode("2.1", "DataTransfer", "request", b'{"vendorId":"null"}')


def test_our_own_payload_is_checked_before_it_travels() -> None:
    update = v21.ChargingScheduleUpdateType(setpoint=float("nan"))
    with pytest.raises(LocalProtocolError):
        codec.encode(
            "2.1",
            "UpdateDynamicSchedule",
            "request",
            v21.UpdateDynamicScheduleRequest(chargingProfileId=1, scheduleUpdate=update),
        )
    with pytest.raises(LocalProtocolError):
        codec.encode("2.1", "Reset", "request", v21.ResetRequest(type="Immediate", evseId=-1))
    with pytest.raises(LocalProtocolError):
        codec.encode("2.1", "Reset", "request", v21.HeartbeatRequest())
    data = v21.DataTransferRequest(vendorId="v", data=object())
    with pytest.raises(LocalProtocolError):
        codec.encode("2.1", "DataTransfer", "request", data)


def test_custom_data_is_a_value() -> None:
    one, other = CustomData("v", {"a": 1}), CustomData("v", {"a": 1})
    assert one == other
    assert hash(one) == hash(other)
    assert one["a"] == 1
    assert one != CustomData("v")
