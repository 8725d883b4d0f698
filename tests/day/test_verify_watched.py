"""What the rows of grid, transformer, evidence, contactor and loop demand beyond the invariants (FT23 to FT34)."""

import numpy as np
import pytest
from msgspec import structs

from gridtide.control.grid_profiles import ENTER_DELAY_S, profile_of
from gridtide.run.verify import case as cases
from gridtide.run.verify.campaign import HEALED_S
from gridtide.run.verify.faults import BY_ID, CATALOGUE, Planned, rests, schedule
from gridtide.run.verify.invariants import NOTHING_KW
from gridtide.run.verify.rig import TICK_S, Rig
from tests.day.test_verify_faults import ONSET_S, RATED_KW, STRICT, planned, site_for
from tests.day.verify_kit import Shown, giving_case, show, stay

DEFAULT = profile_of("default", 50.0)
LEAVES = [fault.id for fault in CATALOGUE if fault.rests == "always"]


# --- FT23, FT24: leaving the grid and the way back ---------------------------------------------------------------------
@pytest.mark.parametrize("fault_id", ["FT23c", "FT24"])
def test_who_left_the_grid_is_back_after_five_minutes_and_no_sooner(fault_id: str) -> None:
    item = Planned(fault_id, ONSET_S, 5.0)
    back_s = ONSET_S + 5.0 + ENTER_DELAY_S
    run = show(site_for(BY_ID[fault_id]), [item], back_s + HEALED_S + 5.0)
    assert run.broken == set()
    assert all(not tick.power_kw.any() for tick in run.between(ONSET_S + 1.1, back_s - 0.1))
    assert (run.ticks[-1].power_kw < -RATED_KW + 0.1).all()
    assert {"grid_trip", "grid_returned"} <= run.told()


def test_who_comes_back_too_early_is_seen() -> None:
    """A profile that waits for two minutes only, where five are owed: the check of the wait can fail."""
    hasty = structs.replace(DEFAULT, enter_delay_s=120.0, enter_ramp_s=0.0)
    run = Owed(cases.watched(giving_case(), hasty, rating_share=0.65), [Planned("FT24", ONSET_S, 5.0)], ONSET_S + 150.0)
    run.play()
    assert run.broken == {"I8"}
    assert "too early" in run.invariants.violations[0].what


class Owed(Shown):
    """A run that owes five minutes, whatever the site's profile says."""

    def play(self) -> None:
        from gridtide.run.simloop import run_sim

        self._rules = structs.replace(DEFAULT, enter_delay_s=ENTER_DELAY_S)
        run_sim(self.go(), seed=1)


@pytest.mark.parametrize(("fault_id", "charges"), [("FT23a", False), ("FT23b", True)])
def test_the_default_profile_stays_and_stops_only_what_does_harm(fault_id: str, charges: bool) -> None:
    """Above the window nobody gives and below it nobody charges; when it is over it goes on at once."""
    fault = BY_ID[fault_id]
    case = site_for(structs.replace(fault, watched=False))
    item = planned(fault)
    run = show(cases.watched(case, DEFAULT, rating_share=0.65), [item], ONSET_S + item.lasts_s + 8.0)
    assert run.broken == set()
    for tick in run.between(ONSET_S + fault.t_f_s, ONSET_S + item.lasts_s):
        assert (tick.power_kw < NOTHING_KW).all() if charges else (tick.power_kw > -NOTHING_KW).all()
    assert "grid_alarm" in run.told()
    assert "grid_trip" not in run.told()
    assert (np.abs(run.ticks[-1].power_kw) > RATED_KW - 0.1).all()


