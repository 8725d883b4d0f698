"""Charging profiles: the operation-mode table, every purpose, curves, and composite schedules as properties."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp.composite import MAX_PERIODS, MAX_SPAN_S, composite, composite_fields
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.operation_modes import ALLOWED, NEEDED, Surroundings, interpolated
from gridtide.wire.ocpp.profile_checks import Situation, discharges, refusal
from gridtide.wire.ocpp.profiles import InstalledProfile, Running, next_change, profile_power_kw, survivors

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HERE = Situation(transactions={1: "t-1"})
SPAN_S = 120
VALUES: dict[str, Any] = {
    "limit": 5000.0, "dischargeLimit": -3000.0, "setpoint": -2000.0, "setpointReactive": 100.0, "v2xBaseline": 1000.0,
    "v2xFreqWattCurve": [{"frequency": 49.0, "power": -4000.0}, {"frequency": 51.0, "power": 4000.0}],
    "v2xSignalWattCurve": [{"signal": -10, "power": -5000.0}, {"signal": 10, "power": 5000.0}],
}  # fmt: skip


def profile(*periods: dict[str, Any], **changed: Any) -> v21.ChargingProfileType:
    """A TxProfile of transaction t-1 that began at noon; `schedule_*` changes its schedule."""
    schedule: dict[str, Any] = {
        "id": 1, "startSchedule": NOON, "chargingRateUnit": "W", "chargingSchedulePeriod": list(periods),
    }  # fmt: skip
    schedule |= {
        key.removeprefix("schedule_"): changed.pop(key) for key in tuple(changed) if key.startswith("schedule_")
    }
    told: dict[str, Any] = {
        "id": 7, "stackLevel": 1, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Absolute",
        "transactionId": "t-1",
    } | changed  # fmt: skip
    if told["chargingProfilePurpose"] != "TxProfile":
        told.pop("transactionId")
    told.setdefault("chargingSchedule", [{key: value for key, value in schedule.items() if value is not None}])
    return msgspec.convert(told, v21.ChargingProfileType)


def limit(watts: float, start: int = 0) -> dict[str, Any]:
    return {"startPeriod": start, "operationMode": "ChargingOnly", "limit": watts}


def put(item: v21.ChargingProfileType, evse_id: int = 1) -> InstalledProfile:
    return InstalledProfile(profile=item, evse_id=evse_id, installed_at=NOON)


def at(seconds: float = 0.0, **more: Any) -> Running:
    told: dict[str, Any] = {"transaction_id": "t-1", "started_at": NOON} | more
    return Running(now=NOON + timedelta(seconds=seconds), evse_id=1, **told)


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", sorted(NEEDED))
def test_the_operation_mode_table(mode: str) -> None:
    good = {"startPeriod": 0, "operationMode": mode} | {name: VALUES[name] for name in NEEDED[mode]}
    assert refusal(profile(good), 1, HERE) is None
    for name in NEEDED[mode]:
        assert refusal(profile({key: value for key, value in good.items() if key != name}), 1, HERE) == "MissingParam"
    for name, value in VALUES.items():
        wanted = None if name in ALLOWED[mode] else "InvalidSchedule"
        assert refusal(profile(good | {name: value}), 1, HERE) == wanted, name
    elsewhere = msgspec.structs.replace(HERE, modes=frozenset({"Unheard"}))
    assert refusal(profile(good), 1, elsewhere) == "UnsupportedMode"


@pytest.mark.parametrize(
    ("item", "evse_id", "wanted"),
    [
        (profile(limit(1.0)), 1, None),
        (profile(limit(1.0)), 0, "InvalidProfile"),
        (profile(limit(1.0)), 2, "UnknownEvse"),
        (profile(limit(1.0), transactionId=None), 1, "MissingParam"),
        (profile(limit(1.0), transactionId="t-2"), 1, "TxNotFound"),
        (profile(limit(1.0), schedule_startSchedule=None), 1, "MissingParam"),
        (profile(limit(1.0), chargingProfileKind="Relative"), 1, "InvalidSchedule"),
        (profile(limit(1.0), chargingProfileKind="Relative", schedule_startSchedule=None), 1, None),
        (profile(limit(1.0), chargingProfileKind="Recurring"), 1, "InvalidProfile"),
        (profile(limit(1.0), chargingProfileKind="Recurring", recurrencyKind="Daily"), 1, None),
        (profile(limit(1.0), recurrencyKind="Daily"), 1, "InvalidProfile"),
        (profile(limit(1.0), chargingProfileKind="Dynamic", schedule_startSchedule=None), 1, None),
        (profile(limit(1.0), limit(2.0, 5), chargingProfileKind="Dynamic"), 1, "InvalidSchedule"),
        (profile(limit(1.0, 5)), 1, "InvalidSchedule"),
        (profile(limit(1.0), limit(2.0)), 1, "InvalidSchedule"),
        (profile(limit(1.0), schedule_duration=0), 1, "InvalidSchedule"),
        (profile(limit(1.0), stackLevel=11), 1, "InvalidStackLevel"),
        (profile(limit(1.0), validFrom=NOON, validTo=NOON), 1, "InvalidProfile"),
        (profile(limit(1.0), chargingProfilePurpose="ChargingStationExternalConstraints"), 0, "InvalidProfile"),
        (profile(limit(1.0), chargingProfilePurpose="ChargingStationMaxProfile"), 1, "InvalidProfile"),
        (profile(limit(1.0), chargingProfilePurpose="ChargingStationMaxProfile"), 0, None),
        (profile(limit(1.0), chargingProfilePurpose="PriorityCharging"), 1, None),
        (
            profile({"startPeriod": 0, "operationMode": "Idle"}, chargingProfilePurpose="PriorityCharging"),
            1,
            "InvalidOperationMode",
        ),
        (profile({"startPeriod": 0, "setpoint": -7000.0}), 1, "MissingParam"),
        (profile({"startPeriod": 0, "limit": -7000.0}), 1, None),
        (
            profile({"startPeriod": 0, "operationMode": "LocalFrequency", "v2xBaseline": 0.0,
                     "v2xFreqWattCurve": VALUES["v2xFreqWattCurve"]}, schedule_chargingRateUnit="A"),
            1, "UnsupportedRateUnit",
        ),
        (
            profile({"startPeriod": 0, "operationMode": "CentralSetpoint", "setpoint": 10.0, "setpoint_L2": -10.0}),
            1, "InvalidSchedule",
        ),
        (profile(limit(1.0) | {"phaseToUse": 1, "numberPhases": 3}), 1, "InvalidSchedule"),
    ],
)  # fmt: skip
def test_profiles_are_checked_before_they_count(
    item: v21.ChargingProfileType, evse_id: int, wanted: str | None
) -> None:
    assert refusal(item, evse_id, HERE) == wanted


def test_two_profiles_of_one_level_do_not_stand_side_by_side() -> None:
    default = profile(limit(1.0), chargingProfilePurpose="TxDefaultProfile")
    here = msgspec.structs.replace(HERE, installed=(put(default, 0),))
    rename = msgspec.structs.replace
    assert refusal(default, 1, here) is None, "the same id replaces"
    assert refusal(rename(default, id=8), 1, here) == "DuplicateProfile"
    assert refusal(rename(default, id=8, stackLevel=2), 1, here) is None
    assert refusal(rename(default, id=8, chargingProfilePurpose="PriorityCharging"), 1, here) is None
    ended = rename(default, validTo=NOON)
    later = rename(default, id=8, validFrom=NOON)
    assert refusal(later, 1, msgspec.structs.replace(HERE, installed=(put(ended),))) is None
    crowd = tuple(put(rename(default, id=100 + n, stackLevel=0)) for n in range(32))
    assert refusal(rename(default, id=8), 1, msgspec.structs.replace(HERE, installed=crowd)) == "TooManyProfiles"


def test_a_discharge_is_seen_wherever_it_hides() -> None:
    assert not discharges(profile(limit(5.0)))
    for hidden in (
        {"limit": -1.0}, {"setpoint": -1.0}, {"setpoint_L3": -1.0}, {"v2xBaseline": -1.0},
        {"v2xFreqWattCurve": [{"frequency": 49.0, "power": -1.0}]}, {"v2xSignalWattCurve": [{"signal": 1, "power": -1.0}]},
    ):  # fmt: skip
        assert discharges(profile(limit(5.0), {"startPeriod": 9, **hidden}))


# --- modes and curves -------------------------------------------------------------------------------------------------
def power(period: dict[str, Any], **around: Any) -> float | None:
    held = [put(profile({"startPeriod": 0, **period}))]
    return profile_power_kw(held, at(around=Surroundings(**around))).setpoint_kw


def test_every_mode_gives_its_setpoint() -> None:
    central = {
        "operationMode": "CentralFrequency",
        "setpoint": 1000.0,
        "v2xSignalWattCurve": VALUES["v2xSignalWattCurve"],
    }
    local = {"operationMode": "LocalFrequency", "v2xBaseline": 1000.0, "v2xFreqWattCurve": VALUES["v2xFreqWattCurve"]}
    assert power(central) == 1.0
    assert power(central, signal=-10) == -4.0
    assert power(central | {"dischargeLimit": -2000.0}, signal=-10) == -2.0
    assert power(central | {"limit": 3000.0}, signal=50) == 3.0
    assert power(local) == 1.0
    assert power(local, frequency_hz=49.5) == -1.0
    assert power(local, frequency_hz=48.0) == -3.0
    assert power({"operationMode": "Idle"}) == 0.0
    assert power({"operationMode": "ExternalSetpoint", "dischargeLimit": -2000.0}, external_kw=-9.0) == -2.0
    assert power({"operationMode": "ExternalSetpoint"}) == 0.0
    assert power({"operationMode": "LocalLoadBalancing"}, load_kw=2.5) == -2.5
    assert power({"operationMode": "ExternalLimits"}) is None
    assert power({"operationMode": "CentralSetpoint", "setpoint": -1000.0, "setpoint_L2": -2000.0}) == -3.0


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-1e4, 1e4)), min_size=1, max_size=20, unique_by=lambda p: p[0]),
    st.floats(-200, 200),
)
def test_a_curve_stays_between_its_points(points: list[tuple[float, float]], x: float) -> None:
    found = interpolated(points, x)
    assert min(y for _, y in points) - 1e-6 <= found <= max(y for _, y in points) + 1e-6
    for known_x, known_y in points:
        assert interpolated(points, known_x) == pytest.approx(known_y, abs=1e-6)


def test_a_step_as_steep_as_numbers_allow_is_no_sum_of_both_ends() -> None:
    assert interpolated([(0.0, 1.5), (5e-324, 0.0)], 5e-324) == 0.0


def test_purposes_stack_as_the_standard_says() -> None:
    def held(purpose: str, watts: float, number: int, evse_id: int = 0) -> InstalledProfile:
        return put(profile(limit(watts), id=number, chargingProfilePurpose=purpose), evse_id)

    default, urgent = held("TxDefaultProfile", 6000.0, 1), held("PriorityCharging", 9000.0, 2)
    outer, sun = held("ChargingStationExternalConstraints", 4000.0, 3), held("LocalGeneration", 3000.0, 4)
    most = held("ChargingStationMaxProfile", 5000.0, 5)
    assert profile_power_kw([default, urgent], at()).upper_kw == 6.0
    assert profile_power_kw([default, urgent], at(is_priority=True)).upper_kw == 9.0
    assert profile_power_kw([default, outer], at()).upper_kw == 4.0
    assert profile_power_kw([default, outer, sun], at()).upper_kw == 7.0
    assert profile_power_kw([default, outer, sun, most], at()).upper_kw == 5.0
    assert profile_power_kw([sun], at()).upper_kw is None


def test_a_bound_on_discharge_and_one_by_charge() -> None:
    giving = put(profile({"startPeriod": 0, "operationMode": "CentralSetpoint", "setpoint": -9000.0}))
    outer = {"startPeriod": 0, "limit": 4000.0, "dischargeLimit": -2000.0}
    bound = put(profile(outer, id=8, chargingProfilePurpose="ChargingStationExternalConstraints"), 0)
    assert profile_power_kw([giving], at()).setpoint_kw == -9.0
    assert profile_power_kw([giving, bound], at()).setpoint_kw == -2.0
    slow = put(profile(limit(9000.0), schedule_limitAtSoC={"soc": 80, "limit": 1000.0}))
    assert profile_power_kw([slow], at(around=Surroundings(soc=0.79))).upper_kw == 9.0
    assert profile_power_kw([slow], at(around=Surroundings(soc=0.80))).upper_kw == 1.0


def test_the_vehicle_chooses_among_schedules() -> None:
    offers = [
        {"id": n, "startSchedule": NOON, "chargingRateUnit": "W", "chargingSchedulePeriod": [limit(1000.0 * n)]}
        for n in (1, 2, 3)
    ]  # fmt: skip
    held = put(profile(chargingSchedule=offers))
    assert refusal(held.profile, 1, HERE) is None
    assert profile_power_kw([held], at()).upper_kw == 1.0
    assert profile_power_kw([msgspec.structs.replace(held, selected=2)], at()).upper_kw == 3.0
    assert profile_power_kw([msgspec.structs.replace(held, selected=9)], at()).upper_kw == 1.0


# --- composite schedules ----------------------------------------------------------------------------------------------
@st.composite
def periods(draw: st.DrawFn) -> list[dict[str, Any]]:
    starts = [0, *sorted(draw(st.sets(st.integers(1, SPAN_S), max_size=3)))]
    made: list[dict[str, Any]] = []
    for start in starts:
        if draw(st.booleans()):
            made.append(limit(float(draw(st.integers(0, 11_000))), start))
        else:
            setpoint = float(draw(st.integers(-11_000, 11_000)))
            made.append({"startPeriod": start, "operationMode": "CentralSetpoint", "setpoint": setpoint})
    return made


@st.composite
def installed(draw: st.DrawFn) -> InstalledProfile:
    purpose = draw(
        st.sampled_from([
            "TxProfile", "TxDefaultProfile", "ChargingStationMaxProfile", "ChargingStationExternalConstraints",
            "LocalGeneration", "PriorityCharging",
        ])
    )  # fmt: skip
    kind = draw(st.sampled_from(["Absolute", "Relative", "Recurring", "Dynamic"]))
    begins = NOON + timedelta(seconds=draw(st.integers(-200, 100)))
    if kind == "Recurring":
        begins -= timedelta(days=draw(st.integers(0, 3)))
    optional: dict[str, Any] = {
        "validFrom": NOON + timedelta(seconds=draw(st.integers(-50, 60))) if draw(st.booleans()) else None,
        "validTo": NOON + timedelta(seconds=draw(st.integers(61, 200))) if draw(st.booleans()) else None,
        "maxOfflineDuration": draw(st.none() | st.integers(0, 100)),
        "recurrencyKind": "Daily" if kind == "Recurring" else None,
    }
    item = profile(
        *draw(periods()), id=draw(st.integers(1, 99)), stackLevel=draw(st.integers(0, 5)), chargingProfilePurpose=purpose,
        chargingProfileKind=kind, schedule_startSchedule=begins if kind in ("Absolute", "Recurring") else None,
        schedule_duration=draw(st.none() | st.integers(1, 150)),
        **{key: value for key, value in optional.items() if value is not None},
    )  # fmt: skip
    return InstalledProfile(profile=item, evse_id=draw(st.sampled_from([0, 1])), installed_at=NOON)


SITUATIONS = st.builds(
    lambda started, offline, priority: at(
        started_at=NOON + timedelta(seconds=started), is_priority=priority,
        offline_since=None if offline is None else NOON - timedelta(seconds=offline),
    ),
    st.integers(-100, 0), st.none() | st.integers(0, 60), st.booleans(),
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(installed(), max_size=5), SITUATIONS)
def test_a_composite_is_the_pointwise_evaluation(held: list[InstalledProfile], running: Running) -> None:
    found = composite(held, running, SPAN_S)
    assert found.duration_s == SPAN_S
    assert [item.offset_s for item in found.slices] == sorted({item.offset_s for item in found.slices})
    assert found.slices[0].offset_s == 0
    for second in range(SPAN_S):
        now = msgspec.structs.replace(running, now=NOON + timedelta(seconds=second))
        wanted = profile_power_kw(held, now)
        told = [item for item in found.slices if item.offset_s <= second][-1].power
        assert msgspec.structs.replace(told, profile_id=wanted.profile_id) == wanted, second


@given(st.lists(installed(), max_size=5), SITUATIONS)
def test_nothing_changes_before_the_next_change(held: list[InstalledProfile], running: Running) -> None:
    lasts = next_change(held, running)
    assert lasts is None or lasts > timedelta(0)
    kept, power = survivors(held, running), profile_power_kw(held, running)
    for second in range(2 * SPAN_S):
        later = msgspec.structs.replace(running, now=running.now + timedelta(seconds=second))
        if lasts is not None and later.now - running.now >= lasts:
            break
        assert survivors(held, later) == kept
        assert profile_power_kw(held, later) == power


def test_the_next_change_is_each_bound_of_a_profile_in_turn() -> None:
    """Known instants, fractions of a second too: a profile's begin, its periods, its end, offline, the next day."""
    held = put(
        profile(
            limit(1.0), limit(2.0, 10), schedule_duration=30, validFrom=NOON + timedelta(seconds=2.5),
            validTo=NOON + timedelta(seconds=40), maxOfflineDuration=35,
        )
    )  # fmt: skip
    offline = NOON
    for now_s, next_s in ((-5.0, 0.0), (0.0, 2.5), (2.5, 10.0), (10.0, 30.0), (30.0, 35.0), (35.0, 40.0)):
        assert next_change([held], at(now_s, offline_since=offline)) == timedelta(seconds=next_s - now_s)
    assert next_change([held], at(40.0, offline_since=offline)) is None
    daily = put(profile(limit(1.0), chargingProfileKind="Recurring", recurrencyKind="Daily"))
    assert next_change([daily], at(3600.0)) == timedelta(hours=23)
    assert next_change([], at()) is None


