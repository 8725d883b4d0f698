"""What our checks let through no station of ours refuses, and what may discharge ends when `lease_end_s` says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import FROM_STATION, TABLES, Version
from gridtide.wire.ocpp.checks import Context, request_problems
from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.operation_modes import Surroundings
from gridtide.wire.ocpp.profile_checks import Situation, refusal
from gridtide.wire.ocpp.profile_rules import ProfileLimits, is_discharging, lease_end_s, profile_problems
from gridtide.wire.ocpp.profiles import InstalledProfile, Running, profile_power_kw
from tests.wire.ocpp_samples import sample

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HERE = Context(now=NOON, profile_limits=ProfileLimits(max_stack_level=10))
PULLING = Surroundings(signal=-100, frequency_hz=49.8, external_kw=-5.0, load_kw=5.0)
"""Everything around asks for power out of the vehicle."""
POWERS = st.sampled_from([-7000.0, -1.0, 0.0, 1.0, 7000.0])
MAYBE = st.none() | POWERS
FREQ = tuple(v21.V2XFreqWattPointType(frequency=at, power=power) for at, power in ((49.8, -5000.0), (50.2, 5000.0)))
SIGNAL = tuple(v21.V2XSignalWattPointType(signal=at, power=power) for at, power in ((-100, -5000.0), (100, 5000.0)))
MODES = (
    None, "Idle", "ChargingOnly", "CentralSetpoint", "CentralSetpoint", "CentralFrequency", "LocalFrequency",
    "ExternalSetpoint", "ExternalLimits", "LocalLoadBalancing",
)  # fmt: skip


@st.composite
def periods(draw: st.DrawFn, start: int) -> v21.ChargingSchedulePeriodType:
    """A period; mostly with the fields its mode needs, sometimes with others."""
    mode: Any = draw(st.sampled_from(MODES))
    fields: dict[str, Any] = {}
    if mode in (None, "ChargingOnly"):
        fields["limit"] = draw(POWERS)
    elif mode in ("CentralSetpoint", "CentralFrequency"):
        fields |= {
            "setpoint": draw(POWERS),
            "limit": draw(MAYBE),
            "dischargeLimit": draw(st.none() | POWERS.map(lambda p: -abs(p))),
        }
    elif mode == "LocalFrequency":
        fields |= {"v2xBaseline": draw(POWERS), "v2xFreqWattCurve": FREQ}
    if mode == "CentralFrequency" and draw(st.booleans()):
        fields["v2xSignalWattCurve"] = SIGNAL
    if mode == "CentralSetpoint" and draw(st.booleans()):
        fields |= {"setpoint_L2": draw(POWERS), "setpoint_L3": draw(POWERS)}
    if draw(st.integers(0, 7)) == 0:
        fields[draw(st.sampled_from(["limit", "setpoint", "v2xBaseline", "limit_L2", "setpoint_L3"]))] = draw(POWERS)
    return v21.ChargingSchedulePeriodType(startPeriod=start, operationMode=mode, **fields)


@st.composite
def profiles(draw: st.DrawFn) -> v21.ChargingProfileType:
    """A 2.1 profile; every rule is broken now and then."""
    kind: Any = draw(st.sampled_from(["Absolute", "Relative", "Recurring", "Dynamic"]))
    starts = draw(st.sampled_from([(0,), (0,), (0, 30), (0, 30, 600), (5,), (0, 0)]))
    needs_start = kind in ("Absolute", "Recurring")
    begins = NOON + timedelta(seconds=draw(st.sampled_from([-600, 0, 0, 45])))
    schedule = v21.ChargingScheduleType(
        id=1,
        chargingRateUnit=draw(st.sampled_from(["W", "W", "W", "A"])),
        startSchedule=begins if needs_start != (draw(st.integers(0, 9)) == 0) else None,
        duration=draw(st.sampled_from([None, 5, 60, 900, 0])),
        chargingSchedulePeriod=tuple(draw(periods(start)) for start in starts[: 1 if kind == "Dynamic" else None]),
    )
    purpose: Any = draw(st.sampled_from(["TxProfile"] * 5 + ["TxDefaultProfile", "ChargingStationMaxProfile"]))
    valid_to = draw(st.sampled_from([None, NOON + timedelta(seconds=20), NOON + timedelta(hours=2)]))
    return v21.ChargingProfileType(
        id=7, stackLevel=draw(st.sampled_from([0, 3, 10, 11])), chargingProfilePurpose=purpose, chargingProfileKind=kind,
        recurrencyKind="Daily" if kind == "Recurring" else None, validTo=valid_to,
        transactionId="t" if purpose == "TxProfile" else None, maxOfflineDuration=draw(st.sampled_from([0, 0, 0, None])),
        chargingSchedule=(schedule,),
    )  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(profiles())
def test_no_station_refuses_what_passes(profile: v21.ChargingProfileType) -> None:
    evse_id = 0 if profile.chargingProfilePurpose == "ChargingStationMaxProfile" else 1
    found = profile_problems(profile, evse_id, NOON, HERE.profile_limits)
    assume(not found)
    assert refusal(profile, evse_id, Situation(transactions={1: "t"})) is None


@settings(max_examples=300, deadline=None)
@given(profiles(), st.sampled_from([0.0, 1e-3, 1.0, 30.0, 599.0, 601.0, 5000.0, 86_400.0]))
def test_nothing_discharges_after_the_end_that_was_told(profile: v21.ChargingProfileType, later_s: float) -> None:
    end_s = lease_end_s(profile, NOON)
    assume(end_s < 1e6)
    held = [InstalledProfile(profile=profile, evse_id=1, installed_at=NOON)]
    now = NOON + timedelta(seconds=end_s + later_s)
    power = profile_power_kw(held, Running(now=now, evse_id=1, transaction_id="t", started_at=NOON, around=PULLING))
    assert power.lower_kw >= 0.0
    assert power.setpoint_kw is None or power.setpoint_kw >= 0.0


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(profiles(), st.floats(0.0, 1000.0))
def test_what_cannot_discharge_never_does(profile: v21.ChargingProfileType, after_s: float) -> None:
    assume(not is_discharging(profile))
    held = [InstalledProfile(profile=profile, evse_id=1, installed_at=NOON)]
    running = Running(
        now=NOON + timedelta(seconds=after_s), evse_id=1, transaction_id="t", started_at=NOON, around=PULLING
    )
    power = profile_power_kw(held, running)
    assert power.lower_kw >= 0.0
    assert power.setpoint_kw is None or power.setpoint_kw >= 0.0


@settings(max_examples=200, deadline=None)
@given(profiles())
def test_a_discharge_that_passes_ends_in_time_and_with_its_transaction(profile: v21.ChargingProfileType) -> None:
    assume(is_discharging(profile))
    limits = ProfileLimits(max_lease_s=60.0)
    if not profile_problems(profile, 1, NOON, limits):
        assert lease_end_s(profile, NOON) <= 60.0
        assert profile.chargingProfilePurpose == "TxProfile"
        assert profile.maxOfflineDuration is not None


OURS = [(version, action) for version, table in TABLES.items() for action in table if action not in FROM_STATION]


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_checks_never_fail_whatever_the_schema_admits(version: Version) -> None:
    for mine, action in OURS:
        if mine != version:
            continue
        for extent in ("minimal", "maximal"):
            request = _made(version, action, extent)
            for found in request_problems(action, request, HERE):
                assert found.field
                assert found.value
                assert found.cure


def _made(version: Version, action: str, extent: Any) -> Any:
    return codec.decode(version, action, "request", json.dumps(sample((version, action, "request"), extent)).encode())
