"""Rules that our requests must satisfy beyond the schema: each with a request that breaks it and one that does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.checks import Context, request_problems
from gridtide.wire.ocpp.der import BODIES, BODY_OF, UNSCHEDULED
from gridtide.wire.ocpp.dialects import Dialect, Setpoint, StationDialect, translate, underlay_call
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.profile_rules import ProfileLimits, is_discharging, lease_end_s

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HERE = Context(now=NOON)
CURVE = {"priority": 0, "yUnit": "PctMaxW", "curveData": [{"x": 50.2, "y": 100.0}, {"x": 51.5, "y": 0.0}]}
TIMES = {"startTime": "2026-01-01T12:05:00Z", "duration": 600.0}
DER_BODIES: dict[str, dict[str, Any]] = {
    "curve": CURVE,
    "enterService": {"priority": 0, "highVoltage": 250.0, "lowVoltage": 210.0, "highFreq": 50.1, "lowFreq": 49.9},
    "fixedPFAbsorb": {"priority": 0, "displacement": 0.95, "excitation": True},
    "fixedPFInject": {"priority": 0, "displacement": 0.95, "excitation": False},
    "fixedVar": {"priority": 0, "setpoint": -20.0, "unit": "PctMaxVar"},
    "freqDroop": {"priority": 0, "overFreq": 50.2, "underFreq": 49.8, "overDroop": 0.05, "underDroop": 0.05,
                  "responseTime": 2.0},
    "gradient": {"priority": 0, "gradient": 10.0, "softGradient": 20.0},
    "limitMaxDischarge": {"priority": 0, "pctMaxDischargePower": 60.0},
}  # fmt: skip


def told(action: str, payload: Any, context: Context = HERE, version: Version = "2.1") -> list[str]:
    """The fields that the checks complain about, in order."""
    request = codec.decode(version, action, "request", json.dumps(payload).encode())
    return [found.field for found in request_problems(action, request, context)]


# --- DER controls ----------------------------------------------------------------------------------------------------
def der(kind: str, body: str, *, is_default: bool, **changes: Any) -> dict[str, Any]:
    content = {**DER_BODIES[body], **({} if is_default or body in UNSCHEDULED else TIMES), **changes}
    return {"isDefault": is_default, "controlId": "c-1", "controlType": kind, body: content}


def test_all_22_control_types_have_a_body() -> None:
    assert len(BODY_OF) == 22
    assert set(BODY_OF) == set(get_args(v21.DERControlEnumType))
    assert set(BODY_OF.values()) == set(BODIES)
    assert set(BODIES) < set(v21.SetDERControlRequest.__struct_fields__)


@pytest.mark.parametrize("kind", BODY_OF)
def test_a_control_takes_its_own_body_alone(kind: str) -> None:
    mine = BODY_OF[kind]
    assert told("SetDERControl", der(kind, mine, is_default=True)) == []
    assert told("SetDERControl", der(kind, mine, is_default=False)) == (["isDefault"] if mine in UNSCHEDULED else [])
    empty = {"isDefault": True, "controlId": "c-1", "controlType": kind}
    assert told("SetDERControl", empty) == [mine]
    for other in BODIES:
        if other != mine:
            assert told("SetDERControl", der(kind, other, is_default=True)) == sorted([mine, other], key=BODIES.index)
            assert told("SetDERControl", der(kind, mine, is_default=True) | {other: DER_BODIES[other]}) == [other]


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("FixedPFAbsorb", {"displacement": 1.01}, "fixedPFAbsorb.displacement"),
        ("FixedPFInject", {"displacement": -0.1}, "fixedPFInject.displacement"),
        ("FixedVar", {"setpoint": -101}, "fixedVar.setpoint"),
        ("FixedVar", {"unit": "PctEffectiveV"}, "fixedVar.unit"),
        ("FreqDroop", {"underFreq": 50.3}, "freqDroop.underFreq"),
        ("FreqDroop", {"overDroop": 0}, "freqDroop.overDroop"),
        ("FreqDroop", {"responseTime": -1}, "freqDroop.responseTime"),
        ("EnterService", {"lowVoltage": 260}, "enterService.lowVoltage"),
        ("EnterService", {"lowFreq": 50.1}, "enterService.lowFreq"),
        ("EnterService", {"delay": -1}, "enterService.delay"),
        ("Gradients", {"gradient": -1}, "gradient.gradient"),
        ("LimitMaxDischarge", {"pctMaxDischargePower": 101}, "limitMaxDischarge.pctMaxDischargePower"),
        ("LimitMaxDischarge", {"pctMaxDischargePower": -1}, "limitMaxDischarge.pctMaxDischargePower"),
        ("VoltVar", {"curveData": [{"x": 1, "y": 1}, {"x": 1, "y": 1}]}, "curve.curveData"),
        ("VoltWatt", {"hysteresis": {"hysteresisDelay": -1}}, "curve.hysteresis.hysteresisDelay"),
        ("HVMustTrip", {"voltageParams": {"hv10MinMeanValue": 253}}, "curve.voltageParams.hv10MinMeanTripDelay"),
        ("FreqWatt", {"startTime": "2026-01-01T12:00:00Z"}, "curve.startTime"),
        ("FreqWatt", {"duration": 5}, "curve.duration"),
    ],
)
def test_a_body_must_not_contradict_itself(kind: str, changes: dict[str, Any], field: str) -> None:
    assert told("SetDERControl", der(kind, BODY_OF[kind], is_default=True, **changes)) == [field]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"duration": 0}, "curve.duration"),
        ({"startTime": "2026-01-01T11:00:00Z"}, "curve.startTime"),
        ({"startTime": "2026-01-01T11:55:00Z", "duration": 300}, "curve.startTime"),
    ],
)
def test_a_scheduled_control_lies_ahead(changes: dict[str, Any], field: str) -> None:
    assert told("SetDERControl", der("VoltVar", "curve", is_default=False, **changes)) == [field]
    for gone in TIMES:
        partial = der("VoltVar", "curve", is_default=False)
        del partial["curve"][gone]
        assert told("SetDERControl", partial) == [f"curve.{gone}"]


def test_limit_max_discharge_needs_something_to_say() -> None:
    bare = {
        "isDefault": True,
        "controlId": "c-1",
        "controlType": "LimitMaxDischarge",
        "limitMaxDischarge": {"priority": 0},
    }
    assert told("SetDERControl", bare) == ["limitMaxDischarge.pctMaxDischargePower"]
    bare["limitMaxDischarge"] = {"priority": 0, "powerMonitoringMustTrip": CURVE}
    assert told("SetDERControl", bare) == []
    assert told("SetDERControl", der("VoltVar", "curve", is_default=True) | {"controlId": ""}) == ["controlId"]
    assert told("ClearDERControl", {"isDefault": True, "controlId": "a", "controlType": "VoltVar"}) == ["controlType"]


# --- charging profiles -----------------------------------------------------------------------------------------------
def profile(period: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A Relative ChargingOnly TxProfile at EVSE 1; `schedule` changes its schedule, `more` adds periods."""
    schedule = {
        "id": 1, "chargingRateUnit": "W",
        "chargingSchedulePeriod": [{"startPeriod": 0, **({"limit": 5000} if period is None else period)}, *changes.pop("more", [])],
    }  # fmt: skip
    schedule |= changes.pop("schedule", {})
    evse_id = changes.pop("evseId", 1)
    made = {
        "id": 7, "stackLevel": 1, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Relative",
        "transactionId": "t-1", "chargingSchedule": [schedule],
    } | changes  # fmt: skip
    return {"evseId": evse_id, "chargingProfile": {name: value for name, value in made.items() if value is not None}}


