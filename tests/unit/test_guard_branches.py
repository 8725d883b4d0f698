"""Snapshot in, decision out: one row a case, with the setpoint and the reason that bound it."""

import math
from typing import Any

import numpy as np
import pytest

from gridtide.control import guard
from gridtide.control.dispatch import Override
from gridtide.control.peak import PeakSettings
from gridtide.control.site import Settings
from gridtide.model.decision import Decision, Reason
from gridtide.model.fleet import SiteLimits
from tests.unit.builders import HOUR_S, LeapingSite, evse_table, fleet_sample, site_settings

FOREVER = math.inf
NAN = math.nan
SHAVING = PeakSettings(mode="threshold", limit_kw=300.0, buffer_kw=0.0)
FREE = PeakSettings(mode="off")


def one_bay(table: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **settings: Any) -> Settings:
    """A site with one bay; the wish comes from the peak rule unless an override is set."""
    return site_settings(
        evse_table(1, **(table or {})), SiteLimits(**({"transformer_kw": 1000.0} | (limits or {}))), **settings
    )


def wished(power_kw: float) -> tuple[Override, ...]:
    """A manual wish for the only row."""
    return (Override(0, "power", power_kw, FOREVER),)


def decided(settings: Settings, fleet: dict[str, Any], meter_kw: float | None = 400.0, **fields: Any) -> Decision:
    """One decision of a believed site, six minutes later."""
    here = LeapingSite(settings, fleet_sample(1)).believed().with_fleet(**fleet)
    return here.after(minutes=6).decide(meter_kw, **fields)


GIVING = [
    ({}, {}, -15.0, Reason.MANUAL),
    ({"discharge_kw": 7.0}, {"discharge_limit_kw": 7.0}, -7.0, Reason.MANUAL),
    ({}, {"discharge_limit_kw": 5.0}, -5.0, Reason.MANUAL),
    ({"discharge_kw": 7.0}, {}, -7.0, Reason.RATING),
    ({"discharge_kw": 0.0}, {}, 0.0, Reason.RATING),
    ({}, {"discharge_limit_kw": NAN}, 0.0, Reason.MANUAL),
    ({}, {"may_discharge": False}, 0.0, Reason.CHARGE_ONLY),
    ({}, {"soc": NAN}, 0.0, Reason.SOC_UNKNOWN),
    ({}, {"soc": 1.3}, 0.0, Reason.SOC_UNKNOWN),
    ({}, {"capacity_kwh": NAN}, 0.0, Reason.SOC_UNKNOWN),
    ({}, {"soc": 0.15, "need_soc": NAN}, 0.0, Reason.FLOOR),
    ({}, {"soc": 0.35, "need_soc": NAN}, 0.0, Reason.WINDOW),
    ({}, {"soc": 0.415, "need_soc": NAN}, -11.0, Reason.NEAR_FLOOR),
    ({"storage": True}, {"soc": 0.35, "need_soc": NAN}, -15.0, Reason.MANUAL),
    ({}, {"soc": 0.6, "need_soc": 0.7, "left_s": 3600.0}, 0.0, Reason.DEPARTURE),
    ({}, {"soc": 0.6, "need_soc": 0.7, "left_s": FOREVER}, 0.0, Reason.DEPARTURE),
    ({}, {"soc": 0.6001, "need_soc": 0.6, "left_s": 60.0}, 0.0, Reason.DEPARTURE),
    ({}, {"soc": 0.6001, "need_soc": 0.6, "left_s": FOREVER}, 0.0, Reason.DEPARTURE),
    ({}, {"soc": 0.7, "need_soc": 0.6, "left_s": 60.0}, -15.0, Reason.MANUAL),
    ({}, {"temperature_c": 80.0}, -11.0, Reason.WARM),
    ({}, {"temperature_c": 90.0}, 0.0, Reason.WARM),
    ({}, {"age_s": 2.1}, 0.0, Reason.SILENT),
    ({}, {"fault": True}, 0.0, Reason.FAULT),
    ({}, {"connected": False}, 0.0, Reason.NO_VEHICLE),
    ({"ramp_kw_per_s": 4.0}, {}, -4.0, Reason.RAMP),  # its second cycle
    ({"least_kw": 1.4, "step_kw": 0.7}, {}, -14.7, Reason.MANUAL),
    ({"least_kw": 16.0, "step_kw": 1.0}, {}, 0.0, Reason.LEAST_CURRENT),
]  # fmt: skip


