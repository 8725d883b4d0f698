"""Discharge dialects: recorded frames, denials, the lease, and the reading of profiles by an emulated station."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects import Dialect, Setpoint, StationDialect, Translation, translate, underlay_call
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.frames import encode_call
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.profiles import InstalledProfile, Running, profile_power_kw, survivors

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIALECTS: list[tuple[Dialect, Version]] = [
    ("refuse", "2.1"),
    ("refuse", "2.0.1"),
    ("v21_setpoint", "2.1"),
    ("v21_dynamic", "2.1"),
    ("v201_negative_limit", "2.0.1"),
]
DISCHARGING = DIALECTS[2:]

RECORDED: dict[str, list[str]] = {
    "v21_setpoint": [
        '[2,"c1","SetChargingProfile",{"evseId":1,"chargingProfile":{"id":71,"stackLevel":9,'
        '"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","transactionId":"t-1",'
        '"validTo":"2026-01-01T12:00:05Z","maxOfflineDuration":0,"invalidAfterOfflineDuration":true,'
        '"chargingSchedule":[{"id":1,"startSchedule":"2026-01-01T12:00:00Z","duration":5,"chargingRateUnit":"W",'
        '"chargingSchedulePeriod":[{"startPeriod":0,"operationMode":"CentralSetpoint","setpoint":-7000,'
        '"dischargeLimit":-7000,"limit":0}]}]}}]'
    ],
    "v21_dynamic": [
        '[2,"c1","SetChargingProfile",{"evseId":1,"chargingProfile":{"id":71,"stackLevel":9,'
        '"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Dynamic","transactionId":"t-1",'
        '"validTo":"2026-01-01T12:00:05Z","maxOfflineDuration":0,"invalidAfterOfflineDuration":true,'
        '"chargingSchedule":[{"id":1,"duration":5,"chargingRateUnit":"W",'
        '"chargingSchedulePeriod":[{"startPeriod":0,"operationMode":"CentralSetpoint","setpoint":-7000,'
        '"dischargeLimit":-7000,"limit":0}]}]}}]',
        '[2,"c2","UpdateDynamicSchedule",{"chargingProfileId":71,"scheduleUpdate":{"setpoint":-7000}}]',
    ],
    "v201_negative_limit": [
        '[2,"c1","SetChargingProfile",{"evseId":1,"chargingProfile":{"id":71,"stackLevel":9,'
        '"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","transactionId":"t-1",'
        '"validTo":"2026-01-01T12:00:05Z","chargingSchedule":[{"id":1,"startSchedule":"2026-01-01T12:00:00Z",'
        '"duration":5,"chargingRateUnit":"W","chargingSchedulePeriod":[{"startPeriod":0,"limit":-7000}]}]}}]'
    ],
}


def agreed(dialect: Dialect, version: Version, **options: Any) -> StationDialect:
    given: dict[str, Any] = {"is_discharge_authorised": True, "is_underlay_accepted": True} | options
    return StationDialect(version=version, dialect=dialect, **given)


def wanted(power_kw: float, **options: Any) -> Setpoint:
    given: dict[str, Any] = {
        "lease_s": 5,
        "now": NOON,
        "evse_id": 1,
        "profile_id": 71,
        "transaction_id": "t-1",
    } | options
    return Setpoint(power_kw=power_kw, **given)


def frames_of(translation: Translation, version: Version) -> list[Any]:
    """The frames as they would travel, decoded; every payload has passed the schema's types."""
    return [
        json.loads(encode_call(f"c{number}", call.action, codec.encode(version, call.action, "request", call.payload)))
        for number, call in enumerate(translation.calls, 1)
    ]


@pytest.mark.parametrize(("dialect", "version"), DISCHARGING)
def test_recorded_frames(dialect: Dialect, version: Version) -> None:
    translation = translate(wanted(-7.0), agreed(dialect, version))
    assert frames_of(translation, version) == [json.loads(frame) for frame in RECORDED[dialect]]


def test_recorded_update_within_a_running_lease() -> None:
    setpoint = wanted(-7.0, renews_lease=False, charge_bound_kw=11.0, discharge_bound_kw=-10.0)
    translation = translate(setpoint, agreed("v21_dynamic", "2.1"))
    recorded = json.loads(RECORDED["v21_dynamic"][1])
    assert frames_of(translation, "2.1") == [[2, "c1", *recorded[2:]]]