P, S = "chargingProfile", "chargingProfile.chargingSchedule[0]"
Q = f"{S}.chargingSchedulePeriod[0]"
LEASED = {"schedule": {"duration": 5}, "maxOfflineDuration": 0}
FREQ = [{"frequency": 49.8, "power": -5000}, {"frequency": 50.2, "power": 5000}]
SIGNAL = [{"signal": -100, "power": -5000}, {"signal": 100, "power": 5000}]


@pytest.mark.parametrize(
    ("period", "fields"),
    [
        ({}, [f"{Q}.limit"]),
        ({"operationMode": "ChargingOnly", "limit": 1, "setpoint": 1}, [f"{Q}.setpoint"]),
        ({"operationMode": "ChargingOnly", "limit": 1, "dischargeLimit": 0}, [f"{Q}.dischargeLimit"]),
        ({"operationMode": "CentralSetpoint", "limit": 1}, [f"{Q}.setpoint"]),
        ({"operationMode": "CentralSetpoint", "setpoint": 1, "v2xBaseline": 1}, [f"{Q}.v2xBaseline"]),
        ({"operationMode": "CentralFrequency", "limit": 1}, [f"{Q}.setpoint"]),
        ({"operationMode": "CentralFrequency", "setpoint": 1, "v2xFreqWattCurve": FREQ[1:]}, [f"{Q}.v2xFreqWattCurve"]),
        ({"operationMode": "LocalFrequency", "v2xBaseline": 9000}, [f"{Q}.v2xFreqWattCurve"]),
        ({"operationMode": "LocalFrequency", "v2xFreqWattCurve": FREQ[1:]}, [f"{Q}.v2xBaseline"]),
        (
            {"operationMode": "LocalFrequency", "v2xBaseline": 9000, "v2xFreqWattCurve": FREQ, "limit": 1},
            [f"{Q}.limit"],
        ),
        ({"operationMode": "LocalFrequency", "v2xBaseline": 9000, "v2xFreqWattCurve": FREQ, "setpoint": 1}, [f"{Q}.setpoint"]),
        ({"operationMode": "ExternalSetpoint", "setpoint": 1, "dischargeLimit": 0}, [f"{Q}.setpoint"]),
        ({"operationMode": "Idle", "limit": 0}, [f"{Q}.limit"]),
        ({"limit": 1, "limit_L2": 1, "limit_L3": -1}, [f"{Q}.limit_L3", f"{P}.validTo", f"{P}.maxOfflineDuration"]),
        ({"limit_L2": 1}, [f"{Q}.limit"]),
        ({"limit": 1, "numberPhases": 3, "phaseToUse": 2}, [f"{Q}.phaseToUse"]),
        ({"operationMode": "CentralSetpoint", "setpoint": 1, "setpoint_L2": 1, "setpoint_L3": 0}, []),
        ({"operationMode": "CentralSetpoint", "setpoint": 1, "setpointReactive": -5}, []),
        ({"operationMode": "CentralFrequency", "setpoint": 6000, "v2xSignalWattCurve": SIGNAL}, []),
        ({"operationMode": "LocalFrequency", "v2xBaseline": 6000, "v2xFreqWattCurve": FREQ}, []),
        ({"operationMode": "Idle", "evseSleep": True}, []),
        ({"limit": 1, "numberPhases": 1, "phaseToUse": 2}, []),
    ],
)  # fmt: skip
def test_operation_modes(period: dict[str, Any], fields: list[str]) -> None:
    assert told("SetChargingProfile", profile(period)) == fields