@pytest.mark.parametrize("name", cases.PROFILES)
@pytest.mark.parametrize("fault_id", LEAVES)
def test_every_profile_leaves_in_time(fault_id: str, name: tuple[str, float]) -> None:
    case = cases.watched(giving_case(), profile_of(*name), rating_share=0.65)
    run = show(case, [Planned(fault_id, ONSET_S, 5.0, -1, 3)], ONSET_S + 8.0)
    assert run.broken == set()
    assert (run.at(ONSET_S - 1.0).power_kw < -RATED_KW + 0.1).all()
    assert not run.at(ONSET_S + 4.0).power_kw.any()
    assert "grid_trip" in run.told()


def test_a_share_of_the_seeds_watches_its_grid_and_only_those_lose_it() -> None:
    watched = [seed for seed in range(400) if cases.profile(seed) is not None]
    assert 70 < len(watched) < 130
    assert {cases.profile(seed) for seed in watched} == {profile_of(*name) for name in cases.PROFILES}
    for seed in range(400):
        rules = cases.profile(seed)
        found = [BY_ID[item.id] for item in schedule(seed, 5, 90.0, 1500.0)]
        assert rules is not None or not any(fault.watched for fault in found)
        assert rules is None or sum(rests(fault, rules) for fault in found) <= 1
    drawn, plain = cases.draw(watched[0], 600.0, 3), cases.draw(watched[0] + 1, 600.0, 3)
    assert drawn.settings.protection.is_fast
    assert cases.watched(plain).settings.protection.is_fast


# --- FT26: what is told wrong ------------------------------------------------------------------------------------------
def test_ft26_a_charge_that_stands_still_is_counted_along_and_its_vehicle_keeps_its_floor() -> None:
    """A small battery just above the floor, told as if nothing was taken: it gives until its energy says so, and no more."""
    low = structs.replace(stay(0, soc=0.45, target=0.25), capacity_kwh=20.0)
    run = show(giving_case(stays=[low, stay(1), stay(2)]), [Planned("FT26b", ONSET_S, 800.0, 0)], 700.0)
    assert run.broken == set()
    assert "soc_implausible" in run.told()
    assert run.at(300.0).power_kw[0] < -1.0
    assert run.ticks[-1].power_kw[0] > -NOTHING_KW
    assert (run.ticks[-1].power_kw[1:] < -RATED_KW + 0.1).all()


@pytest.mark.parametrize(("fault_id", "within_s"), [("FT26e", 15.0), ("FT26f", 150.0)])
def test_ft26_a_station_whose_register_and_power_disagree_is_found_out(fault_id: str, within_s: float) -> None:
    item = Planned(fault_id, ONSET_S, within_s + 10.0, 0, 1)
    run = show(giving_case(), [item], ONSET_S + within_s + 5.0)
    assert run.broken == set()
    assert "energy_mismatch" in run.told()
    assert run.at(ONSET_S + within_s).power_kw[0] > -NOTHING_KW
    assert (run.ticks[-1].power_kw[1:] < -RATED_KW + 0.1).all()


# --- FT28: what flows through an open contactor ------------------------------------------------------------------------
def test_ft28_what_flows_through_a_welded_contactor_counts_as_load_and_people_are_told() -> None:
    seen: list[tuple[float, float]] = []

    def look(rig: Rig) -> None:
        if rig.at_s > ONSET_S + 5.0 and rig.site is not None and rig.site.decision is not None:
            sample = rig.emulated.sample
            assert sample is not None
            seen.append((float(sample.power_kw[0]), rig.site.decision.uncontrolled_kw - sample.building_kw))

    run = show(giving_case(), [Planned("FT28", ONSET_S, 30.0, 0)], ONSET_S + 20.0, act=look)
    assert run.broken == set()
    assert "contactor_welded" in run.told()
    assert len(seen) > 100
    assert all(power_kw < -RATED_KW + 0.1 for power_kw, _ in seen), "it flows, whatever is asked"
    assert all(abs(beyond_kw - power_kw) < 2.0 for power_kw, beyond_kw in seen)