@pytest.mark.parametrize("version", ["2.1", "2.0.1"])
def test_the_underlay_never_ends_and_never_discharges(version: Version) -> None:
    station = StationDialect(version=version, underlay_kw=3.7)
    frame = frames_of(Translation(calls=(underlay_call(station, 1),)), version)[0]
    profile = frame[3]["chargingProfile"]
    assert profile["chargingProfilePurpose"] == "TxDefaultProfile"
    assert profile["stackLevel"] == 0
    assert not {"validTo", "maxOfflineDuration", "transactionId"} & set(profile)
    schedule = profile["chargingSchedule"][0]
    assert not {"duration", "startSchedule"} & set(schedule)
    period = schedule["chargingSchedulePeriod"][0]
    assert period["limit"] == 3700.0
    assert period.get("operationMode") == ("ChargingOnly" if version == "2.1" else None)
    for bad_kw in (-0.1, float("nan"), float("inf")):
        with pytest.raises(LocalProtocolError, match="underlay_kw"):
            underlay_call(StationDialect(version=version, underlay_kw=bad_kw), 1)


@pytest.mark.parametrize(("dialect", "version"), DISCHARGING)
def test_no_lease_before_the_underlay_is_accepted(dialect: Dialect, version: Version) -> None:
    station = agreed(dialect, version, is_underlay_accepted=False)
    translation = translate(wanted(-7.0), station)
    assert translation.calls == (underlay_call(station, 1),)
    assert translation.denial is None


@pytest.mark.parametrize(
    ("station", "setpoint", "denial"),
    [
        (agreed("refuse", "2.1"), wanted(-1.0), "discharge denied by dialect"),
        (StationDialect(version="2.1"), wanted(-1.0), "discharge denied by dialect"),
        (agreed("v21_setpoint", "2.0.1"), wanted(-1.0), "dialect does not fit the OCPP version"),
        (agreed("v201_negative_limit", "2.1"), wanted(-1.0), "dialect does not fit the OCPP version"),
        (
            agreed("v21_setpoint", "2.1", is_discharge_authorised=False),
            wanted(-1.0),
            "discharge not authorised",
        ),
        (agreed("v21_setpoint", "2.1"), wanted(-1.0, transaction_id=None), "no transaction"),
        (agreed("v21_setpoint", "2.1", skew_s=2.6), wanted(-1.0), "station clock is off"),
        (agreed("v21_setpoint", "2.1", skew_s=-2.6), wanted(-1.0), "station clock is off"),
        (agreed("v21_setpoint", "2.1", skew_s=float("nan")), wanted(-1.0), "station clock is off"),
    ],
)
def test_denied_discharge_sends_nothing(station: StationDialect, setpoint: Setpoint, denial: str) -> None:
    translation = translate(setpoint, station)
    assert translation.calls == ()
    assert translation.denial == denial


@pytest.mark.parametrize(("dialect", "version"), DIALECTS)
@pytest.mark.parametrize("power_kw", [0.0, -0.0, 7.4])
def test_charging_and_zero_go_out_in_every_dialect(dialect: Dialect, version: Version, power_kw: float) -> None:
    for station in (agreed(dialect, version), StationDialect(version=version, dialect=dialect)):
        translation = translate(wanted(power_kw), station)
        assert translation.denial is None
        text = json.dumps(frames_of(translation, version))
        assert "-0.0" not in text
        installed = install(translation)
        power = profile_power_kw(installed, Running(now=NOON, evse_id=1, transaction_id="t-1"))
        assert power.lower_kw == 0.0
        assert power.upper_kw == power_kw
        assert power.setpoint_kw in (None, power_kw)