@pytest.mark.parametrize(
    ("period", "fields"),
    [
        ({"operationMode": "CentralSetpoint", "setpoint": -1, "setpoint_L2": 1}, [f"{Q}.setpoint_L2"]),
        (
            {"operationMode": "CentralSetpoint", "setpoint": 1, "setpoint_L2": 2, "setpoint_L3": -3},
            [f"{Q}.setpoint_L2"],
        ),
        ({"limit": -7000}, [f"{Q}.limit"]),
        ({"operationMode": "CentralSetpoint", "setpoint": -7000, "dischargeLimit": -7000, "limit": 0}, []),
        ({"operationMode": "ExternalSetpoint", "dischargeLimit": -1, "limit": 3}, []),
        ({"operationMode": "ExternalLimits"}, []),
        ({"operationMode": "LocalLoadBalancing"}, []),
        (
            {"operationMode": "LocalFrequency", "v2xBaseline": 0, "v2xFreqWattCurve": FREQ[::-1]},
            [f"{Q}.v2xFreqWattCurve"],
        ),
    ],
)
def test_discharging_periods(period: dict[str, Any], fields: list[str]) -> None:
    assert told("SetChargingProfile", profile(period, **LEASED)) == fields
    assert f"{P}.validTo" in told("SetChargingProfile", profile(period, maxOfflineDuration=0))
    assert f"{P}.maxOfflineDuration" in told("SetChargingProfile", profile(period, schedule={"duration": 5}))
    refusing = Context(now=NOON, allows_discharge=False)
    assert P in told("SetChargingProfile", profile(period, **LEASED), refusing)
    strict = Context(now=NOON, profile_limits=ProfileLimits(max_lease_s=4.0))
    assert f"{P}.validTo" in told("SetChargingProfile", profile(period, **LEASED), strict)


