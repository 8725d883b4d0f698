"""A setpoint through any dialect comes back as the same power, and the lease always ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects import Dialect, Setpoint, StationDialect, Translation, translate, underlay_call
from gridtide.wire.ocpp.generated import v21, v201
from gridtide.wire.ocpp.profiles import InstalledProfile, Running, profile_power_kw

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PAIRS: list[tuple[Dialect, Version]] = [
    ("refuse", "2.1"),
    ("refuse", "2.0.1"),
    ("v21_setpoint", "2.1"),
    ("v21_dynamic", "2.1"),
    ("v201_negative_limit", "2.0.1"),
    ("v201_hybrid", "2.0.1"),
]
POWERS_KW = st.floats(-500.0, 500.0)


def delivered(translation: Translation, version: Version, at: datetime) -> list[InstalledProfile]:
    """The profiles a station holds after every call went over the wire."""
    held: dict[int, InstalledProfile] = {}
    for call in translation.calls:
        # The hybrid dialect carries 2.1 shapes over a 2.0.1 connection.
        shape: Version = "2.1" if isinstance(call.payload, v21.SetChargingProfileRequest) else version
        data = codec.encode(shape, call.action, "request", call.payload)
        payload = codec.decode(shape, call.action, "request", data)
        if isinstance(payload, v21.SetChargingProfileRequest | v201.SetChargingProfileRequest):
            profile = payload.chargingProfile
            held[profile.id] = InstalledProfile(profile=profile, evse_id=payload.evseId, installed_at=at)
    return list(held.values())


def station(pair: tuple[Dialect, Version], *, ready: bool = True) -> StationDialect:
    return StationDialect(
        version=pair[1], dialect=pair[0], is_discharge_authorised=ready, is_underlay_accepted=ready, underlay_kw=2.0
    )


def setpoint(power_kw: float, lease_s: int, at: datetime = NOON) -> Setpoint:
    return Setpoint(power_kw=power_kw, lease_s=lease_s, now=at, evse_id=1, profile_id=71, transaction_id="t")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PAIRS), POWERS_KW, st.integers(1, 3600), st.floats(0.0, 7200.0))
def test_power_in_force_is_the_setpoint_for_the_lease_only(
    pair: tuple[Dialect, Version], power_kw: float, lease_s: int, after_s: float
) -> None:
    agreed = station(pair)
    held = delivered(Translation(calls=(underlay_call(agreed, 1),)), pair[1], NOON)
    held += delivered(translate(setpoint(power_kw, lease_s), agreed), pair[1], NOON)
    running = Running(now=NOON + timedelta(seconds=after_s), evse_id=1, transaction_id="t")
    power = profile_power_kw(held, running)
    is_in_force = after_s < lease_s and running.now < NOON + timedelta(seconds=lease_s)
    if not is_in_force or (pair[0] == "refuse" and power_kw < 0.0):
        assert (power.lower_kw, power.upper_kw, power.setpoint_kw) == (0.0, 2.0, None)
    elif power_kw <= -1e-6:
        assert power.setpoint_kw == pytest.approx(power_kw, abs=1e-6)
    elif power_kw >= 0.0:
        assert power.lower_kw == 0.0
        assert power.upper_kw == pytest.approx(power_kw, abs=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PAIRS), POWERS_KW, st.booleans())
def test_nothing_discharges_a_station_that_is_not_ready(
    pair: tuple[Dialect, Version], power_kw: float, is_authorised: bool
) -> None:
    agreed = StationDialect(version=pair[1], dialect=pair[0], is_discharge_authorised=is_authorised)
    held = delivered(translate(setpoint(power_kw, 5), agreed), pair[1], NOON)
    power = profile_power_kw(held, Running(now=NOON, evse_id=1, transaction_id="t"))
    assert power.lower_kw == 0.0
    assert power.setpoint_kw is None


LEASES = st.lists(st.tuples(POWERS_KW, st.integers(0, 20)), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PAIRS), LEASES, st.sets(st.integers(0, 7)), st.integers(0, 40))
def test_losing_messages_never_makes_a_discharge_that_was_not_asked_for(
    pair: tuple[Dialect, Version], leases: list[tuple[float, int]], lost: set[int], at_s: int
) -> None:
    agreed = station(pair)
    held: dict[int, InstalledProfile] = {}
    for number, (power_kw, start_s) in enumerate(sorted(leases, key=lambda lease: lease[1])):
        start = NOON + timedelta(seconds=start_s)
        if number in lost or start_s > at_s:
            continue
        for item in delivered(translate(setpoint(power_kw, 5, start), agreed), pair[1], start):
            held[item.profile.id] = item
    power = profile_power_kw(held.values(), Running(now=NOON + timedelta(seconds=at_s), evse_id=1, transaction_id="t"))
    alive_kw = [kw for kw, start_s in leases if start_s <= at_s < start_s + 5]
    assert power.lower_kw >= min([*alive_kw, 0.0]) - 1e-6
