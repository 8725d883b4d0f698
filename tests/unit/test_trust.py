"""What is believed of single rows: told charge against counted energy, derates, contactors, registers, wear."""

from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control import trust, wear
from gridtide.control.trust import Note, TrustSettings, TrustState
from gridtide.control.wear import WearSettings
from gridtide.model.fleet import FleetSample
from tests.unit.builders import column, evse_table, fleet_sample

STEP_S = 0.5


class Watched:
    """Rows that are looked at every half second; `run` lets time pass, told columns stay until they are told anew."""

    def __init__(self, size: int = 1, settings: TrustSettings | None = None, **columns: Any) -> None:
        self.table = evse_table(size)
        self.settings = settings or TrustSettings()
        self.state: TrustState = trust.fresh(size)
        self.fleet: FleetSample = fleet_sample(size, **columns)
        self.now_s = 1_000.0
        self.leaves_s = self.now_s + 8 * 3600.0
        self.notes: list[Note] = []
        self.believed: FleetSample = self.fleet
        self.asked_kw = np.zeros(self.fleet.size)

    def tell(self, **columns: Any) -> "Watched":
        kinds = structs.asdict(self.fleet)
        found = {name: column(value, self.fleet.size, kinds[name].dtype) for name, value in columns.items()}
        self.fleet = structs.replace(self.fleet, **found)
        return self

    def run(
        self, seconds: float = STEP_S, soc_per_s: float = 0.0, kwh_per_s: float = 0.0, step_s: float = STEP_S
    ) -> "Watched":
        for _ in range(round(seconds / step_s)):
            self.now_s += step_s
            self.tell(soc=self.fleet.soc + soc_per_s * step_s, left_s=self.leaves_s - self.now_s)
            self.tell(register_kwh=self.fleet.register_kwh + kwh_per_s * step_s)
            self.state, self.believed, found = trust.step(
                self.state, self.fleet, self.now_s, self.table, self.settings, self.asked_kw
            )
            self.notes += found
        return self

    @property
    def codes(self) -> list[str]:
        return [note.code for note in self.notes]

    @property
    def may_give(self) -> bool:
        return bool(self.believed.may_discharge[0])


CHARGE_PER_S = 22.0 * 0.95 / 60.0 / 3600.0
"""Change of a 60 kWh battery's charge at 22 kW."""


# --- FT26: the told charge ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("jump", "believed"), [(0.20, 0.70), (-0.20, 0.50), (0.06, 0.70), (-0.06, 0.64)])
def test_a_jump_is_the_lower_of_the_two_at_once_and_latched_within_ten_seconds(jump: float, believed: float) -> None:
    site = Watched().run(20.0).tell(soc=0.70 + jump).run()
    assert site.believed.soc[0] == pytest.approx(believed, abs=1e-3)
    assert not site.may_give
    assert site.codes == []
    site.run(9.0)
    assert site.codes == ["soc_implausible"]
    site.tell(soc=0.70).run(60.0)
    assert not site.may_give, "latched until it leaves"
    site.tell(connected=False).run().tell(connected=True).run()
    assert site.may_give


def test_a_moment_of_nonsense_costs_that_moment() -> None:
    site = Watched().run(20.0).tell(soc=0.95).run(1.0)
    assert not site.may_give
    site.tell(soc=0.70).run(60.0)
    assert site.may_give
    assert site.codes == []


def test_a_small_jump_is_a_rounding_vehicle() -> None:
    site = Watched().run(20.0).tell(soc=0.74).run(60.0)
    assert site.may_give
    assert site.believed.soc[0] == 0.74


@pytest.mark.parametrize("power_kw", [22.0, -22.0])
def test_a_charge_that_stands_still_while_energy_flows(power_kw: float) -> None:
    site = Watched(power_kw=power_kw).run(20.0)
    hours = 0.05 * 60.0 / (22.0 * 0.95 if power_kw > 0.0 else 22.0 / 0.95)
    site.run(hours * 3600.0 - 60.0)
    assert site.may_give
    site.run(60.0)
    assert not site.may_give
    assert site.codes == ["soc_implausible"]
    assert site.believed.soc[0] <= 0.70
    if power_kw < 0.0:
        assert site.believed.soc[0] == pytest.approx(0.65, abs=0.004)


