"""Protection inside the control cycle: what a transformer and the grid leave of wishes, and what is seen between two cycles."""

import math
from typing import Any

import pytest

from gridtide.control import site
from gridtide.control.dispatch import Override
from gridtide.control.grid_profiles import PROFILES
from gridtide.control.grid_protection import GridSettings
from gridtide.control.peak import PeakSettings
from gridtide.control.protection import ProtectionSettings, is_tighter
from gridtide.control.transformer import Transformer
from gridtide.model.decision import GridPermit, GridSample, MeterSample, Quality, Reason
from tests.unit.builders import LeapingSite, evse_table, fleet_sample, site_settings, snapshot

UNIT = Transformer(rating_kva=400.0, power_factor=1.0)
EVERYBODY = tuple(Override(row, "power", 15.0, math.inf) for row in range(3))


def protected(wishes: tuple[Override, ...] = EVERYBODY, **rules: Any) -> LeapingSite:
    """Three bays that are wished to charge with 15 kW each."""
    settings = site_settings(
        evse_table(3, group=[0, 0, -1]), peak=PeakSettings(mode="off", limit_kw=1000.0), overrides=wishes,
        protection=ProtectionSettings(**rules),
    )  # fmt: skip
    return LeapingSite(settings, fleet_sample(3))


def good(at_s: float, hz: float = 60.0, pu: float = 1.0) -> GridSample:
    return GridSample(at_s, hz, (230.0 * pu,) * 3)


def test_the_rating_bounds_the_import_and_the_cut_is_told() -> None:
    here = protected(site=UNIT).believed(380.0)
    told = here.after(seconds=0.5).decide(380.0)
    assert told.setpoint_kw.sum() == pytest.approx(20.0, abs=0.31)
    assert "max_capacity_reached" in told.events
    assert Reason.TRANSFORMER in told.reason


def test_reactive_power_that_the_meter_tells_takes_its_part() -> None:
    here = protected(site=UNIT).believed(300.0)
    told = here.after(seconds=0.5).decide(300.0, grid=GridSample(here.mono_s, reactive_kvar=240.0))
    assert told.setpoint_kw.sum() == pytest.approx(20.0, abs=0.31)


def test_discharge_earns_no_credit() -> None:
    """390 kW at the meter while 60 kW are given: the transformer would carry 450 kW, so nobody may charge."""
    here = protected(wishes=EVERYBODY[:1], site=UNIT).believed(390.0)
    assert "transformer_overload" not in here.after(seconds=0.5).decide(390.0).events
    here.with_fleet(power_kw=[0.0, -20.0, -20.0])
    told = here.after(seconds=0.5).decide(405.0)
    assert "transformer_overload" in told.events
    assert told.setpoint_kw[0] == 0.0


def test_without_a_trusted_meter_the_worst_building_counts() -> None:
    here = protected(site=UNIT)
    told = here.decide(None)
    assert told.setpoint_kw.sum() == 45.0  # no building is set to be assumed
    assert math.isfinite(here.state.protection.permit.import_kw)


def test_what_cannot_be_seen_gives_nothing_and_charges_on() -> None:
    giving = (Override(0, "power", -15.0, math.inf), Override(1, "power", 15.0, math.inf))
    here = protected(wishes=giving, grid=GridSettings(profile=PROFILES["ieee1547_2018", 60.0])).believed()
    told = here.after(seconds=0.5).decide(400.0)
    assert (told.setpoint_kw[0], told.setpoint_kw[1]) == (0.0, 15.0)
    assert told.reason[0] == Reason.GRID
    told = here.after(seconds=0.5).decide(400.0, grid=good(here.mono_s))
    assert told.setpoint_kw[0] < 0.0


def test_a_trip_stops_everything_and_makes_the_site_idle() -> None:
    here = protected(grid=GridSettings(profile=PROFILES["ieee1547_2018", 60.0])).believed()
    assert here.decide(400.0, grid=good(here.mono_s)).state == "ok"
    told = here.after(seconds=0.1).decide(400.0, grid=good(here.mono_s, 0.0))
    assert (told.state, told.events) == ("idle", ("grid_trip",))
    assert not told.setpoint_kw.any()


@pytest.mark.parametrize(
    ("fields", "acts"),
    [
        ({}, False),
        ({"grid": "lost"}, True),
        ({"grid": "low"}, True),
        ({"pu": 0.45}, True),
        ({"pu": 1.15}, True),
        ({"estop": True}, True),
        ({"meter_kw": 445.0}, True),
        ({"meter_kw": 399.0}, False),
        ({"meter_kw": None}, False),
    ],
)
def test_what_cannot_wait_for_the_next_cycle(fields: dict[str, Any], acts: bool) -> None:
    here = protected(site=UNIT, grid=GridSettings(profile=PROFILES["ieee1547_2018", 60.0])).believed()
    here.decide(380.0, grid=good(here.mono_s))
    here.after(seconds=0.1)
    hz = {"lost": 0.0, "low": 59.4, "good": 60.0}[fields.get("grid", "good")]
    seen = snapshot(
        here.mono_s,
        fields.get("meter_kw", 380.0),
        here.fleet,
        estop=fields.get("estop", False),
        grid=good(here.mono_s, hz, fields.get("pu", 1.0)),
    )
    after, must_act = site.watch(here.state, seen, here.settings)
    assert must_act is acts
    assert (after is here.state) is acts  # the cycle that follows sees it for the first time
    assert after.protection.grid.seen_s == pytest.approx(here.mono_s - (0.1 if acts else 0.0))


def test_an_invalid_sample_counts_as_an_unknown_load_between_cycles() -> None:
    here = protected(site=UNIT).believed()
    seen = snapshot(here.mono_s + 0.1, None, here.fleet, meter=MeterSample(here.mono_s + 0.1, 1e9, Quality.INVALID))
    assert site.watch(here.state, seen, here.settings)[1] is False


@pytest.mark.parametrize(("charge", "discharge", "tighter"), [(0.5, 1.0, True), (1.0, 0.5, True), (1.0, 1.0, False)])
def test_less_of_either_direction_is_tighter(charge: float, discharge: float, tighter: bool) -> None:
    assert is_tighter(GridPermit(True, charge, discharge), GridPermit()) is tighter
