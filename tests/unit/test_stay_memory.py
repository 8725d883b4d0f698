"""A vehicle's stay over a restart of the program: the count of its charge goes on, and a doubt that was latched stays."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.control import trust
from gridtide.run import stay_memory
from gridtide.run.clock import LoopClock
from gridtide.run.stay_memory import StayMemory
from gridtide.run.store import MemoryStore
from tests.unit.test_trust import Watched

WALL_S = 1_772_445_600.0
KWH = 60.0
FIRST = f"{stay_memory.STATE}0"


class Program:
    """A program that watches bays and can be started again: what it keeps goes through a store."""

    def __init__(self, size: int = 1, **columns: Any) -> None:
        self.bays = Watched(size, **columns)
        self.open: dict[int, str] = {row: f"stay-{row}" for row in range(size)}
        self.spoken = set(self.open)
        self.store = MemoryStore()
        self.down_s = 0.0
        self.memory, self.note = self.started()

    def started(self) -> tuple[StayMemory, str]:
        clock = LoopClock(lambda: self.bays.now_s, WALL_S + self.down_s)
        memory = StayMemory(self.bays.table.ids, self.store, clock, lambda: self.open, lambda: self.spoken)
        return memory, memory.restore()

    def run(self, seconds: float = 0.5, **told: Any) -> "Program":
        self.bays.tell(**told)
        for _ in range(round(seconds / 0.5)):
            self.bays.state = self.memory.resume(self.bays.state, self.bays.fleet)
            self.bays.run(0.5)
            self.memory.keep(self.bays.state)
        return self

    def restart(self, down_s: float = 5.0) -> "Program":
        self.down_s += down_s
        self.bays.state = trust.fresh(self.bays.fleet.size)
        self.spoken = set()
        self.memory, self.note = self.started()
        self.bays.notes.clear()
        # Nothing is known of a bay until its station tells.
        return self.run(connected=False, soc=np.nan, power_kw=np.nan)

    def back(self, **told: Any) -> "Program":
        self.spoken = set(self.open)
        return self.run(connected=True, power_kw=told.pop("power_kw", 0.0), **told)

    @property
    def own(self) -> float:
        return float(self.bays.state.soc.own[0])


def test_a_charge_that_jumps_while_the_program_is_down_is_not_believed() -> None:
    site = Program().run(20.0).restart(5.0).back(soc=0.95)
    assert not site.bays.may_give
    assert site.bays.believed.soc[0] == pytest.approx(0.70, abs=0.01)
    site.run(5.0)
    assert site.bays.codes == ["soc_implausible"]
    assert not site.run(60.0, soc=0.70).bays.may_give, "latched until it leaves"
    site.run(connected=False)
    site.open[0] = "the next"
    assert site.back(soc=0.95).bays.may_give


@pytest.mark.parametrize("down_s", [5.0, 600.0, 3600.0])
def test_the_count_goes_on_over_a_restart(down_s: float) -> None:
    site = Program().run(20.0).restart(down_s).back(soc=0.70).run(60.0)
    assert site.bays.may_give
    assert site.own == pytest.approx(0.70, abs=1e-3)
    assert site.bays.codes == []


def test_what_could_have_flowed_meanwhile_is_believed_and_no_more() -> None:
    most = 22.0 * 1.2 / KWH * 0.5
    site = Program(soc=0.3).run(20.0).restart(1800.0).back(soc=0.3 + 0.95 * most)
    assert site.bays.may_give
    assert site.own == pytest.approx(0.3 + 0.95 * most, abs=1e-3)
    assert not Program(soc=0.3).run(20.0).restart(1800.0).back(soc=0.3 + most + 0.07).bays.may_give


def test_the_time_without_a_word_before_the_restart_counts_too() -> None:
    moved = 22.0 * 0.95 / KWH * 1500.0 / 3600.0
    silent = Program(soc=0.3).run(20.0).run(1200.0, power_kw=np.nan, age_s=60.0).restart(300.0)
    assert silent.back(soc=0.3 + moved, age_s=0.0).bays.may_give
    heard = Program(soc=0.3).run(1220.0).restart(300.0)
    assert not heard.back(soc=0.3 + moved).bays.may_give


def test_another_transaction_is_another_vehicle() -> None:
    site = Program().run(20.0).restart(5.0)
    site.open[0] = "the next"
    assert site.back(soc=0.20).bays.may_give
    assert site.own == pytest.approx(0.20)


def test_a_stay_that_ended_while_nobody_ran_is_forgotten() -> None:
    site = Program().run(20.0).restart(5.0)
    del site.open[0]
    site.run()
    site.open[0] = "stay-0"
    assert site.back(soc=0.20).bays.may_give, "it ended in between, whatever the next one is called"


def test_a_latched_charge_stays_latched_over_two_restarts_until_the_vehicle_leaves() -> None:
    site = Program().run(20.0).run(5.0, soc=0.95)
    assert site.bays.codes == ["soc_implausible"]
    # The second one comes before its station has told anything.
    site.restart().restart().back(soc=0.70).run(60.0)
    assert not site.bays.may_give
    assert trust.words(site.bays.state, 0).startswith("Does not give until it leaves")
    site.run(connected=False)
    site.open[0] = "the next"
    assert site.back(soc=0.5).bays.may_give


def test_a_latched_register_stays_latched() -> None:
    site = Program(register_kwh=5.0).run(20.0).run(30.0, register_kwh=9.0)
    assert site.bays.codes == ["energy_mismatch"]
    site.restart().back(soc=0.70, register_kwh=9.0).run(60.0)
    assert not site.bays.may_give
    assert site.bays.codes == [], "it was told before"


def test_a_latch_of_a_vehicle_that_never_told_its_charge_is_kept() -> None:
    site = Program(soc=np.nan, register_kwh=5.0).run(20.0).run(30.0, register_kwh=9.0)
    assert site.bays.state.energy.fault[0]
    site.restart().back(register_kwh=9.0)
    assert site.bays.state.energy.fault[0]


def test_what_is_metered_before_the_first_charge_told_counts_and_earns_nothing() -> None:
    site = Program(soc=0.3).run(20.0).restart(5.0).back().run(3600.0)
    assert math.isnan(site.bays.believed.soc[0])
    assert not site.run(soc=0.95).bays.may_give
    assert site.bays.believed.soc[0] == pytest.approx(0.30, abs=0.01)
    charged = Program(soc=0.3).run(20.0).restart(5.0).back(power_kw=22.0).run(3600.0)
    gained = 22.0 * 0.95 / KWH
    assert charged.run(soc=0.3 + gained).bays.may_give
    assert charged.own == pytest.approx(0.3 + gained, abs=0.01)


def test_a_vehicle_that_tells_zero_until_it_knows_is_waited_for_and_earns_nothing() -> None:
    site = Program().run(20.0).restart(5.0).back(soc=0.0).run(30.0)
    assert math.isnan(site.bays.believed.soc[0]), "the guard gives nothing of a charge that nobody knows"
    assert site.run(soc=0.70).bays.may_give
    assert site.own == pytest.approx(0.70, abs=1e-3)
    assert not Program(soc=0.3).run(20.0).restart(5.0).back(soc=0.0).run(3600.0).run(soc=0.95).bays.may_give
    assert not site.run(soc=0.0).bays.may_give, "once it knew, 0 is a jump as any other"


def test_a_clock_that_was_set_back_makes_the_time_look_shorter_and_nothing_else() -> None:
    site = Program().run(20.0).restart(-3600.0)
    assert site.note == ""
    assert site.back(soc=0.70).run(5.0).bays.may_give
    assert not Program().run(20.0).restart(-3600.0).back(soc=0.95).bays.may_give
    assert Program().run(20.0).restart(-3600.0).back(soc=0.0).run(5.0).run(5.0, soc=0.70).bays.may_give


def test_what_the_count_may_still_follow_goes_on_too() -> None:
    """Half a percent of charging is told late, as vehicles with whole percents do."""
    site = Program(power_kw=22.0, soc=0.3).run(60.0)
    before = site.bays.state.soc.budget[0]
    assert before > 0.004
    site.restart(5.0).back(soc=np.nan)
    assert site.bays.state.soc.budget[0] == pytest.approx(before, rel=0.2)


def test_until_its_transaction_has_spoken_nobody_knows_who_stands_there() -> None:
    site = Program().run(20.0).restart(60.0)
    # Meter values name no transaction: these are of the next vehicle.
    site.run(5.0, connected=True, soc=0.20, power_kw=0.0)
    assert site.bays.codes == []
    site.open[0] = "the next"
    assert site.back(soc=0.20).run(5.0).bays.may_give
    same = Program().run(20.0).run(5.0, soc=0.95).restart(60.0).run(5.0, connected=True, soc=0.70, power_kw=0.0)
    assert not same.back(soc=0.70).bays.may_give


def test_another_transaction_within_a_cycle_is_another_vehicle() -> None:
    site = Program().run(20.0)
    site.open[0] = "the next"
    assert site.run(5.0, soc=0.20).bays.may_give
    assert site.own == pytest.approx(0.20)
    latched = site.run(5.0, soc=0.60)
    assert latched.bays.codes == ["soc_implausible"]
    latched.open[0] = "the one after"
    assert latched.run(5.0).bays.may_give


def test_bays_that_are_no_more_are_left_out() -> None:
    before = Program(2).run(20.0)
    after = Program(1)
    after.store = before.store
    after.restart(5.0)
    assert not after.back(soc=0.95).bays.may_give
    assert after.note == ""


def test_what_is_not_known_is_kept_as_not_known() -> None:
    site = Program(4, soc=[0.5, np.nan, 0.5, 0.5], capacity_kwh=[np.nan, 60.0, -1.0, 60.0]).run(20.0).restart()
    assert site.note == ""
    site.back(soc=[0.9, 0.5, 0.5, 0.9])
    assert site.bays.believed.may_discharge.tolist() == [True, True, True, False]
    assert site.bays.state.soc.own.tolist() == pytest.approx([0.9, 0.5, 0.5, 0.5], abs=0.01)


def test_a_record_left_open_by_mistake_loses_nobody_until_the_station_has_spoken() -> None:
    site = Program().run(20.0).run(5.0, soc=0.95)
    site.open[0] = "left open"
    site.restart()
    site.open[0] = "stay-0"
    assert not site.back(soc=0.70).bays.may_give


def test_a_site_of_thousands_is_kept_too() -> None:
    site = Program(2000).run(1.0)
    site.open = dict.fromkeys(site.open, "🚗" * 36)
    site.run(11.0).restart().back(soc=[0.70] * 1999 + [0.95])
    assert np.count_nonzero(site.bays.believed.may_discharge) == 1999
    assert not site.bays.believed.may_discharge[1999]


@pytest.mark.parametrize("data", [b"{not json", b'[{"bay": "bay-1"}]', b'[{"bay": "\xff"}]'])
def test_what_cannot_be_read_is_told_and_begins_afresh(data: bytes) -> None:
    site = Program().run(20.0)
    site.store.put_state(FIRST, data)
    assert "cannot be read" in site.restart().note
    assert site.back(soc=0.95).bays.may_give


@pytest.mark.parametrize("wrong", [{"own": 1e308}, {"own": -0.1}, {"capacity_kwh": 0}, {"seen_at_s": None}])
def test_what_no_stay_can_be_is_not_read(wrong: dict[str, Any]) -> None:
    good = {"bay": "bay-1", "transaction_id": "stay-0", "seen_at_s": WALL_S, "own": 0.7, "capacity_kwh": 60.0}
    site = Program()
    site.store.put_state(FIRST, msgspec.json.encode([good | wrong]))
    assert "cannot be read" in site.restart().note
    site.store.put_state(FIRST, msgspec.json.encode([good]))
    assert site.restart().note == ""


def test_counts_are_stored_every_ten_seconds_and_latches_at_once() -> None:
    site = Program(power_kw=22.0, soc=0.3).run(0.5)
    written: list[bytes] = []
    put = site.store.put_state
    site.store.put_state = lambda name, data: (written.append(data), put(name, data))[1]  # type: ignore[method-assign,func-returns-value]
    site.run(60.0)
    assert 5 <= len(written) <= 7
    written.clear()
    site.run(5.0, soc=0.95)
    assert b'"soc_fault":true' in written[-1]
    site.open.clear()
    written.clear()
    site.run(30.0, connected=False)
    assert written == [b"[]"]


def test_each_row_gets_its_own() -> None:
    site = Program(3, soc=[0.2, 0.5, 0.8]).run(20.0).restart(5.0).back(soc=[0.2, 0.9, 0.8])
    assert site.bays.believed.may_discharge.tolist() == [True, False, True]
    assert site.bays.believed.soc.tolist() == pytest.approx([0.2, 0.5, 0.8], abs=0.01)


@given(
    soc=st.floats(0.02, 1.0),
    share=st.floats(0.0, 1.0),
    down_s=st.floats(0.0, 3600.0),
    capacity_kwh=st.floats(25.0, 200.0),
)
def test_a_restart_never_makes_more_believable_than_full_power_could_have_moved(
    soc: float, share: float, down_s: float, capacity_kwh: float
) -> None:
    # 22 kW out of the vehicle with its losses; the cycles around the restart on top.
    most = 1.2 * 22.0 / 0.95 * (down_s + 3.0) / 3600.0 / capacity_kwh + 0.05 + 1e-4
    for far in (soc - most, soc + most):
        if not 0.0 < far <= 1.0:
            continue
        told = far + share * ((0.001 if far < soc else 1.0) - far)
        if abs(told - soc) < most:
            continue
        here = Program(soc=soc, capacity_kwh=capacity_kwh).run(2.0).restart(down_s).back(soc=told)
        assert not here.bays.may_give
        assert here.bays.believed.soc[0] <= min(soc + most, told)