@pytest.mark.parametrize("told", [1.3, -0.2, np.inf, -np.inf])
def test_an_impossible_charge_is_replaced_by_the_counted_one(told: float) -> None:
    site = Watched().run(20.0).tell(soc=told).run()
    assert site.believed.soc[0] == pytest.approx(0.70, abs=1e-3)
    assert not site.may_give
    assert site.run(10.0).codes == ["soc_implausible"]


def test_an_impossible_charge_from_the_beginning_is_not_known() -> None:
    site = Watched(soc=1.7).run(5.0)
    # Of a charge that nobody knows the guard gives nothing, and says so.
    assert np.isnan(site.believed.soc[0])


@pytest.mark.parametrize("wrong_by", [0.85, 1.15])
@pytest.mark.parametrize("step_soc", [0.0, 0.01])
def test_an_honest_vehicle_with_an_old_battery_or_whole_percents_is_believed(wrong_by: float, step_soc: float) -> None:
    """From 30 to 95 % and back, with 15 % less or more capacity than told, and a charge told in whole percents."""
    site, true = Watched(soc=0.30), 0.30
    for sign, power_kw in ((1.0, 22.0), (-1.0, -22.0)):
        site.tell(power_kw=power_kw)
        per_s = sign * CHARGE_PER_S / wrong_by * (1.0 if sign > 0 else 1.0 / 0.95**2)
        for _ in range(2_000):
            true += per_s * 20.0
            site.tell(soc=round(true / step_soc) * step_soc if step_soc else true).run(20.0, step_s=20.0)
            if not 0.25 < true < 0.95:
                break
    assert site.codes == []
    assert site.may_give


def test_own_use_of_a_resting_vehicle_is_not_counted_as_charge() -> None:
    site = Watched(power_kw=0.4)
    site.run(86_400.0, step_s=60.0)
    assert site.codes == []
    assert site.may_give


def test_zero_at_the_plug_is_not_a_charge_yet() -> None:
    site = Watched(soc=0.0).run(20.0).tell(soc=0.55).run(60.0)
    assert site.may_give
    assert site.codes == []


@pytest.mark.parametrize("silent_s", [11.0, 30.0, 300.0])
def test_a_silence_hides_no_jump_that_its_energy_cannot_explain(silent_s: float) -> None:
    """22 kW for five minutes are 3 % of 60 kWh."""
    site = Watched(power_kw=0.0).run(20.0).tell(age_s=60.0).run(silent_s).tell(age_s=0.0, soc=0.55).run()
    assert not site.may_give
    site.run(9.0)
    assert site.codes == ["soc_implausible"]


@pytest.mark.parametrize("power_kw", [22.0, -22.0])
def test_what_may_have_flowed_in_a_silence_is_believed(power_kw: float) -> None:
    """Six silences of ten minutes, each with the most that can flow, told at once when it ends; the count goes on from there."""
    site, moved = Watched(power_kw=0.0).run(20.0), power_kw * (0.95 if power_kw > 0.0 else 1.0 / 0.95) / 6.0 / 60.0
    for _ in range(6):
        site.tell(age_s=60.0).run(600.0, step_s=10.0)
        assert site.may_give
        site.tell(age_s=0.0, soc=site.fleet.soc + moved).run(20.0)
        assert site.may_give
        moved = -moved
    assert site.codes == []
    assert not site.tell(soc=site.fleet.soc + 0.06).run().may_give


def test_a_vehicle_of_unknown_capacity_is_not_doubted_after_a_silence() -> None:
    site = (
        Watched(power_kw=0.0, capacity_kwh=np.nan)
        .run(20.0)
        .tell(age_s=60.0)
        .run(30.0)
        .tell(age_s=0.0, soc=0.45)
        .run(30.0)
    )
    assert site.codes == []


def test_a_vehicle_that_follows_another_without_a_gap_is_another() -> None:
    site = Watched().run(20.0)
    site.leaves_s += 3600.0
    site.tell(soc=0.31).run(30.0)
    assert site.may_give
    assert site.believed.soc[0] == 0.31
    assert site.codes == []