@settings(max_examples=100)
@given(st.lists(installed(), max_size=5), SITUATIONS, st.integers(0, 11_000))
def test_no_composite_rises_above_the_stations_maximum(
    held: list[InstalledProfile], running: Running, most_w: int
) -> None:
    bound = put(
        profile(limit(float(most_w)), id=500, stackLevel=9, chargingProfilePurpose="ChargingStationMaxProfile"), 0
    )
    for item in composite([*held, bound], running, SPAN_S).slices:
        assert item.power.upper_kw is not None
        assert item.power.upper_kw <= most_w / 1000.0
        assert (item.power.setpoint_kw or 0.0) <= most_w / 1000.0


@given(st.integers(1, 60), st.integers(-11_000, -1), st.integers(0, 5000), st.sampled_from(["2.1", "2.0.1"]))
def test_the_end_of_a_lease_yields_what_lies_under_it(lease_s: int, give_w: int, under_w: int, version: Any) -> None:
    under = put(profile(limit(float(under_w)), id=1, stackLevel=0, chargingProfilePurpose="TxDefaultProfile"), 0)
    period = {"startPeriod": 0, "operationMode": "CentralSetpoint", "setpoint": float(give_w), "limit": 0.0}
    end = NOON + timedelta(seconds=lease_s)
    lease = put(profile(period, stackLevel=9, schedule_duration=lease_s, validTo=end))
    found = composite([under, lease], at(), lease_s + 60)
    assert [item.offset_s for item in found.slices] == [0, lease_s]
    told = composite_fields(found, version, 1, "W", 4.0)["chargingSchedulePeriod"]
    before, after = (item.get("setpoint", item["limit"]) for item in told)
    assert before == pytest.approx(give_w)
    assert after == pytest.approx(under_w)
    assert survivors([under, lease], at(lease_s)) == [under]


