"""Recorded frames of every dialect for -7, 0 and +7 kW: sign and unit are fixed; and the vendor's template."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects import (
    Dialect,
    Setpoint,
    StationDialect,
    fits,
    request_overrides,
    translate,
    underlay_call,
)
from gridtide.wire.ocpp.dialects_vendor import DataTransferTemplate, filled, template_problems
from gridtide.wire.ocpp.errors import LocalProtocolError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLAIN = '{"cmd": "set", "power": "$power_w", "ttl": "$lease_s", "plug": "evse-$evse_id", "tx": "$transaction_id"}'
TEMPLATE = DataTransferTemplate(vendor_id="com.example", message_id="SetPower", data=PLAIN)
OPEN_21 = (
    '"evseId":1,"chargingProfile":{"id":71,"stackLevel":9,"chargingProfilePurpose":"TxProfile",'
    '"chargingProfileKind":"%s","transactionId":"t-1","validTo":"2026-01-01T12:00:05Z","maxOfflineDuration":0,'
    '"invalidAfterOfflineDuration":true,"chargingSchedule":[{"id":1,%s"duration":5,"chargingRateUnit":"W",'
    '"chargingSchedulePeriod":[%s]}]}'
)
START = '"startSchedule":"2026-01-01T12:00:00Z",'
GIVING = '{"startPeriod":0,"operationMode":"CentralSetpoint","setpoint":-7000,"dischargeLimit":-7000,"limit":0}'
ZERO = '{"startPeriod":0,"operationMode":"ChargingOnly","limit":0}'
TAKING = '{"startPeriod":0,"operationMode":"ChargingOnly","limit":7000}'
OPEN_201 = (
    '"evseId":1,"chargingProfile":{"id":71,"stackLevel":9,"chargingProfilePurpose":"TxProfile",'
    '"chargingProfileKind":"Absolute","transactionId":"t-1","validTo":"2026-01-01T12:00:05Z",'
    '"chargingSchedule":[{"id":1,"startSchedule":"2026-01-01T12:00:00Z","duration":5,"chargingRateUnit":"W",'
    '"chargingSchedulePeriod":[{"startPeriod":0,"limit":%s}]}]}'
)


def call(action: str, payload: str) -> tuple[str, Any]:
    return action, json.loads("{" + payload + "}")


def set_21(period: str, kind: str = "Absolute") -> tuple[str, Any]:
    return call("SetChargingProfile", OPEN_21 % (kind, START if kind == "Absolute" else "", period))


def set_201(limit: str) -> tuple[str, Any]:
    return call("SetChargingProfile", OPEN_201 % limit)


def update(setpoint: str) -> tuple[str, Any]:
    return call("UpdateDynamicSchedule", f'"chargingProfileId":71,"scheduleUpdate":{{"setpoint":{setpoint}}}')


def vendor(power: str) -> tuple[str, Any]:
    data = f'{{"cmd":"set","power":{power},"ttl":5,"plug":"evse-1","tx":"t-1"}}'
    return call("DataTransfer", f'"vendorId":"com.example","messageId":"SetPower","data":{data}')


def dynamic(limit: str, low: str, power: str) -> tuple[str, Any]:
    period = f'{{"startPeriod":0,"operationMode":"CentralSetpoint","setpoint":{power},"dischargeLimit":{low},"limit":{limit}}}'
    return set_21(period, "Dynamic")


RECORDED: dict[tuple[Dialect, Version], dict[float, list[tuple[str, Any]]]] = {
    ("refuse", "2.1"): {-7.0: [], 0.0: [set_21(ZERO)], 7.0: [set_21(TAKING)]},
    ("refuse", "2.0.1"): {-7.0: [], 0.0: [set_201("0")], 7.0: [set_201("7000")]},
    ("v21_setpoint", "2.1"): {-7.0: [set_21(GIVING)], 0.0: [set_21(ZERO)], 7.0: [set_21(TAKING)]},
    ("v21_dynamic", "2.1"): {
        -7.0: [dynamic("0", "-7000", "-7000"), update("-7000")],
        0.0: [dynamic("0", "0", "0"), update("0")],
        7.0: [dynamic("7000", "0", "7000"), update("7000")],
    },
    ("v201_negative_limit", "2.0.1"): {-7.0: [set_201("-7000")], 0.0: [set_201("0")], 7.0: [set_201("7000")]},
    ("v201_hybrid", "2.0.1"): {-7.0: [set_21(GIVING)], 0.0: [set_21(ZERO)], 7.0: [set_21(TAKING)]},
    ("data_transfer", "2.1"): {
        -7.0: [vendor("-7000")],
        0.0: [vendor("0"), set_21(ZERO)],
        7.0: [vendor("7000"), set_21(TAKING)],
    },
    ("data_transfer", "2.0.1"): {
        -7.0: [vendor("-7000")],
        0.0: [vendor("0"), set_201("0")],
        7.0: [vendor("7000"), set_201("7000")],
    },
}
CASES = [(*pair, power_kw) for pair, frames in RECORDED.items() for power_kw in frames]


def agreed(dialect: Dialect, version: Version, **options: Any) -> StationDialect:
    given: dict[str, Any] = {"is_discharge_authorised": True, "is_underlay_accepted": True, "template": TEMPLATE}
    return StationDialect(version=version, dialect=dialect, **(given | options))


def wanted(power_kw: float, **options: Any) -> Setpoint:
    given: dict[str, Any] = {"lease_s": 5, "now": NOON, "evse_id": 1, "profile_id": 71, "transaction_id": "t-1"}
    return Setpoint(power_kw=power_kw, **(given | options))


def spoken(setpoint: Setpoint, station: StationDialect) -> list[tuple[str, Any]]:
    """The calls as a station reads them: encoded in the shape its session uses, then plain JSON."""
    shapes = request_overrides(station.dialect, station.version)
    return [
        (
            item.action,
            json.loads(codec.encode(shapes.get(item.action, station.version), item.action, "request", item.payload)),
        )
        for item in translate(setpoint, station).calls
    ]


@pytest.mark.parametrize(("dialect", "version", "power_kw"), CASES)
def test_recorded(dialect: Dialect, version: Version, power_kw: float) -> None:
    assert spoken(wanted(power_kw), agreed(dialect, version)) == RECORDED[dialect, version][power_kw]


def test_every_dialect_is_recorded() -> None:
    assert {dialect for dialect, _ in RECORDED} == set(get_args(Dialect))


@pytest.mark.parametrize(("dialect", "version"), RECORDED)
def test_zero_is_zero_and_never_minus_zero(dialect: Dialect, version: Version) -> None:
    for power_kw in (0.0, -0.0, -1e-9):
        calls = spoken(wanted(power_kw), agreed(dialect, version))
        if dialect == "refuse" and power_kw < 0.0:
            assert calls == []
            continue
        assert calls
        assert "-" not in json.dumps([powers(payload) for _, payload in calls])
        assert {value for _, payload in calls for value in powers(payload)} == {0.0}


def powers(payload: Any) -> list[float]:
    """Every number under a name that means power."""
    found = []
    if isinstance(payload, dict):
        for name, value in payload.items():
            if name in ("limit", "setpoint", "dischargeLimit", "power"):
                found.append(value)
            found += powers(value)
    elif isinstance(payload, list):
        found += [value for item in payload for value in powers(item)]
    return found


def test_which_dialects_fit_which_version() -> None:
    fitting = {
        (dialect, version) for dialect in get_args(Dialect) for version in get_args(Version) if fits(dialect, version)
    }
    assert fitting == {pair for pair in RECORDED if pair[0] != "refuse"}


def test_the_hybrid_overrides_two_requests_and_nothing_else_does() -> None:
    assert request_overrides("v201_hybrid", "2.0.1") == {"SetChargingProfile": "2.1", "NotifyEVChargingNeeds": "2.1"}
    for dialect in get_args(Dialect):
        for version in get_args(Version):
            if (dialect, version) != ("v201_hybrid", "2.0.1"):
                assert request_overrides(dialect, version) == {}


def test_the_hybrids_default_underneath_has_the_2_1_shape_too() -> None:
    found = underlay_call(agreed("v201_hybrid", "2.0.1", underlay_kw=3.0), 1)
    profile = json.loads(codec.encode("2.1", found.action, "request", found.payload))["chargingProfile"]
    period = profile["chargingSchedule"][0]["chargingSchedulePeriod"][0]
    assert period == {"startPeriod": 0, "operationMode": "ChargingOnly", "limit": 3000.0}


def test_a_hybrid_or_vendor_station_that_is_not_ready_gets_no_discharge() -> None:
    for dialect, version in (("v201_hybrid", "2.0.1"), ("data_transfer", "2.1"), ("data_transfer", "2.0.1")):
        for options, denial in (
            ({"is_discharge_authorised": False}, "discharge not authorised"),
            ({"skew_s": 3.0}, "station clock is off"),
        ):
            told = translate(wanted(-7.0), agreed(dialect, version, **options))  # type: ignore[arg-type]
            assert (told.calls, told.denial) == ((), denial)
        bare = agreed(dialect, version, is_underlay_accepted=False)  # type: ignore[arg-type]
        assert translate(wanted(-7.0), bare).calls == (underlay_call(bare, 1),)
    assert translate(wanted(-7.0), agreed("v201_hybrid", "2.1")).denial == "dialect does not fit the OCPP version"
    assert translate(wanted(-7.0), agreed("data_transfer", "2.1", template=None)).denial == "dialect has no template"


def test_zero_reaches_a_vendors_station_also_when_it_may_not_discharge_any_more() -> None:
    calls = spoken(wanted(0.0), agreed("data_transfer", "2.1", is_discharge_authorised=False))
    assert calls == [vendor("0"), set_21(ZERO)]


# --- the template ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("hostile", ['"}, "power": 9999, "x": {"', "$power_w", "$$", "\\", "\u2028", "a" * 36])
def test_a_transaction_id_stays_one_string(hostile: str) -> None:
    calls = spoken(wanted(-7.0, transaction_id=hostile), agreed("data_transfer", "2.1"))
    assert calls[0][1]["data"] == {"cmd": "set", "power": -7000, "ttl": 5, "plug": "evse-1", "tx": hostile}


def test_kilowatts_text_and_nested_places() -> None:
    data = '[{"p": ["${power_kw}", "at $power_kw kW"]}, "$lease_s", 1.5, null, true, "5 $$"]'
    template = DataTransferTemplate(vendor_id="v", data=data)
    expected = [{"p": [-6.25, "at -6.25 kW"]}, 2, 1.5, None, True, "5 $"]
    given: dict[str, Any] = {"power_kw": -6.25, "lease_s": 2, "evse_id": 3, "transaction_id": None}
    assert filled(template, **given) == expected
    text = filled(DataTransferTemplate(vendor_id="v", data=data, is_text=True), **given)
    assert isinstance(text, str)
    assert json.loads(text) == expected


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data": '{"ttl": "$lease_s"}'}, "no power"),
        ({"data": '{"p": "$power_w"}'}, "no $lease_s"),
        ({"data": '{"p": $power_w, "t": $lease_s}'}, "not usable JSON"),
        ({"data": '{"p": "$power_w", "t": "$lease_s", "x": "$secret"}'}, "$secret"),
        ({"data": '{"p": "$power_w", "t": "$lease_s", "x": "5 $"}'}, "write $$"),
        ({"data": '{"$evse_id": "$power_w", "t": "$lease_s"}'}, "key"),
        ({"data": '{"p": "$power_w", "t": "$lease_s", "n": 99999999999999999999}'}, "not usable JSON"),
        ({"data": "[" * 40 + '"$power_w $lease_s"' + "]" * 40}, "nested"),
        ({"data": "[" * 4000}, "not usable JSON"),
        ({"data": '"' + "x" * 5000 + '"'}, "at most 4096"),
        ({"vendor_id": ""}, "vendor_id"),
        ({"vendor_id": "v" * 256}, "vendor_id"),
        ({"message_id": "m" * 51}, "message_id"),
    ],
)
def test_an_unusable_template_is_told_and_never_sent(changes: dict[str, Any], word: str) -> None:
    template = DataTransferTemplate(**({"vendor_id": "v", "data": PLAIN} | changes))
    assert any(word in text for text in template_problems(template))
    with pytest.raises(LocalProtocolError):
        translate(wanted(0.0), agreed("data_transfer", "2.1", template=template))