START = {"startSchedule": "2026-01-01T12:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"transactionId": None}, [f"{P}.transactionId"]),
        ({"transactionId": ""}, [f"{P}.transactionId"]),
        ({"evseId": 0}, ["evseId"]),
        ({"chargingProfilePurpose": "TxDefaultProfile"}, [f"{P}.transactionId"]),
        ({"chargingProfilePurpose": "TxDefaultProfile", "transactionId": None}, []),
        ({"chargingProfilePurpose": "ChargingStationExternalConstraints", "transactionId": None}, [f"{P}.chargingProfilePurpose"]),
        (
            {"chargingProfilePurpose": "ChargingStationMaxProfile", "transactionId": None, "chargingProfileKind": "Absolute",
             "schedule": START},
            ["evseId"],
        ),
        ({"chargingProfilePurpose": "ChargingStationMaxProfile", "transactionId": None, "evseId": 0}, [f"{P}.chargingProfileKind"]),
        ({"chargingProfileKind": "Absolute"}, [f"{S}.startSchedule"]),
        ({"chargingProfileKind": "Recurring", "recurrencyKind": "Daily"}, [f"{S}.startSchedule"]),
        ({"chargingProfileKind": "Recurring", "schedule": START}, [f"{P}.recurrencyKind"]),
        ({"recurrencyKind": "Daily"}, [f"{P}.recurrencyKind"]),
        ({"schedule": START}, [f"{S}.startSchedule"]),
        ({"schedule": {"duration": 0}}, [f"{S}.duration"]),
        ({"validTo": "2026-01-01T12:00:00Z"}, [f"{P}.validTo"]),
        ({"validTo": "2026-01-01T13:00:00Z", "validFrom": "2026-01-01T13:00:00Z"}, [f"{P}.validFrom"]),
        ({"more": [{"startPeriod": 0, "limit": 1}]}, [f"{S}.chargingSchedulePeriod[1].startPeriod"]),
        (
            {"more": [{"startPeriod": 9, "limit": 1}, {"startPeriod": 8, "limit": 1}]},
            [f"{S}.chargingSchedulePeriod[2].startPeriod"],
        ),
        ({"period": {"startPeriod": 1, "limit": 1}}, [f"{Q}.startPeriod"]),
        ({"chargingProfileKind": "Dynamic", "more": [{"startPeriod": 9, "limit": 1}]}, [f"{S}.chargingSchedulePeriod"]),
        ({"chargingProfileKind": "Dynamic", "period": {"operationMode": "CentralSetpoint", "dischargeLimit": 0}}, []),
        (
            {"chargingProfileKind": "Dynamic", "period": {"operationMode": "CentralSetpoint"}},
            [f"{P}.validTo", f"{P}.maxOfflineDuration"],
        ),
        ({"maxOfflineDuration": -1}, [f"{P}.maxOfflineDuration"]),
        ({"stackLevel": 9}, [f"{P}.stackLevel"]),
        ({"chargingProfilePurpose": "PriorityCharging", "transactionId": None,
          "period": {"operationMode": "CentralSetpoint", "setpoint": 1}}, [f"{Q}.operationMode"]),
        ({"period": {"operationMode": "LocalFrequency", "v2xBaseline": 6000, "v2xFreqWattCurve": FREQ},
          "schedule": {"chargingRateUnit": "A"}}, [f"{Q}.operationMode"]),
    ],
)  # fmt: skip
def test_profile_rules(changes: dict[str, Any], fields: list[str]) -> None:
    context = Context(now=NOON, profile_limits=ProfileLimits(max_stack_level=8, max_periods=3))
    changes = dict(changes)
    schedule = changes.get("schedule", {})
    if "period" in changes:
        made = profile(changes.pop("period"), **changes)
    else:
        made = profile(**changes)
    made["chargingProfile"]["chargingSchedule"][0] |= schedule
    assert told("SetChargingProfile", made, context) == fields