def test_a_composite_in_amperes_and_without_any_profile() -> None:
    found = composite([put(profile(limit(6900.0)))], at(), 60)
    told = composite_fields(found, "2.1", 1, "A", 4.0)
    assert told["chargingSchedulePeriod"][0]["limit"] == pytest.approx(10.0)
    msgspec.convert(told, v21.CompositeScheduleType)
    free = composite_fields(composite([], at(), 60), "2.0.1", 0, "W", 4.0)
    assert free["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 4000.0}]
    msgspec.convert(free, v201.CompositeScheduleType)


def test_a_composite_has_bounds() -> None:
    many = [limit(float(n % 7), n * 80) for n in range(1024)]
    daily = put(profile(*many, chargingProfileKind="Recurring", recurrencyKind="Daily"))
    found = composite([daily], at(), 10**9)
    assert len(found.slices) == MAX_PERIODS
    assert found.duration_s < MAX_SPAN_S
    assert composite([put(profile(limit(1.0)))], at(), 10**9).duration_s == MAX_SPAN_S
    with pytest.raises(ValueError, match="duration_s"):
        composite([], at(), 0)


def test_a_fraction_of_a_second_is_rounded_to_its_end() -> None:
    soon = profile(limit(1000.0), schedule_startSchedule=NOON + timedelta(seconds=10.4))
    found = composite([put(soon)], at(0.7), 60)
    assert found.start == NOON + timedelta(seconds=0.7)
    assert [item.offset_s for item in found.slices] == [0, 10]