# --- FT27: derates --------------------------------------------------------------------------------------------------
def test_a_derate_is_followed_down_at_once_and_up_after_a_minute() -> None:
    site = Watched(charge_limit_kw=22.0, discharge_limit_kw=22.0, temperature_c=40.0).run(5.0)
    site.tell(charge_limit_kw=7.0, discharge_limit_kw=3.0, temperature_c=82.0).run()
    assert (site.believed.charge_limit_kw[0], site.believed.discharge_limit_kw[0]) == (7.0, 3.0)
    assert site.believed.temperature_c[0] == 82.0
    site.tell(charge_limit_kw=22.0, discharge_limit_kw=22.0, temperature_c=60.0).run(59.0)
    assert (site.believed.charge_limit_kw[0], site.believed.discharge_limit_kw[0]) == (7.0, 3.0)
    assert site.believed.temperature_c[0] == 82.0
    site.run(2.0)
    assert (site.believed.charge_limit_kw[0], site.believed.discharge_limit_kw[0]) == (22.0, 22.0)
    assert site.believed.temperature_c[0] == 60.0


def test_a_dip_begins_the_minute_anew() -> None:
    site = Watched(discharge_limit_kw=3.0).run(5.0).tell(discharge_limit_kw=22.0).run(50.0)
    site.tell(discharge_limit_kw=2.0).run().tell(discharge_limit_kw=22.0).run(50.0)
    assert site.believed.discharge_limit_kw[0] == 2.0


def test_a_sensor_that_falls_silent_stays_as_warm_as_it_was() -> None:
    site = Watched(temperature_c=80.0).run(5.0).tell(temperature_c=np.nan).run(300.0)
    assert site.believed.temperature_c[0] == 80.0


def test_the_next_vehicle_is_not_held_to_the_last_ones_limits() -> None:
    site = Watched(charge_limit_kw=7.0).run(5.0).tell(connected=False).run().tell(connected=True, charge_limit_kw=22.0)
    assert site.run().believed.charge_limit_kw[0] == 22.0


# --- FT28: contactors -----------------------------------------------------------------------------------------------
def test_power_through_an_open_contactor_is_load_at_once_and_a_latched_fault_within_a_second() -> None:
    site = Watched(power_kw=9.0).run(20.0).tell(connected=False).run()
    site.tell(power_kw=9.0).run()
    assert site.believed.fault[0]
    assert site.believed.power_kw[0] == 0.0, "so that it stays in the building's load"
    assert site.codes == ["contactor_welded"]
    site.tell(power_kw=0.0, connected=True).run(600.0)
    assert site.believed.fault[0]
    assert not site.may_give
    assert site.codes == ["contactor_welded"]
    assert "welded" in trust.words(site.state, 0)
    site.state = trust.with_welds(site.state, np.array([False]))
    assert not site.run().believed.fault[0]


def test_a_report_from_before_the_end_is_no_weld() -> None:
    site = Watched(power_kw=9.0).run(20.0).tell(connected=False, power_kw=9.0)
    for age_s in (0.1, 0.6, 1.1, 1.6, 2.1):
        site.tell(age_s=age_s).run()
        assert not site.believed.fault[0]
    assert site.codes == []


def test_one_odd_sample_long_after_opening_excludes_but_does_not_latch() -> None:
    site = Watched(connected=False).run(20.0).tell(power_kw=2.0).run()
    assert site.believed.fault[0]
    site.tell(power_kw=0.0).run(5.0)
    assert not site.believed.fault[0]
    assert site.codes == []
    site.tell(power_kw=-2.0).run(1.0)
    assert site.codes == ["contactor_welded"]


@pytest.mark.parametrize("power_kw", [0.4, -0.4, np.nan, np.inf])
def test_a_little_standby_or_no_number_is_no_weld(power_kw: float) -> None:
    site = Watched().run(5.0).tell(connected=False, power_kw=power_kw).run(600.0)
    assert not site.believed.fault[0]


# --- AT13: register against power -----------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.2, 10.0])
def test_a_register_that_does_not_follow_the_power_stops_discharge(scale: float) -> None:
    site = Watched(power_kw=-11.0)
    site.tell(register_kwh=400.0)
    rate = -11.0 / 3600.0
    site.run(1200.0, soc_per_s=rate / 0.95 / 60.0, kwh_per_s=rate, step_s=4.0)
    assert site.may_give
    site.run(1200.0, soc_per_s=rate / 0.95 / 60.0, kwh_per_s=rate * scale, step_s=4.0)
    assert site.codes == ["energy_mismatch"]
    assert not site.may_give


