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


def test_a_vehicle_that_tells_zero_until_it_knows_is_waited_for() -> None:
    site = Program().run(20.0).restart(5.0).back(soc=0.0).run(30.0)
    assert site.bays.believed.soc[0] == 0.0
    assert site.run(soc=0.70).bays.may_give
    assert Program().run(20.0).restart(5.0).back(soc=0.0).run(30.0, soc=0.95).bays.may_give is False


def test_until_its_transaction_has_spoken_nobody_knows_who_stands_there() -> None:
    site = Program().run(20.0).run(5.0, soc=0.95).restart(60.0)
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
    site = Program(3, soc=[0.5, np.nan, 0.5], capacity_kwh=[np.nan, 60.0, -1.0]).run(20.0).restart()
    assert site.note == ""
    site.back(soc=[0.5, 0.5, 0.5])
    assert site.bays.state.soc.own.tolist() == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize("data", [b"{not json", b'[{"bay": "bay-1"}]'])
def test_what_cannot_be_read_is_told_and_begins_afresh(data: bytes) -> None:
    site = Program().run(20.0)
    site.store.put_state(stay_memory.STATE, data)
    assert "cannot be read" in site.restart().note
    assert site.back(soc=0.95).bays.may_give


@pytest.mark.parametrize("wrong", [{"own": 1e308}, {"own": -0.1}, {"capacity_kwh": 0}, {"seen_at_s": None}])
def test_what_no_stay_can_be_is_not_read(wrong: dict[str, Any]) -> None:
    good = {"bay": "bay-1", "transaction_id": "stay-0", "seen_at_s": WALL_S, "own": 0.7, "capacity_kwh": 60.0}
    site = Program()
    site.store.put_state(stay_memory.STATE, msgspec.json.encode([good | wrong]))
    assert "cannot be read" in site.restart().note
    site.store.put_state(stay_memory.STATE, msgspec.json.encode([good]))
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
    soc=st.floats(0.0, 1.0), jump=st.floats(-1.0, 1.0), down_s=st.floats(0.0, 1e5), capacity_kwh=st.floats(10.0, 200.0)
)
def test_a_restart_never_makes_more_believable_than_full_power_could_have_moved(
    soc: float, jump: float, down_s: float, capacity_kwh: float
) -> None:
    told = min(max(soc + jump, 0.0), 1.0)
    here = Program(soc=soc, capacity_kwh=capacity_kwh).run(2.0).restart(down_s).back(soc=told)
    # Twenty two kW into the vehicle, and out of it with its losses; the cycle and the rounding of what is kept on top.
    most = 1.2 * 22.0 / 0.95 * (down_s + 3.0) / 3600.0 / capacity_kwh + 0.05 + 1e-4
    if soc > 0.0 and abs(told - soc) > most:
        # Of a battery that tells 0 nothing is given anyway.
        assert not here.bays.may_give or here.bays.believed.soc[0] == 0.0
        assert here.bays.believed.soc[0] <= min(soc, told) + most