def test_too_many_periods_and_schedules() -> None:
    context = Context(now=NOON, profile_limits=ProfileLimits(max_periods=1))
    assert told("SetChargingProfile", profile(more=[{"startPeriod": 9, "limit": 1}]), context) == [
        f"{S}.chargingSchedulePeriod"
    ]
    default = profile(chargingProfilePurpose="TxDefaultProfile", transactionId=None)
    default["chargingProfile"]["chargingSchedule"] *= 2
    assert told("SetChargingProfile", default) == [f"{P}.chargingSchedule"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite(bad: float) -> None:
    period = v21.ChargingSchedulePeriodType(startPeriod=0, limit=bad)
    schedule = v21.ChargingScheduleType(id=1, chargingRateUnit="W", chargingSchedulePeriod=(period,))
    made = v21.ChargingProfileType(
        id=1, stackLevel=0, chargingProfilePurpose="TxProfile", chargingProfileKind="Relative", transactionId="t",
        chargingSchedule=(schedule,),
    )  # fmt: skip
    found = request_problems("SetChargingProfile", v21.SetChargingProfileRequest(evseId=1, chargingProfile=made), HERE)
    assert f"{Q}.limit" in [item.field for item in found]
    assert is_discharging(made) == (not bad >= 0.0)
    update = v21.ChargingScheduleUpdateType(setpoint=bad)
    request = v21.UpdateDynamicScheduleRequest(chargingProfileId=1, scheduleUpdate=update)
    fields = [item.field for item in request_problems("UpdateDynamicSchedule", request, HERE)]
    assert fields == ["scheduleUpdate.setpoint"]


def test_what_our_dialects_send_passes() -> None:
    pairs: list[tuple[Version, Dialect]] = [
        ("2.1", "v21_setpoint"), ("2.1", "v21_dynamic"), ("2.0.1", "v201_negative_limit"), ("2.0.1", "v201_hybrid"),
    ]  # fmt: skip
    for version, dialect in pairs:
        station = StationDialect(
            version=version, dialect=dialect, is_discharge_authorised=True, is_underlay_accepted=True, underlay_kw=3.0
        )
        for power_kw in (-7.0, 0.0, 7.0):
            setpoint = Setpoint(power_kw=power_kw, lease_s=5, now=NOON, evse_id=1, profile_id=71, transaction_id="t")
            strict = Context(now=NOON, profile_limits=ProfileLimits(max_lease_s=5.0))
            for call in (*translate(setpoint, station).calls, underlay_call(station, 1)):
                assert request_problems(call.action, call.payload, strict) == ()
                if call.action == "SetChargingProfile":
                    made = call.payload.chargingProfile  # type: ignore[attr-defined]
                    gives = power_kw < 0.0 and made.id == 71
                    assert is_discharging(made) == gives
                    assert lease_end_s(made, NOON) == (5.0 if gives else 0.0)


# --- when a discharge ends -------------------------------------------------------------------------------------------
def ending(period: dict[str, Any], **changes: Any) -> float:
    payload = profile(period, **changes)
    request = codec.decode("2.1", "SetChargingProfile", "request", json.dumps(payload).encode())
    return lease_end_s(request.chargingProfile, NOON)  # type: ignore[attr-defined]


GIVING = {"operationMode": "CentralSetpoint", "setpoint": -1000}
LATER = {"startSchedule": "2026-01-01T12:01:00Z"}
FOREVER = float("inf")


@pytest.mark.parametrize(
    ("end_s", "period", "changes"),
    [
        (FOREVER, GIVING, {}),
        (30.0, GIVING, {"schedule": {"duration": 30}}),
        (40.0, GIVING, {"more": [{"startPeriod": 40, "limit": 0}]}),
        (30.0, GIVING, {"more": [{"startPeriod": 40, "limit": 0}], "schedule": {"duration": 30}}),
        (FOREVER, {"limit": 1}, {"more": [{"startPeriod": 40, **GIVING}]}),
        (20.0, GIVING, {"validTo": "2026-01-01T12:00:20Z"}),
        (0.0, GIVING, {"validTo": "2026-01-01T11:00:20Z"}),
        (90.0, GIVING, {"chargingProfileKind": "Absolute", "schedule": {"duration": 30, **LATER}}),
        (FOREVER, GIVING, {"chargingProfileKind": "Absolute", "schedule": LATER}),
        (FOREVER, GIVING, {"chargingProfileKind": "Recurring", "schedule": {"duration": 30, **LATER}}),
        (30.0, GIVING, {"chargingProfileKind": "Dynamic", "schedule": {"duration": 30}}),
        (FOREVER, GIVING, {"chargingProfilePurpose": "TxDefaultProfile", "schedule": {"duration": 30}}),
        (0.0, {"limit": 1}, {}),
    ],
)
def test_when_a_discharge_ends(end_s: float, period: dict[str, Any], changes: dict[str, Any]) -> None:
    changes = dict(changes)
    assert ending(period, **changes) == end_s


def test_2_0_1_profiles_are_judged_too() -> None:
    assert told("SetChargingProfile", profile(evseId=-1), version="2.0.1") == ["evseId", "evseId"]
    assert told("GetCompositeSchedule", {"duration": 60, "evseId": -1}, version="2.0.1") == ["evseId"]
    assert told("RequestStartTransaction", start(evseId=0), version="2.0.1") == ["evseId"]
    payload = profile({"limit": -1000}, schedule={"duration": 30})
    assert told("SetChargingProfile", payload, version="2.0.1") == []
    assert told("SetChargingProfile", profile({"limit": -1000}), version="2.0.1") == [f"{P}.validTo"]
    old = v201.ChargingSchedulePeriodType(startPeriod=0, limit=-0.001)
    schedule = v201.ChargingScheduleType(id=1, chargingRateUnit="A", chargingSchedulePeriod=(old,))
    made = v201.ChargingProfileType(
        id=1,
        stackLevel=0,
        chargingProfilePurpose="TxProfile",
        chargingProfileKind="Relative",
        chargingSchedule=(schedule,),
    )
    assert is_discharging(made)
    assert lease_end_s(made, NOON) == FOREVER


# --- the other requests ----------------------------------------------------------------------------------------------
TOKEN = {"idToken": "card", "type": "ISO14443"}
LATE, EARLY = "2026-01-01T13:00:00Z", "2026-01-01T11:00:00Z"
FIRMWARE = {"location": "https://x", "retrieveDateTime": LATE, "signingCertificate": "c", "signature": "s"}
SECRET = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}