@pytest.mark.parametrize("other", [Planned("FT08a", ONSET_S + 0.3, 2.0, 0), Planned("FT33a", ONSET_S + 0.3, 2.0)])
def test_ft28_a_weld_is_found_although_the_link_or_the_controller_goes_right_after_it(other: Planned) -> None:
    """A minute after the station is back: until then what it queued may tell that a vehicle began to charge."""
    run = show(giving_case(), [Planned("FT28", ONSET_S, 90.0, 0), other], ONSET_S + 75.0)
    assert "contactor_welded" in run.told()


def test_a_time_that_another_fault_excuses_is_not_counted_as_this_ones() -> None:
    """The weld can be seen once its station is back, long after its own time; a frozen meter excuses everything meanwhile."""
    frozen, away = Planned("FT03", ONSET_S, 15.0), Planned("FT08a", ONSET_S + 0.5, 20.0, 0)
    run = show(giving_case(), [frozen, away, Planned("FT28", ONSET_S + 0.7, 40.0, 0)], ONSET_S + 65.0)
    assert run.broken == set()
    assert "contactor_welded" in run.told()
    assert {timing.id for timing in run.timings} == {"FT08a"}


@pytest.mark.parametrize("at_s", [1.0, 12.0])
def test_a_time_beside_a_frozen_meter_is_counted_from_the_onset(at_s: float) -> None:
    run = show(
        giving_case(), [Planned("FT03", ONSET_S, 15.0), Planned("FT28", ONSET_S + at_s, 40.0, 0)], ONSET_S + 60.0
    )
    assert run.broken == set()
    (timing,) = run.timings
    assert timing.id == "FT28"
    assert 0.0 < timing.to_safe_s <= BY_ID["FT28"].t_f_s


# --- FT30: a transformer a little over its rating ----------------------------------------------------------------------
def test_ft30_a_little_over_the_rating_is_cut_within_a_minute() -> None:
    item = Planned("FT30c", ONSET_S, 100.0)
    run = show(site_for(BY_ID["FT30c"]), [item], ONSET_S + 95.0)
    assert run.broken == set()
    longest_s = over_s = 0.0
    for tick in run.ticks:
        over_s = over_s + TICK_S if tick.building_kw + tick.power_kw.sum() > 0.65 * 400.0 + 0.5 else 0.0
        longest_s = max(longest_s, over_s)
    assert 50.0 < longest_s <= 60.0 + TICK_S
    assert "transformer_overload" in run.told()


# --- FT34: a loop that stands still ------------------------------------------------------------------------------------
def test_ft34_leases_end_by_themselves_and_the_first_decision_after_it_is_zero() -> None:
    item = Planned("FT34", ONSET_S, 9.0)
    sent: list[tuple[float, bool]] = []

    def look(rig: Rig) -> None:
        assert rig.site is not None
        sent.append((rig.at_s, rig.site.cycles > 0 and rig.gate.is_shut))

    run = show(giving_case(), [item], ONSET_S + 9.0 + HEALED_S, act=look)
    assert run.broken == set()
    still = [at_s for at_s, is_shut in sent if is_shut]
    assert (min(still), max(still)) == pytest.approx((ONSET_S + 0.1, ONSET_S + 9.0))
    before, during = run.at(ONSET_S).setpoint_kw, run.at(ONSET_S + 8.9).setpoint_kw
    assert before is not None
    assert during is not None
    assert (before == during).all(), "nothing is decided meanwhile"
    assert (run.at(ONSET_S + 1.0).power_kw < -RATED_KW + 0.1).all()
    assert all((tick.power_kw > -NOTHING_KW).all() for tick in run.between(ONSET_S + 5.3, ONSET_S + 9.0))
    assert "loop_stalled" in run.told()
    assert (run.ticks[-1].power_kw < -RATED_KW + 0.1).all()


def test_a_strict_profile_waits_as_long_as_the_rest() -> None:
    """What the scenarios owe afterwards is what the profiles say."""
    assert STRICT.enter_delay_s == DEFAULT.enter_delay_s == ENTER_DELAY_S