@pytest.mark.parametrize(("table", "fleet", "setpoint_kw", "reason"), GIVING)
def test_what_bounds_a_wish_to_give(
    table: dict[str, Any], fleet: dict[str, Any], setpoint_kw: float, reason: Reason
) -> None:
    told = decided(one_bay(table, overrides=wished(-15.0), peak=FREE), fleet)
    assert told.setpoint_kw[0] == pytest.approx(setpoint_kw, abs=2e-3)
    assert Reason(told.reason[0]) is reason


CHARGING = [
    ({}, {}, {}, 15.0, Reason.MANUAL),
    ({}, {"charge_limit_kw": 9.0}, {}, 9.0, Reason.MANUAL),
    ({}, {"temperature_c": 80.0}, {}, 11.0, Reason.WARM),
    ({}, {"soc": 1.0}, {}, 0.0, Reason.REACHED),
    ({}, {}, {"transformer_kw": 410.0}, 10.0, Reason.TRANSFORMER),
    ({}, {}, {"transformer_kw": NAN}, 0.0, Reason.TRANSFORMER),
    ({"group": 0}, {}, {"group_kw": (8.0,)}, 8.0, Reason.GROUP),
    ({}, {}, {"phase_a": 20.0}, 13.8, Reason.PHASE),
    ({}, {}, {"phase_a": NAN}, 0.0, Reason.PHASE),
    ({"least_kw": 4.14, "step_kw": 0.69}, {}, {"transformer_kw": 404.0}, 0.0, Reason.TRANSFORMER),
]  # fmt: skip


@pytest.mark.parametrize(("table", "fleet", "limits", "setpoint_kw", "reason"), CHARGING)
def test_what_bounds_a_wish_to_charge(
    table: dict[str, Any], fleet: dict[str, Any], limits: dict[str, Any], setpoint_kw: float, reason: Reason
) -> None:
    told = decided(one_bay(table, limits, overrides=wished(15.0), peak=FREE), fleet)
    assert told.setpoint_kw[0] == pytest.approx(setpoint_kw, abs=2e-3)
    assert Reason(told.reason[0]) is reason


def test_a_full_connection_is_told() -> None:
    told = decided(one_bay(limits={"transformer_kw": 410.0}, overrides=wished(15.0), peak=FREE), {})
    assert "max_capacity_reached" in told.events


@pytest.mark.parametrize(("shed_kw", "setpoint_kw"), [(None, 15.0), (408.0, 8.0), (0.0, 0.0), (-5.0, 0.0), (NAN, 0.0)])
def test_load_shedding_caps_the_import(shed_kw: float | None, setpoint_kw: float) -> None:
    told = decided(one_bay(overrides=wished(15.0), peak=FREE), {}, load_shed_kw=shed_kw)
    assert told.setpoint_kw[0] == pytest.approx(setpoint_kw, abs=2e-3)
    assert (Reason(told.reason[0]) is Reason.LOAD_SHED) is (shed_kw is not None)


@pytest.mark.parametrize(("meter_kw", "export_kw", "setpoint_kw"), [
    (100.0, 0.0, -15.0), (20.0, 0.0, -10.0), (10.0, 0.0, 0.0), (20.0, 30.0, -15.0), (-25.0, 30.0, -5.0),
])  # fmt: skip
def test_the_planned_import_stays_at_the_margin(meter_kw: float, export_kw: float, setpoint_kw: float) -> None:
    here = LeapingSite(
        one_bay(limits={"export_kw": export_kw}, overrides=wished(-15.0), peak=FREE), fleet_sample(1, power_kw=0.0)
    )
    told = here.believed(meter_kw).decide(meter_kw)
    assert told.setpoint_kw[0] == pytest.approx(setpoint_kw, abs=0.35)  # the lowest of three wiggling samples counts
    assert (Reason(told.reason[0]) is Reason.EXPORT_MARGIN) is (setpoint_kw != -15.0)


def test_reverse_power_holds_for_ten_seconds() -> None:
    here = LeapingSite(one_bay(overrides=wished(-15.0), peak=FREE), fleet_sample(1)).believed()
    assert here.decide(400.0).setpoint_kw[0] < 0.0
    told = here.after(seconds=0.5).decide(-3.0)
    assert (told.setpoint_kw[0], told.events) == (0.0, ("reverse_power",))
    assert here.after(seconds=0.5).decide(-3.0).events == ()  # told once
    for _ in range(19):
        told = here.after(seconds=0.5).decide(400.0)
        assert told.setpoint_kw[0] == 0.0
    assert Reason(told.reason[0]) is Reason.REVERSE_POWER
    here.after(seconds=0.5).decide(401.0)
    assert here.after(seconds=0.5).decide(400.0).setpoint_kw[0] < 0.0