def update(**values: float) -> dict[str, Any]:
    return {"chargingProfileId": 1, "scheduleUpdate": values}


def start(**changes: Any) -> dict[str, Any]:
    return {"remoteStartId": 1, "idToken": TOKEN, "evseId": 1} | changes


@pytest.mark.parametrize(
    ("action", "payload", "fields"),
    [
        ("UpdateDynamicSchedule", update(), ["scheduleUpdate"]),
        ("UpdateDynamicSchedule", update(limit=-1), ["scheduleUpdate.limit"]),
        ("UpdateDynamicSchedule", update(setpoint=-1, setpoint_L2=1), ["scheduleUpdate.setpoint"]),
        ("UpdateDynamicSchedule", update(setpoint=-1, dischargeLimit=-2, limit=0), []),
        ("NotifyAllowedEnergyTransfer", {"transactionId": "t", "allowedEnergyTransfer": ["DC", "DC"]}, ["allowedEnergyTransfer"]),
        ("NotifyAllowedEnergyTransfer", {"transactionId": "", "allowedEnergyTransfer": ["DC"]}, ["transactionId"]),
        ("NotifyAllowedEnergyTransfer", {"transactionId": "t", "allowedEnergyTransfer": ["DC", "DC_BPT"]}, []),
        ("AFRRSignal", {"timestamp": LATE, "signal": 101}, ["signal"]),
        ("AFRRSignal", {"timestamp": LATE, "signal": -101}, ["signal"]),
        ("AFRRSignal", {"timestamp": LATE, "signal": -100}, []),
        ("ReserveNow", {"id": 1, "expiryDateTime": EARLY, "idToken": TOKEN}, ["expiryDateTime"]),
        ("ReserveNow", {"id": 1, "expiryDateTime": "2026-01-01T12:00:00Z", "idToken": TOKEN}, ["expiryDateTime"]),
        ("ReserveNow", {"id": 1, "expiryDateTime": LATE, "idToken": TOKEN, "evseId": 0}, ["evseId"]),
        ("ReserveNow", {"id": 1, "expiryDateTime": LATE, "idToken": {"idToken": "", "type": "Central"}}, ["idToken.idToken"]),
        ("ReserveNow", {"id": 1, "expiryDateTime": LATE, "idToken": TOKEN, "evseId": 1}, []),
        ("SetVariables", {"setVariableData": [{**SECRET, "attributeValue": "short"}]}, ["setVariableData[0].attributeValue"]),
        ("SetVariables", {"setVariableData": [{**SECRET, "attributeValue": "x" * 41}]}, ["setVariableData[0].attributeValue"]),
        ("SetVariables", {"setVariableData": [{**SECRET, "attributeValue": "x" * 16}]}, []),
        ("GetVariables", {"getVariableData": [SECRET]}, ["getVariableData[0].variable"]),
        ("GetVariables", {"getVariableData": [{**SECRET, "attributeType": "MaxSet"}]}, []),
        ("RequestStartTransaction", start(idToken={"idToken": "", "type": "Central"}), ["idToken.idToken"]),
        ("RequestStartTransaction", start(idToken={"idToken": "", "type": "NoAuthorization"}), []),
        ("RequestStartTransaction", start(chargingProfile=profile(transactionId=None)["chargingProfile"]), []),
        (
            "RequestStartTransaction",
            start(chargingProfile=profile(transactionId=None, chargingProfilePurpose="TxDefaultProfile")["chargingProfile"]),
            [f"{P}.chargingProfilePurpose"],
        ),
        ("SendLocalList", {"versionNumber": 0, "updateType": "Full"}, ["versionNumber"]),
        ("SendLocalList", {"versionNumber": 1, "updateType": "Full"}, []),
        ("SendLocalList", {"versionNumber": 1, "updateType": "Differential"}, ["localAuthorizationList"]),
        ("SendLocalList", {"versionNumber": 1, "updateType": "Full", "localAuthorizationList": [{"idToken": TOKEN}]},
         ["localAuthorizationList[0].idTokenInfo"]),
        ("SendLocalList", {"versionNumber": 1, "updateType": "Differential", "localAuthorizationList": [{"idToken": TOKEN}] * 2},
         ["localAuthorizationList"]),
        ("GetCompositeSchedule", {"duration": 0, "evseId": 1}, ["duration"]),
        ("GetCompositeSchedule", {"duration": 60, "evseId": 0}, []),
        ("ClearChargingProfile", {}, ["chargingProfileId"]),
        ("ClearChargingProfile", {"chargingProfileId": 0}, []),
        ("ChangeAvailability", {"operationalStatus": "Operative", "evse": {"id": 0}}, ["evse.id"]),
        ("TriggerMessage", {"requestedMessage": "StatusNotification", "evse": {"id": 1}}, ["evse.connectorId"]),
        ("TriggerMessage", {"requestedMessage": "Heartbeat"}, []),
        ("CustomerInformation", {"requestId": 1, "report": True, "clear": False}, ["idToken"]),
        ("CustomerInformation", {"requestId": 1, "report": False, "clear": False, "idToken": TOKEN}, ["report"]),
        ("CustomerInformation", {"requestId": 1, "report": True, "clear": False, "idToken": TOKEN, "customerIdentifier": "x"},
         ["idToken"]),
        ("GetLog", {"logType": "SecurityLog", "requestId": 1,
                    "log": {"remoteLocation": "https://x", "oldestTimestamp": LATE, "latestTimestamp": EARLY}},
         ["log.oldestTimestamp"]),
        ("UpdateFirmware", {"requestId": 1, "firmware": FIRMWARE}, []),
        ("UpdateFirmware", {"requestId": 1, "firmware": {"location": "https://x", "retrieveDateTime": LATE}},
         ["firmware.signingCertificate", "firmware.signature"]),
        ("UpdateFirmware", {"requestId": 1, "firmware": {**FIRMWARE, "installDateTime": EARLY}}, ["firmware.installDateTime"]),
        ("Reset", {"type": "Immediate"}, []),
    ],
)  # fmt: skip
def test_other_requests(action: str, payload: dict[str, Any], fields: list[str]) -> None:
    assert told(action, payload) == fields