@pytest.mark.parametrize("scale", [0.97, 1.0, 1.03])
def test_a_meter_within_its_class_is_believed(scale: float) -> None:
    site = Watched(power_kw=22.0, soc=0.1)
    site.tell(register_kwh=400.0)
    site.run(7200.0, soc_per_s=CHARGE_PER_S, kwh_per_s=scale * 22.0 / 3600.0, step_s=4.0)
    assert site.codes == []
    assert site.may_give


def test_without_a_register_nothing_is_compared() -> None:
    site = Watched(power_kw=11.0, soc=0.1)
    assert site.run(3600.0, soc_per_s=CHARGE_PER_S / 2.0, step_s=4.0).codes == []


# --- DS9: wear ------------------------------------------------------------------------------------------------------
def test_when_the_days_budget_is_used_a_vehicle_keeps_its_mode_until_the_next_day() -> None:
    settings = TrustSettings(wear=WearSettings(operations_per_day=3, turns_per_day=99))
    site = Watched(settings=settings).run(5.0)
    for _ in range(2):
        site.tell(power_kw=5.0).run(5.0).tell(power_kw=0.0).run(5.0)
    assert site.may_give
    site.tell(power_kw=-5.0).run(5.0)
    assert site.may_give, "it gives, and goes on giving"
    assert site.codes == ["contactor_limit"]
    site.tell(power_kw=0.0).run(5.0)
    assert not site.may_give
    assert "today" in trust.words(site.state, 0)
    site.state = structs.replace(site.state, wear=structs.replace(site.state.wear, day_left_s=1.0))
    assert site.run(5.0).may_give
    assert site.codes == ["contactor_limit"]


def test_turns_between_charging_and_giving_are_counted_and_noise_is_not() -> None:
    state = wear.fresh(1)
    for power_kw in (0.0, 5.0, 0.3, 0.45, 0.3, -5.0, np.nan, -5.0, 0.1, -0.1, 5.0):
        state, _ = wear.step(state, np.array([power_kw]), 0.5, WearSettings())
    assert state.turns[0] == 2
    assert state.operations[0] == 2


def test_words_say_nothing_where_nothing_speaks_against_a_row() -> None:
    site = Watched().run(20.0)
    assert trust.words(site.state, 0) == ""
    site.tell(soc=0.95).run()
    assert "being checked" in trust.words(site.state, 0)
    site.run(10.0)
    assert "does not fit" in trust.words(site.state, 0)
    assert trust.words(site.tell(connected=False).run().state, 0) == ""


# --- asked to give, and nothing comes -------------------------------------------------------------------------------------
def asked(kw: float, **columns: Any) -> Watched:
    """A vehicle that is asked for `kw` and tells what `columns` say."""
    made = Watched(power_kw=0.0, **columns)
    made.asked_kw[:] = kw
    return made


def test_a_vehicle_that_gives_nothing_is_left_alone_for_half_an_hour_and_tried_again() -> None:
    made = asked(-11.0)
    made.run(60.0)
    assert made.may_give
    made.run(2.0)
    assert not made.may_give
    assert made.codes == ["vehicle_not_following"]
    assert "gave nothing" in trust.words(made.state, 0)
    made.asked_kw[:] = 0.0
    made.run(1_795.0)
    assert not made.may_give
    made.run(10.0)
    assert made.may_give
    assert trust.words(made.state, 0) == ""


@pytest.mark.parametrize(
    ("kw", "columns"),
    [(-11.0, {"power_kw": -3.0}), (11.0, {}), (0.0, {}), (-11.0, {"age_s": 10.0}), (-11.0, {"power_kw": np.nan})],
    ids=["gives less", "charges", "rests", "silent", "power unknown"],
)
def test_who_gives_or_was_not_asked_or_is_not_heard_is_not_judged(kw: float, columns: dict[str, float]) -> None:
    made = asked(kw)
    made.tell(**columns)
    made.run(300.0)
    assert "vehicle_not_following" not in made.codes


def test_the_next_vehicle_is_asked_afresh_and_a_moment_of_discharge_begins_the_minute_anew() -> None:
    made = asked(-11.0).run(50.0)
    made.tell(power_kw=-11.0).run(1.0)
    made.tell(power_kw=0.0).run(50.0)
    assert made.may_give
    made.run(15.0)
    assert not made.may_give
    made.tell(connected=False).run(1.0)
    made.tell(connected=True).run(1.0)
    assert made.may_give