def test_without_a_meter_only_the_static_cap_is_left() -> None:
    here = LeapingSite(
        one_bay(limits={"static_building_kw": 990.0}, overrides=wished(15.0), peak=FREE), fleet_sample(1)
    )
    told = here.believed().after(minutes=6).decide(None)
    assert (told.state, told.setpoint_kw[0]) == ("idle", pytest.approx(10.0))
    assert Reason(told.reason[0]) is Reason.METER
    giving = LeapingSite(one_bay(overrides=wished(-15.0), peak=FREE), fleet_sample(1)).believed().after(minutes=6)
    told = giving.decide(None)
    assert (told.setpoint_kw[0], Reason(told.reason[0])) == (0.0, Reason.METER)


def test_a_silent_station_keeps_its_power_reserved() -> None:
    settings = site_settings(
        evse_table(2, fallback_kw=4.0), SiteLimits(transformer_kw=410.0), peak=FREE,
        overrides=(Override(0, "charge", 0.0, FOREVER),),
    )  # fmt: skip
    here = LeapingSite(settings, fleet_sample(2, age_s=[0.0, 60.0])).believed(400.0)
    assert here.decide(400.0).setpoint_kw == pytest.approx([6.0, 0.0], abs=0.35)
    here.with_fleet(age_s=[0.0, 4.0])  # so lately that its discharge lease may still run
    assert here.after(seconds=0.5).decide(400.0).setpoint_kw == pytest.approx([0.0, 0.0])
    here.with_fleet(connected=[True, False])  # who is unplugged may come back to a station that hears nothing
    assert here.after(seconds=0.5).decide(400.0).setpoint_kw[0] == pytest.approx(6.0, abs=0.35)


def test_a_report_beyond_the_rating_hides_no_load() -> None:
    here = LeapingSite(
        site_settings(
            evse_table(2), SiteLimits(transformer_kw=410.0), peak=FREE, overrides=(Override(0, "charge", 0.0, FOREVER),)
        ),
        fleet_sample(2, power_kw=[0.0, 5000.0]),
    ).believed(400.0)
    assert here.decide(400.0).setpoint_kw[0] == 0.0  # unknown power: it may give up to 22 kW unseen


def test_a_row_of_unknown_power_earns_the_others_nothing() -> None:
    settings = site_settings(evse_table(2), peak=FREE, overrides=(Override(0, "power", -22.0, FOREVER),))
    here = LeapingSite(settings, fleet_sample(2, power_kw=[0.0, 12.0], soc=0.9, need_soc=0.5)).believed(40.0)
    known = here.decide(40.0).setpoint_kw[0]
    here.with_fleet(power_kw=[0.0, NAN])
    assert here.after(seconds=0.5).decide(40.1).setpoint_kw[0] > known


def test_holding_a_direction() -> None:
    here = LeapingSite(one_bay({"hold_s": 60.0}, overrides=wished(-15.0), peak=FREE), fleet_sample(1)).believed()
    assert here.decide(400.0).setpoint_kw[0] == -15.0
    here.settings = one_bay({"hold_s": 60.0}, overrides=wished(15.0), peak=FREE)
    told = here.after(seconds=30.0).decide(401.0)
    assert (told.setpoint_kw[0], Reason(told.reason[0])) == (0.0, Reason.HOLD)
    assert here.after(seconds=31.0).decide(402.0).setpoint_kw[0] == 15.0


@pytest.mark.parametrize("power_kw", [NAN, math.inf, -math.inf])
def test_a_wish_that_is_no_number_rests(power_kw: float) -> None:
    assert decided(one_bay(overrides=wished(power_kw), peak=FREE), {}).setpoint_kw[0] == 0.0


def test_a_manual_wish_beyond_the_rating_asks_nothing_of_the_others() -> None:
    """5 MW wished of one bay is 22 kW of load, not a peak that the rest must shave."""
    settings = site_settings(evse_table(3), peak=SHAVING, overrides=(Override(0, "power", 5000.0, FOREVER),))
    told = LeapingSite(settings, fleet_sample(3)).believed(200.0).decide(200.0)
    assert told.setpoint_kw == pytest.approx([22.0, 0.0, 0.0])