@pytest.mark.parametrize("dialect", ["refuse", "v21_setpoint"])
def test_charging_is_a_limit_not_a_setpoint(dialect: Dialect) -> None:
    frame = frames_of(translate(wanted(7.4), agreed(dialect, "2.1")), "2.1")[0]
    period = frame[3]["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0]
    assert period == {"startPeriod": 0, "operationMode": "ChargingOnly", "limit": 7400.0}


@pytest.mark.parametrize("version", ["2.1", "2.0.1"])
def test_a_limit_without_a_transaction_is_a_default_profile_that_expires(version: Version) -> None:
    frame = frames_of(translate(wanted(3.0, transaction_id=None), StationDialect(version=version)), version)[0]
    profile = frame[3]["chargingProfile"]
    assert profile["chargingProfilePurpose"] == "TxDefaultProfile"
    assert "transactionId" not in profile
    assert profile["validTo"] == "2026-01-01T12:00:05Z"


@pytest.mark.parametrize(
    "bad",
    [
        wanted(float("nan")),
        wanted(float("-inf")),
        wanted(1.0, lease_s=0),
        wanted(1.0, now=datetime(2026, 1, 1, 12)),  # noqa: DTZ001
        wanted(1.0, discharge_bound_kw=float("nan")),
    ],
)
def test_unusable_setpoints_are_our_bug(bad: Setpoint) -> None:
    with pytest.raises(LocalProtocolError):
        translate(bad, agreed("v21_setpoint", "2.1"))


# --- the station's side ----------------------------------------------------------------------------------------------
def install(translation: Translation, at: datetime = NOON) -> list[InstalledProfile]:
    """What a station holds after the calls."""
    held: dict[int, InstalledProfile] = {}
    for call in translation.calls:
        payload = call.payload
        if isinstance(payload, v21.SetChargingProfileRequest | v201.SetChargingProfileRequest):
            profile = payload.chargingProfile
            held[profile.id] = InstalledProfile(profile=profile, evse_id=payload.evseId, installed_at=at)
        elif isinstance(payload, v21.UpdateDynamicScheduleRequest):
            old = held[payload.chargingProfileId]
            held[old.profile.id] = InstalledProfile(
                profile=old.profile, evse_id=old.evse_id, installed_at=at, update=payload.scheduleUpdate
            )
    return list(held.values())


def at_s(seconds: float, **options: Any) -> Running:
    given: dict[str, Any] = {"evse_id": 1, "transaction_id": "t-1", "started_at": NOON - timedelta(hours=1)} | options
    return Running(now=NOON + timedelta(seconds=seconds), **given)


@pytest.mark.parametrize(("dialect", "version"), DISCHARGING)
def test_a_lease_ends_by_itself_over_the_underlay(dialect: Dialect, version: Version) -> None:
    station = agreed(dialect, version, underlay_kw=3.0)
    underlay = Translation(calls=(underlay_call(station, 1),))
    held = install(underlay, NOON - timedelta(hours=1)) + install(translate(wanted(-7.0), station))
    assert profile_power_kw(held, at_s(0.0)).setpoint_kw == -7.0
    assert profile_power_kw(held, at_s(4.999)).setpoint_kw == -7.0
    after = profile_power_kw(held, at_s(5.0))
    assert (after.lower_kw, after.upper_kw, after.setpoint_kw, after.profile_id) == (0.0, 3.0, None, 1)
    assert [item.profile.id for item in survivors(held, at_s(5.0))] == [1]


@pytest.mark.parametrize(("dialect", "version"), DISCHARGING)
def test_a_lease_holds_for_its_transaction_and_evse_only(dialect: Dialect, version: Version) -> None:
    held = install(translate(wanted(-7.0), agreed(dialect, version)))
    for running in (at_s(1.0, transaction_id="t-2"), at_s(1.0, transaction_id=None), at_s(1.0, evse_id=2)):
        power = profile_power_kw(held, running)
        assert (power.lower_kw, power.setpoint_kw) == (0.0, None)
    assert survivors(held, at_s(1.0, transaction_id="t-2")) == []


@pytest.mark.parametrize("dialect", ["v21_setpoint", "v21_dynamic"])
def test_offline_ends_a_lease_for_good(dialect: Dialect) -> None:
    held = install(translate(wanted(-7.0), agreed(dialect, "2.1")))
    offline = at_s(1.0, offline_since=NOON + timedelta(seconds=1))
    assert profile_power_kw(held, offline).lower_kw == 0.0
    assert survivors(held, offline) == []


def profile_21(purpose: Any, level: int, limit: float, **options: Any) -> v21.ChargingProfileType:
    period_options = options.pop("period", {})
    schedule_options = {"chargingRateUnit": "W"} | options.pop("schedule", {})
    period = v21.ChargingSchedulePeriodType(startPeriod=0, limit=limit, **period_options)
    periods = (period, *options.pop("more", ()))
    schedule = v21.ChargingScheduleType(id=1, chargingSchedulePeriod=periods, **schedule_options)
    given: dict[str, Any] = {"id": level + 100, "chargingProfileKind": "Relative"} | options
    return v21.ChargingProfileType(
        stackLevel=level, chargingProfilePurpose=purpose, chargingSchedule=(schedule,), **given
    )


def held(*profiles: v21.ChargingProfileType) -> list[InstalledProfile]:
    return [InstalledProfile(profile=profile, evse_id=1, installed_at=NOON) for profile in profiles]


def test_without_profiles_charging_is_free_and_discharge_is_not() -> None:
    power = profile_power_kw([], at_s(0.0))
    assert (power.lower_kw, power.upper_kw, power.setpoint_kw) == (0.0, None, None)


def test_highest_stack_level_and_purpose_win() -> None:
    default = profile_21("TxDefaultProfile", 8, 1000.0)
    low = profile_21("TxProfile", 1, 2000.0, transactionId="t-1")
    high = profile_21("TxProfile", 2, 3000.0, transactionId="t-1")
    assert profile_power_kw(held(default, low, high), at_s(0.0)).upper_kw == 3.0
    assert profile_power_kw(held(high, low, default), at_s(0.0)).upper_kw == 3.0
    assert profile_power_kw(held(default, low, high), at_s(0.0, transaction_id="t-9")).upper_kw == 1.0


def test_station_bounds_narrow_and_never_raise() -> None:
    tx = profile_21("TxProfile", 1, 5000.0, transactionId="t-1")
    most = profile_21("ChargingStationMaxProfile", 0, 4000.0)
    outer = profile_21("ChargingStationExternalConstraints", 0, 6000.0)
    assert profile_power_kw(held(tx, most, outer), at_s(0.0)).upper_kw == 4.0
    assert profile_power_kw(held(outer), at_s(0.0)).upper_kw == 6.0


def test_a_setpoint_stays_inside_its_limits() -> None:
    period = {"operationMode": "CentralSetpoint", "setpoint": -9000.0, "dischargeLimit": -4000.0}
    tx = profile_21("TxProfile", 1, 0.0, transactionId="t-1", period=period)
    power = profile_power_kw(held(tx), at_s(0.0))
    assert (power.setpoint_kw, power.lower_kw, power.upper_kw) == (-4.0, -4.0, 0.0)


def test_periods_recurrence_validity_and_amperes() -> None:
    later = v21.ChargingSchedulePeriodType(startPeriod=600, limit=1000.0)
    relative = profile_21("TxDefaultProfile", 1, 2000.0, more=(later,))
    started = {"started_at": NOON}
    assert profile_power_kw(held(relative), at_s(599.0, **started)).upper_kw == 2.0
    assert profile_power_kw(held(relative), at_s(600.0, **started)).upper_kw == 1.0
    daily = profile_21(
        "TxDefaultProfile",
        1,
        2000.0,
        chargingProfileKind="Recurring",
        recurrencyKind="Daily",
        schedule={"startSchedule": NOON - timedelta(days=3), "duration": 3600},
    )
    assert profile_power_kw(held(daily), at_s(3599.0)).upper_kw == 2.0
    assert profile_power_kw(held(daily), at_s(3600.0)).upper_kw is None
    future = profile_21("TxDefaultProfile", 1, 2000.0, validFrom=NOON + timedelta(seconds=10))
    assert profile_power_kw(held(future), at_s(9.0)).upper_kw is None
    assert profile_power_kw(held(future), at_s(10.0)).upper_kw == 2.0
    amps = profile_21("TxDefaultProfile", 1, 16.0, schedule={"chargingRateUnit": "A"})
    assert profile_power_kw(held(amps), at_s(0.0)).upper_kw == pytest.approx(11.04)
    single = profile_21("TxDefaultProfile", 1, 16.0, schedule={"chargingRateUnit": "A"}, period={"numberPhases": 1})
    assert profile_power_kw(held(single), at_s(0.0)).upper_kw == pytest.approx(3.68)


def test_offline_profile_without_the_final_flag_comes_back() -> None:
    tx = profile_21("TxProfile", 1, 5000.0, transactionId="t-1", maxOfflineDuration=10)
    offline = {"offline_since": NOON}
    assert profile_power_kw(held(tx), at_s(9.0, **offline)).upper_kw == 5.0
    assert profile_power_kw(held(tx), at_s(10.0, **offline)).upper_kw is None
    assert survivors(held(tx), at_s(10.0, **offline)) == held(tx)
    assert profile_power_kw(held(tx), at_s(11.0)).upper_kw == 5.0