def test_a_station_that_must_not_discharge_is_not_told_to() -> None:
    refusing = Context(now=NOON, allows_discharge=False)
    assert told("UpdateDynamicSchedule", update(setpoint=-1), refusing) == ["scheduleUpdate"]
    assert told("UpdateDynamicSchedule", update(setpoint=1), refusing) == []
    modes = {"transactionId": "t", "allowedEnergyTransfer": ["AC_BPT", "DC"]}
    assert told("NotifyAllowedEnergyTransfer", modes, refusing) == ["allowedEnergyTransfer"]
    assert told("NotifyAllowedEnergyTransfer", modes | {"allowedEnergyTransfer": ["DC"]}, refusing) == []


def test_a_signal_lies_on_the_curve() -> None:
    signal = {"timestamp": LATE, "signal": 7}
    assert told("AFRRSignal", signal, Context(now=NOON, signal_curve=(-5, 10))) == []
    assert told("AFRRSignal", signal, Context(now=NOON, signal_curve=(-5, 6))) == ["signal"]
    assert told("AFRRSignal", signal, Context(now=NOON, signal_curve=())) == ["signal"]


def test_what_a_station_reported_goes_before_what_the_standard_fixes() -> None:
    key = ("LocalAuthListCtrlr", "Entries")
    request = {
        "setVariableData": [{"component": {"name": key[0]}, "variable": {"name": key[1]}, "attributeValue": "1"}]
    }
    assert told("SetVariables", request) == ["setVariableData[0].variable"]
    assert told("SetVariables", request, Context(now=NOON, mutability={key: "ReadWrite"})) == []


def test_a_problem_names_field_value_and_cure_but_no_password() -> None:
    request = codec.decode("2.1", "GetCompositeSchedule", "request", b'{"duration":0,"evseId":1}')
    (found,) = request_problems("GetCompositeSchedule", request, HERE)
    assert str(found) == "duration is 0: give more than 0 s"
    secret = {"setVariableData": [{**SECRET, "attributeValue": "hunter2"}]}
    request = codec.decode("2.1", "SetVariables", "request", json.dumps(secret).encode())
    (found,) = request_problems("SetVariables", request, HERE)
    assert "hunter2" not in str(found)