def test_the_emergency_stop_is_told_once_and_cleared_by_a_person() -> None:
    here = LeapingSite(one_bay(overrides=wished(15.0), peak=FREE), fleet_sample(1)).believed()
    assert here.decide(400.0, estop=True).events == ("estop",)
    told = here.after(minutes=6).decide(400.1)
    assert (told.state, told.events, told.setpoint_kw[0]) == ("estop", (), 0.0)


def test_drivers_go_first_then_the_peak_and_the_most_idle_gives() -> None:
    settings = site_settings(evse_table(3), peak=SHAVING)
    fleet = fleet_sample(
        3, soc=[0.5, 0.78, 0.78], need_soc=[0.8, 0.5, 0.5], left_s=[0.9 * HOUR_S, 8 * HOUR_S, 8 * HOUR_S]
    )
    told = LeapingSite(settings, fleet).believed(310.0).decide(310.0)
    assert [Reason(value) for value in told.reason] == [Reason.DRIVER_FIRST, Reason.SHAVING, Reason.SHAVING]
    assert told.setpoint_kw[0] == 22.0
    assert told.setpoint_kw.sum() == pytest.approx(-10.0, abs=0.3)


def test_one_bad_report_does_not_stop_the_others() -> None:
    settings = site_settings(evse_table(3), peak=PeakSettings(mode="threshold", limit_kw=500.0, buffer_kw=0.0))
    fleet = fleet_sample(3, soc=[NAN, 0.3, 0.3], need_kwh=[math.inf, NAN, NAN], need_soc=[NAN, 0.8, 0.8])
    told = LeapingSite(settings, fleet).believed(480.0).decide(480.0)
    assert np.all(np.isfinite(told.wish_kw))
    assert told.setpoint_kw[1:].sum() > 15.0


def test_what_vehicles_may_be_giving_counts_whom_nobody_sees() -> None:
    """Told: 5 kW. Silent for a second, its power not a number: its rating. Silent for longer than a lease: nothing any more."""
    table = evse_table(5, discharge_kw=[22.0, 7.0, 9.0, 22.0, 22.0])
    fleet = fleet_sample(
        5,
        power_kw=[-5.0, NAN, NAN, 8.0, NAN],
        age_s=[0.0, 1.0, 11.0, 0.0, 1.0],
        connected=[True, True, True, True, False],
    )
    assert guard.look(fleet, table, guard.GuardSettings()).given_kw == 12.0


def test_the_first_direction_of_a_vehicle_that_comes_is_held_as_any_other() -> None:
    """And what flowed before, perhaps into the same vehicle before a restart, is not forgotten."""
    settings = one_bay({"hold_s": 60.0}, overrides=wished(-10.0), peak=FREE)
    here = LeapingSite(settings, fleet_sample(1)).believed()
    assert here.after(minutes=2).decide(400.0).setpoint_kw[0] == -10.0
    here.with_fleet(connected=False).after(seconds=1.0).decide(400.0)
    here.with_fleet(connected=True)
    here.settings = one_bay({"hold_s": 60.0}, overrides=wished(0.0), peak=FREE)
    assert here.after(seconds=1.0).decide(400.0).setpoint_kw[0] == 0.0
    here.settings = settings
    assert here.after(seconds=90.0).decide(400.0).setpoint_kw[0] == -10.0
    here.settings = one_bay({"hold_s": 60.0}, overrides=wished(10.0), peak=FREE)
    assert Reason(here.after(seconds=40.0).decide(400.0).reason[0]) is Reason.HOLD
    assert here.after(seconds=21.0).decide(400.0).setpoint_kw[0] == 10.0


def test_a_bay_that_is_not_heard_for_a_moment_does_not_forget_its_direction() -> None:
    settings = one_bay({"hold_s": 60.0}, overrides=wished(10.0), peak=FREE)
    here = LeapingSite(settings, fleet_sample(1)).believed()
    assert here.decide(400.0).setpoint_kw[0] == 10.0
    here.with_fleet(connected=False).after(seconds=1.0).decide(400.0)
    here.with_fleet(connected=True)
    here.settings = one_bay({"hold_s": 60.0}, overrides=wished(-10.0), peak=FREE)
    assert Reason(here.after(seconds=20.0).decide(400.0).reason[0]) is Reason.HOLD
    assert here.after(seconds=45.0).decide(400.0).setpoint_kw[0] == -10.0
