"""Dialect `v201_hybrid`: a 2.0.1 connection over which two requests have the shape of 2.1; nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from gridtide.model.decision import Decision
from gridtide.wire.ocpp.admission import SessionSettings
from gridtide.wire.ocpp.dialects import HYBRID_OVERRIDES, StationDialect, request_overrides, underlay_call
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.events import CallAnswered, CallReceived
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.session import Session
from tests.day.raw_station import RawStation
from tests.day.wire_site import on_wire
from tests.wire.negative_cases import Ward
from tests.wire.ocpp_samples import sample, validator

NEEDS = {"evseId": 1, "chargingNeeds": {
    "requestedEnergyTransfer": "DC_BPT", "dcChargingParameters": {"evMaxCurrent": 32, "evMaxVoltage": 500},
    "v2xChargingParameters": {"maxChargePower": 11_000, "maxDischargePower": 9_000, "targetSoC": 50}}}  # fmt: skip


def session(dialect: Any = "v201_hybrid") -> Session:
    settings = SessionSettings(overrides=request_overrides(dialect, "2.0.1"))
    return Session("csms", "2.0.1", lambda: "own", settings, "accepted")


def test_profiles_go_out_in_the_2_1_shape_and_the_answer_is_2_0_1() -> None:
    mine = session()
    call = underlay_call(StationDialect(version="2.0.1", dialect="v201_hybrid", underlay_kw=3.0), 1)
    mine.call(call.action, call.payload, 0.0)
    (frame,) = map(json.loads, mine.bytes_to_send())
    validator(("2.1", "SetChargingProfile", "request")).validate(frame[3])
    assert (
        frame[3]["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0]["operationMode"]
        == "ChargingOnly"
    )
    (answer,) = mine.receive(b'[3,"own",{"status":"Accepted"}]', 0.1)
    assert isinstance(answer, CallAnswered)
    assert type(answer.payload) is v201.SetChargingProfileResponse


def test_bidirectional_needs_are_read_and_answered_as_2_0_1() -> None:
    mine = session()
    (event,) = mine.receive(json.dumps([2, "n", "NotifyEVChargingNeeds", NEEDS]).encode(), 0.0)
    assert isinstance(event, CallReceived)
    assert type(event.payload) is v21.NotifyEVChargingNeedsRequest
    mine.answer("n", v201.NotifyEVChargingNeedsResponse(status="Accepted"), 0.1)
    assert json.loads(mine.bytes_to_send()[0]) == [3, "n", {"status": "Accepted"}]


@pytest.mark.parametrize("extent", ["minimal", "maximal"])
def test_plain_2_0_1_needs_and_profiles_are_still_spoken(extent: Any) -> None:
    mine, payload = session(), sample(("2.0.1", "NotifyEVChargingNeeds", "request"), extent) | {"evseId": 1}
    (event,) = mine.receive(json.dumps([2, "n", "NotifyEVChargingNeeds", payload]).encode(), 0.0)
    assert isinstance(event, CallReceived)
    call = underlay_call(StationDialect(version="2.0.1", dialect="refuse"), 1)
    mine.call(call.action, call.payload, 0.0)
    validator(("2.0.1", "SetChargingProfile", "request")).validate(json.loads(mine.bytes_to_send()[0])[3])


def test_other_stations_and_other_actions_keep_their_version() -> None:
    plain = session("v201_negative_limit")
    plain.receive(json.dumps([2, "n", "NotifyEVChargingNeeds", NEEDS]).encode(), 0.0)
    assert json.loads(plain.bytes_to_send()[0])[:2] == [4, "n"]
    call = underlay_call(StationDialect(version="2.0.1", dialect="v201_hybrid"), 1)
    with pytest.raises(LocalProtocolError):
        plain.call(call.action, call.payload, 0.0)
    with pytest.raises(LocalProtocolError):
        session().call("GetBaseReport", v21.GetBaseReportRequest(requestId=1, reportBase="FullInventory"), 0.0)
    assert set(HYBRID_OVERRIDES) == {"SetChargingProfile", "NotifyEVChargingNeeds"}


def test_a_whole_csms_discharges_a_hybrid_station() -> None:
    async def scenario() -> None:
        ward = Ward("2.0.1")
        hybrid = ward.csms.stations["bay-1"]
        hybrid.provision = msgspec.structs.replace(hybrid.provision, dialect="v201_hybrid", discharge_opt_in=False)
        raw = await RawStation(ward.csms, ward.clock, "bay-1", "2.0.1").boot()
        await raw.tell("Started", 0, soc=70.0)
        assert (await raw.call("NotifyEVChargingNeeds", NEEDS))[2] == {"status": "Accepted"}
        await ward.clock.sleep(0.5)
        assert ward.board.may_discharge[0]
        wanted = np.array([-7.0, 0.0])
        reason = np.zeros(2, dtype=np.uint8)
        ward.csms.apply(Decision(setpoint_kw=wanted, reason=reason, wish_kw=wanted, lease_s=5.0, state="ok"))
        await ward.clock.sleep(0.5)
        profiles = [payload for action, payload in raw.heard if action == "SetChargingProfile"]
        for payload in profiles:
            validator(("2.1", "SetChargingProfile", "request")).validate(payload)
        period = profiles[-1]["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0]
        assert (period["operationMode"], period["setpoint"], period["dischargeLimit"]) == (
            "CentralSetpoint",
            -7000.0,
            -7000.0,
        )
        ward.ticks.cancel()
        raw.link.drop()

    on_wire(scenario)
